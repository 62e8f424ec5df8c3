//! Metrics of upstreams. What is counted here is rare; what is a state is read from the upstreams when somebody asks.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// One address of an upstream now.
#[derive(Clone, Copy, Debug)]
pub struct Condition {
    /// It is among those that requests are sent to first.
    pub healthy: bool,
    /// Requests under way.
    pub requests: usize,
}

/// The upstream of one route.
pub trait Observed: Send + Sync {
    fn route(&self) -> &str;
    /// Calls `each` with every address, as it is written in the configuration.
    fn observe(&self, each: &mut dyn FnMut(&str, Condition));
    /// Requests that wait for a place.
    fn waiting(&self) -> usize;
}

#[derive(Clone, Debug, Default)]
pub struct Upstreams {
    retries: Family<[(&'static str, String); 1], Counter>,
    failures: Family<[(&'static str, String); 2], Counter>,
    observed: Arc<States>,
}

impl Upstreams {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("upstream_retries", "Requests sent to an upstream again, by route", self.retries.clone());
        registry.register(
            "upstream_failures",
            "Attempts that no upstream answered, by route and reason, also where another one then did",
            self.failures.clone(),
        );
        registry.register_collector(Box::new(Arc::clone(&self.observed)));
    }

    pub fn retry(&self, route: &str) {
        self.retries.get_or_create(&[("route", route.to_owned())]).inc();
    }

    pub fn failure(&self, route: &str, reason: &'static str) {
        self.failures.get_or_create(&[("route", route.to_owned()), ("reason", reason.to_owned())]).inc();
    }

    /// Shows `upstream` for as long as it lives. The last one of a route counts: at a reload there are two for a moment.
    pub fn observe(&self, upstream: Weak<dyn Observed>) {
        let mut all = self.observed.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|known| known.strong_count() > 0);
        all.push(upstream);
    }
}

#[derive(Default)]
struct States(Mutex<Vec<Weak<dyn Observed>>>);

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("States")
    }
}

impl Collector for States {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let all: Vec<Arc<dyn Observed>> = all.iter().filter_map(Weak::upgrade).collect();
        let mut addresses = BTreeMap::new();
        let mut waiting = BTreeMap::new();
        for upstream in &all {
            // What the one before had and this one has not is gone.
            addresses.retain(|(route, _), _| route != upstream.route());
            upstream.observe(&mut |address, condition| {
                addresses.insert((upstream.route().to_owned(), address.to_owned()), condition);
            });
            waiting.insert(upstream.route().to_owned(), upstream.waiting());
        }
        let gauge = |n: usize| ConstGauge::new(i64::try_from(n).unwrap_or(i64::MAX));
        let pair = |(route, upstream): &(String, String)| [("route", route.clone()), ("upstream", upstream.clone())];
        let help =
            "1 while requests are sent to this upstream first; 0 while it is ejected, or fails its health checks";
        let mut family = encoder.encode_descriptor("upstream_healthy", help, None, MetricType::Gauge)?;
        for (of, condition) in &addresses {
            gauge(usize::from(condition.healthy)).encode(family.encode_family(&pair(of))?)?;
        }
        let help = "Requests under way at an upstream";
        let mut family = encoder.encode_descriptor("upstream_requests", help, None, MetricType::Gauge)?;
        for (of, condition) in &addresses {
            gauge(condition.requests).encode(family.encode_family(&pair(of))?)?;
        }
        let help = "Requests that wait until an upstream of their route may be asked for one more";
        let mut family = encoder.encode_descriptor("upstream_waiting", help, None, MetricType::Gauge)?;
        for (route, n) in waiting {
            gauge(n).encode(family.encode_family(&[("route", route)])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One(&'static str, bool);

    impl Observed for One {
        fn route(&self) -> &str {
            "app"
        }

        fn observe(&self, each: &mut dyn FnMut(&str, Condition)) {
            each(self.0, Condition { healthy: self.1, requests: 3 });
        }

        fn waiting(&self) -> usize {
            2
        }
    }

    #[test]
    fn what_is_there_now_and_nothing_else() {
        let (mut registry, upstreams) = (Registry::with_prefix("doorward"), Upstreams::default());
        upstreams.register(&mut registry);
        upstreams.retry("app");
        upstreams.failure("app", "closed");
        let text = || {
            let mut out = String::new();
            prometheus_client::encoding::text::encode(&mut out, &registry).unwrap();
            out
        };
        let before: Arc<dyn Observed> = Arc::new(One("http://a", true));
        let after: Arc<dyn Observed> = Arc::new(One("http://b", false));
        upstreams.observe(Arc::downgrade(&before));
        assert!(text().contains("doorward_upstream_healthy{route=\"app\",upstream=\"http://a\"} 1\n"));
        upstreams.observe(Arc::downgrade(&after));
        let both = text();
        assert!(!both.contains("http://a"), "{both}");
        for line in [
            "doorward_upstream_healthy{route=\"app\",upstream=\"http://b\"} 0\n",
            "doorward_upstream_requests{route=\"app\",upstream=\"http://b\"} 3\n",
            "doorward_upstream_waiting{route=\"app\"} 2\n",
            "doorward_upstream_retries_total{route=\"app\"} 1\n",
            "doorward_upstream_failures_total{route=\"app\",reason=\"closed\"} 1\n",
        ] {
            assert!(both.contains(line), "{line} is missing:\n{both}");
        }
        drop((before, after));
        assert!(!text().contains("http://"));
    }
}
