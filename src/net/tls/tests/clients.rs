//! Certificates of clients.

use super::*;

fn with_clients(pki: &Pki, required: bool) -> Tls {
    let client_certificates = Some(ClientCertificates { ca: pki.path("ca.pem"), required });
    Tls { client_certificates, ..tls(vec![pki.pair("server", &["a.test"])]) }
}

#[tokio::test]
async fn a_client_shows_a_certificate_that_its_authority_signed_and_that_has_not_ended_or_stays_out() {
    let (pki, stranger) = (Pki::new(), Pki::new());
    let good = pki.pair("client", &["client.test"]);
    let unknown = stranger.pair("client", &["client.test"]);
    let ended = pki.pair_of(
        "ended",
        &["client.test"],
        &KeyPair::generate().expect("without a key there is no test"),
        |params| {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        },
    );
    for required in [true, false] {
        let acceptor = Arc::new(acceptor(&with_clients(&pki, required), None));
        for versions in [&[&TLS13], &[&TLS12]] {
            let client = || Client::with(versions, &[ECDSA]);
            let met =
                client().showing(&good).connect(&acceptor, "a.test").await.expect("a handshake that is to succeed");
            let shown = met.handshake.client.expect("it showed one");
            assert_eq!(shown.chain[0].as_ref(), der(&good.cert));
            for bad in [&unknown, &ended] {
                assert!(client().showing(bad).connect(&acceptor, "a.test").await.is_err(), "{required} {bad:?}");
            }
            match client().connect(&acceptor, "a.test").await {
                Ok(met) => assert!(!required && met.handshake.client.is_none()),
                Err(_) => assert!(required),
            }
        }
    }
}

#[tokio::test]
async fn yx_03_no_session_is_resumed_where_clients_may_show_certificates() {
    let pki = Pki::new();
    let good = pki.pair("client", &["client.test"]);
    let open = Arc::new(acceptor(&tls(vec![pki.pair("server", &["a.test"])]), None));
    for versions in [&[&TLS13], &[&TLS12]] {
        for required in [true, false] {
            // Tickets from before certificates were asked for are worth nothing; and none are given.
            let client = Client::with(versions, &[ECDSA]);
            client.connect(&open, "a.test").await.expect("a handshake that is to succeed");
            assert_eq!(
                client.connect(&open, "a.test").await.expect("a handshake that is to succeed").kind(),
                HandshakeKind::Resumed
            );
            let closed = Arc::new(acceptor(&with_clients(&pki, required), Some(&open)));
            let client = client.showing(&good);
            for _ in 0..2 {
                let met = client.connect(&closed, "a.test").await.expect("a handshake that is to succeed");
                assert_eq!(met.kind(), HandshakeKind::Full);
                assert!(met.handshake.client.is_some());
                assert_eq!(met.stream.get_ref().1.tls13_tickets_received(), 0);
            }
            // Nor does what was agreed on with a certificate open a server that later asks for none, and back.
            let again = Arc::new(acceptor(&tls(vec![pki.pair("server", &["a.test"])]), Some(&closed)));
            assert_eq!(
                client.connect(&again, "a.test").await.expect("a handshake that is to succeed").kind(),
                HandshakeKind::Full
            );
        }
    }
}

#[test]
fn authorities_that_cannot_be_read_are_named() {
    let pki = Pki::new();
    let mut settings = with_clients(&pki, true);
    for text in ["", "-----BEGIN CERTIFICATE-----\nMAUCAQECAQI=\n-----END CERTIFICATE-----\n"] {
        std::fs::write(pki.path("bad.pem"), text).expect("a directory of this test's own");
        settings.client_certificates = Some(ClientCertificates { ca: pki.path("bad.pem"), required: true });
        let error = Acceptor::new(&settings, 8, None).err().expect("it is to be refused").to_string();
        assert!(error.contains("bad.pem"), "{error}");
    }
}
