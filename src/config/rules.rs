//! Policies as written: `[policy.NAME]`, and `allow`/`deny` of a route.

use std::collections::BTreeSet;
use std::net::IpAddr;

use figment::value::Value;
use ipnet::IpNet;

use super::certificate;
use super::problem::Reason;
use super::read::{Entry, Table};
use super::route::method;
use super::settings::{Access, Policy, Route, Rule};
use super::values;

/// What rules refer to by name.
pub(super) struct Sections {
    pub(super) providers: Vec<String>,
    pub(super) issuers: Vec<String>,
    /// Clients are asked for certificates.
    pub(super) certificates: bool,
}

/// How deep the tables of `claim` may nest: deeper than any token.
const DEEPEST: usize = 16;

/// Both lists of a table; what is wrong is reported, an empty policy too.
pub(super) fn policy(table: &Table<'_>, sections: &Sections) -> Policy {
    let policy = Policy { name: None, allow: rules(table, "allow", sections), deny: rules(table, "deny", sections) };
    if !table.has("allow") && !table.has("deny") {
        table.missing(
            "allow",
            "Say who may pass: allow = [{ email_domain = \"example.com\" }]; for everybody: \
             access = \"authenticated\".",
        );
    }
    policy
}

/// `[policy.NAME]`, whose keys are those two.
pub(super) fn named(name: &str, table: Table<'_>, sections: &Sections) -> Policy {
    let policy = Policy { name: Some(name.to_owned()), ..policy(&table, sections) };
    table.close();
    policy
}

fn rules(table: &Table<'_>, list: &'static str, sections: &Sections) -> Vec<Rule> {
    let Some(tables) = table.tables(list) else { return Vec::new() };
    // SECURITY: an empty list reads as "nobody" to one and "no rule" to another: neither is guessed.
    if tables.is_empty() {
        table.problem(list, "is empty", "Write at least one rule, or remove the key.");
    }
    tables.into_iter().map(|table| rule(table, sections)).collect()
}

fn rule(table: Table<'_>, sections: &Sections) -> Rule {
    if table.is_empty() {
        table.reader().problem(
            &table.key,
            table.tag(),
            "is an empty rule, which would match everybody",
            "Write at least one of user, email, email_domain, group, claim, scope, provider, issuer, client, certificate, \
             network, method.",
        );
    }
    let rule = Rule {
        user: names(&table, "user", any),
        email: names(&table, "email", email),
        email_domain: names(&table, "email_domain", email_domain),
        group: names(&table, "group", any),
        claims: claims(&table),
        scope: names(&table, "scope", scope),
        provider: names(&table, "provider", |text| {
            if sections.providers.iter().any(|p| p == text) {
                return Ok(text.to_owned());
            }
            Err(Reason::new("is the name of no provider", "Write the NAME of a [provider.NAME] section."))
        }),
        issuer: names(&table, "issuer", |text| {
            if sections.issuers.iter().chain(&sections.providers).any(|i| i == text) {
                return Ok(text.to_owned());
            }
            Err(Reason::new(
                "is the name of no issuer",
                "Write the NAME of an [issuer.NAME] or [provider.NAME] section, not its URL.",
            ))
        }),
        client: names(&table, "client", any),
        certificate: names(&table, "certificate", |text| match sections.certificates {
            true => certificate::name(text).map_err(|what| Reason::new(what, certificate::HINT)),
            // SECURITY: a `deny` that matches nobody is none.
            false => Err(Reason::new(
                "is in no client's certificate: none is asked for",
                "Write client_ca in [server.tls], or remove it.",
            )),
        }),
        network: names(&table, "network", network),
        method: names(&table, "method", method),
    };
    table.close();
    rule
}

/// A list that is written must say something: an empty one would be no condition at all.
fn names<T>(table: &Table<'_>, key: &'static str, parse: impl Fn(&str) -> Result<T, Reason>) -> Vec<T> {
    let Some(entry) = table.entry(key) else { return Vec::new() };
    let items = members(entry, "a string or a list of strings", &|v| v.as_str().is_some());
    items.into_iter().filter_map(|item| item.parse(&parse)).collect()
}

/// What a list says, or one value alone. Neither nothing nor an empty string is among it: both are reported.
fn members<'r>(entry: Entry<'r>, wanted: &str, alone: &dyn Fn(&Value) -> bool) -> Vec<Entry<'r>> {
    let place = entry.clone();
    let Some(mut items) = entry.items(wanted, alone) else { return Vec::new() };
    if items.is_empty() {
        place.problem("is empty", "Write at least one, or remove the key.");
    }
    items.retain(|item| {
        let says_nothing = item.value.as_str() == Some("");
        if says_nothing {
            item.problem("is an empty string", "Write a value, or remove it.");
        }
        !says_nothing
    });
    items
}

/// `claim.department = "x"` is a table of tables in TOML; `"claim.department" = "x"` is one key. Both say the same.
fn claims(table: &Table<'_>) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    if let Some(entry) = table.entry("claim") {
        match entry.value {
            Value::Dict(..) => claims_below(entry, "", 0, &mut found),
            _ => entry.wrong_type("a table", "Write claim.NAME = \"value\", with the claim's name after the dot."),
        }
    }
    for (path, entry) in table.dotted("claim") {
        claim(path, entry, &mut found);
    }
    found
}

fn claims_below(entry: Entry<'_>, above: &str, depth: usize, found: &mut Vec<(String, Vec<String>)>) {
    let place = entry.clone();
    let below = entry.table().map(|table| table.free()).unwrap_or_default();
    if below.is_empty() {
        place.problem("names no claim", "Write claim.NAME = \"value\", or remove it.");
    }
    for (name, entry) in below {
        let path = if above.is_empty() { name } else { format!("{above}.{name}") };
        match entry.value {
            Value::Dict(..) if depth == DEEPEST => {
                entry
                    .problem("is nested too deeply", "Write the path as one key in quotes: \"claim.a.b\" = \"value\".");
            }
            Value::Dict(..) => claims_below(entry, &path, depth + 1, found),
            _ => claim(path, entry, found),
        }
    }
}

fn claim(path: String, entry: Entry<'_>, found: &mut Vec<(String, Vec<String>)>) {
    if let Err(reason) = values::claim(&path) {
        return entry.problem(reason.what, reason.hint);
    }
    if found.iter().any(|(known, _)| *known == path) {
        return entry.problem("is written twice in this rule", "Write one list of values.");
    }
    let items = members(entry, "a string, a whole number, true or false, or a list of them", &|v| text(v).is_some());
    let text = |item: Entry<'_>| {
        let text = text(&item.value);
        if text.is_none() {
            item.wrong_type("a string, a whole number, true or false", "Write the value as the provider sends it.");
        }
        text
    };
    found.push((path, items.into_iter().filter_map(text).collect()));
}

/// As `provider::claims::texts` spells the value of a claim.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Bool(_, flag) => Some(flag.to_string()),
        Value::Num(_, number) => {
            number.to_i128().map(|n| n.to_string()).or_else(|| number.to_u128().map(|n| n.to_string()))
        }
        _ => None,
    }
}

fn any(text: &str) -> Result<String, Reason> {
    Ok(text.to_owned())
}

/// One token of RFC 6749 §3.3.
fn scope(text: &str) -> Result<String, Reason> {
    if text.bytes().any(|b| !matches!(b, b'!' | b'#'..=b'[' | b']'..=b'~')) {
        return Err(Reason::new("is not one scope", "Write each scope as a string of its own: [\"read\", \"write\"]."));
    }
    Ok(text.to_owned())
}

fn network(text: &str) -> Result<IpNet, Reason> {
    let network = text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse::<IpNet>()).map_err(|_| {
        Reason::new("is neither a network nor an address", "Write CIDRs, such as \"10.0.0.0/8\" or \"fd00::/8\".")
    })?;
    match network {
        // SECURITY: clients' addresses are compared as IPv4, so a `deny` written so would match nobody.
        IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() => {
            Err(Reason::new("is an IPv4 network written as IPv6", "Write it as IPv4: \"10.0.0.0/8\"."))
        }
        network => Ok(network.trunc()),
    }
}

fn email(text: &str) -> Result<String, Reason> {
    match text.split('@').collect::<Vec<_>>().as_slice() {
        [local, domain] if !local.is_empty() && is_domain(domain) && !local.contains(['*', ' ']) => {
            Ok(values::fold_case(text))
        }
        _ => Err(Reason::new(
            "is not an e-mail address",
            "Write name@example.com with exactly one @ and no pattern; for a whole domain use email_domain.",
        )),
    }
}

fn email_domain(text: &str) -> Result<String, Reason> {
    if !is_domain(text) {
        return Err(Reason::new(
            "is not a domain",
            "Write \"example.com\": no @, no pattern; subdomains are named one by one.",
        ));
    }
    Ok(values::fold_case(text))
}

fn is_domain(text: &str) -> bool {
    !text.is_empty() && !text.contains(['@', '*', '/', ':', ' ']) && !text.starts_with('.') && !text.ends_with('.')
}

/// Reports where `table` has rules that nothing reads.
pub(super) fn refuse(table: &Table<'_>, access: &str) {
    for key in ["policy", "allow", "deny"] {
        if table.has(key) {
            table.problem(
                key,
                format!("has no effect on a route with access = \"{access}\""),
                "Write access = \"policy\", or remove it.",
            );
        }
    }
}

/// The claims that the rules of `routes` name, each once.
pub(super) fn claim_paths(routes: &[Route]) -> Vec<String> {
    let policies = routes.iter().filter_map(|route| match &route.access {
        Access::Policy(policy) => Some(policy),
        _ => None,
    });
    let rules = policies.flat_map(|policy| policy.allow.iter().chain(&policy.deny));
    let paths: BTreeSet<&String> = rules.flat_map(|rule| &rule.claims).map(|(path, _)| path).collect();
    paths.into_iter().cloned().collect()
}
