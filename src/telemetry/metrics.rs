//! Metrics. What is counted on every request lives in plain atomics, one set a worker and route, resolved when the
//! configuration is loaded; the rest are ordinary families of `prometheus-client`. Label values come from the
//! configuration or from fixed sets, never from a peer (ZX-04).

pub mod tls;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::refused::Refusals;
use super::upstreams::Upstreams;

type Labels<const N: usize> = [(&'static str, String); N];

/// Upper bounds in seconds, and one bucket for the rest.
const BUCKETS: [f64; 12] = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.5, 2.5, 10.0];
const CODES: usize = 500;

/// What became of a request before the upstream was asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    Allow,
    Deny,
    Error,
    SignIn,
    StepUp,
}

impl Outcome {
    const ALL: [Self; 5] = [Self::Allow, Self::Deny, Self::Error, Self::SignIn, Self::StepUp];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Error => "error",
            Self::SignIn => "sign_in",
            Self::StepUp => "step_up",
        }
    }
}

/// All metrics of the process. They outlive a reload.
pub struct Metrics {
    workers: usize,
    routes: Arc<Routes>,
    registry: Registry,
    pub connections: Gauge,
    logins: Family<Labels<2>, Counter>,
    refreshes: Family<Labels<1>, Counter>,
    reloads: Family<Labels<1>, Counter>,
    last_reload_ok: Gauge,
    provider_seconds: Family<Labels<1>, Histogram, fn() -> Histogram>,
    cache_hits: Family<Labels<1>, Counter>,
    cache_misses: Family<Labels<1>, Counter>,
    proxy_headers: Family<Labels<1>, Counter>,
    pub sessions_active: Gauge,
    pub store_up: Gauge,
    pub tls: tls::Tls,
    pub refusals: Refusals,
    pub upstreams: Upstreams,
}

impl Metrics {
    pub fn new(workers: usize) -> Self {
        let routes = Arc::new(Routes::default());
        let mut registry = Registry::with_prefix("doorward");
        let provider_seconds = Family::new_with_constructor(histogram as fn() -> Histogram);
        let (connections, sessions_active, store_up) = (Gauge::default(), Gauge::default(), Gauge::default());
        let logins = Family::default();
        // There from the start: the increase to the first event of a series that was not there before is not seen.
        let refreshes = counters(["ok", "shared", "rejected", "failed"]);
        let reloads = counters(["ok", "error"]);
        // What the process started with is in force, and was written so.
        let last_reload_ok = Gauge::default();
        last_reload_ok.set(1);
        let (cache_hits, cache_misses) = (Family::default(), Family::default());
        let proxy_headers = Family::default();
        registry.register("connections", "Open client connections", connections.clone());
        registry.register(
            "sessions_active",
            "Sessions that this instance has seen and not seen end",
            sessions_active.clone(),
        );
        registry.register(
            "store_up",
            "1 while the session store answers and this instance hears of every end of a session",
            store_up.clone(),
        );
        registry.register("logins", "Sign-ins completed, by provider and outcome", logins.clone());
        registry.register("refreshes", "Token refreshes, by outcome", refreshes.clone());
        registry.register("reloads", "Configuration reloads, by outcome", reloads.clone());
        registry.register(
            "config_last_reload_successful",
            "1 while the configuration as it is written is the one in force",
            last_reload_ok.clone(),
        );
        registry.register(
            "provider_seconds",
            "Time of calls to providers, by endpoint, in seconds",
            provider_seconds.clone(),
        );
        registry.register("cache_hits", "Look-ups answered by a cache", cache_hits.clone());
        registry.register("cache_misses", "Look-ups that a cache could not answer", cache_misses.clone());
        registry.register("proxy_protocol", "PROXY protocol headers, by outcome", proxy_headers.clone());
        let tls = tls::Tls::register(&mut registry);
        let refusals = Refusals::new(&mut registry);
        registry.register_collector(Box::new(Arc::clone(&routes)));
        let upstreams = Upstreams::default();
        upstreams.register(&mut registry);
        Self {
            workers: workers.max(1),
            routes,
            registry,
            connections,
            logins,
            refreshes,
            reloads,
            last_reload_ok,
            provider_seconds,
            cache_hits,
            cache_misses,
            proxy_headers,
            sessions_active,
            store_up,
            tls,
            refusals,
            upstreams,
        }
    }

    /// The counters of one route, made once and found again after a reload.
    pub fn route(&self, name: &str) -> Arc<Route> {
        let mut routes = self.routes.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(routes.entry(name.to_owned()).or_insert_with(|| Arc::new(Route::new(name, self.workers))))
    }

    pub fn login(&self, provider: &str, outcome: &'static str) {
        self.logins.get_or_create(&[("provider", provider.to_owned()), ("outcome", outcome.to_owned())]).inc();
    }

    pub fn refresh(&self, outcome: &'static str) {
        self.refreshes.get_or_create(&[("outcome", outcome.to_owned())]).inc();
    }

    pub fn reload(&self, is_ok: bool) {
        let outcome = if is_ok { "ok" } else { "error" };
        self.reloads.get_or_create(&[("outcome", outcome.to_owned())]).inc();
        self.last_reload_ok.set(is_ok.into());
    }

    /// What a peer that is to begin with a PROXY protocol header began with.
    pub fn proxy_header(&self, outcome: &'static str) {
        self.proxy_headers.get_or_create(&[("outcome", outcome.to_owned())]).inc();
    }

    pub fn provider_call(&self, endpoint: &'static str, took: Duration) {
        self.provider_seconds.get_or_create(&[("endpoint", endpoint.to_owned())]).observe(took.as_secs_f64());
    }

    /// Counts a look-up in a cache that is not on the memo's path.
    pub fn cache(&self, cache: &'static str, hit: bool) {
        let family = if hit { &self.cache_hits } else { &self.cache_misses };
        family.get_or_create(&[("cache", cache.to_owned())]).inc();
    }

    /// PERF: the counters of a cache that is on such a path, to hold on to: nothing is looked up or allocated to count.
    pub fn lookups(&self, cache: &'static str) -> Lookups {
        let counter = |of: &Family<Labels<1>, Counter>| of.get_or_create(&[("cache", cache.to_owned())]).clone();
        Lookups { hits: counter(&self.cache_hits), misses: counter(&self.cache_misses) }
    }

    /// The text exposition of OpenMetrics 1.0.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::with_capacity(8 * 1024);
        prometheus_client::encoding::text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

/// Of one cache.
#[derive(Clone, Debug)]
pub struct Lookups {
    hits: Counter,
    misses: Counter,
}

impl Lookups {
    pub fn count(&self, hit: bool) {
        if hit { &self.hits } else { &self.misses }.inc();
    }
}

/// One route's counters, one shard a worker so that workers share no cache line.
pub struct Route {
    name: Box<str>,
    shards: Box<[Shard]>,
}

struct Shard {
    codes: Box<[AtomicU64; CODES]>,
    decisions: [AtomicU64; Outcome::ALL.len()],
    total: Time,
    overhead: Time,
}

#[derive(Default)]
struct Time {
    buckets: [AtomicU64; BUCKETS.len() + 1],
    nanos: AtomicU64,
}

impl Route {
    fn new(name: &str, workers: usize) -> Self {
        let shard = || Shard {
            codes: Box::new([const { AtomicU64::new(0) }; CODES]),
            decisions: Default::default(),
            total: Time::default(),
            overhead: Time::default(),
        };
        Self { name: name.into(), shards: (0..workers).map(|_| shard()).collect() }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts one finished request. `overhead` = the time not spent waiting for the upstream.
    pub fn request(&self, worker: usize, status: u16, total: Duration, overhead: Duration) {
        let Some(shard) = self.shards.get(worker) else { return };
        if let Some(code) = shard.codes.get(usize::from(status.saturating_sub(100))) {
            code.fetch_add(1, Ordering::Relaxed);
        }
        shard.total.observe(total);
        shard.overhead.observe(overhead);
    }

    pub fn decision(&self, worker: usize, outcome: Outcome) {
        if let Some(count) = self.shards.get(worker).and_then(|s| s.decisions.get(outcome as usize)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn sum(&self, pick: impl Fn(&Shard) -> u64) -> u64 {
        self.shards.iter().map(pick).fold(0, u64::wrapping_add)
    }
}

impl Time {
    fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let index = BUCKETS.iter().position(|b| seconds <= *b).unwrap_or(BUCKETS.len());
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Routes(Mutex<BTreeMap<String, Arc<Route>>>);

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Routes")
    }
}

impl Collector for Routes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let routes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut family =
            encoder.encode_descriptor("requests", "Requests, by route and status", None, MetricType::Counter)?;
        for (name, route) in routes.iter() {
            for code in 0..CODES {
                let n = route.sum(|s| s.codes.get(code).map_or(0, |c| c.load(Ordering::Relaxed)));
                if n > 0 {
                    let labels = [("route", name.clone()), ("code", (code + 100).to_string())];
                    ConstCounter::new(n).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        let mut family =
            encoder.encode_descriptor("decisions", "Decisions, by route and outcome", None, MetricType::Counter)?;
        for (name, route) in routes.iter() {
            for outcome in Outcome::ALL {
                let n = route.sum(|s| s.decisions.get(outcome as usize).map_or(0, |c| c.load(Ordering::Relaxed)));
                let labels = [("route", name.clone()), ("outcome", outcome.as_str().to_owned())];
                ConstCounter::new(n).encode(family.encode_family(&labels)?)?;
            }
        }
        times(&mut encoder, &routes, "request_seconds", "Time to the end of the answer, in seconds", |s| &s.total)?;
        times(&mut encoder, &routes, "overhead_seconds", "Time spent outside the upstream, in seconds", |s| &s.overhead)
    }
}

fn times(
    encoder: &mut DescriptorEncoder<'_>,
    routes: &BTreeMap<String, Arc<Route>>,
    name: &str,
    help: &str,
    pick: impl Fn(&Shard) -> &Time,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (route_name, route) in routes {
        let buckets: Vec<(f64, u64)> = BUCKETS
            .iter()
            .copied()
            .chain([f64::MAX])
            .enumerate()
            .map(|(i, bound)| (bound, route.sum(|s| pick(s).buckets.get(i).map_or(0, |b| b.load(Ordering::Relaxed)))))
            .collect();
        let count = buckets.iter().map(|(_, n)| n).sum();
        let nanos = route.sum(|s| pick(s).nanos.load(Ordering::Relaxed));
        #[expect(clippy::cast_precision_loss, reason = "a histogram's sum is a float by its format")]
        let seconds = nanos as f64 / 1e9;
        let labels = [("route", route_name.clone())];
        family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)?;
    }
    Ok(())
}

fn counters<const N: usize>(outcomes: [&str; N]) -> Family<Labels<1>, Counter> {
    let family = Family::<Labels<1>, Counter>::default();
    for outcome in outcomes {
        drop(family.get_or_create(&[("outcome", outcome.to_owned())]));
    }
    family
}

fn histogram() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_documentation() {
        let metrics = Metrics::new(2);
        let route = metrics.route("app");
        route.request(0, 200, Duration::from_millis(2), Duration::from_micros(40));
        route.request(1, 200, Duration::from_millis(2), Duration::from_micros(40));
        route.decision(1, Outcome::SignIn);
        metrics.login("main", "ok");
        metrics.refresh("ok");
        metrics.reload(false);
        metrics.proxy_header("ok");
        metrics.provider_call("token", Duration::from_millis(3));
        metrics.cache("session", true);
        metrics.cache("session", false);
        metrics.tls.handshake(tls::Handshake::Refused);
        metrics.tls.certificates([("/old.crt".to_owned(), 1_700_000_000)]);
        metrics.tls.certificates([("/tls.crt".to_owned(), 1_900_000_000)]);
        let text = metrics.encode().unwrap();
        for line in [
            "doorward_requests_total{route=\"app\",code=\"200\"} 2",
            "doorward_decisions_total{route=\"app\",outcome=\"sign_in\"} 1",
            "doorward_request_seconds_count{route=\"app\"} 2",
            "doorward_overhead_seconds_bucket{le=\"0.0001\",route=\"app\"} 2",
            "doorward_logins_total{provider=\"main\",outcome=\"ok\"} 1",
            "doorward_refreshes_total{outcome=\"ok\"} 1",
            "doorward_refreshes_total{outcome=\"failed\"} 0",
            "doorward_reloads_total{outcome=\"error\"} 1",
            "doorward_config_last_reload_successful 0",
            "doorward_proxy_protocol_total{outcome=\"ok\"} 1",
            "doorward_provider_seconds_count{endpoint=\"token\"} 1",
            "doorward_cache_hits_total{cache=\"session\"} 1",
            "doorward_cache_misses_total{cache=\"session\"} 1",
            "doorward_connections 0",
            "doorward_sessions_active 0",
            "doorward_store_up 0",
            "doorward_tls_handshakes_total{outcome=\"ok\"} 0",
            "doorward_tls_handshakes_total{outcome=\"refused\"} 1",
            "doorward_tls_certificate_expires_seconds{certificate=\"/tls.crt\"} 1900000000",
        ] {
            assert!(text.lines().any(|l| l.starts_with(line)), "{line} is missing:\n{text}");
        }
        assert!(!text.contains("/old.crt"), "a certificate that is shown no more:\n{text}");
    }
}
