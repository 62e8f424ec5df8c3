//! Upstreams behind TLS and with HTTP/2, as real servers: names, authorities, client certificates, ALPN, unix sockets, and
//! the reason in the log when it fails, which the page never says.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use support::gateway::Extra;
use support::pki::Pki;
use support::{Answer, Gateway, Provider, Upstream, eventually};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

/// A server that says what it saw: of the request, and of the handshake before it.
struct Server {
    runtime: Runtime,
    /// Connections that it accepted.
    accepted: Arc<AtomicUsize>,
}

/// What a TLS server asks of its clients.
#[derive(Clone, Copy)]
enum Wants {
    Nobody,
    Anybody,
    Certificate,
}

impl Server {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { runtime, accepted: Arc::default() }
    }

    /// Speaks `protocols`, named as in ALPN. Returns its port.
    fn tls(&self, pki: &Pki, protocols: &[&str], wants: Wants) -> u16 {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&pki.path("ca.pem"))).unwrap();
        let provider = Arc::new(default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = match wants {
            Wants::Nobody => builder.with_no_client_auth(),
            Wants::Anybody => builder.with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap()),
            Wants::Certificate => builder.with_client_cert_verifier(verifier.build().unwrap()),
        };
        let key = PrivateKeyDer::from_pem_file(pki.path("key.pem")).unwrap();
        let mut config = builder.with_single_cert(vec![certificate(&pki.path("cert.pem"))], key).unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = self.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let (port, accepted) = (listener.local_addr().unwrap().port(), Arc::clone(&self.accepted));
        self.runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, accepted) = (acceptor.clone(), Arc::clone(&accepted));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    accepted.fetch_add(1, Ordering::SeqCst);
                    let session = stream.get_ref().1;
                    let shown = session.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.to_vec());
                    let saw = json!({ "sni": session.server_name(), "client": shown });
                    let http2 = session.alpn_protocol() == Some(b"h2");
                    serve(stream, http2, saw).await;
                });
            }
        });
        port
    }

    fn unix(&self, path: &Path, http2: bool) {
        let listener = self.runtime.block_on(async { UnixListener::bind(path).unwrap() });
        self.runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, http2, json!({})));
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, http2: bool, saw: Value) {
    let service = service_fn(move |request: http::Request<Incoming>| {
        let mut said = saw.clone();
        let host = request.headers().get("host").map(|host| host.to_str().unwrap().to_owned());
        said["version"] = format!("{:?}", request.version()).into();
        said["path"] = request.uri().path().into();
        said["host"] = request.uri().authority().map_or(host, |authority| Some(authority.to_string())).into();
        let names = request.headers().keys().map(|name| name.as_str());
        said["headers"] = names.collect::<Vec<_>>().into();
        // HTTP/1.1 connections are not kept, so that each request has a handshake of its own.
        let mut response = http::Response::new(Full::new(Bytes::from(said.to_string())));
        if !http2 {
            response.headers_mut().insert("connection", "close".parse().unwrap());
        }
        async { Ok::<_, Infallible>(response) }
    });
    let io = TokioIo::new(stream);
    let _ = if http2 {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
    } else {
        hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
    };
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

/// A route `/NAME` for each name, upstream and text of `[route.upstream_options]`.
fn routes(all: &[(&str, String, String)]) -> Extra {
    let route = |(name, upstream, options): &(&str, String, String)| {
        format!(
            "[[route]]\nname = \"{name}\"\npath = \"/{name}\"\nupstream = \"{upstream}\"\naccess = \"public\"\n\
             [route.upstream_options]\n{options}\n"
        )
    };
    Extra { routes: Some(all.iter().map(route).collect()), ..Extra::default() }
}

struct World {
    _provider: Provider,
    upstream: Upstream,
    issuer: String,
    gateway: Gateway,
}

impl World {
    fn new(all: &[(&str, String, String)]) -> Self {
        let (provider, upstream) = (Provider::start(), Upstream::start());
        let issuer = provider.issuer().to_owned();
        let gateway = Gateway::with(&issuer, &upstream, routes(all));
        Self { _provider: provider, upstream, issuer, gateway }
    }

    fn ask(&self, path: &str) -> Answer {
        self.gateway.browser().fetch(path)
    }

    fn saw(&self, path: &str) -> Value {
        let answer = self.ask(path);
        assert_eq!(answer.status, 200, "{path}: {} {}", answer.text(), self.gateway.log());
        answer.json()
    }

    /// Asks in vain; the log says why, and the answer does not.
    fn fails(&self, name: &str, status: u16, reason: &str) {
        let answer = self.ask(&format!("/{name}"));
        assert_eq!(answer.status, status, "{name}");
        let page = answer.text().to_lowercase();
        assert!(!page.contains(reason) && !page.contains("tls") && !page.contains("certificate"), "{page}");
        let said = |line: &str| line.contains(name) && line.contains(reason);
        eventually("the log", || {
            self.gateway.log().lines().any(|line| line.contains("upstream") && line.contains(name))
        });
        assert!(self.gateway.log().lines().any(said), "no {reason} in the log of {name}: {}", self.gateway.log());
        let counted = format!("doorward_upstream_failures_total{{route=\"{name}\",reason=\"{reason}\"}}");
        assert!(self.gateway.metric(&counted) >= 1.0, "{counted}");
    }
}

fn ca(pki: &Pki) -> String {
    format!("ca = \"{}\"\n", pki.path("ca.pem").display())
}

fn shows(pki: &Pki, cert: &str, key: &str) -> String {
    format!("client_cert = \"{}\"\nclient_key = \"{}\"\n", pki.path(cert).display(), pki.path(key).display())
}

#[test]
fn http2_is_chosen_by_alpn_or_there_is_no_answer() {
    let (pki, server) = (Pki::new(&["localhost"]), Server::new());
    let both = server.tls(&pki, &["http/1.1", "h2"], Wants::Nobody);
    let old = server.tls(&pki, &["http/1.1"], Wants::Nobody);
    let mute = server.tls(&pki, &[], Wants::Nobody);
    let url = |port: u16| format!("https://localhost:{port}");
    let http2 = ca(&pki) + "http2 = true";
    let world = World::new(&[
        ("two", url(both), http2.clone()),
        ("one", url(both), ca(&pki)),
        ("old", url(old), http2.clone()),
        ("mute", url(mute), http2),
    ]);
    let two = world.saw("/two/x");
    assert_eq!(
        (&two["version"], &two["path"], &two["sni"]),
        (&json!("HTTP/2.0"), &json!("/two/x"), &json!("localhost"))
    );
    assert_eq!(two["host"], json!(world.gateway.base.trim_start_matches("http://")), "pass_host");
    // H-03: nothing of HTTP/1.1 and of this hop.
    for name in ["host", "connection", "transfer-encoding", "upgrade", "te"] {
        assert!(!two["headers"].as_array().unwrap().contains(&json!(name)), "{name}");
    }
    let one = world.saw("/one/x");
    assert_eq!(one["version"], json!("HTTP/1.1"));
    assert!(one["headers"].as_array().unwrap().contains(&json!("host")));
    world.fails("old", 502, "no_http2");
    world.fails("mute", 502, "no_http2");
}

#[test]
fn requests_share_an_http2_connection() {
    let (pki, server) = (Pki::new(&["localhost"]), Server::new());
    let port = server.tls(&pki, &["h2"], Wants::Nobody);
    let options = ca(&pki) + "http2 = true\nidle_timeout = \"60s\"";
    let world = World::new(&[("app", format!("https://localhost:{port}"), options)]);
    for _ in 0..20 {
        world.saw("/app");
    }
    let accepted = server.accepted.load(Ordering::SeqCst);
    assert!((1..=2).contains(&accepted), "one of each worker at the most, and not {accepted}");
}

#[test]
fn b_15_the_name_that_is_asked_for_is_the_name_that_counts() {
    let (pki, server) = (Pki::new(&["app.internal"]), Server::new());
    let (stranger, numbered) = (Pki::new(&["app.internal"]), Pki::new(&["127.0.0.1"]));
    let port = server.tls(&pki, &["http/1.1"], Wants::Nobody);
    let by_address = server.tls(&numbered, &["h2"], Wants::Nobody);
    let url = format!("https://127.0.0.1:{port}");
    let name = "server_name = \"app.internal\"\n";
    let world = World::new(&[
        ("named", url.clone(), ca(&pki) + name),
        ("unnamed", url.clone(), ca(&pki)),
        ("stranger", url.clone(), ca(&stranger) + name),
        ("roots", url, name.to_owned()),
        ("number", format!("https://127.0.0.1:{by_address}"), ca(&numbered) + "http2 = true"),
    ]);
    let named = world.saw("/named");
    assert_eq!(named["sni"], json!("app.internal"));
    // RFC 6066 §3: an address is no name to ask for.
    assert_eq!(world.saw("/number")["sni"], Value::Null);
    world.fails("unnamed", 502, "name_mismatch");
    world.fails("stranger", 502, "unknown_ca");
    world.fails("roots", 502, "unknown_ca");
}

#[test]
fn who_is_not_there_is_named_in_the_log() {
    let gone = support::free_port();
    let nobody = format!("http://{}.test:1", "x".repeat(64));
    let world = World::new(&[
        ("gone", format!("http://127.0.0.1:{gone}"), String::new()),
        ("gone2", format!("h2c://127.0.0.1:{gone}"), String::new()),
        ("nobody", nobody, String::new()),
        ("nosocket", "unix:/nowhere/app.sock".to_owned(), String::new()),
    ]);
    world.fails("gone", 502, "refused");
    world.fails("gone2", 502, "refused");
    world.fails("nobody", 502, "dns");
    world.fails("nosocket", 502, "connect");
}

#[test]
fn a_client_certificate_is_shown_by_its_route_alone() {
    let (pki, server) = (Pki::new(&["localhost"]), Server::new());
    pki.issue(&["one.client"], "one.pem", "one.key");
    pki.issue(&["two.client"], "two.pem", "two.key");
    let demands = format!("https://localhost:{}", server.tls(&pki, &["http/1.1"], Wants::Certificate));
    let demands2 = format!("https://localhost:{}", server.tls(&pki, &["h2"], Wants::Certificate));
    let asks = format!("https://localhost:{}", server.tls(&pki, &["http/1.1"], Wants::Anybody));
    let (one, two) = (ca(&pki) + &shows(&pki, "one.pem", "one.key"), ca(&pki) + &shows(&pki, "two.pem", "two.key"));
    let world = World::new(&[
        ("bare", demands.clone(), ca(&pki)),
        ("bare2", demands2.clone(), ca(&pki) + "http2 = true"),
        ("shown", demands, one.clone()),
        ("shown2", demands2, one.clone() + "http2 = true"),
        ("one", asks.clone(), one),
        ("two", asks.clone(), two),
        ("none", asks, ca(&pki)),
    ]);
    let leaf = |name: &str| json!(certificate(&pki.path(name)).to_vec());
    assert_eq!(world.saw("/shown")["client"], leaf("one.pem"));
    assert_eq!(world.saw("/shown2")["client"], leaf("one.pem"));
    world.fails("bare", 502, "tls_alert");
    world.fails("bare2", 502, "tls_alert");
    // YX-03, from this side: one server, three identities. A session that one resumed for another would bring its own.
    for _ in 0..3 {
        assert_eq!(world.saw("/one")["client"], leaf("one.pem"));
        assert_eq!(world.saw("/two")["client"], leaf("two.pem"));
        assert_eq!(world.saw("/none")["client"], Value::Null);
    }
}

#[test]
fn a_reload_reads_the_files_again() {
    let (pki, server) = (Pki::new(&["localhost"]), Server::new());
    pki.issue(&["one.client"], "client.pem", "client.key");
    let url = format!("https://localhost:{}", server.tls(&pki, &["http/1.1"], Wants::Certificate));
    let all = [("app", url, ca(&pki) + &shows(&pki, "client.pem", "client.key"))];
    let world = World::new(&all);
    let leaf = || json!(certificate(&pki.path("client.pem")).to_vec());
    let first = leaf();
    assert_eq!(world.saw("/app")["client"], first);
    pki.issue(&["one.client"], "client.pem", "client.key");
    world.gateway.reload(&world.issuer, &world.upstream, &routes(&all));
    eventually("the new certificate is shown", || world.saw("/app")["client"] == leaf());
    assert_ne!(leaf(), first);

    // A key that does not belong to its certificate: the old pair stays.
    let second = leaf();
    pki.issue(&["one.client"], "other.pem", "client.key");
    world.gateway.reload(&world.issuer, &world.upstream, &routes(&all));
    eventually("the refusal is logged", || world.gateway.log().contains("the old one stays"));
    assert_eq!(world.saw("/app")["client"], second);
}

#[test]
fn m_22_unix_sockets_prefixes_and_hosts_are_the_same_in_both_protocols() {
    let (server, dir) = (Server::new(), tempfile::tempdir().unwrap());
    let (old, new) = (dir.path().join("old.sock"), dir.path().join("new.sock"));
    server.unix(&old, false);
    server.unix(&new, true);
    let unix = |path: &Path| format!("unix:{}", path.display());
    let mut extra = routes(&[
        ("old", unix(&old), String::new()),
        ("new", unix(&new), "http2 = true".to_owned()),
        ("oldown", unix(&old), "pass_host = false".to_owned()),
        ("newown", unix(&new), "pass_host = false\nhttp2 = true".to_owned()),
    ]);
    for (name, upstream, http2) in [("oldcut", unix(&old), false), ("newcut", unix(&new), true)] {
        extra.routes.as_mut().unwrap().push_str(&format!(
            "[[route]]\npath = \"/{name}\"\nupstream = \"{upstream}\"\naccess = \"public\"\nstrip_prefix = \"/{name}\"\n\
             [route.upstream_options]\nhttp2 = {http2}\n"
        ));
    }
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let issuer = provider.issuer().to_owned();
    let gateway = Gateway::with(&issuer, &upstream, extra);
    let world = World { _provider: provider, upstream, issuer, gateway };
    let own = world.gateway.base.trim_start_matches("http://").to_owned();
    for (path, version, host, seen) in [
        ("/old/x%20y", "HTTP/1.1", own.as_str(), "/old/x%20y"),
        ("/new/x%20y", "HTTP/2.0", &own, "/new/x%20y"),
        ("/oldown", "HTTP/1.1", "localhost", "/oldown"),
        ("/newown", "HTTP/2.0", "localhost", "/newown"),
        ("/oldcut/x/y", "HTTP/1.1", &own, "/x/y"),
        ("/newcut/x/y", "HTTP/2.0", &own, "/x/y"),
        ("/newcut", "HTTP/2.0", &own, "/"),
    ] {
        let saw = world.saw(path);
        assert_eq!(
            (&saw["version"], &saw["host"], &saw["path"]),
            (&json!(version), &json!(host), &json!(seen)),
            "{path}"
        );
    }
}
