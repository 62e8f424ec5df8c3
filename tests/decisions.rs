//! One table of requests, three hosts, two providers, five policies: what each request gets, the same from `serve` and from
//! `explain`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use doorward::demo::provider::Fault;
use serde_json::{Value, json};
use support::browser::NAVIGATE;
use support::gateway::Extra;
use support::{Answer, Browser, Gateway, Provider, Upstream};

const CONFIG: &str = r#"
[policy.staff]
allow = [{ group = "staff" }]
[policy.admins]
allow = [{ group = "admins" }]
[policy.writers]
allow = [{ group = "staff", method = ["GET", "HEAD"] }, { group = "admins" }]
deny = [{ method = "DELETE" }]
[policy.office]
allow = [{ network = "10.0.0.0/8" }, { email_domain = "example.test", provider = "other" }]
deny = [{ network = "192.0.2.0/24" }]
[policy.not_bob]
deny = [{ user = "bob" }]

[[route]]
host = "app.localhost"
path = "/"
upstream = "UPSTREAM"
access = "authenticated"
provider = "main"
[[route]]
host = "app.localhost"
path = "/public"
upstream = "UPSTREAM"
access = "public"
[[route]]
host = "app.localhost"
path = "/public/private"
upstream = "UPSTREAM"
access = "policy"
policy = "staff"
provider = "main"
[[route]]
host = "app.localhost"
path = "/admin"
upstream = "UPSTREAM"
access = "policy"
policy = "admins"
provider = "main"
[[route]]
host = "app.localhost"
path = "=/admin/health"
upstream = "UPSTREAM"
access = "optional"
provider = "main"
[[route]]
host = "app.localhost"
path = "/closed"
access = "deny"

[[route]]
host = "api.localhost"
path = "/"
upstream = "UPSTREAM"
access = "policy"
policy = "writers"
provider = "main"
unauthenticated = "401"
[[route]]
host = "api.localhost"
path = "/v1"
methods = ["GET"]
upstream = "UPSTREAM"
access = "public"
[[route]]
host = "api.localhost"
path = "/office"
upstream = "UPSTREAM"
access = "policy"
policy = "office"
provider = "other"
[[route]]
host = "api.localhost"
path = "/cors"
methods = ["GET", "PUT"]
upstream = "UPSTREAM"
access = "authenticated"
provider = "main"
allow_preflight = true
[[route]]
host = "api.localhost"
path = "/tokens"
upstream = "UPSTREAM"
access = "authenticated"
provider = "main"
[route.machine]
issuers = ["main"]
audience = ["demo-api"]

[[route]]
host = "api.localhost"
path = "/tokens/write"
upstream = "UPSTREAM"
access = "policy"
allow = [{ scope = "write" }, { group = "admins" }]
provider = "main"
[route.machine]
issuers = ["main"]
audience = ["demo-api"]

[[route]]
host = "*.localhost"
path = "/"
upstream = "UPSTREAM"
access = "policy"
policy = "not_bob"
provider = "other"
[[route]]
host = "*.localhost"
path = "/strong"
upstream = "UPSTREAM"
access = "authenticated"
provider = "other"
require = { acr = ["urn:never"] }
[[route]]
host = "*.localhost"
path = "/watched"
upstream = "UPSTREAM"
access = "policy"
policy = "admins"
mode = "observe"
provider = "main"

[[route]]
path = "/any"
methods = ["GET"]
upstream = "status:204"
access = "public"
"#;

/// Whose session a request brings: nobody's, or a user's and the provider's that signed them in.
type Who = Option<(&'static str, &'static str)>;
const NOBODY: Who = None;
const ALICE: Who = Some(("alice", "main"));
const BOB: Who = Some(("bob", "main"));
const ALICE_OTHER: Who = Some(("alice", "other"));
const BOB_OTHER: Who = Some(("bob", "other"));
/// Tokens of `main` instead of a session.
const SERVICE: Who = Some(("service", TOKEN));
const STRANGER: Who = Some(("service", FOREIGN));
const TOKEN: &str = "token";
/// For somebody else: another audience.
const FOREIGN: &str = "foreign token";

type Row = (
    &'static str,
    Who,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
    &'static str,
);

const OFFICE: &[(&str, &str)] = &[("X-Forwarded-For", "10.1.2.3")];
const BANNED: &[(&str, &str)] = &[("X-Forwarded-For", "192.0.2.7")];
const PREFLIGHT_PUT: &[(&str, &str)] = &[("Origin", "https://a.example"), ("Access-Control-Request-Method", "PUT")];
const PREFLIGHT_DELETE: &[(&str, &str)] =
    &[("Origin", "https://a.example"), ("Access-Control-Request-Method", "DELETE")];
const JUNK: &[(&str, &str)] = &[("Authorization", "Bearer junk")];

/// Host, who, method, target, headers; decision, and the reason where there is one.
const ROWS: [Row; 50] = [
    ("app.localhost", NOBODY, "GET", "/", &[], "sign_in", ""),
    ("app.localhost", NOBODY, "POST", "/", &[], "sign_in", ""),
    ("app.localhost", NOBODY, "GET", "/public/x?y=/admin", &[], "allow", ""),
    ("app.localhost", NOBODY, "GET", "/publicx", &[], "sign_in", ""),
    ("app.localhost", NOBODY, "GET", "/public/../admin", &[], "sign_in", ""),
    ("app.localhost", NOBODY, "GET", "/public/private", &[], "sign_in", ""),
    ("app.localhost", NOBODY, "GET", "/public/%70rivate%3bx", &[], "bad_request", "*"),
    ("app.localhost", NOBODY, "GET", "/closed/x", &[], "deny", "access = \"deny\""),
    ("app.localhost", NOBODY, "GET", "/admin/health", &[], "allow", ""),
    ("app.localhost", NOBODY, "GET", "/admin/health/", &[], "sign_in", ""),
    ("app.localhost", NOBODY, "GET", "/a%2fb", &[], "bad_request", "*"),
    ("app.localhost", NOBODY, "GET", "/oauth2/nothing", &[], "own", "*"),
    ("app.localhost", ALICE, "GET", "/", &[], "allow", ""),
    ("app.localhost", ALICE, "PROPFIND", "/admin", &[], "allow", ""),
    ("app.localhost", ALICE, "GET", "/closed", &[], "deny", "access = \"deny\""),
    ("app.localhost", BOB, "GET", "/public/private/y", &[], "allow", ""),
    ("app.localhost", BOB, "GET", "/admin", &[], "deny", "policy admins no allow matches"),
    ("app.localhost", BOB, "GET", "/admin;x/y", &[], "deny", "policy admins no allow matches"),
    ("app.localhost", BOB, "GET", "/%61dmin/health/..", &[], "deny", "policy admins no allow matches"),
    ("APP.localhost.", BOB, "GET", "/admin/health", &[], "allow", ""),
    ("api.localhost", NOBODY, "GET", "/", &[], "sign_in", ""),
    ("api.localhost", NOBODY, "DELETE", "/", &[], "deny", "policy writers deny[1]"),
    ("api.localhost", NOBODY, "GET", "/v1/x", &[], "allow", ""),
    ("api.localhost", NOBODY, "HEAD", "/v1/x", &[], "sign_in", ""),
    ("api.localhost", ALICE, "PUT", "/", &[], "allow", ""),
    ("api.localhost", ALICE, "DELETE", "/", &[], "deny", "policy writers deny[1]"),
    ("api.localhost", BOB, "HEAD", "/", &[], "allow", ""),
    ("api.localhost", BOB, "PUT", "/", &[], "deny", "policy writers no allow matches"),
    ("api.localhost", NOBODY, "GET", "/office", OFFICE, "allow", ""),
    ("api.localhost", NOBODY, "GET", "/office", &[], "sign_in", ""),
    ("api.localhost", NOBODY, "GET", "/office", BANNED, "deny", "policy office deny[1]"),
    ("api.localhost", ALICE_OTHER, "GET", "/office", BANNED, "deny", "policy office deny[1]"),
    ("api.localhost", BOB_OTHER, "POST", "/office/x", &[], "allow", ""),
    ("api.localhost", ALICE, "GET", "/office", &[], "sign_in", ""),
    ("api.localhost", NOBODY, "OPTIONS", "/cors/x", PREFLIGHT_PUT, "allow", ""),
    ("api.localhost", NOBODY, "OPTIONS", "/cors/x", PREFLIGHT_DELETE, "sign_in", ""),
    ("api.localhost", ALICE, "GET", "/tokens", JUNK, "bad_token", "*"),
    ("api.localhost", SERVICE, "GET", "/tokens/x", &[], "allow", ""),
    ("api.localhost", STRANGER, "GET", "/tokens/x", &[], "bad_token", "*"),
    ("api.localhost", SERVICE, "GET", "/tokens/write", &[], "deny", "no allow matches"),
    ("api.localhost", ALICE, "GET", "/tokens/write", &[], "allow", ""),
    ("api.localhost", BOB, "GET", "/tokens/write", &[], "deny", "no allow matches"),
    // Where Doorward takes no tokens they are the application's, and nobody has signed in.
    ("api.localhost", SERVICE, "GET", "/", &[], "sign_in", ""),
    ("wiki.localhost", ALICE_OTHER, "GET", "/page", &[], "allow", ""),
    ("wiki.localhost", BOB_OTHER, "GET", "/page", &[], "deny", "policy not_bob deny[1]"),
    ("wiki.localhost", ALICE_OTHER, "GET", "/strong", &[], "step_up", "acr urn:never"),
    ("wiki.localhost", BOB, "GET", "/watched", &[], "observe", "policy admins no allow matches"),
    ("other.example", NOBODY, "GET", "/any/x", &[], "allow", ""),
    ("other.example", NOBODY, "POST", "/any/x", &[], "method_not_allowed", "*"),
    ("x.wiki.localhost", NOBODY, "GET", "/", &[], "not_found", "*"),
];

struct World {
    gateway: Gateway,
    upstream: Upstream,
    main: Provider,
    other: Provider,
    /// Cookie headers by host and person.
    cookies: BTreeMap<(&'static str, Who), String>,
}

impl World {
    fn new() -> Self {
        let (upstream, main, other) = (Upstream::start(), Provider::start(), Provider::start());
        let provider = format!(
            "[provider.other]\nissuer = \"{}\"\nclient_id = \"demo\"\nclient_secret = \"demo-secret\"\npar = \"off\"\n",
            other.issuer()
        );
        let server = "trusted_proxies = [\"127.0.0.1\"]\nshow_rule = true".to_owned();
        let extra = Extra { server, provider, routes: Some(CONFIG.to_owned()), ..Extra::default() };
        let gateway = Gateway::with(main.issuer(), &upstream, extra);
        Self { gateway, upstream, main, other, cookies: BTreeMap::new() }
    }

    /// The cookies of this person at this host; signs them in where they have none yet.
    fn cookie(&mut self, host: &'static str, who: Who) -> String {
        let Some((user, section)) = who.filter(|(_, section)| ![TOKEN, FOREIGN].contains(section)) else {
            return String::new();
        };
        let host = if host.starts_with("APP") { "app.localhost" } else { host };
        if let Some(known) = self.cookies.get(&(host, who)) {
            return known.clone();
        }
        let provider = if section == "main" { &self.main } else { &self.other };
        provider.demo.control().auto_login(Some(user));
        let place = match (host, section) {
            ("api.localhost", "other") => "/office",
            ("wiki.localhost", "main") => "/watched",
            _ => "/",
        };
        let mut browser = self.gateway.browser();
        let named = format!("{host}:{}", self.gateway.port);
        let headers: Vec<(&str, &str)> = [("Host", named.as_str())].into_iter().chain(NAVIGATE).collect();
        let start = browser.send("GET", &format!("/oauth2/start?rd={place}"), &headers, b"");
        let back = format!("http://{named}/oauth2/callback");
        let last = browser.follow(start, |url| url.starts_with(&back));
        let callback = last.location().replace(&format!("http://{named}"), "");
        let end = browser.send("GET", &callback, &headers, b"");
        assert_eq!((end.status, end.location()), (302, place), "{host} {who:?}: {}", end.text());
        let cookie = browser.cookie_header(&self.gateway.base);
        self.cookies.insert((host, who), cookie.clone());
        cookie
    }

    fn token(&self, who: Who) -> Option<String> {
        let (subject, kind) = who.filter(|(_, section)| [TOKEN, FOREIGN].contains(section))?;
        let foreign = Fault::tamper(|_, claims| {
            claims.insert("aud".to_owned(), json!("another-api"));
        });
        let control = self.main.demo.control();
        Some(control.access_token(subject, (kind == FOREIGN).then_some(&foreign)).unwrap())
    }

    fn ask(&mut self, row: &Row, more: &[(&str, &str)]) -> Answer {
        let (host, who, method, target, headers, ..) = *row;
        let cookie = self.cookie(host, who);
        let named = format!("{host}:{}", self.gateway.port);
        let mut all = vec![("Host", named.as_str()), ("Cookie", cookie.as_str())];
        let bearer = self.token(who).map(|token| format!("Bearer {token}"));
        all.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
        all.extend(headers.iter().chain(more));
        self.upstream.clear();
        Browser::new(&self.gateway.base).send(method, target, &all, b"")
    }

    fn explain(&self, row: &Row) -> Value {
        let (host, who, method, target, headers, ..) = *row;
        let url = format!("http://{host}:{}{target}", self.gateway.port);
        let mut args: Vec<String> = vec![url, "--method".into(), method.into(), "--json".into()];
        for (name, value) in headers {
            args.extend(["--header".into(), format!("{name}: {value}")]);
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        if let Some(token) = self.token(who) {
            let payload = token.split('.').nth(1).unwrap();
            std::fs::write(file.path(), URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
            args.extend(["--claims".into(), file.path().display().to_string(), "--issuer".into(), "main".into()]);
        } else if let Some((user, section)) = who {
            std::fs::write(file.path(), claims(user).to_string()).unwrap();
            args.extend(["--claims".into(), file.path().display().to_string(), "--provider".into(), section.into()]);
        }
        self.gateway.explain(&args)
    }
}

/// What the demo provider says of its users.
fn claims(user: &str) -> Value {
    let groups = if user == "alice" { json!(["admins", "staff"]) } else { json!(["staff"]) };
    json!({ "sub": user, "email": format!("{user}@example.test"), "email_verified": true, "groups": groups,
        "preferred_username": user })
}

#[test]
fn b_04_px_26_serve_and_explain_decide_alike() {
    let mut world = World::new();
    for row in &ROWS {
        let (host, who, method, target, _, decision, reason) = *row;
        let shown = format!("{who:?} {method} {host}{target}");
        let told = world.explain(row);
        assert_eq!(told["decision"], decision, "{shown}: {told:#}");
        match reason {
            "*" => assert!(told["reason"].is_string(), "{shown}: {told:#}"),
            "" => assert!(told["reason"].is_null(), "{shown}: {told:#}"),
            reason => assert_eq!(told["reason"], reason, "{shown}: {told:#}"),
        }

        let navigates = [("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate")];
        let calls = [("Accept", "application/json"), ("Sec-Fetch-Mode", "cors")];
        for (as_whom, more) in [("page", navigates), ("program", calls)] {
            let answer = world.ask(row, &more);
            let seen = world.upstream.seen();
            if told["upstream"].is_object() {
                assert_eq!((answer.status, seen.len()), (200, 1), "{shown} as {as_whom}");
                let path = told["upstream"]["to"].as_str().unwrap().split_once("://").unwrap().1;
                let path = path.split_once('/').map_or_else(|| "/".to_owned(), |(_, rest)| format!("/{rest}"));
                assert_eq!(seen[0].target, path, "{shown}");
                let sent = told["upstream"]["headers"].as_array().unwrap();
                for name in ["x-forwarded-user", "x-forwarded-email", "x-forwarded-groups", "x-forwarded-for", "host"] {
                    let would: Vec<&str> =
                        sent.iter().filter(|h| h["name"] == name).map(|h| h["value"].as_str().unwrap()).collect();
                    assert_eq!(seen[0].all(name), would, "{shown}: {name}");
                }
                continue;
            }
            assert!(seen.is_empty(), "{shown}: it came through");
            match told["status"][as_whom].as_u64() {
                Some(status) => assert_eq!(u64::from(answer.status), status, "{shown} as {as_whom}"),
                None => assert_eq!(decision, "own", "{shown}"),
            }
            match (answer.status, decision) {
                (302, "step_up") => assert_eq!(answer.parameter("acr_values").as_deref(), Some("urn:never"), "{shown}"),
                (302, _) => assert_eq!(answer.parameter("acr_values"), None, "{shown}"),
                (403, _) if as_whom == "program" && method != "HEAD" => {
                    assert_eq!(answer.json()["rule"], told["reason"], "{shown}");
                }
                _ => {}
            }
        }
    }
    let deciding = |word| ROWS.iter().filter(|row| row.5 == word).count();
    println!(
        "{} requests: {} allow, {} deny, {} sign_in",
        ROWS.len(),
        deciding("allow"),
        deciding("deny"),
        deciding("sign_in")
    );
}
