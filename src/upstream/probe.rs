//! Asking an upstream whether it is there, before there is anything to send.

use std::sync::Arc;

use super::http2::Shared;
use crate::config::settings;
use crate::error::Error;
use crate::net::dial::Endpoint;

/// Whether `target` is there and speaks what `options` say. Nothing is sent that an application would see.
///
/// # Errors
/// `Internal`: files that cannot be read. Else as `Upstream::send`.
pub async fn probe(target: &settings::Target, options: &settings::UpstreamOptions) -> Result<(), Error> {
    let endpoint = Arc::new(Endpoint::new(target, options)?);
    if options.http2 {
        let shared = Shared::new(target, 1, options.idle_timeout);
        return shared.connect(0, &endpoint).await.map(drop);
    }
    endpoint.connect().await.map(drop)
}
