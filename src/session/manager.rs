//! The sessions of one configuration: opened from cookies, issued into cookies, kept in the cache in front, ended.
//!
//! A look-up goes memo (on the connection, in `gateway`) → cache (here, by the hash of the sealed text) → seal or store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use cookie::SameSite;
use http::header::HeaderValue;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::data::{Data, Id, Tokens};
use super::identity::Identity;
use super::limit::Limiter;
use super::login::Used;
use super::refresh::Refreshes;
use super::{Jar, Session};
use crate::clock;
use crate::config::settings::{self, CustomClaim, Store};
use crate::crypto::random;
use crate::crypto::seal::{KeyRing, Place, Purpose};
use crate::error::{Error, Kind, Result};
use crate::http::cookie::{self as own, Attributes, Found};
use crate::provider::Provider;
use crate::store::cache::Bounded;

/// What all sessions of the memory store may weigh.
const MEMORY_BYTES: u64 = 512 << 20;
/// What all cached sessions may weigh.
const CACHE_BYTES: u64 = 64 << 20;
/// A cached session is read from its cookie again after this long.
const CACHE_AGE: Duration = Duration::from_secs(300);
/// Ended sessions remembered in cookie mode, so that a copy of the cookie is worth nothing here.
const MAX_REVOKED: u64 = 1_000_000;

/// What outlives a reload of the configuration.
pub struct State {
    memory: Bounded<Id, Arc<Session>>,
    revoked: Bounded<Id, ()>,
    /// Moves on with every end of a session and every reload: a memo of an older epoch is asked again.
    epoch: AtomicU64,
    pub used: Used,
    pub limiter: Limiter,
    pub(super) refreshes: Refreshes,
}

impl Default for State {
    fn default() -> Self {
        Self {
            memory: Bounded::new(MEMORY_BYTES),
            revoked: Bounded::new(MAX_REVOKED),
            epoch: AtomicU64::new(1),
            used: Used::default(),
            limiter: Limiter::default(),
            refreshes: Refreshes::default(),
        }
    }
}

impl State {
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Makes every connection's memo ask again. Returns the new epoch.
    pub fn advance(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::AcqRel) + 1
    }

    fn is_revoked(&self, id: &Id) -> bool {
        self.revoked.find(id).is_some()
    }
}

/// The sessions of one configuration.
pub struct Sessions {
    pub state: Arc<State>,
    ring: KeyRing,
    name: String,
    attributes: Attributes,
    domain: Option<String>,
    store: Store,
    lifetime: Duration,
    idle_ms: u64,
    /// How old `seen` may become before it is written again.
    touch_ms: u64,
    pub(super) refresh_before: Duration,
    pub(super) refresh_grace: Duration,
    custom: Vec<CustomClaim>,
    generation: u64,
    cache: Cache<[u8; 32], Cached>,
}

#[derive(Clone)]
struct Cached {
    session: Arc<Session>,
    /// Sealed by a key that is not the first any more.
    stale: bool,
}

/// What the cookies of a request stand for.
pub enum Lookup {
    /// No session cookie at all.
    Absent,
    Live(Live),
    /// Something under our name that is no session (any more): to be cleared.
    Refused,
}

pub struct Live {
    pub session: Arc<Session>,
    /// The cookie is to be set again: an older key, or a time of use that has grown old.
    pub reissue: bool,
    /// From the cache.
    pub cached: bool,
}

impl Sessions {
    pub fn new(settings: &settings::Session, custom: &[CustomClaim], secure: bool, state: Arc<State>) -> Result<Self> {
        let ring = KeyRing::new(&settings.keys)
            .ok_or_else(|| Error::new(Kind::Internal, "no session key could be derived"))?;
        let idle_ms = millis(settings.idle_timeout);
        let same_site = match settings.same_site {
            settings::SameSite::Lax => SameSite::Lax,
            settings::SameSite::Strict => SameSite::Strict,
        };
        let generation = state.advance();
        Ok(Self {
            state,
            ring,
            name: settings.cookie.clone(),
            attributes: Attributes { secure, domain: settings.cookie_domain.clone(), same_site },
            domain: settings.cookie_domain.clone(),
            store: settings.store,
            lifetime: settings.lifetime,
            idle_ms,
            touch_ms: (idle_ms / 8).clamp(500, 60_000),
            refresh_before: settings.refresh_before,
            refresh_grace: settings.refresh_grace,
            custom: custom.to_vec(),
            generation,
            cache: Cache::builder()
                .max_capacity(CACHE_BYTES)
                .weigher(|_, cached: &Cached| cached.session.weight())
                .eviction_policy(EvictionPolicy::lru())
                .time_to_live(CACHE_AGE.min(settings.lifetime))
                .build(),
        })
    }

    /// The session cookie's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn is_strict(&self) -> bool {
        self.attributes.same_site == SameSite::Strict
    }

    /// The session that these cookies stand for, junk among them passed over (S-16).
    pub fn find(&self, found: &Found<'_>, host: &str, now_ms: u64) -> Lookup {
        if !found.has_session() {
            return Lookup::Absent;
        }
        let sealed = found.sessions();
        sealed.iter().find_map(|text| self.open(text, host, now_ms)).map_or(Lookup::Refused, Lookup::Live)
    }

    /// Until when a memo of this session needs no look at all, Unix milliseconds.
    pub fn good_until(&self, session: &Session) -> u64 {
        let touch = if self.idle_ms > 0 { session.seen_ms() + self.touch_ms } else { u64::MAX };
        let refresh = session.data.tokens.refresh_ms.unwrap_or(u64::MAX);
        session.data.expires_ms.min(touch).min(refresh)
    }

    /// A new session with a new id (S-19).
    pub fn create(&self, provider: &Provider, identity: Identity, tokens: Tokens) -> Arc<Session> {
        let now = clock::unix_now_ms();
        let data = Data {
            id: random::bytes(),
            provider: provider.name().to_owned(),
            issuer: provider.issuer().to_owned(),
            identity,
            created_ms: now,
            expires_ms: now + millis(self.lifetime),
            seen_ms: now,
            tokens,
        };
        self.admit(data)
    }

    /// The `Set-Cookie` values that carry `session`, leftover chunks of a longer one deleted. An error when the session
    /// is larger than the browser keeps.
    pub fn issue(&self, session: &Arc<Session>, host: &str, found: &Found<'_>) -> Result<Vec<HeaderValue>> {
        let host = self.host(host);
        let plain = match self.store {
            Store::Cookie => session.data.encode().map(|mut bytes| {
                bytes.insert(0, TAG_DATA);
                bytes
            }),
            Store::Memory => Some([&[TAG_ID], session.data.id.as_slice()].concat()),
        };
        let sealed = plain
            .and_then(|p| self.ring.seal(Purpose::Session, Place { name: &self.name, host }, &p))
            .ok_or_else(|| Error::new(Kind::Internal, "the session could not be sealed"))?;
        let chunks = own::chunks(&self.name, &sealed).ok_or_else(|| {
            let detail = format!(
                "the session takes {} bytes, more than browsers keep; store = \"memory\" has no such limit",
                sealed.len()
            );
            Error::new(Kind::SessionTooLarge, detail)
        })?;
        let left = Duration::from_millis(session.data.expires_ms.saturating_sub(clock::unix_now_ms()));
        let mut out: Vec<HeaderValue> =
            chunks.iter().filter_map(|(name, value)| self.attributes.set(name, value, left)).collect();
        for name in found.session_names(&self.name) {
            if chunks.iter().all(|(set, _)| *set != name) {
                out.extend(self.attributes.clear(&name));
            }
        }
        self.cache.insert(cache_key(host, &sealed), Cached { session: Arc::clone(session), stale: false });
        Ok(out)
    }

    /// The deletion of every session cookie that the request brought (K-05).
    pub fn clear(&self, found: &Found<'_>) -> Vec<HeaderValue> {
        found.session_names(&self.name).iter().filter_map(|name| self.attributes.clear(name)).collect()
    }

    /// The same session with its time of use moved to now, to be issued again.
    pub fn touch(&self, session: &Arc<Session>) -> Arc<Session> {
        let now = clock::unix_now_ms();
        session.seen_ms.store(now, Ordering::Relaxed);
        match self.store {
            Store::Memory => Arc::clone(session),
            Store::Cookie => self.admit(Data { seen_ms: now, ..session.data.clone() }),
        }
    }

    /// The same session, its id and its end, with what a refresh brought.
    pub(super) fn renewed(&self, session: &Session, identity: Identity, tokens: Tokens) -> Arc<Session> {
        self.admit(Data { identity, tokens, seen_ms: clock::unix_now_ms(), ..session.data.clone() })
    }

    pub(super) fn custom(&self) -> &[CustomClaim] {
        &self.custom
    }

    /// Ends a session on this instance, at once and for every copy of its cookie.
    pub fn revoke(&self, session: &Session) {
        let left = session.data.expires_ms.saturating_sub(clock::unix_now_ms());
        self.state.revoked.put(session.data.id, (), 1, Duration::from_millis(left) + CACHE_AGE);
        self.state.memory.remove(&session.data.id);
        self.state.advance();
    }

    /// Whether `session` has ended: over, or revoked.
    pub fn has_ended(&self, session: &Session, now_ms: u64) -> bool {
        now_ms >= session.data.expires_ms || self.state.is_revoked(&session.data.id)
    }

    /// A session that another request, or another configuration, has made: `None` when it has ended since, and with its
    /// header values made anew where they were another configuration's.
    pub fn adopt(&self, session: Arc<Session>, now_ms: u64) -> Option<Arc<Session>> {
        if self.has_ended(&session, now_ms) {
            return None;
        }
        if session.generation == self.generation {
            return Some(session);
        }
        // What it was used last is not what its data say.
        Some(self.admit(Data { seen_ms: session.seen_ms(), ..session.data.clone() }))
    }

    /// About how many sessions this instance holds.
    pub fn active(&self) -> u64 {
        match self.store {
            Store::Cookie => self.cache.entry_count(),
            Store::Memory => self.state.memory.count(),
        }
    }

    pub fn jar<'a>(&'a self, host: &'a str) -> Jar<'a> {
        Jar { ring: &self.ring, attributes: &self.attributes, session: &self.name, host: self.host(host) }
    }

    /// Proof that a page of ours, made for this very session, holds the form: what a forged form cannot bring (RL-03).
    pub fn form_token(&self, session: &Session, host: &str) -> Option<String> {
        self.ring.seal(Purpose::Form, Place { name: "token", host: self.host(host) }, &session.data.id)
    }

    pub fn is_form_token(&self, token: &str, session: &Session, host: &str) -> bool {
        let opened = self.ring.open(Purpose::Form, Place { name: "token", host: self.host(host) }, token);
        opened.is_some_and(|o| o.plain == session.data.id)
    }

    /// Seals `text` into a parameter that only `open_logout` reads.
    pub fn seal_logout(&self, text: &str, host: &str) -> Option<String> {
        self.ring.seal(Purpose::Logout, Place { name: "state", host: self.host(host) }, text.as_bytes())
    }

    pub fn open_logout(&self, sealed: &str, host: &str) -> Option<String> {
        let opened = self.ring.open(Purpose::Logout, Place { name: "state", host: self.host(host) }, sealed)?;
        String::from_utf8(opened.plain).ok()
    }

    fn open(&self, sealed: &str, host: &str, now_ms: u64) -> Option<Live> {
        let host = self.host(host);
        let key = cache_key(host, sealed);
        let (found, cached) = match self.cache.get(&key) {
            // The memory store's session moves on while the cookie stays the same.
            Some(found) if self.store == Store::Memory => {
                let session = self.adopt(self.state.memory.find(&found.session.data.id)?, now_ms)?;
                (Cached { session, ..found }, true)
            }
            Some(found) => (found, true),
            None => (self.unseal(sealed, host, now_ms)?, false),
        };
        if found.session.is_over(now_ms, self.idle_ms) || self.state.is_revoked(&found.session.data.id) {
            return None;
        }
        if !cached {
            self.cache.insert(key, found.clone());
        }
        let idle = self.idle_ms > 0 && now_ms.saturating_sub(found.session.seen_ms()) >= self.touch_ms;
        Some(Live { reissue: found.stale || idle, session: found.session, cached })
    }

    fn unseal(&self, sealed: &str, host: &str, now_ms: u64) -> Option<Cached> {
        let opened = self.ring.open(Purpose::Session, Place { name: &self.name, host }, sealed)?;
        let (tag, rest) = opened.plain.split_first()?;
        let session = match (self.store, *tag) {
            (Store::Cookie, TAG_DATA) => self.build(Data::decode(rest)?),
            (Store::Memory, TAG_ID) => self.adopt(self.state.memory.find(&rest.try_into().ok()?)?, now_ms)?,
            _ => return None,
        };
        Some(Cached { session, stale: opened.stale })
    }

    /// Builds a session and, in the memory store, keeps it.
    fn admit(&self, data: Data) -> Arc<Session> {
        let session = self.build(data);
        if self.store == Store::Memory && !self.state.is_revoked(&session.data.id) {
            let left = Duration::from_millis(session.data.expires_ms.saturating_sub(clock::unix_now_ms()));
            self.state.memory.put(session.data.id, Arc::clone(&session), session.weight() as usize, left);
        }
        session
    }

    fn build(&self, data: Data) -> Arc<Session> {
        Arc::new(Session::new(data, &self.custom, self.generation))
    }

    /// What the cookie is bound to: the shared domain where there is one, else the host.
    fn host<'a>(&'a self, host: &'a str) -> &'a str {
        self.domain.as_deref().unwrap_or(host)
    }
}

const TAG_DATA: u8 = 0;
const TAG_ID: u8 = 1;

fn cache_key(host: &str, sealed: &str) -> [u8; 32] {
    let mut key = [0; 32];
    let text = [host, "\0", sealed].concat();
    key.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    key
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
