//! Machines: who a token in `Authorization` speaks for. `credentials` reads the field, `token` checks a signed token,
//! `introspection` what a provider says of an opaque one, `binding` whose it must be; `principal` makes a `Machine` of its
//! claims, `judge` and `lookup` remember what was found out and bound what strangers can cost.
//!
//! Nothing here decides what a machine may do, and no token is ever logged, or remembered under anything but its hash.

mod binding;
pub mod credentials;
mod introspection;
pub mod judge;
mod lookup;
pub mod principal;
mod token;

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
    /// The same for `X-Doorward-Client`.
    pub client_header: Option<HeaderValue>,
    pub scopes: Vec<String>,
    /// For whom the token is meant: looked at anew for each route.
    pub audience: Vec<String>,
    /// The thumbprint of the certificate that the token is bound to.
    pub certificate: Option<Box<str>>,
    /// Unix milliseconds; the tolerance for clocks is in it.
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
