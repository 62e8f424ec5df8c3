//! The authorization endpoint (OpenID Connect Core §3.1.2), its sign-in page, and pushed requests (RFC 9126). It ends
//! with a redirect to the client: with a code, or with an error (RFC 6749 §4.1.2.1).

use cookie::{Cookie, SameSite};
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;
use url::form_urlencoded;

use super::request::{AuthorizeRequest, Prompt, Refused};
use super::store::{PUSHED_TTL, SignIn, random_id};
use super::{Shared, client, pages};
use crate::clock::unix_now;
use crate::demo::web::{self, Page, Params};

pub(super) fn authorize(shared: &Shared, params: &Params, headers: &HeaderMap) -> Page {
    let request = match resolve(shared, params) {
        Ok(request) => request,
        Err(refused) => return refuse(shared, &refused),
    };
    let auto_login = shared.dials().auto_login.clone();
    let session = session_id(headers).and_then(|id| shared.store().session(&id).cloned());
    let expected = |user: &str| auto_login.as_deref().is_none_or(|expected| expected == user);
    if let Some(session) = session.filter(|session| request.accepts(session) && expected(&session.user)) {
        return answer_with_code(shared, request, session);
    }
    if request.prompt == Prompt::None {
        let client = Some((request.redirect_uri, request.state));
        return refuse(shared, &Refused { code: "login_required", why: "nobody is signed in", client });
    }
    if let Some(user) = auto_login {
        return sign_in_as(shared, request, &user);
    }
    let login_hint = request.login_hint.clone();
    let id = shared.store().hold(request);
    pages::sign_in(&shared.options, &id, login_hint.as_deref(), false)
}

/// The form of the sign-in page.
pub(super) fn sign_in(shared: &Shared, params: &Params) -> Page {
    let id = params.one("request").unwrap_or_default();
    if shared.store().held(id).is_none() {
        return pages::message(
            StatusCode::BAD_REQUEST,
            "This sign-in is over",
            "It was completed or is too old. Go back to the application and sign in again.",
        );
    }
    let user = match (params.one("as"), params.one("username")) {
        (Some(user), _) => shared.options.user(user),
        (None, name) => shared.options.user(name.unwrap_or_default()).filter(|user| {
            let password = params.one("password").unwrap_or_default();
            client::equal(user.password.expose(), password)
        }),
    };
    let cancelled = params.one("cancel").is_some();
    if user.is_none() && !cancelled {
        return pages::sign_in(&shared.options, id, params.one("username"), true);
    }
    let Some(request) = shared.store().release(id) else { return web::empty(StatusCode::CONFLICT) };
    match user {
        Some(user) if !cancelled => sign_in_as(shared, request, &user.username),
        _ => {
            let client = Some((request.redirect_uri, request.state));
            refuse(shared, &Refused { code: "access_denied", why: "the person said no", client })
        }
    }
}

/// RFC 9126 §2: the request comes from the client itself, who proves who it is.
pub(super) fn push(shared: &Shared, params: &Params, headers: &HeaderMap) -> Page {
    if let Err(refused) = client::authenticate(&shared.options, params, headers) {
        return refused.page();
    }
    if params.one("request_uri").is_some() {
        return client::Refused::new("invalid_request", "request_uri cannot be pushed").page();
    }
    if let Err(refused) = AuthorizeRequest::read(&shared.options, params) {
        return client::Refused::new(refused.code, refused.why).page();
    }
    let id = shared.store().push(params.clone());
    let answer = json!({ "request_uri": format!("{REQUEST_URI}{id}"), "expires_in": PUSHED_TTL.as_secs() });
    web::json(StatusCode::CREATED, &answer)
}

/// The value of the provider's own cookie.
pub(super) fn session_id(headers: &HeaderMap) -> Option<String> {
    let header = headers.get(COOKIE)?.to_str().ok()?;
    Cookie::split_parse(header).flatten().find(|c| c.name() == SESSION_COOKIE).map(|c| c.value().to_owned())
}

/// Makes the browser forget the session.
pub(super) fn forget_session(page: &mut Page) {
    let mut cookie = Cookie::build((SESSION_COOKIE, "")).path("/").build();
    cookie.make_removal();
    set_cookie(page, &cookie);
}

/// `url` with more parameters; what it had stays byte for byte.
pub(super) fn with_query(url: &str, params: &[(&str, Option<&str>)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in params {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    match url {
        _ if query.is_empty() => url.to_owned(),
        _ if url.contains('?') => format!("{url}&{query}"),
        _ => format!("{url}?{query}"),
    }
}

/// The request itself, or the one pushed before (RFC 9126 §4: then the other parameters do not count).
fn resolve(shared: &Shared, params: &Params) -> Result<AuthorizeRequest, Refused> {
    let Some(uri) = params.one("request_uri") else {
        return AuthorizeRequest::read(&shared.options, params);
    };
    let id = uri.strip_prefix(REQUEST_URI).unwrap_or_default();
    let pushed = shared.store().pushed(id).filter(|pushed| pushed.one("client_id") == params.one("client_id"));
    let Some(pushed) = pushed else {
        return Err(Refused { code: "invalid_request_uri", why: "request_uri is unknown or expired", client: None });
    };
    let mut request = AuthorizeRequest::read(&shared.options, &pushed)?;
    request.pushed = Some(id.to_owned());
    Ok(request)
}

fn sign_in_as(shared: &Shared, request: AuthorizeRequest, user: &str) -> Page {
    let Some(user) = shared.options.user(user) else {
        return pages::message(StatusCode::BAD_REQUEST, "No such user", "The demo provider does not know this user.");
    };
    let sign_in =
        SignIn { user: user.username.clone(), auth_time: unix_now(), acr: request.acr.clone(), sid: random_id() };
    if !shared.options.sso {
        return answer_with_code(shared, request, sign_in);
    }
    let session = shared.store().start_session(sign_in.clone());
    let mut page = answer_with_code(shared, request, sign_in);
    let cookie = Cookie::build((SESSION_COOKIE, session)).path("/").http_only(true).same_site(SameSite::Lax).build();
    set_cookie(&mut page, &cookie);
    page
}

fn answer_with_code(shared: &Shared, request: AuthorizeRequest, sign_in: SignIn) -> Page {
    let (redirect_uri, state) = (request.redirect_uri.clone(), request.state.clone());
    let code = shared.store().issue_code(request, sign_in);
    let params = [("code", Some(code.as_str())), ("state", state.as_deref()), ("iss", Some(shared.issuer.as_str()))];
    web::redirect(&with_query(&redirect_uri, &params))
}

fn refuse(shared: &Shared, refused: &Refused) -> Page {
    let Some((redirect_uri, state)) = &refused.client else {
        return pages::message(StatusCode::BAD_REQUEST, "This request is not valid", refused.why);
    };
    let params = [
        ("error", Some(refused.code)),
        ("error_description", Some(refused.why)),
        ("state", state.as_deref()),
        ("iss", Some(shared.issuer.as_str())),
    ];
    web::redirect(&with_query(redirect_uri, &params))
}

fn set_cookie(page: &mut Page, cookie: &Cookie<'_>) {
    if let Ok(value) = HeaderValue::from_str(&cookie.to_string()) {
        page.headers_mut().append(SET_COOKIE, value);
    }
}

const REQUEST_URI: &str = "urn:ietf:params:oauth:request_uri:";
const SESSION_COOKIE: &str = "demo_provider";
