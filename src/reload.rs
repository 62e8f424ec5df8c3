//! Reload: the configuration is read again, checked whole, and swapped in; on any error the old one stays.

use std::sync::Arc;

use crate::app::{Running, build};
use crate::audit;
use crate::config::{Sources, load};

/// Where the configuration came from, to be read again.
pub struct Reload(pub Sources);

impl Reload {
    pub fn run(&self, running: &Running) {
        let old = running.live.load_full();
        let outcome = load(&self.0).map_err(|problems| problems.to_string()).and_then(|settings| {
            let (before, after) = (&old.gateway.settings.server, &settings.server);
            if before.listen != after.listen || before.tls.is_some() != after.tls.is_some() {
                tracing::warn!("server.listen, and whether there is a server.tls, take effect at the next start only");
            }
            build(settings, &running.shared, Some(&old)).map_err(|error| error.to_string())
        });
        match outcome {
            Ok(served) => {
                running.live.store(Arc::new(served));
                running.shared.metrics.reload("ok");
                audit!(event = "reload", outcome = "ok");
            }
            Err(error) => {
                running.shared.metrics.reload("error");
                tracing::error!(%error, "the new configuration is not valid; the old one stays");
                audit!(event = "reload", outcome = "error");
            }
        }
    }
}
