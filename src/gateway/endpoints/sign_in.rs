//! `start` and `sign_in`: where a sign-in begins on purpose.

use std::sync::Arc;

use http::StatusCode;
use http::header::HeaderName;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::Call;
use crate::error::{Error, Kind, Result};
use crate::gateway::challenge::{Start, begin, login_url};
use crate::gateway::pages::{Action, Page};
use crate::gateway::returns;
use crate::gateway::www_authenticate::plain;
use crate::http::reply::Reply;
use crate::provider::Provider;
use crate::route::Selection;

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// `GET start?rd=`: to the provider, and afterwards to `rd`.
pub async fn start(call: &mut Call<'_>) -> Result<Reply> {
    let rd = call.parameter("rd").unwrap_or_default();
    let rd = returns::safe(call.gateway, &call.admitted.site, &rd);
    // A script's fetch, an image or a frame cannot finish a sign-in; it would only use up the browser's login cookies.
    let mode = call.parts.headers.get(SEC_FETCH_MODE);
    if mode.is_some_and(|m| m != "navigate") {
        return Ok(call.asker().unauthorized(false, &login_url(call.gateway, &call.admitted.site, &rd), vec![plain()]));
    }
    let provider = provider_for(call, &rd)?;
    let (gateway, site, parts) = (call.gateway, &call.admitted.site, call.parts);
    begin(
        gateway,
        call.exchange,
        site,
        &parts.method,
        &parts.headers,
        &Start { provider: &provider, rd: &rd, require: None },
    )
    .await
}

/// `GET sign_in`: a page with a way to the provider.
pub fn page(call: &Call<'_>) -> Reply {
    let rd = call.parameter("rd").unwrap_or_default();
    let rd = returns::safe(call.gateway, &call.admitted.site, &rd);
    let href = format!("{}?rd={}", call.endpoint("start"), utf8_percent_encode(&rd, NON_ALPHANUMERIC));
    Page {
        title: "Sign in",
        lines: vec![format!(
            "To open {} you sign in with your organisation's account.",
            call.admitted.site.origin.host()
        )],
        actions: vec![Action::link("Sign in", href)],
        ..Page::default()
    }
    .reply(StatusCode::OK)
}

/// The provider of the route that `rd` leads to; else the only one there is.
fn provider_for(call: &Call<'_>, rd: &str) -> Result<Arc<Provider>> {
    let gateway = call.gateway;
    let path = rd.split(['?', '#']).next().unwrap_or("/");
    let routed = match gateway.table.select(&call.admitted.site.host, path, "GET") {
        Selection::Route(index) => gateway.rules.get(index).and_then(|r| r.providers.first()),
        Selection::MethodNotAllowed | Selection::NotFound => None,
    };
    let provider = routed.or_else(|| gateway.providers.first()).cloned();
    provider.ok_or_else(|| Error::new(Kind::BadRequest, "no provider is configured, so nobody can sign in"))
}
