//! Answers that come by `form_post`, and only where they were asked for (C-24).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use doorward::demo::provider::Endpoint;
use support::gateway::Extra;
use support::{Answer, Browser, Gateway, Provider, Upstream};

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

struct World {
    provider: Provider,
    gateway: Gateway,
}

impl World {
    fn new(provider_lines: &str) -> Self {
        let (provider, upstream) = (Provider::start(), Upstream::start());
        let extra = Extra { provider: provider_lines.to_owned(), ..Extra::default() };
        let gateway = Gateway::with(provider.issuer(), &upstream, extra);
        Self { provider, gateway }
    }

    /// The provider's answer to a sign-in that wants it by a form. The demo provider answers by a redirect only: it is
    /// asked for one, and the form is made of that.
    fn answer(&self, browser: &mut Browser, path: &str) -> String {
        let start = browser.navigate(path);
        let url = start.location().replace("&response_mode=form_post", "");
        browser.navigate(&url).location().split_once('?').unwrap().1.to_owned()
    }
}

fn post(browser: &mut Browser, form: &str) -> Answer {
    browser.send(
        "POST",
        "/oauth2/callback",
        &[FORM, ("Accept", "text/html"), ("Sec-Fetch-Site", "cross-site")],
        form.as_bytes(),
    )
}

#[test]
fn c_24_b_13_a_form_is_taken_where_it_was_asked_for_and_answered_with_303() {
    let w = World::new("response_mode = \"form_post\"");
    let mut browser = w.gateway.browser();
    let start = browser.navigate("/page");
    assert_eq!(start.parameter("response_mode").as_deref(), Some("form_post"));
    let form = w.answer(&mut browser, "/page");
    let answer = post(&mut browser, &form);
    assert_eq!((answer.status, answer.location()), (303, "/page"), "{}", answer.text());
    assert_eq!(browser.go("/page").status, 200);
    // Once.
    let again = post(&mut browser, &form);
    assert_eq!((again.status, again.location()), (303, "/"), "signed in already");
    assert_eq!(w.provider.demo.stats().hits(Endpoint::Token), 1);
}

#[test]
fn c_24_the_other_way_round_costs_no_token_call() {
    let w = World::new("response_mode = \"form_post\"");
    let mut browser = w.gateway.browser();
    let form = w.answer(&mut browser, "/");
    let answer = browser.navigate(&format!("/oauth2/callback?{form}"));
    assert_eq!(answer.status, 400, "a form that came by a redirect");
    assert_eq!(browser.fetch("/oauth2/userinfo").status, 401);
    // In the URL of a form it counts as little.
    let form = w.answer(&mut browser, "/");
    let url = format!("/oauth2/callback?{form}");
    assert_eq!(browser.send("POST", &url, &[FORM], b"x=1").status, 400);
    assert_eq!(w.provider.demo.stats().hits(Endpoint::Token), 0);

    let w = World::new("");
    let mut browser = w.gateway.browser();
    let callback = browser.reach_callback("/");
    let answer = post(&mut browser, callback.split_once('?').unwrap().1);
    assert_eq!(answer.status, 400, "form_post was never asked for");
    assert_eq!(w.provider.demo.stats().hits(Endpoint::Token), 0);
}

#[test]
fn c_24_fx_12_what_is_posted_is_bounded() {
    let w = World::new("response_mode = \"form_post\"");
    let mut browser = w.gateway.browser();
    let form = w.answer(&mut browser, "/");
    let large = format!("{form}&x={}", "y".repeat(64 * 1024));
    assert_eq!(post(&mut browser, &large).status, 413);
    let json = browser.send("POST", "/oauth2/callback", &[("Content-Type", "application/json")], form.as_bytes());
    assert_eq!(json.status, 400, "no form");
    for (what, bad) in [
        ("no state", form.replace("state=", "stat=")),
        ("a foreign state", form.replace("state=", "state=x")),
        ("state twice", format!("{form}&state=x")),
        ("another issuer", form.replace("iss=", "iss=x")),
        ("nothing", "x=1".to_owned()),
    ] {
        assert_eq!(post(&mut browser.clone(), &bad).status, 400, "{what}");
    }
    assert_eq!(w.provider.demo.stats().hits(Endpoint::Token), 0);
    assert_eq!(post(&mut browser, &form).status, 303);
}

#[test]
fn k_01_c_24_only_this_sign_in_cookie_travels_with_a_form_of_another_site() {
    for (lines, want) in [("response_mode = \"form_post\"", "SameSite=None; Secure"), ("", "SameSite=Lax; Secure")] {
        let (provider, upstream) = (Provider::start(), Upstream::start());
        let extra = Extra {
            provider: lines.to_owned(),
            env: vec![("DOORWARD_SERVER__PUBLIC_URL".to_owned(), "https://app.example.com".to_owned())],
            ..Extra::default()
        };
        let gateway = Gateway::with(provider.issuer(), &upstream, extra);
        let answer = gateway.browser().navigate("/");
        let set = answer.all("set-cookie");
        assert!(set.len() == 1 && set[0].starts_with("__Host-doorward.login."), "{set:?}");
        assert!(set[0].contains(want), "{set:?}");
    }
}
