//! The checks of an ID token: OpenID Connect Core §3.1.3.7, with the rows of `C-` and `J-` named where they bite. A pure
//! function: time, keys and what was asked for come in, claims or a refusal come out.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use crate::crypto::jwk::KeySet;
use crate::crypto::jws;
use crate::provider::checks::{Fault, bounded, date, not_before, parties, require, text};
use crate::secret::Secret;

/// Seconds: an ID token comes straight from the provider; one that is older was made for something else (C-12).
const OLDEST: f64 = 3600.0;

/// What this token must say. Times are seconds since 1970.
pub(crate) struct Expect<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) client_id: &'a str,
    /// None at a refresh, whose ID token need not carry one (Core §12.2).
    pub(crate) nonce: Option<&'a str>,
    /// The access token that came with it, for `at_hash`.
    pub(crate) access_token: Option<&'a str>,
    pub(crate) algs: &'a [Algorithm],
    pub(crate) hmac: Option<&'a Secret>,
    pub(crate) skew: u64,
    pub(crate) now: u64,
    /// The `max_age` that was asked for.
    pub(crate) max_age: Option<u64>,
    /// The `acr_values` that were asked for: one of them it must be.
    pub(crate) acr: &'a [String],
}

pub(crate) fn validate(token: &str, keys: &KeySet, expect: &Expect<'_>) -> Result<Map<String, Value>, Fault> {
    // C-08: always, although the token came over TLS from the token endpoint.
    let verified = jws::verify(token, keys, expect.algs, expect.hmac).map_err(Fault::Signature)?;
    let claims = verified.claims;
    kind_of_token(&verified.header, &claims)?;
    parties(&claims, expect.issuer, expect.client_id)?;
    require(bounded(&claims, "sub", 255).is_some(), "sub is no string of 1 to 255 characters")?;
    times(&claims, expect)?;
    bindings(&claims, verified.alg, expect)?;
    step_up(&claims, expect)?;
    Ok(claims)
}

/// SECURITY: an access token, a logout token or an assertion of the same issuer is signed by the same key (J-10).
fn kind_of_token(header: &Map<String, Value>, claims: &Map<String, Value>) -> Result<(), Fault> {
    let plain = |typ: &str| typ.eq_ignore_ascii_case("JWT") || typ.eq_ignore_ascii_case("application/jwt");
    match header.get("typ") {
        None => {}
        Some(Value::String(typ)) if plain(typ) => {}
        Some(_) => return Err(Fault::Claim("typ is that of another kind of token")),
    }
    require(!claims.contains_key("events"), "events: this is a logout token")
}

fn times(claims: &Map<String, Value>, expect: &Expect<'_>) -> Result<(), Fault> {
    let (now, skew) = (expect.now as f64, expect.skew as f64);
    let exp = date(claims, "exp").ok_or(Fault::Claim("exp is missing or no date"))?;
    require(now < exp + skew, "exp: the token has expired")?;
    let iat = date(claims, "iat").ok_or(Fault::Claim("iat is missing or no date"))?;
    require(iat <= now + skew, "iat lies in the future: compare the clocks")?;
    require(iat >= now - OLDEST - skew, "iat: the token was issued too long ago")?;
    not_before(claims, now + skew)
}

/// What ties the token to this sign-in and to the access token beside it.
fn bindings(claims: &Map<String, Value>, alg: Algorithm, expect: &Expect<'_>) -> Result<(), Fault> {
    if let Some(nonce) = expect.nonce {
        // C-13, L-11: no claim of the token can switch this off.
        let given = text(claims, "nonce").unwrap_or_default();
        let equal = !nonce.is_empty() && verify_slices_are_equal(given.as_bytes(), nonce.as_bytes()).is_ok();
        require(equal, "nonce is not that of this sign-in")?;
    }
    if let (Some(at_hash), Some(access_token)) = (claims.get("at_hash"), expect.access_token) {
        // C-16
        let want = half_hash(alg, access_token);
        require(want.is_some() && at_hash.as_str() == want.as_deref(), "at_hash is of another access token")?;
    }
    Ok(())
}

/// C-14: the provider may ignore `max_age` and `acr_values`; then this is not the sign-in that was asked for.
fn step_up(claims: &Map<String, Value>, expect: &Expect<'_>) -> Result<(), Fault> {
    if let Some(max_age) = expect.max_age {
        let (now, skew) = (expect.now as f64, expect.skew as f64);
        let auth_time = date(claims, "auth_time").filter(|at| at.fract() == 0.0);
        let auth_time = auth_time.ok_or(Fault::Claim("auth_time is missing although max_age was asked for"))?;
        require(auth_time <= now + skew, "auth_time lies in the future: compare the clocks")?;
        require(auth_time >= now - max_age as f64 - skew, "auth_time: the sign-in is older than asked for")?;
    }
    let acr = text(claims, "acr").unwrap_or_default();
    let met = expect.acr.is_empty() || expect.acr.iter().any(|want| want == acr);
    require(met, "acr is none of those that were asked for")
}

/// The left half of the hash that goes with the algorithm (Core §3.1.3.6); Ed25519 goes with SHA-512.
fn half_hash(alg: Algorithm, access_token: &str) -> Option<String> {
    let hash = match alg {
        Algorithm::HS256 | Algorithm::RS256 | Algorithm::PS256 | Algorithm::ES256 => &digest::SHA256,
        Algorithm::HS384 | Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 => &digest::SHA384,
        Algorithm::HS512 | Algorithm::RS512 | Algorithm::PS512 | Algorithm::EdDSA => &digest::SHA512,
        // No other one is verified.
        _ => return None,
    };
    let full = digest::digest(hash, access_token.as_bytes());
    full.as_ref().get(..full.as_ref().len() / 2).map(|half| URL_SAFE_NO_PAD.encode(half))
}

#[cfg(test)]
mod tests;
