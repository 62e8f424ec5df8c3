//! What is decided while nobody, or not enough, is known.

use super::*;

fn network(text: &str) -> settings::Rule {
    settings::Rule { network: vec![text.parse().expect("a test writes networks")], ..Default::default() }
}

fn method(name: &str) -> settings::Rule {
    settings::Rule { method: strings(&[name]), ..Default::default() }
}

fn claim(path: &str) -> settings::Rule {
    settings::Rule { claims: vec![(path.to_owned(), strings(&["x"]))], ..Default::default() }
}

fn anonymous(policy: &settings::Policy) -> Decision {
    Policy::new(policy, Mode::Enforce).decide(&nobody(), &mut ())
}

#[test]
fn network_and_method_are_judged_before_sign_in() {
    assert_eq!(anonymous(&allow(vec![group(&["Staff"]), network("192.0.2.0/24")])), Decision::Allow);
    assert_eq!(anonymous(&allow(vec![method("GET")])), Decision::Allow);
    assert_eq!(anonymous(&allow(vec![network("198.51.100.0/24"), method("PUT")])), Decision::SignIn);
    assert_eq!(anonymous(&deny(vec![network("192.0.2.1/32")])), denied("deny[1]"));
    assert_eq!(anonymous(&deny(vec![group(&["Staff"]), method("GET")])), denied("deny[2]"));
    let mut policy = allow(vec![network("192.0.2.0/24")]);
    policy.deny = vec![method("GET")];
    assert_eq!(anonymous(&policy), denied("deny[1]"));
    // About people, so about nobody yet.
    policy.deny = vec![group(&["Guests"])];
    assert_eq!(anonymous(&policy), Decision::Allow);
}

#[test]
fn a_rule_about_anything_else_never_lets_an_anonymous_request_pass() {
    let here = network("192.0.2.0/24");
    for other in [
        settings::Rule { user: strings(&[""]), ..here.clone() },
        settings::Rule { group: strings(&["Staff"]), ..here.clone() },
        settings::Rule { scope: strings(&["read"]), ..here.clone() },
        settings::Rule { provider: strings(&["main"]), ..here.clone() },
        settings::Rule { claims: vec![("a".to_owned(), strings(&["x"]))], ..here },
    ] {
        assert_eq!(anonymous(&allow(vec![other.clone()])), Decision::SignIn, "{other:?}");
        assert_eq!(anonymous(&deny(vec![other.clone()])), Decision::SignIn, "{other:?}");
    }
    for policy in [allow(vec![]), allow(vec![settings::Rule::default()]), deny(vec![settings::Rule::default()])] {
        assert_eq!(anonymous(&policy), Decision::SignIn);
    }
}

#[test]
fn a_claim_that_was_not_looked_for_lets_nobody_in() {
    let (old, groups) = (BTreeMap::from([("b".to_owned(), strings(&["x"]))]), strings(&["Staff"]));
    for claims in [Some(&old), None] {
        let facts = Facts { known: true, groups: &groups, claims, ..nobody() };
        let decide = |policy: &settings::Policy| Policy::new(policy, Mode::Enforce).decide(&facts, &mut ());
        assert_eq!(decide(&allow(vec![claim("a")])), Decision::Unknown);
        assert_eq!(decide(&deny(vec![claim("a")])), Decision::Unknown);
        let mut policy = allow(vec![group(&["Staff"])]);
        policy.deny = vec![claim("a")];
        assert_eq!(decide(&policy), Decision::Unknown);
        // What is certain is not asked again.
        policy.deny = vec![claim("a"), group(&["Staff"])];
        assert_eq!(decide(&policy), denied("deny[2]"));
        policy = allow(vec![group(&["Admins"])]);
        policy.deny = vec![claim("a")];
        assert_eq!(decide(&policy), denied("no allow matches"));
        assert_eq!(decide(&allow(vec![claim("a"), group(&["Staff"])])), Decision::Allow);
        // Unknown AND no is no.
        let both = settings::Rule { group: strings(&["Admins"]), ..claim("a") };
        assert_eq!(decide(&allow(vec![both.clone()])), denied("no allow matches"));
        assert_eq!(decide(&deny(vec![both])), Decision::Allow);
    }
}

#[test]
fn only_refusals_of_people_are_observed() {
    let groups = strings(&["Staff"]);
    let person = Facts { known: true, groups: &groups, ..nobody() };
    let machine = Facts { issuer: Some("ci"), ..person };
    let observes =
        |policy: &settings::Policy, facts: &Facts<'_>| Policy::new(policy, Mode::Observe).decide(facts, &mut ());
    let (kept_out, not_let_in) = (deny(vec![method("GET")]), allow(vec![group(&["Admins"])]));
    assert_eq!(observes(&kept_out, &person), Decision::Observe(Refusal::Rule(0)));
    assert_eq!(observes(&not_let_in, &person), Decision::Observe(Refusal::NoAllow));
    assert_eq!(observes(&allow(vec![group(&["Staff"])]), &person), Decision::Allow);
    // A sign-in stays required, for a claim that was not looked for too.
    assert_eq!(observes(&deny(vec![claim("a")]), &person), Decision::Unknown);
    assert_eq!(observes(&not_let_in, &nobody()), Decision::SignIn);
    assert_eq!(observes(&kept_out, &nobody()), denied("deny[1]"));
    assert_eq!(observes(&kept_out, &machine), denied("deny[1]"));
    assert_eq!(observes(&not_let_in, &machine), denied("no allow matches"));
}
