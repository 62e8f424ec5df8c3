//! The opening handshake of a WebSocket as HTTP/1.1 has it (RFC 6455 §4): the key, and what proves that it was read. HTTP/2
//! has neither, so that whoever stands between the two makes them up and checks them. Nothing here is a secret.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::HeaderValue;

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A new `Sec-WebSocket-Key`.
pub fn key() -> HeaderValue {
    value(&STANDARD.encode(fastrand::u128(..).to_be_bytes()))
}

/// The `Sec-WebSocket-Accept` that answers `key`.
pub fn accept(key: &HeaderValue) -> HeaderValue {
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), GUID].concat());
    value(&STANDARD.encode(digest))
}

/// Base64 always is one.
fn value(base64: &str) -> HeaderValue {
    HeaderValue::from_str(base64).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_6455() {
        assert_eq!(accept(&HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==")), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(key().len(), 24);
        assert_ne!(key(), key());
    }
}
