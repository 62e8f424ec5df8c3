//! Upstreams: choosing one of several, each worker's pool of connections, sending with the safe retry, tunnels. Forwards
//! what it is given: every decision about a request, and every header of it but `Host`, is made before.

mod balance;
mod body;
mod connection;
mod eject;
mod health;
mod http2;
mod peer;
mod peers;
mod pool;
mod probe;
mod queue;
mod replay;
mod request;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod tunnel;
mod upkeep;
pub mod upload;
mod websocket;

use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use self::body::Lease;
pub use self::body::{Held, RequestBody, ResponseBody};
use self::connection::Connection;
use self::peer::{Course, Missed};
use self::peers::{Peers, Slot, Tried};
pub use self::probe::probe;
use self::upload::Progress;
use crate::config::settings;
use crate::error::{Error, Reason};
use crate::telemetry::upstreams::{Condition, Observed, Upstreams};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The upstream of one route, shared by all workers.
///
/// What runs beside the requests ends with it; requests under way, and streams, hold on to the peers alone.
pub struct Upstream {
    route: String,
    settings: settings::Upstream,
    peers: Arc<Peers>,
    metrics: Upstreams,
    beside: OnceLock<Vec<AbortOnDropHandle<()>>>,
}

impl Upstream {
    /// `Kind::Internal` for a `status:` target and for TLS roots that cannot be read.
    pub fn new(
        route: &str,
        settings: &settings::Upstream,
        workers: usize,
        metrics: &Upstreams,
    ) -> Result<Arc<Self>, Error> {
        let upstream = Arc::new(Self {
            route: route.to_owned(),
            settings: settings.clone(),
            peers: Peers::new(settings, workers)?,
            metrics: metrics.clone(),
            beside: OnceLock::new(),
        });
        let observed: Weak<Self> = Arc::downgrade(&upstream);
        metrics.observe(observed);
        Ok(upstream)
    }

    /// Whether an upstream with these settings would be this one: the same but for files, which may hold something else
    /// by now.
    pub fn is(&self, settings: &settings::Upstream) -> bool {
        self.settings == *settings && settings.options.ca.is_none() && settings.options.client_cert.is_none()
    }

    /// Begins what runs beside the requests, on `control`; once.
    pub fn start(&self, control: &Handle) {
        self.beside.get_or_init(|| {
            let spawn = |task| AbortOnDropHandle::new(control.spawn(task));
            let options = &self.settings.options;
            let sweep: Task = Box::pin(upkeep::sweep(Arc::clone(&self.peers), options.idle_timeout));
            let mut tasks = vec![spawn(sweep)];
            for (index, peer) in self.peers.each().enumerate() {
                let of = || (Arc::clone(&self.peers), self.route.clone());
                if peer.endpoint.is_named() {
                    let (peers, route) = of();
                    tasks.push(spawn(Box::pin(upkeep::resolve(peers, index, options.resolve_interval, route))));
                }
                if let Some(health) = options.health.clone() {
                    let (peers, route) = of();
                    tasks.push(spawn(Box::pin(health::watch(peers, index, health, route))));
                }
            }
            tasks
        });
    }

    /// Sends `request` over a connection of this worker and waits for the head of the answer; `now` is when. Hop-by-hop
    /// headers are the caller's to remove, of the request and of the answer; `Upgrade` passes if the caller leaves it there.
    ///
    /// An upstream that cannot be asked, or breaks off before it answers, is followed by another one where that is safe.
    ///
    /// Errors: `UpstreamBusy`, `UpstreamTimeout`, `UpstreamFailed`, and what the `Progress` of the body says where it was
    /// the client who broke off.
    pub async fn send(
        &self,
        worker: usize,
        mut request: Request<RequestBody>,
        now: Instant,
    ) -> Result<Response<ResponseBody>, Error> {
        let progress = request.body().progress();
        let upgrades = request.method() == Method::CONNECT || request.headers().contains_key(http::header::UPGRADE);
        let (progress, others) = (progress.as_deref(), self.peers.len() > 1);
        let mut course = Course { worker, start: now, progress, others, sends: 0, retries: 0 };
        let mut tried = Tried::default();
        loop {
            let slot = match self.peers.place(tried, &mut course).await {
                Ok(slot) => slot,
                Err(failure) => return Err(self.counted(failure, &course)),
            };
            let before = slot.peer().rewrite.apply(&mut request)?;
            let missed = match slot.peer().exchange(request, &mut course).await {
                Ok((connection, response)) => {
                    slot.succeeded();
                    if course.retries > 0 {
                        self.count_retries(&course);
                    }
                    return Ok(answer(worker, slot, connection, response, upgrades));
                }
                Err(missed) => missed,
            };
            match self.missed(missed, &slot, &mut tried, &mut course) {
                Ok(again) => request = *again,
                Err(failure) => return Err(self.counted(failure, &course)),
            }
            // The next one puts a path of its own before it.
            if let Some(uri) = before {
                *request.uri_mut() = uri;
            }
        }
    }

    /// The request, where it may go to another peer.
    #[cold]
    fn missed(
        &self,
        missed: Missed,
        slot: &Slot,
        tried: &mut Tried,
        course: &mut Course<'_>,
    ) -> Result<Box<Request<RequestBody>>, Error> {
        let Missed { failure, again } = missed;
        // SECURITY: a client that breaks off says nothing about the upstream, which must not be left out for it.
        if let Some(fault) = course.progress.and_then(Progress::fault) {
            return Err(fault);
        }
        let name = &slot.peer().name;
        // SECURITY: nor does one that sends its body slowly: the upstream waits for it as we do, or has had enough.
        let is_whole = !course.progress.is_some_and(Progress::waits);
        if let Some(reason) = failure.reason().filter(|reason| is_whole && reason.is_fault())
            && let Some(time) = slot.failed()
        {
            let (route, reason, seconds) = (&self.route, reason.as_str(), time.as_secs());
            tracing::warn!(route, upstream = %name, reason, seconds, "an upstream fails and is left out for a while");
        }
        let in_time = course.sends == 0 || course.start.elapsed() < self.settings.options.response_timeout;
        match again {
            Some(again) if in_time && slot.add_to(tried) && tried.len() < self.peers.len() => {
                let reason = self.count_failure(&failure);
                tracing::debug!(route = self.route, upstream = %name, reason, error = %failure, "another upstream is asked");
                course.retries += 1;
                Ok(again)
            }
            _ if failure.reason().is_some() => Err(failure.at(name)),
            _ => Err(failure),
        }
    }

    #[cold]
    fn counted(&self, failure: Error, course: &Course<'_>) -> Error {
        self.count_failure(&failure);
        self.count_retries(course);
        failure
    }

    fn count_failure(&self, failure: &Error) -> &'static str {
        let reason = failure.reason().map_or("", Reason::as_str);
        if failure.reason().is_some() {
            self.metrics.failure(&self.route, reason);
        }
        reason
    }

    #[cold]
    fn count_retries(&self, course: &Course<'_>) {
        for _ in 0..course.retries {
            self.metrics.retry(&self.route);
        }
    }
}

impl Observed for Upstream {
    fn route(&self) -> &str {
        &self.route
    }

    fn observe(&self, each: &mut dyn FnMut(&str, Condition)) {
        for peer in self.peers.each() {
            each(&peer.name, Condition { healthy: self.peers.is_good(peer), requests: peer.under_way() });
        }
    }

    fn waiting(&self) -> usize {
        self.peers.waiting()
    }
}

fn answer(
    worker: usize,
    slot: Slot,
    connection: Connection,
    response: Response<Incoming>,
    upgrades: bool,
) -> Response<ResponseBody> {
    let lease = if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // A tunnel is no request under way: it would keep its place for hours.
        drop(slot);
        Lease::spent(connection, None)
    } else if upgrades {
        // SECURITY: RUSTSEC-2026-0033. A connection that was asked to become something else is never an HTTP one again.
        Lease::spent(connection, Some(slot))
    } else {
        Lease::new(connection, slot, worker)
    };
    response.map(|incoming| ResponseBody::new(incoming, lease))
}
