use std::sync::Arc;

use tokio::io::DuplexStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;

/// A tunnel, and its two peers.
struct Open {
    client: DuplexStream,
    upstream: DuplexStream,
    end: oneshot::Sender<End>,
    tunnel: JoinHandle<(u64, u64)>,
}

impl Open {
    fn new(websocket: bool) -> Self {
        Self::with(websocket, Duration::ZERO)
    }

    fn with(websocket: bool, idle: Duration) -> Self {
        // So small that nothing larger than a header passes in one piece.
        let (client, to_client) = tokio::io::duplex(64);
        let (upstream, to_upstream) = tokio::io::duplex(64);
        let (end, ended) = oneshot::channel();
        let tunnel = tokio::spawn(carry(to_client, to_upstream, websocket, idle, async { ended.await.unwrap() }));
        Self { client, upstream, end, tunnel }
    }
}

const SESSION: &[u8] = b"\x88\x0f\x03\xf0session ended";
const SHUTDOWN: &[u8] = b"\x88\x0f\x03\xe9shutting down";

/// A client's frame; its key is zero, so that the payload reads as it is.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

async fn reads(stream: &mut DuplexStream, want: &[u8]) {
    let mut have = vec![0; want.len()];
    stream.read_exact(&mut have).await.unwrap();
    assert_eq!(have, want);
}

/// The rest of what the tunnel wrote, to its end.
async fn rest(stream: &mut DuplexStream) -> Vec<u8> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    rest
}

/// A masked close frame, as the payload that it hides.
async fn reads_masked_close(stream: &mut DuplexStream) -> Vec<u8> {
    let mut frame = [0; 21];
    stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[..2], [0x88, 0x80 | 15]);
    frame[6..].iter().zip(frame[2..6].iter().cycle()).map(|(byte, key)| byte ^ key).collect()
}

#[tokio::test(start_paused = true)]
async fn ox_02_both_peers_are_told_why_and_may_answer() {
    for (end, plain) in [(End::Session, SESSION), (End::Shutdown, SHUTDOWN)] {
        let mut open = Open::new(true);
        open.client.write_all(&masked(0x81, b"hi")).await.unwrap();
        reads(&mut open.upstream, &masked(0x81, b"hi")).await;
        open.upstream.write_all(b"\x81\x02yo").await.unwrap();
        reads(&mut open.client, b"\x81\x02yo").await;

        let start = Instant::now();
        open.end.send(end).unwrap();
        reads(&mut open.client, plain).await;
        assert_eq!(reads_masked_close(&mut open.upstream).await, plain[2..]);
        // What a client sends before it answers goes nowhere.
        open.client.write_all(&masked(0x81, b"too late")).await.unwrap();
        open.client.write_all(&masked(0x88, &plain[2..])).await.unwrap();
        open.upstream.write_all(b"\x81\x04late").await.unwrap();
        open.upstream.write_all(plain).await.unwrap();
        assert_eq!((rest(&mut open.client).await, rest(&mut open.upstream).await), (vec![], vec![]));
        assert_eq!(open.tunnel.await.unwrap(), (8, 4));
        assert_eq!(start.elapsed(), Duration::ZERO, "nobody is waited for who has answered");
    }
}

#[tokio::test(start_paused = true)]
async fn ox_02_a_large_frame_ends_before_the_close_frame_comes() {
    let mut open = Open::new(true);
    let large: Vec<u8> = [&[0x82, 126, 0xff, 0xff][..], &[7; 0xffff]].concat();
    let (first, second) = large.split_at(40_000);
    let (mut from_upstream, mut to_tunnel) = tokio::io::split(open.upstream);
    let (reached, middle) = oneshot::channel();
    let sending = {
        let (first, second) = (first.to_vec(), [second, b"\x81\x04more"].concat());
        tokio::spawn(async move {
            to_tunnel.write_all(&first).await.unwrap();
            middle.await.unwrap();
            // The frame behind it is not taken to its end.
            let _ = to_tunnel.write_all(&second).await;
        })
    };
    let mut half = vec![0; first.len()];
    open.client.read_exact(&mut half).await.unwrap();
    open.end.send(End::Session).unwrap();
    let mut frame = vec![0; 21];
    from_upstream.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[..2], [0x88, 0x8f], "the upstream is told at once: its own direction stands between two frames");
    reached.send(()).unwrap();
    let whole = [&half, &rest(&mut open.client).await[..]].concat();
    assert_eq!(whole, [&large, SESSION].concat());
    sending.await.unwrap();
    open.tunnel.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn ox_02_a_frame_that_does_not_end_gets_no_close_frame_and_two_seconds() {
    let mut open = Open::new(true);
    open.upstream.write_all(b"\x82\x7ehalf").await.unwrap();
    reads(&mut open.client, b"\x82\x7ehalf").await;
    open.client.write_all(&masked(0x82, b"whole")[..8]).await.unwrap();
    reads(&mut open.upstream, &masked(0x82, b"whole")[..8]).await;
    let start = Instant::now();
    open.end.send(End::Session).unwrap();
    assert_eq!((rest(&mut open.client).await, rest(&mut open.upstream).await), (vec![], vec![]));
    open.tunnel.await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn ox_02_a_frame_that_a_client_dribbles_is_not_finished() {
    let mut open = Open::new(true);
    let frame = masked(0x81, b"transfer everything");
    open.client.write_all(&frame[..10]).await.unwrap();
    reads(&mut open.upstream, &frame[..10]).await;
    open.end.send(End::Session).unwrap();
    reads(&mut open.client, SESSION).await;
    let _ = open.client.write_all(&frame[10..]).await;
    assert_eq!(rest(&mut open.upstream).await, b"", "not a byte after the end");
    open.tunnel.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn ox_02_peers_that_neither_read_nor_answer_are_gone_within_two_seconds() {
    for websocket in [true, false] {
        let mut open = Open::new(websocket);
        // Far more than fits: both directions stand still, in the middle of a frame.
        let (mut client, mut upstream) = (tokio::io::split(open.client), tokio::io::split(open.upstream));
        let flood = |first: &[u8]| [first, &[0; 100_000]].concat();
        let (up, down) = (flood(&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0]), flood(&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]));
        let up = tokio::spawn(async move { drop(client.1.write_all(&up).await) });
        let down = tokio::spawn(async move { drop(upstream.1.write_all(&down).await) });
        // The paused clock moves only once nothing else does: then all of it stands still.
        sleep(Duration::from_millis(1)).await;
        let start = Instant::now();
        open.end.send(End::Session).unwrap();
        (&mut open.tunnel).await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        let mut some = [0; 1];
        client.0.read_exact(&mut some).await.unwrap();
        upstream.0.read_exact(&mut some).await.unwrap();
        drop((client.0, upstream.0));
        up.await.unwrap();
        down.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_by_a_frame_where_there_are_none() {
    for (websocket, up, down) in [
        // Another protocol, whose bytes happen to look like frames.
        (false, &masked(0x81, b"hi")[..], &b"\x81\x02yo"[..]),
        // A WebSocket by name only.
        (true, b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"),
    ] {
        let mut open = Open::new(websocket);
        open.client.write_all(up).await.unwrap();
        reads(&mut open.upstream, up).await;
        open.upstream.write_all(down).await.unwrap();
        reads(&mut open.client, down).await;
        let start = Instant::now();
        open.end.send(End::Session).unwrap();
        assert_eq!((rest(&mut open.client).await, rest(&mut open.upstream).await), (vec![], vec![]));
        assert_eq!(open.tunnel.await.unwrap(), (up.len() as u64, down.len() as u64));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_closed_already_gets_no_second_close_frame() {
    let mut open = Open::new(true);
    // The upstream says goodbye, the client has not answered yet.
    open.upstream.write_all(b"\x88\x02\x03\xe8").await.unwrap();
    reads(&mut open.client, b"\x88\x02\x03\xe8").await;
    open.end.send(End::Session).unwrap();
    assert_eq!(reads_masked_close(&mut open.upstream).await, SESSION[2..], "which is the answer that it waits for");
    open.client.write_all(&masked(0x88, b"\x03\xe8")).await.unwrap();
    assert_eq!((rest(&mut open.client).await, rest(&mut open.upstream).await), (vec![], vec![]));
    open.tunnel.await.unwrap();

    // A stream that has ended is not written to again.
    let mut open = Open::new(true);
    open.client.shutdown().await.unwrap();
    assert_eq!(rest(&mut open.upstream).await, b"");
    open.end.send(End::Session).unwrap();
    reads(&mut open.client, SESSION).await;
    open.tunnel.await.unwrap();
}

#[tokio::test]
async fn bytes_pass_whole_both_ways_and_ends_apart() {
    let mut open = Open::new(true);
    let bytes: Arc<[u8]> = (0..300_000_u32).map(|n| n as u8).collect();
    let (mut client, mut upstream) = (tokio::io::split(open.client), tokio::io::split(open.upstream));
    let (up, down) = (Arc::clone(&bytes), Arc::clone(&bytes));
    let up = tokio::spawn(async move {
        client.1.write_all(&up).await.unwrap();
        client.1.shutdown().await.unwrap();
        client.1
    });
    let mut have = Vec::new();
    upstream.0.read_to_end(&mut have).await.unwrap();
    assert!(have == *bytes);
    // The client is done; the upstream is not.
    let down = tokio::spawn(async move {
        upstream.1.write_all(&down).await.unwrap();
        upstream.1.shutdown().await.unwrap();
        upstream.1
    });
    have.clear();
    client.0.read_to_end(&mut have).await.unwrap();
    assert!(have == *bytes);
    assert_eq!((&mut open.tunnel).await.unwrap(), (300_000, 300_000));
    drop((up.await.unwrap(), down.await.unwrap(), open.end));
}

#[tokio::test(start_paused = true)]
async fn wx_07_a_tunnel_in_which_nobody_says_anything_is_closed_and_told_why() {
    const LIMIT: Duration = Duration::from_secs(60);
    let mut open = Open::with(true, LIMIT);
    let mut last = Instant::now();
    for _ in 0..5 {
        sleep(LIMIT - Duration::from_secs(1)).await;
        // One that speaks is enough.
        open.upstream.write_all(b"\x89\x00").await.unwrap();
        last = Instant::now();
        reads(&mut open.client, b"\x89\x00").await;
    }
    let plain = b"\x88\x13\x03\xe9idle for too long";
    reads(&mut open.client, plain).await;
    assert!((LIMIT..=LIMIT + LIMIT / LOOKS).contains(&last.elapsed()), "{:?}", last.elapsed());
    assert_eq!((rest(&mut open.client).await, rest(&mut open.upstream).await.len()), (vec![], 25));
    open.tunnel.await.unwrap();

    // What is no WebSocket is closed without a word.
    let mut open = Open::with(false, LIMIT);
    assert_eq!((rest(&mut open.client).await, rest(&mut open.upstream).await), (vec![], vec![]));

    let open = Open::with(true, Duration::ZERO);
    sleep(Duration::from_secs(1_000_000)).await;
    assert!(!open.tunnel.is_finished(), "zero is for ever");
}

#[tokio::test(start_paused = true)]
async fn wx_07_a_peer_that_takes_nothing_does_not_keep_a_tunnel_open() {
    let mut open = Open::with(true, Duration::from_secs(60));
    let (mut from_upstream, mut to_tunnel) = tokio::io::split(open.upstream);
    // More than the tunnel and its ends hold: nobody reads at the client.
    let sending = tokio::spawn(async move { to_tunnel.write_all(&[0x82, 0].repeat(BUFFER)).await });
    let mut told = Vec::new();
    from_upstream.read_to_end(&mut told).await.unwrap();
    open.tunnel.await.unwrap();
    let _ = sending.await.unwrap();
    let _ = open.client.shutdown().await;
}
