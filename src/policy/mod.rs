//! Compiled allow and deny rules: who may pass a route with `access = "policy"`. Deciding reads what is known of a request
//! and nothing else, and allocates nothing. It never sees a request, a token or a claim that was not kept.
//!
//! A claim that was never looked for is neither there nor absent: what depends on it is `Unknown`, which lets nobody in.

mod filter;
mod names;
mod rule;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::config::settings::{self, Mode};
use filter::{Candidates, Index};
use names::Folded;
use rule::{Email, Rule};

/// What a decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Somebody vouches for who this is. Without, only `certificate`, `network` and `method` are read.
    pub known: bool,
    /// None: nobody, or a service (B-20).
    pub user: Option<&'a str>,
    pub email: Option<&'a str>,
    /// The provider says so: `email_verified` is the JSON value true, nothing like it.
    pub email_verified: bool,
    pub groups: &'a [String],
    /// By dotted path. One that is not there was not looked for: whether a rule about it matches is unknown.
    pub claims: Option<&'a BTreeMap<String, Vec<String>>>,
    pub scopes: &'a [String],
    pub client: Option<&'a str>,
    /// The name of the section, `[provider.NAME]`.
    pub provider: Option<&'a str>,
    /// Of a token: the name of the section that issued it.
    pub issuer: Option<&'a str>,
    /// Of the connection: every name in the certificate that the client showed, as `config::certificate` spells them.
    pub certificate: &'a [String],
    /// Canonical: never an IPv4 address written as IPv6.
    pub network: IpAddr,
    pub method: &'a str,
}

impl<'a> Facts<'a> {
    /// Of a request of which nobody is known.
    pub fn anonymous(network: IpAddr, method: &'a str) -> Self {
        Self {
            known: false,
            user: None,
            email: None,
            email_verified: false,
            groups: &[],
            claims: None,
            scopes: &[],
            client: None,
            provider: None,
            issuer: None,
            certificate: &[],
            network,
            method,
        }
    }

    /// Of somebody who has signed in, not of a token and not of nobody.
    fn is_person(&self) -> bool {
        self.known && self.issuer.is_none()
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    Allow,
    Deny(Refusal),
    /// Signed in and refused, where refusals of people are only watched.
    Observe(Refusal),
    /// Nobody is known, and no rule about certificate, network and method alone says yes or no.
    SignIn,
    /// It hangs on a claim that was never looked for.
    Unknown,
}

/// Why not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// Which `deny` rule matches, from 0.
    Rule(usize),
    NoAllow,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum List {
    Allow,
    Deny,
}

impl List {
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// Whether a rule matches. In this order AND is the least of its members, OR the greatest.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Answer {
    No,
    Unknown,
    Yes,
}

/// Is told of each rule that is tried. PERF: `()` hears nothing and costs nothing.
pub trait Trace {
    /// Whether it hears of rules too that are known not to match before they are tried.
    const ALL: bool = true;

    /// `number` counts from 0.
    fn tried(&mut self, list: List, number: usize, answer: Answer);
}

impl Trace for () {
    const ALL: bool = false;

    #[inline]
    fn tried(&mut self, _: List, _: usize, _: Answer) {}
}

/// OR between rules, AND inside one; `deny` wins.
#[derive(Clone, Debug)]
pub struct Policy {
    /// `[policy.NAME]`; None = written at the route.
    name: Option<Box<str>>,
    allow: Rules,
    deny: Rules,
    /// PERF: an address is folded only where a rule compares one.
    reads_email: bool,
    mode: Mode,
}

impl Policy {
    pub fn new(policy: &settings::Policy, mode: Mode) -> Self {
        let rules = || policy.allow.iter().chain(&policy.deny);
        Self {
            name: policy.name.as_deref().map(Box::from),
            allow: Rules::new(&policy.allow),
            deny: Rules::new(&policy.deny),
            reads_email: rules().any(|r| !r.email.is_empty() || !r.email_domain.is_empty()),
            mode,
        }
    }

    pub fn decide<T: Trace>(&self, facts: &Facts<'_>, trace: &mut T) -> Decision {
        let folded = facts.email.filter(|_| self.reads_email).map(Folded::new);
        let email = match folded.as_ref().map(Folded::as_str) {
            None => Email::Absent,
            Some(None) => Email::TooLong,
            Some(Some(text)) => Email::Text(text),
        };
        let denied = self.deny.find(List::Deny, facts, email, trace);
        if let Found::Yes(number) = denied {
            return self.refuse(facts, Refusal::Rule(number));
        }
        // SECURITY: L-25: an address that the provider does not vouch for is anybody's; it lets nobody in. One with two
        // `@` has no domain that every program agrees on.
        let trusted = match email {
            Email::Text(e)
                if facts.email_verified
                    && e.bytes().filter(|b| *b == b'@').count() == 1
                    && folds_as_ascii(facts, e) =>
            {
                email
            }
            _ => Email::Absent,
        };
        let allowed = self.allow.find(List::Allow, facts, trusted, trace);
        if !facts.known {
            return if matches!(allowed, Found::Yes(_)) { Decision::Allow } else { Decision::SignIn };
        }
        // `deny` alone: everybody but those. Without either, nobody.
        let everybody = self.allow.rules.is_empty() && !self.deny.rules.is_empty();
        match (denied, allowed) {
            (_, Found::No) if !everybody => self.refuse(facts, Refusal::NoAllow),
            // SECURITY: a `deny` that might match is not one that does not.
            (Found::Unknown, _) | (_, Found::Unknown) => Decision::Unknown,
            _ => Decision::Allow,
        }
    }

    fn refuse(&self, facts: &Facts<'_>, refusal: Refusal) -> Decision {
        match self.mode {
            Mode::Observe if facts.is_person() => Decision::Observe(refusal),
            Mode::Enforce | Mode::Observe => Decision::Deny(refusal),
        }
    }

    /// For people: `deny[1]` (rules count from 1), `policy staff deny[1]`, or `no allow matches`.
    pub fn name(&self, refusal: Refusal) -> Named<'_> {
        Named { policy: self.name.as_deref(), refusal }
    }
}

/// SECURITY: L-25. `K`, the Kelvin sign, is `k` in lower case: whoever has it in their address has another one than the
/// rule means.
fn folds_as_ascii(facts: &Facts<'_>, folded: &str) -> bool {
    let ascii = |text: &str| text.bytes().filter(u8::is_ascii).count();
    facts.email.is_some_and(|email| ascii(email) == ascii(folded))
}

/// PERF: put into words only where they are read.
pub struct Named<'a> {
    policy: Option<&'a str>,
    refusal: Refusal,
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.policy {
            write!(f, "policy {name} ")?;
        }
        match self.refusal {
            Refusal::Rule(number) => write!(f, "deny[{}]", number.saturating_add(1)),
            Refusal::NoAllow => f.write_str("no allow matches"),
        }
    }
}

enum Found {
    No,
    Unknown,
    Yes(usize),
}

/// One list.
#[derive(Clone, Debug)]
struct Rules {
    rules: Vec<Rule>,
    /// None: all of them are tried.
    index: Option<Index>,
}

impl Rules {
    fn new(rules: &[settings::Rule]) -> Self {
        Self { rules: rules.iter().map(Rule::new).collect(), index: Index::new(rules) }
    }

    /// The first rule that matches.
    fn find<T: Trace>(&self, list: List, facts: &Facts<'_>, email: Email<'_>, trace: &mut T) -> Found {
        let candidates = match &self.index {
            Some(index) if !T::ALL => index.candidates(facts, email),
            _ => Candidates::all(self.rules.len()),
        };
        let mut found = Found::No;
        for number in candidates {
            let Some(rule) = self.rules.get(number) else { break };
            let answer = rule.answer(facts, email);
            trace.tried(list, number, answer);
            match answer {
                Answer::Yes => return Found::Yes(number),
                Answer::Unknown => found = Found::Unknown,
                Answer::No => {}
            }
        }
        found
    }
}
