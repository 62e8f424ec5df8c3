//! What an upstream is told of the certificate that the client has shown: RFC 9440, and its names in words. Made once a
//! connection, and only where a route sends it; who it is from is for rules to say.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::http::headers::{encode_value, join_values};
use crate::net::tls::ClientCertificate;

pub const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
const X_CLIENT_CERT_SUBJECT: HeaderName = HeaderName::from_static("x-client-cert-subject");
const X_CLIENT_CERT_SAN: HeaderName = HeaderName::from_static("x-client-cert-san");

/// Of a chain: what is more a client sends as it likes, since only the way to the authority is verified.
const LONGEST_CHAIN: usize = 16 * 1024;

#[derive(Debug)]
pub struct Headers {
    leaf: Option<HeaderValue>,
    chain: Option<HeaderValue>,
    subject: Option<HeaderValue>,
    names: Option<HeaderValue>,
}

impl Headers {
    pub fn of(certificate: &ClientCertificate) -> Self {
        let mut chain = certificate.chain.iter();
        let leaf = chain.next().map(|leaf| byte_sequence(leaf));
        let bytes: usize = chain.clone().map(|der| der.len()).sum();
        if bytes > LONGEST_CHAIN {
            tracing::debug!(bytes, "the chain of a client's certificate is too long to be passed on");
            chain = [].iter();
        }
        let chain: Vec<String> = chain.map(|der| byte_sequence(der)).collect();
        let (names, dropped) = join_values(certificate.alternative_names(), ",");
        if dropped > 0 {
            tracing::warn!(dropped, "names that hold a comma were left out of X-Client-Cert-San");
        }
        let value = |text: String| HeaderValue::try_from(text).ok();
        Self {
            leaf: leaf.and_then(value),
            chain: (!chain.is_empty()).then(|| chain.join(", ")).and_then(value),
            subject: (!certificate.subject.is_empty()).then(|| encode_value(&certificate.subject)),
            names: (!names.is_empty()).then_some(names),
        }
    }

    pub fn put(&self, headers: &mut HeaderMap) {
        for (name, value) in [
            (CLIENT_CERT, &self.leaf),
            (CLIENT_CERT_CHAIN, &self.chain),
            (X_CLIENT_CERT_SUBJECT, &self.subject),
            (X_CLIENT_CERT_SAN, &self.names),
        ] {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
    }
}

/// RFC 9651 §3.3.5.
fn byte_sequence(der: &[u8]) -> String {
    format!(":{}:", STANDARD.encode(der))
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;

    use super::*;

    fn told(chain: &[&[u8]], names: &[&str]) -> HeaderMap {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let chain = chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        let certificate = ClientCertificate { chain, ..ClientCertificate::supposed(names) };
        let mut headers = HeaderMap::new();
        Headers::of(&certificate).put(&mut headers);
        headers
    }

    #[test]
    fn bx_07_the_headers_of_rfc_9440_and_the_names_in_words() {
        let names = ["dns:a.example", "uri:x:a,dns:root", "email:ö@example.com", "subject:CN=\u{f6}, x"];
        let headers = told(&[b"leaf", b"one", b"two"], &names);
        let want = [
            ("client-cert", ":bGVhZg==:"),
            ("client-cert-chain", ":b25l:, :dHdv:"),
            ("x-client-cert-subject", "CN=%C3%B6, x"),
            ("x-client-cert-san", "dns:a.example,email:%C3%B6@example.com"),
        ];
        assert_eq!(headers.len(), want.len());
        for (name, value) in want {
            assert_eq!(headers[name], value, "{name}");
        }
        assert_eq!(told(&[b"leaf"], &[]).len(), 1);
    }

    #[test]
    fn bx_07_a_chain_that_is_too_long_is_left_out() {
        let long = vec![0; LONGEST_CHAIN];
        assert!(told(&[b"leaf", &long], &[]).contains_key("client-cert-chain"));
        assert!(!told(&[b"leaf", &long, b"x"], &[]).contains_key("client-cert-chain"));
    }
}
