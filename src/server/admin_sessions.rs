//! `/sessions` of the admin listener: who is signed in, and the end of it. For an operator's shell and scripts; whatever
//! looks like a page in a browser is turned away.

use std::net::IpAddr;

use http::header::{ACCEPT_LANGUAGE, ALLOW, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, RETRY_AFTER};
use http::uri::Authority;
use http::{Method, StatusCode, Uri};
use serde_json::{Value, json};

use super::admin::Caller;
use crate::audit;
use crate::error::{Error, Kind, Result};
use crate::gateway::Gateway;
use crate::http::origin::is_loopback;
use crate::http::parameter::only;
use crate::http::reply::{self, Reply};
use crate::session::ending::Whose;
use crate::session::keeping::Card;
use crate::telemetry::Safe;
use crate::telemetry::access::rfc3339;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// `path` is `/sessions` or below it.
pub(super) async fn answer(
    gateway: &Gateway,
    caller: &Caller,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Reply {
    if is_page(caller, headers) {
        return failure(StatusCode::FORBIDDEN, "forbidden", "a page in a browser may not use this");
    }
    let reads = method == Method::GET || method == Method::HEAD;
    let id = uri.path().strip_prefix("/sessions/");
    let outcome = match (id, only(uri.query().unwrap_or_default().as_bytes(), "user")) {
        (Some(id), _) if method == Method::DELETE => end_one(gateway, caller, id).await,
        (Some(_), _) => Ok(not_allowed("DELETE")),
        (None, _) if !reads && method != Method::DELETE => Ok(not_allowed("GET, HEAD, DELETE")),
        (None, None) => Ok(failure(StatusCode::BAD_REQUEST, "bad_request", "say whose: /sessions?user=NAME, once")),
        (None, Some(user)) if reads => list(gateway, &user).await,
        (None, Some(user)) => end_all(gateway, caller, &user).await,
    };
    outcome.unwrap_or_else(|error| failed(&error))
}

/// SECURITY: GX-11. A page that an operator visits must neither read this nor act on it. Browsers say that a page asks by
/// `Origin` or `Sec-Fetch-Site`, but for a page whose host name was made to lead here: that has its own name in `Host`,
/// and where the address is loopback no honest client has. Elsewhere names are what they are; there the languages tell,
/// which every browser sends for a page. (`fetch` of Node does as well, and is taken for one.)
fn is_page(caller: &Caller, headers: &HeaderMap) -> bool {
    // No page came from here, so none has this origin.
    let from_a_site = headers.get(SEC_FETCH_SITE).is_some_and(|site| site != "none");
    let loopback = caller.here.is_some_and(|ip| ip.to_canonical().is_loopback());
    let made_to_lead_here = if loopback { !names_this_machine(headers) } else { speaks_a_language(headers) };
    headers.contains_key(ORIGIN) || from_a_site || made_to_lead_here
}

/// As browsers do; a program says nothing, or `*`.
fn speaks_a_language(headers: &HeaderMap) -> bool {
    headers.get(ACCEPT_LANGUAGE).is_some_and(|language| language != "*")
}

fn names_this_machine(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<Authority>().ok());
    host.is_some_and(|authority| {
        let host = authority.host();
        host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() || is_loopback(host)
    })
}

async fn list(gateway: &Gateway, user: &str) -> Result<Reply> {
    let cards = gateway.sessions.list(Whose::User(user)).await?;
    Ok(reply::json(StatusCode::OK, &cards.iter().map(shown).collect()))
}

fn shown(card: &Card) -> Value {
    let time = |unix_ms: u64| format!("{}Z", rfc3339(unix_ms / 1000));
    json!({
        "id": card.id(),
        "user": card.user,
        "sub": card.sub,
        "provider": card.provider,
        "issuer": card.issuer,
        "created": time(card.created_ms),
        "expires": time(card.expires_ms),
        "last_used": time(card.seen_ms),
        "browser": card.begun.browser,
        "address": card.address(),
    })
}

async fn end_one(gateway: &Gateway, caller: &Caller, id: &str) -> Result<Reply> {
    let key = Card::key_of(id);
    let ended = match &key {
        Some(key) => gateway.sessions.end_key(key).await?,
        None => false,
    };
    if !ended {
        return Ok(failure(StatusCode::NOT_FOUND, "not_found", "there is no session of this id"));
    }
    audit!(event = "sessions_revoked", session = %Safe(id), ended = 1, client = %caller.peer);
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

async fn end_all(gateway: &Gateway, caller: &Caller, user: &str) -> Result<Reply> {
    let ended = gateway.sessions.end_all(Whose::User(user), true).await?;
    audit!(event = "sessions_revoked", user = %Safe(user), ended, client = %caller.peer);
    Ok(reply::json(StatusCode::OK, &json!({ "ended": ended })))
}

fn failed(error: &Error) -> Reply {
    tracing::warn!(kind = error.kind().as_str(), error = %Safe(&error.to_string()), "the list of sessions failed");
    match error.kind() {
        Kind::StoreUnavailable => {
            let what = "the session store does not answer; nothing or not everything has ended";
            let reply = failure(StatusCode::SERVICE_UNAVAILABLE, error.kind().as_str(), what);
            reply::with(reply, RETRY_AFTER, HeaderValue::from_static("5"))
        }
        kind => failure(StatusCode::INTERNAL_SERVER_ERROR, kind.as_str(), "see the log"),
    }
}

fn not_allowed(allow: &'static str) -> Reply {
    let reply = failure(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this is not how this address is used");
    reply::with(reply, ALLOW, HeaderValue::from_static(allow))
}

fn failure(status: StatusCode, error: &str, message: &str) -> Reply {
    reply::json(status, &json!({ "error": error, "message": message }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gx_11_no_page_in_a_browser_gets_in() {
        let asks = |here: &str, headers: &[(&'static str, &'static str)]| {
            let headers =
                headers.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect();
            let caller = Caller { peer: [127, 0, 0, 1].into(), here: here.parse().ok() };
            !is_page(&caller, &headers)
        };
        for host in ["127.0.0.1:9180", "localhost:9180", "[::1]:9180", "10.0.0.7"] {
            assert!(asks("127.0.0.1", &[("host", host)]), "{host}");
            assert!(!asks("127.0.0.1", &[("host", host), ("origin", "http://evil.test")]), "{host}");
            assert!(!asks("127.0.0.1", &[("host", host), ("origin", "null")]), "{host}");
            assert!(!asks("127.0.0.1", &[("host", host), ("sec-fetch-site", "cross-site")]), "{host}");
        }
        assert!(asks("127.0.0.1", &[("host", "localhost"), ("sec-fetch-site", "none")]), "typed into the address bar");
        for rebound in ["evil.test:9180", "127.0.0.1.evil.test", "localhost.evil.test", "", "a b"] {
            assert!(!asks("127.0.0.1", &[("host", rebound)]), "{rebound}");
            assert!(!asks("::ffff:127.0.0.1", &[("host", rebound)]), "{rebound}");
        }
        assert!(!asks("::1", &[]), "no Host at all");
        assert!(asks("10.0.0.7", &[("host", "doorward-admin.ops.svc:9180")]), "in a cluster");
        assert!(asks("10.0.0.7", &[("host", "doorward-admin:9180"), ("accept-language", "*")]), "Node");
        assert!(!asks("10.0.0.7", &[("host", "evil.test:9180"), ("accept-language", "en")]), "rebound to a cluster");
        assert!(!asks("127.0.0.1", &[("host", "localhost"), ("sec-fetch-site", "same-origin")]), "no page is ours");
    }
}
