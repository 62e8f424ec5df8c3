//! What happens on a connection before its first request: the PROXY protocol's header, where its peer is to send one, and
//! the TLS handshake, where there is TLS. Then it is served.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};

use super::connection::serve;
use super::listeners::Purpose;
use super::{Common, Served, redirect};
use crate::gateway::conn::{Conn, Open, Worker};
use crate::net::listen::{Io, UNIX_PEER};
use crate::net::proxy_protocol::{self, Fault, Header};
use crate::net::tls::{Acceptor, Failed};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::tls::Handshake as Outcome;
use crate::telemetry::refused::Refused;

/// For whoever speaks http to a port that wants TLS.
const PLAIN: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nCache-Control: no-store\r\nContent-Type: text/plain\r\n\
    Content-Length: 50\r\n\r\nThe plain HTTP request was sent to the HTTPS port\n";

/// What is read of a request that is not answered but told where to go.
const LINGER: u64 = 64 * 1024;

/// `peer`: None on a unix socket.
pub(super) async fn establish(
    mut stream: impl Io,
    peer: Option<IpAddr>,
    open: Open,
    worker: Arc<Worker>,
    common: Common,
    purpose: Purpose,
) {
    let served = common.live.load_full();
    let settings = &served.gateway.settings.server;
    // One limit for all that comes before the first request.
    let limit = Instant::now() + settings.limits.handshake_timeout;
    let mut client = peer.unwrap_or(UNIX_PEER);
    // Whoever asks for decisions is a proxy itself.
    let proxied = settings.proxy_protocol && purpose != Purpose::Checks;
    if proxied && peer.is_none_or(|peer| served.gateway.trusts(peer)) {
        let Some(told) = told(&mut stream, client, limit, &served).await else { return };
        client = told;
    }
    // Everybody on a unix socket who is not told of is this machine, and as trusted as a proxy.
    let is_somebody = peer.is_some() || proxied;
    let open = if is_somebody && !served.gateway.trusts(client) {
        let Some(open) = placed(open, client, &common, &served) else { return };
        open
    } else {
        open
    };
    if purpose == Purpose::Redirects {
        // PERF: in a box: all other connections would keep the room for it.
        return Box::pin(redirect::serve(stream, served)).await;
    }
    let in_clear = purpose == Purpose::Checks && !settings.forward_auth.grpc_tls;
    let Some(tls) = served.tls.clone().filter(|_| !in_clear) else {
        drop(served);
        return serve(stream, Arc::new(Conn::new(client, None, worker, open)), common, purpose).await;
    };
    let metrics = Arc::clone(&served.gateway.metrics);
    drop(served);
    // PERF: in a box: connections in clear text would keep the room for it.
    Box::pin(secure(stream, client, (tls, limit), metrics, (open, worker, common, purpose))).await;
}

/// The TLS handshake, and then the requests.
async fn secure(
    stream: impl Io,
    client: IpAddr,
    (tls, limit): (Arc<Acceptor>, Instant),
    metrics: Arc<Metrics>,
    (open, worker, common, purpose): (Open, Arc<Worker>, Common, Purpose),
) {
    let outcome = match tls.accept(stream, limit).await {
        Ok((stream, handshake)) => {
            metrics.tls.handshake(Outcome::Ok);
            drop((tls, metrics));
            return serve(stream, Arc::new(Conn::new(client, Some(handshake), worker, open)), common, purpose).await;
        }
        Err(Failed::Closed) => return,
        Err(Failed::Text(mut stream)) => {
            tracing::debug!(peer = %client, "plain http where TLS was expected");
            let _ = stream.write_all(PLAIN).await;
            let _ = stream.shutdown().await;
            // Closing on what is still to be read would reset the connection, and take the answer with it.
            let _ = timeout_at(limit, tokio::io::copy(&mut stream.take(LINGER), &mut tokio::io::sink())).await;
            Outcome::Failed
        }
        Err(Failed::Broken(error)) => {
            tracing::debug!(peer = %client, %error, "TLS handshake failed");
            Outcome::Failed
        }
        Err(Failed::Slow) => {
            tracing::debug!(peer = %client, "TLS handshake took too long");
            Outcome::Timeout
        }
        Err(Failed::Busy) => {
            tracing::debug!(peer = %client, "too many TLS handshakes at one time");
            metrics.refusals.count(Refused::Handshakes);
            Outcome::Refused
        }
    };
    metrics.tls.handshake(outcome);
}

/// SECURITY: FX-12. Among the connections that one client address may have. None: it has them, and this one is closed
/// before anything is done for it.
fn placed(open: Open, client: IpAddr, common: &Common, served: &Served) -> Option<Open> {
    let most = served.gateway.settings.server.limits.connections_per_address;
    if most == 0 {
        return Some(open);
    }
    let place = common.crowd.enter(client, most);
    if place.is_none() {
        served.gateway.metrics.refusals.count(Refused::Address);
    }
    place.map(|place| open.at(place))
}

/// Whose connection it is, by the word of a peer that is to say so. None: it is closed.
async fn told(stream: &mut impl Io, peer: IpAddr, limit: Instant, served: &Served) -> Option<IpAddr> {
    let (outcome, client) = match timeout_at(limit, proxy_protocol::read(stream)).await {
        Ok(Ok(Header::From(client))) => ("ok", Some(client)),
        Ok(Ok(Header::Local)) => ("local", Some(peer)),
        Ok(Err(Fault::Closed)) => return None,
        // SECURITY: W-01. Without, it would be the balancer's own word about who it is that counts.
        Ok(Err(fault)) => {
            tracing::debug!(%peer, error = %fault, "a connection without a PROXY protocol header is closed");
            (if matches!(fault, Fault::Missing) { "missing" } else { "invalid" }, None)
        }
        Err(_) => {
            tracing::debug!(%peer, "the PROXY protocol header took too long");
            ("missing", None)
        }
    };
    served.gateway.metrics.proxy_header(outcome);
    client
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    /// Of the future that such a function returns.
    fn size<A, B, C, D, E, F, R>(_: impl Fn(A, B, C, D, E, F) -> R) -> usize {
        size_of::<R>()
    }

    /// It is what each connection takes for as long as it is open: whatever is large and seldom goes into a box.
    #[test]
    fn fx_12_a_connection_that_says_nothing_is_small() {
        let size = size(|stream: TcpStream, peer, open, worker, common, purpose| {
            establish(stream, peer, open, worker, common, purpose)
        });
        assert!(size <= 3072, "{size} bytes");
    }
}
