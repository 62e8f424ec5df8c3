//! The first step: a request is understood in exactly one way, or refused. One canonical host, one canonical path, one
//! framing; what stays ambiguous is 400, since whoever is asked next might read it differently.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{HOST, HeaderMap, HeaderValue, VIA};
use http::request::Parts;
use http::uri::Authority;
use http::{Method, StatusCode, Version};

use super::Gateway;
use super::conn::Conn;
use super::endpoints;
use super::resource;
use super::site::Site;
use crate::http::forwarded::{self, Seen};
use crate::http::headers::framing_ok;
use crate::http::refusal::Refusal;
use crate::http::uri::{Path, canonical_host, canonical_path, raw_path};
use crate::telemetry::refused::Refused;

/// What the rest of the journey goes by.
pub struct Admitted<'a> {
    pub site: Arc<Site>,
    pub path: Path<'a>,
    pub client: IpAddr,
    pub seen: Seen,
}

fn bad(why: &'static str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, why)
}

/// `raw` is the request target's path, as sent.
pub fn admit<'a>(gateway: &Gateway, conn: &Conn, parts: &Parts, raw: &'a str) -> Result<Admitted<'a>, Refusal> {
    sound(gateway, parts)?;
    let host = authority(parts)?;
    let trusted = gateway.trust.contains(conn.peer);
    if !trusted && let Some(site) = conn.site(host, gateway.epoch) {
        return Ok(Admitted {
            path: path(gateway, &site, raw)?,
            site,
            client: conn.peer,
            seen: Seen { client: conn.peer, proto: None, host: None, chain: None },
        });
    }
    let seen = forwarded::read(&parts.headers, conn.peer, &gateway.trust)?;
    let told = || std::str::from_utf8(host).map_err(|_| bad("an invalid Host"));
    let text = seen.host.as_deref().map_or_else(told, Ok)?;
    let name = canonical_host(text)?;
    // SECURITY: PX-17. The connection began as another host's: what that one's certificate promised need not hold here.
    // PERF: asked once for each site of a connection. A proxy that is trusted speaks for every host.
    if !trusted && conn.handshake.as_ref().is_some_and(|handshake| handshake.is_misdirected(&name.name)) {
        return Err(Refusal::new(
            StatusCode::MISDIRECTED_REQUEST,
            "this host has another certificate than the connection began with",
        ));
    }
    let site = Arc::new(Site::new(&name, seen.proto, &gateway.settings.server.public_url, &gateway.table));
    if !trusted && let Ok(host) = HeaderValue::from_bytes(host) {
        conn.keep_site(host, gateway.epoch, &site);
    }
    Ok(Admitted { path: path(gateway, &site, raw)?, site, client: seen.client, seen })
}

/// What holds of every message that comes here, whatever it is about.
pub(super) fn sound(gateway: &Gateway, parts: &Parts) -> Result<(), Refusal> {
    few_headers(gateway, parts)?;
    method(&parts.method)?;
    // SECURITY: H-05, H-06. hyper resolves CL beside TE; what it lets pass of TE is refused here.
    framing_ok(parts)?;
    looped(&parts.headers, gateway)
}

/// SECURITY: FX-15, M-11. hyper counts too, but not to every number.
pub(super) fn few_headers(gateway: &Gateway, parts: &Parts) -> Result<(), Refusal> {
    if parts.headers.len() > gateway.settings.server.limits.headers {
        gateway.metrics.refusals.count(Refused::Headers);
        return Err(Refusal::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too many header fields"));
    }
    Ok(())
}

/// Canonical; as sent where the host has one route and that one wants it so. Our own endpoints come first there too, in
/// every spelling that can be read in one way only (PX-28).
pub(super) fn path<'a>(gateway: &Gateway, site: &Site, raw: &'a str) -> Result<Path<'a>, Refusal> {
    if !site.takes_raw {
        return canonical_path(raw);
    }
    let ours = canonical_path(raw).ok().filter(|path| {
        endpoints::is_ours(gateway, site, &path.matching) || resource::is_ours(gateway, site, &path.matching)
    });
    ours.map_or_else(|| raw_path(raw), Ok)
}

/// Which host is asked, as it was sent.
pub(super) fn authority(parts: &Parts) -> Result<&[u8], Refusal> {
    match parts.version {
        Version::HTTP_11 | Version::HTTP_10 => host(parts),
        Version::HTTP_2 => pseudo_authority(parts),
        _ => Err(Refusal::new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "this version of HTTP is not spoken here")),
    }
}

/// Exactly one Host (H-01), and the same authority in the target where it has one (H-02).
fn host(parts: &Parts) -> Result<&[u8], Refusal> {
    let host = only_host(&parts.headers)?.ok_or_else(|| bad("no Host"))?;
    if let Some(target) = parts.uri.authority() {
        agree(parts, target, host)?;
    }
    Ok(host.as_bytes())
}

/// `:authority`, and the same Host where there is one; Host alone is as good (RFC 9113 §8.3.1).
///
/// SECURITY: H-13. hyper takes two that differ, and any scheme.
fn pseudo_authority(parts: &Parts) -> Result<&[u8], Refusal> {
    let told = only_host(&parts.headers)?;
    let Some(target) = parts.uri.authority() else {
        return told.map(HeaderValue::as_bytes).ok_or_else(|| bad("no authority"));
    };
    match told {
        // PERF: no browser sends Host beside it; a proxy that does sends the same.
        Some(host) if host != target.as_str() => agree(parts, target, host)?,
        _ => is_http(parts)?,
    }
    Ok(target.as_str().as_bytes())
}

fn only_host(headers: &HeaderMap) -> Result<Option<&HeaderValue>, Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(bad("more than one Host"));
    }
    Ok(host)
}

/// The target of the request and its Host name one authority.
fn agree(parts: &Parts, target: &Authority, host: &HeaderValue) -> Result<(), Refusal> {
    is_http(parts)?;
    let named = canonical_host(target.as_str())?;
    let told = host.to_str().ok().and_then(|h| canonical_host(h).ok()).ok_or_else(|| bad("an invalid Host"))?;
    let port = |p: Option<u16>| p.unwrap_or_else(|| if parts.uri.scheme_str() == Some("https") { 443 } else { 80 });
    if named.name != told.name || port(named.port) != port(told.port) {
        return Err(bad("the target and Host name different hosts"));
    }
    Ok(())
}

fn is_http(parts: &Parts) -> Result<(), Refusal> {
    match parts.uri.scheme_str() {
        Some("http" | "https") => Ok(()),
        _ => Err(bad("a target that is neither http nor https")),
    }
}

/// CONNECT would make a tunnel of us, TRACE would echo credentials (H-10, M-17).
pub(super) fn method(method: &Method) -> Result<(), Refusal> {
    if *method == Method::CONNECT || *method == Method::TRACE || method.as_str() == "TRACK" {
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this method is not served"));
    }
    Ok(())
}

/// A request that went through this instance before (H-16).
fn looped(headers: &HeaderMap, gateway: &Gateway) -> Result<(), Refusal> {
    let own = |hop: &str| gateway.via.iter().any(|via| hop.trim() == via);
    let again = headers.get_all(VIA).iter().filter_map(|v| v.to_str().ok()).any(|v| v.split(',').any(own));
    if again {
        return Err(Refusal::new(StatusCode::LOOP_DETECTED, "an upstream leads back here"));
    }
    Ok(())
}
