use std::collections::BTreeSet;

use jsonwebtoken::Algorithm;

use super::*;
use crate::crypto::jws;
use crate::crypto::testing::set;
use crate::machine::Machine;
use crate::session::headers::Headers;
use crate::session::identity::Identity;

const NOW_MS: u64 = 20_000 * DAY_MS + 5_000;
const OLD: &str = "the old key, thirty-two bytes long..";
const NEW: &str = "the new key, thirty-two bytes long..";

fn signer(keys: &[&str], now_ms: u64) -> Signer {
    reloaded(keys, now_ms, None)
}

fn reloaded(keys: &[&str], now_ms: u64, before: Option<&Signer>) -> Signer {
    let keys: Vec<Secret> = keys.iter().map(|key| Secret::new(*key)).collect();
    Signer::new(&keys, "https://app.example.com", now_ms, before).unwrap()
}

fn kid(token: &str) -> Value {
    let header = jsonwebtoken::decode_header(token).unwrap();
    header.kid.unwrap().into()
}

fn machine(identity: Identity, client: Option<&str>) -> Machine {
    Machine {
        section: "main".into(),
        is_provider: true,
        issuer: "https://id.example.com".into(),
        headers: Headers::of(&identity, &[]),
        identity,
        client: client.map(str::to_owned),
        client_header: None,
        scopes: Vec::new(),
        audience: vec!["api".into()],
        certificate: None,
        expires_ms: u64::MAX,
        token: Secret::new("token"),
    }
}

fn alice() -> Machine {
    let identity = Identity {
        sub: "a-1".into(),
        user: "alice".into(),
        email: Some("alice@example.com".into()),
        groups: vec!["staff".into(), "a,b|c é".into()],
        acr: Some("mfa".into()),
        auth_time: Some(1_700_000_000),
        ..Identity::default()
    };
    machine(identity, None)
}

fn made(signer: &Signer, who: &Machine, audience: &str, now_ms: u64) -> String {
    let assertion = Stamp { signer, audience, now_ms }.assertion(Who::Machine(who)).unwrap();
    assert_eq!(assertion.bearer.to_str().unwrap(), format!("Bearer {}", assertion.plain.to_str().unwrap()));
    assertion.plain.to_str().unwrap().to_owned()
}

/// By the keys that `signer` publishes at that moment.
fn verified(token: &str, signer: &Signer, now_ms: u64) -> Result<jws::Verified, jws::Refusal> {
    let published: Value = serde_json::from_slice(&signer.published(now_ms)).unwrap();
    jws::verify(token, &set(published["keys"].as_array().unwrap()), &[Algorithm::ES256], None)
}

#[test]
fn hx_23_an_assertion_is_for_one_host_and_five_minutes_and_says_who_it_is() {
    let signer = signer(&[NEW], NOW_MS);
    let token = made(&signer, &alice(), "app.example.com", NOW_MS);
    let verified = verified(&token, &signer, NOW_MS).unwrap();
    assert_eq!(verified.header["typ"], "assertion+jwt");
    let mut claims = verified.claims;
    assert_eq!(claims.remove("jti").unwrap().as_str().unwrap().len(), 43);
    let expected = json!({
        "iss": "https://app.example.com",
        "aud": "app.example.com",
        "iat": NOW_MS / 1000,
        "exp": NOW_MS / 1000 + 300,
        "sub": "a-1",
        "sub_type": "user",
        "user": "alice",
        "provider": "main",
        "email": "alice@example.com",
        "email_verified": false,
        "groups": ["staff", "a,b|c é"],
        "acr": "mfa",
        "auth_time": 1_700_000_000,
    });
    assert_eq!(Value::Object(claims), expected);
}

#[test]
fn b_20_j_10_a_service_is_no_user_of_its_name() {
    let signer = signer(&[NEW], NOW_MS);
    let service = machine(Identity { sub: "alice".into(), ..Identity::default() }, Some("alice"));
    let claims = verified(&made(&signer, &service, "h", NOW_MS), &signer, NOW_MS).unwrap().claims;
    assert_eq!((&claims["sub"], &claims["sub_type"]), (&json!("client:alice"), &json!("client")));
    assert_eq!(claims["client_id"], "alice");
    for name in ["user", "email", "groups", "name"] {
        assert!(!claims.contains_key(name), "{name}");
    }
}

#[test]
fn one_is_signed_a_minute_and_host_and_never_for_another_person() {
    let signer = signer(&[NEW], NOW_MS);
    let (alice, bob) = (alice(), machine(Identity { sub: "b".into(), user: "b".into(), ..Identity::default() }, None));
    let first = made(&signer, &alice, "a", NOW_MS);
    assert_eq!(made(&signer, &alice, "a", NOW_MS + REUSE_MS - 1), first);
    assert_ne!(made(&signer, &alice, "b", NOW_MS), first);
    let bobs = verified(&made(&signer, &bob, "a", NOW_MS), &signer, NOW_MS).unwrap();
    assert_eq!(bobs.claims["sub"], "b");
    assert_ne!(made(&signer, &alice, "a", NOW_MS + REUSE_MS), first);
}

#[test]
fn keys_change_at_midnight_and_whoever_keeps_the_set_notices_nothing() {
    let (signer, midnight) = (signer(&[NEW], NOW_MS), 20_001 * DAY_MS);
    let alice = alice();
    let before = made(&signer, &alice, "a", midnight - 1);
    let kept = signer.published(midnight - 1);
    let after = made(&signer, &alice, "a", midnight);
    let keys: Value = serde_json::from_slice(&kept).unwrap();
    let keys = set(keys["keys"].as_array().unwrap());
    assert!(jws::verify(&after, &keys, &[Algorithm::ES256], None).is_ok(), "tomorrow's key was published today");
    assert!(verified(&before, &signer, midnight).is_ok(), "yesterday's still is");
    assert_ne!(kid(&before), kid(&after));
    assert!(verified(&before, &signer, midnight + DAY_MS).is_err(), "two days on it is gone");
}

#[test]
fn every_instance_has_the_same_keys_and_publishes_those_of_every_session_key() {
    let (signer, replica) = (signer(&[NEW, OLD], NOW_MS), signer(&[NEW, OLD], NOW_MS));
    assert_eq!(signer.published(NOW_MS), replica.published(NOW_MS));
    let token = made(&signer, &alice(), "a", NOW_MS);
    assert!(verified(&token, &replica, NOW_MS).is_ok());
    let published: Value = serde_json::from_slice(&signer.published(NOW_MS)).unwrap();
    let keys = published["keys"].as_array().unwrap();
    let kids: BTreeSet<&str> = keys.iter().map(|key| key["kid"].as_str().unwrap()).collect();
    assert_eq!((keys.len(), kids.len()), (6, 6), "three days of each");
    for key in keys {
        let members: BTreeSet<&str> = key.as_object().unwrap().keys().map(String::as_str).collect();
        assert!(["alg", "crv", "kid", "kty", "use", "x", "y"].iter().all(|m| members.contains(m)), "{members:?}");
        assert!(!members.contains("d"));
    }
}

#[test]
fn a_session_key_that_a_reload_brings_signs_when_it_has_been_published_for_an_hour() {
    let noon = NOW_MS + DAY_MS / 2;
    let before = signer(&[OLD], NOW_MS);
    let during = reloaded(&[NEW, OLD], noon, Some(&before));
    let (old, new) = (made(&before, &alice(), "a", noon), made(&signer(&[NEW], noon), &alice(), "a", noon));
    assert!(verified(&new, &during, noon).is_ok(), "published at once");
    for (at, signs) in [(noon, &old), (noon + KEPT_MS - 1, &old), (noon + KEPT_MS, &new), (noon + KEPT_MS + 1, &new)] {
        assert_eq!(kid(&made(&during, &alice(), "a", at)), kid(signs), "{}", at - noon);
    }
    // Another reload does not begin the hour anew; without the old key there is no choice.
    let again = reloaded(&[NEW, OLD], noon + KEPT_MS, Some(&during));
    assert_eq!(kid(&made(&again, &alice(), "a", noon + KEPT_MS)), kid(&new));
    let at_once = reloaded(&[NEW], noon + 1, Some(&during));
    assert_eq!(kid(&made(&at_once, &alice(), "a", noon + 1)), kid(&new));
    assert!(verified(&old, &at_once, noon + 1).is_err(), "a key that is gone verifies nothing");
    // Appended first, as several instances do it, it was known for long when it comes to the front.
    let appended = reloaded(&[OLD, NEW], noon, Some(&before));
    let moved = reloaded(&[NEW, OLD], noon + KEPT_MS, Some(&appended));
    assert_eq!(kid(&made(&appended, &alice(), "a", noon + KEPT_MS)), kid(&old));
    assert_eq!(kid(&made(&moved, &alice(), "a", noon + KEPT_MS)), kid(&new));
}
