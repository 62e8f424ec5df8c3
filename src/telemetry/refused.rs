//! Whoever was turned away because a limit was reached: counted by reason, and told to the operator now and then. It never
//! says who: under an attack that would be a line for each packet.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Seconds between two lines about the same limit.
const TELL_EVERY: u64 = 10;

/// Which limit was reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    Address,
    Body,
    BodyTimeout,
    Connections,
    ControlFrames,
    Files,
    Handshakes,
    Headers,
    Requests,
}

impl Refused {
    const ALL: [Self; 9] = [
        Self::Address,
        Self::Body,
        Self::BodyTimeout,
        Self::Connections,
        Self::ControlFrames,
        Self::Files,
        Self::Handshakes,
        Self::Headers,
        Self::Requests,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Body => "body",
            Self::BodyTimeout => "body_timeout",
            Self::Connections => "connections",
            Self::ControlFrames => "control_frames",
            Self::Files => "files",
            Self::Handshakes => "handshakes",
            Self::Headers => "headers",
            Self::Requests => "requests",
        }
    }

    /// What the operator may want to change.
    fn limit(self) -> &'static str {
        match self {
            Self::Address => "server.limits.connections_per_address",
            Self::Body => "server.limits.body_bytes",
            Self::BodyTimeout => "server.limits.body_timeout",
            Self::Connections => "server.limits.connections, or the limit of open files",
            Self::ControlFrames => "server.limits.control_frames",
            Self::Files => "open files of the process or the machine",
            Self::Handshakes => "server.limits.handshakes",
            Self::Headers => "server.limits.headers or server.limits.header_bytes",
            Self::Requests => "server.limits.requests, or the limit of open files",
        }
    }
}

/// `doorward_refused_total{reason}`.
pub struct Refusals {
    started: Instant,
    /// In the order of `Refused::ALL`.
    each: [Each; Refused::ALL.len()],
}

struct Each {
    count: Counter,
    /// When the operator was last told, seconds since `started` and one more; 0 = never.
    told: AtomicU64,
    /// Since then.
    untold: AtomicU64,
}

impl Refusals {
    /// Every reason is there from the beginning, as 0: a rate can be taken of the first one.
    pub fn new(registry: &mut Registry) -> Self {
        let family = Family::<[(&'static str, &'static str); 1], Counter>::default();
        registry.register("refused", "Whoever was turned away because a limit was reached", family.clone());
        let each = Refused::ALL.map(|reason| Each {
            count: family.get_or_create(&[("reason", reason.as_str())]).clone(),
            told: AtomicU64::new(0),
            untold: AtomicU64::new(0),
        });
        Self { started: Instant::now(), each }
    }

    #[cold]
    pub fn count(&self, reason: Refused) {
        let Some(each) = self.each.get(reason as usize) else { return };
        each.count.inc();
        each.untold.fetch_add(1, Ordering::Relaxed);
        let now = self.started.elapsed().as_secs() + 1;
        if let Some(refused) = each.tell(now) {
            tracing::warn!(reason = reason.as_str(), limit = reason.limit(), refused, "a limit was reached");
        }
    }
}

impl Each {
    /// How many to tell of, if it is time; once, whoever asks at the same moment.
    fn tell(&self, now: u64) -> Option<u64> {
        let told = self.told.load(Ordering::Relaxed);
        if told != 0 && now < told + TELL_EVERY {
            return None;
        }
        self.told.compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        Some(self.untold.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zx_04_each_limit_has_a_name_of_its_own_and_its_place() {
        let names: std::collections::BTreeSet<_> = Refused::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), Refused::ALL.len());
        assert!(Refused::ALL.iter().enumerate().all(|(at, reason)| *reason as usize == at));
    }

    #[test]
    fn an_operator_is_told_at_once_and_then_now_and_then() {
        let mut registry = Registry::with_prefix("doorward");
        let refusals = Refusals::new(&mut registry);
        let each = &refusals.each[Refused::Requests as usize];
        let refuse = |n, now| {
            each.untold.fetch_add(n, Ordering::Relaxed);
            each.tell(now)
        };
        assert_eq!(refuse(1, 1), Some(1));
        assert_eq!(refuse(5, 2), None);
        assert_eq!(refuse(5, 1 + TELL_EVERY), Some(10));
        assert_eq!(refuse(1, 1 + TELL_EVERY), None);
        refusals.count(Refused::Requests);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("doorward_refused_total{reason=\"requests\"} 1\n"), "{text}");
        assert!(text.contains("doorward_refused_total{reason=\"address\"} 0\n"), "{text}");
    }
}
