//! From the claims of a token that holds to whoever it speaks for: by the section's mapping, as a person's are read, and
//! with what only tokens have: client, scopes, audience.

use serde_json::{Map, Value};

use super::{Machine, binding};
use crate::config::settings::{Claims, CustomClaim};
use crate::http::headers::encode_value;
use crate::provider::checks::{Fault, bounded, date, require};
use crate::provider::claims::string;
use crate::secret::Secret;
use crate::session::headers::Headers;
use crate::session::identity::Identity;

/// Scopes and audiences of one token, at most.
const MOST: usize = 1_000;

/// What issuers call the client.
const CLIENT: [&str; 4] = ["client_id", "azp", "cid", "appid"];

/// Whoever vouches for the claims, and how they are read.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    pub section: &'a str,
    pub is_provider: bool,
    pub issuer: &'a str,
    pub paths: &'a Claims,
    /// Seconds.
    pub skew: u64,
    pub kept: &'a [String],
    pub custom: &'a [CustomClaim],
}

impl Machine {
    /// `claims` hold already; nothing about them is checked here but that they name somebody.
    pub(crate) fn from_claims(claims: &Map<String, Value>, source: &Source<'_>, token: Secret) -> Result<Self, Fault> {
        let client = CLIENT.iter().find_map(|name| bounded(claims, name, 255));
        let mut identity = if is_service(claims, client) {
            service(claims, source)
        } else {
            Identity::from_claims(claims, source.paths, source.kept)
                .map_err(|_| Fault::Claim("the claim that names the user is missing"))?
        };
        identity.sid = None;
        let exp = date(claims, "exp").unwrap_or_default();
        Ok(Self {
            section: source.section.to_owned(),
            is_provider: source.is_provider,
            issuer: source.issuer.to_owned(),
            client: client.map(str::to_owned),
            client_header: client.map(encode_value),
            scopes: scopes(claims)?,
            audience: strings(claims.get("aud")),
            certificate: binding::certificate(claims)?.map(Box::from),
            // Of a date, which is bounded.
            expires_ms: ((exp + source.skew as f64) * 1000.0) as u64,
            headers: Headers::of(&identity, source.custom),
            identity,
            token,
        })
    }

    /// Of the claims of an ID token: a person, and no client that acts for them.
    pub(super) fn from_person(claims: &Map<String, Value>, source: &Source<'_>, token: Secret) -> Result<Self, Fault> {
        let mut person = claims.clone();
        CLIENT.iter().for_each(|name| drop(person.remove(*name)));
        // Of a key that would prove something else than a password does.
        person.remove("cnf");
        Self::from_claims(&person, source, token)
    }

    /// About how many bytes it takes.
    pub(super) fn weight(&self) -> usize {
        const FIXED: usize = 1024;
        let texts = |all: &[String]| all.iter().map(|text| text.len() + size_of::<String>()).sum::<usize>();
        let kept: usize = self.identity.kept.iter().map(|(path, values)| path.len() + texts(values)).sum();
        // The headers hold most of it a second time.
        let claims = 2 * (texts(&self.identity.groups) + kept);
        FIXED + self.token.expose().len() + texts(&self.scopes) + texts(&self.audience) + claims
    }
}

/// SECURITY: B-20. A token that nobody stands behind but the client itself, by the ways in which issuers say so: RFC 9068
/// §2.2, Auth0, Entra ID, Keycloak. Whatever it calls itself, that is no user's name.
fn is_service(claims: &Map<String, Value>, client: Option<&str>) -> bool {
    let is = |name: &str, wanted: &str| string(claims, name) == Some(wanted);
    let of_client = client.is_some_and(|client| {
        is("sub", client)
            || string(claims, "sub").and_then(|sub| sub.strip_suffix("@clients")) == Some(client)
            // Keycloak has user names in lower case, and clients as they were written.
            || string(claims, "preferred_username")
                .and_then(|name| name.strip_prefix("service-account-"))
                .is_some_and(|name| name.eq_ignore_ascii_case(client))
    });
    of_client || is("gty", "client-credentials") || is("idtyp", "app")
}

/// What is kept of a service: nothing by which it could be taken for a person.
fn service(claims: &Map<String, Value>, source: &Source<'_>) -> Identity {
    let sub = string(claims, "sub").unwrap_or_default().to_owned();
    let paths = Claims { user: "sub".to_owned(), ..source.paths.clone() };
    let known = Identity::from_claims(claims, &paths, source.kept).unwrap_or_default();
    Identity {
        sub,
        groups: known.groups,
        kept: known.kept,
        acr: known.acr,
        auth_time: known.auth_time,
        ..Identity::default()
    }
}

/// JX-29: whole words. `scope` is a text with spaces between (RFC 9068 §2.2.3), `scp` what Entra ID and Okta have.
///
/// SECURITY: none is left out, which a `deny` rule might name.
fn scopes(claims: &Map<String, Value>) -> Result<Vec<String>, Fault> {
    let scopes: Vec<String> = match claims.get("scope").or_else(|| claims.get("scp")) {
        Some(Value::String(text)) => text.split_ascii_whitespace().take(MOST + 1).map(str::to_owned).collect(),
        other => strings(other),
    };
    require(scopes.len() <= MOST, "more scopes than any token has")?;
    Ok(scopes)
}

/// A string, or the strings of a list.
fn strings(value: Option<&Value>) -> Vec<String> {
    let all = match value {
        Some(Value::Array(all)) => all.as_slice(),
        Some(one @ Value::String(_)) => std::slice::from_ref(one),
        _ => &[],
    };
    all.iter().filter_map(Value::as_str).take(MOST + 1).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
