//! The provider over the wire, against a provider that answers what each test wants.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use url::Url;

use super::testing::{Answer, Op, redeem};
use super::*;
use crate::config::settings::{ClientAuth, Par};
use crate::crypto::testing::{Signer, ec};
use crate::secret::Secret;

fn request() -> AuthorizationRequest<'static> {
    AuthorizationRequest {
        redirect_uri: "https://app.example.com/oauth2/callback",
        state: "state",
        nonce: "nonce",
        code_challenge: "challenge",
        acr_values: &[],
        max_age: None,
    }
}

fn query(url: &str) -> Vec<(String, String)> {
    Url::parse(url).unwrap().query_pairs().into_owned().collect()
}

/// Requests are served on other runtimes than the provider's own work.
#[tokio::test]
async fn every_future_may_cross_threads() {
    fn send(_: impl Send) {}
    let op = Op::new().await;
    let provider = op.provider(|_| {});
    send(provider.metadata());
    send(provider.authorization_url(&request()));
    send(provider.redeem(redeem()));
    send(provider.refresh(Secret::new("rt"), "alice"));
}

async fn kind_of_redeem(provider: &Arc<Provider>) -> Kind {
    let error = provider.redeem(redeem()).await.unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("secret"), "O-11: {shown}");
    error.kind()
}

#[tokio::test]
async fn d_01_the_document_is_below_the_issuer() {
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
        assert_eq!(provider.check_issuer(metadata, iss).is_ok(), fine, "{iss:?}");
    }
}

#[tokio::test]
async fn c_04_o_01_the_code_and_an_odd_secret_arrive_whole() {
    let op = Op::new().await;
    op.tokens(json!({}));
    let odd = "s:%&+ é/=?\"";
    for (auth, listed) in [
        (ClientAuth::Auto, json!(null)),
        (ClientAuth::Basic, json!(["client_secret_post"])),
        (ClientAuth::Auto, json!(["client_secret_post"])),
        (ClientAuth::Post, json!(null)),
        (ClientAuth::None, json!(null)),
    ] {
        op.discovery(json!({ "token_endpoint_auth_methods_supported": listed }));
        let provider = op.provider(|settings| {
            settings.client_auth = auth;
            settings.client_secret = Some(Secret::new(odd));
        });
        let grant = provider.redeem(redeem()).await.unwrap();
        assert_eq!(grant.tokens.access.expose(), "at-secret");
        assert_eq!(grant.tokens.refresh.as_ref().map(Secret::expose), Some("rt-secret"));
        assert_eq!(grant.tokens.expires_in, Some(300));

        let seen = op.seen("/token").pop().unwrap();
        assert_eq!(seen.form["grant_type"], "authorization_code");
        assert_eq!(seen.form["code"], "code-secret");
        assert_eq!(seen.form["code_verifier"], "verifier-verifier-verifier-verifier-verifier");
        assert_eq!(seen.form["redirect_uri"], "https://app.example.com/oauth2/callback");
        let basic = seen.headers.get("authorization").map(|value| {
            let pair = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
            String::from_utf8(STANDARD.decode(pair).unwrap()).unwrap()
        });
        let by_header = auth == ClientAuth::Basic || auth == ClientAuth::Auto && listed.is_null();
        if by_header {
            let (id, secret) = basic.as_deref().unwrap().split_once(':').unwrap();
            assert_eq!(id, "doorward");
            let decoded: Vec<_> = url::form_urlencoded::parse(secret.as_bytes()).collect();
            assert_eq!(decoded[0].0, odd);
            assert!(!seen.form.contains_key("client_secret"));
        } else {
            assert_eq!(basic, None);
            assert_eq!(seen.form["client_id"], "doorward");
            assert_eq!(seen.form.get("client_secret").map(String::as_str), (auth != ClientAuth::None).then_some(odd));
        }
    }
}

#[tokio::test]
async fn o_04_o_05_what_a_token_answer_may_look_like() {
    let op = Op::new().await;
    let provider = op.provider(|_| {});
    let id = op.id_token("e", json!({}));
    let base = json!({"access_token": "at-secret", "token_type": "Bearer", "id_token": id});
    let with = |name: &str, value: serde_json::Value| {
        let mut answer = base.clone();
        answer[name] = value;
        answer
    };
    for (value, want) in [
        (json!(3600), Some(3600)),
        (json!("3600"), Some(3600)),
        (json!(59.9), Some(59)),
        (json!(0), Some(0)),
        (json!(-5), Some(0)),
        (json!(u64::MAX), Some(315_360_000)),
        (json!(1e300), Some(315_360_000)),
        (json!("soon"), None),
        (json!("NaN"), None),
        (json!("inf"), None),
        (json!({}), None),
        (json!(null), None),
        (json!(true), None),
    ] {
        op.put("/token", Answer::json(200, with("expires_in", value.clone())));
        let tokens = provider.redeem(redeem()).await.unwrap().tokens;
        assert_eq!(tokens.expires_in, want, "{value}");
    }
    for fine in [
        with("token_type", json!("bEaReR")),
        json!({"access_token": "at-secret", "id_token": id}),
        with("scope", json!(["openid", "email"])),
        with("scope", json!("openid email")),
        with("refresh_token", json!(null)),
        with("unknown", json!({"a": [1]})),
    ] {
        op.put("/token", Answer::json(200, &fine));
        assert!(provider.redeem(redeem()).await.is_ok(), "{fine}");
    }
    for bad in [
        with("token_type", json!("mac")),
        with("token_type", json!("DPoP")),
        with("token_type", json!(7)),
        with("access_token", json!("")),
        with("access_token", json!(7)),
        with("id_token", json!("")),
        with("id_token", json!(null)),
        with("id_token", json!({})),
        json!({"access_token": "at-secret", "token_type": "Bearer"}),
        json!({}),
    ] {
        op.put("/token", Answer::json(200, &bad));
        assert_eq!(kind_of_redeem(&provider).await, Kind::ProviderAnswer, "{bad}");
    }
}

#[tokio::test]
async fn l_29_rf_08_garbage_from_the_token_endpoint_fails_closed() {
    let op = Op::new().await;
    let provider = op.provider(|_| {});
    let good = json!({"access_token": "at-secret", "token_type": "Bearer", "id_token": op.id_token("e", json!({}))});
    let html = Answer { headers: vec![("content-type", "text/html".into())], ..Answer::json(200, &good) };
    for (answer, kind, code) in [
        (Answer::json(200, format!("{good}{good}")), Kind::ProviderAnswer, None),
        (Answer::json(200, format!("{good} secret")), Kind::ProviderAnswer, None),
        (Answer::json(200, format!("\u{feff}{good}")), Kind::ProviderAnswer, None),
        (
            Answer::json(200, good.to_string().replacen('{', r#"{"access_token":"secret2","#, 1)),
            Kind::ProviderAnswer,
            None,
        ),
        (Answer::json(200, good.to_string().replacen('{', r#"{"x":"secret2","x":1,"#, 1)), Kind::ProviderAnswer, None),
        (Answer::json(200, r#"{"access_token":"at-secret""#), Kind::ProviderAnswer, None),
        (Answer::json(200, ""), Kind::ProviderAnswer, None),
        (Answer::json(204, ""), Kind::ProviderAnswer, None),
        (Answer::json(201, &good), Kind::ProviderAnswer, None),
        (Answer::json(302, ""), Kind::ProviderAnswer, None),
        (html, Kind::ProviderAnswer, None),
        (
            Answer::json(400, json!({"error": "invalid_grant", "error_description": "secret"})),
            Kind::ProviderRefused,
            Some("invalid_grant"),
        ),
        (Answer::json(401, json!({"error": "invalid_client"})), Kind::ProviderRefused, Some("invalid_client")),
        (Answer::json(400, json!({"error": "se\r\ncret secret"})), Kind::ProviderAnswer, None),
        (Answer::json(400, "secret"), Kind::ProviderAnswer, None),
        (Answer::json(503, json!({"error": "invalid_grant"})), Kind::ProviderUnavailable, None),
    ] {
        op.put("/token", answer.clone());
        let error = provider.redeem(redeem()).await.unwrap_err();
        assert_eq!((error.kind(), error.oauth_code()), (kind, code), "{}", String::from_utf8_lossy(&answer.body));
        assert!(!format!("{error:?}").contains("secret"), "O-11: {error:?}");
    }
}

#[tokio::test]
async fn b_04_the_access_token_is_unused_until_the_id_token_passed() {
    let op = Op::new().await;
    op.put("/userinfo", Answer::json(200, json!({"sub": "alice", "email": "alice@example.com"})));
    let provider = op.provider(|_| {});
    for bad in [json!({"nonce": "another"}), json!({"aud": "other"}), json!({"iss": "https://id.example"})] {
        op.tokens(bad);
        assert_eq!(kind_of_redeem(&provider).await, Kind::IdToken);
    }
    assert!(op.seen("/userinfo").is_empty());
}

#[tokio::test]
async fn c_17_c_18_userinfo_fills_gaps_of_the_same_person_only() {
    let op = Op::new().await;
    op.tokens(json!({"email": "alice@example.com"}));
    let provider = op.provider(|_| {});
    let good = json!({"sub": "alice", "email": "other@example.com", "groups": ["staff"], "name": "Alice"});
    op.put("/userinfo", Answer::json(200, &good));
    let claims = provider.redeem(redeem()).await.unwrap().claims;
    assert_eq!(claims["groups"], json!(["staff"]));
    assert_eq!(claims["email"], "alice@example.com", "the ID token's own claims stay");
    assert_eq!(op.seen("/userinfo")[0].headers["authorization"], "Bearer at-secret");

    let jwt = Answer { headers: vec![("content-type", "application/jwt".into())], ..Answer::json(200, &good) };
    for bad in [
        Answer::json(200, json!({"sub": "mallory", "groups": ["admin"]})),
        Answer::json(200, json!({"groups": ["admin"]})),
        Answer::json(200, json!([good])),
        Answer::json(401, json!({"error": "invalid_token"})),
        Answer::json(302, ""),
        Answer::json(500, ""),
        jwt,
    ] {
        op.put("/userinfo", bad.clone());
        let claims = provider.redeem(redeem()).await.unwrap().claims;
        assert!(!claims.contains_key("groups"), "{} {}", bad.status, String::from_utf8_lossy(&bad.body));
    }

    let before = op.seen("/userinfo").len();
    op.tokens(json!({"email": "a@x", "name": "A", "groups": [], "preferred_username": "a"}));
    provider.redeem(redeem()).await.unwrap();
    assert_eq!(op.seen("/userinfo").len(), before, "nothing is missing, nothing is asked");
}

#[tokio::test]
async fn c_19_o_06_o_07_refresh_is_for_the_same_person() {
    let op = Op::new().await;
    let provider = op.provider(|_| {});
    let old = || Secret::new("rt-old-secret");
    op.put("/token", Answer::json(200, json!({"access_token": "at-2", "token_type": "Bearer"})));
    let kept = provider.refresh(old(), "alice").await.unwrap();
    assert_eq!((kept.tokens.refresh.as_ref().map(Secret::expose), kept.claims), (Some("rt-old-secret"), None));
    let form: HashMap<_, _> = op.seen("/token")[0].form.clone();
    assert_eq!((form["grant_type"].as_str(), form["refresh_token"].as_str()), ("refresh_token", "rt-old-secret"));

    op.put("/userinfo", Answer::json(200, json!({"sub": "alice", "groups": ["new"]})));
    op.tokens(json!({"nonce": null}));
    let rotated = provider.refresh(old(), "alice").await.unwrap();
    assert_eq!(rotated.tokens.refresh.as_ref().map(Secret::expose), Some("rt-secret"));
    assert_eq!(rotated.claims.unwrap()["groups"], json!(["new"]));
    op.put("/userinfo", Answer::json(500, ""));
    assert!(provider.refresh(old(), "alice").await.unwrap().claims.is_none(), "half of the claims replace nothing");

    for bad in [
        json!({"sub": "bob"}),
        json!({"iss": "https://x"}),
        json!({"aud": "x"}),
        json!({"exp": 1}),
        json!({"azp": "x"}),
    ] {
        op.tokens(bad.clone());
        assert_eq!(provider.refresh(old(), "alice").await.unwrap_err().kind(), Kind::IdToken, "{bad}");
    }
    op.put("/token", Answer::json(400, json!({"error": "invalid_grant"})));
    let error = provider.refresh(old(), "alice").await.unwrap_err();
    assert_eq!((error.kind(), error.oauth_code()), (Kind::ProviderRefused, Some("invalid_grant")));
    op.put("/token", Answer::json(500, ""));
    assert_eq!(provider.refresh(old(), "alice").await.unwrap_err().kind(), Kind::ProviderUnavailable);
}

#[tokio::test]
async fn b_18_sign_out_names_the_client_and_revokes_both_tokens() {
    let op = Op::new().await;
    let provider = op.provider(|_| {});
    assert_eq!(provider.end_session_url(None, "https://app.example.com/oauth2/signed_out", "s"), None);
    provider.metadata().await.unwrap();
    let url = provider.end_session_url(Some("id"), "https://app.example.com/oauth2/signed_out", "s").unwrap();
    let want = [
        ("id_token_hint", "id"),
        ("client_id", "doorward"),
        ("post_logout_redirect_uri", "https://app.example.com/oauth2/signed_out"),
        ("state", "s"),
    ];
    assert_eq!(query(&url), want.map(|(name, value)| (name.to_owned(), value.to_owned())));

    op.put("/revoke", Answer::json(200, ""));
    provider.revoke(Some(Secret::new("rt")), Some(Secret::new("at")));
    while op.seen("/revoke").len() < 2 {
        tokio::task::yield_now().await;
    }
    let forms: Vec<_> = op.seen("/revoke").into_iter().map(|seen| (seen.form["token"].clone(), seen.headers)).collect();
    assert_eq!((forms[0].0.as_str(), forms[1].0.as_str()), ("rt", "at"));
    assert!(forms.iter().all(|(_, headers)| headers.contains_key("authorization")));
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_and_calls_are_observed() {
    let op = Op::new().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let observer: Observer = Arc::new(move |endpoint, _| {
        assert_eq!(endpoint, "discovery");
        count.fetch_add(1, Ordering::SeqCst);
    });
    let new = |change: &dyn Fn(&mut settings::Provider)| {
        let mut settings = op.settings();
        change(&mut settings);
        Provider::new(&settings, &[], Handle::current(), observer.clone())
    };
    assert!(new(&|s| s.id_token_algs = vec!["RS257".into()]).is_err());
    assert!(new(&|s| s.id_token_algs = vec!["HS256".into()]).is_err(), "JX-03: the secret is too short");
    assert!(new(&|s| s.ca = Some("/nonexistent.pem".into())).is_err());
    let provider = new(&|_| {}).unwrap();
    let metadata = provider.metadata().await.unwrap();
    assert_eq!(provider.allowed_algs(&metadata), [Algorithm::ES256], "asymmetric only");
    assert_eq!(calls.load(Ordering::SeqCst), 1);

    provider.start();
    let weak = Arc::downgrade(&provider);
    drop(provider);
    while weak.strong_count() > 0 {
        tokio::task::yield_now().await;
    }
}
