//! What outlives a reload of the configuration: the stores, what has ended, refreshes under way, who signs in how often.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;

use super::Session;
use super::ends::Ends;
use super::limit::Limiter;
use super::refresh::Refreshes;
use crate::config::settings;
use crate::error::{Error, Kind, Result};
use crate::store::cache::Bounded;
use crate::store::memory::Memory;
use crate::store::redis::Redis;
use crate::store::{Event, Key, Listener, Store};

/// What all sessions of the memory store may weigh.
const MEMORY_BYTES: u64 = 512 << 20;
/// What this instance may remember of sessions that live in cookies: who has one, and since when.
const SEEN_BYTES: u64 = 128 << 20;
/// What all sessions held in front of a store may weigh.
const FRONT_BYTES: u64 = 64 << 20;

pub struct State {
    pub(super) control: Handle,
    pub(super) local: Arc<Local>,
    pub(super) refreshes: Refreshes,
    pub limiter: Limiter,
    /// The limit on logout tokens and front-channel calls: nobody has signed in to send one.
    pub logout_limiter: Limiter,
    /// The limit on refused tokens of machines.
    pub token_limiter: Arc<Limiter>,
    memory: Memory,
    /// In cookie mode: who was seen.
    seen: Memory,
    /// The latest, and the settings that it was started with.
    redis: Mutex<Option<(settings::Redis, Redis)>>,
}

/// What this instance keeps of sessions outside of their store, and what it hears of them from other replicas.
#[derive(Default)]
pub struct Local {
    pub(super) ends: Ends,
    pub(super) front: Front,
    /// How often ends may have gone unheard.
    pub(super) gaps: AtomicU64,
    /// The longest lifetime that any configuration of this process has had, milliseconds: how long an end has to be
    /// remembered where nothing else knows of it.
    pub(super) longest_ms: AtomicU64,
}

/// Sessions of a store, held for a moment so that steady traffic costs no round trip.
pub(super) struct Front(Bounded<Key, Arc<Session>>);

impl Default for Front {
    fn default() -> Self {
        Self(Bounded::new(FRONT_BYTES))
    }
}

impl Front {
    pub(super) fn find(&self, key: &Key) -> Option<Arc<Session>> {
        self.0.find(key)
    }

    pub(super) fn put(&self, session: &Arc<Session>, keep: Duration) {
        self.0.put(session.key, Arc::clone(session), session.weight() as usize, keep);
    }

    pub(super) fn remove(&self, key: &Key) {
        self.0.remove(key);
    }

    pub(super) fn count(&self) -> u64 {
        self.0.count()
    }
}

/// How long an end that was heard of is remembered beside a store that has forgotten the session already: longer than any
/// request that read it before.
pub(super) const HEARD: Duration = Duration::from_secs(600);

impl Listener for Local {
    fn heard(&self, event: Event) {
        match event {
            Event::Changed(key) => self.front.remove(&key),
            Event::Ended(key) => {
                self.front.remove(&key);
                self.ends.end(key, 0, HEARD);
            }
            Event::EndedBefore { tag, at_ms } => self.ends.end_before(tag, at_ms, HEARD, true),
        }
    }

    fn missed(&self) {
        self.gaps.fetch_add(1, Ordering::AcqRel);
        self.front.0.clear();
        self.ends.advance();
    }
}

impl State {
    /// `control`: where store calls, refreshes and whatever must not end with a client run.
    pub fn new(control: Handle) -> Self {
        Self {
            control,
            local: Arc::default(),
            refreshes: Refreshes::default(),
            limiter: Limiter::default(),
            logout_limiter: Limiter::default(),
            token_limiter: Arc::default(),
            memory: Memory::new(MEMORY_BYTES),
            seen: Memory::new(SEEN_BYTES),
            redis: Mutex::default(),
        }
    }

    pub fn epoch(&self) -> u64 {
        self.local.ends.epoch()
    }

    /// The store of these settings; a Redis whose settings did not change keeps its connection.
    pub(super) fn store(&self, settings: &settings::Session) -> Result<Store> {
        match settings.store {
            settings::Store::Cookie => Ok(Store::Memory(self.seen.clone())),
            settings::Store::Memory => Ok(Store::Memory(self.memory.clone())),
            settings::Store::Redis => self.redis(settings).map(Store::Redis),
        }
    }

    fn redis(&self, settings: &settings::Session) -> Result<Redis> {
        let Some(wanted) = &settings.redis else {
            return Err(Error::new(Kind::Internal, "store = \"redis\" without [session.redis]"));
        };
        let mut kept = self.redis.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((known, redis)) if known == wanted => Ok(redis.clone()),
            _ => {
                let local: Arc<dyn Listener> = self.local.clone();
                let redis = Redis::start(wanted, self.control.clone(), local)?;
                *kept = Some((wanted.clone(), redis.clone()));
                Ok(redis)
            }
        }
    }

    /// About how many sessions are held in the memory store, known in cookie mode, or in front of Redis.
    pub(super) fn count(&self, store: settings::Store) -> u64 {
        match store {
            settings::Store::Cookie => self.seen.count(),
            settings::Store::Memory => self.memory.count(),
            settings::Store::Redis => self.local.front.count(),
        }
    }
}
