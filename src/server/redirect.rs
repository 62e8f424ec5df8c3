//! The plain http listeners beside TLS: each request is told to come back over https, and the connection ends. Nothing is
//! served here, and no cookie is set or read.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderValue, LOCATION};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::Served;
use crate::gateway::{Gateway, secure};
use crate::http::reply::{self, Reply};
use crate::net::listen::Io;

pub(super) async fn serve(stream: impl Io, served: Arc<Served>) {
    let limits = &served.gateway.settings.server.limits;
    let service = service_fn(|request: Request<Incoming>| {
        let reply = answer(&served.gateway, request).map(Full::<Bytes>::new);
        async move { Ok::<_, Infallible>(reply) }
    });
    let mut builder = http1::Builder::new();
    builder.keep_alive(false).max_header_size(limits.header_bytes).header_read_timeout(None);
    // SECURITY: FX-12. One limit for the head and for taking the answer: both are small.
    let _ = tokio::time::timeout(limits.header_timeout, builder.serve_connection(TokioIo::new(stream), service)).await;
}

/// YX-08. Permanent, but never cached: somebody who leaves https again is not locked out by browsers that remember.
fn answer(gateway: &Gateway, request: Request<Incoming>) -> Reply {
    let (head, _) = request.into_parts();
    let location = match secure::location(gateway, &head) {
        Ok(location) => location,
        Err(refusal) => return reply::text(refusal.status(), format!("{}\n", refusal.why())),
    };
    let Ok(location) = HeaderValue::try_from(location) else {
        return reply::empty(StatusCode::BAD_REQUEST);
    };
    // Old clients do not know 308, which alone keeps the method and the body.
    let is_read = head.method == Method::GET || head.method == Method::HEAD;
    let status = if is_read { StatusCode::MOVED_PERMANENTLY } else { StatusCode::PERMANENT_REDIRECT };
    reply::with(reply::empty(status), LOCATION, location)
}
