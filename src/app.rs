//! Puts the parts together: settings into a gateway, a gateway into a server; waits for signals, drains, ends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::config::settings::{Server, Settings, Store};
use crate::error::Error;
use crate::gateway::overload::Requests;
use crate::gateway::{Gateway, Shared};
use crate::net::crowd::Crowd;
use crate::net::files;
use crate::net::listen::Inherited;
use crate::net::tls::Acceptor;
use crate::reload::Reload;
use crate::server::listeners::Listeners;
use crate::server::systemd::{self, Pulse};
use crate::server::{Common, Live, Served, admin, start};
use crate::session::state::State;
use crate::store::redis::Redis;
use crate::telemetry::log;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::writer::Writer;

/// Why the process could not run.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("cannot listen on {0}")]
    Listen(#[source] io::Error),
    #[error("server.tls cannot be used: {0}")]
    Tls(#[source] io::Error),
    #[error("{0}")]
    Gateway(#[from] Error),
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
    #[error("a worker thread ended by itself; see the log above")]
    Worker,
}

/// A server that is up: what a test or the demo holds on to.
pub struct Running {
    pub live: Live,
    pub shared: Shared,
    listeners: Listeners,
    admin: Option<Admin>,
    writer: Writer,
    drain: watch::Sender<bool>,
    /// A message: a worker ended by itself. Closed: all have ended.
    ended: mpsc::Receiver<()>,
    /// Connections.
    open: Arc<AtomicUsize>,
    pulse: Arc<Pulse>,
}

/// The listener for operators, until a reload moves it.
struct Admin {
    address: SocketAddr,
    moved: CancellationToken,
}

/// Runs until a signal ends it. Call it on the control runtime, which is to have one thread.
pub async fn run(settings: Settings, mut reload: Reload, inherited: Inherited) -> Result<(), Failure> {
    let mut terminate = Signals::new()?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut running = launch(settings, inherited).await?;
    systemd::ready(&running.status());
    tokio::spawn(systemd::watchdog(Arc::clone(&running.pulse)));
    loop {
        let interval = running.live.load().gateway.settings.server.reload_interval;
        tokio::select! {
            name = terminate.next() => {
                tracing::info!(signal = name, connections = running.connections(), "shutting down");
                break;
            }
            _ = hangup.recv() => reload.run(&mut running).await,
            () = reload.changed(interval) => reload.run(&mut running).await,
            Some(()) = running.ended.recv() => return Err(Failure::Worker),
        }
    }
    systemd::stopping(&format!("draining {} connection(s)", running.connections()));
    tokio::select! {
        drained = running.drain() => {
            if !drained {
                let connections = running.connections();
                tracing::warn!(connections, "connections were still open at the end of drain_timeout");
            }
        }
        name = terminate.next() => tracing::warn!(signal = name, "a second signal: ending at once"),
    }
    running.writer.flush();
    if running.writer.lost() > 0 {
        tracing::warn!(lines = running.writer.lost(), "access lines were dropped: stdout was not read fast enough");
    }
    tracing::info!("ended");
    Ok(())
}

/// Binds, builds and starts everything; returns when requests are served.
pub async fn launch(settings: Settings, inherited: Inherited) -> Result<Running, Failure> {
    let workers = workers(&settings);
    let shared = shared(workers);
    let json_log = log::is_json(settings.telemetry.format);
    let most = files::connections();
    if most < settings.server.limits.connections {
        let wanted = settings.server.limits.connections;
        tracing::warn!(
            wanted,
            most,
            "the limit of open files (ulimit -n, LimitNOFILE=) is too low for server.limits.connections"
        );
    }
    let served = build(settings, &shared, None)?;
    let settings = &served.gateway.settings;
    let (mut listeners, sockets) = Listeners::new(inherited, workers);
    let change = listeners.prepare(&settings.server).map_err(Failure::Listen)?;
    let admin = match &settings.admin {
        Some(admin) => Some((admin.listen, admin::bind(admin.listen).await.map_err(Failure::Listen)?)),
        None => None,
    };
    let addresses: Vec<String> = settings.server.listeners().map(ToString::to_string).collect();
    put_to_use(&served, &shared.metrics);
    let live: Live = Arc::new(ArcSwap::from_pointee(served));
    let admin = admin.map(|(address, listener)| Admin::open(address, listener, &live));
    let writer = Writer::start()?;
    let (drain, draining) = watch::channel(false);
    let (alive, ended) = mpsc::channel(1);
    let common = Common {
        live: Arc::clone(&live),
        drain: draining,
        open: Arc::new(AtomicUsize::new(0)),
        most,
        crowd: Crowd::default(),
        requests: Arc::new(Requests::new(most)),
        json_log,
        writer: writer.clone(),
        pulse: Arc::new(Pulse::new(workers)),
    };
    start(sockets, &common, &alive)?;
    listeners.commit(change);
    tracing::info!(listen = %addresses.join(" "), workers, version = env!("CARGO_PKG_VERSION"), "doorward is up");
    let (open, pulse) = (common.open, common.pulse);
    Ok(Running { live, shared, listeners, admin, writer, drain, ended, open, pulse })
}

/// One configuration, ready to be served; nothing is on its way before it is `put_to_use`.
pub fn build(settings: Settings, shared: &Shared, before: Option<&Served>) -> Result<Served, Failure> {
    let tls = acceptor(&settings.server, before.and_then(|b| b.tls.as_deref())).map_err(Failure::Tls)?;
    let gateway = Gateway::new(settings, shared, before.map(|b| &*b.gateway))?;
    Ok(Served { gateway: Arc::new(gateway), tls: tls.map(Arc::new) })
}

/// Nothing can fail any more.
fn put_to_use(served: &Served, metrics: &Metrics) {
    let tls = served.tls.as_deref();
    for warning in served.gateway.settings.warnings.iter().chain(&warnings(tls)) {
        tracing::warn!("{warning}");
    }
    served.gateway.start();
    let certificates = tls.iter().flat_map(|tls| tls.table().certificates());
    metrics.tls.certificates(certificates.map(|c| (c.file.display().to_string(), c.not_after)));
}

/// TLS as the settings have it, every file read.
fn acceptor(settings: &Server, before: Option<&Acceptor>) -> io::Result<Option<Acceptor>> {
    let tls = settings.tls.as_ref();
    tls.map(|tls| Acceptor::new(tls, settings.limits.handshakes, before)).transpose()
}

/// Certificates that want somebody's attention.
fn warnings(tls: Option<&Acceptor>) -> Vec<String> {
    let now = i64::try_from(clock::unix_now()).unwrap_or(i64::MAX);
    tls.iter().flat_map(|tls| tls.table().certificates()).filter_map(|c| c.warning(now)).collect()
}

/// Whether these settings could be served, as far as can be known without reaching or changing anything: a start and a
/// reload find the same, and then what is bound elsewhere. Returns what somebody should know.
pub fn try_out(settings: Settings) -> Result<Vec<String>, Failure> {
    if let Some(redis) = &settings.session.redis {
        Redis::check(redis)?;
    }
    let tls = acceptor(&settings.server, None).map_err(Failure::Tls)?;
    let gateway = unserved(settings)?;
    Ok(gateway.settings.warnings.iter().cloned().chain(warnings(tls.as_ref())).collect())
}

/// A gateway that serves nobody and reaches nothing, to ask what it would do.
pub fn unserved(mut settings: Settings) -> Result<Gateway, Failure> {
    // A Redis would be dialled.
    settings.session.store = Store::Memory;
    Ok(Gateway::new(settings, &shared(1), None)?)
}

fn workers(settings: &Settings) -> usize {
    match settings.server.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    }
}

fn shared(workers: usize) -> Shared {
    Shared {
        control: tokio::runtime::Handle::current(),
        metrics: Arc::new(Metrics::new(workers)),
        state: Arc::new(State::new(tokio::runtime::Handle::current())),
        leaving: Arc::default(),
        draining: CancellationToken::new(),
        workers,
        instance: format!("doorward-{:08x}", fastrand::u32(..)),
    }
}

impl Running {
    /// Serves by other settings from now on. Whatever can fail does before anything has changed.
    pub async fn replace(&mut self, settings: Settings) -> Result<(), Failure> {
        let before = self.live.load_full();
        let served = build(settings, &self.shared, Some(&before))?;
        let (old, new) = (&before.gateway.settings, &served.gateway.settings);
        let change = self.listeners.prepare(&new.server).map_err(Failure::Listen)?;
        let address = new.admin.as_ref().map(|admin| admin.listen);
        let is_moved = address != self.admin.as_ref().map(|admin| admin.address);
        let admin = match address.filter(|_| is_moved) {
            Some(address) => Some((address, admin::bind(address).await.map_err(Failure::Listen)?)),
            None => None,
        };
        warn_of_what_stays(old, new);
        put_to_use(&served, &self.shared.metrics);
        self.live.store(Arc::new(served));
        self.listeners.commit(change);
        if is_moved {
            let admin = admin.map(|(address, listener)| Admin::open(address, listener, &self.live));
            if let Some(before) = std::mem::replace(&mut self.admin, admin) {
                before.moved.cancel();
            }
        }
        Ok(())
    }

    /// Says that it is not ready, and serves on for `drain_delay`; then takes no more connections and lets what is under
    /// way finish. False when `drain_timeout`, which counts from the beginning, came first.
    pub async fn drain(&mut self) -> bool {
        let (delay, limit) = {
            let live = self.live.load();
            let server = &live.gateway.settings.server;
            (server.drain_delay.min(server.drain_timeout), Instant::now() + server.drain_timeout)
        };
        self.shared.leaving.store(true, Ordering::Relaxed);
        sleep(delay).await;
        self.shared.draining.cancel();
        self.drain.send_replace(true);
        // Every worker holds a sender; the channel ends when the last is gone.
        let all = async { while self.ended.recv().await.is_some() {} };
        timeout_at(limit, all).await.is_ok()
    }

    /// How many are open.
    pub fn connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// One line for the service manager.
    pub fn status(&self) -> String {
        let live = self.live.load();
        let settings = &live.gateway.settings;
        let addresses: Vec<String> = settings.server.listeners().map(ToString::to_string).collect();
        format!("serving {} route(s) on {}", settings.routes.len(), addresses.join(" "))
    }
}

impl Admin {
    fn open(address: SocketAddr, listener: TcpListener, live: &Live) -> Self {
        let moved = CancellationToken::new();
        tokio::spawn(admin::run(listener, Arc::clone(live), moved.clone()));
        Self { address, moved }
    }
}

/// What is made once a process.
fn warn_of_what_stays(old: &Settings, new: &Settings) {
    let changed = [
        ("server.workers", workers(old) != workers(new)),
        ("telemetry.log", old.telemetry.log != new.telemetry.log),
        ("telemetry.format", old.telemetry.format != new.telemetry.format),
    ];
    for (key, _) in changed.into_iter().filter(|(_, changed)| *changed) {
        tracing::warn!("{key} takes effect at the next start only");
    }
}

struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}
