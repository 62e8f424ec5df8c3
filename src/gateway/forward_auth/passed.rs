//! A positive answer: every header that tells an application who it is, also those that nobody is told by. A proxy copies
//! what it finds in the answer over what the client sent; what it does not find there it may leave as it was (HX-21).

use http::StatusCode;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use crate::config::settings::{IdentityValue, Settings};
use crate::error::Result;
use crate::gateway::Gateway;
use crate::gateway::exchange::Exchange;
use crate::gateway::rules::Rules;
use crate::gateway::site::Site;
use crate::gateway::upstream_auth::Authorization;
use crate::http::reply::{self, Reply};

/// The answer headers that oauth2-proxy has, whatever the route's presets are.
const ANSWERED: [(HeaderName, IdentityValue); 4] = [
    (HeaderName::from_static("x-auth-request-user"), IdentityValue::User),
    (HeaderName::from_static("x-auth-request-email"), IdentityValue::Email),
    (HeaderName::from_static("x-auth-request-groups"), IdentityValue::Groups),
    (HeaderName::from_static("x-auth-request-preferred-username"), IdentityValue::PreferredUsername),
];
/// Beside the preset `x-forwarded-access-token`.
const ACCESS_TOKEN: HeaderName = HeaderName::from_static("x-auth-request-access-token");
const CLIENT: HeaderName = HeaderName::from_static("x-doorward-client");

/// The `Set-Cookie` fields one by one, for proxies that copy one field of a name: nginx, Caddy. A session has five chunks at
/// the most, and some cookies of before may have to go.
const SET_COOKIE: [HeaderName; 8] = [
    HeaderName::from_static("x-doorward-set-cookie-1"),
    HeaderName::from_static("x-doorward-set-cookie-2"),
    HeaderName::from_static("x-doorward-set-cookie-3"),
    HeaderName::from_static("x-doorward-set-cookie-4"),
    HeaderName::from_static("x-doorward-set-cookie-5"),
    HeaderName::from_static("x-doorward-set-cookie-6"),
    HeaderName::from_static("x-doorward-set-cookie-7"),
    HeaderName::from_static("x-doorward-set-cookie-8"),
];

/// The names of all that a positive answer says, each once.
pub fn names(settings: &Settings) -> Vec<HeaderName> {
    let mut names: Vec<HeaderName> = ANSWERED.into_iter().map(|(name, _)| name).collect();
    names.push(CLIENT);
    let headers = || settings.routes.iter().flat_map(|route| &route.identity);
    if headers().any(|header| header.value == IdentityValue::AccessToken) {
        names.push(ACCESS_TOKEN);
    }
    for header in headers() {
        if !names.contains(&header.name) {
            names.push(header.name.clone());
        }
    }
    names
}

pub struct Passed<'a> {
    /// Of `names`, what is known of whoever asks.
    pub identity: HeaderMap,
    /// Every name that an answer can say, known or not.
    pub names: &'a [HeaderName],
    pub authorization: Authorization,
    /// The request's cookies without ours.
    pub cookie: Option<HeaderValue>,
}

impl<'a> Passed<'a> {
    /// # Errors
    /// `Internal`: an assertion cannot be signed.
    pub fn new(
        gateway: &'a Gateway,
        exchange: &Exchange,
        rules: &Rules,
        site: &Site,
        authorization: Authorization,
        cookie: Option<HeaderValue>,
    ) -> Result<Self> {
        let mut identity = HeaderMap::with_capacity(gateway.told.len());
        if let Some(who) = exchange.who().filter(|who| rules.vouched(*who)) {
            rules.identify(who, &gateway.stamp(exchange, site), &mut identity)?;
            let token = rules.settings.identity.iter().any(|header| header.value == IdentityValue::AccessToken);
            let token = token.then_some((ACCESS_TOKEN, IdentityValue::AccessToken));
            for (name, value) in ANSWERED.into_iter().chain(token) {
                if let Some(field) = who.header(&value).first() {
                    identity.insert(name, field.clone());
                }
            }
        }
        Ok(Self { identity, names: &gateway.told, authorization, cookie })
    }

    /// For a proxy that reads headers. `cookies` are added by whoever sends it.
    pub fn reply(self, status: u16, cookies: &[HeaderValue]) -> Reply {
        let mut reply = reply::empty(StatusCode::from_u16(status).unwrap_or(StatusCode::ACCEPTED));
        let headers = reply.headers_mut();
        headers.extend(self.identity);
        for name in self.names {
            headers.entry(name).or_insert(HeaderValue::from_static(""));
        }
        match self.authorization {
            Authorization::Theirs => {}
            Authorization::Ours(value) => drop(headers.insert(AUTHORIZATION, value)),
            Authorization::Removed => drop(headers.insert(AUTHORIZATION, HeaderValue::from_static(""))),
        }
        for (name, cookie) in SET_COOKIE.into_iter().zip(cookies) {
            headers.insert(name, cookie.clone());
        }
        reply
    }
}
