//! The provider over the wire, against a provider that answers what each test wants.

mod authorize;
mod client_auth;
mod discovery;
mod dpop;
mod mtls;
mod token;

use std::sync::atomic::{AtomicUsize, Ordering};

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
async fn b_18_rv_01_sign_out_names_the_client_and_revokes_both_tokens() {
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
async fn rv_01_a_provider_that_is_away_is_told_later_and_one_that_refuses_is_not_asked_again() {
    let op = Op::new().await;
    // No call may time out while the clock is moved on.
    let provider = op.provider(|settings| settings.timeout = Duration::from_secs(86_400));
    provider.metadata().await.unwrap();
    tokio::time::pause();
    let calls = async |answers: Vec<Answer>, want: usize| {
        let before = op.seen("/revoke").len();
        op.put_all("/revoke", answers);
        provider.revoke(Some(Secret::new("rt")), None);
        let began = Instant::now();
        while op.seen("/revoke").len() - before < want || provider.revocations.available_permits() < logout::MAX_WAITING
        {
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        let took = began.elapsed();
        for _ in 0..5000 {
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(op.seen("/revoke").len() - before, want);
        took
    };
    let away = || Answer::json(503, "");
    assert!(calls(vec![away(), away(), Answer::json(200, "")], 3).await >= Duration::from_secs(35));
    assert!(calls(vec![away()], 4).await >= Duration::from_secs(215));
    calls(vec![Answer::json(400, json!({"error": "unsupported_token_type"}))], 1).await;
    calls(vec![Answer::json(200, "")], 1).await;
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
        Provider::new(&settings, &[], None, Handle::current(), observer.clone())
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
