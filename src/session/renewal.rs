//! What one refresh does: alone where the cookie is the store, in turn with the other replicas where they share one.
//!
//! With a store the one who holds the lease asks the provider; the others wait and read what it has written. The record
//! is read again before the call, since another may have been quicker, and after a refusal, since the provider may have
//! refused a token that was spent a moment ago by somebody whose lease was lost.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::data::{Data, Tokens};
use super::identity::Identity;
use super::lookup::Ticket;
use super::manager::Sessions;
use super::refresh::Outcome;
use super::{Session, Stored};
use crate::audit;
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::provider::Provider;
use crate::secret::Secret;
use crate::store::{Event, Key, Lease, Replaced};
use crate::telemetry::Safe;

/// How often who waits for another replica's refresh looks whether it is there.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A holder that died keeps its lease for a while.
const LEASE_LEFT: Duration = Duration::from_secs(6);
/// What a refresh brought is not to be had again: it is written again and again for so long.
const SAVE_FOR: Duration = Duration::from_secs(120);
const SAVE_AGAIN: Duration = Duration::from_millis(100);
const SAVE_SLOWEST: Duration = Duration::from_secs(2);

enum Turn {
    Ours(Lease),
    /// Somebody else's refresh, or the end of the session, came first.
    Over(Outcome),
}

impl Sessions {
    pub(super) async fn renew(
        self: &Arc<Self>,
        name: &Key,
        session: &Arc<Session>,
        provider: &Arc<Provider>,
        token: Secret,
    ) -> Outcome {
        let Some(stored) = session.stored else { return self.redeem(session, provider, token).await };
        let lease = match self.turn(name, session, &stored, provider).await {
            Ok(Turn::Ours(lease)) => lease,
            Ok(Turn::Over(outcome)) => return outcome,
            Err(error) => {
                tracing::debug!(%error, "no refresh while the store is away");
                return Outcome::Failed;
            }
        };
        let outcome = self.redeem(session, provider, token).await;
        lease.release().await;
        outcome
    }

    /// Waits until it is ours to ask the provider, or somebody else has done it.
    async fn turn(&self, name: &Key, session: &Session, stored: &Stored, provider: &Provider) -> Result<Turn> {
        let until = Instant::now() + provider.settings().timeout + LEASE_LEFT;
        loop {
            let lease = self.store.lease(name).await?;
            match self.reread(session, stored).await? {
                Again::Gone => return Ok(Turn::Over(Outcome::Ended)),
                Again::Other(fresh) => return Ok(Turn::Over(Outcome::Fresh(fresh))),
                Again::Same(_) => {}
            }
            if let Some(lease) = lease {
                return Ok(Turn::Ours(lease));
            }
            if Instant::now() >= until {
                return Ok(Turn::Over(Outcome::Failed));
            }
            tokio::time::sleep(LOOK_EVERY.mul_f64(1.0 + fastrand::f64())).await;
        }
    }

    async fn redeem(self: &Arc<Self>, session: &Arc<Session>, provider: &Arc<Provider>, token: Secret) -> Outcome {
        let before = &session.data.identity;
        let refreshed = provider.refresh(token, session.data.identity.sub.as_str()).await.and_then(|refreshed| {
            // The identity is that of the new claims: who left a group has left it (RF-05).
            let identity = match &refreshed.claims {
                Some(claims) => Identity::from_claims(claims, &provider.settings().claims, &self.kept)?,
                None => before.clone(),
            };
            // C-19: it is the sign-in of before that goes on (OpenID Connect Core §12.2).
            if before.auth_time.is_some() && identity.auth_time.is_some_and(|at| before.auth_time != Some(at)) {
                return Err(Error::new(Kind::IdToken, "the refreshed ID token has another auth_time"));
            }
            // What a refreshed ID token need not repeat is as it was.
            let identity = Identity {
                acr: identity.acr.or_else(|| before.acr.clone()),
                auth_time: identity.auth_time.or(before.auth_time),
                sid: identity.sid.or_else(|| before.sid.clone()),
                ..identity
            };
            Ok((refreshed.tokens, identity))
        });
        match refreshed {
            Ok((fresh, identity)) => {
                let tokens = self.tokens(fresh, session.data.tokens.id.as_ref(), provider);
                self.keep_fresh(session, provider, identity, tokens).await
            }
            // C-19, O-07: only a refusal of the grant, or an ID token of somebody else, ends a session.
            Err(e) if e.oauth_code() == Some("invalid_grant") || e.kind() == Kind::IdToken => {
                if e.kind() != Kind::IdToken
                    && let Some(stored) = &session.stored
                {
                    match self.reread(session, stored).await {
                        Ok(Again::Other(fresh)) => return Outcome::Fresh(fresh),
                        Ok(Again::Gone) => return Outcome::Ended,
                        Ok(Again::Same(_)) => {}
                        // Whether it was spent by another cannot be known now.
                        Err(_) => return Outcome::Failed,
                    }
                }
                audit!(event = "refresh_rejected", user = %Safe(session.user()), provider = provider.name(), reason = %e);
                if let Err(error) = self.revoke(session).await {
                    tracing::warn!(%error, "a session whose grant is over could not be removed from the store");
                }
                Outcome::Ended
            }
            Err(e) => {
                tracing::warn!(provider = provider.name(), error = %e, "refresh failed; the session goes on");
                Outcome::Failed
            }
        }
    }

    /// The same session, its id and its end, with what a refresh brought.
    async fn keep_fresh(
        self: &Arc<Self>,
        session: &Arc<Session>,
        provider: &Arc<Provider>,
        identity: Identity,
        tokens: Tokens,
    ) -> Outcome {
        let data = Data { identity, tokens, seen_ms: clock::unix_now_ms(), ..session.data.clone() };
        let give_back = |data: &Data| {
            // SECURITY: OX-08. A sign-out while the refresh was under way wins; what came too late is given back.
            provider.revoke(data.tokens.refresh.clone(), data.tokens.access.clone());
            Outcome::Ended
        };
        if self.has_ended(session, clock::unix_now_ms()) {
            return give_back(&data);
        }
        let Some(mut stored) = session.stored else { return Outcome::Fresh(self.build(data, None)) };
        let until = Instant::now() + SAVE_FOR;
        let mut pause = SAVE_AGAIN;
        loop {
            let known = stored.version;
            let next = self.build(data.clone(), Some(Stored { version: known.saturating_add(1), ..stored }));
            let failure = match self.replace(&next, known).await {
                Ok(Replaced::Done) => {
                    self.tell(Event::Changed(next.key));
                    return Outcome::Fresh(next);
                }
                Ok(Replaced::Gone) => return give_back(&data),
                Ok(Replaced::Changed) => match self.reread(session, &stored).await {
                    // Somebody else's refresh. Ours is newer than what it was made of, but theirs is what counts.
                    Ok(Again::Other(fresh)) => return Outcome::Fresh(fresh),
                    Ok(Again::Gone) => return give_back(&data),
                    // Only sealed anew, by a replica that has a newer key.
                    Ok(Again::Same(version)) => {
                        stored.version = version;
                        continue;
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if Instant::now() >= until {
                tracing::error!(error = %failure, "what a refresh brought could not be written: the session will need a sign-in");
                return Outcome::Fresh(next);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(SAVE_SLOWEST);
        }
    }

    /// What the store has of `session` now.
    async fn reread(&self, session: &Session, stored: &Stored) -> Result<Again> {
        let ticket = Ticket { id: session.data.id, half: stored.half };
        let Some((now, _)) = self.read(&session.key, &ticket).await? else { return Ok(Again::Gone) };
        let (then, tokens) = (&session.data.tokens, &now.data.tokens);
        if tokens.refresh == then.refresh && tokens.expires_ms == then.expires_ms {
            return Ok(Again::Same(now.stored.map_or(0, |s| s.version)));
        }
        self.put_in_front(&now);
        Ok(Again::Other(now))
    }

    /// A store that lost its last writes (a failover does that) has an older record than we: ours takes its place.
    pub(super) fn heal(self: &Arc<Self>, found: &Arc<Session>, fresh: &Arc<Session>) {
        let versions = found.stored.zip(fresh.stored).map(|(found, fresh)| (found.version, fresh.version));
        let Some((found, _)) = versions.filter(|(found, fresh)| found < fresh) else { return };
        let (this, fresh) = (Arc::clone(self), Arc::clone(fresh));
        self.state.control.spawn(async move {
            // Where it is not older after all, nothing is written.
            if let Ok(Replaced::Done) = this.replace(&fresh, found).await {
                tracing::info!("a session in the store was older than the one known here, and was written again");
                this.tell(Event::Changed(fresh.key));
            }
        });
    }
}

/// What a record has become.
enum Again {
    /// It is not there any more.
    Gone,
    /// With other tokens.
    Other(Arc<Session>),
    /// With the same tokens, in this version.
    Same(u64),
}
