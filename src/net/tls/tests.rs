use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_RSA_SHA256};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, HandshakeKind, SignatureScheme};
use std::sync::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as ClientStream;

use super::*;
use crate::config::settings;

mod choice;
mod clients;
mod hellos;

/// A directory of certificates that one authority signed.
struct Pki {
    dir: tempfile::TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
        Self { dir, ca }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes `NAME.crt` and `NAME.key` for these hosts.
    fn pair(&self, name: &str, hosts: &[&str]) -> settings::KeyPair {
        self.pair_of(name, hosts, &KeyPair::generate().unwrap(), |_| ())
    }

    fn pair_of(
        &self,
        name: &str,
        hosts: &[&str],
        key: &KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> settings::KeyPair {
        let hosts: Vec<String> = hosts.iter().map(|h| (*h).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        change(&mut params);
        let certificate = params.signed_by(key, &self.ca).unwrap();
        let (cert, key_file) = (self.path(&format!("{name}.crt")), self.path(&format!("{name}.key")));
        std::fs::write(&cert, certificate.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        settings::KeyPair { cert, key: key_file, ocsp: None }
    }
}

fn tls(certificates: Vec<settings::KeyPair>) -> Tls {
    Tls {
        certificates,
        client_certificates: None,
        min_version: TlsVersion::Tls12,
        hsts: Duration::ZERO,
        redirect_listen: Vec::new(),
    }
}

fn acceptor(settings: &Tls, before: Option<&Acceptor>) -> Acceptor {
    Acceptor::new(settings, 8, before).unwrap()
}

/// A client that takes any certificate and remembers what it was shown with it.
#[derive(Debug)]
struct Seen {
    ocsp: Mutex<Vec<u8>>,
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.ocsp.lock().unwrap() = ocsp.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

/// One browser: what it was given it uses again.
struct Client {
    config: ClientConfig,
    seen: Arc<Seen>,
}

const ECDSA: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;
const RSA: SignatureScheme = SignatureScheme::RSA_PSS_SHA256;

impl Client {
    fn new() -> Self {
        Self::with(&[&TLS13, &TLS12], &[ECDSA, RSA, SignatureScheme::RSA_PKCS1_SHA256])
    }

    fn with(versions: &[&'static rustls::SupportedProtocolVersion], schemes: &[SignatureScheme]) -> Self {
        let seen = Arc::new(Seen { ocsp: Mutex::default(), schemes: schemes.to_vec() });
        Self { config: Self::configured(aws_lc_rs::default_provider(), versions, &seen), seen }
    }

    fn configured(
        provider: CryptoProvider,
        versions: &[&'static rustls::SupportedProtocolVersion],
        seen: &Arc<Seen>,
    ) -> ClientConfig {
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(seen) as _)
            .with_no_client_auth();
        config.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(32)));
        config.enable_early_data = true;
        config
    }

    fn showing(mut self, pair: &settings::KeyPair) -> Self {
        let shown = client_certificate(&pair.cert, &pair.key).unwrap();
        self.config.client_auth_cert_resolver = Arc::new(shown);
        self
    }

    /// A handshake with `name`, an answer of a few bytes, and what either side says of it.
    async fn connect(&self, to: &Arc<Acceptor>, name: &str) -> io::Result<Met> {
        let (ours, theirs) = duplex(64 * 1024);
        let server = tokio::spawn(serve(Arc::clone(to), theirs));
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut stream = TlsConnector::from(Arc::new(self.config.clone())).connect(name, ours).await?;
        // With TLS 1.3 tickets come, and refusals too, after what the client takes for the end of the handshake.
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes).await;
        let handshake = server.await.unwrap()?;
        read?;
        assert_eq!(bytes, b"hello");
        Ok(Met { stream, handshake })
    }
}

struct Met {
    stream: ClientStream<DuplexStream>,
    handshake: Handshake,
}

impl Met {
    fn kind(&self) -> HandshakeKind {
        self.stream.get_ref().1.handshake_kind().unwrap()
    }

    fn leaf(&self) -> &[u8] {
        self.stream.get_ref().1.peer_certificates().unwrap()[0].as_ref()
    }
}

async fn serve(acceptor: Arc<Acceptor>, stream: DuplexStream) -> io::Result<Handshake> {
    let limit = Instant::now() + Duration::from_secs(10);
    let (mut stream, handshake) = acceptor.accept(stream, limit).await.map_err(|failed| match failed {
        Failed::Broken(error) => error,
        Failed::Busy => io::Error::other("busy"),
        Failed::Closed => io::Error::other("closed"),
        Failed::Slow => io::Error::other("slow"),
        Failed::Text(_) => io::Error::other("text"),
    })?;
    stream.write_all(b"hello").await?;
    stream.shutdown().await?;
    Ok(handshake)
}

fn der(path: &Path) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject as _;
    CertificateDer::from_pem_file(path).unwrap().to_vec()
}
