//! One provider: discovery, keys, the authorization request, the token endpoint, the checks of an ID token,
//! userinfo, refresh, sign-out and logout tokens.
//!
//! It knows no session, no cookie and no route. Requests are served on several runtimes; whatever goes over the network
//! runs on one, `control`, in a task of its own, so that a browser that goes away cannot cut a code exchange in half.

pub mod authorize;
mod call;
pub(crate) mod checks;
pub mod claims;
mod client_auth;
mod discovery;
mod dpop;
pub(crate) mod flight;
mod http;
mod id_token;
mod introspection;
mod issuer;
mod keys;
mod logout;
mod logout_token;
mod oauth2;
mod password;
mod redeem;
mod refresh;
mod token;
mod upkeep;
mod userinfo;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jsonwebtoken::Algorithm;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;

pub use self::authorize::{AuthorizationRequest, pkce_challenge};
use self::client_auth::Client;
pub use self::discovery::Metadata;
use self::dpop::Dpop;
pub use self::dpop::dpop_key;
pub(crate) use self::flight::Flight;
use self::http::Http;
pub use self::issuer::Issuer;
use self::keys::{Keys, Place};
pub use self::logout_token::{LogoutToken, peek_issuer};
pub use self::password::PasswordGrant;
pub use self::redeem::{Accept, Grant, Redeem, Tokens};
pub use self::refresh::Refreshed;
pub use self::token::TokenAnswer;
use self::upkeep::{Fetched, Upkeep};
use crate::config::settings;
use crate::crypto::jws;
use crate::crypto::sign::SigningKey;
use crate::error::{Error, Kind, Result};

/// Told of each call to the provider: the endpoint (a bounded set of words) and how long it took.
pub type Observer = Arc<dyn Fn(&'static str, Duration) + Send + Sync>;

/// A request that needs metadata tries to get it, but no sooner than this after a failure.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub struct Provider {
    settings: settings::Provider,
    /// `id_token_algs` of the settings; empty = what discovery lists, asymmetric only.
    algs: Vec<Algorithm>,
    /// Dotted paths that are worth a userinfo call when the ID token lacks them.
    claim_paths: Vec<String>,
    control: Handle,
    http: Arc<Http>,
    client: Client,
    dpop: Option<Dpop>,
    /// Places for those who wait to revoke a token.
    revocations: Semaphore,
    metadata: ArcSwapOption<Metadata>,
    discovery: Flight<Result<Arc<Metadata>, Arc<Error>>>,
    discovery_failed: Mutex<Option<(Instant, Arc<Error>)>>,
    keys: Arc<Keys>,
    upkeep: Upkeep,
}

impl Provider {
    /// Touches no network. `extra_claims` are the dotted paths that routes use beside the four of the settings; `dpop_key`
    /// is what `dpop_key` makes, for a provider with `dpop`.
    ///
    /// # Errors
    /// `Internal`, with a sentence for the operator: an algorithm we do not have, a secret too short for HS256, a file
    /// that cannot be read, a key that is missing or does not fit.
    pub fn new(
        settings: &settings::Provider,
        extra_claims: &[String],
        dpop_key: Option<SigningKey>,
        control: Handle,
        observer: Observer,
    ) -> Result<Arc<Self>> {
        let named = [&settings.claims.user, &settings.claims.email, &settings.claims.name, &settings.claims.groups];
        let mut claim_paths: Vec<String> = named.into_iter().chain(extra_claims).cloned().collect();
        claim_paths.push("preferred_username".to_owned());
        if settings.dpop && dpop_key.is_none() {
            // DP-03: without the key there would be no proof, and no word about it.
            return Err(Error::new(Kind::Internal, format!("provider {}: dpop needs a session key", settings.name)));
        }
        Ok(Arc::new(Self {
            algs: algorithms(settings)?,
            claim_paths,
            control,
            http: Arc::new(Http::new(settings, observer)?),
            client: Client::new(settings)?,
            revocations: Semaphore::new(logout::MAX_WAITING),
            dpop: dpop_key.filter(|_| settings.dpop).map(Dpop::new),
            metadata: ArcSwapOption::new(match &settings.kind {
                settings::ProviderKind::Oidc => None,
                settings::ProviderKind::OAuth2(endpoints) => Some(Arc::new(Metadata::written(endpoints))),
            }),
            discovery: Flight::default(),
            discovery_failed: Mutex::default(),
            keys: Arc::default(),
            upkeep: Upkeep::default(),
            settings: settings.clone(),
        }))
    }

    /// Whether `new` would accept these settings: for whoever wants to know before there is anything to run on.
    pub fn check(settings: &settings::Provider) -> Result<()> {
        algorithms(settings)?;
        Client::new(settings)?;
        Http::new(settings, Arc::new(|_, _| {})).map(drop)
    }

    pub fn name(&self) -> &str {
        &self.settings.name
    }

    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    pub fn settings(&self) -> &settings::Provider {
        &self.settings
    }

    /// Where this provider's work runs.
    pub fn control(&self) -> &Handle {
        &self.control
    }

    /// Metadata and keys were loaded at least once; without OpenID there are none to load.
    pub fn is_ready(&self) -> bool {
        self.metadata.load().is_some() && (self.keys.current().is_some() || !self.settings.is_openid())
    }

    pub fn is_started(&self) -> bool {
        self.upkeep.is_started()
    }

    /// Begins to load metadata and keys, and to keep them fresh, until this provider is dropped. A second call replaces
    /// the first.
    pub fn start(self: &Arc<Self>) {
        self.upkeep.start(self, &self.control);
    }

    /// The metadata in use; where there is none yet, one attempt to get it, shared by all that wait.
    ///
    /// # Errors
    /// `ProviderUnavailable`, whatever is wrong with the metadata: without them there is no provider to talk to (D-02).
    /// Within a second after a failed attempt the same again, at once.
    pub async fn metadata(self: &Arc<Self>) -> Result<Arc<Metadata>> {
        if let Some(metadata) = self.metadata.load_full() {
            return Ok(metadata);
        }
        let failure = || self.discovery_failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let start = || {
            let wait = failure().is_some_and(|(at, _)| at.elapsed() < RETRY_AFTER);
            (!wait).then(|| self.clone().discover())
        };
        match self.discovery.join(&self.control, start).await {
            Some(outcome) => outcome.map_err(|e| away(&e)),
            None => Err(failure().map_or_else(|| broken_off("discovery"), |(_, e)| away(&e))),
        }
    }

    async fn discover(self: Arc<Self>) -> Result<Arc<Metadata>, Arc<Error>> {
        match Metadata::fetch(&self.http, &self.settings).await {
            Ok(metadata) => {
                let metadata = Arc::new(metadata);
                self.metadata.store(Some(metadata.clone()));
                Ok(metadata)
            }
            Err(e) => {
                let e = Arc::new(e);
                let mut failed = self.discovery_failed.lock().unwrap_or_else(PoisonError::into_inner);
                *failed = Some((Instant::now(), e.clone()));
                Err(e)
            }
        }
    }

    /// Fetches metadata and keys anew; on an error the copies in use stay (D-06).
    pub async fn load(self: &Arc<Self>) -> Result<()> {
        if !self.settings.is_openid() {
            return Ok(());
        }
        let outcome = self.discovery.join(&self.control, || Some(self.clone().discover())).await;
        let metadata = outcome.ok_or_else(|| broken_off("discovery"))?.map_err(|e| share(&e))?;
        let Some(jwks_uri) = &metadata.jwks_uri else { return Ok(()) };
        let place = Place::At(jwks_uri.clone());
        self.keys.refresh(&self.http, &place, &self.control).await.map(drop)
    }

    #[cfg(test)]
    pub(crate) fn keys_good_for(&self) -> Duration {
        self.keys.good_for()
    }

    /// What may sign an ID token of this provider (C-09).
    fn allowed_algs(&self, metadata: &Metadata) -> Vec<Algorithm> {
        if !self.algs.is_empty() {
            return self.algs.clone();
        }
        let listed = metadata.id_token_algs.iter().filter_map(|name| name.parse().ok());
        listed.filter(|alg| jws::hmac_length(*alg).is_none()).collect()
    }

    /// Runs `work` on the control runtime to its end, whether or not anyone still waits for it.
    async fn on_control<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        self.control.spawn(work).await.unwrap_or_else(|_| Err(broken_off("a task")))
    }
}

impl Fetched for Provider {
    fn name(&self) -> &str {
        Self::name(self)
    }

    fn is_ready(&self) -> bool {
        Self::is_ready(self)
    }

    async fn fetch(self: Arc<Self>) -> Result<Duration> {
        self.load().await?;
        Ok(self.keys.good_for())
    }
}

/// What a request that needs metadata is told.
fn away(error: &Arc<Error>) -> Error {
    Error::new(Kind::ProviderUnavailable, "no usable metadata").because(Box::new(Arc::clone(error)))
}

fn algorithms(settings: &settings::Provider) -> Result<Vec<Algorithm>> {
    let broken = |what: String| Error::new(Kind::Internal, format!("provider {}: {what}", settings.name));
    let secret = settings.client_secret.as_ref().map_or(0, |secret| secret.expose().len());
    let mut algs = Vec::with_capacity(settings.id_token_algs.len());
    for name in &settings.id_token_algs {
        let alg =
            name.parse().map_err(|_| broken(format!("id_token_algs: {name} is no algorithm that Doorward has")))?;
        if jws::hmac_length(alg).is_some_and(|length| secret < length) {
            // J-04, JX-03
            return Err(broken(format!(
                "the client secret is too short for {name}; RFC 7518 §3.2 wants the hash's length"
            )));
        }
        algs.push(alg);
    }
    Ok(algs)
}

/// An error for each of those who waited for the same thing.
fn share(e: &Error) -> Error {
    Error::new(e.kind(), e.to_string())
}

fn broken_off(what: &str) -> Error {
    Error::new(Kind::Internal, format!("{what} ended without an outcome"))
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
