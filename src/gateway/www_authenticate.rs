//! `WWW-Authenticate`: what a program is told about how to come back (RFC 9110 §11.6.1, RFC 6750 §3, RFC 9728 §5.1).

use std::fmt::Write as _;

use http::header::{HeaderValue, WWW_AUTHENTICATE};

use super::exchange::Exchange;
use super::rules::Rules;
use super::site::Site;
use crate::http::reply::{self, Reply};

/// Where nothing more is known.
pub fn plain() -> HeaderValue {
    HeaderValue::from_static("Bearer realm=\"doorward\"")
}

/// For whoever showed nothing: no error code (RFC 6750 §3.1).
pub fn challenges(rules: &Rules, site: &Site) -> Vec<HeaderValue> {
    all(rules, site, &[])
}

/// For whoever showed something that does not hold.
pub fn refused(rules: &Rules, site: &Site, error: &str) -> Vec<HeaderValue> {
    all(rules, site, &[("error", error)])
}

/// Tells a machine that was turned away by the rules which scopes they name, where it lacks one.
pub fn insufficient_scope(reply: Reply, exchange: &Exchange, rules: &Rules, site: &Site) -> Reply {
    let (Some(machine), Some(tokens)) = (&exchange.machine, &rules.machine) else { return reply };
    if tokens.scopes.iter().all(|scope| machine.scopes.contains(scope)) {
        return reply;
    }
    let scopes = tokens.scopes.join(" ");
    let challenge = bearer(rules, site, &[("error", "insufficient_scope"), ("scope", &scopes)]);
    reply::with(reply, WWW_AUTHENTICATE, challenge)
}

fn all(rules: &Rules, site: &Site, parameters: &[(&str, &str)]) -> Vec<HeaderValue> {
    let mut challenges = vec![bearer(rules, site, parameters)];
    if rules.machine.as_ref().is_some_and(|tokens| tokens.settings.basic.is_some()) {
        challenges.push(HeaderValue::from_static("Basic realm=\"doorward\", charset=\"UTF-8\""));
    }
    challenges
}

fn bearer(rules: &Rules, site: &Site, parameters: &[(&str, &str)]) -> HeaderValue {
    let mut text = "Bearer realm=\"doorward\"".to_owned();
    let metadata = rules.machine.as_ref().and_then(|tokens| tokens.resource.as_ref()).map(|of| of.metadata_url(site));
    let hint = metadata.as_deref().map(|url| ("resource_metadata", url));
    for (name, value) in parameters.iter().copied().chain(hint) {
        // Writing to a String cannot fail.
        let _ = write!(text, ", {name}=\"");
        quote(value, &mut text);
        text.push('"');
    }
    HeaderValue::from_str(&text).unwrap_or_else(|_| plain())
}

/// O-09: the inside of a quoted-string (RFC 9110 §5.6.4). What is no visible ASCII is left out.
fn quote(value: &str, out: &mut String) {
    for c in value.chars().filter(|c| matches!(c, ' '..='~')) {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o_09_a_value_cannot_leave_its_quotes() {
        let mut out = String::new();
        quote("a\", error=\"x\\\r\nSet-Cookie: ä", &mut out);
        assert_eq!(out, "a\\\", error=\\\"x\\\\Set-Cookie: ");
    }
}
