//! One accept loop: takes connections until the drain begins, then what the kernel has queued, and no more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio_util::task::TaskTracker;

use super::Common;
use super::establish::establish;
use crate::gateway::conn::{Open, Worker};
use crate::net::listen::{Accepted, BACKLOG, Listener};

/// After an error such as too many open files: long enough not to spin, short enough not to be noticed.
const PAUSE: Duration = Duration::from_millis(50);
/// For whoever comes beyond the limit of connections.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nCache-Control: no-store\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";

pub async fn accept(listener: Listener, worker: Arc<Worker>, mut common: Common, connections: TaskTracker) {
    let mut drain = common.drain.clone();
    while !*drain.borrow() {
        tokio::select! {
            biased;
            _ = drain.changed() => {}
            accepted = listener.accept() => take(accepted, &worker, &mut common, &connections).await,
        }
    }
    // Closing a socket resets what waits in its queue, so that is served first; who goes on coming does not hold us up.
    for _ in 0..BACKLOG {
        let Ok(accepted) = tokio::time::timeout(Duration::from_millis(1), listener.accept()).await else { break };
        let failed = accepted.is_err();
        take(accepted, &worker, &mut common, &connections).await;
        if failed {
            break;
        }
    }
}

async fn take(
    accepted: std::io::Result<Accepted>,
    worker: &Arc<Worker>,
    common: &mut Common,
    connections: &TaskTracker,
) {
    let accepted = match accepted {
        Ok(accepted) => accepted,
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(PAUSE).await;
            return;
        }
    };
    let served = common.live.load_full();
    let settings = &served.gateway.settings.server;
    let open = Open::new(&common.open, &served.gateway.metrics);
    let full = common.open.load(Ordering::Relaxed) > settings.limits.connections;
    let common = common.clone();
    let worker = Arc::clone(worker);
    match accepted {
        Accepted::Tcp(mut stream, _) if full => {
            connections.spawn(async move {
                let _ = stream.write_all(FULL).await;
                drop(open);
            });
        }
        Accepted::Unix(mut stream) if full => {
            connections.spawn(async move {
                let _ = stream.write_all(FULL).await;
                drop(open);
            });
        }
        Accepted::Tcp(stream, peer) => {
            connections.spawn(establish(stream, Some(peer), open, worker, common));
        }
        Accepted::Unix(stream) => {
            connections.spawn(establish(stream, None, open, worker, common));
        }
    }
}
