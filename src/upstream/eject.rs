//! What is known of one peer's health: from the requests that it got, and from being asked. Says whether it is to be
//! chosen; that somebody always is, is the caller's to see to.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// An ejection lasts `eject_time` as often as it is one in a row, up to this.
const LONGEST: u32 = 10;

/// Times are milliseconds of the upstream's own clock, and never zero.
#[derive(Default)]
pub(super) struct Condition {
    /// It failed its health checks.
    unwell: AtomicBool,
    /// In a row.
    failures: AtomicU32,
    /// How often it was ejected without an answer in between.
    ejections: AtomicU32,
    /// Zero = it is not.
    ejected_until: AtomicU64,
}

impl Condition {
    pub(super) fn is_good(&self, now: impl FnOnce() -> u64) -> bool {
        if self.unwell.load(Ordering::Relaxed) {
            return false;
        }
        let until = self.ejected_until.load(Ordering::Relaxed);
        // PERF: nearly always zero, and then nobody asks for the time.
        until == 0 || until <= now()
    }

    /// Whether that is news.
    pub(super) fn set_well(&self, well: bool) -> bool {
        self.unwell.swap(!well, Ordering::Relaxed) == well
    }

    /// It answered.
    pub(super) fn succeeded(&self, now: impl FnOnce() -> u64) {
        // PERF: a look, and nothing is written while all is well.
        if self.failures.load(Ordering::Relaxed) == 0 {
            return;
        }
        // What was under way before an ejection does not end it.
        if self.ejected_until.load(Ordering::Relaxed) <= now() {
            self.failures.store(0, Ordering::Relaxed);
            self.ejections.store(0, Ordering::Relaxed);
            self.ejected_until.store(0, Ordering::Relaxed);
        }
    }

    /// It failed; true where that is one time too many.
    pub(super) fn failed(&self, allowed: u32) -> bool {
        let before = self.failures.fetch_add(1, Ordering::Relaxed);
        allowed > 0 && before.saturating_add(1) >= allowed
    }

    /// Not to be chosen for a while, which is returned. One failure is enough for the next time, unless an answer comes
    /// first. One at a time.
    pub(super) fn eject(&self, allowed: u32, time: Duration, now: u64) -> Duration {
        let ejections = self.ejections.load(Ordering::Relaxed).saturating_add(1).min(LONGEST);
        let time = time.saturating_mul(ejections);
        self.ejections.store(ejections, Ordering::Relaxed);
        self.failures.store(allowed.saturating_sub(1).max(1), Ordering::Relaxed);
        let until = now.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        self.ejected_until.store(until, Ordering::Relaxed);
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn only_failures_in_a_row_count() {
        let peer = Condition::default();
        for _ in 0..3 {
            assert!(!peer.failed(3) && !peer.failed(3));
            peer.succeeded(|| 1);
        }
        assert!(!peer.failed(3) && !peer.failed(3) && peer.failed(3));
        assert!(!Condition::default().failed(0), "never");
    }

    #[test]
    fn each_ejection_in_a_row_is_longer() {
        let peer = Condition::default();
        let mut now = 1_000;
        for n in 1..=14_u64 {
            assert!(peer.is_good(|| now));
            let seconds = n.min(10);
            assert_eq!(peer.eject(5, SECOND, now), SECOND * u32::try_from(seconds).unwrap());
            assert!(!peer.is_good(|| now + seconds * 1_000 - 1));
            now += seconds * 1_000;
            assert!(peer.failed(5), "one failure is enough");
        }
        peer.succeeded(|| now);
        assert!(!peer.failed(5));
        assert_eq!(peer.eject(5, SECOND, now), SECOND);
    }

    #[test]
    fn an_answer_that_was_under_way_ends_no_ejection() {
        let peer = Condition::default();
        peer.failed(1);
        peer.eject(1, SECOND, 1_000);
        peer.succeeded(|| 1_500);
        assert!(!peer.is_good(|| 1_500) && peer.is_good(|| 2_000));
        assert_eq!(peer.eject(1, SECOND, 2_000), SECOND * 2);
        peer.succeeded(|| 4_000);
        assert_eq!(peer.eject(1, SECOND, 4_000), SECOND);
    }

    #[test]
    fn whoever_is_unwell_is_not_chosen_whenever() {
        let peer = Condition::default();
        assert!(!peer.set_well(true) && peer.set_well(false) && !peer.set_well(false));
        assert!(!peer.is_good(|| 1));
        assert!(peer.set_well(true) && peer.is_good(|| 1));
    }
}
