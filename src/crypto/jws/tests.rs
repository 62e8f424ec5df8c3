use serde_json::json;

use super::*;
use crate::crypto::testing::{Signer, b64, ec, hs256, rsa, set};

const ALLOWED: &[Algorithm] = &[Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA];

fn keys() -> KeySet {
    set(&[rsa().jwk("r"), ec().jwk("e")])
}

fn check(token: &str) -> Result<Verified, Refusal> {
    verify(token, &keys(), ALLOWED, None)
}

fn good() -> String {
    rsa().sign(&json!({"alg": "RS256", "kid": "r"}), &json!({"sub": "alice"}))
}

#[test]
fn every_family_verifies() {
    let ed = Signer::new_ed();
    let keys = set(&[rsa().jwk("r"), ec().jwk("e"), ed.jwk("d")]);
    for (signer, alg, kid) in [(rsa(), "RS256", "r"), (rsa(), "PS256", "r"), (ec(), "ES256", "e"), (&ed, "EdDSA", "d")]
    {
        for header in [json!({"alg": alg, "kid": kid}), json!({"alg": alg})] {
            let verified = verify(&signer.sign(&header, &json!({"sub": "alice"})), &keys, ALLOWED, None).unwrap();
            assert_eq!(verified.claims["sub"], "alice", "{alg}");
            assert_eq!(verified.header, *header.as_object().unwrap());
        }
    }
}

#[test]
fn c_08_every_bit_of_signature_and_content_counts() {
    let token = good();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    for at in [0, bytes.len() / 2, bytes.len() - 1] {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        assert_eq!(check(&format!("{signed}.{}", b64(bad))).unwrap_err(), Refusal::Signature, "byte {at}");
    }
    let (header, _) = signed.split_once('.').unwrap();
    let forged = format!("{header}.{}.{signature}", b64(r#"{"sub":"admin"}"#));
    assert_eq!(check(&forged).unwrap_err(), Refusal::Signature);
    let foreign = Signer::new_ec().sign(&json!({"alg": "ES256", "kid": "e"}), &json!({}));
    assert_eq!(check(&foreign).unwrap_err(), Refusal::Signature);
}

#[test]
fn j_01_the_algorithm_is_ours_to_choose() {
    let claims = json!({"sub": "alice"});
    for alg in [
        json!("none"),
        json!("None"),
        json!("nOnE"),
        json!(""),
        json!("rs256"),
        json!("RS256 "),
        json!("RS384"),
        json!("HS256"),
        json!("ES256K"),
        json!(7),
        json!(["RS256"]),
        json!(null),
    ] {
        let token = rsa().sign(&json!({"alg": alg, "kid": "r"}), &claims);
        assert_eq!(check(&token).unwrap_err(), Refusal::Algorithm, "{alg}");
    }
    assert_eq!(check(&rsa().sign(&json!({"kid": "r"}), &claims)).unwrap_err(), Refusal::Algorithm);
    let unsigned = format!("{}.{}.", b64(r#"{"alg":"none"}"#), b64(claims.to_string()));
    assert!(check(&unsigned).is_err());
    let listed = verify(&good(), &keys(), &[Algorithm::ES256], None);
    assert_eq!(listed.unwrap_err(), Refusal::Algorithm, "C-09: what is not listed is refused");
}

#[test]
fn j_02_a_key_verifies_its_own_family_only() {
    let mut pinned = rsa().jwk("r");
    pinned["alg"] = json!("RS256");
    let token = rsa().sign(&json!({"alg": "PS256", "kid": "r"}), &json!({}));
    assert_eq!(verify(&token, &set(&[pinned]), ALLOWED, None).unwrap_err(), Refusal::Algorithm);
    let token = rsa().sign(&json!({"alg": "RS256", "kid": "e"}), &json!({}));
    assert_eq!(check(&token).unwrap_err(), Refusal::Algorithm);
}

#[test]
fn j_05_critical_extensions_are_refused() {
    for header in [
        json!({"alg": "RS256", "kid": "r", "crit": ["x"], "x": 1}),
        json!({"alg": "RS256", "kid": "r", "crit": []}),
        json!({"alg": "RS256", "kid": "r", "crit": null}),
        json!({"alg": "RS256", "kid": "r", "crit": ["b64"], "b64": false}),
        json!({"alg": "RS256", "kid": "r", "b64": true}),
        json!({"alg": "RS256", "kid": "r", "zip": "DEF"}),
        json!({"alg": "RS256", "kid": "r", "cty": "JWT"}),
        json!({"alg": "RS256", "kid": "r", "cty": "jwt"}),
        json!({"alg": "RS256", "kid": 7}),
        json!({"alg": "RS256", "kid": null}),
    ] {
        let token = rsa().sign(&header, &json!({"sub": "alice"}));
        assert!(matches!(check(&token), Err(Refusal::Header(_))), "{header}");
    }
}

#[test]
fn j_06_jx_12_keys_inside_the_token_are_never_used() {
    let own = Signer::new_ec();
    for (name, value) in [
        ("jwk", own.jwk("x")),
        ("jku", json!("https://attacker.example/keys")),
        ("x5u", json!("http://169.254.169.254/")),
        ("x5c", json!(["MIIB"])),
    ] {
        let mut header = json!({"alg": "ES256", "kid": "x"});
        header[name] = value;
        assert_eq!(check(&own.sign(&header, &json!({}))).unwrap_err(), Refusal::UnknownKey, "{name}");
        header["kid"] = json!("e");
        assert_eq!(check(&own.sign(&header, &json!({}))).unwrap_err(), Refusal::Signature, "{name}");
    }
}

#[test]
fn j_07_a_kid_is_only_a_lookup_key() {
    for kid in ["../../dev/null", "' or 1=1--", "a\r\nb", "", &"k".repeat(30_000)] {
        let token = rsa().sign(&json!({"alg": "RS256", "kid": kid}), &json!({}));
        assert_eq!(check(&token).unwrap_err(), Refusal::UnknownKey);
    }
}

#[test]
fn j_11_equal_names_are_refused_in_header_and_claims() {
    for (header, claims) in [
        (r#"{"alg":"none","alg":"RS256","kid":"r"}"#, r#"{"aud":"me"}"#),
        (r#"{"alg":"RS256","kid":"r"}"#, r#"{"aud":"x","aud":"me"}"#),
    ] {
        assert_eq!(check(&rsa().sign_text(header, claims)).unwrap_err(), Refusal::Malformed);
    }
}

#[test]
fn j_12_compact_form_is_strict() {
    let token = good();
    let parts: Vec<&str> = token.split('.').collect();
    let [h, c, s] = parts[..] else { panic!("three parts") };
    let mut variants = vec![
        format!("{token}="),
        format!("{token}\n"),
        format!(" {token}"),
        format!("{token}."),
        format!(".{token}"),
        format!("{h}..{s}"),
        format!("{h}.{c}."),
        format!("{h}.{c}"),
        format!("{h}.{c}.{s}.{s}.{s}"),
        format!("{h}=.{c}.{s}"),
        format!("{h}.{c}.{s}+/"),
        json!({"payload": c, "protected": h, "signature": s}).to_string(),
        String::new(),
        "..".to_owned(),
    ];
    // 256 bytes leave four bits in the last character: any other value there says the same bytes.
    let last = s.chars().last().unwrap();
    let stray = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = stray.find(last).unwrap();
    variants.push(format!("{h}.{c}.{}{}", &s[..s.len() - 1], &stray[at + 1..at + 2]));
    for bad in variants {
        assert_eq!(check(&bad).unwrap_err(), Refusal::Malformed, "{bad}");
    }
}

#[test]
fn j_13_size_and_depth_are_bounded() {
    let filler = "x".repeat(64 * 1024);
    let big = rsa().sign(&json!({"alg": "RS256", "kid": "r"}), &json!({"x": filler}));
    assert_eq!(check(&big).unwrap_err(), Refusal::Malformed);
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
    let deep = rsa().sign_text(r#"{"alg":"RS256","kid":"r"}"#, &deep);
    assert_eq!(check(&deep).unwrap_err(), Refusal::Malformed);
    let array = rsa().sign_text(r#"{"alg":"RS256","kid":"r"}"#, "[]");
    assert_eq!(check(&array).unwrap_err(), Refusal::Malformed);
}

#[test]
fn jx_02_a_public_key_is_no_hmac_secret() {
    let claims = json!({"sub": "alice"});
    let header = json!({"alg": "HS256", "kid": "r"});
    let jwk = rsa().jwk("r");
    let modulus = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
    let both = &[Algorithm::RS256, Algorithm::HS256];
    let secret = Secret::new("s".repeat(32));
    for key in [modulus.as_slice(), jwk.to_string().as_bytes(), jwk["n"].as_str().unwrap().as_bytes(), b""] {
        let token = hs256(key, &header, &claims);
        assert_eq!(check(&token).unwrap_err(), Refusal::Algorithm);
        assert_eq!(verify(&token, &keys(), both, None).unwrap_err(), Refusal::Algorithm);
        assert_eq!(verify(&token, &keys(), both, Some(&secret)).unwrap_err(), Refusal::Signature);
    }
    let token = hs256(secret.expose().as_bytes(), &header, &claims);
    assert!(verify(&token, &keys(), both, Some(&secret)).is_ok(), "C-10: pinned and with the client secret");
    let weak = Secret::new("null");
    let token = hs256(b"null", &header, &claims);
    assert_eq!(verify(&token, &keys(), both, Some(&weak)).unwrap_err(), Refusal::Algorithm, "JX-03");
}

#[test]
fn jx_05_ecdsa_signatures_of_the_wrong_value_or_size() {
    let token = ec().sign(&json!({"alg": "ES256", "kid": "e"}), &json!({}));
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let order = [0xff; 32];
    for bad in [
        vec![0; 64],
        [&raw[..32], &[0; 32]].concat(),
        [&[0; 32], &raw[32..]].concat(),
        [&order[..], &raw[32..]].concat(),
        raw[..63].to_vec(),
        [&raw[..], &[0]].concat(),
        vec![0x30, 0x06, 0x02, 0x01, 0x00, 0x02, 0x01, 0x00],
    ] {
        assert_eq!(check(&format!("{signed}.{}", b64(bad))).unwrap_err(), Refusal::Signature);
    }
}

#[test]
fn jx_06_ed25519_signatures_have_one_form_and_keys_are_of_full_order() {
    let ed = Signer::new_ed();
    let keys = set(&[ed.jwk("d")]);
    let token = ed.sign(&json!({"alg": "EdDSA", "kid": "d"}), &json!({"sub": "alice"}));
    let check = |token: &str, keys: &KeySet| verify(token, keys, &[Algorithm::EdDSA], None);
    assert!(check(&token, &keys).is_ok());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    // S + L is the same number modulo L, the order of the group (RFC 8032 §5.1.7 takes S below L only).
    let order = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
    let order = (0..32).map(|i| u8::from_str_radix(&order[2 * i..2 * i + 2], 16).unwrap());
    let mut carry = 0;
    let sum: Vec<u8> = raw[32..]
        .iter()
        .zip(order)
        .map(|(s, l)| {
            let digit = u16::from(*s) + u16::from(l) + carry;
            carry = digit >> 8;
            digit as u8
        })
        .collect();
    for bad in [[&raw[..32], &sum].concat(), vec![0; 64], raw[..63].to_vec(), [&raw[..], &[0]].concat()] {
        assert_eq!(check(&format!("{signed}.{}", b64(bad)), &keys).unwrap_err(), Refusal::Signature);
    }
    // Under the neutral element, with itself as R and S = 0, any message would be signed.
    let neutral: Vec<u8> = [1].into_iter().chain([0; 31]).collect();
    for key in [neutral.clone(), vec![0; 32], [&neutral[..31], &[0x80]].concat()] {
        let keys = set(&[json!({"kty": "OKP", "crv": "Ed25519", "kid": "d", "x": b64(&key)})]);
        assert_eq!(keys.len(), 0, "{key:?}");
        let forged = format!("{signed}.{}", b64([&key[..], &[0; 32]].concat()));
        assert_eq!(check(&forged, &keys).unwrap_err(), Refusal::UnknownKey);
    }
}

#[test]
fn d_10_two_keys_with_one_kid_are_both_tried() {
    let second = Signer::new_ec();
    let keys = set(&[ec().jwk("k"), second.jwk("k")]);
    for signer in [ec(), &second] {
        let token = signer.sign(&json!({"alg": "ES256", "kid": "k"}), &json!({}));
        assert!(verify(&token, &keys, ALLOWED, None).is_ok());
    }
}

#[test]
fn c_21_without_kid_every_fitting_key_is_tried() {
    let second = Signer::new_ec();
    let mut encryption = Signer::new_ec().jwk("x");
    encryption["use"] = json!("enc");
    let keys = set(&[encryption, rsa().jwk("r"), ec().jwk("a"), second.jwk("b")]);
    let token = second.sign(&json!({"alg": "ES256"}), &json!({}));
    assert!(verify(&token, &keys, ALLOWED, None).is_ok());
    let token = Signer::new_ec().sign(&json!({"alg": "ES256"}), &json!({}));
    assert_eq!(verify(&token, &keys, ALLOWED, None).unwrap_err(), Refusal::UnknownKey);
}

#[test]
fn c_20_an_unknown_kid_is_told_apart() {
    let token = rsa().sign(&json!({"alg": "RS256", "kid": "new"}), &json!({}));
    assert_eq!(check(&token).unwrap_err(), Refusal::UnknownKey);
}
