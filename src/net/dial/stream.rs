//! One connection, whatever it runs over.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::{SockRef, Socket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

/// A connection, ready for HTTP.
pub enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl Stream {
    /// `None` = a Unix socket, or it is gone already.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok(),
            Self::Tls(stream) => stream.get_ref().0.peer_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// A peer that ends TLS says why in an alert, and closes: what is written then fails before that was read.
    fn explained<T>(&mut self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match (written, self) {
            (Poll::Ready(Err(error)), Self::Tls(stream)) => Poll::Ready(Err(alert(stream).unwrap_or(error))),
            (written, _) => written,
        }
    }
}

/// What came of TLS and was not looked at yet; what came for HTTP stays where it is.
#[cold]
fn alert(stream: &mut TlsStream<TcpStream>) -> Option<io::Error> {
    let (io, session) = stream.get_mut();
    let socket = SockRef::from(&*io);
    let mut unread: &Socket = &socket;
    while session.wants_read() && session.read_tls(&mut unread).is_ok_and(|bytes| bytes > 0) {
        if let Err(error) = session.process_new_packets() {
            return Some(io::Error::new(io::ErrorKind::InvalidData, error));
        }
    }
    None
}

/// Calls the method on whichever stream it is.
macro_rules! on_each {
    ($stream:expr, $method:ident($($argument:expr),*)) => {
        match $stream {
            Stream::Tcp(s) => Pin::new(s).$method($($argument),*),
            Stream::Tls(s) => Pin::new(s.as_mut()).$method($($argument),*),
            Stream::Unix(s) => Pin::new(s).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_each!(self.get_mut(), poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = on_each!(&mut *self, poll_write(cx, buf));
        self.explained(written)
    }

    // PERF: without these two hyper would flatten head and body into one buffer.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = on_each!(&mut *self, poll_write_vectored(cx, bufs));
        self.explained(written)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(s) => s.is_write_vectored(),
            Self::Tls(s) => s.is_write_vectored(),
            Self::Unix(s) => s.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = on_each!(&mut *self, poll_flush(cx));
        self.explained(written)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_each!(self.get_mut(), poll_shutdown(cx))
    }
}
