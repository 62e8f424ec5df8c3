//! Connections to upstreams: TCP, TLS over TCP, Unix sockets. Resolves anew at every connect and never keeps one: the
//! pool is `upstream`'s.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::{Host, Url};

use crate::config::settings::{Target, UpstreamOptions};
use crate::error::{Error, Kind};

/// Where to connect to, and how.
pub struct Endpoint {
    place: Place,
    connect_timeout: Duration,
}

enum Place {
    Tcp { host: String, port: u16, tls: Option<(TlsConnector, ServerName<'static>)> },
    Unix(PathBuf),
}

impl Endpoint {
    /// Reads the `ca` file or the machine's root certificates where TLS is spoken; `Kind::Internal` if that fails.
    pub fn new(target: &Target, options: &UpstreamOptions) -> Result<Self, Error> {
        let place = match target {
            Target::Url(url) => Self::of_url(url, options.ca.as_deref())?,
            Target::Unix(path) => Place::Unix(path.clone()),
            Target::Status(_) => return Err(Error::new(Kind::Internal, "a status: upstream has no endpoint")),
        };
        Ok(Self { place, connect_timeout: options.connect_timeout })
    }

    fn of_url(url: &Url, ca: Option<&Path>) -> Result<Place, Error> {
        let host = url.host().ok_or_else(|| Error::new(Kind::Internal, "the upstream's URL has no host"))?;
        // IPv6 without its brackets, as the resolver and TLS want it.
        let host = match host {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(ip) => ip.to_string(),
            Host::Ipv6(ip) => ip.to_string(),
        };
        let port = url.port_or_known_default().unwrap_or(80);
        let tls = if url.scheme() == "https" {
            let name = ServerName::try_from(host.clone())
                .map_err(|e| Error::new(Kind::Internal, "the upstream's host cannot be a TLS name").because(e))?;
            Some((TlsConnector::from(client_config(ca)?), name))
        } else {
            None
        };
        Ok(Place::Tcp { host, port, tls })
    }

    /// Tries the host's addresses in turn. `ErrorKind::TimedOut` when all of it, TLS too, takes longer than allowed.
    pub async fn connect(&self) -> io::Result<Stream> {
        match tokio::time::timeout(self.connect_timeout, self.dial()).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no connection within connect_timeout")),
        }
    }

    async fn dial(&self) -> io::Result<Stream> {
        match &self.place {
            Place::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
            Place::Tcp { host, port, tls } => {
                let stream = self.first_that_answers(host, *port).await?;
                stream.set_nodelay(true)?;
                match tls {
                    None => Ok(Stream::Tcp(stream)),
                    Some((connector, name)) => {
                        let stream = connector.connect(name.clone(), stream).await?;
                        Ok(Stream::Tls(Box::new(stream)))
                    }
                }
            }
        }
    }

    /// Each address gets its share of the time that is left, so that a black hole does not hide the address behind it.
    async fn first_that_answers(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let deadline = Instant::now() + self.connect_timeout;
        let addresses: Vec<_> = lookup_host((host, port)).await?.collect();
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for (address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
            let share = deadline.saturating_duration_since(Instant::now()) / u32::try_from(left).unwrap_or(u32::MAX);
            match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failure = error,
                Err(_) => failure = io::Error::new(io::ErrorKind::TimedOut, "the address does not answer"),
            }
        }
        Err(failure)
    }
}

/// The roots of `ca` alone, else the machine's; those are read once.
fn client_config(ca: Option<&Path>) -> Result<Arc<ClientConfig>, Error> {
    static NATIVE: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(path) = ca {
        let unreadable =
            |e| Error::new(Kind::Internal, format!("cannot read the ca file {}", path.display())).because(e);
        let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        return config_of(certificates.map_err(unreadable)?);
    }
    if let Some(config) = NATIVE.get() {
        return Ok(Arc::clone(config));
    }
    let config = config_of(rustls_native_certs::load_native_certs().certs)?;
    Ok(Arc::clone(NATIVE.get_or_init(|| config)))
}

fn config_of(certificates: Vec<CertificateDer<'static>>) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(Error::new(Kind::Internal, "no usable root certificate for https upstreams: set `ca`"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::new(Kind::Internal, "TLS cannot be set up").because(e))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A connection, ready for HTTP.
pub enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

/// Calls the method on whichever stream it is.
macro_rules! on_each {
    ($stream:expr, $method:ident($($argument:expr),*)) => {
        match $stream {
            Stream::Tcp(s) => Pin::new(s).$method($($argument),*),
            Stream::Tls(s) => Pin::new(s.as_mut()).$method($($argument),*),
            Stream::Unix(s) => Pin::new(s).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_each!(self.get_mut(), poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on_each!(self.get_mut(), poll_write(cx, buf))
    }

    // PERF: without these two hyper would flatten head and body into one buffer.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_each!(self.get_mut(), poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(s) => s.is_write_vectored(),
            Self::Tls(s) => s.is_write_vectored(),
            Self::Unix(s) => s.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_each!(self.get_mut(), poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_each!(self.get_mut(), poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, UnixListener};

    use super::*;

    fn options(connect_timeout: Duration) -> UpstreamOptions {
        UpstreamOptions { connect_timeout, ..UpstreamOptions::default() }
    }

    fn endpoint(url: &str) -> Endpoint {
        Endpoint::new(&Target::Url(url.parse().unwrap()), &options(Duration::from_secs(5))).unwrap()
    }

    #[tokio::test]
    async fn tcp_without_delay_and_vectored() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // `localhost` may resolve to ::1 first: the next address is tried.
        let endpoint = endpoint(&format!("http://localhost:{}", listener.local_addr().unwrap().port()));
        let mut stream = endpoint.connect().await.unwrap();
        assert!(matches!(&stream, Stream::Tcp(s) if s.nodelay().unwrap()) && stream.is_write_vectored());
        stream.write_all(b"hello").await.unwrap();
        let mut text = [0; 5];
        listener.accept().await.unwrap().0.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"hello");
    }

    #[tokio::test]
    async fn unix_sockets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let endpoint = Endpoint::new(&Target::Unix(path), &options(Duration::from_secs(5))).unwrap();
        assert!(matches!(endpoint.connect().await, Ok(Stream::Unix(_))));
    }

    #[tokio::test]
    async fn nobody_there() {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        assert!(endpoint(&format!("http://127.0.0.1:{port}")).connect().await.is_err());
    }

    #[tokio::test]
    async fn a_handshake_that_never_ends_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, CA).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
        let options = UpstreamOptions { ca: Some(ca), ..options(Duration::from_millis(20)) };
        let endpoint = Endpoint::new(&Target::Url(url), &options).unwrap();
        assert_eq!(endpoint.connect().await.err().map(|e| e.kind()), Some(io::ErrorKind::TimedOut));
    }

    #[test]
    fn a_ca_file_that_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let build = || {
            let options = UpstreamOptions { ca: Some(path.clone()), ..options(Duration::from_secs(1)) };
            Endpoint::new(&Target::Url("https://app.example.com".parse().unwrap()), &options).map(drop)
        };
        assert!(build().is_err());
        std::fs::write(&path, "nothing").unwrap();
        assert!(build().is_err());
        std::fs::write(&path, CA).unwrap();
        assert!(build().is_ok());
    }

    const CA: &str = "-----BEGIN CERTIFICATE-----\n\
        MIIBjDCCATOgAwIBAgIUBLrAEhuDyVrVs633V1yDMSg8jHEwCgYIKoZIzj0EAwIw\n\
        GzEZMBcGA1UEAwwQRG9vcndhcmQgdGVzdCBDQTAgFw0yNjExMjQxMDAwMDhaGA8y\n\
        MTI2MTAzMTEwMDAwOFowGzEZMBcGA1UEAwwQRG9vcndhcmQgdGVzdCBDQTBZMBMG\n\
        ByqGSM49AgEGCCqGSM49AwEHA0IABNXknxGN9FnN8FwRwoFZTG0FBcXTD9M+Xt5V\n\
        xnvFcix2A55UEIOUoIbzP+4j0FWmGI7hXg/bVP+VKG64mblMgHajUzBRMB0GA1Ud\n\
        DgQWBBTJ9m4PkOhHCot6YxuCUa0ShN/ypTAfBgNVHSMEGDAWgBTJ9m4PkOhHCot6\n\
        YxuCUa0ShN/ypTAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0cAMEQCID93\n\
        T1Ns9DhdWTLYwp3zhBig4A+rmdivxedTnoSu4URJAiAEtosROvI8Wdnc3S4Kt+bO\n\
        YIHLzTkPfMvfTURPNha3Rg==\n\
        -----END CERTIFICATE-----\n";
}
