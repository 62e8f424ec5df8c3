//! Requests that say who sends them: forms by the client, and, with DPoP, proofs of its key. Every request of this room
//! that carries a secret or a token of ours goes through here.

use std::sync::Arc;

use ::http::{HeaderValue, Request, Response, header};
use bytes::Bytes;
use http_body_util::Full;
use url::Url;

use crate::error::Result;
use crate::provider::client_auth::Form;
use crate::provider::discovery::Metadata;
use crate::provider::token::TokenAnswer;
use crate::provider::{Provider, http};
use crate::secret::Secret;

impl Provider {
    /// A grant of any kind at the token endpoint: client credentials, token exchange, password. With DPoP the token is
    /// bound to our key.
    ///
    /// # Errors
    /// `ProviderRefused` with the provider's `error` code, `ProviderUnavailable`, `ProviderAnswer`.
    pub async fn call_token(self: &Arc<Self>, form: &[(&str, &str)]) -> Result<TokenAnswer> {
        let (this, form) = (self.clone(), Form::new(form));
        self.on_control(async move {
            let metadata = this.metadata().await?;
            this.token(&metadata, &form).await
        })
        .await
    }

    /// A form to another endpoint that wants to know the client (RFC 7009, RFC 7662). `endpoint` is the metric label and
    /// the word for errors; the answer has a 2xx or 4xx status.
    ///
    /// # Errors
    /// `ProviderUnavailable`, `ProviderAnswer`.
    pub async fn post_authenticated(
        self: &Arc<Self>,
        endpoint: &'static str,
        url: &Url,
        form: &[(&str, &str)],
    ) -> Result<Response<Bytes>> {
        let (this, url, form) = (self.clone(), url.clone(), Form::new(form));
        self.on_control(async move {
            let metadata = this.metadata().await?;
            this.post(endpoint, &url, &form, &metadata).await
        })
        .await
    }

    pub(super) async fn post(
        &self,
        endpoint: &'static str,
        url: &Url,
        form: &Form,
        metadata: &Metadata,
    ) -> Result<Response<Bytes>> {
        self.http.send(endpoint, self.client.post(endpoint, url, form, metadata)?).await
    }

    /// Sends what `make` makes, with the person's access token (RFC 6750 §2.1, RFC 9449 §7.1).
    pub(super) async fn get_as(
        &self,
        endpoint: &'static str,
        access: &Secret,
        make: impl Fn() -> Result<Request<Full<Bytes>>>,
    ) -> Result<Response<Bytes>> {
        let scheme = if self.dpop.is_some() { "DPoP" } else { "Bearer" };
        let mut credentials = HeaderValue::try_from(format!("{scheme} {}", access.expose()))
            .map_err(|_| http::answer(endpoint, "cannot be asked: the access token is no header value"))?;
        credentials.set_sensitive(true);
        let make = || {
            let mut request = make()?;
            request.headers_mut().insert(header::AUTHORIZATION, credentials.clone());
            Ok(request)
        };
        self.send_proved(endpoint, Some(access), make).await
    }

    /// Sends what `make` makes, with a DPoP proof where there is a key; once more, made anew, where the server wants its
    /// nonce in the proof (DP-02).
    pub(super) async fn send_proved(
        &self,
        endpoint: &'static str,
        access: Option<&Secret>,
        make: impl Fn() -> Result<Request<Full<Bytes>>>,
    ) -> Result<Response<Bytes>> {
        let mut request = make()?;
        let Some(dpop) = &self.dpop else { return self.http.send(endpoint, request).await };
        dpop.prove(&mut request, access)?;
        let uri = request.uri().clone();
        let response = self.http.send(endpoint, request).await?;
        if !dpop.learn(&uri, &response) {
            return Ok(response);
        }
        let mut request = make()?;
        dpop.prove(&mut request, access)?;
        let response = self.http.send(endpoint, request).await?;
        dpop.learn(&uri, &response);
        Ok(response)
    }
}
