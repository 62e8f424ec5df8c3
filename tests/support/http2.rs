//! Two clients of HTTP/2: one that keeps the rules (hyper's), and one that writes whatever frames a test wants.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// One connection, by prior knowledge, on a runtime of its own.
pub struct Client {
    pub runtime: tokio::runtime::Runtime,
    sender: SendRequest<Full<Bytes>>,
    connection: tokio::task::JoinHandle<hyper::Result<()>>,
    pub authority: String,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: HeaderMap,
}

impl Client {
    pub fn new(port: u16) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (sender, connection) = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            (sender, tokio::spawn(connection))
        });
        Self { runtime, sender, connection, authority: format!("127.0.0.1:{port}") }
    }

    /// Over TLS, by ALPN, to the host that `config` is shown the certificate of.
    pub fn over_tls(mut config: rustls::ClientConfig, host: &str, port: u16) -> Self {
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = rustls::pki_types::ServerName::try_from(host.to_owned()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (sender, connection) = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
            let stream = connector.connect(name, stream).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            (sender, tokio::spawn(connection))
        });
        Self { runtime, sender, connection, authority: format!("{host}:{port}") }
    }

    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> http::request::Builder {
        let uri = format!("http://{}{path}", self.authority);
        headers
            .iter()
            .fold(Request::builder().method(method).uri(uri), |request, (name, value)| request.header(*name, *value))
    }

    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(self.request("GET", path, headers), b"")
    }

    pub fn send(&self, request: http::request::Builder, body: &[u8]) -> Answer {
        self.try_send(request, body).unwrap()
    }

    pub fn try_send(&self, request: http::request::Builder, body: &[u8]) -> hyper::Result<Answer> {
        let response = self.head(request, body)?;
        self.runtime.block_on(async {
            let (parts, body) = response.into_parts();
            let whole = body.collect().await?;
            let trailers = whole.trailers().cloned().unwrap_or_default();
            Ok(Answer { status: parts.status, headers: parts.headers, body: whole.to_bytes(), trailers })
        })
    }

    /// The answer's head, its body still to come.
    pub fn head(&self, request: http::request::Builder, body: &[u8]) -> hyper::Result<Response<Incoming>> {
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        let mut sender = self.sender.clone();
        self.runtime.block_on(async {
            sender.ready().await?;
            sender.send_request(request).await
        })
    }

    /// Opens a WebSocket (RFC 8441).
    pub fn websocket(&self, path: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
        let request = self.request("CONNECT", path, headers).header("sec-websocket-version", "13");
        self.head(request.extension(hyper::ext::Protocol::from_static("websocket")), b"").unwrap()
    }

    /// Opens a WebSocket and becomes it.
    pub fn tunnel(&self, path: &str, headers: &[(&str, &str)]) -> Tunnel<'_> {
        let response = self.websocket(path, headers);
        assert_eq!(response.status(), 200);
        for of_http1 in ["connection", "upgrade", "sec-websocket-accept"] {
            assert!(!response.headers().contains_key(of_http1), "{of_http1}");
        }
        let upgraded = self.runtime.block_on(hyper::upgrade::on(response)).unwrap();
        Tunnel { runtime: &self.runtime, io: TokioIo::new(upgraded) }
    }

    /// Waits for the end of the connection.
    pub fn closed(self) -> hyper::Result<()> {
        let Self { runtime, connection, .. } = self;
        let ended = async { tokio::time::timeout(Duration::from_secs(10), connection).await };
        runtime.block_on(ended).expect("within ten seconds").unwrap()
    }
}

/// A WebSocket's bytes.
pub struct Tunnel<'a> {
    runtime: &'a tokio::runtime::Runtime,
    io: TokioIo<hyper::upgrade::Upgraded>,
}

impl Tunnel<'_> {
    pub fn write(&mut self, bytes: &[u8]) {
        self.runtime.block_on(self.io.write_all(bytes)).unwrap();
    }

    pub fn reads(&mut self, want: &[u8]) {
        let mut have = vec![0; want.len()];
        let read = async { tokio::time::timeout(Duration::from_secs(5), self.io.read_exact(&mut have)).await };
        self.runtime.block_on(read).expect("in time").unwrap();
        assert_eq!(have, want);
    }

    /// The other side has ended it.
    pub fn ends(mut self) {
        let mut rest = Vec::new();
        let read = async { tokio::time::timeout(Duration::from_secs(5), self.io.read_to_end(&mut rest)).await };
        self.runtime.block_on(read).expect("in time").unwrap();
        assert!(rest.is_empty(), "{rest:?}");
    }
}

/// A connection of raw frames.
pub struct Raw {
    pub stream: TcpStream,
    pub port: u16,
}

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

impl Raw {
    /// With its preface and these settings.
    pub fn with(port: u16, settings: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut raw = Self { stream, port };
        let settings: Vec<u8> =
            settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        raw.stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        raw.send(SETTINGS, 0, 0, &settings);
        raw
    }

    pub fn new(port: u16) -> Self {
        Self::with(port, &[])
    }

    /// Nothing happens where the connection is over.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let _ = self.stream.write_all(&frame(kind, flags, stream, payload));
    }

    /// A head of these very fields, whole.
    pub fn head(&mut self, stream: u32, fields: &[(&str, &str)]) {
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields));
    }

    /// An ordinary GET, with these fields besides.
    pub fn get(&mut self, stream: u32, path: &str, more: &[(&str, &str)]) {
        let authority = format!("127.0.0.1:{}", self.port);
        let fields = [(":method", "GET"), (":scheme", "http"), (":authority", &authority), (":path", path)];
        self.head(stream, &[&fields, more].concat());
    }

    /// None at the end of the connection. What has to be acknowledged is.
    pub fn read(&mut self) -> Option<Frame> {
        let mut header = [0; 9];
        self.stream.read_exact(&mut header).ok()?;
        let [a, b, c, kind, flags, rest @ ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload).ok()?;
        if (kind == PING || kind == SETTINGS) && flags & ACK == 0 {
            let echo = if kind == PING { &payload[..] } else { &[] };
            self.send(kind, ACK, 0, echo);
        }
        Some(Frame { kind, flags, stream: u32::from_be_bytes(rest), payload })
    }

    /// The next frame that `is_it` says; everything before it is dropped. None at the end of the connection.
    pub fn until(&mut self, is_it: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.read()?;
            if is_it(&frame) {
                return Some(frame);
            }
        }
    }

    /// How the stream, or all of them, ended: the kind of the frame and its error code. None: the connection broke.
    pub fn ending(&mut self, stream: u32) -> Option<(u8, u32)> {
        let frame = self.until(|f| {
            f.kind == GOAWAY
                || (f.stream == stream && (f.kind == RST_STREAM || (f.flags & END_STREAM != 0 && f.kind < 2)))
        })?;
        let code = match frame.kind {
            RST_STREAM => frame.payload.get(..4),
            GOAWAY => frame.payload.get(4..8),
            _ => None,
        };
        Some((frame.kind, code.map_or(0, |code| u32::from_be_bytes(code.try_into().unwrap()))))
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// HPACK (RFC 7541 §6.2.2): literal, not indexed, not compressed.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            length(text.len(), &mut out);
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// An integer with a prefix of seven bits (RFC 7541 §5.1).
fn length(mut n: usize, out: &mut Vec<u8>) {
    if n < 127 {
        return out.push(n as u8);
    }
    out.push(127);
    n -= 127;
    while n >= 128 {
        out.push((n % 128) as u8 | 128);
        n /= 128;
    }
    out.push(n as u8);
}
