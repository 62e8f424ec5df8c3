//! The first bytes of a connection in clear text: whether they are the preface of HTTP/2. They are read once, and given to
//! whoever serves the protocol.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use super::rest::Resumed;
use crate::net::listen::Io;

/// What a client of HTTP/2 begins with (RFC 9113 §3.4). No request of HTTP/1.1 begins so.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) enum Begun<T> {
    Http1(Resumed<T>),
    Http2(Resumed<T>),
}

/// Waits for as many bytes as it takes to tell. None: too few came in time, or the peer is gone.
///
/// PERF: a read of its own, once a connection; which protocol it is, is nothing that any later read has to ask.
pub(super) async fn begin<T: Io>(mut io: T, idle_timeout: Duration, header_timeout: Duration) -> Option<Begun<T>> {
    let mut first = [0; PREFACE.len()];
    let mut have = timeout(idle_timeout, io.read(&mut first)).await.ok()?.ok().filter(|n| *n > 0)?;
    let may_be = |first: &[u8], have: usize| first.get(..have).is_some_and(|begin| PREFACE.starts_with(begin));
    if have < PREFACE.len() && may_be(&first, have) {
        let rest = async {
            while have < PREFACE.len() && may_be(&first, have) {
                match io.read(first.get_mut(have..)?).await {
                    Ok(read) if read > 0 => have += read,
                    _ => return None,
                }
            }
            Some(())
        };
        timeout(header_timeout, rest).await.ok()??;
    }
    let http2 = first == *PREFACE;
    let stream = Resumed::new(io).with(Bytes::copy_from_slice(first.get(..have)?));
    Some(if http2 { Begun::Http2(stream) } else { Begun::Http1(stream) })
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    async fn begun(pieces: &[&[u8]]) -> Option<(bool, Vec<u8>)> {
        let (mut client, server) = tokio::io::duplex(1024);
        let send = async {
            for piece in pieces {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(client);
        };
        let (_, begun) = tokio::join!(send, begin(server, LIMIT, LIMIT));
        let (http2, mut stream) = match begun? {
            Begun::Http1(stream) => (false, stream),
            Begun::Http2(stream) => (true, stream),
        };
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        Some((http2, all))
    }

    #[tokio::test]
    async fn no_byte_is_lost_however_they_come() {
        for (pieces, http2) in [
            (&[&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..]][..], false),
            (&[b"G", b"ET / HTTP/1.1\r\n"], false),
            (&[b"P", b"OST / HTTP/1.1\r\n"], false),
            (&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", b"X and more"], false),
            (&[b"PRI * HTTP/1.1\r\n\r\n"], false),
            (&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"frames"], true),
            (&[b"PRI * HTTP/2.0\r\n\r\n", b"SM\r\n\r\nframes"], true),
        ] {
            let whole = pieces.concat();
            assert_eq!(begun(pieces).await, Some((http2, whole.clone())), "{}", String::from_utf8_lossy(&whole));
        }
    }

    #[tokio::test]
    async fn a_preface_that_does_not_end_is_given_up() {
        assert_eq!(begun(&[]).await, None);
        assert_eq!(begun(&[b"PRI * HT"]).await, None);
        tokio::time::pause();
        let (mut client, server) = tokio::io::duplex(1024);
        client.write_all(b"PRI *").await.unwrap();
        assert!(begin(server, LIMIT, LIMIT).await.is_none(), "fx_12: it never goes on");
    }
}
