//! TLS towards clients, as the process serves it. Rows YX-05, YX-09, YX-11.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::HandshakeKind;

use support::gateway::Extra;
use support::pki::{Connection, Pki, client, der};
use support::{Gateway, Provider, Upstream, eventually};

const PUBLIC: &str = "[[route]]\npath = \"/\"\nupstream = \"UPSTREAM\"\naccess = \"public\"\n";

/// A gateway with the certificate of `pki`; `more` lines of `[server.tls]`.
fn start(pki: &Pki, upstream: &Upstream, provider: &Provider, more: &str, limits: &[(&str, &str)]) -> Gateway {
    Gateway::with(provider.issuer(), upstream, extra(pki, more, limits))
}

fn extra(pki: &Pki, more: &str, limits: &[(&str, &str)]) -> Extra {
    let (cert, key) = (pki.path("cert.pem"), pki.path("key.pem"));
    let limit = |(name, value): &(&str, &str)| (format!("DOORWARD_SERVER__LIMITS__{name}"), (*value).to_owned());
    Extra {
        server: format!("[server.tls]\ncert = \"{}\"\nkey = \"{}\"\n{more}", cert.display(), key.display()),
        routes: Some(PUBLIC.to_owned()),
        env: limits.iter().map(limit).collect(),
        ..Extra::default()
    }
}

fn handshakes(gateway: &Gateway, outcome: &str) -> f64 {
    gateway.metric(&format!("doorward_tls_handshakes_total{{outcome=\"{outcome}\"}}"))
}

/// Sends `bytes` and reads what comes until the server closes.
fn say(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    // The server may have closed already.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// The bytes with which `config` begins.
fn hello(config: &rustls::ClientConfig) -> Vec<u8> {
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut bytes = Vec::new();
    rustls::ClientConnection::new(Arc::new(config.clone()), name).unwrap().write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn yx_09_certificates_change_under_load_and_no_request_fails() {
    let (pki, upstream, provider) = (Pki::new(&["localhost"]), Upstream::start(), Provider::start());
    pki.issue(&["other.test"], "other.crt", "other.key");
    let more = format!(
        "[[server.tls.sni]]\ncert = \"{}\"\nkey = \"{}\"\n",
        pki.path("other.crt").display(),
        pki.path("other.key").display()
    );
    let gateway = start(&pki, &upstream, &provider, &more, &[]);
    let (config, port) = (client(&pki.path("ca.pem")), gateway.port);
    let mut kept = Connection::open(&config, "localhost", port).unwrap();
    assert_eq!(kept.get("/a").unwrap().status, 200);
    assert_eq!(kept.leaf(), der(&pki.path("cert.pem")));
    let other = Connection::open(&config, "other.test", port).unwrap();
    assert_eq!(other.leaf(), der(&pki.path("other.crt")));

    let over = Arc::new(AtomicBool::new(false));
    let load = std::thread::spawn({
        let (over, ca) = (Arc::clone(&over), pki.path("ca.pem"));
        move || {
            let mut requests = 0;
            while !over.load(Ordering::Relaxed) {
                let mut fresh = Connection::open(&client(&ca), "localhost", port).unwrap();
                assert_eq!(fresh.get("/load").unwrap().status, 200);
                requests += 1;
            }
            requests
        }
    });
    let reloads = |outcome: &str| gateway.metric(&format!("doorward_reloads_total{{outcome=\"{outcome}\"}}"));
    for n in 1..=10 {
        pki.issue(&["localhost"], "cert.pem", "key.pem");
        gateway.signal("HUP");
        eventually("the reload", || reloads("ok") >= f64::from(n));
        let shown = Connection::open(&client(&pki.path("ca.pem")), "localhost", port).unwrap().leaf();
        assert_eq!(shown, der(&pki.path("cert.pem")));
    }
    // What is only half there is refused, and the old one shown.
    let shown = der(&pki.path("cert.pem"));
    pki.issue(&["localhost"], "cert.pem", "elsewhere.key");
    gateway.signal("HUP");
    eventually("the refusal", || reloads("error") >= 1.0);
    assert!(gateway.log().contains("key.pem: is not the key of"), "{}", gateway.log());
    let mut resumed = Connection::open(&config, "localhost", port).unwrap();
    assert_eq!(resumed.get("/b").unwrap().status, 200);
    assert_eq!(resumed.tls.get_ref().conn.handshake_kind(), Some(HandshakeKind::Resumed), "tickets outlive a reload");
    assert_eq!(Connection::open(&client(&pki.path("ca.pem")), "localhost", port).unwrap().leaf(), shown);
    assert_eq!(kept.get("/c").unwrap().status, 200, "the first connection");
    over.store(true, Ordering::Relaxed);
    assert!(load.join().unwrap() > 0);
    let metric =
        format!("doorward_tls_certificate_expires_seconds{{certificate=\"{}\"}}", pki.path("cert.pem").display());
    assert!(gateway.metric(&metric) > 1_700_000_000.0);
    assert_eq!(handshakes(&gateway, "failed"), 0.0);
}

#[test]
fn yx_05_yx_11_nonsense_and_floods_are_counted_and_others_are_served() {
    let (pki, upstream, provider) = (Pki::new(&["localhost"]), Upstream::start(), Provider::start());
    let limits = [("HANDSHAKES", "2"), ("HANDSHAKE_TIMEOUT", "1s")];
    let gateway = start(&pki, &upstream, &provider, "", &limits);
    let (config, port) = (client(&pki.path("ca.pem")), gateway.port);
    let good = hello(&config);
    let served = || Connection::open(&config, "localhost", port).and_then(|mut c| c.get("/x")).unwrap().status;

    let mut random = fastrand::Rng::with_seed(11);
    let mut nonsense = vec![vec![0; 5], vec![0x16, 3, 1, 0xff, 0xff], [&[0x16, 3, 1, 0, 0][..]; 100].concat()];
    for _ in 0..150 {
        let mut changed = good.clone();
        for _ in 0..random.usize(1..8) {
            let at = random.usize(..changed.len());
            changed[at] = random.u8(..);
        }
        nonsense.push(changed);
    }
    // Records larger than any may be, and a message that does not end.
    nonsense.push([&[0x16, 3, 1, 0x48, 1][..], &[1; 0x4801]].concat());
    nonsense.push(
        [&[0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0xf0][..], &[0; 0x3ffc], &[0x16, 3, 1, 0x40, 0], &[0; 0x4000]].concat(),
    );
    for bytes in &nonsense {
        say(port, bytes);
    }
    eventually("all of them counted", || handshakes(&gateway, "failed") >= nonsense.len() as f64);
    assert_eq!(served(), 200);

    // Who connects and says nothing takes no turn, however many they are.
    let silent: Vec<_> = (0..100).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    assert_eq!(served(), 200);
    // Who says hello and no more takes one, for as long as a handshake may last.
    let stalled: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.write_all(&good).unwrap();
            stream
        })
        .collect();
    eventually("the silent are closed", || handshakes(&gateway, "timeout") >= 100.0);
    eventually("the stalled are closed", || handshakes(&gateway, "timeout") + handshakes(&gateway, "refused") >= 120.0);
    assert!(handshakes(&gateway, "refused") > 0.0);
    assert_eq!(served(), 200);
    drop((silent, stalled));
}

#[test]
fn plain_http_to_a_tls_port_is_told_so() {
    let (pki, upstream, provider) = (Pki::new(&["localhost"]), Upstream::start(), Provider::start());
    let gateway = start(&pki, &upstream, &provider, "", &[]);
    let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\nCookie: {}\r\n\r\n", "a".repeat(20_000));
    let answer = String::from_utf8(say(gateway.port, request.as_bytes())).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{answer}");
    assert!(body.contains("HTTPS port"), "{answer}");
    // A look at whether the port is open is no handshake.
    say(gateway.port, b"");
    eventually("both connections closed", || gateway.metric("doorward_connections ") == 0.0);
    assert_eq!(handshakes(&gateway, "failed"), 1.0);
    assert!(upstream.seen().is_empty());
}

#[test]
fn check_reads_every_file_of_tls() {
    let pki = Pki::new(&["localhost"]);
    pki.issue(&["other.test"], "other.crt", "other.key");
    let check = |more: &str| {
        let file = pki.path("doorward.toml");
        let text = format!(
            "[server]\npublic_url = \"https://localhost\"\n{}\n[provider.main]\nissuer = \"https://id.test\"\n\
             client_id = \"a\"\nclient_secret = \"b\"\n[session]\nkeys = [\"{}\"]\n{PUBLIC}",
            extra(&pki, more, &[]).server,
            support::gateway::KEY
        );
        std::fs::write(&file, text.replace("UPSTREAM", "http://127.0.0.1:9")).unwrap();
        let out = Command::new(env!("CARGO_BIN_EXE_doorward")).arg("check").arg("--config").arg(file).output().unwrap();
        let text = [out.stdout, out.stderr].concat();
        (out.status.code(), String::from_utf8(text).unwrap())
    };
    let sni = |cert: &Path, key: &Path, more: &str| {
        format!("[[server.tls.sni]]\ncert = \"{}\"\nkey = \"{}\"\n{more}", cert.display(), key.display())
    };
    let (other, key) = (pki.path("other.crt"), pki.path("other.key"));
    assert_eq!(check(&sni(&other, &key, "")).0, Some(0));
    for (more, expected) in [
        (sni(&other, &pki.path("key.pem"), ""), "key.pem: is not the key of"),
        (sni(&other, &key, &format!("ocsp = \"{}\"\n", key.display())), "other.key: is no OCSP response"),
        (format!("client_ca = \"{}\"\n", pki.path("missing.pem").display()), "missing.pem"),
    ] {
        let (code, text) = check(&more);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("server.tls") && text.contains(expected), "{expected}: {text}");
    }
}
