//! One client connection: hyper's HTTP/1 over it, the timeouts that hyper does not have, and the drain.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep};

use super::Common;
use super::seldom::Seldom;
use crate::gateway::conn::{Conn, LOOK_EVERY};
use crate::gateway::handle;
use crate::net::listen::Io;
use crate::telemetry::refused::Refused;

/// What is read ahead of a slower upstream, or written ahead of the client; more where heads may be larger.
const BUFFER: usize = 128 * 1024;

/// Serves requests until either side has enough.
pub async fn serve(stream: impl Io, conn: Arc<Conn>, common: Common) {
    let limits = common.live.load().gateway.settings.server.limits.clone();
    let service = service_fn(|request| {
        let (common, conn) = (&common, &conn);
        async move {
            // One snapshot a request: it sees one configuration from beginning to end.
            let gateway = Arc::clone(&common.live.load().gateway);
            Ok::<_, Infallible>(handle(&gateway, conn, request).await)
        }
    });
    let io = Watched { io: TokioIo::new(stream), conn: Arc::clone(&conn) };
    let mut builder = http1::Builder::new();
    // PERF: hyper's own header timeout takes a timer for every request; `Conn` keeps two numbers instead, looked at now
    // and then. `header_read_timeout` is therefore off on purpose.
    builder.max_header_size(limits.header_bytes).header_read_timeout(None);
    // PERF: hyper would let the buffers of a fast stream grow to four times as much, for nothing.
    builder.max_buf_size(limits.header_bytes.saturating_mul(2).max(BUFFER));
    let mut connection = pin!(builder.serve_connection(io, service).with_upgrades());
    let mut drain = common.drain.clone();
    let look = (limits.header_timeout.min(limits.idle_timeout) / 4).clamp(Duration::from_millis(50), LOOK_EVERY);
    let mut timer = pin!(sleep(look));
    let mut draining = false;
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
                return;
            }
            Event::Look => {
                if conn.is_overdue(limits.header_timeout, limits.idle_timeout) {
                    return;
                }
                // What is polled next is the connection, and with it the answer under way.
                conn.looked();
                timer.as_mut().reset(Instant::now() + look);
            }
            Event::Drain => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

enum Event {
    Drain,
    End(hyper::Result<()>),
    Look,
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
