//! From the code to tokens and claims, and on to new ones.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

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

    let html = Answer { headers: vec![("content-type", "text/html".into())], ..Answer::json(200, &good) };
    for bad in [
        Answer::json(200, json!({"sub": "mallory", "groups": ["admin"]})),
        Answer::json(200, json!({"groups": ["admin"]})),
        Answer::json(200, json!([good])),
        Answer::json(401, json!({"error": "invalid_token"})),
        Answer::json(302, ""),
        Answer::json(500, ""),
        html,
        // C-18
        signed(good.to_string()),
        signed(ec().sign(&json!({"alg": "ES256", "kid": "e"}), &json!({"sub": "alice", "groups": ["admin"]}))),
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

fn signed(token: impl Into<String>) -> Answer {
    let headers = vec![("content-type", "application/jwt; charset=utf-8".to_owned())];
    Answer { headers, ..Answer::json(200, token.into()) }
}

#[tokio::test]
async fn c_18_signed_userinfo_is_verified_or_unused() {
    let op = Op::new().await;
    op.tokens(json!({}));
    let provider =
        op.provider(|settings| settings.client_secret = Some(Secret::new("a-client-secret-of-32-characters")));
    let header = json!({"alg": "ES256", "kid": "e"});
    let claims = |changes: serde_json::Value| {
        let mut claims =
            json!({"iss": op.issuer, "aud": "doorward", "sub": "alice", "groups": ["staff"], "name": "Alice"});
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    };
    let groups = async |answer: Answer| {
        op.put("/userinfo", answer);
        provider.redeem(redeem()).await.unwrap().claims.remove("groups")
    };
    let now = crate::clock::unix_now();
    for fine in [json!({}), json!({"aud": ["doorward"]}), json!({"exp": now + 60, "nbf": now})] {
        let token = ec().sign(&header, &claims(fine.clone()));
        assert_eq!(groups(signed(token)).await, Some(json!(["staff"])), "{fine}");
    }
    for bad in [
        json!({"iss": null}),
        json!({"iss": "https://id.example"}),
        json!({"aud": "other"}),
        json!({"aud": ["doorward", "other"]}),
        json!({"aud": null}),
        json!({"sub": "bob"}),
        json!({"exp": 1}),
        json!({"exp": "soon"}),
        json!({"nbf": now + 600}),
        json!({"events": {}}),
    ] {
        let token = ec().sign(&header, &claims(bad.clone()));
        assert_eq!(groups(signed(token)).await, None, "{bad}");
    }
    let good = claims(json!({}));
    let token = ec().sign(&header, &good);
    let (body, _) = token.rsplit_once('.').unwrap();
    let stranger = Signer::new_ec().sign(&header, &good);
    let by_secret = crate::crypto::testing::hs256(b"a-client-secret-of-32-characters", &json!({"alg": "HS256"}), &good);
    let none = ec().sign_text(r#"{"alg":"none"}"#, &good.to_string());
    for bad in [
        stranger,
        by_secret,
        format!("{}.", none.rsplit_once('.').unwrap().0),
        none,
        format!("{body}.AAAA"),
        format!("{token}.x.y"),
        String::new(),
    ] {
        assert_eq!(groups(signed(bad.clone())).await, None, "{bad}");
    }
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
