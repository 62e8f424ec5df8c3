//! PERF: a policy of hundreds of rules is decided about as fast as one of a few: a rule about names is tried only where the
//! request has one of them, which is looked up and not searched. This can only say that a rule does not match; whether it
//! does is never decided here.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::Facts;
use super::rule::Email;
use crate::config::{fold_case, settings};

/// Up to here comparing names is faster than looking them up.
pub(super) const FEW_RULES: usize = 8;

/// The rules of one list, by the names that they ask for.
#[derive(Clone, Debug)]
pub(super) struct Index {
    rules: usize,
    /// Which rules ask for a name with this hash. Two names with one hash make a comparison necessary, and nothing else.
    named: HashMap<u64, Vec<usize>, ByHash>,
    /// SECURITY: which rules name nobody (of `network` alone, for example): these are never passed over.
    always: Mask,
}

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

impl Index {
    /// `None`: so few that all of them are tried.
    pub(super) fn new(rules: &[settings::Rule]) -> Option<Self> {
        if rules.len() <= FEW_RULES {
            return None;
        }
        let mut index = Self { rules: rules.len(), named: HashMap::default(), always: Mask::none(rules.len()) };
        for (number, rule) in rules.iter().enumerate() {
            match needed(rule) {
                Some(hashes) => {
                    for hash in hashes {
                        index.named.entry(hash).or_default().push(number);
                    }
                }
                None => index.always.set(number),
            }
        }
        Some(index)
    }

    /// The numbers of the rules that may match, in order.
    ///
    /// SECURITY: L-25. `email` is what the list compares; one that is too long has every name.
    pub(super) fn candidates(&self, facts: &Facts<'_>, email: Email<'_>) -> Candidates {
        let email = match email {
            Email::TooLong => return Candidates::all(self.rules),
            Email::Absent => None,
            Email::Text(text) => Some(text),
        };
        if !facts.known {
            return Candidates::all(self.rules);
        }
        let mut mask = self.always.clone();
        let mut has = |key, name: &[u8]| {
            for number in self.named.get(&hash(key, name)).into_iter().flatten() {
                mask.set(*number);
            }
        };
        if let Some(email) = email {
            has(Key::Email, email.as_bytes());
            email.as_bytes().split(|b| *b == b'@').skip(1).for_each(|domain| has(Key::Domain, domain));
        }
        facts.user.iter().for_each(|user| has(Key::User, user.as_bytes()));
        facts.client.iter().for_each(|client| has(Key::Client, client.as_bytes()));
        facts.groups.iter().for_each(|group| has(Key::Group, group.as_bytes()));
        facts.scopes.iter().for_each(|scope| has(Key::Scope, scope.as_bytes()));
        Candidates::Some { mask, word: 0 }
    }
}

/// One of these must be among the request's own: the shortest list of names that the rule has. A claim may be unknown, so
/// it is none of them. `None`: the rule asks for no name.
fn needed(rule: &settings::Rule) -> Option<Vec<u64>> {
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
    let (key, names) = lists.into_iter().filter(|(_, names)| !names.is_empty()).min_by_key(|(_, names)| names.len())?;
    Some(names.iter().map(|name| hash(key, name.as_bytes())).collect())
}

/// FNV-1a. SECURITY: DX-08. What is in the table is the operator's: whoever has names that share a hash only asks for them.
fn hash(key: Key, name: &[u8]) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325_u64 ^ key as u64;
    name.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

type ByHash = BuildHasherDefault<Hashed>;

/// What is a hash already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0 << 8 | u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// A bit a rule. PERF: on the stack up to a thousand rules.
#[derive(Clone, Debug)]
pub(super) enum Mask {
    Few([u64; Self::FEW]),
    Many(Vec<u64>),
}

impl Mask {
    const FEW: usize = 16;

    fn none(rules: usize) -> Self {
        let words = rules.div_ceil(64);
        if words <= Self::FEW { Self::Few([0; Self::FEW]) } else { Self::Many(vec![0; words]) }
    }

    fn words(&mut self) -> &mut [u64] {
        match self {
            Self::Few(words) => words,
            Self::Many(words) => words,
        }
    }

    fn set(&mut self, number: usize) {
        if let Some(word) = self.words().get_mut(number / 64) {
            *word |= 1 << (number % 64);
        }
    }
}

/// The numbers of rules that are to be tried, in order.
pub(super) enum Candidates {
    All { next: usize, end: usize },
    Some { mask: Mask, word: usize },
}

impl Candidates {
    pub(super) fn all(rules: usize) -> Self {
        Self::All { next: 0, end: rules }
    }
}

impl Iterator for Candidates {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        match self {
            Self::All { next, end } => {
                let number = *next;
                *next += 1;
                (number < *end).then_some(number)
            }
            Self::Some { mask, word } => {
                let words = mask.words();
                loop {
                    let bits = words.get_mut(*word)?;
                    if *bits != 0 {
                        let bit = bits.trailing_zeros() as usize;
                        *bits &= *bits - 1;
                        return Some(*word * 64 + bit);
                    }
                    *word += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_tried_in_order_however_many_there_are() {
        for rules in [1_usize, 63, 64, 65, 1024, 1025, 5000] {
            let wanted: Vec<usize> = (0..rules).filter(|n| n % 7 == 0 || n % 64 == 63 || n + 1 == rules).collect();
            let mut mask = Mask::none(rules);
            wanted.iter().rev().for_each(|number| mask.set(*number));
            assert_eq!(Candidates::Some { mask, word: 0 }.collect::<Vec<_>>(), wanted);
            assert_eq!(Candidates::all(rules).count(), rules);
        }
    }
}
