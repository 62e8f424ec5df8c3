//! What kind of request it is: a person's browser going somewhere, or a program (contract: who is redirected and who
//! gets 401).

use http::Method;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, UPGRADE};

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_PURPOSE: HeaderName = HeaderName::from_static("sec-purpose");
const X_REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

/// A top-level navigation, the only thing that begins a sign-in: `Sec-Fetch-Mode: navigate`, or, from a browser that
/// sends no `Sec-Fetch`, a GET or HEAD that names `text/html`.
pub fn is_navigation(method: &Method, headers: &HeaderMap) -> bool {
    (method == Method::GET || method == Method::HEAD)
        && !headers.contains_key(AUTHORIZATION)
        && !headers.contains_key(UPGRADE)
        && !headers.contains_key(X_REQUESTED_WITH)
        && !is_prefetch(headers)
        && !is_grpc(headers)
        && match text(headers, &SEC_FETCH_MODE) {
            Some(mode) => mode == "navigate",
            None => accepts_html(headers),
        }
}

/// Whether an answer of ours is best a page: someone is looking, whatever the method. Of what is no gRPC.
pub fn wants_page(method: &Method, headers: &HeaderMap) -> bool {
    if headers.contains_key(X_REQUESTED_WITH) {
        return false;
    }
    match text(headers, &SEC_FETCH_MODE) {
        Some(mode) => mode == "navigate",
        None => accepts_html(headers) && (method == Method::GET || method == Method::HEAD || method == Method::POST),
    }
}

pub fn is_grpc(headers: &HeaderMap) -> bool {
    text(headers, &CONTENT_TYPE).is_some_and(|t| t.starts_with("application/grpc"))
}

/// The browser itself says that another site sent this request, or says nothing at all.
pub fn may_be_cross_site(headers: &HeaderMap) -> bool {
    !matches!(text(headers, &SEC_FETCH_SITE), Some("same-origin" | "none"))
}

/// A fetch ahead of a navigation that may never come: it must not begin a sign-in (L-22).
fn is_prefetch(headers: &HeaderMap) -> bool {
    text(headers, &SEC_PURPOSE).is_some_and(|p| p.starts_with("prefetch"))
}

fn accepts_html(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).any(|v| {
        v.split(',').any(|range| range.split(';').next().is_some_and(|r| r.trim().eq_ignore_ascii_case("text/html")))
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn l_20_l_22_only_navigations_begin_a_sign_in() {
        let html = ("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8");
        for (h, want) in [
            (headers(&[("sec-fetch-mode", "navigate"), ("accept", "*/*")]), true),
            (headers(&[html]), true),
            (headers(&[("sec-fetch-mode", "cors"), html]), false),
            (headers(&[("sec-fetch-mode", "no-cors"), html]), false),
            (headers(&[("accept", "*/*")]), false),
            (headers(&[("accept", "application/json")]), false),
            (headers(&[]), false),
            (headers(&[html, ("x-requested-with", "XMLHttpRequest")]), false),
            (headers(&[html, ("authorization", "Bearer x")]), false),
            (headers(&[html, ("upgrade", "websocket")]), false),
            (headers(&[("sec-fetch-mode", "navigate"), ("sec-purpose", "prefetch;anonymous-client-ip")]), false),
            (headers(&[html, ("content-type", "application/grpc")]), false),
        ] {
            assert_eq!(is_navigation(&Method::GET, &h), want, "{h:?}");
            assert!(!is_navigation(&Method::POST, &h));
        }
    }

    #[test]
    fn rl_03_only_the_browsers_word_counts_as_same_site() {
        assert!(may_be_cross_site(&headers(&[])));
        assert!(may_be_cross_site(&headers(&[("sec-fetch-site", "cross-site")])));
        assert!(may_be_cross_site(&headers(&[("sec-fetch-site", "same-site")])));
        assert!(!may_be_cross_site(&headers(&[("sec-fetch-site", "same-origin")])));
        assert!(!may_be_cross_site(&headers(&[("sec-fetch-site", "none")])));
    }
}
