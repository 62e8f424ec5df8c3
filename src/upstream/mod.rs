//! Upstreams: each worker's pool of connections, sending with the safe retry, tunnels. Forwards what it is given: every
//! decision about a request, and every header of it but `Host`, is made before.

mod body;
mod connection;
mod peer;
mod pool;
mod replay;
mod request;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod tunnel;
pub mod upload;
mod websocket;

use std::sync::Arc;

use http::{Request, Response};
use tokio::time::Instant;

pub use self::body::{RequestBody, ResponseBody};
use self::peer::Peer;
use crate::config::settings;
use crate::error::{Error, Kind};

/// The upstream of one route, shared by all workers.
pub struct Upstream {
    peers: Vec<Arc<Peer>>,
}

impl Upstream {
    /// `Kind::Internal` for a `status:` target and for TLS roots that cannot be read.
    pub fn new(settings: &settings::Upstream, workers: usize) -> Result<Arc<Self>, Error> {
        let peer = |target| Peer::new(target, &settings.options, workers).map(Arc::new);
        let peers: Result<Vec<_>, Error> = settings.targets.iter().map(peer).collect();
        Ok(Arc::new(Self { peers: peers? }))
    }

    /// Sends `request` over a connection of this worker and waits for the head of the answer; `now` is when. Hop-by-hop
    /// headers are the caller's to remove, of the request and of the answer; `Upgrade` passes if the caller leaves it there.
    ///
    /// Errors: `UpstreamTimeout` and `UpstreamFailed`. Whether it was the client who broke off, its body's `Progress` knows.
    pub async fn send(
        &self,
        worker: usize,
        request: Request<RequestBody>,
        now: Instant,
    ) -> Result<Response<ResponseBody>, Error> {
        let peer = self.peers.first().ok_or_else(|| Error::new(Kind::Internal, "a route without an upstream"))?;
        peer.send(worker, request, now).await
    }
}
