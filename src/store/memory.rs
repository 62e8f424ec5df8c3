//! The memory store: records in this process, bounded by weight, the longest unused evicted first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::cache::Bounded;
use super::{Entry, Key, MAX_TAGGED, Record, Replaced};
use crate::clock;

/// Marks and leases remembered.
const MAX_MARKS: u64 = 1_000_000;
/// What a record weighs beside its bytes: keys, times, the index, the cache's own nodes. Measured (docs/capacity.md).
const OVERHEAD: usize = 1_280;
const SHARDS: usize = 16;
/// A lease that its holder neither released nor dropped.
const LEASE: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub struct Memory {
    records: Cache<Key, Held>,
    index: Arc<Index>,
    marks: Bounded<Key, ()>,
    leases: Bounded<Key, ()>,
}

#[derive(Clone)]
struct Held {
    record: Record,
    tags: Arc<[Key]>,
    ttl: Duration,
}

pub struct Lease {
    leases: Bounded<Key, ()>,
    name: Key,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.remove(&self.name);
    }
}

/// Tag → keys, the newest last. Sharded: every sign-in writes it.
struct Index([Mutex<HashMap<Key, Vec<Key>>>; SHARDS]);

impl Memory {
    /// `bytes`: what all records together may weigh.
    pub fn new(bytes: u64) -> Self {
        let index = Arc::new(Index(std::array::from_fn(|_| Mutex::default())));
        let forget = Arc::clone(&index);
        let records = Cache::builder()
            .max_capacity(bytes)
            .weigher(|_, held: &Held| {
                let bytes = held.record.value.len() + held.record.card.len() + OVERHEAD;
                u32::try_from(bytes).unwrap_or(u32::MAX)
            })
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(OwnEnd)
            .eviction_listener(move |key: Arc<Key>, held: Held, cause| {
                if cause != RemovalCause::Replaced {
                    forget.remove(&held.tags, &key);
                }
            })
            .build();
        Self { records, index, marks: Bounded::new(MAX_MARKS), leases: Bounded::new(MAX_MARKS) }
    }

    pub fn load(&self, key: &Key) -> Option<Record> {
        self.records.get(key).map(|held| held.record)
    }

    pub fn create(&self, entry: Entry) {
        self.index.add(&entry.tags, entry.key);
        self.records.insert(entry.key, Held::of(entry));
    }

    pub fn replace(&self, entry: Entry, known: u64) -> Replaced {
        use moka::ops::compute::Op;

        let mut replaced = Replaced::Gone;
        let (key, tags) = (entry.key, entry.tags.clone());
        self.records.entry(key).and_compute_with(|there| match there {
            None => Op::Nop,
            Some(there) if there.value().record.version != known => {
                replaced = Replaced::Changed;
                Op::Nop
            }
            Some(there) => {
                replaced = Replaced::Done;
                let mut held = Held::of(entry);
                let more = there.value().tags.iter().filter(|tag| !tags.contains(tag)).copied();
                held.tags = tags.iter().copied().chain(more).collect();
                held.record.seen_ms = held.record.seen_ms.max(there.value().record.seen_ms);
                Op::Put(held)
            }
        });
        if replaced == Replaced::Done {
            self.index.add(&tags, key);
        }
        replaced
    }

    pub fn touch(&self, key: &Key, seen_ms: u64, expires_ms: u64, keep: Duration) -> bool {
        use moka::ops::compute::Op;

        let mut there = false;
        self.records.entry(*key).and_compute_with(|entry| match entry {
            None => Op::Nop,
            Some(entry) => {
                there = true;
                let mut held = entry.into_value();
                held.record.seen_ms = held.record.seen_ms.max(seen_ms);
                held.ttl = ttl(expires_ms, keep);
                Op::Put(held)
            }
        });
        there
    }

    pub fn remove(&self, key: &Key) -> bool {
        self.records.remove(key).is_some()
    }

    pub fn tagged(&self, tag: &Key) -> Vec<Key> {
        self.index.find(tag)
    }

    pub fn first(&self, mark: &Key, ttl: Duration) -> bool {
        self.marks.put_new(*mark, (), 1, ttl)
    }

    pub fn is_marked(&self, mark: &Key) -> bool {
        self.marks.find(mark).is_some()
    }

    pub fn lease(&self, name: &Key) -> Option<Lease> {
        let free = self.leases.put_new(*name, (), 1, LEASE);
        free.then(|| Lease { leases: self.leases.clone(), name: *name })
    }

    /// About how many records there are.
    pub fn count(&self) -> u64 {
        self.records.entry_count()
    }
}

impl Held {
    fn of(entry: Entry) -> Self {
        Self { ttl: ttl(entry.expires_ms, entry.keep), record: entry.record, tags: entry.tags.into() }
    }
}

fn ttl(expires_ms: u64, keep: Duration) -> Duration {
    keep.min(Duration::from_millis(expires_ms.saturating_sub(clock::unix_now_ms())))
}

struct OwnEnd;

impl Expiry<Key, Held> for OwnEnd {
    fn expire_after_create(&self, _: &Key, held: &Held, _: Instant) -> Option<Duration> {
        Some(held.ttl)
    }

    fn expire_after_update(&self, _: &Key, held: &Held, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(held.ttl)
    }
}

impl Index {
    fn shard(&self, tag: &Key) -> MutexGuard<'_, HashMap<Key, Vec<Key>>> {
        let ([first, ..], [last, shards @ ..]) = (tag, &self.0);
        let shard = shards.get(usize::from(*first) % SHARDS).unwrap_or(last);
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, tags: &[Key], key: Key) {
        for tag in tags {
            let mut shard = self.shard(tag);
            let keys = shard.entry(*tag).or_default();
            if !keys.contains(&key) {
                if keys.is_empty() {
                    // PERF: most lead to one; a vector begins with room for four.
                    keys.reserve_exact(1);
                }
                if keys.len() >= MAX_TAGGED {
                    keys.remove(0);
                }
                keys.push(key);
            }
        }
    }

    fn remove(&self, tags: &[Key], key: &Key) {
        for tag in tags {
            let mut shard = self.shard(tag);
            if let Some(keys) = shard.get_mut(tag) {
                keys.retain(|k| k != key);
                if keys.is_empty() {
                    shard.remove(tag);
                }
            }
        }
    }

    fn find(&self, tag: &Key) -> Vec<Key> {
        self.shard(tag).get(tag).map(|keys| keys.iter().rev().copied().collect()).unwrap_or_default()
    }
}
