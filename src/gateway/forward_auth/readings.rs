//! The readings of a path that those behind a proxy may have: as it stands, with its dot segments removed, with its slashes
//! merged, decoded. What Doorward decides must hold for all of them, since none of them gets the canonical path.

use http::request::Parts;

use crate::gateway::Gateway;
use crate::gateway::site::Site;
use crate::http::uri::{canonical_path, has_dot_segments, without_dot_segments};

pub(super) fn lead_to_one_route(gateway: &Gateway, site: &Site, parts: &Parts) -> bool {
    let raw = parts.uri.path();
    let Ok(path) = canonical_path(raw) else { return false };
    // PERF: nearly every path has one reading.
    if path.matching == raw {
        return true;
    }
    let route = |path: &str| gateway.table.select(&site.host, path, parts.method.as_str());
    let canonical = route(&path.matching);
    let is_same = |reading: &str| route(reading) == canonical;
    // RFC 3986 §5.2.4 removes dot segments and knows nothing of merged slashes.
    let removed = || is_same(&without_dot_segments(raw));
    is_same(raw) && is_same(&path.forward) && (!has_dot_segments(raw) || removed())
}
