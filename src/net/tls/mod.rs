//! TLS towards clients: TLS 1.2 and 1.3, HTTP/1.1 by ALPN, session tickets with rotating keys. And the certificate that
//! Doorward itself shows where it is the client.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, ServerConnection};
use tokio_rustls::TlsAcceptor;

use crate::config::settings::Tls;

/// What was agreed and shown as a connection began.
#[derive(Clone, Debug, Default)]
pub struct Handshake {
    /// The host that the client asked for (SNI, RFC 6066 §3), lower case.
    pub server_name: Option<Arc<str>>,
    /// ALPN chose `h2`.
    pub http2: bool,
    /// Verified against `client_ca`.
    pub client: Option<Arc<ClientCertificate>>,
}

/// A client's certificate, leaf first.
#[derive(Debug)]
pub struct ClientCertificate {
    pub chain: Vec<CertificateDer<'static>>,
}

impl Handshake {
    /// What `connection` says of its handshake, which is complete.
    pub fn of(connection: &ServerConnection) -> Self {
        let chain = connection.peer_certificates().filter(|chain| !chain.is_empty());
        Self {
            server_name: connection.server_name().map(|name| Arc::from(name.to_ascii_lowercase())),
            http2: connection.alpn_protocol() == Some(b"h2"),
            client: chain.map(|chain| {
                Arc::new(ClientCertificate { chain: chain.iter().map(|c| c.clone().into_owned()).collect() })
            }),
        }
    }
}

/// Reads certificate and key and checks that they belong together.
pub fn acceptor(settings: &Tls) -> io::Result<TlsAcceptor> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let first = settings.certificates.first().ok_or_else(|| io::Error::other("no certificate"))?;
    let chain = certificates(&first.cert)?;
    let key = PrivateKeyDer::from_pem_file(&first.key).map_err(|e| invalid(&first.key, &e))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| invalid(&first.cert, &e))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| invalid(&first.cert, &e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(|e| invalid(&first.cert, &e))?;
    // No 0-RTT: early data can be replayed (YX-02).
    config.max_early_data_size = 0;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What Doorward shows of itself where a server asks: certificate and key, which must belong together.
pub fn client_certificate(cert: &Path, key: &Path) -> io::Result<SingleCertAndKey> {
    let chain = certificates(cert)?;
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|e| invalid(key, &e))?;
    let pair = CertifiedKey::from_der(chain, key_der, &aws_lc_rs::default_provider()).map_err(|e| invalid(key, &e))?;
    Ok(SingleCertAndKey::from(pair))
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|e| invalid(path, &e))?.collect();
    let chain = chain.map_err(|e| invalid(path, &e))?;
    if chain.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{}: holds no certificate", path.display())));
    }
    Ok(chain)
}

fn invalid(path: &Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
}
