//! A new access token for an old refresh token (RFC 6749 §6, OpenID Connect Core §12).

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::config::settings::ProviderKind;
use crate::error::{Error, Kind, Result};
use crate::provider::client_auth::Form;
use crate::provider::redeem::{Expectation, Tokens};
use crate::provider::{Provider, userinfo};
use crate::secret::Secret;

#[derive(Debug)]
pub struct Refreshed {
    pub tokens: Tokens,
    /// The claims as they are now; None where the answer had no ID token, or userinfo could not complete them: then those
    /// of before still stand.
    pub claims: Option<Map<String, Value>>,
}

impl Provider {
    /// `sub` is that of the session: the answer must be for the same person (C-19).
    ///
    /// # Errors
    /// `ProviderRefused` with the `error` code: `invalid_grant` means that the session is over (O-07). `IdToken` where the
    /// answer is for someone else, or fails any other check. `ProviderUnavailable` and `KeysUnavailable` say nothing about
    /// the session.
    pub async fn refresh(self: &Arc<Self>, refresh_token: Secret, sub: impl Into<String>) -> Result<Refreshed> {
        let (this, sub) = (self.clone(), sub.into());
        self.on_control(async move { this.refresh_here(refresh_token, &sub).await }).await
    }

    async fn refresh_here(self: &Arc<Self>, refresh_token: Secret, sub: &str) -> Result<Refreshed> {
        let metadata = self.metadata().await?;
        let form = Form::new(&[("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose())]);
        let answer = self.token(&metadata, &form).await?;
        let access = answer.access;

        let mut claims = None;
        if let ProviderKind::OAuth2(endpoints) = &self.settings.kind {
            claims = self.person_again(endpoints, &access, sub).await?;
        } else if let Some(id) = &answer.id {
            let expect = Expectation { nonce: None, access_token: Some(&access), max_age: None, acr: &[] };
            let mut fresh = self.check_id_token(&metadata, id.expose(), &expect).await?;
            if fresh.get("sub").and_then(Value::as_str) != Some(sub) {
                return Err(Error::new(Kind::IdToken, "the refreshed ID token is for someone else"));
            }
            match userinfo::complete(self, &metadata, &access, &mut fresh).await {
                Ok(()) => claims = Some(fresh),
                Err(e) => {
                    tracing::warn!(target: "doorward::provider", provider = %self.name(), kind = e.kind().as_str(), error = %e, "userinfo is not used; the session keeps its claims");
                }
            }
        }
        let tokens = Tokens {
            refresh: answer.refresh.or(Some(refresh_token)),
            id: answer.id.filter(|_| self.settings.is_openid()),
            expires_in: answer.expires_in,
            access,
        };
        Ok(Refreshed { tokens, claims })
    }
}
