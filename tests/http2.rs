//! HTTP/2 from clients: what is asked is what HTTP/1.1 would have asked, and what breaks the rules breaks nothing else.
//! Rows FX-*, H-12, H-13, HX-12, WX-01, WX-02.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use support::gateway::Extra;
use support::http2::Client;
use support::{Gateway, Provider, Upstream};

/// One public route, one for people, and as much of `server` as a test wants.
struct World {
    gateway: Gateway,
    upstream: Upstream,
    provider: Provider,
}

impl World {
    fn new() -> Self {
        Self::with("")
    }

    fn with(server: &str) -> Self {
        let (provider, upstream) = (Provider::start(), Upstream::start());
        let routes = "[[route]]\npath = \"/\"\nupstream = \"UPSTREAM\"\naccess = \"authenticated\"\nidentity = [\"x-forwarded\"]\n\
                      [[route]]\npath = \"/public\"\nupstream = \"UPSTREAM\"\naccess = \"public\"\n";
        let extra = Extra { routes: Some(routes.into()), server: server.into(), ..Extra::default() };
        let gateway = Gateway::with(provider.issuer(), &upstream, extra);
        Self { gateway, upstream, provider }
    }

    fn client(&self) -> Client {
        Client::new(self.gateway.port)
    }
}

#[test]
fn people_are_known_over_http2_as_they_are_over_http1() {
    let world = World::new();
    let cookie = world.gateway.signed_in().cookie_header(&world.gateway.base);
    let client = world.client();
    for _ in 0..3 {
        let answer = client.get("/page?q=1", &[("cookie", &cookie), ("accept", "text/html")]);
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"hello\n"[..]));
        assert!(answer.headers.contains_key("x-request-id"));
    }
    let seen = world.upstream.last();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/page?q=1"));
    assert_eq!(seen.all("x-forwarded-user"), ["alice"]);
    assert_eq!(seen.all("host"), [client.authority.as_str()]);
    assert!(seen.all("via")[0].starts_with("2.0 doorward-"), "{:?}", seen.all("via"));

    let stranger = client.get("/page", &[("accept", "text/html"), ("sec-fetch-mode", "navigate")]);
    assert_eq!(stranger.status, 302);
    assert!(stranger.headers["location"].to_str().unwrap().starts_with(world.provider.issuer()));
    let posted = client.send(client.request("POST", "/public/form", &[]), &[7; 100_000]);
    assert_eq!(posted.status, 200);
    assert_eq!(world.upstream.last().body.len(), 100_000);
}
