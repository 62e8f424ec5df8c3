//! Where a return URL may lead: a path of this site, or a URL of a host that the configuration names. Everything else
//! leads to `/` (B-01, the R rows).
//!
//! A text that two parsers could read differently is not parsed at all: backslashes, control characters, blanks and
//! anything beyond ASCII are refused first. What is left is taken apart by the rules of RFC 3986, canonicalised like any
//! request path, and put together again from the parts.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::Gateway;
use super::admit::Admitted;
use super::site::Site;
use crate::http::origin::{Origin, Scheme};
use crate::http::uri::{canonical_host, canonical_path, has_dot_segments, raw_path};

const MAX: usize = 2_000;

/// What a request may hold and a URL in a browser does not.
const AS_SENT: &AsciiSet = &CONTROLS.add(b'\\');

/// The place to return to, or `/`.
pub fn safe(gateway: &Gateway, site: &Site, wanted: &str) -> String {
    checked(gateway, site, wanted).unwrap_or_else(|| "/".to_owned())
}

/// Where the request itself leads, in the spelling that was decided on.
///
/// SECURITY: R-01. As sent it may begin with `//`, which is this site's path in a request and another site in `Location`.
pub fn own(gateway: &Gateway, admitted: &Admitted<'_>, query: Option<&str>) -> String {
    let path = &admitted.path.forward;
    let target = query.map_or_else(|| path.to_string(), |query| format!("{path}?{query}"));
    if !admitted.site.takes_raw {
        return target;
    }
    // As a browser would spell it, for the same checks as everything else.
    let target = utf8_percent_encode(&target, AS_SENT);
    safe(gateway, &admitted.site, &format!("{}{target}", admitted.site.origin))
}

fn checked(gateway: &Gateway, site: &Site, wanted: &str) -> Option<String> {
    if wanted.is_empty() || wanted.len() > MAX || !wanted.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
        return None;
    }
    if wanted.starts_with('/') {
        return if wanted.starts_with("//") { None } else { local(gateway, site.origin.host(), wanted) };
    }
    let (scheme, rest) = wanted.split_once("://")?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return None,
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = canonical_host(authority).ok()?;
    let origin = Origin::new(scheme, host.name.as_ref(), host.port.unwrap_or_else(|| scheme.default_port()));
    let public = &gateway.settings.server.public_url;
    let sibling =
        origin.scheme() == public.scheme() && origin.port() == public.port() && gateway.table.knows_host(origin.host());
    if origin != *public && !sibling {
        return None;
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let path = local(gateway, origin.host(), &path)?;
    // SECURITY: R-01. `//` begins another site, except behind the name of this one.
    let here = origin == site.origin && !path.starts_with("//");
    Some(if here { path } else { format!("{origin}{path}") })
}

/// Path, query and fragment; the path none of our own endpoints, and canonical unless the host takes raw ones.
fn local(gateway: &Gateway, host: &str, text: &str) -> Option<String> {
    let (path, tail) = text.split_at(text.find(['?', '#']).unwrap_or(text.len()));
    let canonical = canonical_path(path);
    if canonical.as_ref().is_ok_and(|path| gateway.is_own(&path.matching)) {
        return None;
    }
    if gateway.table.takes_raw(host) {
        // SECURITY: R-09. A browser would resolve them into another path, perhaps one of ours.
        let path = raw_path(path).ok().filter(|_| !has_dot_segments(path))?;
        return Some(format!("{}{tail}", path.forward));
    }
    Some(format!("{}{tail}", canonical.ok()?.forward))
}
