//! The userinfo endpoint (OpenID Connect Core §5.3): asked only when the ID token lacks a claim that is wanted, used only
//! to fill gaps, and only if it speaks of the same person. A signed answer is verified; an encrypted one is not read.

use ::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use crate::clock;
use crate::crypto::jwk::KeySet;
use crate::crypto::jws;
use crate::error::{Error, Result};
use crate::provider::checks::{Fault, date, not_before, parties, require};
use crate::provider::discovery::Metadata;
use crate::provider::{Provider, claims, http};
use crate::secret::Secret;

const ENDPOINT: &str = "userinfo";

/// What only a checked ID token may say: about itself, and about how the person signed in.
pub(crate) const NOT_FROM_HERE: [&str; 18] = [
    "_claim_names",
    "_claim_sources",
    "acr",
    "amr",
    "at_hash",
    "aud",
    "auth_time",
    "azp",
    "c_hash",
    "events",
    "exp",
    "iat",
    "iss",
    "jti",
    "nbf",
    "nonce",
    "sid",
    "sub",
];

/// Fills in what `claims` lacks, if anything that is wanted is missing and the provider has the endpoint.
///
/// # Errors
/// As `Http::send`, and `ProviderAnswer` for an answer that must not be used; `claims` are then as they were.
pub(crate) async fn complete(
    provider: &Provider,
    metadata: &Metadata,
    access: &Secret,
    claims: &mut Map<String, Value>,
) -> Result<()> {
    let missing = provider.claim_paths.iter().any(|path| claims::lookup(claims, path).is_none());
    let Some(url) = metadata.userinfo_endpoint.as_ref().filter(|_| missing) else { return Ok(()) };

    let make = || {
        let mut request = http::get(ENDPOINT, url)?;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json, application/jwt"));
        Ok(request)
    };
    let response = provider.get_as(ENDPOINT, access, make).await?;
    let answer = read(provider, metadata, &response).await?;
    // C-17: of someone else, so not used at all.
    if answer.get("sub").and_then(Value::as_str) != claims.get("sub").and_then(Value::as_str) {
        return Err(http::answer(ENDPOINT, "speaks of another subject than the ID token"));
    }
    merge(claims, answer);
    Ok(())
}

/// Whether a sign-in goes on without userinfo, which failed with `error`. What is missing is missing: the rules that let
/// people in for it will say no.
///
/// # Errors
/// `error`. SECURITY: BX-09. A rule that keeps people out must not pass for want of what it asks about.
pub(crate) fn spare(provider: &Provider, claims: &Map<String, Value>, denying: &[String], error: Error) -> Result<()> {
    if denying.iter().any(|path| claims::lookup(claims, path).is_none()) {
        return Err(error);
    }
    tracing::warn!(target: "doorward::provider", provider = %provider.name(), kind = error.kind().as_str(), error = %error, "userinfo is not used");
    Ok(())
}

async fn read(provider: &Provider, metadata: &Metadata, response: &Response<Bytes>) -> Result<Map<String, Value>> {
    if response.status() != StatusCode::OK {
        return Err(http::refusal(ENDPOINT, response));
    }
    let media = http::media_type(response);
    if media.eq_ignore_ascii_case("application/json") {
        return http::object(ENDPOINT, response);
    }
    if !media.eq_ignore_ascii_case("application/jwt") {
        return Err(http::answer(ENDPOINT, "answers something other than application/json or application/jwt"));
    }
    let token = std::str::from_utf8(response.body()).unwrap_or_default();
    if token.matches('.').count() == 4 {
        return Err(http::answer(
            ENDPOINT,
            "answers with an encrypted token (JWE), which Doorward cannot read: have it signed only",
        ));
    }
    let algs = provider.allowed_algs(metadata);
    let checked = provider.with_keys(metadata, |keys| provider.validate_signed(token, keys, &algs)).await?;
    checked.map_err(|fault| http::answer(ENDPOINT, &format!("answers with a token that is refused: {fault}")))
}

impl Provider {
    /// A signed answer (Core §5.3.2). What it says of its own lifetime, it is held to.
    fn validate_signed(&self, token: &str, keys: &KeySet, algs: &[Algorithm]) -> Result<Map<String, Value>, Fault> {
        // C-18: by the same algorithms as an ID token.
        let verified =
            jws::verify(token, keys, algs, self.settings.client_secret.as_ref()).map_err(Fault::Signature)?;
        let claims = verified.claims;
        // SECURITY: whatever else the provider signs for us, a logout token, is no userinfo (J-10).
        require(!claims.contains_key("events"), "events: this is a logout token")?;
        parties(&claims, &self.settings.issuer, &self.settings.client_id)?;
        let (now, skew) = (clock::unix_now() as f64, self.settings.clock_skew.as_secs() as f64);
        if claims.contains_key("exp") {
            let exp = date(&claims, "exp").ok_or(Fault::Claim("exp is no date"))?;
            require(now < exp + skew, "exp: the token has expired")?;
        }
        not_before(&claims, now + skew)?;
        Ok(claims)
    }
}

/// Whole members only, and never one that the ID token has.
fn merge(claims: &mut Map<String, Value>, answer: Map<String, Value>) {
    let email = takes_email(claims, &answer);
    for (name, value) in answer {
        let taken = match name.as_str() {
            "email" | "email_verified" => email,
            _ => !NOT_FROM_HERE.contains(&name.as_str()),
        };
        if taken {
            claims.entry(name).or_insert(value);
        }
    }
}

/// SECURITY: `email_verified` speaks of the `email` beside it. Taken apart, one source's address would be vouched for by
/// the other (L-25).
fn takes_email(claims: &Map<String, Value>, answer: &Map<String, Value>) -> bool {
    let agrees = |name: &str| claims.get(name).is_none_or(|ours| answer.get(name) == Some(ours));
    agrees("email") && agrees("email_verified")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(claims: Value, answer: Value) -> Value {
        let mut claims = claims.as_object().unwrap().clone();
        merge(&mut claims, answer.as_object().unwrap().clone());
        Value::Object(claims)
    }

    #[test]
    fn gaps_are_filled_and_nothing_is_replaced() {
        let out = merged(
            json!({"sub": "a", "name": "ours", "groups": null}),
            json!({"sub": "b", "name": "theirs", "groups": ["admin"], "locale": "de", "acr": "high", "auth_time": 1,
                   "sid": "x", "iss": "y", "_claim_sources": {"s": {"endpoint": "https://attacker.example"}}}),
        );
        assert_eq!(out, json!({"sub": "a", "name": "ours", "groups": null, "locale": "de"}));
    }

    #[test]
    fn l_25_an_address_is_vouched_for_by_its_own_source_only() {
        for (claims, answer, want) in [
            (
                json!({}),
                json!({"email": "a@x", "email_verified": true}),
                json!({"email": "a@x", "email_verified": true}),
            ),
            (json!({"email": "a@x"}), json!({"email": "b@x", "email_verified": true}), json!({"email": "a@x"})),
            (json!({"email": "a@x"}), json!({"email_verified": true}), json!({"email": "a@x"})),
            (
                json!({"email": "a@x"}),
                json!({"email": "a@x", "email_verified": true}),
                json!({"email": "a@x", "email_verified": true}),
            ),
            (json!({"email_verified": true}), json!({"email": "b@x"}), json!({"email_verified": true})),
            (
                json!({"email_verified": true}),
                json!({"email": "b@x", "email_verified": false}),
                json!({"email_verified": true}),
            ),
        ] {
            assert_eq!(merged(claims, answer), want);
        }
    }
}
