//! The first message of a client, read before anything is spent on it: until it is whole there is no configuration, no
//! turn among the handshakes and no cryptography.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::server::{Accepted, Acceptor};
use tokio::io::{AsyncRead, AsyncWriteExt as _, ReadBuf};

use crate::net::listen::Io;

/// SECURITY: YX-11: what of a ClientHello is kept for one that does not end. With post-quantum key shares they are below
/// 2 KiB.
const LARGEST: usize = 16 * 1024;

/// What came in place of a ClientHello.
pub(super) enum Failed {
    /// Nothing: somebody looked whether the port is open.
    Closed,
    /// A line of text, such as an HTTP request.
    Text,
    Broken(io::Error),
}

/// Reads the ClientHello. What is wrong with it is told the client in an alert.
pub(super) async fn read(stream: &mut impl Io) -> Result<Accepted, Failed> {
    let mut acceptor = Acceptor::default();
    let (mut first, mut total) = (None, 0);
    loop {
        let read = poll_fn(|cx| {
            let mut source = Source { stream: &mut *stream, cx, first: &mut first };
            match acceptor.read_tls(&mut source) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                result => Poll::Ready(result),
            }
        });
        match read.await.map_err(Failed::Broken)? {
            0 if total == 0 => return Err(Failed::Closed),
            0 => return Err(Failed::Broken(io::ErrorKind::UnexpectedEof.into())),
            n => total += n,
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(accepted),
            Ok(None) if total > LARGEST => {
                return Err(Failed::Broken(io::Error::other("the ClientHello is too large")));
            }
            Ok(None) => {}
            // No record of TLS begins with a letter, every request of HTTP does.
            Err(_) if first.is_some_and(|byte| byte.is_ascii_alphabetic()) => return Err(Failed::Text),
            Err((error, mut alert)) => {
                let mut bytes = Vec::new();
                if alert.write_all(&mut bytes).is_ok() {
                    let _ = stream.write_all(&bytes).await;
                }
                return Err(Failed::Broken(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
        }
    }
}

/// An asynchronous stream, read as rustls reads: what is not there yet would block.
struct Source<'a, 'b, S> {
    stream: &'a mut S,
    cx: &'a mut Context<'b>,
    /// The first byte that came.
    first: &'a mut Option<u8>,
}

impl<S: AsyncRead + Unpin> io::Read for Source<'_, '_, S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(bytes);
        match Pin::new(&mut *self.stream).poll_read(self.cx, &mut buffer) {
            Poll::Ready(result) => result?,
            Poll::Pending => return Err(io::ErrorKind::WouldBlock.into()),
        }
        if self.first.is_none() {
            *self.first = buffer.filled().first().copied();
        }
        Ok(buffer.filled().len())
    }
}
