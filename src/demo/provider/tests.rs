use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use http::{Request, StatusCode};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

mod backchannel;

use super::authorize::with_query;
use super::*;
use crate::demo::web::Page;
use crate::demo::web::client::{get, send, try_send};

const CALLBACK: &str = "http://127.0.0.1:4180/oauth2/callback";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

struct Client {
    provider: DemoProvider,
    at: std::net::SocketAddr,
}

impl Client {
    /// ES256, so that no test waits for an RSA key it does not need.
    fn new() -> Self {
        Self::with(Options { alg: SigningAlg::Es256, ..Options::default() })
    }

    fn with(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        Self { provider: DemoProvider::start(listener, options).unwrap(), at }
    }

    fn signed_in(user: &str) -> Self {
        let client = Self::new();
        client.provider.control().auto_login(Some(user));
        client
    }

    async fn authorize(&self, change: &[(&'static str, Option<&'static str>)], cookie: &str) -> Page {
        let request = Request::get(with_query("/authorize", &authorize_params(change))).header(COOKIE, cookie);
        send(self.at, request.body(String::new()).unwrap()).await
    }

    async fn code(&self) -> String {
        redirected(&self.authorize(&[], "").await, "code")
    }

    async fn post(&self, path: &str, params: &[(&str, &str)]) -> (StatusCode, Value) {
        let secret = STANDARD.encode("demo:demo-secret");
        let request = form(path, params, &format!("Basic {secret}"));
        let answer = send(self.at, request).await;
        (answer.status(), serde_json::from_slice(answer.body()).unwrap_or_default())
    }

    async fn redeem(&self, code: &str) -> (StatusCode, Value) {
        self.post("/token", &redeem_params(code, VERIFIER)).await
    }

    async fn refresh(&self, tokens: &Value) -> (StatusCode, Value) {
        let token = tokens["refresh_token"].as_str().unwrap();
        self.post("/token", &[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }

    async fn json(&self, path: &str) -> Value {
        serde_json::from_slice(get(self.at, path).await.body()).unwrap()
    }

    async fn userinfo(&self, tokens: &Value) -> Page {
        let token = tokens["access_token"].as_str().unwrap();
        let request = Request::get("/userinfo").header(AUTHORIZATION, format!("Bearer {token}"));
        send(self.at, request.body(String::new()).unwrap()).await
    }

    /// The claims, if a published key signed them.
    async fn verified(&self, id_token: &str) -> Option<Value> {
        let keys: JwkSet = serde_json::from_value(self.json("/jwks").await).unwrap();
        let header = jsonwebtoken::decode_header(id_token).ok()?;
        let key = DecodingKey::from_jwk(keys.find(header.kid.as_deref()?)?).ok()?;
        let mut validation = Validation::new(header.alg);
        validation.set_audience(&["demo"]);
        validation.set_issuer(&[self.provider.issuer()]);
        jsonwebtoken::decode::<Value>(id_token, &key, &validation).ok().map(|token| token.claims)
    }
}

fn authorize_params(change: &[(&'static str, Option<&'static str>)]) -> Vec<(&'static str, Option<&'static str>)> {
    let mut params = vec![
        ("client_id", Some("demo")),
        ("redirect_uri", Some(CALLBACK)),
        ("response_type", Some("code")),
        ("scope", Some("openid profile email")),
        ("state", Some("st&te")),
        ("nonce", Some("n-1")),
        // Of VERIFIER: RFC 7636 appendix B.
        ("code_challenge", Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")),
        ("code_challenge_method", Some("S256")),
    ];
    for (name, value) in change {
        params.retain(|(n, _)| n != name);
        params.push((name, *value));
    }
    params
}

fn redeem_params<'a>(code: &'a str, verifier: &'a str) -> [(&'a str, &'a str); 4] {
    [("grant_type", "authorization_code"), ("code", code), ("redirect_uri", CALLBACK), ("code_verifier", verifier)]
}

fn form(path: &str, params: &[(&str, &str)], authorization: &str) -> Request<String> {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
    Request::post(path)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(AUTHORIZATION, authorization)
        .body(body)
        .unwrap()
}

/// A parameter of the redirect back to the client; empty if it has none.
fn redirected(answer: &Page, name: &str) -> String {
    let location = answer.headers().get(LOCATION).expect("a redirect").to_str().unwrap();
    assert!(location.starts_with(CALLBACK), "{location}");
    let url = Url::parse(location).unwrap();
    url.query_pairs().find(|(n, _)| n == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}

fn cookie(answer: &Page) -> String {
    let value = answer.headers()[SET_COOKIE].to_str().unwrap();
    value.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn others_than_this_machine_are_refused() {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    assert!(DemoProvider::start(listener, Options::default()).is_err());

    let client = Client::signed_in("alice");
    let rebound = Request::get("/").header("host", "rebound.example:80").body(String::new()).unwrap();
    assert_eq!(send(client.at, rebound).await.status(), StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn discovery_and_keys() {
    let client = Client::new();
    let issuer = client.provider.issuer().to_owned();
    let document = client.json("/.well-known/openid-configuration").await;
    assert_eq!(document["issuer"], issuer.as_str());
    for (member, path) in [
        ("authorization_endpoint", "/authorize"),
        ("token_endpoint", "/token"),
        ("userinfo_endpoint", "/userinfo"),
        ("jwks_uri", "/jwks"),
        ("end_session_endpoint", "/end_session"),
        ("revocation_endpoint", "/revoke"),
        ("pushed_authorization_request_endpoint", "/par"),
    ] {
        assert_eq!(document[member], format!("{issuer}{path}"), "{member}");
    }
    assert_eq!(document["authorization_response_iss_parameter_supported"], true);
    assert_eq!(document["code_challenge_methods_supported"], json!(["S256"]));
    assert_eq!(document["id_token_signing_alg_values_supported"], json!(["RS256", "ES256"]));

    let keys = client.json("/jwks").await;
    let kinds: Vec<_> = keys["keys"].as_array().unwrap().iter().map(|key| (&key["kty"], &key["use"])).collect();
    assert_eq!(kinds, [(&json!("RSA"), &json!("sig")), (&json!("EC"), &json!("sig"))]);
    assert!(keys["keys"].as_array().unwrap().iter().all(|key| key.get("d").is_none()));
}

#[tokio::test]
async fn code_flow_with_the_sign_in_page() {
    let client = Client::new();
    let page = client.authorize(&[], "").await;
    assert_eq!(page.status(), StatusCode::OK);
    let text = String::from_utf8(page.body().to_vec()).unwrap();
    assert!(text.contains("not for production"));
    let id = text.split("name=\"request\" value=\"").nth(1).unwrap().split('"').next().unwrap();

    let wrong = form("/sign_in", &[("request", id), ("username", "alice"), ("password", "bob")], "");
    assert_eq!(send(client.at, wrong).await.status(), StatusCode::FORBIDDEN);
    let right = || form("/sign_in", &[("request", id), ("username", "alice"), ("password", "alice")], "");
    let answer = send(client.at, right()).await;
    assert_eq!(redirected(&answer, "state"), "st&te");
    assert_eq!(redirected(&answer, "iss"), client.provider.issuer());
    assert_eq!(send(client.at, right()).await.status(), StatusCode::BAD_REQUEST, "a page signs in once");

    let (status, tokens) = client.redeem(&redirected(&answer, "code")).await;
    assert_eq!(status, StatusCode::OK);
    let claims = client.verified(tokens["id_token"].as_str().unwrap()).await.expect("a good signature");
    for (name, value) in [
        ("sub", json!("alice")),
        ("nonce", json!("n-1")),
        ("email", json!("alice@example.test")),
        ("email_verified", json!(true)),
        ("preferred_username", json!("alice")),
        ("groups", json!(["admins", "staff"])),
    ] {
        assert_eq!(claims[name], value, "{name}");
    }
    let hash = digest(&SHA256, tokens["access_token"].as_str().unwrap().as_bytes());
    assert_eq!(claims["at_hash"], URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16]));

    let userinfo = client.userinfo(&tokens).await;
    assert_eq!(userinfo.status(), StatusCode::OK);
    assert_eq!(serde_json::from_slice::<Value>(userinfo.body()).unwrap()["groups"], json!(["admins", "staff"]));
    assert_eq!(client.provider.stats().code_grants, Outcomes { ok: 1, refused: 0 });
}

#[tokio::test]
async fn rs256_and_a_public_client() {
    let client = Client::with(Options { client_secret: None, ..Options::default() });
    client.provider.control().auto_login(Some("bob"));
    let code = client.code().await;
    let mut params = redeem_params(&code, VERIFIER).to_vec();
    params.push(("client_id", "demo"));
    let mut request = form("/token", &params, "");
    request.headers_mut().remove(AUTHORIZATION);
    let answer: Value = serde_json::from_slice(send(client.at, request).await.body()).unwrap();
    let token = answer["id_token"].as_str().unwrap();
    assert_eq!(jsonwebtoken::decode_header(token).unwrap().alg, Algorithm::RS256);
    assert_eq!(client.verified(token).await.unwrap()["sub"], "bob");
}

#[tokio::test]
async fn a_code_used_twice_costs_the_grant() {
    let client = Client::signed_in("alice");
    let code = client.code().await;
    let (_, tokens) = client.redeem(&code).await;
    assert_eq!(client.redeem(&code).await.1["error"], "invalid_grant");
    assert_eq!(client.refresh(&tokens).await.1["error"], "invalid_grant");
    assert_eq!(client.userinfo(&tokens).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn pkce_and_client_secret_must_match() {
    let client = Client::signed_in("alice");
    let code = client.code().await;
    let (status, answer) = client.post("/token", &redeem_params(&code, "another")).await;
    assert_eq!((status, &answer["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_grant")));

    let code = client.code().await;
    let bad = form("/token", &redeem_params(&code, VERIFIER), &format!("Basic {}", STANDARD.encode("demo:guess")));
    let answer = send(client.at, bad).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(client.redeem(&code).await.0, StatusCode::OK, "a stranger's try does not cost the code");
    assert_eq!(client.provider.stats().code_grants, Outcomes { ok: 1, refused: 2 });
}

#[tokio::test]
async fn refresh_rotates_and_notices_reuse() {
    let client = Client::signed_in("alice");
    let (_, first) = client.redeem(&client.code().await).await;
    let (status, second) = client.refresh(&first).await;
    assert_eq!(status, StatusCode::OK);
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    let claims = client.verified(second["id_token"].as_str().unwrap()).await.unwrap();
    assert_eq!((&claims["sub"], claims.get("nonce")), (&json!("alice"), None));

    assert_eq!(client.refresh(&first).await.1["error"], "invalid_grant");
    assert_eq!(client.refresh(&second).await.1["error"], "invalid_grant", "reuse revokes the successor too");
    let stats = client.provider.stats();
    assert_eq!((stats.refresh_reuse, stats.refresh_grants), (1, Outcomes { ok: 1, refused: 2 }));
}

#[tokio::test]
async fn bad_requests_go_to_the_person_or_back_to_the_client() {
    let client = Client::signed_in("alice");
    for change in [
        ("redirect_uri", Some("https://evil.example/cb")),
        ("redirect_uri", Some("http://127.0.0.1@evil.example/")),
        ("redirect_uri", Some("http://localhost.evil.example/")),
        ("redirect_uri", Some("javascript:alert(1)")),
        ("client_id", Some("other")),
    ] {
        let answer = client.authorize(&[change], "").await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{change:?}");
        assert!(answer.headers().get(LOCATION).is_none(), "{change:?}");
    }
    for (change, error) in [
        (("response_type", Some("token")), "unsupported_response_type"),
        (("scope", Some("profile")), "invalid_scope"),
        (("code_challenge_method", Some("plain")), "invalid_request"),
        (("code_challenge", None), "invalid_request"),
        (("prompt", Some("none")), "login_required"),
        (("max_age", Some("soon")), "invalid_request"),
    ] {
        let answer = client.authorize(&[change], "").await;
        assert_eq!(redirected(&answer, "error"), error, "{change:?}");
        assert_eq!(redirected(&answer, "iss"), client.provider.issuer(), "{change:?}");
        assert_eq!(redirected(&answer, "state"), "st&te", "{change:?}");
    }
}

#[tokio::test]
async fn a_registered_redirect_is_compared_exactly() {
    let redirect_uris = Redirects::List(vec![CALLBACK.to_owned()]);
    let client = Client::with(Options { alg: SigningAlg::Es256, redirect_uris, ..Options::default() });
    client.provider.control().auto_login(Some("alice"));
    assert!(!client.code().await.is_empty());
    let near = client.authorize(&[("redirect_uri", Some("http://127.0.0.1:4180/oauth2/callback/"))], "").await;
    assert_eq!(near.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn single_sign_on_prompt_and_acr() {
    let client = Client::signed_in("alice");
    let session = cookie(&client.authorize(&[], "").await);
    client.provider.control().auto_login(None);

    let silent = client.authorize(&[("prompt", Some("none"))], &session).await;
    assert!(!redirected(&silent, "code").is_empty());
    for asks in [("prompt", Some("login")), ("max_age", Some("0")), ("acr_values", Some("urn:mfa urn:other"))] {
        assert_eq!(client.authorize(&[asks], &session).await.status(), StatusCode::OK, "{asks:?} shows the page");
    }
    client.provider.control().auto_login(Some("alice"));
    let stepped_up = client.authorize(&[("acr_values", Some("urn:mfa urn:other"))], &session).await;
    let (_, tokens) = client.redeem(&redirected(&stepped_up, "code")).await;
    let claims = client.verified(tokens["id_token"].as_str().unwrap()).await.unwrap();
    assert_eq!((&claims["acr"], &claims["amr"]), (&json!("urn:mfa"), &json!(["pwd", "otp"])));
}

#[tokio::test]
async fn sign_out_ends_session_and_grants() {
    let client = Client::signed_in("alice");
    let answer = client.authorize(&[], "").await;
    let session = cookie(&answer);
    let (_, tokens) = client.redeem(&redirected(&answer, "code")).await;
    let id_token = tokens["id_token"].as_str().unwrap();

    let out = |hint: &str, back: &str| {
        let params = [("id_token_hint", Some(hint)), ("post_logout_redirect_uri", Some(back)), ("state", Some("s"))];
        with_query("/end_session", &params)
    };
    for bad in [out("forged.token.", CALLBACK), out(id_token, "https://evil.example/")] {
        assert_eq!(get(client.at, &bad).await.status(), StatusCode::BAD_REQUEST, "{bad}");
    }
    assert_eq!(client.refresh(&tokens).await.0, StatusCode::OK, "a refused sign-out ends nothing");
    let done = get(client.at, &out(id_token, CALLBACK)).await;
    assert_eq!(done.headers()[LOCATION], format!("{CALLBACK}?state=s"));
    assert_eq!(redirected(&client.authorize(&[("prompt", Some("none"))], &session).await, "error"), "login_required");
    assert_eq!(client.userinfo(&tokens).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn pushed_requests_and_revocation() {
    let client = Client::signed_in("alice");
    let params: Vec<_> = authorize_params(&[]).into_iter().filter_map(|(n, v)| Some((n, v?))).collect();
    let (status, pushed) = client.post("/par", &params).await;
    assert_eq!(status, StatusCode::CREATED);
    let uri = [("client_id", Some("demo")), ("request_uri", pushed["request_uri"].as_str())];
    let answer = get(client.at, &with_query("/authorize", &uri)).await;
    assert_eq!(get(client.at, &with_query("/authorize", &uri)).await.status(), StatusCode::BAD_REQUEST, "once");

    let (_, tokens) = client.redeem(&redirected(&answer, "code")).await;
    let token = tokens["refresh_token"].as_str().unwrap();
    assert_eq!(client.post("/revoke", &[("token", token)]).await.0, StatusCode::OK);
    assert_eq!(client.userinfo(&tokens).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(client.post("/revoke", &[("token", "unknown")]).await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_administrator_revokes_and_rotates() {
    let client = Client::signed_in("alice");
    let control = client.provider.control();
    let (_, tokens) = client.redeem(&client.code().await).await;
    let id_token = tokens["id_token"].as_str().unwrap();
    control.rotate_keys(true).unwrap();
    assert!(client.verified(id_token).await.is_some());
    control.rotate_keys(false).unwrap();
    assert!(client.verified(id_token).await.is_none());
    control.revoke_all("bob");
    let (status, tokens) = client.refresh(&tokens).await;
    assert_eq!(status, StatusCode::OK);
    assert!(client.verified(tokens["id_token"].as_str().unwrap()).await.is_some(), "signed with the new key");
    control.revoke_all("alice");
    assert_eq!(client.refresh(&tokens).await.1["error"], "invalid_grant");
}

#[tokio::test]
async fn faults_replace_answers() {
    let client = Client::new();
    let control = client.provider.control();
    control.fault_times(Endpoint::Discovery, Fault::Status(503), 1);
    control.fault_times(Endpoint::Discovery, Fault::Html, 1);
    control.fault_times(Endpoint::Discovery, Fault::Huge(2_000_000), 1);
    control.fault_times(Endpoint::Discovery, Fault::Redirect("http://127.0.0.1:1/".to_owned()), 1);
    control.fault_times(Endpoint::Discovery, Fault::DropMember("jwks_uri"), 1);
    control.fault_times(Endpoint::Discovery, Fault::SetMember("issuer", json!("https://other.example")), 1);
    let path = "/.well-known/openid-configuration";
    assert_eq!(get(client.at, path).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(get(client.at, path).await.headers()[CONTENT_TYPE], "text/html");
    assert_eq!(get(client.at, path).await.body().len(), 2_000_000);
    assert_eq!(get(client.at, path).await.status(), StatusCode::FOUND);
    assert!(client.json(path).await.get("jwks_uri").is_none());
    assert_eq!(client.json(path).await["issuer"], "https://other.example");
    assert_eq!(client.json(path).await["issuer"], client.provider.issuer());

    control.fault(Endpoint::Jwks, Fault::Reset);
    let request = || Request::get("/jwks").body(String::new()).unwrap();
    assert!(try_send(client.at, request()).await.is_err());
    control.clear();
    assert!(try_send(client.at, request()).await.is_ok());
    assert_eq!(
        (client.provider.stats().hits(Endpoint::Discovery), client.provider.stats().hits(Endpoint::Jwks)),
        (7, 2)
    );
}

#[tokio::test]
async fn faults_change_tokens_and_redirects() {
    let client = Client::signed_in("alice");
    let control = client.provider.control();
    control.fault_times(Endpoint::Token, Fault::BadSignature, 1);
    let (_, tokens) = client.redeem(&client.code().await).await;
    assert!(client.verified(tokens["id_token"].as_str().unwrap()).await.is_none());

    let tamper = Fault::tamper(|_, claims| {
        claims.insert("sub".to_owned(), json!("mallory"));
    });
    control.fault_times(Endpoint::Token, tamper, 1);
    let (_, tokens) = client.redeem(&client.code().await).await;
    let claims = client.verified(tokens["id_token"].as_str().unwrap()).await;
    assert_eq!(claims.expect("signed properly")["sub"], "mallory");

    for (alg, ends_with_dot) in [("none", true), ("HS256", false), ("RS256", false), ("PS512", false)] {
        let tamper = Fault::tamper(move |header, _| {
            header.insert("alg".to_owned(), json!(alg));
        });
        control.fault_times(Endpoint::Token, tamper, 1);
        let (_, tokens) = client.redeem(&client.code().await).await;
        assert_eq!(tokens["id_token"].as_str().unwrap().ends_with('.'), ends_with_dot, "{alg}");
    }

    control.fault_times(Endpoint::Authorize, Fault::DropMember("iss"), 1);
    control.fault_times(Endpoint::Authorize, Fault::SetMember("state", json!("other")), 1);
    assert_eq!(redirected(&client.authorize(&[], "").await, "iss"), "");
    assert_eq!(redirected(&client.authorize(&[], "").await, "state"), "other");
}

#[tokio::test]
async fn a_dropped_provider_is_gone() {
    let client = Client::new();
    let at = client.at;
    assert_eq!(get(at, "/").await.status(), StatusCode::OK);
    client.provider.control().fault(Endpoint::Jwks, Fault::Hang);
    let hanging = tokio::spawn(try_send(at, Request::get("/jwks").body(String::new()).unwrap()));
    while client.provider.stats().hits(Endpoint::Jwks) == 0 {
        tokio::task::yield_now().await;
    }
    drop(client);
    assert!(hanging.await.unwrap().is_err());
    while tokio::net::TcpStream::connect(at).await.is_ok() {
        tokio::task::yield_now().await;
    }
}
