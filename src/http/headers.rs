//! Header hygiene: which names only Doorward may set, which end at each hop, and how a value is made safe.
//! Reads and changes headers; never decides who somebody is.

use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, SET_COOKIE,
    TRANSFER_ENCODING,
};
use http::request::Parts;
use http::{StatusCode, Version};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::forwarded;
use super::refusal::Refusal;

/// The names that tell an upstream who somebody is. From outside they are lies and are removed, on every route.
///
/// SECURITY: HX-03, HX-05. Names compare with every character that is no letter or digit read as `-`, since CGI, WSGI
/// and their kin make `X_Forwarded_User` and `X-Forwarded-User` the same variable.
#[derive(Debug)]
pub struct Managed {
    identity: NameSet,
    trusted: NameSet,
    untrusted: NameSet,
}

impl Managed {
    /// The headers of all presets, and `extra`: the names that routes set besides.
    pub fn new(extra: impl IntoIterator<Item = HeaderName>) -> Self {
        let mut identity = NameSet::default();
        IDENTITY.iter().for_each(|name| identity.insert(name));
        IDENTITY_PREFIXES.iter().for_each(|prefix| identity.insert_prefix(prefix));
        extra.into_iter().for_each(|name| identity.insert(name.as_str()));
        let (mut trusted, mut untrusted) = (identity.clone(), identity.clone());
        forwarded::WRITTEN.iter().for_each(|name| trusted.insert(name));
        forwarded::NAMES.iter().for_each(|name| untrusted.insert(name));
        forwarded::PREFIXES.iter().for_each(|prefix| untrusted.insert_prefix(prefix));
        Self { identity, trusted, untrusted }
    }

    /// Removes from a request what ends at this hop, what only this hop answers (`Expect`, `HTTP2-Settings`), the identity
    /// headers and what `http::forwarded` writes anew, in every spelling of the names; unless its peer is trusted, all that
    /// `http::forwarded` lists (W-01). Says how many of those that only we may set there were.
    pub fn strip_request(&self, headers: &mut HeaderMap, trusted: bool) -> usize {
        let ours = if trusted { &self.trusted } else { &self.untrusted };
        let mut forged = 0;
        strip(headers, |name| {
            let managed = ours.contains(name);
            forged += usize::from(managed);
            managed || matches!(name, "expect" | "http2-settings")
        });
        forged
    }

    /// The same of trailers, whoever sends them: removes what anybody but us might be believed to have set, and what is no
    /// trailer: HTTP/2 sends each of them, announced or not.
    pub fn strip_trailers(&self, trailers: &mut HeaderMap) {
        strip(trailers, |name| self.untrusted.contains(name) || is_no_trailer(name));
    }

    pub fn contains(&self, name: &HeaderName) -> bool {
        self.identity.contains(name.as_str())
    }
}

/// What the presets set, and what else applications and their libraries take for a word about who somebody is, whether
/// or not a route of this configuration sets it.
const IDENTITY: &[&str] = &[
    "cert-chain",
    "cf-access-authenticated-user-email",
    "cf-access-jwt-assertion",
    "client-cert",
    "client-cert-chain",
    "impersonate-group",
    "impersonate-uid",
    "impersonate-user",
    "remote-email",
    "remote-groups",
    "remote-name",
    "remote-user",
    "ssl-cert",
    "x-arr-clientcert",
    "x-client-cert",
    "x-client-certificate",
    "x-client-dn",
    "x-client-verify",
    "x-doorward-assertion",
    "x-doorward-client",
    "x-forwarded-access-token",
    "x-forwarded-client-cert",
    "x-forwarded-displayname",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-login",
    "x-forwarded-mail",
    "x-forwarded-name",
    "x-forwarded-preferred-username",
    "x-forwarded-tls-client-cert",
    "x-forwarded-tls-client-cert-info",
    "x-forwarded-user",
    "x-goog-iap-jwt-assertion",
    "x-proxy-roles",
    "x-proxy-user",
];

/// `remote-user-` is NetBox's, `x-proxy-ext-` OpenSearch's; `x-amzn-oidc-`, `x-goog-authenticated-user-` and `x-pomerium-`
/// other gateways' (HX-20). The rest is what proxies say of a client's certificate: Apache, nginx and their kin
/// (`ssl-client-`, `x-ssl-client-`), AWS (`x-amzn-mtls-`), Cloudflare (`cf-client-cert-`), WebLogic.
const IDENTITY_PREFIXES: &[&str] = &[
    "cert-chain-",
    "cf-client-cert-",
    "impersonate-extra-",
    "remote-user-",
    "ssl-client-",
    "wl-proxy-client-",
    "x-amzn-mtls-",
    "x-amzn-oidc-",
    "x-auth-request-",
    "x-authentik-",
    "x-client-cert-",
    "x-goog-authenticated-user-",
    "x-pomerium-",
    "x-proxy-ext-",
    "x-ssl-client-",
    "x-webauth-",
];

/// Names and prefixes in the spelling that `fold` gives, by their first byte.
#[derive(Clone, Debug)]
struct NameSet(Box<[OfByte; 128]>);

#[derive(Clone, Debug, Default)]
struct OfByte {
    /// PERF: the lengths that can match at all, one bit each, the last one "and longer". Ordinary browser headers end here
    /// without a comparison, and the others are compared with few.
    lengths: u64,
    names: Vec<Box<str>>,
    prefixes: Vec<Box<str>>,
}

impl Default for NameSet {
    fn default() -> Self {
        Self(Box::new(std::array::from_fn(|_| OfByte::default())))
    }
}

impl NameSet {
    fn insert(&mut self, name: &str) {
        if let Some(of) = self.of(name) {
            of.lengths |= length_bit(name);
            of.names.push(name.bytes().map(|b| char::from(fold(b))).collect());
        }
    }

    fn insert_prefix(&mut self, prefix: &str) {
        if let Some(of) = self.of(prefix) {
            of.lengths |= !(length_bit(prefix) - 1);
            of.prefixes.push(prefix.into());
        }
    }

    fn of(&mut self, text: &str) -> Option<&mut OfByte> {
        text.bytes().next().and_then(|b| self.0.get_mut(usize::from(fold(b))))
    }

    fn contains(&self, name: &str) -> bool {
        let Some(of) = name.bytes().next().and_then(|b| self.0.get(usize::from(fold(b)))) else { return false };
        if of.lengths & length_bit(name) == 0 {
            return false;
        }
        of.names.iter().any(|n| n.len() == name.len() && begins(name, n)) || of.prefixes.iter().any(|p| begins(name, p))
    }
}

/// `start` is folded already.
fn begins(name: &str, start: &str) -> bool {
    name.len() >= start.len() && name.bytes().zip(start.bytes()).all(|(a, b)| fold(a) == b)
}

fn fold(b: u8) -> u8 {
    if b.is_ascii_alphanumeric() { b.to_ascii_lowercase() } else { b'-' }
}

fn length_bit(text: &str) -> u64 {
    1 << text.len().min(63)
}

/// Removes what ends at this hop (RFC 9110 §7.6.1), of requests and of answers. `TE: trailers` and `Upgrade` are gone
/// too: who forwards one of them says so anew.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    strip(headers, |_| false);
}

/// Of trailers: likewise, and what is no trailer.
pub fn strip_harmful(trailers: &mut HeaderMap) {
    strip(trailers, is_no_trailer);
}

/// SECURITY: M-10. What frames, routes or authenticates a message must come before its body (RFC 9110 §6.5.1).
pub fn is_no_trailer(name: &str) -> bool {
    matches!(
        name,
        "authorization"
            | "cache-control"
            | "connection"
            | "content-encoding"
            | "content-length"
            | "content-range"
            | "content-type"
            | "cookie"
            | "expect"
            | "host"
            | "set-cookie"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    ) || name.starts_with("x-forwarded-")
}

/// SECURITY: H-03, H-04, HX-09. Identity headers are added after this, so `Connection` cannot name them away. Names
/// that framing, routing and caching stand on are kept whatever `Connection` says.
fn strip(headers: &mut HeaderMap, mut also: impl FnMut(&str) -> bool) {
    // PERF: one pass that looks at each name, where a removal for each possible name would hash them all.
    let mut connection = false;
    remove_all(headers, |name| {
        // Not before it was read what it names.
        let is_connection = name == "connection";
        connection |= is_connection;
        !is_connection && (ends_here(name) || also(name))
    });
    if connection {
        let named: Vec<HeaderName> = headers.get_all(CONNECTION).iter().flat_map(named_fields).collect();
        for name in &named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
}

fn remove_all(headers: &mut HeaderMap, mut unwanted: impl FnMut(&str) -> bool) {
    // PERF: an empty vector does not allocate, and nearly every one stays empty.
    let found: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    for name in &found {
        headers.remove(name);
    }
}

fn ends_here(name: &str) -> bool {
    matches!(
        name,
        "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// The fields that one value of `Connection` names, without the options that are no fields or are removed anyway.
fn named_fields(value: &HeaderValue) -> impl Iterator<Item = HeaderName> {
    value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii).filter_map(|token| {
        let known: [&[u8]; 3] = [b"keep-alive", b"close", b"upgrade"];
        if token.is_empty() || known.iter().any(|k| k.eq_ignore_ascii_case(token)) {
            return None;
        }
        let kept = [HOST, CONTENT_LENGTH, COOKIE, SET_COOKIE, CACHE_CONTROL];
        HeaderName::from_bytes(token).ok().filter(|name| !kept.contains(name))
    })
}

/// Refuses the framing that two readers could read in two ways, and expectations nobody can meet.
///
/// SECURITY: H-06, M-02. hyper lets `identity, chunked` and `chunked, chunked` through.
pub fn framing_ok(request: &Parts) -> Result<(), Refusal> {
    if let Some(coding) = request.headers.get(TRANSFER_ENCODING) {
        let once = request.headers.get_all(TRANSFER_ENCODING).iter().nth(1).is_none();
        if !once || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::bad("a transfer coding other than exactly `chunked`"));
        }
        // RFC 9112 §6.1.
        if request.version < Version::HTTP_11 {
            return Err(Refusal::bad("a transfer coding before HTTP/1.1"));
        }
    }
    let mut expectations = request.headers.get_all(EXPECT).iter();
    if !expectations.all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(Refusal::new(StatusCode::EXPECTATION_FAILED, "an expectation other than 100-continue"));
    }
    Ok(())
}

/// `%` too, so that the encoding can be undone without a guess. What is not ASCII is always encoded.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// A header value that holds `text`: `%`, control characters and what is not ASCII percent-encoded (UTF-8).
///
/// SECURITY: HX-15. Blanks at either end are encoded too: readers trim them, and ` admin` must not become `admin`.
pub fn encode_value(text: &str) -> HeaderValue {
    let mut out = String::with_capacity(text.len());
    encode_into(text, &mut out);
    header_value(out)
}

/// Joins `items`, each encoded. Says how many were dropped because they are empty or hold the separator (HX-17).
pub fn join_values<'a>(items: impl IntoIterator<Item = &'a str>, separator: &str) -> (HeaderValue, usize) {
    let (mut out, mut dropped) = (String::new(), 0);
    for item in items {
        let start = out.len();
        if start > 0 {
            out.extend(utf8_percent_encode(separator, CONTROLS));
        }
        let begin = out.len();
        encode_into(item, &mut out);
        let encoded = out.get(begin..).unwrap_or_default();
        if item.is_empty() || [item, encoded].iter().any(|t| t.contains(separator)) {
            out.truncate(start);
            dropped += 1;
        }
    }
    (header_value(out), dropped)
}

fn encode_into(text: &str, out: &mut String) {
    let inner = text.trim_matches(' ');
    let lead = text.len() - text.trim_start_matches(' ').len();
    let trail = text.len() - inner.len() - lead;
    out.extend(std::iter::repeat_n("%20", lead));
    out.extend(utf8_percent_encode(inner, ENCODED));
    out.extend(std::iter::repeat_n("%20", trail));
}

/// Encoded text is visible ASCII and blanks, so it always is a value; the empty one stands in for the impossible.
fn header_value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests;
