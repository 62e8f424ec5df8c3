//! The loop guard: a browser that completes sign-in after sign-in and never shows a session is told why, instead of
//! being sent round again (L-16, L-17). It counts in a small sealed cookie of the browser's own, so nothing is kept here.

use std::time::Duration;

use http::header::HeaderValue;

use crate::clock;
use crate::crypto::seal::{KeyRing, Place, Purpose};
use crate::http::cookie::{Attributes, Found};

/// Completed sign-ins without a session after which a page is shown.
const LIMIT: u8 = 3;
const WINDOW: Duration = Duration::from_secs(60);

/// How the counter's cookie is named, sealed and set.
pub struct Guard<'a> {
    pub ring: &'a KeyRing,
    pub attributes: &'a Attributes,
    /// The session cookie's name.
    pub session: &'a str,
    pub host: &'a str,
}

impl Guard<'_> {
    /// Whether this browser has come back often enough.
    pub fn is_looping(&self, found: &Found<'_>) -> bool {
        self.count(found).is_some_and(|(n, _)| n >= LIMIT)
    }

    /// One more sign-in was completed.
    pub fn completed(&self, found: &Found<'_>) -> Option<HeaderValue> {
        let now = clock::unix_now_ms();
        let (n, since) = self.count(found).unwrap_or((0, now));
        let mut plain = vec![n.saturating_add(1)];
        plain.extend_from_slice(&since.to_be_bytes());
        let name = self.name();
        let sealed = self.ring.seal(Purpose::Loop, Place { name: &name, host: self.host }, &plain)?;
        self.attributes.set_lax(&name, &sealed, WINDOW)
    }

    /// The session was shown: all is well, the counter goes.
    pub fn clear(&self, found: &Found<'_>) -> Option<HeaderValue> {
        if found.loops.is_empty() {
            return None;
        }
        self.attributes.clear(&self.name())
    }

    fn count(&self, found: &Found<'_>) -> Option<(u8, u64)> {
        let name = self.name();
        let place = Place { name: &name, host: self.host };
        found.loops.iter().find_map(|value| {
            let opened = self.ring.open(Purpose::Loop, place, value)?;
            let (n, since) = opened.plain.split_first()?;
            let since = u64::from_be_bytes(since.try_into().ok()?);
            let age = clock::unix_now_ms().saturating_sub(since);
            (u128::from(age) < WINDOW.as_millis()).then_some((*n, since))
        })
    }

    fn name(&self) -> String {
        format!("{}.loop", self.session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use cookie::SameSite;
    use http::HeaderMap;
    use http::header::COOKIE;

    #[test]
    fn l_16_l_17_the_third_fruitless_sign_in_is_the_last() {
        let ring = KeyRing::new(&[Secret::new("a key of at least thirty-two bytes..")]).unwrap();
        let attributes = Attributes { secure: false, domain: None, same_site: SameSite::Lax };
        let guard = Guard { ring: &ring, attributes: &attributes, session: "d", host: "h" };
        let mut headers = HeaderMap::new();
        for _ in 0..LIMIT {
            assert!(!guard.is_looping(&Found::scan(&headers, "d")));
            let set = guard.completed(&Found::scan(&headers, "d")).unwrap();
            let cookie = set.to_str().unwrap().split(';').next().unwrap().to_owned();
            headers.insert(COOKIE, HeaderValue::from_str(&cookie).unwrap());
        }
        assert!(guard.is_looping(&Found::scan(&headers, "d")));
        assert!(guard.clear(&Found::scan(&headers, "d")).unwrap().to_str().unwrap().contains("Max-Age=0"));
    }
}
