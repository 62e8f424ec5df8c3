//! `[route.machine]`: whose tokens a route takes instead of cookies.

use super::issuer::audience_of;
use super::problem::Reason;
use super::read::Table;
use super::route::Context;
use super::settings::{Machine, ProviderKind, TokenIssuer};

#[derive(Clone, Copy, Eq, PartialEq)]
enum Basic {
    Off,
    PasswordGrant,
}

/// `route` names it in warnings.
pub(super) fn machine(table: Table<'_>, route: &str, context: &Context<'_>) -> Machine {
    let issuers = issuers(&table, context);
    let introspect = table.parse("introspect", |text| provider(text, context));
    let basic = basic(&table, route, &issuers, context);
    let audience = table.list("audience", audience_of);
    let none = audience.as_ref().is_none_or(Vec::is_empty);
    // SECURITY: AT-01, JX-14. A provider issues tokens for every API that it serves.
    let needed = introspect.is_some() || issuers.iter().any(|issuer| matches!(issuer, TokenIssuer::Provider(_)));
    if none && needed && (table.lacks("audience") || audience.is_some()) {
        table.missing(
            "audience",
            "Write for whom tokens must be meant, such as [\"https://api.example.com\"]: the `aud` that the provider \
             gives to tokens for this API.",
        );
    }
    let no_basic = table.lacks("basic") || table.entry("basic").is_some_and(|e| e.value.as_str() == Some("off"));
    if !table.has("issuers") && table.lacks("introspect") && no_basic {
        table.missing("issuers", "Write the names of the [provider.NAME] and [issuer.NAME] whose tokens count here.");
    }
    let machine = Machine {
        audience: audience.unwrap_or_default(),
        resource_metadata: table.boolean("resource_metadata", true),
        rfc9068: table.boolean("rfc9068", false),
        introspect,
        basic,
        issuers,
    };
    table.close();
    machine
}

fn issuers(table: &Table<'_>, context: &Context<'_>) -> Vec<TokenIssuer> {
    let named = table.list("issuers", |text| {
        let by_name = context.issuers.iter().position(|issuer| issuer.name == text).map(TokenIssuer::Issuer);
        let Some(at) = context.providers.iter().position(|provider| provider.name == text) else {
            return by_name.ok_or_else(|| {
                Reason::new(
                    "is the name of no provider and no issuer",
                    "Write the NAME of a [provider.NAME] or an [issuer.NAME] section.",
                )
            });
        };
        match context.providers.get(at).map(|provider| &provider.kind) {
            Some(ProviderKind::Oidc) => Ok(TokenIssuer::Provider(at)),
            _ => Err(Reason::new(
                "is a provider without OpenID, which publishes no keys",
                "Name another one, or have its tokens looked up: introspect.",
            )),
        }
    });
    if named.as_ref().is_some_and(Vec::is_empty) {
        table.problem("issuers", "is empty", "Name at least one, or remove the key.");
    }
    let named = named.unwrap_or_default();
    let iss = |issuer: &TokenIssuer| match issuer {
        TokenIssuer::Issuer(at) => context.issuers.get(*at).map(|issuer| issuer.issuer.as_str()),
        TokenIssuer::Provider(at) => context.providers.get(*at).map(|provider| provider.issuer.as_str()),
    };
    // A token names its issuer by `iss` alone: of two sections with the same, one would never be asked.
    if named.iter().enumerate().any(|(n, one)| named.iter().take(n).any(|other| iss(other) == iss(one))) {
        table.problem("issuers", "names two sections with the same issuer", "Name each issuer once.");
    }
    named
}

fn provider(text: &str, context: &Context<'_>) -> Result<usize, Reason> {
    let at = context.providers.iter().position(|provider| provider.name == text);
    let at =
        at.ok_or_else(|| Reason::new("is the name of no provider", "Write the NAME of a [provider.NAME] section."))?;
    match context.providers.get(at).map(|provider| &provider.kind) {
        Some(ProviderKind::Oidc) => Ok(at),
        _ => Err(Reason::new("is a provider without OpenID, which has no such endpoint", "Name another one.")),
    }
}

/// The provider that is told user names and passwords.
fn basic(table: &Table<'_>, route: &str, issuers: &[TokenIssuer], context: &Context<'_>) -> Option<usize> {
    let words = [("off", Basic::Off), ("password_grant", Basic::PasswordGrant)];
    let wanted = table.choice("basic", &words) == Some(Basic::PasswordGrant);
    let named = table.parse("basic_provider", |text| provider(text, context));
    if !wanted {
        if !table.lacks("basic_provider") {
            table.problem(
                "basic_provider",
                "has no effect",
                "Write basic = \"password_grant\" beside it, or remove it.",
            );
        }
        return None;
    }
    let mut ours = issuers.iter().filter_map(|issuer| match issuer {
        TokenIssuer::Provider(at) => Some(*at),
        TokenIssuer::Issuer(_) => None,
    });
    let only = match (ours.next(), ours.next(), context.providers.len()) {
        (Some(at), None, _) => Some(at),
        (None, None, 1) => Some(0),
        _ => None,
    };
    if named.is_none() && only.is_none() && table.lacks("basic_provider") {
        table.missing(
            "basic_provider",
            "Write the NAME of the [provider.NAME] that user names and passwords are sent to.",
        );
    }
    table.reader().warn(format!(
        "route {route}: basic = \"password_grant\" sends people's passwords through this gateway, past every second \
         factor; RFC 9700 §2.4 forbids it. Give programs tokens of their own (client credentials)."
    ));
    named.or(only)
}
