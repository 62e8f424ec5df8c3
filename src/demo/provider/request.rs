//! What a client may ask of the authorization endpoint, and how a request that asks otherwise is refused. It reads and
//! checks; it answers nothing.

use url::Url;

use super::store::SignIn;
use super::{Options, Redirects};
use crate::clock::unix_now;
use crate::demo::web::Params;
use crate::http::origin::is_loopback;

/// An authorization request that passed every check.
#[derive(Clone, Debug)]
pub(super) struct AuthorizeRequest {
    pub(super) redirect_uri: String,
    pub(super) scopes: Vec<String>,
    pub(super) nonce: Option<String>,
    /// PKCE, S256 (RFC 7636 §4.2).
    pub(super) challenge: String,
    /// The id under which it was pushed, if it was.
    pub(super) pushed: Option<String>,
    pub(super) state: Option<String>,
    pub(super) prompt: Prompt,
    max_age: Option<u64>,
    pub(super) acr: Option<String>,
    pub(super) login_hint: Option<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Prompt {
    Absent,
    Login,
    None,
}

/// Why a request is refused. Without a proven `redirect_uri` only the person may be told.
pub(super) struct Refused {
    pub(super) code: &'static str,
    pub(super) why: &'static str,
    /// The client's address and its `state`.
    pub(super) client: Option<(String, Option<String>)>,
}

impl AuthorizeRequest {
    pub(super) fn read(options: &Options, params: &Params) -> Result<Self, Refused> {
        let to_person = |why| Refused { code: "invalid_request", why, client: None };
        if params.one("client_id") != Some(options.client_id.as_str()) {
            return Err(to_person("client_id is not that of a registered client"));
        }
        let redirect_uri = params.one("redirect_uri").ok_or_else(|| to_person("redirect_uri is missing"))?;
        if !options.redirects_to(redirect_uri) {
            return Err(to_person("redirect_uri is not registered"));
        }
        let state = params.one("state").map(str::to_owned);
        let refused = |code, why| Refused { code, why, client: Some((redirect_uri.to_owned(), state.clone())) };
        let invalid = |why| refused("invalid_request", why);
        if params.duplicate().is_some() {
            return Err(invalid("a parameter came twice"));
        }
        if params.one("request").is_some() {
            return Err(refused("request_not_supported", "request objects are not supported"));
        }
        if params.one("response_type") != Some("code") {
            return Err(refused("unsupported_response_type", "response_type must be code"));
        }
        if params.one("response_mode").is_some_and(|mode| mode != "query") {
            return Err(invalid("response_mode must be query"));
        }
        let scopes: Vec<String> = split(params.one("scope"));
        if !scopes.iter().any(|scope| scope == "openid") {
            return Err(refused("invalid_scope", "scope must hold openid"));
        }
        let challenge = params.one("code_challenge").unwrap_or_default();
        if challenge.len() != 43 || params.one("code_challenge_method") != Some("S256") {
            return Err(invalid("PKCE with S256 is required"));
        }
        let prompts = split(params.one("prompt"));
        let prompt = match prompts.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["none"] => Prompt::None,
            many if many.contains(&"none") => return Err(invalid("prompt none stands alone")),
            many if many.iter().any(|p| matches!(*p, "login" | "select_account")) => Prompt::Login,
            _ => Prompt::Absent,
        };
        let max_age = params.one("max_age").map(str::parse).transpose();
        Ok(Self {
            redirect_uri: redirect_uri.to_owned(),
            scopes,
            nonce: params.one("nonce").map(str::to_owned),
            challenge: challenge.to_owned(),
            pushed: None,
            prompt,
            max_age: max_age.map_err(|_| invalid("max_age is not a number"))?,
            acr: split(params.one("acr_values")).into_iter().next(),
            login_hint: params.one("login_hint").map(str::to_owned),
            state,
        })
    }

    /// Whether this session answers the request without asking the person again.
    pub(super) fn accepts(&self, session: &SignIn) -> bool {
        let age = unix_now().saturating_sub(session.auth_time);
        // OpenID Connect Core §3.1.2.1: a max_age of 0 is a prompt.
        let fresh = self.max_age.is_none_or(|limit| limit > 0 && age <= limit);
        let strong = self.acr.is_none() || self.acr == session.acr;
        self.prompt != Prompt::Login && fresh && strong
    }
}

impl Options {
    /// RFC 9700 §2.1: by exact comparison; only the demo itself, whose port is not known before, takes any loopback one.
    fn redirects_to(&self, uri: &str) -> bool {
        match &self.redirect_uris {
            Redirects::List(list) => list.iter().any(|registered| registered == uri),
            Redirects::AnyLoopback => loopback_url(uri).is_some_and(|url| url.fragment().is_none()),
        }
    }
}

/// An http or https URL of this machine.
pub(super) fn loopback_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let bare = url.username().is_empty() && url.password().is_none();
    (bare && url.host_str().is_some_and(is_loopback)).then_some(url)
}

fn split(text: Option<&str>) -> Vec<String> {
    text.unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect()
}
