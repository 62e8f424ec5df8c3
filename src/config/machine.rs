//! `[route.machine]`: whose tokens a route takes instead of cookies.

use super::issuer::audience_of;
use super::problem::Reason;
use super::read::Table;
use super::route::Context;
use super::settings::{Machine, ProviderKind, TokenIssuer};

pub(super) fn machine(table: Table<'_>, context: &Context<'_>) -> Machine {
    let issuers = issuers(&table, context);
    let audience = table.list("audience", audience_of);
    let none = audience.as_ref().is_none_or(Vec::is_empty);
    // SECURITY: AT-01, JX-14. A provider issues tokens for every API that it serves.
    let needed = issuers.iter().any(|issuer| matches!(issuer, TokenIssuer::Provider(_)));
    if none && needed && (table.lacks("audience") || audience.is_some()) {
        table.missing(
            "audience",
            "Write for whom tokens must be meant, such as [\"https://api.example.com\"]: the `aud` that the provider \
             gives to tokens for this API.",
        );
    }
    if !table.has("issuers") {
        table.missing("issuers", "Write the names of the [provider.NAME] and [issuer.NAME] whose tokens count here.");
    }
    let machine = Machine {
        audience: audience.unwrap_or_default(),
        resource_metadata: table.boolean("resource_metadata", true),
        rfc9068: table.boolean("rfc9068", false),
        introspect: None,
        basic: None,
        issuers,
    };
    table.close(&["basic", "introspect"]);
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
