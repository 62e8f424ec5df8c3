//! Ending sessions: one, all of somebody's, all of one session at the provider; on every replica that shares the store,
//! and for whatever connection is still open.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::data::Data;
use super::keeping::Card;
use super::manager::{Sessions, millis};
use super::state::{HEARD, Local};
use super::{Session, sha256};
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::store::{Event, Key, Store};

/// How often an open tunnel or stream asks whether its session has ended.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// An end that the store did not take, or that the other replicas could not be told of, is tried again, so often, each
/// time twice as late.
const TRY_TIMES: u32 = 6;
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// Whose sessions are meant.
#[derive(Clone, Copy, Debug)]
pub enum Whose<'a> {
    /// The user name that upstreams are told, of whatever provider.
    User(&'a str),
    /// One person at one provider (`iss` and `sub`).
    Subject { issuer: &'a str, sub: &'a str },
    /// What one session at the provider became here (`iss` and `sid`).
    Sid { issuer: &'a str, sid: &'a str },
    /// The same, if it is that person's.
    SubjectSid { issuer: &'a str, sub: &'a str, sid: &'a str },
}

impl Whose<'_> {
    fn parts(&self) -> Vec<&[u8]> {
        match self {
            Self::User(user) => vec![b"user", user.as_bytes()],
            Self::Subject { issuer, sub } => vec![b"sub", issuer.as_bytes(), sub.as_bytes()],
            Self::Sid { issuer, sid } => vec![b"sid", issuer.as_bytes(), sid.as_bytes()],
            Self::SubjectSid { issuer, sub, sid } => {
                vec![b"sub sid", issuer.as_bytes(), sub.as_bytes(), sid.as_bytes()]
            }
        }
    }

    /// What the store finds them by: a session is not found by both at once.
    fn indexed(self) -> Self {
        match self {
            Self::SubjectSid { issuer, sid, .. } => Self::Sid { issuer, sid },
            other => other,
        }
    }

    /// SECURITY: S-23. A store that was tampered with must not bring one person's sessions into another's list.
    fn takes(&self, card: &Card) -> bool {
        match self {
            // Its name is the latest; the tags of earlier ones stay.
            Self::User(_) => true,
            Self::Sid { issuer, .. } => card.issuer == *issuer,
            Self::Subject { issuer, sub } | Self::SubjectSid { issuer, sub, .. } => {
                card.issuer == *issuer && card.sub == *sub
            }
        }
    }
}

impl Sessions {
    /// What a session is listed by in the store: under the first key, so that a reseal moves it there.
    pub(super) fn index_tags(&self, data: &Data) -> Vec<Key> {
        let who = &data.identity;
        let subject = Whose::Subject { issuer: &data.issuer, sub: &who.sub };
        let sid = who.sid.as_deref().map(|sid| Whose::Sid { issuer: &data.issuer, sid });
        let all = [Some(Whose::User(&who.user)), Some(subject), sid];
        all.iter().flatten().filter_map(|whose| self.ring.tags(&whose.parts()).next()).collect()
    }

    /// What an end of many reaches a session by, under every key: replicas may have different ones first.
    pub(super) fn marks(&self, data: &Data) -> Box<[Key]> {
        let (issuer, sub) = (&data.issuer, &data.identity.sub);
        let sid = data.identity.sid.as_deref();
        let all = [
            Some(Whose::User(&data.identity.user)),
            Some(Whose::Subject { issuer, sub }),
            sid.map(|sid| Whose::Sid { issuer, sid }),
            sid.map(|sid| Whose::SubjectSid { issuer, sub, sid }),
        ];
        all.iter().flatten().flat_map(|whose| self.ring.tags(&whose.parts()).collect::<Vec<_>>()).collect()
    }

    /// Ends a session, at once and for every copy of its cookie.
    ///
    /// # Errors
    /// `StoreUnavailable`: it has not ended as far as is known, and the browser should try again.
    pub async fn revoke(&self, session: &Session) -> Result<()> {
        self.ender().end(session.key, session.data.created_ms, session.data.expires_ms).await
    }

    /// Ends the session of a card, or one whose record was found by a tag. False = there is none of that key.
    pub async fn end_key(&self, key: &Key) -> Result<bool> {
        let Some(record) = self.store.load(key).await? else { return Ok(false) };
        let card = self.card(key, &record);
        let far = clock::unix_now_ms() + millis(self.lifetime);
        let (created_ms, expires_ms) = card.map_or((0, far), |card| (card.created_ms, card.expires_ms));
        self.ender().end(*key, created_ms, expires_ms).await?;
        Ok(true)
    }

    /// Ends all sessions of somebody that have begun until now; how many were found. `proven` = whoever asks has proved
    /// to be allowed to; else only what this instance or its store can find is ended.
    pub async fn end_all(&self, whose: Whose<'_>, proven: bool) -> Result<usize> {
        self.end_all_begun(whose, proven, clock::unix_now_ms()).await
    }

    /// The same, of those that began at `at_ms` or before.
    pub async fn end_all_begun(&self, whose: Whose<'_>, proven: bool, at_ms: u64) -> Result<usize> {
        let ended = self.end_found(whose, at_ms).await?;
        if !proven && (self.in_cookie() || ended == 0) {
            return Ok(ended);
        }
        let longest = Duration::from_millis(self.state.local.longest_ms.load(Ordering::Relaxed));
        let keep = if self.in_cookie() { longest } else { HEARD };
        for tag in self.ring.tags(&whose.parts()) {
            self.state.local.ends.end_before(tag, at_ms, keep, proven);
            if proven {
                self.tell(Event::EndedBefore { tag, at_ms });
            }
        }
        if self.in_cookie() {
            return Ok(ended);
        }
        // SECURITY: OX-08. A sign-in that was written between the look and the mark; one that is written later finds the
        // mark (`create`). In a store it would outlive the mark.
        Ok(ended + self.end_found(whose, at_ms).await?)
    }

    /// Ends what the store has of somebody that began at `at_ms` or before; how many had not ended yet.
    async fn end_found(&self, whose: Whose<'_>, at_ms: u64) -> Result<usize> {
        let mut ended = 0;
        // The last used one last: whoever ends his own with the others needs it to try again, where the store goes away
        // in between.
        for card in self.cards(whose).await?.iter().rev().filter(|card| card.created_ms <= at_ms) {
            ended += usize::from(self.is_live(card));
            self.ender().end(card.key, card.created_ms, card.expires_ms).await?;
        }
        Ok(ended)
    }

    /// The sessions of somebody, as far as the store knows (in cookie mode: as this instance has seen), the last used
    /// first.
    pub async fn list(&self, whose: Whose<'_>) -> Result<Vec<Card>> {
        let mut cards = self.cards(whose).await?;
        cards.retain(|card| self.is_live(card));
        Ok(cards)
    }

    fn is_live(&self, card: &Card) -> bool {
        let now = clock::unix_now_ms();
        let idle = self.idle_ms > 0 && now.saturating_sub(card.seen_ms) >= self.idle_ms.saturating_add(self.touch_ms);
        now < card.expires_ms && !idle && !self.state.local.ends.has_key(&card.key)
    }

    /// Also those that should not be there any more: a store that fails over may bring back what has ended.
    async fn cards(&self, whose: Whose<'_>) -> Result<Vec<Card>> {
        let mut keys: Vec<Key> = Vec::new();
        for tag in self.ring.tags(&whose.indexed().parts()) {
            for key in self.store.tagged(&tag).await? {
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        let records = self.store.load_all(&keys).await?;
        let cards = records.iter().filter_map(|(key, record)| self.card(key, record));
        let mut cards: Vec<Card> = cards.filter(|card| whose.takes(card)).collect();
        cards.sort_by_key(|card| std::cmp::Reverse((card.seen_ms, card.created_ms)));
        Ok(cards)
    }

    /// Resolves when `session` is over, on whichever replica it ended.
    pub async fn ended(self: Arc<Self>, session: Arc<Session>) {
        let gaps = &self.state.local.gaps;
        // Nothing is known yet: the session was looked up a while ago, and what was missed since was missed.
        let mut known = None;
        let mut looked = Instant::now();
        loop {
            if self.has_ended(&session, clock::unix_now_ms()) {
                return;
            }
            // SECURITY: OX-02. Whoever takes nothing of a stream keeps it from looking, until the end is forgotten here.
            if std::mem::replace(&mut looked, Instant::now()).elapsed() > HEARD / 2 {
                known = None;
            }
            // The other replicas were not heard for a while: what was missed is known to the store.
            let now = Some(gaps.load(Ordering::Acquire));
            if session.stored.is_some() && now != known {
                match self.store.load(&session.key).await {
                    Ok(None) => return,
                    Ok(Some(_)) => known = now,
                    // Asked again in a moment.
                    Err(_) => {}
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// True for exactly one of those who bring the same `text` within `ttl`, on whichever replica of a shared store: a
    /// callback's state, a logout token's `jti`.
    ///
    /// # Errors
    /// `StoreUnavailable`: then nobody is first (DX-07).
    pub async fn first(&self, what: &str, text: &str, ttl: Duration) -> Result<bool> {
        self.store.first(&mark(what, text), ttl).await
    }

    /// Whether somebody was first with this `text` already; asking makes nobody the first.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    pub async fn came_before(&self, what: &str, text: &str) -> Result<bool> {
        self.store.is_marked(&mark(what, text)).await
    }

    pub(super) fn ender(&self) -> Ender {
        Ender {
            store: self.store.clone(),
            local: Arc::clone(&self.state.local),
            control: self.state.control.clone(),
            in_cookie: self.in_cookie(),
        }
    }

    /// In the background: the store knows it already; this is for what others hold of it.
    pub(super) fn tell(&self, event: Event) {
        self.ender().tell(event);
    }
}

/// What it takes to end one session, in a task of its own.
#[derive(Clone)]
pub(super) struct Ender {
    store: Store,
    local: Arc<Local>,
    control: Handle,
    in_cookie: bool,
}

impl Ender {
    /// SECURITY: OX-02. Whoever asked for it may leave in between, and the store may do it and answer too late: what has
    /// left the store must not live on in front of it, here or at another replica. So it is finished all the same.
    pub(super) async fn end(&self, key: Key, began_ms: u64, expires_ms: u64) -> Result<()> {
        let (ended, told) = oneshot::channel();
        let this = self.clone();
        self.control.spawn(async move {
            let Err(error) = this.store.remove(&key).await else {
                this.ended_here(key, began_ms, expires_ms);
                let _ = ended.send(Ok(()));
                return;
            };
            // Until it is known what became of it, the store is asked.
            this.local.front.remove(&key);
            this.local.ends.advance();
            let _ = ended.send(Err(error));
            for attempt in 0..TRY_TIMES {
                tokio::time::sleep(TRY_AGAIN * 2_u32.pow(attempt)).await;
                if this.store.remove(&key).await.is_ok() {
                    return this.ended_here(key, began_ms, expires_ms);
                }
            }
        });
        told.await.unwrap_or_else(|_| Err(Error::new(Kind::Internal, "the end of a session was broken off")))
    }

    fn ended_here(&self, key: Key, began_ms: u64, expires_ms: u64) {
        self.local.front.remove(&key);
        let keep =
            if self.in_cookie { Duration::from_millis(expires_ms.saturating_sub(clock::unix_now_ms())) } else { HEARD };
        self.local.ends.end(key, began_ms, keep);
        self.tell(Event::Ended(key));
    }

    fn tell(&self, event: Event) {
        let store = self.store.clone();
        self.control.spawn(async move {
            for attempt in 0..TRY_TIMES {
                let Err(error) = store.announce(event).await else { return };
                tracing::debug!(%error, "the other replicas were not told yet");
                tokio::time::sleep(TRY_AGAIN * 2_u32.pow(attempt)).await;
            }
        });
    }
}

fn mark(what: &str, text: &str) -> Key {
    sha256([what, "\0", text].concat().as_bytes())
}
