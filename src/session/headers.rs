//! The identity headers of one somebody, made of their claims once and shared by reference count with every request.

use http::header::HeaderValue;

use super::identity::Identity;
use crate::config::settings::{CustomClaim, IdentityValue};
use crate::http::headers::{encode_value, join_values};

/// PERF: built once a session or token, never once a request.
#[derive(Debug, Default)]
pub struct Headers {
    user: Option<HeaderValue>,
    email: Option<HeaderValue>,
    name: Option<HeaderValue>,
    preferred_username: Option<HeaderValue>,
    groups: Option<HeaderValue>,
    custom: Box<[Option<HeaderValue>]>,
}

impl Headers {
    pub fn of(who: &Identity, custom: &[CustomClaim]) -> Self {
        let one = |text: &Option<String>| text.as_deref().filter(|t| !t.is_empty()).map(encode_value);
        let list = |items: &[String], separator: &str, what: &str| {
            let (value, dropped) = join_values(items.iter().map(String::as_str), separator);
            if dropped > 0 {
                // The contract: a value that holds the separator would read as two.
                tracing::warn!(
                    claim = what,
                    dropped,
                    "values that hold the separator were left out of an identity header"
                );
            }
            (!value.is_empty()).then_some(value)
        };
        Self {
            // A client has none: its name is nobody's (B-20).
            user: (!who.user.is_empty()).then(|| encode_value(&who.user)),
            email: one(&who.email),
            name: one(&who.name),
            preferred_username: one(&who.preferred_username),
            groups: list(&who.groups, ",", "groups"),
            custom: custom
                .iter()
                .map(|c| who.kept.get(&c.claim).and_then(|values| list(values, &c.separator, &c.claim)))
                .collect(),
        }
    }

    /// `None` = there is no such claim, or the value is none of the identity's: a token, an assertion.
    pub fn get(&self, value: &IdentityValue) -> Option<&HeaderValue> {
        match value {
            IdentityValue::AccessToken | IdentityValue::Assertion => None,
            IdentityValue::Custom(index) => self.custom.get(*index).and_then(Option::as_ref),
            IdentityValue::Email => self.email.as_ref(),
            IdentityValue::Groups => self.groups.as_ref(),
            IdentityValue::Name => self.name.as_ref(),
            IdentityValue::PreferredUsername => self.preferred_username.as_ref(),
            IdentityValue::User => self.user.as_ref(),
        }
    }
}
