//! A request and its answer between the form that HTTP/1.1 gives them, which the rest of Doorward knows, and that of HTTP/2
//! (RFC 9113 §8.2, §8.3). A WebSocket's opening handshake becomes an extended CONNECT (RFC 8441) and back.

use http::header::{
    CONNECTION, HOST, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

use crate::error::{Error, Kind, Reason};
use crate::http::websocket::accept;

/// The answer to the client's `Sec-WebSocket-Key`, if it sent one: HTTP/2 has neither.
pub(super) struct WebSocket(Option<HeaderValue>);

/// `Some` = it opens a WebSocket. `websockets` = the upstream takes them.
pub(super) fn outgoing<B>(
    request: &mut Request<B>,
    scheme: &Scheme,
    websockets: bool,
) -> Result<Option<WebSocket>, Error> {
    let headers = request.headers_mut();
    headers.remove(CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    // HTTP/2 upgrades to nothing else, and whoever asks for an upgrade has to live without (RFC 9110 §7.8).
    let upgrade = headers.remove(UPGRADE);
    let websocket = upgrade.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let websocket = websocket.then(|| WebSocket(headers.remove(SEC_WEBSOCKET_KEY).map(|key| accept(&key))));
    if websocket.is_some() && !websockets {
        return Err(Error::upstream(Reason::NoWebSocket));
    }
    let bad = |e: http::Error| Error::new(Kind::BadRequest, "the request cannot be sent by HTTP/2").because(e);
    let host = headers.remove(HOST).ok_or_else(|| Error::new(Kind::Internal, "a request without Host"))?;
    let authority = Authority::try_from(host.as_bytes()).map_err(|e| bad(e.into()))?;
    let mut target = std::mem::take(request.uri_mut()).into_parts();
    target.scheme = Some(scheme.clone());
    target.authority = Some(authority);
    target.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(target).map_err(|e| bad(e.into()))?;
    *request.version_mut() = Version::HTTP_2;
    if websocket.is_some() {
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(Protocol::from_static("websocket"));
    }
    Ok(websocket)
}

/// The request as it was before `outgoing`, but for a WebSocket's; another connection may speak HTTP/1.1.
pub(super) fn handed_back<B>(request: &mut Request<B>) {
    let target = std::mem::take(request.uri_mut()).into_parts();
    if let Some(host) = target.authority.and_then(|authority| HeaderValue::try_from(authority.as_str()).ok()) {
        request.headers_mut().insert(HOST, host);
    }
    *request.uri_mut() = target.path_and_query.map_or_else(Uri::default, Uri::from);
    *request.version_mut() = Version::HTTP_11;
}

pub(super) fn incoming<B>(response: &mut Response<B>, websocket: Option<WebSocket>) {
    *response.version_mut() = Version::HTTP_11;
    let Some(WebSocket(accept)) = websocket else { return };
    if response.extensions().get::<OnUpgrade>().is_none() {
        return;
    }
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Some(accept) = accept {
        response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&'static str, &'static str)]) -> Request<()> {
        let mut request = Request::builder().method("GET").uri("/x?y=1").header("host", "App.example:8080");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn a_request_there_and_back() {
        let mut there = request(&[
            ("connection", "te"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("cookie", "a=1; b=2"),
            ("via", "1.1 x"),
        ]);
        assert!(outgoing(&mut there, &Scheme::HTTPS, false).unwrap().is_none());
        assert_eq!(
            (there.version(), there.uri().to_string().as_str()),
            (Version::HTTP_2, "https://App.example:8080/x?y=1")
        );
        let mut names: Vec<&str> = there.headers().keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["cookie", "te", "via"]);
        handed_back(&mut there);
        assert_eq!((there.version(), there.uri().to_string().as_str()), (Version::HTTP_11, "/x?y=1"));
        assert_eq!(there.headers()[HOST], "App.example:8080");
    }

    #[test]
    fn a_websocket_is_an_extended_connect() {
        let opening = || {
            request(&[
                ("connection", "upgrade"),
                ("upgrade", "WebSocket"),
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("sec-websocket-version", "13"),
            ])
        };
        let mut there = opening();
        assert!(outgoing(&mut there, &Scheme::HTTP, true).unwrap().is_some());
        assert_eq!(
            (there.method(), there.extensions().get::<Protocol>().unwrap().as_str()),
            (&Method::CONNECT, "websocket")
        );
        let names: Vec<&str> = there.headers().keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["sec-websocket-version"]);
        let failure = outgoing(&mut opening(), &Scheme::HTTP, false).err().unwrap();
        assert_eq!(failure.reason(), Some(Reason::NoWebSocket));
    }

    #[test]
    fn another_upgrade_is_an_ordinary_request() {
        let mut there = request(&[("connection", "upgrade"), ("upgrade", "example/1")]);
        assert!(outgoing(&mut there, &Scheme::HTTP, true).unwrap().is_none());
        assert_eq!((there.method(), there.headers().len()), (&Method::GET, 0));
    }
}
