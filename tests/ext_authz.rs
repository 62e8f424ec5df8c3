//! `Check`, Envoy's external authorization over gRPC: what is allowed and with which headers, what is answered instead, and
//! what cannot be asked.

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

use std::time::{Duration, Instant};

use doorward::demo::provider::{Options, User};
use doorward::gateway::ext_authz::proto::{CheckRequest, HeaderMap, HeaderValue, HeaderValueOption, HttpRequest};
use envoy::{CHECK, Envoy, about, http, question, values};
use prost::Message as _;
use support::browser::NAVIGATE;
use support::gateway::Extra;
use support::pki::{Pki, client};
use support::{Browser, Gateway, Provider, Upstream, ask, connect, eventually, free_port};
use tonic::Code;

/// GRPC and MORE are filled in.
const ROUTES: &str = r#"
[forward_auth]
grpc_listen = "127.0.0.1:GRPC"
MORE
[[route]]
path = "/"
upstream = "status:404"
access = "authenticated"
identity = ["x-forwarded", "remote"]
[[route]]
path = "/admin"
upstream = "status:404"
access = "policy"
allow = [{ group = ["nobody"] }]
[[route]]
path = "/public"
upstream = "status:404"
access = "public"
[[route]]
path = "/near"
upstream = "status:404"
access = "policy"
allow = [{ network = ["203.0.113.0/24"] }]
[[route]]
path = "/posted"
methods = ["POST"]
upstream = "status:404"
access = "public"
"#;

const TRUSTED: &str = "trusted_proxies = [\"127.0.0.1\"]";
const XHR: (&str, &str) = ("sec-fetch-mode", "cors");

struct World {
    provider: Provider,
    upstream: Upstream,
    gateway: Gateway,
    port: u16,
    envoy: Envoy,
}

impl World {
    fn new() -> Self {
        Self::with(Provider::start(), TRUSTED, "", "")
    }

    /// Further lines of `[server]`, `[session]` and `[forward_auth]`.
    fn with(provider: Provider, server: &str, session: &str, more: &str) -> Self {
        let (upstream, port) = (Upstream::start(), free_port());
        let gateway = Gateway::with(provider.issuer(), &upstream, extra(server, session, more, port));
        Self { provider, upstream, gateway, port, envoy: Envoy::new(port) }
    }

    fn host(&self) -> &str {
        self.gateway.base.trim_start_matches("http://")
    }

    fn ask(&self, path: &str, headers: &[(&str, &str)]) -> CheckRequest {
        question(self.host(), path, headers)
    }

    /// The cookies of somebody who has just signed in.
    fn session(&self) -> String {
        let mut browser = self.gateway.browser();
        let callback = browser.reach_callback("/");
        assert!(browser.navigate(&callback).status < 400);
        browser
            .jars
            .get(&self.gateway.base)
            .unwrap()
            .iter()
            .map(|(n, v)| format!("{n}={v}"))
            .collect::<Vec<_>>()
            .join("; ")
    }
}

fn extra(server: &str, session: &str, more: &str, port: u16) -> Extra {
    let routes = ROUTES.replace("GRPC", &port.to_string()).replace("MORE", more);
    Extra { server: server.into(), session: session.into(), routes: Some(routes), ..Extra::default() }
}

#[test]
fn hx_05_who_may_pass_is_forwarded_with_the_identity_and_without_our_cookies() {
    let world = World::new();
    let cookie = format!("theme=dark; {}; lang=en", world.session());
    let ok = world.envoy.allowed(world.ask("/page?x=1", &[("cookie", &cookie), ("x-forwarded-user", "root"), XHR]));
    for (name, value) in [
        ("x-forwarded-user", "alice"),
        ("x-forwarded-email", "alice@example.test"),
        ("remote-user", "alice"),
        ("x-auth-request-user", "alice"),
        ("cookie", "theme=dark; lang=en"),
    ] {
        assert_eq!(values(&ok.headers, name), [value]);
    }
    // In place of what a client sent, never beside it.
    assert!(ok.headers.iter().all(|option| option.append == Some(false)), "{:?}", ok.headers);
    for name in ["x-forwarded-user", "cookie"] {
        assert!(!ok.headers_to_remove.iter().any(|removed| removed == name), "{name} would be removed again");
    }
    let set = values(&ok.response_headers_to_add, "set-cookie");
    assert!(!set.iter().any(|line| line.starts_with("doorward=")), "the session stays as it is: {set:?}");
    let alone = world.session();
    let ok = world.envoy.allowed(world.ask("/", &[("cookie", &alone), XHR]));
    assert_eq!(values(&ok.headers, "cookie"), Vec::<String>::new());
    assert!(ok.headers_to_remove.contains(&"cookie".to_owned()), "nothing else was in it");
}

#[test]
fn hx_03_hx_21_what_reads_as_ours_is_removed_by_the_name_it_came_under() {
    let mut nobody = User::new("nomail", "No Mail", &[]);
    nobody.email = String::new();
    let options = Options { users: vec![nobody], ..Options::default() };
    let provider = Provider::with(options);
    provider.demo.control().auto_login(Some("nomail"));
    let world = World::with(provider, TRUSTED, "", "");
    let spoofed = [
        "x_forwarded_user",
        "x.forwarded.groups",
        "x-forwarded_email",
        "x-forwarded-email",
        "x-forwarded-groups",
        "remote_user",
        "x-auth-request-email",
        "x_auth_request_user",
        "x-webauth-user",
        "x-doorward-assertion",
    ];
    let cookie = world.session();
    let mut headers: Vec<(&str, &str)> = spoofed.iter().map(|name| (*name, "root")).collect();
    headers.push(XHR);
    for (path, signed_in) in [("/page", true), ("/public/page", false), ("/public/page", true)] {
        let mut headers = headers.clone();
        if signed_in {
            headers.push(("cookie", &cookie));
        }
        let ok = world.envoy.allowed(world.ask(path, &headers));
        let set = |name: &str| !values(&ok.headers, name).is_empty();
        for name in spoofed {
            assert!(ok.headers_to_remove.iter().any(|removed| removed == name) || set(name), "{path}: {name} stays");
        }
        assert!(values(&ok.headers, "x-forwarded-email").is_empty(), "{path}");
        assert_eq!(set("x-forwarded-user"), path == "/page", "{path}");
        let told = ok.headers.iter().filter_map(|option| option.header.as_ref());
        assert!(told.filter(|header| header.value == "root").count() == 0, "{path}");
    }
}

#[test]
fn l_20_who_may_not_is_answered_as_by_doorward_itself() {
    let world = World::new();
    let lower: Vec<(String, &str)> = NAVIGATE.iter().map(|(name, value)| (name.to_ascii_lowercase(), *value)).collect();
    let navigation: Vec<(&str, &str)> = lower.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let sign_in = world.envoy.denied(world.ask("/page?x=1", &navigation));
    assert_eq!(sign_in.status(), 302);
    assert!(sign_in.header("location").unwrap().starts_with(world.provider.issuer()), "{sign_in:?}");
    assert!(sign_in.header("set-cookie").unwrap().starts_with("doorward.login."), "{sign_in:?}");
    assert_eq!(sign_in.header("cache-control").as_deref(), Some("no-store"));
    // Said to be appended, Envoy would leave it out.
    assert!(sign_in.0.headers.iter().all(|option| option.append.is_none()), "{sign_in:?}");

    let program = world.envoy.denied(world.ask("/page", &[XHR]));
    assert_eq!((program.status(), program.header("set-cookie")), (401, None));
    assert!(program.0.body.contains("login_url"), "{program:?}");
    assert!(program.header("www-authenticate").is_some());

    let cookie = world.session();
    let refused = world.envoy.denied(world.ask("/admin", &[("cookie", &cookie), navigation[0], navigation[1]]));
    assert_eq!(refused.status(), 403);
    assert!(refused.0.body.contains("<h1"), "a page");
    let mut posted = world.ask("/page", &navigation);
    http(&mut posted).method = "POST".into();
    assert_eq!(world.envoy.denied(posted).status(), 401);
    // Envoy makes a gRPC status of it.
    let call =
        world.envoy.denied(world.ask("/test.Notes/Say", &[("content-type", "application/grpc"), ("te", "trailers")]));
    assert_eq!(call.status(), 401);
}

#[test]
fn what_is_not_said_or_cannot_be_read_is_denied() {
    let world = World::new();
    for question in [CheckRequest { attributes: None }, about(None)] {
        assert_eq!(world.envoy.denied(question).status(), 403);
    }
    type Change = fn(&mut HttpRequest);
    let changes: [(&str, Change); 10] = [
        ("no method", |http| http.method.clear()),
        ("a method that is none", |http| http.method = "GET /".into()),
        ("no path", |http| http.path.clear()),
        ("a path without a slash", |http| http.path = "public".into()),
        ("a URL", |http| http.path = "http://127.0.0.1/public".into()),
        ("a fragment", |http| http.path = "/public#/../admin".into()),
        ("a blank", |http| http.path = "/public /".into()),
        ("no host", |http| http.host.clear()),
        ("a host that is none", |http| http.host = "127.0.0.1:x".into()),
        ("a header that is none", |http| http.headers.push(HeaderValue::new("a b", "c"))),
    ];
    for (what, change) in changes {
        let mut question = world.ask("/public", &[]);
        change(http(&mut question));
        let status = world.envoy.denied(question).status();
        assert!((400..=404).contains(&status), "{what}: {status}");
    }
    world.envoy.allowed(world.ask("/public", &[]));
}

#[test]
fn px_01_px_02_px_05_px_28_no_spelling_of_a_path_passes() {
    let world = World::new();
    for path in [
        "/public/../admin",
        "//admin",
        "/%61dmin",
        "/public/%2e%2e/admin",
        "/public;/../admin",
        "/admin%2f..%2fpublic",
        "/public/..;/admin",
        "/public/..",
        "/public\\..\\admin",
        "/./admin",
        "/admin;x",
        "/public/%2e%2e",
        "/public/x/../../admin",
        "/oauth2/userinfo",
        "/oauth2/../public",
        "/public/../oauth2/sign_in",
        "/public/..%2fadmin",
    ] {
        let status = world.envoy.denied(world.ask(path, &[XHR])).status();
        assert!((400..=404).contains(&status), "{path}: {status}");
    }
}

#[test]
fn px_20_px_22_px_23_what_a_client_says_of_itself_moves_nothing() {
    let world = World::new();
    for (name, value) in [
        ("x-forwarded-uri", "/public"),
        ("x-original-url", "/public"),
        ("x-original-uri", "/public"),
        ("x-rewrite-url", "/public"),
        ("x-forwarded-method", "POST"),
        ("x-original-method", "POST"),
        ("x-forwarded-host", "evil.test"),
        ("x-http-method-override", "POST"),
    ] {
        assert_eq!(world.envoy.denied(world.ask("/page", &[XHR, (name, value)])).status(), 401, "{name}");
        assert_eq!(world.envoy.denied(world.ask("/posted", &[XHR, (name, value)])).status(), 401, "{name}");
    }
    // The client's address is the one that is connected to Envoy, unless that is a trusted proxy, which then says whose.
    world.envoy.allowed(world.ask("/near", &[("x-forwarded-for", "192.0.2.1")]));
    let from = |address: &str, headers: &[(&str, &str)]| {
        let mut question = world.ask("/near", headers);
        let source = question.attributes.as_mut().unwrap().source.as_mut().unwrap();
        source.address.as_mut().unwrap().socket_address.as_mut().unwrap().address = address.to_owned();
        question
    };
    for name in ["x-forwarded-for", "x-real-ip", "forwarded"] {
        let value = if name == "forwarded" { "for=203.0.113.9" } else { "203.0.113.9" };
        world.envoy.denied(from("192.0.2.1", &[XHR, (name, value)]));
    }
    world.envoy.allowed(from("127.0.0.1", &[("x-forwarded-for", "192.0.2.1, 203.0.113.9")]));
    world.envoy.denied(from("127.0.0.1", &[XHR, ("x-forwarded-for", "203.0.113.9, 192.0.2.1")]));
    // Not told who it is, nobody is taken for somebody near; nor is a proxy that does not say whom it speaks for.
    assert_eq!(world.envoy.denied(from("127.0.0.1", &[XHR])).status(), 403);
    let mut unknown = world.ask("/near", &[XHR]);
    unknown.attributes.as_mut().unwrap().source = None;
    assert_eq!(world.envoy.denied(unknown).status(), 403);
}

#[test]
fn headers_count_as_bytes_too() {
    let world = World::new();
    let cookie = world.session();
    let mut question = world.ask("/page", &[]);
    let raw =
        |key: &str, value: &[u8]| HeaderValue { key: key.into(), value: String::new(), raw_value: value.to_vec() };
    // Two fields of one name, and bytes that are no UTF-8.
    let headers = vec![
        raw(":path", b"/page"),
        raw("cookie", b"theme=dark"),
        raw("cookie", cookie.as_bytes()),
        raw("x-name", b"\xe4"),
        raw("x_forwarded_user", b"root"),
    ];
    http(&mut question).header_map = Some(HeaderMap { headers });
    let ok = world.envoy.allowed(question);
    assert_eq!(values(&ok.headers, "x-forwarded-user"), ["alice"]);
    assert_eq!(values(&ok.headers, "cookie"), ["theme=dark"]);
    assert!(ok.headers_to_remove.contains(&"x_forwarded_user".to_owned()));
}

#[test]
fn rf_01_a_refreshed_sessions_cookie_goes_onto_the_answer() {
    let options = Options { access_token_ttl: Duration::from_secs(2), ..Options::default() };
    let world = World::with(Provider::with(options), TRUSTED, "", "");
    let cookie = world.session();
    let since = Instant::now();
    eventually("the token's end", || since.elapsed() > Duration::from_millis(2_100));
    let ok = world.envoy.allowed(world.ask("/page", &[("cookie", &cookie), XHR]));
    let set = values(&ok.response_headers_to_add, "set-cookie");
    assert!(set.iter().any(|line| line.starts_with("doorward=")), "{set:?}");
    // Beside the application's own, as Envoy has it where nothing is said; but CX-01 in place of what it says of caches.
    let append = |name| {
        let named = |option: &&HeaderValueOption| option.header.as_ref().is_some_and(|header| header.key == name);
        let options = ok.response_headers_to_add.iter().filter(named);
        options.map(|option| option.append).collect::<Vec<_>>()
    };
    assert!(append("set-cookie").iter().all(Option::is_none), "{:?}", ok.response_headers_to_add);
    assert_eq!(append("cache-control"), [Some(false)]);
    assert_eq!(values(&ok.response_headers_to_add, "cache-control"), ["no-store"]);
    let next = set[0].split(';').next().unwrap().to_owned();
    world.envoy.allowed(world.ask("/page", &[("cookie", &next), XHR]));

    // Without the provider nobody passes with a token that is over.
    let since = Instant::now();
    eventually("the token's end", || since.elapsed() > Duration::from_millis(2_100));
    let World { provider, envoy, gateway, .. } = world;
    drop(provider);
    let host = gateway.base.trim_start_matches("http://");
    let away = envoy.denied(question(host, "/page", &[("cookie", &next), XHR]));
    assert_eq!(away.status(), 503);
    assert!(away.header("retry-after").is_some());
}

#[test]
fn px_20_only_trusted_proxies_may_ask() {
    let world = World::with(Provider::start(), "trusted_proxies = [\"192.0.2.1\"]", "", "");
    for path in ["/public", "/page"] {
        let refused = world.envoy.call(CHECK, world.ask(path, &[])).unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
        assert!(refused.message().contains("server.trusted_proxies"), "{refused:?}");
    }
}

#[test]
fn h_15_calls_that_are_no_check_or_too_large_are_refused_and_the_connection_goes_on() {
    let world = World::new();
    for method in [
        "/envoy.service.auth.v3.Authorization/Other",
        "/envoy.service.auth.v2.Authorization/Check",
        "/",
        "/oauth2/userinfo",
    ] {
        assert_eq!(
            world.envoy.call(method, world.ask("/public", &[])).unwrap_err().code(),
            Code::Unimplemented,
            "{method}"
        );
    }
    let large = "x".repeat(2 * 1024 * 1024);
    let refused = world.envoy.call(CHECK, world.ask("/public", &[("x-large", &large)])).unwrap_err();
    assert!(matches!(refused.code(), Code::OutOfRange | Code::ResourceExhausted), "{refused:?}");
    world.envoy.allowed(world.ask("/public", &[]));

    // Bytes that are no message, no gRPC, no HTTP/2; and the public listener answers no gRPC.
    let raw = support::http2::Client::new(world.port);
    let post = |kind: &str| raw.request("POST", CHECK, &[("content-type", kind), ("te", "trailers")]);
    let junk = raw.send(post("application/grpc"), b"\0\0\0\0\x03\xff\xff\xff");
    assert_ne!(grpc_status(&junk), Some("0"), "{:?}", junk.headers);
    let json = raw.send(post("application/json"), b"{}");
    assert_ne!(grpc_status(&json), Some("0"), "{:?}", json.headers);
    let plain = connect(world.port).ok().and_then(|mut open| ask(&mut open, world.host(), "/public"));
    assert!(plain.is_none_or(|answer| answer.status >= 400));
    let public = Envoy::new(world.gateway.port).call(CHECK, world.ask("/public", &[])).unwrap_err();
    assert_ne!(public.code(), Code::Ok);
    let elsewhere = Browser::new(&world.gateway.base).send("POST", CHECK, &[("Content-Type", "application/grpc")], b"");
    assert_eq!(grpc_header(&elsewhere), Some("16"), "a call like any other, of nobody");
}

fn grpc_status(answer: &support::http2::Answer) -> Option<&str> {
    let said = answer.trailers.get("grpc-status").or_else(|| answer.headers.get("grpc-status"));
    said.map(|value| value.to_str().unwrap())
}

fn grpc_header(answer: &support::Answer) -> Option<&str> {
    answer.header("grpc-status")
}

#[test]
fn a_reload_moves_the_listener_and_a_drain_answers_to_the_end() {
    let mut world = World::new();
    world.envoy.allowed(world.ask("/public", &[]));
    let moved = free_port();
    let before = world.gateway.reloads("ok");
    world.gateway.reload(world.provider.issuer(), &world.upstream, &extra(TRUSTED, "", "", moved));
    eventually("the reload", || world.gateway.reloads("ok") > before);
    let next = Envoy::new(moved);
    next.allowed(world.ask("/public", &[]));
    eventually("nobody listens there any more", || connect(world.port).is_err());

    // Whoever is no longer trusted may no longer ask, over the connection that is open.
    let before = world.gateway.reloads("ok");
    let distrusted = extra("trusted_proxies = [\"192.0.2.1\"]", "", "", moved);
    world.gateway.reload(world.provider.issuer(), &world.upstream, &distrusted);
    eventually("the reload", || world.gateway.reloads("ok") > before);
    assert_eq!(next.call(CHECK, world.ask("/public", &[])).unwrap_err().code(), Code::PermissionDenied);

    world.gateway.signal("TERM");
    assert_eq!(world.gateway.ended().code(), Some(0), "a connection that rests holds nothing up");
    assert_eq!(next.call(CHECK, world.ask("/public", &[])).unwrap_err().code(), Code::Unavailable);
}

#[test]
fn grpc_tls_speaks_with_the_servers_certificate() {
    let pki = Pki::new(&["localhost"]);
    let tls = format!(
        "{TRUSTED}\n[server.tls]\ncert = \"{}\"\nkey = \"{}\"",
        pki.path("cert.pem").display(),
        pki.path("key.pem").display()
    );
    let config = r#"
[server]
public_url = "https://localhost:PORT"
listen = ["127.0.0.1:PORT"]
TLS
[admin]
listen = "127.0.0.1:ADMIN"
[session]
keys = ["a-session-key-of-the-tests-that-is-long-enough"]
[forward_auth]
grpc_listen = "127.0.0.1:GRPC"
grpc_tls = true
[[route]]
path = "/public"
upstream = "status:404"
access = "public"
"#;
    let port = free_port();
    let gateway = Gateway::custom(&config.replace("TLS", &tls).replace("GRPC", &port.to_string()));
    let channel = support::http2::Client::over_tls(client(&pki.path("ca.pem")), "localhost", port);
    let host = format!("localhost:{}", gateway.port);
    let message = question(&host, "/public", &[]).encode_to_vec();
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    let call = channel.request("POST", CHECK, &[("content-type", "application/grpc"), ("te", "trailers")]);
    let answer = channel.send(call, &framed);
    assert_eq!(grpc_status(&answer), Some("0"));
    let answer = doorward::gateway::ext_authz::proto::CheckResponse::decode(&answer.body[5..]).unwrap();
    assert_eq!(answer.status.unwrap().code, 0);
    assert!(Envoy::new(port).call(CHECK, question(&host, "/public", &[])).is_err(), "without TLS");
}
