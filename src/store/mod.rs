//! Where sessions live when they do not live in the browser, and what replicas tell each other about them. Nothing here
//! knows what a session is: keys are hashes, values are sealed, tags are keyed hashes of what a session can be found by.
//!
//! Both backends keep the same promises, and one suite (`tests.rs`) holds them to it:
//!
//! - a record is written whole or not at all, and only over the version that the writer knew;
//! - what was removed stays removed: neither `replace` nor `touch` brings it back;
//! - a record is gone `keep` after its last write or touch, and at `expires_ms` at the latest;
//! - a lease has one holder, who renews it for as long as it lives, and it ends by itself soon after its holder died;
//! - every call ends within the configured timeout; when the store is away it is an error, never an empty answer.

pub mod cache;
pub mod memory;
pub mod redis;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;

use crate::error::Result;
use memory::Memory;
use redis::Redis;

/// A hash: of a session's id, of whom it belongs to, of a refresh, of a token's id.
pub type Key = [u8; 32];

/// What is kept of one session.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Record {
    /// Sealed with a key half that only the cookie holds. Empty where the cookie itself holds the session.
    pub value: Bytes,
    /// Sealed by the key ring alone: what a list of somebody's sessions shows.
    pub card: Bytes,
    /// Moves on by one with every write of `value`.
    pub version: u64,
    /// When it was last used, Unix milliseconds. In clear: it is moved without a seal.
    pub seen_ms: u64,
}

/// A record and where it belongs.
#[derive(Clone, Debug)]
pub struct Entry {
    pub key: Key,
    pub record: Record,
    /// What it can be found by.
    pub tags: Vec<Key>,
    /// Its absolute end, Unix milliseconds.
    pub expires_ms: u64,
    /// How long it is kept after its last write or touch.
    pub keep: Duration,
}

/// What became of a `replace`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Replaced {
    Done,
    /// Somebody else has written it since.
    Changed,
    /// It is not there (any more).
    Gone,
}

/// What the replicas that share a store tell each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// This record has a new version.
    Changed(Key),
    /// This session has ended.
    Ended(Key),
    /// All sessions of this tag that began at `at_ms` or before have ended.
    EndedBefore { tag: Key, at_ms: u64 },
}

/// Who is told. Called on the control runtime; it must be quick.
pub trait Listener: Send + Sync {
    fn heard(&self, event: Event);
    /// Events may have been missed: whatever was kept of records is to be asked for again. Called when the loss is
    /// noticed and once more when events come again.
    fn missed(&self);
}

/// The most records that one tag leads to; the oldest are left out. Also the most that one person can keep in a store.
pub const MAX_TAGGED: usize = 1_000;

#[derive(Clone)]
pub enum Store {
    Memory(Memory),
    Redis(Redis),
}

impl Store {
    pub async fn load(&self, key: &Key) -> Result<Option<Record>> {
        match self {
            Self::Memory(memory) => Ok(memory.load(key)),
            Self::Redis(redis) => redis.load(key).await,
        }
    }

    /// The records of some keys, in their order; those that are gone are left out.
    pub async fn load_all(&self, keys: &[Key]) -> Result<Vec<(Key, Record)>> {
        match self {
            Self::Memory(memory) => Ok(keys.iter().filter_map(|key| Some((*key, memory.load(key)?))).collect()),
            Self::Redis(redis) => redis.load_all(keys).await,
        }
    }

    /// Writes a record, whatever was there.
    pub async fn create(&self, entry: Entry) -> Result<()> {
        match self {
            Self::Memory(memory) => {
                memory.create(entry);
                Ok(())
            }
            Self::Redis(redis) => redis.create(entry).await,
        }
    }

    /// Writes a record in place of its version `known`. Its tags are added to those it has.
    pub async fn replace(&self, entry: Entry, known: u64) -> Result<Replaced> {
        match self {
            Self::Memory(memory) => Ok(memory.replace(entry, known)),
            Self::Redis(redis) => redis.replace(entry, known).await,
        }
    }

    /// Moves a record's `seen_ms` and keeps it `keep` longer. False when it is not there.
    pub async fn touch(&self, key: &Key, seen_ms: u64, expires_ms: u64, keep: Duration) -> Result<bool> {
        match self {
            Self::Memory(memory) => Ok(memory.touch(key, seen_ms, expires_ms, keep)),
            Self::Redis(redis) => redis.touch(key, seen_ms, expires_ms, keep).await,
        }
    }

    /// True when it was there.
    pub async fn remove(&self, key: &Key) -> Result<bool> {
        match self {
            Self::Memory(memory) => Ok(memory.remove(key)),
            Self::Redis(redis) => redis.remove(key).await,
        }
    }

    /// The keys of a tag's records, the newest first; some of them may be gone.
    pub async fn tagged(&self, tag: &Key) -> Result<Vec<Key>> {
        match self {
            Self::Memory(memory) => Ok(memory.tagged(tag)),
            Self::Redis(redis) => redis.tagged(tag).await,
        }
    }

    /// True for exactly one of those who ask for the same mark within `ttl`.
    pub async fn first(&self, mark: &Key, ttl: Duration) -> Result<bool> {
        match self {
            Self::Memory(memory) => Ok(memory.first(mark, ttl)),
            Self::Redis(redis) => redis.first(mark, ttl).await,
        }
    }

    /// Whether `first` was called with it within its `ttl`.
    pub async fn is_marked(&self, mark: &Key) -> Result<bool> {
        match self {
            Self::Memory(memory) => Ok(memory.is_marked(mark)),
            Self::Redis(redis) => redis.is_marked(mark).await,
        }
    }

    /// `None` while somebody else holds it.
    pub async fn lease(&self, name: &Key) -> Result<Option<Lease>> {
        match self {
            Self::Memory(memory) => Ok(memory.lease(name).map(Lease::Memory)),
            Self::Redis(redis) => Ok(redis.lease(name).await?.map(Lease::Redis)),
        }
    }

    /// Tells the other replicas. Those who cannot be told now notice by themselves that they missed something.
    pub async fn announce(&self, event: Event) -> Result<()> {
        match self {
            // There is nobody else.
            Self::Memory(_) => Ok(()),
            Self::Redis(redis) => redis.announce(event).await,
        }
    }

    /// Whether events arrive now: only then may anything of a record be kept outside of the store.
    pub fn is_current(&self) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::Redis(redis) => redis.is_current(),
        }
    }

    /// Whether the store was reached at least once.
    pub fn is_ready(&self) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::Redis(redis) => redis.is_ready(),
        }
    }
}

/// Held until it is released or dropped.
pub enum Lease {
    Memory(memory::Lease),
    Redis(redis::Lease),
}

impl Lease {
    pub async fn release(self) {
        match self {
            Self::Memory(lease) => drop(lease),
            Self::Redis(lease) => lease.release().await,
        }
    }
}
