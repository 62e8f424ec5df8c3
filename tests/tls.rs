//! TLS on all three sides: towards browsers, upstreams and the provider. Rows K-01, B-15, D-03.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use std::io::{BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use support::gateway::Extra;
use support::pki::{Connection, Pki, client};
use support::{Answer, Gateway, Provider, Upstream, eventually};

/// Answers every request on a socket of its own with what `answer` makes of its target.
fn serve(pki: &Pki, answer: impl Fn(&str) -> String + Send + Sync + 'static) -> u16 {
    let chain = vec![CertificateDer::from_pem_file(pki.path("cert.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(pki.path("key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let (config, answer) = (Arc::new(config), Arc::new(answer));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, answer) = (Arc::clone(&config), Arc::clone(&answer));
            std::thread::spawn(move || respond(stream, config, &*answer));
        }
    });
    port
}

fn respond(stream: TcpStream, config: Arc<ServerConfig>, answer: &dyn Fn(&str) -> String) -> Option<()> {
    let tls = StreamOwned::new(ServerConnection::new(config).ok()?, stream);
    let mut reader = BufReader::new(tls);
    let mut line = String::new();
    std::io::BufRead::read_line(&mut reader, &mut line).ok()?;
    let target = line.split(' ').nth(1)?.to_owned();
    while line.trim() != "" {
        line.clear();
        std::io::BufRead::read_line(&mut reader, &mut line).ok()?;
    }
    let body = answer(&target);
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let tls = reader.get_mut();
    tls.write_all(head.as_bytes()).ok()?;
    tls.write_all(body.as_bytes()).ok()?;
    tls.conn.send_close_notify();
    tls.flush().ok()
}

/// One GET over TLS, trusting `ca` only.
fn get(port: u16, ca: &Path, path: &str) -> std::io::Result<Answer> {
    Connection::open(&client(ca), "localhost", port)?.get(path)
}

#[test]
fn b_15_an_upstream_is_reached_over_a_verified_connection_or_not_at_all() {
    let (pki, stranger, elsewhere) = (Pki::new(&["localhost"]), Pki::new(&["localhost"]), Pki::new(&["other.test"]));
    let (good, wrong_name) = (serve(&pki, |_| "{}".into()), serve(&elsewhere, |_| "{}".into()));
    let provider = Provider::start();
    let ask = |port: u16, options: String| {
        let routes =
            format!("[[route]]\npath = \"/\"\nupstream = \"https://localhost:{port}\"\naccess = \"public\"\n{options}");
        let extra = Extra { routes: Some(routes), ..Extra::default() };
        Gateway::with(provider.issuer(), &Upstream::start(), extra).browser().fetch("/x").status
    };
    let ca = |pki: &Pki| format!("[route.upstream_options]\nca = \"{}\"\n", pki.path("ca.pem").display());
    assert_eq!(ask(good, ca(&pki)), 200);
    assert_eq!(ask(good, ca(&stranger)), 502, "another authority");
    assert_eq!(ask(good, String::new()), 502, "the system's authorities do not know it");
    assert_eq!(ask(wrong_name, ca(&elsewhere)), 502, "another name");
}

#[test]
fn d_03_a_provider_whose_certificate_does_not_verify_is_no_provider() {
    let (pki, stranger) = (Pki::new(&["localhost"]), Pki::new(&["localhost"]));
    let issuer = Arc::new(std::sync::OnceLock::<String>::new());
    let told = Arc::clone(&issuer);
    let port = serve(&pki, move |target| {
        let issuer = told.get().unwrap();
        if target.contains("openid-configuration") {
            return serde_json::json!({
                "issuer": issuer, "authorization_endpoint": format!("{issuer}/a"), "token_endpoint": format!("{issuer}/t"),
                "jwks_uri": format!("{issuer}/k"), "response_types_supported": ["code"],
            })
            .to_string();
        }
        "{\"keys\":[]}".into()
    });
    issuer.set(format!("https://localhost:{port}")).unwrap();
    let start = |ca: &Pki| {
        let provider = format!("ca = \"{}\"", ca.path("ca.pem").display());
        Gateway::with(issuer.get().unwrap(), &Upstream::start(), Extra { provider, unready: true, ..Extra::default() })
    };
    let refused = start(&stranger);
    eventually("the failed attempt in the log", || refused.log().contains("cannot load metadata"));
    assert_eq!(refused.admin("/readyz").status, 503);
    assert_eq!(refused.browser().navigate("/x").status, 503);
    let accepted = start(&pki);
    eventually("an attempt with the right authority", || accepted.browser().navigate("/x").status == 302);
}

#[test]
fn k_01_k_02_over_https_cookies_are_host_bound_and_secure() {
    let pki = Pki::new(&["localhost"]);
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let port = support::free_port();
    let extra = Extra {
        env: vec![
            ("DOORWARD_SERVER__LISTEN".into(), format!("127.0.0.1:{port}")),
            ("DOORWARD_SERVER__PUBLIC_URL".into(), format!("https://localhost:{port}")),
            ("DOORWARD_SERVER__TLS__CERT".into(), pki.path("cert.pem").display().to_string()),
            ("DOORWARD_SERVER__TLS__KEY".into(), pki.path("key.pem").display().to_string()),
            ("DOORWARD_SERVER__TLS__HSTS".into(), "1h".into()),
        ],
        ..Extra::default()
    };
    let _gateway = Gateway::with(provider.issuer(), &upstream, extra);
    let answer = get(port, &pki.path("ca.pem"), "/x").unwrap();
    assert_eq!(answer.status, 302);
    assert_eq!(answer.parameter("redirect_uri").unwrap(), format!("https://localhost:{port}/oauth2/callback"));
    assert_eq!(answer.header("strict-transport-security"), Some("max-age=3600"));
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-doorward.login."), "{cookie}");
    assert!(cookie.contains("; Secure") && cookie.contains("; Path=/") && !cookie.contains("Domain"), "{cookie}");
    let stranger = Pki::new(&["localhost"]);
    assert!(get(port, &stranger.path("ca.pem"), "/x").is_err());
}
