//! The streams of one HTTP/2 connection, each in a task of its own: where hyper spawns them, how they notice what the
//! connection's looks tell, and the end of one whose client takes nothing.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::rt::Executor;
use pin_project_lite::pin_project;

use crate::gateway::body::{Body, Cut};
use crate::gateway::conn::Conn;
use crate::gateway::trailers::keep_harmless;

/// What is given to HTTP/2 at once: a frame of the size that every client takes (RFC 9113 §4.2).
const PIECE: usize = 16 * 1024;

/// What all streams of a connection share.
#[derive(Clone)]
pub(super) struct Streams(Arc<Shared>);

struct Shared {
    conn: Arc<Conn>,
    /// For how many looks a client may take nothing of a stream.
    patience: u32,
    /// Pieces of answers that were given since it was last asked.
    given: AtomicU32,
    /// PERF: one lock that only this connection's worker takes, and no timer for any stream.
    sleepers: Mutex<Sleepers>,
}

/// The tasks that wait for something, in slots that are used again.
#[derive(Default)]
struct Sleepers {
    slots: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Streams {
    pub(super) fn new(conn: &Arc<Conn>, patience: u32) -> Self {
        let conn = Arc::clone(conn);
        Self(Arc::new(Shared { conn, patience, given: AtomicU32::new(0), sleepers: Mutex::default() }))
    }

    /// The connection was looked at: so is each of its streams, whatever it waits for.
    pub(super) fn wake(&self) {
        self.sleepers().slots.iter().flatten().for_each(Waker::wake_by_ref);
    }

    /// How many pieces of answers were given since the last call.
    pub(super) fn given(&self) -> u32 {
        self.0.given.swap(0, Ordering::Relaxed)
    }

    fn sleepers(&self) -> MutexGuard<'_, Sleepers> {
        self.0.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tasks are the worker's to wait for: they write access lines, and some are tunnels.
impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, future: F) {
        let looks = self.0.conn.looks();
        self.0.conn.worker.tunnels.spawn(Task {
            future,
            place: Place { streams: self.clone(), slot: None },
            waits: false,
            since: looks,
        });
    }
}

pin_project! {
    struct Task<F> {
        #[pin]
        future: F,
        place: Place,
        // Its last piece was given, and the client has not taken it.
        waits: bool,
        // The look at which that began.
        since: u32,
    }
}

/// A task's place among the sleepers.
struct Place {
    streams: Streams,
    slot: Option<usize>,
}

impl Place {
    fn take(&mut self, cx: &Context<'_>) {
        // A task has the same waker all its life.
        if self.slot.is_some() {
            return;
        }
        let mut sleepers = self.streams.sleepers();
        let slot = sleepers.free.pop().unwrap_or(sleepers.slots.len());
        match sleepers.slots.get_mut(slot) {
            Some(place) => *place = Some(cx.waker().clone()),
            None => sleepers.slots.push(Some(cx.waker().clone())),
        }
        self.slot = Some(slot);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            let mut sleepers = self.streams.sleepers();
            if let Some(place) = sleepers.slots.get_mut(slot) {
                *place = None;
                sleepers.free.push(slot);
            }
        }
    }
}

thread_local! {
    /// What the body that was last polled on this thread had to say: Some(true) = a piece, Some(false) = nothing yet.
    static SAID: Cell<Option<bool>> = const { Cell::new(None) };
}

impl<F: Future<Output = ()>> Future for Task<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        SAID.set(None);
        if this.future.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Shared { conn, patience, .. } = &*this.place.streams.0;
        match SAID.get() {
            Some(piece) => {
                *this.waits = piece;
                *this.since = conn.looks();
            }
            // SECURITY: FX-11. The body was not even asked: what it gave is still here. Where the whole connection can
            // send nothing at this moment, it is the connection's own time that counts.
            None if *this.waits && conn.looks().wrapping_sub(*this.since) > *patience && !conn.is_stalled() => {
                tracing::debug!(peer = %conn.peer, "a stream whose client takes nothing is reset");
                return Poll::Ready(());
            }
            None => {}
        }
        this.place.take(cx);
        Poll::Pending
    }
}

/// An answer's body as HTTP/2 takes it: in pieces, so that one that moves slowly is seen to move, and with no trailers but
/// those that HTTP/2 may carry.
pub(super) struct Pieces {
    body: Body,
    rest: Bytes,
    streams: Streams,
}

impl Pieces {
    pub(super) fn new(body: Body, streams: Streams) -> Self {
        Self { body, rest: Bytes::new(), streams }
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(mut frame) => {
                        SAID.set(Some(true));
                        if let Some(trailers) = frame.trailers_mut() {
                            keep_harmless(trailers);
                        }
                        return Poll::Ready(Some(Ok(frame)));
                    }
                },
                other => {
                    SAID.set(Some(false));
                    return other;
                }
            }
        }
        SAID.set(Some(true));
        this.streams.0.given.fetch_add(1, Ordering::Relaxed);
        let piece = if this.rest.len() > PIECE { this.rest.split_to(PIECE) } else { std::mem::take(&mut this.rest) };
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower().saturating_add(rest));
        if let Some(upper) = body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::gateway::conn::{Open, Worker};
    use crate::telemetry::access::Sink;
    use crate::telemetry::metrics::Metrics;
    use crate::telemetry::writer::Writer;

    fn streams(patience: u32) -> (Streams, Arc<Conn>) {
        let worker = Worker {
            index: 0,
            sink: Sink::new(false, Writer::start().unwrap()),
            requests: Arc::default(),
            tunnels: TaskTracker::new(),
        };
        let open = Open::new(&Arc::new(AtomicUsize::new(0)), &Arc::new(Metrics::new(1)));
        let conn = Arc::new(Conn::new("192.0.2.1".parse().unwrap(), None, Arc::new(worker), open));
        (Streams::new(&conn, patience), conn)
    }

    /// Lets every task that was woken have its turn.
    async fn turn() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    async fn look(streams: &Streams, conn: &Conn) {
        conn.looked();
        streams.wake();
        turn().await;
    }

    /// A stream that says of its body what `said` holds, polled by nothing but looks; whether it has been dropped.
    fn stream(streams: &Streams, said: &Arc<Mutex<Option<bool>>>) -> Arc<AtomicBool> {
        struct Gone(Arc<AtomicBool>);
        impl Drop for Gone {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let (said, gone) = (Arc::clone(said), Arc::new(AtomicBool::new(false)));
        let guard = Gone(Arc::clone(&gone));
        streams.execute(async move {
            let _guard = guard;
            std::future::poll_fn(|_| {
                SAID.set(said.lock().unwrap().take());
                Poll::<()>::Pending
            })
            .await;
        });
        gone
    }

    #[tokio::test]
    async fn fx_11_only_a_stream_whose_piece_is_not_taken_is_ended() {
        let (streams, conn) = streams(3);
        let said = |what| Arc::new(Mutex::new(what));
        let (stuck, waits, moves) = (said(Some(true)), said(Some(false)), said(Some(true)));
        let gone = [&stuck, &waits, &moves].map(|said| stream(&streams, said));
        let gone = || gone.iter().map(|gone| gone.load(Ordering::Relaxed)).collect::<Vec<_>>();
        turn().await;
        for n in 0..3 {
            *moves.lock().unwrap() = Some(true);
            look(&streams, &conn).await;
            assert_eq!(gone(), [false; 3], "{n}");
        }
        // A connection that can send nothing at all: what a stream waits for is not its own client's doing.
        conn.writing(true);
        look(&streams, &conn).await;
        assert_eq!(gone(), [false; 3]);
        conn.writing(false);
        *moves.lock().unwrap() = Some(true);
        look(&streams, &conn).await;
        assert_eq!(gone(), [true, false, false], "the upstream's stream that says nothing goes on");
        for _ in 0..4 {
            look(&streams, &conn).await;
        }
        assert_eq!(gone(), [true, false, true]);
        let places = || {
            let sleepers = streams.sleepers();
            (sleepers.slots.len(), sleepers.free.len())
        };
        assert_eq!(places(), (3, 2));
        stream(&streams, &waits);
        turn().await;
        assert_eq!(places(), (3, 1), "places are used again");
    }
}
