//! Keep-alive GETs as a browser sends them, each connection one request at a time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

pub(crate) struct Load {
    address: SocketAddr,
    request: String,
    answer: &'static [u8],
}

/// What the browser asks for.
pub(crate) const TARGET: &str = "/app/dashboard?tab=1";

/// The other fields of its request.
pub(crate) fn browser(address: SocketAddr, cookie: &str) -> Vec<(&'static str, String)> {
    vec![
        ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0".into()),
        ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8".into()),
        ("Accept-Language", "en-GB,en;q=0.5".into()),
        ("Accept-Encoding", "gzip, deflate, br, zstd".into()),
        ("Referer", format!("http://{address}/app/")),
        ("Sec-Fetch-Dest", "document".into()),
        ("Sec-Fetch-Mode", "navigate".into()),
        ("Sec-Fetch-Site", "same-origin".into()),
        ("Cookie", format!("theme=dark; {cookie}")),
    ]
}

impl Load {
    pub(crate) fn new(address: SocketAddr, cookie: &str) -> Self {
        Self::of(address, TARGET, &browser(address, cookie), b"HTTP/1.1 200 ")
    }

    /// Each answer must begin with `answer`.
    pub(crate) fn of(
        address: SocketAddr,
        target: &str,
        headers: &[(&'static str, String)],
        answer: &'static [u8],
    ) -> Self {
        let fields: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n");
        Self { address, request, answer }
    }

    /// Sends `requests` over `connections`.
    pub(crate) async fn run(&self, requests: usize, connections: usize) -> Duration {
        let start = Instant::now();
        let mut running = JoinSet::new();
        for _ in 0..connections {
            running.spawn(connection(self.address, self.request.clone(), self.answer, requests / connections));
        }
        while let Some(ended) = running.join_next().await {
            ended.unwrap();
        }
        start.elapsed()
    }
}

async fn connection(address: SocketAddr, request: String, answer: &'static [u8], requests: usize) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut buffer = Vec::with_capacity(16 * 1024);
    for _ in 0..requests {
        stream.write_all(request.as_bytes()).await.unwrap();
        buffer.clear();
        while !is_whole(&buffer) {
            let read = stream.read_buf(&mut buffer).await.unwrap();
            assert!(read > 0, "the proxy closed: {}", String::from_utf8_lossy(&buffer));
        }
        let fine = buffer.starts_with(answer);
        assert!(fine, "not what was asked for: {}", String::from_utf8_lossy(&buffer));
    }
}

/// Whether the head is there, and as much body as it announces.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = memmem::find(answer, b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
    answer.len() >= end + 4 + length.map_or(0, |l| l.trim().parse().unwrap())
}
