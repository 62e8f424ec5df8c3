//! What a client may take while it sends a body: so many bytes, and so long without any. It counts and waits; what is
//! answered to whoever takes more is said by others.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::config::settings::Limits;
use crate::error::{Error, Kind};

/// `[server.limits]`, as far as it is about one body.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// 0 = any number.
    pub bytes: u64,
    /// While the client sends nothing.
    pub timeout: Duration,
}

/// Why a body ended before it was whole.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("the client broke off its request")]
    Client(#[source] hyper::Error),
    #[error("the client stopped within its request")]
    Stalled,
    #[error("the request is larger than it may be")]
    TooLarge,
}

/// How a body gets on, for whoever waits for the answer to it. It says more than the error that its end became on the way
/// through the upstream's protocol.
#[derive(Debug)]
pub struct Progress {
    start: Instant,
    /// When the last frame was taken, milliseconds since `start`.
    millis: AtomicU64,
    broken: AtomicU8,
    /// The next frame has been asked for, and the client has not sent it.
    waits: AtomicBool,
}

const WHOLE: u8 = 0;
const CLIENT: u8 = 1;
const STALLED: u8 = 2;
const TOO_LARGE: u8 = 3;

impl Allowance {
    pub fn of(limits: &Limits) -> Self {
        Self { bytes: limits.body_bytes, timeout: limits.body_timeout }
    }

    /// Whether a body that says how long it is may come.
    pub fn takes(&self, length: u64) -> bool {
        self.bytes == 0 || length <= self.bytes
    }
}

impl Progress {
    /// When the last frame was taken.
    pub(super) fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.millis.load(Ordering::Relaxed))
    }

    /// Why the body ended, where that is the client's fault.
    pub fn fault(&self) -> Option<Error> {
        match self.broken.load(Ordering::Relaxed) {
            CLIENT => Some(Error::new(Kind::BadRequest, "the client broke off its request")),
            STALLED => Some(Error::new(Kind::BodyTimeout, "the client stopped within its request")),
            TOO_LARGE => Some(Error::new(Kind::BodyTooLarge, "the request is larger than it may be")),
            _ => None,
        }
    }

    /// Whether it is the client who is waited for.
    pub(super) fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    fn moved(&self) {
        self.waits.store(false, Ordering::Relaxed);
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.millis.store(millis, Ordering::Relaxed);
    }
}

/// The watch over one body. Lives only where there is one.
pub(super) struct Upload {
    /// Bytes that may still come; `None` = any number.
    left: Option<u64>,
    timeout: Duration,
    /// Since when the client is waited for. Not while the upstream is: then nobody asks for the next frame.
    since: Option<Instant>,
    /// PERF: made at the first wait and set anew only when it has run out.
    timer: Option<Pin<Box<Sleep>>>,
    pub(super) progress: Arc<Progress>,
}

impl Upload {
    pub(super) fn new(allowance: Allowance) -> Self {
        let start = Instant::now();
        Self {
            left: (allowance.bytes > 0).then_some(allowance.bytes),
            timeout: allowance.timeout,
            since: None,
            timer: None,
            progress: Arc::new(Progress {
                start,
                millis: AtomicU64::new(0),
                broken: AtomicU8::new(WHOLE),
                waits: AtomicBool::new(false),
            }),
        }
    }

    /// A frame with so many bytes has come.
    pub(super) fn came(&mut self, bytes: usize) -> Result<(), Broken> {
        self.since = None;
        self.progress.moved();
        if let Some(left) = &mut self.left {
            let Some(rest) = left.checked_sub(bytes as u64) else { return Err(self.breaks(Broken::TooLarge)) };
            *left = rest;
        }
        Ok(())
    }

    /// No frame is there. `Ready` once that has gone on for too long.
    pub(super) fn waits(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        let since = *self.since.get_or_insert_with(Instant::now);
        self.progress.waits.store(true, Ordering::Relaxed);
        let due = since + self.timeout;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        // It was set for this wait or for one before, so it never ends too late.
        while timer.as_mut().poll(cx).is_ready() {
            if due <= Instant::now() {
                return Poll::Ready(self.breaks(Broken::Stalled));
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    }

    /// There is no more of it.
    pub(super) fn ended(&self) {
        self.progress.waits.store(false, Ordering::Relaxed);
    }

    pub(super) fn breaks(&self, broken: Broken) -> Broken {
        let why = match &broken {
            Broken::Client(_) => CLIENT,
            Broken::Stalled => STALLED,
            Broken::TooLarge => TOO_LARGE,
        };
        self.progress.broken.store(why, Ordering::Relaxed);
        broken
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn upload(bytes: u64) -> Upload {
        Upload::new(Allowance { bytes, timeout: Duration::from_secs(60) })
    }

    #[tokio::test(start_paused = true)]
    async fn fx_12_only_the_time_that_the_client_is_waited_for_counts() {
        let mut upload = upload(0);
        let begun = Instant::now();
        for _ in 0..3 {
            // The upstream takes its time: nobody asks.
            tokio::time::advance(Duration::from_secs(300)).await;
            let waited = tokio::time::timeout(Duration::from_secs(59), poll_fn(|cx| upload.waits(cx)));
            assert!(waited.await.is_err(), "not yet");
            upload.came(1).unwrap();
        }
        assert!(upload.progress.fault().is_none());
        let waiting = Instant::now();
        assert!(matches!(poll_fn(|cx| upload.waits(cx)).await, Broken::Stalled));
        assert_eq!(waiting.elapsed().as_secs(), 60);
        assert_eq!(upload.progress.fault().unwrap().kind(), Kind::BodyTimeout);
        assert!(upload.progress.last() > begun);
    }

    #[tokio::test(start_paused = true)]
    async fn h_15_a_body_is_counted_to_the_byte() {
        let mut upload = upload(10);
        upload.came(4).unwrap();
        upload.came(6).unwrap();
        upload.came(0).unwrap();
        assert!(upload.progress.fault().is_none());
        assert!(matches!(upload.came(1), Err(Broken::TooLarge)));
        assert_eq!(upload.progress.fault().unwrap().kind(), Kind::BodyTooLarge);
    }
}
