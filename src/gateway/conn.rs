//! What a connection and its worker remember between requests.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
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
    /// HTTP/2: there can be several requests at one time.
    several: AtomicBool,
    /// Requests under way, where there can be several.
    under_way: AtomicU32,
    phase: AtomicU8,
    /// The last request had a body, which may still be coming.
    body: AtomicBool,
    /// When the phase began, milliseconds since `opened`.
    since: AtomicU64,
    /// HTTP/2: since when a head is not complete, likewise; 0 = there is none.
    head: AtomicU64,
    /// Since when the peer takes nothing of what there is to write, likewise; 0 = it does.
    stalled: AtomicU64,
    /// How often the connection was looked at.
    looks: AtomicU32,
    opened: Instant,
    _open: Open,
}

/// PERF: a connection is about one browser: the same Host and Cookie bytes as in the request before need no parsing, no
/// hash, no cache and no cryptography.
#[derive(Default)]
struct Memo {
    sites: Few<(HeaderValue, u64, Arc<Site>)>,
    sessions: Few<Known>,
}

/// The last one, and before it the few others of a connection that serves several hosts: browsers use one HTTP/2
/// connection for all names of a certificate (RFC 9113 §9.1.1).
struct Few<T> {
    last: Option<T>,
    /// PERF: empty, so not even allocated, on every HTTP/1 connection and on nearly every other.
    others: Vec<T>,
}

const MOST_OTHERS: usize = 3;

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self { last: None, others: Vec::new() }
    }
}

impl<T> Few<T> {
    fn find(&self, is_it: impl Fn(&T) -> bool) -> Option<&T> {
        self.last.iter().chain(&self.others).find(|one| is_it(one))
    }

    /// In the place of those that `same` names; of another one only where there may be `several`.
    fn keep(&mut self, one: T, several: bool, same: impl Fn(&T) -> bool) {
        let before = self.last.replace(one);
        if several {
            self.others.retain(|other| !same(other));
            if let Some(before) = before.filter(|before| !same(before)) {
                self.others.truncate(MOST_OTHERS - 1);
                self.others.insert(0, before);
            }
        }
    }
}

/// Counts as a request under way for as long as it lives.
pub struct Busy(Arc<Conn>);

impl Busy {
    pub fn new(conn: &Arc<Conn>) -> Self {
        conn.busy();
        if conn.is_multiplexed() {
            // SECURITY: WX-07, H-15. It takes no connection, of which there are only so many.
            conn.worker.requests.stay();
        }
        Self(Arc::clone(conn))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.idle(Instant::now());
        if self.0.is_multiplexed() {
            self.0.worker.requests.leave();
        }
    }
}

/// What a peer has taken longer for than it may.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Overdue {
    /// There was no request for too long.
    Idle,
    /// It neither sends nor takes what it should.
    Stuck,
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
            several: AtomicBool::new(false),
            under_way: AtomicU32::new(0),
            phase: AtomicU8::new(IDLE),
            body: AtomicBool::new(false),
            since: AtomicU64::new(0),
            head: AtomicU64::new(0),
            stalled: AtomicU64::new(0),
            looks: AtomicU32::new(0),
            opened: Instant::now(),
            _open: open,
        }
    }

    pub fn certificate(&self) -> Option<&ClientCertificate> {
        self.handshake.as_ref()?.client.as_deref()
    }

    /// What an upstream is told of it.
    pub fn certificate_headers(&self) -> Option<&certificate::Headers> {
        let certificate = self.certificate()?;
        Some(self.certificate_headers.get_or_init(|| Box::new(certificate::Headers::of(certificate))))
    }

    /// From now on there can be several requests at one time, of several hosts; the client owes its preface.
    pub fn multiplex(&self) {
        self.several.store(true, Ordering::Relaxed);
        self.heading(true);
    }

    pub fn is_multiplexed(&self) -> bool {
        self.several.load(Ordering::Relaxed)
    }

    /// The site that this authority stood for, in this epoch of the configuration.
    pub fn site(&self, host: &[u8], epoch: u64) -> Option<Arc<Site>> {
        let memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        memo.sites.find(|(h, e, _)| *e == epoch && h.as_bytes() == host).map(|(_, _, site)| Arc::clone(site))
    }

    pub fn keep_site(&self, host: HeaderValue, epoch: u64, site: &Arc<Site>) {
        let mut memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        let several = self.is_multiplexed();
        let same = host.clone();
        memo.sites.keep((alone(&host), epoch, Arc::clone(site)), several, |(h, e, _)| *e != epoch || *h == same);
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
        let known = memo.sessions.find(|known| {
            known.epoch == epoch
                && now_ms < known.until_ms
                && (Arc::ptr_eq(&known.site, site) || known.site.origin == site.origin)
                && known.cookie == cookie
        })?;
        Some((Arc::clone(&known.session), known.rest.clone()))
    }

    pub fn keep(&self, known: Known) {
        let known = Known { cookie: alone(&known.cookie), rest: known.rest.as_ref().map(alone), ..known };
        let mut memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        let several = self.is_multiplexed();
        let (epoch, site) = (known.epoch, Arc::clone(&known.site));
        memo.sessions.keep(known, several, |other| other.epoch != epoch || other.site.origin == site.origin);
    }

    /// Bytes came while no request was under way: a head has begun.
    pub fn reading(&self) {
        if self.phase.load(Ordering::Relaxed) == IDLE {
            self.enter(HEAD, Instant::now());
        }
    }

    /// HTTP/2: whether the peer is within its preface or a request's head.
    pub fn heading(&self, within: bool) {
        let since = self.head.load(Ordering::Relaxed);
        if within && since == 0 {
            self.head.store(self.millis(Instant::now()).max(1), Ordering::Relaxed);
        } else if !within && since != 0 {
            self.head.store(0, Ordering::Relaxed);
        }
    }

    /// A request's head is complete.
    pub fn busy(&self) {
        if self.is_multiplexed() {
            self.under_way.fetch_add(1, Ordering::Relaxed);
        }
        self.phase.store(BUSY, Ordering::Relaxed);
    }

    /// The answer has ended.
    pub fn idle(&self, now: Instant) {
        if self.is_multiplexed() && self.under_way.fetch_sub(1, Ordering::Relaxed) != 1 {
            return;
        }
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

    /// No request has begun on it.
    pub fn is_unasked(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == IDLE && self.since.load(Ordering::Relaxed) == 0
    }

    /// The connection's own timer has gone off.
    pub fn looked(&self) {
        self.looks.fetch_add(1, Ordering::Relaxed);
    }

    /// Changes within `LOOK_EVERY`.
    pub fn looks(&self) -> u32 {
        self.looks.load(Ordering::Relaxed)
    }

    /// The peer has taken nothing of what there was to write when last asked.
    pub fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed) != 0
    }

    /// Whether the request that has come has a body.
    pub fn brings_body(&self, body: bool) {
        self.body.store(body, Ordering::Relaxed);
    }

    /// No request is under way, and none has begun for this long: there is nothing to be kept for one.
    ///
    /// SECURITY: M-13. An answer may end before its request's body does. What is left of that would be taken for the next
    /// request, so a body must have been followed by a request without one.
    pub fn rests(&self, long: Duration) -> bool {
        !self.is_multiplexed()
            && !self.body.load(Ordering::Relaxed)
            && self.phase.load(Ordering::Relaxed) == IDLE
            && self.stalled.load(Ordering::Relaxed) == 0
            && self.idle_left(long).is_zero()
    }

    /// How much of `limit` is left since the last request.
    pub fn idle_left(&self, limit: Duration) -> Duration {
        let since = Duration::from_millis(self.since.load(Ordering::Relaxed));
        limit.saturating_sub(self.opened.elapsed().saturating_sub(since))
    }

    /// Whether the peer has taken longer than it may: for a head, between requests, or to take what is sent.
    pub fn overdue(&self, header_timeout: Duration, idle_timeout: Duration) -> Option<Overdue> {
        let elapsed = self.opened.elapsed();
        let spent = |since: u64| elapsed.saturating_sub(Duration::from_millis(since));
        // SECURITY: FX-12. Whoever asks and then reads nothing holds an upstream too.
        let (stalled, head) = (self.stalled.load(Ordering::Relaxed), self.head.load(Ordering::Relaxed));
        if (stalled != 0 && spent(stalled) > idle_timeout) || (head != 0 && spent(head) > header_timeout) {
            return Some(Overdue::Stuck);
        }
        let spent = spent(self.since.load(Ordering::Relaxed));
        match self.phase.load(Ordering::Relaxed) {
            HEAD if spent > header_timeout => Some(Overdue::Stuck),
            IDLE if spent > idle_timeout => Some(Overdue::Idle),
            _ => None,
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

    #[test]
    fn a_few_are_remembered_where_there_may_be_several() {
        let same = |one: u32| move |other: &u32| *other == one;
        let keep = |several, all: &[u32]| {
            let mut few = Few::default();
            all.iter().for_each(|one| few.keep(*one, several, same(*one)));
            (1..=9).filter(|one| few.find(same(*one)).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(keep(false, &[1, 2, 3]), [3], "HTTP/1.1: one browser, one host");
        assert_eq!(keep(true, &[1, 2, 3, 4]), [1, 2, 3, 4]);
        assert_eq!(keep(true, &[1, 2, 3, 4, 5]), [2, 3, 4, 5], "the oldest goes");
        assert_eq!(keep(true, &[1, 2, 1, 2, 2, 1, 3]), [1, 2, 3]);
    }

    /// In an unwinding build, as the release is: `panic` stands nowhere in Cargo.toml.
    #[tokio::test]
    async fn yx_06_a_panic_ends_its_connection_and_what_others_share_goes_on() {
        assert!(!include_str!("../../Cargo.toml").contains("\npanic = \"abort\""));
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
        assert!(conn.site(b"host", 1).is_none());
        drop(conn);
        assert_eq!(count.load(Ordering::Relaxed), 0);
        assert!(metrics.encode().unwrap().contains("code=\"499\""));
    }
}
