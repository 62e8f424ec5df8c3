//! `hand_over`: one sign-in for hosts that share no cookie. Another host of ours sends a browser here, to the host where
//! people sign in; whoever is signed in, in the way that the route there wants, goes back with a ticket for that host. There
//! `callback` takes it, and the browser gets a cookie of that host's own for the same session.
//!
//! What is asked for comes sealed, from the other host itself: nothing here is taken from a parameter in clear but the
//! person's choice among the providers of the route.

use http::StatusCode;

use super::Call;
use super::callback::arrived;
use super::sign_in::{chooser, navigates};
use crate::audit;
use crate::error::{Error, Kind, Result};
use crate::gateway::Gateway;
use crate::gateway::authenticate::authenticate;
use crate::gateway::authorize::is_strong_enough;
use crate::gateway::challenge::{hand_over_path, login_url, sign_in_at};
use crate::gateway::choice::Choice;
use crate::gateway::rules::Rules;
use crate::gateway::site::Site;
use crate::gateway::who::Who;
use crate::gateway::www_authenticate::plain;
use crate::http::cookie::Found;
use crate::http::origin::Origin;
use crate::http::reply::{self, Reply};
use crate::session::Session;
use crate::session::hand_over::Request;
use crate::session::login::{LIFETIME, Login};
use crate::session::lookup::Lookup;
use crate::telemetry::Safe;

impl Gateway {
    /// Whether this host's sessions come from the host where people sign in.
    pub fn is_handed_over(&self, site: &Site) -> bool {
        self.settings.session.hand_over && site.origin != self.settings.server.public_url
    }
}

/// `GET hand_over?request=`, at the host where people sign in.
pub async fn hand_over(call: &mut Call<'_>) -> Result<Reply> {
    let gateway = call.gateway;
    let site = &call.admitted.site;
    if !gateway.settings.session.hand_over || gateway.is_handed_over(site) {
        return Ok(call.asker().not_found());
    }
    let sealed = call.parameter("request").unwrap_or_default();
    let (request, rules) = read(call, &sealed)?;
    if !navigates(call) {
        return Ok(call.asker().unauthorized(false, &login_url(gateway, site, "/"), vec![plain()]));
    }
    authenticate(gateway, call.exchange, None, site, &call.parts.headers).await?;
    let named = call.parameter("provider").or_else(|| request.provider.clone());
    if let Some(session) = call.exchange.session.clone()
        && request.unwanted != Some(session.key)
        && is_enough(gateway, rules, named.as_deref(), &session, call.exchange.now_ms)
    {
        return give(call, &request, &session);
    }
    // SECURITY: B-01. Back to here with what was sealed, whatever else the URL said.
    let rd = hand_over_path(gateway, &sealed);
    match gateway.choose(rules, named.as_deref(), call.exchange.session.as_deref())? {
        Choice::One(provider) => {
            let require = rules.map(|rules| &rules.settings.require);
            let visit = call.visit();
            sign_in_at(gateway, call.exchange, visit, provider, &rd, require).await
        }
        Choice::Several => Ok(chooser(call, rules, &request.host, &rd)),
    }
}

/// The request, and the rules of the route that it is for.
fn read<'a>(call: &Call<'a>, sealed: &str) -> Result<(Request, Option<&'a Rules>)> {
    let gateway: &'a Gateway = call.gateway;
    let bad = |what| Error::new(Kind::Callback, what);
    let request = gateway.sessions.open_request(sealed, call.host(), call.exchange.now_ms);
    let request = request.ok_or_else(|| bad("a hand-over that no host of ours asks for, or asked for too long ago"))?;
    // SECURITY: R-06. Also after a reload a ticket leaves for hosts that a route names, and for no other.
    if !gateway.table.knows_host(&request.host) || request.host == call.host() {
        return Err(bad("a hand-over to a host that no route names"));
    }
    let rules = match &request.route {
        Some(name) => {
            let rules = gateway.rules.iter().find(|rules| rules.name() == name);
            Some(rules.ok_or_else(|| bad("a hand-over for a route that is no longer configured"))?)
        }
        None => None,
    };
    Ok((request, rules))
}

/// SECURITY: S-08. Whether the route there would take this session; its policy is asked there.
fn is_enough(gateway: &Gateway, rules: Option<&Rules>, named: Option<&str>, session: &Session, now_ms: u64) -> bool {
    let provider = match rules {
        Some(rules) if !rules.providers.is_empty() => rules.provider_of(session),
        _ => gateway.voucher(session),
    };
    provider.is_some_and(|provider| named.is_none_or(|name| name == provider.name()))
        && rules.is_none_or(|rules| is_strong_enough(rules, Who::Person(session), now_ms))
}

fn give(call: &Call<'_>, request: &Request, session: &Session) -> Result<Reply> {
    let gateway = call.gateway;
    let ticket = gateway.sessions.seal_ticket(session, request, call.exchange.now_ms);
    let ticket = ticket.ok_or_else(|| Error::new(Kind::Internal, "the hand-over could not be sealed"))?;
    let public = &gateway.settings.server.public_url;
    let there = Origin::new(public.scheme(), request.host.as_str(), public.port());
    let url = format!("{there}{}?hand_over={ticket}&state={}", call.endpoint("callback"), request.state);
    Ok(reply::redirect(StatusCode::FOUND, &url))
}

/// The callback of a hand-over, at the host that asked for it.
pub async fn take(call: &mut Call<'_>, found: &Found<'_>, login: &Login, ticket: &str) -> Result<Reply> {
    let gateway = call.gateway;
    let sessions = &gateway.sessions;
    let bad = |what| Error::new(Kind::Callback, what);
    if !gateway.is_handed_over(&call.admitted.site) {
        return Err(bad("a hand-over to a host that takes none"));
    }
    let session = sessions.open_ticket(ticket, call.host(), login, call.exchange.now_ms).await?;
    let session = session
        .ok_or_else(|| bad("a hand-over that is not of this sign-in, too old, or of a session that has ended"))?;
    // SECURITY: B-08. Once: also a ticket that somebody read on its way is spent by then.
    if !sessions.first("hand_over", &login.state, LIFETIME).await? {
        return Err(bad("a hand-over that was used before"));
    }
    let cookies = sessions.issue(&session, call.host(), found)?;
    let jar = sessions.jar(call.host());
    let counted = match sessions.find(found, call.host(), call.exchange.now_ms).await? {
        // It was not wanted a moment ago, and is what came back.
        Lookup::Live(old) if old.session.key == session.key => jar.count_exchanged(found, false),
        Lookup::Live(old) => {
            // SECURITY: S-19.
            sessions.revoke(&old.session).await?;
            jar.count_exchanged(found, false)
        }
        Lookup::Absent | Lookup::Refused => jar.count_completed(found, false),
    };
    call.exchange.cookies.extend(cookies);
    call.exchange.cookies.extend(counted);
    audit!(
        event = "hand_over",
        user = %Safe(session.user()),
        provider = %session.data.provider,
        host = call.host(),
        client = %call.exchange.client,
        request_id = call.exchange.id(),
    );
    Ok(arrived(call, session, login, StatusCode::FOUND))
}
