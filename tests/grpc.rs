//! gRPC through Doorward, with tonic at both ends: all four kinds of calls, metadata and trailers, deadlines and those who
//! give up, and the statuses of Doorward's own refusals.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

#[path = "support/grpc.rs"]
mod service;
mod support;

use std::future::ready;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use service::{App, Note, codec, note};
use support::gateway::Extra;
use support::{Gateway, Provider, Upstream, eventually};
use tokio::runtime::Runtime;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};

const ROUTES: &str = r#"
[[route]]
path = "/"
upstream = "GRPC"
access = "authenticated"
identity = ["x-forwarded"]
[route.upstream_options]
http2 = true
[route.machine]
issuers = ["main"]
audience = ["demo-api"]
"#;

struct World {
    runtime: Runtime,
    app: App,
    /// What the service runs on: without it, it is gone.
    server: Runtime,
    provider: Provider,
    gateway: Gateway,
    channel: Channel,
}

impl World {
    fn new() -> Self {
        let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (runtime, server, app) = (runtime(), runtime(), App::default());
        let address = server.block_on(app.start());
        let (provider, upstream) = (Provider::start(), Upstream::start());
        let extra = Extra { routes: Some(ROUTES.replace("GRPC", &format!("h2c://{address}"))), ..Extra::default() };
        let gateway = Gateway::with(provider.issuer(), &upstream, extra);
        let endpoint = Endpoint::from_shared(gateway.base.clone()).unwrap();
        let channel = runtime.block_on(endpoint.connect()).unwrap();
        Self { runtime, app, server, provider, gateway, channel }
    }

    fn token(&self) -> String {
        self.provider.demo.control().access_token("alice", None).unwrap()
    }

    /// With alice's token.
    fn request<T>(&self, message: T) -> Request<T> {
        bearer(message, &self.token())
    }

    async fn client(&self) -> Grpc<Channel> {
        let mut client = Grpc::new(self.channel.clone());
        client.ready().await.unwrap();
        client
    }

    fn say(&self, request: Request<Note>) -> Result<Response<Note>, Status> {
        let path = "/test.Notes/Say".parse().unwrap();
        self.runtime.block_on(async { self.client().await.unary(request, path, codec()).await })
    }

    fn count(&self, request: Request<Note>) -> Result<Response<Streaming<Note>>, Status> {
        let path = "/test.Notes/Count".parse().unwrap();
        self.runtime.block_on(async { self.client().await.server_streaming(request, path, codec()).await })
    }
}

fn bearer<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

#[test]
fn all_four_kinds_of_calls_pass_with_their_metadata() {
    let world = World::new();
    let said = world.say(world.request(note("hello"))).unwrap();
    assert_eq!(said.get_ref().text, "hello");
    // Who it is comes from the token and from nowhere else.
    assert_eq!(said.metadata().get("x-seen").unwrap(), "alice");
    let mut forged = world.request(note("hello"));
    forged.metadata_mut().insert("x-forwarded-user", MetadataValue::from_static("root"));
    assert_eq!(world.say(forged).unwrap().metadata().get("x-seen").unwrap(), "alice");

    let counted = world.count(world.request(note("1000"))).unwrap();
    let counted = world.runtime.block_on(counted.into_inner().map(|note| note.unwrap().text).collect::<Vec<_>>());
    assert_eq!((counted.len(), counted.last().map(String::as_str)), (1000, Some("999")));

    // Ten megabytes upwards, in messages.
    let notes = stream::iter((0..160).map(|_| note("x".repeat(65_536))));
    let path = "/test.Notes/Join".parse().unwrap();
    let request = world.request(notes);
    let joined = world.runtime.block_on(async { world.client().await.client_streaming(request, path, codec()).await });
    let Err(too_large) = joined else { panic!("tonic's own limit is four megabytes") };
    assert_eq!(too_large.code(), Code::OutOfRange);
    let notes = stream::iter((0..1000).map(|n| note(format!("{n},"))));
    let request = world.request(notes);
    let path = "/test.Notes/Join".parse().unwrap();
    let joined = world.runtime.block_on(async { world.client().await.client_streaming(request, path, codec()).await });
    let joined = joined.unwrap().into_inner().text;
    assert!(joined.starts_with("0,1,2,") && joined.ends_with(",999,"), "{} bytes", joined.len());
}

#[test]
fn both_sides_talk_by_turns() {
    let world = World::new();
    let (say, said) = tokio::sync::mpsc::unbounded_channel();
    let request = world.request(stream::unfold(said, |mut said| async { said.recv().await.map(|note| (note, said)) }));
    world.runtime.block_on(async {
        let path = "/test.Notes/Talk".parse().unwrap();
        say.send(note("0")).unwrap();
        let mut heard = world.client().await.streaming(request, path, codec()).await.unwrap().into_inner();
        for turn in 0..50 {
            // The next one is said only when this one was answered: nothing is held back on the way.
            assert_eq!(heard.message().await.unwrap().unwrap().text, format!("heard {turn}"));
            say.send(note((turn + 1).to_string())).unwrap();
        }
        drop(say);
        assert_eq!(heard.message().await.unwrap().unwrap().text, "heard 50");
        assert_eq!(heard.message().await.unwrap(), None);
    });
}

#[test]
fn the_servers_own_status_comes_whole() {
    let world = World::new();
    let status = world.say(world.request(note("fail"))).unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "not now: 100 % full"));
    assert_eq!(status.metadata().get("x-detail").unwrap(), "seven");
    assert_eq!(status.metadata().get_bin("x-raw-bin").unwrap().to_bytes().unwrap().as_ref(), b"\x00\xff");
    let path = "/test.Notes/None".parse().unwrap();
    let request = world.request(note(""));
    let answer: Result<Response<Note>, Status> =
        world.runtime.block_on(async { world.client().await.unary(request, path, codec()).await });
    assert_eq!(answer.unwrap_err().code(), Code::Unimplemented);
}

#[test]
fn who_gives_up_is_given_up_on() {
    let world = World::new();
    let open = |what: &str, count: usize| eventually(what, || world.app.open.load(Ordering::SeqCst) == count);
    let mut notes = world.count(world.request(note("forever"))).unwrap().into_inner();
    assert_eq!(world.runtime.block_on(notes.message()).unwrap().unwrap().text, "first");
    open("the call is open", 1);
    drop(notes);
    open("the server was told that nobody listens", 0);

    // The same before the first word of the answer.
    let waiting = world.request(note("never"));
    world.runtime.block_on(async {
        let path = "/test.Notes/Say".parse().unwrap();
        let mut client = world.client().await;
        let asking = client.unary::<_, Note, _>(waiting, path, codec());
        let arrived = async {
            while world.app.open.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = asking => panic!("it is never answered"),
            () = arrived => {}
        }
    });
    open("the server was told that nobody waits", 0);

    // A deadline is known to the server too, and whoever of the three notices first, all know.
    let mut late = world.request(note("never"));
    late.set_timeout(Duration::from_millis(300));
    let end = world.say(late).unwrap_err();
    assert!(matches!(end.code(), Code::DeadlineExceeded | Code::Cancelled), "{end:?}");
    open("the server was told that it is too late", 0);
}

#[test]
fn refusals_of_doorward_are_statuses() {
    let world = World::new();
    let bare = world.say(Request::new(note("hello"))).unwrap_err();
    assert_eq!(bare.code(), Code::Unauthenticated, "{bare:?}");
    let mut bad = Request::new(note("hello"));
    bad.metadata_mut().insert("authorization", MetadataValue::from_static("Bearer nonsense"));
    assert_eq!(world.say(bad).unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(world.say(world.request(note("hello"))).unwrap().get_ref().text, "hello", "and the connection goes on");

    world.server.shutdown_timeout(Duration::from_secs(10));
    let request = world.provider.demo.control().access_token("alice", None).unwrap();
    let request = bearer(note("hello"), &request);
    let path = "/test.Notes/Say".parse().unwrap();
    let mut client = Grpc::new(world.channel);
    let down: Result<Response<Note>, Status> = world.runtime.block_on(async {
        client.ready().await.unwrap();
        client.unary(request, path, codec()).await
    });
    let down = down.unwrap_err();
    assert_eq!(down.code(), Code::Unavailable, "{down:?}");
}

#[test]
fn a_session_is_as_good_as_a_token() {
    let world = World::new();
    let mut browser = world.gateway.browser();
    let callback = browser.reach_callback("/");
    let signed_in = browser.navigate(&callback);
    assert!(signed_in.status < 400, "{}", signed_in.status);
    let cookies = browser.cookie_header(&world.gateway.base);
    let mut request = Request::new(note("hello"));
    request.metadata_mut().insert("cookie", cookies.parse().unwrap());
    assert_eq!(world.say(request).unwrap().metadata().get("x-seen").unwrap(), "alice");
}

/// Concurrent calls share what they can.
#[test]
fn many_calls_at_once() {
    let world = World::new();
    let calls = (0..200).map(|n| {
        let request = world.request(note(n.to_string()));
        let world = &world;
        async move {
            let path = "/test.Notes/Say".parse().unwrap();
            let said = world.client().await.unary(request, path, codec()).await.unwrap();
            assert_eq!(Note::clone(said.get_ref()).text, n.to_string());
            1
        }
    });
    let done = world.runtime.block_on(stream::iter(calls).buffer_unordered(200).fold(0, |sum, one| ready(sum + one)));
    assert_eq!(done, 200);
}
