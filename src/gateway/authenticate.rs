//! Who is it? The session of the request's cookies: memo → cache → seal or store; renewed when its access token is near
//! its end. What the browser has to be told goes into the exchange's cookies.

use std::sync::Arc;

use http::header::{COOKIE, HeaderMap, HeaderValue};

use super::Gateway;
use super::conn::Known;
use super::exchange::Exchange;
use super::rules::Rules;
use super::site::Site;
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::http::cookie::{Found, without_own};
use crate::session::Session;
use crate::session::lookup::Lookup;
use crate::session::manager::Sessions;
use crate::session::refresh::Outcome;

/// Refreshes that one request follows from an old cookie: more than fit into any sensible grace.
const MOST_SUCCESSORS: usize = 16;

/// Puts the session, if there is one, into the exchange. Returns the request's cookies without ours. Nobody is looked for
/// on a public route; our cookies are taken out all the same. `None` = one of our own endpoints.
pub async fn authenticate(
    gateway: &Gateway,
    exchange: &mut Exchange,
    rules: Option<&Rules>,
    site: &Arc<Site>,
    headers: &HeaderMap,
) -> Result<Option<HeaderValue>> {
    let mut fields = headers.get_all(COOKIE).iter();
    let Some(first) = fields.next() else { return Ok(None) };
    if exchange.preflight {
        return Ok(without_own(headers, gateway.sessions.name()));
    }
    let single = fields.next().is_none();
    // PERF: read before the session is looked up, so that an end in between is not missed.
    let epoch = gateway.sessions.state.epoch();
    if single
        && let Some((session, rest)) = exchange.conn.known(first, site, epoch, exchange.now_ms)
        // SECURITY: while a reload swaps configurations, the older one may have made it in the newer one's epoch.
        && gateway.sessions.is_of_this_configuration(&session)
    {
        exchange.session = Some(session);
        return Ok(rest);
    }
    let found = Found::scan(headers, gateway.sessions.name());
    if !found.any {
        return Ok(without_own(headers, gateway.sessions.name()));
    }
    let rest = without_own(headers, gateway.sessions.name());
    if rules.is_some_and(Rules::is_public) {
        return Ok(rest);
    }
    // PERF: everything beyond here is rare and large; boxed, it does not swell the future of every request.
    let settled = Box::pin(look_up(gateway, exchange, site, &found)).await?;
    if let Some(session) = &exchange.session
        && settled
        && single
    {
        exchange.conn.keep(Known {
            cookie: first.clone(),
            session: Arc::clone(session),
            rest: rest.clone(),
            site: Arc::clone(site),
            epoch,
            until_ms: gateway.sessions.good_until(session, exchange.now_ms),
        });
    }
    Ok(rest)
}

/// True when these very cookies may be remembered: nothing about them has to change.
async fn look_up(gateway: &Gateway, exchange: &mut Exchange, site: &Site, found: &Found<'_>) -> Result<bool> {
    let sessions = &gateway.sessions;
    let host = site.origin.host();
    let live = match sessions.find(found, host, exchange.now_ms).await? {
        Lookup::Absent => return Ok(false),
        Lookup::Refused => {
            gateway.metrics.cache("session", false);
            exchange.cookies.extend(sessions.clear(found));
            return Ok(false);
        }
        Lookup::Live(live) => live,
    };
    gateway.metrics.cache("session", live.cached);
    let mut session = Arc::clone(&live.session);
    let mut reissue = live.stale;
    let mut under_way = false;
    // A browser that goes on sending the cookie of before gets the successor, and that may be due by now itself.
    for _ in 0..MOST_SUCCESSORS {
        if !Sessions::wants_refresh(&session, exchange.now_ms) {
            break;
        }
        match refreshed(gateway, exchange, &session).await? {
            Renewed::Fresh(fresh) => {
                session = fresh;
                reissue = true;
            }
            Renewed::Ended => {
                exchange.cookies.extend(sessions.clear(found));
                return Ok(false);
            }
            Renewed::UnderWay => {
                under_way = true;
                break;
            }
            Renewed::Not => break,
        }
    }
    // Also what a refresh brought, perhaps long ago, and what has to do without one: it is used now. But not while one is
    // under way: the cookie of before, on an answer that takes long, would take the place of its successor.
    if !under_way
        && sessions.is_untouched(&session, exchange.now_ms)
        && let Some(touched) = sessions.touch(&session)
    {
        session = touched;
        reissue = true;
    }
    if reissue {
        exchange.cookies.extend(sessions.issue(&session, host, found)?);
    }
    let shown = sessions.jar(host).clear_count(found);
    let settled = !reissue && shown.is_none();
    exchange.cookies.extend(shown);
    exchange.session = Some(session);
    Ok(settled)
}

/// What became of a refresh that was due.
enum Renewed {
    Fresh(Arc<Session>),
    Ended,
    UnderWay,
    /// It goes on as it was.
    Not,
}

async fn refreshed(gateway: &Gateway, exchange: &Exchange, session: &Arc<Session>) -> Result<Renewed> {
    let Some(provider) = gateway.voucher(session) else {
        // The provider is gone from the configuration: so is whoever it vouched for.
        return Ok(Renewed::Ended);
    };
    let metrics = Arc::clone(&gateway.metrics);
    let flight = gateway.sessions.refresh(session, provider, move |outcome| metrics.refresh(outcome));
    let Some(flight) = flight else { return Ok(Renewed::Not) };
    let must_wait = Sessions::needs_refresh(session, exchange.now_ms);
    let outcome = match flight.outcome() {
        Some(outcome) => {
            gateway.metrics.refresh("shared");
            outcome
        }
        // The token is still good: nobody waits (the refresh goes on by itself).
        None if !must_wait => return Ok(Renewed::UnderWay),
        None => flight.wait(provider.settings().timeout).await,
    };
    match outcome {
        // SECURITY: OX-08. It may have been signed out while this request waited.
        Outcome::Fresh(session) => {
            Ok(gateway.sessions.adopt(session, clock::unix_now_ms()).map_or(Renewed::Ended, Renewed::Fresh))
        }
        Outcome::Ended => Ok(Renewed::Ended),
        Outcome::Failed if must_wait => Err(Error::new(
            Kind::ProviderUnavailable,
            "the access token has expired and the provider cannot renew it now",
        )),
        Outcome::Failed => Ok(Renewed::Not),
    }
}
