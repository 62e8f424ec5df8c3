//! The PROXY protocol of HAProxy, versions 1 and 2: what a load balancer that only passes bytes on says first of where a
//! connection comes from. Reads its header and not one byte more; whether to believe it is for whoever asks.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A whole line of version 1, its end included (§2.1).
const LONGEST_V1: usize = 107;
/// Of version 2, after the first 16 bytes: addresses take 216 at most, the rest is for TLVs, which are not read.
const LONGEST_V2: usize = 2048;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const START_V1: &[u8; 6] = b"PROXY ";
/// Version 2 says here how long it is.
const START_V2: usize = 16;

/// What the header says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Header {
    /// The connection of this client. Canonical: never an IPv4 address written as IPv6.
    From(IpAddr),
    /// The balancer's own, to see whether somebody answers; or one of which it cannot say more.
    Local,
}

#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Whoever looks whether a port is open does no more.
    #[error("closed at once")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no PROXY protocol header")]
    Missing,
    #[error("a malformed PROXY protocol header: {0}")]
    Malformed(&'static str),
}

/// Reads the header. The caller bounds the time.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Header, Fault> {
    let mut bytes = Vec::with_capacity(LONGEST_V1);
    loop {
        let more = match parse(&bytes)? {
            Step::Done(header) => return Ok(header),
            Step::More(more) => more,
        };
        // What is asked for is part of the header, whatever it says: so nothing has to be given back.
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        if (&mut *stream).take(more).read_buf(&mut bytes).await? == 0 {
            return Err(if bytes.is_empty() { Fault::Closed } else { Fault::Malformed("it ends early") });
        }
    }
}

#[derive(Debug, Eq, PartialEq)]
enum Step {
    Done(Header),
    /// At least so many more bytes belong to it; never 0.
    More(usize),
}

/// `bytes`: what has come so far, and nothing that a `Step` before did not ask for.
fn parse(bytes: &[u8]) -> Result<Step, Fault> {
    if let Some(start) = bytes.first_chunk::<12>() {
        if start == SIGNATURE {
            return v2(bytes);
        }
        if start.starts_with(START_V1) {
            return v1(bytes);
        }
        return Err(Fault::Missing);
    }
    // The shortest header has 15 bytes.
    if SIGNATURE.starts_with(bytes) || START_V1.starts_with(bytes) || bytes.starts_with(START_V1) {
        return Ok(Step::More(SIGNATURE.len() - bytes.len()));
    }
    Err(Fault::Missing)
}

/// `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443`, `PROXY UNKNOWN` and anything after it; CRLF.
fn v1(bytes: &[u8]) -> Result<Step, Fault> {
    let Some(line) = bytes.strip_suffix(b"\r\n") else {
        if bytes.len() >= LONGEST_V1 || bytes.contains(&b'\n') {
            return Err(Fault::Malformed("no end of line where there must be one"));
        }
        return Ok(Step::More(rest_of_v1(bytes).min(LONGEST_V1 - bytes.len())));
    };
    let line = std::str::from_utf8(line).map_err(|_| Fault::Malformed("not ASCII"))?;
    let mut fields = line.split(' ').skip(1);
    let family = fields.next();
    if family == Some("UNKNOWN") {
        return Ok(Step::Done(Header::Local));
    }
    let (Some(source), Some(target), Some(source_port), Some(target_port), None) =
        (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(Fault::Malformed("not six fields"));
    };
    let address = |text: &str| match family {
        Some("TCP4") => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        Some("TCP6") => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    let (Some(source), Some(_)) = (address(source), address(target)) else {
        return Err(Fault::Malformed("no two addresses of its family"));
    };
    if ![source_port, target_port].into_iter().all(is_port) {
        return Err(Fault::Malformed("no two ports"));
    }
    Ok(Step::Done(Header::From(source.to_canonical())))
}

/// At least so much is missing: of each field that has not begun a character and what parts it from the one before, and
/// the end of the line.
fn rest_of_v1(bytes: &[u8]) -> usize {
    if bytes.ends_with(b"\r") {
        return 1;
    }
    let blanks = bytes.iter().filter(|b| **b == b' ').count();
    let known = bytes.starts_with(b"PROXY TCP");
    let fields = if known { 5_usize.saturating_sub(blanks) } else { 0 };
    fields * 2 + 2
}

/// Decimal, without zeros in front.
fn is_port(text: &str) -> bool {
    let digits = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    digits && text.parse::<u16>().is_ok()
}

fn v2(bytes: &[u8]) -> Result<Step, Fault> {
    let Some(&[.., command, family, high, low]) = bytes.first_chunk::<START_V2>() else {
        return Ok(Step::More(START_V2 - bytes.len()));
    };
    if command >> 4 != 2 {
        return Err(Fault::Malformed("neither version 1 nor 2"));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    // SECURITY: before any of it is waited for.
    if length > LONGEST_V2 {
        return Err(Fault::Malformed("longer than any header"));
    }
    let body = bytes.get(START_V2..).unwrap_or_default();
    if body.len() < length {
        return Ok(Step::More(length - body.len()));
    }
    let header = match (command & 0xf, family) {
        // LOCAL, whatever else it says.
        (0, _) => Header::Local,
        (1, 0x11) => {
            // Two addresses and two ports.
            let (Some(source), true) = (body.first_chunk::<4>(), length >= 12) else { return Err(SHORT) };
            Header::From(IpAddr::from(*source))
        }
        (1, 0x21) => {
            let (Some(source), true) = (body.first_chunk::<16>(), length >= 36) else { return Err(SHORT) };
            Header::From(IpAddr::from(*source).to_canonical())
        }
        // Of no family, or on a unix socket of the balancer's machine.
        (1, 0x00 | 0x31 | 0x32) => Header::Local,
        (1, _) => return Err(Fault::Malformed("neither TCP over IPv4 nor over IPv6")),
        _ => return Err(Fault::Malformed("neither LOCAL nor PROXY")),
    };
    Ok(Step::Done(header))
}

const SHORT: Fault = Fault::Malformed("too short for its addresses");

#[cfg(test)]
mod tests;
