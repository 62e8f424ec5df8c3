//! Answers that Doorward makes itself: never cacheable and never framed but for one each, never sniffed, and no referrer
//! from them.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName,
    HeaderValue, LOCATION, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{Response, StatusCode};

pub type Reply = Response<Bytes>;

const VARY_ON: HeaderValue = HeaderValue::from_static("Cookie, Authorization");
pub const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");
/// HTML Standard §7.1.3: a page that another window's script cannot reach.
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const SAME_ORIGIN: HeaderValue = HeaderValue::from_static("same-origin");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// No script, nothing from elsewhere, never in a frame (B-19). `form-action` is left out on purpose: browsers apply it to
/// the redirects after a form too, and signing out leads on to the provider and wherever it leads.
const CSP: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'",
);

/// The same for the one page that a provider frames (FL-01).
const CSP_FRAMEABLE: HeaderValue = HeaderValue::from_static("default-src 'none'; base-uri 'none'");

/// An empty answer.
pub fn empty(status: StatusCode) -> Reply {
    with_body(status, None, Bytes::new())
}

pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    with_body(status, Some(TEXT), body.into())
}

pub fn json(status: StatusCode, body: &serde_json::Value) -> Reply {
    with_body(status, Some(JSON), body.to_string().into())
}

/// JSON that is for everybody: any page may read it, and any cache may keep it for an hour.
pub fn published(body: Bytes) -> Reply {
    let mut reply = with_body(StatusCode::OK, Some(JSON), body);
    let headers = reply.headers_mut();
    headers.remove(VARY);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    reply
}

pub fn html(status: StatusCode, body: String) -> Reply {
    let mut reply = with_body(status, Some(HTML), body.into());
    if status.is_client_error() || status.is_server_error() {
        // SECURITY: L-05, O-11. The address of this page may hold a code or a ticket that nobody has used: no script of
        // the application reads it in a window that it opened. (A sign-in that succeeds may well be in such a window.)
        reply.headers_mut().insert(OPENER_POLICY, SAME_ORIGIN);
    }
    reply.headers_mut().insert(CONTENT_SECURITY_POLICY, CSP);
    reply.headers_mut().insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    reply
}

/// A page with nothing on it, the only one of ours that may be framed.
pub fn frameable(status: StatusCode) -> Reply {
    let page = Bytes::from_static(b"<!doctype html>\n<html lang=\"en\"><title>Sign-out</title></html>\n");
    let mut reply = with_body(status, Some(HTML), page);
    reply.headers_mut().insert(CONTENT_SECURITY_POLICY, CSP_FRAMEABLE);
    reply
}

/// 302, or 303 after a POST (B-13): never one that sends a body on. A `location` that is no header value becomes `/`.
pub fn redirect(status: StatusCode, location: &str) -> Reply {
    debug_assert!(status == StatusCode::FOUND || status == StatusCode::SEE_OTHER);
    let mut reply = with_body(status, None, Bytes::new());
    let location = HeaderValue::from_str(location).unwrap_or(HeaderValue::from_static("/"));
    reply.headers_mut().insert(LOCATION, location);
    reply
}

/// Adds a header.
#[must_use]
pub fn with(mut reply: Reply, name: HeaderName, value: HeaderValue) -> Reply {
    reply.headers_mut().append(name, value);
    reply
}

/// What marks an answer as nobody else's (CX-01).
pub fn private(headers: &mut http::HeaderMap) {
    headers.insert(CACHE_CONTROL, NO_STORE);
}

fn with_body(status: StatusCode, kind: Option<HeaderValue>, body: Bytes) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    let length = reply.body().len();
    let headers = reply.headers_mut();
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(VARY, VARY_ON);
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    headers.insert(REFERRER_POLICY, NO_REFERRER);
    if let Some(kind) = kind {
        headers.insert(CONTENT_TYPE, kind);
    }
    if status != StatusCode::NO_CONTENT {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cx_01_b_19_every_own_answer_is_marked() {
        for reply in
            [empty(StatusCode::ACCEPTED), html(StatusCode::OK, String::new()), redirect(StatusCode::FOUND, "/x")]
        {
            assert_eq!(reply.headers()[CACHE_CONTROL], "no-store");
            assert_eq!(reply.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
            assert_eq!(reply.headers()[REFERRER_POLICY], "no-referrer");
        }
        let page = html(StatusCode::OK, String::new());
        assert_eq!(page.headers()[X_FRAME_OPTIONS], "DENY");
        assert_eq!(page.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        assert!(page.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().contains("frame-ancestors 'none'"));
    }

    #[test]
    fn o_11_the_address_of_a_page_that_says_no_is_read_by_no_other_window() {
        for status in [StatusCode::BAD_REQUEST, StatusCode::BAD_GATEWAY] {
            assert_eq!(html(status, String::new()).headers()[OPENER_POLICY], "same-origin");
        }
        assert!(!html(StatusCode::OK, String::new()).headers().contains_key(OPENER_POLICY));
    }

    #[test]
    fn r_07_a_location_cannot_split_headers() {
        assert_eq!(redirect(StatusCode::FOUND, "/x\r\nA: b").headers()[LOCATION], "/");
    }
}
