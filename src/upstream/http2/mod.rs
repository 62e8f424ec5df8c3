//! HTTP/2 to an upstream (RFC 9113): each worker's connections, shared by many requests. When none has room another is
//! opened; who comes meanwhile waits for it and opens none. There are never more than requests under way, and idle ones.

mod form;
mod greeting;
mod link;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::uri::Scheme;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};

use self::link::Link;
pub(super) use self::stream::Stream;
use crate::config::settings::Target;
use crate::error::{Error, Reason};
use crate::net::dial::Endpoint;

/// The HTTP/2 connections of one peer.
pub(super) struct Shared {
    /// PERF: each lock is taken by its own worker only, so it is never waited for.
    workers: Box<[Mutex<Worker>]>,
    idle_timeout: Duration,
    scheme: Scheme,
}

#[derive(Default)]
struct Worker {
    links: Vec<Arc<Link>>,
    /// The connection that is being opened, if one is: what becomes of it.
    opening: Option<watch::Receiver<Option<Result<(), Error>>>>,
}

/// Who opens a connection, or waits for the one that is being opened.
enum Turn {
    Open(watch::Sender<Option<Result<(), Error>>>),
    Wait(watch::Receiver<Option<Result<(), Error>>>),
}

impl Shared {
    pub(super) fn new(target: &Target, workers: usize, idle_timeout: Duration) -> Arc<Self> {
        let scheme = match target {
            Target::Url(url) if url.scheme() == "https" => Scheme::HTTPS,
            _ => Scheme::HTTP,
        };
        Arc::new(Self { workers: (0..workers.max(1)).map(|_| Mutex::default()).collect(), idle_timeout, scheme })
    }

    /// A place on a connection that has room.
    pub(super) fn take(&self, worker: usize, now: Instant) -> Option<Stream> {
        self.of(worker).place(now, self.idle_timeout, &self.scheme)
    }

    /// A place on a new connection, or on one that another request opens meanwhile. `Endpoint::connect_timeout` is for all
    /// of it, the upstream's first frame too.
    pub(super) async fn connect(self: &Arc<Self>, worker: usize, endpoint: &Arc<Endpoint>) -> Result<Stream, Error> {
        loop {
            let turn = {
                let mut state = self.of(worker);
                if let Some(stream) = state.place(Instant::now(), self.idle_timeout, &self.scheme) {
                    return Ok(stream);
                }
                state.turn()
            };
            match turn {
                Turn::Open(told) => {
                    let (give, given) = oneshot::channel();
                    // In a task of its own: others wait for it too, so that no client's going away may end it.
                    tokio::spawn(Arc::clone(self).open(worker, Arc::clone(endpoint), give, told));
                    return given.await.unwrap_or_else(|_| Err(Error::upstream(Reason::Broken)));
                }
                // Everybody who waited shares the failure: a thousand attempts one after the other help nobody.
                Turn::Wait(mut opening) => match opening.wait_for(Option::is_some).await.as_deref() {
                    Ok(Some(Err(error))) => return Err(error.clone()),
                    Ok(_) => {}
                    Err(_) => return Err(Error::upstream(Reason::Broken)),
                },
            }
        }
    }

    /// A place on a connection of its own, on whichever runtime; nobody else gets one there.
    pub(super) async fn alone(self: &Arc<Self>, endpoint: &Endpoint) -> Result<Stream, Error> {
        Ok(Link::open(self, 0, endpoint).await?.place(&self.scheme))
    }

    /// Connections that do not lead to `endpoint` any more get no further request.
    pub(super) fn sweep(&self, endpoint: &Endpoint) {
        for worker in &self.workers {
            let mut worker = worker.lock().unwrap_or_else(PoisonError::into_inner);
            worker.links.retain(|link| link.leads_to(endpoint));
        }
    }

    async fn open(
        self: Arc<Self>,
        worker: usize,
        endpoint: Arc<Endpoint>,
        give: oneshot::Sender<Result<Stream, Error>>,
        told: watch::Sender<Option<Result<(), Error>>>,
    ) {
        let opened = timeout(endpoint.connect_timeout(), Link::open(&self, worker, &endpoint)).await;
        let outcome = opened.unwrap_or_else(|_| Err(Error::upstream(Reason::ConnectTimeout)));
        let outcome = {
            let mut state = self.of(worker);
            state.opening = None;
            outcome.map(|link| {
                // Whoever opened it has the first place, so that it never has to open a second one.
                let stream = link.place(&self.scheme);
                state.links.push(link);
                stream
            })
        };
        told.send_replace(Some(outcome.as_ref().map(drop).map_err(Error::clone)));
        // Whoever opened it may be gone: its place is free then.
        drop(give.send(outcome));
    }

    /// `link` has been idle for long enough, or is closed: it takes no more requests. `Some` = not yet, look again then.
    fn expire(&self, worker: usize, state: &link::State) -> Option<Instant> {
        let mut worker = self.of(worker);
        let at = worker.links.iter().position(|link| std::ptr::eq(link.state(), state))?;
        let due = worker.links.get(at)?.idle_since().map(|since| since + self.idle_timeout);
        match due {
            Some(due) if due > Instant::now() => Some(due),
            Some(_) => {
                worker.links.swap_remove(at);
                None
            }
            None => Some(Instant::now() + self.idle_timeout.max(link::SOON)),
        }
    }

    fn forget(&self, worker: usize, state: &link::State) {
        self.of(worker).links.retain(|link| !std::ptr::eq(link.state(), state));
    }

    fn of(&self, worker: usize) -> MutexGuard<'_, Worker> {
        static NONE: Mutex<Worker> = Mutex::new(Worker { links: Vec::new(), opening: None });
        let worker = self.workers.get(worker % self.workers.len()).unwrap_or(&NONE);
        worker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self, worker: usize) -> usize {
        self.of(worker).links.len()
    }
}

impl Worker {
    /// The first connection that has room, so that the last ones become idle when there are fewer requests.
    fn place(&mut self, now: Instant, idle_timeout: Duration, scheme: &Scheme) -> Option<Stream> {
        self.links.retain(|link| link.is_open(now, idle_timeout));
        self.links.iter().find(|link| link.has_room()).map(|link| link.place(scheme))
    }

    fn turn(&mut self) -> Turn {
        // An opening whose task is gone is over, whatever became of it.
        if let Some(opening) = self.opening.as_ref().filter(|opening| opening.has_changed().is_ok()) {
            return Turn::Wait(opening.clone());
        }
        let (told, opening) = watch::channel(None);
        self.opening = Some(opening);
        Turn::Open(told)
    }
}
