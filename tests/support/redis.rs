//! A Redis server for as long as the test process lives.

use std::process::{Command, Stdio};

use super::eventually;

/// Ends when its standard input does: also when the test process is killed.
const WRAPPER: &str = "redis-server --port 0 --save '' --appendonly no --dir \"$0\" --unixsocket \"$0/redis.sock\" >/dev/null 2>&1 </dev/null &
read -r _; kill $!; wait; rm -rf \"$0\"";

/// Its URL; `None` where there is no redis-server.
pub fn start() -> Option<String> {
    if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
        assert!(std::env::var_os("CI").is_none(), "redis-server is not installed");
        println!("skipped: redis-server is not installed");
        return None;
    }
    let directory = tempfile::tempdir().unwrap().keep();
    let child = Command::new("sh").arg("-c").arg(WRAPPER).arg(&directory).stdin(Stdio::piped()).spawn().unwrap();
    // Not waited for, and its input never closed, until this process ends.
    std::mem::forget(child);
    let socket = directory.join("redis.sock");
    eventually("redis-server", || socket.exists());
    Some(format!("unix:{}", socket.display()))
}
