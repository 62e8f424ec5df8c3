//! What a request without a session gets: a navigation is sent to the provider, or to choose one, or to the host where
//! people sign in; everything else is told 401. Only here, at `start` and at `hand_over` a sign-in begins.

use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderMap};
use http::request::Parts;
use http::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::Gateway;
use super::choice::Choice;
use super::exchange::{Asked, Exchange};
use super::navigation::is_navigation;
use super::respond::Asker;
use super::rules::Rules;
use super::site::Site;
use super::www_authenticate;
use crate::config::settings::{Require, ResponseMode, Unauthenticated};
use crate::error::{Error, Kind, Result};
use crate::http::cookie::Found;
use crate::http::reply::{self, Reply};
use crate::provider::{AuthorizationRequest, Provider, pkce_challenge};
use crate::session::hand_over::Request;
use crate::session::login::{Login, Wanted};
use crate::session::lookup::Lookup;

/// Who asks, and where.
#[derive(Clone, Copy)]
pub struct Visit<'a> {
    pub site: &'a Site,
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
}

/// A sign-in to be begun.
pub struct Start<'a> {
    /// Of the route that `rd` leads to.
    pub rules: Option<&'a Rules>,
    /// The provider that the person chose.
    pub named: Option<&'a str>,
    /// Checked by `returns::safe`, or made by us.
    pub rd: &'a str,
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
        _ if exchange.asked == Some(Asked::ForDecision) => false,
        Unauthenticated::Auto => is_navigation(&parts.method, &parts.headers),
        Unauthenticated::Redirect => {
            (parts.method == Method::GET || parts.method == Method::HEAD) && !parts.headers.contains_key(AUTHORIZATION)
        }
        Unauthenticated::Status401 => false,
    };
    if !redirects || rules.providers.is_empty() {
        let asker = Asker::new(gateway, exchange, &parts.method, &parts.headers);
        let login_url = login_url(gateway, site, target);
        return Ok(if step_up {
            asker.step_up(&rules.settings.require, &login_url)
        } else {
            asker.unauthorized(false, &login_url, www_authenticate::challenges(rules, site))
        });
    }
    let visit = Visit { site, method: &parts.method, headers: &parts.headers };
    begin(gateway, exchange, visit, &Start { rules: Some(rules), named: None, rd: target }).await
}

/// To the host where people sign in, to the page where they choose, or to the provider.
pub async fn begin(gateway: &Gateway, exchange: &mut Exchange, visit: Visit<'_>, start: &Start<'_>) -> Result<Reply> {
    if gateway.is_handed_over(visit.site) {
        return ask_for_hand_over(gateway, exchange, visit, start);
    }
    match gateway.choose(start.rules, start.named, exchange.session.as_deref())? {
        Choice::One(provider) => {
            let require = start.rules.map(|rules| &rules.settings.require);
            sign_in_at(gateway, exchange, visit, provider, start.rd, require).await
        }
        Choice::Several => Ok(reply::redirect(StatusCode::FOUND, &sign_in_url(gateway, start.rd))),
    }
}

/// 302 to the provider, with one more sign-in cookie; or the page that says why not.
pub async fn sign_in_at(
    gateway: &Gateway,
    exchange: &mut Exchange,
    visit: Visit<'_>,
    provider: &Arc<Provider>,
    rd: &str,
    require: Option<&Require>,
) -> Result<Reply> {
    let sessions = &gateway.sessions;
    let host = visit.site.origin.host();
    let found = Found::scan(visit.headers, sessions.name());
    if let Some(page) = held_up(gateway, exchange, visit, &found)? {
        return Ok(page);
    }
    let form_post = provider.settings().response_mode == ResponseMode::FormPost;
    // SECURITY: S-19. With another site's form no session cookie comes along, with its redirect no SameSite=Strict one: what
    // the new session takes the place of has to be known before.
    let replaces = match form_post || sessions.is_strict() {
        true => match sessions.find(&found, host, exchange.now_ms).await? {
            Lookup::Live(live) => Some(live.session.key),
            Lookup::Absent | Lookup::Refused => None,
        },
        false => None,
    };
    let no_acr = Vec::new();
    let (acr, max_age) = require.map_or((&no_acr, None), |r| (&r.acr, r.max_age.map(|d| d.as_secs())));
    let login = Login::new(&Wanted {
        rd,
        provider: provider.name(),
        issuer: provider.issuer(),
        hand_over: false,
        form_post,
        replaces,
        max_age,
        acr,
    });
    let redirect_uri = gateway.redirect_uri(visit.site, provider);
    let challenge = pkce_challenge(&login.verifier);
    let request = AuthorizationRequest {
        redirect_uri: &redirect_uri,
        state: &login.state,
        nonce: &login.nonce,
        code_challenge: &challenge,
        acr_values: acr,
        max_age,
    };
    let url = provider.authorization_url(&request).await?;
    remember(gateway, exchange, &login, host, &found)?;
    Ok(reply::redirect(StatusCode::FOUND, &url))
}

/// 302 to the host where people sign in, with a sign-in cookie of this one: it will hand its session over.
fn ask_for_hand_over(gateway: &Gateway, exchange: &mut Exchange, visit: Visit<'_>, start: &Start<'_>) -> Result<Reply> {
    let host = visit.site.origin.host();
    let found = Found::scan(visit.headers, gateway.sessions.name());
    if let Some(page) = held_up(gateway, exchange, visit, &found)? {
        return Ok(page);
    }
    let login = Login::new(&Wanted::hand_over(start.rd));
    let mut request = Request::new(host, start.rules.map(Rules::name), start.named, &login);
    // It would come back as it is, again and again.
    request.unwanted = exchange.session.as_ref().map(|session| session.key);
    let public = &gateway.settings.server.public_url;
    let sealed = gateway.sessions.seal_request(&request, public.host()).ok_or_else(unsealed)?;
    remember(gateway, exchange, &login, host, &found)?;
    Ok(reply::redirect(StatusCode::FOUND, &format!("{public}{}", hand_over_path(gateway, &sealed))))
}

/// Where a sealed request for a hand-over is answered.
pub fn hand_over_path(gateway: &Gateway, sealed: &str) -> String {
    format!("{}/hand_over?request={sealed}", gateway.settings.server.prefix)
}

/// A browser that goes round in circles gets a page; one client address begins so many sign-ins a minute.
fn held_up(gateway: &Gateway, exchange: &Exchange, visit: Visit<'_>, found: &Found<'_>) -> Result<Option<Reply>> {
    let sessions = &gateway.sessions;
    let host = visit.site.origin.host();
    if sessions.jar(host).is_looping(found) {
        tracing::warn!(
            request_id = exchange.id(),
            host,
            "several sign-ins within a minute and no session that this page takes: is public_url what the browser shows, does it keep cookies, and do pages lead to each other that want different providers?"
        );
        return Ok(Some(Asker::new(gateway, exchange, visit.method, visit.headers).looping()));
    }
    if !sessions.state.limiter.admit(exchange.client, gateway.settings.server.limits.logins_per_minute) {
        return Err(Error::new(Kind::RateLimited, format!("too many sign-ins begun from {}", exchange.client)));
    }
    Ok(None)
}

/// The sign-in's cookie.
fn remember(gateway: &Gateway, exchange: &mut Exchange, login: &Login, host: &str, found: &Found<'_>) -> Result<()> {
    let cookies = login.cookies(&gateway.sessions.jar(host), found);
    exchange.cookies.extend(cookies.ok_or_else(unsealed)?);
    Ok(())
}

fn unsealed() -> Error {
    Error::new(Kind::Internal, "the sign-in could not be sealed")
}

/// The page where a person chooses a provider, to come back to `target`.
fn sign_in_url(gateway: &Gateway, target: &str) -> String {
    format!("{}/sign_in?rd={}", gateway.settings.server.prefix, utf8_percent_encode(target, NON_ALPHANUMERIC))
}

/// Where a program's person can sign in, to come back to `target`.
pub fn login_url(gateway: &Gateway, site: &Site, target: &str) -> String {
    let rd = utf8_percent_encode(target, NON_ALPHANUMERIC);
    format!("{}{}/start?rd={rd}", site.origin, gateway.settings.server.prefix)
}
