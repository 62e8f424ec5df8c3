//! The token endpoint (RFC 6749 §3.2): its answer is read tolerantly where providers differ, and strictly where it
//! matters.
//!
//! Nothing of an answer's text ever reaches an error: it holds tokens.

use ::http::StatusCode;
use serde_json::{Map, Value};

use crate::error::Result;
use crate::provider::client_auth::Form;
use crate::provider::discovery::Metadata;
use crate::provider::{Provider, http, oauth2};
use crate::secret::Secret;

const ENDPOINT: &str = "token";

/// Seconds: an answer may not promise more (O-05, RF-11).
const LONGEST: u64 = 10 * 365 * 24 * 3600;

/// A token answer of which only the members we use were read.
#[derive(Debug)]
pub struct TokenAnswer {
    pub access: Secret,
    pub refresh: Option<Secret>,
    pub id: Option<Secret>,
    /// Of the access token, in seconds from now, 0 to 10 years; None where the provider does not say.
    pub expires_in: Option<u64>,
    /// What the token is (RFC 8693 §2.2.1); None where the answer is to another grant.
    pub issued_token_type: Option<String>,
}

impl Provider {
    pub(super) async fn token(&self, metadata: &Metadata, form: &Form) -> Result<TokenAnswer> {
        let url = metadata.token_endpoint()?;
        let response = self.send_proved(ENDPOINT, None, || self.client.post(ENDPOINT, url, form, metadata)).await?;
        if response.status() != StatusCode::OK {
            return Err(http::refusal(ENDPOINT, &response));
        }
        if !self.settings.is_openid() {
            let answer = oauth2::token_answer(&response)?;
            return TokenAnswer::read(&answer, self.dpop.is_some()).map_err(|fault| http::answer(ENDPOINT, fault));
        }
        let media = http::media_type(&response);
        if !media.is_empty() && !media.eq_ignore_ascii_case("application/json") {
            return Err(http::answer(ENDPOINT, "answers something other than application/json"));
        }
        let answer = http::object(ENDPOINT, &response)?;
        TokenAnswer::read(&answer, self.dpop.is_some()).map_err(|fault| http::answer(ENDPOINT, fault))
    }
}

impl TokenAnswer {
    /// `bound`: whether a proof went with the request.
    fn read(answer: &Map<String, Value>, bound: bool) -> Result<Self, &'static str> {
        let text = |name: &str| answer.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let access = text("access_token").ok_or("answers without an access token")?;
        let kind = answer.get("token_type").map(|kind| kind.as_str().unwrap_or_default());
        match kind {
            // SECURITY: DP-03: a token that whoever finds it can use is not what was asked for.
            _ if bound && !kind.is_some_and(|kind| kind.eq_ignore_ascii_case("DPoP")) => {
                return Err("answers with a token that is not bound by DPoP");
            }
            // O-04: a type that we cannot present is no token of ours; a missing one is taken for Bearer, as some
            // providers leave it out.
            Some(kind) if !bound && !kind.eq_ignore_ascii_case("Bearer") => {
                return Err("answers with a token that is no Bearer token");
            }
            _ => {}
        }
        if answer.get("id_token").is_some_and(|id| !id.is_string() && !id.is_null()) {
            return Err("answers with an ID token that is no string");
        }
        Ok(Self {
            access: Secret::new(access),
            refresh: text("refresh_token").map(Secret::new),
            id: text("id_token").map(Secret::new),
            expires_in: answer.get("expires_in").and_then(seconds),
            issued_token_type: text("issued_token_type").map(str::to_owned),
        })
    }
}

/// A number, or one written as a string; anything else says nothing (O-05).
fn seconds(value: &Value) -> Option<u64> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    // The cast saturates: negative and tiny become 0, huge becomes the longest; NaN never gets here.
    number.is_finite().then_some((number as u64).min(LONGEST))
}
