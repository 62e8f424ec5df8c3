//! `callback`: the provider sends the browser back, and a sign-in becomes a session, or does not.
//!
//! The order is the defence. Cheap and local first (the browser's own cookie), then who answers (the place it came to, RFC
//! 9207), then what it answers; the code is spent once, and only after all of that.

use std::sync::Arc;

use http::StatusCode;
use http::header::HeaderValue;

use super::{Call, FORM_BYTES, hand_over};
use crate::audit;
use crate::config::settings::{Callback, Flow, ResponseMode};
use crate::error::{Error, Kind, Result};
use crate::gateway::Gateway;
use crate::gateway::pages::{Action, Page};
use crate::http::agent;
use crate::http::cookie::Found;
use crate::http::reply::{self, Reply};
use crate::provider::{Accept, Provider, Redeem};
use crate::secret::Secret;
use crate::session::Session;
use crate::session::data::{Begun, Tokens};
use crate::session::identity::Identity;
use crate::session::login::{LIFETIME, Login};
use crate::session::lookup::Lookup;
use crate::telemetry::Safe;

/// Codes and states longer than this are nobody's.
const MAX_VALUE: usize = 4_096;
/// A form is bounded by itself, an ID token by whoever reads it.
const MAX_TOKEN: usize = FORM_BYTES;

/// How and where an answer came.
#[derive(Clone, Copy)]
pub struct Came<'a> {
    /// `callback/NAME`: the NAME.
    pub own: Option<&'a str>,
    pub encoded: &'a [u8],
    /// By `form_post`.
    pub posted: bool,
}

impl Came<'_> {
    /// B-13. After a form a redirect that leaves it behind.
    fn redirect(self) -> StatusCode {
        if self.posted { StatusCode::SEE_OTHER } else { StatusCode::FOUND }
    }
}

/// The parameters of an authorization response (RFC 6749 §4.1.2, OpenID Connect Core §3.2.2.5, RFC 9207 §2), or of a
/// hand-over, each at most once.
#[derive(Debug, Default)]
struct Answer {
    code: Option<String>,
    /// Read from forms only: no token is taken from a URL (B-10).
    id_token: Option<String>,
    hand_over: Option<String>,
    state: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

/// Whether some provider is asked to answer by a form to this place (C-24).
pub fn takes_forms(gateway: &Gateway, own: Option<&str>) -> bool {
    gateway.providers.iter().any(|p| p.settings().response_mode == ResponseMode::FormPost && is_place_of(p, own))
}

/// Whether there is a callback of this name.
pub fn is_there(gateway: &Gateway, own: Option<&str>) -> bool {
    own.is_none() || gateway.providers.iter().any(|p| is_place_of(p, own))
}

fn is_place_of(provider: &Provider, own: Option<&str>) -> bool {
    match provider.settings().callback {
        Callback::Own => own == Some(provider.name()),
        Callback::Shared => own.is_none(),
    }
}

pub async fn callback(call: &mut Call<'_>, came: Came<'_>) -> Result<Reply> {
    let parts = call.parts;
    let found = Found::scan(&parts.headers, call.gateway.sessions.name());
    let answer = match Answer::read(came) {
        Ok(answer) => answer,
        Err(error) => return settle(call, None, Err(error)),
    };
    let login = answer.state.as_deref().and_then(|state| call.gateway.sessions.jar(call.host()).login(&found, state));
    let Some(login) = login else { return without_login(call, &found, came).await };
    let result = match (login.hand_over, &answer.hand_over) {
        (true, Some(ticket)) => hand_over::take(call, &found, &login, ticket).await,
        (false, None) => finish(call, &found, &login, came, answer).await,
        _ => Err(Error::new(Kind::Callback, "an answer to something else than this sign-in")),
    };
    settle(call, Some(&login), result)
}

/// Ends the sign-in's cookie whatever came of it, and counts. Only while the store is away it stays: the page says that
/// it can be loaded again.
fn settle(call: &mut Call<'_>, login: Option<&Login>, result: Result<Reply>) -> Result<Reply> {
    let Some(login) = login else { return result };
    let sessions = &call.gateway.sessions;
    if !result.as_ref().is_err_and(|error| error.kind() == Kind::StoreUnavailable) {
        let cleared = sessions.jar(call.host()).clear_login(&login.state);
        call.exchange.cookies.extend(cleared);
    }
    if let Err(error) = &result {
        call.gateway.metrics.login(&login.provider, "error");
        audit!(
            event = "sign_in_failed",
            provider = %login.provider,
            kind = error.kind().as_str(),
            reason = %Safe(&error.to_string()),
            client = %call.exchange.client,
            request_id = call.exchange.id(),
        );
    }
    result
}

async fn finish(
    call: &mut Call<'_>,
    found: &Found<'_>,
    login: &Login,
    came: Came<'_>,
    answer: Answer,
) -> Result<Reply> {
    let gateway = call.gateway;
    let bad = |what| Error::new(Kind::Callback, what);
    let provider = gateway
        .provider_named(&login.provider)
        .filter(|provider| provider.issuer() == login.issuer)
        .ok_or_else(|| bad("the provider of this sign-in is no longer configured"))?;
    // SECURITY: C-24. The cookie of the one does not travel with the other.
    if came.posted != (provider.settings().response_mode == ResponseMode::FormPost) {
        return Err(bad("an answer by a form that was to come by a redirect, or the other way round"));
    }
    // SECURITY: B-03. What comes to another provider's place is another provider's answer.
    if !is_place_of(provider, came.own) {
        return Err(bad("the answer came to the callback of another provider than the one asked"));
    }
    let metadata = provider.metadata().await?;
    // SECURITY: I-01, I-02. Also an error answer counts only from the provider that was asked; where others come to the
    // same place, it has to say that it is from there (B-03).
    let must_say = provider.settings().callback == Callback::Shared && gateway.providers.len() > 1;
    // An ID token says it itself, and its `iss` is checked (RFC 9207 §2).
    let said_within =
        provider.settings().flow == Flow::ImplicitFormPost && answer.id_token.is_some() && answer.error.is_none();
    if answer.iss.is_some() || !said_within {
        provider.check_issuer(&metadata, answer.iss.as_deref(), must_say)?;
    }
    if let Some(code) = answer.error {
        return Ok(refused(call, login, &code));
    }
    let (identity, tokens) = match provider.settings().flow {
        Flow::Code => {
            let code = answer.code.ok_or_else(|| bad("a callback with neither code nor error"))?;
            if !is_first(call, login).await? {
                return without_login(call, found, came).await;
            }
            let grant = provider
                .redeem(Redeem {
                    code: Secret::new(code),
                    verifier: Secret::new(login.verifier.clone()),
                    redirect_uri: gateway.redirect_uri(&call.admitted.site, provider),
                    nonce: login.nonce.clone(),
                    max_age: login.max_age,
                    acr: login.acr.clone(),
                    denying: gateway.settings.denying_claims(&provider.settings().claims),
                })
                .await?;
            let tokens = gateway.sessions.tokens(grant.tokens, None, provider);
            (Identity::from_claims(&grant.claims, &provider.settings().claims, &gateway.kept)?, tokens)
        }
        Flow::ImplicitFormPost => {
            let id_token = answer.id_token.ok_or_else(|| bad("a callback with neither ID token nor error"))?;
            if !is_first(call, login).await? {
                return without_login(call, found, came).await;
            }
            let id_token = Secret::new(id_token);
            let claims = provider
                .accept(Accept {
                    id_token: id_token.clone(),
                    nonce: login.nonce.clone(),
                    max_age: login.max_age,
                    acr: login.acr.clone(),
                })
                .await?;
            let tokens = Tokens { id: Some(id_token).filter(|_| provider.has_end_session()), ..Tokens::default() };
            (Identity::from_claims(&claims, &provider.settings().claims, &gateway.kept)?, tokens)
        }
    };
    let sessions = &gateway.sessions;
    let begun = Begun { browser: agent::name(&call.parts.headers), address: Some(call.exchange.client) };
    let (refresh, access) = (tokens.refresh.clone(), tokens.access.clone());
    // Nobody will use them.
    let give_back = || provider.revoke(refresh, access);
    let session = match sessions.create(provider, identity, tokens, begun).await {
        Ok(session) => session,
        Err(error) => {
            give_back();
            return Err(error);
        }
    };
    let cookies = match sessions.issue(&session, call.host(), found) {
        Ok(cookies) => cookies,
        Err(error) => {
            // No browser holds it: no list shall show it.
            give_back();
            sessions.revoke(&session).await?;
            return Err(error);
        }
    };
    let counted = replace(call, found, login, &session).await?;
    call.exchange.cookies.extend(cookies);
    call.exchange.cookies.extend(counted);
    gateway.metrics.login(provider.name(), "ok");
    audit!(
        event = "sign_in",
        user = %Safe(session.user()),
        provider = provider.name(),
        client = %call.exchange.client,
        request_id = call.exchange.id(),
    );
    Ok(arrived(call, session, login, came.redirect()))
}

/// SECURITY: P-03, L-07. A code that comes twice may end the whole grant at the provider.
async fn is_first(call: &Call<'_>, login: &Login) -> Result<bool> {
    call.gateway.sessions.first("callback", &login.state, LIFETIME).await
}

/// Ends the session that the browser had before, and counts for the loop guard.
async fn replace(call: &Call<'_>, found: &Found<'_>, login: &Login, session: &Session) -> Result<Option<HeaderValue>> {
    let sessions = &call.gateway.sessions;
    let jar = sessions.jar(call.host());
    // SECURITY: S-19. Whatever session the browser came with is over.
    if let Lookup::Live(old) = sessions.find(found, call.host(), call.exchange.now_ms).await? {
        sessions.revoke(&old.session).await?;
        // It has shown a session: whoever signs in again and again like this is in no loop (L-16), unless it is between
        // two providers.
        return Ok(match old.session.data.provider == session.data.provider {
            true => jar.clear_count(found),
            false => jar.count_exchanged(found, login.form_post),
        });
    }
    if let Some(old) = &login.replaces {
        sessions.end_key(old).await?;
        return Ok(jar.count_exchanged(found, login.form_post));
    }
    Ok(jar.count_completed(found, login.form_post))
}

/// On to where the person wanted to go, signed in.
pub fn arrived(call: &mut Call<'_>, session: Arc<Session>, login: &Login, onward_by: StatusCode) -> Reply {
    call.exchange.session = Some(session);
    if call.gateway.sessions.is_strict() {
        return onward(&login.rd);
    }
    reply::redirect(onward_by, &login.rd)
}

/// SameSite=Strict cookies do not travel with a redirect that another site began: a page of ours starts the next request.
fn onward(rd: &str) -> Reply {
    Page {
        title: "You are signed in",
        lines: vec!["The page you wanted opens by itself.".to_owned()],
        actions: vec![Action::link("Continue", rd)],
        onward: Some(rd.to_owned()),
        ..Page::default()
    }
    .reply(StatusCode::OK)
}

/// No sign-in of this browser fits: signed in already, on to `/`; else a page. The provider is not asked.
async fn without_login(call: &Call<'_>, found: &Found<'_>, came: Came<'_>) -> Result<Reply> {
    match call.gateway.sessions.find(found, call.host(), call.exchange.now_ms).await? {
        Lookup::Live(_) => Ok(reply::redirect(came.redirect(), "/")),
        Lookup::Absent | Lookup::Refused => {
            Err(Error::new(Kind::Callback, "a callback without the cookie of its sign-in"))
        }
    }
}

/// The provider said no.
fn refused(call: &Call<'_>, login: &Login, code: &str) -> Reply {
    call.gateway.metrics.login(&login.provider, if code == "access_denied" { "denied" } else { "error" });
    audit!(
        event = "sign_in_refused",
        provider = %login.provider,
        error = %Safe(code),
        client = %call.exchange.client,
        request_id = call.exchange.id(),
    );
    call.asker().provider_said_no(code)
}

impl Answer {
    /// O-02, O-03, L-13, L-14: what we know comes at most once, in VSCHARs (RFC 6749 appendix A); the rest is ignored.
    fn read(came: Came<'_>) -> Result<Self> {
        let mut answer = Self::default();
        for (name, value) in url::form_urlencoded::parse(came.encoded) {
            let slot = match &*name {
                "code" => &mut answer.code,
                "id_token" if came.posted => &mut answer.id_token,
                "hand_over" if !came.posted => &mut answer.hand_over,
                "state" => &mut answer.state,
                "iss" => &mut answer.iss,
                "error" => &mut answer.error,
                _ => continue,
            };
            if slot.is_some() {
                return Err(Error::new(Kind::Callback, format!("the callback's parameter {name} came twice")));
            }
            let most = if name == "id_token" { MAX_TOKEN } else { MAX_VALUE };
            if value.is_empty() || value.len() > most || !value.bytes().all(|b| (0x20..=0x7e).contains(&b)) {
                if &*name == "error" {
                    // Whatever it was to be, it is an error.
                    *slot = Some("invalid".to_owned());
                    continue;
                }
                return Err(Error::new(
                    Kind::Callback,
                    format!("the callback's parameter {name} is empty, too long or not text"),
                ));
            }
            *slot = Some(value.into_owned());
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Answer> {
        Answer::read(Came { own: None, encoded: query.as_bytes(), posted: false })
    }

    #[test]
    fn b_10_a_token_is_read_from_a_form_and_a_ticket_from_a_url() {
        let encoded = b"id_token=t&hand_over=h&state=s";
        let by = |posted| Answer::read(Came { own: None, encoded, posted }).unwrap();
        let (url, form) = (by(false), by(true));
        assert_eq!((url.id_token.as_deref(), url.hand_over.as_deref()), (None, Some("h")));
        assert_eq!((form.id_token.as_deref(), form.hand_over.as_deref()), (Some("t"), None));
    }

    #[test]
    fn o_02_l_13_repeated_parameters_are_refused() {
        for q in ["code=a&code=b", "state=a&state=a", "iss=a&iss=b", "error=a&error=b"] {
            assert!(read(q).is_err(), "{q}");
        }
    }

    #[test]
    fn o_03_unknown_parameters_are_ignored() {
        let answer = read("code=c&state=s&foo=1&foo=2&session_state=x").unwrap();
        assert_eq!((answer.code.as_deref(), answer.state.as_deref()), (Some("c"), Some("s")));
    }

    #[test]
    fn l_02_l_14_values_that_are_none_are_refused() {
        for q in
            ["code=", "state=", "code=a%00b", "code=%0d%0a", "code=%ff%fe", &format!("code={}", "c".repeat(60_000))]
        {
            assert!(read(q).is_err(), "{}", &q[..q.len().min(20)]);
        }
    }
}
