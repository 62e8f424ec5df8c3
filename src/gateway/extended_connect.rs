//! WebSocket over HTTP/2 (RFC 8441): an extended CONNECT becomes the upgrade of HTTP/1.1 that it stands for before the first
//! step, so that routes, rules and the check of Origin see what they always see; and the answer is turned back at the end.
//! Never decides anything.

use http::header::{CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::ext::Protocol;

use super::body::Inner;
use crate::http::reply::{self, Reply};
use crate::http::websocket;

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
/// Fields that HTTP/2 has no place for, and what proves nothing to its client.
const OF_HTTP1: [HeaderName; 3] = [CONNECTION, UPGRADE, SEC_WEBSOCKET_ACCEPT];

/// Whether `request` was one, and is an upgrade now. Any other CONNECT stays what it is.
pub fn into_upgrade<B>(request: &mut Request<B>) -> bool {
    // PERF: the one look that ordinary requests pay for.
    if *request.method() != Method::CONNECT || request.version() != Version::HTTP_2 {
        return false;
    }
    if request.extensions_mut().remove::<Protocol>().is_none_or(|protocol| protocol.as_str() != "websocket") {
        return false;
    }
    *request.method_mut() = Method::GET;
    let headers = request.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, WEBSOCKET);
    headers.insert(SEC_WEBSOCKET_KEY, websocket::key());
    true
}

/// What the `Sec-WebSocket-Accept` of the upstream must be; None: the client made up the key, and checks it itself.
pub fn expected(parts: &Parts) -> Option<HeaderValue> {
    let of_ours = parts.version == Version::HTTP_2 && parts.headers.contains_key(UPGRADE);
    of_ours.then(|| parts.headers.get(SEC_WEBSOCKET_KEY).map(websocket::accept)).flatten()
}

/// The answer to such a request, for a client that takes a success of any kind for a WebSocket (RFC 8441 §5).
pub fn answer(response: &mut Response<Inner>) {
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => {
            *response.status_mut() = StatusCode::OK;
            OF_HTTP1.iter().for_each(|name| drop(response.headers_mut().remove(name)));
        }
        status if status.is_success() => *response = no_websocket().map(Inner::Full),
        _ => {}
    }
}

fn no_websocket() -> Reply {
    reply::text(StatusCode::BAD_REQUEST, "there is no WebSocket at this address\n")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn h_10_only_a_websocket_is_more_than_a_connect() {
        let connect = |version, protocol: Option<&'static str>| {
            let mut request = Request::new(());
            *request.method_mut() = Method::CONNECT;
            *request.version_mut() = version;
            if let Some(protocol) = protocol {
                request.extensions_mut().insert(Protocol::from_static(protocol));
            }
            let is_one = into_upgrade(&mut request);
            (is_one, request.method().clone(), request.headers().contains_key(UPGRADE))
        };
        assert_eq!(connect(Version::HTTP_2, Some("websocket")), (true, Method::GET, true));
        for (version, protocol) in [
            (Version::HTTP_2, None),
            (Version::HTTP_2, Some("connect-udp")),
            (Version::HTTP_2, Some("WebSocket")),
            (Version::HTTP_11, Some("websocket")),
        ] {
            assert_eq!(connect(version, protocol), (false, Method::CONNECT, false), "{version:?} {protocol:?}");
        }
    }

    #[test]
    fn only_a_switch_is_a_success() {
        let answered = |status: u16| {
            let mut response = Response::new(Inner::Full(Bytes::new()));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response.headers_mut().insert(UPGRADE, WEBSOCKET);
            answer(&mut response);
            (response.status().as_u16(), response.headers().contains_key(UPGRADE))
        };
        assert_eq!(answered(101), (200, false));
        assert_eq!(answered(200), (400, false));
        assert_eq!(answered(204), (400, false));
        assert_eq!(answered(302), (302, true));
        assert_eq!(answered(403), (403, true));
    }
}
