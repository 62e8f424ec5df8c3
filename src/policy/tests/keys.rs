//! Each key of a rule, alone: in `allow` it lets in whom it names and nobody else, in `deny` it keeps out whom it names
//! and nobody else. `tests/mutants` makes every one of these conditions always true, and demands that a test here fails.

use super::*;

/// A service with a token, about whom everything is known; each test changes one thing.
struct World {
    groups: Vec<String>,
    scopes: Vec<String>,
    certificate: Vec<String>,
    claims: BTreeMap<String, Vec<String>>,
}

impl World {
    fn new() -> Self {
        let claims = [("department", vec!["sales", "7"]), ("realm.level", vec!["true"]), ("empty", vec![])];
        Self {
            groups: strings(&["Staff", "Admins"]),
            scopes: strings(&["read", "write"]),
            certificate: strings(&["dns:build.example.com", "subject:CN=build,O=Example"]),
            claims: claims.into_iter().map(|(path, texts)| (path.to_owned(), strings(&texts))).collect(),
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            known: true,
            user: Some("u1"),
            email: Some("Ann@Example.com"),
            email_verified: true,
            groups: &self.groups,
            claims: Some(&self.claims),
            scopes: &self.scopes,
            client: Some("robot"),
            provider: Some("main"),
            issuer: Some("ci"),
            certificate: &self.certificate,
            network: IpAddr::from([10, 1, 2, 3]),
            method: "POST",
        }
    }
}

/// `named` matches these facts, and none of `others` does.
fn means(named: &settings::Rule, others: &[settings::Rule]) {
    let world = World::new();
    let decide = |policy: &settings::Policy| Policy::new(policy, Mode::Enforce).decide(&world.facts(), &mut ());
    assert_eq!(decide(&allow(vec![named.clone()])), Decision::Allow, "{named:?}");
    assert_eq!(decide(&deny(vec![named.clone()])), denied("deny[1]"), "{named:?}");
    for other in others {
        assert_eq!(decide(&allow(vec![other.clone()])), denied("no allow matches"), "{other:?}");
        assert_eq!(decide(&deny(vec![other.clone()])), Decision::Allow, "{other:?}");
        // AND inside a rule: what does not hold is not made good by what does.
        let both = settings::Rule { network: named_network("10.0.0.0/8"), ..other.clone() };
        if other.network.is_empty() {
            assert_eq!(decide(&allow(vec![both])), denied("no allow matches"), "{other:?}");
        }
    }
}

fn named_network(text: &str) -> Vec<ipnet::IpNet> {
    vec![text.parse().expect("a test writes networks")]
}

fn rule(change: impl FnOnce(&mut settings::Rule)) -> settings::Rule {
    let mut rule = settings::Rule::default();
    change(&mut rule);
    rule
}

#[test]
fn user_allows_and_denies() {
    means(
        &rule(|r| r.user = strings(&["x", "u1"])),
        &["u2", "U1", "u", "robot"].map(|u| rule(|r| r.user = strings(&[u]))),
    );
}

#[test]
fn email_allows_and_denies() {
    let others = ["bob@example.com", "ann@example.org", "n@example.com"].map(|e| rule(|r| r.email = strings(&[e])));
    means(&rule(|r| r.email = strings(&["ann@EXAMPLE.com"])), &others);
}

#[test]
fn email_domain_allows_and_denies() {
    let others = ["example.org", "ample.com", "www.example.com"].map(|d| rule(|r| r.email_domain = strings(&[d])));
    means(&rule(|r| r.email_domain = strings(&["Example.COM"])), &others);
}

#[test]
fn group_allows_and_denies() {
    means(
        &rule(|r| r.group = strings(&["Admins"])),
        &["admins", "Staf", "Staff,Admins"].map(|g| rule(|r| r.group = strings(&[g]))),
    );
}

#[test]
fn claim_allows_and_denies() {
    let claim = |path: &str, texts: &[&str]| rule(|r| r.claims = vec![(path.to_owned(), strings(texts))]);
    let others = [
        claim("department", &["Sales"]),
        claim("department", &["70"]),
        claim("realm.level", &["false"]),
        claim("empty", &["x"]),
    ];
    means(&claim("department", &["hr", "sales"]), &others);
    means(&claim("department", &["7"]), &others);
    means(&claim("realm.level", &["true"]), &others);
    // AND between two claims.
    let two = |second: &str| {
        rule(|r| {
            r.claims =
                vec![("department".to_owned(), strings(&["sales"])), ("realm.level".to_owned(), strings(&[second]))];
        })
    };
    means(&two("true"), &[two("false")]);
}

#[test]
fn scope_allows_and_denies() {
    means(
        &rule(|r| r.scope = strings(&["write"])),
        &["Write", "writ", "read write"].map(|s| rule(|r| r.scope = strings(&[s]))),
    );
}

#[test]
fn provider_allows_and_denies() {
    means(
        &rule(|r| r.provider = strings(&["main"])),
        &["other", "ci", "Main"].map(|p| rule(|r| r.provider = strings(&[p]))),
    );
}

#[test]
fn issuer_allows_and_denies() {
    means(&rule(|r| r.issuer = strings(&["ci"])), &["other", "main"].map(|i| rule(|r| r.issuer = strings(&[i]))));
}

#[test]
fn client_allows_and_denies() {
    means(
        &rule(|r| r.client = strings(&["robot"])),
        &["Robot", "u1", "robot2"].map(|c| rule(|r| r.client = strings(&[c]))),
    );
}

#[test]
fn certificate_allows_and_denies() {
    let certificate = |name: &str| rule(|r| r.certificate = strings(&[name]));
    let others = ["dns:example.com", "dns:build.example.co", "subject:CN=build", "uri:build.example.com", "robot"];
    means(&rule(|r| r.certificate = strings(&["dns:x", "dns:build.example.com"])), &others.map(certificate));
    means(&certificate("subject:CN=build,O=Example"), &others.map(certificate));
}

#[test]
fn a_certificate_needs_no_sign_in_and_nobody_has_anothers() {
    let names = strings(&["uri:spiffe://example.com/build"]);
    let shown = Facts { certificate: &names, ..nobody() };
    let rule = rule(|r| r.certificate = names.clone());
    let decide =
        |policy: &settings::Policy, facts: &Facts<'_>| Policy::new(policy, Mode::Enforce).decide(facts, &mut ());
    assert_eq!(decide(&allow(vec![rule.clone()]), &shown), Decision::Allow);
    assert_eq!(decide(&deny(vec![rule.clone()]), &shown), denied("deny[1]"));
    assert_eq!(decide(&allow(vec![rule.clone()]), &nobody()), Decision::SignIn);
    assert_eq!(decide(&deny(vec![rule.clone()]), &nobody()), Decision::SignIn);
    let with = |method: &str| settings::Rule { method: strings(&[method]), ..rule.clone() };
    assert_eq!(decide(&allow(vec![with("GET")]), &shown), Decision::Allow);
    assert_eq!(decide(&allow(vec![with("POST")]), &shown), Decision::SignIn);
    let of_somebody = settings::Rule { user: strings(&["u1"]), ..rule.clone() };
    assert_eq!(decide(&allow(vec![of_somebody]), &shown), Decision::SignIn, "and a person");
}

#[test]
fn network_allows_and_denies() {
    let others = ["10.2.0.0/16", "10.1.2.4/32", "::/0", "fd00::/8"].map(|n| rule(|r| r.network = named_network(n)));
    means(&rule(|r| r.network = named_network("10.1.0.0/16")), &others);
    means(&rule(|r| r.network = named_network("10.1.2.3/32")), &others);
}

#[test]
fn method_allows_and_denies() {
    means(
        &rule(|r| r.method = strings(&["GET", "POST"])),
        &["GET", "post", "POS"].map(|m| rule(|r| r.method = strings(&[m]))),
    );
}

#[test]
fn b_20_a_service_is_nobody_and_a_person_is_no_client() {
    let world = World::new();
    let service = Facts { user: None, client: Some("u1"), ..world.facts() };
    let person = Facts { client: None, issuer: None, ..world.facts() };
    for (facts, field, want) in [
        (&service, rule(|r| r.user = strings(&["u1"])), denied("no allow matches")),
        (&service, rule(|r| r.client = strings(&["u1"])), Decision::Allow),
        (&person, rule(|r| r.client = strings(&["robot", "u1"])), denied("no allow matches")),
        (&person, rule(|r| r.issuer = strings(&["ci", "main"])), denied("no allow matches")),
    ] {
        assert_eq!(Policy::new(&allow(vec![field]), Mode::Enforce).decide(facts, &mut ()), want);
    }
}
