//! What the service manager is told, where there is one (sd_notify(3)), and the pulse of the workers that its watchdog
//! goes by. Without `NOTIFY_SOCKET` all of it is nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sd_notify::{NotifyState, notify};

use crate::telemetry::access::FLUSH_EVERY;

/// Everything is bound and served.
pub fn ready(status: &str) {
    told(notify(&[NotifyState::Ready, NotifyState::Status(status)]));
}

/// To be followed by `ready`.
pub fn reloading() {
    told(NotifyState::monotonic_usec_now().and_then(|now| notify(&[NotifyState::Reloading, now])));
}

pub fn stopping(status: &str) {
    told(notify(&[NotifyState::Stopping, NotifyState::Status(status)]));
}

/// Where the unit has a `WatchdogSec`, tells the manager that all is well as long as every worker's pulse goes on: one that
/// hangs is an outage for its connections, and a restart ends it.
pub async fn watchdog(pulse: Arc<Pulse>) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    // Twice within the limit, as sd_watchdog_enabled(3) advises; each worker has had time for a beat.
    let mut every = tokio::time::interval((limit / 2).max(2 * FLUSH_EVERY));
    let mut known = pulse.now();
    every.tick().await;
    loop {
        every.tick().await;
        let now = pulse.now();
        if goes_on(&known, &now) {
            told(notify(&[NotifyState::Watchdog]));
        } else {
            tracing::error!("a worker thread hangs; the service manager is not told that all is well");
        }
        known = now;
    }
}

/// A counter a worker, which its own timer moves on.
pub struct Pulse(Box<[AtomicU64]>);

const ENDED: u64 = u64::MAX;

impl Pulse {
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| AtomicU64::new(0)).collect())
    }

    pub fn beat(&self, worker: usize) {
        if let Some(count) = self.0.get(worker) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// In order, at the end of a drain: there will be no more.
    pub fn ended(&self, worker: usize) {
        if let Some(count) = self.0.get(worker) {
            count.store(ENDED, Ordering::Relaxed);
        }
    }

    fn now(&self) -> Vec<u64> {
        self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

fn goes_on(before: &[u64], now: &[u64]) -> bool {
    before.iter().zip(now).all(|(before, now)| *now == ENDED || before != now)
}

fn told(sent: io::Result<()>) {
    if let Err(error) = sent {
        tracing::warn!(%error, "the service manager cannot be told (NOTIFY_SOCKET)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_worker_that_hangs_is_enough() {
        let pulse = Pulse::new(2);
        let first = pulse.now();
        pulse.beat(0);
        assert!(!goes_on(&first, &pulse.now()));
        pulse.beat(1);
        assert!(goes_on(&first, &pulse.now()));
        let second = pulse.now();
        pulse.beat(0);
        pulse.ended(1);
        assert!(goes_on(&second, &pulse.now()), "one that has ended in order does not hang");
        let third = pulse.now();
        assert!(!goes_on(&third, &pulse.now()));
    }
}
