use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::config::settings::UpstreamOptions;
use crate::error::{Kind, Reason};
use crate::upstream::RequestBody;
use crate::upstream::testing::*;

type Received = (Request<h2::RecvStream>, SendResponse<Bytes>);

async fn origin(change: impl FnOnce(&mut UpstreamOptions)) -> Origin {
    Origin::with("", |options| {
        options.http2 = true;
        change(options);
    })
    .await
}

/// An upstream's side of a connection, played by the h2 crate.
struct Peer(Connection<TcpStream, Bytes>);

impl Peer {
    async fn accept(origin: &Origin) -> Self {
        Self::with(origin, |_| {}).await
    }

    async fn with(origin: &Origin, change: impl FnOnce(&mut Builder)) -> Self {
        let mut builder = Builder::new();
        change(&mut builder);
        Self(builder.handshake(origin.accept().await.0).await.unwrap())
    }

    async fn request(&mut self) -> Received {
        self.0.accept().await.unwrap().unwrap()
    }

    /// Answers every request at once, until the connection ends.
    fn serve(mut self) -> tokio::task::JoinHandle<usize> {
        tokio::spawn(async move {
            let mut served = 0;
            while let Some(Ok((_, respond))) = self.0.accept().await {
                say(respond, "ok");
                served += 1;
            }
            served
        })
    }

    /// Sends and receives until the connection ends.
    fn drive(mut self) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move { while let Some(Ok(_)) = self.0.accept().await {} })
    }
}

fn say(mut respond: SendResponse<Bytes>, text: &'static str) {
    respond.send_response(Response::new(()), false).unwrap().send_data(Bytes::from(text), true).unwrap();
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// An upstream played byte for byte: greets, and reads the head of one request.
async fn raw(origin: &Origin) -> TcpStream {
    let mut stream = origin.accept().await.0;
    stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.unwrap();
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header).await.unwrap();
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await.unwrap();
        if header[3] == 1 {
            return stream;
        }
    }
}

#[tokio::test]
async fn m_22_the_form_of_a_request_is_that_of_http2() {
    let origin = Origin::with("/base", |options| options.http2 = true).await;
    let mut request = request(Method::GET, "/x?y=1");
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    request.headers_mut().insert("connection", "te".parse().unwrap());
    let sending = origin.send(request);
    let mut peer = Peer::accept(&origin).await;
    let (request, respond) = peer.request().await;
    assert_eq!(request.uri(), "http://app/base/x?y=1");
    let names: Vec<&str> = request.headers().keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["te"]);
    say(respond, "ok");
    peer.drive();
    assert_eq!(text(sending.response().await).await.unwrap(), "ok");
}

#[tokio::test]
async fn many_requests_share_a_connection_and_none_opens_a_second_one() {
    let origin = origin(|_| {}).await;
    let sendings: Vec<Sending> = (0..20).map(|_| origin.send(get("/"))).collect();
    let served = Peer::accept(&origin).await.serve();
    for sending in sendings {
        assert_eq!(text(sending.response().await).await.unwrap(), "ok");
    }
    assert_eq!(origin.idle(), 1);
    drop(origin);
    assert_eq!(served.await.unwrap(), 20);
}

#[tokio::test]
async fn where_no_stream_is_free_another_connection_is_opened() {
    let origin = origin(|_| {}).await;
    let sendings: Vec<Sending> = (0..5).map(|_| origin.send(get("/"))).collect();
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut peer = Peer::with(&origin, |builder| {
            builder.max_concurrent_streams(2);
        })
        .await;
        let first = peer.request().await;
        held.push((peer, first));
    }
    assert_eq!(origin.idle(), 3);
    for (peer, (_, respond)) in held {
        say(respond, "ok");
        peer.serve();
    }
    for sending in sendings {
        assert_eq!(text(sending.response().await).await.unwrap(), "ok");
    }
}

#[tokio::test]
async fn a_connection_that_was_idle_for_long_enough_is_closed() {
    let origin = origin(|options| options.idle_timeout = std::time::Duration::from_millis(20)).await;
    let sending = origin.send(get("/"));
    let served = Peer::accept(&origin).await.serve();
    assert_eq!(text(sending.response().await).await.unwrap(), "ok");
    // Its task ends as the client closes, without another request.
    assert_eq!(served.await.unwrap(), 1);
    assert_eq!(origin.idle(), 0);
}

#[tokio::test]
async fn a_request_that_was_refused_goes_again_whatever_its_method() {
    let origin = origin(|_| {}).await;
    let sending = origin.send(request(Method::POST, "/"));
    let mut peer = Peer::accept(&origin).await;
    let (_, mut respond) = peer.request().await;
    respond.send_reset(h2::Reason::REFUSED_STREAM);
    let (request, respond) = peer.request().await;
    assert_eq!((request.method(), request.uri().to_string().as_str()), (&Method::POST, "http://app/"));
    say(respond, "ok");
    peer.drive();
    assert_eq!(text(sending.response().await).await.unwrap(), "ok");
}

#[tokio::test]
async fn a_request_that_is_refused_always_is_given_up() {
    let origin = origin(|_| {}).await;
    let sending = origin.send(get("/"));
    let mut peer = Peer::accept(&origin).await;
    tokio::spawn(async move {
        while let Some(Ok((_, mut respond))) = peer.0.accept().await {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
        }
    });
    assert_eq!(sending.failed().await.reason(), Some(Reason::NotTaken));
}

#[tokio::test]
async fn what_a_goaway_left_out_goes_again_on_another_connection() {
    let origin = origin(|_| {}).await;
    let sending = origin.send(request(Method::POST, "/"));
    let mut stream = raw(&origin).await;
    // The last stream that it processed is none, NO_ERROR.
    stream.write_all(&frame(7, 0, 0, &[0; 8])).await.unwrap();
    Peer::accept(&origin).await.serve();
    assert_eq!(text(sending.response().await).await.unwrap(), "ok");
}

#[tokio::test]
async fn what_a_goaway_counts_in_is_not_sent_twice() {
    let origin = origin(|_| {}).await;
    let sending = origin.send(request(Method::POST, "/"));
    let mut stream = raw(&origin).await;
    stream.write_all(&frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])).await.unwrap();
    drop(stream);
    assert_eq!(sending.failed().await.reason(), Some(Reason::Broken));
}

#[tokio::test]
async fn an_idempotent_request_on_a_lost_connection_goes_again() {
    let origin = origin(|_| {}).await;
    let sending = origin.send(get("/first"));
    let mut peer = Peer::accept(&origin).await;
    let (_, respond) = peer.request().await;
    say(respond, "ok");
    let driven = peer.drive();
    assert_eq!(text(sending.response().await).await.unwrap(), "ok");
    let mut again = get("/again?x=1");
    again.headers_mut().insert("x-test", "one".parse().unwrap());
    let sending = origin.send(again);
    driven.abort();
    let mut peer = Peer::accept(&origin).await;
    let (request, respond) = peer.request().await;
    assert_eq!(request.uri(), "http://app/again?x=1");
    assert_eq!(request.headers()["x-test"], "one");
    say(respond, "ok");
    peer.drive();
    assert_eq!(text(sending.response().await).await.unwrap(), "ok");
}

#[tokio::test]
async fn a_connection_that_closed_while_idle_costs_nothing() {
    let origin = origin(|_| {}).await;
    for _ in 0..3 {
        let sending = origin.send(request(Method::POST, "/"));
        let mut peer = Peer::accept(&origin).await;
        let (_, respond) = peer.request().await;
        say(respond, "ok");
        peer.0.graceful_shutdown();
        let driven = peer.drive();
        assert_eq!(text(sending.response().await).await.unwrap(), "ok");
        driven.await.unwrap();
    }
}

#[tokio::test]
async fn who_speaks_no_http2_gets_no_request() {
    let origin = origin(|_| {}).await;
    let sending = origin.send(request(Method::POST, "/"));
    let mut peer = origin.accept().await;
    peer.say("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await;
    assert_eq!(sending.failed().await.reason(), Some(Reason::NoHttp2));
    let mut sent = Vec::new();
    let _ = peer.0.read_to_end(&mut sent).await;
    let (mut frames, mut kinds) = (&sent[24..], Vec::new());
    while let [a, b, c, kind, ..] = *frames {
        kinds.push(kind);
        frames = &frames[9 + u32::from_be_bytes([0, a, b, c]) as usize..];
    }
    assert!(kinds.contains(&4) && !kinds.contains(&1), "{kinds:?}");
}

#[tokio::test]
async fn who_says_nothing_is_waited_for_as_long_as_for_a_connection() {
    let origin = origin(|options| options.connect_timeout = std::time::Duration::from_millis(20)).await;
    let sendings = [origin.send(get("/")), origin.send(get("/"))];
    let _silent = origin.accept().await;
    for sending in sendings {
        assert_eq!(sending.failed().await.reason(), Some(Reason::ConnectTimeout), "both share the failure");
    }
}

#[tokio::test]
async fn h_15_no_answer_in_time_ends_one_request_and_not_the_connection() {
    let origin = origin(|options| options.response_timeout = std::time::Duration::from_millis(20)).await;
    let slow = origin.send(get("/slow"));
    let mut peer = Peer::accept(&origin).await;
    let (_, mut unanswered) = peer.request().await;
    let driven = tokio::spawn(async move {
        let reset = std::future::poll_fn(|cx| unanswered.poll_reset(cx));
        let (reset, next) = tokio::join!(reset, peer.request());
        say(next.1, "ok");
        peer.drive();
        reset.unwrap()
    });
    assert_eq!(slow.failed().await.reason(), Some(Reason::ResponseTimeout));
    let sending = origin.send(get("/next"));
    assert_eq!(driven.await.unwrap(), h2::Reason::CANCEL);
    assert_eq!(text(sending.response().await).await.unwrap(), "ok");
}

#[tokio::test]
async fn h_15_a_connection_that_answers_nobody_gets_no_further_request() {
    let origin = origin(|options| options.response_timeout = std::time::Duration::from_millis(20)).await;
    let dead = origin.send(get("/"));
    // It is there and says nothing, as one whose machine has lost its power.
    let _silent = raw(&origin).await;
    assert_eq!(dead.failed().await.reason(), Some(Reason::ResponseTimeout));
    assert_eq!(origin.send(get("/")).failed().await.reason(), Some(Reason::ResponseTimeout));
    let sending = origin.send(get("/"));
    let accepted = tokio::time::timeout(std::time::Duration::from_secs(5), Peer::accept(&origin));
    accepted.await.expect("another connection").serve();
    assert_eq!(text(sending.response().await).await.unwrap(), "ok");
}

#[tokio::test]
async fn who_goes_away_resets_the_request() {
    let origin = origin(|_| {}).await;
    // While the answer is waited for, and while it comes.
    let sending = origin.send(get("/"));
    let mut peer = Peer::accept(&origin).await;
    let (_, mut waiting) = peer.request().await;
    sending.abort().await;
    let driven = tokio::spawn(async move {
        let reset = std::future::poll_fn(|cx| waiting.poll_reset(cx));
        let (reset, (_, mut streaming)) = tokio::join!(reset, peer.request());
        let mut stream = streaming.send_response(Response::new(()), false).unwrap();
        stream.send_data(Bytes::from("some"), false).unwrap();
        peer.drive();
        (reset.unwrap(), std::future::poll_fn(|cx| stream.poll_reset(cx)).await.unwrap())
    });
    let mut response = origin.send(get("/")).response().await;
    assert_eq!(response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "some");
    drop(response);
    assert_eq!(driven.await.unwrap(), (h2::Reason::CANCEL, h2::Reason::CANCEL));
}

#[tokio::test]
async fn bodies_and_trailers_pass_both_ways() {
    let origin = origin(|_| {}).await;
    let mut client = origin.client();
    client
        .write_all(b"POST / HTTP/1.1\r\nhost: app\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 5\r\nremote-user: eve\r\n\r\n")
        .await
        .unwrap();
    let mut peer = Peer::accept(&origin).await;
    let (request, mut respond) = peer.request().await;
    let driven = peer.drive();
    let mut body = request.into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "hello");
    assert!(body.data().await.is_none());
    let trailers = body.trailers().await.unwrap().unwrap();
    assert_eq!((&trailers["x-sum"], trailers.len()), (&"5".parse().unwrap(), 1));
    let head = Response::builder().header("trailer", "grpc-status").body(()).unwrap();
    let mut stream = respond.send_response(head, false).unwrap();
    stream.send_data(Bytes::from("hi"), false).unwrap();
    stream.send_trailers([("grpc-status".parse().unwrap(), "0".parse().unwrap())].into_iter().collect()).unwrap();
    let mut head = read_until(&mut client, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    head = read_until(&mut client, "0\r\n").await;
    assert_eq!(head, "2\r\nhi\r\n0\r\n");
    driven.abort();
}

#[tokio::test]
async fn a_client_that_breaks_off_its_body_is_no_fault_of_the_upstream() {
    let origin = origin(|_| {}).await;
    let mut client = origin.client();
    client.write_all(b"POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 9\r\n\r\nhalf").await.unwrap();
    let mut peer = Peer::accept(&origin).await;
    let (request, _respond) = peer.request().await;
    peer.drive();
    let mut body = request.into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "half");
    client.shutdown().await.unwrap();
    assert!(body.data().await.unwrap().is_err());
}

fn opening() -> Request<RequestBody> {
    let mut request = get("/socket");
    let headers = request.headers_mut();
    for (name, value) in [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ] {
        headers.insert(name, value.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn a_websocket_runs_over_an_extended_connect_and_keeps_its_place() {
    let origin = origin(|_| {}).await;
    let sending = origin.send(opening());
    let mut peer = Peer::with(&origin, |builder| {
        builder.enable_connect_protocol().max_concurrent_streams(1);
    })
    .await;
    let (request, mut respond) = peer.request().await;
    assert_eq!((request.method(), request.uri().to_string().as_str()), (&Method::CONNECT, "http://app/socket"));
    assert_eq!(request.extensions().get::<h2::ext::Protocol>().unwrap().as_str(), "websocket");
    let driven = peer.drive();
    let mut to_client = respond.send_response(Response::new(()), false).unwrap();
    let mut response = sending.response().await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
    let mut tunnel = TokioIo::new(upgraded);
    tunnel.write_all(b"ping").await.unwrap();
    let mut from_client = request.into_body();
    assert_eq!(from_client.data().await.unwrap().unwrap(), "ping");
    to_client.send_data(Bytes::from("pong"), false).unwrap();
    let mut text = [0; 4];
    tunnel.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"pong");

    // Its stream is taken for as long as the tunnel is there.
    let held = response.into_body().into_held().unwrap();
    let second = origin.send(get("/"));
    Peer::accept(&origin).await.serve();
    assert_eq!(second.response().await.status(), StatusCode::OK);
    drop((held, tunnel));
    driven.abort();
}

#[tokio::test]
async fn an_upstream_without_extended_connect_takes_no_websocket() {
    let origin = origin(|_| {}).await;
    let sending = origin.send(opening());
    let mut peer = Peer::accept(&origin).await;
    let error = tokio::select! {
        error = sending.failed() => error,
        _ = peer.request() => panic!("a request came"),
    };
    assert_eq!((error.kind(), error.reason()), (Kind::UpstreamFailed, Some(Reason::NoWebSocket)));
}
