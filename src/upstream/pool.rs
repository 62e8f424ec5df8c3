//! Idle connections, one stack a worker: a connection lives on the runtime that opened it and is used there only.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::connection::Connection;

/// Idle connections kept a worker; beyond it the one that comes back is closed.
const MAX_IDLE: usize = 64;

pub(super) struct Pool {
    /// PERF: each lock is taken by its own worker, and seldom for a sweep: it is hardly ever waited for.
    workers: Box<[Mutex<Vec<Idle>>]>,
    idle_timeout: Duration,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    pub(super) fn new(workers: usize, idle_timeout: Duration) -> Self {
        Self { workers: (0..workers.max(1)).map(|_| Mutex::default()).collect(), idle_timeout }
    }

    /// The connection that was used last, since it will live longest. One that still finishes its last exchange is
    /// passed over, one that is closed or too old is dropped.
    pub(super) fn take(&self, worker: usize, now: Instant) -> Option<Connection> {
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
            if candidate.connection.sender.is_ready() {
                return Some(idle.remove(at).connection);
            }
            if candidate.connection.sender.is_closed() {
                idle.remove(at);
            }
        }
        None
    }

    pub(super) fn give_back(&self, worker: usize, connection: Connection) {
        if connection.sender.is_closed() {
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

    /// Closes what is closed, too old, or not to be kept: of all workers, from whichever thread.
    pub(super) fn sweep(&self, now: Instant, keep: impl Fn(&mut Connection) -> bool) {
        for idle in &self.workers {
            let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain_mut(|Idle { connection, since }| {
                let young = now.saturating_duration_since(*since) < self.idle_timeout;
                young && !connection.sender.is_closed() && keep(connection)
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
        self.stack(worker).len()
    }

    /// Whether the newest is ready, and whether it is closed.
    #[cfg(test)]
    pub(super) fn newest(&self, worker: usize) -> Option<(bool, bool)> {
        let stack = self.stack(worker);
        stack.last().map(|Idle { connection, .. }| (connection.sender.is_ready(), connection.sender.is_closed()))
    }
}
