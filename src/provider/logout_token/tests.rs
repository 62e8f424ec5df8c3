use serde_json::json;

use super::*;
use crate::crypto::testing::{Signer, b64, ec, hs256, rsa, set};
use crate::provider::testing::{Answer, Op};

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
        algs: ALGS,
        hmac: None,
        skew: SKEW,
        now: NOW,
    }
}

fn claims() -> Value {
    json!({
        "iss": "https://id.example.com/realms/main", "aud": "doorward", "iat": NOW, "exp": NOW + 120, "jti": "bWJq",
        "sub": "alice", "sid": "08a5019c", "events": {EVENT: {}},
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(names: &[&str]) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().retain(|name, _| !names.contains(&name.as_str()));
    claims
}

fn signed(header: &Value, claims: &Value) -> String {
    ec().sign(header, claims)
}

fn check(claims: &Value) -> Result<LogoutToken, Fault> {
    validate(&signed(&json!({"alg": "ES256", "kid": "e", "typ": "logout+jwt"}), claims), &keys(), &expect())
}

/// Every one is refused, by a sentence that begins with the claim's name.
fn refused(name: &str, values: &[Value]) {
    for value in values {
        let fault = check(&with(name, value.clone())).unwrap_err();
        assert!(matches!(fault, Fault::Claim(what) if what.starts_with(name)), "{name} = {value}: {fault:?}");
    }
}

fn accepted(name: &str, values: &[Value]) {
    for value in values {
        let outcome = check(&with(name, value.clone()));
        assert!(outcome.is_ok(), "{name} = {value}: {outcome:?}");
    }
}

fn required(name: &str) {
    let fault = check(&without(&[name])).unwrap_err();
    assert!(matches!(fault, Fault::Claim(what) if what.starts_with(name)), "{name} missing: {fault:?}");
}

/// What a claim that must be a string or a number is refused as, being something else (J-08).
fn other_types() -> Vec<Value> {
    vec![json!(null), json!(true), json!({}), json!([])]
}

#[test]
fn bl_02_a_good_token_says_whose_sessions_end() {
    let both = LogoutToken {
        sub: Some("alice".to_owned()),
        sid: Some("08a5019c".to_owned()),
        jti: "bWJq".to_owned(),
        iat_ms: NOW * 1000,
        until_ms: (NOW + 120 + SKEW) * 1000,
    };
    assert_eq!(check(&claims()).as_ref(), Ok(&both));
    assert_eq!(check(&without(&["sid"])), Ok(LogoutToken { sid: None, ..both.clone() }));
    assert_eq!(check(&without(&["sub"])), Ok(LogoutToken { sub: None, ..both.clone() }));
    assert_eq!(check(&without(&["exp"])), Ok(both));
    assert!(check(&with("trace_id", json!({"unknown": true}))).is_ok());
}

#[test]
fn bl_02_j_12_step_1_a_token_that_is_no_signed_token_is_refused() {
    let good = signed(&json!({"alg": "ES256", "kid": "e"}), &claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let encrypted = format!("{}.{payload}.{payload}.{payload}.{signature}", b64(r#"{"alg":"dir","enc":"A256GCM"}"#));
    for bad in [
        encrypted,
        String::new(),
        "a.b.c".to_owned(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}."),
        format!("{header}..{signature}"),
        format!("{good}="),
        format!("{good}\n"),
        format!(" {good}"),
        format!("{header}.{payload}.{signature}.{signature}"),
        json!({"payload": payload, "protected": header, "signature": signature}).to_string(),
    ] {
        assert_eq!(validate(&bad, &keys(), &expect()), Err(Fault::Signature(Refusal::Malformed)), "{bad}");
    }
}

#[test]
fn bl_02_j_13_a_large_token_is_refused_before_it_is_read() {
    let large = signed(&json!({"alg": "ES256", "kid": "e"}), &with("padding", json!("x".repeat(MAX_TOKEN))));
    assert_eq!(validate(&large, &keys(), &expect()), Err(Fault::Signature(Refusal::Malformed)));
    assert_eq!(peek_issuer(&large), None);
    let deep = format!("{{\"iss\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
    let deep = ec().sign_text(r#"{"alg":"ES256","kid":"e"}"#, &deep);
    assert_eq!(validate(&deep, &keys(), &expect()), Err(Fault::Signature(Refusal::Malformed)));
    assert_eq!(peek_issuer(&deep), None);
}

#[test]
fn bl_02_ox_03_step_2_the_signature_is_always_checked() {
    let foreign = Signer::new_ec().sign(&json!({"alg": "ES256", "kid": "e"}), &claims());
    assert_eq!(validate(&foreign, &keys(), &expect()), Err(Fault::Signature(Refusal::Signature)));
    let unknown = signed(&json!({"alg": "ES256", "kid": "new"}), &claims());
    assert_eq!(validate(&unknown, &keys(), &expect()), Err(Fault::Signature(Refusal::UnknownKey)));
    let good = signed(&json!({"alg": "ES256", "kid": "e"}), &claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let others =
        format!("{}.{}.{signature}", message.split_once('.').unwrap().0, b64(with("sub", json!("bob")).to_string()));
    assert_eq!(validate(&others, &keys(), &expect()), Err(Fault::Signature(Refusal::Signature)));
}

#[test]
fn bl_02_ox_03_j_01_step_3_alg_is_pinned_as_for_id_tokens() {
    for alg in
        [json!("none"), json!("None"), json!("nOnE"), json!(""), json!("PS256"), json!("HS256"), json!(7), json!(null)]
    {
        let token = signed(&json!({"alg": alg, "kid": "e"}), &claims());
        assert_eq!(validate(&token, &keys(), &expect()), Err(Fault::Signature(Refusal::Algorithm)), "{alg}");
    }
    let pinned = Expect { algs: &[Algorithm::RS256], ..expect() };
    let token = signed(&json!({"alg": "ES256", "kid": "e"}), &claims());
    assert_eq!(validate(&token, &keys(), &pinned), Err(Fault::Signature(Refusal::Algorithm)));

    let secret = Secret::new("a client secret of 32 octets and more");
    let token = hs256(secret.expose().as_bytes(), &json!({"alg": "HS256"}), &claims());
    assert!(validate(&token, &keys(), &Expect { hmac: Some(&secret), ..expect() }).is_err());
    let pinned = Expect { algs: &[Algorithm::HS256], hmac: Some(&secret), ..expect() };
    assert!(validate(&token, &keys(), &pinned).is_ok());
}

#[test]
fn j_05_what_must_be_understood_is_not() {
    for header in [
        json!({"alg": "ES256", "kid": "e", "crit": ["x"], "x": 1}),
        json!({"alg": "ES256", "kid": "e", "crit": []}),
        json!({"alg": "ES256", "kid": "e", "crit": ["b64"], "b64": false}),
    ] {
        let fault = validate(&signed(&header, &claims()), &keys(), &expect()).unwrap_err();
        assert!(matches!(fault, Fault::Signature(Refusal::Header(_))), "{header}: {fault:?}");
    }
}

#[test]
fn bl_02_ox_03_step_4_iss_is_the_provider_and_aud_this_client_alone() {
    required("iss");
    refused("iss", &other_types());
    refused(
        "iss",
        &[
            json!("https://id.example.com/realms/main/"),
            json!("https://id.example.com/realms/other"),
            json!(["https://id.example.com/realms/main"]),
            json!(""),
        ],
    );
    required("aud");
    refused("aud", &other_types());
    refused("aud", &[json!("other"), json!(["doorward", "other"]), json!([["doorward"]]), json!(7)]);
    accepted("aud", &[json!(["doorward"])]);
    refused("azp", &[json!("other"), json!(["doorward"])]);
    accepted("azp", &[json!("doorward")]);
}

#[test]
fn bl_02_bl_03_step_4_iat_is_required_and_fresh() {
    required("iat");
    refused("iat", &other_types());
    refused(
        "iat",
        &[
            json!(NOW + SKEW + 1),
            json!(NOW - 300 - SKEW),
            json!(NOW - 86_400),
            json!(NOW.to_string()),
            json!(0),
            json!(-1),
            json!(1e300),
        ],
    );
    accepted("iat", &[json!(NOW + SKEW), json!(NOW - 300 - SKEW + 1), json!(NOW as f64 - 0.5)]);
}

#[test]
fn bl_02_bl_03_step_4_exp_is_honoured_and_two_minutes_where_there_is_none() {
    refused("exp", &other_types());
    refused("exp", &[json!(NOW - SKEW), json!(NOW - 1000), json!((NOW + 60).to_string()), json!(0), json!(1e300)]);
    accepted("exp", &[json!(NOW - SKEW + 1), json!(NOW as f64 + 0.5), json!(NOW * 2)]);
    for (age, fine) in [(0, true), (120 + SKEW - 1, true), (120 + SKEW, false)] {
        let mut claims = without(&["exp"]);
        claims["iat"] = json!(NOW - age);
        assert_eq!(check(&claims).is_ok(), fine, "{age}");
    }
    refused("nbf", &[json!(NOW + SKEW + 1), json!("soon"), json!(null)]);
    accepted("nbf", &[json!(NOW)]);
}

#[test]
fn bl_02_a_replay_is_refused_by_time_from_until_on_and_not_before() {
    for (iat, exp) in [
        (json!(NOW), json!(NOW + 60)),
        (json!(NOW), json!(NOW + 86_400)),
        (json!(NOW as f64 - 0.5), json!(NOW as f64 + 7.25)),
        (json!(NOW - 100), json!(NOW * 2)),
    ] {
        let mut claims = with("iat", iat.clone());
        claims["exp"] = exp.clone();
        let token = signed(&json!({"alg": "ES256", "kid": "e"}), &claims);
        let until = validate(&token, &keys(), &expect()).unwrap().until_ms / 1000;
        for (now, fine) in [(until - 1, true), (until, false)] {
            assert_eq!(validate(&token, &keys(), &Expect { now, ..expect() }).is_ok(), fine, "{iat} {exp} {now}");
        }
        assert!(until <= NOW + 300 + SKEW, "a jti is never kept for longer");
    }
}

#[test]
fn bl_02_ox_05_step_5_sub_or_sid_or_both() {
    assert_eq!(check(&without(&["sub", "sid"])), Err(Fault::Claim("sub and sid are both missing: nobody is meant")));
    for name in ["sub", "sid"] {
        // Of the wrong type is invalid, not absent, even where the other one is good.
        refused(name, &other_types());
        refused(name, &[json!(""), json!(7), json!("x".repeat(256)), json!("a\r\nb"), json!(["alice"])]);
        accepted(name, &[json!("x"), json!("x".repeat(255)), json!("jürgen|7")]);
    }
}

#[test]
fn bl_02_ox_03_step_6_events_says_that_it_is_a_logout() {
    required("events");
    refused("events", &other_types());
    refused(
        "events",
        &[
            json!(EVENT),
            json!([EVENT]),
            json!({"http://schemas.openid.net/event/backchannel-logout/": {}}),
            json!({"http://schemas.openid.net/secevent/risc/event-type/sessions-revoked": {}}),
            json!({EVENT: null}),
            json!({EVENT: true}),
            json!({EVENT: "{}"}),
            json!({EVENT: []}),
        ],
    );
    accepted("events", &[json!({EVENT: {"reason": "admin"}}), json!({EVENT: {}, "urn:other": 1})]);
}

#[test]
fn bl_02_ox_03_step_7_a_nonce_is_refused_whatever_it_is() {
    refused("nonce", &[json!("n"), json!(""), json!(null), json!({})]);
}

#[test]
fn bl_03_step_8_needs_a_jti() {
    required("jti");
    refused("jti", &other_types());
    refused("jti", &[json!(""), json!("x".repeat(257)), json!(7), json!("a\r\nb"), json!(["bWJq"])]);
    accepted("jti", &[json!("x"), json!("x".repeat(256))]);
}

#[test]
fn bl_03_j_10_typ_is_that_of_a_logout_token_where_there_is_one() {
    for (typ, fine) in [
        (json!("logout+jwt"), true),
        (json!("Logout+JWT"), true),
        (json!("application/logout+jwt"), true),
        (json!("JWT"), true),
        (json!("jwt"), true),
        (json!("at+jwt"), false),
        (json!("application/at+jwt"), false),
        (json!("secevent+jwt"), false),
        (json!("dpop+jwt"), false),
        (json!(""), false),
        (json!(null), false),
        (json!(7), false),
    ] {
        let token = signed(&json!({"alg": "ES256", "kid": "e", "typ": typ}), &claims());
        assert_eq!(validate(&token, &keys(), &expect()).is_ok(), fine, "{typ}");
    }
}

#[test]
fn ox_06_j_10_other_tokens_of_the_provider_are_refused() {
    let id = json!({
        "iss": expect().issuer, "aud": "doorward", "sub": "alice", "sid": "08a5019c", "exp": NOW + 120, "iat": NOW,
        "jti": "bWJq", "auth_time": NOW,
    });
    let mut fresh = id.clone();
    fresh["nonce"] = json!("n-0123456789");
    for (typ, claims) in [("JWT", &id), ("JWT", &fresh), ("at+jwt", &id), ("at+jwt", &claims())] {
        let token = signed(&json!({"alg": "ES256", "kid": "e", "typ": typ}), claims);
        let fault = validate(&token, &keys(), &expect()).unwrap_err();
        assert!(
            matches!(fault, Fault::Claim(what) if what.starts_with("events") || what.starts_with("typ")),
            "{fault:?}"
        );
    }
}

#[test]
fn the_issuer_can_be_peeked_at() {
    let token = signed(&json!({"alg": "ES256"}), &claims());
    assert_eq!(peek_issuer(&token).as_deref(), Some(expect().issuer));
    let (message, _) = token.rsplit_once('.').unwrap();
    assert_eq!(peek_issuer(&format!("{message}.forged")).as_deref(), Some(expect().issuer), "nothing is verified");
    for bad in [String::new(), "..".to_owned(), message.to_owned(), format!("{token}.x"), format!("x.{}.x", b64("{}"))]
    {
        assert_eq!(peek_issuer(&bad), None, "{bad}");
    }
    for iss in [json!(7), json!(null), json!([expect().issuer])] {
        assert_eq!(peek_issuer(&signed(&json!({"alg": "ES256"}), &with("iss", iss))), None);
    }
}

#[tokio::test]
async fn bl_02_c_20_a_rotated_key_is_looked_for_once() {
    fn send<T: Send>(future: T) -> T {
        future
    }
    let op = Op::new().await;
    let provider = op.provider(|_| {});
    let token = |kid: &str, change: Value| {
        let now = clock::unix_now();
        let mut claims = json!({
            "iss": op.issuer, "aud": "doorward", "iat": now, "jti": "j", "sub": "alice", "events": {EVENT: {}},
        });
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        signed(&json!({"alg": "ES256", "kid": kid, "typ": "logout+jwt"}), &claims)
    };
    let checked = send(provider.check_logout_token(&token("e", json!({})))).await.unwrap();
    assert_eq!((checked.sub.as_deref(), checked.sid), (Some("alice"), None));
    op.keys(&[Signer::new_ec().jwk("e"), ec().jwk("rotated")]);
    provider.check_logout_token(&token("rotated", json!({}))).await.unwrap();
    for _ in 0..5 {
        let error = provider.check_logout_token(&token("made-up", json!({"sub": "secret"}))).await.unwrap_err();
        assert_eq!(error.kind(), Kind::BadRequest);
        assert!(!format!("{error:?}").contains("secret"), "O-11: {error:?}");
    }
    assert_eq!(op.seen("/jwks").len(), 2, "made-up keys cause no flood");

    // No verdict is not a refusal.
    let provider = op.provider(|_| {});
    op.put("/jwks", Answer::json(500, ""));
    let error = provider.check_logout_token(&token("rotated", json!({}))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::ProviderUnavailable);
}
