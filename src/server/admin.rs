//! The admin listener: liveness, readiness, metrics and the list of sessions, on an address of its own and never on the
//! public one (GX-11). It asks nobody who they are.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Live, admin_sessions};
use crate::http::reply::{self, Reply};

/// A scraper or a probe needs no longer.
const LIMIT: Duration = Duration::from_secs(30);

/// Binds the listener. Errors name the address.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| std::io::Error::new(e.kind(), format!("{address}: {e}")))
}

/// Serves until a reload moves it, drain included: that is when readiness matters.
pub async fn run(listener: TcpListener, live: Live, moved: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = moved.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let live = live.clone();
        tokio::spawn(async move {
            let here = stream.local_addr().ok().map(|a| a.ip());
            let service = service_fn(|request: Request<Incoming>| {
                let (live, caller) = (live.clone(), Caller { peer: peer.ip(), here });
                async move { Ok::<Response<Full<Bytes>>, Infallible>(answer(&live, &caller, &request).await.map(Full::new)) }
            });
            let served = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(LIMIT, served).await;
        });
    }
}

/// Who is connected, and to which of our addresses.
pub struct Caller {
    pub peer: IpAddr,
    pub here: Option<IpAddr>,
}

async fn answer(live: &Live, caller: &Caller, request: &Request<Incoming>) -> Reply {
    let (method, path) = (request.method(), request.uri().path());
    let gateway = Arc::clone(&live.load().gateway);
    if path == "/sessions" || path.starts_with("/sessions/") {
        return admin_sessions::answer(&gateway, caller, method, request.uri(), request.headers()).await;
    }
    if method != Method::GET && method != Method::HEAD {
        let reply = reply::text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
        return reply::with(reply, ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    match path {
        "/livez" => reply::text(StatusCode::OK, "ok\n"),
        "/readyz" if gateway.is_ready() => reply::text(StatusCode::OK, "ready\n"),
        "/readyz" => reply::text(StatusCode::SERVICE_UNAVAILABLE, gateway.unready()),
        "/metrics" => {
            gateway.metrics.store_up.set(i64::from(gateway.sessions.is_store_up()));
            gateway.metrics.sessions_active.set(i64::try_from(gateway.sessions.active()).unwrap_or(i64::MAX));
            match gateway.metrics.encode() {
                Ok(text) => {
                    let mut reply = reply::text(StatusCode::OK, text);
                    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
                    reply.headers_mut().insert(CONTENT_TYPE, kind);
                    reply
                }
                Err(_) => reply::text(StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be written\n"),
            }
        }
        _ => reply::text(StatusCode::NOT_FOUND, "/livez /readyz /metrics /sessions\n"),
    }
}
