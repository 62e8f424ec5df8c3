//! What machines use: the client credentials and password grants (RFC 6749 §4.4, §4.3), token exchange (RFC 8693), access
//! tokens that anybody can verify (RFC 9068), and introspection of those that nobody else can read (RFC 7662).

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::client::Refused;
use super::control::Fault;
use super::store::{Issued, SignIn, random_id};
use super::{Shared, client, token};
use crate::clock::unix_now;
use crate::demo::web::{self, Page, Params};
use crate::error::Result;

/// For whom access tokens are meant where nobody says.
pub(super) const AUDIENCE: &str = "demo-api";

pub(super) const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Seconds.
const ACCESS_TOKEN_TTL: u64 = 300;

/// An access token of RFC 9068 for `sub`, spoiled as `fault` says.
pub(super) fn access_token(
    shared: &Shared,
    sub: &str,
    scope: &str,
    aud: &str,
    fault: Option<&Fault>,
) -> Result<String> {
    let now = unix_now();
    let mut claims = Map::new();
    let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    put("iss", shared.issuer.as_str().into());
    put("sub", sub.into());
    put("aud", aud.into());
    put("client_id", shared.options.client_id.as_str().into());
    put("scope", scope.into());
    put("iat", now.into());
    put("exp", (now + ACCESS_TOKEN_TTL).into());
    put("jti", random_id().into());
    token::sign(shared, "at+jwt", claims, fault)
}

/// The client's own token. `resource` or `audience` says for whom.
pub(super) fn client_credentials(shared: &Shared, params: &Params, fault: Option<&Fault>) -> Page {
    let aud = params.one("resource").or_else(|| params.one("audience")).unwrap_or(AUDIENCE);
    let scope = params.one("scope").unwrap_or_default();
    let Ok(token) = access_token(shared, &shared.options.client_id, scope, aud, fault) else {
        return web::empty(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let answer = json!({
        "access_token": token, "token_type": "Bearer", "expires_in": ACCESS_TOKEN_TTL, "scope": scope,
    });
    web::json(StatusCode::OK, &answer)
}

/// A token for another audience, of a person's own (RFC 8693). It says whose it is; the subject has to be still good.
pub(super) fn exchange(shared: &Shared, params: &Params, fault: Option<&Fault>) -> Result<Page, Refused> {
    let refused = |why| Refused::new("invalid_request", why);
    if params.one("subject_token_type") != Some(ACCESS_TOKEN_TYPE) {
        return Err(refused("subject_token_type is missing or not supported"));
    }
    let subject = params.one("subject_token").ok_or_else(|| refused("subject_token is missing"))?;
    let granted = shared.store().granted(subject).map(|grant| grant.sign_in.user.clone());
    let user = granted.ok_or_else(|| refused("the subject_token is unknown, expired or revoked"))?;
    let aud = params.one("audience").or_else(|| params.one("resource")).unwrap_or(AUDIENCE);
    let scope = params.one("scope").unwrap_or_default();
    let Ok(token) = access_token(shared, &user, scope, aud, fault) else {
        return Ok(web::empty(StatusCode::INTERNAL_SERVER_ERROR));
    };
    let answer = json!({
        "access_token": token, "issued_token_type": ACCESS_TOKEN_TYPE, "token_type": "Bearer",
        "expires_in": ACCESS_TOKEN_TTL, "scope": scope,
    });
    Ok(web::json(StatusCode::OK, &answer))
}

/// What a sign-in of this user would have been granted, if that is the password.
pub(super) fn password(shared: &Shared, params: &Params) -> Option<Issued> {
    let user = params.one("username").and_then(|name| shared.options.user(name))?;
    let given = params.one("password").unwrap_or_default();
    verify_slices_are_equal(user.password.expose().as_bytes(), given.as_bytes()).ok()?;
    Some(grant(shared, &user.username, params.one("scope").unwrap_or_default()))
}

/// A grant without a sign-in page.
pub(super) fn grant(shared: &Shared, user: &str, scope: &str) -> Issued {
    let sign_in = SignIn { user: user.to_owned(), auth_time: unix_now(), acr: None, sid: random_id() };
    let scopes = scope.split_ascii_whitespace().map(str::to_owned).collect();
    shared.store().grant(sign_in, scopes, shared.options.access_token_ttl)
}

/// Of access tokens that mean nothing to anybody else.
pub(super) fn introspect(shared: &Shared, params: &Params, headers: &HeaderMap) -> Page {
    if let Err(refused) = client::authenticate(&shared.options, params, headers) {
        return refused.page();
    }
    let store = shared.store();
    let token = params.one("token").unwrap_or_default();
    let Some((grant, expires)) = store.granted(token).zip(store.expires(token)) else {
        return web::json(StatusCode::OK, &json!({ "active": false }));
    };
    let answer = json!({
        "active": true,
        "iss": shared.issuer,
        "sub": grant.sign_in.user,
        "username": grant.sign_in.user,
        "client_id": shared.options.client_id,
        "aud": AUDIENCE,
        "scope": grant.scopes.join(" "),
        "token_type": "Bearer",
        "exp": unix_now() + expires.saturating_duration_since(Instant::now()).as_secs(),
    });
    web::json(StatusCode::OK, &answer)
}
