//! Doorward's own endpoints: everything under the prefix, and the few at the root that oauth2-proxy has there too. Their
//! name space belongs to them alone: nothing in it is ever forwarded (PX-28).

pub mod backchannel;
pub mod callback;
pub mod frontchannel;
pub mod hand_over;
pub mod person;
pub mod sign_in;
pub mod sign_out;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName};
use http::request::Parts;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;

use self::callback::Came;
use super::Gateway;
use super::admit::Admitted;
use super::challenge::Visit;
use super::exchange::Exchange;
use super::respond::Asker;
use super::site::Site;
use crate::config::settings::{Access, Limits};
use crate::error::{Error, Kind, Result};
use crate::http::parameter::first;
use crate::http::reply::{self, Reply};
use crate::route::Selection;

const X_AUTH_REQUEST_REDIRECT: HeaderName = HeaderName::from_static("x-auth-request-redirect");

/// What a form posted to us may weigh.
const FORM_BYTES: usize = 64 * 1024;

/// One request to one endpoint.
pub struct Call<'a> {
    pub gateway: &'a Arc<Gateway>,
    pub exchange: &'a mut Exchange,
    pub admitted: &'a Admitted<'a>,
    pub parts: &'a Parts,
}

impl<'a> Call<'a> {
    /// Borrows nothing of the exchange.
    pub fn visit(&self) -> Visit<'a> {
        Visit { site: &self.admitted.site, method: &self.parts.method, headers: &self.parts.headers }
    }

    pub fn asker(&self) -> Asker<'_> {
        Asker::new(self.gateway, self.exchange, &self.parts.method, &self.parts.headers)
    }

    pub fn query(&self) -> &'a str {
        self.parts.uri.query().unwrap_or_default()
    }

    /// The first value of a query parameter.
    pub fn parameter(&self, name: &str) -> Option<String> {
        first(self.query().as_bytes(), name)
    }

    /// Where the person wants to be afterwards, if it was said: in the query, or by a trusted proxy in the header that
    /// ingress-nginx and the snippets of oauth2-proxy have for it. Not checked yet.
    pub fn wanted(&self) -> Option<String> {
        self.parameter("rd").or_else(|| {
            let header = self.parts.headers.get(X_AUTH_REQUEST_REDIRECT)?;
            let said = header.to_str().ok().filter(|_| self.gateway.trusts(self.exchange.conn.peer))?;
            Some(said.to_owned())
        })
    }

    pub fn host(&self) -> &str {
        self.admitted.site.origin.host()
    }

    pub fn endpoint(&self, name: &str) -> String {
        format!("{}/{name}", self.gateway.settings.server.prefix)
    }
}

/// Whether Doorward answers this path itself; as routes see it.
pub fn is_ours(gateway: &Gateway, site: &Site, path: &str) -> bool {
    if gateway.is_own(path) {
        return true;
    }
    match path {
        "/ping" | "/ready" => true,
        // A public route's own robots.txt is the better one.
        "/robots.txt" => !matches!(
            gateway.table.select(&site.host, path, "GET"),
            Selection::Route(index) if gateway.rules.get(index).is_some_and(|r| matches!(r.settings.access, Access::Public))
        ),
        _ => false,
    }
}

pub async fn answer(
    gateway: &Arc<Gateway>,
    exchange: &mut Exchange,
    admitted: &Admitted<'_>,
    parts: &Parts,
    body: Incoming,
) -> Reply {
    exchange.route = Arc::clone(&gateway.own_counters);
    // Parameters of a segment name the same endpoint nowhere: `callback;x` is none of ours, and nobody else's either.
    let path: &str = &admitted.path.forward;
    let name = path.strip_prefix(&gateway.own).map_or(path, |name| name);
    // A callback of a provider's own.
    let (name, own) = match name.split_once('/') {
        Some(("callback", own)) => ("callback", Some(own)),
        _ => (name, None),
    };
    let mut call = Call { gateway, exchange, admitted, parts };
    let query = call.query();
    let reads = parts.method == Method::GET || parts.method == Method::HEAD;
    let result = match (name, reads, parts.method == Method::POST) {
        ("/ping", ..) => Ok(reply::text(StatusCode::OK, "OK\n")),
        ("/ready", ..) if gateway.is_ready() => Ok(reply::text(StatusCode::OK, "OK\n")),
        ("/ready", ..) => Ok(reply::text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n")),
        ("/robots.txt", ..) => Ok(reply::text(StatusCode::OK, "User-agent: *\nDisallow: /\n")),
        ("start", true, _) => sign_in::start(&mut call).await,
        ("sign_in", true, _) => Ok(sign_in::page(&call)),
        ("hand_over", true, _) => hand_over::hand_over(&mut call).await,
        ("callback", true, _) if callback::is_there(gateway, own) => {
            callback::callback(&mut call, Came { own, encoded: query.as_bytes(), posted: false }).await
        }
        ("callback", _, true) if callback::takes_forms(gateway, own) && is_form(&parts.headers) => {
            match form(body, &gateway.settings.server.limits).await {
                Ok(form) => callback::callback(&mut call, Came { own, encoded: &form, posted: true }).await,
                Err(error) => Err(error),
            }
        }
        // Nothing that is posted here can be an answer to us (C-24).
        ("callback", _, true) if callback::is_there(gateway, own) => Err(Error::new(
            Kind::Callback,
            "a callback by POST that is no form, or though form_post was never asked for",
        )),
        ("callback", ..) if !callback::is_there(gateway, own) => Ok(call.asker().not_found()),
        ("sign_out", true, _) => sign_out::by_link(&mut call).await,
        ("sign_out", _, true) => match form(body, &gateway.settings.server.limits).await {
            Ok(form) => sign_out::by_form(&mut call, &form).await,
            Err(error) => Err(error),
        },
        ("signed_out", true, _) => Ok(sign_out::signed_out(&call)),
        (".well-known/jwks.json", true, _) => Ok(reply::published(gateway.signer.published(call.exchange.now_ms))),
        ("userinfo", true, _) => person::userinfo(&mut call).await,
        ("session", true, _) => person::session(&mut call).await,
        ("session", _, true) => match form(body, &gateway.settings.server.limits).await {
            Ok(form) => person::end_another(&mut call, &form).await,
            Err(error) => Err(error),
        },
        ("backchannel-logout", _, true) => Ok(backchannel::backchannel(&call, body).await),
        // Not by HEAD, which asks for no effect.
        ("frontchannel-logout", true, _) if parts.method == Method::GET => frontchannel::frontchannel(&call).await,
        ("backchannel-logout", ..) => Ok(call.asker().method_not_allowed("POST")),
        ("frontchannel-logout", ..) => Ok(call.asker().method_not_allowed("GET")),
        ("sign_out" | "session", ..) => Ok(call.asker().method_not_allowed("GET, HEAD, POST")),
        ("start" | "sign_in" | "callback" | "hand_over" | "signed_out" | "userinfo" | ".well-known/jwks.json", ..) => {
            Ok(call.asker().method_not_allowed("GET, HEAD"))
        }
        _ => Ok(call.asker().not_found()),
    };
    match result {
        Ok(reply) => reply,
        Err(error) => call.asker().failed(&error),
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// SECURITY: FX-12. Whole in the time that a head may take, however it trickles: nobody has signed in to come here.
async fn form(body: Incoming, limits: &Limits) -> Result<Bytes> {
    let bad = |what| Error::new(Kind::BadRequest, what);
    let limit = limits.header_timeout.min(limits.body_timeout);
    let whole = tokio::time::timeout(limit, Limited::new(body, FORM_BYTES).collect()).await;
    let whole = whole.map_err(|_| Error::new(Kind::BodyTimeout, "a form that did not come in time"))?;
    whole.map(http_body_util::Collected::to_bytes).map_err(|e| match e.is::<LengthLimitError>() {
        true => Error::new(Kind::BodyTooLarge, "a form that is too long"),
        false => bad("a form that was cut short"),
    })
}
