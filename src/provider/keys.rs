//! The keys a provider signs with: the copy in use, and when to fetch a newer one. A copy in use is never given up for
//! an error.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::http::StatusCode;
use ::http::header::{CACHE_CONTROL, HeaderMap};
use arc_swap::ArcSwapOption;
use tokio::runtime::Handle;
use tokio::time::Instant;
use url::Url;

use crate::crypto::jwk::KeySet;
use crate::crypto::jws::Refusal;
use crate::error::{Error, Kind, Result};
use crate::provider::checks::Fault;
use crate::provider::flight::Flight;
use crate::provider::http::{self, Http};
use crate::provider::{discovery, share};

const ENDPOINT: &str = "jwks";

/// Between two fetches that an unknown key id caused: a flood of made-up ids is one request every ten seconds (D-08).
const COOL_DOWN: Duration = Duration::from_secs(10);

/// Until the next fetch where the key set does not say how long it is good for, and the bounds of what it may say (D-07):
/// a key that was taken out is dead by then (JX-20).
const GOOD_FOR: Duration = Duration::from_secs(3600);
const SHORTEST: Duration = Duration::from_secs(300);
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Where there are no keys yet, a request tries to get them, but no sooner than this after a failure.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Where a key set is published.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    At(Url),
    /// The `jwks_uri` of the issuer's discovery document, looked up for each fetch.
    Discovered {
        issuer: String,
        insecure: bool,
    },
}

#[derive(Default)]
pub(crate) struct Keys {
    current: ArcSwapOption<KeySet>,
    flight: Flight<Result<Arc<KeySet>, Arc<Error>>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When an unknown key id last caused a fetch. The first load does not count: a key may well be newer than it.
    refetched: Option<Instant>,
    /// When the last fetch failed, if it did.
    failed: Option<Instant>,
    /// What the key set in use says about itself.
    max_age: Option<Duration>,
}

impl Keys {
    pub(crate) fn current(&self) -> Option<Arc<KeySet>> {
        self.current.load_full()
    }

    /// How long the copy in use may go on without another fetch.
    pub(crate) fn good_for(&self) -> Duration {
        self.state().max_age.unwrap_or(GOOD_FOR).clamp(SHORTEST, LONGEST)
    }

    /// Validates with the keys in use; a key that is not known is looked for once more where they are published (C-20).
    ///
    /// # Errors
    /// `KeysUnavailable` and the others of a fetch: then there is no verdict. The inner error is one.
    pub(crate) async fn check<T>(
        self: &Arc<Self>,
        http: &Arc<Http>,
        place: &Place,
        runtime: &Handle,
        validate: impl Fn(&KeySet) -> Result<T, Fault>,
    ) -> Result<Result<T, Fault>> {
        let keys = self.loaded(http, place, runtime).await?;
        match validate(&keys) {
            Err(Fault::Signature(Refusal::UnknownKey)) => {
                let keys = self.refetch(http, place, runtime).await?;
                Ok(validate(&keys))
            }
            outcome => Ok(outcome),
        }
    }

    /// The copy in use; where there is none yet, the first one.
    async fn loaded(self: &Arc<Self>, http: &Arc<Http>, place: &Place, runtime: &Handle) -> Result<Arc<KeySet>> {
        if let Some(keys) = self.current() {
            return Ok(keys);
        }
        let start = || {
            let wait = self.state().failed.is_some_and(|at| at.elapsed() < RETRY_AFTER);
            (!wait).then(|| self.clone().fetch(http.clone(), place.clone()))
        };
        match self.flight.join(runtime, start).await {
            Some(Ok(keys)) => Ok(keys),
            Some(Err(e)) => Err(share(&e)),
            None => Err(unavailable()),
        }
    }

    /// Fetches now, or joins the fetch that is under way.
    pub(crate) async fn refresh(
        self: &Arc<Self>,
        http: &Arc<Http>,
        place: &Place,
        runtime: &Handle,
    ) -> Result<Arc<KeySet>> {
        let outcome = self.flight.join(runtime, || Some(self.clone().fetch(http.clone(), place.clone()))).await;
        match outcome {
            Some(Ok(keys)) => Ok(keys),
            Some(Err(e)) => Err(share(&e)),
            None => Err(unavailable()),
        }
    }

    /// For a token whose key is unknown: newer keys, if it is time to ask for them, else those there are.
    ///
    /// # Errors
    /// `KeysUnavailable` where the last fetch failed: the key may exist, so the token cannot be judged (contract §4).
    async fn refetch(self: &Arc<Self>, http: &Arc<Http>, place: &Place, runtime: &Handle) -> Result<Arc<KeySet>> {
        let start = || {
            let mut state = self.state();
            if state.refetched.is_some_and(|at| at.elapsed() < COOL_DOWN) {
                return None;
            }
            state.refetched = Some(Instant::now());
            Some(self.clone().fetch(http.clone(), place.clone()))
        };
        match self.flight.join(runtime, start).await {
            Some(Ok(keys)) => Ok(keys),
            Some(Err(e)) => Err(unavailable().because(share(&e))),
            None if self.state().failed.is_some() => Err(unavailable()),
            None => self.current().ok_or_else(unavailable),
        }
    }

    async fn fetch(self: Arc<Self>, http: Arc<Http>, place: Place) -> Result<Arc<KeySet>, Arc<Error>> {
        let fetched = fetch(&http, &place).await;
        let mut state = self.state();
        state.failed = fetched.is_err().then(Instant::now);
        let (keys, max_age) = fetched.map_err(Arc::new)?;
        state.max_age = max_age;
        let keys = Arc::new(keys);
        self.current.store(Some(keys.clone()));
        Ok(keys)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn fetch(http: &Http, place: &Place) -> Result<(KeySet, Option<Duration>)> {
    let discovered;
    let uri = match place {
        Place::At(uri) => uri,
        Place::Discovered { issuer, insecure } => {
            discovered = discovery::jwks_uri(http, issuer, *insecure).await?;
            &discovered
        }
    };
    let response = http.send(ENDPOINT, http::get(ENDPOINT, uri)?).await?;
    if response.status() != StatusCode::OK {
        return Err(http::answer(ENDPOINT, &format!("answers {}", response.status().as_u16())));
    }
    let keys = KeySet::parse(response.body()).map_err(|e| http::answer(ENDPOINT, "answers no key set").because(e))?;
    Ok((keys, max_age(response.headers())))
}

/// Of `Cache-Control` (RFC 9111 §5.2.2.1).
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let fields = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut directives = fields.flat_map(|field| field.split(',')).filter_map(|directive| directive.split_once('='));
    let (_, seconds) = directives.find(|(name, _)| name.trim().eq_ignore_ascii_case("max-age"))?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

fn unavailable() -> Error {
    Error::new(Kind::KeysUnavailable, "the provider's keys cannot be fetched now")
}
