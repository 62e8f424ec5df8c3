//! Keeps what was fetched from a provider or an issuer fresh for as long as somebody holds it.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::error::Result;

/// First and longest pause after a failed load: while there is no copy yet, and once there is one.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_UNREADY: Duration = Duration::from_secs(10);
const BACKOFF_READY: Duration = Duration::from_secs(60);

/// What has to be fetched again and again.
pub(crate) trait Fetched: Send + Sync + 'static {
    /// For the log.
    fn name(&self) -> &str;

    /// It was fetched at least once.
    fn is_ready(&self) -> bool;

    /// Fetches anew, and says how long that is good for; on an error the copy in use stays (D-06).
    fn fetch(self: Arc<Self>) -> impl Future<Output = Result<Duration>> + Send;
}

/// The task that does so. Dropped, it ends.
#[derive(Default)]
pub(crate) struct Upkeep(Mutex<Option<AbortHandle>>);

impl Upkeep {
    pub(crate) fn is_started(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// A second call replaces the first.
    pub(crate) fn start<T: Fetched>(&self, of: &Arc<T>, runtime: &Handle) {
        let task = runtime.spawn(maintain(Arc::downgrade(of)));
        let earlier = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(task.abort_handle());
        if let Some(earlier) = earlier {
            earlier.abort();
        }
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        let task = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.abort();
        }
    }
}

/// Holds it only while it works, never while it sleeps: a reload drops the old one.
async fn maintain<T: Fetched>(of: Weak<T>) {
    let mut failures = 0;
    loop {
        let Some(this) = of.upgrade() else { return };
        let outcome = Arc::clone(&this).fetch().await;
        let (name, ready) = (this.name().to_owned(), this.is_ready());
        drop(this);
        let pause = match outcome {
            Ok(good_for) => {
                tracing::debug!(target: "doorward::provider", provider = %name, "metadata and keys loaded");
                failures = 0;
                good_for
            }
            Err(e) => {
                tracing::warn!(target: "doorward::provider", provider = %name, kind = e.kind().as_str(), error = %e, "cannot load metadata and keys");
                let longest = if ready { BACKOFF_READY } else { BACKOFF_UNREADY };
                let pause = BACKOFF_FIRST.saturating_mul(1 << failures.min(10)).min(longest);
                failures += 1;
                pause
            }
        };
        // Many gateways that lost one provider at the same moment should not all come back at the same moment.
        tokio::time::sleep(pause.mul_f64(0.75 + 0.25 * fastrand::f64())).await;
    }
}
