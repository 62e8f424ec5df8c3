//! The PROXY protocol from outside: whose word about the client counts, and what becomes of connections without it. Rows
//! W-01, FX-12.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use support::browser::read;
use support::gateway::Extra;
use support::{Answer, Gateway, Provider, Upstream, eventually};

const ROUTES: &str = "\
    [[route]]\npath = \"/\"\nupstream = \"UPSTREAM\"\naccess = \"public\"\n\
    [[route]]\npath = \"/inside\"\nupstream = \"UPSTREAM\"\naccess = \"policy\"\n\
    allow = [{ network = \"203.0.113.0/24\" }]\n";

/// 127.0.0.1 is the balancer, 127.0.0.3 a proxy that reaches it.
struct Balanced {
    gateway: Gateway,
    upstream: Upstream,
    _provider: Provider,
}

impl Balanced {
    fn start(env: &[(&str, &str)]) -> Self {
        let (provider, upstream) = (Provider::start(), Upstream::start());
        let server = "trusted_proxies = [\"127.0.0.1\", \"127.0.0.3\"]\nproxy_protocol = true\n".to_owned();
        let env = env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let extra = Extra { server, env, routes: Some(ROUTES.to_owned()), ..Extra::default() };
        let gateway = Gateway::with(provider.issuer(), &upstream, extra);
        Self { gateway, upstream, _provider: provider }
    }

    fn connect(&self, from: [u8; 4]) -> TcpStream {
        connect(from, self.gateway.port)
    }

    /// `start`, then a request for `path` with `more` fields; None: closed without an answer.
    fn get(&self, from: [u8; 4], start: &[u8], path: &str, more: &str) -> Option<Answer> {
        ask(self.connect(from), self.gateway.port, start, path, more)
    }

    fn headers(&self, outcome: &str) -> f64 {
        self.gateway.metric(&format!("doorward_proxy_protocol_total{{outcome=\"{outcome}\"}}"))
    }
}

fn connect(from: [u8; 4], port: u16) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.into()
}

fn ask(mut stream: impl Read + Write, port: u16, start: &[u8], path: &str, more: &str) -> Option<Answer> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{more}Connection: close\r\n\r\n");
    // One write: what belongs to the request comes with the header.
    let _ = stream.write_all(&[start, request.as_bytes()].concat());
    read(&mut BufReader::new(stream), "GET")
}

const BALANCER: [u8; 4] = [127, 0, 0, 1];
const STRANGER: [u8; 4] = [127, 0, 0, 2];

fn v1(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 198.51.100.1 56324 443\r\n").into_bytes()
}

/// With a TLV of another 300 bytes.
fn v2(command: u8, client: [u8; 4]) -> Vec<u8> {
    let start = b"\r\n\r\n\0\r\nQUIT\n";
    let addresses = [&client[..], &[198, 51, 100, 1, 220, 4, 1, 187]].concat();
    let length = 12 + 3 + 300_u16;
    [&start[..], &[command, 0x11], &length.to_be_bytes(), &addresses, &[4, 1, 44], &[0; 300]].concat()
}

#[test]
fn w_01_the_client_is_whoever_the_balancer_says_and_its_own_word_counts_no_more() {
    let balanced = Balanced::start(&[]);
    let forged = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Host: evil.test\r\n";
    for start in [v1("192.0.2.7"), v2(0x21, [192, 0, 2, 7])] {
        let answer = balanced.get(BALANCER, &start, "/x", forged).unwrap();
        assert_eq!(answer.status, 200);
        let seen = balanced.upstream.last();
        assert_eq!(seen.all("x-forwarded-for"), ["192.0.2.7"]);
        assert_eq!(seen.all("x-forwarded-host"), [format!("127.0.0.1:{}", balanced.gateway.port)]);
        // What rules compare, too.
        assert_ne!(balanced.get(BALANCER, &start, "/inside", forged).unwrap().status, 200);
    }
    assert_eq!(balanced.get(BALANCER, &v1("203.0.113.5"), "/inside", "").unwrap().status, 200);
    eventually("the access log names the client", || balanced.gateway.log().contains("203.0.113.5"));
    // Another proxy behind the balancer: its own word counts where it is trusted itself.
    balanced.get(BALANCER, &v1("127.0.0.3"), "/x", "X-Forwarded-For: 203.0.113.9\r\n").unwrap();
    assert_eq!(balanced.upstream.last().all("x-forwarded-for"), ["203.0.113.9, 127.0.0.3"]);
    assert_eq!(balanced.headers("ok"), 6.0);
}

/// Somebody else's idea of the header.
#[test]
fn w_01_curl_speaks_it() {
    let balanced = Balanced::start(&[]);
    let url = format!("http://127.0.0.1:{}/x", balanced.gateway.port);
    let curl = |more: &[&str]| {
        Command::new("curl").args(["-s", "-o", "/dev/null", "-w", "%{http_code}"]).args(more).arg(&url).output()
    };
    let Ok(told) = curl(&["--haproxy-protocol"]) else {
        assert!(std::env::var_os("CI").is_none(), "curl is not installed");
        println!("skipped: curl is not installed");
        return;
    };
    assert_eq!(String::from_utf8_lossy(&told.stdout), "200");
    assert_eq!(balanced.headers("ok"), 1.0);
    assert_eq!(String::from_utf8_lossy(&curl(&[]).unwrap().stdout), "000", "without");
}

#[test]
fn w_01_a_balancers_own_connection_is_its_own() {
    let balanced = Balanced::start(&[]);
    for start in [v2(0x20, [192, 0, 2, 7]), b"PROXY UNKNOWN\r\n".to_vec()] {
        balanced.get(BALANCER, &start, "/x", "").unwrap();
        assert_eq!(balanced.upstream.last().all("x-forwarded-for"), ["127.0.0.1"]);
    }
    assert_eq!(balanced.headers("local"), 2.0);
    // A port that is only looked at is no fault.
    for _ in 0..3 {
        let stream = balanced.connect(BALANCER);
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!((&stream).read(&mut [0]).unwrap(), 0);
    }
    assert_eq!(balanced.headers("missing") + balanced.headers("invalid"), 0.0);
}

#[test]
fn w_01_a_balancer_must_say_so_and_a_stranger_may_not() {
    let balanced = Balanced::start(&[]);
    assert!(balanced.get(BALANCER, b"", "/x", "").is_none(), "without a header");
    assert_eq!((balanced.headers("missing"), balanced.headers("invalid")), (1.0, 0.0));
    for start in [&b"PROXY TCP4 999.0.2.7 198.51.100.1 56324 443\r\n"[..], &v2(0x22, [192, 0, 2, 7])] {
        assert!(balanced.get(BALANCER, start, "/x", "").is_none());
    }
    assert_eq!((balanced.headers("missing"), balanced.headers("invalid")), (1.0, 2.0));
    let forged = "X-Forwarded-For: 203.0.113.9\r\n";
    assert_eq!(balanced.get(STRANGER, b"", "/x", forged).unwrap().status, 200);
    assert_eq!(balanced.upstream.last().all("x-forwarded-for"), ["127.0.0.2"]);
    assert_eq!(balanced.get(STRANGER, &v1("203.0.113.5"), "/inside", "").map(|a| a.status), Some(400));
    assert_eq!(balanced.upstream.seen().len(), 1);
}

#[test]
fn w_01_one_header_a_connection_however_many_requests() {
    let balanced = Balanced::start(&[]);
    let mut stream = balanced.connect(BALANCER);
    let request = format!("GET /x HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", balanced.gateway.port);
    // Byte by byte: the header may come in any pieces.
    for byte in v1("192.0.2.7") {
        stream.write_all(&[byte]).unwrap();
    }
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for _ in 0..3 {
        stream.write_all(request.as_bytes()).unwrap();
        assert_eq!(read(&mut reader, "GET").unwrap().status, 200);
        assert_eq!(balanced.upstream.last().all("x-forwarded-for"), ["192.0.2.7"]);
    }
    stream.write_all(&[&v1("203.0.113.5"), request.as_bytes()].concat()).unwrap();
    assert_eq!(read(&mut reader, "GET").unwrap().status, 400, "another one later is no request");
}

#[test]
fn fx_12_a_header_that_does_not_come_ends_the_connection() {
    let balanced = Balanced::start(&[("DOORWARD_SERVER__LIMITS__HANDSHAKE_TIMEOUT", "200ms")]);
    for start in [&b""[..], b"PROXY TCP4 192.0.2.7", &v2(0x21, [192, 0, 2, 7])[..20]] {
        let mut stream = balanced.connect(BALANCER);
        stream.write_all(start).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "closed: {start:?}");
    }
    assert_eq!(balanced.get(BALANCER, &v1("192.0.2.7"), "/x", "").unwrap().status, 200, "others are served");
}

#[test]
fn w_01_the_header_comes_before_tls_and_on_unix_sockets_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(path("cert.pem"), key.cert.pem()).unwrap();
    std::fs::write(path("key.pem"), key.signing_key.serialize_pem()).unwrap();
    let (port, socket) = (support::free_port(), path("doorward.sock"));
    let balanced = Balanced::start(&[
        ("DOORWARD_SERVER__LISTEN", &format!("[\"127.0.0.1:{port}\", \"unix:{socket}\"]")),
        ("DOORWARD_SERVER__TLS__CERT", &path("cert.pem")),
        ("DOORWARD_SERVER__TLS__KEY", &path("key.pem")),
    ]);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(key.cert.der().clone()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = std::sync::Arc::new(config);
    let tls = || rustls::ClientConnection::new(config.clone(), "127.0.0.1".try_into().unwrap()).unwrap();
    let mut stream = connect(BALANCER, port);
    stream.write_all(&v1("192.0.2.7")).unwrap();
    let answer = ask(rustls::StreamOwned::new(tls(), stream), port, b"", "/x", "").unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(balanced.upstream.last().all("x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(balanced.upstream.last().all("x-forwarded-proto"), ["http"], "public_url says so");
    // Only this machine can connect to it: whoever does is believed.
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(&v2(0x21, [192, 0, 2, 8])).unwrap();
    assert_eq!(ask(rustls::StreamOwned::new(tls(), stream), port, b"", "/x", "").unwrap().status, 200);
    assert_eq!(balanced.upstream.last().all("x-forwarded-for"), ["192.0.2.8"]);
    let bare = rustls::StreamOwned::new(tls(), UnixStream::connect(&socket).unwrap());
    assert!(ask(bare, port, b"", "/x", "").is_none());
    let mut stream = BufReader::new(connect(STRANGER, port));
    stream.get_mut().write_all(&v1("192.0.2.7")).unwrap();
    let mut line = Vec::new();
    let _ = stream.read_until(b'\n', &mut line);
    assert!(!line.starts_with(b"HTTP/1.1 2"), "no handshake begins so");
}
