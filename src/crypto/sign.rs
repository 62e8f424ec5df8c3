//! Signing JWTs (RFC 7515 §3.1): of the client towards the provider, of Doorward towards an upstream. jsonwebtoken makes
//! the signature; which claims there are is the caller's business.

use std::fmt;

use aws_lc_rs::agreement::{self, ECDH_P256};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Map, Value, json};

/// A private key, the one algorithm it signs by, and its public half.
pub struct SigningKey {
    key: EncodingKey,
    alg: Algorithm,
    kid: String,
    /// Public members only, with `kid`, `alg` and `use`.
    jwk: Value,
}

impl SigningKey {
    /// ES256 from 32 secret bytes: the same bytes give the same key everywhere. `None` for the 2⁻³² of all bytes that are
    /// no private key.
    pub fn es256(secret: &[u8; 32]) -> Option<Self> {
        let private = agreement::PrivateKey::from_private_key(&ECDH_P256, secret).ok()?;
        let public = private.compute_public_key().ok()?;
        let pair =
            EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, secret, public.as_ref());
        let pkcs8 = pair.ok()?.to_pkcs8v1().ok()?;
        Self::new(EncodingKey::from_ec_der(pkcs8.as_ref()), Algorithm::ES256, None)
    }

    /// `kid`: else the RFC 7638 thumbprint. `None` where key and algorithm do not go together.
    pub fn new(key: EncodingKey, alg: Algorithm, kid: Option<&str>) -> Option<Self> {
        let public = Jwk::from_encoding_key(&key, alg).ok()?;
        let kid = match kid {
            Some(kid) => kid.to_owned(),
            None => public.thumbprint(ThumbprintHash::SHA256).ok()?,
        };
        let mut jwk = serde_json::to_value(&public).ok()?;
        let members = jwk.as_object_mut()?;
        members.insert("kid".to_owned(), kid.clone().into());
        members.insert("alg".to_owned(), json!(alg));
        members.insert("use".to_owned(), "sig".into());
        Some(Self { key, alg, kid, jwk })
    }

    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public key as RFC 7517 writes it.
    pub fn jwk(&self) -> &Value {
        &self.jwk
    }

    /// `header` are the members beside `alg`. `None` only where the library refuses, which it does not for a key of ours.
    pub fn sign(&self, mut header: Map<String, Value>, claims: &Map<String, Value>) -> Option<String> {
        header.insert("alg".to_owned(), json!(self.alg));
        let part = |of: &Map<String, Value>| serde_json::to_vec(of).ok().map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        let message = format!("{}.{}", part(&header)?, part(claims)?);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.alg).ok()?;
        Some(format!("{message}.{signature}"))
    }
}

/// Nothing of the private half.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::jws;
    use crate::crypto::testing::set;

    #[test]
    fn the_same_secret_is_the_same_key_and_its_signatures_verify() {
        let (a, b) = (SigningKey::es256(&[7; 32]).unwrap(), SigningKey::es256(&[7; 32]).unwrap());
        assert_eq!(a.kid(), b.kid());
        assert_ne!(a.kid(), SigningKey::es256(&[8; 32]).unwrap().kid());
        let header = json!({"typ": "JWT", "kid": a.kid()}).as_object().unwrap().clone();
        let claims = json!({"sub": "alice"}).as_object().unwrap().clone();
        let token = a.sign(header, &claims).unwrap();
        let verified = jws::verify(&token, &set(&[b.jwk().clone()]), &[Algorithm::ES256], None).unwrap();
        assert_eq!(verified.claims, claims);
        assert!(a.jwk().get("d").is_none());
    }
}
