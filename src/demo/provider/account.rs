//! The endpoints of a grant that exists: userinfo (OpenID Connect Core §5.3), revocation (RFC 7009), and sign-out
//! (OpenID Connect RP-Initiated Logout 1.0).

use std::sync::Arc;

use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;
use url::Url;

use super::authorize::{forget_session, session_id, with_query};
use super::request::loopback_url;
use super::{Options, Redirects, Shared, claims, client, logout, pages};
use crate::demo::web::{self, Page, Params};

pub(super) fn userinfo(shared: &Shared, headers: &HeaderMap) -> Page {
    let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
    let grant = token.and_then(|token| shared.store().granted(token).cloned());
    match grant {
        Some(grant) => {
            let claims = claims::of_user(&shared.options, &grant.sign_in, &grant.scopes);
            web::json(StatusCode::OK, &Value::Object(claims))
        }
        None => {
            let mut page = web::empty(StatusCode::UNAUTHORIZED);
            // RFC 6750 §3.1: no error code where no token was shown.
            let challenge = if token.is_some() { "Bearer error=\"invalid_token\"" } else { "Bearer" };
            page.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            page
        }
    }
}

pub(super) fn revoke(shared: &Shared, params: &Params, headers: &HeaderMap) -> Page {
    if let Err(refused) = client::authenticate(&shared.options, params, headers) {
        return refused.page();
    }
    let Some(token) = params.one("token") else {
        return client::Refused::new("invalid_request", "token is missing").page();
    };
    // An unknown token is as gone as the client wants it (§2.2).
    shared.store().revoke(token);
    web::empty(StatusCode::OK)
}

/// Signs out without asking: the sessions of a demo are worth no question.
pub(super) fn end_session(shared: &Arc<Shared>, params: &Params, headers: &HeaderMap) -> Page {
    let refuse = |why| pages::message(StatusCode::BAD_REQUEST, "This sign-out is not valid", why);
    let hint = params.one("id_token_hint").map(|token| shared.keys().open(token));
    if hint == Some(None) {
        return refuse("id_token_hint is not a token of this provider");
    }
    let back = params.one("post_logout_redirect_uri");
    if back.is_some_and(|uri| !shared.options.returns_to(uri)) {
        return refuse("post_logout_redirect_uri is not registered");
    }
    let claims = hint.flatten().unwrap_or_default();
    let sid = claims.get("sid").and_then(Value::as_str);
    let ended = shared.store().end_session(session_id(headers).as_deref(), sid);
    logout::notify(shared, &ended);
    let mut page = match back {
        Some(uri) => web::redirect(&with_query(uri, &[("state", params.one("state"))])),
        None => pages::message(StatusCode::OK, "Signed out", "You are no longer signed in at the demo provider."),
    };
    forget_session(&mut page);
    page
}

impl Options {
    /// Where a sign-out may end: at the origin of a registered redirect, or on this machine.
    fn returns_to(&self, uri: &str) -> bool {
        if loopback_url(uri).is_some() {
            return true;
        }
        let (Redirects::List(list), Ok(url)) = (&self.redirect_uris, Url::parse(uri)) else { return false };
        url.origin().is_tuple() && list.iter().any(|r| Url::parse(r).is_ok_and(|r| r.origin() == url.origin()))
    }
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
