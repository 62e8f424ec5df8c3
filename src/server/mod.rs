//! The server: one runtime a worker thread, accept loops, connections, drain, and the admin listener. It knows a gateway
//! only as something that answers requests.

pub mod accept;
pub mod admin;
mod admin_sessions;
pub mod connection;
mod establish;
pub mod seldom;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

use crate::gateway::Gateway;
use crate::gateway::conn::Worker;
use crate::gateway::overload::Requests;
use crate::net::crowd::Crowd;
use crate::net::listen::Bound;
use crate::net::tls::Acceptor;
use crate::telemetry::access::{FLUSH_EVERY, Sink};
use crate::telemetry::writer::Writer;

/// What is served now. Swapped whole at a reload.
pub struct Served {
    pub gateway: Arc<Gateway>,
    pub tls: Option<Arc<Acceptor>>,
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
    /// And of each client address.
    pub crowd: Crowd,
    /// Requests under way of all workers.
    pub requests: Arc<Requests>,
    pub json_log: bool,
    pub writer: Writer,
}

/// Starts a thread for each set of sockets. Each holds a clone of `alive` for as long as it has anything under way.
pub fn start(sets: Vec<Vec<Bound>>, common: &Common, alive: &mpsc::Sender<()>) -> io::Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::with_capacity(sets.len());
    for (index, sockets) in sets.into_iter().enumerate() {
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

async fn work(index: usize, sockets: Vec<Bound>, common: Common) {
    let worker = Arc::new(Worker {
        index,
        requests: Arc::clone(&common.requests),
        sink: Sink::new(common.json_log, common.writer.clone()),
        tunnels: tokio_util::task::TaskTracker::new(),
    });
    let flusher = tokio::spawn({
        let worker = Arc::clone(&worker);
        async move {
            let mut every = tokio::time::interval(FLUSH_EVERY);
            loop {
                every.tick().await;
                worker.sink.flush();
            }
        }
    });
    let connections = tokio_util::task::TaskTracker::new();
    let mut loops = tokio::task::JoinSet::new();
    for socket in sockets {
        match socket.listen() {
            Ok(listener) => {
                loops.spawn(accept::accept(listener, Arc::clone(&worker), common.clone(), connections.clone()));
            }
            Err(error) => tracing::error!(%error, worker = index, "a listening socket cannot be used"),
        }
    }
    while loops.join_next().await.is_some() {}
    connections.close();
    connections.wait().await;
    worker.tunnels.close();
    worker.tunnels.wait().await;
    flusher.abort();
    worker.sink.flush();
}
