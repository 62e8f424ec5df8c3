//! The session cookie from outside: what opens it, how long it lives, how it ends. Rows S-, K-, RL-.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use std::time::{Duration, Instant};

use doorward::demo::provider::Endpoint;
use support::browser::NAVIGATE;
use support::gateway::{Extra, KEY};
use support::{Browser, Gateway, Provider, Upstream, eventually, stores};

fn world(session: &str) -> (Provider, Upstream, Gateway) {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let extra = Extra { session: session.into(), ..Extra::default() };
    let gateway = Gateway::with(provider.issuer(), &upstream, extra);
    (provider, upstream, gateway)
}

fn ask(gateway: &Gateway, cookie: &str) -> u16 {
    gateway.browser().send("GET", "/x", &[("Accept", "application/json"), ("Cookie", cookie)], b"").status
}

fn header(browser: &Browser) -> String {
    browser.cookie_header(&browser.base)
}

#[test]
fn s_01_s_02_a_changed_cookie_opens_nothing_and_every_refusal_looks_alike() {
    let (_provider, _upstream, gateway) = world("");
    let browser = gateway.signed_in();
    let (name, value) = browser.cookies("doorward").into_iter().find(|(n, _)| n == "doorward").unwrap();
    assert_eq!(ask(&gateway, &format!("{name}={value}")), 200);
    let mut shapes = std::collections::BTreeSet::new();
    for at in (0..value.len()).step_by(7).chain([0, 1, 2, value.len() - 1]) {
        let mut changed = value.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let cookie = format!("{name}={}", String::from_utf8(changed).unwrap());
        let answer = gateway.browser().send("GET", "/x", &[("Cookie", &cookie)], b"");
        let mut names: Vec<String> = answer.headers.iter().map(|(n, _)| n.to_lowercase()).collect();
        names.sort();
        shapes.insert((answer.status, names));
        assert!(answer.all("set-cookie").iter().any(|c| c.starts_with("doorward=;")), "not cleared");
    }
    assert_eq!(shapes.len(), 1, "{shapes:?}");
    for cut in [0, 1, 10, value.len() / 2, value.len() - 1] {
        assert_eq!(ask(&gateway, &format!("{name}={}", &value[..cut])), 401, "first {cut}");
    }
    for odd in [format!("{value}A"), format!("{value}."), format!("A{value}"), format!("{value}{value}")] {
        assert_eq!(ask(&gateway, &format!("{name}={odd}")), 401);
    }
}

#[test]
fn s_04_ox_02_a_copy_of_the_cookie_is_worth_nothing_after_sign_out() {
    for store in ["cookie", "memory"] {
        let (_provider, _upstream, gateway) = world(&format!("store = \"{store}\""));
        let mut browser = gateway.signed_in();
        let kept = header(&browser);
        assert_eq!(ask(&gateway, &kept), 200, "{store}");
        browser.send("GET", "/oauth2/sign_out", &[NAVIGATE[0], NAVIGATE[1], ("Sec-Fetch-Site", "same-origin")], b"");
        assert_eq!(ask(&gateway, &kept), 401, "{store}");
        assert!(browser.cookies("doorward").is_empty(), "k_05 {store}: cookies are left");
    }
}

#[test]
fn s_05_a_session_ends_at_its_lifetime_and_when_idle() {
    for store in ["cookie", "memory"] {
        let (_provider, _upstream, gateway) =
            world(&format!("store = \"{store}\"\nlifetime = \"3s\"\nidle_timeout = \"0s\""));
        let mut browser = gateway.signed_in();
        let begun = Instant::now();
        assert_eq!(browser.fetch("/x").status, 200, "{store}");
        eventually("the end of the lifetime", || browser.fetch("/x").status == 401);
        assert!(begun.elapsed() > Duration::from_secs(2), "{store}: ended early");

        let (_provider, _upstream, gateway) = world(&format!("store = \"{store}\"\nidle_timeout = \"2s\""));
        let mut browser = gateway.signed_in();
        let kept = header(&browser);
        // Use keeps it: the first cookie is long too old when the newest still works.
        eventually("an old cookie past its idle time", || {
            browser.fetch("/x").status != 200
                || (store == "cookie" && ask(&gateway, &kept) == 401)
                || begun.elapsed() > Duration::from_secs(9)
        });
        assert_eq!(browser.fetch("/x").status, 200, "{store}: use did not keep the session");
    }
}

#[test]
fn s_07_s_08_a_value_counts_only_under_its_own_name() {
    let (provider, _upstream, gateway) = world("");
    let mut other = gateway.browser();
    other.navigate("/");
    let (_, login) = other.cookies("doorward.login.").pop().unwrap();
    assert_eq!(ask(&gateway, &format!("doorward={login}")), 401);
    assert_eq!(ask(&gateway, &format!("doorward=1{login}")), 401);
    let session = gateway.signed_in().cookies("doorward").into_iter().find(|(n, _)| n == "doorward").unwrap().1;
    let mut browser = gateway.browser();
    let callback = browser.reach_callback("/");
    let (name, _) = browser.cookies("doorward.login.").pop().unwrap();
    let calls = provider.demo.stats().hits(Endpoint::Token);
    let answer = browser.send("GET", &callback, &[("Cookie", &format!("{name}={session}"))], b"");
    assert_eq!(answer.status, 400);
    assert_eq!(provider.demo.stats().hits(Endpoint::Token), calls);
}

#[test]
fn s_08_another_hosts_cookie_opens_nothing() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let route = |host: &str| {
        format!("[[route]]\nhost = \"{host}\"\npath = \"/\"\nupstream = \"UPSTREAM\"\naccess = \"authenticated\"\n")
    };
    let extra = Extra { routes: Some(route("127.0.0.1") + &route("localhost")), ..Extra::default() };
    let gateway = Gateway::with(provider.issuer(), &upstream, extra);
    let cookie = header(&gateway.signed_in());
    assert_eq!(ask(&gateway, &cookie), 200);
    let host = format!("localhost:{}", gateway.port);
    let answer = gateway.browser().send("GET", "/x", &[("Host", &host), ("Cookie", &cookie)], b"");
    assert_eq!(answer.status, 401);
}

#[test]
fn s_10_s_11_k_03_chunks_count_only_whole() {
    let (provider, upstream, gateway) = world("");
    let groups: Vec<String> =
        (0..400).map(|i| format!("{:016x}", (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
    let claim = serde_json::json!(groups);
    provider.demo.control().fault_times(
        Endpoint::Token,
        doorward::demo::provider::Fault::tamper(move |_, c| {
            c.insert("groups".into(), claim.clone());
        }),
        1,
    );
    let browser = gateway.signed_in();
    assert_eq!(upstream.last().all("x-forwarded-groups")[0].split(',').count(), 400);
    let chunks: Vec<(String, String)> =
        browser.cookies("doorward").into_iter().filter(|(n, _)| n != "doorward.loop").collect();
    assert!(chunks.len() >= 2, "not chunked: {}", chunks.len());
    assert!(chunks.iter().all(|(n, v)| n.len() + v.len() <= 4096));
    let join =
        |parts: &[(String, String)]| parts.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join("; ");
    assert_eq!(ask(&gateway, &join(&chunks)), 200);
    assert_eq!(ask(&gateway, &join(&chunks[1..])), 401, "the first is missing");
    assert_eq!(ask(&gateway, &join(&chunks[..chunks.len() - 1])), 401, "the last is missing");
    let mut swapped = chunks.clone();
    (swapped[0].1, swapped[1].1) = (chunks[1].1.clone(), chunks[0].1.clone());
    assert_eq!(ask(&gateway, &join(&swapped)), 401, "swapped");
    for name in ["doorward.01", "doorward.+1", "doorward.99999999", "doorward_1", "doorward.login.1"] {
        let mut renamed = chunks.clone();
        renamed.last_mut().unwrap().0 = name.into();
        assert_eq!(ask(&gateway, &join(&renamed)), 401, "{name}");
    }
    let flood = (0..500).map(|i| format!("doorward.{i}=AAAA")).collect::<Vec<_>>().join("; ");
    assert_eq!(ask(&gateway, &flood), 401);
}

#[test]
fn s_13_keys_rotate_by_prepending() {
    let second = "another-session-key-of-the-tests-long-enough";
    let (provider, upstream, gateway) = world(&format!("keys = [\"{KEY}\"]"));
    let mut browser = gateway.signed_in();
    let old = header(&browser);
    let extra = |keys: &str| Extra { session: format!("keys = [{keys}]"), ..Extra::default() };
    let reloads = || gateway.metric("doorward_reloads_total{outcome=\"ok\"}");
    gateway.reload(provider.issuer(), &upstream, &extra(&format!("\"{second}\", \"{KEY}\"")));
    eventually("the first reload", || reloads() == 1.0);
    assert_eq!(browser.fetch("/x").status, 200, "the old key still opens");
    assert_ne!(header(&browser), old, "the session was not sealed anew");
    gateway.reload(provider.issuer(), &upstream, &extra(&format!("\"{second}\"")));
    eventually("the second reload", || reloads() == 2.0);
    assert_eq!(browser.fetch("/x").status, 200, "the new key opens what it sealed");
    assert_eq!(ask(&gateway, &old), 401, "the removed key opens nothing");
    gateway.reload(provider.issuer(), &upstream, &Extra { session: "lifetme = \"1h\"".into(), ..Extra::default() });
    eventually("the failed reload", || gateway.metric("doorward_reloads_total{outcome=\"error\"}") == 1.0);
    assert_eq!(browser.fetch("/x").status, 200, "an invalid configuration changes nothing");
    let last_is_ok = || gateway.metric("doorward_config_last_reload_successful");
    eventually("the alert", || last_is_ok() == 0.0);
    gateway.reload(provider.issuer(), &upstream, &extra(&format!("\"{second}\"")));
    eventually("the end of the alert", || last_is_ok() == 1.0);
}

#[test]
fn s_14_the_same_person_twice_looks_different() {
    let (_provider, _upstream, gateway) = world("");
    let value = |b: Browser| b.cookies("doorward").into_iter().find(|(n, _)| n == "doorward").unwrap().1;
    let (a, b) = (value(gateway.signed_in()), value(gateway.signed_in()));
    let same = a.bytes().zip(b.bytes()).filter(|(x, y)| x == y).count();
    assert!(same < 24 + a.len() / 12, "{same} of {} are equal", a.len());
}

#[test]
fn s_16_s_17_junk_beside_the_cookie_locks_nobody_out() {
    let (_provider, upstream, gateway) = world("");
    let browser = gateway.signed_in();
    let (name, value) = browser.cookies("doorward").into_iter().find(|(n, _)| n == "doorward").unwrap();
    for junk in ["junk", "", "1AAAA", &value[..value.len() - 4]] {
        for cookie in [format!("{name}={junk}; {name}={value}"), format!("{name}={value}; {name}={junk}")] {
            assert_eq!(ask(&gateway, &cookie), 200, "{junk}");
            assert_eq!(upstream.last().all("x-forwarded-user"), ["alice"]);
        }
    }
    let mut tab = gateway.browser();
    let callback = tab.reach_callback("/in");
    let own = header(&tab);
    let (login, _) = tab.cookies("doorward.login.").pop().unwrap();
    let cookie = format!("doorward=junk; doorward.login.zz=junk; {login}=junk; {own}");
    let answer = tab.send("GET", &callback, &[("Cookie", &cookie)], b"");
    assert_eq!((answer.status, answer.location()), (302, "/in"));
}

#[test]
fn s_19_every_sign_in_makes_a_new_session_and_ends_the_one_before() {
    for store in ["cookie", "memory"] {
        let (_provider, _upstream, gateway) = world(&format!("store = \"{store}\""));
        let mut browser = gateway.signed_in();
        let before = header(&browser);
        assert_eq!(browser.go("/oauth2/start?rd=/again").status, 200, "{store}");
        assert_ne!(header(&browser), before, "{store}");
        assert_eq!(ask(&gateway, &before), 401, "{store}: the old session lives on");
        assert_eq!(ask(&gateway, "doorward=1attacker-chosen-session-id-0123456789abcdef"), 401, "{store}");
    }
}

#[test]
fn s_19_a_strict_cookie_that_the_callback_is_not_shown_is_dead_all_the_same() {
    for store in stores() {
        let (_provider, _upstream, gateway) = world(&format!("same_site = \"strict\"\n{store}"));
        let mut browser = gateway.browser();
        browser.go("/");
        let before = header(&browser);
        assert_eq!(ask(&gateway, &before), 200, "{store}");
        let callback = browser.reach_callback("/oauth2/start?rd=/");
        // As a browser does, when another site sends it here.
        let origin = gateway.base.clone();
        browser.jars.get_mut(&origin).unwrap().remove("doorward");
        assert_eq!(browser.navigate(&callback).status, 200, "{store}");
        assert_eq!(ask(&gateway, &header(&browser)), 200, "{store}");
        assert_eq!(ask(&gateway, &before), 401, "{store}");
    }
}

#[test]
fn s_20_large_cookie_headers_are_served_or_refused_never_a_fault_of_ours() {
    let (_provider, _upstream, gateway) = world("");
    let own = header(&gateway.signed_in());
    for kib in [8, 32, 60, 100] {
        let cookie = format!("{own}; junk={}", "x".repeat(kib << 10));
        let status = gateway.browser().try_send("GET", "/x", &[("Cookie", &cookie)], b"").map(|a| a.status);
        assert!(matches!(status, Some(200 | 431)), "{kib} KiB: {status:?}");
    }
    assert_eq!(ask(&gateway, &own), 200);
}

#[test]
fn s_22_guessed_ids_open_nothing() {
    let (_provider, _upstream, gateway) = world("store = \"memory\"");
    let value = gateway.signed_in().cookies("doorward").into_iter().find(|(n, _)| n == "doorward").unwrap().1;
    assert!(value.len() >= 43);
    for i in 0..100 {
        let guess: String = value.chars().rev().skip(i % 7).collect();
        assert_eq!(ask(&gateway, &format!("doorward={guess}{i}")), 401);
    }
}

#[test]
fn k_08_the_upstream_sets_no_cookie_of_ours() {
    let (_provider, upstream, gateway) = world("");
    let mut browser = gateway.signed_in();
    upstream.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: doorward=evil\r\nSet-Cookie: mine=1\r\nSet-Cookie: doorward.1=evil\r\nSet-Cookie: doorwardish=2\r\nConnection: close\r\n\r\n");
    let answer = browser.fetch("/x");
    assert_eq!(answer.all("set-cookie"), ["mine=1", "doorwardish=2"]);
}

#[test]
fn rl_01_rl_02_sign_out_goes_by_the_provider_and_comes_back() {
    let (provider, _upstream, gateway) = world("");
    let mut browser = gateway.signed_in();
    let same = [NAVIGATE[0], NAVIGATE[1], ("Sec-Fetch-Site", "same-origin")];
    let out = browser.send("GET", "/oauth2/sign_out?rd=/bye", &same, b"");
    assert_eq!(out.status, 302);
    assert!(out.location().starts_with(provider.issuer()));
    assert!(out.parameter("id_token_hint").is_some_and(|t| t.split('.').count() == 3));
    assert_eq!(out.parameter("post_logout_redirect_uri").unwrap(), gateway.url("/oauth2/signed_out"));
    let back = browser.follow(out, |url| url.ends_with("/bye"));
    assert_eq!(back.location(), "/bye");
    eventually("the revocation", || provider.demo.stats().hits(Endpoint::Revocation) >= 1);
    for query in ["", "?state=", "?state=forged", "?rd=https://evil.test/"] {
        let page = gateway.browser().navigate(&format!("/oauth2/signed_out{query}"));
        assert_eq!(page.status, 200, "{query}");
        assert!(page.text().contains("signed out"));
    }
}

#[test]
fn rl_01_o_11_a_section_that_became_another_provider_sees_nothing_of_the_sessions_before() {
    for store in stores() {
        let (first, second, upstream) = (Provider::start(), Provider::start(), Upstream::start());
        let extra = Extra { session: store.to_owned(), ..Extra::default() };
        let gateway = Gateway::with(first.issuer(), &upstream, extra.clone());
        let mut browser = gateway.signed_in();
        gateway.reload(second.issuer(), &upstream, &extra);
        eventually("the other provider is asked", || {
            gateway.browser().navigate("/").location().starts_with(second.issuer())
        });
        let out = browser.send("POST", "/oauth2/sign_out", &[("Sec-Fetch-Site", "same-origin")], b"");
        assert_eq!((out.status, out.location()), (303, "/oauth2/signed_out"), "{store}: no token goes there");
        assert_eq!(second.demo.stats().hits(Endpoint::Revocation), 0, "{store}");
        assert_eq!(browser.fetch("/").status, 401, "{store}");
    }
}

#[test]
fn rl_03_another_site_cannot_sign_anybody_out() {
    let (_provider, _upstream, gateway) = world("");
    let mut browser = gateway.signed_in();
    let cross = [NAVIGATE[0], NAVIGATE[1], ("Sec-Fetch-Site", "cross-site")];
    let page = browser.send("GET", "/oauth2/sign_out", &cross, b"");
    assert_eq!(page.status, 200);
    assert!(page.text().contains("<form method=\"post\""));
    let forged = browser.send("POST", "/oauth2/sign_out", &[("Origin", "http://evil.test")], b"rd=/");
    assert_eq!(forged.status, 200, "a question, not a sign-out");
    assert_eq!(browser.fetch("/oauth2/userinfo").status, 200, "still signed in");
    let origin = gateway.base.clone();
    let meant = browser.send("POST", "/oauth2/sign_out", &[("Origin", &origin)], b"rd=/");
    assert_eq!(meant.status, 303, "b_13");
    assert_eq!(browser.fetch("/oauth2/userinfo").status, 401);
}

#[test]
fn s_05_a_reload_keeps_the_time_of_use_and_the_claims_of_kept_sessions() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let with = |claims: &[&str]| {
        let headers: Vec<_> =
            claims.iter().map(|c| format!("{{ header = \"X-Claim-{c}\", claim = \"{c}\" }}")).collect();
        let routes = format!(
            "[[route]]\npath = \"/\"\nupstream = \"UPSTREAM\"\naccess = \"authenticated\"\nidentity = [{}]\n",
            headers.join(", ")
        );
        let session = "store = \"memory\"\nidle_timeout = \"2s\"".to_owned();
        Extra { session, routes: Some(routes), ..Extra::default() }
    };
    let gateway = Gateway::with(provider.issuer(), &upstream, with(&["email", "name"]));
    let mut browser = gateway.signed_in();
    let end = Instant::now() + Duration::from_millis(3_000);
    eventually("longer use than the idle time", || browser.fetch("/x").status != 200 || Instant::now() > end);
    let claims = |upstream: &Upstream| {
        let seen = upstream.last();
        (seen.all("x-claim-email").concat(), seen.all("x-claim-name").concat())
    };
    assert_eq!(browser.fetch("/x").status, 200);
    let before = claims(&upstream);
    gateway.reload(provider.issuer(), &upstream, &with(&["name", "email"]));
    eventually("the reload", || gateway.metric("doorward_reloads_total{outcome=\"ok\"}") >= 1.0);
    assert_eq!(browser.fetch("/x").status, 200, "the reload took it for idle");
    assert_eq!(claims(&upstream), before);
}

#[test]
fn k_03_a_session_that_no_browser_can_hold_is_in_no_list_and_its_tokens_are_given_back() {
    use doorward::demo::provider::Fault;

    let (provider, _upstream, gateway) = world("store = \"cookie\"");
    let groups: Vec<String> =
        (0..2_200).map(|i| format!("{:016x}", (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
    let claim = serde_json::json!(groups);
    provider.demo.control().auto_login(Some("alice"));
    let change = Fault::tamper(move |_, c| {
        c.insert("groups".into(), claim.clone());
    });
    provider.demo.control().fault_times(Endpoint::Token, change, 1);
    let page = gateway.browser().go("/");
    assert!(page.text().contains("more information"), "{}", page.text());
    assert_eq!(gateway.admin("/sessions?user=alice").json(), serde_json::json!([]));
    eventually("the revocation", || provider.demo.stats().hits(Endpoint::Revocation) >= 1);
}
