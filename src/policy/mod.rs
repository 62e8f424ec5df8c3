//! Compiled allow and deny rules: who may pass a route with `access = "policy"`. Deciding reads an identity and nothing
//! else, and allocates only to name the rule that denied. It never sees a request, a token or a claim.

mod names;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use crate::config::settings;
use names::{Folded, Names};

/// What a decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
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
    pub network: IpAddr,
    pub method: &'a str,
}

impl<'a> Facts<'a> {
    /// Of a request of which nobody is known.
    pub fn anonymous(network: IpAddr, method: &'a str) -> Self {
        Self {
            user: None,
            email: None,
            email_verified: false,
            groups: &[],
            claims: None,
            scopes: &[],
            client: None,
            provider: None,
            issuer: None,
            network,
            method,
        }
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    Allow,
    Deny {
        /// `deny[1]` (rules count from 1), or `no allow matches`.
        rule: String,
    },
}

/// OR between rules, AND inside one; `deny` wins.
#[derive(Clone, Debug)]
pub struct Policy {
    allow: Vec<Rule>,
    deny: Vec<Rule>,
}

impl Policy {
    pub fn new(policy: &settings::Policy) -> Self {
        Self { allow: policy.allow.iter().map(Rule::new).collect(), deny: policy.deny.iter().map(Rule::new).collect() }
    }

    pub fn decide(&self, facts: &Facts<'_>) -> Decision {
        let folded = facts.email.map(Folded::new);
        let email = match folded.as_ref().map(Folded::as_str) {
            None => Email::Absent,
            Some(None) => Email::TooLong,
            Some(Some(text)) => Email::Text(text),
        };
        if let Some(n) = self.deny.iter().position(|rule| rule.matches(facts, email)) {
            let mut rule = String::new();
            // Writing to a String cannot fail.
            let _ = write!(rule, "deny[{}]", n + 1);
            return Decision::Deny { rule };
        }
        // SECURITY: L-25: an address that the provider does not vouch for is anybody's; it lets nobody in. One with two
        // `@` has no domain that every program agrees on.
        let trusted = match email {
            Email::Text(e) if facts.email_verified && e.bytes().filter(|b| *b == b'@').count() == 1 => email,
            _ => Email::Absent,
        };
        let allowed = if self.allow.is_empty() {
            // Only written so beside `deny`: everybody but those. Without either, nobody.
            !self.deny.is_empty()
        } else {
            self.allow.iter().any(|rule| rule.matches(facts, trusted))
        };
        if allowed { Decision::Allow } else { Decision::Deny { rule: "no allow matches".to_owned() } }
    }
}

#[derive(Clone, Debug)]
struct Rule {
    user: Names,
    email: Names,
    email_domain: Names,
    group: Names,
    provider: Names,
}

impl Rule {
    fn new(rule: &settings::Rule) -> Self {
        Self {
            user: Names::new(&rule.user),
            email: Names::folded(&rule.email),
            email_domain: Names::folded(&rule.email_domain),
            group: Names::new(&rule.group),
            provider: Names::new(&rule.provider),
        }
    }

    /// SECURITY: a rule without conditions matches nobody: configuration refuses it, and if one came
    /// about by a fault it must not open the door.
    fn matches(&self, facts: &Facts<'_>, email: Email<'_>) -> bool {
        let conditions = [&self.user, &self.email, &self.email_domain, &self.group, &self.provider];
        conditions.iter().any(|names| !names.is_empty())
            && self.user.admit(|names| facts.user.is_some_and(|user| names.contains(user)))
            && self.provider.admit(|names| facts.provider.is_some_and(|provider| names.contains(provider)))
            && self.email.admit(|names| email.holds(|e| names.contains(e)))
            && self.email_domain.admit(|names| email.holds(|e| e.split('@').skip(1).any(|d| names.contains(d))))
            && self.group.admit(|names| facts.groups.iter().any(|g| names.contains(g)))
    }
}

/// The address that rules are compared with, folded.
#[derive(Clone, Copy)]
enum Email<'a> {
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
