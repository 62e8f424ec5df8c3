use proptest::prelude::*;

use super::*;

fn forward(raw: &str) -> Result<String, Refusal> {
    canonical_path(raw).map(|p| p.forward.into_owned())
}

fn check(rows: &[(&str, &str)]) {
    for (raw, want) in rows {
        assert_eq!(forward(raw).as_deref(), Ok(*want), "{raw}");
    }
}

fn refused(rows: &[&str]) {
    for raw in rows {
        assert!(forward(raw).is_err(), "{raw} became {:?}", forward(raw));
    }
}

#[test]
fn a_canonical_path_is_borrowed() {
    for raw in ["/", "/a", "/a/b.html", "/a/b/", "/a.b/~c_d-e", "/@me:x,y=1+2"] {
        let path = canonical_path(raw).unwrap();
        assert!(matches!((&path.forward, &path.matching), (Cow::Borrowed(f), Cow::Borrowed(m)) if *f == raw && f == m));
    }
    check(&[("/.well-known/x", "/.well-known/x"), ("/a/...", "/a/..."), ("/..a/.b", "/..a/.b")]);
    refused(&["", "a", "*", "http://h/"]);
}

#[test]
fn px_01_dot_segments_are_removed_first() {
    check(&[
        ("/public/../admin", "/admin"),
        ("/a/b/../../c", "/c"),
        ("/../../x", "/x"),
        ("/..", "/"),
        ("/a/.", "/a/"),
        ("/a/..", "/"),
        ("/a/./b", "/a/b"),
        ("/a//b", "/a/b"),
        ("//a", "/a"),
        ("/a//", "/a/"),
        ("/a//../b", "/b"),
    ]);
}

#[test]
fn px_02_encoded_dots_are_dots() {
    check(&[
        ("/public/%2e%2e/admin", "/admin"),
        ("/public/%2E%2e/admin", "/admin"),
        ("/public/.%2e/admin", "/admin"),
        ("/public/%2e/admin", "/public/admin"),
    ]);
}

#[test]
fn px_04_decoded_once_only() {
    check(&[
        ("/public/%252e%252e/admin", "/public/%252e%252e/admin"),
        ("/%25%32%65", "/%252e"),
        ("/%2561dmin", "/%2561dmin"),
    ]);
}

#[test]
fn px_05_parameters() {
    refused(&["/public/..;/admin", "/public/.;x/admin", "/%2e%2e;a", "/;/admin", "/;x", "/a/%2e.;", "/a/..%3bx/b"]);
    refused(&["/%3b/admin", "/a/%3Bx", "/a/.%3B/b"]);
    check(&[("/public;x=/../admin", "/admin"), ("/admin;x", "/admin;x"), ("/a;b;c/d;e", "/a;b;c/d;e")]);
    for (raw, want) in [("/admin;x", "/admin"), ("/a;b;c/d;e/", "/a/d/"), ("/a%3bx", "/a%3Bx"), ("/...;x", "/...")] {
        assert_eq!(canonical_path(raw).unwrap().matching, want, "{raw}");
    }
}

#[test]
fn px_05_an_encoded_semicolon_has_two_readings() {
    let cut = |raw: &str| canonical_path(raw).unwrap().cut;
    assert_eq!(cut("/admin%3bx/%3f%3by;z/").as_deref(), Some("/admin/%3F/"));
    assert_eq!(cut("/admin;x%3by"), None, "cut off by either");
    assert_eq!(cut("/a%253bx"), None);
}

#[test]
fn px_08_what_no_raw_path_may_hold() {
    for raw in ["/", "//", "/a%2fb", "/../x", "/a;b/..;c", "/%", "/%zz", "/%2", "/a%5Cb", "/é", "/%E9", "/a%20", "/{x}"]
    {
        let path = raw_path(raw).unwrap();
        assert_eq!((&*path.forward, &*path.matching, path.cut), (raw, "/", None), "{raw}");
    }
    for raw in ["", "a", "*", "/a%00", "/a%0d%0A", "/%1f", "/%7F", "/a\\b", "/a#b", "/\t", "/\u{7f}", "/%%00"] {
        assert!(raw_path(raw).is_err(), "{raw}");
    }
}

#[test]
fn r_09_what_a_browser_resolves() {
    for raw in ["/..", "/a/../b", "/./a", "/a/%2e%2E/b", "/.%2e", "/%2e"] {
        assert!(has_dot_segments(raw), "{raw}");
    }
    for raw in ["/", "//", "/...", "/..;x/a", "/a..", "/%252e%252e/a"] {
        assert!(!has_dot_segments(raw), "{raw}");
    }
    for (raw, upwards) in [("/a/./b", false), ("/%2e", false), ("/a/..", true), ("/a/.%2E/b", true), ("/...", false)] {
        assert_eq!(has_parent_segments(raw), upwards, "{raw}");
    }
}

#[test]
fn px_07_one_spelling_of_a_letter() {
    check(&[("/%61dmin", "/admin"), ("/%61dmin%c3%a9", "/admin%C3%A9"), ("/ADMIN", "/ADMIN"), ("/%7Eme", "/~me")]);
    let path = canonical_path("/%40me/%7bx%7d/%25").unwrap();
    assert_eq!((&*path.forward, &*path.matching), ("/%40me/%7Bx%7D/%25", "/@me/%7Bx%7D/%25"));
    assert_eq!(forward("/{x}|").as_deref(), Ok("/%7Bx%7D%7C"));
}

#[test]
fn px_08_ends_and_separators_in_disguise() {
    refused(&[
        "/admin%00",
        "/admin%09",
        "/admin%0d%0a",
        "/admin%1F",
        "/admin%7f",
        "/admin\u{0}",
        "/admin\t",
        "/admin\u{7f}",
        "/admin%2f",
        "/admin%2F",
        "/a%5cb",
        "/a%5Cb",
        "/a\\b",
        "/admin#",
        "/admin?",
        "/a%",
        "/a%2",
        "/a%zz",
        "/a%+1",
    ]);
    check(&[("/admin%20", "/admin%20"), ("/admin.", "/admin."), ("/admin/", "/admin/"), ("/a%23b", "/a%23b")]);
}

#[test]
fn px_13_what_is_not_ascii_stays_literal() {
    check(&[("/a／b", "/a%EF%BC%8Fb"), ("/a/․․/b", "/a/%E2%80%A4%E2%80%A4/b"), ("/é", "/%C3%A9")]);
}

#[test]
fn px_16_h_01_hosts() {
    for (raw, name, port) in [
        ("own", "own", None),
        ("own:80", "own", Some(80)),
        ("OWN.Example", "own.example", None),
        ("own.:8080", "own", Some(8080)),
        ("127.0.0.1:1", "127.0.0.1", Some(1)),
        ("[::1]", "[::1]", None),
        ("[0:0:0::0001]:443", "[::1]", Some(443)),
        ("a_b-c.d", "a_b-c.d", None),
    ] {
        assert_eq!(canonical_host(raw), Ok(Host { name: name.into(), port }), "{raw}");
    }
    assert!(matches!(canonical_host("app.example.com"), Ok(Host { name: Cow::Borrowed(_), .. })));
    for raw in [
        "",
        ".",
        "a..b",
        ".a",
        "a..",
        ":80",
        "own:",
        "own:0",
        "own:99999",
        "own:+80",
        "own:443@evil",
        "u@own",
        "u:p@own",
        "own/x",
        "own:80:80",
        "own evil",
        "own,evil",
        "own\t",
        "[::1",
        "[::1]x",
        "[fe80::1%25eth0]",
        "[v1.x]",
        "é",
        "a%41",
    ] {
        assert!(canonical_host(raw).is_err(), "{raw}");
    }
}

/// Paths made of what breaks parsers.
fn nasty() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("/"),
        Just("."),
        Just(".."),
        Just("%2e"),
        Just("%2E"),
        Just("%2f"),
        Just("%5c"),
        Just("\\"),
        Just(";"),
        Just("a"),
        Just("%61"),
        Just("%25"),
        Just("%"),
        Just("%3b"),
        Just("é"),
        Just("%c3"),
        Just("@"),
        Just("%40"),
        Just("{"),
        Just("2e"),
        Just("0"),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]
    #[test]
    fn idempotent_and_free_of_ambiguity(raw in nasty()) {
        if let Ok(path) = canonical_path(&raw) {
            for text in [&*path.forward, &*path.matching] {
                prop_assert!(text.starts_with('/') && text.is_ascii());
                for bad in ["//", "/../", "/./", "\\", "%2f", "%2F", "%5c", "%5C", "%2e", "%2E", "/;", "/..;"] {
                    prop_assert!(!text.contains(bad), "{raw} → {text}");
                }
                prop_assert!(!text.ends_with("/..") && !text.ends_with("/."), "{raw} → {text}");
            }
            prop_assert!(!path.matching.contains(';'));
            let again = canonical_path(&path.forward).unwrap();
            prop_assert_eq!(&again, &path, "{}", raw);
            let matched = canonical_path(&path.matching).unwrap();
            prop_assert_eq!(&matched.forward, &path.matching);
        }
    }

    #[test]
    fn never_panics(raw in "/\\PC*", host in "\\PC*") {
        let _ = canonical_path(&raw);
        let _ = canonical_host(&host);
    }
}
