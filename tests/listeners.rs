//! How Doorward is reached: sockets that were passed on, a redirect from http to https, and what the service manager is
//! told.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use std::io::{BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::gateway::serve;
use support::pki::Pki;
use support::{Answer, Gateway, ask, browser, connect, eventually, free_port};

const PUBLIC: &str = r#"
[admin]
listen = "127.0.0.1:ADMIN"
[session]
keys = ["a-session-key-of-the-tests-that-is-long-enough"]
[[route]]
path = "/"
upstream = "status:204"
access = "public"
"#;

/// As a service manager starts it: with the first socket as number 3 and the second as number 4.
fn activated(config: &Path, first: OwnedFd, second: OwnedFd) -> Command {
    let script = "exec 3<&0 4<&1 0</dev/null 1>&2; LISTEN_FDS=2 LISTEN_PID=$$ exec \"$0\" \"$@\"";
    let inner = serve(config);
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(inner.get_program()).args(inner.get_args()).env_clear();
    command.stdin(Stdio::from(first)).stdout(Stdio::from(second));
    command
}

#[test]
fn sockets_that_were_passed_on_are_listened_on_and_may_be_named_at_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let unix = UnixListener::bind(dir.path().join("s")).unwrap();
    let (port, kept) = (tcp.local_addr().unwrap().port(), tcp.try_clone().unwrap());
    let with = |listen: &str| format!("[server]\npublic_url = \"http://localhost\"\nlisten = {listen}\n{PUBLIC}");
    let text = with("[\"fd:3\"]");
    let gateway = Gateway::custom_by(&text, |config| activated(config, tcp.into(), unix.into()));
    let over_tcp = || ask(&mut connect(port).unwrap(), "localhost", "/").unwrap().status;
    assert_eq!(over_tcp(), 204);

    gateway.configure(&with("[\"fd:4\"]"));
    gateway.signal("HUP");
    eventually("the reload", || gateway.reloads("ok") > 0.0);
    let mut over_unix = BufReader::new(UnixStream::connect(dir.path().join("s")).unwrap());
    assert_eq!(ask(&mut over_unix, "localhost", "/").unwrap().status, 204);
    // Nobody accepts from the first any more; whoever passed it on still can.
    let mut waiting = connect(port).unwrap();
    assert!(kept.accept().is_ok());

    gateway.configure(&with("[\"fd:3\", \"fd:4\"]"));
    gateway.signal("HUP");
    eventually("the second reload", || gateway.reloads("ok") > 1.0);
    assert_eq!(over_tcp(), 204);
    assert_eq!(waiting.read(&mut [0; 1]).unwrap_or(0), 0);

    gateway.configure(&with("[\"fd:3\", \"fd:5\"]"));
    gateway.signal("HUP");
    eventually("the refusal", || gateway.reloads("error") > 0.0);
    assert!(gateway.log().contains("fd:5: no socket of this number was passed on"), "{}", gateway.log());
}

#[test]
fn a_socket_that_was_passed_on_to_another_process_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("doorward.toml");
    let text = format!("[server]\npublic_url = \"http://localhost\"\nlisten = \"fd:3\"\n{PUBLIC}");
    std::fs::write(&config, text.replace("ADMIN", &free_port().to_string())).unwrap();
    let output = serve(&config).env("LISTEN_FDS", "1").env("LISTEN_PID", "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot listen on fd:3: no socket of this number was passed on"), "{said}");
}

const BOTH: &str = r#"
[server]
public_url = "https://app.localhost:PORT"
listen = ["127.0.0.1:PORT"]
[server.tls]
cert = "CERTS/tls.crt"
key = "CERTS/tls.key"
hsts = "1h"
redirect_listen = ["127.0.0.1:PLAIN"]
[server.limits]
header_timeout = "1s"
header_bytes = "8KiB"
[admin]
listen = "127.0.0.1:ADMIN"
[session]
keys = ["a-session-key-of-the-tests-that-is-long-enough"]
[[route]]
host = "wiki.localhost"
path = "/"
upstream = "status:204"
access = "public"
[[route]]
host = "*.apps.localhost"
path = "/"
upstream = "status:204"
access = "public"
"#;

fn plain(port: u16, text: &str) -> Answer {
    let mut connection = connect(port).unwrap();
    connection.get_mut().write_all(text.as_bytes()).unwrap();
    let answer = browser::read(&mut connection, text.split(' ').next().unwrap()).unwrap();
    assert_eq!(connection.read(&mut [0; 1]).unwrap_or(0), 0, "the connection ends");
    answer
}

#[test]
fn yx_08_w_04_plain_http_only_redirects_and_only_to_hosts_of_the_configuration() {
    let (authority, certs, port) = (Pki::new(&["localhost"]), tempfile::tempdir().unwrap(), free_port());
    authority.copy_to(certs.path());
    let text = BOTH.replace("PLAIN", &port.to_string()).replace("CERTS", &certs.path().display().to_string());
    let gateway = Gateway::custom(&text);
    let https = gateway.port;
    let get = |host: &str, path: &str| plain(port, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));

    for (host, origin) in [
        ("wiki.localhost", "wiki.localhost"),
        ("WIKI.localhost.:80", "wiki.localhost"),
        ("a.apps.localhost", "a.apps.localhost"),
        ("app.localhost", "app.localhost"),
        ("evil.test", "app.localhost"),
        ("127.0.0.1", "app.localhost"),
    ] {
        let answer = get(host, "/a/../b?c=%20d");
        assert_eq!(answer.status, 301, "{host}");
        assert_eq!(answer.location(), format!("https://{origin}:{https}/a/../b?c=%20d"), "{host}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("strict-transport-security"), None, "RFC 6797 section 7.2");
        assert_eq!(answer.header("set-cookie"), None);
    }
    let post = plain(port, "POST /form HTTP/1.1\r\nHost: wiki.localhost\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((post.status, post.location().ends_with("/form")), (308, true));
    // Headers that a trusted proxy might send are nobody's here.
    let told =
        "GET /x HTTP/1.1\r\nHost: wiki.localhost\r\nX-Forwarded-Host: evil.test\r\nX-Forwarded-Proto: https\r\n\r\n";
    assert_eq!(plain(port, told).location(), format!("https://wiki.localhost:{https}/x"));
    let absolute = "GET http://wiki.localhost/x HTTP/1.1\r\nHost: wiki.localhost\r\n\r\n";
    assert_eq!(plain(port, absolute).location(), format!("https://wiki.localhost:{https}/x"));

    for bad in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
        "GET http://evil.test/ HTTP/1.1\r\nHost: wiki.localhost\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: wiki.localhost\r\n\r\n",
        "CONNECT wiki.localhost:443 HTTP/1.1\r\nHost: wiki.localhost:443\r\n\r\n",
    ] {
        assert_eq!(plain(port, bad).status, 400, "{bad}");
    }
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(9000));
    assert_eq!(plain(port, &large).status, 431);
    let mut slow = connect(port).unwrap();
    slow.get_mut().write_all(b"GET / HT").unwrap();
    assert_eq!(slow.read(&mut [0; 1]).unwrap_or(0), 0, "fx_12 a head that never ends");

    let mut served = authority.connect(https).unwrap();
    let answer = ask(&mut served, &format!("wiki.localhost:{https}"), "/").unwrap();
    assert_eq!((answer.status, answer.header("strict-transport-security")), (204, Some("max-age=3600")));
}

/// What the service manager was told, a message at a time.
fn told(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    let length = manager.recv(&mut buffer).expect("a message within ten seconds");
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

#[test]
fn the_service_manager_is_told_of_the_start_of_reloads_of_the_workers_health_and_of_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let text = format!("[server]\npublic_url = \"http://localhost\"\nlisten = \"127.0.0.1:PORT\"\n{PUBLIC}");
    let mut gateway = Gateway::custom_by(&text, |config| {
        let mut command = serve(config);
        command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "1000000").stdout(Stdio::null());
        command
    });
    let first = told(&manager);
    assert!(first.starts_with("READY=1\nSTATUS=serving 1 route(s) on 127.0.0.1:"), "{first}");
    assert_eq!(ask(&mut connect(gateway.port).unwrap(), "localhost", "/").unwrap().status, 204);
    assert_eq!(told(&manager), "WATCHDOG=1\n");
    let next = |what: &str| loop {
        let message = told(&manager);
        if message != "WATCHDOG=1\n" {
            assert!(message.starts_with(what), "{message} instead of {what}");
            return message;
        }
    };
    gateway.signal("HUP");
    assert!(next("RELOADING=1\n").contains("MONOTONIC_USEC="));
    next("READY=1\n");
    gateway.signal("TERM");
    next("STOPPING=1\n");
    assert_eq!(gateway.ended().code(), Some(0));
}

/// `doorward check --live`: its status, and what it prints.
fn live(config: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    let output = command.args(["check", "--live", "--config"]).arg(config).env_clear().output().unwrap();
    assert!(output.stdout.is_empty());
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_health_check_asks_the_admin_listener_and_cares_for_nothing_else() {
    let head = "[server]\npublic_url = \"http://localhost\"\nlisten = [\"127.0.0.1:PORT\"]\n";
    let text = format!("{head}{PUBLIC}");
    let mut gateway = Gateway::custom(&text.replace("127.0.0.1:ADMIN", "0.0.0.0:ADMIN"));
    let config = gateway.dir().join("doorward.toml");
    assert_eq!(live(&config), (Some(0), String::new()));
    // What is refused at a reload leaves the instance as it was.
    gateway.configure(&format!("[nonsense]\n{}", text.replace("127.0.0.1:ADMIN", "[::]:ADMIN")));
    assert_eq!(live(&config), (Some(0), String::new()));

    gateway.signal("TERM");
    gateway.ended();
    let (status, said) = live(&config);
    assert_eq!((status, said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("/livez does not say that Doorward lives: "), "{said}");
}

#[test]
fn a_health_check_fails_with_1_where_nobody_answers_as_it_should() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("doorward.toml");
    let asked = |listen: &str| {
        std::fs::write(&config, format!("[admin]\nlisten = \"{listen}\"\n")).unwrap();
        live(&config)
    };
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let rude = TcpListener::bind("127.0.0.1:0").unwrap();
    let rude_address = rude.local_addr().unwrap().to_string();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = rude.accept().unwrap();
        stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").unwrap();
        let _ = stream.read(&mut [0; 1024]);
    });
    for (listen, why) in [
        (rude_address.as_str(), "the answer is not 200"),
        (silent.local_addr().unwrap().to_string().as_str(), "no answer within 5 seconds"),
        ("", "there is no admin listener to ask"),
        ("here", "is not an address and port"),
    ] {
        let (status, said) = asked(listen);
        assert_eq!(status, Some(1), "{listen}: {said}");
        assert!(said.contains(why), "{listen}: {said}");
    }
    answering.join().unwrap();
}
