//! The order of cipher suites: the server's, but for clients whose first choice is ChaCha20. All that are offered are
//! good; the order is a matter of speed.

use rustls::CipherSuite;
use rustls::crypto::CryptoProvider;

/// The same suites, those with ChaCha20 before the others.
pub(super) fn chacha_first(provider: &CryptoProvider) -> CryptoProvider {
    let mut provider = provider.clone();
    provider.cipher_suites.sort_by_key(|suite| !is_chacha(suite.suite()));
    provider
}

/// Whether ChaCha20 is a client's first choice. Other than that the order is ours: what is oldest in a client's list may
/// stand first.
pub(super) fn want_chacha(suites: &[CipherSuite]) -> bool {
    // RFC 8701: what Chromium puts first means nothing.
    let grease = |suite: &CipherSuite| u16::from(*suite) & 0x0f0f == 0x0a0a;
    suites.iter().find(|suite| !grease(suite)).is_some_and(|suite| is_chacha(*suite))
}

fn is_chacha(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_choice_is_what_stands_before_all_but_grease() {
        let (aes, chacha) = (CipherSuite::TLS13_AES_128_GCM_SHA256, CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
        let grease = CipherSuite::from(0xdada);
        assert!(want_chacha(&[chacha, aes]) && want_chacha(&[grease, chacha, aes]));
        assert!(!want_chacha(&[aes, chacha]) && !want_chacha(&[grease, aes, chacha]) && !want_chacha(&[]));
        assert!(!want_chacha(&[grease]));
    }
}
