//! Connections to upstreams: TCP, TLS over TCP, Unix sockets. Keeps the addresses of a host name, and never a connection:
//! the pool is `upstream`'s.

mod addresses;
mod stream;
mod tls;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use self::addresses::Addresses;
pub use self::addresses::Origin;
pub use self::stream::Stream;
use super::keepalive::keep_alive;
use crate::config::settings::{Target, UpstreamOptions};
use crate::error::{Error, Kind, Reason};

/// Where to connect to, and how.
pub struct Endpoint {
    place: Place,
    connect_timeout: Duration,
}

enum Place {
    Tcp { addresses: Addresses, tls: Option<Tls> },
    Unix(PathBuf),
}

struct Tls {
    connector: TlsConnector,
    /// Asked for (SNI, RFC 6066 §3) and looked for in the certificate.
    name: ServerName<'static>,
    http2: bool,
}

impl Endpoint {
    /// Reads the files of `options`, or the machine's root certificates, where TLS is spoken; `Kind::Internal` if that
    /// fails. Made anew to read them again.
    pub fn new(target: &Target, options: &UpstreamOptions) -> Result<Self, Error> {
        let place = match target {
            Target::Url(url) => Self::of_url(url, options)?,
            Target::Unix(path) => Place::Unix(path.clone()),
            Target::Status(_) => return Err(Error::new(Kind::Internal, "a status: upstream has no endpoint")),
        };
        Ok(Self { place, connect_timeout: options.connect_timeout })
    }

    fn of_url(url: &Url, options: &UpstreamOptions) -> Result<Place, Error> {
        let host = url.host().ok_or_else(|| Error::new(Kind::Internal, "the upstream's URL has no host"))?;
        // IPv6 without its brackets, as the resolver and TLS want it.
        let host = match host {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(ip) => ip.to_string(),
            Host::Ipv6(ip) => ip.to_string(),
        };
        let port = url.port_or_known_default().unwrap_or(80);
        let tls = if url.scheme() == "https" {
            let name = options.server_name.as_deref().unwrap_or(&host).trim_matches(['[', ']']).to_owned();
            let name = ServerName::try_from(name)
                .map_err(|e| Error::new(Kind::Internal, "the upstream's host cannot be a TLS name").because(e))?;
            let connector = TlsConnector::from(tls::client_config(options)?);
            Some(Tls { connector, name, http2: options.http2 })
        } else {
            None
        };
        Ok(Place::Tcp { addresses: Addresses::new(host, port), tls })
    }

    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Tries the host's addresses in turn. All of it, TLS too, takes no longer than allowed.
    ///
    /// # Errors
    /// `UpstreamFailed`, `UpstreamTimeout`, with a reason.
    pub async fn connect(&self) -> Result<Stream, Error> {
        match tokio::time::timeout(self.connect_timeout, self.dial()).await {
            Ok(result) => result,
            Err(_) => Err(Error::upstream(Reason::ConnectTimeout)),
        }
    }

    async fn dial(&self) -> Result<Stream, Error> {
        match &self.place {
            Place::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix).map_err(unconnected),
            Place::Tcp { addresses, tls } => {
                let stream = self.first_that_answers(addresses).await?;
                prepare(&stream).map_err(unconnected)?;
                match tls {
                    None => Ok(Stream::Tcp(stream)),
                    Some(tls) => tls.handshake(stream).await,
                }
            }
        }
    }

    /// Each address gets its share of the time that is left, so that a black hole does not hide the address behind it.
    async fn first_that_answers(&self, addresses: &Addresses) -> Result<TcpStream, Error> {
        let deadline = Instant::now() + self.connect_timeout;
        let unresolved = |e: io::Error| Error::upstream(Reason::Dns).because(e);
        let mut tried = Vec::new();
        let mut failure = Error::upstream(Reason::Dns);
        let mut list = addresses.in_turn().await.map_err(unresolved)?;
        loop {
            for (address, left) in list.iter().zip((1..=list.len()).rev()) {
                let left = u32::try_from(left).unwrap_or(u32::MAX);
                let share = deadline.saturating_duration_since(Instant::now()) / left;
                match tokio::time::timeout(share, TcpStream::connect(address)).await {
                    Ok(Ok(stream)) => return Ok(stream),
                    Ok(Err(error)) => failure = unconnected(error),
                    Err(_) => failure = Error::upstream(Reason::ConnectTimeout),
                }
                addresses.failed(address);
            }
            tried.append(&mut list);
            // What was known may be old: a container that was started again has another address.
            if !addresses.refresh_seldom().await.is_ok_and(|changed| changed) {
                return Err(failure);
            }
            list = addresses.in_turn().await.map_err(unresolved)?;
            list.retain(|address| !tried.contains(address));
            if list.is_empty() {
                return Err(failure);
            }
        }
    }

    /// Whether it is a host name, whose addresses may change.
    pub fn is_named(&self) -> bool {
        matches!(&self.place, Place::Tcp { addresses, .. } if !addresses.is_fixed())
    }

    /// Looks the host name up anew; true where its addresses are others now.
    pub async fn resolve(&self) -> io::Result<bool> {
        match &self.place {
            Place::Tcp { addresses, .. } => addresses.refresh().await,
            Place::Unix(_) => Ok(false),
        }
    }

    /// As if the host name had been looked up, and these were its addresses.
    #[cfg(test)]
    pub fn found(&self, found: &[&str]) -> bool {
        let found = found.iter().map(|address| address.parse().expect("an address that a test wrote")).collect();
        matches!(&self.place, Place::Tcp { addresses, .. } if addresses.found(found))
    }

    /// What `stream` leads to.
    pub fn origin(&self, stream: &Stream) -> Origin {
        match &self.place {
            Place::Tcp { addresses, .. } => addresses.origin(stream.peer()),
            Place::Unix(_) => Origin::default(),
        }
    }

    /// Whether that is still a place of this endpoint.
    pub fn has(&self, origin: &mut Origin) -> bool {
        match &self.place {
            Place::Tcp { addresses, .. } => addresses.has(origin),
            Place::Unix(_) => true,
        }
    }
}

impl Tls {
    async fn handshake(&self, stream: TcpStream) -> Result<Stream, Error> {
        let stream = self
            .connector
            .connect(self.name.clone(), stream)
            .await
            .map_err(|error| Error::upstream(broken_by(&error).unwrap_or(Reason::Tls)).because(error))?;
        if self.http2 && !tls::speaks_http2(&stream) {
            return Err(Error::upstream(Reason::NoHttp2).because("ALPN did not choose h2"));
        }
        Ok(Stream::Tls(Box::new(stream)))
    }
}

/// Why a connection broke, if what is known of it says more than that it did. TLS 1.3 tells a client that its certificate
/// is not good enough only when it reads.
pub fn broken_by(error: &io::Error) -> Option<Reason> {
    tls::reason(error)
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    keep_alive(&SockRef::from(stream))
}

fn unconnected(error: io::Error) -> Error {
    let reason = match error.kind() {
        io::ErrorKind::ConnectionRefused => Reason::Refused,
        io::ErrorKind::TimedOut => Reason::ConnectTimeout,
        _ => Reason::Connect,
    };
    Error::upstream(reason).because(error)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, UnixListener};

    use super::*;

    fn options(connect_timeout: Duration) -> UpstreamOptions {
        UpstreamOptions { connect_timeout, ..UpstreamOptions::default() }
    }

    fn endpoint(url: &str) -> Endpoint {
        Endpoint::new(&Target::Url(url.parse().unwrap()), &options(Duration::from_secs(5))).unwrap()
    }

    async fn reason(endpoint: &Endpoint) -> Option<Reason> {
        endpoint.connect().await.err().and_then(|e| e.reason())
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
        assert_eq!(reason(&endpoint(&format!("http://127.0.0.1:{port}"))).await, Some(Reason::Refused));
        let dir = tempfile::tempdir().unwrap();
        let unix = |name: &str| Endpoint::new(&Target::Unix(dir.path().join(name)), &options(Duration::from_secs(5)));
        assert_eq!(reason(&unix("none").unwrap()).await, Some(Reason::Connect));
        drop(UnixListener::bind(dir.path().join("left")).unwrap());
        assert_eq!(reason(&unix("left").unwrap()).await, Some(Reason::Refused));
        // A label that is too long for DNS, so that nobody has to be asked.
        assert_eq!(reason(&endpoint(&format!("http://{}.test:1", "x".repeat(64)))).await, Some(Reason::Dns));
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
        assert_eq!(endpoint.connect().await.err().map(|e| e.reason()), Some(Some(Reason::ConnectTimeout)));
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
