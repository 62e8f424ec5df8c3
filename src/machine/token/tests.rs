use serde_json::json;

use super::*;
use crate::crypto::testing::{Signer, b64, ec, hs256, rsa, set};
use crate::provider::testing::Op;

const NOW: u64 = 1_800_000_000;
const SKEW: u64 = 30;
const ISSUER: &str = "https://id.example.com/realms/main";

fn keys() -> KeySet {
    set(&[rsa().jwk("r"), ec().jwk("e")])
}

fn expect() -> Expect<'static> {
    Expect { issuer: ISSUER, client_id: Some("doorward"), audience: &[], algs: &jws::ASYMMETRIC, skew: SKEW, now: NOW }
}

/// What RFC 9068 §2.2 requires, and no more.
fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": "api", "sub": "alice", "client_id": "app", "iat": NOW, "exp": NOW + 120, "jti": "j1",
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

fn token(typ: &Value, claims: &Value) -> String {
    let mut header = json!({"alg": "ES256", "kid": "e"});
    if !typ.is_null() {
        header["typ"] = typ.clone();
    }
    ec().sign(&header, claims)
}

fn check_as(typ: &Value, claims: &Value) -> Result<Token, Fault> {
    validate(&token(typ, claims), &keys(), &expect())
}

fn strict(claims: &Value) -> Result<Token, Fault> {
    check_as(&json!("at+jwt"), claims)
}

fn plain(claims: &Value) -> Result<Token, Fault> {
    check_as(&json!("JWT"), claims)
}

/// Refused in both modes, by a sentence that begins with the claim's name.
fn refused(name: &str, values: &[Value]) {
    for value in values {
        for check in [strict, plain] {
            let fault = check(&with(name, value.clone())).unwrap_err();
            assert!(matches!(fault, Fault::Claim(what) if what.starts_with(name)), "{name} = {value}: {fault:?}");
        }
    }
}

#[test]
fn at_01_both_kinds_of_access_token_are_told_apart() {
    assert!(strict(&claims()).unwrap().rfc9068);
    assert!(check_as(&json!("application/AT+JWT"), &claims()).unwrap().rfc9068);
    for typ in [json!("JWT"), json!("jwt"), json!("application/jwt"), Value::Null] {
        assert!(!check_as(&typ, &claims()).unwrap().rfc9068, "{typ}");
    }
    let many = with("aud", json!(["other", "api"]));
    assert!(strict(&many).is_ok() && plain(&many).is_ok());
}

#[test]
fn at_02_every_claim_of_rfc_9068_is_required_where_the_token_says_it_is_one() {
    for name in ["iss", "exp", "aud", "sub", "client_id", "iat", "jti"] {
        assert!(strict(&without(name)).is_err(), "{name}");
        let needed = ["iss", "exp", "aud", "sub"].contains(&name);
        assert_eq!(plain(&without(name)).is_err(), needed, "{name}");
    }
}

#[test]
fn j_08_jx_17_claims_have_their_types_and_dates_are_honoured() {
    let other = [json!(null), json!(true), json!({}), json!([]), json!(7), json!("")];
    refused("sub", &other);
    refused("iss", &other);
    refused("aud", &other);
    refused("aud", &[json!(["api", 7]), json!([["api"]]), json!([""]), json!(vec!["api"; MAX_AUDIENCE + 1])]);
    for name in ["exp", "iat", "nbf"] {
        refused(
            name,
            &[
                json!(null),
                json!(true),
                json!({}),
                json!([NOW]),
                json!("1800000100"),
                json!(0),
                json!(-1),
                json!(1e300),
            ],
        );
    }
    refused("exp", &[json!(NOW - SKEW), json!(NOW - 3600)]);
    refused("iat", &[json!(NOW + SKEW + 1)]);
    refused("nbf", &[json!(NOW + 3600)]);
    for (name, value) in [("exp", NOW - SKEW + 1), ("iat", NOW + SKEW), ("nbf", NOW + SKEW), ("iat", 1)] {
        assert!(strict(&with(name, json!(value))).is_ok(), "{name} {value}");
    }
    let too_long = json!("s".repeat(256));
    refused("sub", &[too_long, json!("a\nb")]);
}

#[test]
fn j_09_a_token_before_its_time_is_refused() {
    refused("nbf", &[json!(NOW + SKEW + 1)]);
}

#[test]
fn jx_15_the_issuer_is_compared_byte_for_byte() {
    let id = "https://id.example.com";
    refused(
        "iss",
        &[
            json!(format!("{ISSUER}/")),
            json!(ISSUER.replace("https", "http")),
            json!(format!("{ISSUER}/x")),
            json!(format!("{id}/realms/other")),
            json!(ISSUER.to_uppercase()),
            json!([ISSUER]),
            json!([ISSUER, "x"]),
        ],
    );
}

#[test]
fn j_10_jx_26_other_kinds_of_token_are_refused() {
    for typ in [
        "logout+jwt",
        "secevent+jwt",
        "dpop+jwt",
        "oauth-authz-req+jwt",
        "token-introspection+jwt",
        "at+jwt ",
        "rt+jwt",
        "",
    ] {
        assert!(check_as(&json!(typ), &claims()).is_err(), "{typ}");
    }
    for typ in [json!(7), json!(["at+jwt"]), json!({})] {
        assert!(check_as(&typ, &claims()).is_err(), "{typ}");
    }
    // An ID token, by each thing that betrays one.
    for (name, value) in [
        ("nonce", json!("n")),
        ("at_hash", json!("h")),
        ("c_hash", json!("h")),
        ("s_hash", json!("h")),
        ("aud", json!("doorward")),
        ("aud", json!(["doorward"])),
        ("aud", json!(["doorward", "doorward"])),
        ("typ", json!("ID")),
        ("token_use", json!("id")),
    ] {
        assert!(plain(&with(name, value.clone())).is_err(), "{name} {value}");
    }
    // Refresh and logout tokens that the same keys sign.
    for typ in [json!("Refresh"), json!("Offline"), json!("Logout"), json!("Initial"), json!(7)] {
        assert!(plain(&with("typ", typ.clone())).is_err(), "{typ}");
    }
    assert!(plain(&with("typ", json!("Bearer"))).is_ok(), "Keycloak's access token");
    assert!(plain(&with("token_use", json!("access"))).is_ok(), "Cognito's");
    assert!(plain(&with("aud", json!(["doorward", "api"]))).is_ok());
    assert!(strict(&with("aud", json!("doorward"))).is_ok(), "typed as an access token, for whoever takes it");
    for check in [strict, plain] {
        assert!(check(&with("events", json!({"http://schemas.openid.net/event/backchannel-logout": {}}))).is_err());
    }
}

#[test]
fn dp_05_mt_02_a_token_bound_to_a_key_is_refused() {
    refused(
        "cnf",
        &[
            json!({"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}),
            json!({"x5t#S256": "x"}),
            json!(null),
            json!({}),
        ],
    );
}

#[test]
fn j_01_j_02_jx_02_jx_03_no_symmetric_algorithm_and_none_in_no_spelling() {
    let good = token(&json!("at+jwt"), &claims());
    let body = good.split('.').nth(1).unwrap();
    for alg in [
        json!("none"),
        json!("None"),
        json!("nOnE"),
        json!(""),
        json!(null),
        json!(7),
        json!(["ES256"]),
        json!("es256"),
    ] {
        let header = json!({"alg": alg, "kid": "e", "typ": "at+jwt"});
        let unsigned = format!("{}.{body}.", b64(header.to_string()));
        assert!(validate(&unsigned, &keys(), &expect()).is_err(), "{alg}");
        assert!(validate(&ec().sign(&header, &claims()), &keys(), &expect()).is_err(), "{alg}");
    }
    let jwk = ec().jwk("e").to_string();
    let secrets: [&[u8]; 5] = [b"", b"null", b"doorward", b"secret", jwk.as_bytes()];
    for secret in secrets {
        for header in [json!({"alg": "HS256", "kid": "e", "typ": "at+jwt"}), json!({"alg": "HS256", "typ": "at+jwt"})] {
            assert!(validate(&hs256(secret, &header, &claims()), &keys(), &expect()).is_err());
        }
    }
    for (alg, kid) in [("ES384", "e"), ("RS256", "e"), ("ES256", "r"), ("PS384", "r")] {
        let signed = ec().sign(&json!({"alg": alg, "kid": kid, "typ": "at+jwt"}), &claims());
        assert!(validate(&signed, &keys(), &expect()).is_err(), "{alg} {kid}");
    }
    let only = Expect { algs: &[Algorithm::RS256], ..expect() };
    assert!(validate(&good, &keys(), &only).is_err(), "not in the list of the section");
    let rs = rsa().sign(&json!({"alg": "RS256", "kid": "r", "typ": "at+jwt"}), &claims());
    assert!(validate(&rs, &keys(), &only).is_ok());
}

#[test]
fn j_05_j_06_j_14_jx_11_jx_12_the_header_brings_nothing_of_its_own() {
    let attacker = Signer::new_ec();
    for (name, value) in [
        ("jwk", attacker.jwk("e")),
        ("jku", json!("http://127.0.0.1:1/jwks")),
        ("x5u", json!("http://169.254.169.254/")),
        ("x5c", json!(["MIIB"])),
    ] {
        let mut header = json!({"alg": "ES256", "kid": "e", "typ": "at+jwt"});
        header[name] = value;
        assert_eq!(
            validate(&attacker.sign(&header, &claims()), &keys(), &expect()).unwrap_err(),
            Fault::Signature(Refusal::Signature),
            "{name}"
        );
    }
    for (name, value) in [
        ("crit", json!(["x"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
    ] {
        let mut header = json!({"alg": "ES256", "kid": "e", "typ": "at+jwt"});
        header[name] = value;
        assert!(validate(&ec().sign(&header, &claims()), &keys(), &expect()).is_err(), "{name}");
    }
}

#[test]
fn j_03_jx_05_the_signature_has_one_form() {
    let good = token(&json!("at+jwt"), &claims());
    let message = good.rsplit_once('.').unwrap().0;
    for signature in [vec![0; 64], vec![0xff; 64], vec![0; 63], vec![0; 70], vec![1]] {
        assert!(validate(&format!("{message}.{}", b64(signature)), &keys(), &expect()).is_err());
    }
}

#[test]
fn j_11_j_12_j_15_jx_23_one_form_and_one_meaning() {
    let good = token(&json!("at+jwt"), &claims());
    let header = r#"{"alg":"ES256","kid":"e","typ":"at+jwt"}"#;
    let twice = claims().to_string().replacen("\"aud\"", "\"aud\":\"x\",\"aud\"", 1);
    for text in [twice.as_str(), "[]", "7", "", "\u{feff}{}", r#"{"sub":"\ud800"}"#] {
        assert!(validate(&ec().sign_text(header, text), &keys(), &expect()).is_err(), "{text}");
    }
    for bad in [
        format!("{good}="),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}\n"),
        good.replace('.', ".."),
        format!("{good}.{good}"),
        json!({"payload": "x", "signatures": []}).to_string(),
        "a.b.c.d.e".to_owned(),
    ] {
        assert!(validate(&bad, &keys(), &expect()).is_err(), "{bad}");
    }
}

#[test]
fn j_07_a_key_id_is_looked_up_and_nothing_else() {
    for kid in ["../../dev/null", "' or 1=1 --", "e\r\nX: y", "\u{0}", &"k".repeat(9_000)] {
        let signed = ec().sign(&json!({"alg": "ES256", "kid": kid, "typ": "at+jwt"}), &claims());
        assert_eq!(validate(&signed, &keys(), &expect()).unwrap_err(), Fault::Signature(Refusal::UnknownKey), "{kid}");
    }
}

#[test]
fn j_13_a_large_or_deep_token_is_refused_at_once() {
    let large = token(&json!("at+jwt"), &with("x", json!("x".repeat(MAX_TOKEN))));
    assert_eq!(validate(&large, &keys(), &expect()).unwrap_err(), Fault::Signature(Refusal::Malformed));
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
    let deep = ec().sign_text(r#"{"alg":"ES256","kid":"e"}"#, &deep);
    assert_eq!(validate(&deep, &keys(), &expect()).unwrap_err(), Fault::Signature(Refusal::Malformed));
}

#[test]
fn at_01_an_issuer_section_has_an_audience_of_its_own() {
    let audience = ["deploy".to_owned()];
    let expect = Expect { audience: &audience, client_id: None, ..expect() };
    let check = |aud: Value| validate(&token(&json!("JWT"), &with("aud", aud)), &keys(), &expect).is_ok();
    assert!(check(json!("deploy")) && check(json!(["x", "deploy"])));
    for aud in [json!("api"), json!("Deploy"), json!("deploy2"), json!("*"), json!(["deploy2", "dep"])] {
        assert!(!check(aud.clone()), "{aud}");
    }
}

#[tokio::test]
async fn jx_26_the_id_token_of_a_sign_in_is_no_access_token() {
    let op = Op::new().await;
    let id_token = op.id_token("e", json!({}));
    let expect = Expect { issuer: &op.issuer, now: crate::clock::unix_now(), ..expect() };
    assert!(matches!(validate(&id_token, &keys(), &expect).unwrap_err(), Fault::Claim(_)));
}
