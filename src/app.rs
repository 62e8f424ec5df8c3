//! Puts the parts together: settings into a gateway, a gateway into a server; waits for signals, drains, ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::HeaderValue;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::config::settings::{Server, Settings, Store};
use crate::error::Error;
use crate::gateway::{Gateway, Shared};
use crate::net::crowd::Crowd;
use crate::net::listen::bind_all;
use crate::net::tls::Acceptor;
use crate::reload::Reload;
use crate::server::{Common, Live, Served, admin, start};
use crate::session::state::State;
use crate::telemetry::log;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::writer::Writer;

/// Why the process could not run.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("cannot listen on {0}")]
    Listen(#[source] io::Error),
    #[error("the TLS certificate cannot be used: {0}")]
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
    writer: Writer,
    drain: watch::Sender<bool>,
    /// A message: a worker ended by itself. Closed: all have ended.
    ended: mpsc::Receiver<()>,
    timeout: Duration,
}

/// Runs until a signal ends it. Call it on the control runtime, which is to have one thread.
pub async fn run(settings: Settings, reload: Reload) -> Result<(), Failure> {
    let mut terminate = Signals::new()?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut running = launch(settings).await?;
    loop {
        tokio::select! {
            name = terminate.next() => {
                tracing::info!(signal = name, "shutting down");
                break;
            }
            _ = hangup.recv() => reload.run(&running),
            Some(()) = running.ended.recv() => return Err(Failure::Worker),
        }
    }
    tokio::select! {
        drained = running.drain() => {
            if !drained {
                tracing::warn!("connections were still open at the end of drain_timeout");
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
pub async fn launch(settings: Settings) -> Result<Running, Failure> {
    let workers = match settings.server.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    };
    let shared = shared(workers);
    let timeout = settings.server.drain_timeout;
    let listen = settings.server.listen.clone();
    let admin_address = settings.admin.as_ref().map(|a| a.listen);
    let json_log = log::is_json(settings.telemetry.format);
    let served = build(settings, &shared, None)?;
    let sets = bind_all(&listen, workers).map_err(Failure::Listen)?;
    let live: Live = Arc::new(ArcSwap::from_pointee(served));
    if let Some(address) = admin_address {
        let listener = admin::bind(address).await.map_err(Failure::Listen)?;
        tokio::spawn(admin::run(listener, Arc::clone(&live)));
    }
    let writer = Writer::start()?;
    let (drain, draining) = watch::channel(false);
    let (alive, ended) = mpsc::channel(1);
    let common = Common {
        live: Arc::clone(&live),
        drain: draining,
        open: Arc::new(AtomicUsize::new(0)),
        crowd: Crowd::default(),
        requests: Arc::default(),
        json_log,
        writer: writer.clone(),
    };
    start(sets, &common, &alive)?;
    let addresses: Vec<String> = listen.iter().map(ToString::to_string).collect();
    tracing::info!(listen = %addresses.join(" "), workers, version = env!("CARGO_PKG_VERSION"), "doorward is up");
    Ok(Running { live, shared, writer, drain, ended, timeout })
}

/// One configuration, ready to be served.
pub fn build(settings: Settings, shared: &Shared, before: Option<&Served>) -> Result<Served, Failure> {
    let tls = acceptor(&settings.server, before.and_then(|b| b.tls.as_deref())).map_err(Failure::Tls)?;
    for warning in settings.warnings.iter().chain(&warnings(tls.as_ref())) {
        tracing::warn!("{warning}");
    }
    let gateway = Gateway::new(settings, shared, before.map(|b| &*b.gateway))?;
    gateway.start();
    let certificates = tls.iter().flat_map(|tls| tls.table().certificates());
    shared.metrics.tls.certificates(certificates.map(|c| (c.file.display().to_string(), c.not_after)));
    Ok(Served { gateway: Arc::new(gateway), tls: tls.map(Arc::new) })
}

/// TLS as the settings have it, every file read.
pub fn acceptor(settings: &Server, before: Option<&Acceptor>) -> io::Result<Option<Acceptor>> {
    let tls = settings.tls.as_ref();
    tls.map(|tls| Acceptor::new(tls, settings.limits.handshakes, before)).transpose()
}

/// Certificates that want somebody's attention.
pub fn warnings(tls: Option<&Acceptor>) -> Vec<String> {
    let now = i64::try_from(clock::unix_now()).unwrap_or(i64::MAX);
    tls.iter().flat_map(|tls| tls.table().certificates()).filter_map(|c| c.warning(now)).collect()
}

/// A gateway that serves nobody and reaches nothing, to ask what it would do.
pub fn unserved(mut settings: Settings) -> Result<Gateway, Failure> {
    // A Redis would be dialled.
    settings.session.store = Store::Memory;
    Ok(Gateway::new(settings, &shared(1), None)?)
}

fn shared(workers: usize) -> Shared {
    Shared {
        control: tokio::runtime::Handle::current(),
        metrics: Arc::new(Metrics::new(workers)),
        state: Arc::new(State::new(tokio::runtime::Handle::current())),
        draining: CancellationToken::new(),
        workers,
        instance: HeaderValue::try_from(format!("1.1 doorward-{:08x}", fastrand::u32(..)))
            .unwrap_or(HeaderValue::from_static("1.1 doorward")),
    }
}

impl Running {
    /// Stops taking connections, lets what is under way finish; false when `drain_timeout` came first.
    pub async fn drain(&mut self) -> bool {
        self.shared.draining.cancel();
        self.drain.send_replace(true);
        // Every worker holds a sender; the channel ends when the last is gone.
        let all = async { while self.ended.recv().await.is_some() {} };
        tokio::time::timeout(self.timeout, all).await.is_ok()
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
