use serde_json::json;

use super::*;
use crate::crypto::jws::Refusal;
use crate::crypto::testing::{Signer, ec, hs256, rsa, set};

const NOW: u64 = 1_800_000_000;
const SKEW: u64 = 30;
const ALGS: &[Algorithm] = &[Algorithm::RS256, Algorithm::ES256];

fn keys() -> KeySet {
    set(&[rsa().jwk("r"), ec().jwk("e")])
}

fn expect() -> Expect<'static> {
    Expect {
        issuer: "https://id.example.com/realms/main",
        client_id: "doorward",
        nonce: Some("n-0123456789"),
        access_token: Some("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"),
        algs: ALGS,
        hmac: None,
        skew: SKEW,
        now: NOW,
        max_age: None,
        acr: &[],
    }
}

fn claims() -> Value {
    json!({
        "iss": "https://id.example.com/realms/main", "aud": "doorward", "sub": "alice",
        "exp": NOW + 300, "iat": NOW, "nonce": "n-0123456789",
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn check(claims: &Value, expect: &Expect<'_>) -> Result<Map<String, Value>, Fault> {
    validate(&ec().sign(&json!({"alg": "ES256", "kid": "e"}), claims), &keys(), expect)
}

/// Every one is refused, for a claim, and by a sentence that begins with its name.
fn refused(name: &str, values: &[Value]) {
    for value in values {
        let fault = check(&with(name, value.clone()), &expect()).unwrap_err();
        assert!(matches!(fault, Fault::Claim(what) if what.starts_with(name)), "{name} = {value}: {fault:?}");
    }
}

fn accepted(name: &str, values: &[Value]) {
    for value in values {
        let outcome = check(&with(name, value.clone()), &expect());
        assert!(outcome.is_ok(), "{name} = {value}: {outcome:?}");
    }
}

fn required(name: &str) {
    let fault = check(&without(name), &expect()).unwrap_err();
    assert!(matches!(fault, Fault::Claim(what) if what.starts_with(name)), "{name} missing: {fault:?}");
}

/// What a claim that must be a string or a number is refused as, being something else (J-08).
fn other_types() -> Vec<Value> {
    vec![json!(null), json!(true), json!({}), json!([])]
}

#[test]
fn a_good_token_passes_with_all_its_claims() {
    assert_eq!(Value::Object(check(&claims(), &expect()).unwrap()), claims());
}

#[test]
fn c_05_iss_must_equal_jx_15() {
    required("iss");
    refused("iss", &other_types());
    refused(
        "iss",
        &[
            json!("https://id.example.com/realms/main/"),
            json!("http://id.example.com/realms/main"),
            json!("https://ID.example.com/realms/main"),
            json!("https://id.example.com/realms/other"),
            json!("https://id.example.com"),
            json!(["https://id.example.com/realms/main"]),
            json!(7),
            json!(""),
        ],
    );
}

#[test]
fn c_06_aud_must_be_ours_alone() {
    required("aud");
    refused("aud", &other_types());
    accepted("aud", &[json!("doorward"), json!(["doorward"])]);
    refused(
        "aud",
        &[
            json!("other"),
            json!("Doorward"),
            json!("doorward2"),
            json!("door"),
            json!("*"),
            json!(["doorward", "other"]),
            json!(["other"]),
            json!([["doorward"]]),
            json!(["doorward", 7]),
            json!(7),
        ],
    );
}

#[test]
fn c_07_azp_must_be_ours_and_buys_no_audience() {
    accepted("azp", &[json!("doorward")]);
    refused("azp", &other_types());
    refused("azp", &[json!("other"), json!(["doorward"]), json!("")]);
    let mut several = with("aud", json!(["doorward", "other"]));
    several["azp"] = json!("doorward");
    assert!(check(&several, &expect()).is_err());
}

#[test]
fn c_08_signature_is_always_checked() {
    let token = Signer::new_ec().sign(&json!({"alg": "ES256", "kid": "e"}), &claims());
    assert_eq!(validate(&token, &keys(), &expect()), Err(Fault::Signature(Refusal::Signature)));
    let token = ec().sign(&json!({"alg": "ES256", "kid": "new"}), &claims());
    assert_eq!(validate(&token, &keys(), &expect()), Err(Fault::Signature(Refusal::UnknownKey)));
}

#[test]
fn c_09_alg_is_never_picked_from_the_token() {
    let pinned = Expect { algs: &[Algorithm::RS256], ..expect() };
    for (signer, alg, kid) in [(ec(), "ES256", "e"), (rsa(), "PS256", "r"), (rsa(), "none", "r")] {
        let token = signer.sign(&json!({"alg": alg, "kid": kid}), &claims());
        assert_eq!(validate(&token, &keys(), &pinned), Err(Fault::Signature(Refusal::Algorithm)), "{alg}");
    }
    let token = rsa().sign(&json!({"alg": "RS256", "kid": "r"}), &claims());
    assert!(validate(&token, &keys(), &pinned).is_ok());
}

#[test]
fn c_10_hs256_only_when_pinned_and_with_the_client_secret() {
    let secret = Secret::new("a client secret of 32 octets and more");
    let token = hs256(secret.expose().as_bytes(), &json!({"alg": "HS256"}), &claims());
    let unpinned = Expect { hmac: Some(&secret), ..expect() };
    assert!(validate(&token, &keys(), &unpinned).is_err());
    let pinned = Expect { algs: &[Algorithm::HS256], hmac: Some(&secret), ..expect() };
    assert!(validate(&token, &keys(), &pinned).is_ok());
    let foreign = hs256(&[b'x'; 40], &json!({"alg": "HS256"}), &claims());
    assert!(validate(&foreign, &keys(), &pinned).is_err());
}

#[test]
fn c_11_exp_is_a_date_and_not_past() {
    required("exp");
    refused("exp", &other_types());
    accepted("exp", &[json!(NOW - SKEW + 2), json!(NOW as f64 + 0.5), json!(NOW * 2)]);
    refused(
        "exp",
        &[
            json!(NOW - SKEW - 1),
            json!(NOW - SKEW),
            json!((NOW + 300).to_string()),
            json!(0),
            json!(-1),
            json!(1e300),
            json!(u64::MAX),
        ],
    );
}

#[test]
fn c_12_iat_is_a_date_and_fresh() {
    required("iat");
    refused("iat", &other_types());
    accepted("iat", &[json!(NOW + SKEW), json!(NOW - 3600), json!(NOW as f64 - 0.5)]);
    refused(
        "iat",
        &[
            json!(NOW + SKEW + 1),
            json!(NOW + 3600),
            json!(NOW - 86_400),
            json!(NOW.to_string()),
            json!(-5),
            json!(1e300),
        ],
    );
}

#[test]
fn j_09_nbf_is_honoured_if_present() {
    accepted("nbf", &[json!(NOW + SKEW), json!(NOW - 5)]);
    refused("nbf", &other_types());
    refused("nbf", &[json!(NOW + SKEW + 1), json!(NOW + 3600), json!(NOW.to_string()), json!(-1)]);
}

#[test]
fn c_13_nonce_must_equal() {
    required("nonce");
    refused("nonce", &other_types());
    refused("nonce", &[json!("n-wrong"), json!("N-0123456789"), json!(""), json!(["n-0123456789"]), json!(7)]);
    // L-11: nothing in the token turns the check off.
    let mut silent = without("nonce");
    silent["nonce_supported"] = json!(false);
    assert!(check(&silent, &expect()).is_err());
    let refresh = Expect { nonce: None, ..expect() };
    assert!(check(&without("nonce"), &refresh).is_ok());
    let empty = Expect { nonce: Some(""), ..expect() };
    assert!(check(&without("nonce"), &empty).is_err(), "L-02: both absent are not equal");
    assert!(check(&with("nonce", json!("")), &empty).is_err());
}

#[test]
fn c_14_what_was_asked_for_must_hold() {
    let fresh = Expect { max_age: Some(60), ..expect() };
    for auth_time in [json!(NOW), json!(NOW - 60 - SKEW), json!(NOW + SKEW)] {
        assert!(check(&with("auth_time", auth_time.clone()), &fresh).is_ok(), "{auth_time}");
    }
    assert!(check(&claims(), &fresh).is_err());
    let bad = [json!(NOW - 61 - SKEW), json!(NOW + SKEW + 1), json!(NOW.to_string()), json!(1.5), json!(0)];
    for auth_time in bad.into_iter().chain(other_types()) {
        assert!(check(&with("auth_time", auth_time.clone()), &fresh).is_err(), "{auth_time}");
    }

    let asked = ["urn:mfa".to_owned(), "urn:hw".to_owned()];
    let strong = Expect { acr: &asked, ..expect() };
    assert!(check(&with("acr", json!("urn:hw")), &strong).is_ok());
    for acr in [json!("urn:pwd"), json!("URN:MFA"), json!("urn:mfa urn:hw"), json!(["urn:mfa"]), json!(""), json!(1)] {
        assert!(check(&with("acr", acr.clone()), &strong).is_err(), "{acr}");
    }
    assert!(check(&claims(), &strong).is_err());
    assert!(check(&with("acr", json!(7)), &expect()).is_ok(), "not asked for, not looked at");
}

#[test]
fn c_15_sub_is_a_bounded_string() {
    required("sub");
    refused("sub", &other_types());
    refused("sub", &[json!(""), json!(7), json!("x".repeat(256)), json!("a\u{0}b"), json!("a\r\nb"), json!(["alice"])]);
    accepted("sub", &[json!("x"), json!("x".repeat(255)), json!("jürgen|7")]);
}

#[test]
fn c_16_at_hash_is_verified_when_present() {
    // The example of Core §A.3 is the hash of this very token.
    accepted("at_hash", &[json!("77QmUPtjPfzWtF2AnpK9RQ")]);
    refused("at_hash", &other_types());
    refused("at_hash", &[json!("88QmUPtjPfzWtF2AnpK9RQ"), json!(""), json!("77QmUPtjPfzWtF2AnpK9RQ=="), json!(7)]);
}

#[test]
fn j_10_other_kinds_of_token_are_refused() {
    for (typ, fine) in [
        (json!("JWT"), true),
        (json!("jwt"), true),
        (json!("application/jwt"), true),
        (json!("at+jwt"), false),
        (json!("application/at+jwt"), false),
        (json!("logout+jwt"), false),
        (json!("dpop+jwt"), false),
        (json!(""), false),
        (json!(7), false),
        (json!(null), false),
    ] {
        let token = ec().sign(&json!({"alg": "ES256", "kid": "e", "typ": typ}), &claims());
        assert_eq!(validate(&token, &keys(), &expect()).is_ok(), fine, "{typ}");
    }
    refused("events", &[json!({"http://schemas.openid.net/event/backchannel-logout": {}}), json!(null)]);
}
