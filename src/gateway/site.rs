//! The site that a request is for: the host it names, and the origin under which the browser knows that host. Redirects,
//! cookies and forwarded headers come from here, never from a raw header (W-04).

use http::header::HeaderValue;

use crate::http::forwarded::port_value;
use crate::http::origin::{Origin, Scheme};
use crate::http::uri::Host;
use crate::route::Table;

#[derive(Debug)]
pub struct Site {
    /// Canonical, no port: what routes match.
    pub host: String,
    /// As in the request, canonical, with its port.
    pub authority: String,
    /// What the browser has in its address bar: scheme and port of `public_url`, and the host where a route names it;
    /// else `public_url` itself, since a host that only a proxy in front knows is nothing to redirect to.
    pub origin: Origin,
    /// PERF: made once a connection, not once a request.
    pub forwarded_host: HeaderValue,
    pub forwarded_port: HeaderValue,
    pub scheme: Scheme,
    /// Paths go upstream as they came.
    pub takes_raw: bool,
}

impl Site {
    /// `proto`: what a trusted proxy said; else the scheme of the origin counts.
    pub fn new(host: &Host<'_>, proto: Option<Scheme>, public: &Origin, routes: &Table) -> Self {
        let origin = if host.name == public.host() || !routes.knows_host(&host.name) {
            public.clone()
        } else {
            Origin::new(public.scheme(), host.name.as_ref(), public.port())
        };
        let authority = match host.port {
            Some(port) => format!("{}:{port}", host.name),
            None => host.name.to_string(),
        };
        let scheme = proto.unwrap_or_else(|| origin.scheme());
        let port = match proto {
            Some(proto) if proto != origin.scheme() => host.port.unwrap_or_else(|| proto.default_port()),
            _ => origin.port(),
        };
        Self {
            takes_raw: routes.takes_raw(&host.name),
            host: host.name.to_string(),
            forwarded_host: HeaderValue::from_str(&authority).unwrap_or(HeaderValue::from_static("invalid")),
            forwarded_port: port_value(port),
            authority,
            origin,
            scheme,
        }
    }
}
