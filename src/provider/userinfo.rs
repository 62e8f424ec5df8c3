//! The userinfo endpoint (OpenID Connect Core §5.3): asked only when the ID token lacks a claim that is wanted, used only
//! to fill gaps, and only if it speaks of the same person.

use ::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use serde_json::{Map, Value};

use crate::error::Result;
use crate::provider::discovery::Metadata;
use crate::provider::{Provider, claims, http};
use crate::secret::Secret;

const ENDPOINT: &str = "userinfo";

/// What only a checked ID token may say: about itself, and about how the person signed in.
const NOT_FROM_HERE: [&str; 18] = [
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

    let scheme = if provider.dpop.is_some() { "DPoP" } else { "Bearer" };
    let mut credentials = HeaderValue::try_from(format!("{scheme} {}", access.expose()))
        .map_err(|_| http::answer(ENDPOINT, "cannot be asked: the access token is no header value"))?;
    credentials.set_sensitive(true);
    let make = || {
        let mut request = http::get(ENDPOINT, url)?;
        request.headers_mut().insert(header::AUTHORIZATION, credentials.clone());
        Ok(request)
    };
    let response = provider.send_proved(ENDPOINT, Some(access), make).await?;
    let answer = read(&response)?;
    // C-17: of someone else, so not used at all.
    if answer.get("sub").and_then(Value::as_str) != claims.get("sub").and_then(Value::as_str) {
        return Err(http::answer(ENDPOINT, "speaks of another subject than the ID token"));
    }
    merge(claims, answer);
    Ok(())
}

fn read(response: &Response<Bytes>) -> Result<Map<String, Value>> {
    if response.status() != StatusCode::OK {
        return Err(http::refusal(ENDPOINT, response));
    }
    // C-18: a signed answer is not unpacked unchecked.
    if !http::media_type(response).eq_ignore_ascii_case("application/json") {
        return Err(http::answer(ENDPOINT, "answers something other than application/json"));
    }
    http::object(ENDPOINT, response)
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
