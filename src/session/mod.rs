//! Sessions and sign-ins in progress: what they hold, how they are sealed, found, renewed and ended. Nothing here reads
//! a request or writes an answer; it is given cookies and returns cookies.

pub mod data;
pub mod ending;
mod ends;
pub mod hand_over;
pub mod headers;
pub mod identity;
pub mod keeping;
pub mod limit;
pub mod login;
pub mod lookup;
pub mod loops;
pub mod manager;
mod moving;
pub mod presented;
pub mod refresh;
mod renewal;
pub mod state;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use http::header::HeaderValue;

use crate::config::settings::{CustomClaim, IdentityValue};
use crate::crypto::seal::KeyRing;
use crate::http::cookie::Attributes;
use crate::store::Key;
use data::Data;
use headers::Headers;
use presented::Presented;

/// A signed-in person, as requests use it: the data, and the header values made of them once.
pub struct Session {
    pub data: Data,
    /// The hash of its id: what stores, lists and the admin listener know it by.
    pub key: Key,
    /// Its tags under every key of the ring: what a logout at the provider ends it by.
    marks: Box<[Key]>,
    headers: Headers,
    /// When it was last used, Unix milliseconds. The data hold what was sealed; this moves on in a store.
    seen_ms: AtomicU64,
    /// Where it is kept, if that is not the cookie.
    stored: Option<Stored>,
    /// Which configuration made `headers`.
    generation: u64,
}

/// What a session in a store is read and written by.
#[derive(Clone, Copy)]
struct Stored {
    /// The half of the record's key that only the cookie holds.
    half: [u8; 32],
    /// Of the record that this session was read from, or written as.
    version: u64,
}

/// How the cookies beside the session's, of a sign-in in progress and of the loop guard, are named, sealed and set for one
/// host.
pub struct Jar<'a> {
    ring: &'a KeyRing,
    attributes: &'a Attributes,
    /// The session cookie's name, with which theirs begin.
    session: &'a str,
    host: &'a str,
}

impl Session {
    fn new(data: Data, stored: Option<Stored>, marks: Box<[Key]>, custom: &[CustomClaim], generation: u64) -> Self {
        let headers = Headers::of(&data.identity, custom);
        let seen_ms = AtomicU64::new(data.seen_ms);
        Self { key: sha256(&data.id), data, marks, headers, seen_ms, stored, generation }
    }

    /// The fields of one identity header; empty = the person has no such claim.
    pub fn header(&self, value: &IdentityValue) -> &[HeaderValue] {
        match value {
            IdentityValue::AccessToken => {
                let token = self.presented().access(self.data.tokens.access.as_ref());
                token.map(std::slice::from_ref).unwrap_or_default()
            }
            other => self.headers.get(other),
        }
    }

    pub fn presented(&self) -> &Presented {
        &self.headers.presented
    }

    pub fn user(&self) -> &str {
        &self.data.identity.user
    }

    /// Past its absolute lifetime, or unused for longer than `idle_ms` (0 = no such limit).
    pub fn is_over(&self, now_ms: u64, idle_ms: u64) -> bool {
        now_ms >= self.data.expires_ms || (idle_ms > 0 && now_ms.saturating_sub(self.seen_ms()) >= idle_ms)
    }

    pub fn seen_ms(&self) -> u64 {
        self.seen_ms.load(Ordering::Relaxed)
    }
}

/// A name for `bytes` that leads back to nothing.
fn sha256(bytes: &[u8]) -> Key {
    let mut key = [0; 32];
    key.iter_mut().zip(digest(&SHA256, bytes).as_ref()).for_each(|(to, from)| *to = *from);
    key
}
