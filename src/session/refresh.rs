//! Refresh: one call to the provider for one refresh token, however many requests ask at once, in a task of its own so
//! that no client's leaving stops it. The outcome is kept: a request that left with the old cookie gets the successor.
//!
//! A refresh token that was spent is never sent again by this instance: most providers take reuse for theft and end the
//! whole grant (RFC 9700 §4.14.2). One that the provider did not replace is not spent: it is sent again when the next
//! access token is due. What one call does, alone or among replicas, stands in `renewal`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::data::{Data, Tokens};
use super::manager::{Sessions, millis};
use super::{Session, sha256};
use crate::clock;
use crate::provider::{self, Provider};
use crate::secret::Secret;
use crate::store::Key;
use crate::store::cache::Bounded;

/// What refreshes remembered may weigh, the sessions that came of them included; the longest unused are forgotten first.
const FLIGHT_BYTES: u64 = 128 << 20;
/// What one weighs while nothing has come of it.
const PENDING_BYTES: usize = 512;
/// Longer than any refresh is under way.
const PENDING: Duration = Duration::from_secs(300);
/// After a provider that did not answer, the next try for this session is this far away; it doubles with each failure of
/// that provider, and takes up to twice as long, so that many sessions do not come back at the same moment.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_DOUBLINGS: u32 = 3;

#[derive(Clone)]
pub enum Outcome {
    /// The provider refused the refresh token, or it was spent too long ago: a fresh sign-in is due.
    Ended,
    /// The provider, or the store, did not answer. The session is as good as it was.
    Failed,
    Fresh(Arc<Session>),
}

/// One refresh under way, or over.
#[derive(Clone)]
pub struct Flight {
    outcome: watch::Receiver<Option<Outcome>>,
    /// When the successor was first given to somebody, Unix milliseconds; 0 = not yet.
    given_ms: Arc<AtomicU64>,
    grace_ms: u64,
}

/// A flight's end of the line. However its task ends, panic included, there is an outcome, and one that failed is
/// forgotten: else a session would be answered 503 for the rest of its life.
struct Landing {
    outcome: watch::Sender<Option<Outcome>>,
    refreshes: Refreshes,
    key: Key,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut failed = false;
        self.outcome.send_if_modified(|outcome| {
            let unknown = outcome.is_none();
            failed = matches!(outcome.get_or_insert(Outcome::Failed), Outcome::Failed);
            unknown
        });
        if failed {
            self.refreshes.flights.remove(&self.key);
        }
    }
}

#[derive(Clone)]
pub(super) struct Refreshes {
    flights: Bounded<Key, Flight>,
    /// Failures in a row of each provider.
    failing: Arc<Mutex<HashMap<String, u32>>>,
}

impl Default for Refreshes {
    fn default() -> Self {
        Self { flights: Bounded::new(FLIGHT_BYTES), failing: Arc::default() }
    }
}

impl Refreshes {
    /// Counts what came of a call to `provider`; how long its next failed one waits.
    fn pause(&self, provider: &str, failed: bool) -> Duration {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if !failed {
            failing.remove(provider);
            return Duration::ZERO;
        }
        let failures = failing.entry(provider.to_owned()).or_default();
        let doublings = (*failures).min(RETRY_DOUBLINGS);
        *failures = failures.saturating_add(1);
        RETRY_FIRST * 2_u32.pow(doublings)
    }
}

impl Flight {
    /// The outcome if it is known already.
    pub fn outcome(&self) -> Option<Outcome> {
        let outcome = self.outcome.borrow().clone()?;
        Some(self.aged(outcome, clock::unix_now_ms()))
    }

    /// Waits for the outcome, at most `limit`.
    pub async fn wait(mut self, limit: Duration) -> Outcome {
        let known = tokio::time::timeout(limit, self.outcome.wait_for(Option::is_some)).await.is_ok();
        if !known {
            return Outcome::Failed;
        }
        self.outcome().unwrap_or(Outcome::Failed)
    }

    /// The grace counts from when a browser was first given the successor: a refresh in the background gives it to
    /// nobody, and whoever comes back later with the old cookie has no other.
    fn aged(&self, outcome: Outcome, now_ms: u64) -> Outcome {
        let Outcome::Fresh(_) = outcome else { return outcome };
        let first = self.given_ms.compare_exchange(0, now_ms, Ordering::Relaxed, Ordering::Relaxed);
        let given_ms = first.map_or_else(|given| given, |_| now_ms);
        if now_ms.saturating_sub(given_ms) > self.grace_ms { Outcome::Ended } else { outcome }
    }
}

impl Sessions {
    /// Whether the access token is about to expire and can be renewed.
    pub fn wants_refresh(session: &Session, now_ms: u64) -> bool {
        session.data.tokens.refresh.is_some() && session.data.tokens.refresh_ms.is_some_and(|at| now_ms >= at)
    }

    /// Whether the access token is past its time: then a request waits for the refresh.
    pub fn needs_refresh(session: &Session, now_ms: u64) -> bool {
        session.data.tokens.expires_ms.is_some_and(|at| now_ms >= at)
    }

    /// Joins the refresh of this session's refresh token, or starts it on the provider's runtime. `None` = it has none.
    pub fn refresh(
        self: &Arc<Self>,
        session: &Arc<Session>,
        provider: &Arc<Provider>,
        done: impl FnOnce(&'static str) + Send + 'static,
    ) -> Option<Flight> {
        let token = session.data.tokens.refresh.clone()?;
        let key = flight_key(session, &token);
        let refreshes = &self.state.refreshes;
        if let Some(flight) = refreshes.flights.find(&key) {
            if let Some(Outcome::Fresh(fresh)) = &*flight.outcome.borrow() {
                self.heal(session, fresh);
            }
            return Some(flight);
        }
        let (sender, receiver) = watch::channel(None);
        // A cookie of before is good for the grace. A ticket into a store never gets old: what it stands for does.
        let grace_ms = if self.in_cookie() { millis(self.refresh_grace) } else { u64::MAX };
        let flight = Flight { outcome: receiver, given_ms: Arc::default(), grace_ms };
        if !refreshes.flights.put_new(key, flight.clone(), PENDING_BYTES, PENDING) {
            // Somebody else was quicker, between the look and the insertion.
            return refreshes.flights.find(&key);
        }
        let landing = Landing { outcome: sender, refreshes: refreshes.clone(), key };
        let (sessions, session, provider) = (Arc::clone(self), Arc::clone(session), Arc::clone(provider));
        let landed = flight.clone();
        provider.control().clone().spawn(async move {
            let outcome = sessions.renew(&key, &session, &provider, token).await;
            done(match &outcome {
                Outcome::Ended => "rejected",
                Outcome::Failed => "failed",
                Outcome::Fresh(_) => "ok",
            });
            let failed = matches!(outcome, Outcome::Failed);
            let bytes = if let Outcome::Fresh(fresh) = &outcome { fresh.weight() as usize } else { 0 } + PENDING_BYTES;
            landing.outcome.send_replace(Some(outcome));
            let pause = landing.refreshes.pause(provider.name(), failed);
            if failed {
                tokio::time::sleep(pause.mul_f64(1.0 + fastrand::f64())).await;
            } else {
                landing.refreshes.flights.put(key, landed, bytes, sessions.remembered(&session));
            }
            drop(landing);
        });
        Some(flight)
    }

    /// How long the outcome is remembered. In cookie mode for as long as the old cookie could come back: a refresh in
    /// the background gives the successor to nobody. A store has the successor.
    fn remembered(&self, session: &Session) -> Duration {
        if !self.in_cookie() {
            return self.refresh_grace;
        }
        Duration::from_millis(session.data.expires_ms.saturating_sub(clock::unix_now_ms())).max(self.refresh_grace)
    }

    /// The tokens as a session keeps them: times made absolute, the ID token only while it is of use.
    pub fn tokens(&self, fresh: provider::Tokens, old_id: Option<&Secret>, provider: &Provider) -> Tokens {
        let now = clock::unix_now_ms();
        // A life of nothing would mean a refresh with every request: as good as not said (O-05).
        let life_ms = fresh.expires_in.filter(|seconds| *seconds > 0).map(|seconds| seconds.saturating_mul(1000));
        let before_ms = millis(self.refresh_before);
        let presented = self.presented_id_tokens.iter().any(|name| name == provider.name());
        let keeps_id = presented || provider.has_end_session();
        Tokens {
            access: Some(fresh.access),
            id: fresh.id.or_else(|| old_id.cloned()).filter(|_| keeps_id),
            expires_ms: life_ms.map(|life| now.saturating_add(life)),
            refresh_ms: life_ms
                .filter(|_| fresh.refresh.is_some())
                .map(|life| now.saturating_add(life - before_ms.min(life / 2))),
            refresh: fresh.refresh,
        }
    }
}

impl Session {
    /// What it weighs in a cache, about.
    pub(super) fn weight(&self) -> u32 {
        let Data { identity, tokens, .. } = &self.data;
        let custom = identity.kept.values().flatten();
        let groups: usize = identity.groups.iter().chain(custom).map(|g| g.len() * 2 + 24).sum();
        let held = [&tokens.access, &tokens.refresh, &tokens.id];
        // Twice: what is presented upstream is held as a header value besides.
        let tokens: usize = held.iter().filter_map(|t| t.as_ref()).map(|t| t.expose().len() * 2).sum();
        u32::try_from(1024 + groups + tokens).unwrap_or(u32::MAX)
    }
}

/// Of one session's one access token: where refresh tokens do not rotate, the next access token is another flight.
fn flight_key(session: &Session, token: &Secret) -> Key {
    let due = session.data.tokens.expires_ms.unwrap_or_default().to_be_bytes();
    let text = [session.data.id.as_slice(), &due, token.expose().as_bytes()].concat();
    sha256(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(grace_ms: u64) -> (Landing, Flight) {
        let (sender, receiver) = watch::channel(None);
        let flight = Flight { outcome: receiver, given_ms: Arc::default(), grace_ms };
        let landing = Landing { outcome: sender, refreshes: Refreshes::default(), key: [7; 32] };
        landing.refreshes.flights.put(landing.key, flight.clone(), 1, Duration::from_secs(60));
        (landing, flight)
    }

    fn fresh() -> Outcome {
        Outcome::Fresh(Arc::new(crate::session::testing::session(1, 1)))
    }

    #[test]
    fn the_grace_begins_when_the_successor_is_given_away() {
        let (_landing, flight) = flight(60_000);
        for (now, good) in [(1_000_000, true), (1_060_000, true), (1_060_001, false), (9_000_000, false)] {
            assert_eq!(matches!(flight.aged(fresh(), now), Outcome::Fresh(_)), good, "at {now}");
        }
        assert!(matches!(flight.aged(Outcome::Failed, 9_000_000), Outcome::Failed));
    }

    #[test]
    fn a_task_that_ends_without_an_outcome_has_failed_and_is_forgotten() {
        let (landing, flight) = flight(60_000);
        let refreshes = landing.refreshes.clone();
        assert!(flight.outcome().is_none());
        drop(landing);
        assert!(matches!(flight.outcome(), Some(Outcome::Failed)));
        assert!(refreshes.flights.find(&[7; 32]).is_none(), "the next request tries again");
    }

    #[test]
    fn an_outcome_that_is_good_is_kept() {
        let (landing, flight) = flight(60_000);
        let refreshes = landing.refreshes.clone();
        landing.outcome.send_replace(Some(fresh()));
        drop(landing);
        assert!(matches!(flight.outcome(), Some(Outcome::Fresh(_))));
        assert!(refreshes.flights.find(&[7; 32]).is_some());
    }

    #[test]
    fn a_provider_that_goes_on_failing_is_asked_less_and_less_often() {
        let refreshes = Refreshes::default();
        let pauses: Vec<u64> = (0..5).map(|_| refreshes.pause("main", true).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 8]);
        assert_eq!(refreshes.pause("other", true).as_secs(), 1, "one provider's failures are not another's");
        refreshes.pause("main", false);
        assert_eq!(refreshes.pause("main", true).as_secs(), 1);
    }
}
