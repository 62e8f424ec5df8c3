//! The token endpoint (RFC 6749 §4.1.3, §6), the ID tokens it issues (OpenID Connect Core §2), and how a token is signed.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::client::{self, Refused};
use super::control::Fault;
use super::store::{Grant, Issued, Refusal};
use super::{Shared, claims, machine};
use crate::clock::unix_now;
use crate::demo::web::{self, Page, Params};
use crate::error::Result;

/// `fault` matters where it concerns the ID token.
pub(super) async fn token(shared: &Shared, params: &Params, headers: &HeaderMap, fault: Option<&Fault>) -> Page {
    let page = match client::authenticate(&shared.options, params, headers) {
        Ok(()) if params.one("grant_type") == Some("client_credentials") => {
            count(shared, params, true);
            machine::client_credentials(shared, params, fault)
        }
        Ok(()) if params.one("grant_type") == Some(machine::EXCHANGE) => {
            let outcome = machine::exchange(shared, params, fault);
            count(shared, params, outcome.is_ok());
            outcome.unwrap_or_else(|refused| refused.page())
        }
        authenticated => {
            let outcome = authenticated.and_then(|()| grant(shared, params));
            count(shared, params, outcome.is_ok());
            match outcome {
                Ok((issued, nonce)) => answer(shared, &issued, nonce, fault),
                Err(refused) => refused.page(),
            }
        }
    };
    let delay = shared.dials().token_delay;
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    page
}

/// The grant, and the `nonce` of its first ID token.
fn grant(shared: &Shared, params: &Params) -> Result<(Issued, Option<String>), Refused> {
    let access_ttl = shared.options.access_token_ttl;
    let missing = |why| Refused::new("invalid_request", why);
    match params.one("grant_type") {
        Some("authorization_code") => {
            let code = params.one("code").ok_or_else(|| missing("code is missing"))?;
            let verifier = params.one("code_verifier").ok_or_else(|| missing("code_verifier is missing"))?;
            let redirect_uri = params.one("redirect_uri").ok_or_else(|| missing("redirect_uri is missing"))?;
            let redeemed = shared.store().redeem(code, access_ttl, |request| {
                let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
                request.redirect_uri == redirect_uri && client::equal(&request.challenge, &challenge)
            });
            redeemed.map_err(|refusal| match refusal {
                Refusal::Reused => Refused::new("invalid_grant", "the code was used before; its grant is revoked"),
                Refusal::Unknown => {
                    Refused::new("invalid_grant", "the code is unknown, expired or not for this request")
                }
            })
        }
        Some("refresh_token") => {
            let token = params.one("refresh_token").ok_or_else(|| missing("refresh_token is missing"))?;
            let refreshed = shared.store().refresh(token, access_ttl, shared.options.rotate);
            refreshed.map(|issued| (issued, None)).map_err(|refusal| match refusal {
                Refusal::Reused => {
                    shared.stats().refresh_reuse += 1;
                    Refused::new("invalid_grant", "the refresh token was used before; its grant is revoked")
                }
                Refusal::Unknown => Refused::new("invalid_grant", "the refresh token is unknown or revoked"),
            })
        }
        Some("password") => match machine::password(shared, params) {
            Some(issued) => Ok((issued, None)),
            None => Err(Refused::new("invalid_grant", "user name or password is wrong")),
        },
        Some(_) => Err(Refused::new("unsupported_grant_type", "this grant_type is not supported")),
        None => Err(missing("grant_type is missing")),
    }
}

fn count(shared: &Shared, params: &Params, ok: bool) {
    let mut stats = shared.stats();
    match params.one("grant_type") {
        Some("authorization_code") => stats.code_grants.count(ok),
        Some("client_credentials") => stats.client_grants.count(ok),
        Some("password") => stats.password_grants.count(ok),
        Some(machine::EXCHANGE) => stats.exchanges.count(ok),
        Some("refresh_token") => stats.refresh_grants.count(ok),
        _ => {}
    }
}

fn answer(shared: &Shared, issued: &Issued, nonce: Option<String>, fault: Option<&Fault>) -> Page {
    let Ok(id_token) = id_token(shared, issued, nonce, fault) else {
        return web::empty(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let answer = json!({
        "access_token": issued.access_token,
        "token_type": "Bearer",
        "expires_in": shared.options.access_token_ttl.as_secs(),
        "refresh_token": issued.refresh_token,
        "id_token": id_token,
        "scope": issued.grant.scopes.join(" "),
    });
    web::json(StatusCode::OK, &answer)
}

fn id_token(shared: &Shared, issued: &Issued, nonce: Option<String>, fault: Option<&Fault>) -> Result<String> {
    sign(shared, "JWT", id_token_claims(shared, issued, nonce), fault)
}

/// Signs a token of the kind `typ`, spoiled as `fault` says.
pub(super) fn sign(
    shared: &Shared,
    typ: &str,
    mut claims: Map<String, Value>,
    fault: Option<&Fault>,
) -> Result<String> {
    let alg = shared.options.alg;
    let keys = shared.keys();
    let mut header = Map::new();
    header.insert("alg".to_owned(), alg.as_str().into());
    header.insert("typ".to_owned(), typ.into());
    header.insert("kid".to_owned(), keys.kid(alg)?.into());
    if let Some(Fault::TamperToken(change)) = fault {
        change(&mut header, &mut claims);
    }
    let secret = shared.options.client_secret.as_ref().map_or("", |secret| secret.expose());
    let token = keys.sign(&header, &claims, secret, alg)?;
    Ok(if matches!(fault, Some(Fault::BadSignature)) { spoil(&token) } else { token })
}

fn id_token_claims(shared: &Shared, issued: &Issued, nonce: Option<String>) -> Map<String, Value> {
    let Grant { sign_in, scopes } = &issued.grant;
    let now = unix_now();
    let mut claims = claims::of_user(&shared.options, sign_in, scopes);
    let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    put("iss", shared.issuer.as_str().into());
    put("aud", shared.options.client_id.as_str().into());
    put("iat", now.into());
    put("exp", (now + ID_TOKEN_TTL).into());
    put("auth_time", sign_in.auth_time.into());
    put("sid", sign_in.sid.as_str().into());
    put("acr", sign_in.acr.as_deref().unwrap_or(DEFAULT_ACR).into());
    // Whoever asked for an acr gets a second factor, as far as a demo has one.
    put("amr", if sign_in.acr.is_some() { json!(["pwd", "otp"]) } else { json!(["pwd"]) });
    put("at_hash", at_hash(&issued.access_token).into());
    if let Some(nonce) = nonce {
        put("nonce", nonce.into());
    }
    claims
}

/// OpenID Connect Core §3.1.3.6, for the algorithms with SHA-256.
fn at_hash(access_token: &str) -> String {
    let hash = digest(&SHA256, access_token.as_bytes());
    URL_SAFE_NO_PAD.encode(hash.as_ref().get(..16).unwrap_or_default())
}

/// The same token with another signature of the same length.
fn spoil(token: &str) -> String {
    let Some((message, signature)) = token.rsplit_once('.') else { return token.to_owned() };
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// Seconds.
const ID_TOKEN_TTL: u64 = 300;
const DEFAULT_ACR: &str = "urn:doorward:demo:password";
