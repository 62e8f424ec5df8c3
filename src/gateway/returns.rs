//! Where a return URL may lead: a path of this site, or a URL of a host that the configuration names. Everything else
//! leads to `/` (B-01, the R rows).
//!
//! A text that two parsers could read differently is not parsed at all: backslashes, control characters, blanks and
//! anything beyond ASCII are refused first. What is left is taken apart by the rules of RFC 3986, canonicalised like any
//! request path, and put together again from the parts.

use super::Gateway;
use super::admit::Admitted;
use super::site::Site;
use crate::http::origin::{Origin, Scheme};
use crate::http::uri::{canonical_host, canonical_path};

const MAX: usize = 2_000;

/// The place to return to, or `/`.
pub fn safe(gateway: &Gateway, site: &Site, wanted: &str) -> String {
    checked(gateway, site, wanted).unwrap_or_else(|| "/".to_owned())
}

/// Where the request itself leads, in the spelling that was decided on.
///
/// SECURITY: R-01. As sent it may begin with `//`, which is this site's path in a request and another site in `Location`.
pub fn own(admitted: &Admitted<'_>, query: Option<&str>) -> String {
    let path = &admitted.path.forward;
    query.map_or_else(|| path.to_string(), |query| format!("{path}?{query}"))
}

fn checked(gateway: &Gateway, site: &Site, wanted: &str) -> Option<String> {
    if wanted.is_empty() || wanted.len() > MAX || !wanted.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
        return None;
    }
    if wanted.starts_with('/') {
        return if wanted.starts_with("//") { None } else { local(gateway, wanted) };
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
    let path = local(gateway, if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }.as_str())?;
    Some(if origin == site.origin { path } else { format!("{origin}{path}") })
}

/// Path, query and fragment, the path canonical and none of our own endpoints.
fn local(gateway: &Gateway, text: &str) -> Option<String> {
    let (path, tail) = text.split_at(text.find(['?', '#']).unwrap_or(text.len()));
    let path = canonical_path(path).ok()?;
    if gateway.is_own(&path.matching) {
        return None;
    }
    Some(format!("{}{tail}", path.forward))
}
