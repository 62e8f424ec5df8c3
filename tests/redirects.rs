//! Open redirects (the R rows): whatever `rd` says, the browser ends at our own origin.

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
use support::{Browser, Gateway, Provider, Upstream};

/// Texts that some parser somewhere takes for another host.
const PAYLOADS: &[&str] = &[
    "//evil.test",
    "///evil.test",
    "////evil.test/%2e%2e",
    "/\\evil.test",
    "\\/evil.test",
    "\\\\evil.test",
    "/\\/evil.test",
    "/%5Cevil.test",
    "/%2F%2Fevil.test",
    "/%2Fevil.test",
    "%2F%2Fevil.test",
    "/\t/evil.test",
    "/%09/evil.test",
    "/\n/evil.test",
    "/%0A/evil.test",
    "/\r/evil.test",
    "/%0D%0A/evil.test",
    " //evil.test",
    "/%20//evil.test",
    "/\u{b}/evil.test",
    "\thttps://evil.test",
    "h\tttps://evil.test",
    "https:evil.test",
    "https:/evil.test",
    "https:///evil.test",
    "https:\\\\evil.test",
    "http:evil.test",
    "HTTPS://EVIL.TEST",
    "https://OWN@evil.test",
    "https://OWN%40evil.test",
    "https://OWN:443@evil.test",
    "https://evil.test#OWN",
    "https://evil.test?OWN",
    "https://evil.test\\.OWN",
    "https://OWN\\@evil.test",
    "https://OWN%2eevil.test",
    "https://OWN%00.evil.test",
    "https://own。test.evil.test",
    "//evil｡test",
    "//ｅｖｉｌ.test",
    "/／evil.test",
    "//[::1]/",
    "//2130706433/",
    "//127.1/",
    "javascript:alert(1)",
    "java%0ascript:alert(1)",
    "data:text/html,x",
    "blob:https://evil.test/x",
    "/.//evil.test",
    "/..//evil.test",
    "/x/..//evil.test",
    "/./\\evil.test",
    "/%2e%2e//evil.test",
    "/;//evil.test",
    "/?//evil.test",
    "/#//evil.test",
    "evil.test",
    ".evil.test",
    "@evil.test",
    ":443//evil.test",
    "https://OWN:evil.test",
    "//OWN:x@evil.test/",
    "https://OWN/..;/@evil.test",
    "wss://OWN",
    "//%E2%80%AEtset.live",
    "/\0/evil.test",
    "http://OWN.evil.test",
    "http://user:pw@OWN/",
    "ftp://OWN/",
    "http://OWN@evil.test:80/",
    "\u{a0}//evil.test",
    "\u{feff}//evil.test",
    "https://evil.test|OWN",
];

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn is_local(base: &str, location: &str) -> bool {
    let plain = location.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    let rest = location.strip_prefix(base).unwrap_or(location);
    plain && (rest.is_empty() || (rest.starts_with('/') && !rest.starts_with("//")))
}

/// A whole sign-in from `start?rd=`; where its callback leads.
fn returned(gateway: &Gateway, rd: &str) -> String {
    let mut browser = gateway.browser();
    let callback = browser.reach_callback(&format!("/oauth2/start?rd={rd}"));
    let answer = browser.navigate(&callback);
    assert_eq!(answer.status, 302, "{rd}: {}", answer.text());
    answer.location().to_owned()
}

fn world() -> (Provider, Upstream, Gateway) {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway = Gateway::start(&provider, &upstream);
    (provider, upstream, gateway)
}

#[test]
fn r_01_every_payload_returns_to_our_own_origin() {
    let (_provider, _upstream, gateway) = world();
    let own = gateway.base.trim_start_matches("http://").to_owned();
    for payload in PAYLOADS {
        let payload = payload.replace("OWN", &own);
        for rd in [encoded(&payload), encoded(&encoded(&payload))] {
            let location = returned(&gateway, &rd);
            assert!(is_local(&gateway.base, &location), "{payload:?} led to {location:?}");
        }
    }
}

#[test]
fn r_01_good_return_urls_are_kept_whole() {
    let (_provider, _upstream, gateway) = world();
    for rd in [
        "/",
        "/a/b?x=1&y=2",
        "/a%20b/c?next=https://evil.test/",
        "/x?u=//evil.test",
        "/a?q=%2F%2F&r=a+b",
        "/a/@user/b",
        "/p:1/q;v=2",
        "/%C3%A9",
    ] {
        assert_eq!(returned(&gateway, &encoded(rd)), rd);
    }
    let absolute = gateway.url("/abs?x=1");
    assert_eq!(returned(&gateway, &encoded(&absolute)), "/abs?x=1");
}

/// The address that was asked for first, not only `rd`, is where a sign-in returns to.
#[test]
fn r_01_a_visited_path_returns_to_our_own_origin() {
    let (_provider, _upstream, gateway) = world();
    for path in
        ["//evil.test/x", "///evil.test", "/.//evil.test", "//evil.test?q=1", "/x/..//evil.test", "/%2e//evil.test"]
    {
        let mut browser = gateway.browser();
        let callback = browser.reach_callback(path);
        let location = browser.navigate(&callback).location().to_owned();
        assert!(is_local(&gateway.base, &location) && location.contains("evil.test"), "{path} led to {location:?}");
    }
    let told = gateway.browser().fetch("//evil.test/x").json();
    assert!(told["login_url"].as_str().unwrap().ends_with("rd=%2Fevil%2Etest%2Fx"), "{told}");
}

#[test]
fn r_03_ox_11_rl_04_sign_out_leads_to_nobody_else_either() {
    let (provider, _upstream, gateway) = world();
    for payload in PAYLOADS {
        let path = format!("/oauth2/sign_out?rd={}", encoded(payload));
        let answer = gateway.browser().send("GET", &path, &[NAVIGATE[0], ("Sec-Fetch-Site", "same-origin")], b"");
        assert!(is_local(&gateway.base, answer.location()), "{payload:?} led to {:?}", answer.location());
    }
    let mut browser = gateway.signed_in();
    let answer = browser.send(
        "GET",
        "/oauth2/sign_out?rd=https://evil.test/",
        &[NAVIGATE[0], ("Sec-Fetch-Site", "same-origin")],
        b"",
    );
    assert!(answer.location().starts_with(provider.issuer()) && !answer.location().contains("evil"));
}

#[test]
fn r_04_headers_of_an_untrusted_peer_steer_nothing() {
    let (provider, _upstream, gateway) = world();
    for (name, value) in [
        ("X-Forwarded-Host", "evil.test"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Uri", "//evil.test/"),
        ("X-Original-URL", "https://evil.test/"),
        ("X-Rewrite-URL", "//evil.test"),
        ("Forwarded", "host=evil.test;proto=https"),
        ("X-Auth-Request-Redirect", "https://evil.test/"),
        ("Referer", "https://evil.test/"),
    ] {
        let mut browser = gateway.browser();
        let start = browser.send("GET", "/y", &[NAVIGATE[0], NAVIGATE[1], (name, value)], b"");
        assert!(start.location().starts_with(provider.issuer()) && !start.location().contains("evil"), "{name}");
        assert_eq!(start.parameter("redirect_uri").unwrap(), gateway.url("/oauth2/callback"), "w_04 {name}");
        let callback = gateway.url("/oauth2/callback");
        let back = browser.follow(start, |url| url.starts_with(&callback));
        let done = browser.navigate(back.location());
        assert_eq!(done.location(), "/y", "{name}");
    }
}

#[test]
fn r_06_a_wildcard_host_is_one_label() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let route = |host: &str| {
        format!("[[route]]\nhost = \"{host}\"\npath = \"/\"\nupstream = \"UPSTREAM\"\naccess = \"authenticated\"\n")
    };
    let extra = Extra { routes: Some(route("127.0.0.1") + &route("*.foo.localhost")), ..Extra::default() };
    let gateway = Gateway::with(provider.issuer(), &upstream, extra);
    let port = gateway.port;
    for (host, kept) in [
        ("a.foo.localhost", true),
        ("foo.localhost", false),
        ("a.b.foo.localhost", false),
        ("xfoo.localhost", false),
        (".foo.localhost", false),
        ("a.foo.localhost.evil.test", false),
    ] {
        let rd = format!("http://{host}:{port}/kept");
        let want = if kept { rd.as_str() } else { "/" };
        assert_eq!(returned(&gateway, &encoded(&rd)), want, "{host}");
    }
    for rd in [
        format!("https://a.foo.localhost:{port}/"),
        format!("http://a.foo.localhost:{}/", port - 1),
        "http://a.foo.localhost/".to_owned(),
    ] {
        assert_eq!(returned(&gateway, &encoded(&rd)), "/", "{rd}");
    }
}

#[test]
fn r_07_line_ends_in_rd_split_nothing() {
    let (_provider, _upstream, gateway) = world();
    for rd in [
        "/%0d%0aX-Injected:%201",
        "%0d%0aSet-Cookie:%20a=b",
        "/x%250d%250aX-Injected:1",
        "/%E5%98%8A%E5%98%8DX-Injected:1",
    ] {
        for endpoint in ["start", "sign_in", "sign_out", "signed_out"] {
            let answer = gateway.browser().send(
                "GET",
                &format!("/oauth2/{endpoint}?rd={rd}"),
                &[NAVIGATE[0], NAVIGATE[1], ("Sec-Fetch-Site", "same-origin")],
                b"",
            );
            assert!(answer.status < 500 && answer.header("x-injected").is_none(), "{endpoint} {rd}");
            assert!(!answer.all("set-cookie").iter().any(|c| c.starts_with("a=b")));
        }
    }
}

#[test]
fn r_09_our_own_endpoints_are_no_place_to_return_to() {
    let (_provider, _upstream, gateway) = world();
    for rd in [
        "/oauth2/sign_out",
        "/oauth2/start?rd=/x",
        "/oauth2/callback?code=x",
        "/oauth2/./sign_out",
        "/x/../oauth2/sign_out",
        "/%6fauth2/sign_out",
        "/oauth2",
        "/oauth2/session",
        "/oauth2;x/sign_out",
    ] {
        assert_eq!(returned(&gateway, &encoded(rd)), "/", "{rd}");
    }
    assert_eq!(returned(&gateway, &encoded(&gateway.url("/oauth2/sign_out"))), "/");
}

#[test]
fn xx_03_rd_is_escaped_wherever_a_page_repeats_it() {
    let (_provider, _upstream, gateway) = world();
    let mut browser: Browser = gateway.browser();
    for rd in [
        "/x\"><script>alert(1)</script>",
        "/x'-alert(1)-'",
        "javascript:alert(1)",
        "//evil.test/\"onmouseover=alert(1)",
    ] {
        let page = browser.navigate(&format!("/oauth2/sign_in?rd={}", encoded(rd)));
        assert_eq!(page.status, 200);
        assert!(
            !page.text().contains("<script")
                && !page.text().contains("javascript:")
                && !page.text().contains("onmouseover="),
            "{rd}"
        );
    }
}
