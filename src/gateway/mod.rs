//! The gateway: one configuration's routes, sessions and providers, and the journey of a request through them.
//!
//! ```text
//! server::accept → net::proxy_protocol → net::tls → server::conn (peer, session memo)
//!   → gateway::handle
//!       admit         one canonical host and path; refuse what is ambiguous
//!       endpoint?     {prefix}/* answers here and the journey ends
//!       route         exactly one route, by specificity
//!       authenticate  bearer: known by its hash, or verified | session: memo → cache → unseal or store; refresh when near expiry
//!       authorize     compiled rules over the identity → allow | deny | sign in | step up
//!       forward       strip what only we may set, identity on, upstream::send, or a tunnel bound to the session's life
//!   → cookies of the exchange onto the answer → access record, closed when the body ends
//! ```
//!
//! There is one decision: `route`, `authenticate`, `authorize`, in that order, and nothing else lets a request through. Where
//! another proxy forwards the requests and asks about them (`forward_auth`, `ext_authz`), it is the same one, about the
//! request that the proxy tells of; `explain` takes it without a socket.

pub mod admit;
pub mod assertion;
pub mod authenticate;
pub mod authorize;
pub mod bearer;
pub mod body;
pub mod certificate;
pub mod challenge;
pub mod choice;
pub mod conn;
pub mod endpoints;
pub mod exchange;
pub mod explain;
pub mod ext_authz;
pub mod extended_connect;
pub mod forward;
pub mod forward_auth;
pub mod navigation;
pub mod overload;
pub mod pages;
pub mod refuse;
pub mod resource;
pub mod respond;
pub mod returns;
pub mod route;
pub mod rules;
pub mod secure;
pub mod site;
pub mod trailers;
pub mod upstream_auth;
pub mod upstream_tokens;
pub mod who;
pub mod www_authenticate;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, HeaderName, HeaderValue, SET_COOKIE, STRICT_TRANSPORT_SECURITY};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Request, Response, Version};
use hyper::body::{Body as _, Incoming};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::config::settings::Settings;
use crate::error::Result;
use crate::http::cookie::{join_crumbs, without_own};
use crate::http::forwarded::Trust;
use crate::http::headers::Managed;
use crate::http::reply::{self, Reply};
use crate::machine::judge::Machines;
use crate::provider::{Issuer, Provider, dpop_key};
use crate::route::Table;
use crate::session::Session;
use crate::session::manager::Sessions;
use crate::session::state::State;
use crate::telemetry::metrics::{self, Metrics, Outcome};
use crate::telemetry::refused::Refused;
use admit::{Admitted, admit};
use assertion::{Signer, Stamp};
use authorize::Verdict;
use body::{Body, Inner};
use conn::Conn;
use exchange::{Begin, Exchange};
use explain::log::authorize_and_tell;
use respond::Asker;
use route::{Head, Routed};
use rules::Rules;
use site::Site;
use upstream_auth::Tokens;

pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Everything that one configuration makes; immutable, shared by all workers, swapped whole at a reload.
pub struct Gateway {
    pub settings: Settings,
    pub providers: Vec<Arc<Provider>>,
    issuers: Vec<Arc<Issuer>>,
    /// `None` = no route takes tokens.
    machines: Option<Arc<Machines>>,
    token_lookups: metrics::Lookups,
    pub sessions: Arc<Sessions>,
    pub metrics: Arc<Metrics>,
    table: Table,
    rules: Vec<Rules>,
    /// What `rules` present upstream.
    tokens: Tokens,
    managed: Arc<Managed>,
    /// What a proxy that asks is told of whoever passes.
    told: Vec<HeaderName>,
    /// Signs what upstreams can verify.
    signer: Signer,
    /// The claims that headers and rules need besides the four: what providers were made with.
    kept: Vec<String>,
    trust: Trust,
    /// How this instance names itself in `Via`, by the version that the request came in: HTTP/1.1, HTTP/2.
    via: [HeaderValue; 2],
    hsts: Option<HeaderValue>,
    /// Distinguishes this configuration's memos from the one's before.
    epoch: u64,
    /// `{prefix}/`
    own: String,
    /// Counters of our own endpoints, and of what matches no route.
    own_counters: Arc<metrics::Route>,
    unrouted: Arc<metrics::Route>,
    leaving: Arc<AtomicBool>,
    draining: CancellationToken,
    control: tokio::runtime::Handle,
}

/// What a gateway is made of besides its settings: what outlives a reload.
#[derive(Clone)]
pub struct Shared {
    pub control: tokio::runtime::Handle,
    pub metrics: Arc<Metrics>,
    pub state: Arc<State>,
    /// The process shall end: it still serves, and says that it is not ready.
    pub leaving: Arc<AtomicBool>,
    /// Cancelled when it takes no more requests, and tunnels are to end.
    pub draining: CancellationToken,
    pub workers: usize,
    /// This instance's name in `Via`: a token.
    pub instance: String,
}

impl Gateway {
    /// Compiles `settings`; nothing is on its way before `start`. A provider that did not change since `before` goes on with
    /// what it knows, so that a reload is never a moment without sign-in.
    pub fn new(settings: Settings, shared: &Shared, before: Option<&Self>) -> Result<Self> {
        let metrics = Arc::clone(&shared.metrics);
        let kept = settings.kept_claims();
        let mut providers = Vec::with_capacity(settings.providers.len());
        for provider in &settings.providers {
            // Its files may hold other certificates by now, its DPoP key may have to be another: then it is made anew.
            let has_files = provider.ca.is_some() || provider.client_cert.is_some();
            let same_key =
                |b: &Self| !provider.dpop || b.settings.session.keys.first() == settings.session.keys.first();
            let known = before.filter(|b| b.kept == kept && !has_files && same_key(b));
            let known = known.and_then(|b| b.providers.iter().find(|p| p.settings() == provider));
            if let Some(known) = known {
                providers.push(Arc::clone(known));
                continue;
            }
            let seen = Arc::clone(&metrics);
            let observe = Arc::new(move |endpoint, took| seen.provider_call(endpoint, took));
            let key = dpop_key(provider, &settings.session.keys);
            providers.push(Provider::new(provider, &kept, key, shared.control.clone(), observe)?);
        }
        let mut issuers = Vec::with_capacity(settings.issuers.len());
        for issuer in &settings.issuers {
            let known = before.filter(|_| issuer.ca.is_none());
            let known = known.and_then(|b| b.issuers.iter().find(|known| known.settings() == issuer));
            if let Some(known) = known {
                issuers.push(Arc::clone(known));
                continue;
            }
            let seen = Arc::clone(&metrics);
            let observe = Arc::new(move |endpoint, took| seen.provider_call(endpoint, took));
            issuers.push(Issuer::new(issuer, shared.control.clone(), observe)?);
        }
        let takes_tokens = settings.routes.iter().any(|route| route.machine.is_some());
        let machines = takes_tokens
            .then(|| Machines::new(&settings, &providers, &issuers, &kept, &shared.state, shared.control.clone()))
            .map(Arc::new);
        let mut tokens = Tokens::default();
        let rules: Result<Vec<Rules>> = settings
            .routes
            .iter()
            .map(|route| {
                let presents = tokens.presented(&route.upstream_auth, &providers, before.map(|b| &b.tokens))?;
                let known = before.map_or(&[][..], |b| &b.rules);
                let upstream = Rules::upstream(route, &metrics, shared.workers, known)?;
                Rules::new(route, &settings, &providers, &metrics, upstream, presents)
            })
            .collect();
        let secure = settings.server.public_url.is_https();
        let sessions =
            Sessions::new(&settings.session, &settings.custom_claims, kept.clone(), secure, Arc::clone(&shared.state))?
                .presenting_id_tokens(settings.presented_id_tokens());
        let hsts = settings.server.tls.as_ref().map(|t| t.hsts.as_secs()).filter(|s| *s > 0);
        Ok(Self {
            table: Table::new(&settings.routes),
            rules: rules?,
            tokens,
            managed: Arc::new(Managed::new(settings.identity_names())),
            told: forward_auth::passed::names(&settings),
            signer: Signer::new(
                &settings.session.keys,
                settings.server.public_url.as_str(),
                clock::unix_now_ms(),
                before.map(|b| &b.signer),
            )?,
            trust: Trust::new(settings.server.trusted_proxies.clone()),
            via: ["1.1", "2.0"].map(|version| {
                let via = format!("{version} {}", shared.instance);
                HeaderValue::try_from(via).unwrap_or(HeaderValue::from_static("1.1 doorward"))
            }),
            hsts: hsts.and_then(|s| HeaderValue::try_from(format!("max-age={s}")).ok()),
            epoch: shared.state.epoch(),
            own: format!("{}/", settings.server.prefix),
            own_counters: metrics.route("doorward"),
            unrouted: metrics.route("none"),
            leaving: Arc::clone(&shared.leaving),
            draining: shared.draining.clone(),
            control: shared.control.clone(),
            sessions: Arc::new(sessions),
            kept,
            metrics,
            providers,
            issuers,
            machines,
            token_lookups: shared.metrics.lookups("token"),
            settings,
        })
    }

    /// New providers and issuers begin to look for their metadata, and new upstreams are looked after, on the control
    /// runtime.
    pub fn start(&self) {
        for upstream in self.rules.iter().filter_map(|rules| rules.upstream.as_ref()) {
            upstream.start(&self.control);
        }
        for provider in self.providers.iter().filter(|p| !p.is_started()) {
            provider.start();
        }
        for issuer in self.issuers.iter().filter(|i| !i.is_started()) {
            issuer.start();
        }
    }

    /// Whether a sign-in would work now: every provider's metadata and keys were had, the session
    /// store was reached, and no shutdown has begun.
    pub fn is_ready(&self) -> bool {
        !self.is_leaving() && self.sessions.is_ready() && self.providers.iter().all(|p| p.is_ready())
    }

    /// What is missing, a line each, for whoever reads `/readyz`.
    pub fn unready(&self) -> String {
        if self.is_leaving() {
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

    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Whether what this peer says about the client counts.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trust.contains(peer)
    }

    /// Whether there is room for one more request of `conn`. One that is let in is counted until its exchange ends; one that
    /// is not is over.
    fn has_room(&self, conn: &Conn) -> bool {
        let has_room = conn.worker.requests.enter(self.settings.server.limits.requests);
        if !has_room {
            self.metrics.refusals.count(Refused::Requests);
            self.unrouted.request(conn.worker.index, 503, Duration::ZERO, Duration::ZERO);
            conn.idle(Instant::now());
        }
        has_room
    }

    fn provider_named(&self, name: &str) -> Option<&Arc<Provider>> {
        self.providers.iter().find(|p| p.name() == name)
    }

    /// Who vouched for this session. None where that section is gone, or is another provider by now: whoever that is
    /// gets nothing of it to see.
    fn voucher(&self, session: &Session) -> Option<&Arc<Provider>> {
        self.provider_named(&session.data.provider).filter(|provider| provider.issuer() == session.data.issuer)
    }

    /// Whether a canonical path is in our own name space.
    fn is_own(&self, path: &str) -> bool {
        path.starts_with(&self.own) || path == self.settings.server.prefix
    }

    /// RFC 9110 §7.6.3: the version is that of the message received.
    fn via(&self, version: Version) -> &HeaderValue {
        let [http1, http2] = &self.via;
        if version == Version::HTTP_2 { http2 } else { http1 }
    }

    /// For whom and when an assertion of this request would be.
    fn stamp<'a>(&'a self, exchange: &Exchange, site: &'a Site) -> Stamp<'a> {
        Stamp { signer: &self.signer, audience: site.origin.host(), now_ms: exchange.now_ms }
    }

    fn redirect_uri(&self, site: &Site, provider: &Provider) -> String {
        format!("{}{}", site.origin, provider.settings().callback_path(&self.settings.server.prefix))
    }
}

/// One request, whole. It always answers; a panic in it is the connection's end, never the process's.
pub async fn handle(gateway: &Arc<Gateway>, conn: &Arc<Conn>, mut request: Request<Incoming>) -> Response<Body> {
    conn.busy();
    conn.brings_body(!request.body().is_end_stream());
    // SECURITY: H-15. Before anything is read or looked up: what is refused must cost next to nothing.
    if !gateway.has_room(conn) {
        return overload::answer();
    }
    let extended = extended_connect::into_upgrade(&mut request);
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
    if extended {
        extended_connect::answer(&mut response);
    }
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
    let (mut parts, body) = request.into_parts();
    if parts.version == Version::HTTP_2 {
        // SECURITY: FX-14. Before anybody looks at them, so that all see the same cookies.
        join_crumbs(&mut parts.headers);
    }
    // PERF: reference-counted; the canonical path borrows from it while `parts` changes.
    let target = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    // SECURITY: PX-28. Before dot segments could make another path of it: what follows is the path that is asked about.
    if let Some(dialect) = forward_auth::dialect(gateway, target.path()) {
        // PERF: boxed: another kind of request, and a large future.
        return Err(Box::pin(forward_auth::answer(gateway, exchange, parts, dialect, &body)).await);
    }
    let admitted = match admit(gateway, &exchange.conn, &parts, target.path()) {
        Ok(admitted) => admitted,
        Err(r) => return Err(Asker::new(gateway, exchange, &parts.method, &parts.headers).refused(r.status(), r.why())),
    };
    exchange.client = admitted.client;
    exchange.site = Some(Arc::clone(&admitted.site));

    if let Some(document) = resource::answer(gateway, &admitted, &parts.method) {
        exchange.route = Arc::clone(&gateway.own_counters);
        return Err(document);
    }
    if endpoints::is_ours(gateway, &admitted.site, &admitted.path.matching) {
        // PERF: boxed: endpoints are rare and their futures large.
        return Err(Box::pin(endpoints::answer(gateway, exchange, &admitted, &parts, body)).await);
    }
    let head = Head { method: &parts.method, headers: &parts.headers, has_body: !body.is_end_stream() };
    let rules = match route::route(gateway, &admitted.site, &admitted.path, &head) {
        Routed::To(rules) => rules,
        Routed::Preflight(rules) => {
            exchange.preflight = true;
            rules
        }
        Routed::Nowhere(why) => {
            exchange.decided(Outcome::Deny);
            return Err(refuse::nowhere(gateway, exchange, &admitted, &parts, why));
        }
    };
    exchange.route = Arc::clone(&rules.counters);

    let cookie = identify(gateway, exchange, &admitted, rules, &parts).await?;
    match authorize_and_tell(gateway, &admitted.site, rules, exchange, &parts.headers) {
        Verdict::Allow => {}
        Verdict::Observe(reason) => refuse::audit_refusal(exchange, rules, "observed", reason),
        verdict => return Err(Box::pin(refuse::turn_away(gateway, exchange, &admitted, rules, &parts, verdict)).await),
    }
    exchange.decided(Outcome::Allow);
    if let Some(target) = rules.answers() {
        return Err(reply::empty(target));
    }
    forward::forward(gateway, exchange, &admitted, rules, parts, body, cookie).await
}

/// Who it is: puts them into the exchange, and returns the request's cookies without ours. `Err` is an answer of our own.
pub async fn identify(
    gateway: &Gateway,
    exchange: &mut Exchange,
    admitted: &Admitted<'_>,
    rules: &Rules,
    parts: &Parts,
) -> Result<Option<HeaderValue>, Reply> {
    match &rules.machine {
        // SECURITY: JX-27. Whoever brings credentials is judged by them alone, good or bad.
        Some(machine) if parts.headers.contains_key(AUTHORIZATION) => {
            match bearer::authenticate(gateway, exchange, machine, parts).await {
                Ok(()) => Ok(without_own(&parts.headers, gateway.sessions.name())),
                Err(error) => Err(bearer::refuse(gateway, exchange, admitted, rules, parts, &error)),
            }
        }
        _ => match authenticate::authenticate(gateway, exchange, Some(rules), &admitted.site, &parts.headers).await {
            Ok(cookie) => Ok(cookie),
            Err(error) => {
                exchange.decided(Outcome::Error);
                Err(Asker::new(gateway, exchange, &parts.method, &parts.headers).failed(&error))
            }
        },
    }
}
