//! Machines: who a token in `Authorization` speaks for. Nothing here decides what they may do, and no token is ever kept
//! or logged as text.

use http::header::HeaderValue;

use crate::config::settings::IdentityValue;
use crate::secret::Secret;
use crate::session::headers::Headers;
use crate::session::identity::Identity;

/// Whoever a token that passed every check speaks for: a service, or a person that one acts for.
#[derive(Debug)]
pub struct Machine {
    /// The name of the section that vouches.
    pub section: String,
    /// `[provider.NAME]`, not `[issuer.NAME]`.
    pub is_provider: bool,
    /// Its `iss`.
    pub issuer: String,
    /// Of a service `user` is empty.
    pub identity: Identity,
    /// `client_id`, or what the issuer calls it.
    pub client: Option<String>,
    pub scopes: Vec<String>,
    /// For whom the token is meant: looked at anew for each route.
    pub audience: Vec<String>,
    /// Unix milliseconds.
    pub expires_ms: u64,
    pub token: Secret,
    pub headers: Headers,
}

impl Machine {
    /// SECURITY: B-20. A service's own token, whose subject is its client: never somebody of that name.
    pub fn is_service(&self) -> bool {
        self.identity.user.is_empty()
    }

    /// The fields of one identity header; empty = there is no such claim.
    pub fn header(&self, value: &IdentityValue) -> &[HeaderValue] {
        match value {
            IdentityValue::AccessToken => {
                let token = self.headers.presented.access(Some(&self.token));
                token.map(std::slice::from_ref).unwrap_or_default()
            }
            other => self.headers.get(other),
        }
    }

    /// For logs: the user, or the client.
    pub fn name(&self) -> &str {
        if self.is_service() { self.client.as_deref().unwrap_or(&self.identity.sub) } else { &self.identity.user }
    }
}
