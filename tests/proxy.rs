//! The proxy from outside: what passes, what is answered when the upstream does not, and how it ends. Rows H-, M-, WX-.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use support::browser::{NAVIGATE, read};
use support::gateway::Extra;
use support::{Gateway, Provider, Upstream, eventually};

/// A gateway whose `/` is public and whose upstream is the test's own listener.
fn public(extra: &str) -> (Provider, TcpListener, Gateway) {
    let provider = Provider::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = listener.local_addr().unwrap();
    let routes = format!(
        "[[route]]\npath = \"/\"\nupstream = \"http://{upstream}\"\naccess = \"public\"\n{extra}\n\
         [[route]]\npath = \"/in\"\nupstream = \"http://{upstream}\"\naccess = \"authenticated\"\n"
    );
    let gateway =
        Gateway::with(provider.issuer(), &Upstream::start(), Extra { routes: Some(routes), ..Extra::default() });
    (provider, listener, gateway)
}

fn connect(gateway: &Gateway) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Everything up to the empty line.
fn head(stream: &mut impl std::io::BufRead) -> String {
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut text).unwrap() > 0, "closed within a head: {text}");
    }
    text
}

#[test]
fn h_09_hx_11_announced_trailers_pass_both_ways_without_names_of_ours() {
    let (_provider, listener, gateway) = public("");
    let mut client = connect(&gateway);
    write!(
        client,
        "POST /x HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nTE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked\r\n\
         Trailer: X-Sum, X-Forwarded-User\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Forwarded-User: root\r\n\r\n",
        gateway.port
    )
    .unwrap();
    let (mut upstream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(upstream.try_clone().unwrap());
    let request = head(&mut reader).to_lowercase();
    assert!(request.contains("trailer: x-sum\r\n") && request.contains("te: trailers"), "{request}");
    let mut body = String::new();
    while !body.ends_with("\r\n\r\n") {
        reader.read_line(&mut body).unwrap();
    }
    assert!(body.to_lowercase().contains("x-sum: 1") && !body.contains("root"), "{body}");
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Took\r\n\r\n2\r\nok\r\n0\r\nX-Took: 5\r\n\r\n")
        .unwrap();
    let mut reader = BufReader::new(client);
    let answer = head(&mut reader).to_lowercase();
    assert!(answer.contains("trailer: x-took"), "{answer}");
    let mut body = String::new();
    while !body.ends_with("\r\n\r\n") {
        reader.read_line(&mut body).unwrap();
    }
    assert!(body.to_lowercase().contains("x-took: 5"), "{body}");
}

#[test]
fn m_14_a_body_that_waits_for_100_is_asked_for_only_when_it_may_pass() {
    let (_provider, listener, gateway) = public("");
    let mut client = connect(&gateway);
    write!(
        client,
        "POST /x HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
        gateway.port
    )
    .unwrap();
    let (mut upstream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    assert!(head(&mut reader).starts_with("HTTP/1.1 100"));
    client.write_all(b"abc").unwrap();
    let mut sent = BufReader::new(upstream.try_clone().unwrap());
    let request = head(&mut sent).to_lowercase();
    assert!(!request.contains("expect:"));
    let mut body = [0; 3];
    sent.read_exact(&mut body).unwrap();
    assert_eq!(&body, b"abc");
    upstream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    assert!(head(&mut reader).starts_with("HTTP/1.1 204"));

    let mut denied = connect(&gateway);
    write!(
        denied,
        "POST /in HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
        gateway.port
    )
    .unwrap();
    assert!(head(&mut BufReader::new(denied)).starts_with("HTTP/1.1 401"), "no 100 before a refusal");
    let unknown = gateway.browser().send("GET", "/x", &[("Expect", "tea")], b"");
    assert_eq!(unknown.status, 417);
}

#[test]
fn an_upstream_that_is_not_there_is_502_and_one_that_says_nothing_is_504() {
    let (_provider, listener, gateway) = public("[route.upstream_options]\nresponse_timeout = \"300ms\"\n");
    let late = gateway.browser().send("GET", "/x", &NAVIGATE, b"");
    assert_eq!(late.status, 504);
    assert!(late.text().contains("<h1>") && late.header("cache-control") == Some("no-store"));
    drop(listener);
    let gone = gateway.browser().send("GET", "/x", &NAVIGATE, b"");
    assert_eq!(gone.status, 502);
    assert!(gone.text().contains(gone.header("x-request-id").unwrap()));
    let program = gateway.browser().send("GET", "/x", &[("Accept", "application/json")], b"");
    assert_eq!((program.status, &program.json()["error"]), (502, &serde_json::json!("upstream_failed")));
}

#[test]
fn m_19_a_head_has_no_body_and_the_connection_goes_on() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let routes = "[[route]]\npath = \"/\"\nupstream = \"UPSTREAM\"\naccess = \"public\"\n";
    let gateway =
        Gateway::with(provider.issuer(), &upstream, Extra { routes: Some(routes.into()), ..Extra::default() });
    let mut client = connect(&gateway);
    let mut reader = BufReader::new(client.try_clone().unwrap());
    for method in ["HEAD", "GET", "HEAD", "GET"] {
        write!(client, "{method} /x HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", gateway.port).unwrap();
        let answer = read(&mut reader, method).unwrap();
        assert_eq!((answer.status, answer.header("content-length")), (200, Some("6")), "{method}");
    }
    assert_eq!(upstream.seen().len(), 4);
}

#[test]
fn a_client_that_goes_away_ends_the_upstream_request() {
    let (_provider, listener, gateway) = public("");
    let mut client = connect(&gateway);
    write!(client, "GET /x HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", gateway.port).unwrap();
    let (upstream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(upstream);
    head(&mut reader);
    drop(client);
    let mut rest = Vec::new();
    reader.get_ref().set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(reader.read_to_end(&mut rest).unwrap_or(0), 0, "the upstream's connection stayed open");
    eventually("the access line", || gateway.log().contains("\"status\":499"));
}

#[test]
fn wx_01_h_11_m_16_upgrades_pass_when_they_may() {
    let (provider, listener, gateway) = public("");
    let upgrade = |path: &str, protocol: &str, cookie: &str, origin: &str| {
        let mut client = connect(&gateway);
        write!(
            client,
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\nOrigin: {origin}\r\nCookie: {cookie}\r\n\r\n",
            gateway.port
        )
        .unwrap();
        client
    };
    let base = gateway.base.clone();
    assert!(head(&mut BufReader::new(upgrade("/in/ws", "websocket", "", &base))).starts_with("HTTP/1.1 401"));
    // Signing in makes one request of its own to the upstream.
    let _ = provider;
    let accept = std::thread::spawn(move || {
        let mut answered = 0;
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let request = head(&mut reader).to_lowercase();
            if request.contains("upgrade: ") {
                let protocol = if request.contains("upgrade: websocket") { "websocket" } else { "custom/1" };
                write!(
                    stream,
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n"
                )
                .unwrap();
                let mut byte = [0; 4];
                reader.read_exact(&mut byte).unwrap();
                stream.write_all(&byte).unwrap();
                answered += 1;
                if answered == 2 {
                    return;
                }
            } else {
                assert!(!request.contains("http2-settings"));
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
            }
        }
    });
    let mut browser = gateway.browser();
    assert_eq!(browser.go("/in").status, 200);
    let cookie = browser.cookie_header(&base);
    assert!(
        head(&mut BufReader::new(upgrade("/in/ws", "websocket", &cookie, "http://evil.test")))
            .starts_with("HTTP/1.1 403"),
        "wx_02"
    );
    assert!(
        head(&mut BufReader::new(upgrade("/in/x", "h2c", &cookie, &base))).starts_with("HTTP/1.1 200"),
        "h2c is ignored"
    );
    for protocol in ["websocket", "custom/1"] {
        let mut client = upgrade("/in/ws", protocol, &cookie, &base);
        let mut reader = BufReader::new(client.try_clone().unwrap());
        let answer = head(&mut reader);
        assert!(
            answer.starts_with("HTTP/1.1 101") && answer.to_lowercase().contains(&format!("upgrade: {protocol}")),
            "{answer}"
        );
        client.write_all(b"ping").unwrap();
        let mut echo = [0; 4];
        reader.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"ping");
    }
    accept.join().unwrap();
}

#[test]
fn ox_02_a_sign_out_ends_the_streams_of_the_session() {
    let (_provider, listener, gateway) = public("");
    let accept = std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let events = head(&mut BufReader::new(stream.try_clone().unwrap())).starts_with("GET /in/events");
            if events {
                stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n").unwrap();
                return stream;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        }
        panic!("nobody asked for events");
    });
    let mut browser = gateway.browser();
    browser.go("/in");
    let mut client = connect(&gateway);
    let cookies = browser.cookie_header(&gateway.base);
    write!(client, "GET /in/events HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nCookie: {cookies}\r\n\r\n", gateway.port).unwrap();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    assert!(head(&mut reader).starts_with("HTTP/1.1 200"));
    let _upstream = accept.join().unwrap();
    browser.send("GET", "/oauth2/sign_out", &[NAVIGATE[0], ("Sec-Fetch-Site", "same-origin")], b"");
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).expect("the stream outlived its session");
    assert_eq!(rest, b"3\r\none\r\n", "cut, and not ended as if it were whole");
}

#[test]
fn wx_07_a_tunnel_counts_as_the_connection_that_it_was() {
    let (_provider, listener, gateway) = public("");
    let before = gateway.metric("doorward_connections");
    let mut client = connect(&gateway);
    let host = format!("127.0.0.1:{}", gateway.port);
    write!(client, "GET /x HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").unwrap();
    let (mut upstream, _) = listener.accept().unwrap();
    head(&mut BufReader::new(upstream.try_clone().unwrap()));
    upstream
        .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhi")
        .unwrap();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    assert!(head(&mut reader).starts_with("HTTP/1.1 101"));
    reader.read_exact(&mut [0; 2]).unwrap();
    assert!(gateway.metric("doorward_connections") > before);
    drop((client, reader, upstream));
    eventually("the tunnel's end", || gateway.metric("doorward_connections") <= before);
}

#[test]
fn fx_12_a_client_that_reads_nothing_is_let_go() {
    let provider = Provider::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let routes = format!(
        "[[route]]\npath = \"/\"\nupstream = \"http://{}\"\naccess = \"public\"\n",
        listener.local_addr().unwrap()
    );
    let env = vec![("DOORWARD_SERVER__LIMITS__IDLE_TIMEOUT".into(), "600ms".into())];
    let gateway =
        Gateway::with(provider.issuer(), &Upstream::start(), Extra { routes: Some(routes), env, ..Extra::default() });
    let mut client = connect(&gateway);
    write!(client, "GET /x HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", gateway.port).unwrap();
    let (mut upstream, _) = listener.accept().unwrap();
    upstream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    head(&mut BufReader::new(upstream.try_clone().unwrap()));
    upstream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").unwrap();
    let broken = loop {
        if let Err(error) = upstream.write_all(&[b'x'; 65_536]) {
            break error.kind();
        }
    };
    assert!(!matches!(broken, std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "still held: {broken}");
}

#[test]
fn a_drain_finishes_what_is_under_way_and_ends_with_status_0() {
    let (_provider, listener, mut gateway) = public("");
    let mut client = connect(&gateway);
    write!(client, "GET /x HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", gateway.port).unwrap();
    let (mut upstream, _) = listener.accept().unwrap();
    head(&mut BufReader::new(upstream.try_clone().unwrap()));
    upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nfir").unwrap();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    head(&mut reader);
    gateway.signal("TERM");
    eventually("the drain", || gateway.admin("/readyz").status == 503);
    upstream.write_all(b"st\n").unwrap();
    let mut body = [0; 6];
    reader.read_exact(&mut body).unwrap();
    assert_eq!(&body, b"first\n");
    assert_eq!(gateway.ended().code(), Some(0));
}

#[test]
fn slow_heads_and_idle_connections_are_closed_each_by_its_own_limit() {
    let provider = Provider::start();
    let extra = Extra {
        env: vec![
            ("DOORWARD_SERVER__LIMITS__HEADER_TIMEOUT".into(), "300ms".into()),
            ("DOORWARD_SERVER__LIMITS__IDLE_TIMEOUT".into(), "600ms".into()),
        ],
        ..Extra::default()
    };
    let gateway = Gateway::with(provider.issuer(), &Upstream::start(), extra);
    let mut slow = connect(&gateway);
    slow.write_all(b"GET / HT").unwrap();
    let mut rest = Vec::new();
    assert_eq!(slow.read_to_end(&mut rest).unwrap_or(0), 0, "fx_12 a head that never ends");
    let mut idle = connect(&gateway);
    write!(idle, "GET /ping HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", gateway.port).unwrap();
    rest.clear();
    idle.read_to_end(&mut rest).unwrap();
    assert!(rest.starts_with(b"HTTP/1.1 200"), "answered, then closed for idleness");
    let mut form = connect(&gateway);
    let host = format!("127.0.0.1:{}", gateway.port);
    write!(form, "POST /oauth2/sign_out HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9\r\n\r\nrd=").unwrap();
    rest.clear();
    let _ = form.read_to_end(&mut rest);
    assert!(rest.starts_with(b"HTTP/1.1 408"), "fx_12 a form that never ends: {}", String::from_utf8_lossy(&rest));
}

#[test]
fn trusted_proxies_speak_for_the_client_and_nobody_else_does() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let routes = "[[route]]\npath = \"/\"\nupstream = \"UPSTREAM\"\naccess = \"public\"\n";
    let ask = |server: &str| {
        upstream.clear();
        let extra = Extra { server: server.into(), routes: Some(routes.into()), ..Extra::default() };
        let gateway = Gateway::with(provider.issuer(), &upstream, extra);
        let headers = [
            ("X-Forwarded-For", "192.0.2.7"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "app.example.test"),
        ];
        assert_eq!(gateway.browser().send("GET", "/x", &headers, b"").status, 200);
        let seen = upstream.last();
        (
            seen.all("x-forwarded-for").join("|"),
            seen.all("x-forwarded-proto").join("|"),
            seen.all("x-forwarded-host").join("|"),
            gateway.port,
        )
    };
    let (for_, proto, host, port) = ask("");
    assert_eq!((for_.as_str(), proto.as_str(), host), ("127.0.0.1", "http", format!("127.0.0.1:{port}")), "w_01");
    let (for_, proto, host, _) = ask("trusted_proxies = [\"127.0.0.0/8\"]");
    assert_eq!(
        (for_.as_str(), proto.as_str(), host.as_str()),
        ("192.0.2.7, 127.0.0.1", "https", "app.example.test"),
        "w_03"
    );
}

#[test]
fn px_25_a_path_that_does_not_fit_upstream_is_refused_and_not_replaced() {
    let upstream = Upstream::start();
    let provider = Provider::start();
    let routes = "[[route]]\npath = \"/public\"\nupstream = \"UPSTREAM\"\naccess = \"public\"\n\
                  [[route]]\npath = \"/\"\nupstream = \"UPSTREAM\"\naccess = \"authenticated\"\n";
    let extra = Extra { routes: Some(routes.into()), ..Extra::default() };
    let gateway = Gateway::with(provider.issuer(), &upstream, extra);
    // Each bracket becomes three characters.
    let answer = gateway.browser().send("GET", &format!("/public/{}", "[".repeat(30_000)), &[], b"");
    assert_eq!(answer.status, 414);
    assert!(upstream.seen().is_empty(), "asked for {}", upstream.last().target);
}

#[test]
fn px_25_parameters_of_a_stripped_segment_do_not_keep_it() {
    let upstream = Upstream::start();
    let provider = Provider::start();
    let routes = "[[route]]\npath = \"/app\"\nstrip_prefix = \"/app\"\nupstream = \"UPSTREAM\"\naccess = \"public\"\n";
    let extra = Extra { routes: Some(routes.into()), ..Extra::default() };
    let gateway = Gateway::with(provider.issuer(), &upstream, extra);
    for (asked, want) in [("/app;x/y?q", "/y?q"), ("/app", "/"), ("/app;x", "/"), ("/%61pp/z;v", "/z;v")] {
        assert_eq!(gateway.browser().send("GET", asked, &[], b"").status, 200, "{asked}");
        assert_eq!(upstream.last().target, want, "{asked}");
    }
}

#[test]
fn px_16_m_22_the_host_that_decided_is_the_host_that_goes_on() {
    let upstream = Upstream::start();
    let provider = Provider::start();
    let routes = "[[route]]\nhost = \"app.test\"\npath = \"/\"\nupstream = \"UPSTREAM\"\naccess = \"public\"\n";
    let extra = Extra { routes: Some(routes.into()), ..Extra::default() };
    let gateway = Gateway::with(provider.issuer(), &upstream, extra);
    for (sent, want) in [
        ("app.test", "app.test"),
        ("APP.test.", "app.test"),
        ("app.test:80", "app.test:80"),
        ("App.Test.:0080", "app.test:80"),
    ] {
        assert_eq!(gateway.browser().send("GET", "/", &[("Host", sent)], b"").status, 200, "{sent}");
        assert_eq!(upstream.last().all("host"), [want], "{sent}");
    }
}
