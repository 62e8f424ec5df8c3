//! Sign-in from outside: the process, the demo provider, faults. Rows C-, L-, P-, I-, O-.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::type_complexity,
    reason = "a test may fail loudly"
)]

mod support;

use std::sync::Arc;

use doorward::demo::provider::{Control, Endpoint, Fault};
use serde_json::{Map, Value, json};
use support::browser::NAVIGATE;
use support::gateway::Extra;
use support::{Answer, Browser, Gateway, Provider, Upstream, eventually};

struct World {
    provider: Provider,
    upstream: Upstream,
    gateway: Gateway,
}

impl World {
    fn new() -> Self {
        let (provider, upstream) = (Provider::start(), Upstream::start());
        let gateway = Gateway::start(&provider, &upstream);
        Self { provider, upstream, gateway }
    }

    fn control(&self) -> Control {
        self.provider.demo.control()
    }

    fn token_calls(&self) -> u64 {
        self.provider.demo.stats().hits(Endpoint::Token)
    }

    /// reject-cb: 4xx or 50x, not cacheable, no session, nothing upstream.
    fn rejected(&self, what: &str, browser: &mut Browser, answer: &Answer) {
        assert!(
            (400..600).contains(&answer.status) && answer.status != 500,
            "{what}: {} {}",
            answer.status,
            answer.location()
        );
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
        assert!(
            browser.cookies("doorward").iter().all(|(n, _)| n.starts_with("doorward.login.")),
            "{what}: a session was set"
        );
        assert_eq!(browser.fetch("/oauth2/userinfo").status, 401, "{what}");
        assert!(self.upstream.seen().is_empty(), "{what}: the upstream was asked");
    }

    fn tampered(
        &self,
        what: &str,
        change: impl Fn(&mut Map<String, Value>, &mut Map<String, Value>) + Send + Sync + 'static,
    ) {
        let mut browser = self.gateway.browser();
        let callback = browser.reach_callback("/");
        self.control().clear();
        self.control().fault_times(Endpoint::Token, Fault::tamper(change), 1);
        let answer = browser.navigate(&callback);
        assert_eq!(answer.status, 400, "{what}: {}", answer.text());
        self.rejected(what, &mut browser, &answer);
    }
}

fn with(url: &str, change: impl Fn(&str, String) -> Option<String>) -> String {
    let mut out = url::Url::parse(url).unwrap();
    let pairs: Vec<(String, String)> =
        out.query_pairs().filter_map(|(n, v)| change(&n, v.into_owned()).map(|v| (n.into_owned(), v))).collect();
    out.query_pairs_mut().clear().extend_pairs(pairs);
    out.to_string()
}

/// The same text with another first letter, whatever that was.
fn other_first(text: &str) -> String {
    let first = if text.starts_with('A') { 'B' } else { 'A' };
    std::iter::once(first).chain(text.chars().skip(1)).collect()
}

#[test]
fn c_01_p_01_the_authorization_request_has_exactly_the_parameters_of_the_code_flow() {
    let w = World::new();
    let answer = w.gateway.browser().navigate("/some/page?x=1&scope=admin&redirect_uri=http://evil.test&nonce=1");
    assert_eq!(answer.status, 302);
    let url = url::Url::parse(answer.location()).unwrap();
    let names: Vec<String> = url.query_pairs().map(|(n, _)| n.into_owned()).collect();
    let distinct: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len(), "l_23 a parameter is repeated: {names:?}");
    let is = |name: &str| answer.parameter(name).unwrap_or_default();
    assert_eq!(is("response_type"), "code");
    assert_eq!(is("client_id"), "demo");
    assert_eq!(is("redirect_uri"), w.gateway.url("/oauth2/callback"));
    assert_eq!(is("code_challenge_method"), "S256");
    assert_eq!(is("scope"), "openid profile email");
    assert_eq!(is("code_challenge").len(), 43);
    assert!(is("state").len() >= 43 && is("nonce").len() >= 43);
    assert!(
        !answer.location().contains("some%2Fpage") && !answer.location().contains("/some/page"),
        "the return path shows"
    );
    assert!(w.upstream.seen().is_empty());
}

#[test]
fn l_23_parameters_of_the_visited_url_stay_out_of_the_authorization_request() {
    let w = World::new();
    let answer = w
        .gateway
        .browser()
        .navigate("/oauth2/start?rd=/&scope=admin&client_id=evil&request_uri=x&response_mode=fragment");
    assert_eq!(answer.parameter("scope").as_deref(), Some("openid profile email"));
    assert_eq!(answer.parameter("client_id").as_deref(), Some("demo"));
    assert!(answer.parameter("request_uri").is_none() && answer.parameter("response_mode").is_none());
}

#[test]
fn c_04_the_whole_journey_costs_one_token_call_and_ends_where_it_began() {
    let w = World::new();
    let mut browser = w.gateway.browser();
    let last = browser.go("/report/7?year=2026&x=%2Fy%26z");
    assert_eq!(last.url, w.gateway.url("/report/7?year=2026&x=%2Fy%26z"));
    assert_eq!(last.text(), "hello\n");
    let seen = w.upstream.last();
    assert_eq!(seen.target, "/report/7?year=2026&x=%2Fy%26z");
    for (name, value) in [
        ("x-forwarded-user", "alice"),
        ("x-forwarded-email", "alice@example.test"),
        ("x-forwarded-groups", "admins,staff"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
    ] {
        assert_eq!(seen.all(name), [value], "{name}");
    }
    assert!(seen.all("cookie").is_empty(), "our cookies went upstream");
    assert_eq!(w.token_calls(), 1);
    assert_eq!(w.upstream.seen().len(), 1);
    let before = w.provider.demo.stats().hits(Endpoint::Token);
    for _ in 0..5 {
        assert_eq!(browser.navigate("/again").status, 200);
    }
    assert_eq!(w.provider.demo.stats().hits(Endpoint::Token), before);
}

#[test]
fn c_03_the_cookie_of_a_sign_in_hides_what_it_holds() {
    use base64::Engine as _;
    let w = World::new();
    let mut browser = w.gateway.browser();
    let answer = browser.navigate("/secret-return-path");
    let cookies = browser.cookies("doorward.login.");
    assert_eq!(cookies.len(), 1);
    let raw = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(&cookies[0].1).unwrap();
    let nonce = answer.parameter("nonce").unwrap();
    for secret in [nonce.as_bytes(), b"secret-return-path".as_slice()] {
        assert!(!raw.windows(secret.len()).any(|w| w == secret));
    }
    let set = answer.all("set-cookie").join(" ");
    assert!(
        set.contains("HttpOnly")
            && set.contains("SameSite=Lax")
            && set.contains("Max-Age=600")
            && !set.contains("Domain")
    );
}

/// A claim replaced.
fn set(name: &'static str, value: Value) -> impl Fn(&mut Map<String, Value>, &mut Map<String, Value>) + Send + Sync {
    move |_, claims| {
        claims.insert(name.to_owned(), value.clone());
    }
}

/// A claim left out.
fn leave_out(name: &'static str) -> impl Fn(&mut Map<String, Value>, &mut Map<String, Value>) + Send + Sync {
    move |_, claims| {
        claims.remove(name);
    }
}

#[test]
fn c_05_c_06_c_07_an_id_token_of_or_for_somebody_else_signs_nobody_in() {
    let w = World::new();
    w.tampered("iss", set("iss", json!("http://evil.test")));
    w.tampered("iss missing", leave_out("iss"));
    w.tampered("aud", set("aud", json!(["demo", "other"])));
    w.tampered("azp", set("azp", json!("other")));
}

#[test]
fn c_11_c_12_an_id_token_out_of_its_time_signs_nobody_in() {
    let w = World::new();
    let now = doorward::clock::unix_now();
    w.tampered("exp", set("exp", json!(now - 60)));
    w.tampered("exp missing", leave_out("exp"));
    w.tampered("iat", set("iat", json!(now + 3600)));
}

#[test]
fn c_13_l_10_l_11_a_nonce_that_is_missing_wrong_or_of_another_tab_signs_nobody_in() {
    let w = World::new();
    w.tampered("wrong", set("nonce", json!("wrong")));
    w.tampered("missing", leave_out("nonce"));
    w.tampered("missing, said to be unsupported", |_, claims| {
        claims.remove("nonce");
        claims.insert("nonce_supported".into(), json!(false));
    });
    let mut browser = w.gateway.browser();
    let other = browser.navigate("/another-tab").parameter("nonce").unwrap();
    let callback = browser.reach_callback("/");
    w.control().clear();
    w.control().fault_times(Endpoint::Token, Fault::tamper(set("nonce", json!(other))), 1);
    let answer = browser.navigate(&callback);
    assert_eq!(answer.status, 400);
    w.rejected("of another tab", &mut browser, &answer);
}

#[test]
fn c_15_c_16_j_05_j_10_an_id_token_of_another_kind_signs_nobody_in() {
    let w = World::new();
    w.tampered("sub", set("sub", json!("")));
    w.tampered("at_hash", set("at_hash", json!("AAAAAAAAAAAAAAAAAAAAAA")));
    w.tampered("crit", |header, _| {
        header.insert("crit".into(), json!(["x"]));
    });
    w.tampered("typ", |header, _| {
        header.insert("typ".into(), json!("at+jwt"));
    });
}

#[test]
fn p_04_b_06_a_provider_that_lists_no_s256_gets_it_all_the_same_and_a_warning_says_so() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let plain = Fault::SetMember("code_challenge_methods_supported", json!(["plain"]));
    provider.demo.control().fault(Endpoint::Discovery, plain);
    let gateway = Gateway::start(&provider, &upstream);
    let begun = gateway.browser().navigate("/");
    assert_eq!(begun.parameter("code_challenge_method").as_deref(), Some("S256"));
    assert!(gateway.log().contains("does not list PKCE with S256"), "{}", gateway.log());
    // What it makes of PKCE is not known: state and nonce are what counts.
    assert!(begun.parameter("nonce").is_some());
    let callback = format!("{}/oauth2/callback?code=c&state=another", gateway.base);
    assert_eq!(gateway.browser().navigate(&callback).status, 400);
    let asked = provider.demo.stats().code_grants;
    assert_eq!((asked.ok, asked.refused), (0, 0));
    gateway.signed_in();
}

#[test]
fn c_08_l_29_answers_that_are_none_fail_closed() {
    let w = World::new();
    for (what, fault, status) in [
        ("bad signature", Fault::BadSignature, 400),
        ("500", Fault::Status(500), 503),
        ("reset", Fault::Reset, 503),
        ("html", Fault::Html, 502),
        ("empty", Fault::Empty, 502),
        ("array", Fault::Json(200, "[]".into()), 502),
        ("trailing garbage", Fault::Json(200, "{\"access_token\":\"a\",\"token_type\":\"Bearer\"} x".into()), 502),
        ("no id_token", Fault::DropMember("id_token"), 502),
        ("no access_token", Fault::DropMember("access_token"), 502),
        ("invalid_grant", Fault::Json(400, "{\"error\":\"invalid_grant\"}".into()), 400),
        ("invalid_client", Fault::Json(401, "{\"error\":\"invalid_client\"}".into()), 502),
        ("redirect", Fault::Redirect("http://127.0.0.1:1/".into()), 502),
    ] {
        let mut browser = w.gateway.browser();
        let callback = browser.reach_callback("/");
        w.control().fault_times(Endpoint::Token, fault, 1);
        let answer = browser.navigate(&callback);
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert_eq!(answer.header("retry-after").is_some(), status == 503, "{what}");
        w.rejected(what, &mut browser, &answer);
        w.control().clear();
    }
    w.gateway.signed_in();
}

#[test]
fn c_17_c_18_l_31_userinfo_of_somebody_else_or_of_no_use_adds_nothing() {
    let w = World::new();
    for (what, fault) in [
        (
            "other sub",
            Fault::Json(200, json!({"sub": "mallory", "groups": ["admins"], "email": "root@example.test"}).to_string()),
        ),
        ("array", Fault::Json(200, "[{\"sub\":\"alice\"}]".into())),
        ("401", Fault::Status(401)),
        ("html", Fault::Html),
    ] {
        w.control().clear();
        w.control().fault_times(
            Endpoint::Token,
            Fault::tamper(|_, claims| {
                claims.remove("groups");
                claims.remove("email");
            }),
            1,
        );
        w.control().fault(Endpoint::Userinfo, fault);
        let mut browser = w.gateway.browser();
        browser.go("/");
        let who = browser.fetch("/oauth2/userinfo");
        assert_eq!(who.status, 200, "{what}");
        assert_eq!(
            (&who.json()["user"], &who.json()["email"], &who.json()["groups"]),
            (&json!("alice"), &Value::Null, &json!([])),
            "{what}"
        );
    }
    w.control().clear();
    w.control().fault_times(
        Endpoint::Token,
        Fault::tamper(|_, claims| {
            claims.remove("groups");
        }),
        1,
    );
    let mut browser = w.gateway.signed_in();
    assert_eq!(
        browser.fetch("/oauth2/userinfo").json()["groups"],
        json!(["admins", "staff"]),
        "filled in from userinfo"
    );
}

#[test]
fn bx_09_c_17_a_deny_rule_does_not_pass_for_want_of_userinfo() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let routes = "[[route]]\npath = \"/\"\nupstream = \"UPSTREAM\"\naccess = \"policy\"\n\
                  deny = [{ group = \"admins\" }, { email = \"nobody@example.test\" }]\n";
    let extra = Extra { routes: Some(routes.to_owned()), ..Extra::default() };
    let gateway = Gateway::with(provider.issuer(), &upstream, extra);
    let control = provider.demo.control();
    let without = |name: &'static str| {
        control.clear();
        control.fault(
            Endpoint::Token,
            Fault::tamper(move |_, claims| {
                claims.remove(name);
            }),
        );
    };
    assert_eq!(gateway.browser().go("/").status, 403, "alice is an admin");
    without("groups");
    assert_eq!(gateway.browser().go("/").status, 403, "as userinfo says, too");
    for (fault, status) in [(Fault::Status(503), 503), (Fault::Html, 502), (Fault::Status(401), 502)] {
        without("groups");
        control.fault(Endpoint::Userinfo, fault);
        let mut browser = gateway.browser();
        let last = browser.go("/");
        assert_eq!(last.status, status, "{}", last.text());
        assert_eq!(browser.fetch("/oauth2/userinfo").status, 401);
    }
    // What no rule asks about may be missing.
    without("name");
    control.fault(Endpoint::Userinfo, Fault::Status(503));
    assert_eq!(gateway.browser().go("/").status, 403);
    assert!(upstream.seen().is_empty());
}

#[test]
fn c_20_keys_rotate_without_a_restart() {
    let w = World::new();
    w.gateway.signed_in();
    let before = w.provider.demo.stats().hits(Endpoint::Jwks);
    w.control().rotate_keys(false).unwrap();
    w.gateway.signed_in();
    assert_eq!(w.provider.demo.stats().hits(Endpoint::Jwks), before + 1);
}

#[test]
fn c_22_b_07_l_02_a_callback_counts_only_with_the_state_of_this_browser() {
    let w = World::new();
    let changes: [(&str, &dyn Fn(&str, String) -> Option<String>); 6] = [
        ("state changed", &|n, v| Some(if n == "state" { other_first(&v) } else { v })),
        ("state in other case", &|n, v| {
            Some(if n == "state" {
                v.chars()
                    .map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
                    .collect()
            } else {
                v
            })
        }),
        ("no state", &|n, v| (n != "state").then_some(v)),
        ("empty state", &|n, v| Some(if n == "state" { String::new() } else { v })),
        ("no code", &|n, v| (n != "code").then_some(v)),
        ("code with CRLF (l_14)", &|n, v| Some(if n == "code" { "a\r\nX: y".into() } else { v })),
    ];
    for (what, change) in changes {
        let mut browser = w.gateway.browser();
        let callback = browser.reach_callback("/");
        let answer = browser.navigate(&with(&callback, change));
        assert_eq!(answer.status, 400, "{what}: {}", answer.text());
        w.rejected(what, &mut browser, &answer);
    }
    assert_eq!(w.token_calls(), 0);
}

#[test]
fn c_22_an_error_of_the_provider_is_a_page_and_no_loop() {
    let w = World::new();
    for error in ["access_denied", "login_required", "server_error", "<b>x</b>"] {
        let mut browser = w.gateway.browser();
        let callback = browser.reach_callback("/");
        let answer = browser.navigate(&with(&callback, |n, v| Some(if n == "code" { return None } else { v })));
        assert_eq!(answer.status, 400);
        let mut browser = w.gateway.browser();
        let callback = browser.reach_callback("/");
        let spoiled = with(&callback, |n, v| (n != "code").then_some(v))
            + "&error_description=%3Cb%3Eno%3C%2Fb%3E&error="
            + &url::form_urlencoded::byte_serialize(error.as_bytes()).collect::<String>();
        let answer = browser.navigate(&spoiled);
        assert_eq!(answer.status, 400, "{error}");
        assert!(
            answer.text().contains("Sign in again") && !answer.text().contains("<b>"),
            "{error}: {}",
            answer.text()
        );
        w.rejected(error, &mut browser, &answer);
    }
    assert_eq!(w.token_calls(), 0);
}

#[test]
fn i_01_i_02_o_02_l_13_the_issuer_must_answer_for_itself_and_once() {
    let w = World::new();
    let issuer = w.provider.issuer().to_owned();
    let spoil: Vec<(&str, Box<dyn Fn(&str) -> String>)> = vec![
        ("no iss", Box::new(|u| with(u, |n, v| (n != "iss").then_some(v)))),
        ("other iss", Box::new(|u| with(u, |n, v| Some(if n == "iss" { "http://evil.test".into() } else { v })))),
        ("slash", Box::new(|u| with(u, |n, v| Some(if n == "iss" { v + "/" } else { v })))),
        ("iss twice", Box::new(move |u| format!("{u}&iss={issuer}"))),
        ("code twice", Box::new(|u| format!("{u}&code=other"))),
        ("state twice", Box::new(|u| format!("{u}&state=other"))),
    ];
    for (what, spoil) in spoil {
        let mut browser = w.gateway.browser();
        let callback = browser.reach_callback("/");
        let answer = browser.navigate(&spoil(&callback));
        assert_eq!(answer.status, 400, "{what}");
        w.rejected(what, &mut browser, &answer);
    }
    assert_eq!(w.token_calls(), 0, "the token endpoint was asked");
    let mut browser = w.gateway.browser();
    let callback = browser.reach_callback("/kept?x=1");
    let answer = browser.navigate(&(callback + "&foo=bar&session_state=x"));
    assert_eq!((answer.status, answer.location()), (302, "/kept?x=1"), "o_03 unknown parameters are ignored");
}

#[test]
fn b_02_l_01_l_04_p_03_a_callback_belongs_to_the_browser_that_began_it() {
    let w = World::new();
    let mut attacker = w.gateway.browser();
    let callback = attacker.reach_callback("/");
    let mut victim = w.gateway.browser();
    let answer = victim.navigate(&callback);
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().contains("cookie")
            && answer.text().contains("public_url")
            && answer.text().contains("Sign in again")
    );
    w.rejected("another browser", &mut victim, &answer);
    victim.navigate("/in-progress");
    let answer = victim.navigate(&callback);
    w.rejected("another browser that signs in itself", &mut victim, &answer);
    assert_eq!(w.token_calls(), 0);
    let mut signed_in = w.gateway.signed_in();
    let calls = w.token_calls();
    let answer = signed_in.navigate(&callback);
    assert_eq!((answer.status, answer.location()), (302, "/"), "signed in already: on to /");
    assert_eq!(w.token_calls(), calls);
    assert_eq!(signed_in.fetch("/oauth2/userinfo").json()["user"], "alice");
}

#[test]
fn l_05_another_persons_code_fails_at_pkce() {
    let w = World::new();
    w.control().auto_login(Some("bob"));
    let bobs = w.gateway.browser().reach_callback("/");
    w.control().auto_login(Some("alice"));
    let mut victim = w.gateway.browser();
    let alices = victim.reach_callback("/");
    let code = url::Url::parse(&bobs).unwrap().query_pairs().find(|(n, _)| n == "code").unwrap().1.into_owned();
    let answer = victim.navigate(&with(&alices, |n, v| Some(if n == "code" { code.clone() } else { v })));
    assert_eq!(answer.status, 400);
    w.rejected("bob's code", &mut victim, &answer);
    assert_eq!(w.provider.demo.stats().hits(Endpoint::Userinfo), 0);
}

#[test]
fn l_07_p_03_a_callback_is_redeemed_once_however_often_it_comes() {
    let w = World::new();
    let mut browser = w.gateway.browser();
    let callback = browser.reach_callback("/");
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let both: Vec<_> = (0..2)
            .map(|_| {
                let (mut copy, callback) = (browser.clone(), callback.clone());
                scope.spawn(move || copy.navigate(&callback))
            })
            .collect();
        both.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let mut statuses: Vec<u16> = answers.iter().map(|a| a.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [302, 400]);
    let again = browser.navigate(&callback);
    assert_eq!(again.status, 400);
    assert_eq!(w.token_calls(), 1);
}

#[test]
fn l_08_many_tabs_keep_to_five_cookies_and_each_of_the_newest_lands_on_its_own_page() {
    let w = World::new();
    let mut browser = w.gateway.browser();
    let tabs: Vec<(String, Answer)> = (0..12)
        .map(|i| {
            let path = format!("/tab/{i}?n={i}");
            let answer = browser.navigate(&path);
            assert!(browser.cookies("doorward.login.").len() <= 5);
            (path, answer)
        })
        .collect();
    let mut landed = 0;
    for (path, answer) in tabs.into_iter().rev() {
        let last = browser.follow(answer, |_| false);
        if last.status == 200 && last.url.contains("/tab/") {
            assert_eq!(last.url, w.gateway.url(&path));
            landed += 1;
        }
    }
    assert!(landed >= 5, "only {landed} tabs landed");
}

#[test]
fn l_16_l_17_a_browser_that_keeps_no_session_is_told_why() {
    let w = World::new();
    let mut browser = w.gateway.browser();
    let mut answer = browser.navigate("/x");
    let mut trips = 0;
    while answer.status == 302 {
        trips += usize::from(answer.location().starts_with(w.provider.issuer()));
        assert!(trips < 10, "an endless loop");
        let origin = w.gateway.base.clone();
        browser.jars.entry(origin).or_default().remove("doorward");
        let next = url::Url::parse(&answer.url).unwrap().join(answer.location()).unwrap().to_string();
        answer = browser.navigate(&next);
    }
    assert_eq!(trips, 3);
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("cookie") && answer.text().contains("public_url"), "{}", answer.text());
    let mut nothing = w.gateway.browser();
    let callback = nothing.reach_callback("/");
    nothing.jars.clear();
    assert_eq!(nothing.navigate(&callback).status, 400, "no cookies at all: one trip and a page");
}

#[test]
fn l_16_c_14_an_auth_time_with_a_fraction_of_nothing_is_one_wherever_it_is_read() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let routes = "[[route]]\npath = \"/\"\nupstream = \"UPSTREAM\"\naccess = \"authenticated\"\n\
                  require = { max_age = \"10m\" }\n";
    let gateway =
        Gateway::with(provider.issuer(), &upstream, Extra { routes: Some(routes.to_owned()), ..Extra::default() });
    provider.demo.control().fault(
        Endpoint::Token,
        Fault::tamper(|_, claims| {
            let seconds = claims["auth_time"].as_u64().unwrap() as f64;
            claims.insert("auth_time".to_owned(), json!(seconds));
        }),
    );
    assert_eq!(gateway.browser().go("/").status, 200, "and no loop between two readings");
}

#[test]
fn l_16_a_browser_that_shows_its_session_signs_in_as_often_as_it_likes() {
    let w = World::new();
    let mut browser = w.gateway.signed_in();
    for time in 0..6 {
        let callback = browser.reach_callback("/oauth2/start?rd=%2Fback");
        let answer = browser.navigate(&callback);
        assert_eq!((answer.status, answer.location()), (302, "/back"), "sign-in {time}: {}", answer.text());
    }
}

#[test]
fn l_19_l_20_l_22_programs_get_401_and_no_sign_in_begins() {
    let w = World::new();
    let html = ("Accept", "text/html");
    let cases: [(&str, &str, &[(&str, &str)]); 9] = [
        ("fetch", "GET", &[("Sec-Fetch-Mode", "cors"), html]),
        ("curl", "GET", &[("Accept", "*/*")]),
        ("XMLHttpRequest", "GET", &[html, ("X-Requested-With", "XMLHttpRequest")]),
        ("POST", "POST", &[html]),
        ("OPTIONS", "OPTIONS", &[("Origin", "http://x.test"), ("Access-Control-Request-Method", "PUT")]),
        ("prefetch", "GET", &[("Sec-Fetch-Mode", "navigate"), ("Sec-Purpose", "prefetch")]),
        ("Authorization", "GET", &[html, ("Authorization", "Bearer x")]),
        ("upgrade", "GET", &[html, ("Upgrade", "websocket"), ("Connection", "upgrade")]),
        ("events", "GET", &[("Accept", "text/event-stream")]),
    ];
    for (what, method, headers) in cases {
        let answer =
            w.gateway.browser().send(method, "/api/x?q=1", headers, if method == "POST" { b"a=1" } else { b"" });
        assert_eq!(answer.status, 401, "{what}");
        assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"), "{what}");
        assert!(answer.all("set-cookie").is_empty(), "{what}");
        let body = answer.json();
        assert!(body["login_url"].as_str().unwrap().starts_with(&w.gateway.url("/oauth2/start?rd=")), "{what}: {body}");
        assert!(body["request_id"].is_string() && body["error"].is_string(), "{what}: {body}");
    }
    let grpc = w.gateway.browser().send("POST", "/p.S/C", &[("Content-Type", "application/grpc")], b"\0\0\0\0\0");
    assert_eq!((grpc.status, grpc.header("grpc-status")), (200, Some("16")));
    assert!(w.upstream.seen().is_empty());
}

#[test]
fn l_25_l_26_rules_see_verified_mail_and_whole_groups_only() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let routes = r#"
[[route]]
path = "/"
upstream = "UPSTREAM"
access = "authenticated"
[[route]]
path = "/mail"
upstream = "UPSTREAM"
access = "policy"
allow = [{ email_domain = "example.test" }]
[[route]]
path = "/group"
upstream = "UPSTREAM"
access = "policy"
allow = [{ group = "admins" }]
"#;
    let gateway =
        Gateway::with(provider.issuer(), &upstream, Extra { routes: Some(routes.into()), ..Extra::default() });
    let control = provider.demo.control();
    let with_claim = |name: &'static str, value: Value| {
        control.clear();
        control.fault_times(
            Endpoint::Token,
            Fault::tamper(move |_, c| {
                c.insert(name.into(), value.clone());
            }),
            1,
        );
        let mut browser = gateway.browser();
        browser.go("/");
        (browser.navigate("/mail/x").status, browser.navigate("/group/x").status)
    };
    for unverified in [json!(false), json!("true"), json!(1), Value::Null] {
        assert_eq!(with_claim("email_verified", unverified.clone()), (403, 200), "{unverified}");
    }
    for groups in [
        json!([]),
        json!(""),
        json!([""]),
        json!(["notadmins"]),
        json!([["admins"]]),
        json!({"admins": true}),
        json!(7),
        json!(["admins,x"]),
        json!(["ADMINS"]),
    ] {
        assert_eq!(with_claim("groups", groups.clone()), (200, 403), "{groups}");
    }
    assert_eq!(with_claim("groups", json!(["x", "admins"])), (200, 200));
    let mut browser = gateway.browser();
    control.auto_login(Some("bob"));
    browser.go("/");
    let page = browser.navigate("/group/x");
    assert!(
        page.text().contains("Sign in as someone else") && page.text().contains(page.header("x-request-id").unwrap())
    );
    let refused = browser.fetch("/group/x");
    assert_eq!(refused.status, 403);
    assert!(refused.json()["request_id"].is_string());
    let log = gateway.log();
    eventually("the audit line", || gateway.log().contains("refused") || log.contains("refused"));
}

#[test]
fn l_28_odd_claim_paths_resolve_to_nothing() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    for path in ["__proto__.x", "groups.0", "name.length", "a.b.c"] {
        let extra = Extra { routes: None, provider: format!("claims = {{ groups = \"{path}\" }}"), ..Extra::default() };
        let gateway = Gateway::with(provider.issuer(), &upstream, extra);
        let mut browser = gateway.signed_in();
        assert_eq!(browser.fetch("/oauth2/userinfo").json()["groups"], json!([]), "{path}");
    }
}

#[test]
fn hx_15_hx_17_odd_claims_never_become_headers_of_their_own() {
    let w = World::new();
    for value in ["alice\r\nX-Forwarded-User: root", "a\0b", "100% sure", "zoë", "\tx"] {
        w.upstream.clear();
        w.control().fault_times(
            Endpoint::Token,
            Fault::TamperToken(Arc::new(move |_, claims| {
                claims.insert("preferred_username".into(), json!(value));
                claims.insert("groups".into(), json!([value, "ok", "x,admins"]));
            })),
            1,
        );
        w.gateway.signed_in();
        let seen = w.upstream.last();
        assert_eq!(seen.all("x-forwarded-user"), ["alice"], "{value:?}");
        let encoded = seen.all("x-forwarded-preferred-username")[0].to_owned();
        assert!(encoded.is_ascii());
        assert_eq!(percent_encoding::percent_decode_str(&encoded).decode_utf8().unwrap(), value);
        assert_eq!(seen.all("x-forwarded-groups"), [format!("{encoded},ok")], "{value:?}");
    }
}

#[test]
fn d_06_a_provider_that_comes_late_is_found_without_a_restart() {
    let upstream = Upstream::start();
    let port = support::free_port();
    let extra = Extra { unready: true, ..Extra::default() };
    let gateway = Gateway::with(&format!("http://127.0.0.1:{port}"), &upstream, extra);
    assert_eq!(gateway.admin("/readyz").status, 503);
    let answer = gateway.browser().navigate("/x");
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _guard = runtime.enter();
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let options =
        doorward::demo::provider::Options { alg: doorward::demo::provider::SigningAlg::Es256, ..Default::default() };
    let demo = doorward::demo::provider::DemoProvider::start(listener, options).unwrap();
    demo.control().auto_login(Some("alice"));
    eventually("readiness", || gateway.admin("/readyz").status == 200);
    assert_eq!(gateway.browser().go("/x").status, 200);
}

#[test]
fn o_11_no_secret_is_in_the_log_even_when_everything_is_logged() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let extra = Extra { env: vec![("DOORWARD_TELEMETRY__LOG".into(), "trace".into())], ..Extra::default() };
    let gateway = Gateway::with(provider.issuer(), &upstream, extra);
    let mut browser = gateway.browser();
    let callback = browser.reach_callback("/x?access_token=MARK-QUERY");
    let mut secrets: Vec<String> = browser.cookies("doorward").into_iter().map(|(_, v)| v).collect();
    let parameters = url::Url::parse(&callback).unwrap();
    secrets.extend(parameters.query_pairs().filter(|(n, _)| n == "code" || n == "state").map(|(_, v)| v.into_owned()));
    let answer = browser.navigate(&callback);
    browser.follow(answer, |_| false);
    secrets.extend(browser.cookies("doorward").into_iter().map(|(_, v)| v));
    let out = browser.send("GET", "/oauth2/sign_out", &[NAVIGATE[0], ("Sec-Fetch-Site", "same-origin")], b"");
    secrets.extend(out.parameter("id_token_hint"));
    secrets.push(support::gateway::KEY.to_owned());
    secrets.push("MARK-QUERY".to_owned());
    eventually("log lines", || gateway.log().contains("sign_out"));
    let log = gateway.log();
    let leaked: Vec<&String> = secrets.iter().filter(|s| s.len() > 8 && log.contains(s.as_str())).collect();
    assert!(leaked.is_empty(), "in the log: {leaked:?}");
}
