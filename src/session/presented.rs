//! What is shown upstream in somebody's name and is as good as a password while it is valid: their tokens, and the
//! assertions that Doorward signs about them. It belongs to one session or one machine and is never shared between two.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use http::header::HeaderValue;

use crate::crypto::sign::SigningKey;
use crate::secret::Secret;

/// Hosts that one session is used at in turns without a signature for each request.
const MOST_ASSERTIONS: usize = 4;

/// PERF: header values made at the first request that needs one. A refresh makes a new session, and these anew.
#[derive(Debug, Default)]
pub struct Presented {
    access: OnceLock<Option<HeaderValue>>,
    bearer: OnceLock<Option<HeaderValue>>,
    id_bearer: OnceLock<Option<HeaderValue>>,
    assertions: Mutex<Vec<Kept>>,
}

/// A signed assertion, alone and as `Authorization` has it.
#[derive(Clone, Debug)]
pub struct Assertion {
    pub plain: HeaderValue,
    pub bearer: HeaderValue,
}

#[derive(Debug)]
struct Kept {
    audience: Box<str>,
    key: Arc<SigningKey>,
    /// Unix milliseconds.
    until_ms: u64,
    assertion: Assertion,
}

impl Presented {
    /// The access token as it is; `None` = there is none, or it is no header value.
    pub fn access(&self, token: Option<&Secret>) -> Option<&HeaderValue> {
        self.access.get_or_init(|| secret_value(token?.expose().to_owned().into())).as_ref()
    }

    /// `Bearer` and the access token.
    pub fn bearer(&self, token: Option<&Secret>) -> Option<&HeaderValue> {
        self.bearer.get_or_init(|| bearer(token?.expose())).as_ref()
    }

    /// `Bearer` and the ID token.
    pub fn id_bearer(&self, token: Option<&Secret>) -> Option<&HeaderValue> {
        self.id_bearer.get_or_init(|| bearer(token?.expose())).as_ref()
    }

    /// The assertion for this audience by this key: the one from before until `until_ms` of its making, else what `sign`
    /// gives.
    pub fn assertion(
        &self,
        audience: &str,
        key: &Arc<SigningKey>,
        now_ms: u64,
        until_ms: u64,
        sign: impl FnOnce() -> Option<String>,
    ) -> Option<Assertion> {
        let lock = || self.assertions.lock().unwrap_or_else(PoisonError::into_inner);
        let good = |kept: &Kept| now_ms < kept.until_ms && Arc::ptr_eq(&kept.key, key) && *kept.audience == *audience;
        if let Some(kept) = lock().iter().find(|kept| good(kept)) {
            return Some(kept.assertion.clone());
        }
        let bearer = Bytes::from(format!("Bearer {}", sign()?));
        let assertion =
            Assertion { plain: secret_value(bearer.slice("Bearer ".len()..))?, bearer: secret_value(bearer)? };
        let mut assertions = lock();
        assertions.retain(|kept| now_ms < kept.until_ms && *kept.audience != *audience);
        if assertions.len() >= MOST_ASSERTIONS {
            assertions.remove(0);
        }
        assertions.push(Kept {
            audience: audience.into(),
            key: Arc::clone(key),
            until_ms,
            assertion: assertion.clone(),
        });
        Some(assertion)
    }
}

/// `Authorization` with a bearer token (RFC 6750 §2.1); `None` for what is no header value.
pub fn bearer(token: &str) -> Option<HeaderValue> {
    secret_value(format!("Bearer {token}").into())
}

/// SECURITY: O-11. Marked, so that no `Debug` prints it and no HTTP/2 table keeps it.
pub fn secret_value(bytes: Bytes) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_maybe_shared(bytes).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assertion_is_reused_for_its_audience_its_key_and_its_time_only() {
        let (presented, key) = (Presented::default(), Arc::new(SigningKey::es256(&[7; 32]).unwrap()));
        let next = Arc::new(SigningKey::es256(&[8; 32]).unwrap());
        let mut signed = 0;
        let mut ask = |audience: &str, key: &Arc<SigningKey>, now_ms| {
            let assertion = presented.assertion(audience, key, now_ms, now_ms + 100, || {
                signed += 1;
                Some(format!("token-{signed}"))
            });
            assertion.unwrap().bearer.to_str().unwrap().to_owned()
        };
        assert_eq!(ask("a", &key, 0), "Bearer token-1");
        assert_eq!(ask("a", &key, 99), "Bearer token-1");
        assert_eq!(ask("a", &key, 100), "Bearer token-2", "its time is over");
        assert_eq!(ask("b", &key, 101), "Bearer token-3", "another audience");
        assert_eq!(ask("a", &key, 102), "Bearer token-2");
        assert_eq!(ask("a", &next, 103), "Bearer token-4", "another key");
        for n in 0..100 {
            ask(&n.to_string(), &next, 104);
        }
        assert_eq!(presented.assertions.lock().unwrap().len(), MOST_ASSERTIONS);
    }

    #[test]
    fn o_11_no_debug_prints_a_token() {
        let presented = Presented::default();
        let token = Secret::new("s3cret-token");
        let key = Arc::new(SigningKey::es256(&[7; 32]).unwrap());
        assert_eq!(presented.access(Some(&token)).unwrap(), "s3cret-token");
        assert_eq!(presented.bearer(Some(&token)).unwrap(), "Bearer s3cret-token");
        presented.assertion("a", &key, 0, 1, || Some("s3cret-assertion".to_owned())).unwrap();
        assert!(!format!("{presented:?}").contains("s3cret"));
        assert!(Presented::default().bearer(None).is_none());
        assert!(bearer("a\r\nb").is_none());
    }
}
