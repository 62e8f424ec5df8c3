//! Real servers for tests: Redis on a free port of loopback, its data in a directory that goes with it.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{Event, Listener};

pub(crate) struct Server {
    pub(crate) port: u16,
    dir: tempfile::TempDir,
    arguments: Vec<String>,
    child: Child,
}

impl Server {
    /// None, with a line that says so, where Redis is not installed; on a CI machine that is a failure.
    pub(crate) fn start(arguments: &[&str]) -> Option<Self> {
        let version = Command::new("redis-server").arg("--version").output();
        if version.is_err() {
            assert!(std::env::var_os("CI").is_none(), "redis-server is missing");
            eprintln!("SKIPPED: redis-server is not installed");
            return None;
        }
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let arguments: Vec<String> =
            arguments.iter().map(|a| a.replace("{dir}", dir.path().to_str().unwrap())).collect();
        let child = spawn(port, &dir, &arguments);
        let server = Self { port, dir, arguments, child };
        server.wait();
        Some(server)
    }

    /// As the first argument of `redis-server`: a file, for a sentinel.
    pub(crate) fn sentinel(master: u16) -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let file = dir.path().join("sentinel.conf");
        let text = format!(
            "sentinel monitor main 127.0.0.1 {master} 1\nsentinel down-after-milliseconds main 300\n\
             sentinel failover-timeout main 3000\n"
        );
        std::fs::write(&file, text).unwrap();
        let arguments = vec!["--sentinel".to_owned()];
        let child = Command::new("redis-server")
            .arg(&file)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir", dir.path().to_str().unwrap()])
            .args(&arguments)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { port, dir, arguments, child };
        server.wait();
        server
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.port, &self.dir, &self.arguments);
        self.wait();
    }

    pub(crate) fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// What a command answers.
    pub(crate) fn ask(&self, command: &[&str]) -> String {
        let out = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(command).output().unwrap();
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn wait(&self) {
        let answers = || {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
            // A server with TLS only says nothing to this: that it listens is enough.
            if self.arguments.iter().any(|a| a == "--tls-port") {
                return Some(());
            }
            stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
            stream.write_all(b"PING\r\n").ok()?;
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).ok()?;
            (&answer == b"+PONG" || &answer == b"-NOAU").then_some(())
        };
        let end = Instant::now() + Duration::from_secs(10);
        while answers().is_none() {
            assert!(Instant::now() < end, "redis-server does not start");
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: u16, dir: &tempfile::TempDir, arguments: &[String]) -> Child {
    let port = port.to_string();
    let listen = if arguments.iter().any(|a| a == "--tls-port") { vec!["--port", "0"] } else { vec!["--port", &port] };
    let arguments: Vec<String> = arguments.iter().map(|a| a.replace("{port}", &port)).collect();
    Command::new("redis-server")
        .args(listen)
        .args(["--bind", "127.0.0.1", "--save", "", "--dir", dir.path().to_str().unwrap()])
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Below the range that the system takes outgoing connections' ports from, and never the same twice.
pub(crate) fn free_port() -> u16 {
    static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = fastrand::u16(10_000..30_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && TAKEN.lock().unwrap().insert(port) {
            return port;
        }
    }
}

/// Remembers what it was told.
#[derive(Default)]
pub(crate) struct Ear {
    heard: Mutex<Vec<Event>>,
    missed: AtomicUsize,
}

impl Ear {
    pub(crate) fn heard(&self) -> Vec<Event> {
        self.heard.lock().unwrap().clone()
    }

    pub(crate) fn missed(&self) -> usize {
        self.missed.load(Ordering::SeqCst)
    }
}

impl Listener for Ear {
    fn heard(&self, event: Event) {
        self.heard.lock().unwrap().push(event);
    }

    fn missed(&self) {
        self.missed.fetch_add(1, Ordering::SeqCst);
    }
}

/// Asks until the answer is true; fails with `what` after some seconds.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    while !condition().await {
        assert!(Instant::now() < end, "it does not come: {what}");
        ticks.tick().await;
    }
}
