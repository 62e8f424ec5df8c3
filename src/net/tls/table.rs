//! The certificates of the server, and which of them a client is shown: one for the name it asked for, else the first.
//! A table never changes; a reload makes another.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::files;
use super::names::{Names, canonical, parent};
use crate::config::settings::KeyPair;

const DAY: i64 = 24 * 60 * 60;
/// A certificate that ends sooner is worth a warning: renewal has failed for a while by then.
const SOON: i64 = 14 * DAY;

pub struct Table {
    certificates: Vec<Certificate>,
    /// Indices into `certificates`, in their order: one name may have an RSA and an ECDSA certificate.
    exact: HashMap<String, Vec<usize>>,
    wildcards: HashMap<String, Vec<usize>>,
}

pub struct Certificate {
    /// The file, which is its name in logs and metrics.
    pub file: PathBuf,
    pub names: Names,
    /// Unix seconds.
    pub not_before: i64,
    pub not_after: i64,
    shown: Arc<CertifiedKey>,
}

/// The first certificate, for whoever names no host, or none that another one is for.
const FIRST: &[usize] = &[0];

impl Table {
    /// Reads everything. Errors name the file.
    pub(super) fn read(pairs: &[KeyPair]) -> io::Result<Self> {
        let mut table =
            Self { certificates: Vec::with_capacity(pairs.len()), exact: HashMap::new(), wildcards: HashMap::new() };
        for (index, pair) in pairs.iter().enumerate() {
            let certificate = Certificate::read(pair)?;
            let Names { exact, wildcards } = &certificate.names;
            if index > 0 && exact.is_empty() && wildcards.is_empty() {
                return Err(files::invalid(&pair.cert, &"names no host (subjectAltName), so nobody would be shown it"));
            }
            for (names, map) in [(exact, &mut table.exact), (wildcards, &mut table.wildcards)] {
                for name in names {
                    let of_name = map.entry(name.clone()).or_default();
                    if of_name.last() != Some(&index) {
                        of_name.push(index);
                    }
                }
            }
            table.certificates.push(certificate);
        }
        if table.certificates.is_empty() {
            return Err(io::Error::other("no certificate"));
        }
        Ok(table)
    }

    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// SECURITY: PX-17, RFC 9110 §15.5.20: whether a request for `host` came over a connection that began with the
    /// certificate of another one. `server_name` as the client gave it; `host` in any spelling, without a port.
    pub fn is_misdirected(&self, server_name: Option<&str>, host: &str) -> bool {
        let began = server_name.map_or(FIRST, |name| self.of(&canonical(name)));
        let asked = self.of(&canonical(host));
        !asked.iter().any(|index| began.contains(index))
    }

    /// What may be shown for a canonical name; never empty.
    fn of(&self, name: &str) -> &[usize] {
        let wildcard = || parent(name).and_then(|rest| self.wildcards.get(rest));
        self.exact.get(name).or_else(wildcard).map_or(FIRST, Vec::as_slice)
    }
}

impl ResolvesServerCert for Table {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let of_name = hello.server_name().map_or(FIRST, |name| self.of(&canonical(name)));
        let candidates = || of_name.iter().filter_map(|index| self.certificates.get(*index)).map(|c| &c.shown);
        let usable = candidates().find(|shown| shown.key.choose_scheme(hello.signature_schemes()).is_some());
        usable.or_else(|| candidates().next()).map(Arc::clone)
    }
}

impl Certificate {
    fn read(pair: &KeyPair) -> io::Result<Self> {
        let mut shown = files::certified(&pair.cert, &pair.key)?;
        let unreadable = |why: &dyn fmt::Display| files::invalid(&pair.cert, why);
        let leaf = shown.end_entity_cert().map_err(|e| unreadable(&e))?;
        let (_, leaf) = X509Certificate::from_der(leaf).map_err(|e| unreadable(&e))?;
        let names = Names::of(&leaf).map_err(|e| unreadable(&e))?;
        let (not_before, not_after) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
        shown.ocsp = pair.ocsp.as_deref().map(files::ocsp).transpose()?;
        Ok(Self { file: pair.cert.clone(), names, not_before, not_after, shown: Arc::new(shown) })
    }

    /// What an operator should know at `now`, Unix seconds.
    pub fn warning(&self, now: i64) -> Option<String> {
        let file = self.file.display();
        if now > self.not_after {
            return Some(format!("the certificate {file} has expired: no client accepts it"));
        }
        if now < self.not_before {
            return Some(format!("the certificate {file} is not valid yet: look at the clock"));
        }
        let left = self.not_after - now;
        (left < SOON).then(|| format!("the certificate {file} expires in {} days: renew it", left / DAY))
    }
}

/// Never the keys.
impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.certificates.iter().map(|c| &c.file)).finish()
    }
}
