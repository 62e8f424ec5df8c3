//! From a request to its endpoint, and the faults that tests set on the way. What an endpoint does is in its own file.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, LOCATION};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use url::Url;

use super::control::{Endpoint, Fault};
use super::{Shared, account, authorize, discovery, machine, pages, token};
use crate::demo::web::{self, Blanks, Body, Cut, Page, Params};
use crate::http::origin::is_loopback;

pub(super) async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Cut> {
    // SECURITY: a name that a stranger made point to this machine (DNS rebinding) must not reach one-click sign-in.
    if !named_loopback(request.headers()) {
        return Ok(web::full(web::empty(StatusCode::MISDIRECTED_REQUEST)));
    }
    let path = request.uri().path();
    let Some(endpoint) = endpoint(path) else {
        return Ok(web::full(other(&shared, request).await));
    };
    *shared.stats().hits.entry(endpoint).or_default() += 1;
    let fault = shared.dials().next_fault(endpoint);
    if let Some(answer) = instead(fault.as_ref()).await? {
        return Ok(answer);
    }
    let page = answer(&shared, endpoint, request, fault.as_ref()).await;
    Ok(web::full(altered(page, fault.as_ref())))
}

fn endpoint(path: &str) -> Option<Endpoint> {
    Some(match path {
        discovery::AUTHORIZE => Endpoint::Authorize,
        discovery::DISCOVERY => Endpoint::Discovery,
        discovery::END_SESSION => Endpoint::EndSession,
        discovery::INTROSPECT => Endpoint::Introspection,
        discovery::JWKS => Endpoint::Jwks,
        discovery::PAR => Endpoint::Par,
        discovery::REVOKE => Endpoint::Revocation,
        discovery::TOKEN => Endpoint::Token,
        discovery::USERINFO => Endpoint::Userinfo,
        _ => return None,
    })
}

async fn answer(shared: &Arc<Shared>, endpoint: Endpoint, request: Request<Incoming>, fault: Option<&Fault>) -> Page {
    let posted = request.method() == Method::POST;
    let may_get = !matches!(endpoint, Endpoint::Introspection | Endpoint::Par | Endpoint::Revocation | Endpoint::Token);
    let allowed = posted || (may_get && request.method() == Method::GET);
    if !allowed {
        return web::empty(StatusCode::METHOD_NOT_ALLOWED);
    }
    let query = web::query(&request);
    let (head, body) = request.into_parts();
    let headers = &head.headers;
    let params = if posted { web::form(body).await } else { query };
    match endpoint {
        Endpoint::Authorize => authorize::authorize(shared, &params, headers),
        Endpoint::Discovery => web::json(StatusCode::OK, &discovery::document(&shared.issuer, &shared.options)),
        Endpoint::EndSession => account::end_session(shared, &params, headers),
        Endpoint::Introspection => machine::introspect(shared, &params, headers),
        Endpoint::Jwks => jwks(shared).await,
        Endpoint::Par => authorize::push(shared, &params, headers),
        Endpoint::Revocation => account::revoke(shared, &params, headers),
        Endpoint::Token => token::token(shared, &params, headers, fault).await,
        Endpoint::Userinfo => account::userinfo(shared, headers),
    }
}

/// The sign-in form, the front page, and nothing else.
async fn other(shared: &Arc<Shared>, request: Request<Incoming>) -> Page {
    match (request.uri().path(), request.method()) {
        (discovery::SIGN_IN, &Method::POST) => {
            let params: Params = web::form(request.into_body()).await;
            let fault = shared.dials().next_fault(Endpoint::Authorize);
            altered(authorize::sign_in(shared, &params), fault.as_ref())
        }
        ("/", &Method::GET) => pages::message(
            StatusCode::OK,
            "Demo provider",
            "An OpenID provider for trying Doorward out. Sign-in starts at the application.",
        ),
        _ => pages::message(StatusCode::NOT_FOUND, "Not found", "The demo provider has no such page."),
    }
}

/// Where an RSA key must be made first, that takes a while: not on the runtime's own thread.
async fn jwks(shared: &Arc<Shared>) -> Page {
    let keys = shared.keys();
    match tokio::task::spawn_blocking(move || keys.jwks()).await {
        Ok(Ok(document)) => web::json(StatusCode::OK, &document),
        _ => web::empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// The answer of a fault that does not need the endpoint.
async fn instead(fault: Option<&Fault>) -> Result<Option<Response<Body>>, Cut> {
    let Some(fault) = fault else { return Ok(None) };
    let page = match fault {
        Fault::Empty => typed("application/json", Bytes::new()),
        Fault::Hang => std::future::pending().await,
        Fault::Html => typed("text/html", Bytes::from_static(b"<!doctype html><title>Be right back</title>")),
        Fault::Huge(bytes) => return Ok(Some(huge(*bytes))),
        Fault::Json(status, text) => {
            let mut page = typed("application/json", Bytes::from(text.clone()));
            *page.status_mut() = StatusCode::from_u16(*status).unwrap_or_default();
            page
        }
        Fault::Redirect(to) => web::redirect(to),
        Fault::Reset => return Err(Cut),
        Fault::Status(status) => web::empty(StatusCode::from_u16(*status).unwrap_or_default()),
        Fault::BadSignature | Fault::DropMember(_) | Fault::SetMember(..) | Fault::TamperToken(_) => return Ok(None),
    };
    Ok(Some(web::full(page)))
}

/// The endpoint's own answer with a member dropped or set.
fn altered(mut page: Page, fault: Option<&Fault>) -> Page {
    let (name, value) = match fault {
        Some(Fault::DropMember(name)) => (*name, None),
        Some(Fault::SetMember(name, value)) => (*name, Some(value)),
        _ => return page,
    };
    if let Some(location) = page.headers().get(LOCATION).and_then(|value| value.to_str().ok()) {
        let Some(location) = with_parameter(location, name, value) else { return page };
        page.headers_mut().insert(LOCATION, location);
        return page;
    }
    let Ok(Value::Object(mut members)) = serde_json::from_slice(page.body()) else { return page };
    match value {
        Some(value) => members.insert(name.to_owned(), value.clone()),
        None => members.remove(name),
    };
    page.map(|_| Bytes::from(Value::Object(members).to_string()))
}

fn with_parameter(location: &str, name: &str, value: Option<&Value>) -> Option<HeaderValue> {
    let mut url = Url::parse(location).ok()?;
    let mut pairs: Vec<(String, String)> = url.query_pairs().into_owned().filter(|(n, _)| n != name).collect();
    if let Some(value) = value {
        pairs.push((name.to_owned(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
    }
    url.query_pairs_mut().clear().extend_pairs(pairs);
    HeaderValue::from_str(url.as_str()).ok()
}

fn typed(content_type: &'static str, body: Bytes) -> Page {
    let mut page = Response::new(body);
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    page
}

fn huge(bytes: usize) -> Response<Body> {
    let mut page = Response::new(Blanks::new(bytes).boxed());
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    page
}

fn named_loopback(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let without_port = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    is_loopback(without_port)
}
