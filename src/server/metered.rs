//! The stream below HTTP/2: counts what the peer sends, and tells `Conn` when nothing can go.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::Frames;
use super::streams::Streams;
use crate::gateway::conn::Conn;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::refused::Refused;

pub(super) struct Metered<T> {
    io: T,
    conn: Arc<Conn>,
    streams: Streams,
    frames: Frames,
    metrics: Arc<Metrics>,
}

impl<T> Metered<T> {
    pub(super) fn new(io: T, conn: &Arc<Conn>, streams: Streams, frames: Frames, metrics: Arc<Metrics>) -> Self {
        Self { io, conn: Arc::clone(conn), streams, frames, metrics }
    }

    fn wrote(&mut self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.conn.writing(polled.is_pending());
        if let Poll::Ready(Ok(bytes)) = &polled {
            self.frames.wrote(*bytes);
        }
        polled
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        if matches!(polled, Poll::Ready(Ok(()))) {
            this.frames.gave(this.streams.given());
            // SECURITY: FX-09. The connection is over.
            if !this.frames.read(buf.filled().get(before..).unwrap_or_default(), Instant::now) {
                this.metrics.refusals.count(Refused::ControlFrames);
                tracing::debug!(peer = %this.conn.peer, "too many HTTP/2 control frames");
                return Poll::Ready(Err(io::Error::other("too many control frames")));
            }
            this.conn.heading(this.frames.is_within_head());
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.wrote(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.conn.writing(polled.is_pending());
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.wrote(polled)
    }
}
