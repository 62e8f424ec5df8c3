//! Decisions for proxies that ask about a request and forward it themselves: `auth`, `forward` and `ext_authz`, and the
//! `judge` that Envoy's gRPC shares with them.
//!
//! The request that is judged is the one that the proxy tells of (`original`); from there it takes the same way as one that
//! came here: route, identify, authorize. Only trusted proxies may ask, since whoever asks says for whom. Nothing here
//! forwards anything.

mod narrow;
pub mod original;
pub mod passed;
mod readings;

use std::sync::Arc;

use http::StatusCode;
use http::header::{Entry, HeaderName, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE};
use http::request::Parts;
use hyper::body::{Body as _, Incoming};

use self::narrow::Narrow;
use self::original::{Named, Original};
use self::passed::Passed;
use super::admit::{self, Admitted};
use super::authorize::Verdict;
use super::exchange::{Asked, Exchange};
use super::explain::log::authorize_and_tell;
use super::forward::{same_origin, unpresented};
use super::respond::{Asker, Manner};
use super::route::{self, Head, Routed};
use super::rules::Rules;
use super::site::Site;
use super::upstream_auth::Authorization;
use super::{Gateway, identify, refuse};
use crate::audit;
use crate::config::settings::{Access, IdentityValue, Rule};
use crate::http::cookie::deletes;
use crate::http::forwarded::Seen;
use crate::http::refusal::Refusal;
use crate::http::reply::{self, Reply};
use crate::http::uri::{canonical_host, canonical_path};
use crate::telemetry::metrics::Outcome;

const SEC_WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");

/// How the proxy that asks tells of the request, and what it does with the answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dialect {
    /// In headers; it reads the status: nginx, HAProxy.
    Auth,
    /// As it is, below the endpoint; it passes on what is not positive: Envoy.
    ExtAuthz,
    /// In headers; likewise: Traefik, Caddy.
    Forward,
}

impl Dialect {
    fn asked(self) -> Asked {
        match self {
            Self::Auth => Asked::ForDecision,
            Self::ExtAuthz | Self::Forward => Asked::ForAnswer,
        }
    }
}

/// What a path asks for, as it was sent; `None` = it is a request like any other.
pub fn dialect(gateway: &Gateway, raw: &str) -> Option<Dialect> {
    match raw.strip_prefix(&gateway.own)? {
        "auth" => Some(Dialect::Auth),
        "forward" => Some(Dialect::Forward),
        name => name
            .strip_prefix("ext_authz")
            .filter(|rest| rest.is_empty() || rest.starts_with('/'))
            .map(|_| Dialect::ExtAuthz),
    }
}

/// The answer to a proxy that asks over HTTP.
pub async fn answer(
    gateway: &Arc<Gateway>,
    exchange: &mut Exchange,
    parts: Parts,
    dialect: Dialect,
    body: &Incoming,
) -> Reply {
    exchange.route = Arc::clone(&gateway.own_counters);
    let narrow = (dialect != Dialect::ExtAuthz).then(|| Narrow::read(parts.uri.query().unwrap_or_default()));
    let about = match admit::sound(gateway, &parts) {
        Err(refusal) => Err(refusal),
        Ok(()) if !gateway.trusts(exchange.conn.peer) => Err(NOT_TRUSTED),
        Ok(()) => original::read(gateway, exchange.conn.peer, &parts, dialect),
    };
    let judged = match about {
        Ok(about) => {
            let original = about.of(parts, !body.is_end_stream());
            exchange.about(dialect.asked(), &original.parts.method, original.parts.uri.path_and_query());
            judge(gateway, exchange, &original, narrow.flatten().as_ref()).await
        }
        Err(refusal) => Err(not_judged(gateway, exchange, &parts, refusal)),
    };
    match (judged, dialect) {
        (Ok(passed), Dialect::Auth) => {
            let reply = passed.reply(gateway.settings.server.forward_auth.success_status, &exchange.cookies);
            // RF-01. What was written for oauth2-proxy has nginx pass on one `Set-Cookie`: since 1.23 that is all of them
            // joined by commas, and a browser takes the last `Max-Age` in it for the first cookie's.
            if !exchange.cookies.iter().all(deletes) {
                exchange.cookies.retain(|cookie| !deletes(cookie));
            }
            reply
        }
        (Ok(passed), Dialect::ExtAuthz | Dialect::Forward) => passed.reply(200, &exchange.cookies),
        (Err(reply), Dialect::Auth) => as_status(reply),
        (Err(reply), Dialect::ExtAuthz | Dialect::Forward) => never_positive(reply),
    }
}

pub const NOT_TRUSTED: Refusal =
    Refusal::new(StatusCode::FORBIDDEN, "decisions are only for the proxies that server.trusted_proxies names");

/// The answer to a proxy that may not ask, or does not say clearly about what.
pub fn not_judged(gateway: &Gateway, exchange: &Exchange, parts: &Parts, refusal: Refusal) -> Reply {
    exchange.decided(Outcome::Deny);
    audit!(
        event = "not_judged",
        reason = refusal.why(),
        peer = %exchange.conn.peer,
        request_id = exchange.id(),
    );
    Asker::new(gateway, exchange, &parts.method, &parts.headers).refused(StatusCode::FORBIDDEN, refusal.why())
}

/// The journey of a request that somebody else forwards. `Err` is what its client is to get.
pub async fn judge<'a>(
    gateway: &'a Arc<Gateway>,
    exchange: &mut Exchange,
    original: &Original,
    narrow: Option<&Narrow>,
) -> Result<Passed<'a>, Reply> {
    let parts = &original.parts;
    exchange.client = original.client;
    let refused = |exchange: &Exchange, refusal| not_judged(gateway, exchange, parts, refusal);
    let admitted = admitted(gateway, original).map_err(|refusal| refused(exchange, refusal))?;
    exchange.site = Some(Arc::clone(&admitted.site));
    let rules = match place(gateway, original, &admitted) {
        Ok(Routed::To(rules)) => rules,
        Ok(Routed::Preflight(rules)) => {
            exchange.preflight = true;
            rules
        }
        Ok(Routed::Nowhere(why)) => {
            exchange.decided(Outcome::Deny);
            return Err(refuse::nowhere(gateway, exchange, &admitted, parts, why));
        }
        Err(refusal) => return Err(refused(exchange, refusal)),
    };
    exchange.route = Arc::clone(&rules.counters);
    told_enough(gateway, original, &admitted, rules).map_err(|refusal| refused(exchange, refusal))?;
    tells_no_secret(original, rules).map_err(|refusal| refused(exchange, refusal))?;

    let cookie = identify(gateway, exchange, &admitted, rules, parts).await?;
    match authorize_and_tell(gateway, &admitted.site, rules, exchange, &parts.headers) {
        Verdict::Allow => {}
        Verdict::Observe(reason) => refuse::audit_refusal(exchange, rules, "observed", reason),
        verdict => return Err(refuse::turn_away(gateway, exchange, &admitted, rules, parts, verdict).await),
    }
    if let Some(reply) = narrow.and_then(|narrow| narrow.refuse(gateway, exchange, &admitted, rules, parts)) {
        return Err(reply);
    }
    // SECURITY: WX-02. Proxies keep `Upgrade` to themselves, not the rest of the handshake.
    let handshake = parts.headers.contains_key(UPGRADE) || parts.headers.contains_key(SEC_WEBSOCKET_KEY);
    if handshake && !same_origin(rules, &admitted, &parts.headers) {
        exchange.decided(Outcome::Deny);
        return Err(Asker::new(gateway, exchange, &parts.method, &parts.headers).forbidden(None, None));
    }
    let authorization = authorization(gateway, exchange, rules, &admitted.site, parts).await?;
    let passed = Passed::new(gateway, exchange, rules, &admitted.site, authorization, cookie);
    let passed = passed.map_err(|error| Asker::new(gateway, exchange, &parts.method, &parts.headers).failed(&error))?;
    exchange.decided(Outcome::Allow);
    Ok(passed)
}

/// As `admit` does for what came here itself.
fn admitted<'a>(gateway: &Gateway, original: &'a Original) -> Result<Admitted<'a>, Refusal> {
    let parts = &original.parts;
    admit::few_headers(gateway, parts)?;
    admit::method(&parts.method)?;
    let host = canonical_host(&original.host)?;
    let site = Arc::new(Site::new(&host, original.scheme, &gateway.settings.server.public_url, &gateway.table));
    let seen = Seen { client: original.client, proto: original.scheme, host: None, chain: None };
    Ok(Admitted { path: admit::path(gateway, &site, parts.uri.path())?, site, client: original.client, seen })
}

/// The one route that every reader of this path finds.
fn place<'a>(gateway: &'a Gateway, original: &Original, admitted: &Admitted<'_>) -> Result<Routed<'a>, Refusal> {
    let (site, parts) = (&admitted.site, &original.parts);
    // SECURITY: PX-28. What is below the prefix is answered here and by nobody else.
    let is_ours = canonical_path(parts.uri.path()).is_ok_and(|path| gateway.is_own(&path.matching));
    if is_ours || gateway.is_own(&admitted.path.matching) {
        return Err(bad("one of Doorward's own endpoints: the proxy is to send them here without asking"));
    }
    let head = Head { method: &parts.method, headers: &parts.headers, has_body: original.has_body };
    let routed = route::route(gateway, site, &admitted.path, &head);
    // SECURITY: PX-01. The proxy forwards the path as it came, and what reads it next may not do as we do.
    if !site.takes_raw && !readings::lead_to_one_route(gateway, site, parts) {
        return Err(bad("a path that normalising would lead to another route"));
    }
    Ok(routed)
}

/// SECURITY: PX-23. What was not told may be left out of the decision only where it would change nothing.
fn told_enough(gateway: &Gateway, original: &Original, admitted: &Admitted<'_>, rules: &Rules) -> Result<(), Refusal> {
    let policy = match &rules.settings.access {
        Access::Policy(policy) => Some(policy),
        Access::Authenticated | Access::Deny | Access::Optional | Access::Public => None,
    };
    let any = |asks: fn(&Rule) -> bool| policy.is_some_and(|policy| policy.allow.iter().chain(&policy.deny).any(asks));
    let (host, path) = (&admitted.site.host, &admitted.path.matching);
    if !original.told.path && !gateway.table.is_alone(host) {
        return Err(bad("the proxy does not say which path is asked for (X-Original-URL or X-Forwarded-Uri)"));
    }
    let by_method = || any(|rule| !rule.method.is_empty()) || !gateway.table.methods(host, path).is_empty();
    if !original.told.method && by_method() {
        return Err(bad("the proxy does not say by which method (X-Original-Method or X-Forwarded-Method)"));
    }
    let by_network = || any(|rule| !rule.network.is_empty());
    match original.told.client {
        Named::No if by_network() => Err(bad("the proxy does not say who asks (X-Forwarded-For or X-Real-IP)")),
        Named::Twice if by_network() => Err(bad("X-Real-IP and X-Forwarded-For name two clients")),
        Named::No | Named::Once | Named::Twice => Ok(()),
    }
}

/// SECURITY: PX-20. Behind a balancer that is trusted anybody can ask. Where Doorward forwards to the upstream itself, nobody
/// has to, and what the upstream is shown is not for its people to read.
fn tells_no_secret(original: &Original, rules: &Rules) -> Result<(), Refusal> {
    let is_secret = |value: &IdentityValue| matches!(value, IdentityValue::AccessToken | IdentityValue::Assertion);
    let shows = || rules.presents.is_some() || rules.settings.identity.iter().any(|header| is_secret(&header.value));
    if original.among_people && rules.upstream.is_some() && shows() {
        return Err(bad(
            "Doorward forwards this route itself, with credentials: it tells them where upstream = \"status:404\"",
        ));
    }
    Ok(())
}

/// `Authorization` as the application behind the proxy is to have it.
async fn authorization(
    gateway: &Gateway,
    exchange: &Exchange,
    rules: &Rules,
    site: &Site,
    parts: &Parts,
) -> Result<Authorization, Reply> {
    let Some(presents) = super::forward::presented(rules, exchange) else {
        // What Doorward judges is not the upstream's as well.
        return Ok(if rules.machine.is_some() { Authorization::Removed } else { Authorization::Theirs });
    };
    let who = exchange.who().filter(|who| rules.vouched(*who));
    let presented = presents.authorization(who, &gateway.stamp(exchange, site)).await;
    let manner = Manner::of(&parts.method, &parts.headers);
    presented.map_err(|unfit| unpresented(gateway, exchange, rules, manner, &unfit))
}

/// 401, 403 or 503, whatever the reason: nginx makes an error of its own of everything else. Nobody reads what it says, and
/// nginx ends a connection on which there is something to read.
fn as_status(mut reply: Reply) -> Reply {
    let status = match reply.status() {
        StatusCode::UNAUTHORIZED => StatusCode::UNAUTHORIZED,
        status if status.is_server_error() => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::FORBIDDEN,
    };
    let mut bare = reply::empty(status);
    for name in [WWW_AUTHENTICATE, RETRY_AFTER] {
        if let Entry::Occupied(entry) = reply.headers_mut().entry(&name) {
            for value in entry.remove_entry_mult().1 {
                bare = reply::with(bare, name.clone(), value);
            }
        }
    }
    bare
}

/// SECURITY: whoever asks takes any 2xx for a yes.
fn never_positive(reply: Reply) -> Reply {
    if reply.status().is_success() { reply::empty(StatusCode::FORBIDDEN) } else { reply }
}

pub const fn bad(why: &'static str) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, why)
}
