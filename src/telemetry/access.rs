//! The access log: one line a request on stdout, written when the answer's body has ended.
//!
//! Lines gather in one buffer a worker and are handed to the writer's thread when it is full or a fifth of a second old,
//! so that logging costs no system call a request and never waits for whoever reads stdout. The query is never logged:
//! it is where tokens and codes hide (ZX-03).

use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Safe;
use super::writer::Writer;

/// How long a line may wait in its buffer.
pub const FLUSH_EVERY: Duration = Duration::from_millis(200);
const FLUSH_AT: usize = 16 * 1024;

/// What one line says.
pub struct Line<'a> {
    /// When it ended, Unix milliseconds.
    pub unix_ms: u64,
    pub request_id: &'a str,
    pub client: &'a str,
    pub method: &'a str,
    pub host: &'a str,
    /// Without the query.
    pub path: &'a str,
    pub route: &'a str,
    pub user: Option<&'a str>,
    pub status: u16,
    /// Of the answer's body.
    pub bytes: u64,
    pub duration: Duration,
    pub upstream: Option<Duration>,
    /// The peer went away before the answer's end.
    pub aborted: bool,
}

/// One worker's buffer. The lock is uncontended.
pub struct Sink {
    json: bool,
    writer: Writer,
    buffer: Mutex<Vec<u8>>,
}

impl Sink {
    pub fn new(json: bool, writer: Writer) -> Self {
        Self { json, writer, buffer: Mutex::new(Vec::with_capacity(FLUSH_AT + 1024)) }
    }

    pub fn write(&self, line: &Line<'_>) {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        if self.json {
            json(&mut buffer, line)
        } else {
            text(&mut buffer, line)
        }
        if buffer.len() >= FLUSH_AT {
            self.writer.send(std::mem::replace(&mut buffer, Vec::with_capacity(FLUSH_AT + 1024)));
        }
    }

    /// Hands over what waits. Called by a timer of the worker, and at the end.
    pub fn flush(&self) {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        if !buffer.is_empty() {
            self.writer.send(buffer.clone());
            buffer.clear();
        }
    }
}

fn json(out: &mut Vec<u8>, l: &Line<'_>) {
    out.extend_from_slice(b"{\"timestamp\":\"");
    time(out, l.unix_ms);
    out.extend_from_slice(b"\",\"target\":\"access\",\"request_id\":");
    string(out, l.request_id);
    out.extend_from_slice(b",\"client\":");
    string(out, l.client);
    out.extend_from_slice(b",\"method\":");
    string(out, l.method);
    out.extend_from_slice(b",\"host\":");
    string(out, l.host);
    out.extend_from_slice(b",\"path\":");
    string(out, l.path);
    out.extend_from_slice(b",\"route\":");
    string(out, l.route);
    if let Some(user) = l.user {
        out.extend_from_slice(b",\"user\":");
        string(out, user);
    }
    out.extend_from_slice(b",\"status\":");
    number(out, u64::from(l.status));
    out.extend_from_slice(b",\"bytes\":");
    number(out, l.bytes);
    out.extend_from_slice(b",\"micros\":");
    number(out, micros(l.duration));
    if let Some(upstream) = l.upstream {
        out.extend_from_slice(b",\"upstream_micros\":");
        number(out, micros(upstream));
    }
    if l.aborted {
        out.extend_from_slice(b",\"aborted\":true");
    }
    out.extend_from_slice(b"}\n");
}

fn text(out: &mut Vec<u8>, l: &Line<'_>) {
    time(out, l.unix_ms);
    let _ = write!(
        out,
        " {} {} {} {}{} {} {}B {}us route={} user={} id={}{}",
        l.client,
        l.status,
        Safe(l.method),
        Safe(l.host),
        Safe(l.path),
        if l.upstream.is_some() { "upstream" } else { "own" },
        l.bytes,
        micros(l.duration),
        Safe(l.route),
        Safe(l.user.unwrap_or("-")),
        Safe(l.request_id),
        if l.aborted { " aborted" } else { "" },
    );
    out.push(b'\n');
}

/// A JSON string in ASCII: every other character as `\uXXXX`, so that no bidi override or control reaches a terminal.
fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    // PERF: nearly every value is plain; without an early end the compiler looks at many bytes at once.
    if text.bytes().fold(true, |plain, b| plain & matches!(b, b' '..=b'~') & (b != b'"') & (b != b'\\')) {
        out.extend_from_slice(text.as_bytes());
    } else {
        for c in text.chars() {
            match c {
                '"' | '\\' => {
                    out.push(b'\\');
                    out.push(if c == '"' { b'"' } else { b'\\' });
                }
                ' '..='~' => out.push(u8::try_from(c).unwrap_or(b'?')),
                _ => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
            }
        }
    }
    out.push(b'"');
}

fn number(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

/// RFC 3339, UTC, milliseconds. The date is formatted once a second a thread.
fn time(out: &mut Vec<u8>, unix_ms: u64) {
    thread_local! {
        static SECOND: std::cell::RefCell<(u64, String)> = const { std::cell::RefCell::new((u64::MAX, String::new())) };
    }
    let (now, millis) = (unix_ms / 1000, unix_ms % 1000);
    SECOND.with_borrow_mut(|(second, shown)| {
        if *second != now {
            *second = now;
            *shown = rfc3339(now);
        }
        out.extend_from_slice(shown.as_bytes());
    });
    let digit = |n: u64| b'0' + u8::try_from(n % 10).unwrap_or(0);
    out.extend_from_slice(&[b'.', digit(millis / 100), digit(millis / 10), digit(millis), b'Z']);
}

/// `2026-11-24T09:00:00`, from days since the epoch by the civil-from-days method of Howard Hinnant.
pub fn rfc3339(unix: u64) -> String {
    let (days, rest) = (unix / 86_400, unix % 86_400);
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", rest / 3_600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00");
        assert_eq!(rfc3339(4_102_444_799), "2099-12-31T23:59:59");
    }

    #[test]
    fn zx_01_a_line_is_one_json_object_whatever_the_path() {
        let mut out = Vec::new();
        let line = Line {
            request_id: "id",
            unix_ms: 951_782_400_007,
            client: "127.0.0.1",
            method: "GET",
            host: "h",
            path: "/\"\n\u{1b}\u{202e}😀",
            route: "r",
            user: Some("zoë"),
            status: 200,
            bytes: 1,
            duration: Duration::from_micros(5),
            upstream: None,
            aborted: true,
        };
        json(&mut out, &line);
        assert!(out.is_ascii());
        assert_eq!(out.iter().filter(|b| **b == b'\n').count(), 1);
        let parsed: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(parsed["path"], "/\"\n\u{1b}\u{202e}😀");
        assert_eq!(parsed["user"], "zoë");
        assert_eq!(parsed["timestamp"], "2000-02-29T00:00:00.007Z");
        let mut out = Vec::new();
        text(&mut out, &line);
        assert!(out.is_ascii() && out.iter().filter(|b| **b == b'\n').count() == 1);
    }
}
