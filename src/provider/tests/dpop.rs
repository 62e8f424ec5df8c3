//! Proof of possession: what a proof says, when it is said again, and which tokens count.

use serde_json::{Map, Value};

use super::*;
use crate::clock;
use crate::config::settings::ClientKey;
use crate::crypto::sign::SigningKey;
use crate::crypto::testing::{b64, pem, set};
use crate::provider::testing::Seen;

/// What a proof says, once it was verified with the key that it brings.
fn proof(seen: &Seen, op: &Op, method: &str, path: &str) -> Map<String, Value> {
    let all: Vec<_> = seen.headers.get_all("dpop").iter().collect();
    assert_eq!(all.len(), 1);
    let token = all[0].to_str().unwrap();
    let header: Value = serde_json::from_slice(&unb64(token.split('.').next().unwrap())).unwrap();
    assert_eq!((header["typ"].as_str(), header["alg"].as_str()), (Some("dpop+jwt"), Some("ES256")));
    let mut members: Vec<_> = header["jwk"].as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(members, ["crv", "kty", "x", "y"], "the public key and nothing else");
    let claims = jws::verify(token, &set(&[header["jwk"].clone()]), &[Algorithm::ES256], None).unwrap().claims;
    assert_eq!(
        (claims["htm"].as_str(), claims["htu"].as_str()),
        (Some(method), Some(format!("{}{path}", op.issuer).as_str()))
    );
    assert!(claims["iat"].as_u64().unwrap().abs_diff(clock::unix_now()) <= 60);
    assert!(claims["jti"].as_str().unwrap().len() >= 22);
    claims
}

fn unb64(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap()
}

fn bound(op: &Op, changes: Value) -> Answer {
    let mut body = json!({
        "access_token": "at-secret", "token_type": "DPoP", "expires_in": 300, "refresh_token": "rt-secret",
        "id_token": op.id_token("e", json!({})),
    });
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    Answer::json(200, body)
}

fn with(mut answer: Answer, name: &'static str, value: &str) -> Answer {
    answer.headers.push((name, value.to_owned()));
    answer
}

fn wants_nonce(nonce: &str) -> Answer {
    with(Answer::json(400, json!({"error": "use_dpop_nonce"})), "dpop-nonce", nonce)
}

#[tokio::test]
async fn b_17_dp_01_every_request_for_a_token_and_every_use_has_a_proof() {
    let op = Op::new().await;
    // Without query and fragment.
    op.discovery(json!({"token_endpoint": format!("{}/token?tenant=1", op.issuer)}));
    op.put("/token", bound(&op, json!({"token_type": "dPoP"})));
    op.put("/userinfo", Answer::json(200, json!({"sub": "alice", "groups": ["staff"]})));
    let provider = op.provider(|settings| settings.dpop = true);
    let grant = provider.redeem(redeem()).await.unwrap();
    assert_eq!(grant.claims["groups"], json!(["staff"]));
    op.put("/token", bound(&op, json!({"id_token": null})));
    provider.refresh(Secret::new("rt"), "alice").await.unwrap();
    provider.call_token(&[("grant_type", "client_credentials")]).await.unwrap();

    let mut ids = Vec::new();
    for seen in op.seen("/token") {
        let claims = proof(&seen, &op, "POST", "/token");
        assert!(!claims.contains_key("ath") && !claims.contains_key("nonce"));
        ids.push(claims["jti"].clone());
    }
    let asked = &op.seen("/userinfo")[0];
    assert_eq!(asked.headers["authorization"], "DPoP at-secret");
    let claims = proof(asked, &op, "GET", "/userinfo");
    assert_eq!(claims["ath"], b64(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"at-secret")));
    ids.push(claims["jti"].clone());
    ids.sort_unstable_by_key(Value::to_string);
    ids.dedup();
    assert_eq!(ids.len(), 4, "each proof is for one request");
}

#[tokio::test]
async fn dp_01_the_code_is_bound_to_the_key_too() {
    let op = Op::new().await;
    let url = op.provider(|settings| settings.dpop = true).authorization_url(&request()).await.unwrap();
    let thumbprint = SigningKey::es256(&[7; 32]).unwrap().kid().to_owned();
    assert!(query(&url).contains(&("dpop_jkt".to_owned(), thumbprint.clone())));

    op.discovery(json!({"pushed_authorization_request_endpoint": format!("{}/par", op.issuer)}));
    op.put("/par", Answer::json(201, json!({"request_uri": "urn:x:1"})));
    let url = op.provider(|settings| settings.dpop = true).authorization_url(&request()).await.unwrap();
    assert!(!url.contains("dpop_jkt"), "PAR-01");
    assert_eq!(op.seen("/par")[0].form["dpop_jkt"], thumbprint);
    let url = op.provider(|settings| settings.par = Par::Off).authorization_url(&request()).await.unwrap();
    assert!(!url.contains("dpop_jkt"));
}

#[tokio::test]
async fn dp_02_f_06_a_nonce_that_is_asked_for_is_sent_once_with_a_new_assertion() {
    let op = Op::new().await;
    let provider = op.provider(|settings| {
        settings.dpop = true;
        settings.client_auth = ClientAuth::PrivateKeyJwt;
        let pem = Secret::new(pem("PRIVATE KEY", &ec().pkcs8()));
        settings.client_key = Some(ClientKey { pem, alg: None, kid: None });
    });
    op.put_all(
        "/token",
        [wants_nonce("n1"), with(bound(&op, json!({})), "dpop-nonce", "n2"), bound(&op, json!({"id_token": null}))],
    );
    let challenge = with(Answer::json(401, ""), "www-authenticate", "DPoP error=\"use_dpop_nonce\", algs=\"ES256\"");
    let person = Answer::json(200, json!({"sub": "alice", "groups": ["staff"]}));
    op.put_all("/userinfo", [with(challenge, "dpop-nonce", "n3"), person]);
    let grant = provider.redeem(redeem()).await.unwrap();
    assert_eq!(grant.claims["groups"], json!(["staff"]));
    provider.refresh(Secret::new("rt"), "alice").await.unwrap();

    let tokens = op.seen("/token");
    assert_eq!(tokens.len(), 3);
    let proofs: Vec<_> = tokens.iter().map(|seen| proof(seen, &op, "POST", "/token")).collect();
    assert_eq!(proofs[0].get("nonce"), None);
    assert_eq!(proofs[1]["nonce"], "n1");
    assert_ne!(proofs[0]["jti"], proofs[1]["jti"]);
    assert_ne!(tokens[0].form["client_assertion"], tokens[1].form["client_assertion"], "never sent twice");
    assert_eq!(tokens[0].form["code"], tokens[1].form["code"]);
    let asked: Vec<_> = op.seen("/userinfo").iter().map(|seen| proof(seen, &op, "GET", "/userinfo")).collect();
    assert_eq!((&asked[0]["nonce"], &asked[1]["nonce"]), (&json!("n2"), &json!("n3")), "a good answer's nonce counts");
    assert_eq!(proofs[2]["nonce"], "n3", "the latest of this server");
}

#[tokio::test]
async fn dp_02_there_is_no_third_try_and_no_try_without_a_nonce() {
    let op = Op::new().await;
    let provider = op.provider(|settings| settings.dpop = true);
    let long = "n".repeat(1025);
    for (answer, calls) in [
        (wants_nonce("n1"), 2),
        (wants_nonce("a b"), 1),
        (wants_nonce("a\"b"), 1),
        (wants_nonce(&long), 1),
        (Answer::json(400, json!({"error": "use_dpop_nonce"})), 1),
        (with(Answer::json(400, json!({"error": "invalid_dpop_proof"})), "dpop-nonce", "n1"), 1),
        (with(Answer::json(403, json!({"error": "use_dpop_nonce"})), "dpop-nonce", "n1"), 1),
    ] {
        let before = op.seen("/token").len();
        op.put("/token", answer);
        let error = provider.redeem(redeem()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::ProviderRefused);
        assert_eq!(op.seen("/token").len() - before, calls);
    }
    let plain = op.provider(|_| {});
    op.put("/token", wants_nonce("n1"));
    let before = op.seen("/token").len();
    assert_eq!(plain.redeem(redeem()).await.unwrap_err().oauth_code(), Some("use_dpop_nonce"));
    assert_eq!(op.seen("/token").len() - before, 1);
}

#[tokio::test]
async fn dp_03_o_04_the_type_of_the_token_is_the_one_that_was_asked_for() {
    let op = Op::new().await;
    let (bound_only, bearer_only) = (op.provider(|settings| settings.dpop = true), op.provider(|_| {}));
    for (token_type, is_bound, is_bearer) in [
        (json!("DPoP"), true, false),
        (json!("dpop"), true, false),
        (json!("Bearer"), false, true),
        (json!(""), false, false),
        (json!(null), false, false),
        (json!(7), false, false),
        (json!("N_A"), false, false),
    ] {
        op.put("/token", bound(&op, json!({"token_type": token_type})));
        assert_eq!(bound_only.redeem(redeem()).await.is_ok(), is_bound, "{token_type}");
        assert_eq!(bound_only.refresh(Secret::new("rt"), "alice").await.is_ok(), is_bound, "{token_type}");
        assert_eq!(bearer_only.redeem(redeem()).await.is_ok(), is_bearer, "{token_type}");
    }
    let mut missing: Value = serde_json::from_slice(&bound(&op, json!({})).body).unwrap();
    missing.as_object_mut().unwrap().remove("token_type");
    op.put("/token", Answer::json(200, missing));
    assert!(bound_only.redeem(redeem()).await.is_err(), "no silent downgrade");
    assert!(bearer_only.redeem(redeem()).await.is_ok());
    for seen in op.seen("/userinfo") {
        let scheme = if seen.headers.contains_key("dpop") { "DPoP at-secret" } else { "Bearer at-secret" };
        assert_eq!(seen.headers["authorization"], scheme);
    }
}

#[test]
fn the_key_is_the_same_wherever_the_session_key_is() {
    let settings =
        |name: &str, dpop| settings::Provider { name: name.into(), dpop, ..Op::settings_at("https://id.example") };
    let keys = [Secret::new("first-first-first-first-first-first"), Secret::new("second-second-second-second-second")];
    let id = |provider: &settings::Provider, keys: &[Secret]| dpop_key(provider, keys).map(|key| key.kid().to_owned());
    let main = settings("main", true);
    assert_eq!(id(&main, &keys), id(&main, &keys[..1]), "the first key counts");
    assert_ne!(id(&main, &keys), id(&main, &keys[1..]));
    assert_ne!(id(&main, &keys), id(&settings("other", true), &keys));
    assert!(id(&main, &keys).is_some());
    assert_eq!(id(&settings("main", false), &keys), None);
    assert_eq!(id(&main, &[]), None);
}
