//! Peers that are gone without a word: the kernel asks them now and then, and closes what does not answer. Idle
//! connections, of clients and to upstreams, are its business and nobody else's.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// A minute and a half in all, however quiet the stream or WebSocket is that the connection was good for.
const AFTER: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_secs(10);
const TRIES: u32 = 3;

/// Also of a socket that listens: what it accepts has it from there.
pub(super) fn keep_alive(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(AFTER).with_interval(EVERY).with_retries(TRIES))
}
