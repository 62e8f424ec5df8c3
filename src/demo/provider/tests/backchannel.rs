use std::sync::Mutex as StdMutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Verifies what every logout token has; the rest is the test's.
async fn opened(client: &Client, token: &str) -> Value {
    assert_eq!(jsonwebtoken::decode_header(token).unwrap().typ.as_deref(), Some("logout+jwt"));
    let claims = client.verified(token).await.expect("signed by a published key, for us");
    assert_eq!(claims["events"], json!({"http://schemas.openid.net/event/backchannel-logout": {}}));
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 120);
    assert!(claims.get("nonce").is_none() && !claims["jti"].as_str().unwrap().is_empty());
    claims
}

/// A client's back-channel address that answers `status`, and the forms that came.
async fn listening(status: u16) -> (String, Arc<StdMutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/oauth2/backchannel-logout?p=1", listener.local_addr().unwrap());
    let forms = Arc::<StdMutex<Vec<String>>>::default();
    let kept = Arc::clone(&forms);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            let body = loop {
                request.push(stream.read_u8().await.unwrap());
                let text = String::from_utf8(request.clone()).unwrap();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                assert!(head.starts_with("POST /oauth2/backchannel-logout?p=1 HTTP/1.1\r\n"), "{head}");
                let length = head.to_lowercase().split_once("content-length: ").unwrap().1.to_owned();
                if body.len() == length.lines().next().unwrap().parse::<usize>().unwrap() {
                    break body.to_owned();
                }
            };
            kept.lock().unwrap().push(body);
            stream.write_all(format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n").as_bytes()).await.unwrap();
        }
    });
    (uri, forms)
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
        let claims = client.verified(tokens["id_token"].as_str().unwrap()).await.unwrap();
        sids.push(claims["sid"].as_str().unwrap().to_owned());
    }
    assert!(sids[0] == sids[1] && sids[0] == sids[2] && sids[0] != sids[3], "{sids:?}");
    assert_eq!(control.sids("alice"), [sids[0].clone(), sids[3].clone()]);
    assert!(control.sids("bob").is_empty());
}

#[tokio::test]
async fn a_logout_token_is_good_unless_it_is_spoiled() {
    let client = Client::new();
    let control = client.provider.control();
    let both = control.logout_token(Some("alice"), Some("s-1"), None).unwrap();
    let claims = opened(&client, &both).await;
    assert_eq!((&claims["sub"], &claims["sid"]), (&json!("alice"), &json!("s-1")));
    let sub_only = opened(&client, &control.logout_token(Some("alice"), None, None).unwrap()).await;
    assert!(sub_only.get("sid").is_none() && sub_only["jti"] != claims["jti"]);

    let bad = control.logout_token(Some("alice"), None, Some(&Fault::BadSignature)).unwrap();
    assert!(client.verified(&bad).await.is_none());
    let tamper = Fault::tamper(|header, claims| {
        header.remove("typ");
        claims.insert("nonce".to_owned(), json!("n"));
    });
    let spoiled = control.logout_token(None, Some("s-1"), Some(&tamper)).unwrap();
    assert_eq!(client.verified(&spoiled).await.expect("signed properly")["nonce"], "n");
    let unsigned = Fault::tamper(|header, _| drop(header.insert("alg".to_owned(), json!("none"))));
    assert!(control.logout_token(Some("alice"), None, Some(&unsigned)).unwrap().ends_with('.'));
}

#[tokio::test]
async fn a_sign_out_tells_every_address_in_the_background() {
    let (done, forms) = listening(200).await;
    let (refusing, _) = listening(400).await;
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
    client.post("/revoke", &[("token", tokens["refresh_token"].as_str().unwrap())]).await;

    let hint = with_query("/end_session", &[("id_token_hint", tokens["id_token"].as_str())]);
    assert_eq!(get(client.at, &hint).await.status(), StatusCode::OK);
    let sent = |ok, refused| Outcomes { ok, refused };
    while client.provider.stats().logout_tokens != sent(1, 2) {
        tokio::task::yield_now().await;
    }
    let form = forms.lock().unwrap()[0].clone();
    let claims = opened(&client, form.strip_prefix("logout_token=").unwrap()).await;
    assert_eq!((&claims["sub"], &claims["sid"]), (&json!("alice"), &json!(sids[0])));

    assert_eq!(get(client.at, &hint).await.status(), StatusCode::OK);
    assert_eq!(client.provider.stats().logout_tokens, sent(1, 2), "what is over does not end again");
}
