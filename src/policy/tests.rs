mod keys;
mod oracle;
mod unknown;

use std::net::IpAddr;

use super::*;

#[derive(Clone, Debug)]
struct Person {
    user: &'static str,
    email: Option<&'static str>,
    verified: bool,
    groups: Vec<String>,
}

fn ann() -> Person {
    Person { user: "u1", email: Some("Ann@Example.com"), verified: true, groups: vec!["Staff".to_owned()] }
}

fn decide(policy: &settings::Policy, person: &Person) -> Decision {
    let facts = Facts {
        known: true,
        user: Some(person.user),
        email: person.email,
        email_verified: person.verified,
        groups: &person.groups,
        provider: Some("main"),
        ..nobody()
    };
    Policy::new(policy, Mode::Enforce).decide(&facts, &mut ())
}

fn nobody() -> Facts<'static> {
    Facts::anonymous(IpAddr::from([192, 0, 2, 1]), "GET")
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

fn email(names: &[&str]) -> settings::Rule {
    settings::Rule { email: strings(names), ..Default::default() }
}

fn domain(names: &[&str]) -> settings::Rule {
    settings::Rule { email_domain: strings(names), ..Default::default() }
}

fn group(names: &[&str]) -> settings::Rule {
    settings::Rule { group: strings(names), ..Default::default() }
}

fn allow(rules: Vec<settings::Rule>) -> settings::Policy {
    settings::Policy { allow: rules, ..Default::default() }
}

fn deny(rules: Vec<settings::Rule>) -> settings::Policy {
    settings::Policy { deny: rules, ..Default::default() }
}

/// `no allow matches`, or `deny[1]`.
fn denied(rule: &str) -> Decision {
    let number = rule.strip_prefix("deny[").and_then(|rest| rest.strip_suffix(']'));
    Decision::Deny(number.map_or(Refusal::NoAllow, |n| Refusal::Rule(n.parse::<usize>().unwrap() - 1)))
}

#[test]
fn or_between_rules_and_inside_one() {
    let both =
        settings::Rule { email_domain: strings(&["example.com"]), group: strings(&["Admins"]), ..Default::default() };
    assert_eq!(decide(&allow(vec![both.clone()]), &ann()), denied("no allow matches"));
    assert_eq!(decide(&allow(vec![both.clone(), group(&["Staff"])]), &ann()), Decision::Allow);
    let admin = Person { groups: strings(&["x", "Admins"]), ..ann() };
    assert_eq!(decide(&allow(vec![both]), &admin), Decision::Allow);
    let elsewhere = settings::Rule { provider: strings(&["other"]), ..Default::default() };
    assert_eq!(decide(&allow(vec![elsewhere]), &ann()), denied("no allow matches"));
}

#[test]
fn deny_wins_and_is_named() {
    let mut policy = allow(vec![domain(&["example.com"])]);
    policy.deny = vec![email(&["bob@example.com"]), email(&["ann@example.com"])];
    assert_eq!(decide(&policy, &ann()), denied("deny[2]"));
    let cid = Person { email: Some("cid@example.com"), ..ann() };
    assert_eq!(decide(&policy, &cid), Decision::Allow);
}

#[test]
fn deny_alone_lets_everybody_else_in_and_nothing_lets_nobody_in() {
    let policy = deny(vec![group(&["Guests"])]);
    assert_eq!(decide(&policy, &ann()), Decision::Allow);
    assert_eq!(decide(&settings::Policy::default(), &ann()), denied("no allow matches"));
    assert_eq!(decide(&allow(vec![settings::Rule::default()]), &ann()), denied("no allow matches"));
}

#[test]
fn emails_and_domains_are_folded_users_and_groups_are_exact() {
    assert_eq!(decide(&allow(vec![email(&["ann@EXAMPLE.com"])]), &ann()), Decision::Allow);
    assert_eq!(decide(&allow(vec![domain(&["EXAMPLE.COM"])]), &ann()), Decision::Allow);
    assert_eq!(decide(&allow(vec![group(&["staff"])]), &ann()), denied("no allow matches"));
    let user = settings::Rule { user: strings(&["U1"]), ..Default::default() };
    assert_eq!(decide(&allow(vec![user]), &ann()), denied("no allow matches"));
    let greek = Person { email: Some("ΝΊΚΟΣ@example.com"), ..ann() };
    assert_eq!(decide(&allow(vec![email(&["νίκοσ@example.com"])]), &greek), Decision::Allow);
}

#[test]
fn l_25_a_letter_that_only_folds_to_the_one_of_the_rule_lets_nobody_in() {
    let kelvin = Person { email: Some("ali\u{212a}e@example.com"), ..ann() };
    assert_eq!(decide(&allow(vec![email(&["alike@example.com"])]), &kelvin), denied("no allow matches"));
    assert_eq!(decide(&deny(vec![email(&["alike@example.com"])]), &kelvin), denied("deny[1]"));
    let domain_of = Person { email: Some("ann@ban\u{212a}.example"), ..ann() };
    assert_eq!(decide(&allow(vec![domain(&["bank.example"])]), &domain_of), denied("no allow matches"));
    assert_eq!(decide(&deny(vec![domain(&["bank.example"])]), &domain_of), denied("deny[1]"));
}

#[test]
fn domains_are_whole() {
    for other in ["ann@notexample.com", "ann@example.com.evil.org", "ann@sub.example.com", "example.com", "@", ""] {
        let person = Person { email: Some(other.to_owned().leak()), ..ann() };
        assert_eq!(decide(&allow(vec![domain(&["example.com"])]), &person), denied("no allow matches"), "{other}");
    }
}

#[test]
fn l_25_an_unverified_email_matches_no_allow_but_every_deny() {
    let unverified = Person { verified: false, ..ann() };
    assert_eq!(decide(&allow(vec![email(&["ann@example.com"])]), &unverified), denied("no allow matches"));
    assert_eq!(decide(&allow(vec![domain(&["example.com"])]), &unverified), denied("no allow matches"));
    let mut policy = allow(vec![group(&["Staff"])]);
    assert_eq!(decide(&policy, &unverified), Decision::Allow);
    for rule in [email(&["ann@example.com"]), domain(&["example.com"])] {
        policy.deny = vec![rule];
        assert_eq!(decide(&policy, &unverified), denied("deny[1]"));
    }
    let none = Person { email: None, ..ann() };
    assert_eq!(decide(&policy, &none), Decision::Allow);
}

#[test]
fn l_25_an_email_with_two_ats_matches_no_allow_but_every_deny() {
    let odd = Person { email: Some("ann@example.com@evil.org"), ..ann() };
    for name in ["example.com", "evil.org"] {
        assert_eq!(decide(&allow(vec![domain(&[name])]), &odd), denied("no allow matches"), "{name}");
        let policy = settings::Policy { deny: vec![domain(&[name])], ..allow(vec![group(&["Staff"])]) };
        assert_eq!(decide(&policy, &odd), denied("deny[1]"), "{name}");
    }
}

#[test]
fn l_26_groups_missing_empty_and_many() {
    let policy = allow(vec![group(&["Staff"])]);
    let many: Vec<String> = (0..10_000).map(|n| format!("g{n}")).collect();
    for groups in [vec![], vec![String::new()], many.clone()] {
        assert_eq!(decide(&policy, &Person { groups, ..ann() }), denied("no allow matches"));
    }
    let mut with = many;
    with.push("Staff".to_owned());
    assert_eq!(decide(&policy, &Person { groups: with, ..ann() }), Decision::Allow);
}

#[test]
fn long_lists_are_sets() {
    let names: Vec<String> = (0..1000).map(|n| format!("P{n}@Example.com")).collect();
    let rule = settings::Rule { email: names, ..Default::default() };
    let person = Person { email: Some("p999@example.com"), ..ann() };
    assert_eq!(decide(&allow(vec![rule.clone()]), &person), Decision::Allow);
    assert_eq!(decide(&allow(vec![rule]), &ann()), denied("no allow matches"));
}

#[test]
fn l_25_an_address_that_is_too_long_matches_no_allow_but_every_deny() {
    let long = format!("{}@example.com", "a".repeat(400)).leak();
    let person = Person { email: Some(long), ..ann() };
    assert_eq!(decide(&allow(vec![domain(&["example.com"])]), &person), denied("no allow matches"));
    let policy = settings::Policy { deny: vec![domain(&["example.com"])], ..allow(vec![group(&["Staff"])]) };
    assert_eq!(decide(&policy, &person), denied("deny[1]"));
}

#[test]
fn a_refusal_names_its_rule() {
    let named = settings::Policy { name: Some("staff".to_owned()), ..allow(vec![group(&["Staff"])]) };
    for (policy, refusal, want) in [
        (&named, Refusal::Rule(1), "policy staff deny[2]"),
        (&named, Refusal::NoAllow, "policy staff no allow matches"),
        (&allow(vec![]), Refusal::Rule(0), "deny[1]"),
        (&allow(vec![]), Refusal::NoAllow, "no allow matches"),
    ] {
        assert_eq!(Policy::new(policy, Mode::Enforce).name(refusal).to_string(), want);
    }
}

#[test]
fn each_rule_that_was_tried_is_told() {
    #[derive(Default)]
    struct Seen(Vec<(List, usize, Answer)>);
    impl Trace for Seen {
        fn tried(&mut self, list: List, number: usize, answer: Answer) {
            self.0.push((list, number, answer));
        }
    }
    let policy = settings::Policy {
        deny: vec![group(&["Guests"])],
        ..allow(vec![group(&["Admins"]), group(&["Staff"]), group(&["never asked"])])
    };
    let (groups, mut seen) = (strings(&["Staff"]), Seen::default());
    let facts = Facts { known: true, groups: &groups, ..nobody() };
    assert_eq!(Policy::new(&policy, Mode::Enforce).decide(&facts, &mut seen), Decision::Allow);
    let want = [(List::Deny, 0, Answer::No), (List::Allow, 0, Answer::No), (List::Allow, 1, Answer::Yes)];
    assert_eq!(seen.0, want);
}

#[test]
fn l_25_a_rule_among_many_is_not_passed_over() {
    let nobodys = || (0..100).map(|n| settings::Rule { user: vec![format!("n{n}")], ..Default::default() });
    let long = format!("{}@example.com", "a".repeat(400)).leak();
    for (rule, person) in [
        (email(&["ANN@example.com"]), ann()),
        (domain(&["example.com"]), ann()),
        (domain(&["example.com"]), Person { email: Some("ann@evil.org@Example.com"), ..ann() }),
        (domain(&["elsewhere.org"]), Person { email: Some(long), ..ann() }),
        (
            group(&["Staff"]),
            Person { groups: (0..2000).map(|n| format!("g{n}")).chain(["Staff".to_owned()]).collect(), ..ann() },
        ),
        (settings::Rule { user: strings(&["u1"]), ..group(&["x", "Staff"]) }, ann()),
        (settings::Rule { provider: strings(&["main"]), ..Default::default() }, ann()),
    ] {
        let policy = deny(nobodys().chain([rule]).collect());
        assert_eq!(decide(&policy, &person), denied("deny[101]"), "{person:?}");
    }
    assert_eq!(decide(&deny(nobodys().collect()), &ann()), Decision::Allow);
    let network = settings::Rule { network: vec!["192.0.2.0/24".parse().unwrap()], ..Default::default() };
    let policy = Policy::new(&deny(nobodys().chain([network]).collect()), Mode::Enforce);
    for known in [true, false] {
        assert_eq!(
            policy.decide(&Facts { known, ..nobody() }, &mut ()),
            denied("deny[101]"),
            "of whom nothing is known"
        );
    }
}
