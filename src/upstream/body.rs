//! Bodies on their way through: frames pass as they are, without a copy and without a box.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::connection::Connection;
use super::http2::Stream;
use super::peers::Slot;
use super::upload::{Allowance, Broken, Progress, Upload};
use crate::http::headers::Managed;

/// A client's body on its way to the upstream.
pub struct RequestBody(Option<Streaming>);

struct Streaming {
    incoming: Incoming,
    managed: Arc<Managed>,
    upload: Upload,
}

impl RequestBody {
    pub fn empty() -> Self {
        Self(None)
    }

    /// SECURITY: H-09, HX-11. Trailers with a name of `managed` never reach the upstream. FX-12: nor does more than is
    /// allowed, and a client that stops within its body is not waited for longer.
    pub fn new(incoming: Incoming, managed: &Arc<Managed>, allowance: Allowance) -> Self {
        // PERF: nearly every request has none, and then nothing is allocated.
        if incoming.is_end_stream() {
            return Self::empty();
        }
        Self(Some(Streaming { incoming, managed: Arc::clone(managed), upload: Upload::new(allowance) }))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub fn progress(&self) -> Option<Arc<Progress>> {
        self.0.as_ref().map(|streaming| Arc::clone(&streaming.upload.progress))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Some(Streaming { incoming, managed, upload }) = &mut self.0 else { return Poll::Ready(None) };
        Poll::Ready(match Pin::new(incoming).poll_frame(cx) {
            Poll::Pending => match upload.waits(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(stalled) => Some(Err(stalled)),
            },
            Poll::Ready(None) => {
                upload.ended();
                None
            }
            Poll::Ready(Some(Err(error))) => Some(Err(upload.breaks(Broken::Client(error)))),
            Poll::Ready(Some(Ok(mut frame))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    managed.strip_trailers(trailers);
                }
                Some(upload.came(frame.data_ref().map_or(0, Bytes::len)).map(|()| frame))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|streaming| streaming.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |streaming| streaming.incoming.size_hint())
    }
}

/// An upstream's body on its way to the client. Its end gives the connection back.
pub struct ResponseBody {
    incoming: Incoming,
    lease: Option<Lease>,
}

/// A connection, and the place at its peer: both are given back together.
pub(super) struct Lease {
    connection: Connection,
    slot: Option<Slot>,
    /// Whose pool the connection goes back to.
    worker: Option<usize>,
}

impl Lease {
    pub(super) fn new(connection: Connection, slot: Slot, worker: usize) -> Self {
        Self { connection, slot: Some(slot), worker: Some(worker) }
    }

    /// Kept open for as long as the body lives, and then closed.
    pub(super) fn spent(connection: Connection, slot: Option<Slot>) -> Self {
        Self { connection, slot, worker: None }
    }

    fn give_back(self) {
        // The connection first: whoever waits for the place can use it.
        if let (Some(slot), Some(worker)) = (&self.slot, self.worker) {
            slot.peer().give_back(worker, self.connection);
        }
    }
}

/// A place on a connection that others share.
pub struct Held(#[expect(dead_code, reason = "it is there to be dropped")] Stream);

impl ResponseBody {
    pub(super) fn new(incoming: Incoming, lease: Lease) -> Self {
        let mut body = Self { incoming, lease: Some(lease) };
        body.give_back_at_end();
        body
    }

    /// Where the answer opened a tunnel: what has to be kept for as long as that is open.
    pub fn into_held(self) -> Option<Held> {
        match self.lease?.connection {
            Connection::Http1(_) => None,
            Connection::Http2(stream) => Some(Held(stream)),
        }
    }

    /// SECURITY: M-19, M-20. Only a whole body gives its connection back: whoever comes next would read the rest of it.
    fn give_back_at_end(&mut self) {
        if self.incoming.is_end_stream()
            && let Some(lease) = self.lease.take_if(|lease| lease.worker.is_some())
        {
            lease.give_back();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        match &polled {
            // Behind trailers nobody asks for more.
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => {
                self.lease.take().into_iter().for_each(Lease::give_back)
            }
            // A body whose length is known is done with its last frame: hyper's server asks for no more then.
            Poll::Ready(Some(Ok(_))) => self.give_back_at_end(),
            Poll::Ready(Some(Err(_))) => self.lease = None,
            Poll::Ready(None) => self.lease.take().into_iter().for_each(Lease::give_back),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
