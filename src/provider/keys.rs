//! The keys a provider signs with: the copy in use, and when to fetch a newer one. A copy in use is never given up for
//! an error.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::runtime::Handle;
use tokio::time::Instant;
use url::Url;

use crate::crypto::jwk::KeySet;
use crate::error::{Error, Kind, Result};
use crate::provider::flight::Flight;
use crate::provider::http::{self, Http};
use crate::provider::share;

const ENDPOINT: &str = "jwks";

/// Between two fetches that an unknown key id caused: a flood of made-up ids is one request every ten seconds (D-08).
const COOL_DOWN: Duration = Duration::from_secs(10);

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
    last_failed: bool,
}

impl Keys {
    pub(crate) fn current(&self) -> Option<Arc<KeySet>> {
        self.current.load_full()
    }

    /// The copy in use; where there is none yet, the first one.
    pub(crate) async fn loaded(self: &Arc<Self>, http: &Arc<Http>, uri: &Url, runtime: &Handle) -> Result<Arc<KeySet>> {
        match self.current() {
            Some(keys) => Ok(keys),
            None => self.refresh(http, uri, runtime).await,
        }
    }

    /// Fetches now, or joins the fetch that is under way.
    pub(crate) async fn refresh(
        self: &Arc<Self>,
        http: &Arc<Http>,
        uri: &Url,
        runtime: &Handle,
    ) -> Result<Arc<KeySet>> {
        let outcome = self.flight.join(runtime, || Some(self.clone().fetch(http.clone(), uri.clone()))).await;
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
    pub(crate) async fn refetch(
        self: &Arc<Self>,
        http: &Arc<Http>,
        uri: &Url,
        runtime: &Handle,
    ) -> Result<Arc<KeySet>> {
        let start = || {
            let mut state = self.state();
            if state.refetched.is_some_and(|at| at.elapsed() < COOL_DOWN) {
                return None;
            }
            state.refetched = Some(Instant::now());
            Some(self.clone().fetch(http.clone(), uri.clone()))
        };
        match self.flight.join(runtime, start).await {
            Some(Ok(keys)) => Ok(keys),
            Some(Err(e)) => Err(unavailable().because(share(&e))),
            None if self.state().last_failed => Err(unavailable()),
            None => self.current().ok_or_else(unavailable),
        }
    }

    async fn fetch(self: Arc<Self>, http: Arc<Http>, uri: Url) -> Result<Arc<KeySet>, Arc<Error>> {
        let fetched = fetch(&http, &uri).await;
        self.state().last_failed = fetched.is_err();
        let keys = Arc::new(fetched.map_err(Arc::new)?);
        self.current.store(Some(keys.clone()));
        Ok(keys)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn fetch(http: &Http, uri: &Url) -> Result<KeySet> {
    let response = http.send(ENDPOINT, http::get(ENDPOINT, uri)?).await?;
    if response.status() != ::http::StatusCode::OK {
        return Err(http::answer(ENDPOINT, &format!("answers {}", response.status().as_u16())));
    }
    KeySet::parse(response.body()).map_err(|e| http::answer(ENDPOINT, "answers no key set").because(e))
}

fn unavailable() -> Error {
    Error::new(Kind::KeysUnavailable, "the provider's keys cannot be fetched now")
}
