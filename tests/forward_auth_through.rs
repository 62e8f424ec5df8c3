//! What a client can do through a proxy that is trusted: it sends whatever the proxy does not set itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

#[path = "support/ext_authz.rs"]
mod envoy;
mod support;

use doorward::gateway::ext_authz::proto::{CheckRequest, HeaderMap, HeaderValue};
use envoy::{CHECK, Envoy, http, question, values};
use prost::Message as _;
use support::gateway::Extra;
use support::http2::{Client, DATA, END_HEADERS, HEADERS, RST_STREAM, Raw, block};
use support::{Browser, Gateway, Provider, Upstream, eventually, free_port};

const TRUSTED: &str = "trusted_proxies = [\"127.0.0.1\"]";

/// Everybody may see the site, but not what is below `/admin`; and another host is for nobody in particular.
const ROUTES: &str = r#"
[forward_auth]
grpc_listen = "127.0.0.1:GRPC"

[[route]]
path = "/"
upstream = "status:404"
access = "public"

[[route]]
path = "/admin"
upstream = "status:404"
access = "authenticated"

[[route]]
path = "/direct"
upstream = "UPSTREAM"
access = "public"
upstream_auth = { kind = "basic", username = "doorward", password = "shared-secret" }

[[route]]
path = "/direct/plain"
upstream = "UPSTREAM"
access = "public"

[[route]]
path = "/asked"
upstream = "status:404"
access = "public"
upstream_auth = { kind = "basic", username = "doorward", password = "shared-secret" }

[[route]]
host = "inner.localhost"
path = "/"
upstream = "status:404"
access = "authenticated"

[[route]]
host = "www.localhost"
path = "/"
upstream = "status:404"
access = "public"
"#;

struct World {
    gateway: Gateway,
    /// Of Envoy's gRPC.
    port: u16,
    _provider: Provider,
    _upstream: Upstream,
}

impl World {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(env: &[(&str, &str)]) -> Self {
        let (provider, upstream, port) = (Provider::start(), Upstream::start(), free_port());
        let extra = Extra {
            server: TRUSTED.to_owned(),
            routes: Some(ROUTES.replace("GRPC", &port.to_string()).replace("UPSTREAM", &upstream.url())),
            host: "app.localhost".to_owned(),
            env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..Extra::default()
        };
        let gateway = Gateway::with(provider.issuer(), &upstream, extra);
        Self { gateway, port, _provider: provider, _upstream: upstream }
    }

    /// A question that comes as one to `host`.
    fn asks(&self, host: &str, headers: &[(&str, &str)]) -> u16 {
        let mut asker = Browser::new(&format!("http://{host}:{}", self.gateway.port));
        asker.send("GET", "/oauth2/auth", &[&[("X-Forwarded-Method", "GET")], headers].concat(), b"").status
    }
}

#[test]
fn px_01_no_reading_of_a_public_path_is_a_protected_one() {
    let w = World::new();
    for path in [
        // Dots removed before slashes are merged: Envoy.
        "/admin//..",
        "//admin//..",
        "/x//admin//../..",
        // Decoded, dots left alone: whatever routes by what WSGI and ASGI call the path.
        "/%61dmin/../x",
        "/%61dmin/%2e%2e/x",
        // Another host's path: PHP's parse_url, Java's URI, JavaScript's URL.
        "//x/admin",
        "///x/admin/y",
        "//x//admin",
        "//x/%61dmin",
        "//x@y:1/./admin",
    ] {
        assert_eq!(w.asks("app.localhost", &[("X-Forwarded-Uri", path)]), 403, "{path}");
        let envoy = w.gateway.browser().send("GET", &format!("/oauth2/ext_authz{path}"), &[], b"");
        assert_eq!(envoy.status, 403, "{path}");
    }
    for path in ["/", "//", "/x//y", "//x", "//x/y", "/x/./y", "/x/%2e", "/%78", "/x;y", "/x?//x/admin/.."] {
        assert_eq!(w.asks("app.localhost", &[("X-Forwarded-Uri", path)]), 202, "{path}");
    }
}

#[test]
fn px_22_a_proxy_that_tells_the_host_by_host_alone_is_not_contradicted_by_its_client() {
    let w = World::new();
    let uri = ("X-Forwarded-Uri", "/page");
    assert_eq!(w.asks("inner.localhost", &[uri]), 401);
    // As oauth2-proxy's documentation has it for nginx: Host and X-Forwarded-Uri, and the client's own other headers.
    for theirs in [
        ("X-Forwarded-Host", "www.localhost"),
        ("X-Original-URL", "http://www.localhost/page"),
        ("Forwarded", "host=www.localhost"),
        ("X-Forwarded-Host", "app.localhost"),
    ] {
        assert_eq!(w.asks("inner.localhost", &[uri, theirs]), 403, "{theirs:?}");
    }
    assert_eq!(w.asks("app.localhost", &[("X-Forwarded-Uri", "/admin"), ("X-Forwarded-Host", "www.localhost")]), 403);
    // Asked under a name of Doorward's own, it is the headers that tell, and the name has no route that could be meant.
    assert_eq!(w.asks("127.0.0.1", &[uri, ("X-Forwarded-Host", "www.localhost")]), 202);
    assert_eq!(w.asks("127.0.0.1", &[uri, ("X-Forwarded-Host", "inner.localhost")]), 401);
    // The same place twice.
    assert_eq!(w.asks("inner.localhost", &[uri, ("X-Forwarded-Host", "INNER.localhost.")]), 401);
    assert_eq!(w.asks("www.localhost", &[uri, ("X-Original-URL", "http://www.localhost/page")]), 202);
}

#[test]
fn px_20_what_an_upstream_of_ours_is_shown_is_nobody_elses_to_read() {
    let w = World::new();
    // Behind a balancer that is trusted, whoever can ask for a page can ask these too.
    for (endpoint, path) in [("auth", "/direct/x"), ("forward", "/direct/x"), ("ext_authz/direct/x", "/")] {
        let told = [("X-Forwarded-Uri", path), ("X-Forwarded-Method", "GET")];
        let answer = w.gateway.browser().send("GET", &format!("/oauth2/{endpoint}"), &told, b"");
        assert_eq!((answer.status, answer.header("authorization")), (403, None), "{endpoint}");
    }
    assert!(w.gateway.log().contains("status:404"), "the operator reads what to do: {}", w.gateway.log());
    // A route that is asked about is for the proxy, which keeps these endpoints to itself; and Envoy's listener is Envoy's.
    let basic = "Basic ZG9vcndhcmQ6c2hhcmVkLXNlY3JldA==";
    let asked = [("X-Forwarded-Uri", "/asked"), ("X-Forwarded-Method", "GET")];
    assert_eq!(w.gateway.browser().send("GET", "/oauth2/auth", &asked, b"").header("authorization"), Some(basic));
    let ok = Envoy::new(w.port).allowed(question("app.localhost", "/direct/x", &[]));
    assert_eq!(values(&ok.headers, "authorization"), [basic]);
    // Who somebody is, is no secret from them.
    assert_eq!(w.asks("app.localhost", &[("X-Forwarded-Uri", "/direct/plain")]), 202);
}

#[test]
fn bx_10_a_client_that_may_have_named_itself_has_no_address_of_its_own() {
    let w = World::with(&[("DOORWARD_SERVER__LIMITS__LOGINS_PER_MINUTE", "2")]);
    let begin = |real: &str| {
        let told = [("X-Forwarded-Uri", "/admin"), ("X-Forwarded-Method", "GET"), ("X-Forwarded-For", "203.0.113.9")];
        let headers = [&support::browser::NAVIGATE[..], &told, &[("X-Real-IP", real)]].concat();
        w.gateway.browser().send("GET", "/oauth2/forward", &headers, b"").status
    };
    // The proxy says X-Forwarded-For; one sign-in more each time, with another address each time.
    assert_eq!(["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(begin), [302, 302, 429]);
    eventually("the access lines", || w.gateway.log().contains("/admin"));
    assert!(!w.gateway.log().contains("192.0.2."), "{}", w.gateway.log());
    // Who is told of once is not in one row with them.
    assert_eq!(begin("203.0.113.9"), 302);
}

/// Whatever the client sent, as Envoy tells it with `encode_raw_headers`.
fn raw_question(path: &str, headers: Vec<(String, Vec<u8>)>) -> CheckRequest {
    let mut asked = question("app.localhost", path, &[]);
    let headers = headers.into_iter();
    let headers = headers.map(|(key, raw_value)| HeaderValue { key, value: String::new(), raw_value }).collect();
    http(&mut asked).header_map = Some(HeaderMap { headers });
    asked
}

#[test]
fn m_11_more_headers_than_there_can_be_are_an_answer_like_any_other() {
    let w = World::new();
    let envoy = Envoy::new(w.port);
    let many = (0..30_000).map(|n| (format!("h{n}"), Vec::new()));
    let refused = envoy.denied(raw_question("/", many.clone().collect()));
    assert_eq!((refused.status(), refused.header("cache-control").as_deref()), (403, Some("no-store")));
    let mut joined = question("app.localhost", "/", &[]);
    http(&mut joined).headers = many.map(|(name, _)| HeaderValue::new(name, "")).collect();
    assert_eq!(envoy.denied(joined).status(), 403);
    envoy.allowed(question("app.localhost", "/", &[]));
}

#[test]
fn k_07_cookies_that_are_nobodys_business_stay_as_they_are() {
    let w = World::new();
    let envoy = Envoy::new(w.port);
    let ok = envoy.allowed(raw_question("/", vec![("cookie".into(), b"name=J\xfcrgen; x=1".to_vec())]));
    assert_eq!(values(&ok.headers, "cookie"), Vec::<String>::new(), "it would not be the same bytes");
    assert!(!ok.headers_to_remove.contains(&"cookie".to_owned()));
    // Where one of ours is among them, they have to be written anew.
    let with_ours = b"a=1; doorward=x; name=J\xc3\xbcrgen".to_vec();
    let ok = envoy.allowed(raw_question("/", vec![("cookie".into(), with_ours)]));
    assert_eq!(values(&ok.headers, "cookie"), ["a=1; name=J\u{fc}rgen"]);
}

#[test]
fn h_15_a_call_that_is_not_finished_or_compressed_leaves_nothing_behind() {
    let limits = [("DOORWARD_SERVER__LIMITS__REQUESTS", "4"), ("DOORWARD_SERVER__LIMITS__BODY_TIMEOUT", "1s")];
    let w = World::with(&limits);
    let authority = format!("127.0.0.1:{}", w.port);
    let head = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", &*authority),
        (":path", CHECK),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut raw = Raw::new(w.port);
    for stream in (1..40).step_by(2) {
        raw.send(HEADERS, END_HEADERS, stream, &block(&head));
        raw.send(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    }
    let mut gone = Raw::new(w.port);
    gone.send(HEADERS, END_HEADERS, 1, &block(&head));
    drop(gone);
    let client = Client::new(w.port);
    let call = |flag: u8, coding: &str| {
        let message = question("app.localhost", "/", &[]).encode_to_vec();
        let framed = [&[flag][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat();
        let more = [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-encoding", coding)];
        let answer = client.send(client.request("POST", CHECK, &more), &framed);
        let status = answer.headers.get("grpc-status").or_else(|| answer.trailers.get("grpc-status"));
        status.map(|status| status.to_str().unwrap().to_owned()).unwrap_or_default()
    };
    eventually("room again", || call(0, "identity") == "0");
    // All the places there are, by calls that stop after the length of their message.
    let mut stalled = Raw::new(w.port);
    for stream in (1..9).step_by(2) {
        stalled.send(HEADERS, END_HEADERS, stream, &block(&head));
        stalled.send(DATA, 0, stream, &[0, 0, 0, 0, 9]);
    }
    let timed_out = "doorward_refused_total{reason=\"body_timeout\"}";
    eventually("their end", || w.gateway.metric(timed_out) == 4.0);
    eventually("room again", || call(0, "identity") == "0");
    for _ in 0..8 {
        assert_eq!(call(1, "gzip"), "12", "it says that it does not take any (gRPC, compression)");
        assert_ne!(call(1, "identity"), "0");
    }
    assert_eq!(call(0, "identity"), "0");
}
