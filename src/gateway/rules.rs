//! One route, compiled when the configuration is loaded: everything that a request would otherwise work out again.

use std::sync::Arc;

use http::StatusCode;
use http::header::HeaderMap;

use crate::config::settings::{self, Access, Settings, Target};
use crate::error::Result;
use crate::policy::Policy;
use crate::provider::Provider;
use crate::session::Session;
use crate::telemetry::metrics::{self, Metrics};
use crate::upstream::Upstream;

pub struct Rules {
    pub settings: settings::Route,
    pub policy: Option<Policy>,
    pub provider: Option<Arc<Provider>>,
    /// `None` = the route answers by itself.
    pub upstream: Option<Arc<Upstream>>,
    pub counters: Arc<metrics::Route>,
}

impl Rules {
    pub fn new(
        route: &settings::Route,
        settings: &Settings,
        providers: &[Arc<Provider>],
        metrics: &Metrics,
        workers: usize,
    ) -> Result<Self> {
        let upstream = match route.upstream.target {
            Target::Status(_) => None,
            Target::Url(_) | Target::Unix(_) => Some(Upstream::new(&route.upstream, workers)?),
        };
        let policy = match &route.access {
            Access::Policy(policy) => Some(Policy::new(policy)),
            _ => None,
        };
        debug_assert!(route.provider.is_none_or(|index| index < settings.providers.len()), "cross-checked at load");
        Ok(Self {
            settings: route.clone(),
            policy,
            provider: route.provider.and_then(|index| providers.get(index).cloned()),
            upstream,
            counters: metrics.route(&route.name),
        })
    }

    pub fn name(&self) -> &str {
        self.counters.name()
    }

    pub fn is_public(&self) -> bool {
        matches!(self.settings.access, Access::Public)
    }

    /// Whether this route's provider made the session: one provider's people are strangers to another's routes.
    pub fn vouched(&self, session: &Session) -> bool {
        self.provider.as_ref().is_some_and(|p| p.name() == session.data.provider && p.issuer() == session.data.issuer)
    }

    /// Tells the upstream who it is. The names were stripped from what the client sent, so what is absent stays absent.
    pub fn identify(&self, session: &Session, headers: &mut HeaderMap) {
        if !self.vouched(session) {
            return;
        }
        for header in &self.settings.identity {
            if let Some(value) = session.header(&header.value) {
                headers.insert(&header.name, value.clone());
            }
        }
    }

    /// The status of a route that answers by itself.
    pub fn answers(&self) -> Option<StatusCode> {
        match self.settings.upstream.target {
            Target::Status(code) => Some(StatusCode::from_u16(code).unwrap_or(StatusCode::NO_CONTENT)),
            Target::Url(_) | Target::Unix(_) => None,
        }
    }
}
