//! PERF: a policy of hundreds of rules is decided about as fast as one of a few: a rule about names that a request does not
//! have is passed over by one look at some bits. They can only say that a rule does not match; whether it does is never
//! decided here.

use super::Facts;
use super::rule::Email;
use crate::config::{fold_case, settings};

/// Up to here comparing names is faster than collecting bits.
pub(super) const FEW_RULES: usize = 8;

/// One bit for each name, by its hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Bits(u128);

/// The same name under two keys is two names.
#[derive(Clone, Copy)]
enum Key {
    Client,
    Domain,
    Email,
    Group,
    Scope,
    User,
}

impl Bits {
    /// Nothing is known: no rule is passed over.
    pub(super) const ALL: Self = Self(u128::MAX);
    /// SECURITY: what every request has, so that rules which name nobody, of `network` alone, are never passed over.
    const ANY: Self = Self(1);

    /// One of these must be among the request's own. A claim may be unknown, so it has none.
    pub(super) fn of_rule(rule: &settings::Rule) -> Self {
        let emails: Vec<String> = rule.email.iter().map(|e| fold_case(e)).collect();
        let domains: Vec<String> = rule.email_domain.iter().map(|d| fold_case(d)).collect();
        let lists = [
            (Key::User, &rule.user),
            (Key::Client, &rule.client),
            (Key::Email, &emails),
            (Key::Domain, &domains),
            (Key::Group, &rule.group),
            (Key::Scope, &rule.scope),
        ];
        let written = lists.into_iter().filter(|(_, names)| !names.is_empty());
        let bits = written.map(|(key, names)| names.iter().fold(Self(0), |bits, name| bits.with(key, name.as_bytes())));
        bits.min_by_key(|bits| bits.0.count_ones()).unwrap_or(Self::ALL)
    }

    /// SECURITY: L-25. `email` is what `deny` compares: it has all that `allow` compares, and one that is too long has
    /// every name.
    pub(super) fn of_facts(facts: &Facts<'_>, email: Email<'_>) -> Self {
        if !facts.known {
            return Self::ALL;
        }
        let mut bits = match email {
            Email::TooLong => return Self::ALL,
            Email::Absent => Self::ANY,
            Email::Text(text) => {
                let domains = text.as_bytes().split(|b| *b == b'@').skip(1);
                domains.fold(Self::ANY.with(Key::Email, text.as_bytes()), |bits, domain| bits.with(Key::Domain, domain))
            }
        };
        bits = facts.user.iter().fold(bits, |bits, user| bits.with(Key::User, user.as_bytes()));
        bits = facts.client.iter().fold(bits, |bits, client| bits.with(Key::Client, client.as_bytes()));
        for (key, names) in [(Key::Group, facts.groups), (Key::Scope, facts.scopes)] {
            for name in names {
                if bits == Self::ALL {
                    return bits;
                }
                bits = bits.with(key, name.as_bytes());
            }
        }
        bits
    }

    pub(super) fn meet(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// FNV-1a. Whoever finds names that share a bit makes a comparison necessary, and nothing else.
    fn with(self, key: Key, name: &[u8]) -> Self {
        let start = 0xcbf2_9ce4_8422_2325_u64 ^ key as u64;
        let hash = name.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        Self(self.0 | 1 << (hash >> 57))
    }
}
