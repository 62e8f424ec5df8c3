//! Refresh: one call to the provider for one refresh token, however many requests ask at once, in a task of its own so
//! that no client's leaving stops it. The outcome is kept: a request that left with the old cookie gets the successor.
//!
//! A refresh token that was spent is never sent again by this instance: most providers take reuse for theft and end the
//! whole grant (RFC 9700 §4.14.2). One that the provider did not replace is not spent: it is sent again when the next
//! access token is due.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use tokio::sync::watch;

use super::Session;
use super::data::{Data, Tokens};
use super::identity::Identity;
use super::manager::Sessions;
use crate::clock;
use crate::error::{Error, Kind};
use crate::provider::{self, Provider};
use crate::secret::Secret;
use crate::store::cache::Bounded;

/// Refreshes remembered; the longest unused are forgotten first.
const MAX_FLIGHTS: u64 = 100_000;
/// After a provider that did not answer, the next try is this far away, and up to twice as far.
const RETRY_AFTER: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub enum Outcome {
    /// The provider refused the refresh token, or it was spent too long ago: a fresh sign-in is due.
    Ended,
    /// The provider did not answer. The session is as good as it was.
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
    key: [u8; 32],
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
            self.refreshes.0.remove(&self.key);
        }
    }
}

#[derive(Clone)]
pub(super) struct Refreshes(Bounded<[u8; 32], Flight>);

impl Default for Refreshes {
    fn default() -> Self {
        Self(Bounded::new(MAX_FLIGHTS))
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
        let flights = &self.state.refreshes;
        if let Some(flight) = flights.0.find(&key) {
            return Some(flight);
        }
        let (sender, receiver) = watch::channel(None);
        let flight = Flight {
            outcome: receiver,
            given_ms: Arc::default(),
            grace_ms: u64::try_from(self.refresh_grace.as_millis()).unwrap_or(u64::MAX),
        };
        let left = Duration::from_millis(session.data.expires_ms.saturating_sub(clock::unix_now_ms()));
        if !flights.0.put_new(key, flight.clone(), 1, left.max(self.refresh_grace)) {
            // Somebody else was quicker, between the look and the insertion.
            return flights.0.find(&key);
        }
        let landing = Landing { outcome: sender, refreshes: flights.clone(), key };
        let (sessions, session, provider) = (Arc::clone(self), Arc::clone(session), Arc::clone(provider));
        provider.control().clone().spawn(async move {
            let outcome = sessions.renew(&session, &provider, token).await;
            done(match &outcome {
                Outcome::Ended => "rejected",
                Outcome::Failed => "failed",
                Outcome::Fresh(_) => "ok",
            });
            let failed = matches!(outcome, Outcome::Failed);
            landing.outcome.send_replace(Some(outcome));
            if failed {
                tokio::time::sleep(RETRY_AFTER.mul_f64(1.0 + fastrand::f64())).await;
            }
            drop(landing);
        });
        Some(flight)
    }

    async fn renew(self: &Arc<Self>, session: &Arc<Session>, provider: &Arc<Provider>, token: Secret) -> Outcome {
        let refreshed = provider.refresh(token, session.data.identity.sub.as_str()).await.and_then(|refreshed| {
            // The identity is that of the new claims: who left a group has left it (RF-05).
            let identity = match &refreshed.claims {
                Some(claims) => Identity::from_claims(claims, &provider.settings().claims, self.custom())?,
                None => session.data.identity.clone(),
            };
            // C-19: it is the sign-in of before that goes on (OpenID Connect Core §12.2).
            let (before, after) = (session.data.identity.auth_time, identity.auth_time);
            if before.is_some() && after.is_some_and(|at| before != Some(at)) {
                return Err(Error::new(Kind::IdToken, "the refreshed ID token has another auth_time"));
            }
            Ok((refreshed.tokens, identity))
        });
        match refreshed {
            Ok((fresh, identity)) => {
                let tokens = self.tokens(fresh, session.data.tokens.id.as_ref(), provider);
                if self.has_ended(session, clock::unix_now_ms()) {
                    // SECURITY: OX-08. A sign-out while the refresh was under way wins; what came too late is given back.
                    provider.revoke(tokens.refresh, tokens.access);
                    return Outcome::Ended;
                }
                Outcome::Fresh(self.renewed(session, identity, tokens))
            }
            // C-19, O-07: only a refusal of the grant, or an ID token of somebody else, ends a session.
            Err(e) if e.oauth_code() == Some("invalid_grant") || e.kind() == Kind::IdToken => {
                crate::audit!(event = "refresh_rejected", user = %crate::telemetry::Safe(session.user()), provider = provider.name(), reason = %e);
                self.revoke(session);
                Outcome::Ended
            }
            Err(e) => {
                tracing::warn!(provider = provider.name(), error = %e, "refresh failed; the session goes on");
                Outcome::Failed
            }
        }
    }

    /// The tokens as a session keeps them: times made absolute, the ID token only while it is of use.
    pub fn tokens(&self, fresh: provider::Tokens, old_id: Option<&Secret>, provider: &Provider) -> Tokens {
        let now = clock::unix_now_ms();
        // A life of nothing would mean a refresh with every request: as good as not said (O-05).
        let life_ms = fresh.expires_in.filter(|seconds| *seconds > 0).map(|seconds| seconds.saturating_mul(1000));
        let before_ms = u64::try_from(self.refresh_before.as_millis()).unwrap_or(u64::MAX);
        let keeps_id = provider.has_end_session();
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
        let custom = identity.custom.values().flatten();
        let groups: usize = identity.groups.iter().chain(custom).map(|g| g.len() * 2 + 24).sum();
        let held = [&tokens.access, &tokens.refresh, &tokens.id];
        let tokens: usize = held.iter().filter_map(|t| t.as_ref()).map(|t| t.expose().len()).sum();
        u32::try_from(1024 + groups + tokens).unwrap_or(u32::MAX)
    }
}

/// Of one session's one access token: where refresh tokens do not rotate, the next access token is another flight.
fn flight_key(session: &Session, token: &Secret) -> [u8; 32] {
    let due = session.data.tokens.expires_ms.unwrap_or_default().to_be_bytes();
    let text = [session.data.id.as_slice(), &due, token.expose().as_bytes()].concat();
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, &text).as_ref());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(grace_ms: u64) -> (Landing, Flight) {
        let (sender, receiver) = watch::channel(None);
        let flight = Flight { outcome: receiver, given_ms: Arc::default(), grace_ms };
        let landing = Landing { outcome: sender, refreshes: Refreshes::default(), key: [7; 32] };
        landing.refreshes.0.put(landing.key, flight.clone(), 1, Duration::from_secs(60));
        (landing, flight)
    }

    fn fresh() -> Outcome {
        let data = Data {
            id: [1; 16],
            provider: "main".into(),
            issuer: "https://id.example.com".into(),
            identity: Identity::default(),
            created_ms: 1,
            expires_ms: 2,
            seen_ms: 1,
            tokens: Tokens::default(),
        };
        Outcome::Fresh(Arc::new(Session::new(data, &[], 1)))
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
        assert!(refreshes.0.find(&[7; 32]).is_none(), "the next request tries again");
    }

    #[test]
    fn an_outcome_that_is_good_is_kept() {
        let (landing, flight) = flight(60_000);
        let refreshes = landing.refreshes.clone();
        landing.outcome.send_replace(Some(fresh()));
        drop(landing);
        assert!(matches!(flight.outcome(), Some(Outcome::Fresh(_))));
        assert!(refreshes.0.find(&[7; 32]).is_some());
    }
}
