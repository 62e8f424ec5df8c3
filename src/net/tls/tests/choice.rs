//! Which certificate a client is shown, before and after a reload, and what it may resume.

use super::*;

#[tokio::test]
async fn the_certificate_is_that_of_the_name_asked_for_else_the_first() {
    let pki = Pki::new();
    let first = pki.pair("first", &["first.test"]);
    let star = pki.pair("star", &["*.example.test", "example.test"]);
    let exact = pki.pair("exact", &["App.example.test", "10.0.0.1"]);
    let acceptor = Arc::new(acceptor(&tls(vec![first.clone(), star.clone(), exact.clone()]), None));
    for (asked, shown) in [
        ("first.test", &first),
        ("example.test", &star),
        ("b.example.test", &star),
        ("B.EXAMPLE.test", &star),
        ("app.example.test", &exact),
        ("APP.example.TEST", &exact),
        ("a.b.example.test", &first),
        ("unknown.test", &first),
        // No name is sent for an address.
        ("10.0.0.1", &first),
    ] {
        let met = Client::new().connect(&acceptor, asked).await.expect("every name is shown something");
        assert_eq!(met.leaf(), der(&shown.cert), "{asked}");
    }
    let met = Client::new().connect(&acceptor, "App.example.test").await.expect("every name is shown something");
    assert_eq!(met.handshake.server_name.as_deref(), Some("app.example.test"));
}

#[tokio::test]
async fn px_17_a_host_of_another_certificate_than_the_connection_began_with_is_misdirected() {
    let pki = Pki::new();
    let pairs =
        [pki.pair("a", &["a.test"]), pki.pair("b", &["*.b.test", "10.0.0.1"]), pki.pair("c", &["a.test", "c.test"])];
    let table = Table::read(&pairs).expect("pairs that this test made");
    for (began, asked) in [
        (Some("a.test"), "a.test"),
        (Some("a.test"), "A.test."),
        (Some("x.b.test"), "y.b.test"),
        (Some("x.b.test"), "10.0.0.1"),
        (Some("a.test"), "c.test"),
        (Some("c.test"), "a.test"),
        // What no certificate is for belongs to the first one.
        (None, "a.test"),
        (None, "127.0.0.1"),
        (Some("a.test"), "unknown.test"),
    ] {
        assert!(!table.is_misdirected(began, asked), "{began:?} {asked}");
    }
    for (began, asked) in [
        (Some("a.test"), "x.b.test"),
        (Some("x.b.test"), "a.test"),
        (Some("x.b.test"), "b.test"),
        (Some("x.b.test"), "unknown.test"),
        (None, "x.b.test"),
        (None, "c.test"),
        (Some("unknown.test"), "10.0.0.1"),
    ] {
        assert!(table.is_misdirected(began, asked), "{began:?} {asked}");
    }
}

#[tokio::test]
async fn of_two_kinds_of_key_a_client_is_shown_the_first_that_it_can_verify() {
    let pki = Pki::new();
    let ecdsa = pki.pair("ecdsa", &["a.test"]);
    let rsa = pki.pair_of(
        "rsa",
        &["a.test"],
        &KeyPair::generate_for(&PKCS_RSA_SHA256).expect("without a key there is no test"),
        |_| (),
    );
    let acceptor = Arc::new(acceptor(&tls(vec![ecdsa.clone(), rsa.clone()]), None));
    for (versions, schemes, shown) in [
        (&[&TLS13], &[ECDSA, RSA][..], &ecdsa),
        (&[&TLS13], &[RSA], &rsa),
        (&[&TLS12], &[ECDSA, RSA], &ecdsa),
        (&[&TLS12], &[RSA], &rsa),
    ] {
        let met = Client::with(versions, schemes)
            .connect(&acceptor, "a.test")
            .await
            .expect("client and server have a suite in common");
        assert_eq!(met.leaf(), der(&shown.cert), "{schemes:?}");
    }
}

#[tokio::test]
async fn the_order_of_suites_is_the_servers_unless_a_client_begins_with_chacha20() {
    use rustls::CipherSuite::*;
    let pki = Pki::new();
    let acceptor = Arc::new(acceptor(&tls(vec![pki.pair("a", &["a.test"])]), None));
    for (versions, first, chosen) in [
        (&[&TLS13], TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384),
        (&[&TLS13], TLS13_CHACHA20_POLY1305_SHA256, TLS13_CHACHA20_POLY1305_SHA256),
        (&[&TLS12], TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
        (&[&TLS12], TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ] {
        let mut client = Client::with(versions, &[ECDSA]);
        let mut provider = (**client.config.crypto_provider()).clone();
        provider.cipher_suites.sort_by_key(|suite| suite.suite() != first);
        client.config = Client::configured(provider, versions, &client.seen);
        let met = client.connect(&acceptor, "a.test").await.expect("client and server have a suite in common");
        assert_eq!(met.stream.get_ref().1.negotiated_cipher_suite().expect("the handshake is over").suite(), chosen);
    }
}

#[tokio::test]
async fn yx_02_a_resumed_session_brings_no_early_data() {
    let pki = Pki::new();
    let acceptor = Arc::new(acceptor(&tls(vec![pki.pair("a", &["a.test"])]), None));
    let client = Client::new();
    let met = client.connect(&acceptor, "a.test").await.expect("client and server have a suite in common");
    assert_eq!(met.kind(), HandshakeKind::Full);
    // The ticket allows none, so a client that would like to has none to send.
    let name = ServerName::try_from("a.test").expect("a name that this test wrote");
    let mut connection =
        rustls::ClientConnection::new(Arc::new(client.config.clone()), name).expect("a configuration that fits");
    assert!(connection.early_data().is_none());
    drop(connection);
    let met = client.connect(&acceptor, "a.test").await.expect("client and server have a suite in common");
    assert_eq!(met.kind(), HandshakeKind::Resumed);
    assert!(!met.stream.get_ref().1.is_early_data_accepted());
}

/// As Kubernetes mounts secrets: the files are links through `..data`, which is swapped.
#[tokio::test]
async fn yx_09_a_new_certificate_is_shown_and_sessions_go_on() {
    let pki = Pki::new();
    let mount = pki.path("mount");
    let link = |to: &str| {
        std::os::unix::fs::symlink(to, mount.join("..new")).expect("a directory of this test's own");
        std::fs::rename(mount.join("..new"), mount.join("..data")).expect("a directory of this test's own");
    };
    let version = |version: &str| {
        std::fs::create_dir_all(mount.join(version)).expect("a directory of this test's own");
        let made = pki.pair(version, &["a.test"]);
        std::fs::rename(&made.cert, mount.join(version).join("tls.crt")).expect("a directory of this test's own");
        std::fs::rename(&made.key, mount.join(version).join("tls.key")).expect("a directory of this test's own");
        link(version);
        der(&mount.join("tls.crt"))
    };
    std::fs::create_dir(&mount).expect("a directory of this test's own");
    for name in ["tls.crt", "tls.key"] {
        std::os::unix::fs::symlink(Path::new("..data").join(name), mount.join(name))
            .expect("a directory of this test's own");
    }
    let old = version("..1");
    let settings = tls(vec![settings::KeyPair { cert: mount.join("tls.crt"), key: mount.join("tls.key"), ocsp: None }]);
    let before = Arc::new(acceptor(&settings, None));
    let (client, other) = (Client::new(), Client::with(&[&TLS12], &[ECDSA]));
    assert_eq!(client.connect(&before, "a.test").await.expect("a handshake that is to succeed").leaf(), old);
    assert_eq!(other.connect(&before, "a.test").await.expect("a handshake that is to succeed").leaf(), old);
    let new = version("..2");
    assert_ne!(old, new);
    let after = Arc::new(acceptor(&settings, Some(&before)));
    for client in [&client, &other] {
        assert_eq!(
            client.connect(&after, "a.test").await.expect("a handshake that is to succeed").kind(),
            HandshakeKind::Resumed
        );
    }
    assert_eq!(Client::new().connect(&after, "a.test").await.expect("a handshake that is to succeed").leaf(), new);
    // Half of a change is refused; who holds the old one is served as before.
    std::fs::write(
        mount.join("..2/tls.key"),
        KeyPair::generate().expect("a directory of this test's own").serialize_pem(),
    )
    .expect("a directory of this test's own");
    let error = Acceptor::new(&settings, 8, Some(&after)).err().expect("it is to be refused").to_string();
    assert!(error.contains("tls.key: is not the key of"), "{error}");
    assert_eq!(Client::new().connect(&after, "a.test").await.expect("a handshake that is to succeed").leaf(), new);
    // Other versions than those that a ticket was given for: another ticketer.
    version("..3");
    let stricter = Arc::new(acceptor(&Tls { min_version: TlsVersion::Tls13, ..settings }, Some(&after)));
    assert_eq!(
        client.connect(&stricter, "a.test").await.expect("a handshake that is to succeed").kind(),
        HandshakeKind::Full
    );
    assert!(other.connect(&stricter, "a.test").await.is_err(), "TLS 1.2");
}

#[tokio::test]
async fn an_ocsp_response_is_stapled_and_one_that_is_none_is_refused() {
    let pki = Pki::new();
    let mut pair = pki.pair("a", &["a.test"]);
    let file = pki.path("a.ocsp");
    pair.ocsp = Some(file.clone());
    let settings = tls(vec![pair]);
    // A SEQUENCE of the status 0 and an empty response.
    let staple = [0x30, 0x05, 0x0a, 0x01, 0x00, 0xa0, 0x00];
    std::fs::write(&file, staple).expect("a directory of this test's own");
    let before = Arc::new(acceptor(&settings, None));
    for versions in [&[&TLS13], &[&TLS12]] {
        let client = Client::with(versions, &[ECDSA]);
        client.connect(&before, "a.test").await.expect("a handshake that is to succeed");
        assert_eq!(*client.seen.ocsp.lock().expect("nobody panics while they hold it"), staple);
    }
    for (bytes, why) in [
        (&b""[..], "is no OCSP response"),
        (b"-----BEGIN OCSP RESPONSE-----\n", "is no OCSP response"),
        (&[0x30, 0x03, 0x0a, 0x01, 0x06], "OCSP status 6"),
        (&[0x30, 0x03, 0x0a, 0x01], "is no OCSP response"),
        (&[0x30, 0x05, 0x0a, 0x01, 0x00, 0xa0, 0x00, 0x00], "is no OCSP response"),
    ] {
        std::fs::write(&file, bytes).expect("a directory of this test's own");
        let error = Acceptor::new(&settings, 8, Some(&before)).err().expect("it is to be refused").to_string();
        assert!(error.contains("a.ocsp") && error.contains(why), "{error}");
    }
    std::fs::remove_file(&file).expect("a directory of this test's own");
    assert!(Acceptor::new(&settings, 8, Some(&before)).is_err());
}

#[test]
fn what_is_wrong_with_a_certificate_names_its_file() {
    let pki = Pki::new();
    let good = pki.pair("good", &["a.test"]);
    let other = pki.pair("other", &["b.test"]);
    let nameless = pki.pair("nameless", &[]);
    let file = |name: &str, text: &str| {
        let path = pki.path(name);
        std::fs::write(&path, text).expect("a directory of this test's own");
        path
    };
    let broken = "-----BEGIN CERTIFICATE-----\nMAUCAQECAQI=\n-----END CERTIFICATE-----\n";
    let with = |cert: &Path, key: &Path| settings::KeyPair { cert: cert.into(), key: key.into(), ocsp: None };
    for (pairs, expected) in [
        (vec![with(&pki.path("missing.crt"), &good.key)], "missing.crt: "),
        (vec![with(&good.cert, &pki.path("missing.key"))], "missing.key: "),
        (vec![with(&file("empty.crt", ""), &good.key)], "empty.crt: holds no certificate"),
        (vec![with(&good.key, &good.key)], "good.key: holds no certificate"),
        (vec![with(&good.cert, &good.cert)], "good.crt: holds no private key"),
        (vec![with(&file("broken.crt", broken), &good.key)], "broken.crt"),
        (vec![with(&good.cert, &other.key)], "other.key: is not the key of"),
        (vec![good.clone(), with(&other.cert, &good.key)], "good.key: is not the key of"),
        (vec![good.clone(), nameless.clone()], "nameless.crt: names no host"),
    ] {
        let error = Acceptor::new(&tls(pairs), 8, None).err().expect("it is to be refused").to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    // The only one needs no name: it is shown to everybody.
    assert!(Acceptor::new(&tls(vec![nameless]), 8, None).is_ok());
}

#[test]
fn yx_09_a_certificate_that_ends_soon_is_told_of() {
    const DAY: i64 = 24 * 60 * 60;
    let pki = Pki::new();
    let table = Table::read(&[pki.pair("a", &["a.test"])]).expect("a pair that this test made");
    let [certificate] = table.certificates() else { panic!("there is one") };
    assert_eq!(certificate.warning(certificate.not_after - 15 * DAY), None);
    let soon = certificate.warning(certificate.not_after - 13 * DAY).expect("it is to warn");
    assert!(soon.ends_with("a.crt expires in 13 days: renew it"), "{soon}");
    assert!(certificate.warning(certificate.not_after + 1).expect("it is to warn").contains("has expired"));
    assert!(certificate.warning(certificate.not_before - 1).expect("it is to warn").contains("is not valid yet"));
}
