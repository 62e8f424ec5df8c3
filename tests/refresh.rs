//! Refresh from outside: one call for many requests, what its answers may change, and what a provider that fails does to
//! sessions (nothing). Rows RF-, C-19, O-06, O-07.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use std::time::{Duration, Instant};

use doorward::demo::provider::{Endpoint, Fault, Options, SigningAlg};
use serde_json::json;
use support::browser::NAVIGATE;
use support::gateway::Extra;
use support::{Browser, Gateway, Provider, Upstream, eventually, stores};

fn ask(gateway: &Gateway, cookie: &str) -> u16 {
    gateway.browser().send("GET", "/x", &[("Accept", "application/json"), ("Cookie", cookie)], b"").status
}

fn header(browser: &Browser) -> String {
    browser.cookie_header(&browser.base)
}

fn short_lived(ttl_seconds: u64, rotate: bool, session: &str) -> (Provider, Upstream, Gateway) {
    let upstream = Upstream::start();
    let provider = Provider::with(Options {
        alg: SigningAlg::Es256,
        access_token_ttl: Duration::from_secs(ttl_seconds),
        rotate,
        ..Default::default()
    });
    let gateway = Gateway::with(provider.issuer(), &upstream, Extra { session: session.into(), ..Extra::default() });
    (provider, upstream, gateway)
}

fn pass(time: Duration) {
    let end = Instant::now() + time;
    eventually("time passes", || Instant::now() > end);
}

#[test]
fn rf_01_many_requests_at_expiry_cost_one_refresh() {
    let upstream = Upstream::start();
    let provider = Provider::with(Options {
        alg: SigningAlg::Es256,
        access_token_ttl: Duration::from_secs(2),
        ..Default::default()
    });
    let gateway = Gateway::with(provider.issuer(), &upstream, Extra::default());
    let browser = gateway.signed_in();
    let refreshes = || provider.demo.stats().refresh_grants.ok;
    std::thread::park_timeout(Duration::from_millis(1));
    let expired = Instant::now() + Duration::from_millis(2_100);
    eventually("the token's end", || Instant::now() > expired);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..16)
            .map(|_| {
                let mut copy = browser.clone();
                scope.spawn(move || copy.fetch("/x").status)
            })
            .collect();
        all.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(statuses, [200; 16]);
    assert_eq!(refreshes(), 1);
    let mut late = browser;
    assert_eq!(late.fetch("/x").status, 200, "the old cookie within the grace");
    assert_eq!((refreshes(), provider.demo.stats().refresh_reuse), (1, 0));
    assert!(!late.cookies("doorward").is_empty());
}

#[test]
fn o_06_a_refresh_token_that_is_not_replaced_serves_again() {
    let (provider, _upstream, gateway) = short_lived(2, false, "refresh_grace = \"500ms\"");
    let mut browser = gateway.signed_in();
    eventually("the third refresh", || {
        assert_eq!(browser.fetch("/x").status, 200, "after {} refreshes", provider.demo.stats().refresh_grants.ok);
        provider.demo.stats().refresh_grants.ok >= 3
    });
}

#[test]
fn rf_01_whoever_comes_back_long_after_a_refresh_in_the_background_gets_its_successor() {
    let (provider, _upstream, gateway) = short_lived(8, true, "refresh_grace = \"500ms\"");
    let mut browser = gateway.signed_in();
    let before = header(&browser);
    pass(Duration::from_millis(4_200));
    // No answer of the provider overtakes ours, however busy the machine is.
    provider.demo.control().token_delay(Duration::from_millis(700));
    assert_eq!(browser.fetch("/x").status, 200);
    eventually("the refresh", || provider.demo.stats().refresh_grants.ok == 1);
    assert_eq!(header(&browser), before, "this one waited for the refresh");
    pass(Duration::from_millis(1_700));
    assert_eq!(browser.fetch("/x").status, 200, "signed out by an answer that it never got");
    assert_ne!(header(&browser), before);
    pass(Duration::from_millis(1_000));
    assert_eq!(ask(&gateway, &before), 401, "a copy of the replaced cookie after the grace");
    assert_eq!(browser.fetch("/x").status, 200);
}

#[test]
fn c_19_a_refresh_of_another_sign_in_ends_the_session() {
    let (provider, _upstream, gateway) = short_lived(2, true, "");
    let mut browser = gateway.signed_in();
    let tamper = Fault::tamper(|_, claims| {
        let at = claims["auth_time"].as_u64().unwrap();
        claims.insert("auth_time".into(), (at + 1).into());
    });
    provider.demo.control().fault(Endpoint::Token, tamper);
    pass(Duration::from_millis(2_100));
    assert_eq!(browser.fetch("/x").status, 401);
    assert!(browser.cookies("doorward").is_empty());
}

#[test]
fn ox_08_a_sign_out_wins_over_a_refresh_under_way() {
    for store in ["cookie", "memory"] {
        let (provider, upstream, gateway) = short_lived(2, true, &format!("store = \"{store}\""));
        let browser = gateway.signed_in();
        pass(Duration::from_millis(2_100));
        upstream.clear();
        let endpoint = Endpoint::Token;
        let calls = provider.demo.stats().hits(endpoint);
        provider.demo.control().token_delay(Duration::from_millis(700));
        let mut waiting = browser.clone();
        let waits = std::thread::spawn(move || (waiting.fetch("/x").status, waiting));
        eventually("the refresh", || provider.demo.stats().hits(endpoint) > calls);
        let mut leaving = browser.clone();
        leaving.send("GET", "/oauth2/sign_out", &[NAVIGATE[0], NAVIGATE[1], ("Sec-Fetch-Site", "same-origin")], b"");
        let (status, mut waited) = waits.join().unwrap();
        assert_eq!(status, 401, "{store}");
        assert_eq!(waited.fetch("/x").status, 401, "{store}: what the refresh left behind");
        assert_eq!(ask(&gateway, &header(&browser)), 401, "{store}");
        assert!(upstream.seen().is_empty(), "{store}");
    }
}

#[test]
fn rf_04_o_07_a_refused_grant_ends_the_session_and_says_so() {
    for store in stores() {
        let (provider, upstream, gateway) = short_lived(2, true, store);
        let mut browser = gateway.signed_in();
        provider
            .demo
            .control()
            .fault(Endpoint::Token, Fault::Json(400, json!({ "error": "invalid_grant" }).to_string()));
        pass(Duration::from_millis(2_100));
        upstream.clear();
        let copy = header(&browser);
        assert_eq!(browser.fetch("/x").status, 401, "{store}");
        assert!(browser.cookies("doorward").is_empty(), "{store}");
        assert_eq!(ask(&gateway, &copy), 401, "{store}");
        let page = gateway.browser().send("GET", "/x", &[NAVIGATE[0], NAVIGATE[1], ("Cookie", &copy)], b"");
        assert_eq!(page.status, 302, "{store}: a person is shown to the sign-in");
        assert!(upstream.seen().is_empty(), "{store}");
        eventually("the audit line", || gateway.log().contains("refresh_rejected"));
    }
}

/// What a provider changes in a refreshed ID token, and whether the session goes on.
#[test]
fn rf_05_c_19_only_the_same_person_goes_on_and_with_the_rights_of_now() {
    type Change = fn(&mut serde_json::Map<String, serde_json::Value>);
    let routes = "[[route]]\npath = \"/\"\nupstream = \"UPSTREAM\"\naccess = \"policy\"\nallow = [{ group = \"admins\" }]\nidentity = [\"x-forwarded\"]\n";
    let cases: [(&str, Change, u16); 8] = [
        ("another sub", |c| drop(c.insert("sub".into(), "bob".into())), 401),
        ("another iss", |c| drop(c.insert("iss".into(), "https://evil.example".into())), 401),
        ("another aud", |c| drop(c.insert("aud".into(), "somebody".into())), 401),
        ("another azp", |c| drop(c.insert("azp".into(), "somebody".into())), 401),
        ("no sub", |c| drop(c.remove("sub")), 401),
        ("no longer in the group", |c| drop(c.insert("groups".into(), json!(["staff"]))), 403),
        ("no groups", |c| drop(c.remove("groups")), 403),
        ("another address", |c| drop(c.insert("email".into(), "new@example.test".into())), 200),
    ];
    for (what, change, want) in cases {
        let (provider, upstream) = (
            Provider::with(Options {
                alg: SigningAlg::Es256,
                access_token_ttl: Duration::from_secs(2),
                ..Options::default()
            }),
            Upstream::start(),
        );
        let gateway =
            Gateway::with(provider.issuer(), &upstream, Extra { routes: Some(routes.into()), ..Extra::default() });
        let mut browser = gateway.signed_in();
        provider.demo.control().fault(Endpoint::Token, Fault::tamper(move |_, claims| change(claims)));
        provider.demo.control().fault(Endpoint::Userinfo, Fault::DropMember("groups"));
        pass(Duration::from_millis(2_100));
        upstream.clear();
        assert_eq!(browser.fetch("/x").status, want, "{what}");
        match want {
            200 => assert_eq!(upstream.last().all("x-forwarded-email").concat(), "new@example.test"),
            _ => assert!(upstream.seen().is_empty(), "{what}"),
        }
    }
}

#[test]
fn rf_05_what_a_refresh_does_not_repeat_is_as_it_was() {
    for (what, fault) in [
        ("no ID token", Fault::DropMember("id_token")),
        ("a narrower scope", Fault::SetMember("scope", json!("openid"))),
        ("no refresh token", Fault::DropMember("refresh_token")),
    ] {
        let (provider, upstream, gateway) = short_lived(2, false, "");
        let mut browser = gateway.signed_in();
        provider.demo.control().fault(Endpoint::Token, fault);
        pass(Duration::from_millis(2_100));
        assert_eq!(browser.fetch("/x").status, 200, "{what}");
        let seen = upstream.last();
        assert_eq!(seen.all("x-forwarded-email").concat(), "alice@example.test", "{what}");
        assert_eq!(seen.all("x-forwarded-groups").concat(), "admins,staff", "{what}");
        pass(Duration::from_millis(2_100));
        assert_eq!(browser.fetch("/x").status, 200, "{what}: and again");
    }
}

#[test]
fn rf_08_o_07_an_answer_that_is_none_ends_no_session() {
    let faults = [
        Fault::Html,
        Fault::Empty,
        Fault::Reset,
        Fault::Status(503),
        Fault::Redirect("http://127.0.0.1:1/".into()),
        Fault::Json(200, "[]".into()),
        Fault::Json(200, "{\"access_token\":\"a\"".into()),
        Fault::Json(401, json!({ "error": "invalid_client" }).to_string()),
        Fault::Huge(3 << 20),
    ];
    for fault in faults {
        let what = format!("{fault:?}");
        let (provider, upstream, gateway) = short_lived(2, true, "");
        let mut browser = gateway.signed_in();
        provider.demo.control().fault(Endpoint::Token, fault);
        pass(Duration::from_millis(2_100));
        upstream.clear();
        let answer = browser.fetch("/x");
        assert_eq!((answer.status, answer.header("retry-after").is_some()), (503, true), "{what}");
        assert!(upstream.seen().is_empty(), "{what}: an expired token let through");
        provider.demo.control().clear();
        eventually(&what, || browser.fetch("/x").status == 200);
    }
}

#[test]
fn rf_13_keys_that_change_while_many_refresh_are_fetched_once() {
    let (provider, _upstream, gateway) = short_lived(2, true, "");
    let browsers: Vec<Browser> = (0..12).map(|_| gateway.signed_in()).collect();
    provider.demo.control().rotate_keys(false).unwrap();
    let before = provider.demo.stats().hits(Endpoint::Jwks);
    pass(Duration::from_millis(2_100));
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let all: Vec<_> = browsers.into_iter().map(|mut b| scope.spawn(move || b.fetch("/x").status)).collect();
        all.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(statuses, [200; 12]);
    assert_eq!(provider.demo.stats().hits(Endpoint::Jwks) - before, 1);
}

#[test]
fn rf_14_proxy_variables_of_the_environment_lead_nowhere() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
    let env = names.iter().map(|n| ((*n).to_owned(), "http://127.0.0.1:1".to_owned())).collect();
    let gateway = Gateway::with(provider.issuer(), &upstream, Extra { env, ..Extra::default() });
    assert_eq!(gateway.signed_in().fetch("/x").status, 200);
}

#[test]
fn rf_16_a_sign_in_that_began_before_a_reload_or_a_restart_ends_well_after_it() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let mut gateway = Gateway::start(&provider, &upstream);
    let mut browser = gateway.browser();
    let callback = browser.reach_callback("/deep/link");
    gateway.reload(provider.issuer(), &upstream, &Extra::default());
    eventually("the reload", || gateway.metric("doorward_reloads_total{outcome=\"ok\"}") >= 1.0);
    let after = browser.navigate(&callback);
    assert_eq!((after.status, after.location()), (302, "/deep/link"));

    let mut other = gateway.browser();
    let callback = other.reach_callback("/another");
    gateway.restart();
    let after = other.navigate(&callback);
    assert_eq!((after.status, after.location()), (302, "/another"));
    assert_eq!(other.fetch("/x").status, 200);
    assert_eq!(browser.fetch("/x").status, 200, "and who was signed in still is");
}

#[test]
fn s_05_use_counts_while_a_refresh_that_is_due_does_not_come() {
    for store in ["cookie", "memory"] {
        let session = format!("store = \"{store}\"\nidle_timeout = \"2s\"\nrefresh_before = \"1h\"");
        let (provider, _upstream, gateway) = short_lived(12, true, &session);
        let mut browser = gateway.signed_in();
        provider.demo.control().fault(Endpoint::Token, Fault::Status(503));
        // From half of the access token's life on, its refresh is due; until its end it is good.
        let end = Instant::now() + Duration::from_millis(9_500);
        eventually("more than the idle time after the refresh was due", || {
            assert_eq!(browser.fetch("/x").status, 200, "{store}: taken for idle");
            Instant::now() > end
        });
    }
}
