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

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use doorward::http::websocket;
use http::HeaderValue;
use support::browser::NAVIGATE;
use support::gateway::Extra;
use support::http2::{
    CONTINUATION, Client, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PRIORITY, PUSH_PROMISE, RST_STREAM,
    Raw, SETTINGS, WINDOW_UPDATE, block, frame,
};
use support::{Gateway, Provider, Upstream, eventually};

/// One public route, one for people, and as much of `server` as a test wants.
struct World {
    gateway: Gateway,
    upstream: Upstream,
    provider: Provider,
}

impl World {
    fn new() -> Self {
        Self::with(&[])
    }

    /// `limits`: keys of `[server.limits]`.
    fn with(limits: &[(&str, &str)]) -> Self {
        let (provider, upstream) = (Provider::start(), Upstream::start());
        let routes = "[[route]]\npath = \"/\"\nupstream = \"UPSTREAM\"\naccess = \"authenticated\"\nidentity = [\"x-forwarded\"]\n\
                      [[route]]\npath = \"/public\"\nupstream = \"UPSTREAM\"\naccess = \"public\"\n\
                      [[route]]\npath = \"/nobody\"\nupstream = \"http://127.0.0.1:1\"\naccess = \"public\"\n";
        let env = limits.iter().map(|(key, value)| (format!("DOORWARD_SERVER__LIMITS__{key}"), (*value).to_owned()));
        let extra = Extra { routes: Some(routes.into()), env: env.collect(), ..Extra::default() };
        let gateway = Gateway::with(provider.issuer(), &upstream, extra);
        Self { gateway, upstream, provider }
    }

    fn client(&self) -> Client {
        Client::new(self.gateway.port)
    }

    fn raw(&self) -> Raw {
        Raw::new(self.gateway.port)
    }

    /// Whoever keeps the rules is served, whatever others do.
    fn serves(&self) {
        assert_eq!(self.client().get("/public", &[]).status, 200);
        assert_eq!(self.gateway.browser().fetch("/public").status, 200);
    }

    /// Neither an answer nor a word to the upstream.
    fn refuses(&self, what: &str, send: impl FnOnce(&mut Raw)) {
        self.upstream.clear();
        let mut raw = self.raw();
        send(&mut raw);
        let ending = raw.ending(1);
        assert!(matches!(ending, None | Some((RST_STREAM | GOAWAY, 1..))), "{what}: {ending:?}");
        assert!(self.upstream.seen().is_empty(), "{what}");
    }

    /// Floods one connection until it is over; what was answered besides.
    fn flood(&self, what: &str, mut raw: Raw, most: u32, piece: impl Fn(u32) -> Vec<u8>) -> usize {
        for n in 0..most {
            if raw.stream.write_all(&piece(n)).is_err() {
                break;
            }
        }
        let mut answers = 0;
        while let Some(frame) = raw.read() {
            answers += 1;
            if frame.kind == GOAWAY {
                break;
            }
        }
        assert!(answers < most as usize / 4, "{what}: {answers} answers");
        self.serves();
        answers
    }

    /// Resident bytes of the gateway.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.gateway.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
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

#[test]
fn h_12_fx_02_fx_03_hx_12_a_malformed_head_is_the_end_of_its_stream() {
    let world = World::new();
    let authority = format!("127.0.0.1:{}", world.gateway.port);
    let usual = [(":method", "GET"), (":scheme", "http"), (":authority", &*authority), (":path", "/public")];
    for more in [
        ("X-Upper", "v"),
        ("connection", "close"),
        ("connection", "x-forwarded-user"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("x-crlf", "a\r\nx-forwarded-user: admin"),
        ("x-nul", "a\0b"),
        ("x\nlf", "v"),
        ("x:colon", "v"),
        ("x space", "v"),
        ("", "v"),
        (":path", "/public"),
        (":authority", "admin.test"),
        (":status", "200"),
        (":protocol", "websocket"),
        (":x-forwarded-user", "admin"),
        (":user", "admin"),
    ] {
        world.refuses(&format!("{more:?}"), |raw| raw.head(1, &[&usual[..], &[more]].concat()));
    }
    for (replaced, with) in [
        (0, (":method", "GE T")),
        (0, (":method", "")),
        (1, (":scheme", "ht tp")),
        (2, (":authority", "a b")),
        (2, (":authority", "a\r\nhost: b")),
        (3, (":path", "")),
        (3, (":path", "/a b")),
        (3, (":path", "/a\r\nx: y")),
    ] {
        let mut fields = usual;
        fields[replaced] = with;
        world.refuses(&format!("{with:?}"), |raw| raw.head(1, &fields));
    }
    for missing in [0, 1, 3] {
        let mut fields = usual.to_vec();
        let name = fields.remove(missing).0;
        world.refuses(&format!("no {name}"), |raw| raw.head(1, &fields));
    }
    let late = [&usual[..3], &[("x-field", "v")], &usual[3..]].concat();
    world.refuses("a late :path", |raw| raw.head(1, &late));
    // hyper drops them there: nothing of them goes on.
    world.upstream.clear();
    let mut raw = world.raw();
    raw.send(HEADERS, END_HEADERS, 1, &block(&[(":method", "POST"), usual[1], usual[2], usual[3]]));
    raw.send(DATA, 0, 1, b"body");
    raw.head(1, &[(":path", "/admin"), ("x-forwarded-user", "admin")]);
    raw.ending(1).unwrap();
    let seen = world.upstream.last();
    assert_eq!((&*seen.target, &*seen.body), ("/public", &b"body"[..]));
    assert!(seen.all("x-forwarded-user").is_empty());
    world.serves();
}

#[test]
fn h_13_hx_12_there_is_one_authority() {
    let world = World::new();
    let own = format!("127.0.0.1:{}", world.gateway.port);
    let ask = |scheme: &str, authority: Option<&str>, host: &[&str], path: &str| {
        world.upstream.clear();
        let mut fields = vec![(":method", "GET"), (":scheme", scheme)];
        fields.extend(authority.map(|authority| (":authority", authority)));
        fields.push((":path", path));
        fields.extend(host.iter().map(|host| ("host", *host)));
        let mut raw = world.raw();
        raw.head(1, &fields);
        let head = raw.until(|f| f.stream == 1).unwrap();
        // The static table of HPACK has these answers.
        match (head.kind, head.payload[0]) {
            (HEADERS, 0x88) => 200,
            (HEADERS, 0x8c) => 400,
            other => panic!("{other:?}"),
        }
    };
    for (authority, host) in [(Some(&*own), &[][..]), (Some(&*own), &[&*own]), (None, &[&*own])] {
        assert_eq!(ask("http", authority, host, "/public"), 200);
        assert_eq!(world.upstream.last().all("host"), [&*own]);
    }
    assert_eq!(ask("https", Some(&own), &[], "/public"), 200, "a proxy in front had it so");
    let (user, upper) = (format!("admin@{own}"), own.replace("127", "admin"));
    for (scheme, authority, host, path) in [
        ("http", Some(&*own), &["other.test"][..], "/public"),
        ("http", Some("other.test"), &[&*own], "/public"),
        ("http", Some(&*own), &[&*own, &*own], "/public"),
        ("http", Some(&*own), &[&*upper], "/public"),
        ("http", Some(&*user), &[], "/public"),
        ("http", None, &[&*user], "/public"),
        ("ftp", Some(&*own), &[], "/public"),
        ("javascript", Some(&*own), &[], "/public"),
        ("http", None, &[], "/public"),
        ("http", Some(&*own), &[], "/public/%2f"),
        ("http", Some(&*own), &[], "/public\\x"),
    ] {
        assert_eq!(ask(scheme, authority, host, path), 400, "{scheme} {authority:?} {host:?} {path}");
        assert!(world.upstream.seen().is_empty());
    }
    world.serves();
}

#[test]
fn h_10_a_connect_that_is_no_websocket_is_not_served() {
    let world = World::new();
    let client = world.client();
    let mut request = client.request("CONNECT", "", &[]).uri(client.authority.as_str());
    assert_eq!(client.send(request, b"").status, 405);
    request = client.request("CONNECT", "/public", &[]);
    assert_eq!(client.send(request.extension(hyper::ext::Protocol::from_static("connect-udp")), b"").status, 405);
    assert_eq!(client.send(client.request("TRACE", "/public", &[]), b"").status, 405);
    assert!(world.upstream.seen().is_empty());
}

#[test]
fn fx_05_a_rapid_reset_ends_its_connection_and_reaches_few_upstreams() {
    let world = World::new();
    let before = world.memory();
    world.flood("rapid reset", world.raw(), 20_000, |n| {
        let stream = 2 * n + 1;
        let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "127.0.0.1"), (":path", "/public")];
        let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields));
        [head, frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat()
    });
    assert!(world.upstream.seen().len() < 2_000, "{} requests went on", world.upstream.seen().len());
    let grown = world.memory().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
}

#[test]
fn fx_06_who_makes_us_reset_is_not_served_for_long() {
    let world = World::new();
    let open = |stream| {
        let fields = [(":method", "POST"), (":scheme", "http"), (":authority", "127.0.0.1"), (":path", "/public")];
        frame(HEADERS, END_HEADERS, stream, &block(&fields))
    };
    type Then = fn(u32) -> Vec<u8>;
    let variants: [(&str, Then); 4] = [
        ("a window of nothing more", |stream| frame(WINDOW_UPDATE, 0, stream, &0u32.to_be_bytes())),
        ("a window too large", |stream| frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes())),
        ("data behind the end", |stream| {
            [frame(DATA, END_STREAM, stream, b"x"), frame(DATA, END_STREAM, stream, b"x")].concat()
        }),
        ("a stream that depends on itself", |stream| {
            frame(PRIORITY, 0, stream, &[&stream.to_be_bytes()[..], &[0]].concat())
        }),
    ];
    for (what, then) in variants {
        world.flood(what, world.raw(), 20_000, |n| [open(2 * n + 1), then(2 * n + 1)].concat());
    }
}

#[test]
fn fx_08_compressed_heads_are_counted_as_they_unfold() {
    let world = World::new();
    let before = world.memory();
    let bomb = |raw: &mut Raw, field: &str, times: usize| {
        let own = format!("127.0.0.1:{}", raw.port);
        let fields = [(":method", "GET"), (":scheme", "http"), (":authority", &*own), (":path", "/public")];
        // Kept in the dynamic table (RFC 7541 §6.2.1), where 62 is its index.
        let mut head = block(&fields);
        let mut kept = block(&[("cookie", field)]);
        kept[0] = 0x40;
        head.extend(kept);
        head.extend(std::iter::repeat_n(0x80 | 62, times));
        raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &head);
    };
    for (what, size, times) in [("a large cookie", 4000, 12_000), ("tiny fields", 1, 12_000)] {
        world.upstream.clear();
        let mut raw = world.raw();
        bomb(&mut raw, &"a".repeat(size), times);
        let head = raw.until(|f| matches!(f.kind, GOAWAY | RST_STREAM | HEADERS));
        assert!(head.is_none_or(|head| head.kind != HEADERS || head.payload[0] != 0x88), "{what}");
        assert!(world.upstream.seen().is_empty(), "{what}");
    }
    // A head without an end.
    world.flood("continuations", world.raw(), 20_000, |n| match n {
        0 => frame(HEADERS, 0, 1, &block(&[("x-first", "v")])),
        _ => frame(CONTINUATION, 0, 1, &block(&[("x-more", "v")])),
    });
    let grown = world.memory().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
    world.serves();
}

#[test]
fn fx_09_frames_of_no_use_end_their_connection() {
    let world = World::new();
    let open = frame(
        HEADERS,
        END_HEADERS,
        1,
        &block(&[(":method", "POST"), (":scheme", "http"), (":authority", "127.0.0.1"), (":path", "/public")]),
    );
    let useless: [(&str, Vec<u8>); 6] = [
        ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
        ("PING", frame(PING, 0, 0, &[0; 8])),
        ("PRIORITY", frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 0])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes())),
        ("empty DATA", frame(DATA, 0, 1, &[])),
        ("unknown", frame(0x42, 0, 0, b"x")),
    ];
    for (what, useless) in useless {
        let answers = world.flood(what, world.raw(), 50_000, |n| if n == 0 { open.clone() } else { useless.clone() });
        assert!(answers < 3_000, "{what}: {answers}");
    }
    // Of empty DATA hyper has a limit of its own, and whichever is met first counts.
    assert!(world.gateway.metric("doorward_refused_total{reason=\"control_frames\"}") >= 5.0);
}

#[test]
fn fx_11_a_stream_whose_client_takes_nothing_is_reset_and_one_that_does_is_not() {
    let world = World::with(&[("IDLE_TIMEOUT", "1s")]);
    let body = vec![b'x'; 1 << 20];
    world
        .upstream
        .answers(&[format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat());
    let before = world.memory();
    // SETTINGS_INITIAL_WINDOW_SIZE
    let mut raw = Raw::with(world.gateway.port, &[(4, 0)]);
    for n in 0..50 {
        raw.get(2 * n + 1, "/public", &[]);
    }
    // Another client takes all of it meanwhile.
    let taken = world.client().get("/public", &[]);
    assert_eq!((taken.status.as_u16(), taken.body.len()), (200, body.len()));
    let grown = world.memory().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
    let mut reset = 0;
    while reset < 50 {
        let frame = raw.until(|f| f.kind == RST_STREAM).expect("the connection goes on");
        assert_eq!(frame.payload, 8u32.to_be_bytes(), "CANCEL");
        reset += 1;
    }
}

#[test]
fn fx_12_a_head_that_does_not_end_and_a_client_that_asks_nothing_are_closed() {
    let world = World::with(&[("HEADER_TIMEOUT", "1s"), ("IDLE_TIMEOUT", "1s")]);
    let mut slow = world.raw();
    slow.send(HEADERS, 0, 1, &block(&[(":method", "GET")]));
    let mut preface = TcpStream::connect(("127.0.0.1", world.gateway.port)).unwrap();
    preface.write_all(b"PRI * HTTP/2.0\r\n").unwrap();
    let mut nothing = Raw::new(world.gateway.port);
    assert_eq!(preface.read(&mut [0]).unwrap_or(0), 0);
    assert!(slow.until(|f| f.stream == 1).is_none());
    assert!(nothing.until(|f| f.kind == GOAWAY).is_some(), "it is told first");
    assert!(nothing.until(|_| false).is_none());
    world.client().closed().unwrap();
    let client = world.client();
    assert_eq!(client.get("/public", &[]).status, 200);
    client.closed().unwrap();
}

#[test]
fn fx_14_cookies_in_crumbs_are_one_field_before_anybody_looks() {
    let world = World::new();
    let (mut browser, client) = (world.gateway.signed_in(), world.client());
    browser.fetch("/");
    let session = browser.cookie_header(&world.gateway.base);
    let (first, second) = session.split_at(session.len() / 2);
    for crumbs in
        [vec!["a=1", &*session, "b=2; c=3"], vec![&*session, "a=1", "b=2", "c=3"], vec!["a=1", "b=2", "c=3", &session]]
    {
        let crumbs: Vec<_> = crumbs.iter().map(|crumb| ("cookie", *crumb)).collect();
        assert_eq!(client.get("/page", &crumbs).status, 200);
        let seen = world.upstream.last();
        assert_eq!(seen.all("cookie"), ["a=1; b=2; c=3"]);
        assert_eq!(seen.all("x-forwarded-user"), ["alice"]);
    }
    // What is cut anywhere else is two cookies, and no session.
    assert_eq!(client.get("/page", &[("cookie", first), ("cookie", second)]).status, 401);
}

#[test]
fn fx_15_heads_are_limited_as_a_whole_and_by_the_number_of_their_fields() {
    let world = World::new();
    let client = world.client();
    let status = |fields: usize, size: usize, name: &str| {
        let value = format!("a={}", "x".repeat(size));
        let headers = vec![(name, &*value); fields];
        client.get("/public", &headers).status.as_u16()
    };
    assert_eq!(status(10, 4_000, "cookie"), 200);
    assert_eq!(status(20, 4_000, "cookie"), 431);
    assert_eq!(status(1, 70_000, "x-large"), 431);
    assert_eq!(status(120, 10, "x-many"), 431);
    assert_eq!(status(120, 10, "cookie"), 200, "crumbs of one field");
    world.serves();
}

#[test]
fn fx_17_what_no_client_may_send_ends_the_connection() {
    let world = World::new();
    type Send = fn(&mut Raw);
    let cases: [(&str, Send); 8] = [
        ("PUSH_PROMISE", |raw| raw.send(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])),
        ("an even stream", |raw| raw.get(2, "/public", &[])),
        ("a stream of before", |raw| {
            raw.get(5, "/public", &[]);
            raw.get(3, "/public", &[]);
        }),
        ("SETTINGS on a stream", |raw| raw.send(SETTINGS, 0, 1, &[])),
        ("SETTINGS of an odd size", |raw| raw.send(SETTINGS, 0, 0, &[0; 5])),
        ("PING on a stream", |raw| raw.send(PING, 0, 1, &[0; 8])),
        ("a frame too large", |raw| raw.send(DATA, 0, 1, &[0; 16_385])),
        ("DATA on stream 0", |raw| raw.send(DATA, 0, 0, b"x")),
    ];
    for (what, send) in cases {
        let mut raw = world.raw();
        send(&mut raw);
        let end = raw.until(|f| f.kind == GOAWAY);
        assert!(end.is_none_or(|end| end.payload[4..8] != [0; 4]), "{what}");
        assert!(raw.until(|_| false).is_none(), "{what}: it is closed");
    }
    // A stream that has ended is not opened again.
    let mut raw = world.raw();
    raw.get(1, "/public", &[]);
    raw.until(|f| f.stream == 1 && f.flags & END_STREAM != 0).unwrap();
    raw.get(1, "/public", &[]);
    assert!(raw.until(|f| f.kind == GOAWAY || f.kind == RST_STREAM).is_none_or(|f| f.payload[..4] != [0; 4]));
    world.serves();
}

#[test]
fn grpc_is_refused_as_grpc() {
    let world = World::new();
    let client = world.client();
    for (path, status) in [("/svc/Method", "16"), ("/nobody/svc/Method", "14"), ("/public/%2f", "13")] {
        let answer =
            client.send(client.request("POST", path, &[("content-type", "application/grpc"), ("te", "trailers")]), b"");
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.headers["grpc-status"], status, "{path}");
        let id = answer.headers["x-request-id"].to_str().unwrap();
        assert!(answer.headers["grpc-message"].to_str().unwrap().contains(id), "{path}");
        assert!(answer.body.is_empty() && answer.trailers.is_empty(), "{path}: trailers only");
    }
}

#[test]
fn trailers_come_through_whole() {
    let world = World::new();
    world.upstream.answers(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Grpc-Status\r\nKeep-Alive: timeout=5\r\n\r\n\
          3\r\nabc\r\n0\r\nGrpc-Status: 0\r\nConnection: close\r\n\r\n",
    );
    let client = world.client();
    let answer = client.get("/public", &[("te", "trailers")]);
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"abc"[..]));
    assert_eq!(answer.trailers["grpc-status"], "0");
    assert_eq!(answer.trailers.len(), 1);
    for hop in ["connection", "keep-alive", "transfer-encoding"] {
        assert!(!answer.headers.contains_key(hop), "{hop}");
    }
    let seen = world.upstream.last();
    assert_eq!(seen.all("te"), ["trailers"]);
    eventually("the access line", || {
        world.gateway.log().lines().any(|line| {
            line.contains("/public") && line.contains("\"status\":200") && !line.contains("\"aborted\":true")
        })
    });
}

#[test]
fn a_shutdown_lets_what_is_under_way_finish() {
    let world = World::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let routes = format!(
        "[[route]]\npath = \"/\"\nupstream = \"http://{}\"\naccess = \"public\"\n",
        listener.local_addr().unwrap()
    );
    let extra = Extra { routes: Some(routes), ..Extra::default() };
    let mut gateway = Gateway::with(world.provider.issuer(), &world.upstream, extra);
    let mut raw = Raw::new(gateway.port);
    raw.get(1, "/slow", &[]);
    let (mut asked, _) = listener.accept().unwrap();
    assert!(head(&mut asked).starts_with("GET /slow "));
    gateway.signal("TERM");
    assert!(raw.until(|f| f.kind == GOAWAY).is_some());
    asked.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    let data = raw.until(|f| f.stream == 1 && f.kind == DATA).unwrap();
    assert_eq!((data.payload, data.flags & END_STREAM), (b"ok".to_vec(), END_STREAM));
    assert!(gateway.ended().success());
}

/// An upstream that shakes hands for a WebSocket, each way wrong under a path of its own, and records who came.
fn sockets() -> (String, std::sync::mpsc::Receiver<(String, TcpStream)>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (accepted, sockets) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let head = head(&mut stream);
            let field = |name: &str| {
                head.lines()
                    .find_map(|l| l.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)))
                    .map(|(_, v)| v)
            };
            let key = HeaderValue::from_str(field("sec-websocket-key").unwrap_or_default()).unwrap();
            let accept = websocket::accept(&key);
            let accept = accept.to_str().unwrap();
            let switch = "101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket";
            let answer = match head.split(' ').nth(1).unwrap() {
                "/wrong" => format!("{switch}\r\nSec-WebSocket-Accept: {}", accept.to_lowercase()),
                "/silent" => switch.to_owned(),
                "/page" => "200 OK\r\nContent-Length: 0".to_owned(),
                "/moved" => "302 Found\r\nLocation: /ws\r\nContent-Length: 0".to_owned(),
                _ => format!("{switch}\r\nSec-WebSocket-Accept: {accept}"),
            };
            write!(stream, "HTTP/1.1 {answer}\r\n\r\n").unwrap();
            accepted.send((head, stream)).unwrap();
        }
    });
    (url, sockets)
}

/// A head, and not a byte of what comes behind it.
fn head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn wx_01_wx_02_a_websocket_over_http2_is_judged_as_one_over_http1() {
    let world = World::new();
    let (url, sockets) = sockets();
    let route = |path: &str, more: &str| format!("[[route]]\npath = \"{path}\"\nupstream = \"{url}\"\n{more}\n");
    let routes = [
        route("/", "access = \"authenticated\"\nidentity = [\"x-forwarded\"]"),
        route("/get", "access = \"public\"\nmethods = [\"GET\"]"),
        route("/denied", "access = \"policy\"\nallow = [{ user = \"nobody\" }]"),
        "[[route]]\npath = \"/here\"\nupstream = \"status:204\"\naccess = \"public\"\n".to_owned(),
    ];
    let extra = Extra { routes: Some(routes.concat()), ..Extra::default() };
    let gateway = Gateway::with(world.provider.issuer(), &world.upstream, extra);
    let client = Client::new(gateway.port);
    let mut browser = gateway.browser();
    // The upstream answers everything but a WebSocket with one, so that nobody goes there to sign in.
    let last = browser.reach_callback("/oauth2/start");
    browser.navigate(&last);
    let cookie = browser.cookie_header(&gateway.base);
    let own = gateway.base.as_str();
    let status = |path: &str, headers: &[(&str, &str)]| client.websocket(path, headers).status().as_u16();
    let signed_in = ("cookie", &*cookie);
    assert_eq!(status("/ws", &[]), 401);
    assert_eq!(status("/ws", &[("origin", own), ("accept", "text/html")]), 401);
    assert_eq!(status("/ws", &[signed_in, ("origin", "http://evil.test")]), 403);
    assert_eq!(status("/ws", &[signed_in, ("origin", "null")]), 403);
    assert_eq!(status("/denied", &[signed_in, ("origin", own)]), 403);
    assert_eq!(status("/get", &[("origin", own)]), 200, "as the GET that it is");
    sockets.recv().unwrap();
    for no_websocket in ["/here", "/oauth2/userinfo", "/ping"] {
        assert_eq!(status(no_websocket, &[signed_in]), 400, "{no_websocket}");
    }
    assert!(sockets.try_recv().is_err(), "the upstream heard of none of them");
    for (path, answer) in [("/wrong", 502), ("/silent", 502), ("/page", 400), ("/moved", 302)] {
        assert_eq!(status(path, &[signed_in, ("origin", own)]), answer, "{path}");
        sockets.recv().unwrap();
    }

    let mut tunnel = client.tunnel("/ws?x=1", &[signed_in, ("origin", own), ("sec-websocket-protocol", "chat")]);
    let (asked, mut upstream) = sockets.recv().unwrap();
    let asked = asked.to_lowercase();
    assert!(asked.starts_with("get /ws?x=1 http/1.1\r\n"), "{asked}");
    for field in [
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-protocol: chat",
        "x-forwarded-user: alice",
    ] {
        assert!(asked.contains(&format!("\r\n{field}\r\n")), "{field}: {asked}");
    }
    assert!(!asked.contains("transfer-encoding") && !asked.contains("content-length"), "{asked}");
    tunnel.write(b"\x81\x85\0\0\0\0hello");
    let mut heard = [0; 11];
    upstream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"\x81\x85\0\0\0\0hello");
    upstream.write_all(b"\x81\x02yo").unwrap();
    tunnel.reads(b"\x81\x02yo");
    // Beside it the connection goes on.
    assert_eq!(client.get("/ping", &[]).status, 200);

    // OX-02: it ends with its session, and says why.
    browser.send("GET", "/oauth2/sign_out", &[NAVIGATE[0], ("Sec-Fetch-Site", "same-origin")], b"");
    tunnel.reads(b"\x88\x0f\x03\xf0session ended");
    tunnel.ends();
    let mut rest = Vec::new();
    upstream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest[..2], [0x88, 0x8f], "a masked close frame");
    assert_eq!(client.get("/ping", &[]).status, 200);
}

#[test]
fn h_15_wx_07_a_websocket_over_http2_is_a_request_under_way_for_as_long_as_it_is_open() {
    let world = World::new();
    let (url, sockets) = sockets();
    let routes = format!("[[route]]\npath = \"/\"\nupstream = \"{url}\"\naccess = \"public\"\n");
    let env = vec![("DOORWARD_SERVER__LIMITS__REQUESTS".to_owned(), "2".to_owned())];
    let extra = Extra { routes: Some(routes), env, ..Extra::default() };
    let gateway = Gateway::with(world.provider.issuer(), &world.upstream, extra);
    let client = Client::new(gateway.port);
    let tunnels = [client.tunnel("/ws", &[]), client.tunnel("/ws", &[])];
    let upstreams = [sockets.recv().unwrap(), sockets.recv().unwrap()];
    assert_eq!(client.get("/ping", &[]).status, 503);
    assert_eq!(Client::new(gateway.port).websocket("/ws", &[]).status(), 503);
    drop((tunnels, upstreams));
    eventually("the places are free again", || client.get("/ping", &[]).status == 200);
}

#[test]
fn a_shutdown_closes_websockets_over_http2_and_an_idle_limit_does_not() {
    let world = World::new();
    let (url, sockets) = sockets();
    let routes = format!("[[route]]\npath = \"/\"\nupstream = \"{url}\"\naccess = \"public\"\n");
    let env = vec![("DOORWARD_SERVER__LIMITS__IDLE_TIMEOUT".to_owned(), "1s".to_owned())];
    let mut gateway = Gateway::with(
        world.provider.issuer(),
        &world.upstream,
        Extra { routes: Some(routes), env, ..Extra::default() },
    );
    let (client, beside) = (Client::new(gateway.port), Client::new(gateway.port));
    let mut tunnel = client.tunnel("/ws", &[]);
    let (_, mut upstream) = sockets.recv().unwrap();
    // A connection without a tunnel has been closed for being idle, this one has not.
    beside.closed().unwrap();
    tunnel.write(b"\x81\x80\0\0\0\0");
    upstream.read_exact(&mut [0; 6]).unwrap();
    gateway.signal("TERM");
    tunnel.reads(b"\x88\x0f\x03\xe9shutting down");
    tunnel.ends();
    drop(upstream);
    client.closed().unwrap();
    assert!(gateway.ended().success());
}
