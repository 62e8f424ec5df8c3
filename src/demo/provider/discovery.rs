//! The provider's addresses and the discovery document (OpenID Connect Discovery 1.0 §3, RFC 8414, RFC 9126 §5, RFC 9207 §3).

use serde_json::{Value, json};

use super::Options;
use super::keys::SigningAlg;

pub(super) const AUTHORIZE: &str = "/authorize";
pub(super) const DISCOVERY: &str = "/.well-known/openid-configuration";
pub(super) const END_SESSION: &str = "/end_session";
pub(super) const INTROSPECT: &str = "/introspect";
pub(super) const JWKS: &str = "/jwks";
pub(super) const PAR: &str = "/par";
pub(super) const REVOKE: &str = "/revoke";
pub(super) const SIGN_IN: &str = "/sign_in";
pub(super) const TOKEN: &str = "/token";
pub(super) const USERINFO: &str = "/userinfo";

pub(super) fn document(issuer: &str, options: &Options) -> Value {
    let at = |path: &str| format!("{issuer}{path}");
    let client_auth: &[&str] = match options.client_secret {
        Some(_) => &["client_secret_basic", "client_secret_post"],
        None => &["none"],
    };
    json!({
        "issuer": issuer,
        "authorization_endpoint": at(AUTHORIZE),
        "token_endpoint": at(TOKEN),
        "userinfo_endpoint": at(USERINFO),
        "jwks_uri": at(JWKS),
        "end_session_endpoint": at(END_SESSION),
        "introspection_endpoint": at(INTROSPECT),
        "revocation_endpoint": at(REVOKE),
        "pushed_authorization_request_endpoint": at(PAR),
        "scopes_supported": ["openid", "profile", "email", "groups", "offline_access"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported":
            ["authorization_code", "refresh_token", "client_credentials", "password", super::machine::EXCHANGE],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [SigningAlg::Rs256.as_str(), SigningAlg::Es256.as_str()],
        "token_endpoint_auth_methods_supported": client_auth,
        "introspection_endpoint_auth_methods_supported": client_auth,
        "revocation_endpoint_auth_methods_supported": client_auth,
        "code_challenge_methods_supported": ["S256"],
        "prompt_values_supported": ["none", "login", "select_account"],
        "claims_supported": [
            "iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "at_hash", "sid", "acr", "amr",
            "email", "email_verified", "name", "given_name", "family_name", "preferred_username", "groups",
        ],
        "authorization_response_iss_parameter_supported": true,
        "backchannel_logout_supported": true,
        "backchannel_logout_session_supported": true,
        "claims_parameter_supported": false,
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
    })
}
