//! What happens on a connection before its first request: the TLS handshake, where there is TLS. Then it is served.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use super::Common;
use super::connection::serve;
use crate::gateway::conn::{Conn, Open, Worker};
use crate::net::listen::Io;
use crate::net::tls::Failed;
use crate::telemetry::metrics::tls::Handshake as Outcome;

/// For whoever speaks http to a port that wants TLS.
const PLAIN: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nCache-Control: no-store\r\nContent-Type: text/plain\r\n\
    Content-Length: 50\r\n\r\nThe plain HTTP request was sent to the HTTPS port\n";

pub(super) async fn establish(stream: impl Io, peer: IpAddr, open: Open, worker: Arc<Worker>, common: Common) {
    let served = common.live.load_full();
    let limit = served.gateway.settings.server.limits.handshake_timeout;
    let Some(tls) = served.tls.clone() else {
        drop(served);
        return serve(stream, Arc::new(Conn::new(peer, None, worker, open)), common).await;
    };
    let metrics = Arc::clone(&served.gateway.metrics);
    drop(served);
    let outcome = match tls.accept(stream, Instant::now() + limit).await {
        Ok((stream, handshake)) => {
            metrics.tls.handshake(Outcome::Ok);
            drop((tls, metrics));
            return serve(stream, Arc::new(Conn::new(peer, Some(handshake), worker, open)), common).await;
        }
        Err(Failed::Closed) => return,
        Err(Failed::Text(mut stream)) => {
            tracing::debug!(%peer, "plain http where TLS was expected");
            let _ = stream.write_all(PLAIN).await;
            let _ = stream.shutdown().await;
            Outcome::Failed
        }
        Err(Failed::Broken(error)) => {
            tracing::debug!(%peer, %error, "TLS handshake failed");
            Outcome::Failed
        }
        Err(Failed::Slow) => {
            tracing::debug!(%peer, "TLS handshake took too long");
            Outcome::Timeout
        }
        Err(Failed::Busy) => {
            tracing::debug!(%peer, "too many TLS handshakes at one time");
            Outcome::Refused
        }
    };
    metrics.tls.handshake(outcome);
}
