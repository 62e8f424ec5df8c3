//! `callback`: the provider sends the browser back, and a sign-in becomes a session, or does not.
//!
//! The order is the defence. Cheap and local first (the browser's own cookie), then who answers (RFC 9207), then what it
//! answers; the code is spent once, and only after all of that.

use http::StatusCode;

use super::Call;
use crate::audit;
use crate::error::{Error, Kind, Result};
use crate::gateway::pages::{Action, Page};
use crate::http::agent;
use crate::http::cookie::Found;
use crate::http::reply::{self, Reply};
use crate::provider::Redeem;
use crate::secret::Secret;
use crate::session::data::Begun;
use crate::session::identity::Identity;
use crate::session::login::{LIFETIME, Login};
use crate::session::lookup::Lookup;
use crate::telemetry::Safe;

/// Codes and states longer than this are nobody's.
const MAX_VALUE: usize = 4_096;

/// The parameters of an authorization response (RFC 6749 §4.1.2, RFC 9207 §2), each at most once.
#[derive(Debug, Default)]
struct Answer {
    code: Option<String>,
    state: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

pub async fn callback(call: &mut Call<'_>) -> Result<Reply> {
    let parts = call.parts;
    let found = Found::scan(&parts.headers, call.gateway.sessions.name());
    let answer = match Answer::read(call.query()) {
        Ok(answer) => answer,
        Err(error) => return settle(call, None, Err(error)),
    };
    let login = answer.state.as_deref().and_then(|state| call.gateway.sessions.jar(call.host()).login(&found, state));
    let Some(login) = login else { return without_login(call, &found).await };
    let result = finish(call, &found, &login, answer).await;
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

async fn finish(call: &mut Call<'_>, found: &Found<'_>, login: &Login, answer: Answer) -> Result<Reply> {
    let gateway = call.gateway;
    let provider = gateway
        .provider_named(&login.provider)
        .ok_or_else(|| Error::new(Kind::Callback, "the provider of this sign-in is no longer configured"))?;
    let metadata = provider.metadata().await?;
    // SECURITY: I-01, I-02. Also an error answer counts only from the provider that was asked.
    provider.check_issuer(&metadata, answer.iss.as_deref())?;
    if let Some(code) = answer.error {
        return Ok(refused(call, login, &code));
    }
    let code = answer.code.ok_or_else(|| Error::new(Kind::Callback, "a callback with neither code nor error"))?;
    // SECURITY: P-03, L-07. A code that comes twice may end the whole grant at the provider.
    if !gateway.sessions.first("callback", &login.state, LIFETIME).await? {
        return without_login(call, found).await;
    }
    let grant = provider
        .redeem(Redeem {
            code: Secret::new(code),
            verifier: Secret::new(login.verifier.clone()),
            redirect_uri: gateway.redirect_uri(&call.admitted.site),
            nonce: login.nonce.clone(),
            max_age: login.max_age,
            acr: login.acr.clone(),
        })
        .await?;
    let identity = Identity::from_claims(&grant.claims, &provider.settings().claims, &gateway.kept)?;
    let sessions = &gateway.sessions;
    let tokens = sessions.tokens(grant.tokens, None, provider);
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
    let jar = sessions.jar(call.host());
    let counted = match sessions.find(found, call.host(), call.exchange.now_ms).await? {
        Lookup::Live(old) => {
            // SECURITY: S-19. Whatever session the browser came with is over.
            sessions.revoke(&old.session).await?;
            // It has shown a session: whoever signs in again and again like this is in no loop (L-16).
            jar.clear_count(found)
        }
        Lookup::Absent | Lookup::Refused => jar.count_completed(found),
    };
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
    call.exchange.session = Some(session);
    if sessions.is_strict() {
        return Ok(onward(&login.rd));
    }
    Ok(reply::redirect(StatusCode::FOUND, &login.rd))
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
async fn without_login(call: &Call<'_>, found: &Found<'_>) -> Result<Reply> {
    match call.gateway.sessions.find(found, call.host(), call.exchange.now_ms).await? {
        Lookup::Live(_) => Ok(reply::redirect(StatusCode::FOUND, "/")),
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
    fn read(query: &str) -> Result<Self> {
        let mut answer = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let slot = match &*name {
                "code" => &mut answer.code,
                "state" => &mut answer.state,
                "iss" => &mut answer.iss,
                "error" => &mut answer.error,
                _ => continue,
            };
            if slot.is_some() {
                return Err(Error::new(Kind::Callback, format!("the callback's parameter {name} came twice")));
            }
            if value.is_empty() || value.len() > MAX_VALUE || !value.bytes().all(|b| (0x20..=0x7e).contains(&b)) {
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

    #[test]
    fn o_02_l_13_repeated_parameters_are_refused() {
        for q in ["code=a&code=b", "state=a&state=a", "iss=a&iss=b", "error=a&error=b"] {
            assert!(Answer::read(q).is_err(), "{q}");
        }
    }

    #[test]
    fn o_03_unknown_parameters_are_ignored() {
        let answer = Answer::read("code=c&state=s&foo=1&foo=2&session_state=x").unwrap();
        assert_eq!((answer.code.as_deref(), answer.state.as_deref()), (Some("c"), Some("s")));
    }

    #[test]
    fn l_02_l_14_values_that_are_none_are_refused() {
        for q in
            ["code=", "state=", "code=a%00b", "code=%0d%0a", "code=%ff%fe", &format!("code={}", "c".repeat(60_000))]
        {
            assert!(Answer::read(q).is_err(), "{}", &q[..q.len().min(20)]);
        }
    }
}
