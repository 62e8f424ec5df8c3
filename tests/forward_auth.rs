//! Decisions for other proxies over HTTP: which request is judged, who may ask, and what the answer says.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use doorward::demo::provider::{Fault, Options, SigningAlg};
use support::gateway::Extra;
use support::{Answer, Browser, Gateway, Provider, Upstream, eventually};

const TRUSTED: &str = "trusted_proxies = [\"127.0.0.1\"]";

const ROUTES: &str = r#"
[[route]]
name = "site"
host = "app.localhost"
path = "/"
upstream = "status:404"
access = "authenticated"
identity = ["x-forwarded", { header = "X-Team", claim = "team", separator = "," }]

[[route]]
name = "public"
host = "app.localhost"
path = "/public"
upstream = "status:404"
access = "public"

[[route]]
name = "admins"
host = "app.localhost"
path = "/admin"
upstream = "status:404"
access = "policy"
allow = [{ group = ["nobody-is-in-it"] }]

[[route]]
name = "writers"
host = "app.localhost"
path = "/wiki"
upstream = "status:404"
access = "policy"
allow = [{ method = ["GET"] }, { group = ["writers"] }]

[[route]]
name = "office"
host = "app.localhost"
path = "/office"
upstream = "status:404"
access = "policy"
allow = [{ network = ["192.0.2.0/24"] }]

[[route]]
name = "alone"
host = "alone.localhost"
path = "/"
upstream = "status:404"
access = "authenticated"
"#;

fn es256() -> Options {
    Options { alg: SigningAlg::Es256, ..Options::default() }
}

struct World {
    gateway: Gateway,
    provider: Provider,
    _upstream: Upstream,
}

impl World {
    fn new() -> Self {
        Self::with(TRUSTED, es256(), ROUTES)
    }

    fn with_provider(lines: &str) -> Self {
        Self::of(TRUSTED, es256(), ROUTES, lines)
    }

    fn with(server: &str, options: Options, routes: &str) -> Self {
        Self::of(server, options, routes, "")
    }

    fn of(server: &str, options: Options, routes: &str, more: &str) -> Self {
        let (provider, upstream) = (Provider::with(options), Upstream::start());
        let extra = Extra {
            server: server.to_owned(),
            provider: more.to_owned(),
            routes: Some(routes.to_owned()),
            host: "app.localhost".to_owned(),
            ..Extra::default()
        };
        let gateway = Gateway::with(provider.issuer(), &upstream, extra);
        Self { gateway, provider, _upstream: upstream }
    }

    fn host(&self) -> String {
        format!("app.localhost:{}", self.gateway.port)
    }

    /// What `auth` says of a request by URL, as ingress-nginx asks.
    fn auth(&self, browser: &mut Browser, target: &str, more: &[(&str, &str)]) -> Answer {
        let url = format!("http://{}{target}", self.host());
        let headers = [&[("X-Original-URL", &*url), ("X-Original-Method", "GET")], more].concat();
        browser.send("GET", "/oauth2/auth", &headers, b"")
    }

    fn asks(&self, browser: &mut Browser, headers: &[(&str, &str)]) -> Answer {
        browser.send("GET", "/oauth2/auth", headers, b"")
    }

    fn signed_in(&self) -> Browser {
        let mut browser = self.gateway.browser();
        let last = browser.go("/");
        assert_eq!(last.status, 404, "no application behind it: {} {}", last.url, last.text());
        assert!(!browser.cookies("doorward").is_empty());
        browser
    }
}

#[test]
fn one_decision_by_every_dialect() {
    let w = World::new();
    let (mut nobody, mut alice) = (w.gateway.browser(), w.signed_in());
    for (target, anonymous, signed_in) in [
        ("/", 401, 202),
        ("/x?y=/admin", 401, 202),
        ("/public/x", 202, 202),
        ("/admin/x", 401, 403),
        ("/wiki", 202, 202),
        // Not encoded, as some programs send it.
        ("/public/\u{fc}?x=\u{e9}", 202, 202),
    ] {
        assert_eq!(w.auth(&mut nobody, target, &[]).status, anonymous, "{target}");
        assert_eq!(w.auth(&mut alice, target, &[]).status, signed_in, "{target}");
        let forwarded = [("X-Forwarded-Method", "GET"), ("X-Forwarded-Uri", target)];
        assert_eq!(w.asks(&mut nobody, &forwarded).status, anonymous, "{target}");
        assert_eq!(w.asks(&mut alice, &forwarded).status, signed_in, "{target}");
        let positive = |status| if status == 202 { 200 } else { status };
        for (path, headers) in
            [("/oauth2/forward".to_owned(), &forwarded[..]), (format!("/oauth2/ext_authz{target}"), &[][..])]
        {
            assert_eq!(nobody.send("GET", &path, headers, b"").status, positive(anonymous), "{path} {target}");
            assert_eq!(alice.send("GET", &path, headers, b"").status, positive(signed_in), "{path} {target}");
        }
    }
    // By method.
    let post = [("X-Forwarded-Method", "POST"), ("X-Forwarded-Uri", "/wiki")];
    assert_eq!(w.asks(&mut nobody, &post).status, 401);
    assert_eq!(alice.send("POST", "/oauth2/ext_authz/wiki", &[], b"").status, 403);
    // By the older header alone, which says no method: GET where no rule asks.
    assert_eq!(w.asks(&mut alice, &[("X-Original-URI", "/x")]).status, 202);
    assert_eq!(w.asks(&mut nobody, &[("X-Original-URI", "/x")]).status, 401);
}

#[test]
fn forward_and_ext_authz_begin_a_sign_in_that_comes_back_and_auth_does_not() {
    let w = World::new();
    let navigate = |more: &[(&'static str, &'static str)]| [&support::browser::NAVIGATE[..], more].concat();
    let mut browser = w.gateway.browser();
    let auth = w.auth(&mut browser, "/deep?x=1", &support::browser::NAVIGATE);
    assert_eq!((auth.status, auth.header("location"), auth.header("set-cookie")), (401, None, None));
    assert_eq!((auth.body.len(), auth.header("www-authenticate").is_some()), (0, true));
    for (path, headers) in [
        ("/oauth2/forward", navigate(&[("X-Forwarded-Method", "GET"), ("X-Forwarded-Uri", "/public/../deep?x=1")])),
        ("/oauth2/forward", navigate(&[("X-Forwarded-Method", "GET"), ("X-Forwarded-Uri", "/deep?x=1")])),
        ("/oauth2/ext_authz/deep?x=1", navigate(&[])),
    ] {
        let mut browser = w.gateway.browser();
        let begun = browser.send("GET", path, &headers, b"");
        if headers.iter().any(|(_, value)| value.contains("..")) {
            assert_eq!(begun.status, 403, "px_01: another route for whoever reads it as it stands");
            continue;
        }
        assert_eq!(begun.status, 302, "{path}: {}", begun.text());
        assert!(begun.header("set-cookie").unwrap().starts_with("doorward.login."), "{begun:?}");
        let last = browser.follow(begun, |url| url.ends_with("/deep?x=1"));
        assert_eq!(last.location(), "/deep?x=1");
        assert!(!browser.cookies("doorward").is_empty());
    }
    let cors = [("X-Forwarded-Method", "GET"), ("X-Forwarded-Uri", "/deep"), ("Sec-Fetch-Mode", "cors")];
    let answer = w.gateway.browser().send("GET", "/oauth2/forward", &cors, b"");
    assert_eq!(answer.status, 401);
    let begin = format!("http://{}/oauth2/start?rd=%2Fdeep", w.host());
    assert_eq!(answer.json()["login_url"], begin);
    let grpc = [("Content-Type", "application/grpc"), ("TE", "trailers")];
    assert_eq!(w.gateway.browser().send("POST", "/oauth2/ext_authz/pkg.Service/Call", &grpc, b"x").status, 401);
}

#[test]
fn hx_21_every_identity_header_is_in_a_positive_answer_and_empty_where_nobody_is_known() {
    let w = World::with_provider("scopes = [\"openid\"]");
    let mut alice = w.signed_in();
    let answer = w.auth(&mut alice, "/", &[("X-Auth-Request-Email", "evil@example.com")]);
    let names = |answer: &Answer| -> BTreeSet<String> {
        let names = answer.headers.iter().map(|(name, _)| name.to_ascii_lowercase());
        names
            .filter(|name| name.starts_with("x-") && *name != "x-request-id" && *name != "x-content-type-options")
            .collect()
    };
    let expected: BTreeSet<String> = [
        "x-auth-request-user",
        "x-auth-request-email",
        "x-auth-request-groups",
        "x-auth-request-preferred-username",
        "x-forwarded-user",
        "x-forwarded-email",
        "x-forwarded-groups",
        "x-forwarded-preferred-username",
        "x-team",
        "x-doorward-client",
    ]
    .map(str::to_owned)
    .into();
    assert_eq!(names(&answer), expected);
    assert_eq!(answer.header("x-auth-request-user"), Some("alice"));
    assert_eq!(answer.header("x-forwarded-user"), Some("alice"));
    assert_eq!(answer.header("x-auth-request-email"), Some(""));
    assert_eq!(answer.header("x-team"), Some(""));
    // On a public route nobody is looked for, and a header of another route is not left to the client.
    let public = w.auth(&mut alice, "/public", &[("X-Team", "root")]);
    assert_eq!((public.status, names(&public)), (202, expected.clone()));
    assert!(expected.iter().all(|name| public.header(name) == Some("")), "{public:?}");
    // CX-06: nobody keeps it for somebody else.
    assert_eq!(public.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("vary"), Some("Cookie, Authorization"));
}

#[test]
fn px_20_whoever_is_not_a_trusted_proxy_gets_no_decision() {
    let w = World::with("", es256(), ROUTES);
    let mut alice = w.signed_in();
    for path in ["/oauth2/auth", "/oauth2/forward", "/oauth2/ext_authz/public", "/oauth2/ext_authz"] {
        let told = [("X-Forwarded-Uri", "/public"), ("X-Forwarded-Method", "GET"), ("X-Original-URI", "/public")];
        let answer = alice.send("GET", path, &told, b"");
        assert_eq!(answer.status, 403, "{path}");
        assert!(answer.header("x-auth-request-user").is_none() && answer.header("set-cookie").is_none());
    }
    let log = w.gateway.log();
    assert!(log.contains("server.trusted_proxies"), "the operator reads why: {log}");
    // An ordinary request is judged by itself, whatever it says.
    let answer = w.gateway.browser().send("GET", "/x", &[("X-Original-URL", "http://app.localhost/public")], b"");
    assert_eq!(answer.status, 401);
}

#[test]
fn px_22_what_is_told_twice_or_in_two_ways_is_refused() {
    let w = World::new();
    let mut nobody = w.gateway.browser();
    let url = |path: &str| format!("http://app.localhost{path}");
    let (site, public, elsewhere) = (url("/x"), url("/public"), "http://alone.localhost/public".to_owned());
    let get = ("X-Forwarded-Method", "GET");
    for told in [
        vec![("X-Original-URL", &*site), ("X-Forwarded-Uri", "/public"), get],
        vec![("X-Original-URL", &*public), ("X-Forwarded-Uri", "/x"), get],
        vec![("X-Original-URI", "/public"), ("X-Forwarded-Uri", "/x"), get],
        vec![("X-Forwarded-Uri", "/public"), ("X-Forwarded-Uri", "/x"), get],
        vec![("X-Forwarded-Uri", "/public"), ("X-Forwarded-Uri", "/public"), get],
        vec![("X-Original-URL", &*public), ("X-Original-URL", &*site), get],
        vec![("X-Forwarded-Uri", "/public"), get, ("X-Original-Method", "POST")],
        vec![("X-Forwarded-Uri", "/public"), get, get],
        vec![("X-Original-URL", &*elsewhere), ("X-Forwarded-Host", "app.localhost"), get],
        vec![("X-Forwarded-Uri", "/public"), ("X-Forwarded-Host", "app.localhost, alone.localhost"), get],
        vec![
            ("X-Forwarded-Uri", "/public"),
            ("Forwarded", "host=alone.localhost"),
            ("X-Forwarded-Host", "app.localhost"),
            get,
        ],
        vec![("X-Forwarded-Uri", ""), get],
        vec![("X-Forwarded-Uri", "public"), get],
        vec![("X-Forwarded-Uri", "/public#/x"), get],
        vec![("X-Forwarded-Uri", "http://app.localhost/public"), get],
        vec![("X-Original-URL", "ftp://app.localhost/public"), get],
        vec![("X-Original-URL", "http://a@app.localhost/public"), get],
        vec![("X-Forwarded-Uri", "/public"), ("X-Forwarded-Method", "TRACE")],
        vec![("X-Forwarded-Uri", "/public"), ("X-Forwarded-Method", "CONNECT")],
        vec![("X-Forwarded-Uri", "/public"), ("X-Forwarded-Method", "G ET")],
    ] {
        let answer = w.asks(&mut nobody, &told);
        assert_eq!(answer.status, 403, "{told:?}: {}", answer.text());
    }
    // Agreeing ones are one.
    let told = [("X-Original-URL", &*public), ("X-Forwarded-Uri", "/public"), ("X-Original-Method", "GET"), get];
    assert_eq!(w.asks(&mut nobody, &told).status, 202);
    // What a second proxy on the way says of the question itself names no path; another endpoint does.
    let told = |uri| [("X-Original-URL", &*site), ("X-Original-Method", "GET"), ("X-Original-URI", uri)];
    assert_eq!(w.asks(&mut nobody, &told("/oauth2/auth")).status, 401);
    assert_eq!(w.asks(&mut nobody, &told("/oauth2/forward")).status, 403);
    // Behind Envoy nothing but the request itself counts.
    let told =
        [("X-Forwarded-Uri", "/public"), ("X-Original-URL", &*public), ("X-Forwarded-Host", "other.localhost"), get];
    assert_eq!(nobody.send("GET", "/oauth2/ext_authz/x", &told, b"").status, 401);
    assert_eq!(nobody.send("GET", "/oauth2/ext_authz/admin", &[("X-Original-Method", "POST")], b"").status, 401);
}

#[test]
fn px_23_what_is_not_told_may_not_matter() {
    let w = World::new();
    let mut alice = w.signed_in();
    // Which path, where the host has several routes.
    let untold = w.asks(&mut alice, &[]);
    assert_eq!(untold.status, 403);
    eventually("the reason in the log", || w.gateway.log().contains("does not say which path"));
    // Where it has one it cannot matter.
    let host = format!("alone.localhost:{}", w.gateway.port);
    let mut elsewhere = Browser::new(&format!("http://{host}"));
    assert_eq!(w.asks(&mut elsewhere, &[]).status, 401);
    let last = elsewhere.go("/");
    assert_eq!(last.status, 404, "{} {}", last.url, last.text());
    assert_eq!(w.asks(&mut elsewhere, &[]).status, 202);
    // By which method, where a rule asks.
    assert_eq!(w.asks(&mut alice, &[("X-Forwarded-Uri", "/wiki")]).status, 403);
    assert_eq!(w.asks(&mut alice, &[("X-Forwarded-Uri", "/wiki"), ("X-Forwarded-Method", "GET")]).status, 202);
    // Who, where a rule asks: the proxy's own address is nobody's.
    let office = [("X-Forwarded-Uri", "/office"), ("X-Forwarded-Method", "GET")];
    let by =
        |more: &[(&'static str, &'static str)]| w.asks(&mut w.gateway.browser(), &[&office[..], more].concat()).status;
    assert_eq!(by(&[]), 403);
    assert_eq!(by(&[("X-Real-IP", "192.0.2.7")]), 202);
    assert_eq!(by(&[("X-Real-IP", "198.51.100.7")]), 401);
    assert_eq!(by(&[("X-Forwarded-For", "203.0.113.9, 192.0.2.7")]), 202);
    assert_eq!(by(&[("X-Forwarded-For", "192.0.2.7, 203.0.113.9")]), 401);
    assert_eq!(by(&[("X-Forwarded-For", "203.0.113.9, 192.0.2.7"), ("X-Real-IP", "192.0.2.7")]), 202);
    // A proxy that sets one of them passes the client's own other on.
    assert_eq!(by(&[("X-Forwarded-For", "192.0.2.7"), ("X-Real-IP", "198.51.100.7")]), 403);
    assert_eq!(by(&[("X-Forwarded-For", "198.51.100.7"), ("X-Real-IP", "192.0.2.7")]), 403);
    assert_eq!(by(&[("X-Real-IP", "192.0.2.7"), ("X-Real-IP", "192.0.2.7")]), 403);
}

#[test]
fn px_01_a_path_that_others_read_otherwise_is_refused() {
    let w = World::new();
    let mut alice = w.signed_in();
    let mut nobody = w.gateway.browser();
    for path in [
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/public/.%2E/admin",
        "/admin/../public",
        "//admin",
        "//public",
        "/./public",
        "/%61dmin",
        "/%70ublic",
        "/public//../admin",
        "/x//../public",
        "/public;/../admin",
        "/public;x",
        "/public/..;/admin",
        "/public%2f..%2fadmin",
        "/public\\..\\admin",
        "/public/%00",
        "/public/%zz",
        "/oauth2/start",
        "/oauth2",
        "/oauth2/auth",
        "//oauth2/auth",
        "/%6fauth2/auth",
        "/x/../oauth2/auth",
    ] {
        for browser in [&mut nobody, &mut alice] {
            let told = [("X-Forwarded-Uri", path), ("X-Forwarded-Method", "GET")];
            assert_eq!(w.asks(browser, &told).status, 403, "{path}");
            let envoy = browser.send("GET", &format!("/oauth2/ext_authz{path}"), &[], b"");
            assert!((400..500).contains(&envoy.status), "{path}: {}", envoy.status);
        }
    }
    for path in [
        "/public/%2e",
        "/public/./x",
        "/public//x",
        "/public/a;b",
        "/public/%41",
        "/public/caf%C3%A9",
        "/public?a=/../admin",
    ] {
        assert_eq!(w.auth(&mut nobody, path, &[]).status, 202, "{path}: each reading leads to one route");
    }
    assert_eq!(w.auth(&mut nobody, "/admin/%2e", &[]).status, 401);
}

#[test]
fn px_28_no_spelling_of_the_endpoint_makes_an_ordinary_request_of_the_question() {
    let w = World::new();
    let mut nobody = w.gateway.browser();
    // A 2xx to any of these would let Envoy pass a request that nobody judged.
    for path in [
        "/oauth2/ext_authz/../../public",
        "/oauth2/ext_authz/%2e%2e/%2e%2e/public",
        "/oauth2/ext_authz/../../ping",
        "/oauth2/ext_authz/../ping",
        "/oauth2/ext_authz//../../ready",
        "/oauth2/ext_authz/../.well-known/jwks.json",
        "/oauth2/ext_authzx/public",
        "/oauth2/ext_authz*",
        "/oauth2/forward/public",
        "/oauth2/auth/public",
    ] {
        let answer = nobody.send("GET", path, &[], b"");
        assert!(answer.status >= 400, "{path}: {} {}", answer.status, answer.text());
    }
}

#[test]
fn l_32_a_health_check_is_no_decision() {
    let w = World::new();
    let mut nobody = w.gateway.browser();
    for agent in ["GoogleHC/1.0", "kube-probe/1.30", "ELB-HealthChecker/2.0"] {
        for path in ["/ping", "/ready", "/robots.txt", "/healthz"] {
            let told = [("User-Agent", agent), ("X-Forwarded-Uri", path), ("X-Forwarded-Method", "GET")];
            assert_eq!(w.asks(&mut nobody, &told).status, 401, "{agent} {path}");
            assert_eq!(nobody.send("GET", &format!("/oauth2/ext_authz{path}"), &told[..1], b"").status, 401);
        }
    }
}

#[test]
fn wx_02_a_handshake_from_another_origin_is_refused() {
    let w = World::new();
    let mut alice = w.signed_in();
    let (own, foreign) = (format!("http://{}", w.host()), "http://evil.test");
    let ws = |origin| {
        vec![("Origin", origin), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), ("Sec-WebSocket-Version", "13")]
    };
    assert_eq!(w.auth(&mut alice, "/ws", &ws(&own)).status, 202);
    assert_eq!(w.auth(&mut alice, "/ws", &ws(foreign)).status, 403);
    assert_eq!(w.auth(&mut alice, "/ws", &[("Upgrade", "websocket"), ("Origin", foreign)]).status, 403);
    assert_eq!(w.auth(&mut alice, "/page", &[("Origin", foreign)]).status, 202, "CORS is the application's");
}

#[test]
fn the_proxy_can_narrow_and_never_widen() {
    let w = World::new();
    let mut alice = w.signed_in();
    let ask = |browser: &mut Browser, path: &str, query: &str| {
        let told = [("X-Forwarded-Uri", path), ("X-Forwarded-Method", "GET")];
        browser.send("GET", &format!("/oauth2/auth?{query}"), &told, b"").status
    };
    let groups = w.auth(&mut alice, "/", &[]).header("x-auth-request-groups").unwrap().to_owned();
    let group = groups.split(',').next().unwrap().to_owned();
    assert_eq!(ask(&mut alice, "/", &format!("allowed_groups=none,{group}")), 202);
    assert_eq!(ask(&mut alice, "/", "allowed_groups=none"), 403);
    assert_eq!(ask(&mut alice, "/", "allowed_groups="), 403, "a list that was to be filled in");
    assert_eq!(ask(&mut alice, "/", "allowed_email_domains=example.test"), 202);
    assert_eq!(ask(&mut alice, "/", "allowed_email_domains=example.org"), 403);
    assert_eq!(ask(&mut alice, "/admin", &format!("allowed_groups={group}")), 403);
    assert_eq!(ask(&mut w.gateway.browser(), "/", &format!("allowed_groups={group}")), 401);
    // Nobody is known on a public route, so nobody is in a group there.
    assert_eq!(ask(&mut alice, "/public", &format!("allowed_groups={group}")), 401);
}

#[test]
fn rf_01_a_refresh_within_a_sub_request_brings_the_new_cookie() {
    let options = Options { access_token_ttl: Duration::from_secs(2), ..es256() };
    let w = World::with(TRUSTED, options, ROUTES);
    let mut alice = w.signed_in();
    let before = alice.cookies("doorward");
    let mut answer = Answer::default();
    eventually("the refresh", || {
        let cookie = before.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join("; ");
        answer = w.auth(&mut alice, "/", &[("Cookie", &cookie)]);
        assert_eq!(answer.status, 202);
        answer.header("set-cookie").is_some()
    });
    let cookies = answer.all("set-cookie");
    assert!(cookies[0].starts_with("doorward="), "the session's first: {cookies:?}");
    for (n, cookie) in cookies.iter().enumerate() {
        assert_eq!(answer.header(&format!("x-doorward-set-cookie-{}", n + 1)), Some(*cookie));
    }
    assert_eq!(answer.header(&format!("x-doorward-set-cookie-{}", cookies.len() + 1)), None);
}

#[test]
fn rf_01_beside_a_new_session_auth_deletes_in_the_numbered_cookies_alone() {
    let options = Options { access_token_ttl: Duration::from_secs(2), ..es256() };
    let w = World::with(TRUSTED, options, ROUTES);
    let mut alice = w.signed_in();
    let session = alice.cookies("doorward").iter().map(|(n, v)| format!("{n}={v}; ")).collect::<String>();
    // A session that was longer, and the count of sign-ins: both go.
    let cookie = format!("{session}doorward.1=x; doorward.loop=x");
    let mut answer = Answer::default();
    eventually("the refresh", || {
        answer = w.auth(&mut alice, "/", &[("Cookie", &cookie)]);
        assert_eq!(answer.status, 202);
        answer.header("x-doorward-set-cookie-1").is_some_and(|set| set.starts_with("doorward="))
    });
    let name = |set: &str| set.split('=').next().unwrap().to_owned();
    let names = ["doorward", "doorward.1", "doorward.loop"];
    let numbered = (1..=3).map(|n| name(answer.header(&format!("x-doorward-set-cookie-{n}")).unwrap()));
    assert_eq!(numbered.collect::<Vec<_>>(), names);
    assert_eq!(answer.all("set-cookie"), [answer.header("x-doorward-set-cookie-1").unwrap()]);

    // What passes on all of them as they are gets all of them.
    let asked = [("Cookie", cookie.as_str()), ("X-Forwarded-Method", "GET"), ("X-Forwarded-Uri", "/")];
    let answer = alice.send("GET", "/oauth2/forward", &asked, b"");
    assert_eq!(
        (answer.status, answer.all("set-cookie").into_iter().map(name).collect::<Vec<_>>()),
        (200, names.map(String::from).into())
    );
}

#[test]
fn d_06_while_the_provider_is_away_it_is_503_and_never_a_pass() {
    let options = Options { access_token_ttl: Duration::from_secs(2), ..es256() };
    let w = World::with(TRUSTED, options, ROUTES);
    let mut alice = w.signed_in();
    w.provider.demo.control().fault(doorward::demo::provider::Endpoint::Token, Fault::Status(500));
    eventually("the token to expire", || {
        let status = w.auth(&mut alice, "/", &[]).status;
        assert!(matches!(status, 202 | 503), "{status}");
        status == 503
    });
    let told = [("X-Forwarded-Uri", "/"), ("X-Forwarded-Method", "GET")];
    assert_eq!(alice.send("GET", "/oauth2/forward", &told, b"").status, 503);
    assert_eq!(alice.send("GET", "/oauth2/ext_authz/", &[], b"").status, 503);
}

#[test]
fn a_trusted_proxy_says_where_the_person_wants_to_be() {
    let w = World::new();
    let mut browser = w.gateway.browser();
    let headers = [&support::browser::NAVIGATE[..], &[("X-Auth-Request-Redirect", "/deep?x=1")]].concat();
    let begun = browser.send("GET", "/oauth2/start", &headers, b"");
    let last = browser.follow(begun, |url| url.ends_with("/deep?x=1"));
    assert_eq!(last.location(), "/deep?x=1");
    let page = w.gateway.browser().send("GET", "/oauth2/sign_in", &headers, b"");
    assert!(page.text().contains("start?rd=%2Fdeep%3Fx%3D1"), "{}", page.text());
    // R-04. As safe as the parameter.
    for evil in ["https://evil.test/", "//evil.test", "/\\evil.test"] {
        let headers = [&support::browser::NAVIGATE[..], &[("X-Auth-Request-Redirect", evil)]].concat();
        let page = w.gateway.browser().send("GET", "/oauth2/sign_in", &headers, b"");
        assert!(page.text().contains("start?rd=%2F\""), "{evil}: {}", page.text());
    }
}

#[test]
fn a_preflight_and_a_machine_are_judged_as_if_they_had_come_here() {
    let routes = r#"
[[route]]
path = "/"
upstream = "status:404"
access = "authenticated"
allow_preflight = true
identity = ["x-forwarded"]
machine = { issuers = ["main"], audience = ["demo-api"] }
"#;
    let w = World::with(TRUSTED, es256(), routes);
    let mut nobody = w.gateway.browser();
    let preflight =
        [("Origin", "http://other.test"), ("Access-Control-Request-Method", "GET"), ("X-Forwarded-Uri", "/")];
    let with = |method| [&preflight[..], &[("X-Forwarded-Method", method)]].concat();
    assert_eq!(w.asks(&mut nobody, &with("OPTIONS")).status, 202);
    assert_eq!(w.asks(&mut nobody, &with("GET")).status, 401);
    let told = [("X-Forwarded-Uri", "/"), ("X-Forwarded-Method", "GET")];
    let token = format!("Bearer {}", w.provider.demo.control().access_token("alice", None).unwrap());
    let answer = w.asks(&mut nobody, &[&told[..], &[("Authorization", &*token)]].concat());
    assert_eq!((answer.status, answer.header("x-forwarded-user")), (202, Some("alice")));
    assert_eq!(answer.header("authorization"), Some(""), "what is judged here is not for the application");
    let answer = w.asks(&mut nobody, &[&told[..], &[("Authorization", "Bearer nonsense")]].concat());
    assert_eq!(answer.status, 401);
    assert!(answer.header("www-authenticate").unwrap().contains("invalid_token"));
}

#[test]
fn the_access_line_tells_of_the_request_that_was_judged() {
    let w = World::new();
    let mut alice = w.signed_in();
    w.auth(&mut alice, "/deep/page?x=1", &[("X-Forwarded-For", "203.0.113.9")]);
    eventually("the access line", || {
        let log = w.gateway.log();
        log.lines().any(|line| {
            line.contains("/deep/page")
                && line.contains("203.0.113.9")
                && line.contains("app.localhost")
                && line.contains("202")
        })
    });
    assert!(w.gateway.metric("doorward_decisions_total{route=\"site\",outcome=\"allow\"}") >= 1.0);
}

#[test]
fn success_status_is_the_operators() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let routes = "[forward_auth]\nsuccess_status = 204\n[[route]]\npath = \"/\"\nupstream = \"status:404\"\naccess = \"public\"\n";
    let extra = Extra { server: TRUSTED.to_owned(), routes: Some(routes.to_owned()), ..Extra::default() };
    let gateway = Gateway::with(provider.issuer(), &upstream, extra);
    assert_eq!(gateway.browser().send("GET", "/oauth2/auth", &[], b"").status, 204);
}

#[test]
fn px_22_of_headers_that_the_proxy_is_known_to_set_no_others_are_read() {
    let with = |headers: &str| {
        let family = format!("[forward_auth]\nheaders = \"{headers}\"\n{ROUTES}");
        World::with(TRUSTED, es256(), &family)
    };
    let get = [("X-Original-Method", "GET"), ("X-Forwarded-Method", "GET")];
    let here = ("X-Forwarded-Host", "app.localhost");
    let public = [("X-Original-URL", "http://app.localhost/public"), ("X-Forwarded-Uri", "/x"), here];
    let private = [("X-Original-URL", "http://app.localhost/x"), ("X-Forwarded-Uri", "/public"), here];
    let ask = |w: &World, told: &[(&str, &str)]| w.asks(&mut w.gateway.browser(), &[told, &get[..]].concat()).status;
    let (any, original, forwarded) = (World::new(), with("x-original"), with("x-forwarded"));
    assert_eq!([ask(&any, &public), ask(&original, &public), ask(&forwarded, &public)], [403, 202, 401]);
    assert_eq!([ask(&any, &private), ask(&original, &private), ask(&forwarded, &private)], [403, 401, 202]);
    // Then a question that was sent to one host may be about another.
    let elsewhere = [("X-Original-URL", "http://alone.localhost/public"), here];
    assert_eq!([ask(&any, &elsewhere), ask(&original, &elsewhere)], [403, 401]);
    let elsewhere = [("X-Forwarded-Host", "alone.localhost"), ("X-Forwarded-Uri", "/public")];
    assert_eq!([ask(&any, &elsewhere), ask(&forwarded, &elsewhere), ask(&original, &elsewhere)], [403, 401, 403]);
    // All of them, or it could be the client who adds what is missing.
    let whole = [("X-Forwarded-Uri", "/public"), ("X-Forwarded-Method", "GET"), here];
    let url = [("X-Original-URL", "http://app.localhost/public"), ("X-Original-Method", "GET")];
    for (w, whole) in [(&forwarded, &whole[..]), (&original, &url[..])] {
        assert_eq!(w.asks(&mut w.gateway.browser(), whole).status, 202);
        for missing in 0..whole.len() {
            let rest: Vec<_> = whole.iter().enumerate().filter(|(n, _)| *n != missing).map(|(_, h)| *h).collect();
            assert_eq!(w.asks(&mut w.gateway.browser(), &rest).status, 403, "{rest:?}");
        }
    }
    let path = [("X-Original-URL", "/public"), ("X-Original-Method", "GET")];
    assert_eq!(original.asks(&mut original.gateway.browser(), &path).status, 403, "no host");
}
