//! One accept loop: takes connections until its listener is closed or the drain begins, then what the kernel has queued,
//! and no more.

use std::io;
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::SockRef;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Common;
use super::establish::establish;
use super::listeners::{Opened, Purpose};
use crate::config::settings::Listen;
use crate::gateway::conn::{Open, Worker};
use crate::net::listen::{Accepted, BACKLOG, Listener};
use crate::telemetry::refused::Refused;

/// While open files or memory are short: long enough not to spin, short enough not to be noticed.
const PAUSE: Duration = Duration::from_millis(50);
/// For whoever comes beyond the limit of connections.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nCache-Control: no-store\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";

/// What the accept loops of one worker share.
#[derive(Clone)]
pub(super) struct Accepting {
    pub(super) worker: Arc<Worker>,
    pub(super) common: Common,
    /// What a drain waits for: connections, and the loops that may bring more of them.
    pub(super) served: TaskTracker,
    /// Connections that are told to come back over https. They hold nothing up.
    pub(super) redirected: TaskTracker,
    /// Cancelled when there is nothing left to wait for.
    pub(super) last: CancellationToken,
}

impl Accepting {
    /// A loop, which `served` waits for from now on.
    pub(super) fn start(&self, opened: Opened) -> impl Future<Output = io::Result<()>> + use<> {
        self.clone().run(opened, self.served.token())
    }

    async fn run(self, opened: Opened, waited_for: TaskTrackerToken) -> io::Result<()> {
        let Opened { socket, listen, stop } = opened;
        let listener = socket.listen()?;
        let mut drain = self.common.drain.clone();
        let drains = async {
            tokio::select! {
                () = stop.cancelled() => false,
                _ = drain.wait_for(|drain| *drain) => true,
            }
        };
        let drains = self.accept_until(&listener, &listen, drains).await;
        if drains && self.purpose(&listen) == Purpose::Redirects {
            // To the end: whoever comes is sent to where others of us serve.
            drop(waited_for);
            let last = self.last.clone();
            self.accept_until(&listener, &listen, async { last.cancelled().await }).await;
            return Ok(());
        }
        // Closing a socket resets what waits in its queue, so that is served first; who goes on coming does not hold us up.
        let socket = listener.leave()?;
        for _ in 0..BACKLOG {
            let Ok(accepted) = socket.accept_waiting() else { break };
            self.take(accepted, &listen);
        }
        Ok(())
    }

    async fn accept_until<T>(&self, listener: &Listener, listen: &Listen, end: impl Future<Output = T>) -> T {
        let mut end = pin!(end);
        loop {
            let accepted = tokio::select! {
                biased;
                ended = &mut end => return ended,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(accepted) => self.take(accepted, listen),
                Err(error) => {
                    tracing::debug!(%error, "a connection could not be accepted");
                    if is_short(&error) {
                        self.common.live.load().gateway.metrics.refusals.count(Refused::Files);
                        // SECURITY: FX-21. The connection still waits: asking again at once would spin.
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
    }

    /// As it is configured now.
    fn purpose(&self, listen: &Listen) -> Purpose {
        Purpose::of(&self.common.live.load().gateway.settings.server, listen)
    }

    fn take(&self, accepted: Accepted, listen: &Listen) {
        let common = &self.common;
        let served = common.live.load_full();
        let settings = &served.gateway.settings.server;
        let purpose = Purpose::of(settings, listen);
        let connections = match purpose {
            Purpose::Checks | Purpose::Serves => &self.served,
            Purpose::Redirects => &self.redirected,
        };
        let open = Open::new(&common.open, &served.gateway.metrics);
        let full = common.open.load(Ordering::Relaxed) > settings.limits.connections.min(common.most);
        if full {
            served.gateway.metrics.refusals.count(Refused::Connections);
        }
        let (worker, common) = (Arc::clone(&self.worker), common.clone());
        match accepted {
            Accepted::Tcp(stream, _) if full => refuse(&stream),
            Accepted::Unix(stream) if full => refuse(&stream),
            Accepted::Tcp(stream, peer) => {
                connections.spawn(establish(stream, Some(peer), open, worker, common, purpose));
            }
            Accepted::Unix(stream) => {
                connections.spawn(establish(stream, None, open, worker, common, purpose));
            }
        }
    }
}

/// SECURITY: FX-21. At once, and without a task: whoever is refused holds no open file for longer than this. A new socket has
/// room for all of it.
fn refuse(stream: &impl AsFd) {
    let _ = SockRef::from(stream).send(FULL);
}

/// Whether it is about this process or machine (too many open files), and not about the one connection.
fn is_short(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable,
    };
    !matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | HostUnreachable | Interrupted | NetworkDown | NetworkUnreachable
    )
}
