//! The checks of a logout token: OpenID Connect Back-Channel Logout 1.0 §2.6, with the rows of `BL-` and `J-` named where
//! they bite. A pure function like that of the ID token. Whether its `jti` came before, and whose sessions it ends, is for
//! whoever knows sessions.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use crate::clock;
use crate::crypto::json;
use crate::crypto::jwk::KeySet;
use crate::crypto::jws::{self, Refusal};
use crate::error::{Error, Kind, Result};
use crate::provider::Provider;
use crate::provider::checks::{Fault, bounded, date, not_before, parties, require};
use crate::secret::Secret;

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Bytes. Anyone may post one, so it is far smaller than what a provider we asked may answer (J-13).
const MAX_TOKEN: usize = 16 * 1024;

/// Seconds. A provider sends a logout token as soon as it has made it, and again if it got no answer; one that is older
/// was kept by somebody for later (BL-03).
const OLDEST: f64 = 300.0;

/// Seconds after `iat` that a token without `exp` is good for. The claim is required only since the standard's errata; a
/// token from before gets the two minutes that the standard recommends for it (BL-03).
const WITHOUT_EXP: f64 = 120.0;

/// What this token must say. Times are seconds since 1970.
pub(crate) struct Expect<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) algs: &'a [Algorithm],
    pub(crate) hmac: Option<&'a Secret>,
    pub(crate) skew: u64,
    pub(crate) now: u64,
}

/// Whose sessions are over: those of `sid` where there is one, else all of `sub`. One of them is always there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogoutToken {
    pub sub: Option<String>,
    pub sid: Option<String>,
    /// Unique for the issuer: a second token with it is a replay (§2.6 step 8).
    pub jti: String,
    /// When it was issued, in milliseconds since 1970: a session that began later is none of its business.
    pub iat_ms: u64,
    /// From then on the token is refused for its age, so that its `jti` need not be remembered any longer.
    pub until_ms: u64,
}

impl Provider {
    /// # Errors
    /// `BadRequest` where the token fails a check. `ProviderUnavailable` and `KeysUnavailable` say nothing about it.
    pub async fn check_logout_token(self: &Arc<Self>, token: &str) -> Result<LogoutToken> {
        let metadata = self.metadata().await?;
        let algs = self.allowed_algs(&metadata);
        let expect = Expect {
            issuer: &self.settings.issuer,
            client_id: &self.settings.client_id,
            algs: &algs,
            hmac: self.settings.client_secret.as_ref(),
            skew: self.settings.clock_skew.as_secs(),
            now: clock::unix_now(),
        };
        let checked = self.with_keys(&metadata, |keys| validate(token, keys, &expect)).await?;
        checked.map_err(|fault| Error::new(Kind::BadRequest, format!("the logout token is refused: {fault}")))
    }
}

/// Whom the token says it is from. Not one word of it is proven: good to choose the provider that may prove it, and for
/// nothing else.
pub fn peek_issuer(token: &str) -> Option<String> {
    let mut parts = Some(token).filter(|token| token.len() <= MAX_TOKEN)?.split('.');
    let (_, Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    let claims = json::object(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    claims.get("iss")?.as_str().map(str::to_owned)
}

pub(crate) fn validate(token: &str, keys: &KeySet, expect: &Expect<'_>) -> Result<LogoutToken, Fault> {
    if token.len() > MAX_TOKEN {
        return Err(Fault::Signature(Refusal::Malformed));
    }
    // Steps 1 to 3: an encrypted one is refused by its form; the algorithms are those of ID tokens.
    let verified = jws::verify(token, keys, expect.algs, expect.hmac).map_err(Fault::Signature)?;
    let claims = verified.claims;
    kind_of_token(&verified.header)?;
    // Step 4.
    parties(&claims, expect.issuer, expect.client_id)?;
    let (iat, until) = times(&claims, expect)?;
    // Step 5.
    let subject = |name, fault| {
        let text = claims.contains_key(name).then(|| bounded(&claims, name, 255).ok_or(Fault::Claim(fault)));
        text.transpose().map(|text| text.map(str::to_owned))
    };
    let sub = subject("sub", "sub is no string of 1 to 255 characters")?;
    let sid = subject("sid", "sid is no string of 1 to 255 characters")?;
    require(sub.is_some() || sid.is_some(), "sub and sid are both missing: nobody is meant")?;
    // Step 6.
    let event = claims.get("events").and_then(Value::as_object).and_then(|events| events.get(EVENT));
    require(event.is_some_and(Value::is_object), "events does not say that this is a logout")?;
    // SECURITY: J-10. Step 7: an ID token has one, and a logout token that has one could be taken for an ID token.
    require(!claims.contains_key("nonce"), "nonce: this is an ID token")?;
    // For step 8.
    let jti = bounded(&claims, "jti", 256).ok_or(Fault::Claim("jti is no string of 1 to 256 characters"))?;
    Ok(LogoutToken { sub, sid, jti: jti.to_owned(), iat_ms: millis(iat), until_ms: millis(until) })
}

/// SECURITY: an ID token or an access token of the same issuer is signed by the same key (J-10). `JWT` and no type at all
/// are what providers sent before there was a type of its own, Keycloak's older versions among them; `events` tells then.
fn kind_of_token(header: &Map<String, Value>) -> Result<(), Fault> {
    let ours = |typ: &Value| {
        let typ = typ.as_str().unwrap_or_default();
        ["logout+jwt", "application/logout+jwt", "JWT"].iter().any(|name| typ.eq_ignore_ascii_case(name))
    };
    require(header.get("typ").is_none_or(ours), "typ is that of another kind of token")
}

/// When it was issued, and the second from which on it is refused here.
fn times(claims: &Map<String, Value>, expect: &Expect<'_>) -> Result<(f64, f64), Fault> {
    let (now, skew) = (expect.now as f64, expect.skew as f64);
    let iat = date(claims, "iat").ok_or(Fault::Claim("iat is missing or no date"))?;
    require(iat <= now + skew, "iat lies in the future: compare the clocks")?;
    require(now < iat + OLDEST + skew, "iat: the token was issued too long ago")?;
    let exp = if claims.contains_key("exp") {
        date(claims, "exp").ok_or(Fault::Claim("exp is no date"))?
    } else {
        iat + WITHOUT_EXP
    };
    require(now < exp + skew, "exp: the token has expired")?;
    not_before(claims, now + skew)?;
    // Rounded up, as `now` counts whole seconds.
    Ok((iat, (exp.min(iat + OLDEST) + skew).ceil()))
}

/// Of a date, which is bounded.
fn millis(seconds: f64) -> u64 {
    (seconds * 1000.0) as u64
}

#[cfg(test)]
mod tests;
