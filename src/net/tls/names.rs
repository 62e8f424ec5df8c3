//! The hosts that a certificate is for: the DNS names and addresses of its subjectAltName, never its common name
//! (RFC 9525 §6). It says which host is meant, not whether anybody trusts the certificate.

use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// As they are compared: lower case, without trailing dots; an address as it is written in its shortest form.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Names {
    pub exact: Vec<String>,
    /// Of `*.example.com` the part after the first dot: the star stands for exactly one label.
    pub wildcards: Vec<String>,
}

impl Names {
    /// Fails where the extension cannot be read, or is there twice.
    pub fn of(certificate: &X509Certificate<'_>) -> Result<Self, String> {
        let mut names = Self::default();
        let extension = certificate.subject_alternative_name();
        let Some(extension) = extension.map_err(|e| format!("its subjectAltName cannot be read: {e}"))? else {
            return Ok(names);
        };
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(name) => match name.strip_prefix("*.") {
                    Some(rest) => names.wildcards.push(canonical(rest)),
                    None => names.exact.push(canonical(name)),
                },
                GeneralName::IPAddress(bytes) => names.exact.extend(address(bytes).map(|a| a.to_string())),
                _ => {}
            }
        }
        Ok(names)
    }

    /// Whether a client that asked for `host` would take this certificate; `host` in any spelling, without a port.
    pub fn covers(&self, host: &str) -> bool {
        let host = canonical(host);
        self.exact.contains(&host) || parent(&host).is_some_and(|rest| self.wildcards.iter().any(|w| w == rest))
    }
}

/// `host` in the form in which names are compared; an IPv6 address with or without its brackets.
pub fn canonical(host: &str) -> String {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase(),
    }
}

/// What a wildcard has to be for, to be for `host`. None: no wildcard can be.
pub(super) fn parent(host: &str) -> Option<&str> {
    if host.parse::<IpAddr>().is_ok() {
        return None;
    }
    host.split_once('.').filter(|(label, _)| !label.is_empty()).map(|(_, rest)| rest)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_compared_in_one_spelling_and_a_star_is_one_label() {
        let names = Names {
            exact: vec!["example.com".into(), "127.0.0.1".into(), "::1".into()],
            wildcards: vec!["example.com".into()],
        };
        for host in ["example.com", "EXAMPLE.com.", "a.example.com", "A.Example.Com.", "127.0.0.1", "::1", "[0:0::1]"] {
            assert!(names.covers(host), "{host}");
        }
        for host in
            ["a.b.example.com", ".example.com", "xexample.com", "com", "", "127.0.0.2", "[::2]", "example.com.."]
        {
            assert!(!names.covers(host), "{host}");
        }
        let odd = Names { exact: vec![], wildcards: vec!["0.0.1".into()] };
        assert!(!odd.covers("127.0.0.1"), "an address is no name");
    }
}
