//! What Envoy asks, as the request that it holds.

use std::net::IpAddr;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::Uri;
use http::{Method, Request};

use super::proto::{CheckRequest, HttpRequest, Peer};
use crate::gateway::Gateway;
use crate::gateway::forward_auth::bad;
use crate::gateway::forward_auth::original::{Named, Original, Told, as_http, path_and_query};
use crate::http::forwarded;
use crate::http::origin::Scheme;
use crate::http::refusal::Refusal;

/// `peer` is trusted: it is Envoy.
pub(super) fn question(gateway: &Gateway, peer: IpAddr, request: CheckRequest) -> Result<Original, Refusal> {
    let attributes = request.attributes.ok_or(bad("a question without attributes"))?;
    let http = attributes.request.and_then(|request| request.http).ok_or(bad("a question about no HTTP request"))?;
    let mut parts = Request::new(()).into_parts().0;
    parts.method = Method::from_bytes(http.method.as_bytes()).map_err(|_| bad("the method is none"))?;
    parts.uri = Uri::from(path_and_query(&http.path)?);
    parts.headers = headers(&http)?;
    as_http(&mut parts.headers);

    let connected = attributes.source.as_ref().and_then(address);
    // Whoever is connected to Envoy is the client, unless that is a trusted proxy too, which then says who it is.
    let seen = forwarded::read(&parts.headers, connected.unwrap_or(peer), &gateway.trust)?;
    let is_named = connected.is_some_and(|address| !gateway.trusts(address)) || seen.chain.is_some();
    let scheme = match http.scheme.as_str() {
        "https" => Some(Scheme::Https),
        "http" => Some(Scheme::Http),
        _ => None,
    };
    Ok(Original {
        parts,
        scheme: seen.proto.or(scheme),
        client: seen.client,
        has_body: http.size != 0,
        told: Told { method: true, path: true, client: if is_named { Named::Once } else { Named::No } },
        host: http.host,
        among_people: false,
    })
}

fn headers(http: &HttpRequest) -> Result<HeaderMap, Refusal> {
    const MANY: Refusal = bad("too many headers");
    // A map that is asked to be larger than it can be panics.
    let mut headers = HeaderMap::try_with_capacity(http.headers.len()).map_err(|_| MANY)?;
    let raw = http.header_map.iter().flat_map(|map| &map.headers);
    // HTTP/2's own are said elsewhere.
    for field in http.headers.iter().chain(raw).filter(|field| !field.key.starts_with(':')) {
        let field = HeaderName::try_from(&field.key).ok().zip(HeaderValue::from_bytes(field.bytes()).ok());
        let (name, value) = field.ok_or(bad("a header that is none"))?;
        headers.try_append(name, value).map_err(|_| MANY)?;
    }
    Ok(headers)
}

fn address(peer: &Peer) -> Option<IpAddr> {
    let address: IpAddr = peer.address.as_ref()?.socket_address.as_ref()?.address.parse().ok()?;
    Some(address.to_canonical())
}
