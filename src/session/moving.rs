//! From the cookie into a store: after `store` was changed, whoever comes with a session in the cookie keeps it, and gets
//! a ticket for it. (Not the other way: what a store holds it does not give away.)

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::lookup::Ticket;
use super::manager::Sessions;
use super::{Session, Stored, sha256};
use crate::clock;
use crate::error::{Error, Kind, Result};

/// How long a request waits for another that is moving the same session.
const WAIT: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Sessions {
    /// The half of what a cookie is moved to: all requests with the same cookie find the same record, and nobody else.
    pub(super) fn moved_ticket(session: &Session, sealed: &str) -> Ticket {
        Ticket { id: session.data.id, half: sha256([b"moved\0", sealed.as_bytes()].concat().as_slice()) }
    }

    /// Moves `session` into the store, unless it was moved before: then it is there, or has ended.
    pub(super) async fn move_in(
        &self,
        session: &Session,
        ticket: &Ticket,
        now_ms: u64,
    ) -> Result<Option<Arc<Session>>> {
        // SECURITY: S-04. A copy of the cookie must not bring back what has ended in the store: it is moved once.
        let mark = sha256([b"moved\0".as_slice(), &session.data.id].concat().as_slice());
        let left = Duration::from_millis(session.data.expires_ms.saturating_sub(clock::unix_now_ms()));
        let until = Instant::now() + WAIT;
        loop {
            if let Some((moved, _)) = self.fetch(ticket, now_ms).await? {
                return Ok(Some(moved));
            }
            let over = session.is_over(now_ms, self.idle_ms) || self.has_ended(session, now_ms);
            if over || self.store.is_marked(&mark).await? {
                return Ok(None);
            }
            if let Some(lease) = self.store.lease(&mark).await? {
                // Asked again, since another may have held it a moment ago.
                if !self.store.is_marked(&mark).await? {
                    let stored = Stored { half: ticket.half, version: 1 };
                    let moved = self.build(session.data.clone(), Some(stored));
                    self.store.create(self.entry(&moved)?).await?;
                    self.store.first(&mark, left).await?;
                }
                lease.release().await;
                continue;
            }
            if Instant::now() >= until {
                return Err(Error::new(Kind::StoreUnavailable, "the session is still being moved into the store"));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
