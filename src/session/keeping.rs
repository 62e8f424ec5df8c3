//! Writing sessions: into cookies, into the store, and the card of each that a list is made of.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::HeaderValue;
use serde::{Deserialize, Serialize};

use super::data::{Begun, Data, Tokens};
use super::identity::Identity;
use super::lookup::{TAG_DATA, TAG_TICKET};
use super::manager::{Sessions, millis};
use super::{Session, Stored};
use crate::clock;
use crate::config::settings;
use crate::crypto::random;
use crate::crypto::seal::{Place, Purpose};
use crate::error::{Error, Kind, Result};
use crate::http::cookie::{self as own, Found};
use crate::provider::Provider;
use crate::store::{Entry, Key, MAX_TAGGED, Record, Replaced};

/// What another replica said before a session was made has been heard, or the loss of it noticed.
const HEARD_BY_NOW: Duration = Duration::from_secs(5);

/// What a list of sessions shows of one; it holds no token.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Card {
    /// The user name that upstreams are told.
    #[serde(rename = "u")]
    pub user: String,
    #[serde(rename = "s")]
    pub sub: String,
    #[serde(rename = "p")]
    pub provider: String,
    #[serde(rename = "i")]
    pub issuer: String,
    #[serde(rename = "c")]
    pub created_ms: u64,
    #[serde(rename = "x")]
    pub expires_ms: u64,
    #[serde(rename = "f", default)]
    pub begun: Begun,
    /// When it was last used.
    #[serde(skip)]
    pub seen_ms: u64,
    #[serde(skip)]
    pub key: Key,
}

impl Card {
    /// What lists call it: nothing that opens it.
    pub fn id(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.key)
    }

    /// The key of a card's id.
    pub fn key_of(id: &str) -> Option<Key> {
        URL_SAFE_NO_PAD.decode(id).ok()?.try_into().ok()
    }

    pub fn address(&self) -> Option<IpAddr> {
        self.begun.address
    }
}

/// A record's name, as part of what its seals are bound to: moved to another name, it does not open.
pub(super) struct Named(String);

impl Named {
    pub(super) fn get(&self) -> Place<'_> {
        Place { name: &self.0, host: "" }
    }
}

pub(super) fn place(key: &Key) -> Named {
    Named(URL_SAFE_NO_PAD.encode(key))
}

impl Sessions {
    /// A new session with a new id (S-19).
    pub async fn create(
        &self,
        provider: &Provider,
        identity: Identity,
        tokens: Tokens,
        begun: Begun,
    ) -> Result<Arc<Session>> {
        let now = clock::unix_now_ms();
        let data = Data {
            id: random::bytes(),
            provider: provider.name().to_owned(),
            issuer: provider.issuer().to_owned(),
            identity,
            created_ms: now,
            expires_ms: now + millis(self.lifetime),
            seen_ms: now,
            tokens,
            begun,
        };
        let stored = (!self.in_cookie()).then(|| Stored { half: random::bytes(), version: 1 });
        let session = self.build(data, stored);
        self.make_room(&session).await?;
        self.store.create(self.entry(&session)?).await?;
        if self.has_ended(&session, now) {
            self.revoke(&session).await?;
            return Err(Error::new(
                Kind::Callback,
                "all sessions of this person were ended before this one was complete",
            ));
        }
        self.put_in_front(&session);
        self.look_again(Arc::clone(&session));
        Ok(session)
    }

    /// SECURITY: OX-08. An end of all at another replica may have looked before this record was written, and be heard of
    /// only now. Its mark is forgotten one day, the record is not.
    fn look_again(&self, session: Arc<Session>) {
        if self.mode != settings::Store::Redis {
            return;
        }
        let (ender, local) = (self.ender(), Arc::clone(&self.state.local));
        self.state.control.spawn(async move {
            tokio::time::sleep(HEARD_BY_NOW).await;
            if local.ends.has(&session) {
                let _ = ender.end(session.key, session.data.created_ms, session.data.expires_ms).await;
            }
        });
    }

    /// The store finds `MAX_TAGGED` sessions of one person: the oldest end before one could no longer be found, and so
    /// not be ended with the others.
    async fn make_room(&self, session: &Session) -> Result<()> {
        for tag in self.index_tags(&session.data) {
            for key in self.store.tagged(&tag).await?.get(MAX_TAGGED - 1..).unwrap_or_default() {
                self.end_key(key).await?;
            }
        }
        Ok(())
    }

    /// In cookie mode: makes sure that this instance can list the session, under the first key.
    pub(super) async fn note_card(&self, session: &Session) -> Result<()> {
        let known = self.store.load(&session.key).await?;
        let name = place(&session.key);
        let opened = known.and_then(|r| self.ring.open_bytes(Purpose::Card, name.get(), &[], &r.card));
        if opened.is_none_or(|o| o.stale) {
            self.store.create(self.entry(session)?).await?;
        }
        Ok(())
    }

    /// Writes `session` in place of the version `known`.
    pub(super) async fn replace(&self, session: &Arc<Session>, known: u64) -> Result<Replaced> {
        let replaced = self.store.replace(self.entry(session)?, known).await?;
        if replaced == Replaced::Done {
            self.put_in_front(session);
        }
        Ok(replaced)
    }

    /// Seals a record under the first key that an older one still holds (S-13): in the background, and again at the next
    /// look where somebody else was quicker or the store is away.
    pub(super) fn reseal(&self, session: Arc<Session>) {
        let Some(known) = session.stored.map(|s| s.version) else { return };
        let stored = session.stored.map(|s| Stored { version: s.version.saturating_add(1), ..s });
        let next = self.build(Data { seen_ms: session.seen_ms(), ..session.data.clone() }, stored);
        let Ok(entry) = self.entry(&next) else { return };
        let (store, local) = (self.store.clone(), Arc::clone(&self.state.local));
        self.state.control.spawn(async move {
            if let Ok(Replaced::Done) = store.replace(entry, known).await {
                local.front.remove(&next.key);
            }
        });
    }

    pub(super) fn entry(&self, session: &Session) -> Result<Entry> {
        let data = &session.data;
        let name = place(&session.key);
        let card = Card {
            user: data.identity.user.clone(),
            sub: data.identity.sub.clone(),
            provider: data.provider.clone(),
            issuer: data.issuer.clone(),
            created_ms: data.created_ms,
            expires_ms: data.expires_ms,
            begun: data.begun.clone(),
            seen_ms: 0,
            key: session.key,
        };
        let sealed = || {
            let card = self.ring.seal_bytes(Purpose::Card, name.get(), &[], &serde_json::to_vec(&card).ok()?)?;
            let value = match &session.stored {
                Some(stored) => self.ring.seal_bytes(Purpose::Record, name.get(), &stored.half, &data.encode()?)?,
                None => Vec::new(),
            };
            Some(Record {
                value: Bytes::from(value),
                card: Bytes::from(card),
                version: session.stored.map_or(0, |s| s.version),
                seen_ms: session.seen_ms(),
            })
        };
        let record = sealed().ok_or_else(|| Error::new(Kind::Internal, "the session could not be sealed"))?;
        Ok(Entry {
            key: session.key,
            record,
            tags: self.index_tags(data),
            expires_ms: data.expires_ms,
            keep: self.keep(data.expires_ms),
        })
    }

    pub(super) fn card(&self, key: &Key, record: &Record) -> Option<Card> {
        let opened = self.ring.open_bytes(Purpose::Card, place(key).get(), &[], &record.card)?;
        let mut card: Card = serde_json::from_slice(&opened.plain).ok()?;
        card.key = *key;
        // SECURITY: S-23. It is in clear, and what cannot be is not shown.
        card.seen_ms = record.seen_ms.min(card.expires_ms);
        Some(card)
    }

    /// How long a record is kept after its last use: a little longer than it may be idle, since its use is written late.
    pub(super) fn keep(&self, expires_ms: u64) -> Duration {
        let left = expires_ms.saturating_sub(clock::unix_now_ms());
        let idle = if self.idle_ms == 0 { u64::MAX } else { self.idle_ms.saturating_add(self.touch_ms) };
        Duration::from_millis(left.min(idle))
    }

    /// The `Set-Cookie` values that carry `session`, leftover chunks of a longer one deleted. An error when the session
    /// is larger than the browser keeps.
    pub fn issue(&self, session: &Arc<Session>, host: &str, found: &Found<'_>) -> Result<Vec<HeaderValue>> {
        let host = self.host(host);
        let plain = match &session.stored {
            None => session.data.encode().map(|data| [&[TAG_DATA], data.as_slice()].concat()),
            Some(stored) => Some([&[TAG_TICKET], session.data.id.as_slice(), &stored.half].concat()),
        };
        let sealed = plain
            .and_then(|p| self.ring.seal(Purpose::Session, Place { name: &self.name, host }, &p))
            .ok_or_else(|| Error::new(Kind::Internal, "the session could not be sealed"))?;
        let chunks = own::chunks(&self.name, &sealed).ok_or_else(|| {
            let detail = format!(
                "the session takes {} bytes, more than browsers keep; store = \"memory\" or \"redis\" has no such limit",
                sealed.len()
            );
            Error::new(Kind::SessionTooLarge, detail)
        })?;
        let left = Duration::from_millis(session.data.expires_ms.saturating_sub(clock::unix_now_ms()));
        let mut out: Vec<HeaderValue> =
            chunks.iter().filter_map(|(name, value)| self.attributes.set(name, value, left)).collect();
        for name in found.session_names(&self.name) {
            if chunks.iter().all(|(set, _)| *set != name) {
                out.extend(self.attributes.clear(&name));
            }
        }
        self.remember(&sealed, host, session);
        Ok(out)
    }

    /// The deletion of every session cookie that the request brought (K-05).
    pub fn clear(&self, found: &Found<'_>) -> Vec<HeaderValue> {
        found.session_names(&self.name).iter().filter_map(|name| self.attributes.clear(name)).collect()
    }
}
