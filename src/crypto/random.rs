//! Unguessable values. The only source is the generator of aws-lc-rs; nothing that must be unguessable comes from
//! anywhere else.

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    if rand::fill(&mut out).is_err() {
        // SECURITY: no randomness, no sign-in: going on with zeros would be worse than ending (C-02, C-03, P-02).
        std::process::abort();
    }
    out
}

/// 256 bits as 43 characters of base64url: a state, a nonce, a PKCE verifier (RFC 7636 §4.1), a session id.
pub fn token() -> String {
    URL_SAFE_NO_PAD.encode(bytes::<32>())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn p_02_tokens_are_long_unreserved_and_distinct() {
        let all: HashSet<String> = (0..1000).map(|_| token()).collect();
        assert_eq!(all.len(), 1000);
        for one in &all {
            assert_eq!(one.len(), 43);
            assert!(one.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{one}");
        }
    }
}
