//! A provider without OpenID (`kind = "oauth2"`, the shape of GitHub): no discovery, no ID token. Who somebody is comes
//! from a REST call with the access token that the code was exchanged for; PKCE and state are what binds it to the browser.

use ::http::{Response, StatusCode};
use bytes::Bytes;
use serde_json::{Map, Value};
use url::{Url, form_urlencoded};

use crate::config::settings::OAuth2Endpoints;
use crate::crypto::json;
use crate::error::{Error, Kind, Result};
use crate::provider::userinfo::NOT_FROM_HERE;
use crate::provider::{Provider, claims, http};
use crate::secret::Secret;

/// The words of metrics and errors.
const EMAILS: &str = "emails";
const TOKEN: &str = "token";
const USERINFO: &str = "userinfo";

/// As long as OpenID allows a `sub` to be (C-15).
const MAX_SUBJECT: usize = 255;

impl Provider {
    /// The claims of whoever the access token is of, in the shape of an ID token's: `sub` is always there.
    ///
    /// # Errors
    /// As `Http::send`, `ProviderRefused`, and `ProviderAnswer` where the answer names nobody. Also where the addresses
    /// cannot be had: a rule that keeps one out must not pass for want of it.
    pub(super) async fn person(&self, endpoints: &OAuth2Endpoints, access: &Secret) -> Result<Map<String, Value>> {
        let answer = self.ask(USERINFO, &endpoints.userinfo_url, access).await?;
        let mut claims = http::object(USERINFO, &answer)?;
        let subject = subject(&claims, &self.settings.claims.user)
            .ok_or_else(|| http::answer(USERINFO, "answers without anything that names a person"))?;
        // SECURITY: what only a checked ID token may say.
        claims.retain(|name, _| !NOT_FROM_HERE.contains(&name.as_str()));
        claims.insert("sub".to_owned(), Value::String(subject));
        let user = &self.settings.claims.user;
        if let Some(name) = text(&claims, user) {
            claims.insert(user.clone(), Value::String(name));
        }
        if let Some(url) = &endpoints.emails_url {
            let answer = self.ask(EMAILS, url, access).await?;
            let (email, verified) = primary(&answer)?;
            // SECURITY: L-25. Nothing that userinfo says vouches for an address of this list.
            claims.insert("email_verified".to_owned(), Value::Bool(verified));
            claims.insert(self.settings.claims.email.clone(), email.map_or(Value::Null, Value::String));
        }
        Ok(claims)
    }

    /// The same after a refresh. None where it cannot be had now: the claims of before still stand.
    ///
    /// # Errors
    /// `IdToken` where it is somebody else (C-19).
    pub(super) async fn person_again(
        &self,
        endpoints: &OAuth2Endpoints,
        access: &Secret,
        sub: &str,
    ) -> Result<Option<Map<String, Value>>> {
        match self.person(endpoints, access).await {
            Ok(claims) if claims.get("sub").and_then(Value::as_str) == Some(sub) => Ok(Some(claims)),
            Ok(_) => Err(Error::new(Kind::IdToken, "the refreshed access token is somebody else's")),
            Err(e) => {
                tracing::warn!(target: "doorward::provider", provider = %self.name(), kind = e.kind().as_str(), error = %e, "userinfo is not used; the session keeps its claims");
                Ok(None)
            }
        }
    }

    async fn ask(&self, endpoint: &'static str, url: &Url, access: &Secret) -> Result<Response<Bytes>> {
        let response = self.get_as(endpoint, access, || http::get(endpoint, url)).await?;
        if response.status() == StatusCode::OK { Ok(response) } else { Err(http::refusal(endpoint, &response)) }
    }
}

/// A token answer as RFC 6749 §5.1 has it. These providers answer with a form when they please, and say 200 to what they
/// refuse.
///
/// # Errors
/// `ProviderRefused` with the `error` code, `ProviderAnswer`.
pub(super) fn token_answer(response: &Response<Bytes>) -> Result<Map<String, Value>> {
    let answer = if http::media_type(response).eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        form(response.body()).ok_or_else(|| http::answer(TOKEN, "answers with a member that came twice"))?
    } else {
        http::object(TOKEN, response)?
    };
    let Some(code) = answer.get("error") else { return Ok(answer) };
    // SECURITY: the code only, and only as the RFC spells one (O-11).
    let is_code = |code: &&str| code.len() <= 64 && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let code = code.as_str().filter(is_code).map_or("unknown", standard);
    let what = format!("the provider's token endpoint refuses with {code}");
    Err(Error::new(Kind::ProviderRefused, what).oauth(code))
}

/// GitHub's words for what RFC 6749 §5.2 has words for.
fn standard(code: &str) -> &str {
    match code {
        "bad_refresh_token" | "bad_verification_code" => "invalid_grant",
        "incorrect_client_credentials" => "invalid_client",
        other => other,
    }
}

fn form(body: &[u8]) -> Option<Map<String, Value>> {
    let mut answer = Map::new();
    for (name, value) in form_urlencoded::parse(body) {
        // An empty value says as much as none: GitHub sends `scope=`.
        if answer.insert(name.into_owned(), Value::String(value.into_owned())).is_some() {
            return None;
        }
    }
    Some(answer)
}

/// What never changes about a person, as far as there is such a thing: `sub`, `id`, else the configured claim.
fn subject(claims: &Map<String, Value>, user: &str) -> Option<String> {
    let subject = text(claims, "sub").or_else(|| text(claims, "id")).or_else(|| text(claims, user))?;
    (subject.len() <= MAX_SUBJECT).then_some(subject)
}

/// A whole number names a person as well as a text does.
fn text(claims: &Map<String, Value>, path: &str) -> Option<String> {
    match claims::lookup(claims, path)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}

/// The primary address of a list of `{ email, primary, verified }`, and whether it is verified.
fn primary(response: &Response<Bytes>) -> Result<(Option<String>, bool)> {
    let list = json::parse(response.body()).ok();
    let list = list.as_ref().and_then(Value::as_array).ok_or_else(|| http::answer(EMAILS, "answers no JSON list"))?;
    let is = |entry: &Value, name: &str| entry.get(name) == Some(&Value::Bool(true));
    let primary = list.iter().find(|entry| is(entry, "primary"));
    let email = primary.and_then(|entry| entry.get("email")).and_then(Value::as_str).filter(|email| !email.is_empty());
    Ok((email.map(str::to_owned), email.is_some() && primary.is_some_and(|entry| is(entry, "verified"))))
}
