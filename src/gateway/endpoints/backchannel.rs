//! `backchannel-logout`: the provider ends sessions (OpenID Connect Back-Channel Logout 1.0). Nobody has signed in to come
//! here: the token says whose sessions are over, and its signature that the provider says so. The answer says whether the
//! token was taken, never whether anybody was signed in (BL-06).

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};
use hyper::body::Incoming;
use serde_json::json;

use super::{Call, form, is_form};
use crate::audit;
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::gateway::Gateway;
use crate::http::parameter::only;
use crate::http::reply::{self, Reply};
use crate::provider::{LogoutToken, Provider, peek_issuer};
use crate::session::ending::Whose;
use crate::telemetry::Safe;

/// Logouts that one client address may send in vain in a minute. Those that a provider really sent are not counted: when
/// it ends thousands of sessions at once, all of them are to end here.
const PER_MINUTE: u32 = 600;

pub async fn backchannel(call: &Call<'_>, body: Incoming) -> Reply {
    if !is_admitted(call) {
        return too_many();
    }
    match log_out(call, body).await {
        Ok(()) => {
            call.gateway.sessions.state.logout_limiter.forgive(call.exchange.client, PER_MINUTE);
            reply::empty(StatusCode::OK)
        }
        // BL-05. §2.8 knows 400 for whatever is wrong with the request.
        Err(error) if matches!(error.kind(), Kind::BadRequest | Kind::BodyTimeout | Kind::BodyTooLarge) => {
            tracing::debug!(request_id = call.exchange.id(), error = %Safe(&error.to_string()), "logout token refused");
            let body = json!({ "error": "invalid_request", "error_description": error.detail() });
            reply::json(StatusCode::BAD_REQUEST, &body)
        }
        // BL-05. What could not be done now is never 200: the provider is to try again.
        Err(error) => call.asker().failed(&error),
    }
}

/// SECURITY: BL-06. One limit for both ways in which a provider, or whoever says to be one, ends sessions.
pub fn is_admitted(call: &Call<'_>) -> bool {
    call.gateway.sessions.state.logout_limiter.admit(call.exchange.client, PER_MINUTE)
}

pub fn too_many() -> Reply {
    let reply = reply::json(StatusCode::TOO_MANY_REQUESTS, &json!({ "error": "rate_limited" }));
    reply::with(reply, RETRY_AFTER, HeaderValue::from_static("5"))
}

async fn log_out(call: &Call<'_>, body: Incoming) -> Result<()> {
    let gateway = call.gateway;
    if !is_form(&call.parts.headers) {
        return Err(bad("the content type is not application/x-www-form-urlencoded"));
    }
    let form = form(body, &gateway.settings.server.limits).await?;
    // BL-01. Exactly one; parameters that we do not know are ignored (§2.5).
    let token = only(&form, "logout_token").ok_or_else(|| bad("logout_token is missing, empty or came twice"))?;
    let (provider, token) = check(gateway, &token).await?;

    // SECURITY: BL-02 (8). Asked, ended, marked, in this order. Were the token marked before its sessions end, a store
    // that goes away in between would make a replay of the provider's second try, and the sessions would live on. Were
    // it not asked for before, a replay would end what has begun since: an end takes everything up to now. Two that come
    // at the same moment may both end the same sessions, which harms nobody.
    let sessions = &gateway.sessions;
    let issuer = provider.issuer();
    let name = [issuer, "\0", &token.jti].concat();
    if sessions.came_before(MARK, &name).await? {
        return Err(bad("the logout token came before"));
    }
    let whose = match (&token.sub, &token.sid) {
        (Some(sub), Some(sid)) => Whose::SubjectSid { issuer, sub, sid },
        (None, Some(sid)) => Whose::Sid { issuer, sid },
        (Some(sub), None) => Whose::Subject { issuer, sub },
        (None, None) => return Err(bad("the logout token names nobody")),
    };
    // A token that comes late, with the provider's next try, is not meant for who has signed in again since.
    let skew_ms = u64::try_from(provider.settings().clock_skew.as_millis()).unwrap_or(u64::MAX);
    let at_ms = clock::unix_now_ms().min(token.iat_ms.saturating_add(1_000).saturating_add(skew_ms));
    let ended = sessions.end_all_begun(whose, true, at_ms).await?;
    let left = Duration::from_millis(token.until_ms.saturating_sub(clock::unix_now_ms()));
    if !sessions.first(MARK, &name, left).await? {
        return Err(bad("the logout token came before"));
    }
    audit!(
        event = "backchannel_logout",
        provider = provider.name(),
        ended,
        client = %call.exchange.client,
        request_id = call.exchange.id(),
    );
    Ok(())
}

/// What `jti`s are remembered under.
const MARK: &str = "logout_token";

/// The provider whose token it is. Several sections may share an issuer, each with a client of its own: the token is for
/// one of them.
async fn check<'a>(gateway: &'a Gateway, token: &str) -> Result<(&'a Arc<Provider>, LogoutToken)> {
    let issuer = peek_issuer(token).ok_or_else(|| bad("the logout token is no signed token with an issuer"))?;
    let mut failure = bad("the logout token is from no provider of this gateway");
    for provider in gateway.providers.iter().filter(|p| p.settings().is_openid() && p.issuer() == issuer) {
        match provider.check_logout_token(token).await {
            Ok(checked) => return Ok((provider, checked)),
            // One that cannot say now weighs more than one that says no: it may be its own.
            Err(error) if failure.kind() == Kind::BadRequest => failure = error,
            Err(_) => {}
        }
    }
    Err(failure)
}

fn bad(what: &'static str) -> Error {
    Error::new(Kind::BadRequest, what)
}
