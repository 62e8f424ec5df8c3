//! What proxies in front of Doorward say about the request (RFC 7239, `X-Forwarded-*`), whom to believe, and what
//! Doorward says in turn. From a peer that is not trusted nothing counts.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use super::origin::Scheme;
use super::refusal::Refusal;
use super::uri::canonical_host;

/// What `Managed::strip_request` removes besides the identity headers (W-01).
pub(super) const NAMES: &[&str] = &["forwarded", "x-real-ip", "x-rewrite-url"];
/// What `write` says anew. SECURITY: W-01. `X_Forwarded_For` is the same variable to CGI and WSGI, so one that a client
/// sent through a trusted proxy would stand beside ours.
pub(super) const WRITTEN: &[&str] =
    &["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"];
pub(super) const PREFIXES: &[&str] = &["x-forwarded-", "x-original-"];

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The networks whose word about the client counts; none by default.
#[derive(Clone, Debug, Default)]
pub struct Trust(Vec<IpNet>);

impl Trust {
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        // An IPv4 peer of a dual-stack listener comes as ::ffff:a.b.c.d.
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// What is believed about where a request comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seen {
    /// The first address from the right that is no trusted proxy.
    pub client: IpAddr,
    pub proto: Option<Scheme>,
    /// Canonical: lower case, no trailing dot; the port where one was given.
    pub host: Option<String>,
    /// The client and the trusted proxies up to and with the peer, for X-Forwarded-For; absent where the peer is the client.
    /// What stood left of the client is hearsay and not passed on.
    pub chain: Option<String>,
}

/// Reads what the peer says, if it is trusted. Contradictions are refused: no reader could know which one counts (W-02).
pub fn read(headers: &HeaderMap, peer: IpAddr, trust: &Trust) -> Result<Seen, Refusal> {
    let peer = peer.to_canonical();
    if !trust.contains(peer) {
        return Ok(Seen { client: peer, proto: None, host: None, chain: None });
    }
    let (x, standard) = (Said::de_facto(headers)?, Said::standard(headers)?);
    let conflict = Refusal::bad("Forwarded and X-Forwarded-* disagree");
    let proto = agree(x.proto, standard.proto).ok_or(conflict)?;
    let host = agree(x.host, standard.host).ok_or(conflict)?;
    let hops = agree(x.hops.map(|h| walk(&h, peer, trust)), standard.hops.map(|h| walk(&h, peer, trust)));
    let hops = hops.ok_or(conflict)?.unwrap_or_else(|| vec![peer]);
    let client = hops.last().copied().unwrap_or(peer);
    let chain = (hops.len() > 1).then(|| {
        let mut chain = String::with_capacity(hops.len() * 17);
        for hop in hops.iter().rev() {
            let comma = if chain.is_empty() { "" } else { ", " };
            // Writing to a String cannot fail.
            let _ = write!(chain, "{comma}{hop}");
        }
        chain
    });
    Ok(Seen { client, proto, host, chain })
}

/// `X-Real-IP`, where a trusted peer says no more than whom it speaks with. Nothing but an address is one.
pub fn real_ip(headers: &HeaderMap) -> Result<Option<IpAddr>, Refusal> {
    let bad = Refusal::bad("X-Real-IP is not one address");
    let mut values = headers.get_all(REAL_IP).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad);
    }
    address(text(first)?.trim()).map(Some).ok_or(bad)
}

/// Says it anew. `peer` and `port` as `address_value` and `port_value` make them; the port is the one of the origin that
/// the browser asked.
pub fn write(
    headers: &mut HeaderMap,
    seen: &Seen,
    peer: &HeaderValue,
    proto: Scheme,
    host_with_port: &HeaderValue,
    port: &HeaderValue,
) {
    // A trusted proxy's `Forwarded` tells of one hop less than X-Forwarded-For then does.
    headers.remove(FORWARDED);
    let chain = seen.chain.as_deref().and_then(|chain| HeaderValue::from_str(chain).ok());
    headers.insert(FOR, chain.unwrap_or_else(|| peer.clone()));
    headers.insert(PROTO, HeaderValue::from_static(proto.as_str()));
    headers.insert(HOST, host_with_port.clone());
    headers.insert(PORT, port.clone());
}

pub fn address_value(address: IpAddr) -> HeaderValue {
    HeaderValue::try_from(address.to_canonical().to_string()).unwrap_or(HeaderValue::from_static("unknown"))
}

pub fn port_value(port: u16) -> HeaderValue {
    match port {
        80 => HeaderValue::from_static("80"),
        443 => HeaderValue::from_static("443"),
        other => HeaderValue::from(other),
    }
}

/// One family of headers, read but not yet believed.
#[derive(Default)]
struct Said {
    /// Left to right; None where a hop hides its address.
    hops: Option<Vec<Option<IpAddr>>>,
    proto: Option<Scheme>,
    host: Option<String>,
}

impl Said {
    fn de_facto(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut said = Self::default();
        for value in headers.get_all(FOR) {
            let hops = text(value)?.split(',').map(|hop| address(hop.trim()));
            said.hops.get_or_insert_default().extend(hops);
        }
        for value in single(headers, &PROTO)?.into_iter().flat_map(|v| v.split(',')) {
            said.set_proto(value.trim())?;
        }
        for value in single(headers, &HOST)?.into_iter().flat_map(|v| v.split(',')) {
            said.set_host(value.trim())?;
        }
        Ok(said)
    }

    fn standard(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut said = Self::default();
        for value in headers.get_all(FORWARDED) {
            for element in split_outside_quotes(text(value)?, ',') {
                let mut hop = None;
                for pair in split_outside_quotes(element, ';').map(str::trim).filter(|pair| !pair.is_empty()) {
                    let (name, value) = pair.split_once('=').ok_or(Refusal::bad("a malformed Forwarded header"))?;
                    let value = unquote(value)?;
                    match name.to_ascii_lowercase().as_str() {
                        "for" if hop.is_some() => return Err(Refusal::bad("a hop of Forwarded with two addresses")),
                        "for" => hop = Some(address(&value)),
                        "host" => said.set_host(&value)?,
                        "proto" => said.set_proto(&value)?,
                        _ => {}
                    }
                }
                if let Some(hop) = hop {
                    said.hops.get_or_insert_default().push(hop);
                }
            }
        }
        Ok(said)
    }

    fn set_proto(&mut self, value: &str) -> Result<(), Refusal> {
        // Some proxies name the WebSocket schemes.
        let proto = if ["https", "wss"].iter().any(|s| s.eq_ignore_ascii_case(value)) {
            Scheme::Https
        } else if ["http", "ws"].iter().any(|s| s.eq_ignore_ascii_case(value)) {
            Scheme::Http
        } else {
            return Err(Refusal::bad("a forwarded protocol that is neither http nor https"));
        };
        match self.proto.replace(proto) {
            Some(before) if before != proto => Err(Refusal::bad("two forwarded protocols")),
            _ => Ok(()),
        }
    }

    fn set_host(&mut self, value: &str) -> Result<(), Refusal> {
        let host = canonical_host(value)?;
        let host = match host.port {
            Some(port) => format!("{}:{port}", host.name),
            None => host.name.into_owned(),
        };
        match self.host.replace(host) {
            Some(before) if self.host.as_ref() != Some(&before) => Err(Refusal::bad("two forwarded hosts")),
            _ => Ok(()),
        }
    }
}

/// From the peer leftwards to the first address that is not trusted, or that is not there.
fn walk(hops: &[Option<IpAddr>], peer: IpAddr, trust: &Trust) -> Vec<IpAddr> {
    let mut seen = vec![peer];
    for hop in hops.iter().rev() {
        let Some(hop) = *hop else { break };
        seen.push(hop);
        if !trust.contains(hop) {
            break;
        }
    }
    seen
}

/// None where both are there and differ.
fn agree<T: PartialEq>(a: Option<T>, b: Option<T>) -> Option<Option<T>> {
    match (a, b) {
        (Some(a), Some(b)) => (a == b).then_some(Some(a)),
        (a, b) => Some(a.or(b)),
    }
}

fn text(value: &HeaderValue) -> Result<&str, Refusal> {
    value.to_str().map_err(|_| Refusal::bad("a forwarding header that is not ASCII"))
}

/// The value of a header that may be there once only.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(text).transpose()?;
    match values.next() {
        Some(_) => Err(Refusal::bad("a repeated X-Forwarded-Proto or X-Forwarded-Host")),
        None => Ok(first),
    }
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`. Names and `unknown` are none.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|s| s.ip()));
    ip.map(|ip: IpAddr| ip.to_canonical())
}

/// RFC 7239 §4: a value is a token or a quoted string.
fn unquote(value: &str) -> Result<Cow<'_, str>, Refusal> {
    let Some(inner) = value.strip_prefix('"') else { return Ok(Cow::Borrowed(value)) };
    let inner = inner.strip_suffix('"').ok_or(Refusal::bad("a malformed Forwarded header"))?;
    if !inner.contains('\\') {
        return Ok(Cow::Borrowed(inner));
    }
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    Ok(Cow::Owned(out))
}

fn split_outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        c == separator && !quoted
    })
}

#[cfg(test)]
mod tests;
