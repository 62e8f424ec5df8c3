//! The copy of a request's head that a safe retry needs. It is taken where hyper writes the head, as one text.
//!
//! PERF: nearly no request is ever sent twice. A copy of its header map counts references up and down for every name and
//! value; this is one `memcpy` into a buffer that stays with the connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use http::header::{HeaderName, HeaderValue};
use http::{Method, Request, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};

use super::body::RequestBody;

/// A larger buffer is not kept between requests.
const KEEP_BYTES: usize = 16 * 1024;

/// The head that was last written to a connection, if it was wanted.
#[derive(Clone, Default)]
pub(super) struct Tape(Arc<Mutex<Recording>>);

#[derive(Default)]
struct Recording {
    wanted: bool,
    head: Vec<u8>,
}

impl Tape {
    fn recording(&self) -> MutexGuard<'_, Recording> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) {
        let mut recording = self.recording();
        recording.wanted = true;
        recording.head.clear();
        recording.head.shrink_to(KEEP_BYTES);
    }

    /// The head that `note` would find if HTTP/1.1 wrote it, for a connection that writes heads in another form.
    pub(super) fn write(&self, request: &Request<RequestBody>) {
        let mut head = b"\r\n".to_vec();
        for (name, value) in request.headers() {
            head.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        head.extend_from_slice(b"\r\n");
        self.note(&head);
    }

    /// Takes down the first bytes that are written after `start`: hyper hands over a head in one piece.
    fn note(&self, bytes: &[u8]) {
        let mut recording = self.recording();
        if std::mem::take(&mut recording.wanted) {
            recording.head.extend_from_slice(bytes);
        }
    }
}

/// A request that may be sent twice.
pub(super) struct Replay {
    method: Method,
    uri: Uri,
}

impl Replay {
    /// Only for what RFC 9110 §9.2.2 calls idempotent and what has no body. The head comes onto `tape` as it is written.
    pub(super) fn of(request: &Request<RequestBody>, tape: &Tape) -> Option<Self> {
        let idempotent = matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
        );
        (idempotent && request.body().is_empty()).then(|| {
            tape.start();
            Self { method: request.method().clone(), uri: request.uri().clone() }
        })
    }

    /// The request that was written. `None` when it is not on the tape whole.
    pub(super) fn into_request(self, tape: &Tape) -> Option<Request<RequestBody>> {
        let mut request = Request::new(RequestBody::empty());
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        let recording = tape.recording();
        let head = recording.head.strip_suffix(b"\r\n\r\n")?;
        // No field holds a line feed. The first line is the request line.
        for line in head.split(|b| *b == b'\n').skip(1) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let colon = memchr::memchr(b':', line)?;
            let value = line.get(colon..)?.strip_prefix(b": ")?;
            let name = HeaderName::from_bytes(line.get(..colon)?).ok()?;
            request.headers_mut().append(name, HeaderValue::from_bytes(value).ok()?);
        }
        Some(request)
    }
}

/// A connection to an upstream whose heads come onto `tape`.
pub(super) struct Taped<T> {
    pub(super) io: T,
    pub(super) tape: Tape,
}

impl<T: Read + Unpin> Read for Taped<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: Write + Unpin> Write for Taped<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.tape.note(buf);
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
        if let Some(first) = bufs.iter().find(|b| !b.is_empty()) {
            self.tape.note(first);
        }
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}
