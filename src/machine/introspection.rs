//! The checks of an introspection answer (RFC 7662 §2.2, §4). A pure function, like that of a signed token: whoever asked
//! comes by the claims only here. For which route the token is meant is not judged here.

use serde_json::{Map, Value};

use super::binding;
use crate::provider::checks::{Fault, bounded, date, not_before, require, text};

/// Seconds that an answer without `exp` is good for.
const WITHOUT_EXP: u64 = 60;

/// The claims of a token that is good now: with `sub` and `exp`, whatever the answer left out.
pub(super) fn check(
    mut claims: Map<String, Value>,
    issuer: &str,
    skew: u64,
    now: u64,
) -> Result<Map<String, Value>, Fault> {
    // SECURITY: IN-02. The JSON value, nothing like it.
    require(claims.get("active") == Some(&Value::Bool(true)), "active is not true")?;
    require(!claims.contains_key("iss") || text(&claims, "iss") == Some(issuer), "iss is another issuer")?;
    let (at, tolerance) = (now as f64, skew as f64);
    if claims.contains_key("exp") {
        let exp = date(&claims, "exp").ok_or(Fault::Claim("exp is no date"))?;
        require(at < exp + tolerance, "exp: the token has expired")?;
    } else {
        claims.insert("exp".to_owned(), (now + WITHOUT_EXP).saturating_sub(skew).into());
    }
    if claims.contains_key("iat") {
        let iat = date(&claims, "iat").ok_or(Fault::Claim("iat is no date"))?;
        require(iat <= at + tolerance, "iat lies in the future: compare the clocks")?;
    }
    not_before(&claims, at + tolerance)?;
    binding::certificate(&claims)?;
    // SECURITY: JX-26. Refresh tokens are active too, and ID tokens where the provider takes them for tokens.
    let says = |name: &str, wanted: &[&str]| {
        let fits = |is: &str| wanted.iter().any(|wanted| is.eq_ignore_ascii_case(wanted));
        claims.get(name).is_none_or(|is| is.as_str().is_some_and(fits))
    };
    require(says("token_type", &["Bearer"]), "token_type is not Bearer")?;
    require(says("typ", &["Bearer"]), "typ is that of another kind of token")?;
    require(says("token_use", &["access", "access_token"]), "token_use is that of another kind of token")?;
    if !claims.contains_key("sub") {
        // RFC 7662 has it optional: then nobody stands behind the token but its client.
        let client = bounded(&claims, "client_id", 255).ok_or(Fault::Claim("sub and client_id are both missing"))?;
        claims.insert("sub".to_owned(), client.to_owned().into());
    }
    require(bounded(&claims, "sub", 255).is_some(), "sub is no string of 1 to 255 characters")?;
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn answer(changes: Value) -> Result<Map<String, Value>, Fault> {
        let mut all = json!({
            "active": true, "iss": "https://id.example.com", "sub": "alice", "aud": "api", "client_id": "app",
            "token_type": "Bearer", "exp": NOW + 60, "iat": NOW,
        });
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => all.as_object_mut().unwrap().remove(name),
                value => all.as_object_mut().unwrap().insert(name.clone(), value.clone()),
            };
        }
        check(all.as_object().unwrap().clone(), "https://id.example.com", 30, NOW)
    }

    #[test]
    fn in_02_only_what_is_active_now_and_ours() {
        assert!(answer(json!({})).is_ok());
        for changes in [
            json!({"active": null}),
            json!({"active": false}),
            json!({"active": "true"}),
            json!({"active": 1}),
            json!({"iss": "https://id.example.com/"}),
            json!({"iss": ["https://id.example.com"]}),
            json!({"exp": NOW - 30}),
            json!({"exp": "1900000000"}),
            json!({"nbf": NOW + 31}),
            json!({"iat": NOW + 31}),
            json!({"iat": "x"}),
            json!({"cnf": {"jkt": "x"}}),
            json!({"cnf": {"x5t#S256": "x"}}),
            json!({"token_type": "DPoP"}),
            json!({"token_type": "refresh_token"}),
            json!({"typ": "Refresh"}),
            json!({"token_use": "refresh_token"}),
            json!({"sub": 7}),
            json!({"sub": ""}),
            json!({"sub": null, "client_id": null}),
        ] {
            assert!(answer(changes.clone()).is_err(), "{changes}");
        }
    }

    #[test]
    fn in_02_what_an_answer_may_leave_out() {
        let claims = answer(json!({"iss": null, "token_type": null, "exp": null, "iat": null, "sub": null})).unwrap();
        assert_eq!((claims["sub"].as_str(), claims["exp"].as_u64()), (Some("app"), Some(NOW + 30)));
    }
}
