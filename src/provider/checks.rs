//! What ID tokens, logout tokens and the tokens of machines are all checked for, and how a token meets the provider's keys. What only
//! one of them must say is in its own file.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::crypto::jwk::KeySet;
use crate::crypto::jws::Refusal;
use crate::error::{Error, Kind, Result};
use crate::provider::Provider;
use crate::provider::discovery::Metadata;
use crate::provider::keys::Place;

/// The last second of the year 9999; whatever is later is no date (C-11).
const LATEST: f64 = 253_402_300_799.0;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// A claim, or the kind of token.
    Claim(&'static str),
    /// Form or signature; `Refusal::UnknownKey` is worth another look at the keys.
    Signature(Refusal),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Claim(what) => f.write_str(what),
            Self::Signature(refusal) => refusal.fmt(f),
        }
    }
}

impl Provider {
    /// Validates with this provider's keys: see `Keys::check`.
    pub(super) async fn with_keys<T>(
        &self,
        metadata: &Metadata,
        validate: impl Fn(&KeySet) -> Result<T, Fault>,
    ) -> Result<Result<T, Fault>> {
        let Some(jwks_uri) = &metadata.jwks_uri else {
            return Err(Error::new(Kind::KeysUnavailable, "a provider without OpenID has no keys"));
        };
        let place = Place::At(jwks_uri.clone());
        self.keys.check(&self.http, &place, &self.control, validate).await
    }

    /// The same for whatever else this provider signed: the token of a machine.
    ///
    /// # Errors
    /// `KeysUnavailable`, `ProviderUnavailable` and the others of a fetch: then there is no verdict.
    pub(crate) async fn judge<T>(
        self: &Arc<Self>,
        validate: impl Fn(&KeySet) -> Result<T, Fault>,
    ) -> Result<Result<T, Fault>> {
        let metadata = self.metadata().await?;
        self.with_keys(&metadata, validate).await
    }
}

pub(crate) fn require(holds: bool, fault: &'static str) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(Fault::Claim(fault)) }
}

/// Who issued it, and for whom.
pub(super) fn parties(claims: &Map<String, Value>, issuer: &str, client_id: &str) -> Result<(), Fault> {
    // C-05, JX-15: one string, byte for byte; an array that holds ours is another issuer.
    require(text(claims, "iss") == Some(issuer), "iss is not the configured issuer")?;
    // C-06, C-07: there is no other audience that we trust, with azp or without.
    let ours = |value: &Value| value.as_str() == Some(client_id);
    let aud = match claims.get("aud") {
        Some(Value::Array(all)) => !all.is_empty() && all.iter().all(ours),
        Some(one) => ours(one),
        None => false,
    };
    require(aud, "aud is not this client alone")?;
    require(claims.get("azp").is_none_or(ours), "azp is another client")
}

/// J-08, J-09: of the wrong type is invalid, not absent.
pub(crate) fn not_before(claims: &Map<String, Value>, latest: f64) -> Result<(), Fault> {
    if claims.contains_key("nbf") {
        let nbf = date(claims, "nbf").ok_or(Fault::Claim("nbf is no date"))?;
        require(nbf <= latest, "nbf: the token is not valid yet")?;
    }
    Ok(())
}

pub(crate) fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    claims.get(name)?.as_str()
}

/// A string of 1 to `longest` characters, of which none is a control character. C-15: of `sub` the standard says ASCII,
/// providers say otherwise, and the header encoding takes care of the rest.
pub(crate) fn bounded<'a>(claims: &'a Map<String, Value>, name: &str, longest: usize) -> Option<&'a str> {
    let fits = |text: &&str| (1..=longest).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    text(claims, name).filter(fits)
}

/// A NumericDate (RFC 7519 §2): a positive number, fractions allowed.
pub(crate) fn date(claims: &Map<String, Value>, name: &str) -> Option<f64> {
    claims.get(name)?.as_number()?.as_f64().filter(|at| *at > 0.0 && *at <= LATEST)
}
