//! One address of an upstream: its connections, how much it has to do, and sending to it, again over another connection
//! where that is safe.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::body::RequestBody;
use super::connection::{Connection, Exchanged};
use super::eject::Condition;
use super::http2::Shared;
use super::pool::Pool;
use super::replay::Replay;
use super::request::Rewrite;
use super::upload::Progress;
use crate::config::settings::{Target, UpstreamOptions};
use crate::error::Error;
use crate::net::dial::Endpoint;

/// How often a request may be written to connections that then end, at all peers together.
const SENDS: u32 = 3;

pub(super) struct Peer {
    /// As it is written in the configuration.
    pub(super) name: String,
    pub(super) rewrite: Rewrite,
    pub(super) pool: Pool,
    pub(super) condition: Condition,
    pub(super) endpoint: Arc<Endpoint>,
    response_timeout: Duration,
    under_way: Apart,
}

/// PERF: on a cache line of its own: it is written for every request, by all workers, and what is beside it only read.
#[repr(align(128))]
struct Apart(AtomicUsize);

/// One request on its way, at whichever peer.
pub(super) struct Course<'a> {
    pub(super) worker: usize,
    /// When it was first sent, or is about to be: what `response_timeout` counts from.
    pub(super) start: Instant,
    pub(super) progress: Option<&'a Progress>,
    /// Whether it could go on to another peer.
    pub(super) others: bool,
    /// How often it was written, at least in part.
    pub(super) sends: u32,
    /// How often it was begun anew.
    pub(super) retries: u32,
}

/// A peer that did not answer, and the request where it may go to another one.
pub(super) struct Missed {
    pub(super) failure: Error,
    pub(super) again: Option<Box<Request<RequestBody>>>,
}

impl Course<'_> {
    /// PERF: for nearly every request the time is known.
    pub(super) fn now(&self) -> Instant {
        if self.retries == 0 { self.start } else { Instant::now() }
    }
}

impl Peer {
    pub(super) fn new(target: &Target, options: &UpstreamOptions, workers: usize) -> Result<Self, Error> {
        let http2 = options.http2.then(|| Shared::new(target, workers, options.idle_timeout));
        Ok(Self {
            name: target.to_string(),
            endpoint: Arc::new(Endpoint::new(target, options)?),
            rewrite: Rewrite::new(target, options)?,
            pool: Pool::new(workers, options.idle_timeout, http2),
            condition: Condition::default(),
            response_timeout: options.response_timeout,
            under_way: Apart(AtomicUsize::new(0)),
        })
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way.0.load(Ordering::SeqCst)
    }

    /// Takes a place for one more request. False: there are `most`.
    pub(super) fn enter(&self, most: usize) -> bool {
        let one_more = |n: usize| (n < most).then_some(n + 1);
        self.under_way.0.fetch_update(Ordering::SeqCst, Ordering::Relaxed, one_more).is_ok()
    }

    pub(super) fn leave(&self) {
        self.under_way.0.fetch_sub(1, Ordering::SeqCst);
    }

    /// Sends `request`, which is rewritten for this peer, and waits for the head of the answer.
    pub(super) async fn exchange(
        &self,
        mut request: Request<RequestBody>,
        course: &mut Course<'_>,
    ) -> Result<(Connection, Response<Incoming>), Missed> {
        let mut fresh = false;
        loop {
            let pooled = if fresh { None } else { self.pool.take(course.worker, course.now()) };
            let mut reused = pooled.is_some();
            let mut connection = match pooled {
                Some(connection) => connection,
                // PERF: boxed, so that dialling does not swell the future of every request.
                None => match Box::pin(self.pool.connect(course.worker, &self.endpoint, self.response_timeout)).await {
                    Ok(connection) => {
                        if course.sends == 0 {
                            course.start = Instant::now();
                        }
                        connection
                    }
                    // Nothing was sent to anybody.
                    Err(failure) => return Err(Missed::but(failure, Some(request))),
                },
            };
            // PERF: a new connection to the only peer that fails is the end, so nothing is copied for it.
            let replay = if reused || course.others { Replay::of(&request, connection.tape()) } else { None };
            // Handed back: not one byte of it was written, so any method may go again. Otherwise the rule of RFC 9110
            // §9.2.2: idempotent, and without a body, since what was taken of one is gone.
            let (failure, again) =
                match connection.exchange(request, course.start, course.progress, self.response_timeout).await {
                    Exchanged::Answered(response) => return Ok((connection, response)),
                    Exchanged::Unsent(unsent, failure) => (failure, Some(unsent)),
                    Exchanged::Refused(refused, failure) => {
                        course.sends += 1;
                        reused = true;
                        (failure, (course.sends < SENDS).then_some(refused))
                    }
                    Exchanged::Lost(failure) => {
                        course.sends += 1;
                        fresh = true;
                        let replay = replay.filter(|_| course.sends < SENDS);
                        (failure, replay.and_then(|replay| replay.into_request(connection.tape())))
                    }
                    Exchanged::Failed(failure) => (failure, None),
                };
            match again {
                // A connection that was kept says nothing about its peer: it may have ended by its keep-alive time, or takes
                // no more requests.
                Some(again) if reused => {
                    course.retries += 1;
                    request = again;
                }
                again => return Err(Missed::but(failure, again)),
            }
        }
    }
}

impl Peer {
    /// The connection of an exchange that is over: kept, if it leads where the next one is to go.
    pub(super) fn give_back(&self, worker: usize, mut connection: Connection) {
        if connection.leads_to(&self.endpoint) {
            self.pool.give_back(worker, connection);
        }
    }

    /// Closes idle connections that are not to be used again.
    pub(super) fn sweep(&self, now: Instant) {
        self.pool.sweep(now, &self.endpoint);
    }

    /// One request over a connection of its own, and the status of the answer; no worker is needed for it. Rewrites
    /// nothing.
    pub(super) async fn once(&self, request: Request<RequestBody>, limit: Duration) -> Result<StatusCode, Error> {
        let mut connection = self.pool.alone(&self.endpoint, limit).await?;
        match connection.exchange(request, Instant::now(), None, limit).await {
            Exchanged::Answered(response) => Ok(response.status()),
            Exchanged::Unsent(_, error)
            | Exchanged::Refused(_, error)
            | Exchanged::Lost(error)
            | Exchanged::Failed(error) => Err(error),
        }
    }
}

impl Missed {
    #[cold]
    fn but(failure: Error, again: Option<Request<RequestBody>>) -> Self {
        Self { failure, again: again.map(Box::new) }
    }
}
