//! One HTTP/2 connection: how it is made, how many requests it takes, and the task that ends it when it has been idle.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use http::uri::Scheme;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::{Instant, Sleep, sleep};

use super::greeting::Greeted;
use super::{Shared, Stream};
use crate::error::{Error, Reason};
use crate::net::dial::{self, Endpoint, Origin};
use crate::upstream::body::RequestBody;
use crate::upstream::connection::{BUFFER, failed};
use crate::upstream::replay::Tape;

/// What may come for one request before its client has taken it.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Requests at one time on one connection, even if the upstream takes more.
const STREAMS: u16 = 100;
/// Room for all of them: else a few clients that take nothing would hold up everybody else on the connection.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS as u32;
/// A quiet connection with requests under way is asked for a sign of life this often, and given up without one. Just
/// above the five minutes below which gRPC servers take it for abuse and go away.
const PING_EVERY: Duration = Duration::from_secs(310);
const PING_WAIT: Duration = Duration::from_secs(20);
/// Requests in a row without an answer in time after which a connection gets no further one.
const UNANSWERED: u32 = 2;
/// A connection in use is not looked at more often, however short `idle_timeout` is.
pub(super) const SOON: Duration = Duration::from_secs(1);

type Wire = http2::Connection<TokioIo<Greeted<dial::Stream>>, RequestBody, TokioExecutor>;

pub(super) struct Link {
    sender: http2::SendRequest<RequestBody>,
    state: Arc<State>,
    /// What it leads to.
    origin: Mutex<Origin>,
}

/// Shared with the connection's task, which must not hold the sender: a connection ends when nobody can send on it.
pub(super) struct State {
    /// Streams that it may have, as the upstream said last.
    limit: AtomicUsize,
    /// The upstream said GOAWAY: it takes nothing more.
    leaving: AtomicBool,
    /// The upstream takes WebSockets (RFC 8441 §3).
    websockets: AtomicBool,
    /// Requests in a row that had no answer in time.
    unanswered: AtomicU32,
    places: Mutex<Places>,
}

struct Places {
    taken: usize,
    /// When the last one was given back.
    since: Instant,
    free: Vec<Slot>,
}

/// What a request needs besides its stream.
///
/// PERF: kept for the next one. The timer is set anew only when it has run out, so that an exchange takes no entry of the
/// timer wheel.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) timer: Option<Pin<Box<Sleep>>>,
    pub(super) tape: Tape,
}

impl Link {
    /// A connection whose upstream has said what it takes.
    pub(super) async fn open(shared: &Arc<Shared>, worker: usize, endpoint: &Endpoint) -> Result<Arc<Self>, Error> {
        let stream = endpoint.connect().await?;
        let origin = Mutex::new(endpoint.origin(&stream));
        let (io, greeting) = Greeted::new(stream);
        let connecting = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(BUFFER as u32)
            .max_send_buf_size(BUFFER)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_WAIT)
            .handshake(TokioIo::new(io));
        let (sender, mut wire) = connecting.await.map_err(failed)?;
        let broken = || Err(Error::upstream(Reason::Broken));
        tokio::select! {
            biased;
            greeting = greeting => greeting.unwrap_or_else(|_| broken())?,
            ended = &mut wire => ended.map_or_else(|error| Err(failed(error)), |()| broken())?,
        }
        let places = Mutex::new(Places { taken: 0, since: Instant::now(), free: Vec::new() });
        let state = Arc::new(State {
            limit: AtomicUsize::new(1),
            leaving: AtomicBool::new(false),
            websockets: AtomicBool::new(false),
            unanswered: AtomicU32::new(0),
            places,
        });
        state.note(&wire);
        tokio::spawn(run(wire, Arc::clone(&state), Arc::downgrade(shared), worker));
        Ok(Arc::new(Self { sender, state, origin }))
    }

    pub(super) fn sender(&self) -> http2::SendRequest<RequestBody> {
        self.sender.clone()
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn takes_websockets(&self) -> bool {
        self.state.websockets.load(Ordering::Relaxed)
    }

    pub(super) fn leave(&self) {
        self.state.leaving.store(true, Ordering::Relaxed);
    }

    pub(super) fn answered(&self) {
        // PERF: a look, and nothing is written while all is well.
        if self.state.unanswered.load(Ordering::Relaxed) != 0 {
            self.state.unanswered.store(0, Ordering::Relaxed);
        }
    }

    /// SECURITY: H-15. One slow request says nothing. But a peer that is gone without a word is found out by a PING after
    /// minutes: until then whoever comes would be sent there to wait in vain. What is under way here goes on.
    pub(super) fn unanswered(&self) {
        if self.state.unanswered.fetch_add(1, Ordering::Relaxed).saturating_add(1) >= UNANSWERED {
            self.leave();
        }
    }

    /// Whether it leads where the next request is to go.
    pub(super) fn leads_to(&self, endpoint: &Endpoint) -> bool {
        endpoint.has(&mut self.origin.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Not closed or about to be, and not idle for too long.
    pub(super) fn is_open(&self, now: Instant, idle_timeout: Duration) -> bool {
        let is_idle = || self.idle_since().is_some_and(|since| now.saturating_duration_since(since) >= idle_timeout);
        !self.sender.is_closed() && !self.state.leaving.load(Ordering::Relaxed) && !is_idle()
    }

    pub(super) fn has_room(&self) -> bool {
        self.state.places().taken < self.state.limit.load(Ordering::Relaxed)
    }

    pub(super) fn place(self: &Arc<Self>, scheme: &Scheme) -> Stream {
        let mut places = self.state.places();
        places.taken += 1;
        let slot = places.free.pop().unwrap_or_default();
        drop(places);
        Stream::new(Arc::clone(self), slot, scheme.clone())
    }

    pub(super) fn give_back(&self, slot: Slot) {
        let mut places = self.state.places();
        places.taken -= 1;
        places.since = Instant::now();
        places.free.push(slot);
    }

    /// `None` = not idle.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let places = self.state.places();
        (places.taken == 0).then_some(places.since)
    }
}

impl State {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, wire: &Wire) {
        // Whoever says none, for now, gets one request, which waits until it says otherwise or the time is over.
        self.limit.store(wire.current_max_send_streams().clamp(1, STREAMS.into()), Ordering::Relaxed);
        self.websockets.store(wire.is_extended_connect_protocol_enabled(), Ordering::Relaxed);
    }
}

/// The task of a connection.
async fn run(mut wire: Wire, state: Arc<State>, shared: Weak<Shared>, worker: usize) {
    let mut look = pin!(sleep(shared.upgrade().map_or(Duration::ZERO, |shared| shared.idle_timeout)));
    let mut looks = true;
    poll_fn(|cx| {
        let ended = Pin::new(&mut wire).poll(cx);
        state.note(&wire);
        if ended.is_ready() {
            return Poll::Ready(());
        }
        while looks && look.as_mut().poll(cx).is_ready() {
            match shared.upgrade().and_then(|shared| shared.expire(worker, &state)) {
                Some(due) => look.as_mut().reset(due),
                // It ends by itself now, when its last request has.
                None => looks = false,
            }
        }
        Poll::Pending
    })
    .await;
    if let Some(shared) = shared.upgrade() {
        shared.forget(worker, &state);
    }
}
