use serde_json::{Value, json};

use super::*;
use crate::provider::testing::{Answer, Op};

fn request() -> TokenRequest {
    TokenRequest {
        provider: 0,
        scopes: vec!["read".into(), "write".into()],
        audience: Some("api".into()),
        resource: Some("https://api.example.com".into()),
    }
}

fn grant(op: &Op, token: &str, changes: Value) {
    let mut body = json!({
        "access_token": token, "token_type": "Bearer", "expires_in": 300, "issued_token_type": ACCESS_TOKEN,
    });
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    op.put("/token", Answer::json(200, body));
}

fn refuse(op: &Op, status: u16, code: &str) {
    op.put("/token", Answer::json(status, json!({ "error": code, "error_description": "s3cret" })));
}

#[tokio::test]
async fn tx_01_client_credentials_are_asked_for_once_and_as_configured() {
    let op = Op::new().await;
    grant(&op, "own-1", json!({}));
    let token = Arc::new(OwnToken::new(&op.provider(|_| {}), &request()));
    assert!(token.ready(clock::unix_now_ms()).is_none());
    let asked: Vec<_> = (0..50)
        .map(|_| {
            let token = Arc::clone(&token);
            tokio::spawn(async move { token.get().await.unwrap() })
        })
        .collect();
    for one in asked {
        assert_eq!(one.await.unwrap(), "Bearer own-1");
    }
    let seen = op.seen("/token");
    assert_eq!(seen.len(), 1);
    let expected = [
        ("grant_type", "client_credentials"),
        ("scope", "read write"),
        ("audience", "api"),
        ("resource", "https://api.example.com"),
    ];
    assert_eq!(seen[0].form, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    assert!(seen[0].headers.contains_key("authorization"), "the client says who it is");
    assert_eq!(token.ready(clock::unix_now_ms()).unwrap(), "Bearer own-1");
}

#[tokio::test]
async fn a_token_is_not_used_in_the_last_of_its_life() {
    let op = Op::new().await;
    for (expires_in, good_ms) in [
        (json!(300), 300_000 - SPARE_MS),
        (json!(40), 20_000),
        (json!(0), UNSAID_MS),
        (Value::Null, UNSAID_MS),
        (json!("60"), 30_000),
    ] {
        grant(&op, "own", json!({ "expires_in": expires_in }));
        let token = OwnToken::new(&op.provider(|_| {}), &request());
        let before = clock::unix_now_ms();
        token.get().await.unwrap();
        let until_ms = token.slot.held.load_full().unwrap().until_ms;
        let after = clock::unix_now_ms();
        assert!((before + good_ms..=after + good_ms).contains(&until_ms), "{expires_in}");
        assert!(token.ready(until_ms).is_none());
    }
}

#[tokio::test]
async fn after_a_failure_there_is_a_pause_and_no_earlier_token() {
    let op = Op::new().await;
    refuse(&op, 401, "invalid_client");
    let token = OwnToken::new(&op.provider(|_| {}), &request());
    for _ in 0..20 {
        let error = token.get().await.unwrap_err();
        assert_eq!((error.kind(), error.oauth_code()), (Kind::ProviderRefused, Some("invalid_client")));
        assert!(!error.to_string().contains("s3cret"));
    }
    assert_eq!(op.seen("/token").len(), 1);
    op.put("/token", Answer::json(503, ""));
    let token = OwnToken::new(&op.provider(|_| {}), &request());
    assert_eq!(token.get().await.unwrap_err().kind(), Kind::ProviderUnavailable);
}

#[tokio::test]
async fn a_client_that_leaves_cancels_nothing() {
    let op = Op::new().await;
    grant(&op, "own-1", json!({}));
    let token = Arc::new(OwnToken::new(&op.provider(|_| {}), &request()));
    let asks = Arc::clone(&token);
    let leaves = tokio::spawn(async move { asks.get().await });
    tokio::task::yield_now().await;
    leaves.abort();
    assert_eq!(token.get().await.unwrap(), "Bearer own-1");
    assert!(op.seen("/token").len() <= 1);
}

#[tokio::test]
async fn tx_01_an_exchange_says_what_it_has_and_what_it_wants() {
    let op = Op::new().await;
    grant(&op, "for-alice", json!({}));
    let exchanges = Exchanges::new(&op.provider(|_| {}), &request());
    let alice = Secret::new("alices-token");
    assert_eq!(exchanges.get(&alice).await.unwrap(), "Bearer for-alice");
    let seen = op.seen("/token").remove(0);
    for (name, value) in [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", "alices-token"),
        ("subject_token_type", ACCESS_TOKEN),
        ("requested_token_type", ACCESS_TOKEN),
        ("scope", "read write"),
        ("audience", "api"),
        ("resource", "https://api.example.com"),
    ] {
        assert_eq!(seen.form.get(name).map(String::as_str), Some(value), "{name}");
    }
}

#[tokio::test]
async fn bx_06_tx_01_nobody_ever_gets_a_token_that_was_made_of_anothers() {
    let op = Op::new().await;
    let exchanges = Arc::new(Exchanges::new(&op.provider(|_| {}), &request()));
    for name in ["alice", "bob"] {
        grant(&op, &format!("for-{name}"), json!({}));
        exchanges.get(&Secret::new(format!("{name}s-token"))).await.unwrap();
    }
    // What would come now is neither's.
    grant(&op, "for-nobody", json!({}));
    for _ in 0..20 {
        for name in ["alice", "bob"] {
            let subject = Secret::new(format!("{name}s-token"));
            let expected = format!("Bearer for-{name}");
            assert_eq!(exchanges.ready(&subject, clock::unix_now_ms()).unwrap(), expected.as_str());
            assert_eq!(exchanges.get(&subject).await.unwrap(), expected.as_str());
        }
    }
    assert_eq!(op.seen("/token").len(), 2);
    // Another request of the same person is another token.
    let other = Exchanges::new(&op.provider(|_| {}), &TokenRequest { audience: Some("other".into()), ..request() });
    assert_eq!(other.get(&Secret::new("alices-token")).await.unwrap(), "Bearer for-nobody");
    assert!(!exchanges.is_same(&other));
}

#[tokio::test]
async fn tx_01_what_is_no_access_token_is_not_presented() {
    let op = Op::new().await;
    for changes in [
        json!({ "issued_token_type": null }),
        json!({ "issued_token_type": "urn:ietf:params:oauth:token-type:refresh_token" }),
        json!({ "issued_token_type": "urn:ietf:params:oauth:token-type:id_token" }),
        json!({ "token_type": "N_A" }),
        json!({ "access_token": "a\r\nb" }),
        json!({ "access_token": "a".repeat(MAX_TOKEN + 1) }),
        json!({ "access_token": null }),
    ] {
        grant(&op, "x", changes.clone());
        let exchanges = Exchanges::new(&op.provider(|_| {}), &request());
        let error = exchanges.get(&Secret::new("subject")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::ProviderAnswer, "{changes}");
        assert!(exchanges.ready(&Secret::new("subject"), clock::unix_now_ms()).is_none());
    }
    grant(&op, "x", json!({ "issued_token_type": JWT }));
    assert!(Exchanges::new(&op.provider(|_| {}), &request()).get(&Secret::new("subject")).await.is_ok());
}
