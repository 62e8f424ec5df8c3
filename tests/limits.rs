//! What a client may take, and what it gets beyond it: bodies, heads, requests, connections, files. Rows FX-, H-15, WX-07.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use support::browser::{Answer, read};
use support::gateway::Extra;
use support::{Gateway, Provider, Upstream, eventually};

struct World {
    gateway: Gateway,
    listener: TcpListener,
    _provider: Provider,
}

impl World {
    /// A gateway with these keys of `[server.limits]`, whose `/` is public and whose upstream is the test's own listener.
    fn new(limits: &[(&str, &str)]) -> Self {
        Self::with(limits, Extra::default())
    }

    fn with(limits: &[(&str, &str)], mut extra: Extra) -> Self {
        let (provider, listener) = (Provider::start(), TcpListener::bind("127.0.0.1:0").unwrap());
        let upstream = listener.local_addr().unwrap();
        extra.routes =
            Some(format!("[[route]]\npath = \"/\"\nupstream = \"http://{upstream}\"\naccess = \"public\"\n"));
        extra.env.extend(
            limits.iter().map(|(name, value)| (format!("DOORWARD_SERVER__LIMITS__{name}"), (*value).to_owned())),
        );
        let gateway = Gateway::with(provider.issuer(), &Upstream::start(), extra);
        Self { gateway, listener, _provider: provider }
    }

    fn connect(&self) -> TcpStream {
        patient(TcpStream::connect(("127.0.0.1", self.gateway.port)).unwrap())
    }

    /// Connected, and so much sent; `HOST` stands for the gateway's.
    fn send(&self, bytes: &str) -> TcpStream {
        let mut client = self.connect();
        client.write_all(bytes.replace("HOST", &format!("127.0.0.1:{}", self.gateway.port)).as_bytes()).unwrap();
        client
    }

    /// The next connection to the upstream and the head of its request.
    fn accept(&self) -> (BufReader<TcpStream>, String) {
        let (stream, _) = self.listener.accept().unwrap();
        let mut stream = BufReader::new(patient(stream));
        let head = head(&mut stream);
        (stream, head)
    }

    fn refused(&self, reason: &str) -> f64 {
        self.gateway.metric(&format!("doorward_refused_total{{reason=\"{reason}\"}}"))
    }

    fn ping(&self) -> Option<Answer> {
        answer(self.send("GET /ping HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n"))
    }
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn head(stream: &mut impl std::io::BufRead) -> String {
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut text).unwrap() > 0, "closed within a head: {text}");
    }
    text
}

fn answer(stream: TcpStream) -> Option<Answer> {
    read(&mut BufReader::new(stream), "GET")
}

/// It ends without another byte, and at once.
fn is_closed(mut stream: impl std::io::Read) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

#[test]
fn fx_12_h_15_a_client_that_stops_within_its_body_is_408_and_its_upstream_is_let_go() {
    let world = World::new(&[("BODY_TIMEOUT", "300ms")]);
    let client = world.send("POST /x HTTP/1.1\r\nHost: HOST\r\nContent-Length: 10\r\n\r\nabc");
    let (mut upstream, _) = world.accept();
    upstream.read_exact(&mut [0; 3]).unwrap();
    let said = answer(client.try_clone().unwrap()).unwrap();
    assert_eq!((said.status, said.header("connection")), (408, Some("close")));
    assert!(is_closed(client), "what comes next could be taken for the rest of the body");
    assert!(is_closed(upstream), "the upstream goes on waiting");
    assert_eq!(world.refused("body_timeout"), 1.0);

    // The upstream's own slowness is not the client's.
    let client = world.send("POST /x HTTP/1.1\r\nHost: HOST\r\nContent-Length: 3\r\n\r\nabc");
    let (mut upstream, _) = world.accept();
    upstream.read_exact(&mut [0; 3]).unwrap();
    // As long as another client takes to be told off.
    assert_eq!(
        answer(world.send("POST /oauth2/sign_out HTTP/1.1\r\nHost: HOST\r\nContent-Length: 9\r\n\r\nrd="))
            .unwrap()
            .status,
        408
    );
    upstream.get_mut().write_all(OK).unwrap();
    assert_eq!(answer(client).unwrap().status, 200);
}

#[test]
fn h_15_a_body_larger_than_it_may_be_is_413_whatever_it_says_of_itself() {
    let world = World::new(&[("BODY_BYTES", "1KiB")]);
    let said = answer(world.send("POST /x HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1025\r\n\r\nabc")).unwrap();
    assert_eq!(said.status, 413);
    // Nobody was asked: the next connection to the upstream is that of the next request.
    let body = "x".repeat(1024);
    let client = world.send(&format!("POST /whole HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1024\r\n\r\n{body}"));
    let (mut upstream, asked) = world.accept();
    assert!(asked.starts_with("POST /whole "), "{asked}");
    upstream.read_exact(&mut [0; 1024]).unwrap();
    upstream.get_mut().write_all(OK).unwrap();
    assert_eq!(answer(client).unwrap().status, 200);

    let chunked = "POST /chunked HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = world.send(&format!("{chunked}400\r\n{body}\r\n"));
    let (mut upstream, _) = world.accept();
    let mut came = String::new();
    upstream.read_line(&mut came).unwrap();
    assert_eq!(came, "400\r\n");
    client.write_all(b"1\r\nx\r\n0\r\n\r\n").unwrap();
    assert_eq!(answer(client).unwrap().status, 413);
    let mut rest = Vec::new();
    let _ = upstream.read_to_end(&mut rest);
    assert!(!rest.ends_with(b"0\r\n\r\n"), "the upstream took a part for the whole");
    assert_eq!(world.refused("body"), 2.0);

    // An answer that has begun is cut.
    let mut client = world.send(&format!("{chunked}400\r\n{body}\r\n"));
    let (mut upstream, _) = world.accept();
    upstream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun").unwrap();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    assert!(head(&mut reader).starts_with("HTTP/1.1 200"));
    client.write_all(b"1\r\nx\r\n0\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    let _ = reader.read_to_end(&mut rest);
    assert_eq!(rest, b"begun");
}

#[test]
fn m_11_fx_15_h_15_more_header_fields_than_allowed_are_431() {
    let world = World::new(&[("HEADERS", "20")]);
    let fields = |n: usize| "Cookie: a=1\r\n".repeat(n - 2);
    let ask =
        |n| answer(world.send(&format!("GET /ping HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n{}\r\n", fields(n))));
    assert_eq!(ask(20).unwrap().status, 200);
    assert_eq!(ask(21).unwrap().status, 431);
    assert_eq!(ask(101).unwrap().status, 431, "by hyper");
    eventually("both are counted", || world.refused("headers") >= 2.0);
}

#[test]
fn h_15_more_requests_than_allowed_are_503_at_once_and_the_operator_is_told() {
    let world = World::new(&[("REQUESTS", "2")]);
    let busy: Vec<_> = (0..2)
        .map(|_| {
            let client = world.send("GET /slow HTTP/1.1\r\nHost: HOST\r\n\r\n");
            (client, world.accept().0)
        })
        .collect();
    let mut keeps = world.send("GET /x HTTP/1.1\r\nHost: HOST\r\n\r\n");
    let mut reader = BufReader::new(keeps.try_clone().unwrap());
    let said = read(&mut reader, "GET").unwrap();
    assert_eq!((said.status, said.header("retry-after")), (503, Some("1")));
    assert_eq!(said.header("cache-control"), Some("no-store"));
    assert_eq!(world.refused("requests"), 1.0);
    assert!(world.gateway.log().contains("server.limits.requests"), "{}", world.gateway.log());
    assert_eq!(world.gateway.admin("/readyz").status, 200, "the admin listener is not in the crowd");
    for (client, mut upstream) in busy {
        upstream.get_mut().write_all(OK).unwrap();
        assert_eq!(answer(client).unwrap().status, 200);
    }
    // The connection goes on, and there is room again.
    write!(keeps, "GET /ping HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", world.gateway.port).unwrap();
    assert_eq!(read(&mut reader, "GET").unwrap().status, 200);
}

#[test]
fn h_15_more_connections_than_allowed_are_503_and_those_of_operators_are_not_counted() {
    let world = World::new(&[("CONNECTIONS", "3")]);
    let held: Vec<_> = (0..3).map(|_| world.connect()).collect();
    eventually("all are open", || world.gateway.metric("doorward_connections") == 3.0);
    let said = answer(world.connect()).unwrap();
    assert_eq!((said.status, said.header("retry-after")), (503, Some("1")));
    assert_eq!(world.refused("connections"), 1.0);
    drop(held);
    eventually("there is room again", || world.ping().is_some_and(|said| said.status == 200));
}

#[test]
fn fx_12_one_address_has_so_many_connections_and_others_have_theirs() {
    let world = World::new(&[("CONNECTIONS_PER_ADDRESS", "2")]);
    let mut held: Vec<_> = (0..2).map(|_| world.connect()).collect();
    eventually("both are open", || world.gateway.metric("doorward_connections") == 2.0);
    assert!(is_closed(world.connect()));
    assert_eq!(world.refused("address"), 1.0);
    let other = || {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
        socket.connect(&std::net::SocketAddr::from(([127, 0, 0, 1], world.gateway.port)).into()).unwrap();
        patient(socket.into())
    };
    let mut client = other();
    write!(client, "GET /ping HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", world.gateway.port).unwrap();
    assert_eq!(answer(client).unwrap().status, 200);
    held.pop();
    eventually("there is room again", || world.ping().is_some_and(|said| said.status == 200));

    let server = "trusted_proxies = [\"127.0.0.1\"]".to_owned();
    let world = World::with(&[("CONNECTIONS_PER_ADDRESS", "2")], Extra { server, ..Extra::default() });
    let _held: Vec<_> = (0..4).map(|_| world.connect()).collect();
    assert_eq!(world.ping().unwrap().status, 200, "a proxy brings everybody");
}

#[test]
fn fx_21_it_takes_no_more_connections_than_it_has_files_for() {
    let world = World::with(&[], Extra { files: Some(256), ..Extra::default() });
    assert!(world.gateway.log().contains("open files"), "said at the start: {}", world.gateway.log());
    let held: Vec<_> = (0..400).map(|_| world.connect()).collect();
    // Each is taken, or told so: none waits for a place.
    eventually("all have come", || {
        world.gateway.metric("doorward_connections") + world.refused("connections") >= 400.0
    });
    let told = held.iter().filter(|client| {
        client.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let mut head = [0; 12];
        matches!((&**client).read(&mut head), Ok(12)) && &head == b"HTTP/1.1 503"
    });
    assert!(told.count() >= 300);
    assert_eq!(world.gateway.admin("/livez").status, 200);
    assert_eq!(world.refused("files"), 0.0);
    drop(held);
    eventually("there is room again", || world.ping().is_some_and(|said| said.status == 200));
}

#[test]
fn fx_21_without_open_files_it_waits_and_recovers() {
    let world = World::new(&[]);
    let allow = |files: &str| {
        let pid = world.gateway.pid().to_string();
        let set = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={files}:")]).status().unwrap();
        assert!(set.success());
    };
    allow("16");
    let waits = world.send("GET /ping HTTP/1.1\r\nHost: HOST\r\n\r\n");
    eventually("it runs out", || world.gateway.log().contains("open files of the process"));
    let spent = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", world.gateway.pid())).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>()
    };
    // A loop that spins takes a core, hundredth by hundredth of a second.
    let (begun, before) = (Instant::now(), spent());
    eventually("ten pauses", || begun.elapsed() > Duration::from_millis(500));
    let (took, spent) = (begun.elapsed(), spent() - before);
    assert!(u128::from(spent) * 10 < took.as_millis() / 2, "{spent} hundredths in {took:?}");
    allow("1024");
    assert_eq!(answer(waits).unwrap().status, 200, "who waited is served");
    assert!(world.refused("files") > 1.0);
}

/// Kibibytes of memory that the gateway holds.
fn resident(world: &World) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Writes for as long as somebody takes it: how many bytes of `most` that were.
fn pour(stream: &mut TcpStream, most: usize) -> usize {
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let piece = [b'x'; 65_536];
    let mut poured = 0;
    while poured < most {
        match stream.write(&piece[..piece.len().min(most - poured)]) {
            Ok(written) => poured += written,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("{error}"),
        }
    }
    poured
}

#[test]
fn fx_20_what_one_side_does_not_take_is_not_kept_for_it() {
    const HUGE: usize = 512 << 20;
    let world = World::new(&[]);
    let client = world.send("GET /download HTTP/1.1\r\nHost: HOST\r\n\r\n");
    let (mut upstream, _) = world.accept();
    let before = resident(&world);
    write!(upstream.get_mut(), "HTTP/1.1 200 OK\r\nContent-Length: {HUGE}\r\n\r\n").unwrap();
    let poured = pour(upstream.get_mut(), HUGE);
    assert!(poured < HUGE / 8, "{poured} bytes found room somewhere");
    assert!(resident(&world) < before + 16_384, "{before} KiB before, {} after", resident(&world));
    // It goes on where it stopped.
    let mut reader = BufReader::new(client.try_clone().unwrap());
    head(&mut reader);
    let mut took = vec![0; 8 << 20];
    reader.read_exact(&mut took).unwrap();
    assert!(pour(upstream.get_mut(), 1 << 20) == 1 << 20 && took.iter().all(|byte| *byte == b'x'));
    drop((client.shutdown(std::net::Shutdown::Both), upstream));

    let mut client = world.send(&format!("POST /upload HTTP/1.1\r\nHost: HOST\r\nContent-Length: {HUGE}\r\n\r\n"));
    let (mut upstream, _) = world.accept();
    let before = resident(&world);
    let poured = pour(&mut client, HUGE);
    assert!(poured < HUGE / 8, "{poured} bytes found room somewhere");
    assert!(resident(&world) < before + 16_384, "{before} KiB before, {} after", resident(&world));
    upstream.read_exact(&mut took).unwrap();
    assert_eq!(pour(&mut client, 1 << 20), 1 << 20);
}

#[test]
fn fx_12_whoever_is_slow_is_let_go_by_its_own_limit_and_others_are_served_meanwhile() {
    let limits = [
        ("HEADER_TIMEOUT", "1s"),
        ("BODY_TIMEOUT", "1s"),
        ("IDLE_TIMEOUT", "2s"),
        ("WEBSOCKET_IDLE_TIMEOUT", "2s"),
        ("HANDSHAKE_TIMEOUT", "1s"),
    ];
    let world = World::new(&limits);
    let listener = world.listener.try_clone().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let asked = head(&mut BufReader::new(stream.try_clone().unwrap())).to_lowercase();
                if asked.contains("upgrade: websocket") {
                    stream
                        .write_all(
                            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
                        )
                        .unwrap();
                    let _ = stream.read_to_end(&mut Vec::new());
                } else if asked.starts_with("get /large") {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n");
                    while stream.write_all(&[b'x'; 65_536]).is_ok() {}
                } else if asked.starts_with("post") {
                    let _ = stream.read_to_end(&mut Vec::new());
                } else {
                    let _ = stream.write_all(OK);
                }
            });
        }
    });
    let kinds = [
        "GET / HTTP/1.1\r\nHost: HOST\r\nX-Slow: ",
        "",
        "POST /x HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1000\r\n\r\nabc",
        "POST /oauth2/sign_out HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1000\r\n\r\nabc",
        "GET /large HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "GET /ping HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ];
    let held: Vec<_> = kinds.iter().flat_map(|bytes| (0..20).map(|_| world.send(bytes))).collect();
    eventually("all have come", || world.gateway.metric("doorward_connections") >= held.len() as f64);
    let mut served = 0;
    eventually("all are let go", || {
        let said = answer(world.send("GET /x HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n")).unwrap();
        assert_eq!(said.status, 200, "somebody who is not slow");
        served += 1;
        world.gateway.metric("doorward_connections") <= 1.0
    });
    assert!(served > 0);
    drop(held);
}

/// Longer than a connection takes to rest: until one that began a head at this moment is cut off.
fn rested(world: &World) {
    assert!(is_closed(world.send("GET / HT")));
}

#[test]
fn a_connection_that_rested_serves_on() {
    let world = World::new(&[("HEADER_TIMEOUT", "400ms")]);
    let mut client = world.connect();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let ping = format!("GET /ping HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", world.gateway.port);
    for _ in 0..2 {
        rested(&world);
        // Two at once, and then one in pieces.
        client.write_all(ping.repeat(2).as_bytes()).unwrap();
        (0..2).for_each(|_| assert_eq!(read(&mut reader, "GET").unwrap().status, 200));
        rested(&world);
        let (first, rest) = ping.split_at(9);
        client.write_all(first.as_bytes()).unwrap();
        client.write_all(rest.as_bytes()).unwrap();
        assert_eq!(read(&mut reader, "GET").unwrap().status, 200);
    }
    rested(&world);
    let upgrade =
        ping.replace("ping", "ws").replace("\r\n\r\n", "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    client.write_all(upgrade.as_bytes()).unwrap();
    let (mut upstream, _) = world.accept();
    let switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhi";
    upstream.get_mut().write_all(switched).unwrap();
    assert!(head(&mut reader).starts_with("HTTP/1.1 101"));
    reader.read_exact(&mut [0; 2]).unwrap();
}

#[test]
fn m_13_what_is_left_of_a_body_is_no_request_however_long_it_takes() {
    let world = World::new(&[("HEADER_TIMEOUT", "400ms")]);
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let length = 3 + smuggled.len();
    let mut client = world.send(&format!("POST /x HTTP/1.1\r\nHost: HOST\r\nContent-Length: {length}\r\n\r\nabc"));
    let (mut upstream, _) = world.accept();
    // An answer to less than the whole.
    upstream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    assert_eq!(read(&mut reader, "POST").unwrap().status, 200);
    rested(&world);
    let _ = client.write_all(smuggled.as_bytes());
    let _ = client.shutdown(std::net::Shutdown::Write);
    let mut rest = Vec::new();
    let _ = reader.read_to_end(&mut rest);
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    world.listener.set_nonblocking(true).unwrap();
    assert!(world.listener.accept().is_err(), "another request was made of it");
    assert!(!world.gateway.log().contains("smuggled"), "{}", world.gateway.log());
}
