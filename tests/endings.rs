//! Sessions ended from afar: by a frame of the provider, by their owner in another browser, by an operator. Rows FL-,
//! RL-, OX-, GX-.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use doorward::demo::provider::Endpoint;
use support::browser::NAVIGATE;
use support::gateway::Extra;
use support::{Answer, Browser, Gateway, Provider, Upstream, eventually, stores};

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
const PHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Mobile/15E148 Safari/604.1";

struct World {
    provider: Provider,
    gateway: Gateway,
}

impl World {
    fn new(session: &str) -> Self {
        let provider = Provider::start();
        let extra = Extra { session: session.into(), ..Extra::default() };
        let gateway = Gateway::with(provider.issuer(), &Upstream::start(), extra);
        Self { provider, gateway }
    }

    fn signed_in(&self, user: &str, agent: &str) -> Browser {
        self.provider.demo.control().auto_login(Some(user));
        let mut browser = self.gateway.browser();
        browser.agent = agent.to_owned();
        assert_eq!(browser.go("/").status, 200);
        assert_eq!(browser.fetch("/oauth2/userinfo").json()["user"], user);
        browser
    }

    /// What the provider calls the last sign-in of this user.
    fn sid(&self, user: &str) -> String {
        self.provider.demo.control().sids(user).pop().unwrap()
    }

    fn admin_list(&self, user: &str) -> Vec<serde_json::Value> {
        self.gateway.admin(&format!("/sessions?user={user}")).json().as_array().unwrap().clone()
    }
}

fn is_in(browser: &Browser) -> bool {
    browser.clone().fetch("/oauth2/userinfo").status == 200
}

/// The values of the hidden fields of this name, in the page's order.
fn fields(page: &Answer, name: &str) -> Vec<String> {
    let text = page.text();
    let begin = format!("name=\"{name}\" value=\"");
    text.split(&begin).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

fn post(browser: &mut Browser, path: &str, origin: &str, form: &str) -> Answer {
    let headers = [NAVIGATE[0], NAVIGATE[1], ("Sec-Fetch-Site", "cross-site"), ("Origin", origin)];
    browser.send("POST", path, &headers, form.as_bytes())
}

#[test]
fn fl_01_fl_02_ox_12_a_frame_ends_the_session_it_names_and_nothing_else() {
    for store in stores() {
        let world = World::new(store);
        let (alice, other) = (world.signed_in("alice", ""), world.signed_in("alice", ""));
        let (issuer, sid) = (world.provider.issuer(), world.sid("alice"));
        let path = "/oauth2/frontchannel-logout";
        let mut frame = other.clone();
        for query in [
            String::new(),
            format!("?iss={issuer}"),
            format!("?sid={sid}"),
            format!("?iss={issuer}&sid="),
            format!("?iss={issuer}&sid={sid}x"),
            format!("?iss={issuer}/&sid={sid}"),
            format!("?iss=https://evil.test&sid={sid}"),
            format!("?iss={issuer}&sid={sid}&sid={sid}"),
            format!("?iss={issuer}&iss={issuer}&sid={sid}"),
        ] {
            let answer = frame.send("GET", &format!("{path}{query}"), &[("Sec-Fetch-Dest", "iframe")], b"");
            assert_eq!(answer.status, 200, "{query}");
            assert!(is_in(&alice) && is_in(&other), "{store}: {query}");
        }
        let named = format!("{path}?iss={issuer}&sid={sid}");
        for method in ["HEAD", "POST", "PUT"] {
            let answer = frame.send(method, &named, &[], b"");
            assert_eq!((answer.status, answer.header("allow")), (405, Some("GET")), "{method}");
        }
        assert!(is_in(&other), "{store}");

        // As a provider's page loads it: the browser keeps third-party cookies to itself.
        let answer = world.gateway.browser().send("GET", &named, &[("Sec-Fetch-Site", "cross-site")], b"");
        assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")));
        assert_eq!(answer.header("x-frame-options"), None);
        assert!(!answer.header("content-security-policy").unwrap().contains("frame-ancestors"));
        assert!(answer.all("set-cookie").is_empty());
        assert!(!is_in(&other), "{store}: the session lives on");
        assert!(is_in(&alice), "{store}: of another sign-in");
        assert_eq!(world.provider.demo.stats().hits(Endpoint::Revocation), 0, "{store}");
        assert!(is_in(&world.signed_in("alice", "")), "{store}");
    }
}

#[test]
fn the_page_lists_where_else_one_is_signed_in() {
    for store in stores() {
        let world = World::new(store);
        let mut here = world.signed_in("alice", FIREFOX);
        let alone = here.navigate("/oauth2/session").text();
        assert!(alone.contains("Nowhere else"), "{store}: {alone}");
        assert_eq!(alone.contains("that this gateway has seen"), store.contains("cookie"), "{store}: {alone}");
        let (phone, bob) = (world.signed_in("alice", PHONE), world.signed_in("bob", "Opera"));
        let page = here.navigate("/oauth2/session");
        let text = page.text();
        assert!(text.contains("<dd>Firefox on Linux</dd>") && text.contains("<dd>127.0.0.1</dd>"), "{store}: {text}");
        assert_eq!(text.matches("<li>").count(), 1, "{store}: {text}");
        assert!(text.contains("Safari on iPhone") && text.contains("from 127.0.0.1"), "{store}: {text}");
        for word in ["Ends if unused", "last used", "signed in", "Sign out everywhere"] {
            assert!(text.contains(word), "{store}: {word}");
        }
        assert_eq!(page.header("cache-control"), Some("no-store"));
        assert!(is_in(&phone) && is_in(&bob), "{store}");
        assert_eq!(world.gateway.browser().navigate("/oauth2/session").location(), "/oauth2/sign_in");
        assert_eq!(world.gateway.browser().fetch("/oauth2/session").status, 401);
    }
}

#[test]
fn a_long_list_is_cut_and_says_so() {
    let world = World::new("store = \"memory\"");
    let mut here = world.signed_in("alice", FIREFOX);
    let mut others: Vec<Browser> = (0..53).map(|_| world.signed_in("alice", PHONE)).collect();
    let text = here.navigate("/oauth2/session").text();
    assert_eq!(text.matches("<li>").count(), 50);
    assert!(text.contains("and 3 more"));
    others.truncate(1);
    let token = fields(&here.navigate("/oauth2/session"), "token").remove(0);
    post(&mut here, "/oauth2/sign_out", "null", &format!("everywhere=1&token={token}"));
    assert!(!is_in(&others[0]) && world.admin_list("alice").is_empty());
}

#[test]
fn rl_03_one_of_ones_own_sessions_ends_and_nobody_elses() {
    for store in stores() {
        let world = World::new(store);
        let mut here = world.signed_in("alice", FIREFOX);
        let (phone, bob) = (world.signed_in("alice", PHONE), world.signed_in("bob", ""));
        let page = here.navigate("/oauth2/session");
        let (id, token) = (fields(&page, "end").remove(0), fields(&page, "token").remove(0));
        let bobs = world.admin_list("bob")[0]["id"].as_str().unwrap().to_owned();
        let mut bobs_own = bob.clone();
        let bobs_token = fields(&bobs_own.navigate("/oauth2/session"), "token").remove(0);
        for (origin, form) in [
            ("http://evil.test", format!("end={id}")),
            ("null", format!("end={id}")),
            ("null", format!("end={id}&token=x")),
            ("null", format!("end={id}&token={bobs_token}")),
            ("null", format!("end={bobs}&token={token}")),
            ("null", format!("end=&token={token}")),
            ("null", format!("end={id}A&token={token}")),
            ("null", format!("token={token}")),
        ] {
            let answer = post(&mut here, "/oauth2/session", origin, &form);
            assert_eq!((answer.status, answer.location()), (303, "/oauth2/session"), "{form}");
            assert!(is_in(&here) && is_in(&phone) && is_in(&bob), "{store}: {origin} {form}");
        }
        let answer = post(&mut here, "/oauth2/session", "null", &format!("end={id}&token={token}"));
        assert_eq!((answer.status, answer.location()), (303, "/oauth2/session"), "b_13");
        assert!(!is_in(&phone), "{store}");
        assert!(is_in(&here) && is_in(&bob), "{store}");
        assert!(fields(&here.navigate("/oauth2/session"), "end").is_empty(), "{store}: still listed");
        let nobody = post(&mut world.gateway.browser(), "/oauth2/session", "null", &format!("end={id}"));
        assert_eq!((nobody.status, nobody.location()), (303, "/oauth2/sign_in"));
        assert_eq!(here.send("DELETE", "/oauth2/session", &[], b"").status, 405);
    }
}

#[test]
fn rl_03_rl_01_a_sign_out_everywhere_ends_all_of_a_persons_sessions() {
    for store in stores() {
        let world = World::new(store);
        let mut here = world.signed_in("alice", FIREFOX);
        let (phone, bob) = (world.signed_in("alice", PHONE), world.signed_in("bob", ""));
        let page = here.navigate("/oauth2/session");
        let token = fields(&page, "token").remove(0);
        let forged = post(&mut here, "/oauth2/sign_out", "http://evil.test", "everywhere=1");
        assert!(forged.text().contains("Nothing has happened yet"), "{store}");
        let link = [NAVIGATE[0], NAVIGATE[1], ("Sec-Fetch-Site", "cross-site")];
        here.send("GET", "/oauth2/sign_out?everywhere=1", &link, b"");
        assert!(is_in(&here) && is_in(&phone), "{store}");

        let out = post(&mut here, "/oauth2/sign_out", "null", &format!("everywhere=1&token={token}"));
        assert_eq!(out.status, 303, "b_13");
        assert!(out.location().starts_with(world.provider.issuer()), "{store}: it goes on as any sign-out");
        assert!(!is_in(&here) && !is_in(&phone), "{store}");
        assert!(is_in(&bob), "{store}");
        eventually("the audit line", || {
            world.gateway.log().lines().any(|l| l.contains("sign_out") && l.contains("everywhere"))
        });
        assert!(is_in(&world.signed_in("alice", "")), "{store}: a sign-in after it");
    }
    let world = World::new("");
    let (mut here, phone) = (world.signed_in("alice", ""), world.signed_in("alice", ""));
    let same = [NAVIGATE[0], NAVIGATE[1], ("Sec-Fetch-Site", "same-origin")];
    here.send("GET", "/oauth2/sign_out?everywhere=1", &same, b"");
    assert!(!is_in(&here) && is_in(&phone), "a link ends this session only");
}

#[test]
fn an_operator_lists_and_ends_sessions() {
    for store in stores() {
        let world = World::new(store);
        let (one, two) = (world.signed_in("alice", FIREFOX), world.signed_in("alice", PHONE));
        let bob = world.signed_in("bob", "");
        let list = world.admin_list("alice");
        assert_eq!(list.len(), 2, "{store}");
        let phone = list.iter().find(|s| s["browser"] == "Safari on iPhone").unwrap();
        for (name, value) in [("user", "alice"), ("sub", "alice"), ("provider", "main"), ("address", "127.0.0.1")] {
            assert_eq!(phone[name], value, "{store}");
        }
        assert_eq!(phone["issuer"], world.provider.issuer());
        for time in ["created", "expires", "last_used"] {
            let text = phone[time].as_str().unwrap();
            assert!(text.len() == 20 && text.starts_with("20") && text.ends_with('Z'), "{store}: {time} {text}");
        }
        assert!(world.admin_list("nobody").is_empty());

        let admin = |method: &str, path: &str| world.gateway.admin_send(method, path, &[]);
        let id = phone["id"].as_str().unwrap();
        assert_eq!(admin("DELETE", &format!("/sessions/{id}")).status, 204, "{store}");
        assert!(is_in(&one) && !is_in(&two) && is_in(&bob), "{store}");
        assert_eq!(admin("DELETE", &format!("/sessions/{id}")).status, 404, "{store}");
        assert_eq!(admin("DELETE", "/sessions/nothing").status, 404);
        let all = admin("DELETE", "/sessions?user=alice");
        assert_eq!((all.status, all.json()), (200, serde_json::json!({ "ended": 1 })), "{store}");
        assert!(!is_in(&one) && is_in(&bob), "{store}");
        assert_eq!(admin("DELETE", "/sessions?user=alice").json()["ended"], 0, "{store}");
        assert!(is_in(&world.signed_in("alice", "")), "{store}: a sign-in after it");
        eventually("the audit lines", || world.gateway.log().matches("sessions_revoked").count() == 3);
    }
}

#[test]
fn gx_11_the_admin_list_is_for_operators_and_for_no_page() {
    let world = World::new("");
    let mut alice = world.signed_in("alice", "");
    let id = world.admin_list("alice")[0]["id"].as_str().unwrap().to_owned();
    let (by_id, by_user) = (format!("/sessions/{id}"), "/sessions?user=alice");
    let rebound = format!("evil.test:{}", world.gateway.admin);
    for header in [
        ("Origin", "http://evil.test"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
        ("Host", rebound.as_str()),
    ] {
        for (method, path) in [("GET", by_user), ("DELETE", by_user), ("DELETE", by_id.as_str()), ("OPTIONS", by_user)]
        {
            let answer = world.gateway.admin_send(method, path, &[header]);
            assert_eq!(answer.status, 403, "{method} {path} {header:?}");
            assert!(answer.all("access-control-allow-origin").is_empty() && !answer.text().contains("alice"));
        }
    }
    for path in ["/sessions", "/sessions?user=", "/sessions?user=alice&user=bob", "/sessions?USER=alice"] {
        for method in ["GET", "DELETE"] {
            let answer = world.gateway.admin_send(method, path, &[]);
            assert_eq!(answer.status, 400, "{method} {path}");
            assert!(answer.text().contains("/sessions?user=NAME"), "{}", answer.text());
        }
    }
    for (method, path) in [("POST", by_user), ("PUT", by_user), ("GET", by_id.as_str()), ("POST", by_id.as_str())] {
        let answer = world.gateway.admin_send(method, path, &[]);
        assert_eq!(answer.status, 405, "{method} {path}");
        assert!(answer.header("allow").unwrap().contains("DELETE"));
    }
    assert!(is_in(&alice));
    assert_eq!(alice.fetch("/sessions?user=alice").status, 200, "on the public listener it is the application's");
}
