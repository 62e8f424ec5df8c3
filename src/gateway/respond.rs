//! The one place that turns an `Error`, a refusal or a verdict into an answer: a page for a person, JSON for a program,
//! and a line for the operator.

use http::header::{ALLOW, CONNECTION, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use serde_json::json;

use super::Gateway;
use super::endpoints::sign_out::button;
use super::exchange::Exchange;
use super::navigation::{is_grpc, wants_page};
use super::pages::{Action, Page};
use super::www_authenticate;
use crate::config::settings::Require;
use crate::error::{Error, Kind};
use crate::http::headers::encode_value;
use crate::http::reply::{self, Reply};
use crate::session::Session;
use crate::telemetry::Safe;

/// Seconds until it is worth asking again while the provider is away, or the application busy.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("5");

/// For clients of gRPC, whose people read it in a log.
const SIGN_IN: &str = "Credentials are missing or were refused";
const STEP_UP: &str = "Another or a more recent sign-in is required";

/// What an answer of ours looks like for whoever asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Manner {
    Grpc,
    Json,
    Page,
}

impl Manner {
    pub fn of(method: &Method, headers: &HeaderMap) -> Self {
        if is_grpc(headers) {
            Self::Grpc
        } else if wants_page(method, headers) {
            Self::Page
        } else {
            Self::Json
        }
    }
}

/// Whoever is to be answered.
pub struct Asker<'a> {
    gateway: &'a Gateway,
    manner: Manner,
    id: &'a str,
}

impl<'a> Asker<'a> {
    pub fn new(gateway: &'a Gateway, exchange: &'a Exchange, method: &Method, headers: &HeaderMap) -> Self {
        Self::with(gateway, exchange, Manner::of(method, headers))
    }

    pub fn with(gateway: &'a Gateway, exchange: &'a Exchange, manner: Manner) -> Self {
        Self { gateway, manner, id: exchange.id() }
    }

    /// A page or JSON, by what the asker is. `title` says what is wrong, `lines` what to do.
    pub fn answer(&self, status: StatusCode, error: &str, title: &str, lines: &[&str], actions: Vec<Action>) -> Reply {
        match self.manner {
            Manner::Grpc => self.grpc(status, title),
            Manner::Json => reply::json(status, &json!({ "error": error, "message": title, "request_id": self.id })),
            Manner::Page => {
                let lines = lines.iter().map(|l| (*l).to_owned()).collect();
                Page { title, lines, actions, request_id: self.id, ..Page::default() }.reply(status)
            }
        }
    }

    /// What the request could not be understood by (400 and its kin).
    pub fn refused(&self, status: StatusCode, why: &str) -> Reply {
        tracing::debug!(request_id = self.id, status = status.as_u16(), why, "request refused");
        let mut reply = self.answer(status, "bad_request", "This request cannot be served", &[why], Vec::new());
        if status == StatusCode::METHOD_NOT_ALLOWED {
            reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
        reply
    }

    pub fn not_found(&self) -> Reply {
        let lines = ["Check the address; there may be a typing error in it."];
        self.answer(StatusCode::NOT_FOUND, "not_found", "There is nothing here", &lines, Vec::new())
    }

    /// `allow` lists what is (RFC 9110 §15.5.6).
    pub fn method_not_allowed(&self, allow: &str) -> Reply {
        let mut reply = self.answer(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "This is not how this address is used",
            &[],
            Vec::new(),
        );
        reply.headers_mut().insert(ALLOW, HeaderValue::from_str(allow).unwrap_or(HeaderValue::from_static("")));
        reply
    }

    /// 401 with a hint for programs (RFC 6750 §3): no error code where no credentials were judged.
    pub fn unauthorized(&self, credentials_refused: bool, login_url: &str, challenges: Vec<HeaderValue>) -> Reply {
        if self.manner == Manner::Grpc {
            return self.grpc(StatusCode::UNAUTHORIZED, SIGN_IN);
        }
        let error = if credentials_refused { "invalid_token" } else { "unauthorized" };
        let body = json!({ "error": error, "login_url": login_url, "request_id": self.id });
        let reply = reply::json(StatusCode::UNAUTHORIZED, &body);
        challenges.into_iter().fold(reply, |reply, challenge| reply::with(reply, WWW_AUTHENTICATE, challenge))
    }

    /// 401 of RFC 9470 §3: whoever asks is known, but signed in too weakly or too long ago. A program takes what is named
    /// here to its own sign-in.
    pub fn step_up(&self, require: &Require, login_url: &str) -> Reply {
        if self.manner == Manner::Grpc {
            return self.grpc(StatusCode::UNAUTHORIZED, STEP_UP);
        }
        const ERROR: &str = "insufficient_user_authentication";
        // A list of words (OpenID Connect Core §3.1.2.1).
        let (acr_values, max_age) = (require.acr.join(" "), require.max_age.map(|max| max.as_secs()));
        let description = if require.acr.is_empty() {
            "a more recent sign-in is required"
        } else {
            "another way of signing in is required"
        };
        let mut challenge =
            format!("Bearer realm=\"doorward\", error=\"{ERROR}\", error_description=\"{description}\"");
        // Configuration takes no acr that would not fit between quotes.
        if !require.acr.is_empty() {
            challenge.push_str(&format!(", acr_values=\"{acr_values}\""));
        }
        if let Some(max_age) = max_age {
            challenge.push_str(&format!(", max_age=\"{max_age}\""));
        }
        let body = json!({
            "error": ERROR, "acr_values": require.acr, "max_age": max_age, "login_url": login_url, "request_id": self.id,
        });
        let plain = HeaderValue::from_static("Bearer realm=\"doorward\", error=\"insufficient_user_authentication\"");
        let challenge = HeaderValue::try_from(challenge).unwrap_or(plain);
        reply::with(reply::json(StatusCode::UNAUTHORIZED, &body), WWW_AUTHENTICATE, challenge)
    }

    /// The rule is not met: never a redirect. Who is signed in can become somebody else. `rule` is what refused, where
    /// the operator lets it be told.
    pub fn forbidden(&self, signed_in: Option<(&Session, &str)>, rule: Option<&str>) -> Reply {
        if let (Manner::Json, Some(rule)) = (self.manner, rule) {
            let body = json!({
                "error": "forbidden", "message": "You may not open this page", "rule": rule, "request_id": self.id,
            });
            return reply::json(StatusCode::FORBIDDEN, &body);
        }
        let rule = rule.map(|rule| format!("The rule: {rule}."));
        let who = signed_in.map(|(session, _)| format!("You are signed in as {}.", session.user()));
        let mut lines = vec![
            "Your account may not open this page. If it should, ask whoever runs this application and tell them the request number below.",
        ];
        if let Some(who) = &who {
            lines.insert(0, who);
        }
        lines.extend(rule.as_deref());
        let other = signed_in.map(|(session, host)| {
            button(self.gateway, session, host, "Sign in as someone else", Some("/".to_owned()))
        });
        self.answer(
            StatusCode::FORBIDDEN,
            "forbidden",
            "You may not open this page",
            &lines,
            other.into_iter().collect(),
        )
    }

    /// Whatever went wrong on the way.
    pub fn failed(&self, error: &Error) -> Reply {
        log(error, self.id);
        let start = format!("{}/sign_in", self.gateway.settings.server.prefix);
        let again = || vec![Action::link("Sign in again", start.clone())];
        match error.kind() {
            Kind::ProviderUnavailable | Kind::KeysUnavailable => {
                let lines = [
                    "The sign-in service does not answer at the moment. This page can be loaded again in a few seconds.",
                ];
                let reply = self.answer(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "provider_unavailable",
                    "Sign-in is not available right now",
                    &lines,
                    Vec::new(),
                );
                reply::with(reply, RETRY_AFTER, RETRY_SECONDS)
            }
            Kind::StoreUnavailable => {
                let lines = [
                    "The gateway cannot reach the place where it keeps sessions. You are not signed out: this page can be loaded again in a few seconds.",
                ];
                let reply = self.answer(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "store_unavailable",
                    "Sessions cannot be read right now",
                    &lines,
                    Vec::new(),
                );
                reply::with(reply, RETRY_AFTER, RETRY_SECONDS)
            }
            Kind::ProviderRefused if is_our_fault(error) => {
                let lines = [
                    "The sign-in service does not accept this gateway as its client. Tell whoever runs this application the request number below.",
                ];
                self.answer(
                    StatusCode::BAD_GATEWAY,
                    "client_refused",
                    "Sign-in is not set up correctly",
                    &lines,
                    Vec::new(),
                )
            }
            Kind::ProviderAnswer => {
                let lines = [
                    "The sign-in service gave an answer that could not be used. Trying again may help; if it does not, tell whoever runs this application the request number below.",
                ];
                self.answer(
                    StatusCode::BAD_GATEWAY,
                    "provider_answer",
                    "The sign-in could not be completed",
                    &lines,
                    again(),
                )
            }
            Kind::IdToken | Kind::ProviderRefused => {
                let lines = [
                    "The sign-in service's answer did not pass our checks, so nobody was signed in. Try again; if it happens again, tell whoever runs this application the request number below.",
                ];
                self.answer(
                    StatusCode::BAD_REQUEST,
                    error.kind().as_str(),
                    "The sign-in could not be completed",
                    &lines,
                    again(),
                )
            }
            Kind::Callback => {
                let lines = [
                    "This browser did not bring the cookie that was set when the sign-in began. Most often the sign-in took longer than ten minutes, was finished already, or was begun in another browser.",
                    "If it happens every time, cookies may be blocked, or the address in the browser is not the one configured as public_url (also http instead of https).",
                ];
                self.answer(StatusCode::BAD_REQUEST, "callback", "This sign-in cannot be continued", &lines, again())
            }
            Kind::SessionTooLarge => {
                let lines = [
                    "Your account carries more information (for example group memberships) than a browser's cookies hold. Tell whoever runs this application the request number below.",
                ];
                self.answer(
                    StatusCode::BAD_REQUEST,
                    "session_too_large",
                    "The sign-in could not be completed",
                    &lines,
                    Vec::new(),
                )
            }
            Kind::RateLimited => {
                let lines = [
                    "Too many sign-ins were begun, or tokens refused, from your network within a minute. Wait a little and try again.",
                ];
                let reply =
                    self.answer(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "Too many attempts", &lines, Vec::new());
                reply::with(reply, RETRY_AFTER, HeaderValue::from_static("30"))
            }
            Kind::BodyTooLarge => {
                self.refused(StatusCode::PAYLOAD_TOO_LARGE, "What was sent is larger than it may be.")
            }
            // RFC 9110 §15.5.9. What has not come of the body could not be told from a next request.
            Kind::BodyTimeout => {
                let reply = self.refused(StatusCode::REQUEST_TIMEOUT, "The request did not come in time.");
                reply::with(reply, CONNECTION, HeaderValue::from_static("close"))
            }
            Kind::BadRequest => self.refused(StatusCode::BAD_REQUEST, "The request could not be understood."),
            Kind::Token => self.unauthorized(true, &start, vec![www_authenticate::plain()]),
            Kind::UpstreamAuth => {
                let lines = [
                    "The gateway could not get what it needs to open the application in your name. Signing in again may help; if it does not, tell whoever runs this application the request number below.",
                ];
                self.answer(
                    StatusCode::BAD_GATEWAY,
                    "upstream_auth",
                    "The application cannot be opened right now",
                    &lines,
                    again(),
                )
            }
            Kind::UpstreamBusy => {
                let lines = ["The application behind this address has too much to do. Try again in a few seconds."];
                let reply = self.answer(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "upstream_busy",
                    "The application is busy",
                    &lines,
                    Vec::new(),
                );
                reply::with(reply, RETRY_AFTER, RETRY_SECONDS)
            }
            Kind::UpstreamFailed => {
                let lines = ["The application behind this address does not answer. Try again in a moment."];
                self.answer(
                    StatusCode::BAD_GATEWAY,
                    "upstream_failed",
                    "The application cannot be reached",
                    &lines,
                    Vec::new(),
                )
            }
            Kind::UpstreamTimeout => {
                let lines = ["The application behind this address takes too long to answer. Try again in a moment."];
                self.answer(
                    StatusCode::GATEWAY_TIMEOUT,
                    "upstream_timeout",
                    "The application does not answer",
                    &lines,
                    Vec::new(),
                )
            }
            Kind::Internal => {
                let lines =
                    ["Something went wrong on our side. Tell whoever runs this application the request number below."];
                self.answer(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something went wrong", &lines, Vec::new())
            }
        }
    }

    /// The provider's own error answer (OpenID Connect Core §3.1.2.6). What it says is logged, never shown.
    pub fn provider_said_no(&self, code: &str) -> Reply {
        let start = format!("{}/sign_in", self.gateway.settings.server.prefix);
        let (title, line) = match code {
            "access_denied" => {
                ("The sign-in was cancelled", "You, or the sign-in service, said no. You can try again.")
            }
            "temporarily_unavailable" | "server_error" => {
                ("The sign-in service has a problem", "It could not complete the sign-in. Try again in a moment.")
            }
            _ => (
                "The sign-in could not be completed",
                "The sign-in service refused. Try again; if it happens again, tell whoever runs this application the request number below.",
            ),
        };
        self.answer(
            StatusCode::BAD_REQUEST,
            "provider_error",
            title,
            &[line],
            vec![Action::link("Sign in again", start)],
        )
    }

    /// The page instead of a fourth redirect.
    pub fn looping(&self) -> Reply {
        let lines = [
            "You signed in several times within a minute, but your browser never brought back a session that this page takes. Going round again would not help.",
            "Most often cookies are blocked, or the address in the browser is not the one configured as public_url: another host name, http instead of https, or a cookie domain that does not fit. A session too large for a cookie looks the same.",
            "It also happens where two parts of a site want sign-ins at different services and each of them leads to the other.",
        ];
        let actions = vec![Action::link("Open the start page", "/")];
        self.answer(StatusCode::BAD_REQUEST, "sign_in_loop", "The sign-in goes round in circles", &lines, actions)
    }

    /// Trailers and nothing else (gRPC over HTTP2, "Responses"). The codes are those that a client of gRPC would make of
    /// the HTTP status itself (gRPC's http-grpc-status-mapping), and closer ones where there are.
    fn grpc(&self, status: StatusCode, message: &str) -> Reply {
        let code = match status.as_u16() {
            400 => "13",
            401 => "16",
            403 => "7",
            404 | 405 => "12",
            408 | 504 => "4",
            413 | 431 => "8",
            429 | 502 | 503 => "14",
            _ => "2",
        };
        let mut reply = reply::empty(StatusCode::OK);
        let headers = reply.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from_static(code));
        headers.insert("grpc-message", encode_value(&format!("{message} (request {})", self.id)));
        reply
    }
}

/// The provider knows our client id, secret or rights not (RFC 6749 §5.2): nobody but the operator can mend that.
fn is_our_fault(error: &Error) -> bool {
    matches!(
        error.oauth_code(),
        Some("invalid_client" | "unauthorized_client" | "unsupported_grant_type" | "invalid_scope")
    )
}

/// The operator's line: what a peer caused is for debugging, the rest is worth waking up for.
fn log(error: &Error, id: &str) {
    match error.kind() {
        Kind::BadRequest
        | Kind::BodyTimeout
        | Kind::BodyTooLarge
        | Kind::Callback
        | Kind::RateLimited
        | Kind::Token => {
            tracing::debug!(request_id = id, kind = error.kind().as_str(), error = %Safe(&error.to_string()), "request failed");
        }
        // `forward` has said so, and where.
        Kind::UpstreamBusy | Kind::UpstreamFailed | Kind::UpstreamTimeout => {}
        _ => {
            tracing::warn!(request_id = id, kind = error.kind().as_str(), error = %Safe(&error.to_string()), "request failed")
        }
    }
}
