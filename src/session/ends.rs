//! What has ended, as far as this instance knows: single sessions, and all sessions of somebody up to a moment. In
//! cookie mode this is the only thing that ends a session before its time; with a store it bridges the moments in which
//! somebody still holds what was removed there.
//!
//! Bounded. When it is full, what began before the entry that has to go is over: a session may end too early for want
//! of room, but none that has ended comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Session;
use crate::store::Key;
use crate::store::cache::Bounded;

/// Entries of each kind: at about 150 bytes.
const MAX_ENDS: u64 = 1_000_000;
/// Those that nobody proved (front-channel logout): forgotten without harm when there are more.
const MAX_UNPROVEN: u64 = 10_000;

pub(super) struct Ends {
    /// The moment at or before which the ended session began.
    sessions: Bounded<Key, u64>,
    /// Tag → the moment up to which its sessions have ended.
    tags: Bounded<Key, u64>,
    unproven: Bounded<Key, u64>,
    /// Whatever began here or before is over: the price of a full table.
    floor_ms: Arc<AtomicU64>,
    /// Moves on with every end: what was looked up in an older epoch is looked up again.
    epoch: AtomicU64,
}

impl Default for Ends {
    fn default() -> Self {
        Self::with_room(MAX_ENDS)
    }
}

impl Ends {
    fn with_room(entries: u64) -> Self {
        let floor_ms = Arc::new(AtomicU64::new(0));
        let raise = || {
            let floor = Arc::clone(&floor_ms);
            move |at_ms| {
                if floor.fetch_max(at_ms, Ordering::Relaxed) == 0 {
                    tracing::warn!(
                        "the table of ended sessions is full: the oldest sessions end early; store = \"redis\" needs no table"
                    );
                }
            }
        };
        Self {
            sessions: Bounded::telling(entries, raise()),
            tags: Bounded::telling(entries, raise()),
            unproven: Bounded::new(MAX_UNPROVEN),
            floor_ms,
            epoch: AtomicU64::new(1),
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Makes every connection's memo ask again. Returns the new epoch.
    pub(super) fn advance(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Ends one session, which began at `began_ms` or before; remembered for `keep`.
    pub(super) fn end(&self, key: Key, began_ms: u64, keep: Duration) {
        self.sessions.put(key, began_ms, 1, keep);
        self.advance();
    }

    /// Ends all sessions of `tag` that began at `at_ms` or before.
    pub(super) fn end_before(&self, tag: Key, at_ms: u64, keep: Duration, proven: bool) {
        let table = if proven { &self.tags } else { &self.unproven };
        table.put(tag, table.find(&tag).map_or(at_ms, |before| before.max(at_ms)), 1, keep);
        self.advance();
    }

    pub(super) fn has(&self, session: &Session) -> bool {
        let began_ms = session.data.created_ms;
        (session.stored.is_none() && began_ms <= self.floor_ms.load(Ordering::Relaxed))
            || self.sessions.find(&session.key).is_some()
            || session.marks.iter().any(|mark| {
                [&self.tags, &self.unproven].iter().any(|t| t.find(mark).is_some_and(|at_ms| began_ms <= at_ms))
            })
    }

    pub(super) fn has_key(&self, key: &Key) -> bool {
        self.sessions.find(key).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::session;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn bl_04_an_end_covers_what_began_before_it_and_nothing_later() {
        let ends = Ends::default();
        let (old, new) = (session(1, 1_000), session(2, 3_000));
        let tag = *old.marks.first().unwrap();
        assert!(!ends.has(&old));
        ends.end_before(tag, 2_000, HOUR, true);
        assert!(ends.has(&old) && !ends.has(&new), "the same person signed in again");
        ends.end_before(tag, 1_500, HOUR, true);
        assert!(ends.has(&old), "an older end takes nothing back");
        ends.end(new.key, 3_000, HOUR);
        assert!(ends.has(&new));
    }

    #[test]
    fn dx_07_a_full_table_ends_old_sessions_early_and_brings_none_back() {
        let ends = Ends::with_room(10);
        let ended: Vec<_> = (0..200).map(|i| session(i, 1_000 + u64::from(i))).collect();
        for session in &ended {
            ends.end(session.key, session.data.created_ms, HOUR);
            ends.sessions.settle();
        }
        assert!(ended.iter().all(|s| ends.has(s)));
        assert!(!ends.has(&session(0, 5_000)), "a sign-in of now is not touched");
    }

    #[test]
    fn ox_12_ends_that_nobody_proved_never_end_anybody_else() {
        let ends = Ends::default();
        for i in 0..(MAX_UNPROVEN * 2) {
            let mut tag = [0; 32];
            tag[..8].copy_from_slice(&i.to_be_bytes());
            ends.end_before(tag, 9_000, HOUR, false);
        }
        ends.unproven.settle();
        assert!(!ends.has(&session(1, 1_000)));
    }
}
