//! The small HTTP/1.1 server under both halves of the demo: loopback only, bounded, no TLS. It knows connections, bodies
//! and parameters; it never knows what a path means.

use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use askama::Template;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use url::form_urlencoded;

pub(super) type Body = BoxBody<Bytes, Infallible>;

/// An answer whose body is complete; most are.
pub(super) type Page = Response<Bytes>;

/// The answer is no answer: the connection is closed.
#[derive(Debug)]
pub(super) struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is cut on purpose")
    }
}

impl std::error::Error for Cut {}

/// A running server. Dropped, it closes the listener and every connection.
pub(super) struct Server {
    address: SocketAddr,
    _stop: DropGuard,
}

impl Server {
    /// Serves on the current tokio runtime.
    pub(super) fn start<H, F>(listener: TcpListener, handler: H) -> io::Result<Self>
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Response<Body>, Cut>> + Send + 'static,
    {
        let address = loopback(&listener)?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let stop = CancellationToken::new();
        tokio::spawn(accept(listener, handler, stop.clone()));
        Ok(Self { address, _stop: stop.drop_guard() })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The listener's address, if only this machine can reach it.
pub(super) fn loopback(listener: &TcpListener) -> io::Result<SocketAddr> {
    let address = listener.local_addr()?;
    if address.ip().is_loopback() {
        return Ok(address);
    }
    // SECURITY: well-known passwords and one-click sign-in must not be reachable from elsewhere.
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("the demo listens on loopback only, not on {address}")))
}

/// Query or form parameters in the order they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    pub(super) fn parse(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }

    /// Of an absent or empty parameter: nothing (RFC 6749 §3.1 treats both alike).
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    /// The name of a parameter that came twice, which OAuth forbids (RFC 6749 §3.1, §3.2).
    pub(super) fn duplicate(&self) -> Option<&str> {
        let mut seen = HashSet::new();
        self.0.iter().map(|(n, _)| n.as_str()).find(|n| !seen.insert(*n))
    }
}

pub(super) fn query(request: &Request<Incoming>) -> Params {
    Params::parse(request.uri().query().unwrap_or_default().as_bytes())
}

/// The parameters of a form; a broken or oversized body counts as none.
pub(super) async fn form(body: Incoming) -> Params {
    match Limited::new(body, FORM_LIMIT).collect().await {
        Ok(body) => Params::parse(&body.to_bytes()),
        Err(_) => Params::default(),
    }
}

pub(super) fn json(status: StatusCode, value: &serde_json::Value) -> Page {
    let mut page = Response::new(Bytes::from(value.to_string()));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    page.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page
}

pub(super) fn html(status: StatusCode, template: &impl Template) -> Page {
    let Ok(text) = template.render() else { return empty(StatusCode::INTERNAL_SERVER_ERROR) };
    let mut page = Response::new(Bytes::from(text));
    *page.status_mut() = status;
    let headers = page.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // No `form-action`: browsers apply it to the redirect after the sign-in form too, which leads to the client.
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
        ),
    );
    page
}

/// Without a body; a 302 to `to` if that can be said in a header.
pub(super) fn redirect(to: &str) -> Page {
    let Ok(to) = HeaderValue::from_str(to) else { return empty(StatusCode::BAD_REQUEST) };
    let mut page = empty(StatusCode::FOUND);
    page.headers_mut().insert(LOCATION, to);
    page
}

pub(super) fn empty(status: StatusCode) -> Page {
    let mut page = Response::new(Bytes::new());
    *page.status_mut() = status;
    page.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page
}

pub(super) fn full(page: Page) -> Response<Body> {
    page.map(|bytes| Full::new(bytes).boxed())
}

/// So many spaces, in chunks: a body that is too long for anyone, and costs nothing to make.
pub(super) struct Blanks {
    left: usize,
}

impl Blanks {
    pub(super) fn new(bytes: usize) -> Self {
        Self { left: bytes }
    }
}

impl hyper::body::Body for Blanks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static CHUNK: [u8; 16 * 1024] = [b' '; 16 * 1024];
        let bytes = CHUNK.get(..self.left).unwrap_or(&CHUNK);
        if bytes.is_empty() {
            return Poll::Ready(None);
        }
        self.left -= bytes.len();
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(bytes)))))
    }
}

async fn accept<H, F>(listener: tokio::net::TcpListener, handler: H, stop: CancellationToken)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response<Body>, Cut>> + Send + 'static,
{
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = async {
            let seat = Arc::clone(&seats).acquire_owned().await;
            (seat, listener.accept().await)
        };
        let (seat, stream) = tokio::select! {
            () = stop.cancelled() => return,
            accepted = accepted => accepted,
        };
        let Ok((stream, _)) = stream else {
            // Out of file descriptors, most likely: some come back as connections end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Small answers must not wait for an acknowledgement; a socket that refuses the option only is slower.
        let _ = stream.set_nodelay(true);
        let (handler, stop) = (handler.clone(), stop.clone());
        tokio::spawn(async move {
            let _seat = seat;
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service_fn(handler));
            tokio::select! {
                () = stop.cancelled() => {}
                // How a connection ends concerns nobody here: clients come and go, and `Cut` is an error by design.
                _ = connection => {}
            }
        });
    }
}

/// Bytes of a form; authorization requests and tokens are far smaller.
const FORM_LIMIT: usize = 64 * 1024;
/// At once; further ones wait in the listener's queue.
const CONNECTIONS: usize = 1024;

/// The client of the room's tests: one connection a request, no redirects followed.
#[cfg(test)]
pub(super) mod client {
    use super::*;

    pub(in crate::demo) async fn get(to: SocketAddr, path: &str) -> Page {
        send(to, Request::get(path).body(String::new()).unwrap()).await
    }

    pub(in crate::demo) async fn send(to: SocketAddr, request: Request<String>) -> Page {
        try_send(to, request).await.unwrap()
    }

    pub(in crate::demo) async fn try_send(to: SocketAddr, mut request: Request<String>) -> hyper::Result<Page> {
        let stream = tokio::net::TcpStream::connect(to).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        if !request.headers().contains_key(http::header::HOST) {
            request.headers_mut().insert(http::header::HOST, to.to_string().parse().unwrap());
        }
        let (head, body) = sender.send_request(request).await?.into_parts();
        Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
    }
}
