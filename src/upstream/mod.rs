//! Upstreams: each worker's pool of connections, sending with the safe retry, tunnels. Forwards what it is given: every
//! decision about a request, and every header of it but `Host`, is made before.

mod body;
mod pool;
mod replay;
mod request;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod tunnel;
mod websocket;

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep_until};

use self::body::{Lease, Progress};
pub use self::body::{RequestBody, ResponseBody};
use self::pool::{Connection, Pool};
use self::replay::{Replay, Tape, Taped};
use self::request::Rewrite;
use crate::config::settings;
use crate::error::{Error, Kind};
use crate::net::dial::Endpoint;

/// What is read ahead of a slower client, or written ahead of the upstream: also the most that an answer's head may be.
const BUFFER: usize = 128 * 1024;

/// One upstream of one route, shared by all workers.
pub struct Upstream {
    endpoint: Endpoint,
    rewrite: Rewrite,
    pool: Pool,
    response_timeout: Duration,
}

impl Upstream {
    /// `Kind::Internal` for a `status:` target and for TLS roots that cannot be read.
    pub fn new(settings: &settings::Upstream, workers: usize) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self {
            endpoint: Endpoint::new(&settings.target, &settings.options)?,
            rewrite: Rewrite::new(settings)?,
            pool: Pool::new(workers, settings.options.idle_timeout),
            response_timeout: settings.options.response_timeout,
        }))
    }

    /// Sends `request` over a connection of this worker and waits for the head of the answer; `now` is when. Hop-by-hop
    /// headers are the caller's to remove, of the request and of the answer; `Upgrade` passes if the caller leaves it there.
    ///
    /// Errors: `UpstreamTimeout`, `UpstreamFailed`, and `BadRequest` when it was the client who broke off.
    pub async fn send(
        self: &Arc<Self>,
        worker: usize,
        mut request: Request<RequestBody>,
        now: Instant,
    ) -> Result<Response<ResponseBody>, Error> {
        self.rewrite.apply(&mut request)?;
        let progress = request.body_mut().progress();
        let upgrades = request.method() == Method::CONNECT || request.headers().contains_key(http::header::UPGRADE);
        let (mut start, mut replayed) = (now, false);
        loop {
            let pooled = if replayed { None } else { self.pool.take(worker, start) };
            let reused = pooled.is_some();
            let mut connection = match pooled {
                Some(connection) => connection,
                // PERF: boxed, so that dialling does not swell the future of every request.
                None => {
                    let connection = Box::pin(self.connect()).await?;
                    start = Instant::now();
                    connection
                }
            };
            // PERF: a new connection that fails is no race with a keep-alive timeout, so nothing is copied for it.
            let replay = if reused { Replay::of(&request, &connection.tape) } else { None };
            let mut failure = match self.exchange(&mut connection, request, start, progress.as_deref()).await? {
                Ok(response) => return Ok(self.answer(worker, connection, response, upgrades)),
                Err(failure) => failure,
            };
            // Handed back: not one byte of it was written, so any method may go again. Otherwise the rule of RFC 9110
            // §9.2.2: idempotent, without a body, once, and only where a reused connection explains the failure.
            request = match (failure.take_message(), replay) {
                (Some(unsent), _) if reused => unsent,
                (None, Some(replay)) if is_lost_connection(failure.error()) => {
                    replayed = true;
                    replay.into_request(&connection.tape).ok_or_else(|| failed(failure.into_error()))?
                }
                _ => return Err(failed(failure.into_error())),
            };
        }
    }

    async fn connect(&self) -> Result<Connection, Error> {
        let stream = self.endpoint.connect().await.map_err(|error| {
            let (kind, detail) = match error.kind() {
                io::ErrorKind::TimedOut => (Kind::UpstreamTimeout, "no connection to the upstream in time"),
                _ => (Kind::UpstreamFailed, "no connection to the upstream"),
            };
            Error::new(kind, detail).because(error)
        })?;
        let tape = Tape::default();
        let io = Taped { io: TokioIo::new(stream), tape: tape.clone() };
        // PERF: hyper would let the buffers of a fast stream grow to four times as much, for nothing.
        let connecting = http1::Builder::new().max_buf_size(BUFFER).handshake(io);
        let (sender, connection) = connecting.await.map_err(failed)?;
        // One task a connection, on the worker's own runtime; how it ends is told to who sends on it.
        tokio::spawn(async move { drop(connection.with_upgrades().await) });
        let timer = Box::pin(sleep_until(Instant::now() + self.response_timeout));
        Ok(Connection { sender, tape, timer })
    }

    /// One attempt. The outer error is the timeout; the inner one may hold the request to be sent again.
    async fn exchange(
        &self,
        connection: &mut Connection,
        request: Request<RequestBody>,
        start: Instant,
        progress: Option<&Progress>,
    ) -> Result<Result<Response<Incoming>, TrySendError<Request<RequestBody>>>, Error> {
        let mut answer = pin!(connection.sender.try_send_request(request));
        let timer = &mut connection.timer;
        poll_fn(|cx| {
            if let Poll::Ready(result) = answer.as_mut().poll(cx) {
                return Poll::Ready(Ok(result));
            }
            // It was set for this exchange or for one before, so it never ends too late.
            while timer.as_mut().poll(cx).is_ready() {
                // An upload that moves is not cut: the time counts from its last frame.
                let due = progress.map_or(start, |p| p.last().max(start)) + self.response_timeout;
                if due <= Instant::now() {
                    return Poll::Ready(Err(Error::new(Kind::UpstreamTimeout, "no answer of the upstream in time")));
                }
                timer.as_mut().reset(due);
            }
            Poll::Pending
        })
        .await
    }

    fn answer(
        self: &Arc<Self>,
        worker: usize,
        connection: Connection,
        response: Response<Incoming>,
        upgrades: bool,
    ) -> Response<ResponseBody> {
        // SECURITY: RUSTSEC-2026-0033. A connection that was asked to become something else is never an HTTP one again.
        let lease = if response.status() == StatusCode::SWITCHING_PROTOCOLS || upgrades {
            Lease::spent(connection)
        } else {
            Lease::new(Arc::clone(self), worker, connection)
        };
        response.map(|incoming| ResponseBody::new(incoming, lease))
    }
}

/// The peer closed between two requests, as far as one can tell: no head of an answer came.
fn is_lost_connection(error: &hyper::Error) -> bool {
    let is_io = || std::error::Error::source(error).is_some_and(|source| source.is::<io::Error>());
    error.is_incomplete_message() || error.is_canceled() || error.is_closed() || is_io()
}

fn failed(error: hyper::Error) -> Error {
    // The frame that failed was one of the client's connection.
    if error.is_user() && std::error::Error::source(&error).is_some_and(|source| source.is::<hyper::Error>()) {
        return Error::new(Kind::BadRequest, "the client broke off its request").because(error);
    }
    Error::new(Kind::UpstreamFailed, "the upstream broke the connection or the protocol").because(error)
}
