//! The sealing key ring: authenticated encryption of what the browser keeps for us.
//!
//! Layout: `version (1) ‖ key id (4) ‖ nonce (24) ‖ ciphertext ‖ tag (16)`, base64url without padding. The first half of
//! the nonce derives a key for this one message (HKDF-SHA-256), the second half is the AES-256-GCM nonce; so a key stays
//! safe far beyond the 2³² messages that a random 96-bit nonce alone allows. The associated data is purpose, cookie name
//! and host: a value moved to another cookie, purpose or host does not open.
//!
//! What a store keeps is sealed likewise, as bytes, and its message key is derived from a second secret too: a half that
//! only the cookie holds. Whoever has the key ring and the store's contents has nothing to read (S-23).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::secret::Secret;

/// What a sealed value is for. A value sealed for one purpose never opens for another (S-07).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// What a list of sessions shows of one.
    Card,
    /// A form of ours, for one session.
    Form,
    /// A sign-in on its way from one host of ours to another.
    HandOver,
    /// How often a browser came back from a sign-in without its session.
    Loop,
    /// One sign-in in progress.
    Login,
    /// Where to go on to after the provider's sign-out page.
    Logout,
    /// A session in a store.
    Record,
    Session,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Card => b"card",
            Self::Form => b"form",
            Self::HandOver => b"hand over",
            Self::Loop => b"loop",
            Self::Login => b"login",
            Self::Logout => b"logout",
            Self::Record => b"record",
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
    tags: hmac::Key,
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
        self.seal_bytes(purpose, place, &[], plain).map(|sealed| URL_SAFE_NO_PAD.encode(sealed))
    }

    /// `None` for whatever was not sealed by one of our keys for this purpose and place; it never says why (S-01).
    pub fn open(&self, purpose: Purpose, place: Place<'_>, sealed: &str) -> Option<Opened> {
        self.open_bytes(purpose, place, &[], &URL_SAFE_NO_PAD.decode(sealed).ok()?)
    }

    /// As `seal`, under a key that takes `half` too; empty = the ring's key alone.
    pub fn seal_bytes(&self, purpose: Purpose, place: Place<'_>, half: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
        let key = self.keys.first()?;
        let mut out = Vec::with_capacity(HEAD_LEN + plain.len() + AES_256_GCM.tag_len());
        out.push(VERSION);
        out.extend_from_slice(&key.id);
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plain);
        let tag = key
            .message_key(purpose, half, &nonce)?
            .seal_in_place_separate_tag(gcm_nonce(&nonce)?, Aad::from(aad(purpose, place)), out.get_mut(HEAD_LEN..)?)
            .ok()?;
        out.extend_from_slice(tag.as_ref());
        Some(out)
    }

    pub fn open_bytes(&self, purpose: Purpose, place: Place<'_>, half: &[u8], sealed: &[u8]) -> Option<Opened> {
        let (version, rest) = sealed.split_first()?;
        let (id, rest) = rest.split_first_chunk::<4>()?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>()?;
        if *version != VERSION {
            return None;
        }
        // Ids are 32 bits of a hash: two keys of a ring may share one, so each that fits is tried.
        for (index, key) in self.keys.iter().enumerate().filter(|(_, k)| k.id == *id) {
            let mut attempt = body.to_vec();
            let key = key.message_key(purpose, half, nonce)?;
            if let Ok(plain) = key.open_in_place(gcm_nonce(nonce)?, Aad::from(aad(purpose, place)), &mut attempt) {
                let len = plain.len();
                attempt.truncate(len);
                return Some(Opened { plain: attempt, stale: index != 0 });
            }
        }
        None
    }

    /// Secrets of their own for another use, one for each key, the first key's first: the same in every process that has
    /// the key, and nothing leads from one to another.
    pub fn derive(&self, label: &[u8]) -> impl Iterator<Item = [u8; 32]> {
        let info = framed(&[b"derived", label]);
        self.keys.iter().filter_map(move |key| {
            let mut out = [0; 32];
            key.prk.expand(&[&info], Len(32)).ok()?.fill(&mut out).ok()?;
            Some(out)
        })
    }

    /// Keyed hashes of `parts`, one for each key, the first key's first: names under which something can be found again
    /// by whoever has a key, and by nobody else, however short a list of guesses is.
    pub fn tags(&self, parts: &[&[u8]]) -> impl Iterator<Item = [u8; 32]> {
        let text = framed(parts);
        self.keys.iter().map(move |key| {
            let mut tag = [0; 32];
            let mac = hmac::sign(&key.tags, &text);
            tag.iter_mut().zip(mac.as_ref()).for_each(|(to, from)| *to = *from);
            tag
        })
    }
}

impl Key {
    fn derive(secret: &[u8]) -> Option<Self> {
        let prk = Salt::new(HKDF_SHA256, b"doorward seal v1").extract(secret);
        let mut id = [0; 4];
        prk.expand(&[b"key id"], Len(4)).ok()?.fill(&mut id).ok()?;
        let mut tags = [0; 32];
        prk.expand(&[b"tags"], Len(32)).ok()?.fill(&mut tags).ok()?;
        Some(Self { id, prk, tags: hmac::Key::new(hmac::HMAC_SHA256, &tags) })
    }

    fn message_key(&self, purpose: Purpose, half: &[u8], nonce: &[u8; NONCE_LEN]) -> Option<LessSafeKey> {
        // Of fixed length but for the half, which comes last: no two uses read the same.
        let info = [b"message".as_slice(), purpose.label(), nonce.get(..NONCE_LEN / 2)?, half];
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

fn aad(purpose: Purpose, place: Place<'_>) -> Vec<u8> {
    framed(&[purpose.label(), place.name.as_bytes(), place.host.as_bytes()])
}

/// Lengths before contents, so that no two lists read the same.
fn framed(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
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

    #[test]
    fn s_23_what_a_store_keeps_opens_only_with_its_half_and_in_its_place() {
        let ring = ring(&["one key of at least thirty-two bytes"]);
        let sealed = ring.seal_bytes(Purpose::Record, PLACE, &[1; 32], b"alice").unwrap();
        assert_eq!(ring.open_bytes(Purpose::Record, PLACE, &[1; 32], &sealed).unwrap().plain, b"alice");
        for half in [&[2; 32][..], &[1; 31], &[]] {
            assert!(ring.open_bytes(Purpose::Record, PLACE, half, &sealed).is_none());
        }
        let elsewhere = Place { name: "another record", ..PLACE };
        assert!(ring.open_bytes(Purpose::Record, elsewhere, &[1; 32], &sealed).is_none());
        assert!(ring.open_bytes(Purpose::Card, PLACE, &[1; 32], &sealed).is_none());
    }

    #[test]
    fn tags_are_found_again_by_every_key_of_the_ring() {
        let (old, new) = ("the old key, thirty-two bytes long..", "the new key, thirty-two bytes long..");
        let parts: [&[u8]; 2] = [b"sub", b"alice"];
        let before: Vec<_> = ring(&[old]).tags(&parts).collect();
        let after: Vec<_> = ring(&[new, old]).tags(&parts).collect();
        assert_eq!(after[1], before[0]);
        assert_ne!(after[0], after[1]);
        assert_ne!(before, ring(&[old]).tags(&[b"suba", b"lice"]).collect::<Vec<_>>());
    }
}
