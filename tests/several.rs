//! Several providers in one instance: who may sign in where, the page to choose on, and answers that come to the wrong
//! place (RFC 9700 §4.4).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use doorward::demo::provider::{Endpoint, Fault};
use support::gateway::Extra;
use support::{Answer, Browser, Gateway, Provider, Upstream};

const ROUTES: &str = r#"
[[route]]
name = "any"
path = "/"
upstream = "UPSTREAM"
access = "authenticated"
[[route]]
name = "first"
path = "/first"
upstream = "UPSTREAM"
access = "authenticated"
provider = "main"
[[route]]
name = "second"
path = "/second"
upstream = "UPSTREAM"
access = "authenticated"
provider = "second"
[[route]]
name = "open"
path = "/open"
upstream = "UPSTREAM"
access = "public"
"#;

struct World {
    main: Provider,
    second: Provider,
    upstream: Upstream,
    gateway: Gateway,
}

impl World {
    fn new() -> Self {
        Self::with("")
    }

    /// `more`: of `[provider.main]` and `[provider.second]` each.
    fn with(more: &str) -> Self {
        let (main, second, upstream) = (Provider::start(), Provider::start(), Upstream::start());
        second.demo.control().auto_login(Some("bob"));
        let provider = format!(
            "{more}\n[provider.second]\nlabel = \"The Second <One>\"\nissuer = \"{}\"\nclient_id = \"demo\"\n\
             client_secret = \"demo-secret\"\npar = \"off\"\n{more}\n",
            second.issuer()
        );
        let extra = Extra { provider, routes: Some(ROUTES.to_owned()), ..Extra::default() };
        let gateway = Gateway::with(main.issuer(), &upstream, extra);
        Self { main, second, upstream, gateway }
    }

    fn token_calls(&self) -> u64 {
        [&self.main, &self.second].map(|p| p.demo.stats().hits(Endpoint::Token)).iter().sum()
    }

    /// reject-cb: refused, no session, no token call.
    fn rejected(&self, what: &str, browser: &mut Browser, answer: &Answer) {
        assert_eq!(answer.status, 400, "{what}: {}", answer.location());
        assert_eq!(browser.fetch("/oauth2/userinfo").status, 401, "{what}");
        assert_eq!(self.token_calls(), 0, "{what}");
        assert!(self.upstream.seen().is_empty(), "{what}");
    }
}

/// `url` with what `change` makes of its query.
fn with_query(url: &str, change: impl Fn(&str, &str) -> Option<String>) -> String {
    let mut url = url::Url::parse(url).unwrap();
    let pairs: Vec<(String, String)> =
        url.query_pairs().filter_map(|(name, value)| Some((name.to_string(), change(&name, &value)?))).collect();
    url.query_pairs_mut().clear().extend_pairs(pairs);
    url.to_string()
}

#[test]
fn l_08_a_person_chooses_on_a_page_that_names_the_host_and_every_provider_of_the_route() {
    let w = World::new();
    let mut browser = w.gateway.browser();
    let answer = browser.navigate("/page?x=1");
    assert_eq!((answer.status, answer.location()), (302, "/oauth2/sign_in?rd=%2Fpage%3Fx%3D1"));
    assert!(browser.cookies("doorward").is_empty(), "the page remembers nothing");
    let page = browser.follow(answer, |_| false);
    assert_eq!(page.status, 200);
    assert!(page.text().contains("To open 127.0.0.1"), "{}", page.text());
    assert!(page.text().contains("Sign in with main"), "{}", page.text());
    assert!(page.text().contains("Sign in with The Second &#60;One&#62;"), "{}", page.text());
    assert!(browser.cookies("doorward").is_empty());

    let last = browser.go("/oauth2/start?rd=%2Fpage%3Fx%3D1&provider=second");
    assert_eq!((last.status, last.url), (200, w.gateway.url("/page?x=1")));
    assert_eq!(w.upstream.last().all("x-forwarded-user"), ["bob"]);
    // A session of either is enough.
    assert_eq!(browser.go("/").status, 200);

    // A program is told where; nobody chooses for it.
    let answer = w.gateway.browser().fetch("/page");
    assert_eq!(answer.status, 401);
    assert!(answer.json()["login_url"].as_str().unwrap().ends_with("/oauth2/start?rd=%2Fpage"));
    // Without a choice `start` asks for one, too.
    assert_eq!(w.gateway.browser().navigate("/oauth2/start?rd=/page").location(), "/oauth2/sign_in?rd=%2Fpage");
}

#[test]
fn b_01_start_takes_only_a_provider_of_the_route_that_rd_leads_to() {
    let w = World::new();
    for (rd, provider, issuer) in [
        ("/first", "main", Some(w.main.issuer())),
        ("/second", "second", Some(w.second.issuer())),
        ("/open", "second", Some(w.second.issuer())),
        ("/first", "second", None),
        ("/second/x?y=/first", "main", None),
        ("/first", "none", None),
        ("/", "", None),
    ] {
        let answer = w.gateway.browser().navigate(&format!("/oauth2/start?rd={rd}&provider={provider}"));
        match issuer {
            Some(issuer) => assert!(answer.location().starts_with(issuer), "{rd} {provider}: {}", answer.location()),
            None => assert_eq!((answer.status, answer.location()), (400, ""), "{rd} {provider}"),
        }
    }
    // With one provider there is nothing to choose.
    assert!(w.gateway.browser().navigate("/first").location().starts_with(w.main.issuer()));
    assert!(w.gateway.browser().navigate("/oauth2/start?rd=/second").location().starts_with(w.second.issuer()));
}

#[test]
fn b_01_the_route_of_an_address_in_brackets_is_its_own() {
    let (main, second, upstream) = (Provider::start(), Provider::start(), Upstream::start());
    let provider = format!(
        "[provider.second]\nissuer = \"{}\"\nclient_id = \"demo\"\nclient_secret = \"demo-secret\"\npar = \"off\"\n",
        second.issuer()
    );
    let address = "[[route]]\nname = \"address\"\nhost = \"[::1]\"\npath = \"/\"\nupstream = \"UPSTREAM\"\n\
                   access = \"authenticated\"\nprovider = \"second\"\n";
    let extra = Extra { provider, routes: Some(format!("{ROUTES}{address}")), ..Extra::default() };
    let gateway = Gateway::with(main.issuer(), &upstream, extra);
    let start = format!("/oauth2/start?rd=http%3A%2F%2F%5B%3A%3A1%5D%3A{}%2F", gateway.port);
    let answer = gateway.browser().navigate(&start);
    assert!(answer.location().starts_with(second.issuer()), "{}", answer.location());
}

#[test]
fn b_03_an_answer_at_another_providers_callback_costs_no_token_call() {
    let w = World::new();
    let honest = |url: &str| url.replace("/callback/second", "/callback/main");

    // The second provider is malicious. It was asked, and sends the browser on to the first, with the state it was given
    // and a challenge of its own, to have the first one's code brought to it.
    let mut browser = w.gateway.browser();
    let asked = browser.navigate("/oauth2/start?rd=/&provider=second");
    let (state, nonce) = (asked.parameter("state").unwrap(), asked.parameter("nonce").unwrap());
    let detour = browser.navigate("/oauth2/start?rd=/&provider=main");
    let detour = with_query(detour.location(), |name, value| {
        Some(match name {
            "state" => state.clone(),
            "nonce" => nonce.clone(),
            _ => value.to_owned(),
        })
    });
    let answer = browser.navigate(&detour);
    assert!(answer.location().starts_with(&w.gateway.url("/oauth2/callback/main?")), "{}", answer.location());
    let answer = browser.navigate(answer.location());
    w.rejected("the first one's code under the second one's state", &mut browser, &answer);

    // Each place, each claim of who answers.
    for (what, change) in [
        ("at the first one's place", 0),
        ("at the shared place", 1),
        ("at a place of nobody", 2),
        ("with the first one's iss", 3),
        ("without iss, though it is announced", 4),
    ] {
        let mut browser = w.gateway.browser();
        let callback = browser.reach_callback("/oauth2/start?rd=/&provider=second");
        let spoilt = match change {
            0 => honest(&callback),
            1 => callback.replace("/callback/second", "/callback"),
            2 => callback.replace("/callback/second", "/callback/third"),
            3 => with_query(&callback, |n, v| Some(if n == "iss" { w.main.issuer() } else { v }.to_owned())),
            _ => with_query(&callback, |n, v| (n != "iss").then(|| v.to_owned())),
        };
        let answer = browser.navigate(&spoilt);
        if change == 2 {
            assert_eq!(answer.status, 404);
            continue;
        }
        w.rejected(what, &mut browser, &answer);
    }

    // An error answer counts from who was asked only (I-02).
    let mut browser = w.gateway.browser();
    let callback = browser.reach_callback("/oauth2/start?rd=/&provider=second");
    let answer = browser.navigate(&honest(&callback).replace("code=", "error="));
    w.rejected("an error at another place", &mut browser, &answer);
    assert!(answer.text().contains("This sign-in cannot be continued"), "{}", answer.text());

    let mut browser = w.gateway.browser();
    assert_eq!(browser.go("/oauth2/start?rd=/&provider=second").status, 200, "unspoilt it works");
    assert_eq!(w.token_calls(), 1);
}

#[test]
fn b_03_i_01_at_a_shared_callback_an_answer_without_iss_is_refused_also_where_none_was_announced() {
    let w = World::with("callback = \"shared\"");
    for provider in [&w.main, &w.second] {
        provider.demo.control().fault(
            Endpoint::Discovery,
            Fault::SetMember("authorization_response_iss_parameter_supported", false.into()),
        );
    }
    let gateway = {
        let provider = format!(
            "callback = \"shared\"\n[provider.second]\nissuer = \"{}\"\nclient_id = \"demo\"\nclient_secret = \"demo-secret\"\n\
             par = \"off\"\ncallback = \"shared\"\n",
            w.second.issuer()
        );
        let extra = Extra { provider, routes: Some(ROUTES.to_owned()), ..Extra::default() };
        Gateway::with(w.main.issuer(), &w.upstream, extra)
    };
    let mut browser = gateway.browser();
    let callback = browser.reach_callback("/first");
    assert!(callback.starts_with(&gateway.url("/oauth2/callback?")), "{callback}");
    let answer = browser.navigate(&with_query(&callback, |n, v| (n != "iss").then(|| v.to_owned())));
    assert_eq!(answer.status, 400);
    assert_eq!(w.token_calls(), 0);
    assert_eq!(browser.go("/first").status, 200, "with iss it counts");
}

#[test]
fn s_19_whoever_comes_from_another_provider_signs_in_anew_and_the_old_session_is_over() {
    let w = World::new();
    let mut browser = w.gateway.browser();
    assert_eq!(browser.go("/first").status, 200);
    let mut old = browser.clone();
    w.upstream.clear();
    assert_eq!(browser.go("/second").status, 200);
    assert_eq!(w.upstream.last().all("x-forwarded-user"), ["bob"]);
    assert_eq!(old.fetch("/first").status, 401, "the first session is over");
    // A program with a session of the other provider is nobody here, and is told so.
    assert_eq!(browser.fetch("/first").status, 401);
}

#[test]
fn l_16_two_routes_that_lead_to_each_other_end_at_a_page() {
    let w = World::new();
    let mut browser = w.gateway.browser();
    let mut sign_ins = 0;
    let page = loop {
        // As if each application sent the browser on to the other by itself.
        let answer = browser.go(if sign_ins % 2 == 0 { "/first" } else { "/second" });
        if answer.status != 200 {
            break answer;
        }
        sign_ins += 1;
        assert!(sign_ins < 20, "no end of it");
    };
    assert_eq!(page.status, 400);
    assert!(
        page.text().contains("goes round in circles") && page.text().contains("different services"),
        "{}",
        page.text()
    );
    // Where the person is signed in already, all is well.
    let there = if sign_ins % 2 == 0 { "/second" } else { "/first" };
    assert_eq!(browser.go(there).status, 200);
}

#[test]
fn b_03_check_prints_what_to_register() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("doorward.toml");
    let key = support::gateway::KEY;
    std::fs::write(
        &file,
        format!(
            "[server]\npublic_url = \"https://app.example.com\"\n[session]\nkeys = [\"{key}\"]\n\
             [provider.a]\nissuer = \"https://a.example\"\nclient_id = \"x\"\n\
             [provider.b]\nissuer = \"https://b.example\"\nclient_id = \"x\"\nflow = \"implicit_form_post\"\n\
             [[route]]\nhost = \"*.apps.example.com\"\npath = \"/\"\nupstream = \"status:204\"\naccess = \"authenticated\"\n\
             [[route]]\nhost = \"open.example.com\"\npath = \"/\"\nupstream = \"status:204\"\naccess = \"public\"\n"
        ),
    )
    .unwrap();
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_doorward"))
        .env_clear()
        .args(["check", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    for line in [
        "redirect URI of provider a: https://app.example.com/oauth2/callback/a",
        "redirect URI of provider b: https://*.apps.example.com/oauth2/callback/b",
    ] {
        assert!(text.lines().any(|l| l == line), "{text}");
    }
    assert!(!text.contains("open.example.com"), "{text}");
    assert!(text.contains("warning: provider.b.flow is implicit_form_post: RFC 9700 §2.1.2"), "{text}");
}
