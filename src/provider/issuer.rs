//! One issuer that is trusted for the tokens of machines and for nothing else (`[issuer.NAME]`): its keys, and which
//! algorithms they may sign with. Nobody signs in there, and what a token must say is not decided here.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use tokio::runtime::Handle;

use super::Observer;
use super::checks::Fault;
use super::http::Http;
use super::keys::{Keys, Place};
use super::upkeep::{Fetched, Upkeep};
use crate::config::settings;
use crate::crypto::jwk::KeySet;
use crate::crypto::jws;
use crate::error::{Error, Kind, Result};

pub struct Issuer {
    settings: settings::Issuer,
    algs: Vec<Algorithm>,
    control: Handle,
    http: Arc<Http>,
    place: Place,
    keys: Arc<Keys>,
    upkeep: Upkeep,
}

impl Issuer {
    /// Touches no network.
    ///
    /// # Errors
    /// `Internal`, with a sentence for the operator: an algorithm we do not have, a CA file that cannot be read.
    pub fn new(settings: &settings::Issuer, control: Handle, observer: Observer) -> Result<Arc<Self>> {
        let parsed = settings.algorithms.iter().map(|name| {
            let known = name.parse().ok().filter(|alg| jws::ASYMMETRIC.contains(alg));
            let broken = || format!("issuer {}: {name} is no algorithm that Doorward has", settings.name);
            known.ok_or_else(|| Error::new(Kind::Internal, broken()))
        });
        let algs: Vec<Algorithm> = parsed.collect::<Result<_>>()?;
        let place = match &settings.jwks_url {
            Some(url) => Place::At(url.clone()),
            None => Place::Discovered { issuer: settings.issuer.clone(), insecure: settings.insecure },
        };
        Ok(Arc::new(Self {
            algs: if algs.is_empty() { jws::ASYMMETRIC.to_vec() } else { algs },
            http: Arc::new(Http::of_issuer(settings, observer)?),
            settings: settings.clone(),
            keys: Arc::default(),
            upkeep: Upkeep::default(),
            control,
            place,
        }))
    }

    pub fn settings(&self) -> &settings::Issuer {
        &self.settings
    }

    /// What may sign a token of this issuer (J-01).
    pub fn algs(&self) -> &[Algorithm] {
        &self.algs
    }

    /// The keys were loaded at least once.
    pub fn is_ready(&self) -> bool {
        self.keys.current().is_some()
    }

    pub fn is_started(&self) -> bool {
        self.upkeep.is_started()
    }

    /// Begins to load the keys, and to keep them fresh, until this issuer is dropped.
    pub fn start(self: &Arc<Self>) {
        self.upkeep.start(self, &self.control);
    }

    /// Fetches the keys anew; on an error the copy in use stays (D-06).
    pub async fn load(&self) -> Result<()> {
        self.keys.refresh(&self.http, &self.place, &self.control).await.map(drop)
    }

    /// # Errors
    /// `KeysUnavailable` and the others of a fetch: then there is no verdict. The inner error is one.
    pub(crate) async fn judge<T>(&self, validate: impl Fn(&KeySet) -> Result<T, Fault>) -> Result<Result<T, Fault>> {
        self.keys.check(&self.http, &self.place, &self.control, validate).await
    }
}

impl Fetched for Issuer {
    fn name(&self) -> &str {
        &self.settings.name
    }

    fn is_ready(&self) -> bool {
        Self::is_ready(self)
    }

    async fn fetch(self: Arc<Self>) -> Result<Duration> {
        self.load().await?;
        Ok(self.keys.good_for())
    }
}
