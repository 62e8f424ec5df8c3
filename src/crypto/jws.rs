//! Signed tokens in compact serialisation (RFC 7515 §3.1): shape, header and signature, and not one claim.
//!
//! jsonwebtoken verifies the signature; which algorithm and which key may do so is decided here, never by the token.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use crate::crypto::json;
use crate::crypto::jwk::KeySet;
use crate::secret::Secret;

/// Bytes of the whole token, looked at before anything else (J-13).
const MAX_TOKEN: usize = 64 * 1024;

/// How many keys one token is tried with.
const MAX_TRIES: usize = 8;

/// Every algorithm whose keys can be published: what may sign a token where nothing narrower is configured.
pub const ASYMMETRIC: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// A token whose signature holds. Its claims say nothing yet.
#[derive(Debug)]
pub struct Verified {
    pub alg: Algorithm,
    pub header: Map<String, Value>,
    pub claims: Map<String, Value>,
}

/// Why a token was refused. No variant carries text of the token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The algorithm is not one that is allowed here, or not one that the named key may verify.
    Algorithm,
    /// The header asks for something that we do not do.
    Header(&'static str),
    /// Not a signed token in compact form.
    Malformed,
    /// No key with this signature: the only refusal that newer keys can cure.
    UnknownKey,
    /// The signature does not hold.
    Signature,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Algorithm => "the signature algorithm is not allowed",
            Self::Header(what) => what,
            Self::Malformed => "not a signed token in compact form",
            Self::UnknownKey => "signed with a key that the issuer does not publish",
            Self::Signature => "the signature does not hold",
        })
    }
}

impl std::error::Error for Refusal {}

/// Checks shape, header and signature. `hmac` is the key of HS256/384/512, which are used only where `allowed` names
/// them.
pub fn verify(token: &str, keys: &KeySet, allowed: &[Algorithm], hmac: Option<&Secret>) -> Result<Verified, Refusal> {
    if token.len() > MAX_TOKEN {
        return Err(Refusal::Malformed);
    }
    // SECURITY: exactly three parts: no JWE, no JSON serialisation, nothing detached (J-12, JX-23).
    let mut parts = token.split('.');
    let (Some(header64), Some(claims64), Some(signature64), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::Malformed);
    };
    let header = json::object(&decode(header64)?).map_err(|_| Refusal::Malformed)?;
    let payload = decode(claims64)?;
    decode(signature64)?;

    let alg = algorithm(&header, allowed)?;
    let kid = check_header(&header)?;
    let signed = token.get(..header64.len() + 1 + claims64.len()).ok_or(Refusal::Malformed)?;
    check_signature(signed.as_bytes(), signature64, alg, kid, keys, hmac)?;

    let claims = json::object(&payload).map_err(|_| Refusal::Malformed)?;
    Ok(Verified { alg, header, claims })
}

/// Hash length in bytes of an HMAC algorithm, which its key must reach (RFC 7518 §3.2); None for all others.
pub fn hmac_length(alg: Algorithm) -> Option<usize> {
    match alg {
        Algorithm::HS256 => Some(32),
        Algorithm::HS384 => Some(48),
        Algorithm::HS512 => Some(64),
        _ => None,
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Refusal> {
    // SECURITY: this engine takes no padding, no whitespace, no `+` or `/` and no stray bits at the end (J-12).
    match URL_SAFE_NO_PAD.decode(part) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        _ => Err(Refusal::Malformed),
    }
}

fn algorithm(header: &Map<String, Value>, allowed: &[Algorithm]) -> Result<Algorithm, Refusal> {
    // SECURITY: case-sensitive, from our list; `none` is in no list since the type has no such member (J-01, C-09).
    let name = header.get("alg").and_then(Value::as_str).ok_or(Refusal::Algorithm)?;
    let alg: Algorithm = name.parse().map_err(|_| Refusal::Algorithm)?;
    if allowed.contains(&alg) { Ok(alg) } else { Err(Refusal::Algorithm) }
}

/// The key id, once nothing else in the header stands against the token.
fn check_header(header: &Map<String, Value>) -> Result<Option<&str>, Refusal> {
    // SECURITY: we understand no extension, so one that must be understood is a refusal (J-05). `jku`, `jwk`, `x5u` and
    // `x5c` are read nowhere: a token does not bring its own key (J-06).
    for (name, fault) in [
        ("crit", "the header has critical extensions"),
        ("b64", "the header asks for an unencoded payload"),
        ("zip", "the header asks for compression"),
    ] {
        if header.contains_key(name) {
            return Err(Refusal::Header(fault));
        }
    }
    match header.get("cty") {
        None => {}
        Some(Value::String(cty)) if !cty.eq_ignore_ascii_case("JWT") => {}
        Some(_) => return Err(Refusal::Header("the token is nested in another")),
    }
    match header.get("kid") {
        None => Ok(None),
        Some(Value::String(kid)) => Ok(Some(kid)),
        Some(_) => Err(Refusal::Header("the key id is no string")),
    }
}

fn check_signature(
    signed: &[u8],
    signature: &str,
    alg: Algorithm,
    kid: Option<&str>,
    keys: &KeySet,
    hmac: Option<&Secret>,
) -> Result<(), Refusal> {
    let holds = |key: &DecodingKey| jsonwebtoken::crypto::verify(signature, signed, key, alg).unwrap_or(false);

    if let Some(length) = hmac_length(alg) {
        // SECURITY: the client secret's octets and nothing else: no public key, no `oct` key of a set (C-10, JX-02). A
        // secret that is shorter than the hash can be guessed offline from one token (J-04, JX-03).
        let secret = hmac.map(|secret| secret.expose().as_bytes()).filter(|secret| secret.len() >= length);
        let secret = secret.ok_or(Refusal::Algorithm)?;
        return if holds(&DecodingKey::from_secret(secret)) { Ok(()) } else { Err(Refusal::Signature) };
    }
    if keys.candidates(kid, alg).take(MAX_TRIES).any(|key| holds(key.decoding())) {
        return Ok(());
    }
    Err(match kid {
        Some(kid) if !keys.knows(kid) => Refusal::UnknownKey,
        Some(_) if keys.candidates(kid, alg).next().is_none() => Refusal::Algorithm,
        Some(_) => Refusal::Signature,
        // An issuer that names no keys rotates them all the same: newer ones may fit.
        None => Refusal::UnknownKey,
    })
}

#[cfg(test)]
mod tests;
