//! Where a request that came over plain http belongs. It reads the Host, and believes it only where the configuration
//! names that host.

use http::StatusCode;
use http::request::Parts;

use super::Gateway;
use super::admit::authority;
use super::site::Site;
use crate::http::refusal::Refusal;
use crate::http::uri::canonical_host;

/// The same path and query under the https origin of the host that was asked for; under `public_url` where no route names
/// that host.
pub fn location(gateway: &Gateway, head: &Parts) -> Result<String, Refusal> {
    let bad = |why| Refusal::new(StatusCode::BAD_REQUEST, why);
    let host = std::str::from_utf8(authority(head)?).map_err(|_| bad("an invalid Host"))?;
    // SECURITY: W-04. The origin is the configuration's; the Host only chooses among those.
    let site = Site::new(&canonical_host(host)?, None, &gateway.settings.server.public_url, &gateway.table);
    let target = head.uri.path_and_query().map(http::uri::PathAndQuery::as_str);
    let target = target.filter(|target| target.starts_with('/')).ok_or_else(|| bad("no path"))?;
    Ok(format!("{}{target}", site.origin))
}
