//! The end of a sign-in: code → tokens → checked ID token → userinfo. The order is the point: until the ID token has
//! passed, the access token is used for nothing (B-04).

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::clock;
use crate::config::settings::ProviderKind;
use crate::error::{Error, Kind, Result};
use crate::provider::client_auth::Form;
use crate::provider::discovery::Metadata;
use crate::provider::id_token::{self, Expect};
use crate::provider::{Provider, http, userinfo};
use crate::secret::Secret;

/// What a callback brings, and what the login transaction remembered.
#[derive(Debug)]
pub struct Redeem {
    /// As good as a token until it is spent (O-11).
    pub code: Secret,
    pub verifier: Secret,
    /// The same as in the authorization request, byte for byte.
    pub redirect_uri: String,
    pub nonce: String,
    /// What was asked for, in seconds, and must hold now.
    pub max_age: Option<u64>,
    pub acr: Vec<String>,
    /// Claims by which somebody may be kept out. Where one is missing and userinfo cannot be asked for it, nobody is signed
    /// in.
    pub denying: Vec<String>,
}

/// What a callback of the implicit flow brings, and what the login transaction remembered.
#[derive(Debug)]
pub struct Accept {
    pub id_token: Secret,
    pub nonce: String,
    pub max_age: Option<u64>,
    pub acr: Vec<String>,
}

/// A sign-in that passed every check.
#[derive(Debug)]
pub struct Grant {
    /// The ID token's claims, and userinfo's where the former lacks them.
    pub claims: Map<String, Value>,
    pub tokens: Tokens,
}

/// Of a sign-in or a refresh.
#[derive(Debug)]
pub struct Tokens {
    pub access: Secret,
    /// At a refresh, the old one where the provider does not rotate (O-06).
    pub refresh: Option<Secret>,
    /// Always there after a sign-in; at a refresh the provider may leave it out.
    pub id: Option<Secret>,
    /// Of the access token, in seconds from now, 0 to 10 years; None where the provider does not say.
    pub expires_in: Option<u64>,
}

impl Provider {
    /// # Errors
    /// `ProviderRefused` with the provider's `error` code, `IdToken`, `KeysUnavailable`, `ProviderUnavailable`,
    /// `ProviderAnswer`.
    pub async fn redeem(self: &Arc<Self>, redeem: Redeem) -> Result<Grant> {
        let this = self.clone();
        self.on_control(async move { this.redeem_here(redeem).await }).await
    }

    /// The claims of an ID token that came by the browser itself: the implicit flow (OpenID Connect Core §3.2).
    ///
    /// # Errors
    /// As `redeem`; the token endpoint is not asked.
    pub async fn accept(self: &Arc<Self>, accept: Accept) -> Result<Map<String, Value>> {
        let this = self.clone();
        self.on_control(async move {
            let metadata = this.metadata().await?;
            let expect = Expectation {
                nonce: Some(&accept.nonce),
                access_token: None,
                max_age: accept.max_age,
                acr: &accept.acr,
            };
            this.check_id_token(&metadata, accept.id_token.expose(), &expect).await
        })
        .await
    }

    async fn redeem_here(self: &Arc<Self>, redeem: Redeem) -> Result<Grant> {
        let metadata = self.metadata().await?;
        let form = Form::new(&[
            ("grant_type", "authorization_code"),
            ("code", redeem.code.expose()),
            ("redirect_uri", &redeem.redirect_uri),
            ("code_verifier", redeem.verifier.expose()),
        ]);
        let answer = self.token(&metadata, &form).await?;
        let access = answer.access;
        if let ProviderKind::OAuth2(endpoints) = &self.settings.kind {
            let claims = self.person(endpoints, &access).await?;
            let tokens = Tokens { access, refresh: answer.refresh, id: None, expires_in: answer.expires_in };
            return Ok(Grant { claims, tokens });
        }
        let id = answer.id.ok_or_else(|| http::answer("token", "answers without an ID token"))?;

        let expect = Expectation {
            nonce: Some(&redeem.nonce),
            access_token: Some(&access),
            max_age: redeem.max_age,
            acr: &redeem.acr,
        };
        let mut claims = self.check_id_token(&metadata, id.expose(), &expect).await?;
        if let Err(e) = userinfo::complete(self, &metadata, &access, &mut claims).await {
            userinfo::spare(self, &claims, &redeem.denying, e).inspect_err(|_| {
                // Nobody will use them.
                self.revoke(answer.refresh.clone(), Some(access.clone()));
            })?;
        }
        let tokens = Tokens { access, refresh: answer.refresh, id: Some(id), expires_in: answer.expires_in };
        Ok(Grant { claims, tokens })
    }

    pub(super) async fn check_id_token(
        &self,
        metadata: &Metadata,
        token: &str,
        expectation: &Expectation<'_>,
    ) -> Result<Map<String, Value>> {
        let algs = self.allowed_algs(metadata);
        let expect = Expect {
            issuer: &self.settings.issuer,
            client_id: &self.settings.client_id,
            nonce: expectation.nonce,
            access_token: expectation.access_token.map(Secret::expose),
            algs: &algs,
            hmac: self.settings.client_secret.as_ref(),
            skew: self.settings.clock_skew.as_secs(),
            now: clock::unix_now(),
            max_age: expectation.max_age,
            acr: expectation.acr,
        };
        let checked = self.with_keys(metadata, |keys| id_token::validate(token, keys, &expect)).await?;
        checked.map_err(|fault| Error::new(Kind::IdToken, format!("the ID token is refused: {fault}")))
    }
}

/// The part of `Expect` that differs from one use to the next.
pub(super) struct Expectation<'a> {
    pub(super) nonce: Option<&'a str>,
    /// None in the implicit flow, where there is none.
    pub(super) access_token: Option<&'a Secret>,
    pub(super) max_age: Option<u64>,
    pub(super) acr: &'a [String],
}
