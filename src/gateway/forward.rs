//! The last step: the request, cleaned and signed with who it is, goes upstream; the answer comes back as it streams.
//! Whatever Doorward adds is added after everything was removed, so that no client can remove or forge it (H-04).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT,
    SET_COOKIE, UPGRADE, VIA,
};
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use super::admit::Admitted;
use super::authorize::Reason;
use super::body::Inner;
use super::conn::Busy;
use super::exchange::Exchange;
use super::extended_connect;
use super::refuse::audit_refusal;
use super::respond::{Asker, Manner};
use super::rules::Rules;
use super::trailers::Said;
use super::upstream_auth::{Authorization, Presents, Unfit};
use super::{Gateway, X_REQUEST_ID};
use crate::error::{Error, Kind, Result};
use crate::http::cookie::sets_own;
use crate::http::headers::strip_hop_by_hop;
use crate::http::origin::Origin;
use crate::http::reply::Reply;
use crate::http::{forwarded, reply};
use crate::telemetry::refused::Refused;
use crate::upstream::tunnel::{self, End};
use crate::upstream::upload::Allowance;
use crate::upstream::{Held, RequestBody};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

pub async fn forward(
    gateway: &Arc<Gateway>,
    exchange: &mut Exchange,
    admitted: &Admitted<'_>,
    rules: &Rules,
    mut parts: Parts,
    body: Incoming,
    cookie: Option<HeaderValue>,
) -> Result<Response<Inner>, Reply> {
    let Some(upstream) = &rules.upstream else { return Err(reply::empty(StatusCode::NOT_FOUND)) };
    let upgrade = wanted_upgrade(&parts);
    if upgrade.is_some() && !same_origin(rules, admitted, &parts.headers) {
        // WX-02: a page elsewhere must not speak with this person's cookie.
        return Err(Asker::new(gateway, exchange, &parts.method, &parts.headers).forbidden(None, None));
    }
    let allowance = Allowance::of(&gateway.settings.server.limits);
    // SECURITY: H-15. Refused by what it says of itself; what says nothing is counted as it comes.
    if body.size_hint().exact().is_some_and(|length| !allowance.takes(length)) {
        gateway.metrics.refusals.count(Refused::Body);
        let error = Error::new(Kind::BodyTooLarge, "the request is larger than it may be");
        return Err(Asker::new(gateway, exchange, &parts.method, &parts.headers).failed(&error));
    }
    let accept = extended_connect::expected(&parts);
    let client_side = upgrade.as_ref().and_then(|_| parts.extensions.remove::<OnUpgrade>());
    let manner = Manner::of(&parts.method, &parts.headers);

    let authorization = match presented(rules, exchange) {
        None => Authorization::Theirs,
        Some(presents) => {
            let who = exchange.who().filter(|who| rules.vouched(*who));
            let presented = presents.authorization(who, &gateway.stamp(exchange, &admitted.site)).await;
            presented.map_err(|unfit| unpresented(gateway, exchange, rules, manner, &unfit))?
        }
    };
    let said = Said::read(&parts.headers);
    if let Err(error) = prepare(gateway, exchange, admitted, rules, &mut parts, cookie) {
        return Err(Asker::with(gateway, exchange, manner).failed(&error));
    }
    authorization.put(&mut parts.headers);
    said.ask(&mut parts.headers, &gateway.managed);
    if let Some(protocol) = &upgrade {
        parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(UPGRADE, protocol.clone());
    }
    let Some(uri) = upstream_uri(rules, admitted, &parts.uri) else {
        // SECURITY: PX-25. Escapes make a path longer; what does not fit is not replaced by another.
        return Err(Asker::with(gateway, exchange, manner)
            .refused(StatusCode::URI_TOO_LONG, "the address is longer than can be passed on"));
    };
    parts.uri = uri;
    parts.version = Version::HTTP_11;
    let request = Request::from_parts(parts, RequestBody::new(body, &gateway.managed, allowance));

    let sent = Instant::now();
    let answer = upstream.send(exchange.conn.worker.index, request, sent).await;
    exchange.waited(sent.elapsed());
    let response = match answer {
        Ok(response) => response,
        Err(error) => {
            match error.kind() {
                Kind::BodyTooLarge => gateway.metrics.refusals.count(Refused::Body),
                Kind::BodyTimeout => gateway.metrics.refusals.count(Refused::BodyTimeout),
                Kind::BadRequest => {}
                _ => {
                    let (route, request_id) = (rules.name(), exchange.id());
                    let reason = error.reason().map(crate::error::Reason::as_str);
                    tracing::warn!(route, request_id, reason, error = %error, "the upstream did not answer");
                }
            }
            return Err(Asker::with(gateway, exchange, manner).failed(&error));
        }
    };
    let (mut parts, body) = response.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        let (Some(client), Some(upstream)) = (client_side, parts.extensions.remove::<OnUpgrade>()) else {
            // SECURITY: H-11. A switch that nobody asked for.
            return Err(reply::empty(StatusCode::BAD_GATEWAY));
        };
        if accept.is_some() && parts.headers.get(SEC_WEBSOCKET_ACCEPT) != accept.as_ref() {
            tracing::warn!(
                route = rules.name(),
                request_id = exchange.id(),
                "the upstream's WebSocket handshake is not one: Sec-WebSocket-Accept is wrong"
            );
            return Err(reply::empty(StatusCode::BAD_GATEWAY));
        }
        let protocol = parts.headers.get(UPGRADE).cloned().or(upgrade);
        let websocket = protocol.as_ref().is_some_and(|p| p.as_bytes().eq_ignore_ascii_case(b"websocket"));
        open_tunnel(gateway, exchange, client, upstream, websocket, body.into_held());
        strip_hop_by_hop(&mut parts.headers);
        parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        if let Some(protocol) = protocol {
            parts.headers.insert(UPGRADE, protocol);
        }
        drop_own_cookies(gateway, &mut parts.headers);
        return Ok(Response::from_parts(parts, Inner::Full(Bytes::new())));
    }
    let announced = Said::read(&parts.headers);
    strip_hop_by_hop(&mut parts.headers);
    if said.taken {
        announced.announce(&mut parts.headers, &gateway.managed);
    }
    drop_own_cookies(gateway, &mut parts.headers);
    Ok(Response::from_parts(parts, Inner::Upstream(body)))
}

/// The answer where the upstream cannot be shown what it has to be.
#[cold]
pub(super) fn unpresented(
    gateway: &Gateway,
    exchange: &Exchange,
    rules: &Rules,
    manner: Manner,
    unfit: &Unfit,
) -> Reply {
    let asker = Asker::with(gateway, exchange, manner);
    match unfit {
        Unfit::Failed(error) => asker.failed(error),
        Unfit::Refused => {
            audit_refusal(exchange, rules, "refused", Reason::NoToken);
            asker.forbidden(None, None)
        }
    }
}

/// What the upstream is to be shown in `Authorization`.
///
/// SECURITY: a preflight comes from nobody: no credentials of ours go with it either. It has none of its own.
pub fn presented<'a>(rules: &'a Rules, exchange: &Exchange) -> Option<&'a Presents> {
    rules.presents.as_ref().filter(|_| !exchange.preflight)
}

/// This request's id: a trusted peer's own, if it is one, else a new one.
pub fn request_id(headers: &HeaderMap, trusted: bool) -> HeaderValue {
    if trusted && let Some(given) = headers.get(&X_REQUEST_ID).filter(|v| is_id(v)) {
        return given.clone();
    }
    let mut id = [0; 32];
    hex(fastrand::u128(..), &mut id);
    owned(id).unwrap_or(HeaderValue::from_static("-"))
}

/// Removes what only we may set and what belongs to one hop, then sets ours.
///
/// # Errors
/// `Internal`: an assertion cannot be signed.
pub(super) fn prepare(
    gateway: &Gateway,
    exchange: &Exchange,
    admitted: &Admitted<'_>,
    rules: &Rules,
    parts: &mut Parts,
    cookie: Option<HeaderValue>,
) -> Result<()> {
    let headers = &mut parts.headers;
    let conn = &exchange.conn;
    let forged = gateway.managed.strip_request(headers, gateway.trust.contains(conn.peer));
    if forged > 0 {
        tracing::debug!(request_id = exchange.id(), client = %exchange.client, forged, "headers that only we may set were removed");
    }
    match cookie {
        // It takes the place of every field that was there.
        Some(cookie) => headers.insert(COOKIE, cookie),
        None => headers.remove(COOKIE),
    };
    if rules.machine.is_some() {
        // What Doorward judges is not the upstream's as well.
        headers.remove(AUTHORIZATION);
    }
    let site = &admitted.site;
    // SECURITY: PX-16, M-22. The host that decided is the host that goes on, in the spelling that decided.
    if headers.get(HOST) != Some(&site.forwarded_host) {
        headers.insert(HOST, site.forwarded_host.clone());
    }
    forwarded::write(headers, &admitted.seen, &conn.address, site.scheme, &site.forwarded_host, &site.forwarded_port);
    if let Some(who) = exchange.who() {
        rules.identify(who, &gateway.stamp(exchange, site), headers)?;
    }
    if rules.settings.client_cert
        && let Some(certificate) = conn.certificate_headers()
    {
        certificate.put(headers);
    }
    if !headers.get(&TRACEPARENT).is_some_and(is_traceparent) {
        headers.insert(TRACEPARENT, traceparent());
    }
    headers.insert(X_REQUEST_ID, exchange.id.clone());
    headers.append(VIA, gateway.via(parts.version).clone());
    Ok(())
}

/// The protocol of a real upgrade. `h2c` is answered as if it had not been asked for (M-16).
fn wanted_upgrade(parts: &Parts) -> Option<HeaderValue> {
    // PERF: the one look that ordinary requests pay for.
    let protocol = parts.headers.get(UPGRADE)?;
    let connection = parts.headers.get_all(CONNECTION).iter().filter_map(|v| v.to_str().ok());
    let listed = connection.flat_map(|v| v.split(',')).any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    let text = protocol.to_str().ok()?;
    let cleartext_h2 = text.split(',').any(|p| {
        let name = p.trim();
        name.eq_ignore_ascii_case("h2c") || name.get(..4).is_some_and(|n| n.eq_ignore_ascii_case("http"))
    });
    // In HTTP/2 it is what an extended CONNECT was made: hyper refuses the field itself.
    let may = matches!(parts.version, Version::HTTP_11 | Version::HTTP_2);
    (listed && !cleartext_h2 && parts.method == Method::GET && may).then(|| protocol.clone())
}

/// No Origin (not a browser), this site's own, or one that the route lists.
pub(super) fn same_origin(rules: &Rules, admitted: &Admitted<'_>, headers: &HeaderMap) -> bool {
    let mut given = headers.get_all(ORIGIN).iter();
    let Some(first) = given.next() else { return true };
    if given.next().is_some() {
        return false;
    }
    let Some(origin) = first.to_str().ok().and_then(|o| Origin::parse(o).ok()) else { return false };
    // The request's own Host too: a name that only this connection used is nobody else's either.
    origin == admitted.site.origin
        || (origin.scheme() == admitted.site.scheme && origin.authority() == admitted.site.authority)
        || rules.settings.origins.contains(&origin)
}

/// The canonical path, less the route's prefix, and the query as it came. The path before the request's own belongs to
/// the upstream's URL and is put there by `Upstream::send`. `None` = longer than a target can be.
pub(super) fn upstream_uri(rules: &Rules, admitted: &Admitted<'_>, uri: &Uri) -> Option<Uri> {
    let path: &str = &admitted.path.forward;
    let path = rules.settings.strip_prefix.as_deref().map_or(path, |prefix| stripped(path, prefix));
    let whole = match uri.path_and_query() {
        // PERF: nothing to change is the rule.
        Some(same) if same.path() == path => Some(same.clone()),
        other => match other.and_then(PathAndQuery::query) {
            Some(query) => PathAndQuery::try_from(format!("{path}?{query}")).ok(),
            None => PathAndQuery::try_from(path).ok(),
        },
    };
    whole.map(Uri::from)
}

/// `path` without its first segments, as many as `prefix` has.
///
/// SECURITY: PX-25. By number, not by text: the route was chosen by names, and `/app;x` or `/%40app` is that name too.
fn stripped<'a>(path: &'a str, prefix: &str) -> &'a str {
    let segments = memchr::memchr_iter(b'/', prefix.as_bytes()).count();
    memchr::memchr_iter(b'/', path.as_bytes()).nth(segments).and_then(|at| path.get(at..)).unwrap_or("/")
}

/// SECURITY: K-08. An upstream cannot set a cookie under our names.
fn drop_own_cookies(gateway: &Gateway, headers: &mut HeaderMap) {
    let name = gateway.sessions.name();
    if !headers.get_all(SET_COOKIE).iter().any(|v| sets_own(v, name)) {
        return;
    }
    if let http::header::Entry::Occupied(entry) = headers.entry(SET_COOKIE) {
        let (_, values) = entry.remove_entry_mult();
        let kept: Vec<HeaderValue> = values.filter(|v| !sets_own(v, name)).collect();
        for value in kept {
            headers.append(SET_COOKIE, value);
        }
    }
}

/// Carries bytes both ways until an end closes, the session ends, or the process does.
fn open_tunnel(
    gateway: &Arc<Gateway>,
    exchange: &Exchange,
    client: OnUpgrade,
    upstream: OnUpgrade,
    websocket: bool,
    held: Option<Held>,
) {
    let (sessions, draining) = (Arc::clone(&gateway.sessions), gateway.draining.clone());
    // WX-07. For `limits.connections` a tunnel is the connection that it was; in HTTP/2, a request under way.
    let (session, busy) = (exchange.session.clone(), Busy::new(&exchange.conn));
    let idle = gateway.settings.server.limits.websocket_idle_timeout;
    let token_left =
        exchange.machine.as_ref().map(|m| Duration::from_millis(m.expires_ms.saturating_sub(exchange.now_ms)));
    exchange.conn.worker.tunnels.spawn(async move {
        let _held = (busy, held);
        let over = async {
            match (session, token_left) {
                (Some(session), _) => sessions.ended(session).await,
                // JX-32. What began with a token is over when the token is.
                (None, Some(left)) => tokio::time::sleep(left).await,
                (None, None) => std::future::pending().await,
            }
        };
        let ended = async {
            tokio::select! {
                () = over => End::Session,
                () = draining.cancelled() => End::Shutdown,
            }
        };
        tunnel::run(client, upstream, websocket, idle, ended).await;
    });
}

fn is_id(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    (8..=128).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// `00-<32 hex>-<16 hex>-<2 hex>` (W3C Trace Context §3.2), not all zeros.
fn is_traceparent(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let dashes = [2, 35, 52];
    bytes.len() == 55
        && bytes.starts_with(b"00-")
        && bytes
            .iter()
            .enumerate()
            .all(|(i, b)| if dashes.contains(&i) { *b == b'-' } else { matches!(b, b'0'..=b'9' | b'a'..=b'f') })
        && bytes.get(3..35).is_some_and(|id| id.iter().any(|b| *b != b'0'))
        && bytes.get(36..52).is_some_and(|id| id.iter().any(|b| *b != b'0'))
}

fn traceparent() -> HeaderValue {
    let mut text = *b"00-00000000000000000000000000000001-0000000000000001-00";
    if let Some((trace, span)) = text.split_at_mut_checked(36) {
        hex(fastrand::u128(1..), trace.get_mut(3..35).unwrap_or_default());
        hex(u128::from(fastrand::u64(1..)), span.get_mut(..16).unwrap_or_default());
    }
    owned(text).unwrap_or(HeaderValue::from_static("-"))
}

/// Writes the lowest digits of `n`, as many as `out` holds; an even number.
fn hex(n: u128, out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble & 15)).copied().unwrap_or(b'0');
    for (pair, byte) in out.rchunks_exact_mut(2).zip(n.to_le_bytes()) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte)]);
    }
}

/// PERF: one allocation, which the value's copies share; `try_from` of a vector makes a second one for the first copy.
fn owned<const N: usize>(text: [u8; N]) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(Bytes::from_owner(text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn px_25_a_prefix_is_stripped_by_segments_whatever_their_spelling() {
        for (path, prefix, want) in [
            ("/app", "/app", "/"),
            ("/app/", "/app", "/"),
            ("/app/x;v/y", "/app", "/x;v/y"),
            ("/app;x/admin", "/app", "/admin"),
            ("/app;x", "/app", "/"),
            ("/%40app/x", "/@app", "/x"),
            ("/a/b;c/d/", "/a/b", "/d/"),
        ] {
            assert_eq!(stripped(path, prefix), want, "{path}");
        }
    }

    #[test]
    fn hx_24_only_well_formed_trace_contexts_are_passed_on() {
        assert!(is_traceparent(&traceparent()));
        assert!(is_traceparent(&HeaderValue::from_static("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")));
        for bad in [
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(!is_traceparent(&HeaderValue::from_static(bad)), "{bad}");
        }
    }

    #[test]
    fn hx_24_request_ids_of_strangers_are_replaced() {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_static("given-0123456789"));
        assert_eq!(request_id(&headers, true), "given-0123456789");
        assert_ne!(request_id(&headers, false), "given-0123456789");
        headers.insert(X_REQUEST_ID, HeaderValue::from_static("a b"));
        assert_eq!(request_id(&headers, true).len(), 32);
    }
}
