//! The drain: what a stop signal ends, in which order, and what it lets finish.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use support::pki::Pki;
use support::{Gateway, ask, browser, connect, eventually, free_port};

/// MORE, UPSTREAM and LAST are filled in by each test.
const CONFIG: &str = r#"
[server]
public_url = "https://localhost:PORT"
listen = ["127.0.0.1:PORT"]
workers = 2
MORE
LAST
[admin]
listen = "127.0.0.1:ADMIN"
[session]
keys = ["a-session-key-of-the-tests-that-is-long-enough"]
[[route]]
path = "/"
upstream = "UPSTREAM"
access = "public"
"#;

fn config(more: &str, last: &str, upstream: &str) -> String {
    CONFIG.replace("MORE", more).replace("LAST", last).replace("UPSTREAM", upstream)
}

#[test]
fn redirects_and_the_admin_listener_go_on_until_the_last_request_has_ended() {
    let (authority, certs, plain) = (Pki::new(&["localhost"]), tempfile::tempdir().unwrap(), free_port());
    authority.copy_to(certs.path());
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = certs.path().display();
    let tls = format!(
        "[server.tls]\ncert = \"{at}/tls.crt\"\nkey = \"{at}/tls.key\"\nredirect_listen = [\"127.0.0.1:{plain}\"]"
    );
    let to = format!("http://{}", upstream.local_addr().unwrap());
    let mut gateway = Gateway::custom(&config("drain_timeout = \"60s\"", &tls, &to));
    let mut client = authority.connect(gateway.port).unwrap();
    write!(client.get_mut(), "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let (mut asked, _) = upstream.accept().unwrap();

    gateway.signal("TERM");
    eventually("no more connections", || authority.connect(gateway.port).is_err());
    assert_eq!(gateway.admin("/readyz").status, 503);
    assert!(gateway.metric("doorward_connections") >= 1.0);
    // A loop each of two workers.
    for _ in 0..8 {
        assert_eq!(ask(&mut connect(plain).unwrap(), "localhost", "/x").unwrap().status, 301);
    }
    asked.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    let last = browser::read(&mut client, "GET").unwrap();
    assert_eq!((last.status, last.text().as_str(), last.header("connection")), (200, "ok", Some("close")));
    assert_eq!(gateway.ended().code(), Some(0));
    assert!(connect(plain).is_err());
}

#[test]
fn what_is_still_open_at_the_end_of_the_timeout_is_counted_and_closed() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("http://{}", upstream.local_addr().unwrap());
    let mut gateway = Gateway::custom(&config("drain_timeout = \"300ms\"", "", &to));
    let mut client = connect(gateway.port).unwrap();
    write!(client.get_mut(), "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let _asked = upstream.accept().unwrap();
    gateway.signal("INT");
    assert_eq!(gateway.ended().code(), Some(0));
    assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0);
    let log = gateway.log();
    assert!(log.contains("connections were still open at the end of drain_timeout"), "{log}");
    assert!(log.contains("\"connections\":1") || log.contains("connections=1"), "{log}");
}
