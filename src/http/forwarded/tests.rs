use proptest::prelude::*;

use super::*;

fn trust() -> Trust {
    Trust::new(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()])
}

fn map(rows: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (n, v) in rows {
        headers.append(*n, HeaderValue::from_str(v).unwrap());
    }
    headers
}

fn from(peer: &str, rows: &[(&'static str, &str)]) -> Result<Seen, Refusal> {
    read(&map(rows), peer.parse().unwrap(), &trust())
}

#[test]
fn w_01_a_stranger_is_not_believed() {
    let rows = [
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil"),
        ("forwarded", "for=2.2.2.2;host=other"),
    ];
    let seen = from("203.0.113.9", &rows).unwrap();
    assert_eq!(seen, Seen { client: "203.0.113.9".parse().unwrap(), proto: None, host: None, chain: None });
    assert!(!Trust::default().contains("127.0.0.1".parse().unwrap()));
}

#[test]
fn w_02_the_rightmost_untrusted_address_is_the_client() {
    for (peer, list, client, chain) in [
        ("10.0.0.1", "192.0.2.7", "192.0.2.7", Some("192.0.2.7, 10.0.0.1")),
        ("10.0.0.1", "6.6.6.6, 192.0.2.7, 10.0.0.2", "192.0.2.7", Some("192.0.2.7, 10.0.0.2, 10.0.0.1")),
        ("10.0.0.1", "10.0.0.3,10.0.0.2", "10.0.0.3", Some("10.0.0.3, 10.0.0.2, 10.0.0.1")),
        ("10.0.0.1", "unknown, 10.0.0.2", "10.0.0.2", Some("10.0.0.2, 10.0.0.1")),
        ("10.0.0.1", "192.0.2.7:4711", "192.0.2.7", Some("192.0.2.7, 10.0.0.1")),
        ("::ffff:10.0.0.1", "[2001:db8::1]:80", "2001:db8::1", Some("2001:db8::1, 10.0.0.1")),
        ("fd00::1", "garbage", "fd00::1", None),
    ] {
        let seen = from(peer, &[("x-forwarded-for", list)]).unwrap();
        assert_eq!((seen.client, seen.chain.as_deref()), (client.parse().unwrap(), chain), "{list}");
    }
    let lines = from("10.0.0.1", &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "192.0.2.7, 10.0.0.2")]);
    assert_eq!(lines.unwrap().client, "192.0.2.7".parse::<IpAddr>().unwrap());
}

#[test]
fn w_02_one_value_or_none() {
    let seen =
        from("10.0.0.1", &[("x-forwarded-proto", "HTTPS"), ("x-forwarded-host", "App.Example.com.:8443")]).unwrap();
    assert_eq!((seen.proto, seen.host.as_deref()), (Some(Scheme::Https), Some("app.example.com:8443")));
    assert_eq!(seen.client, "10.0.0.1".parse::<IpAddr>().unwrap());
    assert!(from("10.0.0.1", &[("x-forwarded-proto", "https, https"), ("x-forwarded-host", "a,A")]).is_ok());
    assert_eq!(from("10.0.0.1", &[("x-forwarded-proto", "wss")]).unwrap().proto, Some(Scheme::Https));
    for bad in [
        &[("x-forwarded-proto", "https, http")][..],
        &[("x-forwarded-proto", "https"), ("x-forwarded-proto", "https")],
        &[("x-forwarded-host", "a"), ("x-forwarded-host", "b")],
        &[("x-forwarded-host", "a, b")],
        &[("x-forwarded-proto", "ftp")],
        &[("x-forwarded-proto", "")],
        &[("x-forwarded-host", "u@h")],
        &[("x-forwarded-host", "")],
        &[("x-forwarded-proto", "https"), ("forwarded", "proto=http")],
        &[("x-forwarded-host", "a"), ("forwarded", "host=b")],
        &[("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=2.2.2.2")],
        &[("forwarded", "for=1.1.1.1;for=2.2.2.2")],
        &[("forwarded", "host=a, host=b")],
        &[("forwarded", "nonsense")],
        &[("forwarded", "host=\"a")],
    ] {
        assert!(from("10.0.0.1", bad).is_err(), "{bad:?}");
    }
}

#[test]
fn w_02_the_standard_header() {
    let value =
        "for=6.6.6.6, For=\"[2001:db8::7]:4711\";proto=https;host=\"app.example.com:8443\";by=_x, for=10.0.0.2;;";
    let seen = from("10.0.0.1", &[("forwarded", value), ("x-forwarded-proto", "https")]).unwrap();
    assert_eq!(seen.client, "2001:db8::7".parse::<IpAddr>().unwrap());
    assert_eq!((seen.proto, seen.host.as_deref()), (Some(Scheme::Https), Some("app.example.com:8443")));
    assert_eq!(seen.chain.as_deref(), Some("2001:db8::7, 10.0.0.2, 10.0.0.1"));
    let quoted = from("10.0.0.1", &[("forwarded", "by=\"a,b;\\\"c\";for=_hidden;host=\"a\\pp\"")]).unwrap();
    assert_eq!((quoted.client, quoted.host.as_deref()), ("10.0.0.1".parse().unwrap(), Some("app")));
}

#[test]
fn w_03_what_the_upstream_reads() {
    let host = HeaderValue::from_static("app.example.com");
    let mut headers =
        map(&[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "7.7.7.7"), ("forwarded", "for=6.6.6.6")]);
    let seen = from("203.0.113.9", &[]).unwrap();
    write(&mut headers, &seen, &address_value(seen.client), Scheme::Https, &host, &port_value(443));
    let want = [
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "app.example.com"),
        ("x-forwarded-port", "443"),
    ];
    assert_eq!(headers, map(&want));
    let seen = from("10.0.0.1", &[("x-forwarded-for", "6.6.6.6, 192.0.2.7")]).unwrap();
    write(&mut headers, &seen, &address_value(seen.client), Scheme::Http, &host, &port_value(4180));
    assert_eq!(headers["x-forwarded-for"], "192.0.2.7, 10.0.0.1");
    assert_eq!(
        (&headers["x-forwarded-proto"], &headers["x-forwarded-port"]),
        (&"http".parse().unwrap(), &"4180".parse().unwrap())
    );
    let seen = from("2001:db8::9", &[]).unwrap();
    write(&mut headers, &seen, &address_value(seen.client), Scheme::Http, &host, &port_value(80));
    assert_eq!(headers["x-forwarded-for"], "2001:db8::9");
}

proptest! {
    #[test]
    fn never_panics_and_never_believes_beyond_the_client(value in "[ -~]{0,60}", list in "[0-9., :a-f\\[\\]]{0,60}") {
        let _ = from("10.0.0.1", &[("forwarded", &value)]);
        if let Ok(seen) = from("10.0.0.1", &[("x-forwarded-for", &list)]) {
            prop_assert!(seen.chain.is_none_or(|chain| chain.starts_with(&seen.client.to_string())));
        }
    }
}
