//! Signing JWTs (RFC 7515 §3.1): of the client towards the provider, of Doorward towards an upstream. jsonwebtoken makes
//! the signature; which claims there are is the caller's business.

use std::fmt;

use aws_lc_rs::agreement::{self, ECDH_P256};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Map, Value, json};

use crate::crypto::jwk::RSA;
use crate::secret::Secret;

/// A private key, the one algorithm it signs by, and its public half.
pub struct SigningKey {
    key: EncodingKey,
    alg: Algorithm,
    kid: String,
    /// Public members only, with `kid`, `alg` and `use`.
    jwk: Value,
}

/// Why a private key cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyFault {
    /// Not of this kind.
    Algorithm,
    Size,
    Unreadable,
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Algorithm => "is of a kind that does not sign by this algorithm",
            Self::Size => "is an RSA key that cannot be used: it must have 2048 to 8192 bits",
            Self::Unreadable => "is not a private key that can be used here",
        })
    }
}

impl SigningKey {
    /// A key in PEM (PKCS#8, SEC 1, PKCS#1; not encrypted): RSA, P-256, P-384 or Ed25519. `alg` by its name in RFC 7518,
    /// else RS256, ES256, ES384 or EdDSA; `kid` as in `new`.
    pub fn from_pem(pem: &Secret, alg: Option<&str>, kid: Option<&str>) -> Result<Self, KeyFault> {
        let der = PrivateKeyDer::from_pem_slice(pem.expose().as_bytes()).map_err(|_| KeyFault::Unreadable)?;
        let (key, algs) =
            rsa(pem, &der).or_else(|| elliptic(&der)).or_else(|| edwards(&der)).unwrap_or(Err(KeyFault::Unreadable))?;
        let alg = match alg {
            Some(name) => algs.iter().find(|alg| format!("{alg:?}") == name),
            None => algs.first(),
        };
        Self::new(key, *alg.ok_or(KeyFault::Algorithm)?, kid).ok_or(KeyFault::Unreadable)
    }

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
    pub fn sign(&self, header: Map<String, Value>, claims: &Map<String, Value>) -> Option<String> {
        compact(&self.key, self.alg, header, claims)
    }
}

/// Nothing of the private half.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// HS256 under the octets of a secret that both sides know. Whether it is long enough is for the caller to say.
pub fn hs256(secret: &Secret, header: Map<String, Value>, claims: &Map<String, Value>) -> Option<String> {
    compact(&EncodingKey::from_secret(secret.expose().as_bytes()), Algorithm::HS256, header, claims)
}

fn compact(
    key: &EncodingKey,
    alg: Algorithm,
    mut header: Map<String, Value>,
    claims: &Map<String, Value>,
) -> Option<String> {
    header.insert("alg".to_owned(), json!(alg));
    let part = |of: &Map<String, Value>| serde_json::to_vec(of).ok().map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
    let message = format!("{}.{}", part(&header)?, part(claims)?);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, alg).ok()?;
    Some(format!("{message}.{signature}"))
}

/// What a key of one kind is, and by what it may sign, the usual one first. None: of another kind.
type Read = Option<Result<(EncodingKey, &'static [Algorithm]), KeyFault>>;

fn rsa(pem: &Secret, der: &PrivateKeyDer<'_>) -> Read {
    let pair = match der {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        _ => return None,
    };
    // Of another kind, where this fails.
    let key = EncodingKey::from_rsa_pem(pem.expose().as_bytes()).ok()?;
    // SECURITY: F-10: aws-lc-rs takes 2048 to 8192 bits.
    Some(pair.map(|_| (key, RSA)).map_err(|_| KeyFault::Size))
}

fn elliptic(der: &PrivateKeyDer<'_>) -> Read {
    let curves = [
        (&ECDSA_P256_SHA256_FIXED_SIGNING, [Algorithm::ES256].as_slice()),
        (&ECDSA_P384_SHA384_FIXED_SIGNING, [Algorithm::ES384].as_slice()),
    ];
    curves.into_iter().find_map(|(curve, algs)| {
        let pair = EcdsaKeyPair::from_private_key_der(curve, der.secret_der()).ok()?;
        Some(Ok((EncodingKey::from_ec_der(pair.to_pkcs8v1().ok()?.as_ref()), algs)))
    })
}

fn edwards(der: &PrivateKeyDer<'_>) -> Read {
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_der()).ok()?;
    Some(Ok((EncodingKey::from_ed_der(pair.to_pkcs8v1().ok()?.as_ref()), [Algorithm::EdDSA].as_slice())))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer as _, EcPrivateKeyRfc5915Der};

    use super::*;
    use crate::crypto::jws;
    use crate::crypto::testing::{Signer, ec, pem, rsa, set};

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

    fn sec1_of(pair: &EcdsaKeyPair) -> EcPrivateKeyRfc5915Der<'static> {
        pair.private_key().as_der().unwrap()
    }

    fn read(pem: &str, alg: Option<&str>) -> Result<SigningKey, KeyFault> {
        SigningKey::from_pem(&Secret::new(pem), alg, None)
    }

    #[test]
    fn pk_01_f_10_every_kind_of_key_signs_by_the_algorithms_that_are_its_own() {
        let es384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        let (rsa, ec, ed) = (rsa().pkcs8(), ec().pkcs8(), Signer::new_ed().pkcs8());
        // PKCS#8 holds PKCS#1 as its last member.
        let pkcs1 = pem("RSA PRIVATE KEY", &rsa[26..]);
        let sec1 = pem("EC PRIVATE KEY", sec1_of(&es384).as_ref());
        let parameters = format!("{}{sec1}", pem("EC PARAMETERS", &[6, 5, 43, 129, 4, 0, 34]));
        let pkcs8 = |der: &[u8]| pem("PRIVATE KEY", der);
        for (pem, alg, want) in [
            (pkcs8(&rsa), None, Ok("RS256")),
            (pkcs8(&rsa), Some("PS256"), Ok("PS256")),
            (pkcs1.clone(), Some("RS512"), Ok("RS512")),
            (pkcs1.trim_end().to_owned(), Some("PS384"), Ok("PS384")),
            (pkcs8(&ec), None, Ok("ES256")),
            (sec1.clone(), None, Ok("ES384")),
            (parameters, Some("ES384"), Ok("ES384")),
            (pkcs8(&ed), None, Ok("EdDSA")),
            (pkcs8(&rsa), Some("ES256"), Err(KeyFault::Algorithm)),
            (pkcs8(&ec), Some("RS256"), Err(KeyFault::Algorithm)),
            (pkcs8(&ec), Some("ES384"), Err(KeyFault::Algorithm)),
            (pkcs8(&ed), Some("HS256"), Err(KeyFault::Algorithm)),
            (sec1, Some("none"), Err(KeyFault::Algorithm)),
            (pkcs8(&rsa[..400]), None, Err(KeyFault::Unreadable)),
            (pem("ENCRYPTED PRIVATE KEY", &ec), None, Err(KeyFault::Unreadable)),
            (pem("PUBLIC KEY", &ec), None, Err(KeyFault::Unreadable)),
            (String::new(), None, Err(KeyFault::Unreadable)),
            ("secret".to_owned(), None, Err(KeyFault::Unreadable)),
        ] {
            let key = match (read(&pem, alg), want) {
                (Ok(key), Ok(_)) => key,
                (got, want) => {
                    assert_eq!(got.err(), want.err(), "{alg:?}");
                    continue;
                }
            };
            assert_eq!(key.jwk()["alg"], want.unwrap());
            let claims = json!({"sub": "alice"}).as_object().unwrap().clone();
            let token = key.sign(json!({"kid": key.kid()}).as_object().unwrap().clone(), &claims).unwrap();
            let alg: Algorithm = want.unwrap().parse().unwrap();
            assert!(jws::verify(&token, &set(&[key.jwk().clone()]), &[alg], None).is_ok(), "{alg:?}");
            for private in ["d", "p", "q", "k"] {
                assert!(key.jwk().get(private).is_none(), "{alg:?} {private}");
            }
        }
        let named = SigningKey::from_pem(&Secret::new(pkcs8(&ec)), None, Some("2026")).unwrap();
        assert_eq!((named.kid(), &named.jwk()["kid"]), ("2026", &json!("2026")));
    }

    #[test]
    fn f_10_a_small_rsa_key_is_refused() {
        // RSAPrivateKey (RFC 8017, A.1.2): a version and eight integers, of which the first has 1024 bits.
        let integer = |length: u8| {
            let mut der = vec![2, 0x81, length];
            der.resize(3 + usize::from(length), 0x7f);
            der
        };
        let integers = [vec![2, 1, 0], integer(129), vec![2, 3, 1, 0, 1], integer(129)].concat();
        let integers = [integers, [64; 5].map(integer).concat()].concat();
        let length = u16::try_from(integers.len()).unwrap().to_be_bytes();
        let der = [vec![0x30, 0x82], length.to_vec(), integers].concat();
        assert_eq!(read(&pem("RSA PRIVATE KEY", &der), None).err(), Some(KeyFault::Size));
    }
}
