//! What a request without a session gets: a navigation is sent to the provider, everything else is told 401. Only here
//! and at `start` a sign-in begins.

use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderMap};
use http::request::Parts;
use http::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::Gateway;
use super::exchange::Exchange;
use super::navigation::is_navigation;
use super::respond::Asker;
use super::rules::Rules;
use super::site::Site;
use super::www_authenticate;
use crate::config::settings::{Require, Unauthenticated};
use crate::error::{Error, Kind, Result};
use crate::http::cookie::Found;
use crate::http::reply::{self, Reply};
use crate::provider::{AuthorizationRequest, Provider, pkce_challenge};
use crate::session::login::{Login, Wanted};

/// A sign-in to be begun.
pub struct Start<'a> {
    pub provider: &'a Arc<Provider>,
    /// Checked by `returns::safe`, or made by `returns::own`.
    pub rd: &'a str,
    pub require: Option<&'a Require>,
}

/// The answer to a request that `rules` do not let pass without a sign-in.
pub async fn challenge(
    gateway: &Gateway,
    exchange: &mut Exchange,
    site: &Site,
    rules: &Rules,
    parts: &Parts,
    target: &str,
    step_up: bool,
) -> Result<Reply> {
    let redirects = match rules.settings.unauthenticated {
        Unauthenticated::Auto => is_navigation(&parts.method, &parts.headers),
        Unauthenticated::Redirect => {
            (parts.method == Method::GET || parts.method == Method::HEAD) && !parts.headers.contains_key(AUTHORIZATION)
        }
        Unauthenticated::Status401 => false,
    };
    let Some(provider) = rules.providers.first().filter(|_| redirects) else {
        let asker = Asker::new(gateway, exchange, &parts.method, &parts.headers);
        let login_url = login_url(gateway, site, target);
        return Ok(if step_up {
            asker.step_up(&rules.settings.require, &login_url)
        } else {
            asker.unauthorized(false, &login_url, www_authenticate::challenges(rules, site))
        });
    };
    let require = Some(&rules.settings.require).filter(|r| step_up || !r.acr.is_empty() || r.max_age.is_some());
    let start = Start { provider, rd: target, require };
    begin(gateway, exchange, site, &parts.method, &parts.headers, &start).await
}

/// 302 to the provider, with one more sign-in cookie; or the page that says why not.
pub async fn begin(
    gateway: &Gateway,
    exchange: &mut Exchange,
    site: &Site,
    method: &Method,
    headers: &HeaderMap,
    start: &Start<'_>,
) -> Result<Reply> {
    let sessions = &gateway.sessions;
    let host = site.origin.host();
    let found = Found::scan(headers, sessions.name());
    if sessions.jar(host).is_looping(&found) {
        tracing::warn!(
            request_id = exchange.id(),
            host,
            "three sign-ins within a minute and no session came back: is public_url what the browser shows, and does it keep cookies?"
        );
        return Ok(Asker::new(gateway, exchange, method, headers).looping());
    }
    if !sessions.state.limiter.admit(exchange.client, gateway.settings.server.limits.logins_per_minute) {
        return Err(Error::new(Kind::RateLimited, format!("too many sign-ins begun from {}", exchange.client)));
    }
    let no_acr = Vec::new();
    let (acr, max_age) = start.require.map_or((&no_acr, None), |r| (&r.acr, r.max_age.map(|d| d.as_secs())));
    let login = Login::new(&Wanted { rd: start.rd, provider: start.provider.name(), max_age, acr });
    let redirect_uri = gateway.redirect_uri(site);
    let challenge = pkce_challenge(&login.verifier);
    let request = AuthorizationRequest {
        redirect_uri: &redirect_uri,
        state: &login.state,
        nonce: &login.nonce,
        code_challenge: &challenge,
        acr_values: acr,
        max_age,
    };
    let url = start.provider.authorization_url(&request).await?;
    let cookies = login.cookies(&sessions.jar(host), &found);
    exchange.cookies.extend(cookies.ok_or_else(|| Error::new(Kind::Internal, "the sign-in could not be sealed"))?);
    Ok(reply::redirect(StatusCode::FOUND, &url))
}

/// Where a program's person can sign in, to come back to `target`.
pub fn login_url(gateway: &Gateway, site: &Site, target: &str) -> String {
    let rd = utf8_percent_encode(target, NON_ALPHANUMERIC);
    format!("{}{}/start?rd={rd}", site.origin, gateway.settings.server.prefix)
}
