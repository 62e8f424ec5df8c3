//! The readings of a path that those behind a proxy may have. What Doorward decides must hold for all of them, since none of
//! them gets the canonical path.
//!
//! Some decode the escapes, some merge slashes, drop `.` or cut parameters off, each in an order of its own. None of these
//! steps touches a segment that a route's path names, so whatever they leave lies between the path as it stands and the
//! canonical one: where these two lead to one route, all do. That is not so of `..`, and of `//` before a name.

use http::header::ACCESS_CONTROL_REQUEST_METHOD;
use http::request::Parts;

use crate::gateway::Gateway;
use crate::gateway::site::Site;
use crate::http::uri::{canonical_path, has_parent_segments};

pub(super) fn lead_to_one_route(gateway: &Gateway, site: &Site, parts: &Parts) -> bool {
    let raw = parts.uri.path();
    let Ok(path) = canonical_path(raw) else { return false };
    // PERF: nearly every path has one reading.
    if path.matching == raw || gateway.table.is_alone(&site.host) {
        return true;
    }
    // What is before a `..` is its parent for some and a folder for others, also where it is empty or to be decoded first. No
    // browser sends one.
    if has_parent_segments(raw) {
        return false;
    }
    let other = without_host(raw).map(canonical_path);
    // A preflight is judged by the route of the request that it announces.
    let announced = parts.headers.get(ACCESS_CONTROL_REQUEST_METHOD).and_then(|method| method.to_str().ok());
    announced.into_iter().chain([parts.method.as_str()]).all(|method| {
        let route = |path: &str| gateway.table.select(&site.host, path, method);
        let canonical = route(&path.matching);
        let is_same = |reading: &str| route(reading) == canonical;
        is_same(raw) && other.as_ref().is_none_or(|other| other.as_ref().is_ok_and(|path| is_same(&path.matching)))
    })
}

/// The path for whoever takes `//name/path` for another host's (RFC 3986 §4.2), with more slashes too (URL Standard).
fn without_host(raw: &str) -> Option<&str> {
    let rest = raw.strip_prefix("//")?.trim_start_matches('/');
    Some(rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"))
}
