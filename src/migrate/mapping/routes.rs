//! `[[route]]`: the upstreams, and what of them is open, or for programs.

use super::super::output::{Route, list, quoted};
use super::Context;
use super::headers::{self, Told};
use super::paths::{self, Place};
use super::upstreams::{self, Base};

/// A route before it is written.
#[derive(Clone, Debug)]
struct Planned {
    host: Option<String>,
    place: Place,
    method: Option<String>,
    /// Which of the bases it leads to; None: answered 200 by Doorward itself.
    base: Option<usize>,
    is_public: bool,
    is_401: bool,
    comment: String,
}

pub(super) fn map(c: &mut Context) {
    for name in ["api_routes", "skip_auth_regex", "skip_auth_routes", "whitelist_domains", "ping_path"] {
        c.options.mark(name);
    }
    let (bases, only_asked) = upstreams::bases(c);
    let mut planned: Vec<Planned> =
        bases.iter().enumerate().map(|(n, base)| protected(n, base.place.clone())).collect();
    let told = headers::told(c);
    if only_asked {
        if let Some(first) = planned.first_mut() {
            first.comment = format!("Nothing is served here: the proxy in front asks {}/auth.", c.prefix);
        }
        asked_by_whom(c);
        planned.extend(hosts(c));
    } else {
        hosts_of_a_proxy(c);
    }
    let is_401 = c.options.flag("force_json_errors", false);
    planned.iter_mut().for_each(|route| route.is_401 = is_401);
    programs(c, &bases, &mut planned);
    open(c, &bases, &mut planned);
    ping(c, &mut planned);
    if c.options.flag("skip_auth_preflight", false) {
        c.options.warn(
            "skip_auth_preflight",
            "a CORS preflight passes without a sign-in; any other OPTIONS request does not",
        );
    }
    let routes = planned.iter().map(|route| written(c, &bases, &told, route)).collect();
    c.draft.routes = routes;
    if let (Some(kind), true) = (told.auth, bases.iter().any(|base| base.is_plain)) {
        c.options.warn("upstreams", format!("INSECURE: the person's {kind} is presented over plain http; whoever is on the way can use it. Write https, and remove upstream_auth.insecure"));
    }
}

fn protected(base: usize, place: Place) -> Planned {
    Planned {
        host: None,
        place,
        method: None,
        base: Some(base),
        is_public: false,
        is_401: false,
        comment: String::new(),
    }
}

/// `/auth` answers nobody but trusted proxies.
fn asked_by_whom(c: &mut Context) {
    if let Some(found) = c.options.ingress_hosts.first() {
        let from = format!("ingress-nginx tells by X-Original-URL (Ingress {})", found.ingress);
        c.draft.forward_auth.set("headers", quoted("x-original"), from);
    }
    if !c.draft.server.has("trusted_proxies") {
        c.draft.server.set(
            "trusted_proxies",
            list(&["127.0.0.0/8", "::1/128"]),
            "who may ask: name the proxies in front",
        );
        c.options.warn(
            "upstreams",
            format!(
                "only proxies in server.trusted_proxies may ask {}/auth; it names this machine until you name them",
                c.prefix
            ),
        );
    }
}

/// Hosts that another proxy asks about: people may come back to them.
fn hosts(c: &mut Context) -> Vec<Planned> {
    let mut hosts: Vec<(String, String)> = Vec::new();
    for written in c.options.list("whitelist_domains") {
        let name = written.split(':').next().unwrap_or_default().to_ascii_lowercase();
        let host = match name.strip_prefix("*.").or_else(|| name.strip_prefix('.')) {
            Some(domain) => format!("*.{domain}"),
            None => name,
        };
        hosts.push((host, c.options.origin("whitelist_domains")));
    }
    hosts.extend(
        c.options
            .ingress_hosts
            .iter()
            .map(|found| (found.host.to_ascii_lowercase(), format!("Ingress {}", found.ingress))),
    );
    let mut planned: Vec<Planned> = Vec::new();
    for (host, from) in hosts {
        let domain = host.strip_prefix("*.").unwrap_or(&host).to_owned();
        if host == c.host || planned.iter().any(|route| route.host.as_deref() == Some(&host)) {
            continue;
        }
        let within =
            |of: &String| domain.strip_suffix(of.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        if domain.is_empty() || domain == "*" || c.cookie_domain.as_ref().is_some_and(|of| !within(of)) {
            c.options.warn("whitelist_domains", format!("not carried over: {host} is outside the cookie's domain, so a sign-in would not reach it (session.hand_over is for such hosts)"));
            continue;
        }
        if c.cookie_domain.is_none() {
            c.options.warn("whitelist_domains", format!("{host} has sessions of its own: register https://{host}{}/callback at the provider too, or share them by session.cookie_domain", c.prefix));
        }
        if host.starts_with("*.") {
            c.options
                .warn("whitelist_domains", format!("{host} is one label: write more routes for names below names"));
        }
        planned.push(Planned {
            host: Some(host),
            comment: format!("From {from}."),
            ..protected(0, Place::Below("/".to_owned()))
        });
    }
    // Of ingress-nginx it is known, and written.
    if !planned.is_empty() && c.options.ingress_hosts.is_empty() {
        c.options.warn("whitelist_domains", format!("a proxy that asks at a name of Doorward's own (https://{}{}/auth) about another host gets 403 until [forward_auth] headers says what it tells of the request: \"x-original\" for ingress-nginx, \"x-forwarded\" for Traefik and Caddy", c.host, c.prefix));
    }
    planned
}

/// Where Doorward serves the application, people come back to it alone.
fn hosts_of_a_proxy(c: &mut Context) {
    let is_other = |written: &String| written.split(':').next() != Some(c.host.as_str());
    let others: Vec<String> = c.options.list("whitelist_domains").into_iter().filter(is_other).collect();
    if !others.is_empty() {
        c.options.warn("whitelist_domains", format!("not carried over: {}; after a sign-in or sign-out people come back to public_url and to hosts that routes name: add a route with host for each", others.join(", ")));
    }
    if !c.options.ingress_hosts.is_empty() {
        c.options.warn(
            "upstreams",
            "there are upstreams, so the hosts of the Ingresses have no routes: write host = \"…\" routes for them",
        );
    }
}

/// `api_routes`.
fn programs(c: &mut Context, bases: &[Base], planned: &mut Vec<Planned>) {
    for pattern in c.options.list("api_routes") {
        for place in places(c, "api_routes", &pattern, "a program gets 401 there too, seen by its headers") {
            let Some(base) = leads_to(bases, &place) else { continue };
            match planned.iter_mut().find(|route| route.place == place && route.host.is_none()) {
                Some(route) => route.is_401 = true,
                None => planned.push(Planned {
                    is_401: true,
                    comment: format!("api_routes {pattern}"),
                    ..protected(base, place)
                }),
            }
        }
    }
}

/// `skip_auth_routes` and `skip_auth_regex`.
fn open(c: &mut Context, bases: &[Base], planned: &mut Vec<Planned>) {
    let hosts: Vec<Option<String>> = std::iter::once(None)
        .chain(planned.iter().filter(|route| route.host.is_some()).map(|route| route.host.clone()))
        .collect();
    let stays = "it stays protected";
    for name in ["skip_auth_regex", "skip_auth_routes"] {
        for written in c.options.list(name) {
            let (method, pattern) = match (name, written.split_once('=')) {
                ("skip_auth_routes", Some((method, pattern))) => (method, pattern),
                _ => ("", written.as_str()),
            };
            if method.ends_with('!') {
                c.options.warn(
                    name,
                    format!("not carried over: {written}; a route says what is open, never everything but: {stays}"),
                );
                continue;
            }
            let method = Some(method.to_ascii_uppercase()).filter(|method| !method.is_empty());
            if method.as_ref().is_some_and(|method| {
                matches!(method.as_str(), "CONNECT" | "TRACE" | "TRACK")
                    || !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-')
            }) {
                c.options.warn(name, format!("not carried over: {written}; that method is never served"));
                continue;
            }
            for place in places(c, name, pattern, stays) {
                if matches!(&place, Place::Exact(path) if path == "/ping" || path == "/ready") {
                    // Doorward answers them itself.
                    continue;
                }
                let Some(base) = leads_to(bases, &place) else {
                    c.options.warn(name, format!("not carried over: {written}; there is no upstream for it"));
                    continue;
                };
                for host in &hosts {
                    public(
                        planned,
                        &Planned {
                            host: host.clone(),
                            method: method.clone(),
                            is_public: true,
                            comment: format!("{name} {written}"),
                            ..protected(base, place.clone())
                        },
                    );
                }
            }
        }
    }
    let public = planned.iter().filter(|route| route.is_public).map(|route| route.place.path());
    let mut public: Vec<String> = public.collect();
    public.dedup();
    if !public.is_empty() {
        let name = if c.options.given("skip_auth_routes").is_some() { "skip_auth_routes" } else { "skip_auth_regex" };
        c.options.warn(name, format!("open to everybody by whole path segments, from the beginning of the path: {} (/a is /a and /a/b, not /ab); nobody's identity is told there", public.join(", ")));
    }
}

/// Opens what is below it too, where there is a route of its own.
fn public(planned: &mut Vec<Planned>, new: &Planned) {
    let same_host: Vec<&mut Planned> = planned.iter_mut().filter(|route| route.host == new.host).collect();
    let mut is_there = false;
    for route in same_host {
        if new.method.is_none() && new.place.covers(&route.place) {
            route.is_public = true;
        }
        is_there |= route.place == new.place && route.method == new.method;
    }
    if !is_there {
        planned.push(new.clone());
    }
}

/// The routes that an expression stands for; what it cannot be is named.
fn places(c: &mut Context, name: &str, pattern: &str, otherwise: &str) -> Vec<Place> {
    let own = Place::Below(c.prefix.clone());
    match paths::places(pattern) {
        Ok(places) => places.into_iter().filter(|place| !own.covers(place)).collect(),
        Err(what) => {
            c.options.warn(name, format!("not carried over: {pattern} {what}: {otherwise}"));
            Vec::new()
        }
    }
}

/// The upstream that answers for it: the most specific one.
fn leads_to(bases: &[Base], place: &Place) -> Option<usize> {
    let fits = bases.iter().enumerate().filter(|(_, base)| base.place.covers(place));
    fits.max_by_key(|(_, base)| base.place.path().len()).map(|(n, _)| n)
}

/// A health check of a name of its own.
fn ping(c: &mut Context, planned: &mut Vec<Planned>) {
    let Some(path) = c.options.text("ping_path").filter(|path| !matches!(*path, "/ping" | "-")).map(str::to_owned)
    else {
        return;
    };
    match paths::canonical(&path) {
        Ok(path) if path != "/ready" => {
            let place = Place::Exact(path);
            planned.retain(|route| route.place != place);
            planned.push(Planned {
                base: None,
                is_public: true,
                comment: format!("{}; /ping answers as well.", c.options.origin("ping_path")),
                ..protected(0, place)
            });
        }
        _ => c.options.warn("ping_path", "not carried over: health is at /ping"),
    }
}

fn written(c: &Context, bases: &[Base], told: &Told, plan: &Planned) -> Route {
    let mut route = Route { comment: plan.comment.clone(), ..Route::default() };
    if let Some(host) = &plan.host {
        route.keys.set("host", quoted(host), "");
    }
    route.keys.set("path", quoted(&plan.place.path()), "");
    if let Some(method) = &plan.method {
        route.keys.set("methods", list(&[method]), "");
    }
    let base = plan.base.and_then(|n| bases.get(n));
    match base {
        Some(base) => {
            route.keys.set("upstream", quoted(&base.upstream), base.from.clone());
            route.options = base.options.clone();
        }
        None => route.keys.set("upstream", quoted("status:200"), ""),
    }
    let strip = base.and_then(|base| base.strip_prefix.as_ref());
    if plan.is_public {
        route.keys.set("access", quoted("public"), "");
    } else if c.draft.allow.is_empty() {
        route.keys.set("access", quoted("authenticated"), "");
    } else {
        route.keys.set("access", quoted("policy"), "");
        route.keys.set("policy", quoted("people"), "");
    }
    if let Some(strip) = strip {
        route.keys.set("strip_prefix", quoted(strip), "");
    }
    if plan.is_public {
        return route;
    }
    if plan.is_401 {
        route.keys.set("unauthenticated", quoted("401"), "");
    }
    route.keys.set("identity", format!("[{}]", told.identity.join(", ")), "");
    if c.options.flag("skip_auth_preflight", false) {
        route.keys.set("allow_preflight", "true", c.options.origin("skip_auth_preflight"));
    }
    if let Some(kind) = told.auth {
        route.auth.set("kind", quoted(kind), "");
        if base.is_some_and(|base| base.is_plain) {
            route.auth.set("insecure", "true", "plain http to another machine");
        }
    }
    route.machine = c.machine.clone().unwrap_or_default();
    route
}
