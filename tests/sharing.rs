//! One sign-in for several hosts: by a cookie that subdomains share, and by a hand-over between hosts that share none.

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
use support::{Answer, Browser, Gateway, Provider, Upstream, eventually, stores};

/// `id.localhost` is where people sign in; the others share no name with it that a cookie could be shared by.
const HOSTS: &str = r#"
[[route]]
name = "home"
host = "id.test.localhost"
path = "/"
upstream = "UPSTREAM"
access = "authenticated"
[[route]]
name = "wiki"
host = "wiki.localhost"
path = "/"
upstream = "UPSTREAM"
access = "authenticated"
[[route]]
name = "strong"
host = "wiki.localhost"
path = "/strong"
upstream = "UPSTREAM"
access = "authenticated"
require = { acr = ["urn:strong"] }
[[route]]
name = "admins"
host = "wiki.localhost"
path = "/bob"
upstream = "UPSTREAM"
access = "policy"
allow = [{ user = "bob" }]
[[route]]
name = "blogs"
host = "*.blog.localhost"
path = "/"
upstream = "UPSTREAM"
access = "authenticated"
"#;

struct World {
    provider: Provider,
    upstream: Upstream,
    gateway: Gateway,
}

impl World {
    fn new(store: &str) -> Self {
        let (provider, upstream) = (Provider::start(), Upstream::start());
        let extra = Extra {
            session: format!("hand_over = true\n{store}"),
            routes: Some(HOSTS.to_owned()),
            host: "id.test.localhost".to_owned(),
            ..Extra::default()
        };
        let gateway = Gateway::with(provider.issuer(), &upstream, extra);
        Self { provider, upstream, gateway }
    }

    /// A page of another host.
    fn at(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.gateway.port)
    }

    fn sign_ins(&self) -> u64 {
        self.provider.demo.stats().hits(Endpoint::Token)
    }

    /// On the way to `url` as far as the callback with the ticket, which is not asked.
    fn ticket(&self, browser: &mut Browser, url: &str) -> String {
        let start = browser.navigate(url);
        let last = browser.follow(start, |next| next.contains("hand_over=") && next.contains("/oauth2/callback?"));
        assert!(last.location().contains("hand_over="), "{} {} {}", last.status, last.location(), last.text());
        last.location().to_owned()
    }

    fn nobody(&self, what: &str, browser: &mut Browser, answer: &Answer, host: &str) {
        assert_eq!(answer.status, 400, "{what}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
        assert_eq!(browser.fetch(&self.at(host, "/oauth2/userinfo")).status, 401, "{what}");
    }
}

fn with_store() -> impl Iterator<Item = &'static str> {
    stores().into_iter().filter(|store| !store.contains("cookie"))
}

#[test]
fn s_08_k_01_one_sign_in_serves_hosts_that_share_no_cookie_and_one_sign_out_ends_it() {
    for store in with_store() {
        let w = World::new(store);
        let mut browser = w.gateway.browser();
        let wiki = w.at("wiki.localhost", "/page?x=%2F1");
        let start = browser.navigate(&wiki);
        assert!(start.location().starts_with(&w.gateway.url("/oauth2/hand_over?request=")), "{}", start.location());
        assert!(!start.location().contains("page") && !start.location().contains("wiki"), "{}", start.location());
        let last = browser.follow(start, |_| false);
        assert_eq!((last.status, last.url.as_str()), (200, wiki.as_str()), "{}", last.text());
        assert_eq!(w.upstream.last().all("x-forwarded-user"), ["alice"]);

        // Silently on to others, each with a cookie of its own.
        for url in [w.at("x.blog.localhost", "/"), w.at("y.blog.localhost", "/"), w.gateway.url("/")] {
            assert_eq!(browser.go(&url).status, 200, "{url}");
        }
        assert_eq!(w.sign_ins(), 1);
        let own: std::collections::BTreeSet<_> = browser
            .jars
            .iter()
            .filter_map(|(origin, jar)| Some((origin.clone(), jar.get("doorward")?.clone())))
            .collect();
        assert_eq!(own.len(), 4, "{own:?}");
        assert!(browser.jars.keys().all(|jar| !jar.starts_with("domain ")), "no cookie is shared");
        let values: std::collections::BTreeSet<_> = own.iter().map(|(_, value)| value).collect();
        assert_eq!(values.len(), 4, "a cookie of one host is none of another");

        // A program is not sent round.
        assert_eq!(w.gateway.browser().fetch(&wiki).status, 401);

        let out = browser.send(
            "POST",
            &w.at("x.blog.localhost", "/oauth2/sign_out"),
            &[("Sec-Fetch-Site", "same-origin")],
            b"",
        );
        assert_eq!(out.status, 303, "{}", out.text());
        let back = out.parameter("post_logout_redirect_uri");
        assert_eq!(back, Some(w.gateway.url("/oauth2/signed_out")), "the provider knows one host");
        for url in [&wiki, &w.at("y.blog.localhost", "/"), &w.gateway.url("/")] {
            assert_eq!(browser.fetch(url).status, 401, "{url}");
        }
    }
}

#[test]
fn b_08_l_04_r_06_a_ticket_is_useless_anywhere_else() {
    let w = World::new("store = \"memory\"");
    let wiki = w.at("wiki.localhost", "/");

    let mut browser = w.gateway.browser();
    let ticket = w.ticket(&mut browser, &wiki);
    // Another browser, with nothing, and with a sign-in of its own under way.
    let mut thief = w.gateway.browser();
    let answer = thief.navigate(&ticket);
    w.nobody("another browser", &mut thief, &answer, "wiki.localhost");
    let own = thief.navigate(&wiki);
    assert_eq!(own.status, 302);
    let name = thief.jars[&w.at("wiki.localhost", "")].keys().next().unwrap().clone();
    let answer = thief.navigate(&ticket);
    w.nobody("another browser's sign-in", &mut thief, &answer, "wiki.localhost");
    // As if it knew its own state: the name of its cookie is the beginning of it.
    assert!(name.starts_with("doorward.login."));

    // Another host, also with the cookie brought along.
    let elsewhere = ticket.replace("wiki.localhost", "x.blog.localhost");
    let answer = browser.navigate(&elsewhere);
    w.nobody("another host", &mut browser, &answer, "x.blog.localhost");
    let cookie = browser.cookie_header(&w.at("wiki.localhost", ""));
    let answer = browser.send("GET", &elsewhere, &[("Cookie", &cookie), ("Accept", "text/html")], b"");
    w.nobody("another host with the cookie", &mut browser, &answer, "x.blog.localhost");
    // The sign-in host itself.
    let answer = browser.navigate(&ticket.replace("wiki.localhost", "id.test.localhost"));
    assert_eq!(answer.location(), "/", "signed in already, and nothing taken");

    // Twice.
    let before = browser.clone();
    assert_eq!(browser.navigate(&ticket).status, 302);
    assert_eq!(browser.go(&wiki).status, 200);
    let mut again = before;
    let answer = again.navigate(&ticket);
    w.nobody("twice", &mut again, &answer, "wiki.localhost");
    // Of a session that has ended meanwhile.
    let mut late = w.gateway.browser();
    let ticket = w.ticket(&mut late, &wiki);
    late.send("POST", "/oauth2/sign_out", &[("Sec-Fetch-Site", "same-origin")], b"");
    let answer = late.navigate(&ticket);
    w.nobody("after the sign-out", &mut late, &answer, "wiki.localhost");
}

#[test]
fn b_01_r_09_nothing_but_our_own_request_is_handed_anything() {
    let w = World::new("store = \"memory\"");
    let mut browser = w.gateway.browser();
    assert_eq!(browser.go("/").status, 200);
    let start = w.gateway.browser().navigate(&w.at("wiki.localhost", "/"));
    let request = start.parameter("request").unwrap();
    for (what, query) in [
        ("nothing", String::new()),
        ("made up", "request=AAAA".to_owned()),
        ("cut short", format!("request={}", &request[..request.len() - 2])),
        ("in clear", "host=evil.example&state=x&challenge=y&rd=https://evil.example".to_owned()),
    ] {
        let answer = browser.navigate(&format!("/oauth2/hand_over?{query}"));
        assert_eq!((answer.status, answer.location()), (400, ""), "{what}");
    }
    // What stands beside it changes nothing: somebody else's request leads to that host, where the cookie is missing.
    let answer =
        browser.navigate(&format!("/oauth2/hand_over?request={request}&host=evil.example&rd=https://evil.example"));
    assert!(
        answer.location().starts_with(&w.at("wiki.localhost", "/oauth2/callback?hand_over=")),
        "{}",
        answer.location()
    );
    let answer = browser.navigate(answer.location());
    w.nobody("begun in another browser", &mut browser, &answer, "wiki.localhost");
    // Only where people sign in; only by going there.
    assert_eq!(browser.navigate(&w.at("wiki.localhost", &format!("/oauth2/hand_over?request={request}"))).status, 404);
    assert_eq!(browser.fetch(&format!("/oauth2/hand_over?request={request}")).status, 401);
    // Not as a place to return to.
    let answer = browser.navigate("/oauth2/start?rd=/oauth2/hand_over%3Frequest%3Dx");
    assert_eq!(answer.status, 302);
    // A provider's answer is none to a hand-over, and the other way round.
    let mut browser = w.gateway.browser();
    let start = browser.navigate(&w.at("wiki.localhost", "/"));
    assert_eq!(start.status, 302);
    let callback = browser.reach_callback("/");
    let (query, state) = (callback.split_once('?').unwrap().1, "state=");
    let ticket = w.ticket(&mut w.gateway.browser(), &w.at("wiki.localhost", "/"));
    let ticket = ticket.split("hand_over=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let at = query.find(state).unwrap();
    let own_state = query[at..].split('&').next().unwrap();
    let answer = browser.navigate(&format!("/oauth2/callback?hand_over={ticket}&{own_state}"));
    w.nobody("a ticket at the sign-in host", &mut browser, &answer, "id.test.localhost");
}

#[test]
fn s_08_rules_of_the_other_host_hold_there() {
    let w = World::new("store = \"memory\"");
    let mut browser = w.gateway.browser();
    assert_eq!(browser.go("/").status, 200);
    // The policy is the route's own.
    assert_eq!(browser.go(&w.at("wiki.localhost", "/bob")).status, 403);
    // Step-up goes by way of the sign-in host; the session of before is over everywhere.
    assert_eq!(browser.go(&w.at("wiki.localhost", "/")).status, 200);
    let start = browser.navigate(&w.at("wiki.localhost", "/strong"));
    let at_provider = browser.follow(start, |next| next.starts_with(w.provider.issuer()));
    assert_eq!(at_provider.parameter("acr_values").as_deref(), Some("urn:strong"));
    assert_eq!(at_provider.parameter("redirect_uri"), Some(w.gateway.url("/oauth2/callback")));
    let last = browser.follow(at_provider, |_| false);
    assert_eq!((last.status, last.url), (200, w.at("wiki.localhost", "/strong")));
    assert_eq!(w.sign_ins(), 2);
    // The sign-in host has the new one too, and others come to it by themselves.
    assert_eq!(browser.fetch("/").status, 200);
    assert_eq!(browser.go(&w.at("x.blog.localhost", "/")).status, 200);
    assert_eq!(w.sign_ins(), 2);
}

#[test]
fn l_16_a_session_that_knows_too_little_for_a_new_rule_is_not_handed_over_again() {
    let w = World::new("store = \"memory\"");
    let mut browser = w.gateway.browser();
    let wiki = w.at("wiki.localhost", "/");
    assert_eq!(browser.go(&wiki).status, 200);
    let place = "host = \"wiki.localhost\"\npath = \"/\"\nupstream = \"UPSTREAM\"\n";
    let before = format!("{place}access = \"authenticated\"");
    let rule = "access = \"policy\"\nallow = [{ \"claim.email\" = \"alice@example.test\" }]";
    let extra = Extra {
        session: "hand_over = true\nstore = \"memory\"".to_owned(),
        routes: Some(HOSTS.replacen(&before, &format!("{place}{rule}"), 1)),
        host: "id.test.localhost".to_owned(),
        ..Extra::default()
    };
    w.gateway.reload(w.provider.issuer(), &w.upstream, &extra);
    eventually("the new rule is there", || browser.fetch(&wiki).status == 401);
    let last = browser.go(&wiki);
    assert_eq!((last.status, last.url.as_str()), (200, wiki.as_str()), "{}", last.text());
    assert_eq!(w.sign_ins(), 2, "a new sign-in knows");
}

#[test]
fn l_16_a_host_that_keeps_no_cookie_is_not_sent_round_for_ever() {
    let w = World::new("store = \"memory\"");
    let mut browser = w.gateway.browser();
    let wiki = w.at("wiki.localhost", "/");
    let origin = w.at("wiki.localhost", "");
    for _ in 0..3 {
        let ticket = w.ticket(&mut browser, &wiki);
        assert_eq!(browser.navigate(&ticket).status, 302);
        browser.jars.get_mut(&origin).unwrap().remove("doorward");
    }
    let page = browser.navigate(&wiki);
    assert_eq!(page.status, 400);
    assert!(page.text().contains("goes round in circles"), "{}", page.text());
}

#[test]
fn k_01_subdomains_share_a_sign_in_by_their_cookie() {
    for store in stores() {
        let (provider, upstream) = (Provider::start(), Upstream::start());
        let routes = ["a", "b"].map(|host| {
            format!(
                "[[route]]\nname = \"{host}\"\nhost = \"{host}.apps.localhost\"\npath = \"/\"\nupstream = \"UPSTREAM\"\n\
                 access = \"{}\"\n{}\n",
                if host == "a" { "authenticated" } else { "policy" },
                if host == "a" { "" } else { "allow = [{ user = [\"alice\"] }]" },
            )
        });
        let extra = Extra {
            session: format!("cookie_domain = \"apps.localhost\"\n{store}"),
            routes: Some(routes.concat()),
            host: "a.apps.localhost".to_owned(),
            ..Extra::default()
        };
        let gateway = Gateway::with(provider.issuer(), &upstream, extra);
        let there = format!("http://b.apps.localhost:{}", gateway.port);
        let mut browser = gateway.browser();
        assert_eq!(browser.go("/").status, 200, "{store}");
        assert_eq!(browser.fetch(&format!("{there}/")).status, 200, "{store}: signed in there, too");
        assert_eq!(provider.demo.stats().hits(Endpoint::Token), 1);
        // The other host can be where it begins as well.
        let mut other = gateway.browser();
        let last = other.go(&format!("{there}/page"));
        assert_eq!((last.status, last.url), (200, format!("{there}/page")), "{store}");
        assert_eq!(other.fetch("/").status, 200, "{store}");

        let out = browser.send("POST", &format!("{there}/oauth2/sign_out"), &[("Sec-Fetch-Site", "same-origin")], b"");
        assert_eq!(out.status, 303, "{store}");
        assert_eq!(browser.fetch("/").status, 401, "{store}");
        assert_eq!(browser.fetch(&format!("{there}/")).status, 401, "{store}");
    }
}
