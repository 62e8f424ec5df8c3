//! Sessions for unit tests, and a Redis to keep them in.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::Session;
use super::data::{Begun, Data, Tokens};
use super::identity::Identity;
use crate::config::settings;

/// Of one person, whose mark they all have.
pub(super) fn session(id: u8, created_ms: u64) -> Session {
    let data = Data {
        id: [id; 16],
        provider: "main".into(),
        issuer: "https://id.example.com".into(),
        identity: Identity { sub: "alice".into(), user: "alice".into(), ..Identity::default() },
        created_ms,
        expires_ms: created_ms + 1_000_000,
        seen_ms: created_ms,
        tokens: Tokens::default(),
        begun: Begun::default(),
    };
    Session::new(data, None, Box::new([[7; 32]]), &[], 1)
}

/// A Redis of its own, in memory, on a socket in a directory of its own.
pub(super) struct Server {
    process: Child,
    directory: tempfile::TempDir,
}

impl Server {
    /// `None` = it is not installed.
    pub(super) fn start() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("redis.sock");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
        command.current_dir(directory.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.spawn() {
            Ok(process) => Some(Self { process, directory }),
            Err(_) if std::env::var_os("CI").is_none() => {
                println!("skipped: redis-server is not installed");
                None
            }
            Err(error) => panic!("redis-server: {error}"),
        }
    }

    pub(super) fn settings(&self) -> settings::Redis {
        settings::Redis {
            servers: settings::RedisServers::Unix(self.directory.path().join("redis.sock")),
            tls: false,
            user: None,
            password: None,
            database: 0,
            ca: None,
            timeout: Duration::from_secs(5),
            key_prefix: "doorward:".into(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
