//! Which route a request gets, and what of it goes upstream: hosts, methods, raw paths, preflights.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use support::browser::NAVIGATE;
use support::gateway::Extra;
use support::{Answer, Gateway, Provider, Upstream};

struct World {
    upstream: Upstream,
    gateway: Gateway,
    _provider: Provider,
}

/// A gateway with these routes; `UPSTREAM` in them is the recorder.
fn world(routes: &str) -> World {
    let (upstream, provider) = (Upstream::start(), Provider::start());
    let extra = Extra { routes: Some(routes.to_owned()), ..Extra::default() };
    let gateway = Gateway::with(provider.issuer(), &upstream, extra);
    World { upstream, gateway, _provider: provider }
}

fn route(lines: &str) -> String {
    format!("[[route]]\n{lines}\n")
}

impl World {
    fn ask(&self, method: &str, host: &str, target: &str, more: &[(&str, &str)]) -> Answer {
        self.upstream.clear();
        let mut browser = self.gateway.browser();
        let headers: Vec<(&str, &str)> = [("Host", host)].into_iter().chain(more.iter().copied()).collect();
        let url = format!("{}{target}", self.gateway.base);
        browser.send(method, &url, &headers, b"")
    }

    fn targets(&self) -> Vec<String> {
        self.upstream.seen().into_iter().map(|seen| seen.target).collect()
    }
}

#[test]
fn px_16_hosts_compare_by_name_alone() {
    let by_host = |host: &str, status: u16| {
        route(&format!("{host}\npath = \"/\"\nupstream = \"status:{status}\"\naccess = \"public\""))
    };
    let w = world(
        &[
            by_host("host = \"app.example.com\"", 201),
            by_host("host = \"*.example.com\"", 202),
            by_host("host = \"Bücher.example\"", 203),
            by_host("host = \"[::1]\"", 226),
            by_host("", 204),
        ]
        .concat(),
    );
    for (host, want) in [
        ("app.example.com", 201),
        ("APP.Example.COM", 201),
        ("app.example.com.", 201),
        ("app.example.com:80", 201),
        ("app.example.com.:65535", 201),
        ("other.example.com", 202),
        ("OTHER.example.com.:81", 202),
        ("x.app.example.com", 204),
        ("example.com", 204),
        ("appexample.com", 204),
        ("xn--bcher-kva.example", 203),
        ("XN--BCHER-KVA.example:443", 203),
        ("[::1]:80", 226),
        ("[0:0::1]", 226),
        ("app.example.com..", 400),
        (".example.com", 400),
        ("app.example.com:0", 400),
        ("app.example.com:99999", 400),
        ("app.example.com:443@evil", 400),
        ("bücher.example", 400),
    ] {
        assert_eq!(w.ask("GET", host, "/", &[]).status, want, "{host}");
    }
}

#[test]
fn px_19_a_405_lists_the_methods_that_there_are() {
    let by_method = |methods: &str, path: &str| {
        route(&format!("path = \"{path}\"\nmethods = {methods}\nupstream = \"UPSTREAM\"\naccess = \"public\""))
    };
    let w = world(
        &[by_method("[\"GET\", \"HEAD\"]", "/x"), by_method("[\"PUT\"]", "=/x"), by_method("[\"DELETE\"]", "/x/y")]
            .concat(),
    );
    for (target, allow) in [("/x", "GET, HEAD, PUT"), ("/x/y/z", "DELETE, GET, HEAD"), ("/x;v/z", "GET, HEAD")] {
        for method in ["POST", "OPTIONS", "get", "PROPFIND"] {
            let answer = w.ask(method, "any.example", target, &[]);
            assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{method} {target}");
        }
        let named: Vec<&str> = allow.split(", ").collect();
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            let want = if named.contains(&method) { 200 } else { 405 };
            assert_eq!(w.ask(method, "any.example", target, &[]).status, want, "{method} {target}");
        }
    }
    assert_eq!(w.ask("GET", "any.example", "/", &[]).status, 404);
    assert!(w.targets().is_empty());
}

fn raw_world() -> World {
    world(
        &[
            route(
                "host = \"raw.example\"\npath = \"/\"\nupstream = \"UPSTREAM\"\naccess = \"public\"\nraw_path = true",
            ),
            route("path = \"/\"\nupstream = \"UPSTREAM\"\naccess = \"public\""),
            route("path = \"/admin\"\nupstream = \"UPSTREAM\"\naccess = \"deny\""),
        ]
        .concat(),
    )
}

#[test]
fn px_08_a_raw_path_goes_upstream_byte_for_byte() {
    let w = raw_world();
    let targets = [
        "/",
        "//",
        "//evil.example/x",
        "/a%2fb%2Fc",
        "/a//b///",
        "/a/../b",
        "/a/%2e%2E/b/.",
        "/a;x/..;y/b",
        "/%",
        "/%zz/%2",
        "/%41%7e%c3%A9",
        "/a%5cb",
        "/a%20b%25",
        "/{x}\"",
        "/é",
        "/a?b=/../%2f#",
    ];
    for target in targets {
        assert_eq!(w.ask("GET", "raw.example:81", target, &[]).status, 200, "{target}");
        assert_eq!(w.targets(), [target.trim_end_matches('#')], "{target}");
    }
    for target in ["/a%00", "/a%0a", "/%1F", "/%7f", "/a\\b"] {
        assert_eq!(w.ask("GET", "raw.example", target, &[]).status, 400, "{target}");
        assert!(w.targets().is_empty(), "{target}");
    }
    // Beside it, everything is canonical as ever.
    for (target, status) in [("/a%2fb", 400), ("/x/../admin", 403), ("/a//b", 200)] {
        assert_eq!(w.ask("GET", "other.example", target, &[]).status, status, "{target}");
    }
    assert_eq!(w.targets(), ["/a/b"]);
}

#[test]
fn px_28_our_own_endpoints_stay_ours_beside_raw_paths() {
    let w = raw_world();
    for target in ["/oauth2/userinfo", "/%6fauth2/userinfo", "//oauth2/userinfo", "/x/../oauth2/%75serinfo"] {
        assert_eq!(w.ask("GET", "raw.example", target, &[]).status, 401, "{target}");
    }
    for target in ["/ping", "//ping", "/%70ing", "/ready"] {
        assert_eq!(w.ask("GET", "raw.example", target, &[]).status, 200, "{target}");
    }
    assert!(w.targets().is_empty());
    // The route is public, so its robots.txt counts.
    assert_eq!(w.ask("GET", "raw.example", "/robots.txt", &[]).status, 200);
    assert_eq!(w.targets(), ["/robots.txt"]);
}

/// A gateway whose every path is raw, on the host that browsers see.
fn raw_everywhere() -> World {
    world(&route("path = \"/\"\nupstream = \"UPSTREAM\"\naccess = \"authenticated\"\nraw_path = true"))
}

#[test]
fn r_01_a_sign_in_returns_to_the_same_raw_path() {
    let w = raw_everywhere();
    let base = w.gateway.base.clone();
    for target in ["/a%2Fb//c?x=%2f", "//evil.example/x", "///evil.example", "//%2fx", "/%zz", "/a%5Cb"] {
        w.upstream.clear();
        let mut browser = w.gateway.browser();
        let url = format!("{base}{target}");
        let callback = browser.reach_callback(&url);
        let back = browser.navigate(&callback);
        assert_eq!(back.status, 302, "{target}");
        // A browser takes what begins with `//` for another site.
        let location = back.location();
        let want = if target.starts_with("//") { url } else { target.to_owned() };
        assert_eq!(location, want);
        let end = browser.follow(back.clone(), |_| false);
        assert_eq!(end.status, 200, "{target}");
        assert_eq!(w.targets(), [target]);
    }
}

#[test]
fn r_01_r_09_no_return_url_leads_out_of_a_raw_host_or_into_an_endpoint() {
    let w = raw_everywhere();
    for rd in [
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "/%5c%00",
        "/x\\..\\y",
        "https://evil.example//x",
        "/a%2f/../oauth2/sign_out",
        "/a%2f/%2e%2e/oauth2/sign_out",
        "/%6fauth2/sign_out",
        "//oauth2/sign_out",
        "/./oauth2/sign_out",
    ] {
        let mut browser = w.gateway.browser();
        let rd = percent_encoding::utf8_percent_encode(rd, percent_encoding::NON_ALPHANUMERIC);
        let callback = browser.reach_callback(&format!("{}/oauth2/start?rd={rd}", w.gateway.base));
        assert_eq!(browser.navigate(&callback).location(), "/", "{rd}");
    }
    // What no browser would send and come back to.
    for target in ["/a/../b", "/a/%2e%2e/b"] {
        let mut browser = w.gateway.browser();
        let callback = browser.reach_callback(&format!("{}{target}", w.gateway.base));
        assert_eq!(browser.navigate(&callback).location(), "/", "{target}");
    }
}

const PREFLIGHT: [(&str, &str); 2] = [("Origin", "https://pages.example"), ("Access-Control-Request-Method", "PUT")];

#[test]
fn px_19_a_preflight_passes_where_the_route_of_its_request_says_so() {
    let w = world(
        &[
            route(
                "path = \"/api\"\nupstream = \"UPSTREAM\"\naccess = \"authenticated\"\nidentity = [\"x-forwarded\"]\nallow_preflight = true",
            ),
            route(
                "path = \"/api/write\"\nmethods = [\"PUT\"]\nupstream = \"UPSTREAM\"\naccess = \"authenticated\"\nallow_preflight = true",
            ),
            route("path = \"/api/closed\"\nupstream = \"UPSTREAM\"\naccess = \"authenticated\""),
            route(
                "path = \"/api/closed/put\"\nmethods = [\"PUT\"]\nupstream = \"UPSTREAM\"\naccess = \"authenticated\"",
            ),
            route("path = \"/api/none\"\nupstream = \"UPSTREAM\"\naccess = \"deny\"\nallow_preflight = true"),
            route("path = \"/only\"\nmethods = [\"PUT\"]\nupstream = \"UPSTREAM\"\naccess = \"public\""),
        ]
        .concat(),
    );
    let ask = |target: &str, more: &[(&str, &str)]| w.ask("OPTIONS", "127.0.0.1", target, more).status;
    for target in ["/api", "/api/x", "/api/write"] {
        assert_eq!(ask(target, &PREFLIGHT), 200, "{target}");
        assert_eq!(w.upstream.last().method, "OPTIONS");
    }
    // The route of PUT does not say so, although that of OPTIONS would.
    assert_eq!(ask("/api/closed/put", &PREFLIGHT), 401);
    assert_eq!(ask("/api/closed", &PREFLIGHT), 401);
    assert_eq!(ask("/api/none", &PREFLIGHT), 403);
    assert_eq!(ask("/only", &PREFLIGHT), 405);
    assert_eq!(ask("/api;x/../api/closed", &PREFLIGHT), 401);
    // Not quite one.
    let (origin, method) = (PREFLIGHT[0], PREFLIGHT[1]);
    for more in [
        vec![origin],
        vec![method],
        vec![origin, method, method],
        vec![origin, origin, method],
        vec![origin, ("Access-Control-Request-Method", "")],
        vec![origin, method, ("Authorization", "Bearer x")],
    ] {
        assert_eq!(ask("/api", &more), 401, "{more:?}");
        assert!(w.targets().is_empty(), "{more:?}");
    }
    assert_eq!(w.gateway.browser().send("OPTIONS", "/api", &PREFLIGHT, b"body").status, 401);
    for other in ["GET", "PUT", "HEAD"] {
        assert_eq!(w.ask(other, "127.0.0.1", "/api", &PREFLIGHT).status, 401, "{other}");
    }
}

#[test]
fn hx_02_a_preflight_carries_nobody() {
    let w = world(&route(
        "path = \"/\"\nupstream = \"UPSTREAM\"\naccess = \"authenticated\"\nidentity = [\"x-forwarded\"]\nallow_preflight = true\n[route.upstream_auth]\nkind = \"basic\"\nusername = \"door\"\npassword = \"ward\"",
    ));
    let mut browser = w.gateway.signed_in();
    let cookies = format!("mine=1; {}", browser.cookie_header(&w.gateway.base));
    for forged in ["X-Forwarded-User", "X_Forwarded_Email"] {
        w.upstream.clear();
        let headers = [PREFLIGHT[0], PREFLIGHT[1], ("Cookie", cookies.as_str()), (forged, "root")];
        let answer = browser.send("OPTIONS", "/x", &headers, b"");
        assert_eq!(answer.status, 200);
        assert!(answer.all("set-cookie").is_empty());
        let seen = w.upstream.last();
        assert_eq!(seen.all("cookie"), ["mine=1"]);
        let names: Vec<String> = seen.headers.iter().map(|(n, _)| n.to_lowercase().replace('_', "-")).collect();
        for name in ["x-forwarded-user", "x-forwarded-email", "x-forwarded-groups"] {
            assert!(!names.iter().any(|n| n == name), "{seen:?}");
        }
        assert_eq!(seen.all("origin"), ["https://pages.example"]);
        assert!(seen.all("authorization").is_empty(), "what Doorward presents is not for everybody");
    }
    // And the same person's other requests still have a name.
    assert_eq!(browser.send("GET", "/x", &NAVIGATE, b"").status, 200);
    assert_eq!(w.upstream.last().all("x-forwarded-user").len(), 1);
    assert_eq!(w.upstream.last().all("authorization").len(), 1);
}

#[test]
fn b_03_a_raw_return_url_signs_in_at_its_routes_provider() {
    let (upstream, main, other) = (Upstream::start(), Provider::start(), Provider::start());
    let provider = format!(
        "[provider.other]\nissuer = \"{}\"\nclient_id = \"demo\"\nclient_secret = \"demo-secret\"\n",
        other.issuer()
    );
    let routes = route(
        "host = \"127.0.0.1\"\npath = \"/\"\nupstream = \"UPSTREAM\"\naccess = \"authenticated\"\nprovider = \"other\"\nraw_path = true",
    );
    let extra = Extra { provider, routes: Some(routes), ..Extra::default() };
    let gateway = Gateway::with(main.issuer(), &upstream, extra);
    for rd in ["/a%2Fb", "/%zz", "/", &format!("{}//x", gateway.base)] {
        let rd = percent_encoding::utf8_percent_encode(rd, percent_encoding::NON_ALPHANUMERIC);
        let start = gateway.browser().navigate(&format!("{}/oauth2/start?rd={rd}", gateway.base));
        assert!(start.location().starts_with(other.issuer()), "{rd}: {} {}", start.status, start.location());
    }
}

#[test]
fn hx_02_a_preflight_goes_on_without_doorwards_own_credentials() {
    let w = world(&route(
        "path = \"/\"\nupstream = \"UPSTREAM\"\naccess = \"authenticated\"\nallow_preflight = true\n\
         upstream_auth = { kind = \"basic\", username = \"doorward\", password = \"s3cret\" }",
    ));
    assert_eq!(w.ask("OPTIONS", "127.0.0.1", "/x", &PREFLIGHT).status, 200);
    assert!(w.upstream.last().all("authorization").is_empty(), "{:?}", w.upstream.last());
    assert_eq!(w.gateway.signed_in().send("GET", "/x", &NAVIGATE, b"").status, 200);
    assert_eq!(w.upstream.last().all("authorization").len(), 1);
}
