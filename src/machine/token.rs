//! The checks of a signed access token: RFC 9068 §4 for `at+jwt`, and for plain JWTs what can be asked of every issuer. A
//! pure function: time and keys come in, claims or a refusal come out. For which route the token is meant is not judged
//! here.

use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::binding;
use super::credentials::MAX_TOKEN;
use crate::crypto::jwk::KeySet;
use crate::crypto::jws::{self, Refusal};
use crate::provider::checks::{Fault, bounded, date, not_before, require, text};

/// Members of `aud`, at most.
const MAX_AUDIENCE: usize = 100;

/// What the token must say. Times are seconds since 1970.
pub(super) struct Expect<'a> {
    pub(super) issuer: &'a str,
    /// Of a provider that also signs people in: Doorward's own.
    pub(super) client_id: Option<&'a str>,
    /// At least one of them; empty = whatever the route says.
    pub(super) audience: &'a [String],
    pub(super) algs: &'a [Algorithm],
    pub(super) skew: u64,
    pub(super) now: u64,
}

/// A token that holds.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) claims: Map<String, Value>,
    /// It says of itself that it is an access token (RFC 9068 §2.1), and has every claim of §2.2.
    pub(super) rfc9068: bool,
}

pub(super) fn validate(token: &str, keys: &KeySet, expect: &Expect<'_>) -> Result<Token, Fault> {
    if token.len() > MAX_TOKEN {
        return Err(Fault::Signature(Refusal::Malformed));
    }
    // SECURITY: J-01, JX-02. No HMAC key is handed over, so no symmetric algorithm can be used, whatever `algs` says.
    let verified = jws::verify(token, keys, expect.algs, None).map_err(Fault::Signature)?;
    let claims = verified.claims;
    let rfc9068 = is_rfc9068(&verified.header)?;
    // JX-15: one string, byte for byte.
    require(text(&claims, "iss") == Some(expect.issuer), "iss is not the issuer whose keys were used")?;
    require(bounded(&claims, "sub", 255).is_some(), "sub is no string of 1 to 255 characters")?;
    let audience = audience(&claims)?;
    let ours = expect.audience.is_empty() || audience.iter().any(|aud| expect.audience.iter().any(|a| a == aud));
    require(ours, "aud is none of the issuer's configured audience")?;
    times(&claims, expect)?;
    binding::certificate(&claims)?;
    if rfc9068 {
        // AT-02: with those above, every claim that §2.2 requires.
        require(claims.contains_key("iat"), "iat is missing")?;
        require(bounded(&claims, "client_id", 255).is_some(), "client_id is no string of 1 to 255 characters")?;
        require(bounded(&claims, "jti", 255).is_some(), "jti is no string of 1 to 255 characters")?;
    } else {
        access_token(&claims, &audience, expect)?;
    }
    require(!claims.contains_key("events"), "events: this is a logout token or a security event")?;
    Ok(Token { claims, rfc9068 })
}

/// SECURITY: J-10. ID tokens, logout tokens and assertions of the same issuer are signed by the same key.
fn is_rfc9068(header: &Map<String, Value>) -> Result<bool, Fault> {
    let Some(typ) = header.get("typ") else { return Ok(false) };
    let typ = typ.as_str().unwrap_or_default();
    let is = |names: [&str; 2]| names.iter().any(|name| typ.eq_ignore_ascii_case(name));
    match (is(["at+jwt", "application/at+jwt"]), is(["JWT", "application/jwt"])) {
        (true, _) => Ok(true),
        (_, true) => Ok(false),
        _ => Err(Fault::Claim("typ is that of another kind of token")),
    }
}

/// SECURITY: J-10, JX-26. What does not say that it is an access token must at least not look like something else.
fn access_token(claims: &Map<String, Value>, audience: &[&str], expect: &Expect<'_>) -> Result<(), Fault> {
    for name in ["nonce", "at_hash", "c_hash", "s_hash"] {
        require(!claims.contains_key(name), "a claim that only ID tokens have")?;
    }
    // Keycloak says `ID`, `Refresh`, `Offline` and `Logout` there; Amazon Cognito says `id`.
    let says = |name: &str, wanted: &str| {
        claims.get(name).is_none_or(|is| is.as_str().is_some_and(|is| is.eq_ignore_ascii_case(wanted)))
    };
    require(says("typ", "Bearer"), "typ, the claim, is that of another kind of token")?;
    require(says("token_use", "access"), "token_use is that of another kind of token")?;
    // That is what ID tokens have: an access token is meant for an API, not for the client that asked for it.
    let for_client_alone = expect.client_id.is_some_and(|id| audience.iter().all(|aud| *aud == id));
    require(!for_client_alone, "aud is the client itself: this is an ID token")
}

/// J-08: strings and nothing else, at least one.
fn audience(claims: &Map<String, Value>) -> Result<Vec<&str>, Fault> {
    let fault = Fault::Claim("aud is missing, or no string and no list of strings");
    let all: Option<Vec<&str>> = match claims.get("aud") {
        Some(Value::String(one)) => Some(vec![one.as_str()]),
        Some(Value::Array(all)) if all.len() <= MAX_AUDIENCE => all.iter().map(Value::as_str).collect(),
        _ => None,
    };
    all.filter(|all| !all.is_empty() && all.iter().all(|aud| !aud.is_empty())).ok_or(fault)
}

fn times(claims: &Map<String, Value>, expect: &Expect<'_>) -> Result<(), Fault> {
    let (now, skew) = (expect.now as f64, expect.skew as f64);
    let exp = date(claims, "exp").ok_or(Fault::Claim("exp is missing or no date"))?;
    require(now < exp + skew, "exp: the token has expired")?;
    if claims.contains_key("iat") {
        // JX-17
        let iat = date(claims, "iat").ok_or(Fault::Claim("iat is no date"))?;
        require(iat <= now + skew, "iat lies in the future: compare the clocks")?;
    }
    not_before(claims, now + skew)
}

#[cfg(test)]
mod tests;
