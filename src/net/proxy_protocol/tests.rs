use proptest::prelude::*;

use super::*;

/// All steps over `bytes`, as `read` takes them; `Err` too where it wants more than there is. And how much was taken.
fn steps(bytes: &[u8]) -> (Result<Header, Fault>, usize) {
    let mut have = 0;
    loop {
        match parse(&bytes[..have]) {
            Ok(Step::Done(header)) => return (Ok(header), have),
            Ok(Step::More(more)) => {
                assert!(more > 0);
                assert!(have + more <= START_V2 + LONGEST_V2, "{have} + {more}");
                if have + more > bytes.len() {
                    return (Err(Fault::Malformed("it ends early")), have);
                }
                have += more;
            }
            Err(fault) => return (Err(fault), have),
        }
    }
}

fn v2_of(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length[..], body].concat()
}

fn from(address: &str) -> Header {
    Header::From(address.parse().unwrap())
}

#[test]
fn version_1_says_who_it_is_or_that_nobody_knows() {
    for (line, want) in [
        ("PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n", from("192.0.2.7")),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 0 1\r\n", from("1.1.1.1")),
        ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", from("255.255.255.255")),
        ("PROXY TCP6 :: ::1 1 2\r\n", from("::")),
        ("PROXY TCP6 2001:db8::7 2001:db8::1 4 5\r\n", from("2001:db8::7")),
        ("PROXY TCP6 ::ffff:192.0.2.7 ::1 4 5\r\n", from("192.0.2.7")),
        ("PROXY UNKNOWN\r\n", Header::Local),
        ("PROXY UNKNOWN whatever it is \r\n", Header::Local),
    ] {
        let with_more = format!("{line}GET / HTTP/1.1\r\n\r\n");
        let (header, taken) = steps(with_more.as_bytes());
        assert_eq!(header.unwrap(), want, "{line}");
        assert_eq!(taken, line.len(), "{line}: nothing that follows it");
    }
    let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(LONGEST_V1 - 16));
    assert_eq!(longest.len(), LONGEST_V1);
    assert_eq!(steps(longest.as_bytes()).0.unwrap(), Header::Local);
}

#[test]
fn version_1_that_is_not_well_formed_is_refused() {
    for line in [
        "PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443 1\r\n",
        "PROXY TCP4  192.0.2.7 198.51.100.1 56324 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443 \r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 56324 65536\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 056324 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 +5 443\r\n",
        "PROXY TCP4 192.0.2.7 2001:db8::1 56324 443\r\n",
        "PROXY TCP6 192.0.2.7 198.51.100.1 56324 443\r\n",
        "PROXY TCP4 192.0.2.07 198.51.100.1 56324 443\r\n",
        "PROXY TCP4 192.0.2 198.51.100.1 56324 443\r\n",
        "PROXY TCP4 \u{661}.1.1.1 198.51.100.1 56324 443\r\n",
        "PROXY tcp4 192.0.2.7 198.51.100.1 56324 443\r\n",
        "PROXY UDP4 192.0.2.7 198.51.100.1 56324 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\n",
        "PROXY UNKNOWN\n\n\n",
        "PROXY \r\nTCP4 192.0.2.7\r\n",
        "PROXY UNKNOWNS\r\n",
    ] {
        let fault = steps(format!("{line}GET / HTTP/1.1\r\n\r\n").as_bytes()).0.unwrap_err();
        assert!(matches!(fault, Fault::Malformed(_)), "{line:?}: {fault}");
    }
    let endless = format!("PROXY UNKNOWN {}", "f".repeat(1000));
    let (header, taken) = steps(endless.as_bytes());
    assert!(header.is_err() && taken <= LONGEST_V1, "{taken}");
}

#[test]
fn version_2_says_who_it_is_or_that_nobody_knows() {
    let v4 = [192, 0, 2, 7, 198, 51, 100, 1, 220, 4, 1, 187];
    let mut v6 = [0; 36];
    v6[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
    let mut mapped = [0; 36];
    mapped[..16].copy_from_slice(&"::ffff:192.0.2.7".parse::<Ipv6Addr>().unwrap().octets());
    let with_tlvs = [&v4[..], &[0x20; LONGEST_V2 - 12]].concat();
    for (bytes, want) in [
        (v2_of(0x21, 0x11, &v4), from("192.0.2.7")),
        (v2_of(0x21, 0x11, &with_tlvs), from("192.0.2.7")),
        (v2_of(0x21, 0x21, &v6), from("2001:db8::7")),
        (v2_of(0x21, 0x21, &mapped), from("192.0.2.7")),
        (v2_of(0x21, 0x00, &[]), Header::Local),
        (v2_of(0x21, 0x31, &[b'/'; 216]), Header::Local),
        (v2_of(0x20, 0x00, &[]), Header::Local),
        (v2_of(0x20, 0x11, &v4), Header::Local),
        (v2_of(0x20, 0xff, &[1; 3]), Header::Local),
    ] {
        let (header, taken) = steps(&[&bytes[..], b"GET / HTTP/1.1\r\n\r\n"].concat());
        assert_eq!(header.unwrap(), want, "{bytes:x?}");
        assert_eq!(taken, bytes.len(), "nothing that follows it");
    }
}

#[test]
fn version_2_that_is_not_well_formed_is_refused() {
    let v4 = [192, 0, 2, 7, 198, 51, 100, 1, 220, 4, 1, 187];
    for bytes in [
        v2_of(0x11, 0x11, &v4),
        v2_of(0x31, 0x11, &v4),
        v2_of(0x22, 0x11, &v4),
        v2_of(0x21, 0x12, &v4),
        v2_of(0x21, 0x41, &v4),
        v2_of(0x21, 0x11, &v4[..11]),
        v2_of(0x21, 0x21, &[0; 35]),
        v2_of(0x21, 0x11, &[0; LONGEST_V2 + 1]),
    ] {
        let fault = steps(&bytes).0.unwrap_err();
        assert!(matches!(fault, Fault::Malformed(_)), "{bytes:x?}: {fault}");
    }
    let (header, taken) = steps(&v2_of(0x21, 0x11, &[0; 65535]));
    assert!(header.is_err());
    assert_eq!(taken, START_V2, "its length is judged before it is waited for");
}

#[test]
fn what_is_no_header_is_known_by_its_first_bytes() {
    for bytes in
        ["G", "GET / HTTP/1.1\r\n", "\u{16}\u{3}\u{1}", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PROX!", "\r\n\r\n\r\n"]
    {
        assert!(matches!(parse(bytes.as_bytes()).map(drop), Err(Fault::Missing)), "{bytes:?}");
    }
}

#[tokio::test]
async fn nothing_after_it_is_read() {
    for header in [&b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"[..], &v2_of(0x21, 0x11, &[1; 300])] {
        let whole = [header, b"the rest"].concat();
        let mut stream = &whole[..];
        assert!(matches!(read(&mut stream).await, Ok(Header::From(_))));
        assert_eq!(stream, b"the rest");
    }
    assert!(matches!(read(&mut &b""[..]).await, Err(Fault::Closed)));
    assert!(matches!(read(&mut &b"PROXY TC"[..]).await, Err(Fault::Malformed(_))));
}

/// What is nearly a header, which random bytes never are.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "TCP4", "TCP6", "UNKNOWN", " ", " ", " ", "1.2.3.4", "::1", "0", "443", "65536", "\r", "\n", "\r\n", "x", "\0",
    ]);
    let line = prop::collection::vec(words, 0..24).prop_map(|words| format!("PROXY {}", words.concat()).into_bytes());
    let body = (any::<u8>(), any::<u8>(), any::<u16>(), prop::collection::vec(any::<u8>(), 0..300));
    let binary = body.prop_map(|(command, family, length, rest)| {
        let command = if command & 0x40 == 0 { 0x20 | command & 1 } else { command };
        let length = if length & 1 == 0 { length % 300 } else { length };
        [&SIGNATURE[..], &[command, family], &length.to_be_bytes()[..], &rest].concat()
    });
    prop_oneof![line, binary, prop::collection::vec(any::<u8>(), 0..64)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// However the bytes come, the answer is the same, and no step asks for more than the header has.
    #[test]
    fn any_bytes_are_read_one_way(bytes in nearly(), cut in 1_usize..40) {
        let (at_once, taken) = steps(&bytes);
        // A step that asks for more gets less of it.
        let mut have = 0;
        let in_pieces = loop {
            match parse(&bytes[..have]) {
                Ok(Step::Done(header)) => break Ok(header),
                Ok(Step::More(_)) if have == bytes.len() => break Err(Fault::Malformed("it ends early")),
                Ok(Step::More(more)) => have += more.min(cut).min(bytes.len() - have),
                Err(fault) => break Err(fault),
            }
        };
        prop_assert!(taken <= bytes.len());
        prop_assert_eq!(at_once.as_ref().ok(), in_pieces.as_ref().ok());
        if at_once.is_ok() {
            prop_assert_eq!(have, taken);
            // Whole lines, whole blocks: what comes after is somebody else's.
            let mut longer = bytes[..taken].to_vec();
            longer.extend_from_slice(b"GET / HTTP/1.1\r\n");
            prop_assert_eq!(steps(&longer).1, taken);
        }
    }

    #[test]
    fn every_address_comes_back(source: u32, port: u16, v6: u128) {
        let (v4, v6) = (Ipv4Addr::from(source), Ipv6Addr::from(v6));
        let line = format!("PROXY TCP4 {v4} 192.0.2.1 {port} 443\r\n");
        prop_assert_eq!(steps(line.as_bytes()).0.unwrap(), Header::From(v4.into()));
        let line = format!("PROXY TCP6 {v6} ::1 443 {port}\r\n");
        prop_assert_eq!(steps(line.as_bytes()).0.unwrap(), Header::From(IpAddr::from(v6).to_canonical()));
        let mut body = [0; 36];
        body[..16].copy_from_slice(&v6.octets());
        prop_assert_eq!(steps(&v2_of(0x21, 0x21, &body)).0.unwrap(), Header::From(IpAddr::from(v6).to_canonical()));
    }
}
