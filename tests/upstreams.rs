//! A route with several upstreams, from outside: who is asked, what a failing one costs, how much each may have to do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use support::browser::NAVIGATE;
use support::gateway::Extra;
use support::{Gateway, Provider, Upstream, eventually, free_port};

/// `list` is TOML, `options` the lines of `[route.upstream_options]`.
fn routes(list: &str, options: &str) -> Extra {
    let text = format!(
        "[[route]]\nname = \"app\"\npath = \"/\"\nupstream = {list}\naccess = \"public\"\n\
         [route.upstream_options]\n{options}\n"
    );
    Extra { routes: Some(text), ..Extra::default() }
}

fn start(list: &str, options: &str) -> (Provider, Gateway) {
    let provider = Provider::start();
    let gateway = Gateway::with(provider.issuer(), &Upstream::start(), routes(list, options));
    (provider, gateway)
}

#[test]
fn requests_are_spread_and_an_upstream_that_is_away_costs_none() {
    let (one, two, gone) = (Upstream::start(), Upstream::start(), format!("http://127.0.0.1:{}", free_port()));
    let list = format!("[\"{}\", \"{}/two\", \"{gone}\"]", one.url(), two.url());
    let (_provider, gateway) = start(&list, "balance = \"round-robin\"\neject_after = 3\neject_time = \"10m\"");
    for n in 0..60 {
        let (method, body): (_, &[u8]) = if n % 2 == 0 { ("GET", b"") } else { ("POST", b"body") };
        assert_eq!(gateway.browser().send(method, "/x?y", &[], body).status, 200);
    }
    let (first, second) = (one.seen(), two.seen());
    assert_eq!(first.len() + second.len(), 60);
    assert!(first.len() >= 20 && second.len() >= 20, "{} and {}", first.len(), second.len());
    assert!(first.iter().all(|seen| seen.target == "/x?y") && second.iter().all(|seen| seen.target == "/two/x?y"));
    assert!(first.iter().chain(&second).all(|seen| seen.method == "GET" || seen.body == b"body"));
    let failures = gateway.metric("doorward_upstream_failures_total{route=\"app\",reason=\"refused\"}");
    assert_eq!((failures, gateway.metric("doorward_upstream_retries_total{route=\"app\"}")), (3.0, 3.0));
    let healthy = |url: &str| gateway.metric(&format!("doorward_upstream_healthy{{route=\"app\",upstream=\"{url}\"}}"));
    assert_eq!((healthy(&one.url()), healthy(&format!("{}/two", two.url())), healthy(&gone)), (1.0, 1.0, 0.0));
    assert_eq!(gateway.metric("doorward_upstream_requests{"), 0.0);
    assert!(gateway.log().contains("left out"), "{}", gateway.log());
}

#[test]
fn why_an_upstream_failed_is_for_the_log_and_readiness_is_another_matter() {
    let gone = format!("http://127.0.0.1:{}", free_port());
    let (_provider, gateway) = start(&format!("[\"{gone}\", \"unix:/none/app.sock\"]"), "");
    for headers in [&NAVIGATE[..], &[("Accept", "application/json")]] {
        let answer = gateway.browser().send("GET", "/", headers, b"");
        assert_eq!(answer.status, 502);
        let text = format!("{:?} {}", answer.headers, answer.text());
        assert!(!text.contains("refused") && !text.contains("app.sock") && !text.contains(&gone), "{text}");
    }
    let log = gateway.log();
    assert!(log.contains("\"reason\":\"refused\"") || log.contains("\"reason\":\"connect\""), "{log}");
    assert!(log.contains(&gone) || log.contains("unix:/none/app.sock"), "{log}");
    assert_eq!(gateway.admin("/readyz").status, 200);
}

#[test]
fn what_an_upstream_cannot_take_waits_or_is_503_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("\"http://{}\"", listener.local_addr().unwrap());
    let (_provider, gateway) = start(&url, "requests = 1\nqueue = 1\nqueue_timeout = \"1m\"");
    let open = |path: &str| {
        let mut client = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(client, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", gateway.port).unwrap();
        client
    };
    let waiting = |n: f64| {
        eventually("the queue", || gateway.metric("doorward_upstream_waiting{route=\"app\"}") == n);
    };
    let _first = open("/first");
    let (first, _) = listener.accept().unwrap();
    // Whoever goes away leaves its place to others.
    drop((open("/second"), waiting(1.0)));
    waiting(0.0);
    let third = open("/third");
    waiting(1.0);
    for headers in [&NAVIGATE[..], &[("Accept", "application/json")]] {
        let refused = gateway.browser().send("GET", "/fourth", headers, b"");
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
        assert!(!refused.text().contains("queue"));
    }
    drop(first);
    let (mut upstream, _) = listener.accept().unwrap();
    let mut seen = std::io::BufReader::new(upstream.try_clone().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut seen, &mut line).unwrap();
    assert_eq!(line, "GET /third HTTP/1.1\r\n");
    upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    let answer = support::browser::read(&mut std::io::BufReader::new(third), "GET").unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(gateway.metric("doorward_upstream_failures_total{route=\"app\",reason=\"queue_full\"}"), 2.0);
}

#[test]
fn upstreams_are_asked_for_their_health_and_never_all_left_out() {
    let (one, two) = (Upstream::start(), Upstream::start());
    let list = format!("[\"{}\", \"{}/two\"]", one.url(), two.url());
    let (_provider, gateway) = start(&list, "health = { path = \"/health\", interval = \"20ms\" }");
    let healthy = |url: &str| gateway.metric(&format!("doorward_upstream_healthy{{route=\"app\",upstream=\"{url}\"}}"));
    let (first, second) = (one.url(), format!("{}/two", two.url()));
    eventually("health checks", || one.seen().len() > 2 && two.seen().len() > 2);
    assert!(
        one.seen()
            .iter()
            .chain(&two.seen())
            .all(|seen| (seen.method.as_str(), seen.target.as_str()) == ("GET", "/health"))
    );
    one.answers(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    eventually("the first to be left out", || healthy(&first) == 0.0);
    for _ in 0..10 {
        assert_eq!(gateway.browser().send("GET", "/x", &[], b"").status, 200);
    }
    assert!(one.seen().iter().all(|seen| seen.target == "/health"));
    two.answers(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    eventually("the second to be left out", || healthy(&second) == 0.0);
    // An answer is an answer: the upstream's own error passes.
    assert!([500, 503].contains(&gateway.browser().send("GET", "/x", &[], b"").status));
    one.clear();
    eventually("the first to be back", || healthy(&first) == 1.0);
    assert_eq!(gateway.browser().send("GET", "/x", &[], b"").status, 200);
    assert!(gateway.log().contains("fails its health checks") && gateway.log().contains("is well again"));
}

#[test]
fn a_reload_keeps_the_upstream_that_did_not_change_and_ends_the_one_that_did() {
    let (one, two) = (Upstream::start(), Upstream::start());
    let list = format!("[\"{}\"]", one.url());
    let health = "health = { path = \"/health\", interval = \"20ms\" }";
    let (provider, gateway) = start(&list, health);
    one.answers(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let healthy = || gateway.metric(&format!("doorward_upstream_healthy{{route=\"app\",upstream=\"{}\"}}", one.url()));
    eventually("it to be left out", || healthy() == 0.0);
    let reloads = || gateway.metric("doorward_reloads_total{outcome=\"ok\"}");
    let reload = |extra: &Extra| {
        let before = reloads();
        gateway.reload(provider.issuer(), &one, extra);
        eventually("the reload", || reloads() > before);
    };
    // A longer interval would be another upstream, and would begin well.
    reload(&Extra { server: "drain_timeout = \"9s\"".into(), ..routes(&list, health) });
    assert_eq!(healthy(), 0.0);
    reload(&routes(&format!("[\"{}\"]", two.url()), "health = { path = \"/other\", interval = \"20ms\" }"));
    eventually("the new one to be asked", || two.seen().iter().filter(|seen| seen.target == "/other").count() > 3);
    let asked = one.seen().len();
    eventually("the new one to be asked again", || two.seen().len() > 20);
    assert!(one.seen().len() <= asked + 1, "the old one is still asked");
    assert!(!gateway.admin("/metrics").text().contains(&one.url()));
}
