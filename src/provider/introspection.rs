//! What a token says that only the provider can read (RFC 7662). What the answer is worth is for `machine` to judge.

use std::sync::Arc;

use ::http::StatusCode;
use serde_json::{Map, Value};

use crate::error::Result;
use crate::provider::{Provider, http};
use crate::secret::Secret;

const ENDPOINT: &str = "introspection";

impl Provider {
    /// The whole answer, as it came.
    ///
    /// # Errors
    /// `ProviderRefused`, `ProviderUnavailable`, `ProviderAnswer`: none says anything about the token.
    pub async fn introspect(self: &Arc<Self>, token: &Secret) -> Result<Map<String, Value>> {
        let metadata = self.metadata().await?;
        let url = metadata.introspection_endpoint.as_ref();
        let url = url.ok_or_else(|| http::answer(ENDPOINT, "is not in the discovery document"))?;
        // SECURITY: IN-01: in the body, by a client that says who it is.
        let form = [("token", token.expose()), ("token_type_hint", "access_token")];
        let response = self.post_authenticated(ENDPOINT, url, &form).await?;
        if response.status() != StatusCode::OK {
            return Err(http::refusal(ENDPOINT, &response));
        }
        http::object(ENDPOINT, &response)
    }
}
