//! What ID token and userinfo say about a person, by scope (OpenID Connect Core §5.4).

use serde_json::{Map, Value, json};

use super::Options;
use super::store::SignIn;

pub(super) fn of_user(options: &Options, sign_in: &SignIn, scopes: &[String]) -> Map<String, Value> {
    let mut claims = Map::new();
    claims.insert("sub".to_owned(), sign_in.user.as_str().into());
    let Some(user) = options.user(&sign_in.user) else { return claims };
    let asked = |scope: &str| scopes.iter().any(|s| s == scope);
    if asked("email") {
        claims.insert("email".to_owned(), user.email.as_str().into());
        claims.insert("email_verified".to_owned(), user.email_verified.into());
    }
    if asked("profile") {
        claims.insert("name".to_owned(), user.name.as_str().into());
        if let Some((given, family)) = user.name.rsplit_once(' ') {
            claims.insert("given_name".to_owned(), given.into());
            claims.insert("family_name".to_owned(), family.into());
        }
        claims.insert("preferred_username".to_owned(), user.username.as_str().into());
    }
    // Not of the specification; what most providers do, so that group rules work with the usual scopes.
    if asked("profile") || asked("groups") {
        claims.insert("groups".to_owned(), json!(user.groups));
    }
    claims
}
