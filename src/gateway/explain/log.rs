//! The same explanation of requests that are served, by request id, for whoever turns `doorward::explain` on in the log.

use std::fmt;

use http::header::HeaderMap;

use super::super::Gateway;
use super::super::authorize::{Verdict, authorize, decide};
use super::super::exchange::Exchange;
use super::super::rules::Rules;
use super::super::site::Site;
use super::{Collected, outcome};
use crate::telemetry::Safe;

/// As `authorize` decides, and told in one line where that is asked for. PERF: one look at a level where it is not.
pub fn authorize_and_tell(
    gateway: &Gateway,
    site: &Site,
    rules: &Rules,
    exchange: &Exchange,
    headers: &HeaderMap,
) -> Verdict {
    if tracing::enabled!(target: "doorward::explain", tracing::Level::DEBUG) {
        return tell(gateway, site, rules, exchange, headers);
    }
    authorize(rules, exchange, headers)
}

#[cold]
#[inline(never)]
fn tell(gateway: &Gateway, site: &Site, rules: &Rules, exchange: &Exchange, headers: &HeaderMap) -> Verdict {
    let mut tried = Collected::default();
    let verdict = decide(rules, exchange, headers, &mut tried);
    let (decision, reason) = outcome(rules, &verdict);
    let mut identity = HeaderMap::new();
    if let (Verdict::Allow | Verdict::Observe(_), Some(who)) = (&verdict, exchange.who()) {
        // What cannot be made is told when the request is to go on.
        let _ = rules.identify(who, &gateway.stamp(exchange, site), &mut identity);
    }
    let names: Vec<&str> = identity.keys().map(http::HeaderName::as_str).collect();
    tracing::debug!(
        target: "doorward::explain",
        request_id = exchange.id(),
        route = rules.name(),
        rules = %tried,
        ?decision,
        reason = %Safe(reason.as_deref().unwrap_or("-")),
        headers = names.join(" "),
        "explained"
    );
    verdict
}

/// `deny[1] not matched, allow[1] matched`
impl fmt::Display for Collected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (list, number, answer)) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            write!(f, "{comma}{}[{}] {}", list.name(), number + 1, super::words::answer(*answer))?;
        }
        Ok(())
    }
}
