//! Requests that wait until an upstream may be asked for one more: first come, first served, on all workers. Whoever
//! stops waiting leaves no gap. What is waited for is the caller's.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

/// `W` is what a request wants, `S` the place that it gets.
pub(super) struct Queue<W, S> {
    limit: usize,
    patience: Duration,
    /// PERF: as long as `line`; all that a request looks at while nobody waits.
    ///
    /// Whoever begins to wait writes this and then looks for a free place; whoever frees one does it and then reads this.
    /// One of the two sees the other, as both are in the one order of `SeqCst`.
    waiting: AtomicUsize,
    line: Mutex<Line<W, S>>,
}

struct Line<W, S> {
    next: u64,
    waiters: VecDeque<Waiter<W, S>>,
}

struct Waiter<W, S> {
    ticket: u64,
    wants: W,
    hand: oneshot::Sender<S>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NoPlace {
    /// As many wait as may.
    Full,
    TooLate,
}

impl<W, S> Queue<W, S> {
    pub(super) fn new(limit: usize, patience: Duration) -> Self {
        let line = Line { next: 0, waiters: VecDeque::new() };
        Self { limit, patience, waiting: AtomicUsize::new(0), line: Mutex::new(line) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Waits for a place. `serve` calls `Queue::serve`.
    pub(super) async fn wait(&self, wants: W, serve: impl FnOnce()) -> Result<S, NoPlace> {
        let (hand, place) = oneshot::channel();
        let waiting = self.join(wants, hand).ok_or(NoPlace::Full)?;
        serve();
        let place = timeout(self.patience, place).await;
        drop(waiting);
        place.map_err(|_| NoPlace::TooLate)?.map_err(|_| NoPlace::TooLate)
    }

    /// Gives places to those who wait, in order, for as long as `take` finds any. Call it whenever one may have come free.
    pub(super) fn serve(&self, take: impl Fn(&W) -> Option<S>) {
        while let Some((waiter, place)) = self.first(&take) {
            // Outside the lock: a place that nobody takes any more comes back here when it is dropped.
            drop(waiter.hand.send(place));
        }
    }

    /// The first who can get what it wants.
    fn first(&self, take: impl Fn(&W) -> Option<S>) -> Option<(Waiter<W, S>, S)> {
        let mut line = self.line();
        let (at, place) = line.waiters.iter().enumerate().find_map(|(at, waiter)| Some((at, take(&waiter.wants)?)))?;
        let waiter = line.waiters.remove(at)?;
        self.waiting.store(line.waiters.len(), Ordering::SeqCst);
        Some((waiter, place))
    }

    fn join(&self, wants: W, hand: oneshot::Sender<S>) -> Option<Waiting<'_, W, S>> {
        let mut line = self.line();
        if line.waiters.len() >= self.limit {
            return None;
        }
        let ticket = line.next;
        line.next += 1;
        line.waiters.push_back(Waiter { ticket, wants, hand });
        self.waiting.store(line.waiters.len(), Ordering::SeqCst);
        Some(Waiting { queue: self, ticket })
    }

    fn line(&self) -> MutexGuard<'_, Line<W, S>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves the line when it is dropped.
struct Waiting<'a, W, S> {
    queue: &'a Queue<W, S>,
    ticket: u64,
}

impl<W, S> Drop for Waiting<'_, W, S> {
    fn drop(&mut self) {
        let mut line = self.queue.line();
        // Tickets rise along the line. One that is not there was served.
        let left = line.waiters.binary_search_by_key(&self.ticket, |w| w.ticket).ok();
        let left = left.and_then(|at| line.waiters.remove(at));
        self.queue.waiting.store(line.waiters.len(), Ordering::SeqCst);
        drop(line);
        drop(left);
    }
}

#[cfg(test)]
mod tests;
