//! What a connection that says nothing takes of memory: see `benches/README.md` and `docs/capacity.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../hotpath/child.rs"]
mod child;
mod nginx;
#[path = "../hotpath/sign_in.rs"]
mod sign_in;
mod upstream;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use child::Child;

/// Opened before the first look, so that what a process makes once is not counted.
const FIRST: usize = 200;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Two requests, and then nothing.
    KeepAlive,
    /// A handshake, and then nothing.
    WebSocket,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, listen] = arguments.as_slice()
        && role == "--upstream"
    {
        return upstream::run(listen.parse().unwrap());
    }
    let wanted = arguments.iter().skip_while(|a| *a != "--connections").nth(1).map_or(10_000, |n| n.parse().unwrap());
    // A WebSocket is two files of the proxy, and the first ones are open too.
    let most = doorward::net::files::connections().saturating_sub(FIRST + 20);
    let connections = wanted.min(most);
    println!("{connections} idle connections; what they add to the proxy's memory (proportional set size)\n");
    println!("{:>10} {:>11} {:>12} {:>12} {:>14}", "", "", "MiB before", "MiB with", "bytes each");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let provider = sign_in::Provider::start().await;
        for kind in [Kind::KeepAlive, Kind::WebSocket] {
            doorward(&provider, kind, connections).await;
            nginx(kind, connections).await;
        }
    });
}

async fn doorward(provider: &sign_in::Provider, kind: Kind, connections: usize) {
    let (upstream, _upstream) = upstream().await;
    let listen = free_address();
    let routes = format!(
        "[[route]]\npath = \"/\"\nupstream = \"http://{upstream}\"\naccess = \"authenticated\"\nidentity = [\"x-forwarded\"]\n\
         [server.limits]\nidle_timeout = \"1h\"\nconnections = 100000\nlogins_per_minute = 1000000\n[admin]\nlisten = \"\"\n"
    );
    let config = provider.configuration(listen, &routes, false);
    let program = std::env::var_os("DOORWARD").unwrap_or_else(|| "target/release/doorward".into());
    let arguments = ["serve".into(), "--config".into(), config.path().display().to_string()];
    let child = Child::start(program.as_ref(), &arguments, listen, false).await;
    let cookie = provider.sign_in(listen).await;
    measure("Doorward", &child, listen, kind, connections, &cookie);
}

async fn nginx(kind: Kind, connections: usize) {
    let (upstream, _upstream) = upstream().await;
    let listen = free_address();
    let directory = tempfile::tempdir().unwrap();
    let config = nginx::configuration(directory.path(), listen, upstream, connections);
    let arguments = ["-e".into(), "stderr".into(), "-c".into(), config.display().to_string()];
    let child = Child::start(Path::new("nginx"), &arguments, listen, false).await;
    measure("nginx", &child, listen, kind, connections, "session=as-long-as-it-likes");
}

/// In a process of its own, for its files and its memory.
async fn upstream() -> (SocketAddr, Child) {
    let listen = free_address();
    let program = std::env::current_exe().unwrap();
    (listen, Child::start(&program, &["--upstream".into(), listen.to_string()], listen, false).await)
}

fn measure(name: &str, child: &Child, address: SocketAddr, kind: Kind, connections: usize, cookie: &str) {
    let mut held: Vec<TcpStream> = (0..FIRST).map(|_| open(address, kind, cookie)).collect();
    let before = settled(child);
    held.extend((0..connections).map(|_| open(address, kind, cookie)));
    let with = settled(child);
    let each = (with.saturating_sub(before)) as f64 * 1024.0 / connections as f64;
    let kind = if kind == Kind::KeepAlive { "keep-alive" } else { "WebSocket" };
    let mib = |kib: u64| kib as f64 / 1024.0;
    println!("{name:>10} {kind:>11} {:>12.1} {:>12.1} {each:>14.0}", mib(before), mib(with));
    drop(held);
}

fn open(address: SocketAddr, kind: Kind, cookie: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    // A head is written in pieces, each of which would wait for the one before to be acknowledged.
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0";
    let common = format!("Host: {address}\r\nUser-Agent: {agent}\r\nAccept-Encoding: gzip, br\r\nCookie: {cookie}\r\n");
    if kind == Kind::WebSocket {
        write!(
            stream,
            "GET /ws HTTP/1.1\r\n{common}Connection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .unwrap();
        answered(&mut stream, "101");
        return stream;
    }
    for _ in 0..2 {
        write!(stream, "GET / HTTP/1.1\r\n{common}Accept: text/html\r\nSec-Fetch-Mode: navigate\r\n\r\n").unwrap();
        answered(&mut stream, "200");
    }
    stream
}

fn answered(stream: &mut TcpStream, status: &str) {
    // Nothing comes behind an answer, so nothing is lost with the reader.
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line).unwrap();
    assert_eq!(line.split(' ').nth(1), Some(status), "{line}");
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        length = line.strip_prefix("content-length: ").map_or(length, |l| l.parse().unwrap());
    }
    reader.read_exact(&mut vec![0; length]).unwrap();
}

/// Once it no longer changes for longer than a connection takes to rest: what is not needed is given back a little later.
fn settled(child: &Child) -> u64 {
    let (mut last, mut same) = (child.memory_kib(), 0);
    for _ in 0..60 {
        std::thread::sleep(Duration::from_millis(700));
        let now = child.memory_kib();
        same = if now.abs_diff(last) * 500 < last { same + 1 } else { 0 };
        if same == 8 {
            return now;
        }
        last = now;
    }
    last
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
