//! Requests under way in the whole process, and the answer to one too many: at once, and as cheaply as can be. It knows
//! nothing of who asks or for what.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

use super::body::Body;

/// PERF: on a cache line of its own: what lies beside it changes with every request too.
#[repr(align(128))]
pub struct Requests {
    under_way: AtomicUsize,
    /// How many the limit of open files is enough for.
    files: usize,
}

impl Default for Requests {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Requests {
    pub fn new(files: usize) -> Self {
        Self { under_way: AtomicUsize::new(0), files }
    }

    /// Counts one more; false = there are `most` already, and it was not counted.
    ///
    /// SECURITY: FX-21. Each may take a file for its upstream, and over HTTP/2 there are more of them than connections.
    ///
    /// PERF: one relaxed addition. A share for each worker would be free of that, and refuse while others have room.
    pub fn enter(&self, most: usize) -> bool {
        if self.under_way.fetch_add(1, Ordering::Relaxed) < most.min(self.files) {
            return true;
        }
        self.leave();
        false
    }

    /// What one that was let in has become, which outlives it.
    pub fn stay(&self) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
    }

    pub fn leave(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }
}

/// What one too many gets. Nothing is looked up, written to the access log or kept for it.
#[cold]
pub fn answer() -> Response<Body> {
    let mut response = Response::new(Body::bare(Bytes::new()));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fx_21_no_more_than_there_are_files_for() {
        let requests = Requests::new(2);
        assert!(requests.enter(9) && requests.enter(9) && !requests.enter(9));
        assert_eq!(requests.under_way(), 2);
    }

    #[test]
    fn h_15_one_too_many_is_not_counted() {
        let requests = Requests::default();
        assert!(requests.enter(2) && requests.enter(2) && !requests.enter(2) && !requests.enter(2));
        assert_eq!(requests.under_way(), 2);
        requests.leave();
        assert!(requests.enter(2) && !requests.enter(2));
        // A reload may allow fewer than there are.
        assert!(!requests.enter(1));
        assert_eq!(requests.under_way(), 2);
    }
}
