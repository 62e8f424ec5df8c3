//! What holds between sections: names that are taken twice, routes that are equally specific, plain http that leaves
//! the machine, hosts outside the cookie's domain.

use figment::value::Tag;

use super::key::Key;
use super::read::Reader;
use super::server;
use super::session::is_within;
use super::settings::{
    Access, HostMatch, IdentityValue, Issuer, PathMatch, Provider, ResponseMode, Route, Session, UpstreamAuth,
};

pub(super) fn routes(reader: &Reader, routes: &[Route], session: &Session) {
    for (n, route) in routes.iter().enumerate() {
        for (earlier, other) in
            routes.iter().enumerate().take(n).filter(|(_, other)| has_path(route) && has_path(other))
        {
            if is_same_place(route, other) {
                let message =
                    format!("answers the same host, path and method as route {} ({})", earlier + 1, other.name);
                let hint = "Remove one, or make them differ in host, path or methods: order never decides.";
                report(reader, n, route, "path", message, hint);
            } else if route.name == other.name {
                let message = format!("\"{}\" is also the name of route {}", route.name, earlier + 1);
                report(reader, n, route, "name", message, "Give each route a name of its own.");
            }
        }
        within_cookie_domain(reader, n, route, session);
        alone_on_its_host(reader, n, routes);
    }
}

/// SECURITY: PX-26. A path that is not normalised reaches the one route that its host has: with two, one could be read
/// as the other.
fn alone_on_its_host(reader: &Reader, n: usize, routes: &[Route]) {
    let Some(raw) = routes.get(n).filter(|route| route.raw_path && has_path(route)) else { return };
    let other = routes.iter().enumerate().find(|(m, other)| *m != n && other.host == raw.host && has_path(other));
    if let Some((m, other)) = other.filter(|(_, other)| !is_same_place(raw, other)) {
        let message = format!("stands on a host that route {} ({}) has too", m + 1, other.name);
        let hint =
            "Give this route a host of its own, or remove raw_path: with two routes a path must have one reading.";
        report(reader, n, raw, "raw_path", message, hint);
    }
}

/// Rules and `[route.machine]` name both kinds of section alike.
pub(super) fn issuer_names(reader: &Reader, issuers: &[Issuer], providers: &[String]) {
    for issuer in issuers.iter().filter(|issuer| providers.contains(&issuer.name)) {
        let root = reader.root();
        let tag = root.entry("issuer").map_or(Tag::Default, |e| e.value.tag());
        let message = format!("is also the name of [provider.{}]", issuer.name);
        let key = Key::default().then("issuer").chosen(&issuer.name);
        reader.problem(&key, tag, message, "Give it another name: tokens and rules refer to both by name.");
    }
}

/// SECURITY: B-03. Of several providers each is believed whoever it says that somebody is: an upstream that is told a name
/// and not who vouches for it takes alice of the one for alice of the other.
pub(super) fn shared_names(reader: &Reader, routes: &[Route], providers: &[Provider]) {
    for route in routes.iter().filter(|route| route.providers.len() > 1) {
        let says_who_vouches = route.upstream_auth == UpstreamAuth::Assertion
            || route.identity.iter().any(|header| header.value == IdentityValue::Assertion);
        let names = route.identity.iter().any(|header| header.value != IdentityValue::AccessToken);
        if !names || says_who_vouches {
            continue;
        }
        let names: Vec<&str> =
            route.providers.iter().filter_map(|at| Some(providers.get(*at)?.name.as_str())).collect();
        reader.warn(format!(
            "route {} takes people of {} and tells the application their names alone: each of these providers can make \
             somebody anybody there. Name one of them in provider; or send identity = [\"assertion\"], which says who vouched.",
            route.name,
            names.join(", ")
        ));
    }
}

/// An upstream has no key to make proofs with: for it, a token that is bound by DPoP is no token.
pub(super) fn bound_tokens(reader: &Reader, routes: &[Route], providers: &[Provider]) {
    let is_bound = |index: &usize| providers.get(*index).is_some_and(|provider| provider.dpop);
    for route in routes {
        let of_person = route.identity.iter().any(|header| header.value == IdentityValue::AccessToken);
        let bound = match &route.upstream_auth {
            UpstreamAuth::ClientCredentials(token) | UpstreamAuth::TokenExchange(token) => is_bound(&token.provider),
            UpstreamAuth::AccessToken => route.providers.iter().any(is_bound),
            _ => false,
        };
        if bound || of_person && route.providers.iter().any(is_bound) {
            reader.warn(format!(
                "route {} sends a token upstream that dpop = true binds to a key of Doorward's: \
                 an upstream that checks this refuses it.",
                route.name
            ));
        }
    }
}

/// SECURITY: GX-09: a session cookie over plain http is anybody's who listens.
pub(super) fn plain_http(reader: &Reader, read: &server::Read, routes: &[Route]) {
    let signs_in = routes.iter().any(|r| !matches!(r.access, Access::Public | Access::Deny));
    let Some(origin) = read.public_url.as_ref().filter(|origin| signs_in && !origin.is_confidential()) else {
        return;
    };
    if read.insecure {
        reader.warn(format!(
            "server.public_url {origin} is plain http (server.insecure = true): \
             whoever is on the way can take every session."
        ));
        return;
    }
    let server = reader.root().section("server");
    server.problem(
        "public_url",
        format!("\"{origin}\" is plain http, and routes sign people in"),
        "Write https:// (TLS here or in front); or, in a network that you trust, insecure = true in [server].",
    );
}

/// A cookie that comes with another site's form has to be `Secure` (RFC 6265bis §5.7).
pub(super) fn form_post(reader: &Reader, read: &server::Read, providers: &[Provider]) {
    if read.public_url.as_ref().is_none_or(|origin| origin.is_https()) {
        return;
    }
    for provider in providers.iter().filter(|p| p.response_mode == ResponseMode::FormPost) {
        reader.warn(format!(
            "provider.{}.response_mode is form_post and public_url is plain http: \
             a sign-in only comes back from a provider on this site.",
            provider.name
        ));
    }
}

/// Not the stand-in for one that was reported.
fn has_path(route: &Route) -> bool {
    route.path != PathMatch::Exact(String::new())
}

/// The same host and path, and a method that both answer.
fn is_same_place(a: &Route, b: &Route) -> bool {
    let both = a.methods.is_empty() && b.methods.is_empty();
    a.host == b.host && a.path == b.path && (both || a.methods.iter().any(|m| b.methods.contains(m)))
}

/// A browser refuses a cookie for a domain that the host is not in: the sign-in would never end.
fn within_cookie_domain(reader: &Reader, n: usize, route: &Route, session: &Session) {
    let Some(domain) = &session.cookie_domain else { return };
    let (HostMatch::Exact(host) | HostMatch::Wildcard(host)) = &route.host else { return };
    if !is_within(host, domain) && !matches!(route.access, Access::Public | Access::Deny) {
        let message = format!("\"{host}\" is not within session.cookie_domain {domain}");
        report(reader, n, route, "host", message, "Remove cookie_domain, or serve this host by a gateway of its own.");
    }
}

fn report(reader: &Reader, n: usize, route: &Route, name: &str, message: String, hint: &str) {
    let mut key = Key::default().then("route").at(n + 1).then(name);
    key.label = Some(route.name.clone());
    let tag = reader.root().entry("route").map_or(Tag::Default, |e| e.value.tag());
    reader.problem(&key, tag, message, hint);
}
