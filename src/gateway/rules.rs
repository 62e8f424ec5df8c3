//! One route, compiled when the configuration is loaded: everything that a request would otherwise work out again.

use std::sync::Arc;

use http::StatusCode;
use http::header::{HeaderMap, HeaderName};

use super::assertion::Stamp;
use super::bearer::Tokens;
use super::upstream_auth::Presents;
use super::who::Who;
use crate::config::settings::{self, Access, IdentityValue, Settings, Target};
use crate::error::Result;
use crate::machine::Machine;
use crate::policy::Policy;
use crate::provider::Provider;
use crate::session::Session;
use crate::telemetry::metrics::{self, Metrics};
use crate::upstream::Upstream;

/// The client of a token, which is never a user.
const X_DOORWARD_CLIENT: HeaderName = HeaderName::from_static("x-doorward-client");

pub struct Rules {
    pub settings: settings::Route,
    pub policy: Option<Policy>,
    /// Who can sign people in here: one, or several to choose from.
    pub providers: Vec<Arc<Provider>>,
    /// Doorward judges `Authorization` here.
    pub machine: Option<Tokens>,
    /// `None` = the route answers by itself.
    pub upstream: Option<Arc<Upstream>>,
    /// What the upstream has to be told of whoever passes.
    pub required: Option<IdentityValue>,
    /// Its `Authorization`; `None` = not ours to set.
    pub presents: Option<Presents>,
    pub counters: Arc<metrics::Route>,
}

impl Rules {
    pub fn new(
        route: &settings::Route,
        settings: &Settings,
        providers: &[Arc<Provider>],
        metrics: &Metrics,
        upstream: Option<Arc<Upstream>>,
        presents: Option<Presents>,
    ) -> Result<Self> {
        let policy = match &route.access {
            Access::Policy(policy) => Some(Policy::new(policy, route.mode)),
            _ => None,
        };
        debug_assert!(route.providers.iter().all(|index| *index < settings.providers.len()), "cross-checked at load");
        Ok(Self {
            settings: route.clone(),
            machine: route.machine.as_ref().map(|machine| Tokens::new(machine, route, settings)),
            policy,
            providers: route.providers.iter().filter_map(|index| providers.get(*index).cloned()).collect(),
            upstream,
            presents,
            required: route.identity.iter().find(|header| header.required).map(|header| header.value.clone()),
            counters: metrics.route(&route.name),
        })
    }

    /// Where `route` leads to. The one that is there `before` goes on where it did not change: with its connections, and
    /// with what it knows of its peers.
    pub fn upstream(
        route: &settings::Route,
        metrics: &Metrics,
        workers: usize,
        before: &[Self],
    ) -> Result<Option<Arc<Upstream>>> {
        if let Some(Target::Status(_)) | None = route.upstream.targets.first() {
            return Ok(None);
        }
        let known = before.iter().find(|rules| rules.name() == route.name).and_then(|rules| rules.upstream.as_ref());
        match known.filter(|known| known.is(&route.upstream)) {
            Some(known) => Ok(Some(Arc::clone(known))),
            None => Upstream::new(&route.name, &route.upstream, workers, &metrics.upstreams).map(Some),
        }
    }

    pub fn name(&self) -> &str {
        self.counters.name()
    }

    pub fn is_public(&self) -> bool {
        matches!(self.settings.access, Access::Public)
    }

    /// Whether one of this route's providers made the session: other providers' people are strangers here. A machine is
    /// known only where its issuer is the route's.
    pub fn vouched(&self, who: Who<'_>) -> bool {
        match who {
            Who::Machine(_) => self.machine.is_some(),
            Who::Person(session) => self.provider_of(session).is_some(),
        }
    }

    /// Seconds: the tolerance with which whoever vouches was believed.
    pub fn skew(&self, who: Who<'_>) -> u64 {
        match who {
            Who::Machine(_) => 0,
            Who::Person(session) => self.provider_of(session).map_or(0, |p| p.settings().clock_skew.as_secs()),
        }
    }

    pub fn provider_of(&self, session: &Session) -> Option<&Arc<Provider>> {
        self.providers.iter().find(|p| p.name() == session.data.provider && p.issuer() == session.data.issuer)
    }

    /// Tells the upstream who it is. The names were stripped from what the client sent, so what is absent stays absent.
    ///
    /// # Errors
    /// `Internal`: an assertion cannot be signed.
    pub fn identify(&self, who: Who<'_>, stamp: &Stamp<'_>, headers: &mut HeaderMap) -> Result<()> {
        if !self.vouched(who) {
            return Ok(());
        }
        for header in &self.settings.identity {
            if header.value == IdentityValue::Assertion {
                headers.insert(&header.name, stamp.assertion(who)?.plain);
                continue;
            }
            for field in who.header(&header.value) {
                headers.append(&header.name, field.clone());
            }
        }
        // SECURITY: B-20. A client has a header of its own, so that its name is nobody's.
        if let Who::Machine(Machine { client_header: Some(client), .. }) = who {
            headers.insert(X_DOORWARD_CLIENT, client.clone());
        }
        Ok(())
    }

    /// The status of a route that answers by itself.
    pub fn answers(&self) -> Option<StatusCode> {
        match self.settings.upstream.targets.first() {
            Some(Target::Status(code)) => Some(StatusCode::from_u16(*code).unwrap_or(StatusCode::NO_CONTENT)),
            Some(Target::Url(_) | Target::Unix(_)) | None => None,
        }
    }
}
