//! From a cookie to a session: cache (by the hash of the sealed text) → seal → store, where there is one, by way of what
//! is held in front of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::data::{Data, Id};
use super::manager::Sessions;
use super::{Session, Stored, sha256};
use crate::clock;
use crate::config::settings;
use crate::crypto::seal::{Place, Purpose};
use crate::error::Result;
use crate::http::cookie::Found;

/// What all cached sessions may weigh.
pub(super) const CACHE_BYTES: u64 = 64 << 20;
/// A cached session is read from its cookie again after this long.
pub(super) const CACHE_AGE: Duration = Duration::from_secs(300);
/// What a session is held for in front of its store, while the store tells of every change.
pub(super) const FRONT_AGE: Duration = Duration::from_secs(30);

/// What a session cookie held.
#[derive(Clone)]
pub(super) struct Cached {
    held: HeldIn,
    /// Sealed by a key that is not the first any more.
    stale: bool,
}

#[derive(Clone)]
enum HeldIn {
    Cookie(Arc<Session>),
    Store(Ticket),
}

/// All that the cookie of a stored session holds.
#[derive(Clone, Copy)]
pub(super) struct Ticket {
    pub(super) id: Id,
    pub(super) half: [u8; 32],
}

/// What the cookies of a request stand for.
pub enum Lookup {
    /// No session cookie at all.
    Absent,
    Live(Live),
    /// Something under our name that is no session (any more): to be cleared.
    Refused,
}

pub struct Live {
    pub session: Arc<Session>,
    /// The cookie was sealed by an older key, or is from before there was a store.
    pub stale: bool,
    /// It was at hand: neither opened nor asked for.
    pub cached: bool,
}

pub(super) const TAG_DATA: u8 = 0;
pub(super) const TAG_TICKET: u8 = 2;

impl Cached {
    pub(super) fn weight(&self) -> u32 {
        match &self.held {
            HeldIn::Cookie(session) => session.weight(),
            HeldIn::Store(_) => 256,
        }
    }
}

impl Sessions {
    /// The session that these cookies stand for, junk among them passed over (S-16).
    ///
    /// # Errors
    /// `StoreUnavailable`: whether it is one cannot be known now.
    pub async fn find(&self, found: &Found<'_>, host: &str, now_ms: u64) -> Result<Lookup> {
        if !found.has_session() {
            return Ok(Lookup::Absent);
        }
        for sealed in found.sessions() {
            if let Some(live) = self.open(&sealed, self.host(host), now_ms).await? {
                return Ok(Lookup::Live(live));
            }
        }
        Ok(Lookup::Refused)
    }

    async fn open(&self, sealed: &str, host: &str, now_ms: u64) -> Result<Option<Live>> {
        let key = cache_key(host, sealed);
        let known = self.cache.get(&key);
        let mut cached = known.is_some();
        let Some(mut opened) = known.or_else(|| self.unseal(sealed, host)) else { return Ok(None) };
        let session = match &opened.held {
            HeldIn::Cookie(session) if self.in_cookie() => Arc::clone(session),
            HeldIn::Cookie(session) => {
                let ticket = Self::moved_ticket(session, sealed);
                let Some(moved) = self.move_in(session, &ticket, now_ms).await? else { return Ok(None) };
                opened = Cached { held: HeldIn::Store(ticket), stale: true };
                moved
            }
            HeldIn::Store(ticket) => {
                let Some((session, held)) = self.fetch(ticket, now_ms).await? else { return Ok(None) };
                cached &= held;
                session
            }
        };
        if session.is_over(now_ms, self.idle_ms) || self.has_ended(&session, now_ms) {
            return Ok(None);
        }
        if self.in_cookie() && (!cached || opened.stale) {
            self.note_card(&session).await?;
        }
        if !cached {
            self.cache.insert(key, opened.clone());
        }
        Ok(Some(Live { stale: opened.stale, session, cached }))
    }

    fn unseal(&self, sealed: &str, host: &str) -> Option<Cached> {
        let opened = self.ring.open(Purpose::Session, Place { name: &self.name, host }, sealed)?;
        let (tag, rest) = opened.plain.split_first()?;
        let held = match (self.mode, *tag) {
            // Beside a store: one from before there was one.
            (_, TAG_DATA) => HeldIn::Cookie(self.build(Data::decode(rest)?, None)),
            (settings::Store::Memory | settings::Store::Redis, TAG_TICKET) => {
                let (id, half) = rest.split_first_chunk()?;
                HeldIn::Store(Ticket { id: *id, half: half.try_into().ok()? })
            }
            _ => return None,
        };
        Some(Cached { held, stale: opened.stale })
    }

    /// A stored session, and whether it was at hand.
    pub(super) async fn fetch(&self, ticket: &Ticket, now_ms: u64) -> Result<Option<(Arc<Session>, bool)>> {
        let key = sha256(&ticket.id);
        let front = &self.state.local.front;
        // SECURITY: BL-04. While nothing is heard from the other replicas, nothing that is held here counts.
        if self.store.is_current()
            && let Some(session) = front.find(&key)
            && self.is_of_this_configuration(&session)
            && session.stored.is_some_and(|s| verify_slices_are_equal(&s.half, &ticket.half).is_ok())
            // Over by idleness: it may have been used at another replica.
            && !session.is_over(now_ms, self.idle_ms)
        {
            return Ok(Some((session, true)));
        }
        let Some((session, stale)) = self.read(&key, ticket).await? else { return Ok(None) };
        if self.state.local.ends.has(&session) {
            self.clear_away(&session);
            return Ok(None);
        }
        // By this instance's clock alone: no reason to take it from the others.
        if session.is_over(now_ms, self.idle_ms) {
            return Ok(None);
        }
        self.put_in_front(&session);
        if stale {
            self.reseal(Arc::clone(&session));
        }
        Ok(Some((session, false)))
    }

    /// SECURITY: OX-02. A session that ended and is in the store all the same: a failover lost its removal, or an end of
    /// all did not find it there. What this instance remembers of its end will be forgotten; the record must not be left.
    fn clear_away(&self, session: &Session) {
        let (ender, key) = (self.ender(), session.key);
        let (began_ms, expires_ms) = (session.data.created_ms, session.data.expires_ms);
        self.state.control.spawn(async move { ender.end(key, began_ms, expires_ms).await });
    }

    /// What the store has under `key` now, and whether an older key sealed it.
    pub(super) async fn read(&self, key: &[u8; 32], ticket: &Ticket) -> Result<Option<(Arc<Session>, bool)>> {
        let Some(record) = self.store.load(key).await? else { return Ok(None) };
        let opened =
            self.ring.open_bytes(Purpose::Record, super::keeping::place(key).get(), &ticket.half, &record.value);
        let Some((mut data, stale)) = opened.and_then(|o| Some((Data::decode(&o.plain)?, o.stale))) else {
            // SECURITY: S-23. A record under another's name, of another key, or of a later version of ours.
            tracing::debug!("a session's record does not open: it counts as none");
            return Ok(None);
        };
        if data.id != ticket.id {
            return Ok(None);
        }
        // SECURITY: S-23. It is in clear: never later than it can be.
        data.seen_ms = data.seen_ms.max(record.seen_ms.min(data.expires_ms));
        let stored = Stored { half: ticket.half, version: record.version };
        Ok(Some((self.build(data, Some(stored)), stale)))
    }

    pub(super) fn put_in_front(&self, session: &Arc<Session>) {
        if self.store.is_current() {
            self.state.local.front.put(session, FRONT_AGE);
        }
    }

    /// Moves its time of use to now. In cookie mode that is another session, to be issued; a store is told in the
    /// background, and nobody waits for it.
    pub fn touch(self: &Arc<Self>, session: &Arc<Session>) -> Option<Arc<Session>> {
        let now = clock::unix_now_ms();
        session.seen_ms.store(now, Ordering::Relaxed);
        let (this, key, expires_ms) = (Arc::clone(self), session.key, session.data.expires_ms);
        self.state.control.spawn(async move {
            match this.store.touch(&key, now, expires_ms, this.keep(expires_ms)).await {
                Ok(false) if !this.in_cookie() => {
                    // Its end was not heard of.
                    this.state.local.front.remove(&key);
                    this.state.local.ends.advance();
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "a session's time of use was not written"),
            }
        });
        self.in_cookie().then(|| self.build(Data { seen_ms: now, ..session.data.clone() }, None))
    }

    /// Whether `session` has ended, as far as this instance knows.
    pub fn has_ended(&self, session: &Session, now_ms: u64) -> bool {
        now_ms >= session.data.expires_ms || self.state.local.ends.has(session)
    }

    /// A session that another request, or another configuration, has made: `None` when it has ended since, and with its
    /// header values made anew where they were another configuration's.
    pub fn adopt(&self, session: Arc<Session>, now_ms: u64) -> Option<Arc<Session>> {
        if self.has_ended(&session, now_ms) {
            return None;
        }
        if self.is_of_this_configuration(&session) {
            return Some(session);
        }
        // What it was used last is not what its data say.
        Some(self.build(Data { seen_ms: session.seen_ms(), ..session.data.clone() }, session.stored))
    }

    /// PERF: what was just sealed need not be opened when it comes back.
    pub(super) fn remember(&self, sealed: &str, host: &str, session: &Arc<Session>) {
        let held = match session.stored {
            Some(stored) => HeldIn::Store(Ticket { id: session.data.id, half: stored.half }),
            None => HeldIn::Cookie(Arc::clone(session)),
        };
        self.cache.insert(cache_key(host, sealed), Cached { held, stale: false });
    }

    pub(super) fn build(&self, data: Data, stored: Option<Stored>) -> Arc<Session> {
        let marks = self.marks(&data);
        Arc::new(Session::new(data, stored, marks, &self.custom, self.generation))
    }
}

fn cache_key(host: &str, sealed: &str) -> [u8; 32] {
    sha256([host, "\0", sealed].concat().as_bytes())
}
