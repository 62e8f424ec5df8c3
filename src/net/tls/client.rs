//! The certificate that a client has shown, after it was verified: who it names, read once a connection. It says what is in
//! it and nothing of what that is worth.

use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::ToDer as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use crate::config::certificate::{Value, attribute, distinguished, dns, email, ip, uri};

/// Names in one certificate, and bytes of it.
const MOST_NAMES: usize = 256;
const LARGEST: usize = 16 * 1024;

#[derive(Debug)]
pub struct ClientCertificate {
    /// As it was sent, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// RFC 4514; empty where it has none.
    pub subject: String,
    /// Of its subjectAltName and then `subject:` of its subject, as `config::certificate` spells them.
    pub names: Vec<String>,
    /// `x5t#S256` of RFC 8705 §3.1.
    pub thumbprint: String,
}

impl ClientCertificate {
    /// SECURITY: fails where not every name could be read: one that a rule keeps out must not slip by unread.
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Result<Self, &'static str> {
        let leaf = chain.first().ok_or("no certificate")?;
        if leaf.len() > LARGEST {
            return Err("a client's certificate that is too large");
        }
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| "a client's certificate that cannot be read")?;
        let subject = subject(parsed.subject())?;
        let mut names = alternatives(&parsed)?;
        if !subject.is_empty() {
            names.push(format!("subject:{subject}"));
        }
        let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, leaf));
        Ok(Self { subject, names, thumbprint, chain })
    }

    /// A certificate that nobody has shown: for explaining what one with these names would be worth.
    pub fn supposed(names: Vec<String>) -> Self {
        let subject = names.iter().find_map(|name| name.strip_prefix("subject:")).unwrap_or_default().to_owned();
        Self { chain: Vec::new(), subject, names, thumbprint: String::new() }
    }

    /// Without the subject.
    pub fn alternative_names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str).filter(|name| !name.starts_with("subject:"))
    }
}

fn alternatives(certificate: &X509Certificate<'_>) -> Result<Vec<String>, &'static str> {
    let unreadable = "a client's certificate with a subjectAltName that cannot be read";
    let Some(extension) = certificate.subject_alternative_name().map_err(|_| unreadable)? else {
        return Ok(Vec::new());
    };
    let all = &extension.value.general_names;
    if all.len() > MOST_NAMES {
        return Err("a client's certificate with too many names");
    }
    let mut names = Vec::with_capacity(all.len() + 1);
    for name in all {
        names.push(match name {
            GeneralName::DNSName(name) => dns(name),
            GeneralName::RFC822Name(address) => email(address),
            GeneralName::URI(text) => uri(text),
            GeneralName::IPAddress(bytes) => ip(address(bytes).ok_or(unreadable)?),
            GeneralName::Invalid(..) => return Err(unreadable),
            // Rules have no word for these.
            GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::OtherName(..)
            | GeneralName::RegisteredID(_)
            | GeneralName::X400Address(_) => continue,
        });
    }
    Ok(names)
}

fn subject(name: &X509Name<'_>) -> Result<String, &'static str> {
    let part = |part: &AttributeTypeAndValue<'_>| -> Result<String, &'static str> {
        let oid = part.attr_type().to_id_string();
        match part.as_str() {
            Ok(text) => Ok(attribute(&oid, Value::Text(text))),
            Err(_) => {
                let der = part.attr_value().to_der_vec();
                let der = der.map_err(|_| "a client's certificate with a subject that cannot be read")?;
                Ok(attribute(&oid, Value::Der(&der)))
            }
        }
    };
    let parts: Result<Vec<Vec<String>>, _> = name.iter_rdn().map(|rdn| rdn.iter().map(part).collect()).collect();
    Ok(distinguished(parts?))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use rcgen::string::Ia5String;
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType};

    use super::*;

    fn read(change: impl FnOnce(&mut CertificateParams)) -> Result<ClientCertificate, &'static str> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        change(&mut params);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        ClientCertificate::new(vec![certificate.der().clone()])
    }

    #[test]
    fn bx_07_every_name_is_read_and_spelt_in_one_way() {
        let ia5 = |text: &str| Ia5String::try_from(text).unwrap();
        let certificate = read(|params| {
            params.distinguished_name.push(DnType::CountryName, "DE");
            params.distinguished_name.push(DnType::OrganizationName, "Example, Inc.");
            params.distinguished_name.push(DnType::CommonName, " Jörg+1");
            params.subject_alt_names = vec![
                SanType::DnsName(ia5("Build.Example.COM")),
                SanType::URI(ia5("spiffe://example.com/ns/CI")),
                SanType::Rfc822Name(ia5("Build@Example.com")),
                SanType::IpAddress("192.0.2.1".parse().unwrap()),
                SanType::IpAddress("2001:db8::1".parse().unwrap()),
            ];
        });
        let certificate = certificate.unwrap();
        assert_eq!(certificate.subject, "CN=\\ Jörg\\+1,O=Example\\, Inc.,C=DE");
        let names = [
            "dns:build.example.com",
            "uri:spiffe://example.com/ns/CI",
            "email:build@example.com",
            "ip:192.0.2.1",
            "ip:2001:db8::1",
        ];
        assert_eq!(certificate.alternative_names().collect::<Vec<_>>(), names);
        assert_eq!(certificate.names.last().unwrap(), "subject:CN=\\ Jörg\\+1,O=Example\\, Inc.,C=DE");
        assert_eq!(certificate.thumbprint.len(), 43);
    }

    #[test]
    fn bx_07_a_common_name_is_no_host_and_no_text_ends_a_name_early() {
        let certificate = read(|params| {
            params.distinguished_name.push(DnType::CommonName, "build.example.com\0,O=Example");
            params.distinguished_name.push(DnType::OrganizationName, DnValue::BmpString("x".try_into().unwrap()));
        });
        let certificate = certificate.unwrap();
        assert_eq!(
            certificate.names,
            ["subject:O=#1E020078,CN=build.example.com\\00\\,O\\=Example".replace("\\=", "=")]
        );
        assert!(read(|_| {}).unwrap().names.is_empty(), "nobody");
    }

    #[test]
    fn bx_07_what_cannot_be_read_whole_is_refused() {
        let many = |count: usize| {
            read(|params| {
                let name = |n| SanType::DnsName(Ia5String::try_from(format!("h{n}")).unwrap());
                params.subject_alt_names = (0..count).map(name).collect();
            })
        };
        assert_eq!(many(MOST_NAMES).unwrap().names.len(), MOST_NAMES);
        assert!(many(MOST_NAMES + 1).is_err());
        let long = |bytes: usize| read(|params| params.distinguished_name.push(DnType::CommonName, "x".repeat(bytes)));
        assert!(long(1000).is_ok() && long(LARGEST).is_err());
        assert!(ClientCertificate::new(vec![CertificateDer::from(vec![0x30, 0])]).is_err());
        assert!(ClientCertificate::new(Vec::new()).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// YX-05: no bytes end more than the reading of them.
        #[test]
        fn yx_05_any_bytes_are_a_certificate_or_none(changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6)) {
            static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
                let names = ["a.example.com", "192.0.2.1"].map(str::to_owned);
                rcgen::generate_simple_self_signed(names).unwrap().cert.der().to_vec()
            });
            let mut bytes = WHOLE.clone();
            for (at, byte) in changes {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            let certificate = ClientCertificate::new(vec![CertificateDer::from(bytes)]);
            prop_assert!(certificate.is_err() || certificate.is_ok_and(|c| c.names.len() <= MOST_NAMES + 1));
        }
    }
}
