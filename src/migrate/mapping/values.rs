//! The small languages of oauth2-proxy's values.

use std::net::SocketAddr;
use std::time::Duration;

/// A duration as Go writes it: `168h0m0s`, `1.5h`, `300ms`; a number alone is nanoseconds. None: it is none.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(nanoseconds) = text.parse::<u64>() {
        return Some(Duration::from_nanos(nanoseconds));
    }
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(end)?;
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(letters)?;
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = after;
    }
    Duration::try_from_secs_f64(total).ok().filter(|_| !text.is_empty())
}

/// As Doorward writes it.
pub(super) fn shown(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        0 => "0s".to_owned(),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

/// An address to listen on, as Doorward writes it. None: there is none (`""` or `"-"`). Err: what is wrong.
pub(super) fn listen(text: &str) -> Result<Option<String>, &'static str> {
    let text = text.trim();
    if text.is_empty() || text == "-" {
        return Ok(None);
    }
    let lower = text.to_ascii_lowercase();
    if let Some(number) = lower.strip_prefix("fd:") {
        return Ok(Some(format!("fd:{number}")));
    }
    if let Some(path) = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")) {
        let path = path.split(',').next().unwrap_or_default();
        return if path.starts_with('/') {
            Ok(Some(format!("unix:{path}")))
        } else {
            Err("is a socket without an absolute path")
        };
    }
    let bare = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
    let full = match bare.split_once(':') {
        Some(("", port)) => format!("0.0.0.0:{port}"),
        Some(("localhost", port)) => format!("127.0.0.1:{port}"),
        _ => bare.to_owned(),
    };
    full.parse::<SocketAddr>().map(|address| Some(address.to_string())).map_err(|_| "is no IP address with a port")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, want) in [
            ("168h0m0s", "168h"),
            ("168h", "168h"),
            ("1h30m", "90m"),
            ("90s", "90s"),
            ("1.5h", "90m"),
            ("300ms", "300ms"),
            ("0", "0s"),
            ("60000000000", "1m"),
        ] {
            assert_eq!(duration(text).map(shown).as_deref(), Some(want), "{text}");
        }
        for bad in ["", "1", "h", "1d", "-1h", "1h x", "1..5h"] {
            assert!(duration(bad).is_none_or(|d| d < Duration::from_millis(1)), "{bad}");
        }
    }

    #[test]
    fn addresses() {
        for (text, want) in [
            (":4180", "0.0.0.0:4180"),
            ("http://127.0.0.1:4180", "127.0.0.1:4180"),
            ("https://[::1]:443", "[::1]:443"),
            ("localhost:80", "127.0.0.1:80"),
            ("unix:///run/o.sock,mode=0777", "unix:/run/o.sock"),
            ("FD:3", "fd:3"),
        ] {
            assert_eq!(listen(text), Ok(Some(want.to_owned())), "{text}");
        }
        assert_eq!(listen("-"), Ok(None));
        assert!(listen("example.com:80").is_err() && listen("unix://x").is_err());
    }
}
