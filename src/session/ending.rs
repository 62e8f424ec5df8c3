//! Ending sessions: one, all of somebody's, all of one session at the provider; on every replica that shares the store,
//! and for whatever connection is still open.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::data::Data;
use super::keeping::Card;
use super::manager::{Sessions, millis};
use super::state::HEARD;
use super::{Session, sha256};
use crate::clock;
use crate::error::Result;
use crate::store::{Event, Key};

/// How often an open tunnel or stream asks whether its session has ended.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// An end that the other replicas could not be told of is told again, so often, each time twice as late.
const TELL_TIMES: u32 = 6;
const TELL_AGAIN: Duration = Duration::from_millis(100);

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

    fn takes(&self, card: &Card) -> bool {
        match self {
            Self::SubjectSid { sub, .. } => card.sub == *sub,
            _ => true,
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
    /// `StoreUnavailable`: nothing has ended, and the browser should try again.
    pub async fn revoke(&self, session: &Session) -> Result<()> {
        self.store.remove(&session.key).await?;
        self.ended_here(session.key, session.data.created_ms, session.data.expires_ms);
        Ok(())
    }

    /// Ends the session of a card, or one whose record was found by a tag. False = there is none of that key.
    pub async fn end_key(&self, key: &Key) -> Result<bool> {
        let Some(record) = self.store.load(key).await? else { return Ok(false) };
        let card = self.card(key, &record);
        self.store.remove(key).await?;
        let far = clock::unix_now_ms() + millis(self.lifetime);
        let (created_ms, expires_ms) = card.map_or((0, far), |card| (card.created_ms, card.expires_ms));
        self.ended_here(*key, created_ms, expires_ms);
        Ok(true)
    }

    /// Ends all sessions of somebody that have begun until now; how many were found. `proven` = whoever asks has proved
    /// to be allowed to; else only what this instance or its store can find is ended.
    pub async fn end_all(&self, whose: Whose<'_>, proven: bool) -> Result<usize> {
        let at_ms = clock::unix_now_ms();
        let cards = self.list(whose).await?;
        // The last used one last: whoever ends his own with the others needs it to try again, where the store goes away
        // in between.
        for card in cards.iter().rev() {
            self.store.remove(&card.key).await?;
            self.ended_here(card.key, card.created_ms, card.expires_ms);
        }
        if proven || !self.in_cookie() {
            let longest = Duration::from_millis(self.state.here.longest_ms.load(Ordering::Relaxed));
            let keep = if self.in_cookie() { longest } else { HEARD };
            for tag in self.ring.tags(&whose.parts()) {
                self.state.here.ends.end_before(tag, at_ms, keep, proven);
                if proven {
                    self.tell(Event::EndedBefore { tag, at_ms });
                }
            }
        }
        Ok(cards.len())
    }

    /// The sessions of somebody, as far as the store knows (in cookie mode: as this instance has seen), the last used
    /// first.
    pub async fn list(&self, whose: Whose<'_>) -> Result<Vec<Card>> {
        let mut keys: Vec<Key> = Vec::new();
        for tag in self.ring.tags(&whose.indexed().parts()) {
            for key in self.store.tagged(&tag).await? {
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        let now = clock::unix_now_ms();
        let ends = &self.state.here.ends;
        let live = |card: &Card| {
            let idle =
                self.idle_ms > 0 && now.saturating_sub(card.seen_ms) >= self.idle_ms.saturating_add(self.touch_ms);
            now < card.expires_ms && !idle && !ends.has_key(&card.key)
        };
        let records = self.store.load_all(&keys).await?;
        let cards = records.iter().filter_map(|(key, record)| self.card(key, record));
        let mut cards: Vec<Card> = cards.filter(|card| whose.takes(card) && live(card)).collect();
        cards.sort_by_key(|card| std::cmp::Reverse((card.seen_ms, card.created_ms)));
        Ok(cards)
    }

    /// Resolves when `session` is over, on whichever replica it ended.
    pub async fn ended(self: Arc<Self>, session: Arc<Session>) {
        let gaps = &self.state.here.gaps;
        // Not what it is now: an end may have gone unheard since the request was let in. A store that others share is
        // asked once in any case; the others have no gaps.
        let mut known = 0;
        loop {
            if self.has_ended(&session, clock::unix_now_ms()) {
                return;
            }
            // The other replicas were not heard for a while: what was missed is known to the store.
            let now = gaps.load(Ordering::Acquire);
            if now != known {
                match self.store.load(&session.key).await {
                    Ok(None) if session.stored.is_some() => return,
                    Ok(_) => known = now,
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

    fn ended_here(&self, key: Key, began_ms: u64, expires_ms: u64) {
        let here = &self.state.here;
        here.front.remove(&key);
        let keep = if self.in_cookie() {
            Duration::from_millis(expires_ms.saturating_sub(clock::unix_now_ms()))
        } else {
            HEARD
        };
        here.ends.end(key, began_ms, keep);
        self.tell(Event::Ended(key));
    }

    /// In the background: the store has forgotten the session already; this is for what others hold of it.
    pub(super) fn tell(&self, event: Event) {
        let store = self.store.clone();
        self.state.control.spawn(async move {
            for attempt in 0..TELL_TIMES {
                let Err(error) = store.announce(event).await else { return };
                tracing::debug!(%error, "the other replicas were not told yet");
                tokio::time::sleep(TELL_AGAIN * 2_u32.pow(attempt)).await;
            }
        });
    }
}

fn mark(what: &str, text: &str) -> Key {
    sha256([what, "\0", text].concat().as_bytes())
}
