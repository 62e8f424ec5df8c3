//! One client connection: which protocol it speaks, the timeouts that hyper does not have, and the drain.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::Common;
use super::begun::{Begun, begin};
use super::listeners::Purpose;
use super::rest::Resumed;
use super::seldom::Seldom;
use super::{http1, http2};
use crate::config::settings::Limits;
use crate::gateway::conn::{Conn, LOOK_EVERY, Overdue};
use crate::net::listen::Io;
use crate::telemetry::refused::Refused;

/// For whoever speaks HTTP/1 to the port that answers Envoy.
const NO_GRPC: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nCache-Control: no-store\r\n\
    Content-Type: text/plain\r\nContent-Length: 34\r\n\r\nThis port speaks gRPC over HTTP/2\n";

/// Serves requests until either side has enough.
pub async fn serve(stream: impl Io, conn: Arc<Conn>, common: Common, purpose: Purpose) {
    let limits = common.live.load().gateway.settings.server.limits.clone();
    match &conn.handshake {
        // PERF: in a box: an HTTP/1 connection, which rests most of the time, would keep the room for it.
        Some(handshake) if handshake.http2 => Box::pin(http2::serve(stream, conn, common, limits, purpose)).await,
        Some(_) if purpose == Purpose::Checks => no_grpc(stream).await,
        Some(_) => http1::serve(Resumed::new(stream), conn, common, limits).await,
        // In clear text the first bytes tell (RFC 9113 §3.3).
        None => {
            let mut drain = common.drain.clone();
            let begun = tokio::select! {
                biased;
                begun = begin(stream, limits.idle_timeout, limits.header_timeout) => begun,
                () = unasked(&mut drain) => None,
            };
            match begun {
                Some(Begun::Http1(stream)) if purpose == Purpose::Checks => no_grpc(stream).await,
                Some(Begun::Http1(stream)) => http1::serve(stream, conn, common, limits).await,
                Some(Begun::Http2(stream)) => Box::pin(http2::serve(stream, conn, common, limits, purpose)).await,
                None => {}
            }
        }
    }
}

async fn no_grpc(mut stream: impl Io) {
    let _ = stream.write_all(NO_GRPC).await;
    let _ = stream.shutdown().await;
}

/// Of a connection on which nothing was asked: how long its first request may still take to come once the drain has begun.
/// It was made while this instance listened, and its client sends at this moment.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// And of one between two requests: for what the kernel has and the runtime has not seen.
const LAST_LOOK: Duration = Duration::from_millis(1);

/// When a connection on which nothing was asked is over.
async fn unasked(drain: &mut watch::Receiver<bool>) {
    let _ = drain.wait_for(|drain| *drain).await;
    sleep(FIRST_REQUEST).await;
}

/// How often a connection is looked at.
pub(super) fn look_every(limits: &Limits) -> Duration {
    (limits.header_timeout.min(limits.idle_timeout) / 4).clamp(Duration::from_millis(50), LOOK_EVERY)
}

/// How `drive` leaves a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Left {
    Over,
    /// HTTP/1: nothing has been asked for a while, and nothing is under way.
    Resting,
}

/// Polls the connection of either protocol to its end, or until it rests. `shut` ends it in order; `looked` is told of each look.
pub(super) async fn drive<C: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<&mut C>,
    shut: impl Fn(Pin<&mut C>),
    looked: impl Fn(),
    conn: &Conn,
    common: &Common,
    limits: &Limits,
) -> Left {
    let mut drain = common.drain.clone();
    let look = look_every(limits);
    let mut timer = pin!(sleep(look));
    let mut draining = false;
    // Draining, and to be shut at the next look.
    let mut waiting = false;
    // Since when an idle peer is to know that it is over.
    let mut told: Option<Instant> = None;
    loop {
        let event = {
            let mut other = pin!(async {
                tokio::select! {
                    biased;
                    _ = drain.wait_for(|d| *d), if !draining => Event::Drain,
                    () = timer.as_mut() => Event::Look,
                }
            });
            let mut seldom = Seldom::default();
            poll_fn(|cx| match connection.as_mut().poll(cx) {
                Poll::Ready(result) => Poll::Ready(Event::End(result)),
                Poll::Pending => seldom.poll(cx, other.as_mut()),
            })
            .await
        };
        match event {
            Event::End(result) => {
                if let Err(error) = result {
                    // hyper has answered 431 by itself.
                    if error.is_parse_too_large() {
                        common.live.load().gateway.metrics.refusals.count(Refused::Headers);
                    }
                    tracing::trace!(peer = %conn.peer, %error, "connection ended");
                }
                return Left::Over;
            }
            Event::Look => {
                if std::mem::take(&mut waiting) {
                    shut(connection.as_mut());
                }
                match conn.overdue(limits.header_timeout, limits.idle_timeout) {
                    Some(Overdue::Stuck) => return Left::Over,
                    Some(Overdue::Idle) if !conn.is_multiplexed() => return Left::Over,
                    Some(Overdue::Idle) => {
                        // GOAWAY first: what the client sends at this moment is then sent again elsewhere (RFC 9113 §6.8).
                        let since = *told.get_or_insert_with(|| {
                            shut(connection.as_mut());
                            Instant::now()
                        });
                        if since.elapsed() > limits.header_timeout {
                            return Left::Over;
                        }
                    }
                    None if !draining && !common.live.load().holds(conn) => {
                        draining = true;
                        shut(connection.as_mut());
                    }
                    None if !draining && conn.rests(look) => return Left::Resting,
                    None => {}
                }
                // What is polled next is the connection, and with it the answer under way.
                conn.looked();
                looked();
                timer.as_mut().reset(Instant::now() + look);
            }
            Event::Drain => {
                draining = true;
                waiting = true;
                let wait = if conn.is_unasked() { FIRST_REQUEST } else { LAST_LOOK };
                timer.as_mut().reset(Instant::now() + wait);
            }
        }
    }
}

enum Event {
    Drain,
    End(hyper::Result<()>),
    Look,
}
