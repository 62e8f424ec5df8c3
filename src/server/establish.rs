//! What happens on a connection before its first request: the TLS handshake, where there is TLS. Then it is served.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::timeout;

use super::Common;
use super::connection::serve;
use crate::gateway::conn::{Conn, Open, Worker};
use crate::net::listen::Io;
use crate::net::tls::Handshake;

pub(super) async fn establish(stream: impl Io, peer: IpAddr, open: Open, worker: Arc<Worker>, common: Common) {
    let served = common.live.load_full();
    let limit = served.gateway.settings.server.limits.handshake_timeout;
    let Some(tls) = served.tls.clone() else {
        drop(served);
        return serve(stream, Arc::new(Conn::new(peer, None, worker, open)), common).await;
    };
    drop(served);
    match timeout(limit, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let handshake = Handshake::of(stream.get_ref().1);
            serve(stream, Arc::new(Conn::new(peer, Some(handshake), worker, open)), common).await;
        }
        Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
    }
}
