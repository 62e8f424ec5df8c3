//! Proof of possession (RFC 9449): with every request for a token, and with every use of one, goes a proof that is signed
//! by a key of our own and good for that one request. A token that is stolen is then of no use without the key.
//!
//! The key comes from the session key, so that all replicas have the same one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ::http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::clock;
use crate::config::settings;
use crate::crypto::seal::KeyRing;
use crate::crypto::sign::SigningKey;
use crate::crypto::{json, random};
use crate::error::{Error, Kind, Result};
use crate::provider::client_auth::object;
use crate::secret::Secret;

/// Characters of a nonce that we keep; a provider that gives longer ones is refused by itself, for want of it.
const MAX_NONCE: usize = 1024;

/// Servers whose nonce we keep. A provider has two at most: token endpoint and userinfo.
const MAX_SERVERS: usize = 8;

const PROOF: HeaderName = HeaderName::from_static("dpop");
const NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// The error code of a server that wants its nonce in the proof (RFC 9449 §8, §9).
const USE_NONCE: &str = "use_dpop_nonce";

pub(crate) struct Dpop {
    key: SigningKey,
    /// The public key without what a key set says beside it.
    jwk: Value,
    /// By scheme and authority, the latest nonce that the server there gave.
    nonces: Mutex<HashMap<String, String>>,
}

/// The key for a provider with `dpop`, out of the keys of [session]: the same wherever those are the same.
pub fn dpop_key(settings: &settings::Provider, session_keys: &[Secret]) -> Option<SigningKey> {
    let keys = KeyRing::new(session_keys).filter(|_| settings.dpop)?;
    let label = [b"dpop\0", settings.name.as_bytes()].concat();
    keys.derive(&label).find_map(|secret| SigningKey::es256(&secret))
}

impl Dpop {
    pub(crate) fn new(key: SigningKey) -> Self {
        let mut jwk = key.jwk().clone();
        if let Some(members) = jwk.as_object_mut() {
            members.retain(|name, _| ["kty", "crv", "x", "y"].contains(&name.as_str()));
        }
        Self { key, jwk, nonces: Mutex::default() }
    }

    /// RFC 7638: what an authorization request names the key by (§10).
    pub(crate) fn thumbprint(&self) -> &str {
        self.key.kid()
    }

    /// Puts a proof on the request; with `access`, also that the token is ours to use (DP-01).
    pub(crate) fn prove<B>(&self, request: &mut Request<B>, access: Option<&Secret>) -> Result<()> {
        let proof = self.proof(request.method().as_str(), request.uri(), access);
        let value = proof.and_then(|proof| HeaderValue::try_from(proof).ok());
        let value = value.ok_or_else(|| Error::new(Kind::Internal, "a DPoP proof cannot be signed"))?;
        request.headers_mut().insert(PROOF, value);
        Ok(())
    }

    /// Keeps the nonce of an answer, of whatever status (§8.2). True: the request failed for want of it, and is worth one
    /// more try.
    pub(crate) fn learn(&self, uri: &Uri, response: &Response<Bytes>) -> bool {
        let Some(nonce) = nonce(response) else { return false };
        let mut nonces = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        let server = server(uri);
        if nonces.len() >= MAX_SERVERS && !nonces.contains_key(&server) {
            nonces.clear();
        }
        nonces.insert(server, nonce.to_owned());
        drop(nonces);
        matches!(response.status(), StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED) && asks_for_nonce(response)
    }

    fn proof(&self, method: &str, uri: &Uri, access: Option<&Secret>) -> Option<String> {
        let server = server(uri);
        let mut claims = object([
            ("jti", json!(random::token())),
            ("htm", json!(method)),
            // Without query and fragment (§4.2).
            ("htu", json!(format!("{server}{}", uri.path()))),
            ("iat", json!(clock::unix_now())),
        ]);
        if let Some(access) = access {
            let hash = digest::digest(&digest::SHA256, access.expose().as_bytes());
            claims.insert("ath".to_owned(), json!(URL_SAFE_NO_PAD.encode(hash)));
        }
        if let Some(nonce) = self.nonces.lock().unwrap_or_else(PoisonError::into_inner).get(&server) {
            claims.insert("nonce".to_owned(), json!(nonce));
        }
        self.key.sign(object([("typ", json!("dpop+jwt")), ("jwk", self.jwk.clone())]), &claims)
    }
}

fn server(uri: &Uri) -> String {
    format!("{}://{}", uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", |authority| authority.as_str()))
}

/// As §8.1 spells one: visible ASCII without `"` and `\`.
fn nonce(response: &Response<Bytes>) -> Option<&str> {
    let nonce = response.headers().get(NONCE)?.to_str().ok()?;
    let fits = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
    ((1..=MAX_NONCE).contains(&nonce.len()) && nonce.bytes().all(fits)).then_some(nonce)
}

/// An authorization server says so in the body (§8), a resource server in its challenge (§9).
fn asks_for_nonce(response: &Response<Bytes>) -> bool {
    let challenges = response.headers().get_all(header::WWW_AUTHENTICATE).iter();
    let quoted = format!("error=\"{USE_NONCE}\"");
    let in_challenge = challenges.filter_map(|value| value.to_str().ok()).any(|value| value.contains(&quoted));
    let body = json::object(response.body()).unwrap_or_default();
    in_challenge || body.get("error").and_then(Value::as_str) == Some(USE_NONCE)
}
