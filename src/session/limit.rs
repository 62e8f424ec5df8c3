//! Limits on how often somebody may do something: the generic cell rate algorithm over a bounded table.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::store::cache::Bounded;

/// Whoever is remembered; under a flood from more, the longest unused are forgotten.
const MOST: u64 = 100_000;

const MINUTE: Duration = Duration::from_secs(60);
const WINDOW: u64 = 60_000_000_000;

/// By whatever the key is.
pub struct Rate<K> {
    start: Instant,
    /// When the next one would be on time, in nanoseconds since `start`.
    due: Bounded<K, Arc<AtomicU64>>,
}

impl<K: Eq + Hash + Send + Sync + 'static> Default for Rate<K> {
    fn default() -> Self {
        Self { start: Instant::now(), due: Bounded::new(MOST) }
    }
}

impl<K: Eq + Hash + Send + Sync + 'static> Rate<K> {
    /// Counts one more, unless that is too many: `per_minute` on average, as many at once.
    pub fn admit(&self, key: K, per_minute: u32) -> bool {
        self.admit_at(key, per_minute, self.now())
    }

    /// Whether `admit` would count one more.
    pub fn has_room(&self, key: &K, per_minute: u32) -> bool {
        let now = self.now();
        let due = self.due.find(key).map_or(now, |due| due.load(Ordering::Relaxed));
        interval(per_minute).is_some_and(|interval| due.saturating_sub(now) <= WINDOW.saturating_sub(interval))
    }

    /// Takes back what the last `admit` counted: what turned out to be in order counts against nobody.
    pub fn forgive(&self, key: &K, per_minute: u32) {
        let Some(interval) = interval(per_minute) else { return };
        if let Some(due) = self.due.find(key) {
            let _ = due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| Some(due.saturating_sub(interval)));
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn admit_at(&self, key: K, per_minute: u32, now: u64) -> bool {
        let Some(interval) = interval(per_minute) else { return false };
        let due = self.due.find(&key).unwrap_or_else(|| Arc::new(AtomicU64::new(now)));
        let admitted = due
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| {
                let due = due.max(now);
                (due - now <= WINDOW.saturating_sub(interval)).then_some(due.saturating_add(interval))
            })
            .is_ok();
        if admitted {
            // Kept until the burst that it pays for is over, not only since the first of it.
            self.due.put(key, due, 1, MINUTE * 2);
        }
        admitted
    }
}

/// Between two, in nanoseconds; None where there may be none at all.
fn interval(per_minute: u32) -> Option<u64> {
    WINDOW.checked_div(u64::from(per_minute))
}

/// By the address of the client.
#[derive(Default)]
pub struct Limiter(Rate<IpAddr>);

impl Limiter {
    /// See `Rate::admit`.
    pub fn admit(&self, address: IpAddr, per_minute: u32) -> bool {
        self.0.admit(network(address), per_minute)
    }

    /// See `Rate::has_room`.
    pub fn has_room(&self, address: IpAddr, per_minute: u32) -> bool {
        self.0.has_room(&network(address), per_minute)
    }

    /// See `Rate::forgive`.
    pub fn forgive(&self, address: IpAddr, per_minute: u32) {
        self.0.forgive(&network(address), per_minute);
    }

    #[cfg(test)]
    fn admit_at(&self, address: IpAddr, per_minute: u32, now: u64) -> bool {
        self.0.admit_at(network(address), per_minute, now)
    }
}

/// An IPv6 host owns its /64: that is what is counted.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        },
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dx_01_sixty_a_minute_then_one_a_second_for_each_address() {
        let limiter = Limiter::default();
        let (a, b) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let second = 1_000_000_000;
        assert_eq!((0..100).filter(|_| limiter.admit_at(a, 60, 5 * second)).count(), 60);
        assert!(limiter.admit_at(b, 60, 5 * second), "another address is not touched");
        assert!(limiter.admit_at(a, 60, 6 * second));
        assert!(!limiter.admit_at(a, 60, 6 * second));
        assert!(!limiter.admit_at(a, 0, 600 * second), "zero allows none");
    }

    #[test]
    fn one_ipv6_network_is_one_client() {
        let limiter = Limiter::default();
        let hosts = (0..100u128).map(|n| IpAddr::V6((0x2001_0db8_u128 << 96 | n).into()));
        assert_eq!(hosts.filter(|h| limiter.admit_at(*h, 10, 1)).count(), 10);
    }

    #[test]
    fn bl_06_what_was_in_order_is_not_counted() {
        let limiter = Limiter::default();
        let op = IpAddr::from([192, 0, 2, 9]);
        for _ in 0..1_000 {
            assert!(limiter.admit(op, 5));
            limiter.forgive(op, 5);
        }
        assert_eq!((0..50).filter(|_| limiter.admit(op, 5)).count(), 5);
    }

    #[test]
    fn bx_10_asking_for_room_counts_nothing() {
        let limiter = Limiter::default();
        let address = IpAddr::from([192, 0, 2, 9]);
        for _ in 0..1_000 {
            assert!(limiter.has_room(address, 5));
        }
        assert_eq!((0..50).filter(|_| limiter.admit(address, 5)).count(), 5);
        assert!(!limiter.has_room(address, 5));
        assert!(!limiter.has_room(IpAddr::from([192, 0, 2, 10]), 0), "zero allows none");
    }
}
