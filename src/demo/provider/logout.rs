//! Back-channel logout (OpenID Connect Back-Channel Logout 1.0): the logout token, and telling the client. A sign-out
//! never waits for it.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http::header::{CONTENT_TYPE, HOST};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::{Position, form_urlencoded};

use super::control::Fault;
use super::request::loopback_url;
use super::store::{SignIn, random_id};
use super::{Shared, token};
use crate::clock::unix_now;
use crate::error::Result;

/// §2.4, with what `fault` changes.
pub(super) fn logout_token(
    shared: &Shared,
    sub: Option<&str>,
    sid: Option<&str>,
    fault: Option<&Fault>,
) -> Result<String> {
    let now = unix_now();
    let mut claims = Map::new();
    let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    put("iss", shared.issuer.as_str().into());
    put("aud", shared.options.client_id.as_str().into());
    put("iat", now.into());
    put("exp", (now + LOGOUT_TOKEN_TTL).into());
    put("jti", random_id().into());
    put("events", json!({ EVENT: {} }));
    for (name, value) in [("sub", sub), ("sid", sid)] {
        if let Some(value) = value {
            put(name, value.into());
        }
    }
    token::sign(shared, "logout+jwt", claims, fault)
}

/// Tells every address of the client, in the background, that these sign-ins are over (§2.5).
pub(super) fn notify(shared: &Arc<Shared>, ended: &[SignIn]) {
    let uris: Vec<String> = shared.dials().backchannel_logout_uris.clone();
    for sign_in in ended {
        for uri in &uris {
            let (shared, uri, sign_in) = (Arc::clone(shared), uri.clone(), sign_in.clone());
            tokio::spawn(async move {
                let token = logout_token(&shared, Some(&sign_in.user), Some(&sign_in.sid), None);
                let taken = match token {
                    Ok(token) => timeout(PATIENCE, post(&uri, &token)).await.ok().flatten().unwrap_or(false),
                    Err(_) => false,
                };
                if !taken {
                    tracing::warn!(target: "doorward::demo", %uri, "a logout token was not taken");
                }
                shared.stats().logout_tokens.count(taken);
            });
        }
    }
}

/// Whether the client answered that it is done (§2.8). None where it did not answer, or is not on this machine.
async fn post(uri: &str, token: &str) -> Option<bool> {
    let url = loopback_url(uri).filter(|url| url.scheme() == "http")?;
    let host = url.host_str()?.trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, url.port_or_known_default()?)).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let connection = tokio::spawn(connection);
    let body = form_urlencoded::Serializer::new(String::new()).append_pair("logout_token", token).finish();
    let request = Request::post(&url[Position::BeforePath..Position::AfterQuery])
        .header(HOST, url.authority())
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(body)
        .ok()?;
    let answer = sender.send_request(request).await.ok();
    connection.abort();
    Some(matches!(answer?.status().as_u16(), 200 | 204))
}

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// Seconds: what the standard recommends.
const LOGOUT_TOKEN_TTL: u64 = 120;
/// For one client to answer.
const PATIENCE: Duration = Duration::from_secs(10);
