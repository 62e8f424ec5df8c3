//! `userinfo` and `session`: who the gateway takes one for, as JSON and as a page.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use http::StatusCode;
use serde_json::json;

use super::Call;
use super::sign_out::button;
use crate::error::Result;
use crate::gateway::authenticate::authenticate;
use crate::gateway::challenge::login_url;
use crate::gateway::navigation::is_navigation;
use crate::gateway::pages::{Action, Page};
use crate::http::reply::{self, Reply};
use crate::session::Session;

/// `GET userinfo`: the four members, no token among them (XX-09).
pub async fn userinfo(call: &mut Call<'_>) -> Result<Reply> {
    let Some(session) = person(call).await? else { return Ok(anonymous(call)) };
    let who = &session.data.identity;
    Ok(reply::json(
        StatusCode::OK,
        &json!({
            "user": who.user,
            "email": who.email,
            "groups": who.groups,
            "preferredUsername": who.preferred_username,
        }),
    ))
}

/// `GET session`: who am I, and until when.
pub async fn session(call: &mut Call<'_>) -> Result<Reply> {
    let Some(session) = person(call).await? else {
        if is_navigation(&call.parts.method, &call.parts.headers) {
            return Ok(reply::redirect(StatusCode::FOUND, &call.endpoint("sign_in")));
        }
        return Ok(anonymous(call));
    };
    let who = &session.data.identity;
    let mut facts = vec![("User", who.user.clone())];
    facts.extend(who.name.clone().map(|name| ("Name", name)));
    facts.extend(who.email.clone().map(|email| ("E-mail", email)));
    if !who.groups.is_empty() {
        facts.push(("Groups", who.groups.join(", ")));
    }
    facts.push(("Signed in", date(session.data.created_ms)));
    facts.push(("Ends", date(session.data.expires_ms)));
    Ok(Page {
        title: "Your session",
        facts,
        actions: vec![button(call.gateway, &session, call.host(), "Sign out", None), Action::link("Back", "/")],
        request_id: call.exchange.id(),
        ..Page::default()
    }
    .reply(StatusCode::OK))
}

async fn person(call: &mut Call<'_>) -> Result<Option<Arc<Session>>> {
    authenticate(call.gateway, call.exchange, None, &call.admitted.site, &call.parts.headers).await?;
    Ok(call.exchange.session.clone())
}

fn anonymous(call: &Call<'_>) -> Reply {
    call.asker().unauthorized(false, &login_url(call.gateway, &call.admitted.site, "/"))
}

/// As HTTP writes dates: everywhere readable, and in UTC, which is said.
fn date(unix_ms: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(unix_ms))
}
