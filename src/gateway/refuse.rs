//! The answers to requests that do not pass, and their audit lines: no route, nobody, nobody who may.

use std::sync::Arc;

use http::StatusCode;
use http::request::Parts;

use super::admit::Admitted;
use super::authorize::{Reason, Verdict};
use super::exchange::Exchange;
use super::respond::Asker;
use super::route::{self, Nowhere};
use super::rules::Rules;
use super::who::Who;
use super::{Gateway, challenge, returns, www_authenticate};
use crate::audit;
use crate::error::{Error, Kind};
use crate::http::reply::Reply;
use crate::telemetry::Safe;
use crate::telemetry::metrics::Outcome;

/// The answer to a request that no route takes.
pub fn nowhere(gateway: &Gateway, exchange: &Exchange, admitted: &Admitted<'_>, parts: &Parts, why: Nowhere) -> Reply {
    let asker = Asker::new(gateway, exchange, &parts.method, &parts.headers);
    match why {
        Nowhere::Ambiguous => asker.refused(StatusCode::BAD_REQUEST, route::AMBIGUOUS),
        Nowhere::Method => asker.method_not_allowed(&route::allow(gateway, &admitted.site, &admitted.path)),
        Nowhere::NotFound => asker.not_found(),
    }
}

/// The answer to a request that may not pass, and the audit line of it.
pub async fn turn_away(
    gateway: &Arc<Gateway>,
    exchange: &mut Exchange,
    admitted: &Admitted<'_>,
    rules: &Rules,
    parts: &Parts,
    verdict: Verdict,
) -> Reply {
    let site = &admitted.site;
    let target = returns::own(gateway, admitted, parts.uri.query());
    let challenged = match verdict {
        Verdict::Deny(reason) => {
            exchange.decided(Outcome::Deny);
            audit_refusal(exchange, rules, "refused", reason);
            let rule = gateway.settings.server.show_rule.then(|| reason.text(rules));
            let reply = Asker::new(gateway, exchange, &parts.method, &parts.headers)
                .forbidden(exchange.session.as_deref().map(|session| (session, site.origin.host())), rule.as_deref());
            return www_authenticate::insufficient_scope(reply, exchange, rules, site);
        }
        // These never come here; if one did, it would not pass here either.
        Verdict::Allow | Verdict::Observe(_) => {
            let error = Error::new(Kind::Internal, "a request that may pass was turned away");
            exchange.decided(Outcome::Error);
            return Asker::new(gateway, exchange, &parts.method, &parts.headers).failed(&error);
        }
        Verdict::BadCredentials => {
            exchange.decided(Outcome::Deny);
            let url = challenge::login_url(gateway, site, &target);
            return Asker::new(gateway, exchange, &parts.method, &parts.headers).unauthorized(
                true,
                &url,
                www_authenticate::refused(rules, site, "invalid_token"),
            );
        }
        Verdict::SignIn => challenge::challenge(gateway, exchange, site, rules, parts, &target, false).await,
        Verdict::StepUp => challenge::challenge(gateway, exchange, site, rules, parts, &target, true).await,
    };
    match challenged {
        Ok(reply) => {
            exchange.decided(if matches!(verdict, Verdict::StepUp) { Outcome::StepUp } else { Outcome::SignIn });
            reply
        }
        Err(error) => {
            exchange.decided(Outcome::Error);
            Asker::new(gateway, exchange, &parts.method, &parts.headers).failed(&error)
        }
    }
}

/// Who was refused, where and by which rule.
pub fn audit_refusal(exchange: &Exchange, rules: &Rules, event: &'static str, reason: Reason) {
    audit!(
        event,
        user = %Safe(exchange.who().map_or("-", Who::name)),
        route = rules.name(),
        rule = %Safe(&reason.text(rules)),
        client = %exchange.client,
        request_id = exchange.id(),
    );
}
