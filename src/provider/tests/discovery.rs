//! Metadata and keys: what is taken, what is refused, and how often it is asked for.

use super::*;

#[tokio::test]
async fn b_12_d_01_the_document_is_below_the_issuer() {
    for issuer in ["", "/", "/realms/main", "/realms/main/"] {
        let op = Op::new().await;
        let path = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let full = format!("{}{issuer}", op.issuer);
        let document = json!({
            "issuer": full, "authorization_endpoint": "https://id.example/a", "token_endpoint": "https://id.example/t",
            "jwks_uri": "https://id.example/j",
        });
        op.put(&path, Answer::json(200, document));
        let provider = op.provider(|settings| settings.issuer = full);
        let metadata = provider.metadata().await.unwrap();
        assert_eq!(metadata.id_token_algs, ["RS256"]);
        assert_eq!(op.seen(&path).len(), 1);
    }
}

#[tokio::test]
async fn d_02_the_issuer_must_be_ours() {
    let op = Op::new().await;
    for bad in
        [json!(format!("{}/", op.issuer)), json!("https://id.example"), json!(null), json!([op.issuer]), json!(7)]
    {
        op.discovery(json!({ "issuer": bad }));
        let provider = op.provider(|_| {});
        assert_eq!(provider.metadata().await.unwrap_err().kind(), Kind::ProviderUnavailable, "{bad}");
        assert!(provider.authorization_url(&request()).await.is_err());
        assert!(!provider.is_ready());
    }
}

#[tokio::test]
async fn d_04_endpoints_are_absolute_and_confidential() {
    let op = Op::new().await;
    let bads = [
        "http://id.example/x",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "/token",
        "//id.example",
        "",
        "https://u:p@h/",
    ];
    for name in ["authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint", "end_session_endpoint"] {
        for bad in bads.map(|bad| json!(bad)).into_iter().chain([json!(7), json!(["https://id.example"])]) {
            op.discovery(json!({ name: bad }));
            let error = op.provider(|_| {}).metadata().await.unwrap_err();
            assert_eq!(error.kind(), Kind::ProviderUnavailable, "{name} {bad}");
        }
    }
    for name in ["authorization_endpoint", "token_endpoint", "jwks_uri"] {
        op.discovery(json!({ name: null }));
        assert!(op.provider(|_| {}).metadata().await.is_err(), "{name} is required");
    }
    op.discovery(json!({"userinfo_endpoint": null, "revocation_endpoint": null}));
    assert!(op.provider(|_| {}).metadata().await.unwrap().userinfo_endpoint.is_none());
    op.discovery(json!({"token_endpoint": "http://id.example/x"}));
    assert!(op.provider(|settings| settings.insecure = true).metadata().await.is_ok());
}

#[tokio::test]
async fn d_05_answers_are_bounded_and_redirects_are_not_followed() {
    let op = Op::new().await;
    let elsewhere = Op::new().await;
    let redirect =
        Answer { headers: vec![("location", format!("{}/jwks", elsewhere.issuer))], ..Answer::json(302, "") };
    let huge = Answer::json(200, " ".repeat(2 * 1024 * 1024));
    let nested = Answer::json(200, "[".repeat(1_000_000));
    let twice = Answer::json(200, format!(r#"{{"issuer":"x","issuer":"{}"}}"#, op.issuer));
    let hangs = Answer { hangs: true, ..Answer::json(200, "") };
    for (answer, kind) in [
        (redirect, Kind::ProviderUnavailable),
        (huge, Kind::ProviderUnavailable),
        (nested, Kind::ProviderUnavailable),
        (twice, Kind::ProviderUnavailable),
        (Answer::json(200, "<html></html>"), Kind::ProviderUnavailable),
        (Answer::json(200, "[]"), Kind::ProviderUnavailable),
        (Answer::json(204, ""), Kind::ProviderUnavailable),
        (Answer::json(404, "{}"), Kind::ProviderUnavailable),
        (Answer::json(500, "{}"), Kind::ProviderUnavailable),
        (Answer::json(429, "{}"), Kind::ProviderUnavailable),
        (hangs, Kind::ProviderUnavailable),
    ] {
        op.put("/.well-known/openid-configuration", answer.clone());
        let provider = op.provider(|settings| settings.timeout = Duration::from_millis(200));
        assert_eq!(provider.metadata().await.unwrap_err().kind(), kind, "{}", answer.status);
    }
    assert!(elsewhere.seen("/jwks").is_empty());
}

#[tokio::test]
async fn d_06_a_failure_is_not_asked_again_at_once_and_start_recovers() {
    let op = Op::new().await;
    op.put("/.well-known/openid-configuration", Answer::json(503, ""));
    let provider = op.provider(|_| {});
    for _ in 0..20 {
        assert_eq!(provider.metadata().await.unwrap_err().kind(), Kind::ProviderUnavailable);
    }
    assert_eq!(op.seen("/.well-known/openid-configuration").len(), 1);
    assert!(!provider.is_ready());

    op.discovery(json!({}));
    provider.start();
    while !provider.is_ready() {
        tokio::task::yield_now().await;
    }
    assert_eq!(op.seen("/jwks").len(), 1);
    op.put("/.well-known/openid-configuration", Answer::json(500, ""));
    op.put("/jwks", Answer::json(200, "<html>"));
    assert!(provider.load().await.is_err());
    assert!(provider.is_ready() && provider.metadata().await.is_ok(), "the old copies stay");
}

#[tokio::test]
async fn d_08_made_up_kids_cause_one_fetch() {
    let op = Op::new().await;
    op.put("/token", Answer::json(200, json!({"access_token": "a", "id_token": op.id_token("made-up", json!({}))})));
    let provider = op.provider(|_| {});
    let many: Vec<_> = (0..40)
        .map(|_| {
            let provider = provider.clone();
            tokio::spawn(async move { provider.redeem(redeem()).await.unwrap_err().kind() })
        })
        .collect();
    for one in many {
        assert_eq!(one.await.unwrap(), Kind::IdToken);
    }
    assert_eq!(op.seen("/jwks").len(), 2, "the first load and one more");
}

#[tokio::test]
async fn c_20_a_rotated_key_is_found_and_missing_keys_are_no_verdict() {
    let op = Op::new().await;
    let provider = op.provider(|_| {});
    op.tokens(json!({}));
    provider.redeem(redeem()).await.unwrap();
    op.keys(&[Signer::new_ec().jwk("e"), ec().jwk("rotated")]);
    op.put("/token", Answer::json(200, json!({"access_token": "a", "id_token": op.id_token("rotated", json!({}))})));
    provider.redeem(redeem()).await.unwrap();
    assert_eq!(op.seen("/jwks").len(), 2);

    let provider = op.provider(|_| {});
    provider.load().await.unwrap();
    op.put("/jwks", Answer::json(500, ""));
    op.put("/token", Answer::json(200, json!({"access_token": "a", "id_token": op.id_token("newer", json!({}))})));
    assert_eq!(kind_of_redeem(&provider).await, Kind::KeysUnavailable);
    assert_eq!(kind_of_redeem(&provider).await, Kind::KeysUnavailable, "during the cool-down as well");
    op.put("/token", Answer::json(200, json!({"access_token": "a", "id_token": op.id_token("rotated", json!({}))})));
    provider.redeem(redeem()).await.unwrap();
}
