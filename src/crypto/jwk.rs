//! JSON Web Key Sets (RFC 7517), read leniently key by key: an entry that we cannot use is skipped, the rest stays
//! usable. Public keys only; a symmetric key in a published set is never used.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::crypto::json::{self, Malformed};

/// More than any provider publishes; the answer is bounded anyway, this bounds the work.
const MAX_KEYS: usize = 100;

/// What an RSA key may do; the usual one first.
pub(crate) const RSA: &[Algorithm] =
    &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

/// The Ed25519 keys of small order, and the two that write 0 and 1 as more than the field holds, with the sign bit cleared:
/// under such a key one signature fits many messages (JX-06).
const SMALL_ORDER: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

/// The usable public keys of one issuer, in the order published.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

#[derive(Debug)]
pub struct Key {
    kid: Option<String>,
    /// What this key may verify: the JWK's own `alg`, else what its type and curve allow (J-02).
    algs: Vec<Algorithm>,
    decoding: DecodingKey,
}

impl KeySet {
    /// Fails only where there is no `keys` array at all.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        #[derive(Deserialize)]
        struct Document<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }
        let document: Document<'_> = serde_json::from_slice(bytes).map_err(|_| Malformed)?;
        let keys = document.keys.iter().take(MAX_KEYS).filter_map(|raw| Key::parse(raw.get())).collect();
        Ok(Self { keys })
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether any key has this id, whatever it may verify.
    pub fn knows(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| key.kid.as_deref() == Some(kid))
    }

    /// The keys that may verify `alg`: with a `kid`, all that carry it (two keys may share one, D-10); without, all.
    pub fn candidates<'a>(&'a self, kid: Option<&'a str>, alg: Algorithm) -> impl Iterator<Item = &'a Key> {
        self.keys.iter().filter(move |key| key.algs.contains(&alg) && (kid.is_none() || key.kid.as_deref() == kid))
    }
}

impl Key {
    pub fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }

    /// None for whatever we cannot, or must not, verify a signature with (D-09).
    fn parse(text: &str) -> Option<Self> {
        let jwk = json::object(text.as_bytes()).ok()?;
        let kid = optional_str(&jwk, "kid")?;
        if optional_str(&jwk, "use")?.is_some_and(|purpose| purpose != "sig") || !may_verify(&jwk) {
            return None;
        }
        let (family, decoding) = match jwk.get("kty")?.as_str()? {
            "RSA" => (RSA, rsa(&jwk)?),
            "EC" => elliptic(&jwk)?,
            "OKP" => edwards(&jwk)?,
            _ => return None,
        };
        let algs = match optional_str(&jwk, "alg")? {
            Some(name) => vec![*family.iter().find(|alg| format!("{alg:?}") == name)?],
            None => family.to_vec(),
        };
        Some(Self { kid: kid.map(str::to_owned), algs, decoding })
    }
}

/// Outer None: the member is there and is no string.
fn optional_str<'a>(jwk: &'a Map<String, Value>, name: &str) -> Option<Option<&'a str>> {
    match jwk.get(name) {
        None => Some(None),
        Some(value) => value.as_str().map(Some),
    }
}

fn may_verify(jwk: &Map<String, Value>) -> bool {
    match jwk.get("key_ops") {
        None => true,
        Some(Value::Array(ops)) => ops.iter().any(|op| op == "verify"),
        Some(_) => false,
    }
}

fn rsa(jwk: &Map<String, Value>) -> Option<DecodingKey> {
    let (n, e) = (octets(jwk, "n")?, octets(jwk, "e")?);
    let (n, e) = (without_leading_zeros(&n), without_leading_zeros(&e));
    // SECURITY: bounds on the work of one verification, and no key that verifies anything (J-04, JX-24).
    let bits = n.len() * 8 - usize::try_from(n.first()?.leading_zeros()).ok()?;
    let exponent = e.iter().try_fold(0_u64, |acc, byte| acc.checked_mul(256).map(|acc| acc | u64::from(*byte)))?;
    let sound = (2048..=8192).contains(&bits)
        && n.last()? % 2 == 1
        && (3..=0x1_ffff_ffff).contains(&exponent)
        && exponent % 2 == 1;
    sound.then(|| DecodingKey::from_rsa_raw_components(n, e))
}

fn elliptic(jwk: &Map<String, Value>) -> Option<(&'static [Algorithm], DecodingKey)> {
    let (algs, field, verifier): (&[Algorithm], _, _) = match jwk.get("crv")?.as_str()? {
        "P-256" => (&[Algorithm::ES256], 32, &ECDSA_P256_SHA256_FIXED),
        "P-384" => (&[Algorithm::ES384], 48, &ECDSA_P384_SHA384_FIXED),
        _ => return None,
    };
    let (x, y) = (octets(jwk, "x")?, octets(jwk, "y")?);
    if x.len() != field || y.len() != field {
        return None;
    }
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    // A point that is not on the curve fails here, not at the first token.
    ParsedPublicKey::new(verifier, &point).ok()?;
    Some((algs, DecodingKey::from_ec_der(&point)))
}

fn edwards(jwk: &Map<String, Value>) -> Option<(&'static [Algorithm], DecodingKey)> {
    if jwk.get("crv")?.as_str()? != "Ed25519" {
        return None;
    }
    let x = octets(jwk, "x")?;
    if is_of_small_order(&x) {
        return None;
    }
    ParsedPublicKey::new(&ED25519, &x).ok()?;
    Some((&[Algorithm::EdDSA], DecodingKey::from_ed_der(&x)))
}

fn is_of_small_order(key: &[u8]) -> bool {
    let Some((last, rest)) = key.split_last() else { return false };
    let hex: String = rest.iter().chain(&[last & 0x7f]).map(|byte| format!("{byte:02x}")).collect();
    SMALL_ORDER.contains(&hex.as_str())
}

fn octets(jwk: &Map<String, Value>, name: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(jwk.get(name)?.as_str()?).ok()
}

fn without_leading_zeros(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    bytes.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::crypto::testing::{ec, rsa};

    fn usable(jwk: Value) -> usize {
        KeySet::parse(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap().len()
    }

    fn with(mut jwk: Value, name: &str, value: Value) -> Value {
        jwk[name] = value;
        jwk
    }

    #[test]
    fn d_09_unusable_entries_are_skipped_and_the_rest_is_used() {
        let set = json!({"keys": [
            {"kty": "FOO", "kid": "1"}, 7, null, "x", [], {"kty": 7}, {},
            {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "a"},
            {"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"},
            {"kty": "OKP", "crv": "X25519", "x": "AAAA"},
            rsa().jwk("a"), ec().jwk("b"),
        ], "other": 1});
        let set = KeySet::parse(set.to_string().as_bytes()).unwrap();
        assert_eq!(set.len(), 2);
        assert!(set.knows("a") && set.knows("b") && !set.knows("1"));
        assert_eq!(set.candidates(Some("a"), Algorithm::RS256).count(), 1);
        assert_eq!(set.candidates(Some("a"), Algorithm::ES256).count(), 0, "an RSA key verifies no ES256");
        assert_eq!(set.candidates(None, Algorithm::ES256).count(), 1);
        assert_eq!(set.candidates(None, Algorithm::HS256).count(), 0, "oct keys are never used");
    }

    #[test]
    fn d_09_use_key_ops_alg_and_wrong_types_are_honoured() {
        let key = || rsa().jwk("a");
        assert_eq!(usable(key()), 1);
        assert_eq!(usable(with(key(), "key_ops", json!(["verify"]))), 1);
        for (name, value) in [
            ("use", json!("enc")),
            ("use", json!(1)),
            ("key_ops", json!(["encrypt"])),
            ("key_ops", json!("verify")),
            ("alg", json!("RSA-OAEP")),
            ("alg", json!("ES256")),
            ("alg", json!("none")),
            ("alg", json!(["RS256"])),
            ("kid", json!(7)),
            ("n", json!(7)),
            ("n", json!("")),
            ("n", json!("AQAB=")),
            ("e", json!("AQ")),
            ("e", json!("AQAA")),
            ("e", json!("")),
            ("e", json!("A_______")),
        ] {
            assert_eq!(usable(with(key(), name, value.clone())), 0, "{name} {value}");
        }
        let pinned = json!({"keys": [with(key(), "alg", json!("RS256"))]}).to_string();
        let pinned = KeySet::parse(pinned.as_bytes()).unwrap();
        assert_eq!(pinned.candidates(None, Algorithm::RS256).count(), 1);
        assert_eq!(pinned.candidates(None, Algorithm::PS256).count(), 0, "J-02: the JWK's own alg only");
    }

    #[test]
    fn j_04_jx_24_sizes_and_points_are_bounded() {
        let modulus = |bytes: usize| URL_SAFE_NO_PAD.encode(vec![0xff; bytes]);
        for (bytes, want) in [(128, 0), (255, 0), (256, 1), (1024, 1), (1025, 0), (8192, 0)] {
            assert_eq!(usable(with(rsa().jwk("a"), "n", json!(modulus(bytes)))), want, "{bytes} bytes");
        }
        let key = ec().jwk("b");
        assert_eq!(usable(with(key.clone(), "x", key["y"].clone())), 0, "not on the curve");
        assert_eq!(usable(with(key.clone(), "x", json!("AA"))), 0, "too short");
        assert_eq!(usable(with(key, "crv", json!("P-384"))), 0, "of another curve");
    }

    #[test]
    fn a_set_is_bounded_and_must_be_a_set() {
        let many = json!({"keys": vec![ec().jwk("b"); MAX_KEYS + 50]}).to_string();
        assert_eq!(KeySet::parse(many.as_bytes()).unwrap().len(), MAX_KEYS);
        assert!(KeySet::parse(br#"{"keys":[]}"#).unwrap().is_empty());
        for bad in ["", "{}", "[]", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, r#"{"keys":[]}x"#, "<html>"] {
            assert!(KeySet::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let deep = format!(r#"{{"keys":[{}]}}"#, "[".repeat(100_000));
        assert!(KeySet::parse(deep.as_bytes()).is_err());
        let deep = format!(r#"{{"keys":[{}{}]}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(KeySet::parse(deep.as_bytes()).unwrap().is_empty());
    }
}
