//! `start` and `sign_in`: where a sign-in begins on purpose.

use http::StatusCode;
use http::header::HeaderName;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::Call;
use crate::error::Result;
use crate::gateway::challenge::{Start, begin, login_url};
use crate::gateway::pages::{Action, Page};
use crate::gateway::returns;
use crate::gateway::rules::Rules;
use crate::gateway::www_authenticate::plain;
use crate::http::reply::Reply;

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// `GET start?rd=&provider=`: to the provider, and afterwards to `rd`.
pub async fn start(call: &mut Call<'_>) -> Result<Reply> {
    let rd = call.wanted().unwrap_or_default();
    let rd = returns::safe(call.gateway, &call.admitted.site, &rd);
    if !navigates(call) {
        return Ok(call.asker().unauthorized(false, &login_url(call.gateway, &call.admitted.site, &rd), vec![plain()]));
    }
    let named = call.parameter("provider");
    let gateway = call.gateway;
    let rules = gateway.route_of(&call.admitted.site, &rd);
    let visit = call.visit();
    begin(gateway, call.exchange, visit, &Start { rules, named: named.as_deref(), rd: &rd }).await
}

/// A script's fetch, an image or a frame cannot finish a sign-in; it would only use up the browser's login cookies.
pub fn navigates(call: &Call<'_>) -> bool {
    call.parts.headers.get(SEC_FETCH_MODE).is_none_or(|mode| mode == "navigate")
}

/// `GET sign_in?rd=`: a page with a way to each provider.
pub fn page(call: &Call<'_>) -> Reply {
    let rd = call.wanted().unwrap_or_default();
    let rd = returns::safe(call.gateway, &call.admitted.site, &rd);
    let start = format!("{}?rd={}", call.endpoint("start"), utf8_percent_encode(&rd, NON_ALPHANUMERIC));
    let rules = call.gateway.route_of(&call.admitted.site, &rd);
    chooser(call, rules, call.host(), &start)
}

/// One button for each provider of the route that the person wants to come to. It remembers nothing: the choice is in the
/// link.
pub fn chooser(call: &Call<'_>, rules: Option<&Rules>, host: &str, way: &str) -> Reply {
    let candidates = call.gateway.candidates(rules);
    let mut lines = vec![format!("To open {host} you sign in with your organisation's account.")];
    let actions = match candidates {
        [] | [_] => vec![Action::link("Sign in", way)],
        several => {
            lines = vec![format!("To open {host} you sign in with one of these accounts.")];
            let link = |name: &str| format!("{way}&provider={}", utf8_percent_encode(name, NON_ALPHANUMERIC));
            several
                .iter()
                .map(|p| Action::link(format!("Sign in with {}", p.settings().label), link(p.name())))
                .collect()
        }
    };
    Page { title: "Sign in", lines, actions, ..Page::default() }.reply(StatusCode::OK)
}
