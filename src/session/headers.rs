//! The identity headers of one somebody, made of their claims once and shared by reference count with every request.

use http::header::HeaderValue;

use super::identity::Identity;
use super::presented::Presented;
use crate::config::settings::{CustomClaim, Form, IdentityValue, Source};
use crate::http::headers::{encode_value, join_values};

/// PERF: built once a session or token, never once a request.
#[derive(Debug, Default)]
pub struct Headers {
    user: Option<HeaderValue>,
    sub: Option<HeaderValue>,
    email: Option<HeaderValue>,
    name: Option<HeaderValue>,
    preferred_username: Option<HeaderValue>,
    groups: Option<HeaderValue>,
    custom: Box<[Box<[HeaderValue]>]>,
    /// Tokens and assertions, which change where claims do not.
    pub presented: Presented,
}

impl Headers {
    pub fn of(who: &Identity, custom: &[CustomClaim]) -> Self {
        let one = |text: &Option<String>| text.as_deref().filter(|t| !t.is_empty()).map(encode_value);
        // A client has none: its name is nobody's (B-20).
        let is_somebody = !who.user.is_empty();
        Self {
            user: is_somebody.then(|| encode_value(&who.user)),
            sub: is_somebody.then(|| encode_value(&who.sub)),
            email: one(&who.email),
            name: one(&who.name),
            preferred_username: one(&who.preferred_username),
            groups: joined(who.groups.iter().map(String::as_str), ",", "groups"),
            custom: custom.iter().map(|c| values(who, c)).collect(),
            presented: Presented::default(),
        }
    }

    /// The fields of one header, in order. Empty = there is no such claim, or the value is none of the identity's: a token,
    /// an assertion.
    pub fn get(&self, value: &IdentityValue) -> &[HeaderValue] {
        match value {
            IdentityValue::AccessToken | IdentityValue::Assertion => &[],
            IdentityValue::Custom(index) => self.custom.get(*index).map(Box::as_ref).unwrap_or_default(),
            IdentityValue::Email => self.email.as_slice(),
            IdentityValue::Groups => self.groups.as_slice(),
            IdentityValue::Name => self.name.as_slice(),
            IdentityValue::PreferredUsername => self.preferred_username.as_slice(),
            IdentityValue::Sub => self.sub.as_slice(),
            IdentityValue::User => self.user.as_slice(),
        }
    }
}

fn values(who: &Identity, custom: &CustomClaim) -> Box<[HeaderValue]> {
    let (texts, what) = match &custom.source {
        Source::Claim(claim) => (who.kept.get(claim).map(Vec::as_slice).unwrap_or_default(), claim.as_str()),
        Source::Groups => (who.groups.as_slice(), "groups"),
        Source::User => (std::slice::from_ref(&who.user), "user"),
    };
    let meant_otherwise = |text: &&str| custom.without.is_some_and(|start| text.starts_with(start));
    let dropped = texts.iter().filter(|text| meant_otherwise(&text.as_str())).count();
    if dropped > 0 {
        tracing::warn!(claim = what, dropped, "values that the upstream keeps for itself were left out");
    }
    let mut texts = texts.iter().map(String::as_str).filter(|text| !text.is_empty() && !meant_otherwise(text));
    match &custom.form {
        Form::Each => texts.map(encode_value).collect(),
        Form::Joined(separator) => joined(texts, separator, what).into_iter().collect(),
        Form::Single => texts.next().filter(|_| texts.next().is_none()).map(encode_value).into_iter().collect(),
    }
}

fn joined<'a>(texts: impl Iterator<Item = &'a str>, separator: &str, what: &str) -> Option<HeaderValue> {
    let (value, dropped) = join_values(texts, separator);
    if dropped > 0 {
        // The contract: a value that holds the separator would read as two.
        tracing::warn!(claim = what, dropped, "values that hold the separator were left out of an identity header");
    }
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(groups: &[&str], user: &str, source: Source, form: Form, without: Option<&'static str>) -> Vec<String> {
        let who = Identity {
            sub: "s-1".into(),
            user: user.into(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            kept: [("given_name".to_owned(), vec!["Mary Ann, Jr.".to_owned()])].into(),
            ..Identity::default()
        };
        let headers = Headers::of(&who, &[CustomClaim { source, form, without }]);
        let fields = headers.get(&IdentityValue::Custom(0)).iter();
        fields.map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn hx_17_a_value_that_holds_the_separator_is_left_out_whatever_the_separator() {
        let groups = ["a|b", "c,d", "é"];
        let bar = Form::Joined("|".to_owned());
        assert_eq!(of(&groups, "alice", Source::Groups, bar, None), ["c,d|%C3%A9"]);
        let comma = Form::Joined(",".to_owned());
        assert_eq!(of(&groups, "alice", Source::Groups, comma, None), ["a|b,%C3%A9"]);
        assert_eq!(of(&groups, "alice", Source::Groups, Form::Each, None), ["a|b", "c,d", "%C3%A9"]);
    }

    #[test]
    fn hx_17_a_claim_of_one_value_has_no_separator_to_hold() {
        let claim = || Source::Claim("given_name".to_owned());
        assert_eq!(of(&[], "alice", claim(), Form::Single, None), ["Mary Ann, Jr."]);
        assert!(of(&["a", "b"], "alice", Source::Groups, Form::Single, None).is_empty(), "which one would it be?");
    }

    #[test]
    fn b_14_no_provider_names_the_upstreams_own_users_and_groups() {
        let groups = ["staff", "system:masters", "asystem:b"];
        assert_eq!(of(&groups, "alice", Source::Groups, Form::Each, Some("system:")), ["staff", "asystem:b"]);
        assert!(of(&[], "system:admin", Source::User, Form::Single, Some("system:")).is_empty());
        assert_eq!(of(&[], "alice", Source::User, Form::Single, Some("system:")), ["alice"]);
    }

    #[test]
    fn b_14_a_service_is_nobody_of_its_name() {
        let who = Identity { sub: "ci".into(), ..Identity::default() };
        let custom = [CustomClaim { source: Source::User, form: Form::Single, without: None }];
        let headers = Headers::of(&who, &custom);
        for value in [IdentityValue::User, IdentityValue::Sub, IdentityValue::Custom(0)] {
            assert!(headers.get(&value).is_empty(), "{value:?}");
        }
    }
}
