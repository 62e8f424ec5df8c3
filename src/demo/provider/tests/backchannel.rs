use http_body_util::BodyExt as _;

use super::*;
use crate::demo::web::{self, Server};

const BACK: &str = "/oauth2/backchannel-logout?p=1";

/// A text among the claims, or among the members of an answer.
fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of[name].as_str().unwrap_or_default()
}

/// Verifies what every logout token has; the rest is the test's.
async fn opened(client: &Client, token: &str) -> Value {
    let header = jsonwebtoken::decode_header(token).expect("a provider makes tokens that have a header");
    assert_eq!(header.typ.as_deref(), Some("logout+jwt"));
    let claims = client.verified(token).await.expect("signed by a published key, for us");
    assert_eq!(claims["events"], json!({"http://schemas.openid.net/event/backchannel-logout": {}}));
    assert_eq!(claims["exp"].as_u64(), claims["iat"].as_u64().map(|iat| iat + 120));
    assert!(claims.get("nonce").is_none() && !text(&claims, "jti").is_empty());
    claims
}

fn logout_token(control: &Control, sub: Option<&str>, sid: Option<&str>, fault: Option<&Fault>) -> String {
    control.logout_token(sub, sid, fault).expect("the demo's keys sign whatever a test asks for")
}

/// A client's back-channel address that answers `status`, and the forms that came. It listens for as long as the server
/// is kept.
fn listening(status: StatusCode) -> (Server, String, Arc<Mutex<Vec<String>>>) {
    let forms = Arc::<Mutex<Vec<String>>>::default();
    let kept = Arc::clone(&forms);
    let handler = move |request: Request<hyper::body::Incoming>| {
        let kept = Arc::clone(&kept);
        async move {
            assert_eq!((request.method().as_str(), request.uri().to_string().as_str()), ("POST", BACK));
            let form = request.into_body().collect().await.map_err(|_| web::Cut)?.to_bytes();
            lock(&kept).push(String::from_utf8_lossy(&form).into_owned());
            Ok(web::full(web::empty(status)))
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let server = Server::start(listener, handler).expect("it is a loopback listener");
    let uri = format!("http://{}{BACK}", server.address());
    (server, uri, forms)
}

#[tokio::test]
async fn a_sid_stays_over_refreshes_and_is_one_for_a_session() {
    let client = Client::signed_in("alice");
    let control = client.provider.control();
    let answer = client.authorize(&[], "").await;
    let (_, first) = client.redeem(&redirected(&answer, "code")).await;
    let (_, refreshed) = client.refresh(&first).await;
    let again = client.authorize(&[], &cookie(&answer)).await;
    let (_, beside) = client.redeem(&redirected(&again, "code")).await;
    let (_, another) = client.redeem(&client.code().await).await;
    let mut sids = Vec::new();
    for tokens in [&first, &refreshed, &beside, &another] {
        let claims = client.verified(text(tokens, "id_token")).await.expect("signed by a published key, for us");
        sids.push(text(&claims, "sid").to_owned());
    }
    assert!(sids[0] == sids[1] && sids[0] == sids[2] && sids[0] != sids[3], "{sids:?}");
    assert_eq!(control.sids("alice"), [sids[0].clone(), sids[3].clone()]);
    assert!(control.sids("bob").is_empty());
}

#[tokio::test]
async fn a_logout_token_is_good_unless_it_is_spoiled() {
    let client = Client::new();
    let control = client.provider.control();
    let both = logout_token(&control, Some("alice"), Some("s-1"), None);
    let claims = opened(&client, &both).await;
    assert_eq!((&claims["sub"], &claims["sid"]), (&json!("alice"), &json!("s-1")));
    let sub_only = opened(&client, &logout_token(&control, Some("alice"), None, None)).await;
    assert!(sub_only.get("sid").is_none() && sub_only["jti"] != claims["jti"]);

    let bad = logout_token(&control, Some("alice"), None, Some(&Fault::BadSignature));
    assert!(client.verified(&bad).await.is_none());
    let tamper = Fault::tamper(|header, claims| {
        header.remove("typ");
        claims.insert("nonce".to_owned(), json!("n"));
    });
    let spoiled = logout_token(&control, None, Some("s-1"), Some(&tamper));
    assert_eq!(client.verified(&spoiled).await.expect("signed properly")["nonce"], "n");
    let unsigned = Fault::tamper(|header, _| drop(header.insert("alg".to_owned(), json!("none"))));
    assert!(logout_token(&control, Some("alice"), None, Some(&unsigned)).ends_with('.'));
}

#[tokio::test]
async fn a_sign_out_tells_every_address_in_the_background() {
    let (_done, done, forms) = listening(StatusCode::OK);
    let (_refusing, refusing, _) = listening(StatusCode::BAD_REQUEST);
    let options = Options { alg: SigningAlg::Es256, backchannel_logout_uris: vec![done], ..Options::default() };
    let client = Client::with(options);
    let control = client.provider.control();
    control.auto_login(Some("alice"));
    control.backchannel_logout_to(&refusing);
    control.backchannel_logout_to("http://id.example.com/not-on-this-machine");
    control.clear();
    let answer = client.authorize(&[], "").await;
    let (_, tokens) = client.redeem(&redirected(&answer, "code")).await;
    let sids = control.sids("alice");
    // As a client does at its own sign-out: the session is over all the same.
    client.post("/revoke", &[("token", text(&tokens, "refresh_token"))]).await;

    let hint = with_query("/end_session", &[("id_token_hint", tokens["id_token"].as_str())]);
    assert_eq!(get(client.at, &hint).await.status(), StatusCode::OK);
    let sent = |ok, refused| Outcomes { ok, refused };
    while client.provider.stats().logout_tokens != sent(1, 2) {
        tokio::task::yield_now().await;
    }
    let form = lock(&forms)[0].clone();
    let token = form.strip_prefix("logout_token=").expect("the form's one parameter (§2.5)");
    let claims = opened(&client, token).await;
    assert_eq!((&claims["sub"], &claims["sid"]), (&json!("alice"), &json!(sids[0])));

    assert_eq!(get(client.at, &hint).await.status(), StatusCode::OK);
    assert_eq!(client.provider.stats().logout_tokens, sent(1, 2), "what is over does not end again");
}
