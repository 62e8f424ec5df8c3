//! Who the client is: assertions, certificates, and what is sent of them where.

use serde_json::{Map, Value};

use super::*;
use crate::clock;
use crate::config::settings::ClientKey;
use crate::crypto::testing::{pem, rsa, set};
use crate::provider::testing::Seen;

const SECRET: &str = "a-client-secret-of-32-characters";

fn key(signer: &Signer, alg: Option<&str>) -> ClientKey {
    let pem = Secret::new(pem("PRIVATE KEY", &signer.pkcs8()));
    ClientKey { pem, alg: alg.map(str::to_owned), kid: Some("2026".to_owned()) }
}

/// What the assertion of a request says, once its signature and all that RFC 7523 wants of it was checked (PK-01).
fn assertion(seen: &Seen, issuer: &str, alg: Algorithm, keys: &[Value]) -> Map<String, Value> {
    assert_eq!(seen.form["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    assert_eq!(seen.form["client_id"], "doorward");
    assert!(!seen.form.contains_key("client_secret") && !seen.headers.contains_key("authorization"));
    let secret = Secret::new(SECRET);
    let verified = jws::verify(&seen.form["client_assertion"], &set(keys), &[alg], Some(&secret)).unwrap();
    assert_eq!(verified.header.get("kid").is_some(), !keys.is_empty());
    let claims = verified.claims;
    assert_eq!((claims["iss"].as_str(), claims["sub"].as_str()), (Some("doorward"), Some("doorward")));
    assert_eq!(claims["aud"], issuer, "the issuer alone, as a string");
    let (iat, exp) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
    assert!(iat <= clock::unix_now() && exp <= clock::unix_now() + 60 && exp > iat);
    assert!(claims["jti"].as_str().unwrap().len() >= 22);
    claims
}

/// Signs in by PAR, refreshes, revokes and asks; what came to each of those endpoints.
pub(super) async fn everything(op: &Arc<Op>, provider: &Arc<Provider>) -> Vec<Seen> {
    op.put("/par", Answer::json(201, json!({"request_uri": "urn:x:1", "expires_in": 60})));
    op.put("/revoke", Answer::json(200, ""));
    op.put("/introspect", Answer::json(200, json!({"active": true})));
    provider.authorization_url(&request()).await.unwrap();
    op.tokens(json!({}));
    provider.redeem(redeem()).await.unwrap();
    op.tokens(json!({"nonce": null}));
    provider.refresh(Secret::new("rt"), "alice").await.unwrap();
    provider.call_token(&[("grant_type", "client_credentials")]).await.unwrap();
    let before = op.seen("/revoke").len();
    provider.revoke(Some(Secret::new("rt")), None);
    while op.seen("/revoke").len() == before {
        tokio::task::yield_now().await;
    }
    let introspection = provider.metadata().await.unwrap().introspection_endpoint.clone().unwrap();
    let answer = provider.post_authenticated("introspection", &introspection, &[("token", "t")]).await.unwrap();
    assert_eq!(answer.status(), 200);
    ["/par", "/token", "/revoke", "/introspect"].iter().flat_map(|path| op.seen(path)).collect()
}

fn endpoints(op: &Op) -> Value {
    json!({
        "pushed_authorization_request_endpoint": format!("{}/par", op.issuer),
        "introspection_endpoint": format!("{}/introspect", op.issuer),
    })
}

#[tokio::test]
async fn b_11_pk_01_f_02_every_request_carries_an_assertion_of_its_own() {
    for (auth, alg) in [
        (ClientAuth::PrivateKeyJwt, Algorithm::PS256),
        (ClientAuth::Auto, Algorithm::ES256),
        (ClientAuth::ClientSecretJwt, Algorithm::HS256),
    ] {
        let op = Op::new().await;
        op.discovery(endpoints(&op));
        let signer = if alg == Algorithm::PS256 { rsa() } else { ec() };
        let provider = op.provider(|settings| {
            settings.client_auth = auth;
            settings.client_secret = (auth == ClientAuth::ClientSecretJwt).then(|| Secret::new(SECRET));
            let name = format!("{alg:?}");
            settings.client_key = (auth != ClientAuth::ClientSecretJwt).then(|| key(signer, Some(&name)));
        });
        let keys = if auth == ClientAuth::ClientSecretJwt { vec![] } else { vec![signer.jwk("2026")] };
        let seen = everything(&op, &provider).await;
        assert_eq!(seen.len(), 6);
        let mut ids: Vec<_> = seen
            .iter()
            .map(|seen| assertion(seen, &op.issuer, alg, &keys)["jti"].as_str().unwrap().to_owned())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 6, "none is used twice");
    }
}

#[tokio::test]
async fn pk_01_an_endpoint_out_of_metadata_is_no_audience() {
    let op = Op::new().await;
    op.discovery(json!({"token_endpoint": format!("{}/token?aud=https://other.example", op.issuer)}));
    op.tokens(json!({}));
    let provider = op.provider(|settings| {
        settings.client_auth = ClientAuth::PrivateKeyJwt;
        settings.client_key = Some(key(ec(), None));
    });
    provider.redeem(redeem()).await.unwrap();
    assertion(&op.seen("/token")[0], &op.issuer, Algorithm::ES256, &[ec().jwk("2026")]);
}

#[tokio::test]
async fn f_10_what_a_client_auth_needs_must_be_there_and_strong() {
    let op = Op::new().await;
    let refused = |change: &dyn Fn(&mut settings::Provider)| {
        let mut settings = op.settings();
        change(&mut settings);
        let error = Provider::check(&settings).expect_err("settings that cannot work");
        assert!(!error.to_string().contains("secret-"), "{error}");
        assert!(Provider::new(&settings, &[], None, Handle::current(), Arc::new(|_, _| {})).is_err());
    };
    for auth in [ClientAuth::Basic, ClientAuth::Post, ClientAuth::ClientSecretJwt] {
        refused(&|s| (s.client_auth, s.client_secret) = (auth, None));
    }
    refused(&|s| (s.client_auth, s.client_secret) = (ClientAuth::ClientSecretJwt, Some(Secret::new("secret-short"))));
    refused(&|s| s.client_auth = ClientAuth::PrivateKeyJwt);
    refused(&|s| s.client_auth = ClientAuth::TlsClientAuth);
    refused(&|s| (s.client_auth, s.client_key) = (ClientAuth::PrivateKeyJwt, Some(key(ec(), Some("RS256")))));
    let mut settings = op.settings();
    settings.dpop = true;
    let without_key = Provider::new(&settings, &[], None, Handle::current(), Arc::new(|_, _| {}));
    assert!(without_key.is_err(), "DP-03: no proof is no silent downgrade");
}
