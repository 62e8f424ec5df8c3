//! `[server.tls]`: certificates, and those that clients show.

use super::read::Table;
use super::server::listen;
use super::settings::{ClientCertificates, KeyPair, Tls, TlsVersion};
use super::values::seconds;

/// None: reported.
pub(super) fn tls(table: Table<'_>) -> Option<Tls> {
    let first = key_pair(&table);
    let mut certificates: Vec<KeyPair> = first.into_iter().collect();
    let complete = !certificates.is_empty();
    for more in table.tables("sni").unwrap_or_default() {
        certificates.extend(key_pair(&more));
        more.close();
    }
    let ca = table.path("client_ca");
    let required = table.choice("client_auth", &[("required", true), ("optional", false)]);
    if required.is_some() && ca.is_none() && table.lacks("client_ca") {
        table.missing("client_ca", "Write the PEM file of the authority that signs the certificates of clients.");
    }
    let versions = [("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)];
    let tls = Tls {
        certificates,
        client_certificates: ca.map(|ca| ClientCertificates { ca, required: required.unwrap_or(true) }),
        min_version: table.choice("min_version", &versions).unwrap_or(TlsVersion::Tls12),
        hsts: table.duration("hsts", seconds(0)),
        redirect_listen: table.list("redirect_listen", listen).unwrap_or_default(),
    };
    table.close();
    complete.then_some(tls)
}

fn key_pair(table: &Table<'_>) -> Option<KeyPair> {
    let (cert, key) = (table.path("cert"), table.path("key"));
    for (name, value) in [("cert", &cert), ("key", &key)] {
        if value.is_none() && table.lacks(name) {
            table.missing(name, "Write the path of the PEM file; without TLS leave out the whole section.");
        }
    }
    let ocsp = table.path("ocsp");
    Some(KeyPair { cert: cert?, key: key?, ocsp })
}
