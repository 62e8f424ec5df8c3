//! One connection to an upstream, or a place on one: how it is made, and one exchange over it.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, Sleep, sleep_until};

use super::body::RequestBody;
use super::http2::Stream;
use super::replay::{Tape, Taped};
use super::upload::Progress;
use crate::error::{Error, Reason};
use crate::net::dial::{Endpoint, Origin, broken_by};

/// What is read ahead of a slower client, or written ahead of the upstream: also the most that an answer's head may be.
pub(super) const BUFFER: usize = 128 * 1024;

pub(super) enum Connection {
    Http1(Http1),
    /// One of many on its connection.
    Http2(Stream),
}

pub(super) struct Http1 {
    sender: SendRequest<RequestBody>,
    /// The head of the request under way.
    tape: Tape,
    /// What it leads to.
    origin: Origin,
    /// PERF: the response timer stays with the connection and is set anew only when it has run out, so that an exchange
    /// takes no entry of the timer wheel.
    timer: Pin<Box<Sleep>>,
}

/// What became of one attempt.
pub(super) enum Exchanged {
    Answered(Response<Incoming>),
    /// Not one byte of the request was written: here it is again.
    Unsent(Request<RequestBody>, Error),
    /// It was written, and the upstream says that it took no notice of it.
    Refused(Request<RequestBody>, Error),
    /// Something of it was written, and the connection ended before an answer began.
    Lost(Error),
    Failed(Error),
}

/// A new HTTP/1.1 connection of `endpoint`, ready for a request.
pub(super) async fn connect(endpoint: &Endpoint, response_timeout: Duration) -> Result<Connection, Error> {
    let stream = endpoint.connect().await?;
    let origin = endpoint.origin(&stream);
    let tape = Tape::default();
    let io = Taped { io: TokioIo::new(stream), tape: tape.clone() };
    // PERF: hyper would let the buffers of a fast stream grow to four times as much, for nothing.
    let connecting = http1::Builder::new().max_buf_size(BUFFER).handshake(io);
    let (sender, connection) = connecting.await.map_err(failed)?;
    // One task a connection, on the worker's own runtime; how it ends is told to who sends on it.
    tokio::spawn(async move { drop(connection.with_upgrades().await) });
    let timer = Box::pin(sleep_until(Instant::now() + response_timeout));
    Ok(Connection::Http1(Http1 { sender, tape, origin, timer }))
}

impl Connection {
    pub(super) fn is_ready(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.sender.is_ready(),
            Self::Http2(_) => true,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.sender.is_closed(),
            Self::Http2(_) => false,
        }
    }

    /// Whether it leads where the next request is to go. A shared one is judged by whoever shares it.
    pub(super) fn leads_to(&mut self, endpoint: &Endpoint) -> bool {
        match self {
            Self::Http1(connection) => endpoint.has(&mut connection.origin),
            Self::Http2(_) => true,
        }
    }

    /// Where the head of the request under way is found, if it has to go again.
    pub(super) fn tape(&self) -> &Tape {
        match self {
            Self::Http1(connection) => &connection.tape,
            Self::Http2(stream) => stream.tape(),
        }
    }

    /// One attempt.
    pub(super) async fn exchange(
        &mut self,
        request: Request<RequestBody>,
        start: Instant,
        progress: Option<&Progress>,
        response_timeout: Duration,
    ) -> Exchanged {
        let connection = match self {
            Self::Http1(connection) => connection,
            // PERF: boxed, so that it does not swell the future of every request.
            Self::Http2(stream) => {
                return Box::pin(stream.exchange(request, start, progress, response_timeout)).await;
            }
        };
        let answer = connection.sender.try_send_request(request);
        match in_time(answer, &mut connection.timer, start, progress, response_timeout).await {
            Ok(Ok(response)) => Exchanged::Answered(response),
            Ok(Err(failure)) => failed_exchange(failure),
            Err(error) => Exchanged::Failed(error),
        }
    }
}

/// `answer`, if it comes within `response_timeout` of `start` and of the request's last frame. `timer` was set for this
/// exchange or for one before.
pub(super) async fn in_time<T>(
    answer: impl Future<Output = T>,
    timer: &mut Pin<Box<Sleep>>,
    start: Instant,
    progress: Option<&Progress>,
    response_timeout: Duration,
) -> Result<T, Error> {
    let mut answer = pin!(answer);
    // A request that is sent again has less time than a connection that was not there when it began.
    if timer.deadline() > start + response_timeout {
        timer.as_mut().reset(start + response_timeout);
    }
    poll_fn(|cx| {
        if let Poll::Ready(result) = answer.as_mut().poll(cx) {
            return Poll::Ready(Ok(result));
        }
        // It never ends too late.
        while timer.as_mut().poll(cx).is_ready() {
            // An upload that moves is not cut: the time counts from its last frame.
            let due = progress.map_or(start, |p| p.last().max(start)) + response_timeout;
            if due <= Instant::now() {
                return Poll::Ready(Err(Error::upstream(Reason::ResponseTimeout)));
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    })
    .await
}

#[cold]
fn failed_exchange(mut failure: TrySendError<Request<RequestBody>>) -> Exchanged {
    let unsent = failure.take_message();
    let error = failure.into_error();
    let lost = is_lost_connection(&error);
    let error = failed(error);
    match unsent {
        Some(request) => Exchanged::Unsent(request, error),
        None if lost => Exchanged::Lost(error),
        None => Exchanged::Failed(error),
    }
}

/// The peer closed, as far as one can tell: no head of an answer came.
fn is_lost_connection(error: &hyper::Error) -> bool {
    let is_io = || std::error::Error::source(error).is_some_and(|source| source.is::<io::Error>());
    error.is_incomplete_message() || error.is_canceled() || error.is_closed() || is_io()
}

pub(super) fn failed(error: hyper::Error) -> Error {
    let reason = match std::error::Error::source(&error).and_then(|source| source.downcast_ref()) {
        Some(io) => broken_by(io).unwrap_or(Reason::Broken),
        None if is_lost_connection(&error) => Reason::Broken,
        None => Reason::Protocol,
    };
    Error::upstream(reason).because(error)
}
