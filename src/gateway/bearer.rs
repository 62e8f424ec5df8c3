//! Credentials that a machine brings in `Authorization`, on routes that take them: known by their hash, or judged now.
//! Which ones hold is `machine`'s to say; what a refusal looks like is `respond`'s.

use http::header::WWW_AUTHENTICATE;
use http::request::Parts;

use super::admit::Admitted;
use super::exchange::Exchange;
use super::resource::{self, Resource};
use super::respond::Asker;
use super::rules::Rules;
use super::{Gateway, challenge, returns, www_authenticate};
use crate::audit;
use crate::config::settings::{self, Settings};
use crate::error::{Error, Kind, Result};
use crate::http::reply::{self, Reply};
use crate::machine::credentials::Credentials;
use crate::telemetry::Safe;
use crate::telemetry::metrics::Outcome;

/// What a route that takes tokens is compiled to.
#[derive(Debug)]
pub struct Tokens {
    pub settings: settings::Machine,
    /// Those that `allow` rules name.
    pub scopes: Vec<String>,
    /// `None` = the route does not publish where its tokens come from.
    pub resource: Option<Resource>,
}

impl Tokens {
    pub fn new(machine: &settings::Machine, route: &settings::Route, settings: &Settings) -> Self {
        Self {
            scopes: resource::scopes(&route.access),
            resource: machine.resource_metadata.then(|| Resource::new(machine, route, settings)),
            settings: machine.clone(),
        }
    }
}

/// Puts the machine into the exchange.
///
/// # Errors
/// Whatever keeps it out: there is no session in its place.
pub async fn authenticate(gateway: &Gateway, exchange: &mut Exchange, tokens: &Tokens, parts: &Parts) -> Result<()> {
    let unset = || Error::new(Kind::Internal, "a route takes tokens and nothing judges them");
    let machines = gateway.machines.as_ref().ok_or_else(unset)?;
    let route = &tokens.settings;
    let credentials = Credentials::read(&parts.headers, parts.uri.query(), route.basic.is_some())?;
    let credentials = credentials.ok_or_else(|| Error::new(Kind::Token, "no credentials"))?;
    let digest = machines.digest(route, &credentials);
    let known = machines.recall(route, &digest, exchange.now_ms);
    gateway.token_lookups.count(known.is_some());
    let machine = match known {
        Some(known) => known?,
        // PERF: boxed: seldom, and large.
        None => Box::pin(machines.judge(route, &credentials, digest, exchange.client)).await?,
    };
    machine.holds_over(exchange.certificate().map(|shown| &*shown.thumbprint))?;
    exchange.machine = Some(machine);
    Ok(())
}

/// The answer to credentials that do not let in, and the audit line of it.
pub fn refuse(
    gateway: &Gateway,
    exchange: &Exchange,
    admitted: &Admitted<'_>,
    rules: &Rules,
    parts: &Parts,
    error: &Error,
) -> Reply {
    let refused = matches!(error.kind(), Kind::BadRequest | Kind::RateLimited | Kind::Token);
    exchange.decided(if refused { Outcome::Deny } else { Outcome::Error });
    let asker = Asker::new(gateway, exchange, &parts.method, &parts.headers);
    let site = &admitted.site;
    match error.kind() {
        Kind::Token => {
            audit!(
                event = "token_refused",
                reason = %Safe(&error.to_string()),
                route = rules.name(),
                client = %exchange.client,
                request_id = exchange.id(),
            );
            let url = challenge::login_url(gateway, site, &returns::own(gateway, admitted, parts.uri.query()));
            asker.unauthorized(true, &url, www_authenticate::refused(rules, site, "invalid_token"))
        }
        Kind::BadRequest => {
            let challenges = www_authenticate::refused(rules, site, "invalid_request");
            let reply = asker.failed(error);
            challenges.into_iter().fold(reply, |reply, one| reply::with(reply, WWW_AUTHENTICATE, one))
        }
        _ => asker.failed(error),
    }
}
