//! A connection of HTTP/1 between two requests, once that lasts: the socket and nothing else. What hyper keeps for a
//! connection, two buffers above all, is made anew with the first bytes of the next request.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use crate::net::listen::Io;

/// A head, as a rule whole.
const FIRST: usize = 4 * 1024;
/// How long a peer may take to hear that a connection ends in order.
const FAREWELL: Duration = Duration::from_secs(1);

/// A stream of which something was read already: that comes first.
pub(super) struct Resumed<T> {
    io: T,
    before: Bytes,
}

impl<T: Io> Resumed<T> {
    pub(super) fn new(io: T) -> Self {
        Self { io, before: Bytes::new() }
    }

    /// Again, where hyper has let go of it; `before` is what it had read and not used.
    pub(super) fn with(self, before: Bytes) -> Self {
        // PERF: copied, however little it is: else it is the whole buffer that stays.
        Self { before: [before, self.before].concat().into(), ..self }
    }

    /// Waits for the next request. None: none came within `left`, the peer is gone, or the drain has begun.
    pub(super) async fn rest(mut self, left: Duration, drain: &mut watch::Receiver<bool>) -> Option<Self> {
        if !self.before.is_empty() {
            return Some(self);
        }
        let read = tokio::select! {
            biased;
            read = poll_fn(|cx| self.poll_first(cx)) => Poll::Ready(read),
            () = sleep(left) => return None,
            _ = drain.wait_for(|drain| *drain) => Poll::Pending,
        };
        let read = match read {
            Poll::Ready(read) => Poll::Ready(read),
            Poll::Pending => {
                // What has come by now may not be known yet: the runtime looks before it comes back to this.
                yield_now().await;
                poll_fn(|cx| Poll::Ready(self.poll_first(cx))).await
            }
        };
        let Poll::Ready(read) = read else {
            let _ = timeout(FAREWELL, self.io.shutdown()).await;
            return None;
        };
        self.before = read.ok().filter(|bytes| !bytes.is_empty())?;
        Some(self)
    }

    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        // PERF: on the stack of this one call, so that it takes nothing while nobody says anything.
        let mut room = [0; FIRST];
        let mut room = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut room))?;
        Poll::Ready(Ok(Bytes::copy_from_slice(room.filled())))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Resumed<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.before.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let most = self.before.len().min(buf.remaining());
        let given = self.before.split_to(most);
        buf.put_slice(&given);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Resumed<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
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
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    const LEFT: Duration = Duration::from_secs(75);

    #[tokio::test(start_paused = true)]
    async fn what_was_read_comes_first_and_then_the_rest() {
        let (mut client, server) = tokio::io::duplex(1024);
        let (_drain, mut drain) = watch::channel(false);
        client.write_all(b"GET / HTTP/1.1").await.unwrap();
        let resumed = Resumed::new(server).rest(LEFT, &mut drain).await.unwrap();
        // hyper had more of it, and lets go of it again.
        let mut again = resumed.with(Bytes::from_static(b"before ")).rest(LEFT, &mut drain).await.unwrap();
        client.write_all(b"\r\n").await.unwrap();
        drop(client);
        let mut all = String::new();
        again.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "before GET / HTTP/1.1\r\n");
    }

    #[tokio::test(start_paused = true)]
    async fn fx_12_it_ends_with_its_time_its_peer_or_the_drain() {
        let (draining, drain) = watch::channel(false);
        let rest = |io| {
            let mut drain = drain.clone();
            tokio::spawn(async move { Resumed::new(io).rest(LEFT, &mut drain).await.is_some() })
        };
        let (_client, server) = tokio::io::duplex(64);
        let begun = tokio::time::Instant::now();
        assert!(!rest(server).await.unwrap());
        assert_eq!(begun.elapsed(), LEFT);

        let (client, server) = tokio::io::duplex(64);
        drop(client);
        assert!(!rest(server).await.unwrap());

        let (mut client, server) = tokio::io::duplex(64);
        let resting = rest(server);
        draining.send_replace(true);
        assert!(!resting.await.unwrap());
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0, "closed in order");

        // A request that was there before is served.
        let (mut client, server) = tokio::io::duplex(64);
        client.write_all(b"G").await.unwrap();
        assert!(rest(server).await.unwrap());
    }
}
