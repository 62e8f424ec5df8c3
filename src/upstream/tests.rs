use std::time::Duration;

use http::{HeaderValue, Method};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;

use super::testing::*;
use super::*;
use crate::error::Kind;

/// An origin and its first connection, idle in the pool.
async fn warm() -> (Origin, Scripted) {
    let origin = Origin::start().await;
    let sending = origin.send(get("/"));
    let mut peer = origin.accept().await;
    peer.head().await;
    peer.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    assert_eq!(text(sending.response().await).await.unwrap(), "ok");
    origin.settled().await;
    assert_eq!(origin.idle(), 1);
    (origin, peer)
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let (origin, mut peer) = warm().await;
    origin.exchange(&mut peer).await;
    origin.exchange(&mut peer).await;
    assert_eq!(origin.idle(), 1);
}

#[tokio::test]
async fn chunked_and_empty_bodies_give_it_back_too() {
    let (origin, mut peer) = warm().await;
    for (answer, want) in [
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok"),
        ("HTTP/1.1 204 No Content\r\n\r\n", ""),
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", ""),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", ""),
    ] {
        let sending = origin.send(get("/"));
        peer.head().await;
        peer.say(answer).await;
        assert_eq!(text(sending.response().await).await.unwrap(), want, "{answer}");
        origin.settled().await;
        assert_eq!(origin.idle(), 1, "{answer}");
    }
    let sending = origin.send(request(Method::HEAD, "/"));
    assert!(peer.head().await.starts_with("HEAD / "));
    peer.say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await;
    let response = sending.response().await;
    assert_eq!(response.headers()["content-length"], "5");
    // The head is enough: nobody reads the body of an answer to HEAD.
    drop(response);
    origin.settled().await;
    origin.exchange(&mut peer).await;
}

#[tokio::test]
async fn an_old_connection_is_not_used() {
    let origin = Origin::with("", |o| o.idle_timeout = Duration::ZERO).await;
    for _ in 0..2 {
        let sending = origin.send(get("/"));
        let mut peer = origin.accept().await;
        peer.head().await;
        peer.say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        sending.response().await;
    }
}

#[tokio::test]
async fn what_closed_meanwhile_costs_nothing() {
    let (origin, mut peer) = warm().await;
    peer.0.shutdown().await.unwrap();
    peer.closed().await;
    // POST, since the pool must not even try.
    let sending = origin.send(request(Method::POST, "/"));
    let mut fresh = origin.accept().await;
    assert!(fresh.head().await.starts_with("POST / "));
    fresh.say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(sending.response().await.status(), 200);
}

#[tokio::test]
async fn a_get_that_met_a_closing_connection_goes_again_once() {
    let (origin, mut peer) = warm().await;
    let sending = origin.send(get("/again"));
    peer.head().await;
    drop(peer);
    let mut fresh = origin.accept().await;
    let head = fresh.head().await;
    assert!(head.starts_with("GET /again HTTP/1.1\r\n") && head.contains("\r\nhost: app\r\n"), "{head}");
    drop(fresh);
    assert_eq!(sending.failure().await, Kind::UpstreamFailed);
    assert_eq!(origin.idle(), 0);
}

#[tokio::test]
async fn what_goes_again_is_the_same_byte_for_byte() {
    let (origin, mut peer) = warm().await;
    // A request in between that may not go again leaves nothing of itself behind.
    let sending = origin.send(request(Method::POST, "/between"));
    peer.head().await;
    peer.say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    sending.response().await;
    origin.settled().await;
    let mut odd = request(Method::PUT, "/again?a=b");
    for (name, value) in [("x-twice", &b"1"[..]), ("x-twice", b"2"), ("x-empty", b""), ("x-odd", b" a: \xe9\t: b ")] {
        odd.headers_mut().append(name, HeaderValue::from_bytes(value).unwrap());
    }
    odd.headers_mut().insert("x-long", HeaderValue::try_from("x".repeat(40_000)).unwrap());
    let sending = origin.send(odd);
    let first = peer.head().await;
    drop(peer);
    let mut fresh = origin.accept().await;
    assert!(first.contains("\r\nx-twice: 2\r\n") && first.len() > 40_000);
    assert_eq!(fresh.head().await, first);
    fresh.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    assert_eq!(text(sending.response().await).await.unwrap(), "ok");
}

#[tokio::test]
async fn a_new_connection_that_fails_is_not_tried_again() {
    let origin = Origin::start().await;
    let sending = origin.send(get("/"));
    let mut peer = origin.accept().await;
    peer.head().await;
    drop(peer);
    assert_eq!(sending.failure().await, Kind::UpstreamFailed);
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    let (origin, mut peer) = warm().await;
    let sending = origin.send(request(Method::POST, "/"));
    peer.head().await;
    drop(peer);
    assert_eq!(sending.failure().await, Kind::UpstreamFailed);

    let (origin, mut peer) = warm().await;
    let mut client = origin.client();
    // Idempotent, but its body is gone.
    client.write_all(b"PUT / HTTP/1.1\r\nhost: app\r\ncontent-length: 4\r\n\r\nbody").await.unwrap();
    assert!(peer.until("body").await.starts_with("PUT / "));
    drop(peer);
    let answer = read_until(&mut client, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("kind: upstream_failed"), "{answer}");
}

#[tokio::test]
async fn m_19_a_post_that_was_handed_back_goes_again() {
    let (origin, mut peer) = warm().await;
    let sending = origin.send(request(Method::HEAD, "/"));
    peer.head().await;
    // The body that must not be there would be read as the next answer.
    peer.say("HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let response = sending.response().await;
    assert_eq!(response.status(), 200);
    drop(response);
    let sending = origin.send(request(Method::POST, "/next"));
    let mut fresh = origin.accept().await;
    assert!(fresh.head().await.starts_with("POST /next "));
    fresh.say("HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(sending.response().await.status(), 201);
    peer.closed().await;
}

#[tokio::test]
async fn m_19_no_content_with_a_body_poisons_nothing() {
    for status in ["204 No Content", "304 Not Modified"] {
        let (origin, mut peer) = warm().await;
        let sending = origin.send(get("/"));
        peer.head().await;
        peer.say(&format!("HTTP/1.1 {status}\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")).await;
        assert_eq!(text(sending.response().await).await.unwrap(), "");
        let sending = origin.send(get("/next"));
        let mut fresh = origin.accept().await;
        fresh.head().await;
        fresh.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        assert_eq!(text(sending.response().await).await.unwrap(), "ok");
        peer.closed().await;
    }
}

#[tokio::test]
async fn m_20_a_body_cut_short_is_an_error() {
    for head in ["content-length: 9\r\n\r\nhalf", "transfer-encoding: chunked\r\n\r\n9\r\nhalf"] {
        let (origin, mut peer) = warm().await;
        let sending = origin.send(get("/"));
        peer.head().await;
        peer.say(&format!("HTTP/1.1 200 OK\r\n{head}")).await;
        let response = sending.response().await;
        drop(peer);
        assert!(text(response).await.is_err());
        assert_eq!(origin.idle(), 0);
    }
}

#[tokio::test]
async fn a_body_nobody_wants_closes_its_connection() {
    let (origin, mut peer) = warm().await;
    let sending = origin.send(get("/"));
    peer.head().await;
    peer.say("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
    drop(sending.response().await);
    peer.closed().await;
    assert_eq!(origin.idle(), 0);
}

#[tokio::test]
async fn h_14_answers_that_two_readers_read_in_two_ways() {
    for bad in [
        "garbage\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nfolded: a\r\n b\r\n\r\n",
    ] {
        let (origin, mut peer) = warm().await;
        let sending = origin.send(get("/"));
        peer.head().await;
        peer.say(bad).await;
        assert_eq!(sending.failure().await, Kind::UpstreamFailed, "{bad}");
        assert_eq!(origin.idle(), 0);
    }
}

#[tokio::test]
async fn h_15_no_answer_in_time() {
    let origin = Origin::with("", |o| o.response_timeout = Duration::from_millis(20)).await;
    let sending = origin.send(get("/"));
    let mut peer = origin.accept().await;
    peer.head().await;
    assert_eq!(sending.failure().await, Kind::UpstreamTimeout);
    peer.closed().await;
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_moves_is_not_cut() {
    let origin = Origin::with("", |o| o.response_timeout = Duration::from_secs(10)).await;
    let mut client = origin.client();
    client.write_all(b"POST / HTTP/1.1\r\nhost: app\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    let mut peer = origin.accept().await;
    peer.head().await;
    for _ in 0..5 {
        tokio::time::advance(Duration::from_secs(7)).await;
        client.write_all(b"2\r\nab\r\n").await.unwrap();
        assert_eq!(peer.until("2\r\nab\r\n").await, "2\r\nab\r\n");
    }
    client.write_all(b"0\r\n\r\n").await.unwrap();
    peer.until("0\r\n\r\n").await;
    peer.say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert!(read_until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn nobody_listens() {
    let origin = Origin::start().await;
    let upstream = Arc::clone(&origin.upstream);
    drop(origin);
    let failure = upstream.send(0, get("/"), Instant::now()).await.map(|r| r.status()).unwrap_err();
    assert_eq!(failure.kind(), Kind::UpstreamFailed);
}

#[tokio::test]
async fn a_client_that_breaks_off_leaves_no_connection_behind() {
    let (origin, mut peer) = warm().await;
    let mut client = origin.client();
    client.write_all(b"POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 9\r\n\r\nhalf").await.unwrap();
    peer.until("half").await;
    drop(client);
    peer.closed().await;
    assert_eq!(origin.idle(), 0);
}

#[tokio::test]
async fn hx_11_h_09_identity_in_trailers_stays_out() {
    let (origin, mut peer) = warm().await;
    let mut client = origin.client();
    let head = "POST / HTTP/1.1\r\nhost: app\r\ntransfer-encoding: chunked\r\ntrailer: x-sum, x-forwarded-user\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let body = "1\r\na\r\n0\r\nx-sum: 1\r\nx-forwarded-user: admin\r\nX_Forwarded_User: admin\r\n\r\n";
    client.write_all(body.as_bytes()).await.unwrap();
    peer.head().await;
    let got = peer.until("\r\n\r\n").await;
    assert!(got.contains("x-sum: 1") && !got.to_ascii_lowercase().contains("admin"), "{got}");
}

#[tokio::test]
async fn m_05_a_get_with_a_body_keeps_it() {
    let (origin, mut peer) = warm().await;
    let mut client = origin.client();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: app\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n")
        .await
        .unwrap();
    assert!(peer.head().await.contains("transfer-encoding: chunked"));
    assert_eq!(peer.until("0\r\n\r\n").await, "1\r\na\r\n0\r\n\r\n");
}

#[tokio::test]
async fn m_22_target_and_host_as_configured() {
    for (path, pass_host, target, line) in [
        ("", true, "/a?b", "GET /a?b HTTP/1.1"),
        ("/app/", true, "/a?b", "GET /app/a?b HTTP/1.1"),
        ("/app", false, "http://other/a", "GET /app/a HTTP/1.1"),
        ("", false, "http://other", "GET / HTTP/1.1"),
    ] {
        let origin = Origin::with(path, |o| o.pass_host = pass_host).await;
        let _sending = origin.send(get(target));
        let head = origin.accept().await.head().await;
        let host = if pass_host { "app".to_owned() } else { origin.address() };
        assert!(head.starts_with(line) && head.contains(&format!("host: {host}\r\n")), "{head}");
        assert_eq!(head.matches("host: ").count(), 1);
    }
}

#[tokio::test]
async fn a_tunnel_and_its_end() {
    let (origin, mut peer) = warm().await;
    let mut upgrade = get("/ws");
    upgrade.headers_mut().insert("connection", "upgrade".parse().unwrap());
    upgrade.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    let sending = origin.send(upgrade);
    assert!(peer.head().await.contains("upgrade: websocket"));
    peer.say("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello").await;
    let mut response = sending.response().await;
    let upstream = hyper::upgrade::on(&mut response);
    drop(response);
    assert_eq!(origin.idle(), 0);

    // The client's side: a connection of hyper's server that was upgraded.
    let (mut client, theirs) = tokio::io::duplex(1024);
    let (hand, upgraded) = tokio::sync::oneshot::channel();
    let hand = std::sync::Mutex::new(Some(hand));
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let sent = hand.lock().unwrap().take().unwrap().send(hyper::upgrade::on(&mut request));
        assert!(sent.is_ok());
        let response = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "websocket");
        std::future::ready(response.body(http_body_util::Empty::<bytes::Bytes>::new()))
    });
    let server = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(theirs), service);
    tokio::spawn(async move { drop(server.with_upgrades().await) });
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await.unwrap();
    read_until(&mut client, "\r\n\r\n").await;

    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let tunnel = tokio::spawn(tunnel::run(upgraded.await.unwrap(), upstream, false, Duration::ZERO, async move {
        drop(ended.await);
        tunnel::End::Session
    }));
    assert_eq!(read_until(&mut client, "hello").await, "hello");
    client.write_all(b"ping").await.unwrap();
    peer.until("ping").await;
    peer.0.shutdown().await.unwrap();
    // Half closed: the other direction still works.
    client.write_all(b"more").await.unwrap();
    peer.until("more").await;
    end.send(()).unwrap();
    assert_eq!(tunnel.await.unwrap(), (8, 5));
    peer.closed().await;
}
