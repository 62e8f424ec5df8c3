//! The one spelling of a path and of a host. What decides is what is forwarded: every later step takes these and never
//! the raw request target. Never decodes twice, and refuses what two readers could read in two ways.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use memchr::{memchr2, memrchr};

use super::refusal::Refusal;

const NO_SLASH: Refusal = Refusal::bad("the path does not begin with a slash");
const CONTROL: Refusal = Refusal::bad("a control character in the path");

/// `;` in canonical escaping.
const SEMICOLON: &str = "%3B";

/// A path in its canonical spelling, or as it came where a route takes it so.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Path<'a> {
    /// What goes upstream.
    pub forward: Cow<'a, str>,
    /// What routes and policies see: `forward` without the parameters (`;…`) of its segments, and with the escapes of
    /// characters that need none in a path (`%40` is `@`) decoded, since nearly every upstream decodes them.
    pub matching: Cow<'a, str>,
    /// The same for a reader that decodes `%3B` before it cuts parameters off, where that is another path.
    pub cut: Option<String>,
}

/// A host in its canonical spelling.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Host<'a> {
    /// Lower case, no trailing dot, IPv6 in brackets.
    pub name: Cow<'a, str>,
    pub port: Option<u16>,
}

/// Brings a path (no query) into the spelling that decides and is forwarded (RFC 3986 §6.2.2, with `//` merged).
///
/// Unreserved characters are decoded, other escapes kept in upper case, then dot segments removed. Idempotent.
pub fn canonical_path(raw: &str) -> Result<Path<'_>, Refusal> {
    if !raw.starts_with('/') {
        return Err(NO_SLASH);
    }
    // PERF: nearly every path is canonical as it comes, and then nothing is allocated.
    if is_canonical(raw) {
        return Ok(Path { forward: Cow::Borrowed(raw), matching: Cow::Borrowed(raw), cut: None });
    }
    let forward = normalise(raw)?;
    let matching = match memchr2(b';', b'%', forward.as_bytes()) {
        None => forward.clone(),
        Some(_) => for_matching(&forward),
    };
    let cut = matching.contains(SEMICOLON).then(|| cut_parameters(&matching));
    Ok(Path { forward: Cow::Owned(forward), matching: Cow::Owned(matching), cut })
}

/// A path that goes upstream byte for byte. Only for the one route of its host, which takes it whatever it says: so it
/// is matched as `/`. What would break a request line or end a name early is refused all the same.
pub fn raw_path(raw: &str) -> Result<Path<'_>, Refusal> {
    if !raw.starts_with('/') {
        return Err(NO_SLASH);
    }
    // SECURITY: PX-08.
    if raw.bytes().any(|b| b.is_ascii_control() || b == b'#' || b == b'\\') {
        return Err(Refusal::bad("a control character, a `#` or a backslash in the path"));
    }
    let escapes = raw.split('%').skip(1).filter_map(|rest| {
        let mut bytes = rest.bytes();
        Some(bytes.next().and_then(digit)? << 4 | bytes.next().and_then(digit)?)
    });
    if escapes.into_iter().any(|b: u8| b.is_ascii_control()) {
        return Err(CONTROL);
    }
    Ok(Path { forward: Cow::Borrowed(raw), matching: Cow::Borrowed("/"), cut: None })
}

/// Whether a browser would resolve a path into another one (URL Standard, path state).
pub fn has_dot_segments(raw: &str) -> bool {
    dots(raw).any(|segment| matches!(segment.as_str(), "." | ".."))
}

/// Of these, whether one leads upwards.
pub fn has_parent_segments(raw: &str) -> bool {
    dots(raw).any(|segment| segment == "..")
}

/// The segments as a browser reads their dots.
fn dots(raw: &str) -> impl Iterator<Item = String> {
    raw.split('/').map(|segment| segment.to_ascii_lowercase().replace("%2e", "."))
}

/// Brings the value of a Host header, or an authority without user name, into one spelling (RFC 9110 §7.2).
pub fn canonical_host(raw: &str) -> Result<Host<'_>, Refusal> {
    const BAD: Refusal = Refusal::bad("the host is not a host name or an address with an optional port");
    if raw.starts_with('[') {
        let (literal, rest) = raw.strip_prefix('[').and_then(|r| r.split_once(']')).ok_or(BAD)?;
        let address: Ipv6Addr = literal.parse().map_err(|_| BAD)?;
        return Ok(Host { name: Cow::Owned(format!("[{address}]")), port: port_of(rest).ok_or(BAD)? });
    }
    let (name, rest) = raw.split_at(memchr::memchr(b':', raw.as_bytes()).unwrap_or(raw.len()));
    let port = port_of(rest).ok_or(BAD)?;
    let name = name.strip_suffix('.').unwrap_or(name);
    // RFC 1035 §2.3.4 has 253 as the longest name.
    let too_long = name.len() > 253;
    if too_long || name.split('.').any(str::is_empty) || !name.bytes().all(is_name_byte) {
        return Err(BAD);
    }
    let name = if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    };
    Ok(Host { name, port })
}

/// `""` or `:PORT`.
fn port_of(rest: &str) -> Option<Option<u16>> {
    if rest.is_empty() {
        return Some(None);
    }
    let digits = rest.strip_prefix(':')?;
    // `u16::from_str` takes a plus sign.
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|port| *port != 0).map(Some)
}

fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')
}

/// Whether the slow way would change nothing, judged strictly: `/.well-known` takes the slow way too.
fn is_canonical(raw: &str) -> bool {
    let mut previous = 0;
    for b in raw.bytes() {
        let fine = match b {
            b'/' | b'.' => previous != b'/',
            b';' => false,
            _ => is_path_byte(b),
        };
        if !fine {
            return false;
        }
        previous = b;
    }
    true
}

/// `pchar` of RFC 3986 §3.3 without the escapes.
fn is_path_byte(b: u8) -> bool {
    is_unreserved(b)
        || matches!(b, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@')
}

fn is_unreserved(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~')
}

fn normalise(raw: &str) -> Result<String, Refusal> {
    let mut out = String::with_capacity(raw.len() + 16);
    let mut open = false;
    for segment in raw.split('/').skip(1) {
        let start = out.len();
        out.push('/');
        push_segment(segment, &mut out)?;
        let done = out.get(start + 1..).unwrap_or_default();
        open = matches!(done, "" | "." | "..");
        if open {
            let up = done == "..";
            out.truncate(start);
            if up {
                // Above the root stays at the root.
                out.truncate(memrchr(b'/', out.as_bytes()).unwrap_or(0));
            }
        } else if hides_an_empty_name(done) {
            // SECURITY: PX-05. Tomcat and its kin drop the parameters first and see another path than we do.
            return Err(Refusal::bad("a dot segment or an empty segment with parameters in the path"));
        }
    }
    if open {
        out.push('/');
    }
    Ok(out)
}

/// Appends one raw segment with its escapes in canonical spelling.
fn push_segment(segment: &str, out: &mut String) -> Result<(), Refusal> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let hex = |nibble: u8| HEX.get(usize::from(nibble & 15)).map_or('0', |b| char::from(*b));
    let mut bytes = segment.bytes();
    while let Some(raw) = bytes.next() {
        let (value, escaped) = match raw {
            b'%' => {
                let pair = bytes.next().and_then(digit).zip(bytes.next().and_then(digit));
                let (high, low) = pair.ok_or(Refusal::bad("invalid percent-encoding in the path"))?;
                (high << 4 | low, true)
            }
            b'#' | b'?' => return Err(Refusal::bad("a `#` or `?` inside the path")),
            other => (other, false),
        };
        match value {
            // SECURITY: PX-08, PX-05. Some readers take these for separators or ends, others for letters.
            0..=0x1f | 0x7f => return Err(CONTROL),
            b'/' | b'\\' => return Err(Refusal::bad("an encoded slash or a backslash in the path")),
            _ if is_unreserved(value) || (!escaped && is_path_byte(value)) => out.push(char::from(value)),
            _ => out.extend(['%', hex(value >> 4), hex(value)]),
        }
    }
    Ok(())
}

fn digit(b: u8) -> Option<u8> {
    char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

/// `;x`, `.;x`, `..;x`, also with an encoded semicolon.
fn hides_an_empty_name(segment: &str) -> bool {
    let after_dots = segment.trim_start_matches('.');
    let dots = segment.len() - after_dots.len();
    dots <= 2 && (after_dots.starts_with(';') || after_dots.starts_with(SEMICOLON))
}

/// See `Path::cut`. No name becomes empty or a dot segment by it: those were refused.
fn cut_parameters(matching: &str) -> String {
    let names = matching.split('/').map(|segment| segment.split(SEMICOLON).next().unwrap_or_default());
    names.collect::<Vec<_>>().join("/")
}

/// See `Path::matching`. Takes a canonical path.
fn for_matching(forward: &str) -> String {
    let mut out = String::with_capacity(forward.len());
    for segment in forward.split('/').skip(1) {
        out.push('/');
        let name = segment.split(';').next().unwrap_or_default();
        let mut rest = name.split('%');
        out.push_str(rest.next().unwrap_or_default());
        for piece in rest {
            let (escape, tail) = piece.split_at_checked(2).unwrap_or((piece, ""));
            match u8::from_str_radix(escape, 16) {
                Ok(b) if b != b';' && is_path_byte(b) => out.push(char::from(b)),
                _ => {
                    out.push('%');
                    out.push_str(escape);
                }
            }
            out.push_str(tail);
        }
    }
    out
}

#[cfg(test)]
mod tests;
