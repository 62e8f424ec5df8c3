//! The sealing key ring: authenticated encryption of what the browser keeps for us.
//!
//! Layout: `version (1) ‖ key id (4) ‖ nonce (24) ‖ ciphertext ‖ tag (16)`, base64url without padding. The first half of
//! the nonce derives a key for this one message (HKDF-SHA-256), the second half is the AES-256-GCM nonce; so a key stays
//! safe far beyond the 2³² messages that a random 96-bit nonce alone allows. The associated data is purpose, cookie name
//! and host: a value moved to another cookie, purpose or host does not open.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::secret::Secret;

/// What a sealed value is for. A value sealed for one purpose never opens for another (S-07).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// A form of ours, for one session.
    Form,
    /// How often a browser came back from a sign-in without its session.
    Loop,
    /// One sign-in in progress.
    Login,
    /// Where to go on to after the provider's sign-out page.
    Logout,
    Session,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Form => b"form",
            Self::Loop => b"loop",
            Self::Login => b"login",
            Self::Logout => b"logout",
            Self::Session => b"session",
        }
    }
}

/// Where a sealed value lives: part of its associated data.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The cookie's name, or the parameter's.
    pub name: &'a str,
    /// The host that the browser keeps it for.
    pub host: &'a str,
}

/// What `open` returns.
#[derive(Debug)]
pub struct Opened {
    pub plain: Vec<u8>,
    /// Sealed by a key that is not the first any more: seal it anew (S-13).
    pub stale: bool,
}

/// The keys in the order of the configuration: the first seals, all of them open.
pub struct KeyRing {
    keys: Vec<Key>,
}

struct Key {
    id: [u8; 4],
    prk: Prk,
}

const VERSION: u8 = 1;
const NONCE_LEN: usize = 24;
const HEAD_LEN: usize = 1 + 4 + NONCE_LEN;

impl KeyRing {
    /// `None` when there is no key, or the library refuses (which it does not).
    pub fn new(keys: &[Secret]) -> Option<Self> {
        let keys: Option<Vec<_>> = keys.iter().map(|k| Key::derive(k.expose().as_bytes())).collect();
        keys.filter(|k| !k.is_empty()).map(|keys| Self { keys })
    }

    /// Seals under the first key. `None` only when the system has no randomness.
    pub fn seal(&self, purpose: Purpose, place: Place<'_>, plain: &[u8]) -> Option<String> {
        let key = self.keys.first()?;
        let mut out = Vec::with_capacity(HEAD_LEN + plain.len() + AES_256_GCM.tag_len());
        out.push(VERSION);
        out.extend_from_slice(&key.id);
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plain);
        let tag = key
            .message_key(purpose, &nonce)?
            .seal_in_place_separate_tag(gcm_nonce(&nonce)?, Aad::from(aad(purpose, place)), out.get_mut(HEAD_LEN..)?)
            .ok()?;
        out.extend_from_slice(tag.as_ref());
        Some(URL_SAFE_NO_PAD.encode(out))
    }

    /// `None` for whatever was not sealed by one of our keys for this purpose and place; it never says why (S-01).
    pub fn open(&self, purpose: Purpose, place: Place<'_>, sealed: &str) -> Option<Opened> {
        let mut bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (version, rest) = bytes.split_first()?;
        let (id, rest) = rest.split_first_chunk::<4>()?;
        let nonce = *rest.first_chunk::<NONCE_LEN>()?;
        if *version != VERSION {
            return None;
        }
        // Ids are 32 bits of a hash: two keys of a ring may share one, so each that fits is tried.
        let candidates: Vec<usize> =
            self.keys.iter().enumerate().filter(|(_, k)| k.id == *id).map(|(index, _)| index).collect();
        let body = bytes.split_off(HEAD_LEN);
        for index in candidates {
            let mut attempt = body.clone();
            let key = self.keys.get(index)?.message_key(purpose, &nonce)?;
            if let Ok(plain) = key.open_in_place(gcm_nonce(&nonce)?, Aad::from(aad(purpose, place)), &mut attempt) {
                let len = plain.len();
                attempt.truncate(len);
                return Some(Opened { plain: attempt, stale: index != 0 });
            }
        }
        None
    }
}

impl Key {
    fn derive(secret: &[u8]) -> Option<Self> {
        let prk = Salt::new(HKDF_SHA256, b"doorward seal v1").extract(secret);
        let mut id = [0; 4];
        prk.expand(&[b"key id"], Len(4)).ok()?.fill(&mut id).ok()?;
        Some(Self { id, prk })
    }

    fn message_key(&self, purpose: Purpose, nonce: &[u8; NONCE_LEN]) -> Option<LessSafeKey> {
        let info = [b"message".as_slice(), purpose.label(), nonce.get(..NONCE_LEN / 2)?];
        let okm = self.prk.expand(&info, &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(okm)))
    }
}

struct Len(usize);

impl KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

fn gcm_nonce(nonce: &[u8; NONCE_LEN]) -> Option<Nonce> {
    Nonce::try_assume_unique_for_key(nonce.get(NONCE_LEN / 2..)?).ok()
}

/// Lengths before contents, so that no two places read the same.
fn aad(purpose: Purpose, place: Place<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + place.name.len() + place.host.len());
    for part in [purpose.label(), place.name.as_bytes(), place.host.as_bytes()] {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(keys: &[&str]) -> KeyRing {
        KeyRing::new(&keys.iter().map(|k| Secret::new(*k)).collect::<Vec<_>>()).unwrap()
    }

    const PLACE: Place<'_> = Place { name: "doorward", host: "app.example.com" };

    #[test]
    fn s_01_every_changed_character_is_refused() {
        let ring = ring(&["one key of at least thirty-two bytes"]);
        let sealed = ring.seal(Purpose::Session, PLACE, b"alice").unwrap();
        assert_eq!(ring.open(Purpose::Session, PLACE, &sealed).unwrap().plain, b"alice");
        for i in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[i] = if changed[i] == b'A' { b'B' } else { b'A' };
            assert!(ring.open(Purpose::Session, PLACE, std::str::from_utf8(&changed).unwrap()).is_none(), "at {i}");
        }
    }

    #[test]
    fn s_02_truncated_and_extended_values_are_refused() {
        let ring = ring(&["one key of at least thirty-two bytes"]);
        let sealed = ring.seal(Purpose::Session, PLACE, b"alice").unwrap();
        for n in 0..sealed.len() {
            assert!(ring.open(Purpose::Session, PLACE, &sealed[..n]).is_none(), "first {n}");
        }
        for tail in ["A", "AAAA", "=", ".", "%00"] {
            assert!(ring.open(Purpose::Session, PLACE, &format!("{sealed}{tail}")).is_none(), "with {tail}");
        }
    }

    #[test]
    fn s_07_s_08_a_value_opens_only_for_its_purpose_name_and_host() {
        let ring = ring(&["one key of at least thirty-two bytes"]);
        let sealed = ring.seal(Purpose::Login, PLACE, b"x").unwrap();
        assert!(ring.open(Purpose::Session, PLACE, &sealed).is_none());
        assert!(ring.open(Purpose::Login, Place { name: "other", ..PLACE }, &sealed).is_none());
        assert!(ring.open(Purpose::Login, Place { host: "evil.example.com", ..PLACE }, &sealed).is_none());
    }

    #[test]
    fn s_13_an_older_key_opens_and_says_so_until_it_is_gone() {
        let (old, new) = ("the old key, thirty-two bytes long..", "the new key, thirty-two bytes long..");
        let sealed = ring(&[old]).seal(Purpose::Session, PLACE, b"x").unwrap();
        assert!(ring(&[new, old]).open(Purpose::Session, PLACE, &sealed).unwrap().stale);
        assert!(!ring(&[old, new]).open(Purpose::Session, PLACE, &sealed).unwrap().stale);
        assert!(ring(&[new]).open(Purpose::Session, PLACE, &sealed).is_none());
    }

    #[test]
    fn s_14_the_same_plaintext_never_seals_alike() {
        let ring = ring(&["one key of at least thirty-two bytes"]);
        let a = ring.seal(Purpose::Session, PLACE, b"same").unwrap();
        let b = ring.seal(Purpose::Session, PLACE, b"same").unwrap();
        assert_ne!(a[8..], b[8..]);
    }
}
