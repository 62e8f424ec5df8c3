//! Asks a peer now and then whether it is well, over a connection of its own each time. Runs on the control runtime, and
//! ends with the upstream.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, USER_AGENT};
use http::uri::InvalidUri;
use http::{HeaderValue, Request};
use tokio::time::{sleep, timeout};

use super::body::RequestBody;
use super::peer::Peer;
use super::peers::Peers;
use super::upkeep::about;
use crate::config::settings;
use crate::error::{Error, Kind, Reason};

/// Checks in a row that have to fail before a peer is left out. One that succeeds brings it back.
const FAILURES: u32 = 2;
/// The first checks of all peers come within this.
const SOON: Duration = Duration::from_secs(1);

pub(super) async fn watch(peers: Arc<Peers>, index: usize, health: settings::Health, route: String) {
    let peer = peers.peer(index);
    let name = &peer.name;
    let mut failures = 0;
    sleep(SOON.min(health.interval).mul_f64(fastrand::f64())).await;
    loop {
        match ask(peer, &health).await {
            Ok(()) => {
                failures = 0;
                if peer.condition.set_well(true) {
                    tracing::info!(route, upstream = %name, "an upstream is well again");
                    peers.serve();
                }
            }
            Err(error) => {
                failures += 1;
                tracing::debug!(route, upstream = %name, failures, %error, "a health check failed");
                if failures >= FAILURES && peer.condition.set_well(false) {
                    tracing::warn!(route, upstream = %name, %error, "an upstream fails its health checks");
                }
            }
        }
        sleep(about(health.interval)).await;
    }
}

async fn ask(peer: &Peer, health: &settings::Health) -> Result<(), Error> {
    let mut request = Request::new(RequestBody::empty());
    let path = health.path.parse();
    *request.uri_mut() =
        path.map_err(|e: InvalidUri| Error::new(Kind::Internal, "the health check's path is none").because(e))?;
    request.headers_mut().insert(HOST, peer.rewrite.host().clone());
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("doorward"));
    let answer = timeout(health.timeout, peer.once(request, health.timeout)).await;
    let status = answer.map_err(|_| Error::upstream(Reason::ResponseTimeout))??;
    if status.is_success() {
        return Ok(());
    }
    Err(Error::new(Kind::UpstreamFailed, format!("the answer to the health check is {}", status.as_u16())))
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;

    use super::super::testing::*;
    use super::*;
    use crate::config::settings::Health;

    /// Answers the next check, and returns its head.
    async fn answer(origin: &Origin, with: &str) -> String {
        let mut peer = origin.accept().await;
        let head = peer.head().await;
        peer.say(with).await;
        // It ends with its check.
        peer.closed().await;
        head
    }

    const BAD: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

    /// Real time: under a paused clock a socket that is slow looks like one that times out.
    #[tokio::test]
    async fn two_failures_and_it_is_left_out_one_success_and_it_is_back() {
        let (interval, timeout) = (Duration::from_millis(1), Duration::from_secs(60));
        let health = Health { path: "/health?deep".into(), interval, timeout };
        let origins = Origin::several(&["/base", ""], |o| {
            (o.health, o.pass_host) = (Some(health), true);
        })
        .await;
        let upstream = &origins[0].upstream;
        upstream.start(&Handle::current());
        let peers = &upstream.peers;
        let first = || peers.is_good(peers.peer(0));
        let head = answer(&origins[0], OK).await;
        assert!(head.starts_with("GET /health?deep HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("host: {}\r\n", origins[0].address())) && head.contains("user-agent: doorward"));
        answer(&origins[0], BAD).await;
        assert!(first());
        // Not an answer at all is no better.
        drop(origins[0].accept().await);
        while first() {
            tokio::task::yield_now().await;
        }
        let mut asked = Vec::new();
        for _ in 0..4 {
            let sending = origins[0].send(get("/"));
            let mut peer = loop {
                // The second one is asked for its health meanwhile, and never answers.
                let mut peer = origins[1].accept().await;
                if peer.head().await.starts_with("GET / ") {
                    break peer;
                }
                asked.push(peer);
            };
            peer.say("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
            assert_eq!(sending.response().await.status(), 200);
        }
        assert_eq!(asked.len(), 1);
        answer(&origins[0], OK).await;
        while !first() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn it_ends_with_the_upstream() {
        let origin = Origin::with("", |o| {
            let (interval, timeout) = (Duration::from_millis(1), Duration::from_secs(60));
            o.health = Some(Health { path: "/".into(), interval, timeout });
        })
        .await;
        origin.upstream.start(&Handle::current());
        origin.upstream.start(&Handle::current());
        let mut peer = origin.accept().await;
        let peers = Arc::downgrade(&origin.upstream.peers);
        peer.head().await;
        drop(origin);
        peer.closed().await;
        while peers.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    }
}
