//! One request and its answer, as far as the log and the metrics care. Made when the request's head has come, closed when
//! the answer's body has ended; closing writes the access line and counts.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::HeaderValue;
use http::uri::PathAndQuery;
use http::{Method, StatusCode};

use super::conn::Conn;
use super::site::Site;
use super::who::Who;
use crate::machine::Machine;
use crate::net::tls::ClientCertificate;
use crate::session::Session;
use crate::telemetry::access;
use crate::telemetry::metrics::{self, Outcome};

/// One request under way, from its head to the end of its answer.
///
/// It has been counted by `Gateway::has_room` before, and is no longer when it is dropped.
pub struct Exchange {
    pub conn: Arc<Conn>,
    /// `X-Request-Id`: here, upstream, in the log and on every page.
    pub id: HeaderValue,
    pub client: IpAddr,
    /// Wall clock at its beginning, Unix milliseconds.
    pub now_ms: u64,
    pub site: Option<Arc<Site>>,
    pub session: Option<Arc<Session>>,
    /// Set instead of `session`, never beside it: a token that was brought counts, not the cookie (JX-27).
    pub machine: Option<Arc<Machine>>,
    /// A CORS preflight that passes without a sign-in: neither of the two is looked for.
    pub preflight: bool,
    /// Somebody else's request, about which a proxy asks: the connection says nothing about its client.
    pub asked: Option<Asked>,
    /// `Set-Cookie` values that go with the answer, whichever it is; the session's first.
    pub cookies: Vec<HeaderValue>,
    pub route: Arc<metrics::Route>,
    pub status: StatusCode,
    started: Instant,
    method: Method,
    target: Option<PathAndQuery>,
    /// How long the upstream was waited for.
    upstream: Option<Duration>,
    bytes: u64,
    finished: bool,
    log: bool,
}

/// What a proxy that asks for a decision does with the answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asked {
    /// Reads its status: nobody would follow a redirect.
    ForDecision,
    /// Passes it on to its client where it is not positive.
    ForAnswer,
}

/// What is known before the first step.
pub struct Begin<'a> {
    pub conn: &'a Arc<Conn>,
    pub method: &'a Method,
    pub target: Option<&'a PathAndQuery>,
    pub id: HeaderValue,
    /// What is counted under for as long as no route is chosen.
    pub unrouted: &'a Arc<metrics::Route>,
    pub now_ms: u64,
    pub log: bool,
}

impl Exchange {
    pub fn begin(b: Begin<'_>) -> Self {
        Self {
            conn: Arc::clone(b.conn),
            id: b.id,
            client: b.conn.peer,
            now_ms: b.now_ms,
            site: None,
            session: None,
            machine: None,
            preflight: false,
            asked: None,
            cookies: Vec::new(),
            route: Arc::clone(b.unrouted),
            status: gone(),
            started: Instant::now(),
            method: b.method.clone(),
            target: b.target.cloned(),
            upstream: None,
            bytes: 0,
            finished: false,
            log: b.log,
        }
    }

    /// It is about another request than the one that came: the log and the rules are told of that one.
    pub fn about(&mut self, asked: Asked, method: &Method, target: Option<&PathAndQuery>) {
        self.asked = Some(asked);
        self.method = method.clone();
        self.target = target.cloned();
    }

    /// The client's, where it showed one to us.
    ///
    /// SECURITY: of a proxy that asks, the certificate is its own and nobody else's.
    pub fn certificate(&self) -> Option<&ClientCertificate> {
        self.conn.certificate().filter(|_| self.asked.is_none())
    }

    pub fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    pub fn method(&self) -> &str {
        self.method.as_str()
    }

    /// SECURITY: JX-27. The token's bearer where there is one, else whoever's session it is: never a blend.
    pub fn who(&self) -> Option<Who<'_>> {
        let machine = self.machine.as_deref().map(Who::Machine);
        machine.or_else(|| self.session.as_deref().map(Who::Person))
    }

    fn client(&self) -> Cow<'_, str> {
        match self.conn.address.to_str() {
            Ok(address) if self.client == self.conn.peer => Cow::Borrowed(address),
            _ => Cow::Owned(self.client.to_string()),
        }
    }

    pub fn decided(&self, outcome: Outcome) {
        self.route.decision(self.conn.worker.index, outcome);
    }

    pub fn waited(&mut self, upstream: Duration) {
        self.upstream = Some(upstream);
    }

    pub fn sent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    pub fn finished(&mut self) {
        self.finished = true;
    }
}

/// What is logged and counted when the client goes away before there is an answer (499, as nginx has it).
fn gone() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // PERF: one look at the clock for the connection, the metrics and the log.
        let now = Instant::now();
        self.conn.idle(now);
        self.conn.worker.requests.leave();
        let duration = now.saturating_duration_since(self.started);
        let overhead = duration.saturating_sub(self.upstream.unwrap_or_default());
        self.route.request(self.conn.worker.index, self.status.as_u16(), duration, overhead);
        if self.log {
            self.conn.worker.sink.write(&access::Line {
                unix_ms: self.now_ms.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(0)),
                request_id: self.id(),
                client: &self.client(),
                method: self.method.as_str(),
                host: self.site.as_ref().map_or("-", |s| &s.host),
                path: self.target.as_ref().map_or("-", PathAndQuery::path),
                route: self.route.name(),
                user: self.who().map(Who::name),
                status: self.status.as_u16(),
                bytes: self.bytes,
                duration,
                upstream: self.upstream,
                aborted: !self.finished,
            });
        }
    }
}
