//! The compiled policy against a naive reading of the same rules, word by word, over generated rules and facts. The
//! naive one knows every claim: what the policy calls unknown is tried in every way that it could turn out.

use ipnet::IpNet;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;

const PATHS: [&str; 2] = ["a", "b.c"];
const TEXTS: [&str; 2] = ["x", "y"];

#[derive(Clone, Debug)]
struct Somebody {
    known: bool,
    user: Option<String>,
    email: Option<String>,
    verified: bool,
    groups: Vec<String>,
    claims: BTreeMap<String, Vec<String>>,
    scopes: Vec<String>,
    client: Option<String>,
    issuer: Option<String>,
    certificate: Vec<String>,
    network: IpAddr,
    method: String,
}

fn naive_rule(rule: &settings::Rule, who: &Somebody, allow: bool) -> bool {
    let has =
        |list: &[String], value: &Option<String>| list.is_empty() || value.as_ref().is_some_and(|v| list.contains(v));
    let any = |list: &[String], values: &[String]| list.is_empty() || values.iter().any(|v| list.contains(v));
    let email = who.email.as_ref().map(|e| e.to_lowercase()).filter(|_| who.verified || !allow);
    let domain = email.as_ref().map(|e| e.split_once('@').expect("generated with an @").1.to_owned());
    let lower = |list: &[String]| list.iter().map(|e| e.to_lowercase()).collect::<Vec<_>>();
    format!("{rule:?}") != format!("{:?}", settings::Rule::default())
        && has(&rule.user, &who.user)
        && has(&lower(&rule.email), &email)
        && has(&lower(&rule.email_domain), &domain)
        && any(&rule.group, &who.groups)
        && rule.claims.iter().all(|(path, texts)| any(texts, &who.claims[path]))
        && any(&rule.scope, &who.scopes)
        && has(&rule.provider, &Some("main".to_owned()))
        && has(&rule.issuer, &who.issuer)
        && has(&rule.client, &who.client)
        && any(&rule.certificate, &who.certificate)
        && (rule.network.is_empty() || rule.network.iter().any(|n| n.contains(&who.network)))
        && (rule.method.is_empty() || rule.method.contains(&who.method))
}

/// `who` with every claim known.
fn naive(policy: &settings::Policy, who: &Somebody) -> bool {
    let allowed = policy.allow.iter().any(|r| naive_rule(r, who, true));
    let denied = policy.deny.iter().any(|r| naive_rule(r, who, false));
    !denied && (allowed || (policy.allow.is_empty() && !policy.deny.is_empty()))
}

fn naive_anonymous(policy: &settings::Policy, who: &Somebody) -> Decision {
    let early = |rule: &settings::Rule| {
        let only = settings::Rule {
            certificate: rule.certificate.clone(),
            network: rule.network.clone(),
            method: rule.method.clone(),
            ..Default::default()
        };
        format!("{rule:?}") == format!("{only:?}") && naive_rule(rule, who, false)
    };
    match policy.deny.iter().position(early) {
        Some(number) => Decision::Deny(Refusal::Rule(number)),
        None if policy.allow.iter().any(early) => Decision::Allow,
        None => Decision::SignIn,
    }
}

/// Every way in which the claims that are not there could turn out.
fn worlds(who: &Somebody) -> Vec<Somebody> {
    let mut worlds = vec![who.clone()];
    for path in PATHS.iter().filter(|path| !who.claims.contains_key(**path)) {
        worlds = worlds
            .iter()
            .flat_map(|world| {
                [vec![], vec!["x"], vec!["y"], vec!["x", "y"]].map(|texts| {
                    let mut world = world.clone();
                    world.claims.insert((*path).to_owned(), strings(&texts));
                    world
                })
            })
            .collect();
    }
    worlds
}

/// Is told of every rule, so that none is passed over.
struct Listener;

impl Trace for Listener {
    fn tried(&mut self, _: List, _: usize, _: Answer) {}
}

fn some_of(names: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    // Mostly not written: rules of many keys match nobody.
    prop_oneof![4 => Just(Vec::new()), 1 => subsequence(names, 1..=names.len()).prop_map(|names| strings(&names))]
}

fn one_of(names: &'static [&'static str]) -> impl Strategy<Value = Option<String>> {
    prop::option::of(select(names).prop_map(str::to_owned))
}

prop_compose! {
    fn rules()(
        user in some_of(&["u1", "u2"]),
        email in some_of(&["ann@example.com", "Bob@example.org"]),
        email_domain in some_of(&["example.com", "Example.ORG"]),
        group in some_of(&["g1", "g2", "g3"]),
        scope in some_of(&["read", "write"]),
        provider in some_of(&["main", "other"]),
        issuer in some_of(&["main", "ci"]),
        client in some_of(&["c1", "c2"]),
        certificate in some_of(&["dns:a", "dns:b"]),
        networks in some_of(&["10.0.0.0/8", "10.1.0.0/16", "fd00::/8"]),
        method in some_of(&["GET", "POST"]),
        claims in prop::collection::btree_map(select(&PATHS[..]), subsequence(&TEXTS[..], 1..=2), 0..=1),
    ) -> settings::Rule {
        let network = networks.iter().map(|n| n.parse::<IpNet>().expect("one of the networks above")).collect();
        let claims = claims.into_iter().map(|(path, texts)| (path.to_owned(), strings(&texts))).collect();
        settings::Rule {
            user, email, email_domain, group, claims, scope, provider, issuer, client, certificate, network, method,
        }
    }
}

prop_compose! {
    fn somebody()(
        (known, verified) in any::<(bool, bool)>(),
        user in one_of(&["u1", "u2", "u3"]),
        email in one_of(&["ANN@example.com", "bob@Example.org", "ann@elsewhere.net"]),
        groups in some_of(&["g1", "g2"]),
        scopes in some_of(&["read", "admin"]),
        client in one_of(&["c1", "c3"]),
        issuer in one_of(&["main", "ci"]),
        certificate in some_of(&["dns:a", "subject:CN=a"]),
        network in select(&["10.1.2.3", "10.9.9.9", "192.0.2.1", "fd00::1"][..]),
        method in select(&["GET", "POST", "PUT"][..]),
        claims in prop::collection::btree_map(select(&PATHS[..]), subsequence(&TEXTS[..], 0..=2), 0..=2),
    ) -> Somebody {
        Somebody {
            known, user, email, verified, groups, scopes, client, issuer, certificate,
            claims: claims.into_iter().map(|(path, texts)| (path.to_owned(), strings(&texts))).collect(),
            network: network.parse().expect("one of the addresses above"),
            method: method.to_owned(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_compiled_policy_is_what_is_written(
        allow in prop::collection::vec(rules(), 0..4),
        deny in prop::collection::vec(rules(), 0..3),
        who in somebody(),
        padded in any::<bool>(),
    ) {
        let mut policy = settings::Policy { name: None, allow, deny };
        if padded {
            // So many that most are passed over.
            let nobodys = (0..filter::FEW_RULES).map(|n| settings::Rule { user: vec![format!("n{n}")], ..Default::default() });
            policy.deny.splice(0..0, nobodys.clone());
            policy.allow.extend(nobodys);
        }
        let facts = Facts {
            known: who.known,
            user: who.user.as_deref(),
            email: who.email.as_deref(),
            email_verified: who.verified,
            groups: &who.groups,
            claims: Some(&who.claims),
            scopes: &who.scopes,
            client: who.client.as_deref(),
            provider: Some("main"),
            issuer: who.issuer.as_deref(),
            certificate: &who.certificate,
            network: who.network,
            method: &who.method,
        };
        let compiled = Policy::new(&policy, Mode::Enforce);
        let decision = compiled.decide(&facts, &mut ());
        prop_assert_eq!(decision, compiled.decide(&facts, &mut Listener), "explained and served");
        if !who.known {
            prop_assert_eq!(decision, naive_anonymous(&policy, &who));
            return Ok(());
        }
        let outcomes: Vec<bool> = worlds(&who).iter().map(|world| naive(&policy, world)).collect();
        match decision {
            Decision::Allow => prop_assert!(outcomes.iter().all(|allowed| *allowed)),
            Decision::Deny(_) | Decision::Observe(_) => prop_assert!(outcomes.iter().all(|allowed| !*allowed)),
            Decision::Unknown => prop_assert!(outcomes.len() > 1),
            Decision::SignIn => prop_assert!(false, "of somebody who is known"),
        }
    }
}
