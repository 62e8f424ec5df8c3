//! What a connection and its worker remember between requests.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use http::header::HeaderValue;
use tokio_util::task::TaskTracker;

use super::certificate;
use super::overload::Requests;
use super::site::Site;
use crate::http::forwarded::address_value;
use crate::net::crowd::Place;
use crate::net::tls::{ClientCertificate, Handshake};
use crate::session::Session;
use crate::telemetry::access::Sink;
use crate::telemetry::metrics::Metrics;

/// How often a connection is looked at, at least: a stream that it carries is to notice the end of its session in time.
pub const LOOK_EVERY: Duration = Duration::from_millis(1_500);

/// One worker thread: its index chooses the upstream pools and the metrics shard.
pub struct Worker {
    pub index: usize,
    pub sink: Sink,
    /// Of all workers.
    pub requests: Arc<Requests>,
    /// Upgraded connections, which hyper no longer knows of.
    pub tunnels: TaskTracker,
}

/// Counts a connection for as long as anything of it is open: the tunnel it became too.
pub struct Open {
    count: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    /// Among those of the same client address.
    place: Option<Place>,
}

impl Open {
    pub fn new(count: &Arc<AtomicUsize>, metrics: &Arc<Metrics>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        metrics.connections.inc();
        Self { count: Arc::clone(count), metrics: Arc::clone(metrics), place: None }
    }

    /// It is one of those that a client address may have.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.metrics.connections.dec();
    }
}

/// One client connection.
pub struct Conn {
    pub peer: IpAddr,
    /// PERF: `peer` as text, made once a connection: for X-Forwarded-For and the access log.
    pub address: HeaderValue,
    /// None: no TLS of ours.
    pub handshake: Option<Handshake>,
    pub worker: Arc<Worker>,
    /// PERF: boxed, as few connections have any.
    certificate_headers: OnceLock<Box<certificate::Headers>>,
    memo: Mutex<Memo>,
    phase: AtomicU8,
    /// When the phase began, milliseconds since `opened`.
    since: AtomicU64,
    /// Since when the peer takes nothing of what there is to write, likewise; 0 = it does.
    stalled: AtomicU64,
    /// How often the connection was looked at.
    looks: AtomicU32,
    opened: Instant,
    _open: Open,
}

/// PERF: an HTTP/1 connection is about one browser: the same Host and Cookie bytes as in the request before need no
/// parsing, no hash, no cache and no cryptography.
#[derive(Default)]
struct Memo {
    site: Option<(HeaderValue, u64, Arc<Site>)>,
    session: Option<Known>,
}

#[derive(Clone)]
pub struct Known {
    /// The whole `Cookie` field.
    pub cookie: HeaderValue,
    pub session: Arc<Session>,
    /// The field without our own cookies.
    pub rest: Option<HeaderValue>,
    /// The host that the session was opened for.
    pub site: Arc<Site>,
    /// `State::epoch` when it was looked up.
    pub epoch: u64,
    /// Until when it needs no look, Unix milliseconds.
    pub until_ms: u64,
}

const IDLE: u8 = 0;
const HEAD: u8 = 1;
const BUSY: u8 = 2;

impl Conn {
    pub fn new(peer: IpAddr, handshake: Option<Handshake>, worker: Arc<Worker>, open: Open) -> Self {
        Self {
            peer,
            handshake,
            address: address_value(peer),
            worker,
            certificate_headers: OnceLock::new(),
            memo: Mutex::default(),
            phase: AtomicU8::new(IDLE),
            since: AtomicU64::new(0),
            stalled: AtomicU64::new(0),
            looks: AtomicU32::new(0),
            opened: Instant::now(),
            _open: open,
        }
    }

    /// What the client's certificate is known by.
    pub fn certificate_names(&self) -> &[String] {
        self.certificate().map_or(&[], |certificate| &certificate.names)
    }

    pub fn certificate(&self) -> Option<&ClientCertificate> {
        self.handshake.as_ref()?.client.as_deref()
    }

    /// What an upstream is told of it.
    pub fn certificate_headers(&self) -> Option<&certificate::Headers> {
        let certificate = self.certificate()?;
        Some(self.certificate_headers.get_or_init(|| Box::new(certificate::Headers::of(certificate))))
    }

    /// The site that this Host field stood for, in this epoch of the configuration.
    pub fn site(&self, host: &HeaderValue, epoch: u64) -> Option<Arc<Site>> {
        let memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        memo.site.as_ref().filter(|(h, e, _)| *e == epoch && h == host).map(|(_, _, site)| Arc::clone(site))
    }

    pub fn keep_site(&self, host: &HeaderValue, epoch: u64, site: &Arc<Site>) {
        let mut memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        memo.site = Some((alone(host), epoch, Arc::clone(site)));
    }

    /// The session that these very bytes stood for a moment ago, if nothing has changed since.
    pub fn known(
        &self,
        cookie: &HeaderValue,
        site: &Arc<Site>,
        epoch: u64,
        now_ms: u64,
    ) -> Option<(Arc<Session>, Option<HeaderValue>)> {
        let memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        let known = memo.session.as_ref()?;
        let same = known.epoch == epoch
            && now_ms < known.until_ms
            && (Arc::ptr_eq(&known.site, site) || known.site.origin == site.origin)
            && known.cookie == cookie;
        same.then(|| (Arc::clone(&known.session), known.rest.clone()))
    }

    pub fn keep(&self, known: Known) {
        let known = Known { cookie: alone(&known.cookie), rest: known.rest.as_ref().map(alone), ..known };
        self.memo.lock().unwrap_or_else(PoisonError::into_inner).session = Some(known);
    }

    /// Bytes came while no request was under way: a head has begun.
    pub fn reading(&self) {
        if self.phase.load(Ordering::Relaxed) == IDLE {
            self.enter(HEAD, Instant::now());
        }
    }

    /// A request's head is complete.
    pub fn busy(&self) {
        self.phase.store(BUSY, Ordering::Relaxed);
    }

    /// The answer has ended.
    pub fn idle(&self, now: Instant) {
        self.enter(IDLE, now);
    }

    /// Bytes were to go; `waits` = none could.
    pub fn writing(&self, waits: bool) {
        let stalled = self.stalled.load(Ordering::Relaxed);
        if waits && stalled == 0 {
            self.stalled.store(self.millis(Instant::now()).max(1), Ordering::Relaxed);
        } else if !waits && stalled != 0 {
            self.stalled.store(0, Ordering::Relaxed);
        }
    }

    /// The connection's own timer has gone off.
    pub fn looked(&self) {
        self.looks.fetch_add(1, Ordering::Relaxed);
    }

    /// Changes within `LOOK_EVERY`.
    pub fn looks(&self) -> u32 {
        self.looks.load(Ordering::Relaxed)
    }

    /// Whether the peer has taken longer than it may: for a head, between requests, or to take what is sent.
    pub fn is_overdue(&self, header_timeout: Duration, idle_timeout: Duration) -> bool {
        let elapsed = self.opened.elapsed();
        let spent = |since: u64| elapsed.saturating_sub(Duration::from_millis(since));
        // SECURITY: FX-12. Whoever asks and then reads nothing holds an upstream too.
        let stalled = self.stalled.load(Ordering::Relaxed);
        if stalled != 0 && spent(stalled) > idle_timeout {
            return true;
        }
        let spent = spent(self.since.load(Ordering::Relaxed));
        match self.phase.load(Ordering::Relaxed) {
            HEAD => spent > header_timeout,
            IDLE => spent > idle_timeout,
            _ => false,
        }
    }

    fn enter(&self, phase: u8, now: Instant) {
        self.since.store(self.millis(now), Ordering::Relaxed);
        self.phase.store(phase, Ordering::Relaxed);
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.opened).as_millis()).unwrap_or(u64::MAX)
    }
}

/// PERF: a copy in a place of its own. A field as it came is a part of the whole buffer that its request was read into,
/// which an idle connection would hold on to.
fn alone(value: &HeaderValue) -> HeaderValue {
    HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::exchange::{Begin, Exchange};
    use crate::telemetry::writer::Writer;

    /// In an unwinding build, as the release is: `panic` stands nowhere in Cargo.toml.
    #[tokio::test]
    async fn yx_06_a_panic_ends_its_connection_and_what_others_share_goes_on() {
        assert!(!include_str!("../../Cargo.toml").contains("\npanic ="));
        let (metrics, count) = (Arc::new(Metrics::new(1)), Arc::new(AtomicUsize::new(0)));
        let worker = Arc::new(Worker {
            index: 0,
            sink: Sink::new(false, Writer::start().unwrap()),
            requests: Arc::default(),
            tunnels: TaskTracker::new(),
        });
        let unrouted = metrics.route("none");
        let open = Open::new(&count, &metrics);
        let conn = Arc::new(Conn::new("192.0.2.1".parse().unwrap(), None, Arc::clone(&worker), open));
        let (shared, asked) = (Arc::clone(&conn), Arc::clone(&worker));
        let ended = tokio::spawn(async move {
            assert!(asked.requests.enter(1));
            let id = HeaderValue::from_static("x");
            let method = &http::Method::GET;
            let _exchange = Exchange::begin(Begin {
                conn: &shared,
                method,
                target: None,
                id,
                unrouted: &unrouted,
                now_ms: 0,
                log: false,
            });
            let _memo = shared.memo.lock().unwrap();
            panic!("within a request, with its lock held");
        });
        assert!(ended.await.unwrap_err().is_panic());
        // On the same thread: requests are counted as before, and the lock is nobody's.
        assert!(worker.requests.enter(1));
        assert!(conn.site(&HeaderValue::from_static("host"), 1).is_none());
        drop(conn);
        assert_eq!(count.load(Ordering::Relaxed), 0);
        assert!(metrics.encode().unwrap().contains("code=\"499\""));
    }
}
