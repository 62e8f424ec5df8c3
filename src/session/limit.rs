//! The limit on sign-ins begun from one address: the generic cell rate algorithm over a bounded table.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::store::cache::Bounded;

/// Addresses remembered; under a flood from more, the longest unused are forgotten.
const MAX_ADDRESSES: u64 = 100_000;

pub struct Limiter {
    start: Instant,
    /// Per address: when the next sign-in would be on time, in nanoseconds since `start`.
    due: Bounded<IpAddr, Arc<AtomicU64>>,
}

impl Default for Limiter {
    fn default() -> Self {
        Self { start: Instant::now(), due: Bounded::new(MAX_ADDRESSES) }
    }
}

impl Limiter {
    /// Whether `address` may begin one more: `per_minute` on average, as many at once.
    pub fn admit(&self, address: IpAddr, per_minute: u32) -> bool {
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.admit_at(address, per_minute, now)
    }

    /// Takes back what the last `admit` counted: what turned out to be in order counts against nobody.
    pub fn forgive(&self, address: IpAddr, per_minute: u32) {
        let Some(interval) = 60_000_000_000_u64.checked_div(u64::from(per_minute)) else { return };
        if let Some(due) = self.due.find(&network(address)) {
            let _ = due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| Some(due.saturating_sub(interval)));
        }
    }

    fn admit_at(&self, address: IpAddr, per_minute: u32, now: u64) -> bool {
        const MINUTE: Duration = Duration::from_secs(60);
        let window = u64::try_from(MINUTE.as_nanos()).unwrap_or(u64::MAX);
        let Some(interval) = window.checked_div(u64::from(per_minute)) else { return false };
        let address = network(address);
        let due = self.due.find(&address).unwrap_or_else(|| Arc::new(AtomicU64::new(now)));
        let admitted = due
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| {
                let due = due.max(now);
                (due - now <= window.saturating_sub(interval)).then_some(due.saturating_add(interval))
            })
            .is_ok();
        if admitted {
            // Kept until the burst that it pays for is over, not only since the first of it.
            self.due.put(address, due, 1, MINUTE * 2);
        }
        admitted
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
}
