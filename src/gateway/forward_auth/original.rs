//! The request that a proxy asks about, as that proxy tells of it. Each thing comes from one place; two that disagree are
//! refused, since a client can send whatever header the proxy does not set (PX-22).

use std::net::IpAddr;

use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName};
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};

use super::{Dialect, bad};
use crate::config::settings::QuestionHeaders;
use crate::gateway::Gateway;
use crate::http::forwarded;
use crate::http::origin::Scheme;
use crate::http::refusal::Refusal;
use crate::http::uri::{canonical_host, canonical_path};

const ORIGINAL_URL: HeaderName = HeaderName::from_static("x-original-url");
const ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");

const NO_PATH: Refusal = bad("the path that is asked for is none");
const TWO_PATHS: Refusal = bad("the headers of the proxy name two paths");
const TWO_HOSTS: Refusal = bad("the headers of the proxy name two hosts");
const TWO_METHODS: Refusal = bad("the headers of the proxy name two methods");

pub struct Original {
    /// Its method, its path and query, and its headers among those of the proxy.
    pub parts: Parts,
    /// As it was sent.
    pub host: String,
    pub scheme: Option<Scheme>,
    pub client: IpAddr,
    pub has_body: bool,
    pub told: Told,
    /// It was asked where people's requests come too: one of these may be the question, and its sender read the answer.
    pub among_people: bool,
}

/// What the proxy said in so many words.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    pub method: bool,
    pub path: bool,
    pub client: Named,
}

/// Whether the proxy names the client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Named {
    Once,
    /// `X-Real-IP` is none of the addresses in `X-Forwarded-For`: a client may have sent either, so neither is believed. What
    /// is known is the proxy's own address.
    Twice,
    /// Likewise.
    No,
}

/// What a proxy says of the request.
pub struct About {
    method: Method,
    target: PathAndQuery,
    host: String,
    scheme: Option<Scheme>,
    client: IpAddr,
    told: Told,
}

impl About {
    /// `asking`: the head that told it, which has the headers of the request too.
    pub fn of(self, mut asking: Parts, has_body: bool) -> Original {
        asking.method = self.method;
        asking.uri = Uri::from(self.target);
        as_http(&mut asking.headers);
        let Self { host, scheme, client, told, .. } = self;
        Original { parts: asking, host, scheme, client, has_body, told, among_people: true }
    }
}

/// `peer` is trusted.
///
/// # Errors
/// What cannot be understood, or in two ways.
pub fn read(gateway: &Gateway, peer: IpAddr, asking: &Parts, dialect: Dialect) -> Result<About, Refusal> {
    match dialect {
        Dialect::Auth | Dialect::Forward => in_headers(gateway, peer, asking),
        Dialect::ExtAuthz => as_it_is(gateway, peer, asking),
    }
}

fn in_headers(gateway: &Gateway, peer: IpAddr, parts: &Parts) -> Result<About, Refusal> {
    let headers = &parts.headers;
    let families = gateway.settings.server.forward_auth.headers;
    let original = |name: HeaderName| if families.has_original() { single(headers, &name) } else { Ok(None) };
    let forwarded = |name: HeaderName| if families.has_forwarded() { single(headers, &name) } else { Ok(None) };
    let (mut url_host, mut targets) = (None, Vec::with_capacity(3));
    if let Some(url) = original(ORIGINAL_URL)? {
        let (host, target) = split(url)?;
        url_host = host;
        targets.push(target);
    }
    targets.extend(forwarded(FORWARDED_URI)?);
    // A second proxy on the way to us may tell of the question itself: an ingress that is asked through itself.
    let question = parts.uri.path_and_query().map(PathAndQuery::as_str);
    targets.extend(original(ORIGINAL_URI)?.filter(|uri| Some(*uri) != question));
    let target = agreed(&targets).ok_or(TWO_PATHS)?;
    let methods = [original(ORIGINAL_METHOD)?, forwarded(FORWARDED_METHOD)?];
    let method = agreed(&methods.into_iter().flatten().collect::<Vec<_>>()).ok_or(TWO_METHODS)?;

    let seen = forwarded::read(headers, peer, &gateway.trust)?;
    let host = match (url_host, seen.host.as_deref().filter(|_| families.has_forwarded())) {
        (Some(url), Some(told)) if canonical_host(url)?.name != canonical_host(told)?.name => return Err(TWO_HOSTS),
        // The port that the browser sees is in the URL; X-Forwarded-Host often leaves it out.
        (Some(url), _) => url.to_owned(),
        (None, Some(told)) => told.to_owned(),
        (None, None) => sent_host(parts)?,
    };
    let told = Told { method: method.is_some(), path: target.is_some(), client: Named::No };
    let has_host = url_host.is_some() || families == QuestionHeaders::Forwarded && seen.host.is_some();
    // SECURITY: PX-23. What is not there is not the proxy's, and a client could add it.
    if families != QuestionHeaders::Any && !(told.method && told.path && has_host) {
        return Err(bad("the proxy does not set all the headers that forward_auth.headers names"));
    }
    let method = method.map_or(Ok(Method::GET), |method| Method::from_bytes(method.as_bytes()));
    let method = method.map_err(|_| bad("the method is none"))?;
    let target = path_and_query(target.unwrap_or("/"))?;
    if families == QuestionHeaders::Any && leads_elsewhere(gateway, parts, &host, &method, &target)? {
        return Err(TWO_HOSTS);
    }
    let (client, named) = match (forwarded::real_ip(headers)?, seen.chain.as_deref()) {
        (None, None) => (seen.client, Named::No),
        (None, Some(_)) => (seen.client, Named::Once),
        (Some(real), None) => (real, Named::Once),
        (Some(real), Some(chain)) if chain.split(", ").any(|hop| hop.parse() == Ok(real)) => (seen.client, Named::Once),
        // SECURITY: BX-10. Or it would choose in whose name it is counted and logged.
        (Some(_), Some(_)) => (peer, Named::Twice),
    };
    Ok(About { method, target, host, scheme: seen.proto, client, told: Told { client: named, ..told } })
}

/// Envoy sends the request itself, below a path of ours. Neither path nor host nor method is read from a header, which a
/// client could have added; nor is its address from one that Envoy does not set.
fn as_it_is(gateway: &Gateway, peer: IpAddr, parts: &Parts) -> Result<About, Refusal> {
    let whole = parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
    let rest = whole.strip_prefix(&gateway.own).and_then(|rest| rest.strip_prefix("ext_authz")).ok_or(NO_PATH)?;
    let target = if rest.starts_with('/') { path_and_query(rest) } else { path_and_query(&format!("/{rest}")) }?;
    let seen = forwarded::read(&parts.headers, peer, &gateway.trust)?;
    let named = if seen.chain.is_some() { Named::Once } else { Named::No };
    Ok(About {
        method: parts.method.clone(),
        target,
        host: sent_host(parts)?,
        scheme: seen.proto,
        client: seen.client,
        told: Told { method: true, path: true, client: named },
    })
}

/// SECURITY: PX-22. A proxy that tells the host by `Host` alone passes on whatever its client says of it in other headers. So of
/// a question that was sent to a host that people use, no header makes one about another route.
fn leads_elsewhere(
    gateway: &Gateway,
    parts: &Parts,
    host: &str,
    method: &Method,
    target: &PathAndQuery,
) -> Result<bool, Refusal> {
    let sent = sent_host(parts)?;
    let (sent, host, table) = (canonical_host(&sent)?.name, canonical_host(host)?.name, &gateway.table);
    let is_public = || table.takes_any_host() && *sent == *gateway.settings.server.public_url.host();
    if sent == host || !(table.knows_host(&sent) || is_public()) {
        return Ok(false);
    }
    let path = canonical_path(target.path())?.matching;
    Ok(table.select(&sent, &path, method.as_str()) != table.select(&host, &path, method.as_str()))
}

/// The host that the question itself was sent to.
fn sent_host(parts: &Parts) -> Result<String, Refusal> {
    let host = crate::gateway::admit::authority(parts)?;
    String::from_utf8(host.to_vec()).map_err(|_| bad("an invalid Host"))
}

/// Host, and path with query; some proxies send these alone.
fn split(url: &str) -> Result<(Option<&str>, &str), Refusal> {
    if url.starts_with('/') {
        return Ok((None, url));
    }
    let rest = ["https://", "http://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let rest = rest.ok_or(bad("X-Original-URL is neither a URL nor a path"))?;
    let (host, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    Ok((Some(host), target))
}

/// What we answer is HTTP, also to a gRPC call: the proxy makes a gRPC status of it.
pub(in crate::gateway) fn as_http(headers: &mut HeaderMap) {
    headers.remove(CONTENT_TYPE);
}

/// SECURITY: a `#` would end the path for our parser and not for the proxy that forwards it.
pub(in crate::gateway) fn path_and_query(text: &str) -> Result<PathAndQuery, Refusal> {
    if !text.starts_with('/') || text.contains('#') {
        return Err(NO_PATH);
    }
    PathAndQuery::try_from(text).map_err(|_| NO_PATH)
}

/// The one that all of them say; `None` = they do not.
fn agreed<'a>(said: &[&'a str]) -> Option<Option<&'a str>> {
    let first = said.first().copied();
    said.iter().all(|one| Some(*one) == first).then_some(first)
}

/// The value of a header that may be there once only.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(bad("a header of the proxy that is there twice"));
    }
    // Not `to_str`: some clients write URLs without encoding them, and some proxies pass that on.
    first
        .map(|value| str::from_utf8(value.as_bytes()).map_err(|_| bad("a header of the proxy that is not UTF-8")))
        .transpose()
}
