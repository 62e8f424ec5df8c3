//! The addresses of one upstream together: who is chosen, how much each may have to do, who waits, who is left out for a
//! while. Sends nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::balance::Balancer;
use super::peer::{Course, Peer};
use super::queue::{NoPlace, Queue};
use crate::config::settings;
use crate::error::{Error, Kind, Reason};

pub(super) struct Peers {
    /// There is always one.
    first: Peer,
    rest: Box<[Peer]>,
    balancer: Balancer,
    queue: Queue<Tried, Slot>,
    /// Requests under way at one of them.
    most: usize,
    eject_after: u32,
    eject_time: Duration,
    /// One ejection at a time, so that never the last one is.
    ejecting: Mutex<()>,
    began: Instant,
}

impl Peers {
    pub(super) fn new(settings: &settings::Upstream, workers: usize) -> Result<Arc<Self>, Error> {
        let options = &settings.options;
        let mut peers = settings.targets.iter().map(|target| Peer::new(target, options, workers));
        let first = peers.next().ok_or_else(|| Error::new(Kind::Internal, "a route without an upstream"))??;
        Ok(Arc::new(Self {
            first,
            rest: peers.collect::<Result<_, _>>()?,
            balancer: Balancer::new(options.balance),
            queue: Queue::new(options.queue, options.queue_timeout),
            most: options.requests,
            eject_after: options.eject_after,
            eject_time: options.eject_time,
            ejecting: Mutex::new(()),
            began: Instant::now(),
        }))
    }

    pub(super) fn len(&self) -> usize {
        1 + self.rest.len()
    }

    pub(super) fn each(&self) -> impl Iterator<Item = &Peer> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// Whether requests go there first.
    pub(super) fn is_good(&self, peer: &Peer) -> bool {
        peer.condition.is_good(|| self.millis(Instant::now()))
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// A place for one more request at a peer that was not `tried`; waits for it if there is none.
    ///
    /// Errors: `UpstreamBusy`.
    pub(super) async fn place(self: &Arc<Self>, tried: Tried, course: &mut Course<'_>) -> Result<Slot, Error> {
        // Nobody overtakes those who wait.
        if self.queue.is_empty()
            && let Some(slot) = self.choose(&tried, course.now())
        {
            return Ok(slot);
        }
        // PERF: boxed, so that waiting does not swell the future of every request.
        let waited = Box::pin(self.queue.wait(tried, || self.serve())).await;
        if course.sends == 0 {
            course.start = Instant::now();
        }
        waited.map_err(|why| match why {
            NoPlace::Full => Error::upstream(Reason::QueueFull),
            NoPlace::TooLate => Error::upstream(Reason::QueueTimeout),
        })
    }

    /// Somebody who waits may get a place now.
    pub(super) fn serve(self: &Arc<Self>) {
        // PERF: the look that every request pays for.
        if !self.queue.is_empty() {
            let now = Instant::now();
            self.queue.serve(|tried| self.choose(tried, now));
        }
    }

    /// `None` = all that might be asked have as much to do as they may.
    fn choose(self: &Arc<Self>, tried: &Tried, now: Instant) -> Option<Slot> {
        // PERF: one peer is no choice.
        if self.rest.is_empty() {
            return self.first.enter(self.most).then(|| Slot { peers: Arc::clone(self), index: 0 });
        }
        let untried = |index: usize| !tried.contains(index);
        let good = |index: usize| untried(index) && self.peer(index).condition.is_good(|| self.millis(now));
        let has_place = |index: usize| self.peer(index).under_way() < self.most;
        let load = |index: usize| self.peer(index).under_way();
        loop {
            let index = match self.balancer.pick(self.len(), |index| good(index) && has_place(index), load) {
                Some(index) => index,
                None if (0..self.len()).any(good) => return None,
                // Nobody seems well: then everybody may be, and a wrong sign never turns a route off.
                None => self.balancer.pick(self.len(), |index| untried(index) && has_place(index), load)?,
            };
            if self.peer(index).enter(self.most) {
                return Some(Slot { peers: Arc::clone(self), index });
            }
        }
    }

    pub(super) fn peer(&self, index: usize) -> &Peer {
        index.checked_sub(1).and_then(|index| self.rest.get(index)).unwrap_or(&self.first)
    }

    /// Milliseconds, never zero.
    fn millis(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.began).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// The right to have one request under way at one peer.
pub(super) struct Slot {
    peers: Arc<Peers>,
    index: usize,
}

impl Slot {
    pub(super) fn peer(&self) -> &Peer {
        self.peers.peer(self.index)
    }

    pub(super) fn add_to(&self, tried: &mut Tried) -> bool {
        tried.add(self.index)
    }

    pub(super) fn succeeded(&self) {
        // PERF: one peer is never left out.
        if !self.peers.rest.is_empty() {
            self.peer().condition.succeeded(|| self.peers.millis(Instant::now()));
        }
    }

    /// For how long the peer is left out for it, if it is.
    pub(super) fn failed(&self) -> Option<Duration> {
        let (peers, peer) = (&self.peers, self.peer());
        if peers.rest.is_empty() || !peer.condition.failed(peers.eject_after) {
            return None;
        }
        let _one = peers.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        let now = peers.millis(Instant::now());
        let mut others = (0..peers.len()).filter(|index| *index != self.index);
        let last = !others.any(|index| peers.peer(index).condition.is_good(|| now));
        // Several requests that were under way may fail together.
        let known = !peer.condition.is_good(|| now);
        (!last && !known).then(|| peer.condition.eject(peers.eject_after, peers.eject_time, now))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.peer().leave();
        self.peers.serve();
    }
}

/// The peers that a request was sent to in vain. With the one that it is sent to last they are `ATTEMPTS`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tried([Option<usize>; ATTEMPTS - 1]);

/// How many peers one request is sent to, at most.
const ATTEMPTS: usize = 3;

impl Tried {
    fn contains(&self, index: usize) -> bool {
        self.0.contains(&Some(index))
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().flatten().count()
    }

    /// False: there were enough.
    fn add(&mut self, index: usize) -> bool {
        let free = self.0.iter_mut().find(|place| place.is_none());
        free.map(|place| *place = Some(index)).is_some()
    }
}

#[cfg(test)]
mod tests;
