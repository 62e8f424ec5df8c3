//! The authorization request, pushed or not, and whose its answer is.

use super::*;

#[tokio::test]
async fn c_01_p_01_the_authorization_request_is_complete() {
    let op = Op::new().await;
    let provider = op.provider(|settings| {
        let extra = [("prompt", "login"), ("scope", "admin"), ("redirect_uri", "https://x"), ("acr_values", "weak")];
        settings.extra_params = extra.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    });
    let acr = ["urn:mfa".to_owned(), "urn:hw".to_owned()];
    let request = AuthorizationRequest { acr_values: &acr, max_age: Some(900), ..request() };
    let url = provider.authorization_url(&request).await.unwrap();
    assert!(url.starts_with(&format!("{}/authorize?tenant=1&", op.issuer)), "{url}");
    let want = [
        ("tenant", "1"),
        ("response_type", "code"),
        ("client_id", "doorward"),
        ("redirect_uri", "https://app.example.com/oauth2/callback"),
        ("scope", "openid email"),
        ("state", "state"),
        ("nonce", "nonce"),
        ("code_challenge", "challenge"),
        ("code_challenge_method", "S256"),
        ("acr_values", "urn:mfa urn:hw"),
        ("max_age", "900"),
        ("prompt", "login"),
    ];
    assert_eq!(query(&url), want.map(|(name, value)| (name.to_owned(), value.to_owned())), "L-23");
    // RFC 7636, appendix B.
    assert_eq!(
        pkce_challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    );
}

#[tokio::test]
async fn par_01_par_03_a_pushed_request_leaves_two_parameters() {
    let op = Op::new().await;
    let endpoint = format!("{}/par", op.issuer);
    op.discovery(
        json!({"pushed_authorization_request_endpoint": endpoint, "require_pushed_authorization_requests": true}),
    );
    op.put("/par", Answer::json(201, json!({"request_uri": "urn:x:1", "expires_in": 60})));
    for par in [Par::Auto, Par::Required] {
        let url = op.provider(|settings| settings.par = par).authorization_url(&request()).await.unwrap();
        let want = [("tenant", "1"), ("client_id", "doorward"), ("request_uri", "urn:x:1")];
        assert_eq!(query(&url), want.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    let seen = &op.seen("/par")[0];
    assert!(seen.headers["authorization"].to_str().unwrap().starts_with("Basic "));
    for name in ["response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge"] {
        assert!(seen.form.contains_key(name), "{name}");
    }
    assert!(!seen.form.contains_key("client_secret"));
    let url = op.provider(|settings| settings.par = Par::Off).authorization_url(&request()).await.unwrap();
    assert!(url.contains("state="));
}

#[tokio::test]
async fn par_02_a_failed_push_never_falls_back() {
    let op = Op::new().await;
    let endpoint = format!("{}/par", op.issuer);
    op.discovery(json!({ "pushed_authorization_request_endpoint": endpoint }));
    let provider = op.provider(|_| {});
    for (answer, kind) in [
        (Answer::json(400, json!({"error": "invalid_request"})), Kind::ProviderRefused),
        (Answer::json(401, "no"), Kind::ProviderAnswer),
        (Answer::json(201, "{}"), Kind::ProviderAnswer),
        (Answer::json(201, json!({"request_uri": ""})), Kind::ProviderAnswer),
        (Answer::json(201, json!({"request_uri": "urn:x", "expires_in": 0})), Kind::ProviderAnswer),
        (Answer::json(202, json!({"request_uri": "urn:x"})), Kind::ProviderAnswer),
        (Answer::json(302, ""), Kind::ProviderAnswer),
        (Answer::json(500, ""), Kind::ProviderUnavailable),
    ] {
        op.put("/par", answer.clone());
        let error = provider.authorization_url(&request()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{} {}", answer.status, String::from_utf8_lossy(&answer.body));
    }
    op.discovery(json!({}));
    let required = op.provider(|settings| settings.par = Par::Required);
    assert_eq!(required.authorization_url(&request()).await.unwrap_err().kind(), Kind::ProviderAnswer);
}

#[tokio::test]
async fn i_01_i_02_the_answer_says_whose_it_is() {
    let op = Op::new().await;
    let provider = op.provider(|_| {});
    let silent = provider.metadata().await.unwrap();
    op.discovery(json!({"authorization_response_iss_parameter_supported": true}));
    let announcing = op.provider(|_| {}).metadata().await.unwrap();
    for (metadata, iss, fine) in [
        (&silent, None, true),
        (&silent, Some(op.issuer.as_str()), true),
        (&silent, Some("https://id.example"), false),
        (&announcing, Some(op.issuer.as_str()), true),
        (&announcing, None, false),
        (&announcing, Some(""), false),
        (&announcing, Some(&format!("{}/", op.issuer)), false),
    ] {
        assert_eq!(provider.check_issuer(metadata, iss, false).is_ok(), fine, "{iss:?}");
    }
}
