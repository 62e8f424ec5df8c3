//! An upstream played by hand, byte for byte, and a client whose requests pass through `Upstream::send`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Either, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};

use super::upload::Allowance;
use super::*;
use crate::config::settings::{Target, UpstreamOptions};
use crate::error::Kind;
use crate::http::headers::Managed;

/// Of a client's body.
const ALLOWANCE: Allowance = Allowance { bytes: 0, timeout: Duration::from_secs(60) };

pub(super) struct Origin {
    listener: TcpListener,
    pub(super) upstream: Arc<Upstream>,
}

impl Origin {
    pub(super) async fn start() -> Self {
        Self::with("", |_| {}).await
    }

    pub(super) async fn with(path: &str, change: impl FnOnce(&mut UpstreamOptions)) -> Self {
        Self::several(&[path], change).await.pop().unwrap()
    }

    /// At `localhost`, which is looked up.
    pub(super) async fn named(change: impl FnOnce(&mut UpstreamOptions)) -> Self {
        Self::at("localhost", &[""], change).await.pop().unwrap()
    }

    /// One for each path, all of them of one upstream.
    pub(super) async fn several(paths: &[&str], change: impl FnOnce(&mut UpstreamOptions)) -> Vec<Self> {
        Self::at("127.0.0.1", paths, change).await
    }

    async fn at(host: &str, paths: &[&str], change: impl FnOnce(&mut UpstreamOptions)) -> Vec<Self> {
        let mut options = UpstreamOptions {
            response_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            ..UpstreamOptions::default()
        };
        change(&mut options);
        let mut listeners = Vec::new();
        let mut targets = Vec::new();
        for path in paths {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            targets.push(Target::Url(format!("http://{host}:{port}{path}").parse().unwrap()));
            listeners.push(listener);
        }
        let metrics = Upstreams::default();
        let upstream = Upstream::new("app", &settings::Upstream { targets, options }, 1, &metrics).unwrap();
        let origin = |listener| Self { listener, upstream: Arc::clone(&upstream) };
        listeners.into_iter().map(origin).collect()
    }

    pub(super) async fn accept(&self) -> Scripted {
        Scripted(self.listener.accept().await.unwrap().0)
    }

    pub(super) fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// Sends in a task of its own, so that the test can play the upstream meanwhile.
    pub(super) fn send(&self, request: Request<RequestBody>) -> Sending {
        let upstream = Arc::clone(&self.upstream);
        Sending(tokio::spawn(async move { upstream.send(0, request, Instant::now()).await }))
    }

    /// A whole exchange on `peer`; leaves the connection in the pool.
    pub(super) async fn exchange(&self, peer: &mut Scripted) {
        let sending = self.send(get("/"));
        assert!(peer.head().await.starts_with("GET / HTTP/1.1\r\n"));
        peer.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        assert_eq!(text(sending.response().await).await.unwrap(), "ok");
        self.settled().await;
    }

    /// Until the newest idle connection can be used again, or is gone.
    pub(super) async fn settled(&self) {
        while let Some((ready, closed)) = self.upstream.peers.each().next().unwrap().pool.newest(0) {
            if ready || closed {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    pub(super) fn idle(&self) -> usize {
        self.upstream.peers.each().next().unwrap().pool.len(0)
    }

    /// A client connection through hyper's server, for requests that have a body.
    pub(super) fn client(&self) -> DuplexStream {
        let (ours, theirs) = duplex(64 * 1024);
        let upstream = Arc::clone(&self.upstream);
        let managed = Arc::new(Managed::new([]));
        let service = service_fn(move |request: Request<Incoming>| {
            let (upstream, managed) = (Arc::clone(&upstream), Arc::clone(&managed));
            async move {
                let request = request.map(|incoming| RequestBody::new(incoming, &managed, ALLOWANCE));
                Ok::<_, Error>(match upstream.send(0, request, Instant::now()).await {
                    Ok(response) => response.map(Either::Left),
                    Err(error) => {
                        let mut response = Response::new(Either::Right(Empty::<Bytes>::new()));
                        *response.status_mut() = StatusCode::BAD_GATEWAY;
                        response.headers_mut().insert("kind", error.kind().as_str().parse().unwrap());
                        response
                    }
                })
            }
        });
        let server = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(theirs), service);
        tokio::spawn(async move { drop(server.await) });
        ours
    }
}

pub(super) struct Sending(tokio::task::JoinHandle<Result<Response<ResponseBody>, Error>>);

impl Sending {
    pub(super) async fn response(self) -> Response<ResponseBody> {
        self.0.await.unwrap().unwrap()
    }

    pub(super) async fn failure(self) -> Kind {
        self.failed().await.kind()
    }

    pub(super) async fn failed(self) -> Error {
        self.0.await.unwrap().map(|r| r.status()).unwrap_err()
    }

    /// As when the client goes away.
    pub(super) async fn abort(self) {
        self.0.abort();
        assert!(self.0.await.is_err_and(|e| e.is_cancelled()));
    }
}

/// The one that is connected to first, and its number.
pub(super) async fn whichever(origins: &[Origin]) -> (usize, Scripted) {
    let (peer, index, _) =
        futures_util::future::select_all(origins.iter().map(|origin| Box::pin(origin.accept()))).await;
    (index, peer)
}

pub(super) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

pub(super) struct Scripted(pub(super) TcpStream);

impl Scripted {
    /// Reads a head, and nothing after it.
    pub(super) async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    pub(super) async fn until(&mut self, end: &str) -> String {
        read_until(&mut self.0, end).await
    }

    pub(super) async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Waits until the other side has closed.
    pub(super) async fn closed(&mut self) {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = self.0.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "{rest:?}");
    }
}

pub(super) async fn read_until(from: &mut (impl tokio::io::AsyncRead + Unpin), end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        text.push(char::from(from.read_u8().await.unwrap()));
    }
    text
}

pub(super) fn get(target: &str) -> Request<RequestBody> {
    request(Method::GET, target)
}

pub(super) fn request(method: Method, target: &str) -> Request<RequestBody> {
    Request::builder().method(method).uri(target).header("host", "app").body(RequestBody::empty()).unwrap()
}

pub(super) async fn text(response: Response<ResponseBody>) -> hyper::Result<String> {
    let bytes = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}
