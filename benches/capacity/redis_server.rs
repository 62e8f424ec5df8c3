//! A Redis of its own, in memory, on a socket in a directory of its own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::Connection;
use tempfile::TempDir;

/// Keys whose size is asked for.
const SAMPLE: usize = 1_000;

pub(crate) struct RedisServer {
    process: Child,
    socket: PathBuf,
    _directory: TempDir,
}

impl RedisServer {
    pub(crate) fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let socket = directory.path().join("redis.sock");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
        let process = command.current_dir(directory.path()).stdout(Stdio::null()).spawn();
        let server = Self { process: process.expect("redis-server"), socket, _directory: directory };
        let patience = Instant::now() + Duration::from_secs(20);
        while server.client().get_connection().is_err() {
            assert!(Instant::now() < patience, "redis does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// What all of its data take, in bytes.
    pub(crate) fn used_memory(&self) -> u64 {
        let info: String =
            redis::cmd("INFO").arg("memory").query(&mut self.client().get_connection().unwrap()).unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
        line.unwrap().trim().parse().unwrap()
    }

    /// The mean size of some keys of this pattern, in bytes.
    pub(crate) fn usage(&self, pattern: &str) -> f64 {
        self.mean(pattern, |connection, key| redis::cmd("MEMORY").arg("USAGE").arg(key).query(connection).unwrap())
    }

    /// The mean length of a record's value and card, in bytes.
    pub(crate) fn sealed(&self) -> f64 {
        let length = |connection: &mut Connection, key: &str, field: &str| -> u64 {
            redis::cmd("HSTRLEN").arg(key).arg(field).query(connection).unwrap()
        };
        self.mean("doorward:s:*", |connection, key| length(connection, key, "v") + length(connection, key, "c"))
    }

    fn mean(&self, pattern: &str, size: impl Fn(&mut Connection, &str) -> u64) -> f64 {
        let mut connection = self.client().get_connection().unwrap();
        let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query(&mut connection).unwrap();
        let sample = &keys[..SAMPLE.min(keys.len())];
        let bytes: u64 = sample.iter().map(|key| size(&mut connection, key)).sum();
        bytes as f64 / sample.len() as f64
    }

    fn client(&self) -> redis::Client {
        redis::Client::open(format!("redis+unix://{}", self.socket.display())).unwrap()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
