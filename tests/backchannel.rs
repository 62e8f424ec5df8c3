//! The provider ends sessions: back-channel logout, as its wire shows it. Rows BL-, OX-.

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
use serde_json::{Value, json};
use support::browser::NAVIGATE;
use support::gateway::Extra;
use support::{Answer, Browser, Gateway, Provider, Upstream, eventually, stores};

const PATH: &str = "/oauth2/backchannel-logout";
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

struct World {
    provider: Provider,
    upstream: Upstream,
    gateway: Gateway,
}

impl World {
    fn new(session: &str) -> Self {
        Self::with(Provider::start(), session)
    }

    fn with(provider: Provider, session: &str) -> Self {
        let upstream = Upstream::start();
        let extra = Extra { session: session.into(), ..Extra::default() };
        let gateway = Gateway::with(provider.issuer(), &upstream, extra);
        Self { provider, upstream, gateway }
    }

    /// A new browser in which this user has signed in, and what the provider calls that.
    fn signed_in(&self, user: &str) -> (Browser, String) {
        self.provider.demo.control().auto_login(Some(user));
        let browser = self.gateway.signed_in();
        (browser, self.provider.demo.control().sids(user).pop().unwrap())
    }

    fn token(&self, sub: Option<&str>, sid: Option<&str>) -> String {
        self.provider.demo.control().logout_token(sub, sid, None).unwrap()
    }

    fn faulty(&self, sub: &str, sid: &str, fault: &Fault) -> String {
        self.provider.demo.control().logout_token(Some(sub), Some(sid), Some(fault)).unwrap()
    }
}

fn is_in(browser: &Browser) -> bool {
    let status = browser.clone().fetch("/x").status;
    assert!(matches!(status, 200 | 401), "{status}");
    status == 200
}

/// 400, as §2.8 wants it, and nobody is told more.
fn refused(answer: &Answer, what: &str) {
    assert_eq!(answer.status, 400, "{what}: {}", answer.text());
    assert_eq!(answer.header("cache-control"), Some("no-store"), "bl_05 {what}");
    assert_eq!(answer.json()["error"], "invalid_request", "{what}");
    assert!(answer.all("set-cookie").is_empty(), "{what}");
}

fn put(name: &'static str, value: Value) -> Fault {
    Fault::tamper(move |_, claims| {
        claims.insert(name.into(), value.clone());
    })
}

fn remove(name: &'static str) -> Fault {
    Fault::tamper(move |_, claims| {
        claims.remove(name);
    })
}

fn head(name: &'static str, value: Value) -> Fault {
    Fault::tamper(move |header, _| {
        header.insert(name.into(), value.clone());
    })
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn bl_01_only_a_posted_form_with_one_token_counts() {
    let world = World::new("");
    let (alice, sid) = world.signed_in("alice");
    let token = world.token(Some("alice"), Some(&sid));
    let mut client = world.gateway.browser();
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        let answer = client.send(method, &format!("{PATH}?logout_token={token}"), &[], b"");
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method}");
    }
    let json = format!("{{\"logout_token\":\"{token}\"}}");
    refused(&client.send("POST", PATH, &[("Content-Type", "application/json")], json.as_bytes()), "JSON");
    let form = format!("logout_token={token}");
    refused(&client.send("POST", PATH, &[], form.as_bytes()), "no content type");
    refused(&client.send("POST", PATH, &[("Content-Type", "text/plain")], form.as_bytes()), "another content type");
    refused(&client.send("POST", &format!("{PATH}?{form}"), &[FORM], b"x=1"), "a token in the query");
    refused(&client.send("POST", PATH, &[FORM], format!("{form}&{form}").as_bytes()), "two tokens");
    refused(&client.send("POST", PATH, &[FORM], b""), "nothing");
    refused(&client.send("POST", PATH, &[FORM], b"logout_token="), "an empty token");
    let padded = format!("{form}&x={}", "x".repeat(70 << 10));
    refused(&client.send("POST", PATH, &[FORM], padded.as_bytes()), "bl_06: more than 64 KiB");
    assert!(is_in(&alice));
    let kind = ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8");
    let answer = client.send("POST", PATH, &[kind], format!("a=1&{form}&a=2&token=x").as_bytes());
    assert_eq!(answer.status, 200, "others are ignored: {}", answer.text());
    assert!(!is_in(&alice));
}

#[test]
fn bl_02_bl_03_ox_03_every_check_refuses_and_the_session_lives() {
    let other = json!({ "http://schemas.openid.net/event/other": {} });
    let event = "http://schemas.openid.net/event/backchannel-logout";
    let faults: Vec<(&str, Fault)> = vec![
        ("a bad signature", Fault::BadSignature),
        ("alg none", head("alg", json!("none"))),
        ("alg None", head("alg", json!("None"))),
        ("HS256 with the client secret", head("alg", json!("HS256"))),
        ("the alg of another key", head("alg", json!("RS256"))),
        ("an alg that is none of ours", head("alg", json!("ES384"))),
        ("no alg", Fault::tamper(|header, _| drop(header.remove("alg")))),
        ("a key that nobody has", head("kid", json!("unknown"))),
        ("another issuer", put("iss", json!("https://evil.test"))),
        ("an issuer in a list", put("iss", json!(["https://evil.test"]))),
        ("no issuer", remove("iss")),
        ("another client", put("aud", json!("another"))),
        ("another client too", put("aud", json!(["demo", "another"]))),
        ("no audience", remove("aud")),
        ("no iat", remove("iat")),
        ("an iat that is text", put("iat", json!(now().to_string()))),
        ("an iat of an hour ago", put("iat", json!(now() - 3600))),
        ("an iat to come", put("iat", json!(now() + 3600))),
        ("an exp that has passed", put("exp", json!(now() - 60))),
        ("an exp that is text", put("exp", json!("soon"))),
        ("no jti", remove("jti")),
        ("an empty jti", put("jti", json!(""))),
        ("a jti that is a number", put("jti", json!(7))),
        ("no events", remove("events")),
        ("another event", put("events", other)),
        ("an event that is no object", put("events", json!({ event: "yes" }))),
        ("events that are a list", put("events", json!([event]))),
        ("a nonce", put("nonce", json!("n"))),
        ("a nonce that is null", put("nonce", Value::Null)),
        ("the type of an access token", head("typ", json!("at+jwt"))),
        ("a sub that is a number", put("sub", json!(1))),
        ("an empty sid", put("sid", json!(""))),
    ];
    for store in stores() {
        let world = World::new(store);
        let (alice, sid) = world.signed_in("alice");
        for (what, fault) in &faults {
            refused(&world.gateway.backchannel_logout(&world.faulty("alice", &sid, fault)), what);
            assert!(is_in(&alice), "{store}: {what} ended the session");
        }
        let good = world.token(Some("alice"), Some(&sid));
        for text in ["", "x", "a.b.c", "a.b.c.d.e", &good[..good.len() - 9], &format!("{good}.x"), &"e".repeat(60_000)]
        {
            refused(&world.gateway.backchannel_logout(text), "no token");
        }
        assert!(is_in(&alice), "{store}");
        // None of them used up what comes properly.
        assert_eq!(world.gateway.backchannel_logout(&good).status, 200, "{store}");
        assert!(!is_in(&alice), "{store}");
    }
}

#[test]
fn bl_03_without_exp_a_token_is_good_for_a_moment_and_typ_may_be_left_out() {
    let world = World::new("");
    for fault in [remove("exp"), Fault::tamper(|header, _| drop(header.remove("typ"))), head("typ", json!("JWT"))] {
        let (alice, sid) = world.signed_in("alice");
        let answer = world.gateway.backchannel_logout(&world.faulty("alice", &sid, &fault));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(!is_in(&alice));
    }
    let old = Fault::tamper(|_, claims| {
        claims.remove("exp");
        claims.insert("iat".into(), json!(now() - 200));
    });
    refused(&world.gateway.backchannel_logout(&world.faulty("alice", "any", &old)), "old and without exp");
}

#[test]
fn bl_02_a_token_that_came_before_ends_nothing_that_began_since() {
    for store in stores() {
        let world = World::new(store);
        let (first, _) = world.signed_in("alice");
        let token = world.token(Some("alice"), None);
        assert_eq!(world.gateway.backchannel_logout(&token).status, 200, "{store}");
        assert!(!is_in(&first), "{store}");
        let (again, _) = world.signed_in("alice");
        refused(&world.gateway.backchannel_logout(&token), store);
        assert!(is_in(&again), "{store}: a replay ended a newer session");
        assert_eq!(world.gateway.backchannel_logout(&world.token(Some("alice"), None)).status, 200, "{store}");
        assert!(!is_in(&again), "{store}");
    }
}

#[test]
fn bl_04_ox_05_it_ends_whom_it_names_and_nobody_else() {
    for store in stores() {
        let world = World::new(store);
        let ((one, sid), (two, _)) = (world.signed_in("alice"), world.signed_in("alice"));
        let (bob, bobs) = world.signed_in("bob");
        let logout = |sub, sid| world.gateway.backchannel_logout(&world.token(sub, sid)).status;
        let living = || [&one, &two, &bob].map(is_in);
        assert_eq!(living(), [true; 3], "{store}");
        refused(&world.gateway.backchannel_logout(&world.token(None, None)), "nobody");
        assert_eq!(logout(Some("alice"), Some(&bobs)), 200, "{store}: the sid of another user");
        assert_eq!(living(), [true; 3], "{store}");
        assert_eq!(logout(Some("alice"), Some(&sid)), 200, "{store}");
        assert_eq!(living(), [false, true, true], "{store}: both");
        assert_eq!(logout(None, Some(&bobs)), 200, "{store}");
        assert_eq!(living(), [false, true, false], "{store}: sid alone");
        let (three, _) = world.signed_in("alice");
        assert_eq!(logout(Some("alice"), None), 200, "{store}");
        assert!(!is_in(&two) && !is_in(&three), "{store}: sub alone, all of them");
        let (again, _) = world.signed_in("alice");
        assert!(is_in(&again), "{store}: a sign-in after it is another session");
        eventually("the audit lines", || world.gateway.log().matches("backchannel_logout").count() >= 4);
    }
}

#[test]
fn bl_05_bl_06_the_answer_says_nothing_of_who_is_signed_in() {
    for store in stores() {
        let world = World::new(store);
        let (alice, sid) = world.signed_in("alice");
        let shape = |answer: &Answer| {
            let mut headers = answer.headers.clone();
            headers.retain(|(name, _)| !matches!(name.to_lowercase().as_str(), "x-request-id" | "date"));
            (answer.status, headers, answer.body.clone())
        };
        let unknown = world.gateway.backchannel_logout(&world.token(Some("nobody"), Some("none")));
        let neither = world.gateway.backchannel_logout(&world.token(None, Some("none")));
        assert!(is_in(&alice), "{store}");
        let known = world.gateway.backchannel_logout(&world.token(Some("alice"), Some(&sid)));
        assert!(!is_in(&alice), "{store}");
        assert_eq!((known.status, known.header("cache-control")), (200, Some("no-store")), "{store}");
        assert!(known.body.is_empty() && known.all("set-cookie").is_empty(), "{store}");
        assert_eq!(shape(&unknown), shape(&known), "{store}");
        assert_eq!(shape(&neither), shape(&known), "{store}");
    }
}

#[test]
fn bl_06_the_endpoint_has_a_limit_for_each_address() {
    let world = World::new("");
    let posts = (0..3_000).map(|_| world.gateway.backchannel_logout("x"));
    let limited = posts.inspect(|a| assert!(matches!(a.status, 400 | 429))).find(|a| a.status == 429).unwrap();
    assert!(limited.header("retry-after").is_some());
    let (alice, _) = world.signed_in("alice");
    assert!(is_in(&alice), "sign-ins have a limit of their own");
}

#[test]
fn bl_05_what_cannot_be_judged_now_is_no_success_and_the_next_try_is_taken() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    provider.demo.control().fault(Endpoint::Jwks, Fault::Status(500));
    let extra = Extra { unready: true, ..Extra::default() };
    let gateway = Gateway::with(provider.issuer(), &upstream, extra);
    let token = provider.demo.control().logout_token(Some("alice"), None, None).unwrap();
    let answer = gateway.backchannel_logout(&token);
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    provider.demo.control().clear();
    eventually("the next try", || gateway.backchannel_logout(&token).status == 200);
    refused(&gateway.backchannel_logout(&token), "and it counts once");
}

#[test]
fn ox_06_tokens_of_another_kind_end_nothing_and_a_logout_token_signs_nobody_in() {
    let world = World::new("");
    let (alice, sid) = world.signed_in("alice");
    let (mut leaving, _) = world.signed_in("alice");
    let same = [NAVIGATE[0], NAVIGATE[1], ("Sec-Fetch-Site", "same-origin")];
    let out = leaving.send("GET", "/oauth2/sign_out", &same, b"");
    let id_token = out.parameter("id_token_hint").unwrap();
    refused(&world.gateway.backchannel_logout(&id_token), "an ID token");
    assert!(is_in(&alice));

    let logout = world.token(Some("alice"), Some(&sid));
    let fault = Fault::SetMember("id_token", json!(logout));
    world.provider.demo.control().fault_times(Endpoint::Token, fault, 1);
    let mut browser = world.gateway.browser();
    let callback = browser.reach_callback("/");
    assert_eq!(browser.navigate(&callback).status, 400);
    assert!(!is_in(&browser));
}

#[test]
fn ox_08_a_logout_wins_over_a_refresh_under_way() {
    for store in stores() {
        let options =
            Options { alg: SigningAlg::Es256, access_token_ttl: Duration::from_secs(2), ..Options::default() };
        let world = World::with(Provider::with(options), store);
        let (browser, sid) = world.signed_in("alice");
        let expired = Instant::now() + Duration::from_millis(2_100);
        eventually("the token's end", || Instant::now() > expired);
        world.upstream.clear();
        let calls = world.provider.demo.stats().hits(Endpoint::Token);
        world.provider.demo.control().token_delay(Duration::from_millis(700));
        let waiting = browser.clone();
        let waits = std::thread::spawn(move || is_in(&waiting));
        eventually("the refresh", || world.provider.demo.stats().hits(Endpoint::Token) > calls);
        assert_eq!(world.gateway.backchannel_logout(&world.token(None, Some(&sid))).status, 200, "{store}");
        assert!(!waits.join().unwrap(), "{store}");
        assert!(!is_in(&browser), "{store}: what the refresh left behind");
        assert!(world.upstream.seen().is_empty(), "{store}");
    }
}

#[test]
fn bl_04_a_sign_out_at_the_provider_reaches_every_session_of_that_browser() {
    for store in stores() {
        let world = World::new(store);
        let (one, _) = world.signed_in("alice");
        let uri = world.gateway.url(PATH);
        world.provider.demo.control().backchannel_logout_to(&uri);
        // The same browser, with the same sign-in at the provider, in another profile of the application.
        let mut two = one.clone();
        two.jars.remove(&world.gateway.base);
        assert_eq!(two.go("/").status, 200, "{store}");
        let (elsewhere, _) = world.signed_in("alice");
        let mut at_provider = one.clone();
        at_provider.navigate(&format!("{}/end_session", world.provider.issuer()));
        eventually("the end of both", || !is_in(&one) && !is_in(&two));
        assert!(is_in(&elsewhere), "{store}");
    }
}

#[test]
fn bl_02_of_several_clients_at_one_provider_the_token_is_for_one() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let issuer = provider.issuer();
    let second = format!(
        "[provider.second]\nissuer = \"{issuer}\"\nclient_id = \"second\"\nclient_secret = \"s\"\npar = \"off\"\n"
    );
    let route = "[[route]]\npath = \"/\"\nupstream = \"UPSTREAM\"\naccess = \"authenticated\"\nprovider = \"main\"\n";
    let extra = Extra { provider: second, routes: Some(route.into()), ..Extra::default() };
    let gateway = Gateway::with(issuer, &upstream, extra);
    let browser = gateway.signed_in();
    let token = |client: &'static str| {
        provider.demo.control().logout_token(Some("alice"), None, Some(&put("aud", json!(client)))).unwrap()
    };
    refused(&gateway.backchannel_logout(&token("third")), "nobody's");
    assert!(is_in(&browser));
    let of_second = token("second");
    assert_eq!(gateway.backchannel_logout(&of_second).status, 200);
    assert!(!is_in(&browser), "the same person of the same issuer");
    refused(&gateway.backchannel_logout(&of_second), "a second time");
    let again = gateway.signed_in();
    assert_eq!(gateway.backchannel_logout(&token("demo")).status, 200);
    assert!(!is_in(&again));
}

#[test]
fn ox_14_no_way_of_signing_out_reaches_the_upstream() {
    let world = World::new("");
    let (mut browser, sid) = world.signed_in("alice");
    world.upstream.clear();
    world.gateway.backchannel_logout(&world.token(None, Some("unknown")));
    let iss: String = url::form_urlencoded::byte_serialize(world.provider.issuer().as_bytes()).collect();
    browser.fetch(&format!("/oauth2/frontchannel-logout?iss={iss}&sid=unknown"));
    browser.fetch("/oauth2/session");
    browser.send("POST", "/oauth2/session", &[FORM], b"end=x");
    browser.send("GET", "/oauth2/sign_out", &[NAVIGATE[0], ("Sec-Fetch-Site", "same-origin")], b"");
    world.gateway.backchannel_logout(&world.token(Some("alice"), Some(&sid)));
    assert!(world.upstream.seen().is_empty());
}
