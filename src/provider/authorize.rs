//! The authorization request: what the browser is sent to the provider with (OpenID Connect Core §3.1.2.1), pushed
//! beforehand where the provider takes that (RFC 9126), and whose answer comes back (RFC 9207).

use std::sync::Arc;

use ::http::StatusCode;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use url::Url;

use crate::config::settings::{Flow, OWN_PARAMETERS, Par, ResponseMode};
use crate::crypto::json;
use crate::error::{Error, Kind, Result};
use crate::provider::client_auth::Form;
use crate::provider::discovery::Metadata;
use crate::provider::{Provider, http};

const ENDPOINT: &str = "pushed_authorization_request";

/// One sign-in's values. `state`, `nonce` and the verifier behind `code_challenge` are new for each.
#[derive(Clone, Copy, Debug)]
pub struct AuthorizationRequest<'a> {
    pub redirect_uri: &'a str,
    pub state: &'a str,
    pub nonce: &'a str,
    /// S256: see `pkce_challenge`.
    pub code_challenge: &'a str,
    pub acr_values: &'a [String],
    /// Seconds.
    pub max_age: Option<u64>,
}

/// The S256 challenge of a verifier (RFC 7636 §4.2).
pub fn pkce_challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()))
}

impl Provider {
    /// # Errors
    /// Where metadata is not to be had, or a pushed request fails: it never falls back to the front channel (PAR-02).
    pub async fn authorization_url(self: &Arc<Self>, request: &AuthorizationRequest<'_>) -> Result<String> {
        let parameters = self.parameters(request);
        let metadata = self.metadata().await?;
        let mut url = metadata.authorization_endpoint.clone();
        if let Some(endpoint) = self.push_to(&metadata)? {
            let this = self.clone();
            let request_uri =
                self.on_control(async move { this.push(&metadata, &endpoint, &parameters).await }).await?;
            // PAR-01: nothing else travels through the browser.
            let client_id = ("client_id", self.settings.client_id.as_str());
            url.query_pairs_mut().extend_pairs([client_id, ("request_uri", &request_uri)]);
        } else {
            url.query_pairs_mut().extend_pairs(parameters);
        }
        Ok(url.into())
    }

    /// RFC 9207: whether an authorization response, good or bad, came from this provider. An `iss` that was not
    /// announced is held to the same (I-03). Without OpenID there is no issuer to compare with. `must_say`: it counts only
    /// with an `iss`, announced or not.
    ///
    /// # Errors
    /// `Callback`.
    pub fn check_issuer(&self, metadata: &Metadata, iss: Option<&str>, must_say: bool) -> Result<()> {
        match iss {
            _ if !self.settings.is_openid() => Ok(()),
            Some(iss) if iss == self.settings.issuer => Ok(()),
            Some(_) => Err(Error::new(Kind::Callback, "the answer is of another issuer than the one asked")),
            None if metadata.authorization_response_iss || must_say => {
                Err(Error::new(Kind::Callback, "the answer does not say which issuer it is of"))
            }
            None => Ok(()),
        }
    }

    fn parameters(&self, request: &AuthorizationRequest<'_>) -> Vec<(String, String)> {
        let is_openid = self.settings.is_openid();
        let implicit = self.settings.flow == Flow::ImplicitFormPost;
        let mut scope = self.settings.scopes.join(" ");
        if is_openid && !self.settings.scopes.iter().any(|one| one == "openid") {
            // C-01: without it this is no OpenID Connect, and no ID token comes back.
            scope = format!("openid {scope}").trim_end().to_owned();
        }
        // No access token is ever asked of the implicit flow: it would travel through the browser.
        let mut all = vec![
            ("response_type".to_owned(), if implicit { "id_token" } else { "code" }.to_owned()),
            ("client_id".to_owned(), self.settings.client_id.clone()),
            ("redirect_uri".to_owned(), request.redirect_uri.to_owned()),
        ];
        if !scope.is_empty() {
            all.push(("scope".to_owned(), scope));
        }
        all.push(("state".to_owned(), request.state.to_owned()));
        if is_openid {
            all.push(("nonce".to_owned(), request.nonce.to_owned()));
        }
        if self.settings.response_mode == ResponseMode::FormPost {
            all.push(("response_mode".to_owned(), "form_post".to_owned()));
        }
        if !implicit {
            all.push(("code_challenge".to_owned(), request.code_challenge.to_owned()));
            all.push(("code_challenge_method".to_owned(), "S256".to_owned()));
        }
        if !request.acr_values.is_empty() {
            all.push(("acr_values".to_owned(), request.acr_values.join(" ")));
        }
        if let Some(max_age) = request.max_age {
            all.push(("max_age".to_owned(), max_age.to_string()));
        }
        if let Some(dpop) = &self.dpop {
            // The code is then good for nobody without the key (RFC 9449 §10).
            all.push(("dpop_jkt".to_owned(), dpop.thumbprint().to_owned()));
        }
        for (name, value) in &self.settings.extra_params {
            if !OWN_PARAMETERS.contains(&name.as_str()) && !all.iter().any(|(there, _)| there == name) {
                all.push((name.clone(), value.clone()));
            }
        }
        all
    }

    /// Where to push the request to, or None to send it through the browser.
    fn push_to(&self, metadata: &Metadata) -> Result<Option<Url>> {
        let wanted = match self.settings.par {
            Par::Auto => metadata.require_pushed_authorization_requests,
            Par::Off => return Ok(None),
            Par::Required => true,
        };
        match &metadata.pushed_authorization_request_endpoint {
            Some(endpoint) => Ok(Some(endpoint.clone())),
            None if wanted => Err(http::answer(ENDPOINT, "is required and not in the discovery document")),
            None => Ok(None),
        }
    }

    async fn push(&self, metadata: &Metadata, endpoint: &Url, parameters: &[(String, String)]) -> Result<String> {
        let form: Vec<(&str, &str)> = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let response = self.post(ENDPOINT, endpoint, &Form::new(&form), metadata).await?;
        // The RFC says 201; some providers say 200 and mean the same.
        if !matches!(response.status(), StatusCode::OK | StatusCode::CREATED) {
            return Err(http::refusal(ENDPOINT, &response));
        }
        let answer =
            json::object(response.body()).map_err(|e| http::answer(ENDPOINT, "answers no JSON object").because(e))?;
        if answer.get("expires_in").and_then(Value::as_f64).is_some_and(|seconds| seconds <= 0.0) {
            return Err(http::answer(ENDPOINT, "answers with a request that has expired"));
        }
        match answer.get("request_uri").and_then(Value::as_str) {
            Some(request_uri) if !request_uri.is_empty() => Ok(request_uri.to_owned()),
            _ => Err(http::answer(ENDPOINT, "answers without a request_uri")),
        }
    }
}
