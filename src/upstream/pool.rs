//! The connections of a peer: of HTTP/1.1 those that are idle, one stack a worker; of HTTP/2 all of them. A connection
//! lives on the runtime that opened it and is used there only.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::connection::{self, Connection};
use super::http2::Shared;
use crate::error::Error;
use crate::net::dial::Endpoint;

/// Idle connections kept a worker; beyond it the one that comes back is closed.
const MAX_IDLE: usize = 64;

pub(super) struct Pool {
    /// PERF: each lock is taken by its own worker, and seldom for a sweep: it is hardly ever waited for.
    workers: Box<[Mutex<Vec<Idle>>]>,
    idle_timeout: Duration,
    /// `Some` = nothing but HTTP/2.
    http2: Option<Arc<Shared>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    pub(super) fn new(workers: usize, idle_timeout: Duration, http2: Option<Arc<Shared>>) -> Self {
        Self { workers: (0..workers.max(1)).map(|_| Mutex::default()).collect(), idle_timeout, http2 }
    }

    /// A connection that was not there before, or of HTTP/2 a place that was not.
    pub(super) async fn connect(
        &self,
        worker: usize,
        endpoint: &Arc<Endpoint>,
        response_timeout: Duration,
    ) -> Result<Connection, Error> {
        match &self.http2 {
            Some(shared) => shared.connect(worker, endpoint).await.map(Connection::Http2),
            None => connection::connect(endpoint, response_timeout).await,
        }
    }

    /// A connection that is nobody else's, on whichever runtime.
    pub(super) async fn alone(&self, endpoint: &Endpoint, limit: Duration) -> Result<Connection, Error> {
        match &self.http2 {
            Some(shared) => shared.alone(endpoint).await.map(Connection::Http2),
            None => connection::connect(endpoint, limit).await,
        }
    }

    /// The connection that was used last, since it will live longest. One that still finishes its last exchange is
    /// passed over, one that is closed or too old is dropped.
    pub(super) fn take(&self, worker: usize, now: Instant) -> Option<Connection> {
        if let Some(shared) = &self.http2 {
            return shared.take(worker, now).map(Connection::Http2);
        }
        let mut idle = self.stack(worker);
        let mut at = idle.len();
        while at > 0 {
            at -= 1;
            let Some(candidate) = idle.get(at) else { break };
            if now.saturating_duration_since(candidate.since) >= self.idle_timeout {
                // Those below are older still.
                idle.drain(..=at);
                return None;
            }
            if candidate.connection.is_ready() {
                return Some(idle.remove(at).connection);
            }
            if candidate.connection.is_closed() {
                idle.remove(at);
            }
        }
        None
    }

    pub(super) fn give_back(&self, worker: usize, connection: Connection) {
        if matches!(connection, Connection::Http2(_)) || connection.is_closed() {
            // A place is free again as it is dropped.
            return;
        }
        let since = Instant::now();
        let mut idle = self.stack(worker);
        let expired = idle.iter().take_while(|i| since.saturating_duration_since(i.since) >= self.idle_timeout).count();
        idle.drain(..expired);
        if idle.len() < MAX_IDLE {
            idle.push(Idle { connection, since });
        }
    }

    /// Closes what is closed, too old, or does not lead to `endpoint` any more: of all workers, from whichever thread.
    pub(super) fn sweep(&self, now: Instant, endpoint: &Endpoint) {
        if let Some(shared) = &self.http2 {
            shared.sweep(endpoint);
        }
        for idle in &self.workers {
            let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain_mut(|Idle { connection, since }| {
                let young = now.saturating_duration_since(*since) < self.idle_timeout;
                young && !connection.is_closed() && connection.leads_to(endpoint)
            });
        }
    }

    fn stack(&self, worker: usize) -> MutexGuard<'_, Vec<Idle>> {
        static NONE: Mutex<Vec<Idle>> = Mutex::new(Vec::new());
        let stack = self.workers.get(worker % self.workers.len()).unwrap_or(&NONE);
        stack.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self, worker: usize) -> usize {
        if let Some(shared) = &self.http2 {
            return shared.len(worker);
        }
        self.stack(worker).len()
    }

    /// Whether the newest is ready, and whether it is closed.
    #[cfg(test)]
    pub(super) fn newest(&self, worker: usize) -> Option<(bool, bool)> {
        let stack = self.stack(worker);
        stack.last().map(|Idle { connection, .. }| (connection.is_ready(), connection.is_closed()))
    }
}
