//! The first frame of an HTTP/2 server: SETTINGS, or it is none (RFC 9113 §3.4). Nothing is sent to an upstream before it
//! came, so that whatever speaks another protocol costs no request, and its limits are known to the first one.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use crate::error::{Error, Reason};
use crate::net::dial::broken_by;

const HEADER: usize = 9;
const SETTINGS: u8 = 4;

/// A connection that tells when the first frame has come whole, and then is what it wraps.
pub(super) struct Greeted<T> {
    io: T,
    waiting: Option<(First, oneshot::Sender<Result<(), Error>>)>,
}

impl<T> Greeted<T> {
    pub(super) fn new(io: T) -> (Self, oneshot::Receiver<Result<(), Error>>) {
        let (tell, told) = oneshot::channel();
        (Self { io, waiting: Some((First::default(), tell)) }, told)
    }
}

impl<T> Greeted<T> {
    /// Whoever waits is told why this is the last that was written.
    fn noted<R>(&mut self, written: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if let Poll::Ready(Err(error)) = &written
            && let Some((_, tell)) = self.waiting.take()
        {
            drop(tell.send(Err(broken(error))));
        }
        written
    }
}

/// The error itself goes to hyper.
fn broken(error: &io::Error) -> Error {
    Error::upstream(broken_by(error).unwrap_or(Reason::Broken)).because(error.to_string())
}

/// The first frame, as far as it has come.
#[derive(Default)]
struct First {
    header: [u8; HEADER],
    have: usize,
}

impl First {
    /// Whether it is whole with these bytes.
    fn pass(&mut self, bytes: &[u8]) -> Result<bool, Error> {
        let missing = self.header.iter_mut().skip(self.have);
        missing.zip(bytes).for_each(|(to, byte)| *to = *byte);
        self.have = self.have.saturating_add(bytes.len());
        let [long, er, length, kind, ..] = self.header;
        if self.have > 3 && kind != SETTINGS {
            return Err(Error::upstream(Reason::NoHttp2).because("its first bytes are no SETTINGS frame"));
        }
        let length = u32::from_be_bytes([0, long, er, length]);
        Ok(self.have >= HEADER + usize::try_from(length).unwrap_or(usize::MAX))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Greeted<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if let Some((mut first, tell)) = self.waiting.take() {
            let outcome = match &polled {
                Poll::Pending => Ok(false),
                Poll::Ready(Err(error)) => Err(broken(error)),
                Poll::Ready(Ok(())) => match buf.filled().get(before..).unwrap_or_default() {
                    [] => Err(Error::upstream(Reason::Broken).because("it closed before its first frame was whole")),
                    bytes => first.pass(bytes),
                },
            };
            match outcome {
                Ok(false) => self.waiting = Some((first, tell)),
                // Nobody may wait for it any more.
                Ok(true) => drop(tell.send(Ok(()))),
                Err(error) => drop(tell.send(Err(error))),
            }
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Greeted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = Pin::new(&mut self.io).poll_flush(cx);
        self.noted(written)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_frame_is_whole_however_it_is_cut() {
        let settings = [&[0, 0, 12, 4, 0, 0, 0, 0, 0][..], &[0; 12], &[0, 0, 0, 4, 1, 0, 0, 0, 0]].concat();
        for cut in 1..settings.len() {
            let (mut first, mut passed) = (First::default(), 0);
            for piece in settings.chunks(cut) {
                passed += piece.len();
                assert_eq!(first.pass(piece).unwrap(), passed >= 21, "pieces of {cut}, {passed} bytes");
            }
        }
    }

    #[test]
    fn what_begins_otherwise_is_no_http2() {
        for text in ["HTTP/1.1 400 Bad Request\r\n", "SSH-2.0-x"] {
            assert_eq!(First::default().pass(text.as_bytes()).unwrap_err().reason(), Some(Reason::NoHttp2), "{text}");
        }
    }
}
