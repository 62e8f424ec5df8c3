//! `userinfo` and `session`: who the gateway takes one for, as JSON and as a page, which also lists and ends
//! the same person's other sessions.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use http::StatusCode;
use serde_json::json;

use super::Call;
use super::sign_out::{button, is_meant, proof};
use crate::audit;
use crate::error::Result;
use crate::gateway::authenticate::authenticate;
use crate::gateway::challenge::login_url;
use crate::gateway::navigation::wants_page;
use crate::gateway::pages::{Action, Item, List, Page};
use crate::gateway::www_authenticate::plain;
use crate::http::parameter::first;
use crate::http::reply::{self, Reply};
use crate::session::Session;
use crate::session::data::Begun;
use crate::session::ending::Whose;
use crate::session::keeping::Card;
use crate::telemetry::Safe;

/// Sessions that one page shows.
const MAX_LISTED: usize = 50;

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

/// `GET session`: who am I, until when, and where else am I signed in?
pub async fn session(call: &mut Call<'_>) -> Result<Reply> {
    let Some(session) = person(call).await? else { return Ok(nobody(call, StatusCode::FOUND)) };
    let others = others(call, &session).await?;
    let (gateway, host, sessions) = (call.gateway, call.host(), &call.gateway.sessions);
    let mut everywhere = button(gateway, &session, host, "Sign out everywhere", None);
    everywhere.fields.push(("everywhere", "1".to_owned()));
    let list = List {
        title: "Also signed in",
        note: match (sessions.lists_all(), others.is_empty()) {
            (true, true) => Some("Nowhere else."),
            (true, false) => None,
            (false, true) => Some("Nowhere else that this gateway has seen since it was started."),
            (false, false) => Some("As far as this gateway has seen since it was started: there may be more."),
        },
        more: others.len().saturating_sub(MAX_LISTED),
        items: others.iter().take(MAX_LISTED).map(|card| item(call, &session, card)).collect(),
    };
    Ok(Page {
        title: "Your session",
        facts: facts(call, &session),
        actions: vec![button(gateway, &session, host, "Sign out", None), everywhere, Action::link("Back", "/")],
        list: Some(list),
        request_id: call.exchange.id(),
        ..Page::default()
    }
    .reply(StatusCode::OK))
}

/// `POST session`: `end` names one of this person's other sessions.
pub async fn end_another(call: &mut Call<'_>, form: &[u8]) -> Result<Reply> {
    let Some(session) = person(call).await? else { return Ok(nobody(call, StatusCode::SEE_OTHER)) };
    let back = reply::redirect(StatusCode::SEE_OTHER, &call.endpoint("session"));
    if !is_meant(call, &session, form) {
        // SECURITY: RL-03. Whoever sent the browser here sees nothing happen; the person sees the list.
        return Ok(back);
    }
    let wanted = first(form, "end").and_then(|id| Card::key_of(&id));
    // SECURITY: an id names a session of anybody. Only what stands in this person's own list is ended.
    let Some(card) = others(call, &session).await?.into_iter().find(|card| Some(card.key) == wanted) else {
        return Ok(back);
    };
    if call.gateway.sessions.end_key(&card.key).await? {
        audit!(
            event = "sign_out",
            user = %Safe(session.user()),
            provider = %session.data.provider,
            other = %card.id(),
            client = %call.exchange.client,
            request_id = call.exchange.id(),
        );
    }
    Ok(back)
}

/// This person's other sessions, the last used first.
async fn others(call: &Call<'_>, session: &Session) -> Result<Vec<Card>> {
    let (issuer, sub) = (&session.data.issuer, &session.data.identity.sub);
    let mut cards = call.gateway.sessions.list(Whose::Subject { issuer, sub }).await?;
    cards.retain(|card| card.key != session.key);
    Ok(cards)
}

fn facts(call: &Call<'_>, session: &Session) -> Vec<(&'static str, String)> {
    let (data, who) = (&session.data, &session.data.identity);
    let mut facts = vec![("User", who.user.clone())];
    facts.extend(who.name.clone().map(|name| ("Name", name)));
    facts.extend(who.email.clone().map(|email| ("E-mail", email)));
    if !who.groups.is_empty() {
        facts.push(("Groups", who.groups.join(", ")));
    }
    facts.push(("This browser", browser(&data.begun)));
    facts.extend(data.begun.address.map(|address| ("Signed in from", address.to_string())));
    facts.push(("Signed in", date(data.created_ms)));
    facts.push(("Ends", date(data.expires_ms)));
    let idle_end = call.gateway.sessions.idle_end_ms(session);
    facts.extend(idle_end.map(|at| ("Ends if unused", date(at))));
    facts
}

fn item(call: &Call<'_>, session: &Session, card: &Card) -> Item {
    let mut lines: Vec<String> = card.address().map(|address| format!("from {address}")).into_iter().collect();
    lines.push(format!("signed in {}", date(card.created_ms)));
    lines.push(format!("last used {}", date(card.seen_ms)));
    let mut fields = vec![("end", card.id())];
    fields.extend(proof(call.gateway, session, call.host()));
    Item { name: browser(&card.begun), lines, action: Action::post("Sign out", call.endpoint("session"), fields) }
}

fn browser(begun: &Begun) -> String {
    if begun.browser.is_empty() { "Unknown browser".to_owned() } else { begun.browser.clone() }
}

/// Nobody is signed in: a person is shown where to, a program is told.
fn nobody(call: &Call<'_>, status: StatusCode) -> Reply {
    if wants_page(&call.parts.method, &call.parts.headers) {
        return reply::redirect(status, &call.endpoint("sign_in"));
    }
    anonymous(call)
}

async fn person(call: &mut Call<'_>) -> Result<Option<Arc<Session>>> {
    authenticate(call.gateway, call.exchange, None, &call.admitted.site, &call.parts.headers).await?;
    Ok(call.exchange.session.clone())
}

fn anonymous(call: &Call<'_>) -> Reply {
    call.asker().unauthorized(false, &login_url(call.gateway, &call.admitted.site, "/"), vec![plain()])
}

/// As HTTP writes dates: everywhere readable, and in UTC, which is said.
fn date(unix_ms: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(unix_ms))
}
