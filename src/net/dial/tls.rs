//! TLS towards upstreams: which authorities count, what Doorward shows of itself, which protocol is asked for, and why
//! a handshake failed.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::config::settings::UpstreamOptions;
use crate::error::{Error, Kind, Reason};
use crate::net::tls::client_certificate;

/// SECURITY: sessions are resumed within one `ClientConfig` only. Whoever shows a certificate, or trusts an authority of
/// its own, has a config to itself; what the machine's roots vouch for is shared by all who show nothing.
pub(super) fn client_config(options: &UpstreamOptions) -> Result<Arc<ClientConfig>, Error> {
    if options.ca.is_some() || options.client_cert.is_some() {
        return make(options).map(Arc::new);
    }
    static NATIVE: [OnceLock<Arc<ClientConfig>>; 2] = [OnceLock::new(), OnceLock::new()];
    let [http1, http2] = &NATIVE;
    let native = if options.http2 { http2 } else { http1 };
    if let Some(config) = native.get() {
        return Ok(Arc::clone(config));
    }
    let config = Arc::new(make(options)?);
    Ok(Arc::clone(native.get_or_init(|| config)))
}

fn make(options: &UpstreamOptions) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(match &options.ca {
        Some(path) => authorities(path)?,
        None => rustls_native_certs::load_native_certs().certs,
    });
    if added == 0 {
        return Err(Error::new(Kind::Internal, "no usable root certificate for https upstreams: set `ca`"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::new(Kind::Internal, "TLS cannot be set up").because(e))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    if let Some((cert, key)) = &options.client_cert {
        let shown = client_certificate(cert, key)
            .map_err(|e| Error::new(Kind::Internal, "upstream_options: client_cert, client_key").because(e))?;
        config.client_auth_cert_resolver = Arc::new(shown);
    }
    config.alpn_protocols = vec![if options.http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(config)
}

fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    certificates
        .map_err(|e| Error::new(Kind::Internal, format!("cannot read the ca file {}", path.display())).because(e))
}

/// ALPN (RFC 7301) chose HTTP/2.
pub(super) fn speaks_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}

/// Why a TLS connection broke, if TLS is why.
pub(super) fn reason(error: &io::Error) -> Option<Reason> {
    Some(match error.get_ref()?.downcast_ref()? {
        rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => Reason::NoHttp2,
        rustls::Error::AlertReceived(_) => Reason::TlsAlert,
        rustls::Error::InvalidCertificate(why) => match why {
            // The second: an authority that is known here has the name of the one that signed, and another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Reason::UnknownCa,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Reason::NameMismatch,
            _ => Reason::Certificate,
        },
        _ => Reason::Tls,
    })
}
