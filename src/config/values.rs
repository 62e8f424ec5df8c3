//! The small languages of the values: text to type, or the reason why not. Pure functions; nothing here knows a key.

use std::time::Duration;

use super::problem::Reason;
use crate::http::uri::canonical_host;

pub(super) const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(super) const fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 3600)
}

/// `"90s"`, `"1h30m"`, `"500ms"`, `"7d"`.
pub(super) fn duration(text: &str) -> Result<Duration, Reason> {
    let bad = || {
        Reason::new("is not a duration", "Write numbers with units, such as \"500ms\", \"90s\", \"1h30m\" or \"7d\".")
    };
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, after) = leading_number(rest).ok_or_else(bad)?;
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(letters).ok_or_else(bad)?;
        let milliseconds: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(bad()),
        };
        let part = number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(bad)?;
        total = total.checked_add(part).ok_or_else(bad)?;
        rest = after;
    }
    // A century is a typing error, and arithmetic on clocks stays clear of overflow.
    if text.trim().is_empty() || total > hours(24 * 36_525) { Err(bad()) } else { Ok(total) }
}

pub(super) fn timeout(text: &str) -> Result<Duration, Reason> {
    let duration = duration(text)?;
    if duration.is_zero() {
        return Err(Reason::new("is no time at all", "Write more than \"0s\", such as \"10s\"."));
    }
    Ok(duration)
}

/// `"64KiB"`, `"1MiB"`, `"8192B"`, in bytes.
pub(super) fn size(text: &str) -> Result<usize, Reason> {
    let bad = || Reason::new("is not a size", "Write a number with a unit, such as \"8192B\", \"64KiB\" or \"1MiB\".");
    let (number, unit) = leading_number(text.trim()).ok_or_else(bad)?;
    let factor: u64 = match unit.trim_start() {
        "B" => 1,
        "KB" => 1000,
        "KiB" => 1024,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(bad()),
    };
    number.checked_mul(factor).and_then(|n| usize::try_from(n).ok()).ok_or_else(bad)
}

/// A path as requests are matched against: canonical, so that what is written is what is compared.
pub(super) fn path(text: &str) -> Result<String, Reason> {
    let what = if !text.starts_with('/') {
        "does not begin with /"
    } else if text.contains('*') {
        // It would match nothing but itself, and whoever wrote it thinks that everything below is covered.
        return Err(Reason::new(
            "has a *, which stands for nothing but itself",
            "Remove it: \"/app\" is that path and everything below it, \"=/app\" is that path alone.",
        ));
    } else if text.contains("//") {
        "contains //"
    } else if text.contains(['%', '?', '#', '\\', ';']) || !text.bytes().all(|b| b.is_ascii_graphic()) {
        "contains a character that no canonical path has (one of % ? # \\ ; a space, or one outside ASCII)"
    } else if text.contains(['"', '<', '>', '[', ']', '^', '`', '{', '|', '}']) {
        "contains a character that no canonical path has: there are no patterns and no regular expressions"
    } else if text.split('/').any(|segment| matches!(segment, "." | "..")) {
        "contains a dot segment"
    } else {
        return Ok(text.to_owned());
    };
    Err(Reason::new(what, "Write the path as it is after normalising, such as \"/app\"."))
}

/// A path that stands for itself and everything below; a `/` at its end says nothing more.
pub(super) fn prefix(text: &str) -> Result<String, Reason> {
    let path = path(text)?;
    Ok(match path.strip_suffix('/') {
        Some(shorter) if !shorter.is_empty() => shorter.to_owned(),
        _ => path,
    })
}

/// The same, for what cannot be the whole site.
pub(super) fn prefix_below_root(text: &str) -> Result<String, Reason> {
    match prefix(text)? {
        root if root == "/" => Err(Reason::new("is the whole site", "Write a path below it, such as \"/oauth2\".")),
        path => Ok(path),
    }
}

/// A host name or address in its canonical spelling: lower case, punycode, no port, no trailing dot.
pub(super) fn host(text: &str) -> Result<String, Reason> {
    let bad =
        || Reason::new("is not a host name", "Write the name alone, such as \"app.example.com\": no scheme, no port.");
    if text.contains(['/', '@', '*', '%', '?', '#']) || text.chars().any(char::is_whitespace) {
        return Err(bad());
    }
    let host = url::Host::parse(text.strip_suffix('.').unwrap_or(text)).map_err(|_| bad())?.to_string();
    // What no request can name would be a route that never answers.
    if canonical_host(&host).is_ok_and(|canonical| canonical.name == host) { Ok(host) } else { Err(bad()) }
}

/// A token of RFC 9110 §5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// A dotted path into the claims.
pub(super) fn claim(text: &str) -> Result<String, Reason> {
    if text.split('.').any(str::is_empty) {
        return Err(Reason::new(
            "is not a path into the claims",
            "Write names with dots between: \"realm_access.roles\".",
        ));
    }
    Ok(text.to_owned())
}

/// Lower case, character by character: the same for what is configured and for what is compared with it.
/// (`str::to_lowercase` treats a sigma at the end of a word differently.)
pub fn fold_case(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// A value for a message: quoted, short, and nothing of a URL that holds a password.
pub(super) fn shown(text: &str) -> String {
    if text.contains("://") && text.contains('@') {
        return "the URL".to_owned();
    }
    let short: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    format!("\"{short}\"")
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in
            [("0s", 0), ("500ms", 500), ("90s", 90_000), ("1h30m", 5_400_000), ("2d", 172_800_000), (" 5m ", 300_000)]
        {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(milliseconds), "{text}");
        }
        for bad in ["", "90", "s", "-1s", "1.5h", "1 h", "1w", "99999999999999999999s", "9999999d", "1hs"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(timeout("0s").is_err());
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("8192B", 8192), ("64KiB", 65_536), ("64 KiB", 65_536), ("1MiB", 1 << 20), ("2KB", 2000)]
        {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        for bad in ["", "64", "KiB", "64kib", "-1B", "99999999999GiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn px_01_paths_are_canonical() {
        for bad in ["", "a", "//", "/a//b", "/../a", "/a/.", "/a%2fb", "/a?b", "/a#b", "/a\\b", "/a;x", "/a b", "/ä"] {
            assert!(path(bad).is_err(), "{bad}");
        }
        assert_eq!(prefix("/a/").unwrap(), "/a");
        assert_eq!(prefix("/").unwrap(), "/");
        assert_eq!(path("/a/").unwrap(), "/a/");
        assert!(prefix_below_root("/").is_err());
    }

    #[test]
    fn hosts_are_canonical() {
        for (text, want) in [
            ("App.Example.COM.", "app.example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("[::1]", "[::1]"),
            ("127.0.0.1", "127.0.0.1"),
        ] {
            assert_eq!(host(text).unwrap(), want, "{text}");
        }
        for bad in ["", ".", "a:80", "http://a", "*.a", "a/b", "a b", "a@b"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn zx_06_a_url_with_a_password_is_not_shown() {
        assert_eq!(shown("http://u:hunter2@host/"), "the URL");
        assert_eq!(shown("a\u{1b}[31m"), "\"a\\u{1b}[31m\"");
    }
}
