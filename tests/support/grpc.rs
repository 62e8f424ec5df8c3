//! A gRPC service on tonic, and what its clients need: no generated code, one message. Served over HTTP/2 without TLS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::{self, Stream, StreamExt as _};
use tonic::body::Body;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::server::{ClientStreamingService, ServerStreamingService, StreamingService, UnaryService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Note {
    #[prost(string, tag = "1")]
    pub(crate) text: String,
}

pub(crate) fn note(text: impl Into<String>) -> Note {
    Note { text: text.into() }
}

pub(crate) fn codec() -> ProstCodec<Note, Note> {
    ProstCodec::default()
}

pub(crate) type Notes = Pin<Box<dyn Stream<Item = Result<Note, Status>> + Send>>;

/// `/test.Notes/Say`, `Count`, `Join` and `Talk`: one of each kind.
#[derive(Clone, Default)]
pub(crate) struct App {
    /// Calls that are not over: of `Count`, of `Talk`, and of those that `Say` never answers.
    pub(crate) open: Arc<AtomicUsize>,
}

impl App {
    /// Serves on the runtime of the caller, at the address that it returns.
    pub(crate) async fn start(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, app) = (listener.local_addr().unwrap(), self.clone());
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let app = app.clone();
            async move { Ok::<_, Infallible>(app.answer(request).await) }
        });
        let serving = Server::builder().serve_with_incoming(service, TcpIncoming::from(listener));
        tokio::spawn(async move { serving.await.unwrap() });
        address
    }

    async fn answer(self, request: http::Request<Body>) -> http::Response<Body> {
        let mut grpc = tonic::server::Grpc::new(codec());
        match request.uri().path() {
            "/test.Notes/Say" => grpc.unary(Say(self), request).await,
            "/test.Notes/Count" => grpc.server_streaming(Count(self), request).await,
            "/test.Notes/Join" => grpc.client_streaming(Join, request).await,
            "/test.Notes/Talk" => grpc.streaming(Talk(self), request).await,
            _ => Status::unimplemented("no such method").into_http(),
        }
    }

    fn opened(&self, notes: impl Stream<Item = Result<Note, Status>> + Send + 'static) -> Response<Notes> {
        self.open.fetch_add(1, Ordering::SeqCst);
        Response::new(Box::pin(Open { notes: Box::pin(notes), open: Arc::clone(&self.open) }))
    }
}

/// Notices when nobody wants the rest.
struct Open {
    notes: Notes,
    open: Arc<AtomicUsize>,
}

impl Stream for Open {
    type Item = Result<Note, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.notes.as_mut().poll_next(cx)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Says the same, and in `x-seen` who it was told is calling; refuses "fail" with details, and never answers "never".
struct Say(App);

impl UnaryService<Note> for Say {
    type Response = Note;
    type Future = BoxFuture<'static, Result<Response<Note>, Status>>;

    fn call(&mut self, request: Request<Note>) -> Self::Future {
        let app = self.0.clone();
        Box::pin(async move {
            match request.get_ref().text.as_str() {
                "never" => {
                    let mut never = app.opened(stream::pending());
                    never.get_mut().next().await;
                }
                "fail" => {
                    let mut details = MetadataMap::new();
                    details.insert("x-detail", "seven".parse().unwrap());
                    details.insert_bin("x-raw-bin", MetadataValue::from_bytes(b"\x00\xff"));
                    return Err(Status::with_metadata(Code::FailedPrecondition, "not now: 100 % full", details));
                }
                _ => {}
            }
            let seen = request.metadata().get("x-forwarded-user").cloned();
            let mut response = Response::new(request.into_inner());
            seen.map(|value| response.metadata_mut().insert("x-seen", value));
            Ok(response)
        })
    }
}

/// As many notes as asked for; endless for "forever".
struct Count(App);

impl ServerStreamingService<Note> for Count {
    type Response = Note;
    type ResponseStream = Notes;
    type Future = BoxFuture<'static, Result<Response<Notes>, Status>>;

    fn call(&mut self, request: Request<Note>) -> Self::Future {
        let app = self.0.clone();
        Box::pin(async move {
            Ok(match request.get_ref().text.as_str() {
                "forever" => app.opened(stream::iter([Ok(note("first"))]).chain(stream::pending())),
                text => app.opened(stream::iter(0..text.parse::<usize>().unwrap()).map(|n| Ok(note(n.to_string())))),
            })
        })
    }
}

struct Join;

impl ClientStreamingService<Note> for Join {
    type Response = Note;
    type Future = BoxFuture<'static, Result<Response<Note>, Status>>;

    fn call(&mut self, request: Request<Streaming<Note>>) -> Self::Future {
        Box::pin(async move {
            let mut notes = request.into_inner();
            let mut joined = String::new();
            while let Some(note) = notes.message().await? {
                joined += &note.text;
            }
            Ok(Response::new(note(joined)))
        })
    }
}

/// Answers each note as it comes.
struct Talk(App);

impl StreamingService<Note> for Talk {
    type Response = Note;
    type ResponseStream = Notes;
    type Future = BoxFuture<'static, Result<Response<Notes>, Status>>;

    fn call(&mut self, request: Request<Streaming<Note>>) -> Self::Future {
        let app = self.0.clone();
        Box::pin(async move {
            let notes = request.into_inner().map(|heard| heard.map(|heard| note(format!("heard {}", heard.text))));
            Ok(app.opened(notes))
        })
    }
}
