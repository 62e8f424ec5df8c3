//! What is counted of TLS: handshakes, and when certificates end.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Labels;

/// How a handshake ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Handshake {
    Failed,
    Ok,
    /// Its turn never came.
    Refused,
    Timeout,
}

pub struct Tls {
    failed: Counter,
    ok: Counter,
    refused: Counter,
    timeout: Counter,
    expires: Family<Labels<1>, Gauge>,
}

impl Tls {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let handshakes = Family::<Labels<1>, Counter>::default();
        registry.register("tls_handshakes", "TLS handshakes of clients, by outcome", handshakes.clone());
        let expires = Family::default();
        registry.register(
            "tls_certificate_expires_seconds",
            "Until when a certificate is valid, Unix time, by its file",
            expires.clone(),
        );
        let counter = |outcome: &str| handshakes.get_or_create(&[("outcome", outcome.to_owned())]).clone();
        Self {
            failed: counter("failed"),
            ok: counter("ok"),
            refused: counter("refused"),
            timeout: counter("timeout"),
            expires,
        }
    }

    pub fn handshake(&self, outcome: Handshake) {
        let counter = match outcome {
            Handshake::Failed => &self.failed,
            Handshake::Ok => &self.ok,
            Handshake::Refused => &self.refused,
            Handshake::Timeout => &self.timeout,
        };
        counter.inc();
    }

    /// All certificates that are shown now: file, and the end of its validity in Unix seconds.
    pub fn certificates(&self, all: impl IntoIterator<Item = (String, i64)>) {
        self.expires.clear();
        for (file, not_after) in all {
            self.expires.get_or_create(&[("certificate", file)]).set(not_after);
        }
    }
}
