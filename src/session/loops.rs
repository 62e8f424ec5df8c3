//! The loop guard: a browser that completes sign-in after sign-in and never shows a session, or that is sent from one
//! provider to another and back, is told why, instead of being sent round again (L-16, L-17). It counts in a small sealed
//! cookie of the browser's own, so nothing is kept here.

use std::time::Duration;

use http::header::HeaderValue;

use super::Jar;
use crate::clock;
use crate::crypto::seal::{Place, Purpose};
use crate::http::cookie::Found;

/// Completed sign-ins without a session after which a page is shown.
const LIMIT: u8 = 3;
/// As many times a session may be given up for that of another provider: people do that, but not that often.
const LIMIT_EXCHANGED: u8 = 6;
const WINDOW: Duration = Duration::from_secs(60);

/// Sign-ins completed since `since_ms`.
#[derive(Clone, Copy, Default)]
struct Count {
    /// By a browser that showed no session.
    lost: u8,
    /// In place of a session that the route did not want: only another can be shown, so that showing one says nothing.
    exchanged: u8,
    since_ms: u64,
}

impl Jar<'_> {
    /// Whether this browser has come back often enough.
    pub fn is_looping(&self, found: &Found<'_>) -> bool {
        self.count(found).is_some_and(|count| count.lost >= LIMIT || count.exchanged >= LIMIT_EXCHANGED)
    }

    /// One more sign-in was completed by a browser without a session. `cross_site`: the next one comes by a form of
    /// another site's, and must bring the count along.
    pub fn count_completed(&self, found: &Found<'_>, cross_site: bool) -> Option<HeaderValue> {
        let count = self.count_now(found);
        self.write(Count { lost: count.lost.saturating_add(1), ..count }, cross_site)
    }

    /// One more session took the place of one that the route did not want.
    pub fn count_exchanged(&self, found: &Found<'_>, cross_site: bool) -> Option<HeaderValue> {
        let count = self.count_now(found);
        self.write(Count { exchanged: count.exchanged.saturating_add(1), ..count }, cross_site)
    }

    /// The session was shown: all is well, the counter goes.
    pub fn clear_count(&self, found: &Found<'_>) -> Option<HeaderValue> {
        if found.loops.is_empty() || self.count(found).is_some_and(|count| count.exchanged > 0) {
            return None;
        }
        self.attributes.clear(&self.loop_name())
    }

    fn write(&self, count: Count, cross_site: bool) -> Option<HeaderValue> {
        let mut plain = vec![count.lost, count.exchanged];
        plain.extend_from_slice(&count.since_ms.to_be_bytes());
        let name = self.loop_name();
        let sealed = self.ring.seal(Purpose::Loop, Place { name: &name, host: self.host }, &plain)?;
        match cross_site {
            true => self.attributes.set_cross_site(&name, &sealed, WINDOW),
            false => self.attributes.set_lax(&name, &sealed, WINDOW),
        }
    }

    fn count_now(&self, found: &Found<'_>) -> Count {
        self.count(found).unwrap_or_else(|| Count { since_ms: clock::unix_now_ms(), ..Count::default() })
    }

    fn count(&self, found: &Found<'_>) -> Option<Count> {
        let name = self.loop_name();
        let place = Place { name: &name, host: self.host };
        found.loops.iter().find_map(|value| {
            let opened = self.ring.open(Purpose::Loop, place, value)?;
            let ([lost, exchanged], since) = opened.plain.split_first_chunk::<2>()?;
            let since_ms = u64::from_be_bytes(since.try_into().ok()?);
            let age = clock::unix_now_ms().saturating_sub(since_ms);
            let is_recent = u128::from(age) < WINDOW.as_millis();
            is_recent.then_some(Count { lost: *lost, exchanged: *exchanged, since_ms })
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
            let set = jar.count_completed(&Found::scan(&headers, "d"), false).unwrap();
            let cookie = set.to_str().unwrap().split(';').next().unwrap().to_owned();
            headers.insert(COOKIE, HeaderValue::from_str(&cookie).unwrap());
        }
        assert!(jar.is_looping(&Found::scan(&headers, "d")));
        assert!(jar.clear_count(&Found::scan(&headers, "d")).unwrap().to_str().unwrap().contains("Max-Age=0"));
    }
}
