//! The server: one runtime a worker thread, accept loops, connections, drain, and the admin listener. It knows a gateway
//! only as something that answers requests.

mod accept;
pub mod admin;
mod admin_sessions;
mod begun;
pub mod connection;
mod establish;
mod frames;
mod http1;
mod http2;
pub mod listeners;
mod metered;
mod redirect;
mod rest;
pub mod seldom;
mod streams;
pub mod systemd;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use accept::Accepting;
use listeners::Opened;
use systemd::Pulse;

use crate::gateway::Gateway;
use crate::gateway::conn::{Conn, Worker};
use crate::gateway::overload::Requests;
use crate::net::crowd::Crowd;
use crate::net::tls::Acceptor;
use crate::telemetry::access::{FLUSH_EVERY, Sink};
use crate::telemetry::writer::Writer;

/// What is served now. Swapped whole at a reload.
pub struct Served {
    pub gateway: Arc<Gateway>,
    pub tls: Option<Arc<Acceptor>>,
}

impl Served {
    /// Whether the connection may go on as it began.
    fn holds(&self, conn: &Conn) -> bool {
        conn.handshake.as_ref().is_none_or(|handshake| handshake.holds(self.tls.as_deref()))
    }
}

pub type Live = Arc<ArcSwap<Served>>;

/// What all workers share.
#[derive(Clone)]
pub struct Common {
    pub live: Live,
    /// True once the process shall end: accept no more, finish what is under way.
    pub drain: watch::Receiver<bool>,
    /// Open connections of all workers.
    pub open: Arc<AtomicUsize>,
    /// How many of them the limit of open files is enough for.
    pub most: usize,
    /// Connections of each client address.
    pub crowd: Crowd,
    /// Requests under way of all workers.
    pub requests: Arc<Requests>,
    pub json_log: bool,
    pub writer: Writer,
    pub pulse: Arc<Pulse>,
}

/// At the end, for redirects that are being written.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Starts a thread for each worker; it accepts from what it is sent. Each holds a clone of `alive` for as long as it has
/// anything under way.
pub fn start(
    workers: Vec<mpsc::UnboundedReceiver<Opened>>,
    common: &Common,
    alive: &mpsc::Sender<()>,
) -> io::Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::with_capacity(workers.len());
    for (index, sockets) in workers.into_iter().enumerate() {
        let common = common.clone();
        let alive = Alive { alive: alive.clone(), drain: common.drain.clone() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        threads.push(std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            let _alive = alive;
            runtime.block_on(work(index, sockets, common));
        })?);
    }
    Ok(threads)
}

/// A worker's sign of life. A thread that ends without having been asked to says so, also when it panics: a gateway that
/// answers on half of its connections is worse than one that is restarted.
struct Alive {
    alive: mpsc::Sender<()>,
    drain: watch::Receiver<bool>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        if !*self.drain.borrow() {
            let _ = self.alive.try_send(());
        }
    }
}

async fn work(index: usize, mut sockets: mpsc::UnboundedReceiver<Opened>, common: Common) {
    let worker = Arc::new(Worker {
        index,
        requests: Arc::clone(&common.requests),
        sink: Sink::new(common.json_log, common.writer.clone()),
        tunnels: TaskTracker::new(),
    });
    let flusher = tokio::spawn({
        let (worker, pulse) = (Arc::clone(&worker), Arc::clone(&common.pulse));
        async move {
            let mut every = tokio::time::interval(FLUSH_EVERY);
            loop {
                every.tick().await;
                worker.sink.flush();
                pulse.beat(index);
            }
        }
    });
    let mut loops = JoinSet::new();
    let accepting = Accepting {
        worker: Arc::clone(&worker),
        common: common.clone(),
        served: TaskTracker::new(),
        redirected: TaskTracker::new(),
        last: CancellationToken::new(),
    };
    let mut drain = common.drain.clone();
    loop {
        tokio::select! {
            biased;
            _ = drain.wait_for(|drain| *drain) => break,
            Some(opened) = sockets.recv() => drop(loops.spawn(accepting.start(opened))),
            Some(ended) = loops.join_next() => {
                if !matches!(ended, Ok(Ok(()))) {
                    tracing::error!(?ended, worker = index, "a listening socket cannot be used");
                    return;
                }
            }
        }
    }
    while let Ok(opened) = sockets.try_recv() {
        loops.spawn(accepting.start(opened));
    }
    accepting.served.close();
    accepting.served.wait().await;
    worker.tunnels.close();
    worker.tunnels.wait().await;
    accepting.last.cancel();
    while loops.join_next().await.is_some() {}
    accepting.redirected.close();
    let _ = tokio::time::timeout(LAST_ANSWERS, accepting.redirected.wait()).await;
    flusher.abort();
    worker.sink.flush();
    common.pulse.ended(index);
}
