//! HTTP/2 over one connection.
//!
//! What a client can make it hold, at the most: `WINDOW` of request bodies, and for each of `limits.streams` streams
//! `SEND_BUFFER` and one piece of an answer.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::Common;
use super::connection::{drive, look_every};
use super::frames::Frames;
use super::listeners::Purpose;
use super::metered::Metered;
use super::streams::{Pieces, Streams};
use crate::config::settings::Limits;
use crate::gateway::conn::Conn;
use crate::gateway::{ext_authz, handle};
use crate::net::listen::Io;

/// Bytes of request bodies that a connection may have under way to us, and so those that we hold of them. One stream may
/// have them all, or a single upload would be slow over a long line.
const WINDOW: u32 = 1024 * 1024;
/// Bytes of one answer that wait for their turn on the connection.
const SEND_BUFFER: usize = 64 * 1024;

pub(super) async fn serve(stream: impl Io, conn: Arc<Conn>, common: Common, limits: Limits, purpose: Purpose) {
    conn.multiplex();
    // SECURITY: FX-11. Counted in looks: no stream needs a timer.
    let patience = limits.idle_timeout.div_duration_f64(look_every(&limits)).ceil();
    let streams = Streams::new(&conn, patience as u32);
    let service = service_fn({
        let (live, conn, streams) = (Arc::clone(&common.live), Arc::clone(&conn), streams.clone());
        move |request| {
            // One snapshot a request: it sees one configuration from beginning to end.
            let gateway = Arc::clone(&live.load().gateway);
            let (conn, streams) = (Arc::clone(&conn), streams.clone());
            async move {
                let response = match purpose {
                    Purpose::Checks => Box::pin(ext_authz::handle(&gateway, &conn, request)).await,
                    Purpose::Redirects | Purpose::Serves => handle(&gateway, &conn, request).await,
                };
                Ok::<_, Infallible>(response.map(|body| Pieces::new(body, streams)))
            }
        }
    });
    let metrics = Arc::clone(&common.live.load().gateway.metrics);
    let io = Metered::new(stream, &conn, streams.clone(), Frames::new(limits.control_frames, Instant::now()), metrics);
    let mut builder = http2::Builder::new(streams.clone());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        // A peer that is gone without a word, while streams are open.
        .keep_alive_interval(limits.idle_timeout)
        .keep_alive_timeout(limits.header_timeout)
        .enable_connect_protocol();
    let connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    drive(connection, |connection| connection.graceful_shutdown(), || streams.wake(), &conn, &common, &limits).await;
}
