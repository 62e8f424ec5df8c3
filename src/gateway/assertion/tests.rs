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
    let keys: Vec<Secret> = keys.iter().map(|key| Secret::new(*key)).collect();
    Signer::new(&keys, "https://app.example.com", now_ms).unwrap()
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
    let kid = |token: &str| verified(token, &signer, midnight).unwrap().header["kid"].clone();
    assert_ne!(kid(&before), kid(&after));
    assert!(verified(&before, &signer, midnight + DAY_MS).is_err(), "two days on it is gone");
}

#[test]
fn every_instance_has_the_same_keys_and_a_key_signs_only_after_it_was_published() {
    let steps = [signer(&[OLD], NOW_MS), signer(&[NEW, OLD], NOW_MS), signer(&[NEW], NOW_MS)];
    assert_eq!(steps[1].published(NOW_MS), signer(&[NEW, OLD], NOW_MS).published(NOW_MS));
    let tokens = steps.each_ref().map(|step| made(step, &alice(), "a", NOW_MS));
    // Whoever has fetched the set at one step knows what is signed at the next, and at the one before.
    for (published, signed) in [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 2)] {
        assert!(verified(&tokens[signed], &steps[published], NOW_MS).is_ok(), "{published} {signed}");
    }
    assert!(verified(&tokens[1], &steps[2], NOW_MS).is_err(), "a key that is gone signs for nobody");
    let published: Value = serde_json::from_slice(&steps[1].published(NOW_MS)).unwrap();
    let keys = published["keys"].as_array().unwrap();
    let kids: BTreeSet<&str> = keys.iter().map(|key| key["kid"].as_str().unwrap()).collect();
    assert_eq!((keys.len(), kids.len()), (6, 6), "three days of each session key");
    for key in keys {
        let members: BTreeSet<&str> = key.as_object().unwrap().keys().map(String::as_str).collect();
        assert!(["alg", "crv", "kid", "kty", "use", "x", "y"].iter().all(|m| members.contains(m)), "{members:?}");
        assert!(!members.contains("d"));
    }
}
