//! A lease: one key with a random token, renewed for as long as it is held (RF-01). A holder that dies stops renewing,
//! and the server lets go of it.

use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::Redis;
use super::scripts::{self, RELEASE, RENEW};

pub struct Lease {
    redis: Redis,
    key: String,
    token: String,
    renewal: AbortHandle,
    is_held: bool,
}

impl Lease {
    pub(super) fn hold(redis: Redis, key: String, token: String) -> Self {
        let renewal = redis.shared.control.spawn(renew(redis.clone(), key.clone(), token.clone())).abort_handle();
        Self { redis, key, token, renewal, is_held: true }
    }

    /// A failure only means that it ends by itself a little later.
    pub async fn release(mut self) {
        self.is_held = false;
        self.renewal.abort();
        let _ = self.redis.script(RELEASE, &self.key, &[&self.token]).await;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
        if self.is_held {
            let (redis, key, token) = (self.redis.clone(), self.key.clone(), self.token.clone());
            self.redis.shared.control.spawn(async move {
                let _ = redis.script(RELEASE, &key, &[&token]).await;
            });
        }
    }
}

async fn renew(redis: Redis, key: String, token: String) {
    let length = redis.shared.lease;
    let milliseconds = scripts::millis(length).to_string();
    let mut renewed = Instant::now();
    loop {
        sleep(length / 3).await;
        let asked = Instant::now();
        match redis.script(RENEW, &key, &[&token, &milliseconds]).await {
            Ok(true) => renewed = asked,
            // It ended before: somebody else may hold it now.
            Ok(false) => return,
            Err(_) if renewed.elapsed() > length => return,
            Err(_) => {}
        }
    }
}
