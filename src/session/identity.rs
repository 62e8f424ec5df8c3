//! Who somebody is: the claims that Doorward keeps, taken from a sign-in's verified claims by the configured paths.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::settings::Claims;
use crate::error::{Error, Kind, Result};
use crate::provider::checks::date;
use crate::provider::claims::{lookup, string, strings, texts};

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Identity {
    /// The subject at the provider, whatever `user` is mapped to.
    pub sub: String,
    pub user: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Only a JSON `true` counts (L-25).
    #[serde(default)]
    pub email_verified: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_username: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// The claims that headers and rules need besides, by their path; one that was looked for in vain is an empty list.
    /// A path that is not here was not looked for: what it would say is unknown.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", rename = "custom")]
    pub kept: BTreeMap<String, Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// NumericDate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<u64>,
    /// The provider's session id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
}

impl Identity {
    /// From verified claims. Fails when the claim that names the user is not there: nobody can be signed in as nobody.
    pub fn from_claims(claims: &Map<String, Value>, paths: &Claims, keep: &[String]) -> Result<Self> {
        let text = |path: &str| string(claims, path).map(str::to_owned);
        let sub = text("sub").ok_or_else(|| Error::new(Kind::IdToken, "the ID token has no sub"))?;
        let user = text(&paths.user).filter(|u| !u.is_empty()).ok_or_else(|| {
            let detail = format!("the claim `{}` that names the user is missing or no string", paths.user);
            Error::new(Kind::IdToken, detail)
        })?;
        Ok(Self {
            sub,
            user,
            email: text(&paths.email),
            email_verified: lookup(claims, "email_verified") == Some(&Value::Bool(true)),
            name: text(&paths.name),
            preferred_username: text("preferred_username"),
            groups: strings(claims, &paths.groups),
            kept: keep.iter().map(|path| (path.clone(), texts(claims, path))).collect(),
            acr: text("acr"),
            // As when the ID token was checked: a whole number, however it is written.
            auth_time: date(claims, "auth_time").filter(|at| at.fract() == 0.0).map(|at| at as u64),
            sid: text("sid"),
        })
    }
}
