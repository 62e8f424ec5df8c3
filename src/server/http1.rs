//! HTTP/1.1 and 1.0 over one connection.

use std::convert::Infallible;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::StatusCode;
use http::header::{CONNECTION, HeaderValue};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1::{self, UpgradeableConnection};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::Common;
use super::connection::{Left, drive};
use super::rest::Resumed;
use crate::config::settings::Limits;
use crate::gateway::conn::Conn;
use crate::gateway::handle;
use crate::net::listen::Io;

/// What is read ahead of a slower upstream, or written ahead of the client; more where heads may be larger.
const BUFFER: usize = 128 * 1024;

pub(super) async fn serve(mut stream: Resumed<impl Io>, conn: Arc<Conn>, common: Common, limits: Limits) {
    let mut drain = common.drain.clone();
    loop {
        // PERF: in a box: of a connection that rests nothing of this is kept.
        let Some(resting) = Box::pin(requests(stream, &conn, &common, &limits)).await else { return };
        let Some(resumed) = resting.rest(conn.idle_left(limits.idle_timeout), &mut drain).await else { return };
        if !common.live.load().holds(&conn) {
            return;
        }
        stream = resumed;
    }
}

/// Serves requests for as long as they keep coming. None: the connection is over.
async fn requests<T: Io>(stream: Resumed<T>, conn: &Arc<Conn>, common: &Common, limits: &Limits) -> Option<Resumed<T>> {
    let service = service_fn(|request| {
        async move {
            // One snapshot a request: it sees one configuration from beginning to end.
            let gateway = Arc::clone(&common.live.load().gateway);
            let mut response = handle(&gateway, conn, request).await;
            // Then the client comes back on a connection to another instance before this one takes no more of them.
            if gateway.is_leaving() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let io = Watched { io: TokioIo::new(stream), conn: Arc::clone(conn) };
    let mut builder = http1::Builder::new();
    // PERF: hyper's own header timeout takes a timer for every request; `Conn` keeps two numbers instead, looked at now
    // and then. `header_read_timeout` is therefore off on purpose.
    builder.max_header_size(limits.header_bytes).header_read_timeout(None);
    // PERF: hyper would let the buffers of a fast stream grow to four times as much, for nothing.
    builder.max_buf_size(limits.header_bytes.saturating_mul(2).max(BUFFER));
    let mut connection = builder.serve_connection(io, service).with_upgrades();
    let shut = |connection: Pin<&mut _>| UpgradeableConnection::graceful_shutdown(connection);
    if drive(Pin::new(&mut connection), shut, || {}, conn, common, limits).await == Left::Over {
        return None;
    }
    let parts = connection.into_parts()?;
    Some(parts.io.io.into_inner().with(parts.read_buf))
}

/// The stream, telling `Conn` when bytes come, and when none can go.
struct Watched<T> {
    io: T,
    conn: Arc<Conn>,
}

impl<T: Read + Unpin> Read for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<std::io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if matches!(polled, Poll::Ready(Ok(()))) {
            self.conn.reading();
        }
        polled
    }
}

impl<T: Write + Unpin> Write for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.conn.writing(polled.is_pending());
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.conn.writing(polled.is_pending());
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.conn.writing(polled.is_pending());
        polled
    }
}
