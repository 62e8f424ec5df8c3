//! What the operator sees: logs, the access line of each request, the audit line of each sign-in, sign-out and refusal,
//! and the metrics. It writes what it is given: who calls it keeps tokens, codes and cookies out.

pub mod access;
pub mod log;
pub mod metrics;
pub mod refused;
pub mod upstreams;
pub mod writer;

use std::fmt::{self, Write as _};

/// Text that a peer chose, made fit for a log: control characters, everything beyond ASCII and backslashes escaped, at
/// most 256 characters (ZX-01).
pub struct Safe<'a>(pub &'a str);

const SAFE_CHARS: usize = 256;

impl fmt::Display for Safe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, c) in self.0.chars().enumerate() {
            if n == SAFE_CHARS {
                return f.write_char('…');
            }
            match c {
                '\\' | '"' => {
                    f.write_char('\\')?;
                    f.write_char(c)?;
                }
                ' '..='~' => f.write_char(c)?,
                _ => write!(f, "{}", c.escape_unicode())?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Safe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One audit event: who, what, by which rule, in which request. Never a token. `fields` as `tracing` writes them.
#[macro_export]
macro_rules! audit {
    ($($fields:tt)+) => { ::tracing::info!(target: "audit", $($fields)+) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zx_01_nothing_of_a_peer_can_break_or_colour_a_line() {
        let shown = Safe("a\r\nFAKE \u{1b}[31m\u{202e}\0\"é").to_string();
        assert_eq!(shown, "a\\u{d}\\u{a}FAKE \\u{1b}[31m\\u{202e}\\u{0}\\\"\\u{e9}");
        assert!(Safe(&"x".repeat(10_000)).to_string().chars().count() <= 257);
    }
}
