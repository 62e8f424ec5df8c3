//! `sign_out` and `signed_out`: the session ends here first, then at the provider (OpenID Connect RP-Initiated Logout 1.0),
//! then the browser comes back.

use http::StatusCode;
use http::header::ORIGIN;

use super::Call;
use crate::audit;
use crate::clock;
use crate::error::Result;
use crate::gateway::Gateway;
use crate::gateway::navigation::may_be_cross_site;
use crate::gateway::pages::{Action, Page};
use crate::gateway::returns;
use crate::http::cookie::Found;
use crate::http::origin::Origin;
use crate::http::parameter::first;
use crate::http::reply::{self, Reply};
use crate::session::Session;
use crate::session::ending::Whose;
use crate::session::lookup::Lookup;
use crate::telemetry::Safe;

/// `GET sign_out?rd=`. A link on another site only leads to a question (RL-03).
pub async fn by_link(call: &mut Call<'_>) -> Result<Reply> {
    let rd = wanted(call, call.query().as_bytes());
    let found = Found::scan(&call.parts.headers, call.gateway.sessions.name());
    match call.gateway.sessions.find(&found, call.host(), call.exchange.now_ms).await? {
        Lookup::Live(live) if may_be_cross_site(&call.parts.headers) => Ok(confirm(call, &live.session, rd)),
        _ => end(call, rd, StatusCode::FOUND, false).await,
    }
}

/// `POST sign_out`, from a page of ours or of the application behind us; with `everywhere=1` it ends every session that
/// this person has here.
pub async fn by_form(call: &mut Call<'_>, form: &[u8]) -> Result<Reply> {
    let rd = wanted(call, form).or_else(|| wanted(call, call.query().as_bytes()));
    let found = Found::scan(&call.parts.headers, call.gateway.sessions.name());
    let Lookup::Live(live) = call.gateway.sessions.find(&found, call.host(), call.exchange.now_ms).await? else {
        return end(call, rd, StatusCode::SEE_OTHER, false).await;
    };
    if is_meant(call, &live.session, form) {
        let everywhere = first(form, "everywhere").is_some_and(|v| v == "1");
        return end(call, rd, StatusCode::SEE_OTHER, everywhere).await;
    }
    Ok(confirm(call, &live.session, rd))
}

/// SECURITY: RL-03. Whether the form comes from a page of ours or of this origin, which no other site can bring about.
pub fn is_meant(call: &Call<'_>, session: &Session, form: &[u8]) -> bool {
    // Our own pages send no referrer, so browsers post them with `Origin: null`: the token speaks for them.
    let token = first(form, "token");
    let ours = token.is_some_and(|t| call.gateway.sessions.is_form_token(&t, session, call.host()));
    let origin = call.parts.headers.get(ORIGIN).and_then(|v| v.to_str().ok()).filter(|o| *o != "null");
    let same_origin = match origin {
        Some(origin) => Origin::parse(origin).is_ok_and(|o| o == call.admitted.site.origin),
        None => !may_be_cross_site(&call.parts.headers),
    };
    ours || same_origin
}

/// `GET signed_out`: where the provider sends people. With a state of ours, on to where the sign-out wanted to go (RL-02).
pub fn signed_out(call: &Call<'_>) -> Reply {
    let state = call.parameter("state");
    let rd =
        state.as_deref().and_then(|s| call.gateway.sessions.open_logout(s, call.host())).filter(|rd| !rd.is_empty());
    if let Some(rd) = rd {
        return reply::redirect(StatusCode::FOUND, &returns::safe(call.gateway, &call.admitted.site, &rd));
    }
    page(call)
}

/// Ends the session here, or all of this person's, begins to end it at the provider, and says where the browser goes.
async fn end(call: &mut Call<'_>, rd: Option<String>, status: StatusCode, everywhere: bool) -> Result<Reply> {
    let gateway = call.gateway;
    let sessions = &gateway.sessions;
    let found = Found::scan(&call.parts.headers, sessions.name());
    let live = sessions.find(&found, call.host(), call.exchange.now_ms).await?;
    let cleared = sessions.clear(&found);
    let Lookup::Live(live) = live else {
        call.exchange.cookies.extend(cleared);
        return Ok(reply::redirect(status, &rd.unwrap_or_else(|| call.endpoint("signed_out"))));
    };
    let session = live.session;
    // Before the cookie goes, and this session the last: where the store is away, it is still needed to try again.
    let ended = match everywhere {
        true => {
            let (issuer, sub) = (&session.data.issuer, &session.data.identity.sub);
            Some(sessions.end_all(Whose::Subject { issuer, sub }, true).await?)
        }
        false => None,
    };
    sessions.revoke(&session).await?;
    call.exchange.cookies.extend(cleared);
    audit!(
        event = "sign_out",
        user = %Safe(session.user()),
        provider = %session.data.provider,
        everywhere = ended,
        age_seconds = clock::unix_now_ms().saturating_sub(session.data.created_ms) / 1000,
        client = %call.exchange.client,
        request_id = call.exchange.id(),
    );
    let here = rd.clone().unwrap_or_else(|| call.endpoint("signed_out"));
    let Some(provider) = gateway.voucher(&session) else {
        return Ok(reply::redirect(status, &here));
    };
    let tokens = &session.data.tokens;
    // RV-01: in the background; no provider holds up a sign-out.
    provider.revoke(tokens.refresh.clone(), tokens.access.clone());
    let (home, onward) = homeward(call, rd.unwrap_or_default());
    let back = match &provider.settings().post_logout_redirect_uri {
        Some(uri) => uri.clone(),
        None => format!("{home}{}", call.endpoint("signed_out")),
    };
    let there = sessions.seal_logout(&onward, home.host()).and_then(|state| {
        provider.end_session_url(tokens.id.as_ref().map(crate::secret::Secret::expose), &back, &state)
    });
    Ok(reply::redirect(status, &there.unwrap_or(here)))
}

/// The origin that the provider sends people back to, and where they go on to from there. Where sign-ins are handed over
/// the provider knows `public_url` alone.
fn homeward<'a>(call: &Call<'a>, rd: String) -> (&'a Origin, String) {
    let gateway: &'a Gateway = call.gateway;
    let here = &call.admitted.site.origin;
    if !gateway.is_handed_over(&call.admitted.site) {
        return (here, rd);
    }
    let onward = if rd.starts_with('/') { format!("{here}{rd}") } else { rd };
    (&gateway.settings.server.public_url, onward)
}

/// A safe `rd`, or none.
fn wanted(call: &Call<'_>, encoded: &[u8]) -> Option<String> {
    first(encoded, "rd").map(|rd| returns::safe(call.gateway, &call.admitted.site, &rd))
}

/// The button that signs out, and that no other site can press.
pub fn button(gateway: &Gateway, session: &Session, host: &str, label: &'static str, rd: Option<String>) -> Action {
    let mut fields: Vec<(&'static str, String)> = rd.map(|rd| ("rd", rd)).into_iter().collect();
    fields.extend(proof(gateway, session, host));
    Action::post(label, format!("{}/sign_out", gateway.settings.server.prefix), fields)
}

/// The field that a form of ours proves itself by.
pub fn proof(gateway: &Gateway, session: &Session, host: &str) -> Option<(&'static str, String)> {
    gateway.sessions.form_token(session, host).map(|token| ("token", token))
}

fn confirm(call: &Call<'_>, session: &Session, rd: Option<String>) -> Reply {
    Page {
        title: "Sign out?",
        lines: vec!["Another page asked to sign you out. Nothing has happened yet.".to_owned()],
        actions: vec![button(call.gateway, session, call.host(), "Sign out", rd), Action::link("Stay signed in", "/")],
        ..Page::default()
    }
    .reply(StatusCode::OK)
}

fn page(call: &Call<'_>) -> Reply {
    Page {
        title: "You are signed out",
        lines: vec!["On a computer that others use too, also close the browser's windows.".to_owned()],
        actions: vec![Action::link("Sign in again", call.endpoint("start"))],
        ..Page::default()
    }
    .reply(StatusCode::OK)
}
