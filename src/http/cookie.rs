//! Our own cookies in a `Cookie` header: finding them, taking them out of what goes upstream, joining and splitting the
//! chunks of a session. The `cookie` crate writes every `Set-Cookie`; reading happens on the request path, so it scans
//! the raw bytes here.
//!
//! Names, for a session cookie `NAME`: the session is `NAME`, its further chunks `NAME.1` …, a sign-in in progress
//! `NAME.login.ID`, the counter of fruitless sign-ins `NAME.loop`. `.` is in no configured name, so no other
//! application's cookie is taken for ours.

use std::time::Duration;

use bytes::Bytes;
use cookie::{Cookie, SameSite};
use http::header::{COOKIE, HeaderMap, HeaderValue};

/// Browsers ignore cookies whose name and value exceed 4096 bytes (RFC 6265bis §5.6); this leaves room for attributes.
pub const CHUNK_BYTES: usize = 3_800;
/// The first chunk says how many follow, in one digit.
pub const MAX_CHUNKS: usize = 5;
/// How many values under one of our names are looked at: others may set cookies for us (S-16), but not keep us busy.
const MAX_DUPLICATES: usize = 4;

/// Which of our cookies a name is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Own<'a> {
    Chunk(usize),
    Login(&'a str),
    Loop,
    Session,
    /// One that only looks like ours: not read, but not passed on either.
    Unknown,
}

/// Classifies `name`; `None` = somebody else's.
pub fn own<'a>(name: &'a str, session: &str) -> Option<Own<'a>> {
    let rest = name.strip_prefix(session)?;
    if rest.is_empty() {
        return Some(Own::Session);
    }
    let rest = rest.strip_prefix('.')?;
    if let Some(id) = rest.strip_prefix("login.") {
        return Some(Own::Login(id));
    }
    if rest == "loop" {
        return Some(Own::Loop);
    }
    // SECURITY: S-11. One digit, never a number parsed into an index.
    match rest.as_bytes() {
        [digit @ b'1'..=b'9'] => Some(Own::Chunk(usize::from(digit - b'0'))),
        _ => Some(Own::Unknown),
    }
}

/// Our cookies of one request.
#[derive(Debug, Default)]
pub struct Found<'a> {
    /// The values named NAME, at most a few.
    session: Vec<&'a str>,
    chunks: Vec<(usize, &'a str)>,
    /// (ID, value), in the order of the header.
    pub logins: Vec<(&'a str, &'a str)>,
    pub loops: Vec<&'a str>,
    /// Something of ours was there.
    pub any: bool,
}

impl<'a> Found<'a> {
    pub fn scan(headers: &'a HeaderMap, session: &str) -> Self {
        let mut found = Self::default();
        for value in headers.get_all(COOKIE) {
            // SECURITY: S-16. Pair by pair: another application's cookie that is no UTF-8 must not hide ours.
            for pair in value.as_bytes().split(|b| *b == b';') {
                if let Ok(pair) = std::str::from_utf8(pair.trim_ascii()) {
                    found.take(pair, session);
                }
            }
        }
        found
    }

    fn take(&mut self, pair: &'a str, session: &str) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(own) = own(name, session) else { return };
        self.any = true;
        match own {
            Own::Session if self.session.len() < MAX_DUPLICATES => self.session.push(value),
            Own::Chunk(index) if self.chunks.len() < MAX_CHUNKS * 2 => self.chunks.push((index, value)),
            Own::Login(id) if self.logins.len() < 64 => self.logins.push((id, value)),
            Own::Loop if self.loops.len() < MAX_DUPLICATES => self.loops.push(value),
            _ => {}
        }
    }

    pub fn has_session(&self) -> bool {
        !self.session.is_empty() || !self.chunks.is_empty()
    }

    /// The sealed texts that the session cookie and its chunks may stand for, junk among them left to the seal (S-16).
    pub fn sessions(&self) -> Vec<String> {
        self.session.iter().filter_map(|first| self.join(first)).collect()
    }

    fn join(&self, first: &str) -> Option<String> {
        let (count, head) = first.split_at_checked(1)?;
        let count = match count.as_bytes() {
            [digit @ b'1'..=b'9'] => usize::from(digit - b'0'),
            _ => return None,
        };
        if count > MAX_CHUNKS {
            return None;
        }
        let mut text = String::with_capacity(count * CHUNK_BYTES);
        text.push_str(head);
        for index in 1..count {
            let mut fitting = self.chunks.iter().filter(|(i, _)| *i == index);
            let (_, value) = fitting.next()?;
            // SECURITY: S-10. Two chunks of one index: which is right cannot be known.
            if fitting.next().is_some() {
                return None;
            }
            text.push_str(value);
        }
        Some(text)
    }

    /// Names of the session's cookies that the request brought, each once: what a deletion has to cover.
    pub fn session_names(&self, session: &str) -> Vec<String> {
        let mut names = Vec::new();
        if !self.session.is_empty() {
            names.push(session.to_owned());
        }
        for (index, _) in &self.chunks {
            let name = format!("{session}.{index}");
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

/// The request's `Cookie` header without ours, as one field (RFC 6265 §5.4), others untouched and in order (K-07).
/// `None` = nothing left.
pub fn without_own(headers: &HeaderMap, session: &str) -> Option<HeaderValue> {
    let mut kept: Vec<u8> = Vec::new();
    for value in headers.get_all(COOKIE) {
        for pair in value.as_bytes().split(|b| *b == b';') {
            let pair = pair.trim_ascii();
            let name = pair.split(|b| *b == b'=').next().unwrap_or_default();
            let ours = std::str::from_utf8(name).is_ok_and(|n| own(n, session).is_some());
            if ours || pair.is_empty() {
                continue;
            }
            if !kept.is_empty() {
                kept.extend_from_slice(b"; ");
            }
            kept.extend_from_slice(pair);
        }
    }
    if kept.is_empty() { None } else { HeaderValue::from_bytes(&kept).ok() }
}

/// One field of the several that a `Cookie` may come as in HTTP/2 (RFC 9113 §8.2.3), before anybody looks.
pub fn join_crumbs(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    // PERF: nothing to do for one, and for none.
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let mut whole = Vec::with_capacity(headers.get_all(COOKIE).iter().map(|crumb| crumb.len() + 2).sum());
    whole.extend_from_slice(first.as_bytes());
    for crumb in std::iter::once(second).chain(crumbs) {
        whole.extend_from_slice(b"; ");
        whole.extend_from_slice(crumb.as_bytes());
    }
    // What was field values with such a separator is one.
    match HeaderValue::from_maybe_shared(Bytes::from(whole)) {
        Ok(whole) => headers.insert(COOKIE, whole),
        Err(_) => headers.remove(COOKIE),
    };
}

/// Whether a `Set-Cookie` of an upstream names one of ours (K-08).
pub fn sets_own(value: &HeaderValue, session: &str) -> bool {
    let text = value.as_bytes().trim_ascii_start();
    // A cookie without a name comes back as its value alone (RFC 6265bis §5.8.3): `=NAME=x` as `NAME=x`.
    let text = text.strip_prefix(b"=").unwrap_or(text);
    let name = text.split(|b| matches!(b, b'=' | b';')).next().unwrap_or_default();
    std::str::from_utf8(name.trim_ascii()).is_ok_and(|n| own(n, session).is_some())
}

/// Whether a `Set-Cookie` of ours is a deletion: no other is without a value.
pub fn deletes(value: &HeaderValue) -> bool {
    value.as_bytes().split(|b| *b == b';').next().is_some_and(|pair| pair.ends_with(b"="))
}

/// Splits a sealed text into (name, value) pairs. `None` = more than `MAX_CHUNKS` would hold.
pub fn chunks(session: &str, sealed: &str) -> Option<Vec<(String, String)>> {
    debug_assert!(sealed.is_ascii(), "sealed values are base64url");
    let count = sealed.len().div_ceil(CHUNK_BYTES).max(1);
    if count > MAX_CHUNKS {
        return None;
    }
    let mut parts = Vec::with_capacity(count);
    let mut rest = sealed;
    for index in 0..count {
        let (piece, tail) = rest.split_at_checked(CHUNK_BYTES).unwrap_or((rest, ""));
        rest = tail;
        parts.push(if index == 0 {
            (session.to_owned(), format!("{count}{piece}"))
        } else {
            (format!("{session}.{index}"), piece.to_owned())
        });
    }
    Some(parts)
}

/// How our cookies are set: one jar's attributes.
#[derive(Clone, Debug)]
pub struct Attributes {
    pub secure: bool,
    pub domain: Option<String>,
    pub same_site: SameSite,
}

impl Attributes {
    /// A `Set-Cookie` value. `Path=/` always: a `__Host-` cookie needs it, and the count of sign-ins in progress needs
    /// to be seen on every page.
    pub fn set(&self, name: &str, value: &str, max_age: Duration) -> Option<HeaderValue> {
        self.build(name, value, max_age, self.same_site)
    }

    /// As `set`, with SameSite=Lax whatever the session has: the provider's redirect back is cross-site.
    pub fn set_lax(&self, name: &str, value: &str, max_age: Duration) -> Option<HeaderValue> {
        self.build(name, value, max_age, SameSite::Lax)
    }

    /// As `set`, for what another site's form must bring along: SameSite=None, which browsers take with `Secure` only.
    /// Over plain http it is Lax, which is good enough on this machine.
    pub fn set_cross_site(&self, name: &str, value: &str, max_age: Duration) -> Option<HeaderValue> {
        self.build(name, value, max_age, if self.secure { SameSite::None } else { SameSite::Lax })
    }

    /// A deletion: the same name, path, domain and security as when it was set (K-05).
    pub fn clear(&self, name: &str) -> Option<HeaderValue> {
        self.build(name, "", Duration::ZERO, self.same_site)
    }

    fn build(&self, name: &str, value: &str, max_age: Duration, same_site: SameSite) -> Option<HeaderValue> {
        let seconds = i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX).min(400 * 86_400);
        let mut cookie = Cookie::build((name, value))
            .path("/")
            .http_only(true)
            .secure(self.secure)
            .same_site(same_site)
            .max_age(cookie::time::Duration::seconds(seconds));
        if let Some(domain) = &self.domain {
            cookie = cookie.domain(domain.as_str());
        }
        HeaderValue::try_from(cookie.build().to_string()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(cookie: &str) -> HeaderMap {
        let mut h = HeaderMap::new();
        h.insert(COOKIE, HeaderValue::from_str(cookie).unwrap());
        h
    }

    #[test]
    fn k_07_only_our_own_cookies_are_taken_out_and_the_order_stays() {
        let h = headers("a=1; doorward=x; b=\"q\"; doorward.1=y; doorwardish=z; doorward.login.ab=t; c=d=e");
        assert_eq!(without_own(&h, "doorward").unwrap(), "a=1; b=\"q\"; doorwardish=z; c=d=e");
        assert_eq!(without_own(&headers("doorward=x"), "doorward"), None);
    }

    #[test]
    fn k_08_an_upstream_cannot_set_ours() {
        for ours in [
            "doorward=1",
            " doorward =1",
            "doorward.9=1; Path=/",
            "doorward.login.x=1",
            "doorward",
            "=doorward=1",
            " = doorward=1",
        ] {
            assert!(sets_own(&HeaderValue::from_str(ours).unwrap(), "doorward"), "{ours}");
        }
        assert!(!sets_own(&HeaderValue::from_static("doorwardish=1"), "doorward"));
    }

    #[test]
    fn s_10_chunks_join_only_whole_and_once() {
        let sealed = "x".repeat(CHUNK_BYTES * 2 + 7);
        let parts = chunks("d", &sealed).unwrap();
        let cookie = |p: &[(String, String)]| p.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join("; ");
        let whole = headers(&cookie(&parts));
        assert_eq!(Found::scan(&whole, "d").sessions(), std::slice::from_ref(&sealed));
        assert!(Found::scan(&headers(&cookie(&parts[1..])), "d").sessions().is_empty());
        assert!(Found::scan(&headers(&cookie(&parts[..2])), "d").sessions().is_empty());
        let twice = [parts.clone(), vec![parts[1].clone()]].concat();
        assert!(Found::scan(&headers(&cookie(&twice)), "d").sessions().is_empty());
        let stale = [parts, vec![("d.3".into(), "old".into())]].concat();
        assert_eq!(Found::scan(&headers(&cookie(&stale)), "d").sessions(), [sealed], "a stale tail does no harm");
    }

    #[test]
    fn s_11_indexes_are_one_digit_and_few() {
        assert_eq!(own("d.99999999", "d"), Some(Own::Unknown));
        assert_eq!(own("d.01", "d"), Some(Own::Unknown));
        assert_eq!(own("d.-1", "d"), Some(Own::Unknown));
        let many = (0..500).map(|i| format!("d.{}=A", i % 10)).collect::<Vec<_>>().join("; ");
        let h = headers(&many);
        assert!(Found::scan(&h, "d").chunks.len() <= MAX_CHUNKS * 2);
        assert!(chunks("d", &"x".repeat(CHUNK_BYTES * MAX_CHUNKS + 1)).is_none());
    }

    #[test]
    fn s_16_a_foreign_cookie_that_is_no_text_hides_nothing() {
        let mut h = HeaderMap::new();
        h.insert(COOKIE, HeaderValue::from_bytes(b"app=\xff\xfe; d=1sealed; x=\xe9").unwrap());
        assert_eq!(Found::scan(&h, "d").sessions(), ["sealed"]);
        assert_eq!(without_own(&h, "d").unwrap().as_bytes(), b"app=\xff\xfe; x=\xe9");
    }

    #[test]
    fn fx_14_crumbs_are_joined_once() {
        for (crumbs, whole) in [
            (&["a=1"][..], "a=1"),
            (&["a=1", "b=2", "d=x; c=3"], "a=1; b=2; d=x; c=3"),
            (&["a=1", "", "a=1"], "a=1; ; a=1"),
        ] {
            let mut h = HeaderMap::new();
            for crumb in crumbs {
                h.append(COOKIE, HeaderValue::from_static(crumb));
            }
            join_crumbs(&mut h);
            assert_eq!(h.get_all(COOKIE).iter().collect::<Vec<_>>(), [whole]);
        }
        let mut none = HeaderMap::new();
        join_crumbs(&mut none);
        assert!(none.is_empty());
    }

    #[test]
    fn k_05_a_deletion_looks_like_what_set_it() {
        let a = Attributes { secure: true, domain: None, same_site: SameSite::Lax };
        assert_eq!(a.clear("__Host-d").unwrap(), "__Host-d=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0");
        assert!(deletes(&a.clear("__Host-d").unwrap()));
        for (name, value) in chunks("d", &"x".repeat(CHUNK_BYTES + 1)).unwrap() {
            assert!(!deletes(&a.set(&name, &value, Duration::from_secs(1)).unwrap()), "{name}");
        }
    }

    proptest! {
        /// The scan reads what the `cookie` crate reads.
        #[test]
        fn the_scan_agrees_with_the_cookie_crate(pairs in prop::collection::vec(("(d|d\\.[0-9]|d\\.login\\.[a-z]{1,3}|x|dd)", "[a-z0-9]{0,8}"), 0..8)) {
            let text = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join("; ");
            let h = headers(&text);
            let kept = without_own(&h, "d").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
            let ours = Cookie::split_parse(text.clone()).filter_map(Result::ok).filter(|c| own(c.name(), "d").is_some()).count();
            let left = Cookie::split_parse(kept).filter_map(Result::ok).count();
            let all = Cookie::split_parse(text).filter_map(Result::ok).count();
            prop_assert_eq!(all, ours + left);
        }
    }
}
