//! Refresh: one call to the provider for one refresh token, however many requests ask at once, in a task of its own so
//! that no client's leaving stops it. The outcome is kept: a request that left with the old cookie gets the successor.
//!
//! A refresh token that was spent is never sent again by this instance: most providers take reuse for theft and end the
//! whole grant (RFC 9700 §4.14.2).

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use tokio::sync::watch;

use super::Session;
use super::data::{Data, Tokens};
use super::identity::Identity;
use super::manager::Sessions;
use crate::clock;
use crate::error::Kind;
use crate::provider::{self, Provider};
use crate::secret::Secret;
use crate::store::memory::Memory;

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
    outcome: watch::Receiver<Option<(Outcome, u64)>>,
    grace_ms: u64,
}

#[derive(Clone)]
pub(super) struct Refreshes(Memory<[u8; 32], Flight>);

impl Default for Refreshes {
    fn default() -> Self {
        Self(Memory::new(MAX_FLIGHTS))
    }
}

impl Flight {
    /// The outcome if it is known already.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome.borrow().as_ref().map(|(outcome, at)| self.aged(outcome.clone(), *at))
    }

    /// Waits for the outcome, at most `limit`.
    pub async fn wait(mut self, limit: Duration) -> Outcome {
        let known = tokio::time::timeout(limit, self.outcome.wait_for(Option::is_some)).await.is_ok();
        if !known {
            return Outcome::Failed;
        }
        self.outcome().unwrap_or(Outcome::Failed)
    }

    fn aged(&self, outcome: Outcome, at_ms: u64) -> Outcome {
        let spent = clock::unix_now_ms().saturating_sub(at_ms) > self.grace_ms;
        match outcome {
            Outcome::Fresh(_) if spent => Outcome::Ended,
            other => other,
        }
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
        let key = flight_key(&token);
        let flights = &self.state.refreshes.0;
        if let Some(flight) = flights.find(&key) {
            return Some(flight);
        }
        let (sender, receiver) = watch::channel(None);
        let flight =
            Flight { outcome: receiver, grace_ms: u64::try_from(self.refresh_grace.as_millis()).unwrap_or(u64::MAX) };
        let left = Duration::from_millis(session.data.expires_ms.saturating_sub(clock::unix_now_ms()));
        if !flights.put_new(key, flight.clone(), 1, left.max(self.refresh_grace)) {
            // Somebody else was quicker, between the look and the insertion.
            return flights.find(&key);
        }
        let (sessions, session, provider) = (Arc::clone(self), Arc::clone(session), Arc::clone(provider));
        provider.control().clone().spawn(async move {
            let outcome = sessions.renew(&session, &provider, token).await;
            done(match &outcome {
                Outcome::Ended => "rejected",
                Outcome::Failed => "failed",
                Outcome::Fresh(_) => "ok",
            });
            let failed = matches!(outcome, Outcome::Failed);
            // SECURITY: OX-08. A sign-out while the refresh was under way wins: the session stays dead.
            sender.send_replace(Some((outcome, clock::unix_now_ms())));
            if failed {
                tokio::time::sleep(RETRY_AFTER.mul_f64(1.0 + fastrand::f64())).await;
                sessions.state.refreshes.0.remove(&key);
            }
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
            Ok((refreshed.tokens, identity))
        });
        match refreshed {
            Ok((fresh, identity)) => {
                let tokens = self.tokens(fresh, session.data.tokens.id.as_ref(), provider);
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
        let life_ms = fresh.expires_in.map(|seconds| seconds.saturating_mul(1000));
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
        let groups: usize = identity.groups.iter().map(|g| g.len() * 2 + 24).sum();
        let held = [&tokens.access, &tokens.refresh, &tokens.id];
        let tokens: usize = held.iter().filter_map(|t| t.as_ref()).map(|t| t.expose().len()).sum();
        u32::try_from(1024 + groups + tokens).unwrap_or(u32::MAX)
    }
}

fn flight_key(token: &Secret) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, token.expose().as_bytes()).as_ref());
    key
}
