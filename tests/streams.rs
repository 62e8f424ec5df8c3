//! How what outlives its request ends with the session. Rows OX-02, WX-04.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use doorward::demo::provider::{Options, SigningAlg};
use support::browser::NAVIGATE;
use support::gateway::Extra;
use support::{Browser, Gateway, Provider, Upstream, eventually, stores};

/// What the contract gives a tunnel after its session's end; every read waits so long at the most.
const PROMISED: Duration = Duration::from_secs(2);

struct World {
    provider: Provider,
    gateway: Gateway,
    /// The upstream, which speaks WebSocket to whoever asks, begins an answer without an end at `/events`, and answers
    /// 200 to everybody else.
    sockets: std::sync::mpsc::Receiver<TcpStream>,
}

impl World {
    fn new(options: Options) -> Self {
        Self::with(options, "")
    }

    fn with(options: Options, session: &str) -> Self {
        let provider = Provider::with(options);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let routes = format!(
            "[[route]]\npath = \"/\"\nupstream = \"http://{}\"\naccess = \"authenticated\"\n",
            listener.local_addr().unwrap()
        );
        let (accepted, sockets) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let head = head(&mut stream).to_lowercase();
                let kept: Option<&[u8]> = if head.contains("upgrade: websocket") {
                    Some(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n\r\n")
                } else if head.starts_with("get /events") {
                    Some(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
                } else {
                    None
                };
                if let Some(begin) = kept {
                    stream.write_all(begin).unwrap();
                    stream.set_read_timeout(Some(PROMISED)).unwrap();
                    accepted.send(stream).unwrap();
                } else {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                }
            }
        });
        let extra = Extra { routes: Some(routes), session: session.into(), ..Extra::default() };
        let gateway = Gateway::with(provider.issuer(), &Upstream::start(), extra);
        Self { provider, gateway, sockets }
    }

    /// A WebSocket of this browser: the client's end and the upstream's.
    fn socket(&self, browser: &Browser) -> (TcpStream, TcpStream) {
        let mut client = TcpStream::connect(("127.0.0.1", self.gateway.port)).unwrap();
        client.set_read_timeout(Some(PROMISED)).unwrap();
        write!(
            client,
            "GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nCookie: {}\r\n\r\n",
            self.gateway.port,
            browser.cookie_header(&self.gateway.base)
        )
        .unwrap();
        assert!(head(&mut client).starts_with("HTTP/1.1 101"));
        (client, self.sockets.recv().unwrap())
    }

    /// An answer of this browser that goes on: the client's end and the upstream's.
    fn stream(&self, browser: &Browser) -> (TcpStream, TcpStream) {
        let mut client = TcpStream::connect(("127.0.0.1", self.gateway.port)).unwrap();
        client.set_read_timeout(Some(PROMISED)).unwrap();
        let (port, cookie) = (self.gateway.port, browser.cookie_header(&self.gateway.base));
        write!(client, "GET /events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: {cookie}\r\n\r\n").unwrap();
        assert!(head(&mut client).starts_with("HTTP/1.1 200"));
        reads(&mut client, b"5\r\nhello\r\n");
        (client, self.sockets.recv().unwrap())
    }
}

/// Cut short: it ends, in the promised time, and not as a whole answer does.
fn breaks_off(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let ended = match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    };
    assert!(ended && rest.is_empty(), "{rest:?}");
}

fn sign_out(browser: &mut Browser) {
    browser.send("GET", "/oauth2/sign_out", &[NAVIGATE[0], ("Sec-Fetch-Site", "same-origin")], b"");
}

/// A head, and not a byte of what comes behind it.
fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn reads(stream: &mut TcpStream, want: &[u8]) {
    let mut have = vec![0; want.len()];
    stream.read_exact(&mut have).expect("in the promised time");
    assert!(have == want, "{:?}", have.get(..40).unwrap_or(&have));
}

/// The upstream is told as a server must be: by a masked frame.
fn reads_masked_close(stream: &mut TcpStream) {
    let mut frame = [0; 21];
    stream.read_exact(&mut frame).expect("in the promised time");
    assert_eq!(frame[..2], [0x88, 0x8f]);
    let payload: Vec<u8> = frame[6..].iter().zip(frame[2..6].iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    assert_eq!(payload, CLOSE[2..]);
}

fn ends(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    assert!(stream.read_to_end(&mut rest).is_ok() && rest.is_empty(), "{rest:?}");
}

const CLOSE: &[u8] = b"\x88\x0f\x03\xf0session ended";
const HELLO: &[u8] = b"\x81\x85\0\0\0\0hello";

fn options() -> Options {
    Options { alg: SigningAlg::Es256, ..Options::default() }
}

#[test]
fn ox_02_a_sign_out_closes_the_websockets_of_the_session_and_no_other() {
    let world = World::new(options());
    let (mut browser, another) = (world.gateway.signed_in(), world.gateway.signed_in());
    let ((mut client, mut upstream), (mut stays, mut beside)) = (world.socket(&browser), world.socket(&another));
    client.write_all(HELLO).unwrap();
    reads(&mut upstream, HELLO);

    sign_out(&mut browser);
    reads(&mut client, CLOSE);
    reads_masked_close(&mut upstream);
    // As a browser and a server do it: what they have been told they say back.
    client.write_all(b"\x88\x82\0\0\0\0\x03\xf0").unwrap();
    upstream.write_all(b"\x88\x02\x03\xf0").unwrap();
    ends(&mut client);
    ends(&mut upstream);

    stays.write_all(HELLO).unwrap();
    reads(&mut beside, HELLO);
}

#[test]
fn ox_02_bl_04_whatever_ends_a_session_closes_its_websockets_and_streams() {
    type End = fn(&World, &mut Browser);
    let by_provider: End = |world, _| {
        let token = world.provider.demo.control().logout_token(Some("alice"), None, None).unwrap();
        assert_eq!(world.gateway.backchannel_logout(&token).status, 200);
    };
    let by_operator: End = |world, _| {
        let list = world.gateway.admin("/sessions?user=alice").json();
        for session in list.as_array().unwrap() {
            let path = format!("/sessions/{}", session["id"].as_str().unwrap());
            assert_eq!(world.gateway.admin_send("DELETE", &path, &[]).status, 204);
        }
    };
    let everywhere: End = |world, browser| {
        let origin = world.gateway.base.clone();
        let answer = browser.send("POST", "/oauth2/sign_out", &[("Origin", &origin)], b"everywhere=1");
        assert_eq!(answer.status, 303);
    };
    for store in stores() {
        let world = World::with(options(), store);
        for end in [by_provider, by_operator, everywhere] {
            let (mut here, there) = (world.gateway.signed_in(), world.gateway.signed_in());
            let ((mut socket, _upstream), (mut events, _source)) = (world.socket(&there), world.stream(&there));
            socket.write_all(HELLO).unwrap();
            end(&world, &mut here);
            reads(&mut socket, CLOSE);
            breaks_off(&mut events);
        }
    }
}

#[test]
fn ox_02_a_close_frame_waits_for_the_end_of_a_large_frame() {
    const MEBIBYTE: usize = 1 << 20;
    let world = World::new(options());
    let mut browser = world.gateway.signed_in();
    let (mut client, mut upstream) = world.socket(&browser);
    upstream.write_all(b"\x82\x7f\0\0\0\0\0\x10\0\0").unwrap();
    upstream.write_all(&[0x88; 1000]).unwrap();
    reads(&mut client, b"\x82\x7f\0\0\0\0\0\x10\0\0");
    reads(&mut client, &[0x88; 1000]);

    sign_out(&mut browser);
    let sending = std::thread::spawn(move || {
        reads_masked_close(&mut upstream);
        upstream.write_all(&[0x88; MEBIBYTE - 1000]).unwrap();
        // Neither this frame nor anything else that comes from now on.
        let _ = upstream.write_all(b"\x81\x02no");
        let _ = upstream.write_all(b"\x88\x02\x03\xf0");
        ends(&mut upstream);
    });
    reads(&mut client, &[0x88; MEBIBYTE - 1000]);
    reads(&mut client, CLOSE);
    ends(&mut client);
    sending.join().unwrap();
}

#[test]
fn ox_02_a_frame_that_never_ends_holds_no_websocket_open() {
    let world = World::new(options());
    let mut browser = world.gateway.signed_in();
    let (mut client, mut upstream) = world.socket(&browser);
    upstream.write_all(b"\x82\x7ehalf").unwrap();
    reads(&mut client, b"\x82\x7ehalf");
    sign_out(&mut browser);
    reads_masked_close(&mut upstream);
    client.set_read_timeout(Some(2 * PROMISED)).unwrap();
    ends(&mut client);
    ends(&mut upstream);
}

#[test]
fn wx_04_ox_02_a_refresh_closes_no_websocket_and_a_sign_out_after_it_does() {
    let world = World::new(Options { access_token_ttl: Duration::from_secs(2), ..options() });
    let mut browser = world.gateway.signed_in();
    let (mut client, mut upstream) = world.socket(&browser);
    eventually("a refresh", || {
        assert_eq!(browser.fetch("/").status, 200);
        world.provider.demo.stats().refresh_grants.ok > 0
    });
    client.write_all(HELLO).unwrap();
    reads(&mut upstream, HELLO);
    upstream.write_all(b"\x81\x02yo").unwrap();
    reads(&mut client, b"\x81\x02yo");

    sign_out(&mut browser);
    reads(&mut client, CLOSE);
    reads_masked_close(&mut upstream);
}

#[test]
fn wx_05_a_token_among_the_subprotocols_is_nobody_and_is_not_logged() {
    let world = World::new(options());
    let ask = |cookie: &str| {
        let mut client = TcpStream::connect(("127.0.0.1", world.gateway.port)).unwrap();
        client.set_read_timeout(Some(PROMISED)).unwrap();
        write!(
            client,
            "GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Protocol: bearer, a-very-secret-token\r\n{cookie}\r\n",
            world.gateway.port
        )
        .unwrap();
        head(&mut client)
    };
    assert!(ask("").starts_with("HTTP/1.1 401"));
    let cookie = format!("Cookie: {}\r\n", world.gateway.signed_in().cookie_header(&world.gateway.base));
    assert!(ask(&cookie).starts_with("HTTP/1.1 101"), "it is the application's to read");
    eventually("the access lines", || world.gateway.log().matches("\"path\":\"/ws\"").count() == 2);
    assert!(!world.gateway.log().contains("very-secret"), "{}", world.gateway.log());
}

#[test]
fn wx_07_a_websocket_in_which_nobody_says_anything_is_closed() {
    let provider = Provider::with(options());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let routes = format!(
        "[[route]]\npath = \"/\"\nupstream = \"http://{}\"\naccess = \"public\"\n",
        listener.local_addr().unwrap()
    );
    let env = vec![("DOORWARD_SERVER__LIMITS__WEBSOCKET_IDLE_TIMEOUT".into(), "800ms".into())];
    let extra = Extra { routes: Some(routes), env, ..Extra::default() };
    let gateway = Gateway::with(provider.issuer(), &Upstream::start(), extra);
    let mut client = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let host = format!("127.0.0.1:{}", gateway.port);
    write!(client, "GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").unwrap();
    let (mut upstream, _) = listener.accept().unwrap();
    head(&mut upstream);
    upstream
        .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n\r\n")
        .unwrap();
    assert!(head(&mut client).starts_with("HTTP/1.1 101"));
    reads(&mut client, b"\x88\x13\x03\xe9idle for too long");
    ends(&mut client);
}

#[test]
fn a_shutdown_says_that_it_is_one() {
    let world = World::new(options());
    let (mut client, mut upstream) = world.socket(&world.gateway.signed_in());
    world.gateway.signal("TERM");
    reads(&mut client, b"\x88\x0f\x03\xe9shutting down");
    drop(client);
    upstream.read_exact(&mut [0; 21]).unwrap();
    ends(&mut upstream);
}
