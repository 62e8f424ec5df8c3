//! What Envoy is told to do: to forward the request with other headers, or what to answer in its place.

use http::StatusCode;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE,
};
use tonic::Code;

use super::proto::{
    self, CheckResponse, DeniedHttpResponse, HeaderValueOption, HttpResponse, HttpStatus, OkHttpResponse,
};
use crate::gateway::exchange::Exchange;
use crate::gateway::forward_auth::passed::Passed;
use crate::gateway::upstream_auth::Authorization;
use crate::gateway::{Gateway, X_REQUEST_ID};
use crate::http::reply::{NO_STORE, Reply};

/// `asked`: the headers of the request as its client spelled them.
pub(super) fn allowed(
    gateway: &Gateway,
    exchange: &mut Exchange,
    asked: &HeaderMap,
    passed: Passed<'_>,
) -> CheckResponse {
    exchange.status = StatusCode::OK;
    let mut headers = Vec::with_capacity(passed.identity.len() + 2);
    for name in passed.identity.keys() {
        // The first takes the place of what the client sent.
        let values = passed.identity.get_all(name).iter().enumerate();
        headers.extend(values.map(|(n, value)| field(name, value, Some(n > 0))));
    }
    // SECURITY: HX-03, HX-21. Also what reads as one of ours and is spelled otherwise.
    let forged = asked.keys().filter(|name| gateway.managed.contains(name));
    let mut remove: Vec<&HeaderName> = passed.names.iter().chain(forged).collect();
    remove.retain(|name| !passed.identity.contains_key(*name));
    match &passed.authorization {
        Authorization::Theirs => {}
        Authorization::Ours(value) => headers.push(field(&AUTHORIZATION, value, Some(false))),
        Authorization::Removed => remove.push(&AUTHORIZATION),
    }
    let mut cookies = asked.get_all(COOKIE).iter();
    // With none of ours among them they stay as they are, byte for byte.
    if cookies.next() != passed.cookie.as_ref() || cookies.next().is_some() {
        match &passed.cookie {
            Some(cookie) => headers.push(field(&COOKIE, cookie, Some(false))),
            None => remove.push(&COOKIE),
        }
    }
    headers.push(field(&X_REQUEST_ID, &exchange.id, Some(false)));
    let mut headers_to_remove: Vec<String> = remove.into_iter().map(ToString::to_string).collect();
    headers_to_remove.sort_unstable();
    headers_to_remove.dedup();
    let cookies = std::mem::take(&mut exchange.cookies);
    let mut response_headers_to_add: Vec<_> = cookies.iter().map(|cookie| field(&SET_COOKIE, cookie, None)).collect();
    if !response_headers_to_add.is_empty() {
        // CX-01: whatever the application says of its answer, nobody else is to keep the cookies with it.
        response_headers_to_add.push(field(&CACHE_CONTROL, &NO_STORE, Some(false)));
    }
    response(Code::Ok, HttpResponse::Ok(OkHttpResponse { headers, headers_to_remove, response_headers_to_add }))
}

/// `reply` goes to whoever sent the request.
pub(super) fn denied(exchange: &mut Exchange, reply: Reply) -> CheckResponse {
    let (parts, body) = reply.into_parts();
    // SECURITY: a denial is none if it says 200.
    let status = if parts.status.is_success() { StatusCode::FORBIDDEN } else { parts.status };
    exchange.status = status;
    let cookies = std::mem::take(&mut exchange.cookies);
    let mut headers = parts.headers;
    headers.remove(CONTENT_LENGTH);
    headers.insert(X_REQUEST_ID, exchange.id.clone());
    for cookie in cookies {
        headers.append(SET_COOKIE, cookie);
    }
    let code = match status.as_u16() {
        302 | 303 | 401 => Code::Unauthenticated,
        500.. => Code::Unavailable,
        _ => Code::PermissionDenied,
    };
    let denied = DeniedHttpResponse {
        status: Some(HttpStatus { code: i32::from(status.as_u16()) }),
        headers: headers.iter().map(|(name, value)| field(name, value, None)).collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    response(code, HttpResponse::Denied(denied))
}

fn response(code: Code, http_response: HttpResponse) -> CheckResponse {
    CheckResponse { status: Some(proto::Status { code: code as i32 }), http_response: Some(http_response) }
}

/// `append`: beside what the request says under this name, or in its place. Of an answer nothing is said, and each of several
/// fields is kept: for `true`, Envoy leaves a denial without what it does not have yet, and for `false` an answer with the
/// last cookie alone.
fn field(name: &HeaderName, value: &HeaderValue, append: Option<bool>) -> HeaderValueOption {
    // Whatever we send is ASCII, but for what a client's own cookies hold; protobuf's strings are UTF-8.
    let (value, raw_value) = match str::from_utf8(value.as_bytes()) {
        Ok(text) => (text.to_owned(), Vec::new()),
        Err(_) => (String::new(), value.as_bytes().to_owned()),
    };
    let header = proto::HeaderValue { key: name.to_string(), value, raw_value };
    HeaderValueOption { header: Some(header), append }
}
