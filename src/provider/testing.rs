//! An OpenID provider for tests: each path answers what the test put there, and every request is kept.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::http::{HeaderMap, Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use url::form_urlencoded;

use super::*;
use crate::clock;
use crate::config::settings::{Claims, ClientAuth, Par};
use crate::crypto::testing::ec;
use crate::secret::Secret;

pub(crate) struct Op {
    pub(crate) issuer: String,
    answers: Mutex<HashMap<String, VecDeque<Answer>>>,
    seen: Mutex<Vec<Seen>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Never answers.
    pub(crate) hangs: bool,
}

impl Answer {
    pub(crate) fn json(status: u16, body: impl ToString) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self { status, headers, body: body.to_string().into_bytes(), hangs: false }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) form: HashMap<String, String>,
    pub(crate) certificate: Option<Vec<u8>>,
}

impl Op {
    pub(crate) async fn new() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let issuer = format!("http://{}", listener.local_addr().expect("it is bound"));
        let op = Arc::new(Self { issuer, answers: Mutex::default(), seen: Mutex::default() });
        op.discovery(json!({}));
        op.keys(&[ec().jwk("e")]);
        let this = op.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("the listener is open");
                let this = this.clone();
                let service = service_fn(move |request| this.clone().serve(request, None));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        op
    }

    pub(crate) fn put(&self, path: &str, answer: Answer) {
        self.put_all(path, [answer]);
    }

    /// One after the other; the last one stays.
    pub(crate) fn put_all(&self, path: &str, answers: impl Into<VecDeque<Answer>>) {
        self.answers.lock().expect("nobody panics while holding it").insert(path.to_owned(), answers.into());
    }

    /// The usual document; `changes` replace members, null removes them.
    pub(crate) fn discovery(&self, changes: Value) {
        let at = |path: &str| format!("{}/{path}", self.issuer);
        let mut document = json!({
            "issuer": self.issuer,
            "authorization_endpoint": at("authorize?tenant=1"),
            "token_endpoint": at("token"),
            "jwks_uri": at("jwks"),
            "userinfo_endpoint": at("userinfo"),
            "end_session_endpoint": at("logout"),
            "revocation_endpoint": at("revoke"),
            "id_token_signing_alg_values_supported": ["ES256", "HS256", "none"],
        });
        for (name, value) in changes.as_object().expect("a test writes its changes as an object") {
            document[name] = value.clone();
        }
        self.put("/.well-known/openid-configuration", Answer::json(200, document));
    }

    pub(crate) fn keys(&self, keys: &[Value]) {
        self.put("/jwks", Answer::json(200, json!({ "keys": keys })));
    }

    /// A token answer with a good ID token; `changes` replace claims.
    pub(crate) fn tokens(&self, changes: Value) {
        let body = json!({
            "access_token": "at-secret", "token_type": "Bearer", "expires_in": 300, "refresh_token": "rt-secret",
            "id_token": self.id_token("e", changes),
        });
        self.put("/token", Answer::json(200, body));
    }

    pub(crate) fn id_token(&self, kid: &str, changes: Value) -> String {
        let now = clock::unix_now();
        let mut claims = json!({
            "iss": self.issuer, "aud": "doorward", "sub": "alice", "nonce": "nonce", "iat": now, "exp": now + 300,
        });
        for (name, value) in changes.as_object().expect("a test writes its changes as an object") {
            claims[name] = value.clone();
        }
        ec().sign(&json!({"alg": "ES256", "kid": kid}), &claims)
    }

    pub(crate) fn seen(&self, path: &str) -> Vec<Seen> {
        self.seen
            .lock()
            .expect("nobody panics while holding it")
            .iter()
            .filter(|seen| seen.path == path)
            .cloned()
            .collect()
    }

    pub(crate) fn settings(&self) -> settings::Provider {
        Self::settings_at(&self.issuer)
    }

    pub(crate) fn settings_at(issuer: &str) -> settings::Provider {
        settings::Provider {
            name: "main".into(),
            label: "main".into(),
            issuer: issuer.to_owned(),
            client_id: "doorward".into(),
            client_secret: Some(Secret::new("client-secret")),
            kind: settings::ProviderKind::Oidc,
            client_key: None,
            client_cert: None,
            dpop: false,
            flow: settings::Flow::Code,
            response_mode: settings::ResponseMode::Query,
            callback: settings::Callback::Shared,
            client_auth: ClientAuth::Auto,
            scopes: vec!["openid".into(), "email".into()],
            extra_params: vec![],
            par: Par::Auto,
            id_token_algs: vec![],
            timeout: Duration::from_secs(5),
            post_logout_redirect_uri: None,
            ca: None,
            clock_skew: Duration::from_secs(30),
            insecure: false,
            claims: Claims { user: "sub".into(), email: "email".into(), name: "name".into(), groups: "groups".into() },
        }
    }

    pub(crate) fn provider(&self, change: impl FnOnce(&mut settings::Provider)) -> Arc<Provider> {
        let mut settings = self.settings();
        change(&mut settings);
        let key = settings.dpop.then(|| SigningKey::es256(&[7; 32]).expect("these bytes are a private key"));
        Provider::new(&settings, &[], key, Handle::current(), Arc::new(|_, _| {}))
            .expect("settings of a test are valid")
    }

    fn next_answer(&self, path: &str) -> Option<Answer> {
        let mut answers = self.answers.lock().expect("nobody panics while holding it");
        let answers = answers.get_mut(path)?;
        if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }
    }

    /// `certificate`: what the client showed of itself.
    pub(crate) async fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
        certificate: Option<Vec<u8>>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.expect("our own client sends whole bodies").to_bytes();
        let path = parts.uri.path().to_owned();
        let form = form_urlencoded::parse(&body).into_owned().collect();
        self.seen.lock().expect("nobody panics while holding it").push(Seen {
            path: path.clone(),
            headers: parts.headers,
            form,
            certificate,
        });
        let answer = self.next_answer(&path).unwrap_or_else(|| Answer::json(404, ""));
        if answer.hangs {
            std::future::pending::<()>().await;
        }
        let mut response = Response::builder().status(answer.status);
        for (name, value) in &answer.headers {
            response = response.header(*name, value);
        }
        Ok(response.body(Full::from(answer.body)).expect("a test names headers that are some"))
    }
}

pub(crate) fn redeem() -> Redeem {
    Redeem {
        code: Secret::new("code-secret"),
        verifier: Secret::new("verifier-verifier-verifier-verifier-verifier"),
        redirect_uri: "https://app.example.com/oauth2/callback".into(),
        nonce: "nonce".into(),
        max_age: None,
        acr: vec![],
        denying: vec![],
    }
}
