//! Strings that must not be printed: client secrets, session keys, tokens. `Debug` redacts; there is no `Display`.
//!
//! What it does not do: wipe memory. Tokens pass through buffers of libraries that we do not own, so wiping this copy
//! would promise more than it keeps.

use std::fmt;

#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself: for the wire, for sealing, for comparing. Never for a log or a page.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}
