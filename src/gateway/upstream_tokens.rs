//! Tokens that a provider gives Doorward for an upstream: Doorward's own (client credentials, RFC 6749 §4.4), or one made
//! of somebody's (token exchange, RFC 8693). Each is asked for once however many requests want it, by a task of its own,
//! so that a client that leaves cancels nothing, and kept until shortly before it expires. Nothing here reads a request.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{SHA256, digest};
use http::header::HeaderValue;

use crate::clock;
use crate::config::settings::TokenRequest;
use crate::error::{Error, Kind, Result};
use crate::provider::{Flight, Provider, TokenAnswer};
use crate::secret::Secret;
use crate::session::presented;
use crate::store::cache::Bounded;

/// A token is not used in the last of its life: it still has to get there.
const SPARE_MS: u64 = 30_000;
/// Of one whose provider does not say how long it lives.
const UNSAID_MS: u64 = 60_000;
/// After a failure the same answer for this long, without asking.
const PAUSE: Duration = Duration::from_secs(1);
/// What no upstream would take in a header.
const MAX_TOKEN: usize = 16 * 1024;
/// What the tokens of one exchange may weigh; the longest unused are forgotten first.
const EXCHANGED_BYTES: u64 = 32 << 20;
/// What one weighs while nothing has come of it, and beside its token.
const SLOT_BYTES: usize = 1024;
/// Longer than any exchange is under way.
const PENDING: Duration = Duration::from_secs(120);

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// An access token that says that it is a JWT: presented likewise (RFC 8693 §3).
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// The parameters of one token request, but for what is somebody's.
type Form = Vec<(&'static str, String)>;

/// Doorward's own token for one request of a configuration.
pub struct OwnToken {
    provider: Arc<Provider>,
    form: Form,
    slot: Arc<Slot>,
}

/// Tokens made of people's and machines' own, for one request of a configuration.
pub struct Exchanges {
    provider: Arc<Provider>,
    form: Form,
    /// SECURITY: BX-06, TX-01. By the SHA-256 of the subject's token: nobody finds another's.
    slots: Bounded<[u8; 32], Arc<Slot>>,
}

/// One token, had or not.
#[derive(Default)]
struct Slot {
    held: ArcSwapOption<Held>,
    flight: Flight<Result<Arc<Held>, Arc<Error>>>,
    failed: Mutex<Option<(Instant, Arc<Error>)>>,
}

struct Held {
    bearer: HeaderValue,
    /// Unix milliseconds.
    until_ms: u64,
}

impl OwnToken {
    pub fn new(provider: &Arc<Provider>, request: &TokenRequest) -> Self {
        let form = form("client_credentials", request);
        Self { provider: Arc::clone(provider), form, slot: Arc::default() }
    }

    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.provider, &other.provider) && self.form == other.form
    }

    /// The token that is at hand, as `Authorization` has it.
    pub fn ready(&self, now_ms: u64) -> Option<HeaderValue> {
        self.slot.ready(now_ms)
    }

    /// # Errors
    /// Those of `Provider::call_token`; within a second after one the same again, at once.
    pub async fn get(&self) -> Result<HeaderValue, Arc<Error>> {
        let slot = &self.slot;
        slot.get(&self.provider, || ask(Arc::clone(&self.provider), self.form.clone()))
            .await
            .map(|held| held.bearer.clone())
    }
}

impl Exchanges {
    pub fn new(provider: &Arc<Provider>, request: &TokenRequest) -> Self {
        let form = form("urn:ietf:params:oauth:grant-type:token-exchange", request);
        Self { provider: Arc::clone(provider), form, slots: Bounded::new(EXCHANGED_BYTES) }
    }

    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.provider, &other.provider) && self.form == other.form
    }

    pub fn ready(&self, subject: &Secret, now_ms: u64) -> Option<HeaderValue> {
        self.slots.find(&key(subject))?.ready(now_ms)
    }

    /// # Errors
    /// As `OwnToken::get`; a refusal may be about the subject.
    pub async fn get(&self, subject: &Secret) -> Result<HeaderValue, Arc<Error>> {
        let key = key(subject);
        let new = || {
            let slot = Arc::<Slot>::default();
            // Somebody else may be quicker, between the look and the insertion.
            let is_first = self.slots.put_new(key, Arc::clone(&slot), SLOT_BYTES, PENDING);
            if is_first { slot } else { self.slots.find(&key).unwrap_or(slot) }
        };
        let slot = self.slots.find(&key).unwrap_or_else(new);
        let start = || {
            let mut form = self.form.clone();
            form.push(("subject_token", subject.expose().to_owned()));
            form.push(("subject_token_type", ACCESS_TOKEN.to_owned()));
            form.push(("requested_token_type", ACCESS_TOKEN.to_owned()));
            let (provider, slots, slot) = (Arc::clone(&self.provider), self.slots.clone(), Arc::clone(&slot));
            async move {
                let answer = provider.call_token(&pairs(&form)).await?;
                // SECURITY: TX-01. What else was issued is nothing to present as an access token.
                if !matches!(answer.issued_token_type.as_deref(), Some(ACCESS_TOKEN | JWT)) {
                    return Err(unusable("answers an exchange with a token of another type, or of none"));
                }
                let bytes = SLOT_BYTES + answer.access.expose().len();
                let held = Held::of(&answer)?;
                let left = Duration::from_millis(held.until_ms.saturating_sub(clock::unix_now_ms()));
                slots.put(key, slot, bytes, left.max(PAUSE));
                Ok(held)
            }
        };
        slot.get(&self.provider, start).await.map(|held| held.bearer.clone())
    }
}

impl Slot {
    fn held(&self, now_ms: u64) -> Option<Arc<Held>> {
        self.held.load_full().filter(|held| now_ms < held.until_ms)
    }

    fn ready(&self, now_ms: u64) -> Option<HeaderValue> {
        self.held.load().as_ref().filter(|held| now_ms < held.until_ms).map(|held| held.bearer.clone())
    }

    fn failure(&self) -> Option<Arc<Error>> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.as_ref().filter(|(at, _)| at.elapsed() < PAUSE).map(|(_, error)| Arc::clone(error))
    }

    async fn get<F>(self: &Arc<Self>, provider: &Provider, ask: impl FnOnce() -> F) -> Result<Arc<Held>, Arc<Error>>
    where
        F: Future<Output = Result<Held>> + Send + 'static,
    {
        let start = || {
            let (known, failure) = (self.held(clock::unix_now_ms()), self.failure());
            // Whoever was under way a moment ago has landed by now.
            (known.is_none() && failure.is_none()).then(|| {
                let (slot, asked) = (Arc::clone(self), ask());
                async move { slot.landed(asked.await) }
            })
        };
        if let Some(outcome) = self.flight.join(provider.control(), start).await {
            return outcome;
        }
        if let Some(held) = self.held(clock::unix_now_ms()) {
            return Ok(held);
        }
        let broken_off = || Arc::new(Error::new(Kind::Internal, "a token request ended without an outcome"));
        Err(self.failure().unwrap_or_else(broken_off))
    }

    fn landed(&self, outcome: Result<Held>) -> Result<Arc<Held>, Arc<Error>> {
        match outcome {
            Ok(held) => {
                let held = Arc::new(held);
                self.held.store(Some(Arc::clone(&held)));
                Ok(held)
            }
            Err(error) => {
                let error = Arc::new(error);
                *self.failed.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some((Instant::now(), Arc::clone(&error)));
                Err(error)
            }
        }
    }
}

impl Held {
    fn of(answer: &TokenAnswer) -> Result<Self> {
        if answer.access.expose().len() > MAX_TOKEN {
            return Err(unusable("answers with a token that fits no header"));
        }
        let bearer = presented::bearer(answer.access.expose());
        let bearer = bearer.ok_or_else(|| unusable("answers with a token that is no header value"))?;
        let life_ms = answer.expires_in.filter(|seconds| *seconds > 0).map(|seconds| seconds.saturating_mul(1000));
        // One that lives no longer than that is used for half its life.
        let use_ms = life_ms.map_or(UNSAID_MS, |life| life - SPARE_MS.min(life / 2));
        Ok(Self { bearer, until_ms: clock::unix_now_ms().saturating_add(use_ms) })
    }
}

async fn ask(provider: Arc<Provider>, form: Form) -> Result<Held> {
    Held::of(&provider.call_token(&pairs(&form)).await?)
}

fn form(grant: &str, request: &TokenRequest) -> Form {
    let mut form = vec![("grant_type", grant.to_owned())];
    if !request.scopes.is_empty() {
        form.push(("scope", request.scopes.join(" ")));
    }
    let more = [("audience", &request.audience), ("resource", &request.resource)];
    form.extend(more.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
    form
}

fn pairs(form: &Form) -> Vec<(&str, &str)> {
    form.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

fn key(subject: &Secret) -> [u8; 32] {
    let mut key = [0; 32];
    key.iter_mut().zip(digest(&SHA256, subject.expose().as_bytes()).as_ref()).for_each(|(to, from)| *to = *from);
    key
}

fn unusable(what: &str) -> Error {
    Error::new(Kind::ProviderAnswer, format!("the provider's token endpoint {what}"))
}

#[cfg(test)]
mod tests;
