//! The sessions of one configuration: what they are sealed by, kept in and limited by. What is done with them stands in
//! the files beside: `lookup` opens cookies, `keeping` writes, `refresh` renews, `ending` ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cookie::SameSite;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::lookup::{CACHE_AGE, CACHE_BYTES, Cached, FRONT_AGE};
use super::state::State;
use super::{Jar, Session};
use crate::config::settings::{self, CustomClaim};
use crate::crypto::seal::{KeyRing, Place, Purpose};
use crate::error::{Error, Kind, Result};
use crate::http::cookie::Attributes;
use crate::store::Store;

pub struct Sessions {
    pub state: Arc<State>,
    pub(super) ring: KeyRing,
    pub(super) name: String,
    pub(super) attributes: Attributes,
    domain: Option<String>,
    /// Where the configuration says that sessions are kept.
    pub(super) mode: settings::Store,
    /// In cookie mode only the cards are in it, of the sessions that this instance has seen.
    pub(super) store: Store,
    pub(super) lifetime: Duration,
    pub(super) idle_ms: u64,
    /// How old `seen` may become before it is written again.
    pub(super) touch_ms: u64,
    pub(super) refresh_before: Duration,
    pub(super) refresh_grace: Duration,
    pub(super) custom: Vec<CustomClaim>,
    /// Dotted paths: what identities keep besides.
    pub(super) kept: Vec<String>,
    /// The names of the providers whose ID tokens are presented upstream, and so kept.
    pub(super) presented_id_tokens: Vec<String>,
    pub(super) generation: u64,
    /// By the hash of the sealed text.
    pub(super) cache: Cache<[u8; 32], Cached>,
}

impl Sessions {
    pub fn new(
        settings: &settings::Session,
        custom: &[CustomClaim],
        kept: Vec<String>,
        secure: bool,
        state: Arc<State>,
    ) -> Result<Self> {
        let ring = KeyRing::new(&settings.keys)
            .ok_or_else(|| Error::new(Kind::Internal, "no session key could be derived"))?;
        let idle_ms = millis(settings.idle_timeout);
        let same_site = match settings.same_site {
            settings::SameSite::Lax => SameSite::Lax,
            settings::SameSite::Strict => SameSite::Strict,
        };
        let store = state.store(settings)?;
        let generation = state.local.ends.advance();
        state.local.longest_ms.fetch_max(millis(settings.lifetime), Ordering::Relaxed);
        Ok(Self {
            state,
            ring,
            name: settings.cookie.clone(),
            attributes: Attributes { secure, domain: settings.cookie_domain.clone(), same_site },
            domain: settings.cookie_domain.clone(),
            mode: settings.store,
            store,
            lifetime: settings.lifetime,
            idle_ms,
            touch_ms: (idle_ms / 8).clamp(500, 60_000),
            refresh_before: settings.refresh_before,
            refresh_grace: settings.refresh_grace,
            custom: custom.to_vec(),
            kept,
            presented_id_tokens: Vec::new(),
            generation,
            cache: Cache::builder()
                .max_capacity(CACHE_BYTES)
                .weigher(|_, cached: &Cached| cached.weight())
                .eviction_policy(EvictionPolicy::lru())
                .time_to_live(CACHE_AGE.min(settings.lifetime))
                .build(),
        })
    }

    /// Sessions of these providers keep their ID token, whether or not it is of use at their sign-out.
    #[must_use]
    pub fn presenting_id_tokens(mut self, providers: Vec<String>) -> Self {
        self.presented_id_tokens = providers;
        self
    }

    /// The session cookie's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn is_strict(&self) -> bool {
        self.attributes.same_site == SameSite::Strict
    }

    /// Whether the store was reached at least once. One that is away later is no reason to take this instance out of
    /// service: the others have lost it too.
    pub fn is_ready(&self) -> bool {
        self.store.is_ready()
    }

    /// Whether the store can be used now.
    pub fn is_store_up(&self) -> bool {
        self.store.is_current()
    }

    /// About how many sessions this instance holds.
    pub fn active(&self) -> u64 {
        self.state.count(self.mode)
    }

    /// Until when a memo of this session needs no look at all, Unix milliseconds.
    pub fn good_until(&self, session: &Session, now_ms: u64) -> u64 {
        if !self.store.is_current() {
            // Its end could not be heard of.
            return now_ms;
        }
        let touch = if self.idle_ms > 0 { session.seen_ms().saturating_add(self.touch_ms) } else { u64::MAX };
        let refresh = session.data.tokens.refresh_ms.unwrap_or(u64::MAX);
        // An end that one replica could not tell of is known to the store alone.
        let front = if self.in_cookie() { u64::MAX } else { now_ms.saturating_add(millis(FRONT_AGE)) };
        session.data.expires_ms.min(touch).min(refresh).min(front)
    }

    /// Whether this configuration made `session`: one from before a reload has the header values of another.
    pub fn is_of_this_configuration(&self, session: &Session) -> bool {
        session.generation == self.generation
    }

    /// Whether its time of use has grown old: `touch`.
    pub fn is_untouched(&self, session: &Session, now_ms: u64) -> bool {
        self.idle_ms > 0 && now_ms.saturating_sub(session.seen_ms()) >= self.touch_ms
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

    /// What the cookie is bound to: the shared domain where there is one, else the host.
    pub(super) fn host<'a>(&'a self, host: &'a str) -> &'a str {
        self.domain.as_deref().unwrap_or(host)
    }

    /// When `session` ends if it is not used again, Unix milliseconds; `None` = only its lifetime ends it.
    pub fn idle_end_ms(&self, session: &Session) -> Option<u64> {
        let end_ms = session.seen_ms().saturating_add(self.idle_ms);
        (self.idle_ms > 0 && end_ms < session.data.expires_ms).then_some(end_ms)
    }

    /// Whether lists hold every session, or in cookie mode what this instance has seen.
    pub fn lists_all(&self) -> bool {
        !self.in_cookie()
    }

    pub(super) fn in_cookie(&self) -> bool {
        self.mode == settings::Store::Cookie
    }
}

pub(super) fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
