//! The gateway: one configuration's routes, sessions and providers, and the journey of a request through them.
//!
//! ```text
//! server::accept → net::tls → server::conn (peer, session memo)
//!   → gateway::handle
//!       admit         one canonical host and path; refuse what is ambiguous
//!       endpoint?     {prefix}/* answers here and the journey ends
//!       route         exactly one route, by specificity
//!       authenticate  session: memo → cache → unseal or store; refresh when near expiry
//!       authorize     compiled rules over the identity → allow | deny | sign in | step up
//!       forward       strip what only we may set, identity on, upstream::send, or a tunnel bound to the session's life
//!   → cookies of the exchange onto the answer → access record, closed when the body ends
//! ```
//!
//! There is one decision: `route`, `authenticate`, `authorize`, in that order, and nothing else lets a request through.

pub mod admit;
pub mod authenticate;
pub mod authorize;
pub mod body;
pub mod challenge;
pub mod conn;
pub mod endpoints;
pub mod exchange;
pub mod forward;
pub mod navigation;
pub mod pages;
pub mod respond;
pub mod returns;
pub mod route;
pub mod rules;
pub mod site;
pub mod trailers;
pub mod who;

use std::sync::Arc;

use http::header::{HeaderName, HeaderValue, SET_COOKIE, STRICT_TRANSPORT_SECURITY};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use tokio_util::sync::CancellationToken;

use crate::audit;
use crate::clock;
use crate::config::settings::Settings;
use crate::error::Result;
use crate::http::forwarded::Trust;
use crate::http::headers::Managed;
use crate::http::reply::{self, Reply};
use crate::provider::Provider;
use crate::route::Table;
use crate::session::manager::Sessions;
use crate::session::state::State;
use crate::telemetry::Safe;
use crate::telemetry::metrics::{self, Metrics, Outcome};
use admit::{Admitted, admit};
use authorize::{Verdict, authorize};
use body::{Body, Inner};
use conn::Conn;
use exchange::{Begin, Exchange};
use respond::Asker;
use route::{Head, Routed};
use rules::Rules;
use site::Site;

pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Everything that one configuration makes; immutable, shared by all workers, swapped whole at a reload.
pub struct Gateway {
    pub settings: Settings,
    pub providers: Vec<Arc<Provider>>,
    pub sessions: Arc<Sessions>,
    pub metrics: Arc<Metrics>,
    table: Table,
    rules: Vec<Rules>,
    managed: Arc<Managed>,
    /// The claims that headers and rules need besides the four: what providers were made with.
    kept: Vec<String>,
    trust: Trust,
    /// How this instance names itself in `Via`.
    via: HeaderValue,
    hsts: Option<HeaderValue>,
    /// Distinguishes this configuration's memos from the one's before.
    epoch: u64,
    /// `{prefix}/`
    own: String,
    /// Counters of our own endpoints, and of what matches no route.
    own_counters: Arc<metrics::Route>,
    unrouted: Arc<metrics::Route>,
    draining: CancellationToken,
}

/// What a gateway is made of besides its settings: what outlives a reload.
#[derive(Clone)]
pub struct Shared {
    pub control: tokio::runtime::Handle,
    pub metrics: Arc<Metrics>,
    pub state: Arc<State>,
    /// Cancelled when the process shall end.
    pub draining: CancellationToken,
    pub workers: usize,
    /// This instance's name in `Via`.
    pub instance: HeaderValue,
}

impl Gateway {
    /// Compiles `settings`. New providers begin to look for their metadata at once, on the control runtime; one that did
    /// not change since `before` goes on with what it knows, so that a reload is never a moment without sign-in.
    pub fn new(settings: Settings, shared: &Shared, before: Option<&Self>) -> Result<Self> {
        let metrics = Arc::clone(&shared.metrics);
        let kept = settings.kept_claims();
        let mut providers = Vec::with_capacity(settings.providers.len());
        for provider in &settings.providers {
            // A `ca` file may hold other certificates by now: that provider is made anew.
            let known = before.filter(|b| b.kept == kept && provider.ca.is_none());
            let known = known.and_then(|b| b.providers.iter().find(|p| p.settings() == provider));
            if let Some(known) = known {
                providers.push(Arc::clone(known));
                continue;
            }
            let seen = Arc::clone(&metrics);
            let observe = Arc::new(move |endpoint, took| seen.provider_call(endpoint, took));
            providers.push(Provider::new(provider, &kept, shared.control.clone(), observe)?);
        }
        let rules: Result<Vec<Rules>> =
            settings.routes.iter().map(|r| Rules::new(r, &settings, &providers, &metrics, shared.workers)).collect();
        let secure = settings.server.public_url.is_https();
        let sessions =
            Sessions::new(&settings.session, &settings.custom_claims, kept.clone(), secure, Arc::clone(&shared.state))?;
        for provider in providers.iter().filter(|p| !p.is_started()) {
            provider.start();
        }
        let hsts = settings.server.tls.as_ref().map(|t| t.hsts.as_secs()).filter(|s| *s > 0);
        Ok(Self {
            table: Table::new(&settings.routes),
            rules: rules?,
            managed: Arc::new(Managed::new(settings.identity_names())),
            trust: Trust::new(settings.server.trusted_proxies.clone()),
            via: shared.instance.clone(),
            hsts: hsts.and_then(|s| HeaderValue::try_from(format!("max-age={s}")).ok()),
            epoch: shared.state.epoch(),
            own: format!("{}/", settings.server.prefix),
            own_counters: metrics.route("doorward"),
            unrouted: metrics.route("none"),
            draining: shared.draining.clone(),
            sessions: Arc::new(sessions),
            kept,
            metrics,
            providers,
            settings,
        })
    }

    /// Whether a sign-in would work now: every provider's metadata and keys were had, the session
    /// store was reached, and no shutdown has begun.
    pub fn is_ready(&self) -> bool {
        !self.is_draining() && self.sessions.is_ready() && self.providers.iter().all(|p| p.is_ready())
    }

    /// What is missing, a line each, for whoever reads `/readyz`.
    pub fn unready(&self) -> String {
        if self.is_draining() {
            return "shutting down\n".to_owned();
        }
        let missing = self.providers.iter().filter(|p| !p.is_ready());
        let mut lines: String =
            missing.map(|p| format!("provider {}: metadata or keys not loaded yet\n", p.name())).collect();
        if !self.sessions.is_ready() {
            lines.push_str("session store: not reached yet\n");
        }
        lines
    }

    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    fn provider_named(&self, name: &str) -> Option<&Arc<Provider>> {
        self.providers.iter().find(|p| p.name() == name)
    }

    /// Whether a canonical path is in our own name space.
    fn is_own(&self, path: &str) -> bool {
        path.starts_with(&self.own) || path == self.settings.server.prefix
    }

    fn redirect_uri(&self, site: &Site) -> String {
        format!("{}{}/callback", site.origin, self.settings.server.prefix)
    }
}

/// One request, whole. It always answers; a panic in it is the connection's end, never the process's.
pub async fn handle(gateway: &Arc<Gateway>, conn: &Arc<Conn>, request: Request<Incoming>) -> Response<Body> {
    conn.busy();
    let trusted = gateway.trust.contains(conn.peer);
    let mut exchange = Exchange::begin(Begin {
        conn,
        method: request.method(),
        target: request.uri().path_and_query(),
        id: forward::request_id(request.headers(), trusted),
        unrouted: &gateway.unrouted,
        now_ms: clock::unix_now_ms(),
        log: gateway.settings.telemetry.access_log,
    });
    let mut response = match journey(gateway, &mut exchange, request).await {
        Ok(response) => response,
        Err(reply) => reply.map(Inner::Full),
    };
    let headers = response.headers_mut();
    for cookie in exchange.cookies.drain(..) {
        // CX-01: what sets a cookie of ours is nobody else's to keep.
        reply::private(headers);
        headers.append(SET_COOKIE, cookie);
    }
    headers.insert(X_REQUEST_ID, exchange.id.clone());
    if let Some(hsts) = &gateway.hsts {
        headers.insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    exchange.status = response.status();
    response.map(|inner| Body::new(inner, exchange, &gateway.sessions))
}

/// The steps. `Err` is an answer of our own.
async fn journey(
    gateway: &Arc<Gateway>,
    exchange: &mut Exchange,
    request: Request<Incoming>,
) -> Result<Response<Inner>, Reply> {
    let (parts, body) = request.into_parts();
    // PERF: reference-counted; the canonical path borrows from it while `parts` changes.
    let target = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let admitted = match admit(gateway, &exchange.conn, &parts, target.path()) {
        Ok(admitted) => admitted,
        Err(r) => return Err(Asker::new(gateway, exchange, &parts.method, &parts.headers).refused(r.status(), r.why())),
    };
    exchange.client = admitted.client;
    exchange.site = Some(Arc::clone(&admitted.site));

    if endpoints::is_ours(gateway, &admitted.site, &admitted.path.matching) {
        // PERF: boxed: endpoints are rare and their futures large.
        return Err(Box::pin(endpoints::answer(gateway, exchange, &admitted, &parts, body)).await);
    }
    let head = Head { method: &parts.method, headers: &parts.headers, has_body: !body.is_end_stream() };
    let (rules, preflight) = match route::route(gateway, &admitted.site, &admitted.path, &head) {
        Routed::To(rules) => (rules, false),
        Routed::Preflight(rules) => (rules, true),
        nowhere => {
            exchange.decided(Outcome::Deny);
            let asker = Asker::new(gateway, exchange, &parts.method, &parts.headers);
            return Err(match nowhere {
                Routed::Ambiguous => asker.refused(StatusCode::BAD_REQUEST, "an encoded semicolon in the path"),
                Routed::MethodNotAllowed => {
                    asker.method_not_allowed(&route::allow(gateway, &admitted.site, &admitted.path))
                }
                _ => asker.not_found(),
            });
        }
    };
    exchange.route = Arc::clone(&rules.counters);

    let known = if preflight {
        Ok(authenticate::nobody(gateway, &parts.headers))
    } else {
        authenticate::authenticate(gateway, exchange, Some(rules), &admitted.site, &parts.headers).await
    };
    let cookie = match known {
        Ok(cookie) => cookie,
        Err(error) => {
            exchange.decided(Outcome::Error);
            return Err(Asker::new(gateway, exchange, &parts.method, &parts.headers).failed(&error));
        }
    };
    let verdict = if preflight { authorize::preflight(rules) } else { authorize(rules, exchange, &parts.headers) };
    if !matches!(verdict, Verdict::Allow) {
        return Err(Box::pin(turn_away(gateway, exchange, &admitted, rules, &parts, verdict)).await);
    }
    exchange.decided(Outcome::Allow);
    if let Some(target) = rules.answers() {
        return Err(reply::empty(target));
    }
    forward::forward(gateway, exchange, &admitted, rules, parts, body, cookie).await
}

/// The answer to a request that may not pass, and the audit line of it.
async fn turn_away(
    gateway: &Arc<Gateway>,
    exchange: &mut Exchange,
    admitted: &Admitted<'_>,
    rules: &Rules,
    parts: &Parts,
    verdict: Verdict,
) -> Reply {
    let site = &admitted.site;
    let target = returns::own(gateway, admitted, parts.uri.query());
    let challenged = match verdict {
        // `Allow` never comes here; if it did, it would not pass here either.
        Verdict::Allow | Verdict::Deny(_) => {
            let rule = if let Verdict::Deny(rule) = &verdict { rule.as_str() } else { "" };
            exchange.decided(Outcome::Deny);
            let user = exchange.who().map(|who| who.name().to_owned());
            audit!(
                event = "refused",
                user = %Safe(user.as_deref().unwrap_or("-")),
                route = rules.name(),
                rule = %Safe(rule),
                client = %exchange.client,
                request_id = exchange.id(),
            );
            return Asker::new(gateway, exchange, &parts.method, &parts.headers)
                .forbidden(exchange.session.as_deref().map(|session| (session, site.origin.host())));
        }
        Verdict::BadCredentials => {
            exchange.decided(Outcome::Deny);
            let url = challenge::login_url(gateway, site, &target);
            return Asker::new(gateway, exchange, &parts.method, &parts.headers).unauthorized(true, &url);
        }
        Verdict::SignIn => challenge::challenge(gateway, exchange, site, rules, parts, &target, false).await,
        Verdict::StepUp => challenge::challenge(gateway, exchange, site, rules, parts, &target, true).await,
    };
    match challenged {
        Ok(reply) => {
            exchange.decided(if matches!(verdict, Verdict::StepUp) { Outcome::StepUp } else { Outcome::SignIn });
            reply
        }
        Err(error) => {
            exchange.decided(Outcome::Error);
            Asker::new(gateway, exchange, &parts.method, &parts.headers).failed(&error)
        }
    }
}
