//! Sign-out at the provider: where the browser goes (RP-Initiated Logout 1.0) and what becomes of the tokens (RFC 7009).

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Kind, Result};
use crate::provider::client_auth::Form;
use crate::provider::{Provider, http};
use crate::secret::Secret;

const ENDPOINT: &str = "revocation";

/// Before a revocation is tried again.
const PAUSES: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(180)];

/// Tokens that wait to be revoked while the provider is away; further ones are left to expire.
pub(super) const MAX_WAITING: usize = 1000;

impl Provider {
    /// Whether an ID token is of any use after the sign-in: as a hint at sign-out.
    pub fn has_end_session(&self) -> bool {
        self.metadata.load().as_ref().is_some_and(|metadata| metadata.end_session_endpoint.is_some())
    }

    /// None where the provider has no such endpoint, or was never reached.
    pub fn end_session_url(
        &self,
        id_token_hint: Option<&str>,
        post_logout_redirect_uri: &str,
        state: &str,
    ) -> Option<String> {
        let mut url = self.metadata.load().as_ref()?.end_session_endpoint.clone()?;
        let mut query = url.query_pairs_mut();
        if let Some(hint) = id_token_hint {
            query.append_pair("id_token_hint", hint);
        }
        query.append_pair("client_id", &self.settings.client_id);
        query.append_pair("post_logout_redirect_uri", post_logout_redirect_uri);
        query.append_pair("state", state);
        drop(query);
        Some(url.into())
    }

    /// Returns at once; the provider is told in the background (B-18). The session is over whatever it answers.
    pub fn revoke(self: &Arc<Self>, refresh: Option<Secret>, access: Option<Secret>) {
        let tokens = [("refresh_token", refresh), ("access_token", access)];
        let this = self.clone();
        self.control.spawn(async move {
            for (hint, token) in tokens {
                let Some(token) = token else { continue };
                if let Err(e) = this.revoke_patiently(hint, &token).await {
                    tracing::warn!(target: "doorward::provider", provider = %this.name(), token = hint, kind = e.kind().as_str(), error = %e, "a token could not be revoked");
                }
            }
        });
    }

    /// Again after a while, where the provider is away: the token is still good there (RFC 7009 §2.2.1, RV-01).
    async fn revoke_patiently(self: &Arc<Self>, hint: &str, token: &Secret) -> Result<()> {
        let mut outcome = self.revoke_one(hint, token).await;
        let mut place = None;
        for pause in PAUSES {
            if !outcome.as_ref().is_err_and(|e| e.kind() == Kind::ProviderUnavailable) {
                break;
            }
            place = place.or_else(|| self.revocations.try_acquire().ok());
            if place.is_none() {
                break;
            }
            tokio::time::sleep(pause).await;
            outcome = self.revoke_one(hint, token).await;
        }
        outcome
    }

    async fn revoke_one(self: &Arc<Self>, hint: &str, token: &Secret) -> Result<()> {
        let metadata = self.metadata().await?;
        let Some(endpoint) = &metadata.revocation_endpoint else { return Ok(()) };
        let form = Form::new(&[("token", token.expose()), ("token_type_hint", hint)]);
        let response = self.post(ENDPOINT, endpoint, &form, &metadata).await?;
        if response.status().is_success() { Ok(()) } else { Err(http::refusal(ENDPOINT, &response)) }
    }
}
