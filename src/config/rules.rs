//! Policies as written: `[policy.NAME]`, and `allow`/`deny` of a route.

use super::problem::Reason;
use super::read::Table;
use super::settings::{Policy, Rule};
use super::values;

/// Keys of the contract that this version does not have.
const LATER: [&str; 6] = ["claim", "client", "issuer", "method", "network", "scope"];

/// Both lists of a table; what is wrong is reported, an empty policy too.
pub(super) fn policy(table: &Table<'_>, providers: &[String]) -> Policy {
    let policy = Policy { allow: rules(table, "allow", providers), deny: rules(table, "deny", providers) };
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
pub(super) fn named(table: Table<'_>, providers: &[String]) -> Policy {
    let policy = policy(&table, providers);
    table.close(&[]);
    policy
}

fn rules(table: &Table<'_>, list: &'static str, providers: &[String]) -> Vec<Rule> {
    let Some(tables) = table.tables(list) else { return Vec::new() };
    // SECURITY: an empty list reads as "nobody" to one and "no rule" to another: neither is guessed.
    if tables.is_empty() {
        table.problem(list, "is empty", "Write at least one rule, or remove the key.");
    }
    tables.into_iter().map(|table| rule(table, providers)).collect()
}

fn rule(table: Table<'_>, providers: &[String]) -> Rule {
    if table.is_empty() {
        table.reader().problem(
            &table.key,
            table.tag(),
            "is an empty rule, which would match everybody",
            "Write at least one of user, email, email_domain, group, provider.",
        );
    }
    let rule = Rule {
        claims: Vec::new(),
        scope: Vec::new(),
        issuer: Vec::new(),
        client: Vec::new(),
        network: Vec::new(),
        method: Vec::new(),
        user: names(&table, "user", any),
        email: names(&table, "email", email),
        email_domain: names(&table, "email_domain", email_domain),
        group: names(&table, "group", any),
        provider: names(&table, "provider", |text| {
            if providers.iter().any(|p| p == text) {
                return Ok(text.to_owned());
            }
            Err(Reason::new("is the name of no provider", "Write the NAME of a [provider.NAME] section."))
        }),
    };
    table.close(&LATER);
    rule
}

/// A list that is written must say something: an empty one would be no condition at all.
fn names(table: &Table<'_>, key: &'static str, parse: impl Fn(&str) -> Result<String, Reason>) -> Vec<String> {
    let Some(entry) = table.entry(key) else { return Vec::new() };
    let (position, tag) = (entry.key.clone(), entry.value.tag());
    let Some(items) = entry.items("a string or a list of strings", &|v| v.as_str().is_some()) else {
        return Vec::new();
    };
    if items.is_empty() {
        table.reader().problem(&position, tag, "is empty", "Write at least one, or remove the key.");
    }
    items
        .into_iter()
        .filter_map(|item| {
            if item.value.as_str() == Some("") {
                item.problem("is an empty string", "Write a value, or remove it.");
                return None;
            }
            item.parse(&parse)
        })
        .collect()
}

fn any(text: &str) -> Result<String, Reason> {
    Ok(text.to_owned())
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
