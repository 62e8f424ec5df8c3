//! Routes and rules as their configuration spells them.

use std::fmt::Write as _;

use crate::config::settings::{HostMatch, PathMatch, Require, Route, Rule};
use crate::policy::Answer;

pub(super) fn answer(answer: Answer) -> &'static str {
    match answer {
        Answer::No => "not matched",
        Answer::Unknown => "unknown",
        Answer::Yes => "matched",
    }
}

/// Why a request is this route's.
pub(super) fn matches(route: &Route) -> String {
    let host = match &route.host {
        HostMatch::Any => "any host".to_owned(),
        HostMatch::Exact(host) => format!("the host {host}"),
        HostMatch::Wildcard(rest) => format!("a host *.{rest}"),
    };
    let path = match &route.path {
        PathMatch::Exact(path) => format!("the path {path}"),
        PathMatch::Prefix(path) => format!("the prefix {path}"),
    };
    if route.methods.is_empty() {
        format!("{host}, {path}, any method")
    } else {
        format!("{host}, {path}, {}", route.methods.join(" "))
    }
}

pub(super) fn required(require: &Require) -> String {
    let acr = (!require.acr.is_empty()).then(|| format!("acr {}", require.acr.join(" or ")));
    let age = require.max_age.map(|max| format!("a sign-in within the last {} s", max.as_secs()));
    acr.into_iter().chain(age).collect::<Vec<_>>().join(", ")
}

/// `{ group = "staff", network = ["10.0.0.0/8", "fd00::/8"] }`
pub(super) fn rule(rule: &Rule) -> String {
    let networks: Vec<String> = rule.network.iter().map(ToString::to_string).collect();
    let mut keys = Vec::new();
    for (key, values) in [
        ("user", &rule.user),
        ("email", &rule.email),
        ("email_domain", &rule.email_domain),
        ("group", &rule.group),
        ("scope", &rule.scope),
        ("provider", &rule.provider),
        ("issuer", &rule.issuer),
        ("client", &rule.client),
        ("certificate", &rule.certificate),
        ("network", &networks),
        ("method", &rule.method),
    ] {
        if !values.is_empty() {
            keys.push(format!("{key} = {}", list(values)));
        }
    }
    keys.extend(rule.claims.iter().map(|(path, texts)| format!("\"claim.{path}\" = {}", list(texts))));
    format!("{{ {} }}", keys.join(", "))
}

fn list(values: &[String]) -> String {
    /// Of a list of hundreds, which nobody reads in a line.
    const SHOWN: usize = 8;
    if let [one] = values {
        return format!("{one:?}");
    }
    let shown: Vec<String> = values.iter().take(SHOWN).map(|value| format!("{value:?}")).collect();
    let mut text = format!("[{}", shown.join(", "));
    if values.len() > SHOWN {
        // Writing to a String cannot fail.
        let _ = write!(text, ", and {} more", values.len() - SHOWN);
    }
    text.push(']');
    text
}
