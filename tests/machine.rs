//! Machines at the door: bearer tokens instead of cookies, what becomes of them upstream, and how they are refused.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use doorward::demo::provider::{Endpoint, Fault};
use serde_json::{Value, json};
use support::gateway::Extra;
use support::{Answer, Browser, Gateway, Provider, Upstream};

/// `/` for people and `/api` for both; `MACHINE` is what `[route.machine]` says.
const ROUTES: &str = r#"
[[route]]
path = "/"
upstream = "UPSTREAM"
access = "authenticated"

[[route]]
name = "api"
path = "/api"
upstream = "UPSTREAM"
ACCESS
identity = ["x-forwarded"]
[route.machine]
MACHINE
"#;

const SIGNED_IN: &str = "access = \"authenticated\"";
const TOKENS: &str = "issuers = [\"main\"]\naudience = [\"demo-api\"]";

struct World {
    provider: Provider,
    upstream: Upstream,
    gateway: Gateway,
}

impl World {
    fn new(access: &str, machine: &str, env: &[(&str, &str)]) -> Self {
        let (provider, upstream) = (Provider::start(), Upstream::start());
        let routes = ROUTES.replace("ACCESS", access).replace("MACHINE", machine);
        let env = env.iter().map(|(name, value)| (format!("DOORWARD_{name}"), (*value).to_owned())).collect();
        let extra = Extra { routes: Some(routes), env, ..Extra::default() };
        let gateway = Gateway::with(provider.issuer(), &upstream, extra);
        Self { provider, upstream, gateway }
    }

    fn token(&self, sub: &str) -> String {
        self.provider.demo.control().access_token(sub, None).unwrap()
    }

    /// For alice, with this claim.
    fn with(&self, name: &'static str, value: Value) -> String {
        let fault = Fault::tamper(move |_, claims| {
            claims.insert(name.to_owned(), value.clone());
        });
        self.provider.demo.control().access_token("alice", Some(&fault)).unwrap()
    }

    fn ask(&self, authorization: &[&str], path: &str) -> Answer {
        ask(&mut self.gateway.browser(), authorization, path)
    }

    fn bearer(&self, token: &str) -> Answer {
        self.ask(&[&format!("Bearer {token}")], "/api/x")
    }
}

fn ask(browser: &mut Browser, authorization: &[&str], path: &str) -> Answer {
    let headers: Vec<_> = authorization.iter().map(|value| ("Authorization", *value)).collect();
    browser.send("GET", path, &headers, b"")
}

/// The parameters of the one `Bearer` challenge.
fn challenge(answer: &Answer) -> String {
    let all = answer.all("www-authenticate");
    let bearer: Vec<_> = all.iter().filter(|one| one.starts_with("Bearer ")).collect();
    assert_eq!(bearer.len(), 1, "{all:?}");
    (*bearer[0]).to_owned()
}

#[test]
fn at_01_b_20_tokens_let_in_and_say_upstream_whose_they_are() {
    let world = World::new(SIGNED_IN, TOKENS, &[]);
    assert_eq!(world.bearer(&world.token("alice")).status, 200);
    let seen = world.upstream.last();
    assert_eq!((seen.all("x-forwarded-user"), seen.all("x-doorward-client")), (vec!["alice"], vec!["demo"]));
    assert!(seen.all("authorization").is_empty(), "what Doorward judged ends here");
    // B-20: the client's own token.
    assert_eq!(world.bearer(&world.token("demo")).status, 200);
    let seen = world.upstream.last();
    assert_eq!((seen.all("x-forwarded-user"), seen.all("x-doorward-client")), (vec![], vec!["demo"]));
    let forged = [("X-Doorward-Client", "root"), ("X_Doorward_Client", "root")];
    let mut browser = world.gateway.signed_in();
    assert_eq!(browser.send("GET", "/api/x", &forged, b"").status, 200);
    let seen = world.upstream.last();
    assert!(seen.headers.iter().all(|(_, value)| value != "root"), "{seen:?}");
    assert_eq!(seen.all("x-forwarded-user"), ["alice"], "without Authorization it is the session, as everywhere");
}

#[test]
fn at_01_j_10_jx_14_jx_15_jx_26_what_is_no_token_for_here_is_401() {
    let world = World::new(SIGNED_IN, TOKENS, &[]);
    let control = world.provider.demo.control();
    let by_header = |change: &'static (dyn Fn(&mut serde_json::Map<String, Value>) + Send + Sync)| {
        let fault = Fault::tamper(move |header, _| change(header));
        control.access_token("alice", Some(&fault)).unwrap()
    };
    for (what, token) in [
        ("a wrong audience", world.with("aud", json!("other"))),
        ("a prefix of ours", world.with("aud", json!("demo"))),
        ("a wrong issuer", world.with("iss", json!("https://id.example.com"))),
        ("expired", world.with("exp", json!(1_700_000_000))),
        ("bound to a key", world.with("cnf", json!({"jkt": "x"}))),
        ("a wrong signature", control.access_token("alice", Some(&Fault::BadSignature)).unwrap()),
        ("alg none", by_header(&|header| drop(header.insert("alg".into(), "none".into())))),
        ("the client secret as a key", by_header(&|header| drop(header.insert("alg".into(), "HS256".into())))),
        ("another kind", by_header(&|header| drop(header.insert("typ".into(), "logout+jwt".into())))),
        ("a logout token", control.logout_token(Some("alice"), None, None).unwrap()),
        ("an opaque token", control.opaque_token("alice", "read")),
        ("nonsense", "a.b.c".to_owned()),
    ] {
        let answer = world.bearer(&token);
        assert_eq!(answer.status, 401, "{what}");
        assert_eq!(answer.json()["error"], "invalid_token", "{what}");
        assert!(challenge(&answer).contains("error=\"invalid_token\""), "{what}: {}", challenge(&answer));
    }
    assert!(world.upstream.seen().is_empty());
    assert_eq!(world.provider.demo.stats().hits(Endpoint::Introspection), 0, "JX-30");
    assert!(!world.gateway.log().contains("eyJ"), "ZX-01: no token in a log");
}

#[test]
fn o_08_o_09_o_10_bx_03_how_a_token_is_brought() {
    let world = World::new(SIGNED_IN, TOKENS, &[]);
    let good = world.token("alice");
    for scheme in ["bearer", "BEARER", "Bearer  "] {
        assert_eq!(world.ask(&[&format!("{scheme} {good}")], "/api/x").status, 200, "{scheme}");
    }
    let (bearer, pair) = (format!("Bearer {good}"), format!("Bearer {good}, Bearer {good}"));
    let two = world.ask(&[&bearer, &bearer], "/api/x");
    assert_eq!((two.status, challenge(&two).contains("error=\"invalid_request\"")), (400, true));
    let query = format!("/api/x?access_token={good}");
    assert_eq!(world.ask(&[&bearer], &query).status, 400);
    let by_query = world.ask(&[], &query);
    assert_eq!((by_query.status, challenge(&by_query).contains("error=")), (401, false));
    for field in [pair.as_str(), "Basic YWxpY2U6YWxpY2U=", &format!("DPoP {good}"), "ApiKey x", "Bearer", "x"] {
        assert_eq!(world.ask(&[field], "/api/x").status, 401, "{field}");
    }
    // Elsewhere it is the application's.
    let mut browser = world.gateway.signed_in();
    assert_eq!(ask(&mut browser, &["ApiKey x"], "/").status, 200);
    assert_eq!(world.upstream.last().all("authorization"), ["ApiKey x"]);
}

#[test]
fn jx_27_a_token_beside_a_cookie_is_the_one_that_counts() {
    let world = World::new(SIGNED_IN, TOKENS, &[]);
    let mut browser = world.gateway.signed_in();
    let asked = |browser: &mut Browser, token: &str| ask(browser, &[&format!("Bearer {token}")], "/api/x");
    assert_eq!(asked(&mut browser, &world.token("bob")).status, 200);
    let seen = world.upstream.last();
    assert_eq!(seen.all("x-forwarded-user"), ["bob"]);
    assert!(seen.all("x-forwarded-email").is_empty(), "never a blend");
    assert!(seen.all("cookie").is_empty(), "our cookie stays here, whoever counts");
    assert_eq!(asked(&mut browser, &world.with("aud", json!("other"))).status, 401, "a good cookie mends no bad token");
    assert_eq!(browser.send("GET", "/api/x", &[], b"").status, 200);
}

#[test]
fn d_08_jx_09_a_thousand_tokens_are_one_fetch_of_keys_and_unknown_keys_one_more() {
    let no_limit = [("SERVER__LIMITS__REFUSED_TOKENS_PER_MINUTE", "1000000")];
    let world = World::new(SIGNED_IN, TOKENS, &no_limit);
    let fetches = || world.provider.demo.stats().hits(Endpoint::Jwks);
    let before = fetches();
    let good = world.token("alice");
    for _ in 0..300 {
        assert_eq!(world.bearer(&good).status, 200);
        assert_eq!(world.bearer(&world.token("bob")).status, 200);
    }
    assert_eq!(fetches(), before);
    for n in 0..300 {
        let fault = Fault::tamper(move |header, _| drop(header.insert("kid".to_owned(), json!(format!("k{n}")))));
        let unknown = world.provider.demo.control().access_token("alice", Some(&fault)).unwrap();
        assert_eq!(world.bearer(&unknown).status, 401);
    }
    assert_eq!(fetches(), before + 1);
    assert_eq!(world.bearer(&good).status, 200);
}

#[test]
fn d_08_an_unknown_key_while_the_keys_are_away_is_503() {
    let world = World::new(SIGNED_IN, TOKENS, &[]);
    let good = world.token("alice");
    assert_eq!(world.bearer(&good).status, 200);
    world.provider.demo.control().fault(Endpoint::Jwks, Fault::Reset);
    world.provider.demo.control().rotate_keys(false).unwrap();
    let answer = world.bearer(&world.token("alice"));
    assert_eq!((answer.status, answer.header("retry-after").is_some()), (503, true));
    assert_eq!(world.bearer(&good).status, 200, "known already");
}

#[test]
fn bx_01_bx_09_rules_are_asked_of_machines_too() {
    let world = World::new("access = \"policy\"\nallow = [{ user = \"alice\" }]", TOKENS, &[]);
    assert_eq!(world.bearer(&world.token("alice")).status, 200);
    for sub in ["bob", "demo"] {
        let answer = world.bearer(&world.token(sub));
        assert_eq!((answer.status, answer.json()["error"].as_str()), (403, Some("forbidden")), "{sub}");
    }
}

#[test]
fn o_09_a_program_without_credentials_is_told_where_to_get_them() {
    let world = World::new(SIGNED_IN, TOKENS, &[]);
    let url = format!("{}/.well-known/oauth-protected-resource/api", world.gateway.base);
    for answer in [world.ask(&[], "/api/x"), world.bearer("x")] {
        assert_eq!(answer.status, 401);
        assert!(challenge(&answer).contains(&format!("resource_metadata=\"{url}\"")), "{}", challenge(&answer));
        assert!(answer.json()["login_url"].is_string());
    }
    let mut browser = world.gateway.browser();
    let document = browser.send("GET", &url, &[("Origin", "https://inspector.example")], b"");
    assert_eq!((document.status, document.header("access-control-allow-origin")), (200, Some("*")));
    assert_eq!(
        document.json(),
        json!({
            "resource": format!("{}/api", world.gateway.base),
            "resource_name": "api",
            "authorization_servers": [world.provider.issuer()],
            "bearer_methods_supported": ["header"],
        })
    );
    let preflight = browser.send("OPTIONS", &url, &[("Origin", "https://inspector.example")], b"");
    assert_eq!((preflight.status, preflight.header("access-control-allow-headers")), (204, Some("*")));
    // A route for people only says nothing of tokens, and what is no document of ours is not ours.
    assert_eq!(browser.fetch("/.well-known/oauth-protected-resource").status, 401);
    assert!(!challenge(&browser.fetch("/x")).contains("resource_metadata"));
    let quiet = World::new(SIGNED_IN, &format!("{TOKENS}\nresource_metadata = false"), &[]);
    let answer = quiet.ask(&[], "/.well-known/oauth-protected-resource/api");
    assert_eq!(answer.status, 401);
    assert!(!challenge(&quiet.ask(&[], "/api")).contains("resource_metadata"));
}

#[test]
fn bx_10_an_address_with_too_many_refused_tokens_is_429_and_known_tokens_go_on() {
    let world = World::new(SIGNED_IN, TOKENS, &[("SERVER__LIMITS__REFUSED_TOKENS_PER_MINUTE", "3")]);
    let good = world.token("alice");
    assert_eq!(world.bearer(&good).status, 200);
    for _ in 0..3 {
        assert_eq!(world.bearer("x").status, 401);
    }
    assert_eq!(world.bearer("x").status, 429);
    assert_eq!(world.bearer(&world.token("bob")).status, 429, "not known yet");
    assert_eq!(world.bearer(&good).status, 200);
}

#[test]
fn j_13_a_huge_token_is_refused_at_once() {
    let world = World::new(SIGNED_IN, TOKENS, &[]);
    assert_eq!(world.bearer(&"a".repeat(17_000)).status, 401);
    assert_eq!(world.bearer(&"a".repeat(100_000)).status, 431);
}

#[test]
fn an_issuer_section_vouches_for_machines_without_a_sign_in() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let elsewhere = Provider::start();
    let machine =
        "issuers = [\"ci\"]\n[issuer.ci]\nissuer = \"ISSUER\"\naudience = \"demo-api\"\nclaims = { user = \"jti\" }";
    let routes = ROUTES.replace("ACCESS", SIGNED_IN).replace("MACHINE", &machine.replace("ISSUER", elsewhere.issuer()));
    let gateway = Gateway::with(provider.issuer(), &upstream, Extra { routes: Some(routes), ..Extra::default() });
    let bearer = |token: String| ask(&mut gateway.browser(), &[&format!("Bearer {token}")], "/api/x").status;
    assert_eq!(bearer(elsewhere.demo.control().access_token("repo:x", None).unwrap()), 200);
    assert_ne!(upstream.last().all("x-forwarded-user"), ["repo:x"], "by the section's own mapping");
    assert_eq!(bearer(provider.demo.control().access_token("alice", None).unwrap()), 401, "not named by the route");
}

/// Introspection beside signed tokens.
const OPAQUE: &str = "issuers = [\"main\"]\naudience = [\"demo-api\"]\nintrospect = \"main\"";

#[test]
fn in_01_in_03_an_opaque_token_is_looked_up_once() {
    let world = World::new("access = \"policy\"\nallow = [{ scope = \"read\" }]", OPAQUE, &[]);
    let calls = || world.provider.demo.stats().hits(Endpoint::Introspection);
    let token = world.provider.demo.control().opaque_token("alice", "read");
    for _ in 0..20 {
        assert_eq!(world.bearer(&token).status, 200);
    }
    assert_eq!(calls(), 1);
    let seen = world.upstream.last();
    assert_eq!((seen.all("x-forwarded-user"), seen.all("x-doorward-client")), (vec!["alice"], vec!["demo"]));
    assert_eq!(world.bearer(&world.token("bob")).status, 200, "its signature is enough");
    assert_eq!(calls(), 1);
    for _ in 0..20 {
        assert_eq!(world.bearer("unknown").status, 401);
    }
    assert_eq!(calls(), 2, "a refusal is remembered too");
    // O-09: what would have helped.
    let answer = world.bearer(&world.provider.demo.control().opaque_token("alice", "write"));
    assert_eq!(answer.status, 403);
    assert!(challenge(&answer).contains("error=\"insufficient_scope\", scope=\"read\""), "{}", challenge(&answer));
    assert!(!world.gateway.log().contains(&token));
}

#[test]
fn in_02_bx_04_what_an_introspection_answer_must_say() {
    let world = World::new(SIGNED_IN, OPAQUE, &[]);
    let control = world.provider.demo.control();
    let with = |fault: Fault| {
        control.fault_times(Endpoint::Introspection, fault, 1);
        world.bearer(&control.opaque_token("alice", "read")).status
    };
    for (name, value) in [
        ("active", json!("true")),
        ("active", json!(false)),
        ("aud", json!("other")),
        ("aud", json!(["demo-api2"])),
        ("iss", json!("https://id.example.com")),
        ("exp", json!(1_700_000_000)),
        ("token_type", json!("DPoP")),
        ("cnf", json!({"jkt": "x"})),
    ] {
        assert_eq!(with(Fault::SetMember(name, value.clone())), 401, "{name} {value}");
    }
    for name in ["active", "aud"] {
        assert_eq!(with(Fault::DropMember(name)), 401, "{name}");
    }
    assert_eq!(with(Fault::SetMember("aud", json!(["x", "demo-api"]))), 200);
}

#[test]
fn in_03_an_endpoint_that_is_away_or_talks_nonsense_is_503() {
    let world = World::new(SIGNED_IN, OPAQUE, &[]);
    let control = world.provider.demo.control();
    let token = control.opaque_token("alice", "read");
    for fault in [
        Fault::Reset,
        Fault::Status(500),
        Fault::Status(404),
        Fault::Html,
        Fault::Empty,
        Fault::Huge(2 << 20),
        Fault::Redirect("http://127.0.0.1:1/".to_owned()),
        Fault::Json(401, json!({"error": "invalid_client"}).to_string()),
        Fault::Json(200, "{\"active\":false,\"active\":true}".to_owned()),
    ] {
        control.fault_times(Endpoint::Introspection, fault.clone(), 1);
        assert_eq!(world.bearer(&token).status, 503, "{fault:?}");
    }
    assert_eq!(world.bearer(&token).status, 200, "nobody held it against the token");
}

#[test]
fn at_01_the_token_of_a_strange_issuer_is_sent_nowhere() {
    let world = World::new(SIGNED_IN, OPAQUE, &[]);
    assert_eq!(world.bearer(&world.with("iss", json!("https://id.example.com"))).status, 401);
    assert_eq!(world.provider.demo.stats().hits(Endpoint::Introspection), 0);
    // Where only introspection is configured, the provider's own JWTs are looked up.
    let alone = World::new(SIGNED_IN, "audience = [\"demo-api\"]\nintrospect = \"main\"", &[]);
    assert_eq!(alone.bearer(&alone.token("alice")).status, 401, "the demo provider keeps no JWT");
    assert_eq!(alone.provider.demo.stats().hits(Endpoint::Introspection), 1);
}

/// `Basic` of this user name and password.
fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

#[test]
fn bx_03_o_12_basic_is_tried_at_the_provider_where_that_is_configured() {
    let world =
        World::new(SIGNED_IN, "issuers = [\"main\"]\naudience = [\"demo-api\"]\nbasic = \"password_grant\"", &[]);
    let tries = || world.provider.demo.stats().password_grants;
    for _ in 0..10 {
        assert_eq!(world.ask(&[&basic("alice", "alice")], "/api/x").status, 200);
    }
    assert_eq!((tries().ok, tries().refused), (1, 0), "remembered");
    let seen = world.upstream.last();
    assert_eq!(
        (seen.all("x-forwarded-user"), seen.all("x-forwarded-email")),
        (vec!["alice"], vec!["alice@example.test"])
    );
    assert!(seen.all("authorization").is_empty() && seen.all("x-doorward-client").is_empty());
    for _ in 0..10 {
        assert_eq!(world.ask(&[&basic("alice", "wrong-password")], "/api/x").status, 401);
    }
    assert_eq!(tries().refused, 1, "remembered too");
    let answer = world.ask(&[], "/api/x");
    assert!(answer.all("www-authenticate").iter().any(|one| one.starts_with("Basic realm=")), "{answer:?}");
    assert_eq!(world.bearer(&world.token("bob")).status, 200);
    assert!(!world.gateway.log().contains("wrong-password"));
    world.provider.demo.control().fault(Endpoint::Token, Fault::Reset);
    assert_eq!(world.ask(&[&basic("bob", "bob")], "/api/x").status, 503);
    assert_eq!(world.ask(&[&basic("alice", "alice")], "/api/x").status, 200, "known already");
}

#[test]
fn bx_10_passwords_of_one_user_cannot_be_tried_out() {
    let world =
        World::new(SIGNED_IN, "issuers = [\"main\"]\naudience = [\"demo-api\"]\nbasic = \"password_grant\"", &[]);
    assert_eq!(world.ask(&[&basic("bob", "bob")], "/api/x").status, 200);
    let statuses: Vec<u16> =
        (0..15).map(|n| world.ask(&[&basic("alice", &format!("guess{n}"))], "/api/x").status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 10, "{statuses:?}");
    assert!(statuses.ends_with(&[429; 5]));
    assert_eq!(world.ask(&[&basic("ALICE ", "guess99")], "/api/x").status, 429, "the same user to many providers");
    assert_eq!(world.provider.demo.stats().password_grants.refused, 10);
    assert_eq!(world.ask(&[&basic("bob", "bob")], "/api/x").status, 200, "known already");
}

#[test]
fn jx_32_a_websocket_ends_with_its_token() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", upstream.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = upstream.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        let begin = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(begin).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let provider = Provider::start();
    let routes = ROUTES.replace("ACCESS", SIGNED_IN).replace("MACHINE", TOKENS).replace("UPSTREAM", &url);
    let extra = Extra { routes: Some(routes), provider: "clock_skew = \"0s\"".to_owned(), ..Extra::default() };
    let gateway = Gateway::with(provider.issuer(), &Upstream::start(), extra);
    let soon = Fault::tamper(|_, claims| {
        let now = claims["iat"].as_u64().unwrap();
        claims.insert("exp".to_owned(), json!(now + 6));
    });
    let token = provider.demo.control().access_token("alice", Some(&soon)).unwrap();
    let mut client = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let host = format!("127.0.0.1:{}", gateway.port);
    write!(client, "GET /api/ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nAuthorization: Bearer {token}\r\n\r\n").unwrap();
    let mut all = Vec::new();
    let ended = client.read_to_end(&mut all);
    let all = String::from_utf8_lossy(&all);
    assert!(ended.is_ok() && all.starts_with("HTTP/1.1 101") && all.contains("session ended"), "{ended:?}: {all}");
}
