use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE};

use super::*;

fn map(rows: &[(&str, &str)]) -> HeaderMap {
    let pair = |(n, v): &(&str, &str)| (HeaderName::try_from(*n).unwrap(), HeaderValue::from_str(v).unwrap());
    let mut headers = HeaderMap::new();
    for (n, v) in rows.iter().map(pair) {
        headers.append(n, v);
    }
    headers
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

fn managed() -> Managed {
    Managed::new([HeaderName::from_static("x-team"), HeaderName::from_static("x_odd.name")])
}

const BROWSER: &[(&str, &str)] = &[
    ("host", "app.example.com"),
    ("user-agent", "Mozilla/5.0"),
    ("accept", "text/html"),
    ("accept-language", "en"),
    ("accept-encoding", "gzip, br"),
    ("cookie", "a=b"),
    ("referer", "https://app.example.com/"),
    ("sec-fetch-mode", "navigate"),
    ("upgrade-insecure-requests", "1"),
    ("if-none-match", "x"),
    ("range", "bytes=0-1"),
    ("x-requested-with", "XMLHttpRequest"),
    ("x-csrf-token", "t"),
];

#[test]
fn ordinary_headers_stay() {
    let mut headers = map(BROWSER);
    assert_eq!(managed().strip_request(&mut headers, false), 0);
    strip_hop_by_hop(&mut headers);
    assert_eq!(headers, map(BROWSER));
}

#[test]
fn m_10_hx_11_a_request_ends_with_trailers_that_are_some() {
    let mut trailers = map(&[
        ("grpc-status", "0"),
        ("x-checksum", "1"),
        ("authorization", "Bearer x"),
        ("content-length", "1"),
        ("cookie", "a=b"),
        ("host", "admin.test"),
        ("transfer-encoding", "chunked"),
        ("connection", "x-named"),
        ("keep-alive", "timeout=5"),
        ("proxy-authorization", "Basic eA=="),
        ("x-named", "1"),
        ("x_forwarded_user", "admin"),
    ]);
    managed().strip_trailers(&mut trailers);
    assert_eq!(names(&trailers), ["grpc-status", "x-checksum"]);
}

#[test]
fn bx_07_hx_02_hx_20_every_identity_header_of_every_preset_goes() {
    let all = [
        "x-forwarded-user",
        "x-forwarded-email",
        "x-forwarded-groups",
        "x-forwarded-preferred-username",
        "x-forwarded-access-token",
        "remote-user",
        "remote-email",
        "remote-name",
        "remote-groups",
        "x-auth-request-user",
        "x-auth-request-email",
        "x-auth-request-groups",
        "x-auth-request-preferred-username",
        "x-auth-request-access-token",
        "x-webauth-user",
        "x-webauth-email",
        "x-webauth-name",
        "x-webauth-fullname",
        "x-webauth-groups",
        "cf-access-jwt-assertion",
        "x-goog-iap-jwt-assertion",
        "x-goog-authenticated-user-email",
        "x-amzn-oidc-data",
        "x-amzn-oidc-identity",
        "x-forwarded-login",
        "x-forwarded-name",
        "x-forwarded-displayname",
        "x-forwarded-mail",
        "remote-user-group",
        "remote-user-first-name",
        "x-proxy-user",
        "x-proxy-roles",
        "x-proxy-ext-department",
        "x-authentik-username",
        "x-authentik-entitlements",
        "impersonate-user",
        "impersonate-group",
        "impersonate-uid",
        "impersonate-extra-scopes",
        "x-doorward-assertion",
        "x-ssl-client-cert",
        "x-ssl-client-s-dn",
        "x-pomerium-jwt-assertion",
        "x-team",
        "x-odd-name",
    ];
    let managed = managed();
    let mut headers = map(BROWSER);
    for name in all {
        assert!(managed.contains(&HeaderName::from_static(name)), "{name}");
        headers.append(HeaderName::from_static(name), HeaderValue::from_static("admin"));
    }
    assert_eq!(managed.strip_request(&mut headers, true), all.len());
    assert_eq!(headers, map(BROWSER));
    for other in ["x-forwarded-use", "x-forwarded-users", "remote-addr", "x-teams", "x-ssl-clien", "impersonate-extra"]
    {
        assert!(!managed.contains(&HeaderName::from_static(other)), "{other}");
    }
}

#[test]
fn hx_03_underscores_and_their_kin() {
    let odd = [
        "x_forwarded_user",
        "x.forwarded-user",
        "x-forwarded~user",
        "remote_user",
        "x_webauth_user",
        "x^team",
        "x-odd.name",
        "impersonate_extra_x",
        "x_forwarded_for",
    ];
    let mut headers = HeaderMap::new();
    for name in odd {
        headers.append(name, HeaderValue::from_static("admin"));
    }
    assert_eq!(managed().strip_request(&mut headers, false), odd.len());
    assert!(headers.is_empty());
}

#[test]
fn hx_05_hx_08_any_case() {
    let name = HeaderName::from_bytes(b"X-Forwarded-USER").unwrap();
    assert!(managed().contains(&name));
    assert!(Managed::new([HeaderName::from_bytes(b"X-TEAM").unwrap()]).contains(&HeaderName::from_static("x-team")));
    let long = HeaderName::from_bytes("x-".repeat(60).as_bytes()).unwrap();
    assert!(Managed::new([long.clone()]).contains(&long) && !managed().contains(&long));
}

#[test]
fn hx_06_a_thousand_copies() {
    let mut headers = map(BROWSER);
    for _ in 0..1000 {
        headers.append("x-forwarded-user", HeaderValue::from_static("a, admin"));
    }
    assert_eq!(managed().strip_request(&mut headers, true), 1);
    assert_eq!(headers, map(BROWSER));
}

#[test]
fn w_01_what_we_write_has_no_second_spelling_even_from_a_trusted_proxy() {
    let mut headers = map(BROWSER);
    for name in ["x_forwarded_for", "x-forwarded-for", "x.forwarded.host", "x_forwarded-proto", "x_forwarded_port"] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static("192.0.2.66"));
    }
    headers.insert("x-forwarded-prefix", HeaderValue::from_static("/app"));
    assert_eq!(managed().strip_request(&mut headers, true), 5);
    assert_eq!(headers.remove("x-forwarded-prefix").unwrap(), "/app");
    assert_eq!(headers, map(BROWSER));
}

#[test]
fn h_03_hop_by_hop_fields_end_here() {
    let mut headers = map(&[
        ("connection", "keep-alive, X-Hop"),
        ("connection", " close,,x-other"),
        ("x-hop", "1"),
        ("x-other", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "x"),
        ("proxy-authenticate", "Basic"),
        ("proxy-authorization", "Basic eA=="),
        ("te", "trailers"),
        ("trailer", "x-sum"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("x-end", "stays"),
        ("expect", "100-continue"),
        ("http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA"),
    ]);
    let mut answer = headers.clone();
    assert_eq!(managed().strip_request(&mut headers, true), 0);
    assert_eq!(names(&headers), ["x-end"]);
    strip_hop_by_hop(&mut answer);
    assert_eq!(names(&answer), ["expect", "http2-settings", "x-end"]);
}

#[test]
fn h_04_hx_09_connection_cannot_name_away_what_counts() {
    let mut headers = map(&[
        ("connection", "Host, cookie, content-length, set-cookie, cache-control, authorization, \u{a0}bad name"),
        ("host", "a"),
        ("cookie", "a=b"),
        ("content-length", "1"),
        ("authorization", "Bearer x"),
        ("content-type", "text/plain"),
    ]);
    strip_hop_by_hop(&mut headers);
    assert_eq!(names(&headers), ["content-length", "content-type", "cookie", "host"]);
    assert!(!headers.contains_key(AUTHORIZATION) && headers.contains_key(CONTENT_TYPE));
}

fn framing(version: Version, rows: &[(&str, &str)]) -> Result<(), Refusal> {
    let mut parts = Request::builder().version(version).body(()).unwrap().into_parts().0;
    parts.headers = map(rows);
    framing_ok(&parts)
}

#[test]
fn h_06_m_02_exactly_chunked() {
    for fine in [&[][..], &[("transfer-encoding", "chunked")], &[("transfer-encoding", "Chunked")]] {
        assert_eq!(framing(Version::HTTP_11, fine), Ok(()));
    }
    for bad in ["xchunked", "\"chunked\"", "identity, chunked", "chunked, chunked", "gzip, chunked", "identity", ""] {
        let refusal = framing(Version::HTTP_11, &[("transfer-encoding", bad)]).unwrap_err();
        assert_eq!(refusal.status(), StatusCode::BAD_REQUEST, "{bad}");
    }
    assert!(framing(Version::HTTP_11, &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]).is_err());
    assert!(framing(Version::HTTP_10, &[("transfer-encoding", "chunked")]).is_err());
}

#[test]
fn m_14_expectations() {
    assert_eq!(framing(Version::HTTP_11, &[("expect", "100-Continue")]), Ok(()));
    for bad in [&[("expect", "x")][..], &[("expect", "100-continue"), ("expect", "y")]] {
        assert_eq!(framing(Version::HTTP_11, bad).unwrap_err().status(), StatusCode::EXPECTATION_FAILED);
    }
}

#[test]
fn hx_15_hx_16_values_cannot_split_a_header() {
    for (given, want) in [
        ("alice", "alice"),
        ("Alice Example <a@b>", "Alice Example <a@b>"),
        ("a\r\nx-admin: 1", "a%0D%0Ax-admin: 1"),
        ("a\0b\u{7f}\t", "a%00b%7F%09"),
        ("100%", "100%25"),
        ("Zoë", "Zo%C3%AB"),
        (" admin  ", "%20admin%20%20"),
        ("  ", "%20%20"),
        ("", ""),
    ] {
        assert_eq!(encode_value(given), want, "{given:?}");
    }
}

#[test]
fn hx_17_a_group_with_the_separator_is_dropped() {
    let joined = |items: &[&str], separator: &str| {
        let (value, dropped) = join_values(items.iter().copied(), separator);
        (value.to_str().unwrap().to_owned(), dropped)
    };
    assert_eq!(joined(&["staff", "a,admin", "", "dev ops"], ","), ("staff,dev ops".into(), 2));
    assert_eq!(joined(&["a,b", "c"], ", "), ("a,b, c".into(), 0));
    assert_eq!(joined(&["a,admin", "x"], ","), ("x".into(), 1));
    assert_eq!(joined(&["é", " x"], "|"), ("%C3%A9|%20x".into(), 0));
    assert_eq!(joined(&["aéb", "x"], "é").1, 1);
    assert_eq!(joined(&[], ","), (String::new(), 0));
    // `%` in a separator would make the encoding of another item look like two.
    assert_eq!(joined(&["a\nb", "x"], "%"), ("x".into(), 1));
}
