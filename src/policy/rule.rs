//! One rule: conditions that must all hold. What a key of the configuration means stands here, a line each.

use ipnet::IpNet;

use super::names::Names;
use super::{Answer, Facts};
use crate::config::settings;

#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// PERF: only what was written.
    conditions: Box<[Condition]>,
    /// Only of `certificate`, `network` and `method`: judged before anybody has signed in.
    early: bool,
}

#[derive(Clone, Debug)]
enum Condition {
    User(Names),
    Email(Names),
    EmailDomain(Names),
    Group(Names),
    Claim(Box<str>, Names),
    Scope(Names),
    Provider(Names),
    Issuer(Names),
    Client(Names),
    Certificate(Names),
    Network(Box<[IpNet]>),
    Method(Names),
}

impl Rule {
    pub(super) fn new(rule: &settings::Rule) -> Self {
        let mut conditions = Vec::new();
        let mut add = |names: &[String], condition: fn(Names) -> Condition| {
            if !names.is_empty() {
                conditions.push(condition(Names::new(names)));
            }
        };
        add(&rule.method, Condition::Method);
        add(&rule.provider, Condition::Provider);
        add(&rule.issuer, Condition::Issuer);
        add(&rule.client, Condition::Client);
        add(&rule.certificate, Condition::Certificate);
        add(&rule.scope, Condition::Scope);
        add(&rule.user, Condition::User);
        add(&rule.group, Condition::Group);
        if !rule.email.is_empty() {
            conditions.push(Condition::Email(Names::folded(&rule.email)));
        }
        if !rule.email_domain.is_empty() {
            conditions.push(Condition::EmailDomain(Names::folded(&rule.email_domain)));
        }
        if !rule.network.is_empty() {
            conditions.push(Condition::Network(rule.network.as_slice().into()));
        }
        let claims = rule.claims.iter().map(|(path, texts)| Condition::Claim(path.as_str().into(), Names::new(texts)));
        conditions.extend(claims);
        let early =
            |c: &Condition| matches!(c, Condition::Certificate(_) | Condition::Network(_) | Condition::Method(_));
        let early = conditions.iter().all(early);
        Self { conditions: conditions.into(), early }
    }

    /// SECURITY: a rule without conditions matches nobody: configuration refuses it, and if one came about by a fault it
    /// must not open the door.
    pub(super) fn answer(&self, facts: &Facts<'_>, email: Email<'_>) -> Answer {
        if self.conditions.is_empty() {
            return Answer::No;
        }
        if !facts.known && !self.early {
            return Answer::Unknown;
        }
        let mut all = Answer::Yes;
        for condition in &self.conditions {
            all = all.min(condition.answer(facts, email));
            if all == Answer::No {
                break;
            }
        }
        all
    }
}

impl Condition {
    /// `tests/mutants` replaces these lines one by one: each keeps its key's whole meaning.
    fn answer(&self, facts: &Facts<'_>, email: Email<'_>) -> Answer {
        match self {
            Self::User(names) => is(facts.user.is_some_and(|user| names.contains(user))),
            Self::Email(names) => is(email.holds(|e| names.contains(e))),
            Self::EmailDomain(names) => is(email.holds(|e| e.split('@').skip(1).any(|domain| names.contains(domain)))),
            Self::Group(names) => is(names.meet(facts.groups)),
            Self::Claim(path, names) => facts.claim(path).map_or(Answer::Unknown, |texts| is(names.meet(texts))),
            Self::Scope(names) => is(names.meet(facts.scopes)),
            Self::Provider(names) => is(facts.provider.is_some_and(|provider| names.contains(provider))),
            Self::Issuer(names) => is(facts.issuer.is_some_and(|issuer| names.contains(issuer))),
            Self::Client(names) => is(facts.client.is_some_and(|client| names.contains(client))),
            Self::Certificate(names) => is(names.meet(facts.certificate)),
            Self::Network(networks) => is(networks.iter().any(|network| network.contains(&facts.network))),
            Self::Method(names) => is(names.contains(facts.method)),
        }
    }
}

impl Facts<'_> {
    fn claim(&self, path: &str) -> Option<&[String]> {
        self.claims?.get(path).map(Vec::as_slice)
    }
}

fn is(holds: bool) -> Answer {
    if holds { Answer::Yes } else { Answer::No }
}

/// The address that rules are compared with, folded.
#[derive(Clone, Copy)]
pub(super) enum Email<'a> {
    Absent,
    Text(&'a str),
    /// SECURITY: L-25: longer than any address, so never compared: every rule that names one is taken to match. Only
    /// `deny` rules see it.
    TooLong,
}

impl Email<'_> {
    fn holds(self, condition: impl FnOnce(&str) -> bool) -> bool {
        match self {
            Self::Absent => false,
            Self::Text(text) => condition(text),
            Self::TooLong => true,
        }
    }
}
