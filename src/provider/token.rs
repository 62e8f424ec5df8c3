//! The token endpoint (RFC 6749 §4.1.3, §6). The oauth2 crate writes the request; the answer is read into a type of our
//! own, tolerant where providers differ and strict where it matters.
//!
//! Nothing of an answer's text ever reaches an error: it holds tokens.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use ::http::StatusCode;
use http_body_util::Full;
use oauth2::basic::{
    BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenType,
};
use oauth2::{
    AccessToken, AsyncHttpClient, AuthType, AuthorizationCode, ClientId, ClientSecret, EndpointNotSet, EndpointSet,
    HttpRequest, HttpResponse, PkceCodeVerifier, RedirectUrl, RefreshToken, RequestTokenError, Scope,
    StandardRevocableToken, TokenResponse, TokenUrl,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::config::settings;
use crate::error::{Error, Kind, Result};
use crate::provider::client_auth::Method;
use crate::provider::discovery::Metadata;
use crate::provider::http::{self, Http};
use crate::secret::Secret;

const ENDPOINT: &str = "token";

/// Seconds: an answer may not promise more (O-05, RF-11).
const LONGEST: u64 = 10 * 365 * 24 * 3600;

/// What both grants need.
pub(crate) struct TokenEndpoint<'a> {
    pub(crate) http: &'a Http,
    pub(crate) settings: &'a settings::Provider,
    pub(crate) metadata: &'a Metadata,
}

type Client = oauth2::Client<
    BasicErrorResponse,
    TokenAnswer,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

impl TokenEndpoint<'_> {
    pub(crate) async fn exchange_code(
        &self,
        code: &Secret,
        verifier: &Secret,
        redirect_uri: String,
    ) -> Result<TokenAnswer> {
        let redirect_uri = RedirectUrl::new(redirect_uri)
            .map_err(|e| Error::new(Kind::Internal, "the redirect URI is no URL").because(e))?;
        let client = self.client();
        let request = client
            .exchange_code(AuthorizationCode::new(code.expose().to_owned()))
            .set_pkce_verifier(PkceCodeVerifier::new(verifier.expose().to_owned()))
            .set_redirect_uri(Cow::Owned(redirect_uri));
        let answer = request.request_async(self.http).await.map_err(failed)?;
        answer.checked()
    }

    pub(crate) async fn refresh(&self, refresh_token: &Secret) -> Result<TokenAnswer> {
        let client = self.client();
        let token = RefreshToken::new(refresh_token.expose().to_owned());
        let request = client.exchange_refresh_token(&token);
        let answer = request.request_async(self.http).await.map_err(failed)?;
        answer.checked()
    }

    fn client(&self) -> Client {
        let client = oauth2::Client::new(ClientId::new(self.settings.client_id.clone()))
            .set_token_uri(TokenUrl::from_url(self.metadata.token_endpoint.clone()));
        let secret = |secret: &Secret| ClientSecret::new(secret.expose().to_owned());
        match Method::choose(self.settings, self.metadata) {
            Method::Basic(s) => client.set_auth_type(AuthType::BasicAuth).set_client_secret(secret(s)),
            Method::None => client.set_auth_type(AuthType::RequestBody),
            Method::Post(s) => client.set_auth_type(AuthType::RequestBody).set_client_secret(secret(s)),
        }
    }
}

/// A token answer of which only the members we use were read.
#[derive(Debug)]
pub(crate) struct TokenAnswer {
    access: AccessToken,
    refresh: Option<RefreshToken>,
    id: Option<Secret>,
    expires_in: Option<u64>,
    /// Why this is no token answer after all.
    fault: Option<&'static str>,
}

impl TokenAnswer {
    pub(crate) fn access(&self) -> Secret {
        Secret::new(self.access.secret().clone())
    }

    pub(crate) fn refresh(&self) -> Option<Secret> {
        self.refresh.as_ref().map(|token| Secret::new(token.secret().clone()))
    }

    pub(crate) fn id(&self) -> Option<&Secret> {
        self.id.as_ref()
    }

    /// Seconds, 0 to 10 years.
    pub(crate) fn seconds(&self) -> Option<u64> {
        self.expires_in
    }

    fn read(answer: &Map<String, Value>) -> Self {
        let text = |name: &str| answer.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let fault = match (answer.get("token_type"), answer.get("id_token")) {
            _ if text("access_token").is_none() => Some("answers without an access token"),
            // O-04: a type that we cannot present is no token of ours; a missing one is taken for Bearer, as some
            // providers leave it out.
            (Some(kind), _) if !kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) => {
                Some("answers with a token that is no Bearer token")
            }
            (_, Some(id)) if !id.is_string() && !id.is_null() => Some("answers with an ID token that is no string"),
            _ => None,
        };
        Self {
            access: AccessToken::new(text("access_token").unwrap_or_default().to_owned()),
            refresh: text("refresh_token").map(|token| RefreshToken::new(token.to_owned())),
            id: text("id_token").map(Secret::new),
            expires_in: answer.get("expires_in").and_then(seconds),
            fault,
        }
    }

    fn checked(self) -> Result<Self> {
        match self.fault {
            Some(fault) => Err(http::answer(ENDPOINT, fault)),
            None => Ok(self),
        }
    }
}

impl<'de> Deserialize<'de> for TokenAnswer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Map::deserialize(deserializer).map(|answer| Self::read(&answer))
    }
}

impl TokenResponse for TokenAnswer {
    type TokenType = BasicTokenType;

    fn access_token(&self) -> &AccessToken {
        &self.access
    }

    fn token_type(&self) -> &BasicTokenType {
        &BasicTokenType::Bearer
    }

    fn expires_in(&self) -> Option<Duration> {
        self.expires_in.map(Duration::from_secs)
    }

    fn refresh_token(&self) -> Option<&RefreshToken> {
        self.refresh.as_ref()
    }

    fn scopes(&self) -> Option<&Vec<Scope>> {
        None
    }
}

impl Serialize for TokenAnswer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The trait wants it; a token answer is never written anywhere.
        serializer.serialize_unit()
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

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let response = self.send(ENDPOINT, request.map(Full::from)).await?;
            if response.status() != StatusCode::OK {
                return Err(http::refusal(ENDPOINT, &response));
            }
            // SECURITY: the crate reads leniently: unknown members twice, bytes behind the object (L-29).
            http::object(ENDPOINT, &response)?;
            Ok(response.map(|body| body.to_vec()))
        })
    }
}

fn failed(e: RequestTokenError<Error, BasicErrorResponse>) -> Error {
    match e {
        RequestTokenError::Request(e) => e,
        // SECURITY: these carry text of the body, so they end here (O-11).
        RequestTokenError::ServerResponse(_) | RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
            http::answer(ENDPOINT, "answers something that is no token answer")
        }
    }
}
