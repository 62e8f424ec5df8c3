//! What the behaviour tests share: the gateway as its own process, the demo provider in this one, an upstream that
//! records, and a small browser. Everything is on loopback and on ports that the system chose.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test file uses a part of it")]

pub mod browser;
pub mod gateway;
pub mod http2;
pub mod migrate;
pub mod oauth2;
pub mod pki;
pub mod redis;
pub mod upstream;

use std::time::{Duration, Instant};

pub use browser::{Answer, Browser};
pub use gateway::Gateway;
pub use upstream::Upstream;

use doorward::demo::provider::{DemoProvider, Options, SigningAlg};

/// What `[session]` says for each store that sessions can be in: what ends a session must end it in all of them. Each call
/// has a Redis of its own; where none is installed that store is left out, which CI does not allow.
pub fn stores() -> Vec<&'static str> {
    let redis = redis::start().map(|url| format!("store = \"redis\"\n[session.redis]\nurl = \"{url}\"\n"));
    let redis = redis.map(|text| &*Box::leak(text.into_boxed_str()));
    ["store = \"cookie\"", "store = \"memory\""].into_iter().chain(redis).collect()
}

/// A provider in this process, on a runtime of its own.
pub struct Provider {
    pub demo: DemoProvider,
    _runtime: tokio::runtime::Runtime,
}

impl Provider {
    pub fn start() -> Self {
        Self::with(Options { alg: SigningAlg::Es256, ..Options::default() })
    }

    pub fn with(options: Options) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let guard = runtime.enter();
        let demo = DemoProvider::start(listener, options).unwrap();
        drop(guard);
        demo.control().auto_login(Some("alice"));
        Self { demo, _runtime: runtime }
    }

    pub fn issuer(&self) -> &str {
        self.demo.issuer()
    }
}

/// Waits until `condition` holds; fails with `what` after ten seconds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "not within ten seconds: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// A port that was free a moment ago and is given to no other test while this process lives, whichever process that is in: a
/// Unix socket of its name in the abstract (unix(7)) says so. Below the range that the system takes outgoing connections'
/// ports from, so that none of those gets in between.
pub fn free_port() -> u16 {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener};
    static CLAIMS: std::sync::Mutex<Vec<UnixListener>> = std::sync::Mutex::new(Vec::new());
    loop {
        let port = fastrand::u16(10_000..30_000);
        let name = SocketAddr::from_abstract_name(format!("doorward-test-port-{port}")).unwrap();
        let Ok(claim) = UnixListener::bind_addr(&name) else { continue };
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            CLAIMS.lock().unwrap().push(claim);
            return port;
        }
    }
}

/// One GET over a connection that is open. None: it was not answered.
pub fn ask<S: std::io::Read + std::io::Write>(
    connection: &mut std::io::BufReader<S>,
    host: &str,
    path: &str,
) -> Option<Answer> {
    write!(connection.get_mut(), "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").ok()?;
    connection.get_mut().flush().ok()?;
    browser::read(connection, "GET")
}

/// A connection to this port of 127.0.0.1; a test that waits for it in vain fails.
pub fn connect(port: u16) -> std::io::Result<std::io::BufReader<std::net::TcpStream>> {
    let stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(std::io::BufReader::new(stream))
}
