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
fn readiness_goes_first_and_until_the_delay_is_over_everybody_is_served_and_told_to_leave() {
    let more = "drain_delay = \"60s\"\ndrain_timeout = \"90s\"";
    let mut gateway = Gateway::custom(&config(more, "", "status:204"));
    let mut kept = connect(gateway.port).unwrap();
    let before = ask(&mut kept, "localhost", "/").unwrap();
    assert_eq!((before.status, before.header("connection")), (204, None));
    assert_eq!(gateway.admin("/readyz").status, 200);

    gateway.signal("TERM");
    eventually("readiness to go", || gateway.admin("/readyz").status == 503);
    let last = ask(&mut kept, "localhost", "/").unwrap();
    assert_eq!((last.status, last.header("connection")), (204, Some("close")));
    assert_eq!(kept.read(&mut [0; 1]).unwrap_or(0), 0);
    let mut new = connect(gateway.port).unwrap();
    assert_eq!(ask(&mut new, "localhost", "/ready").unwrap().status, 503, "for balancers that look here");
    assert_eq!(ask(&mut connect(gateway.port).unwrap(), "localhost", "/").unwrap().status, 204);
    assert_eq!(gateway.admin("/livez").status, 200);

    gateway.signal("TERM");
    assert_eq!(gateway.ended().code(), Some(0), "a second signal ends it at once");
}

#[test]
fn connections_that_wait_to_be_accepted_are_served() {
    let mut gateway = Gateway::custom(&config("", "", "status:204"));
    gateway.signal("STOP");
    let mut waiting: Vec<_> = (0..40).map(|_| connect(gateway.port).unwrap()).collect();
    for connection in &mut waiting {
        connection.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    }
    gateway.signal("TERM");
    gateway.signal("CONT");
    for connection in &mut waiting {
        assert_eq!(browser::read(connection, "GET").unwrap().status, 204);
        assert_eq!(connection.read(&mut [0; 1]).unwrap_or(0), 0, "and then closed");
    }
    assert_eq!(gateway.ended().code(), Some(0));
    assert!(connect(gateway.port).is_err());
}

#[test]
fn a_connection_that_has_not_asked_yet_still_can() {
    let (authority, certs) = (Pki::new(&["localhost"]), tempfile::tempdir().unwrap());
    authority.copy_to(certs.path());
    let at = certs.path().display();
    let tls = format!("[server.tls]\ncert = \"{at}/tls.crt\"\nkey = \"{at}/tls.key\"\n");
    let mut gateway = Gateway::custom(&config("", &tls, "status:204"));
    let mut begun: Vec<_> = (0..4).map(|_| authority.connect(gateway.port).unwrap()).collect();
    eventually("the handshakes", || gateway.metric("doorward_tls_handshakes_total{outcome=\"ok\"}") >= 4.0);
    gateway.signal("STOP");
    for connection in &mut begun {
        write!(connection.get_mut(), "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    }
    gateway.signal("TERM");
    gateway.signal("CONT");
    for connection in &mut begun {
        assert_eq!(browser::read(connection, "GET").unwrap().status, 204);
        assert_eq!(connection.read(&mut [0; 1]).unwrap_or(0), 0, "and then closed");
    }
    assert_eq!(gateway.ended().code(), Some(0));
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
