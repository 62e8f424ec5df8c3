//! The password grant (RFC 6749 §4.3), which RFC 9700 §2.4 forbids to everybody who can do without: for old programs that
//! know nothing but HTTP Basic.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};
use crate::provider::redeem::Expectation;
use crate::provider::{Provider, userinfo};
use crate::secret::Secret;

/// Whoever has that name and password.
#[derive(Debug)]
pub struct PasswordGrant {
    pub access: Secret,
    /// Of the ID token, completed by userinfo; None where the provider sends none, and only the access token can say.
    pub claims: Option<Map<String, Value>>,
}

impl Provider {
    /// `denying`: as in `Redeem`.
    ///
    /// # Errors
    /// `Token` where the provider does not let this person in so. Everything else says nothing about the password.
    pub async fn password(
        self: &Arc<Self>,
        user: &str,
        password: &Secret,
        denying: &[String],
    ) -> Result<PasswordGrant> {
        let scope = self.settings().scopes.join(" ");
        let form = [
            ("grant_type", "password"),
            ("username", user),
            ("password", password.expose()),
            ("scope", scope.as_str()),
        ];
        let answer = self.call_token(&form).await.map_err(said_no)?;
        let Some(id) = &answer.id else { return Ok(PasswordGrant { access: answer.access, claims: None }) };
        let metadata = self.metadata().await?;
        let expect = Expectation { nonce: None, access_token: Some(&answer.access), max_age: None, acr: &[] };
        let mut claims = self.check_id_token(&metadata, id.expose(), &expect).await?;
        if let Err(e) = userinfo::complete(self, &metadata, &answer.access, &mut claims).await {
            userinfo::spare(self, &claims, denying, e)?;
        }
        Ok(PasswordGrant { access: answer.access, claims: Some(claims) })
    }
}

/// What is wrong with us or with the provider (RFC 6749 §5.2, §4.1.2.1) says nothing about the person; every other code does: `invalid_grant`, and what
/// providers say where a second factor would be needed.
fn said_no(error: Error) -> Error {
    const OURS: [&str; 7] = [
        "invalid_client",
        "invalid_request",
        "invalid_scope",
        "server_error",
        "temporarily_unavailable",
        "unauthorized_client",
        "unsupported_grant_type",
    ];
    match error.oauth_code() {
        Some(code) if !OURS.contains(&code) => Error::new(Kind::Token, format!("the provider says {code}")),
        _ => error,
    }
}
