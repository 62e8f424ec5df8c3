//! Who may pass, from outside: rules about network and method, claims, step-up, routes that only observe, and what is told
//! of a refusal.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use doorward::demo::provider::{Endpoint, Fault};
use serde_json::json;
use support::gateway::Extra;
use support::{Browser, Gateway, Provider, Upstream};

/// The route `/` for whoever signs in, and others.
fn routes(others: &[(&str, &str)]) -> Option<String> {
    let route = |(path, lines): &(&str, &str)| {
        format!("[[route]]\nname = \"{path}\"\npath = \"{path}\"\nupstream = \"UPSTREAM\"\n{lines}\n")
    };
    Some([("/", "access = \"authenticated\"")].iter().chain(others).map(route).collect())
}

fn start(provider: &Provider, upstream: &Upstream, others: &[(&str, &str)], server: &str) -> Gateway {
    let env = vec![("DOORWARD_TELEMETRY__LOG".to_owned(), "info,doorward::explain=debug".to_owned())];
    let extra = Extra { routes: routes(others), server: server.to_owned(), env, ..Extra::default() };
    Gateway::with(provider.issuer(), upstream, extra)
}

fn post(browser: &mut Browser, path: &str) -> u16 {
    browser.send("POST", path, &[("Sec-Fetch-Mode", "cors")], b"x").status
}

#[test]
fn network_and_method_are_judged_before_anybody_signs_in() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let policy = |rules: &str| format!("access = \"policy\"\n{rules}");
    let here = policy("allow = [{ network = \"127.0.0.0/8\" }, { group = \"staff\" }]");
    let elsewhere = policy("allow = [{ network = \"198.51.100.0/24\" }, { group = \"staff\" }]");
    let kept_out = policy("allow = [{ group = \"staff\" }]\ndeny = [{ network = \"127.0.0.1\" }]");
    let reading =
        policy("allow = [{ method = [\"GET\", \"HEAD\"] }, { group = \"staff\" }]\ndeny = [{ method = \"PUT\" }]");
    let both = policy("allow = [{ network = \"127.0.0.0/8\", group = \"staff\" }]");
    let others =
        [("/here", &here), ("/elsewhere", &elsewhere), ("/out", &kept_out), ("/reading", &reading), ("/both", &both)];
    let gateway = start(&provider, &upstream, &others.map(|(path, lines)| (path, lines.as_str())), "");
    let (mut nobody, mut alice) = (gateway.browser(), gateway.signed_in());
    for (path, anonymous, signed_in) in
        [("/here", 200, 200), ("/elsewhere", 401, 200), ("/out", 403, 403), ("/reading", 200, 200), ("/both", 401, 200)]
    {
        assert_eq!(nobody.fetch(path).status, anonymous, "{path}");
        assert_eq!(alice.fetch(path).status, signed_in, "{path}");
    }
    assert_eq!((post(&mut nobody, "/reading"), post(&mut alice, "/reading")), (401, 200));
    for browser in [&mut nobody, &mut alice] {
        assert_eq!(browser.send("PUT", "/reading", &[], b"x").status, 403);
    }
    upstream.clear();
    assert_eq!(nobody.fetch("/here").status, 200);
    assert!(upstream.last().all("x-forwarded-user").is_empty());
    // A 403 before sign-in offers nobody to sign out, and begins no sign-in.
    let page = nobody.navigate("/out");
    assert_eq!((page.status, page.all("set-cookie").len()), (403, 0));
    assert!(!page.text().contains("signed in as"), "{}", page.text());
}

#[test]
fn a_claim_of_a_rule_that_is_new_is_looked_for_by_a_new_sign_in() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let control = provider.demo.control();
    control.fault(Endpoint::Token, Fault::tamper(|_, claims| drop(claims.insert("level".to_owned(), json!(7)))));
    let gateway = start(&provider, &upstream, &[], "");
    let mut alice = gateway.signed_in();
    assert_eq!(alice.fetch("/x").status, 200);
    for (rules, after) in [
        ("allow = [{ claim.level = 7 }]", 200),
        ("allow = [{ group = \"staff\" }]\ndeny = [{ claim.left = true }]", 200),
        ("allow = [{ group = \"staff\" }]\ndeny = [{ claim.a.b = 1 }, { claim.level = [6, 7] }]", 403),
    ] {
        let routes = routes(&[("/x", &format!("access = \"policy\"\n{rules}"))]);
        gateway.reload(provider.issuer(), &upstream, &Extra { routes, ..Extra::default() });
        // Neither in nor out: whoever is signed in from before signs in again.
        support::eventually("the new rule holds", || alice.fetch("/x").status == 401);
        assert_eq!(alice.navigate("/x").status, 302, "{rules}");
        assert_eq!(alice.go("/x").status, after, "{rules}");
        assert_eq!(alice.fetch("/x").status, after, "{rules}");
    }
}

#[test]
fn a_route_that_observes_lets_in_who_signs_in_and_nobody_else() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let observed =
        "access = \"policy\"\nmode = \"observe\"\nallow = [{ group = \"nobody\" }]\ndeny = [{ method = \"PUT\" }]";
    let strict = format!("{observed}\nrequire = {{ acr = [\"urn:mfa\"] }}");
    let gateway = start(&provider, &upstream, &[("/o", observed), ("/strict", &strict)], "");
    let mut nobody = gateway.browser();
    assert_eq!((nobody.fetch("/o").status, nobody.navigate("/o").status), (401, 302));
    assert_eq!(nobody.send("PUT", "/o", &[], b"x").status, 403);
    assert!(upstream.seen().is_empty());
    let mut alice = gateway.signed_in();
    upstream.clear();
    assert_eq!(alice.fetch("/o").status, 200);
    assert_eq!(alice.send("PUT", "/o", &[], b"x").status, 200);
    assert_eq!(upstream.seen().len(), 2);
    let log = gateway.log();
    assert_eq!(log.matches("\"event\":\"observed\"").count(), 2, "{log}");
    assert!(log.contains("\"rule\":\"no allow matches\"") && log.contains("\"rule\":\"deny[1]\""), "{log}");
    assert!(gateway.metric("doorward_decisions_total{route=\"/o\",outcome=\"allow\"}") > 1.5);
    // The step-up stays.
    assert_eq!(alice.fetch("/strict").status, 401);
    assert_eq!(alice.go("/strict").status, 200);
}

#[test]
fn a_refusal_names_its_request_and_its_rule_only_where_it_may() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let refused = "access = \"policy\"\ndeny = [{ user = \"nobody\" }, { group = \"staff\" }]";
    for shown in [false, true] {
        let gateway = start(&provider, &upstream, &[("/r", refused)], &format!("show_rule = {shown}"));
        let mut alice = gateway.signed_in();
        let (json, page) = (alice.fetch("/r"), alice.navigate("/r"));
        assert_eq!((json.status, page.status), (403, 403));
        let id = json.header("x-request-id").unwrap();
        assert_eq!(json.json()["request_id"], id);
        assert!(page.text().contains(page.header("x-request-id").unwrap()));
        assert_eq!(json.json().get("rule"), shown.then(|| json!("deny[2]")).as_ref());
        assert_eq!(page.text().contains("The rule: deny[2]."), shown, "{}", page.text());
        let log = gateway.log();
        let line = log.lines().find(|l| l.contains("\"event\":\"refused\"") && l.contains(id)).expect("an audit line");
        assert!(line.contains("\"rule\":\"deny[2]\"") && line.contains("\"route\":\"/r\""), "{line}");
        let line = log.lines().find(|l| l.contains("doorward::explain") && l.contains(id)).expect("an explanation");
        assert!(line.contains("\"rules\":\"deny[1] not matched, deny[2] matched\""), "{line}");
    }
}

#[test]
fn c_14_a_step_up_for_programs_is_rfc_9470_and_for_people_a_sign_in() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let others = [
        ("/strong", "access = \"authenticated\"\nrequire = { acr = [\"urn:mfa\", \"urn:hw\"] }"),
        ("/fresh", "access = \"authenticated\"\nrequire = { max_age = \"15m\" }"),
    ];
    let gateway = start(&provider, &upstream, &others, "");
    let control = provider.demo.control();
    // Signed in an hour ago, without a second factor.
    let hour_ago = |claims: &mut serde_json::Map<String, serde_json::Value>| {
        let at = claims["auth_time"].as_u64().unwrap() - 3600;
        claims.insert("auth_time".to_owned(), json!(at));
    };
    control.fault(Endpoint::Token, Fault::tamper(move |_, claims| hour_ago(claims)));
    let mut alice = gateway.signed_in();
    upstream.clear();
    let strong = alice.fetch("/strong?x=1");
    assert_eq!(strong.status, 401);
    assert_eq!(
        strong.header("www-authenticate").unwrap(),
        "Bearer realm=\"doorward\", error=\"insufficient_user_authentication\", \
         error_description=\"another way of signing in is required\", acr_values=\"urn:mfa urn:hw\""
    );
    let body = strong.json();
    assert_eq!(body["error"], "insufficient_user_authentication");
    assert_eq!(body["acr_values"], json!(["urn:mfa", "urn:hw"]));
    assert!(body["login_url"].as_str().unwrap().ends_with("/oauth2/start?rd=%2Fstrong%3Fx%3D1"), "{body}");
    let fresh = alice.fetch("/fresh");
    assert!(fresh.header("www-authenticate").unwrap().ends_with(", max_age=\"900\""), "{fresh:?}");
    let grpc = alice.send("POST", "/strong", &[("Content-Type", "application/grpc")], b"x");
    assert_eq!((grpc.status, grpc.header("grpc-status")), (200, Some("16")));

    // The provider still says an hour ago, or a weaker way: no session, neither a new one nor a better one.
    let cookies = alice.cookies("doorward");
    for path in ["/fresh", "/strong"] {
        if path == "/strong" {
            control.clear();
            let weak = |claims: &mut serde_json::Map<_, _>| drop(claims.insert("acr".to_owned(), json!("urn:pwd")));
            control.fault(Endpoint::Token, Fault::tamper(move |_, claims| weak(claims)));
        }
        assert_eq!(alice.go(path).status, 400, "{path}");
        assert_eq!(alice.cookies("doorward"), cookies, "{path}");
        assert_eq!(alice.fetch(path).status, 401, "{path}");
    }
    assert!(upstream.seen().is_empty());

    control.clear();
    for (path, asked) in [("/strong", "acr_values=urn%3Amfa+urn%3Ahw"), ("/fresh", "max_age=900")] {
        let start = alice.navigate(path);
        if start.status == 302 {
            assert!(start.location().contains(asked), "{}", start.location());
        }
        assert_eq!(alice.go(path).status, 200, "{path}");
    }
}
