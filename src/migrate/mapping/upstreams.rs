//! Where requests go: `upstreams` in either form, as bases that routes are made of.

use url::Url;

use super::super::options::Upstream;
use super::super::output::{Section, quoted};
use super::Context;
use super::paths::{self, Place};
use super::values;
use crate::http::origin::Origin;

/// One upstream, and what it answers for.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) place: Place,
    pub(super) upstream: String,
    /// A credential that is sent there can be read on the way.
    pub(super) is_plain: bool,
    pub(super) strip_prefix: Option<String>,
    pub(super) options: Section,
    pub(super) from: String,
}

/// All of them, and whether oauth2-proxy is only asked by another proxy.
pub(super) fn bases(c: &mut Context) -> (Vec<Base>, bool) {
    let upstreams = match c.options.upstreams.take() {
        Some(upstreams) => upstreams,
        None => flat(c),
    };
    let serves = upstreams.iter().any(|upstream| !upstream.is_static);
    let mut bases: Vec<Base> = Vec::new();
    for upstream in upstreams.iter().filter(|upstream| serves || !upstream.is_static) {
        let Some(base) = base(c, upstream) else { continue };
        if bases.iter().any(|there| there.place == base.place) {
            c.options.warn("upstreams", format!("not carried over: a second one for {}", base.place.path()));
        } else {
            bases.push(base);
        }
    }
    if serves {
        return (bases, false);
    }
    let status = upstreams.first().map(|upstream| upstream.uri.clone()).filter(|code| !code.is_empty());
    if let Some(code) = status {
        c.options.warn("upstreams", format!("static://{code} answered everybody who is signed in at any path, which Traefik's ForwardAuth may have asked: have it ask {}/forward, which also sends to the sign-in, or {}/auth", c.prefix, c.prefix));
    }
    let base = Base {
        place: Place::Below("/".to_owned()),
        upstream: "status:404".to_owned(),
        is_plain: false,
        strip_prefix: None,
        options: Section::default(),
        from: c.options.origin("upstreams"),
    };
    (vec![base], true)
}

/// As oauth2-proxy makes structures of them.
fn flat(c: &mut Context) -> Vec<Upstream> {
    let pass_host = (!c.options.flag("pass_host_header", true)).then(|| "false".to_owned());
    let timeout = c.options.text("upstream_timeout").map(str::to_owned);
    let disable_keep_alives = c.options.flag("disable_keep_alives", false);
    let mut upstreams = Vec::new();
    for uri in c.options.list("upstreams") {
        if let Some(code) = uri.strip_prefix("static://") {
            let uri = code.trim_end_matches('/').to_owned();
            upstreams.push(Upstream { path: "/".to_owned(), uri, is_static: true, ..Upstream::default() });
        } else if uri.starts_with("file:///dev/null") {
            // The usual way to say that there is none.
        } else {
            let path = match Url::parse(&uri) {
                Ok(url) if matches!(url.scheme(), "http" | "https") => url.path().to_owned(),
                _ => "/".to_owned(),
            };
            let (pass_host, timeout) = (pass_host.clone(), timeout.clone());
            upstreams.push(Upstream { path, uri, pass_host, timeout, disable_keep_alives, ..Upstream::default() });
        }
    }
    upstreams
}

fn base(c: &mut Context, upstream: &Upstream) -> Option<Base> {
    let (place, strip_prefix, below) = match path(upstream) {
        Ok(found) => found,
        Err(what) => {
            c.options.refuse(
                "upstreams",
                format!("the path {} {what}: write the route by hand, or a path that is none", upstream.path),
            );
            return None;
        }
    };
    let mut is_plain = false;
    let target = if upstream.is_static {
        format!("status:{}", if upstream.uri.is_empty() { "200" } else { &upstream.uri })
    } else if let Some(socket) = upstream.uri.strip_prefix("unix://") {
        format!("unix:{socket}")
    } else if upstream.uri.starts_with("file:") {
        c.options.warn(
            "upstreams",
            format!("not carried over: {}; Doorward serves no files: put a file server there", upstream.uri),
        );
        return None;
    } else {
        let origin = Url::parse(&upstream.uri).ok().and_then(|url| Origin::of(&url).ok());
        let Some(origin) = origin else {
            // SECURITY: ZX-06: it may hold a password.
            c.options.refuse("upstreams", "one is no http, https, unix or static URL, or has a user name in it");
            return None;
        };
        is_plain = !origin.is_confidential();
        let is_elsewhere = Url::parse(&upstream.uri).is_ok_and(|url| url.path() != "/" && url.path() != upstream.path);
        if is_elsewhere {
            c.options.warn("upstreams", format!("the path of {} is not carried over: oauth2-proxy sends the request's own path, whatever stands there", origin));
        }
        format!("{origin}{below}")
    };
    let mut options = Section::default();
    if let Some(timeout) = upstream.timeout.as_deref().and_then(values::duration).filter(|timeout| !timeout.is_zero()) {
        options.set("response_timeout", quoted(&values::shown(timeout)), c.options.origin("upstream_timeout"));
    }
    if upstream.disable_keep_alives {
        options.set("idle_timeout", quoted("0s"), c.options.origin("disable_keep_alives"));
    }
    if upstream.pass_host.as_deref() == Some("false") {
        options.set("pass_host", "false", c.options.origin("pass_host_header"));
    }
    let from = if upstream.id.is_empty() { c.options.origin("upstreams") } else { format!("upstream {}", upstream.id) };
    Some(Base { place, upstream: target, is_plain, strip_prefix, options, from })
}

/// What it answers for, what is taken off a path, and what is put before it.
fn path(upstream: &Upstream) -> Result<(Place, Option<String>, String), &'static str> {
    let root = |path: &str| if path.is_empty() { "/".to_owned() } else { path.to_owned() };
    if upstream.rewrite.is_empty() {
        // A path that ends with a slash is a prefix, any other one path.
        let place = match upstream.path.strip_suffix('/') {
            Some(top) => Place::Below(paths::canonical(&root(top))?),
            None => Place::Exact(paths::canonical(&upstream.path)?),
        };
        return Ok((place, None, String::new()));
    }
    const UNKNOWN: &str = "is rewritten in a way that strip_prefix cannot say";
    let taken = upstream.path.trim_start_matches('^').trim_end_matches('$').strip_suffix("(.*)").ok_or(UNKNOWN)?;
    let put = ["$1", "${1}"].iter().find_map(|group| upstream.rewrite.strip_suffix(group)).ok_or(UNKNOWN)?;
    if taken.ends_with('/') != put.ends_with('/') || put.contains('$') {
        return Err(UNKNOWN);
    }
    let (taken, put) = (taken.trim_end_matches('/'), put.trim_end_matches('/'));
    let place = Place::Below(paths::canonical(&root(taken))?);
    if !put.is_empty() {
        paths::canonical(put)?;
    }
    Ok((place, (!taken.is_empty()).then(|| taken.to_owned()), put.to_owned()))
}
