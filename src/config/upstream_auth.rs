//! `[route.upstream_auth]`: what Doorward presents upstream in `Authorization`.

use url::Url;

use super::problem::Reason;
use super::read::Table;
use super::secrets;
use super::settings::{Access, ClientAuth, Flow, Provider, ProviderKind, Route, Target, TokenRequest, UpstreamAuth};
use crate::http::origin::Origin;

#[derive(Clone, Copy, Eq, PartialEq)]
enum Kind {
    AccessToken,
    Assertion,
    Basic,
    ClientCredentials,
    IdToken,
    None,
    TokenExchange,
}

const KINDS: [(&str, Kind); 7] = [
    ("none", Kind::None),
    ("access_token", Kind::AccessToken),
    ("id_token", Kind::IdToken),
    ("assertion", Kind::Assertion),
    ("client_credentials", Kind::ClientCredentials),
    ("token_exchange", Kind::TokenExchange),
    ("basic", Kind::Basic),
];

/// Which keys say something for which kinds.
const ONLY: [(&str, &[Kind]); 6] = [
    ("provider", &[Kind::ClientCredentials, Kind::TokenExchange]),
    ("scopes", &[Kind::ClientCredentials, Kind::TokenExchange]),
    ("audience", &[Kind::ClientCredentials, Kind::TokenExchange]),
    ("resource", &[Kind::ClientCredentials, Kind::TokenExchange]),
    ("username", &[Kind::Basic]),
    ("password", &[Kind::Basic]),
];

/// Of `route`, the rest of which is read already.
pub(super) fn upstream_auth(table: Table<'_>, route: &Route, providers: &[Provider]) -> UpstreamAuth {
    let kind = table.choice("kind", &KINDS).unwrap_or(Kind::None);
    let provider = provider(&table, kind, route, providers);
    let request = TokenRequest {
        provider: provider.unwrap_or_default(),
        scopes: table.list("scopes", scope).unwrap_or_default(),
        audience: table.text("audience"),
        resource: table.parse("resource", resource),
    };
    let username = table.parse("username", username);
    let password = table.entry("password").and_then(secrets::secret);
    let insecure = table.boolean("insecure", false);
    let fits =
        belongs(&table, kind) & knows_who(&table, kind, route) & has_tokens(&table, kind, route, provider, providers);
    plain_http(&table, kind, route, insecure);
    if kind == Kind::Basic {
        for (key, read) in [("username", username.is_some()), ("password", password.is_some())] {
            if !read && table.lacks(key) {
                table.missing(key, "Write the user name and the password that the upstream knows Doorward by.");
            }
        }
    }
    table.close();
    // Never used where anything was reported: nothing with a problem is served.
    match kind {
        _ if !fits => UpstreamAuth::None,
        Kind::None => UpstreamAuth::None,
        Kind::AccessToken => UpstreamAuth::AccessToken,
        Kind::IdToken => UpstreamAuth::IdToken,
        Kind::Assertion => UpstreamAuth::Assertion,
        Kind::Basic => match (username, password) {
            (Some(username), Some(password)) => UpstreamAuth::Basic { username, password },
            _ => UpstreamAuth::None,
        },
        Kind::ClientCredentials => UpstreamAuth::ClientCredentials(request),
        Kind::TokenExchange => UpstreamAuth::TokenExchange(request),
    }
}

fn provider(table: &Table<'_>, kind: Kind, route: &Route, providers: &[Provider]) -> Option<usize> {
    let named = table.parse("provider", |text| {
        let known = providers.iter().position(|p| p.name == text);
        known.ok_or_else(|| Reason::new("is the name of no provider", "Write the NAME of a [provider.NAME] section."))
    });
    let asks = matches!(kind, Kind::ClientCredentials | Kind::TokenExchange);
    if named.is_some() || !table.lacks("provider") || !asks {
        return named;
    }
    match (route.providers.as_slice(), providers) {
        ([own], _) if kind == Kind::TokenExchange => Some(*own),
        (_, [_]) => Some(0),
        (_, []) => {
            table.missing("provider", "A token has to come from somewhere: add a [provider.NAME] section.");
            None
        }
        _ => {
            table.missing("provider", "There are several: write the NAME of the one that gives the token.");
            None
        }
    }
}

/// Whether every key that is written says something.
fn belongs(table: &Table<'_>, kind: Kind) -> bool {
    let mut fits = true;
    for (key, _) in ONLY.iter().filter(|(key, kinds)| table.has(key) && !kinds.contains(&kind)) {
        let name = KINDS.iter().find(|(_, k)| *k == kind).map_or("none", |(name, _)| *name);
        table.problem(
            key,
            format!("has no effect with kind = \"{name}\""),
            "Remove it, or write the kind that it belongs to.",
        );
        fits = false;
    }
    fits
}

fn knows_who(table: &Table<'_>, kind: Kind, route: &Route) -> bool {
    let of_a_person = matches!(kind, Kind::AccessToken | Kind::IdToken | Kind::Assertion | Kind::TokenExchange);
    if of_a_person && matches!(route.access, Access::Public | Access::Deny) {
        table.problem(
            "kind",
            "presents whoever is signed in, on a route that asks nobody",
            "Write \"client_credentials\" or \"basic\", or another access.",
        );
        return false;
    }
    true
}

/// What would fail with every request is refused here.
fn has_tokens(table: &Table<'_>, kind: Kind, route: &Route, asked: Option<usize>, providers: &[Provider]) -> bool {
    let own = || route.providers.iter().filter_map(|index| providers.get(*index));
    let gives = asked.and_then(|index| providers.get(index));
    let without_id = |p: &&Provider| matches!(p.kind, ProviderKind::OAuth2(_));
    let without_access = |p: &&Provider| p.flow == Flow::ImplicitFormPost;
    let fault = match kind {
        Kind::IdToken => own().find(without_id).map(|p| {
            let fault = format!("has no ID token to present: provider {} is no OpenID provider", p.name);
            (fault, "Write \"access_token\" or \"assertion\".")
        }),
        Kind::AccessToken | Kind::TokenExchange => own().find(without_access).map(|p| {
            let fault = format!("has no access token: provider {} gives none", p.name);
            (fault, "Write \"id_token\" or \"assertion\", or another flow for that provider.")
        }),
        Kind::Assertion | Kind::Basic | Kind::ClientCredentials | Kind::None => None,
    };
    if let Some((fault, hint)) = fault {
        table.problem("kind", fault, hint);
        return false;
    }
    let proves = |p: &Provider| {
        p.client_auth != ClientAuth::None
            && (p.client_secret.is_some() || p.client_key.is_some() || p.client_cert.is_some())
    };
    if kind == Kind::ClientCredentials && gives.is_some_and(|p| !proves(p)) {
        table.problem(
            "kind",
            "asks a provider that Doorward has no secret for: a public client gets no token of its own",
            "Add client_secret to that provider (RFC 6749 §4.4).",
        );
        return false;
    }
    true
}

/// SECURITY: GX-09. Whoever is on the way could use the credential from then on.
fn plain_http(table: &Table<'_>, kind: Kind, route: &Route, insecure: bool) {
    let urls = route.upstream.targets.iter().filter_map(|target| match target {
        Target::Url(url) => Some(url),
        Target::Status(_) | Target::Unix(_) => None,
    });
    let mut exposed = urls.filter(|url| Origin::of(url).is_ok_and(|origin| !origin.is_confidential()));
    let Some(url) = exposed.next().filter(|_| kind != Kind::None) else { return };
    let host = url.host_str().unwrap_or_default();
    if insecure {
        let name = &route.name;
        table.reader().warn(format!(
            "route {name} presents a credential over plain http to {host} (upstream_auth.insecure = true): whoever is on \
             the way can use it."
        ));
        return;
    }
    table.problem(
        "kind",
        format!("sends a credential over plain http to {host}"),
        "Write https:// in upstream; or, in a network that you trust, insecure = true beside it.",
    );
}

fn scope(text: &str) -> Result<String, Reason> {
    let is_scope = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
    if text.is_empty() || !text.bytes().all(is_scope) {
        return Err(Reason::new("is not a scope", "Write each scope by itself, as the provider names it."));
    }
    Ok(text.to_owned())
}

/// RFC 8707 §2. As written: the provider compares it.
fn resource(text: &str) -> Result<String, Reason> {
    match Url::parse(text) {
        Ok(url) if url.fragment().is_none() => Ok(text.to_owned()),
        _ => Err(Reason::new(
            "is not an absolute URI without a fragment",
            "Write the resource's own identifier, such as \"https://api.example.com\".",
        )),
    }
}

/// RFC 7617 §2.
fn username(text: &str) -> Result<String, Reason> {
    if text.contains(':') || text.contains(char::is_control) {
        return Err(Reason::new(
            "cannot be a user name",
            "Write one without a colon: that is where the password begins.",
        ));
    }
    Ok(text.to_owned())
}
