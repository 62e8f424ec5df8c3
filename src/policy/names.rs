//! Sets of names that are asked without allocating, and text folded without allocating.

use std::collections::HashSet;

use crate::config::fold_case;

/// Up to here comparing one by one is faster than hashing.
const FEW: usize = 8;

/// The names of one condition.
#[derive(Clone, Debug)]
pub(super) enum Names {
    Few(Box<[Box<str>]>),
    Many(HashSet<Box<str>>),
}

impl Names {
    pub(super) fn new(names: &[String]) -> Self {
        Self::of(names.iter().map(|n| Box::from(n.as_str())))
    }

    pub(super) fn folded(names: &[String]) -> Self {
        Self::of(names.iter().map(|n| fold_case(n).into_boxed_str()))
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        match self {
            Self::Few(names) => names.iter().any(|n| &**n == name),
            Self::Many(names) => names.contains(name),
        }
    }

    /// Whether any of `values` is one of these.
    pub(super) fn meet(&self, values: &[String]) -> bool {
        values.iter().any(|value| self.contains(value))
    }

    fn of(names: impl ExactSizeIterator<Item = Box<str>>) -> Self {
        if names.len() > FEW { Self::Many(names.collect()) } else { Self::Few(names.collect()) }
    }
}

/// An e-mail address in lower case, on the stack. PERF: every decision of an e-mail rule needs one.
pub(super) struct Folded {
    bytes: [u8; Self::MOST],
    /// None: too long to be an address.
    length: Option<usize>,
}

impl Folded {
    /// RFC 5321 §4.5.3.1 allows 64 + 1 + 255. What is longer equals no address that was configured.
    const MOST: usize = 320;

    pub(super) fn new(text: &str) -> Self {
        let mut bytes = [0; Self::MOST];
        // PERF: as nearly every address is.
        if text.is_ascii() {
            let room = bytes.get_mut(..text.len());
            let length = room.is_some().then_some(text.len());
            if let Some(room) = room {
                room.copy_from_slice(text.as_bytes());
                room.make_ascii_lowercase();
            }
            return Self { bytes, length };
        }
        let mut length = 0;
        for c in text.chars().flat_map(char::to_lowercase) {
            let Some(room) = bytes.get_mut(length..length + c.len_utf8()) else {
                return Self { bytes, length: None };
            };
            length += c.encode_utf8(room).len();
        }
        Self { bytes, length: Some(length) }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes.get(..self.length?)?).ok()
    }
}
