//! What a connection becomes after `101 Switching Protocols`: bytes both ways. Nothing here looks into them.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};

const BUFFER: usize = 16 * 1024;

/// Copies until both sides are done, one breaks, or `ended` resolves (the session is over). One side that is done
/// sending leaves the other free to finish. Returns the bytes the client sent and the bytes the upstream sent.
pub async fn run(client: OnUpgrade, upstream: OnUpgrade, ended: impl Future<Output = ()>) -> (u64, u64) {
    let (mut sent, mut received) = (0, 0);
    let copy = async {
        let Ok((client, upstream)) = tokio::try_join!(client, upstream) else { return };
        let mut client = Counted { io: TokioIo::new(client), read: &mut sent };
        let mut upstream = Counted { io: TokioIo::new(upstream), read: &mut received };
        // A broken tunnel is the ordinary end of one: there is nobody left to tell.
        drop(copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER).await);
    };
    tokio::select! {
        biased;
        () = ended => {}
        () = copy => {}
    }
    (sent, received)
}

/// Counts as it reads, since a copy that is cut short does not tell how far it came.
struct Counted<'a, T> {
    io: T,
    read: &'a mut u64,
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<'_, T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        *self.read += buf.filled().len().saturating_sub(before) as u64;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<'_, T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
