//! Wall-clock time as the protocols count it. Deadlines and timeouts use tokio's monotonic clock instead; only what goes
//! into a token or a cookie is wall-clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01T00:00Z (a NumericDate of RFC 7519 §2, whole seconds).
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Milliseconds since 1970-01-01T00:00Z.
pub fn unix_now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
