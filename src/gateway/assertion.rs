//! The signed assertion: a JWT that says who is behind a request, for upstreams that want to verify it instead of
//! believing a header. It says so for one host and five minutes, and is of no use anywhere else (J-10, HX-23).
//!
//! Every key comes from a key of `[session]` and the day, so that all instances sign with the same key and publish the
//! same set without talking to each other. A key signs for one day (UTC); yesterday's, today's and tomorrow's are published,
//! of every session key: whoever keeps the set for an hour has what it needs, at midnight too. The first session key's
//! signs; one that a reload brought only when it has been published for that hour, while there is another. Libraries fetch
//! the set anew for a key that is not in theirs, but not within half a minute of the time before.

use std::ops::Range;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::who::Who;
use crate::crypto::random;
use crate::crypto::seal::KeyRing;
use crate::crypto::sign::SigningKey;
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;
use crate::session::presented::Assertion;

/// Seconds that an assertion is good for.
const LIFE: u64 = 300;
/// PERF: milliseconds that one is reused for: no signature a request.
const REUSE_MS: u64 = 60_000;
/// SECURITY: J-10. An explicit type (RFC 8725 §3.11): no ID token, no access token, no logout token.
const TYPE: &str = "assertion+jwt";

const DAY_MS: u64 = 86_400_000;
/// What `reply::published` lets caches keep the set for.
const KEPT_MS: u64 = 3_600_000;

pub struct Signer {
    ring: KeyRing,
    /// Of each key of the ring: a name that leads back to nothing, and since when it is published, Unix milliseconds.
    known: Vec<([u8; 32], u64)>,
    /// `iss`: the origin of `public_url`.
    issuer: String,
    now: ArcSwap<Period>,
}

/// While nothing changes.
struct Period {
    /// Unix milliseconds.
    time: Range<u64>,
    key: Arc<SigningKey>,
    /// The JWK set (RFC 7517 §5), as it is published.
    published: Bytes,
}

/// For whom and when an assertion is made.
pub struct Stamp<'a> {
    pub signer: &'a Signer,
    /// The host, as the browser knows it. One that no route names is `public_url`'s: nobody gets an assertion for a host
    /// by merely asking for it.
    pub audience: &'a str,
    pub now_ms: u64,
}

impl Signer {
    /// `before`: the one of the configuration that this one follows.
    ///
    /// # Errors
    /// `Internal`: no key can be made of these.
    pub fn new(keys: &[Secret], issuer: &str, now_ms: u64, before: Option<&Self>) -> Result<Self> {
        let none = || Error::new(Kind::Internal, "no key for assertions could be derived");
        let ring = KeyRing::new(keys).ok_or_else(none)?;
        let since = |name: &[u8; 32]| match before {
            // After a start nobody knows; the operator's order counts.
            None => 0,
            Some(before) => before.known.iter().find(|(known, _)| known == name).map_or(now_ms, |(_, since)| *since),
        };
        let known: Vec<_> = ring.derive(b"assertion").map(|name| (name, since(&name))).collect();
        let period = Period::of(&ring, &known, now_ms).ok_or_else(none)?;
        Ok(Self { ring, known, issuer: issuer.to_owned(), now: ArcSwap::from_pointee(period) })
    }

    /// The public keys, as the endpoint shows them.
    pub fn published(&self, now_ms: u64) -> Bytes {
        self.at(now_ms).published.clone()
    }

    fn at(&self, now_ms: u64) -> Arc<Period> {
        let period = self.now.load_full();
        if period.time.contains(&now_ms) {
            return period;
        }
        // Without one, the key of before is as good: it is published for one more day.
        let Some(next) = Period::of(&self.ring, &self.known, now_ms).map(Arc::new) else { return period };
        self.now.store(Arc::clone(&next));
        next
    }

    fn sign(&self, key: &SigningKey, who: Who<'_>, audience: &str, now_s: u64) -> Option<String> {
        let mut claims = subject(who);
        let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        put("iss", self.issuer.as_str().into());
        put("aud", audience.into());
        put("iat", now_s.into());
        put("exp", now_s.saturating_add(LIFE).into());
        put("jti", random::token().into());
        let mut header = Map::new();
        header.insert("typ".to_owned(), TYPE.into());
        header.insert("kid".to_owned(), key.kid().into());
        key.sign(header, &claims)
    }
}

impl Period {
    /// `None` only for a secret that is no private key, 2⁻³² of all.
    fn of(ring: &KeyRing, known: &[([u8; 32], u64)], now_ms: u64) -> Option<Self> {
        let day = now_ms / DAY_MS;
        let days = [day, day.saturating_sub(1), day.saturating_add(1)];
        let keys: Option<Vec<_>> = days.into_iter().map(|day| derived(ring, day)).collect();
        let keys: Vec<SigningKey> = keys?.into_iter().flatten().collect();
        let published = json!({ "keys": keys.iter().map(SigningKey::jwk).collect::<Vec<_>>() });
        let good_ms = |(_, since): &([u8; 32], u64)| since.saturating_add(KEPT_MS);
        let index = known.iter().position(|key| good_ms(key) <= now_ms).unwrap_or(0);
        let key = keys.into_iter().nth(index)?;
        let changes = known.iter().map(good_ms);
        let begin = changes.clone().filter(|ms| *ms <= now_ms).fold(day.saturating_mul(DAY_MS), u64::max);
        let end = changes.filter(|ms| *ms > now_ms).fold(day.saturating_add(1).saturating_mul(DAY_MS), u64::min);
        Some(Self { time: begin..end, key: Arc::new(key), published: published.to_string().into() })
    }
}

/// One for each session key, in their order.
fn derived(ring: &KeyRing, day: u64) -> Option<Vec<SigningKey>> {
    let label = [b"assertion ".as_slice(), &day.to_be_bytes()].concat();
    ring.derive(&label).map(|secret| SigningKey::es256(&secret)).collect()
}

impl Stamp<'_> {
    /// The assertion about `who`: from their session or token where one was made a moment ago.
    ///
    /// # Errors
    /// `Internal`: it could not be signed.
    pub fn assertion(&self, who: Who<'_>) -> Result<Assertion> {
        let (signer, now_ms) = (self.signer, self.now_ms);
        let period = signer.at(now_ms);
        let sign = || signer.sign(&period.key, who, self.audience, now_ms / 1000);
        let made = who.presented().assertion(self.audience, &period.key, now_ms, now_ms.saturating_add(REUSE_MS), sign);
        made.ok_or_else(|| Error::new(Kind::Internal, "an assertion could not be signed"))
    }
}

/// Who it is, in the names of OpenID Connect Core §5.1 and RFC 9068.
fn subject(who: Who<'_>) -> Map<String, Value> {
    let identity = who.identity();
    let mut claims = Map::new();
    let mut put = |name: &str, value: Option<Value>| value.and_then(|value| claims.insert(name.to_owned(), value));
    let text = |text: &Option<String>| text.as_deref().map(Value::from);
    let (provider, client) = match who {
        Who::Machine(machine) => (&machine.section, machine.client.as_deref()),
        Who::Person(session) => (&session.data.provider, None),
    };
    put("provider", Some(provider.as_str().into()));
    put("client_id", client.map(Value::from));
    if identity.user.is_empty() {
        // SECURITY: B-20. Whoever reads nothing but `sub` must not take a client for the user of that name.
        put("sub", Some(format!("client:{}", client.unwrap_or(&identity.sub)).into()));
        put("sub_type", Some("client".into()));
        return claims;
    }
    put("sub", Some(identity.sub.as_str().into()));
    put("sub_type", Some("user".into()));
    put("user", Some(identity.user.as_str().into()));
    put("email", text(&identity.email));
    put("email_verified", identity.email.as_ref().map(|_| identity.email_verified.into()));
    put("name", text(&identity.name));
    put("preferred_username", text(&identity.preferred_username));
    put("groups", Some(json!(identity.groups)));
    put("acr", text(&identity.acr));
    put("auth_time", identity.auth_time.map(Value::from));
    put("sid", text(&identity.sid));
    claims
}

#[cfg(test)]
mod tests;
