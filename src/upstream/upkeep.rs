//! What is done for an upstream while nobody asks for anything: connections that were idle for too long are closed, host
//! names are looked up anew. Runs on the control runtime, and ends with the upstream.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::peers::Peers;

/// How often idle connections are looked at: as often as they may have become too old, within these.
const SWEEP: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

pub(super) async fn sweep(peers: Arc<Peers>, idle_timeout: Duration) {
    loop {
        sleep(idle_timeout.clamp(SWEEP.0, SWEEP.1)).await;
        let now = Instant::now();
        peers.each().for_each(|peer| peer.sweep(now));
    }
}

pub(super) async fn resolve(peers: Arc<Peers>, index: usize, every: Duration, route: String) {
    let peer = peers.peer(index);
    let name = &peer.name;
    let mut fails = false;
    loop {
        sleep(about(every)).await;
        let looked_up = timeout(every, peer.endpoint.resolve()).await;
        match looked_up.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
            Ok(changed) => {
                fails = false;
                if changed {
                    tracing::info!(route, upstream = %name, "an upstream's host name has other addresses now");
                    peer.sweep(Instant::now());
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut fails, true) {
                    tracing::warn!(route, upstream = %name, %error, "an upstream's host name cannot be looked up: its last addresses stay");
                }
            }
        }
    }
}

/// `every`, give or take a tenth, so that nobody keeps step with anybody.
pub(super) fn about(every: Duration) -> Duration {
    every.mul_f64(0.9 + 0.2 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;

    use super::super::testing::*;

    #[tokio::test]
    async fn connections_that_nobody_uses_are_closed_in_time() {
        let origin = Origin::with("", |o| o.idle_timeout = std::time::Duration::from_millis(100)).await;
        origin.upstream.start(&Handle::current());
        let sending = origin.send(get("/"));
        let mut peer = origin.accept().await;
        peer.head().await;
        peer.say(OK).await;
        text(sending.response().await).await.unwrap();
        assert_eq!(origin.idle(), 1);
        peer.closed().await;
        assert_eq!(origin.idle(), 0);
    }

    #[tokio::test]
    async fn a_connection_to_an_address_that_is_gone_is_not_used_again() {
        let origin = Origin::named(|_| ()).await;
        let exchange = async || {
            let sending = origin.send(get("/"));
            let mut peer = origin.accept().await;
            peer.head().await;
            peer.say(OK).await;
            text(sending.response().await).await.unwrap();
            peer
        };
        let peer = origin.upstream.peers.peer(0);
        let mut one = exchange().await;
        assert_eq!(origin.idle(), 1);
        peer.endpoint.found(&["127.0.0.1:1", &origin.address()]);
        peer.sweep(tokio::time::Instant::now());
        assert_eq!(origin.idle(), 1, "its address is still there");
        // Gone while it is idle.
        assert!(peer.endpoint.found(&["127.0.0.1:1"]));
        peer.sweep(tokio::time::Instant::now());
        one.closed().await;
        assert_eq!(origin.idle(), 0);
        // Gone while it is in use.
        peer.endpoint.found(&[&origin.address()]);
        let sending = origin.send(get("/"));
        let mut two = origin.accept().await;
        two.head().await;
        assert!(peer.endpoint.found(&["127.0.0.1:1"]));
        two.say(OK).await;
        assert_eq!(text(sending.response().await).await.unwrap(), "ok");
        assert_eq!(origin.idle(), 0);
        two.closed().await;
        // Nobody answers at what is known: the name is looked up anew at once.
        exchange().await;
    }
}
