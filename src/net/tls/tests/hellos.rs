//! First messages that are none, or that do not end, and those who say nothing.

use super::*;

/// The bytes with which a client of our own begins.
fn hello(config: &ClientConfig) -> Vec<u8> {
    let name = ServerName::try_from("a.test").expect("a name that this test wrote");
    let mut connection =
        rustls::ClientConnection::new(Arc::new(config.clone()), name).expect("a configuration that fits");
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).expect("a vector takes everything");
    bytes
}

/// Sends `bytes` and reads to the end what is answered.
async fn say(acceptor: &Arc<Acceptor>, bytes: &[u8]) -> (Vec<u8>, io::Result<Handshake>) {
    let (mut ours, theirs) = duplex(256 * 1024);
    let server = tokio::spawn(serve(Arc::clone(acceptor), theirs));
    ours.write_all(bytes).await.expect("the other end is ours too");
    ours.shutdown().await.expect("the other end is ours too");
    let mut answer = Vec::new();
    let _ = ours.read_to_end(&mut answer).await;
    (answer, server.await.expect("no panic"))
}

fn server(pki: &Pki) -> Arc<Acceptor> {
    Arc::new(acceptor(&tls(vec![pki.pair("a", &["a.test"])]), None))
}

#[tokio::test]
async fn yx_05_a_malformed_hello_is_an_alert_or_nothing_and_the_next_client_is_served() {
    let pki = Pki::new();
    let acceptor = server(&pki);
    let client = Client::new();
    let good = hello(&client.config);
    let mut corpus: Vec<Vec<u8>> = vec![
        b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10".to_vec(), // SSLv2
        vec![0; 5],
        vec![0xff; 300],
        vec![0x16, 3, 1, 0, 0],
        vec![0x16, 3, 1, 0, 4, 1, 0, 0, 0],
        vec![0x16, 3, 1, 0xff, 0xff],
        vec![0x16, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff],
        vec![0x14, 3, 3, 0, 1, 1],
        vec![0x15, 3, 3, 0, 2, 2, 40],
        vec![0x17, 3, 3, 0, 1, 0],
        [&[0x16, 3, 1, 0, 0][..]; 200].concat(),
    ];
    // Cut anywhere, each byte changed in some way; the generator is seeded, so that a failure is the same again.
    corpus.extend((0..good.len()).step_by(7).map(|end| good[..end].to_vec()));
    let mut random = fastrand::Rng::with_seed(5);
    for at in 0..good.len().min(400) {
        let mut changed = good.clone();
        changed[at] ^= random.u8(1..);
        corpus.push(changed);
    }
    for _ in 0..100 {
        let mut changed = good.clone();
        for _ in 0..random.usize(2..12) {
            let at = random.usize(5..changed.len());
            match random.u8(..3) {
                0 => changed[at] = random.u8(..),
                1 => drop(changed.remove(at)),
                _ => changed.insert(at, random.u8(..)),
            }
        }
        corpus.push(changed);
    }
    for bytes in &corpus {
        let (answer, outcome) = say(&acceptor, bytes).await;
        assert!(outcome.is_err(), "nobody ends the handshake: {bytes:?}");
        // An alert, or what a server says to a hello that was changed where it does not matter.
        assert!(answer.is_empty() || matches!(answer[0], 0x15 | 0x16), "{answer:?}");
    }
    client.connect(&acceptor, "a.test").await.expect("a handshake that is to succeed");
}

#[tokio::test]
async fn f_11_tls_1_1_and_older_are_refused_with_an_alert() {
    let pki = Pki::new();
    let acceptor = server(&pki);
    for minor in 0..=2 {
        let mut body = vec![3, minor];
        body.extend([7; 32]);
        // No session, two cipher suites, no compression; P-256 and ECDSA.
        body.extend([0, 0, 4, 0xc0, 0x09, 0xc0, 0x2b, 1, 0]);
        let extensions = [0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0, 0, 13, 0, 4, 0, 2, 4, 3];
        body.extend([0, u8::try_from(extensions.len()).expect("a small hello")]);
        body.extend(extensions);
        let mut bytes = vec![
            0x16,
            3,
            1,
            0,
            u8::try_from(body.len()).expect("a small hello") + 4,
            1,
            0,
            0,
            u8::try_from(body.len()).expect("a small hello"),
        ];
        bytes.extend(body);
        let (answer, outcome) = say(&acceptor, &bytes).await;
        assert!(outcome.is_err());
        assert_eq!(answer.get(5..7), Some(&[2, 70][..]), "protocol_version: {answer:?}");
    }
}

#[tokio::test]
async fn yx_11_a_hello_that_does_not_end_and_records_that_are_too_large_are_cut_off() {
    let pki = Pki::new();
    let acceptor = server(&pki);
    // Handshake records whose one message goes on and on.
    let mut endless = vec![0x16, 3, 1, 0x10, 4, 1, 0, 0xff, 0xf0];
    endless.extend([0; 0x1000]);
    for _ in 0..15 {
        endless.extend([0x16, 3, 1, 0x10, 0]);
        endless.extend([0; 0x1000]);
    }
    let (_, outcome) = say(&acceptor, &endless).await;
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("too large") || error.contains("TooLarge"), "{error}");
    // A record of more than 2^14 bytes.
    let mut record = vec![0x16, 3, 1, 0x48, 0x01];
    record.extend([1; 0x4801]);
    assert!(say(&acceptor, &record).await.1.is_err());
}

#[tokio::test(start_paused = true)]
async fn yx_11_fx_12_who_says_nothing_takes_no_turn_and_is_closed_in_time() {
    let pki = Pki::new();
    let pair = pki.pair("a", &["a.test"]);
    let acceptor = Arc::new(Acceptor::new(&tls(vec![pair]), 1, None).expect("a pair that this test made"));
    let began = Instant::now();
    let accept = |bytes: Vec<u8>, limit: Duration| {
        let acceptor = Arc::clone(&acceptor);
        let (mut ours, theirs) = duplex(64 * 1024);
        tokio::spawn(async move {
            ours.write_all(&bytes).await.expect("the other end is ours too");
            let failed = acceptor.accept(theirs, began + limit).await.err();
            // Kept open until now.
            drop(ours);
            failed
        })
    };
    let bytes = hello(&Client::new().config);
    let limit = Duration::from_secs(10);
    let silent = accept(Vec::new(), limit);
    let half = accept(bytes[..bytes.len() / 2].to_vec(), limit);
    tokio::task::yield_now().await;
    Client::new().connect(&acceptor, "a.test").await.expect("the only turn is free");
    assert_eq!(began.elapsed(), Duration::ZERO);
    // Who has said hello takes it, and keeps it while nobody needs it.
    let first = accept(bytes.clone(), limit);
    assert!(matches!(silent.await.expect("the task does not panic"), Some(Failed::Slow)));
    assert!(matches!(half.await.expect("the task does not panic"), Some(Failed::Slow)));
    assert!(matches!(first.await.expect("the task does not panic"), Some(Failed::Slow)));
    // The timer of tokio rounds up to a millisecond.
    assert!(began.elapsed() <= limit + Duration::from_millis(2), "{:?}", began.elapsed());
    // While others need it, for a moment only; who cannot wait for so long is turned away.
    let again = began.elapsed();
    let second = accept(bytes.clone(), again + limit);
    tokio::task::yield_now().await;
    let hasty = accept(bytes, again + PATIENCE / 2);
    Client::new().connect(&acceptor, "a.test").await.expect("the turn of the second");
    assert!(began.elapsed() <= again + PATIENCE + Duration::from_millis(2), "{:?}", began.elapsed());
    assert!(matches!(second.await.expect("the task does not panic"), Some(Failed::Slow)));
    assert!(matches!(hasty.await.expect("the task does not panic"), Some(Failed::Busy)));
}

#[tokio::test(start_paused = true)]
async fn yx_11_a_turn_that_was_left_to_a_silent_client_is_taken_when_it_is_needed() {
    let pki = Pki::new();
    let acceptor =
        Arc::new(Acceptor::new(&tls(vec![pki.pair("a", &["a.test"])]), 2, None).expect("a pair that this test made"));
    let began = Instant::now();
    let bytes = hello(&Client::new().config);
    let stall = || {
        let (acceptor, bytes) = (Arc::clone(&acceptor), bytes.clone());
        let (mut ours, theirs) = duplex(64 * 1024);
        tokio::spawn(async move {
            ours.write_all(&bytes).await.expect("the other end is ours too");
            let failed = acceptor.accept(theirs, began + PATIENCE * 10).await.err();
            drop(ours);
            failed
        })
    };
    let first = stall();
    tokio::time::sleep(PATIENCE * 3 / 2).await;
    assert!(!first.is_finished(), "there was another turn");
    let _second = stall();
    tokio::task::yield_now().await;
    Client::new().connect(&acceptor, "a.test").await.expect("the turn of the first");
    assert!(began.elapsed() <= PATIENCE * 2 + Duration::from_millis(5), "{:?}", began.elapsed());
    assert!(matches!(first.await.expect("the task does not panic"), Some(Failed::Slow)));
}

#[tokio::test]
async fn text_is_told_from_tls_and_silence_from_both() {
    let pki = Pki::new();
    let acceptor = server(&pki);
    for (bytes, expected) in
        [(&b"GET / HTTP/1.1\r\n\r\n"[..], "text"), (b"PRI * HTTP/2.0\r\n\r\n", "text"), (b"", "closed")]
    {
        let (answer, outcome) = say(&acceptor, bytes).await;
        assert_eq!(outcome.unwrap_err().to_string(), expected);
        assert!(answer.is_empty(), "no alert before whatever is answered");
    }
}
