//! A small authority of its own, certificates of it, and a client that trusts it alone.

use std::io::{BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::client::{ClientSessionMemoryCache, Resumption, WantsClientCert};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, StreamOwned};

use super::Answer;
use super::browser::read;

/// `ca.pem`, and of the names that it was made with `cert.pem` and `key.pem`.
pub struct Pki {
    dir: tempfile::TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    pub fn new(names: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
        let pki = Self { dir, ca };
        pki.issue(names, "cert.pem", "key.pem");
        pki
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The pair that it was made with, as `tls.crt` and `tls.key`.
    pub fn copy_to(&self, dir: &Path) {
        std::fs::copy(self.path("cert.pem"), dir.join("tls.crt")).unwrap();
        std::fs::copy(self.path("key.pem"), dir.join("tls.key")).unwrap();
    }

    /// To `localhost`.
    pub fn connect(&self, port: u16) -> std::io::Result<BufReader<StreamOwned<ClientConnection, TcpStream>>> {
        Connection::open(&client(&self.path("ca.pem")), "localhost", port).map(|connection| connection.tls)
    }

    /// Writes a certificate with a new key of its own.
    pub fn issue(&self, names: &[&str], cert: &str, key: &str) {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let pair = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&pair, &self.ca).unwrap();
        std::fs::write(self.path(cert), certificate.pem()).unwrap();
        std::fs::write(self.path(key), pair.serialize_pem()).unwrap();
    }

    /// The settings of a client that trusts this authority and shows a certificate of it.
    pub fn shows(&self, params: CertificateParams) -> ClientConfig {
        let pair = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&pair, &self.ca).unwrap();
        let key = PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
        trusting(&self.path("ca.pem")).with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
    }
}

/// The settings of a client that trusts `ca` only. Clones resume each other's sessions.
pub fn client(ca: &Path) -> ClientConfig {
    let mut config = trusting(ca).with_no_client_auth();
    config.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(32)));
    config
}

fn trusting(ca: &Path) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
}

/// A connection over TLS that stays open.
pub struct Connection {
    pub tls: BufReader<StreamOwned<ClientConnection, TcpStream>>,
    host: String,
}

impl Connection {
    pub fn open(config: &ClientConfig, host: &str, port: u16) -> std::io::Result<Self> {
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let mut connection = ClientConnection::new(Arc::new(config.clone()), name).map_err(std::io::Error::other)?;
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        let tls = BufReader::new(StreamOwned::new(connection, stream));
        Ok(Self { tls, host: format!("{host}:{port}") })
    }

    pub fn get(&mut self, path: &str) -> std::io::Result<Answer> {
        let host = self.host.clone();
        self.ask(&format!("GET {path}"), &host, "")
    }

    /// `what`: method and target; `more`: whole lines.
    pub fn ask(&mut self, what: &str, host: &str, more: &str) -> std::io::Result<Answer> {
        let head = format!("{what} HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\n{more}\r\n");
        self.tls.get_mut().write_all(head.as_bytes())?;
        read(&mut self.tls, "GET").ok_or_else(|| std::io::Error::other("no answer"))
    }

    /// What the server showed of itself.
    pub fn leaf(&self) -> Vec<u8> {
        self.tls.get_ref().conn.peer_certificates().unwrap()[0].to_vec()
    }
}

pub fn der(path: &Path) -> Vec<u8> {
    CertificateDer::from_pem_file(path).unwrap().to_vec()
}
