use std::collections::BTreeSet;

use http::Method;
use tokio::io::AsyncWriteExt as _;

use super::super::testing::*;
use super::*;
use crate::config::settings::Balance;

#[tokio::test]
async fn requests_are_spread() {
    for balance in [Balance::RoundRobin, Balance::LeastRequest] {
        let origins = Origin::several(&["", "", ""], |o| o.balance = balance).await;
        let mut under_way = Vec::new();
        let mut seen = BTreeSet::new();
        for _ in 0..3 {
            let sending = origins[0].send(get("/"));
            let (index, mut peer) = whichever(&origins).await;
            peer.head().await;
            seen.insert(index);
            under_way.push((sending, peer));
        }
        match balance {
            Balance::RoundRobin => assert_eq!(seen.len(), 3),
            // Of two that are drawn the one that has nothing to do: never one of them twice before that.
            Balance::LeastRequest => assert!(seen.len() >= 2, "{seen:?}"),
        }
        let load: usize = origins[0].upstream.peers.each().map(Peer::under_way).sum();
        assert_eq!(load, 3);
        for (sending, mut peer) in under_way {
            peer.say(OK).await;
            assert_eq!(text(sending.response().await).await.unwrap(), "ok");
        }
        assert!(origins[0].upstream.peers.each().all(|peer| peer.under_way() == 0));
    }
}

#[tokio::test]
async fn whatever_was_not_sent_goes_to_the_next_one() {
    let mut origins = Origin::several(&["/one", "/two"], |o| o.eject_after = 0).await;
    // One of them does not listen any more; which of them comes first is by chance.
    let gone = fastrand::usize(..2);
    drop(origins.remove(gone));
    let origin = &origins[0];
    let path = ["/two", "/one"][gone];
    for _ in 0..8 {
        let sending = origin.send(request(Method::POST, "/x?y"));
        let mut peer = origin.accept().await;
        assert!(peer.head().await.starts_with(&format!("POST {path}/x?y HTTP/1.1\r\n")));
        peer.say("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
        assert_eq!(text(sending.response().await).await.unwrap(), "ok");
    }
    // A body that nobody has polled is still whole.
    for _ in 0..4 {
        let mut client = origin.client();
        client.write_all(b"POST /x HTTP/1.1\r\nhost: app\r\ncontent-length: 4\r\n\r\nbody").await.unwrap();
        let mut peer = origin.accept().await;
        assert!(peer.until("body").await.starts_with("POST "));
        peer.say("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
        assert!(read_until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn what_may_go_again_goes_to_another_one_with_its_own_path() {
    let paths = ["", "/two", "/three/3"];
    let origins = Origin::several(&paths, |o| o.pass_host = false).await;
    let sending = origins[0].send(get("/x?y"));
    let mut seen = BTreeSet::new();
    for n in 1..=3 {
        let (index, mut peer) = whichever(&origins).await;
        let head = peer.head().await;
        assert!(head.starts_with(&format!("GET {}/x?y HTTP/1.1\r\n", paths[index])), "{head}");
        assert!(head.contains(&format!("\r\nhost: {}\r\n", origins[index].address())), "{head}");
        assert_eq!(head.matches("host:").count(), 1);
        assert!(seen.insert(index), "each is asked once");
        if n == 3 {
            peer.say(OK).await;
        }
    }
    assert_eq!(text(sending.response().await).await.unwrap(), "ok");
}

#[tokio::test]
async fn three_are_enough() {
    let origins = Origin::several(&["", "", "", ""], |_| ()).await;
    let sending = origins[0].send(get("/"));
    for _ in 0..3 {
        whichever(&origins).await.1.head().await;
    }
    let failure = sending.failed().await;
    assert_eq!((failure.kind(), failure.reason()), (Kind::UpstreamFailed, Some(Reason::Broken)));
    assert!(failure.to_string().starts_with("the upstream broke the connection: http://127.0.0.1:"));
}

#[tokio::test]
async fn what_was_sent_and_may_not_go_again_does_not() {
    let origins = Origin::several(&["", ""], |_| ()).await;
    let sending = origins[0].send(request(Method::POST, "/"));
    whichever(&origins).await.1.head().await;
    assert_eq!(sending.failure().await, Kind::UpstreamFailed);

    // Idempotent, but its body is gone.
    let mut client = origins[0].client();
    client.write_all(b"PUT / HTTP/1.1\r\nhost: app\r\ncontent-length: 4\r\n\r\nbody").await.unwrap();
    whichever(&origins).await.1.until("body").await;
    assert!(read_until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 502"));

    // An answer that has begun is the answer, whatever comes of it.
    let sending = origins[0].send(get("/"));
    let (_, mut peer) = whichever(&origins).await;
    peer.head().await;
    peer.say("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 9\r\n\r\nhalf").await;
    let response = sending.response().await;
    assert_eq!(response.status(), 503);
    drop(peer);
    assert!(text(response).await.is_err());
}

#[tokio::test]
async fn h_15_an_answer_that_does_not_come_in_time_is_waited_for_once() {
    let origins = Origin::several(&["", ""], |o| o.response_timeout = Duration::from_millis(20)).await;
    let sending = origins[0].send(get("/"));
    let (_, mut peer) = whichever(&origins).await;
    peer.head().await;
    assert_eq!(sending.failed().await.reason(), Some(Reason::ResponseTimeout));
    peer.closed().await;
}

#[tokio::test]
async fn one_that_fails_is_left_out_but_never_the_last() {
    let mut origins = Origin::several(&["", ""], |o| o.eject_after = 2).await;
    let upstream = Arc::clone(&origins[0].upstream);
    let good = || upstream.peers.each().map(|peer| upstream.peers.is_good(peer)).collect::<Vec<_>>();
    drop(origins.remove(0));
    while good() == [true, true] {
        let sending = origins[0].send(get("/"));
        let mut peer = origins[0].accept().await;
        peer.head().await;
        peer.say("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
        sending.response().await;
    }
    assert_eq!(good(), [false, true]);
    drop(origins);
    for _ in 0..5 {
        assert!(upstream.send(0, get("/"), Instant::now()).await.is_err());
        assert_eq!(good(), [false, true]);
    }
}

#[tokio::test]
async fn fx_12_a_client_that_sends_its_body_slowly_has_no_upstream_left_out() {
    let origins = Origin::several(&["", ""], |o| {
        (o.eject_after, o.response_timeout) = (1, Duration::from_millis(20));
    })
    .await;
    let peers = Arc::clone(&origins[0].upstream.peers);
    for breaks in [false, true] {
        let mut client = origins[0].client();
        client.write_all(b"POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 9\r\n\r\nhalf").await.unwrap();
        let (_, mut peer) = whichever(&origins).await;
        peer.until("half").await;
        // It waits for the rest, or has had enough.
        let _waits = (!breaks).then_some(peer);
        assert!(read_until(&mut client, "\r\n\r\n").await.contains("kind: upstream_"));
        assert!(peers.each().all(|peer| peers.is_good(peer)), "{breaks}");
    }
    // A body that came whole is no excuse.
    let mut client = origins[0].client();
    client.write_all(b"POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 4\r\n\r\nbody").await.unwrap();
    let (_, mut peer) = whichever(&origins).await;
    peer.until("body").await;
    assert!(read_until(&mut client, "\r\n\r\n").await.contains("kind: upstream_timeout"));
    assert!(!peers.each().all(|peer| peers.is_good(peer)));
}

#[tokio::test]
async fn several_that_fail_at_once_do_not_empty_the_set() {
    let origins = Origin::several(&["", "", ""], |o| o.eject_after = 1).await;
    let upstream = Arc::clone(&origins[0].upstream);
    drop(origins);
    let sending = (0..20).map(|_| upstream.send(0, get("/"), Instant::now()));
    let failed = futures_util::future::join_all(sending).await;
    assert!(failed.iter().all(Result::is_err));
    assert_eq!(upstream.peers.each().filter(|peer| upstream.peers.is_good(peer)).count(), 1);
    // Nobody well: everybody is asked.
    for peer in upstream.peers.each() {
        peer.condition.set_well(false);
    }
    let failure = upstream.send(0, get("/"), Instant::now()).await.map(|r| r.status()).unwrap_err();
    assert_eq!(failure.reason(), Some(Reason::Refused));
}

#[tokio::test]
async fn others_are_tried_before_anybody_waits() {
    let origins = Origin::several(&["", ""], |o| {
        (o.requests, o.queue) = (1, 1);
    })
    .await;
    let mut under_way = Vec::new();
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let sending = origins[0].send(get("/"));
        let (index, mut peer) = whichever(&origins).await;
        peer.head().await;
        seen.insert(index);
        under_way.push((sending, peer));
    }
    assert_eq!(seen.len(), 2);
    let waiting = origins[0].send(get("/waits"));
    while origins[0].upstream.peers.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    let refused = origins[0].send(get("/")).failed().await;
    assert_eq!((refused.kind(), refused.reason()), (Kind::UpstreamBusy, Some(Reason::QueueFull)));
    // A place comes free with the end of the answer's body, and the connection with it.
    let (sending, mut peer) = under_way.pop().unwrap();
    peer.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").await;
    let response = sending.response().await;
    assert_eq!(origins[0].upstream.peers.waiting(), 1);
    peer.say("ok").await;
    assert_eq!(text(response).await.unwrap(), "ok");
    assert_eq!(origins[0].upstream.peers.waiting(), 0);
    // The same connection, if it was ready by then, else another one of the same peer.
    let mut peer = tokio::select! {
        head = peer.head() => { assert!(head.starts_with("GET /waits ")); peer }
        (_, mut fresh) = whichever(&origins) => { fresh.head().await; fresh }
    };
    peer.say(OK).await;
    assert_eq!(text(waiting.response().await).await.unwrap(), "ok");
}

#[tokio::test]
async fn nobody_waits_longer_than_the_configuration_says() {
    let origin = Origin::with("", |o| {
        (o.requests, o.response_timeout, o.queue_timeout) = (1, Duration::from_secs(60), Duration::from_secs(2));
    })
    .await;
    let _sending = origin.send(get("/"));
    let mut peer = origin.accept().await;
    peer.head().await;
    tokio::time::pause();
    let start = Instant::now();
    assert_eq!(origin.send(get("/")).failed().await.reason(), Some(Reason::QueueTimeout));
    assert_eq!(start.elapsed().as_secs(), 2);
}

#[tokio::test]
async fn a_place_is_free_again_whatever_becomes_of_the_request() {
    let origin = Origin::with("", |o| (o.requests, o.queue) = (1, 0)).await;
    let under_way = || origin.upstream.peers.each().map(Peer::under_way).sum::<usize>();
    // The client goes before the answer, within it, or the upstream breaks it off.
    let sending = origin.send(get("/"));
    origin.accept().await.head().await;
    sending.abort().await;
    assert_eq!(under_way(), 0);
    for whole in [false, true] {
        let sending = origin.send(get("/"));
        let mut peer = origin.accept().await;
        peer.head().await;
        peer.say("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
        let response = sending.response().await;
        assert_eq!(under_way(), 1);
        if whole {
            drop(peer);
            assert!(text(response).await.is_err());
        } else {
            drop(response);
        }
        assert_eq!(under_way(), 0);
    }
    // A tunnel is no request under way.
    let mut upgrade = get("/ws");
    upgrade.headers_mut().insert("connection", "upgrade".parse().unwrap());
    upgrade.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    let sending = origin.send(upgrade);
    let mut peer = origin.accept().await;
    peer.head().await;
    peer.say("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
    let response = sending.response().await;
    assert_eq!((response.status().as_u16(), under_way()), (101, 0));
}
