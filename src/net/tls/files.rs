//! The files of a certificate: PEM chains, keys and authorities, DER OCSP responses. Every error names the file.

use std::io;
use std::path::Path;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::asn1_rs::{Enumerated, FromDer as _, Sequence};

/// Reads certificate and key and checks that they belong together.
pub(super) fn certified(cert: &Path, key: &Path) -> io::Result<CertifiedKey> {
    let chain = certificates(cert)?;
    let der = PrivateKeyDer::from_pem_file(key).map_err(|e| match e {
        pem::Error::NoItemsFound => invalid(key, &"holds no private key that can be read; an encrypted one cannot be"),
        e => invalid(key, &e),
    })?;
    let signing = aws_lc_rs::default_provider().key_provider.load_private_key(der).map_err(|e| invalid(key, &e))?;
    let pair = CertifiedKey::new(chain, signing);
    pair.keys_match().map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => invalid(key, &format!("is not the key of {}", cert.display())),
        e => invalid(cert, &e),
    })?;
    Ok(pair)
}

/// The authorities of a bundle; each must be one that could sign.
pub(super) fn authorities(path: &Path) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|e| invalid(path, &e))?;
    }
    Ok(roots)
}

/// Clients end the connection over a staple that is none, so what is no successful response is an error here.
pub(super) fn ocsp(path: &Path) -> io::Result<Vec<u8>> {
    let der = std::fs::read(path).map_err(|e| invalid(path, &e))?;
    // RFC 6960 §4.2.1: a SEQUENCE whose first part is the status, 0 = successful, and then the response.
    let response = Sequence::from_der(&der).ok().filter(|(rest, _)| rest.is_empty());
    let status = response.and_then(|(_, all)| Enumerated::from_der(&all.content).ok().map(|(_, status)| status.0));
    match status {
        Some(0) => Ok(der),
        Some(status) => Err(invalid(path, &format!("says that the authority had no answer (OCSP status {status})"))),
        None => Err(invalid(path, &"is no OCSP response in DER")),
    }
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|e| invalid(path, &e))?.collect();
    let chain = chain.map_err(|e| invalid(path, &e))?;
    if chain.is_empty() {
        return Err(invalid(path, &"holds no certificate"));
    }
    Ok(chain)
}

pub(super) fn invalid(path: &Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
}
