//! The provider's signing keys: one RSA and one EC key at a time, and after a rotation perhaps the ones before. It
//! makes, publishes and uses them; what a token says is not its business.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde_json::{Map, Value, json};

use crate::error::{Error, Kind, Result};

/// What ID tokens are signed with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SigningAlg {
    Es256,
    Rs256,
}

impl SigningAlg {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }

    fn algorithm(self) -> Algorithm {
        match self {
            Self::Es256 => Algorithm::ES256,
            Self::Rs256 => Algorithm::RS256,
        }
    }
}

/// The current keys and those that are still published.
pub(super) struct KeySet {
    current: Arc<Pair>,
    old: Vec<Arc<Pair>>,
}

impl KeySet {
    pub(super) fn generate() -> Result<Self> {
        Ok(Self { current: Pair::generate(0)?, old: Vec::new() })
    }

    /// New keys under new ids. With `keep_old` the replaced ones stay in the JWKS, as a careful provider does it.
    pub(super) fn rotated(&self, keep_old: bool) -> Result<Self> {
        let mut old = Vec::new();
        if keep_old {
            old.push(Arc::clone(&self.current));
            old.extend(self.old.iter().take(OLD_PAIRS - 1).cloned());
        }
        Ok(Self { current: Pair::generate(self.current.generation + 1)?, old })
    }

    /// The JWKS document (RFC 7517 §5). May wait for an RSA key: call it where waiting is allowed.
    pub(super) fn jwks(&self) -> Result<Value> {
        let mut keys = Vec::new();
        for pair in std::iter::once(&self.current).chain(&self.old) {
            keys.push(serde_json::to_value(&pair.rsa()?.jwk).map_err(internal)?);
            keys.push(serde_json::to_value(&pair.ec.jwk).map_err(internal)?);
        }
        Ok(json!({ "keys": keys }))
    }

    pub(super) fn kid(&self, alg: SigningAlg) -> Result<String> {
        Ok(self.current.key(alg)?.kid.clone())
    }

    /// A compact JWS of exactly this header and these claims. It is put together by hand because tests want headers that
    /// no library writes: `alg` decides between `none`, `HS256` (keyed with the client secret) and the provider's keys;
    /// an `alg` that is none of these is signed with `fallback`. The header's `kid` is the caller's: the keys are called
    /// `demo-es256-N` and `demo-rs256-N`, N counting the rotations.
    pub(super) fn sign(
        &self,
        header: &Map<String, Value>,
        claims: &Map<String, Value>,
        client_secret: &str,
        fallback: SigningAlg,
    ) -> Result<String> {
        let part = |map: &Map<String, Value>| {
            serde_json::to_vec(map).map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(internal)
        };
        let message = format!("{}.{}", part(header)?, part(claims)?);
        let signature = match header.get("alg").and_then(Value::as_str) {
            Some("none") => String::new(),
            Some("HS256") => {
                let key = EncodingKey::from_secret(client_secret.as_bytes());
                jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).map_err(internal)?
            }
            Some("RS256") => self.current.rsa()?.sign(&message, SigningAlg::Rs256)?,
            Some("ES256") => self.current.ec.sign(&message, SigningAlg::Es256)?,
            _ => self.current.key(fallback)?.sign(&message, fallback)?,
        };
        Ok(format!("{message}.{signature}"))
    }

    /// The claims of a token that one of the published keys signed, whatever its age: an `id_token_hint` may be expired.
    pub(super) fn open(&self, token: &str) -> Option<Map<String, Value>> {
        let (message, signature) = token.rsplit_once('.')?;
        let (_, payload) = message.split_once('.')?;
        let good = std::iter::once(&self.current).chain(&self.old).any(|pair| {
            pair.ec.verifies(message, signature, SigningAlg::Es256)
                || pair.rsa.get().is_some_and(|rsa| rsa.verifies(message, signature, SigningAlg::Rs256))
        });
        if !good {
            return None;
        }
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }
}

/// One key of each kind. The RSA key is slow to make, so it is made by whoever needs it first.
struct Pair {
    generation: u32,
    ec: Key,
    rsa: OnceLock<Key>,
    making: Mutex<()>,
}

impl Pair {
    fn generate(generation: u32) -> Result<Arc<Self>> {
        Ok(Arc::new(Self { generation, ec: Key::ec(generation)?, rsa: OnceLock::new(), making: Mutex::new(()) }))
    }

    fn key(&self, alg: SigningAlg) -> Result<&Key> {
        match alg {
            SigningAlg::Es256 => Ok(&self.ec),
            SigningAlg::Rs256 => self.rsa(),
        }
    }

    fn rsa(&self) -> Result<&Key> {
        if let Some(key) = self.rsa.get() {
            return Ok(key);
        }
        // `OnceLock::get_or_try_init` is not stable; without the lock two callers would each spend the time.
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = self.rsa.get() {
            return Ok(key);
        }
        let key = Key::rsa(self.generation)?;
        Ok(self.rsa.get_or_init(|| key))
    }
}

struct Key {
    kid: String,
    private: EncodingKey,
    public: DecodingKey,
    jwk: Jwk,
}

impl Key {
    fn ec(generation: u32) -> Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(no_key)?;
        let der = pair.to_pkcs8v1().map_err(no_key)?;
        Self::new(format!("demo-es256-{generation}"), EncodingKey::from_ec_der(der.as_ref()), SigningAlg::Es256)
    }

    fn rsa(generation: u32) -> Result<Self> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(no_key)?;
        let der: Pkcs8V1Der<'_> = pair.as_der().map_err(no_key)?;
        // jsonwebtoken takes PKCS#8 of RSA keys as PEM only.
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<&str> =
            (0..text.len()).step_by(64).filter_map(|i| text.get(i..text.len().min(i + 64))).collect();
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
        let private = EncodingKey::from_rsa_pem(pem.as_bytes()).map_err(internal)?;
        Self::new(format!("demo-rs256-{generation}"), private, SigningAlg::Rs256)
    }

    fn new(kid: String, private: EncodingKey, alg: SigningAlg) -> Result<Self> {
        let mut jwk = Jwk::from_encoding_key(&private, alg.algorithm()).map_err(internal)?;
        jwk.common.key_id = Some(kid.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        let public = DecodingKey::from_jwk(&jwk).map_err(internal)?;
        Ok(Self { kid, private, public, jwk })
    }

    fn sign(&self, message: &str, alg: SigningAlg) -> Result<String> {
        jsonwebtoken::crypto::sign(message.as_bytes(), &self.private, alg.algorithm()).map_err(internal)
    }

    fn verifies(&self, message: &str, signature: &str, alg: SigningAlg) -> bool {
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.public, alg.algorithm()).unwrap_or(false)
    }
}

fn internal(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Kind::Internal, "the demo provider cannot sign").because(source)
}

fn no_key(_: aws_lc_rs::error::Unspecified) -> Error {
    Error::new(Kind::Internal, "the demo provider cannot make a key")
}

/// Published after their rotation, at most.
const OLD_PAIRS: usize = 4;
