//! The loop guard: a browser that completes sign-in after sign-in and never shows a session is told why, instead of
//! being sent round again (L-16, L-17). It counts in a small sealed cookie of the browser's own, so nothing is kept here.

use std::time::Duration;

use http::header::HeaderValue;

use super::Jar;
use crate::clock;
use crate::crypto::seal::{Place, Purpose};
use crate::http::cookie::Found;

/// Completed sign-ins without a session after which a page is shown.
const LIMIT: u8 = 3;
const WINDOW: Duration = Duration::from_secs(60);

impl Jar<'_> {
    /// Whether this browser has come back often enough.
    pub fn is_looping(&self, found: &Found<'_>) -> bool {
        self.loops(found).is_some_and(|(n, _)| n >= LIMIT)
    }

    /// One more sign-in was completed.
    pub fn count_completed(&self, found: &Found<'_>) -> Option<HeaderValue> {
        let now = clock::unix_now_ms();
        let (n, since) = self.loops(found).unwrap_or((0, now));
        let mut plain = vec![n.saturating_add(1)];
        plain.extend_from_slice(&since.to_be_bytes());
        let name = self.loop_name();
        let sealed = self.ring.seal(Purpose::Loop, Place { name: &name, host: self.host }, &plain)?;
        self.attributes.set_lax(&name, &sealed, WINDOW)
    }

    /// The session was shown: all is well, the counter goes.
    pub fn clear_count(&self, found: &Found<'_>) -> Option<HeaderValue> {
        if found.loops.is_empty() {
            return None;
        }
        self.attributes.clear(&self.loop_name())
    }

    fn loops(&self, found: &Found<'_>) -> Option<(u8, u64)> {
        let name = self.loop_name();
        let place = Place { name: &name, host: self.host };
        found.loops.iter().find_map(|value| {
            let opened = self.ring.open(Purpose::Loop, place, value)?;
            let (n, since) = opened.plain.split_first()?;
            let since = u64::from_be_bytes(since.try_into().ok()?);
            let age = clock::unix_now_ms().saturating_sub(since);
            (u128::from(age) < WINDOW.as_millis()).then_some((*n, since))
        })
    }

    fn loop_name(&self) -> String {
        format!("{}.loop", self.session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::seal::KeyRing;
    use crate::http::cookie::Attributes;
    use crate::secret::Secret;
    use cookie::SameSite;
    use http::HeaderMap;
    use http::header::COOKIE;

    #[test]
    fn l_16_l_17_the_third_fruitless_sign_in_is_the_last() {
        let ring = KeyRing::new(&[Secret::new("a key of at least thirty-two bytes..")]).unwrap();
        let attributes = Attributes { secure: false, domain: None, same_site: SameSite::Lax };
        let jar = Jar { ring: &ring, attributes: &attributes, session: "d", host: "h" };
        let mut headers = HeaderMap::new();
        for _ in 0..LIMIT {
            assert!(!jar.is_looping(&Found::scan(&headers, "d")));
            let set = jar.count_completed(&Found::scan(&headers, "d")).unwrap();
            let cookie = set.to_str().unwrap().split(';').next().unwrap().to_owned();
            headers.insert(COOKIE, HeaderValue::from_str(&cookie).unwrap());
        }
        assert!(jar.is_looping(&Found::scan(&headers, "d")));
        assert!(jar.clear_count(&Found::scan(&headers, "d")).unwrap().to_str().unwrap().contains("Max-Age=0"));
    }
}
