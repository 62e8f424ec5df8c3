//! `[[route]]`: one route by itself. What two of them may not do together is in `checks`.

use super::identity::{self, Told};
use super::machine;
use super::problem::Reason;
use super::read::Table;
use super::rules;
use super::settings::{
    Access, CustomClaim, HostMatch, Issuer, Mode, PathMatch, Policy, Provider, Require, Route, Target, Unauthenticated,
    Upstream, UpstreamAuth,
};
use super::upstream;
use super::upstream_auth;
use super::values;
use crate::http::origin::Origin;

/// What routes refer to.
pub(super) struct Context<'a> {
    pub(super) providers: &'a [Provider],
    pub(super) sections: &'a rules::Sections,
    pub(super) issuers: &'a [Issuer],
    pub(super) policies: &'a [(String, Policy)],
    /// Doorward's own endpoints.
    pub(super) prefix: &'a str,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Word {
    Authenticated,
    Deny,
    Optional,
    Policy,
    Public,
}

const ACCESS: [(&str, Word); 5] = [
    ("public", Word::Public),
    ("optional", Word::Optional),
    ("authenticated", Word::Authenticated),
    ("policy", Word::Policy),
    ("deny", Word::Deny),
];

pub(super) fn route(mut table: Table<'_>, context: &Context<'_>, claims: &mut Vec<CustomClaim>) -> Route {
    let name = table.text("name");
    table.key.label.clone_from(&name);
    let host = table.parse("host", host).unwrap_or(HostMatch::Any);
    let path = path(&table, context.prefix);
    let methods = table.list("methods", method).unwrap_or_default();
    let word = word(&table);
    let access = access(&table, word, context);
    let told = identity::identity(&table, claims);
    if word == Word::Public {
        refuse_on_public(&table, told.as_ref());
    }
    let told = told.unwrap_or_else(|| match word {
        Word::Public | Word::Deny => Told::default(),
        Word::Optional | Word::Authenticated | Word::Policy => {
            Told { headers: identity::default(claims), client_cert: false }
        }
    });
    let Told { headers: identity, client_cert } = told;
    if client_cert && !context.sections.certificates {
        table.problem(
            "identity",
            "has the preset client-cert, and no client is asked for a certificate",
            "Write client_ca in [server.tls], or remove the preset.",
        );
    }
    if word == Word::Optional && identity::needs_somebody(&identity) {
        table.problem(
            "identity",
            "has the preset k8s-impersonate on a route that nobody has to sign in to",
            "Write access = \"authenticated\" or \"policy\": what impersonates nobody acts as Doorward itself.",
        );
    }
    let name = name.unwrap_or_else(|| default_name(&host, &path, &methods));
    let unauthenticated =
        [("auto", Unauthenticated::Auto), ("redirect", Unauthenticated::Redirect), ("401", Unauthenticated::Status401)];
    let providers = providers(&table, word, context);
    let targets = upstream::targets(&table, word == Word::Deny);
    let mut route = Route {
        require: required(&table, &providers, context),
        providers,
        origins: table.list("origins", origin).unwrap_or_default(),
        strip_prefix: strip_prefix(&table, &path),
        machine: table.table("machine").map(|of| machine::machine(of, &name, context)),
        upstream_auth: UpstreamAuth::None,
        mode: mode(&table, word),
        raw_path: table.boolean("raw_path", false),
        allow_preflight: table.boolean("allow_preflight", false),
        unauthenticated: table.choice("unauthenticated", &unauthenticated).unwrap_or(Unauthenticated::Auto),
        upstream: Upstream {
            options: upstream::options(table.section("upstream_options"), targets.h2c),
            targets: targets.all,
        },
        host,
        path,
        methods,
        access,
        identity,
        client_cert,
        name,
    };
    if route.raw_path {
        raw_path(&table, &route);
    }
    if let Some(section) = table.table("upstream_auth") {
        route.upstream_auth = upstream_auth::upstream_auth(section, &route, context.providers);
    }
    table.close();
    route
}

fn host(text: &str) -> Result<HostMatch, Reason> {
    match text.strip_prefix("*.") {
        Some(rest) => values::host(rest).map(HostMatch::Wildcard),
        None if text.contains('*') => Err(Reason::new(
            "has a * that is not its whole first label",
            "Write \"*.example.com\": the star stands for exactly one label; for any host, leave host out.",
        )),
        None if has_port(text) => Err(Reason::new(
            "has a port",
            "Write the name alone: a request's port never chooses a route, and browsers are sent to that of public_url.",
        )),
        None => values::host(text).map(HostMatch::Exact),
    }
}

/// `name:80` and `[::1]:80`, but not an IPv6 address without brackets.
fn has_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(name, port)| {
        (name.ends_with(']') || !name.contains(':')) && port.bytes().all(|b| b.is_ascii_digit())
    })
}

fn path(table: &Table<'_>, own: &str) -> PathMatch {
    let path = table.parse("path", |text| {
        let (path, written) = match text.strip_prefix('=') {
            Some(exact) => (PathMatch::Exact(values::path(exact)?), exact),
            None => (PathMatch::Prefix(values::prefix(text)?), text),
        };
        if is_below(written, own) {
            return Err(Reason::new(
                format!("is answered by Doorward itself, whose endpoints are below {own}"),
                "Write another path, or move the endpoints with server.prefix.",
            ));
        }
        if matches!(text, "=/ping" | "=/ready") {
            return Err(Reason::new(
                "is answered by Doorward itself, on every host",
                "Write another path: \"/ping\" and \"/ready\" say whether Doorward is up.",
            ));
        }
        Ok(path)
    });
    if table.lacks("path") {
        table.missing("path", "Write \"/\" for the whole site, \"/app\" for a part, \"=/healthz\" for one path.");
    }
    // The stand-in is equal to no path, which keeps `checks` from reporting what follows from this.
    path.unwrap_or_else(|| PathMatch::Exact(String::new()))
}

/// Whether `path` is `prefix` or below it, by whole segments.
fn is_below(path: &str, prefix: &str) -> bool {
    prefix == "/" || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What `raw_path` needs of its own route; that no other one has its host is in `checks`.
///
/// SECURITY: PX-25, PX-26. A path that is not normalised must have nothing to be misread into: no other route, nothing put
/// before it. (No `strip_prefix` begins `/`.)
fn raw_path(table: &Table<'_>, route: &Route) {
    let below = route.upstream.targets.iter().any(|t| matches!(t, Target::Url(url) if !matches!(url.path(), "" | "/")));
    let (PathMatch::Exact(path) | PathMatch::Prefix(path)) = &route.path;
    let (message, hint) = if path.is_empty() {
        // Where `path` itself is wrong, that is problem enough.
        return;
    } else if route.path != PathMatch::Prefix("/".to_owned()) {
        (
            "is only for a route with path \"/\"",
            "Give the application a host of its own and write path = \"/\"; or remove it.",
        )
    } else if !route.methods.is_empty() {
        ("is only for a route without methods", "Remove methods: allow or deny rules can name them; or remove it.")
    } else if below {
        ("stands beside an upstream with a path", "Write the upstream without a path: a raw path can lead out of it.")
    } else {
        return;
    };
    table.problem("raw_path", message, hint);
}

pub(super) fn method(text: &str) -> Result<String, Reason> {
    if matches!(text, "CONNECT" | "TRACE" | "TRACK") {
        return Err(Reason::new("is never served", "Remove it: such requests get 405 on every route."));
    }
    if !values::is_token(text) || text.bytes().any(|b| b.is_ascii_lowercase()) {
        return Err(Reason::new("is not a method", "Write it in capitals, as it is sent: \"GET\"."));
    }
    Ok(text.to_owned())
}

/// SECURITY: no default: who may pass is always written. The stand-in after a problem denies.
fn word(table: &Table<'_>) -> Word {
    let word = table.choice("access", &ACCESS);
    if table.lacks("access") {
        table.missing(
            "access",
            "Say who may pass: public, optional, authenticated, policy or deny. There is no default.",
        );
    }
    word.unwrap_or(Word::Deny)
}

fn access(table: &Table<'_>, word: Word, context: &Context<'_>) -> Access {
    // Asked for on every route, so that a misspelt key is compared with them too.
    let named = table.parse("policy", |text| {
        context
            .policies
            .iter()
            .find(|(name, _)| name == text)
            .map(|(_, policy)| policy.clone())
            .ok_or_else(|| Reason::new("is the name of no policy", "Write the NAME of a [policy.NAME] section."))
    });
    let written = table.has("allow") || table.has("deny");
    let wanted = written || (word == Word::Policy && table.lacks("policy"));
    let own = wanted.then(|| rules::policy(table, context.sections));
    match word {
        Word::Policy => {
            if written && !table.lacks("policy") {
                table.problem(
                    "policy",
                    "stands beside allow or deny",
                    "Keep one: a named policy, or rules written here.",
                );
            }
            Access::Policy(named.or(own).unwrap_or_default())
        }
        Word::Authenticated => without_rules(table, "authenticated", Access::Authenticated),
        Word::Optional => without_rules(table, "optional", Access::Optional),
        Word::Public => without_rules(table, "public", Access::Public),
        Word::Deny => without_rules(table, "deny", Access::Deny),
    }
}

fn without_rules(table: &Table<'_>, word: &str, access: Access) -> Access {
    // Where `access` itself is wrong, that is problem enough.
    if table.entry("access").is_some_and(|e| e.value.as_str() == Some(word)) {
        rules::refuse(table, word);
    }
    access
}

fn mode(table: &Table<'_>, word: Word) -> Mode {
    let mode = table.choice("mode", &[("enforce", Mode::Enforce), ("observe", Mode::Observe)]);
    let observes = mode == Some(Mode::Observe);
    if observes && word != Word::Policy {
        table.problem(
            "mode",
            "observes nothing: this route has no policy",
            "Write access = \"policy\" and rules, or remove it.",
        );
    } else if observes {
        let name = table.key.label.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        table.reader().warn(format!(
            "{}{name}: mode = \"observe\" lets in everybody who signs in, whatever the policy says; what it would \
             refuse is only logged.",
            table.key
        ));
    }
    mode.unwrap_or(Mode::Enforce)
}

fn refuse_on_public(table: &Table<'_>, told: Option<&Told>) {
    // A connection has its certificate, whoever it is from.
    let of_connections = told.is_some_and(|told| told.client_cert && told.headers.is_empty());
    for key in ["identity", "machine", "require"] {
        if table.has(key) && !(key == "identity" && of_connections) {
            table.problem(
                key,
                "has no effect on a public route: nobody is asked who they are",
                "Remove it, or write access = \"optional\" or \"authenticated\".",
            );
        }
    }
}

fn default_name(host: &HostMatch, path: &PathMatch, methods: &[String]) -> String {
    let host = match host {
        HostMatch::Any => String::new(),
        HostMatch::Exact(host) => host.clone(),
        HostMatch::Wildcard(rest) => format!("*.{rest}"),
    };
    let path = match path {
        PathMatch::Exact(path) => format!("={path}"),
        PathMatch::Prefix(path) => path.clone(),
    };
    if methods.is_empty() { format!("{host}{path}") } else { format!("{host}{path} {}", methods.join(",")) }
}

/// Who may sign people in here: those named; else all of them, where anybody is asked to sign in at all.
fn providers(table: &Table<'_>, word: Word, context: &Context<'_>) -> Vec<usize> {
    let named =
        table.list("provider", |text| {
            context.providers.iter().position(|p| p.name == text).ok_or_else(|| {
                Reason::new("is the name of no provider", "Write the NAME of a [provider.NAME] section.")
            })
        });
    let asks = !matches!(word, Word::Public | Word::Deny);
    match named {
        Some(named) => {
            if named.is_empty() && asks {
                table.problem("provider", "is empty", "Write the NAME of one, or remove it: then it is all of them.");
            }
            named
                .iter()
                .enumerate()
                .filter(|(n, index)| !named.iter().take(*n).any(|i| i == *index))
                .map(|(_, i)| *i)
                .collect()
        }
        // Reported.
        None if !table.lacks("provider") || !asks => Vec::new(),
        None => {
            if context.providers.is_empty() {
                table.missing("provider", "This route asks for a sign-in: add a [provider.NAME] section.");
            }
            (0..context.providers.len()).collect()
        }
    }
}

/// What only an ID token can say cannot be required of a provider that sends none.
fn required(table: &Table<'_>, providers: &[usize], context: &Context<'_>) -> Require {
    let require = table.table("require").map(require).unwrap_or_default();
    let silent = providers.iter().filter_map(|index| context.providers.get(*index)).find(|p| !p.is_openid());
    if let Some(silent) = silent.filter(|_| require != Require::default()) {
        table.problem(
            "require",
            format!("can never be met by provider {}, which has no OpenID", silent.name),
            "Remove it, or name the other providers in provider.",
        );
    }
    require
}

fn require(table: Table<'_>) -> Require {
    if table.is_empty() {
        table.reader().problem(&table.key, table.tag(), "requires nothing", "Write acr or max_age, or remove it.");
    }
    let acr = table.list("acr", |text| {
        // They go into a list with spaces (OpenID Connect Core §3.1.2.1) and between quotes (RFC 9470 §3).
        if text.is_empty() || text.bytes().any(|b| !matches!(b, b'!' | b'#'..=b'[' | b']'..=b'~')) {
            return Err(Reason::new(
                "is not one acr value",
                "Write each value as a string of its own, without spaces.",
            ));
        }
        Ok(text.to_owned())
    });
    if acr.as_ref().is_some_and(Vec::is_empty) {
        table.problem("acr", "is empty", "Write at least one value of the provider's acr_values_supported.");
    }
    let require = Require { acr: acr.unwrap_or_default(), max_age: table.parse("max_age", values::timeout) };
    table.close();
    require
}

fn origin(text: &str) -> Result<Origin, Reason> {
    Origin::parse(text).map_err(|what| {
        Reason::new(what, "Write each origin in full, such as \"https://other.example.com\": there are no patterns.")
    })
}

fn strip_prefix(table: &Table<'_>, route: &PathMatch) -> Option<String> {
    let (PathMatch::Exact(path) | PathMatch::Prefix(path)) = route;
    table.parse("strip_prefix", |text| {
        let prefix = values::prefix_below_root(text)?;
        if !path.is_empty() && !is_below(path, &prefix) {
            return Err(Reason::new(
                format!("does not begin this route's path {path}"),
                "Write the path of the route, or a part that it begins with.",
            ));
        }
        Ok(prefix)
    })
}
