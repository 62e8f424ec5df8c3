//! A bounded cache: values by key, in this process, each until its own end. Bounded by weight; when it is full the
//! longest unused goes first, never the newest: a fresh sign-in must not vanish.

use std::hash::Hash;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

/// A value with its end and its weight.
#[derive(Clone)]
struct Held<V> {
    value: V,
    ttl: Duration,
    bytes: u32,
}

#[derive(Clone)]
pub struct Bounded<K, V> {
    cache: Cache<K, Held<V>>,
}

struct OwnEnd;

impl<K, V> Expiry<K, Held<V>> for OwnEnd {
    fn expire_after_create(&self, _: &K, held: &Held<V>, _: Instant) -> Option<Duration> {
        Some(held.ttl)
    }

    fn expire_after_update(&self, _: &K, held: &Held<V>, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(held.ttl)
    }
}

impl<K, V> Bounded<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// `bytes`: what all values together may weigh.
    pub fn new(bytes: u64) -> Self {
        Self::telling(bytes, |_| {})
    }

    /// As `new`; `crowded_out` is told of every value that had to go for want of room.
    pub fn telling(bytes: u64, crowded_out: impl Fn(V) + Send + Sync + 'static) -> Self {
        let cache = Cache::builder()
            .max_capacity(bytes)
            .weigher(|_, held: &Held<V>| held.bytes)
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(OwnEnd)
            .eviction_listener(move |_, held: Held<V>, cause| {
                if cause == RemovalCause::Size {
                    crowded_out(held.value);
                }
            })
            .build();
        Self { cache }
    }

    pub fn clear(&self) {
        self.cache.invalidate_all();
    }

    /// Keeps `value` for `ttl`, in place of one of the same id.
    pub fn put(&self, id: K, value: V, bytes: usize, ttl: Duration) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.cache.insert(id, Held { value, ttl, bytes });
    }

    /// Keeps `value` unless the id is there already; true when it was not, for exactly one of those who ask at once.
    pub fn put_new(&self, id: K, value: V, bytes: usize, ttl: Duration) -> bool {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.cache.entry(id).or_insert_with(|| Held { value, ttl, bytes }).is_fresh()
    }

    pub fn find(&self, id: &K) -> Option<V> {
        self.cache.get(id).map(|held| held.value)
    }

    /// Does now what the cache does by itself in a moment.
    #[cfg(test)]
    pub(crate) fn settle(&self) {
        self.cache.run_pending_tasks();
    }

    /// About how many there are.
    pub fn count(&self) -> u64 {
        self.cache.entry_count()
    }

    pub fn remove(&self, id: &K) {
        self.cache.invalidate(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lives_until_it_is_removed_or_its_time_is_over() {
        let store = Bounded::new(1024);
        store.put(1, "one", 10, Duration::from_secs(60));
        store.put(2, "two", 10, Duration::ZERO);
        assert_eq!(store.find(&1), Some("one"));
        assert_eq!(store.find(&2), None);
        store.remove(&1);
        assert_eq!(store.find(&1), None);
    }

    #[test]
    fn dx_04_the_weight_is_bounded_and_the_newest_stays() {
        let store = Bounded::new(1000);
        for i in 0..200 {
            store.put(i, i, 100, Duration::from_secs(60));
            store.cache.run_pending_tasks();
        }
        assert!(store.cache.weighted_size() <= 1000);
        assert_eq!(store.find(&199), Some(199));
    }
}
