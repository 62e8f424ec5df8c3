//! A future beside a busy one: of the wake-ups of their task nearly all are for the busy one.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// PERF: a timer and a watch take some hundred instructions and several locks to be asked again at each wake-up; this
/// asks one flag, which their own wake-up sets.
pub struct Seldom {
    bell: Arc<Bell>,
    /// Rings the bell.
    rope: Waker,
    /// Who hears it; the same as in the bell.
    task: Waker,
}

struct Bell {
    rung: AtomicBool,
    task: Mutex<Waker>,
}

impl Default for Seldom {
    fn default() -> Self {
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: Mutex::new(Waker::noop().clone()) });
        Self { rope: Waker::from(Arc::clone(&bell)), bell, task: Waker::noop().clone() }
    }
}

impl Seldom {
    /// Polls `future`, always the same one, if it has been woken since the last time, or never been polled.
    pub fn poll<F: Future>(&mut self, cx: &Context<'_>, future: Pin<&mut F>) -> Poll<F::Output> {
        // Before the flag is read: whoever rings after that wakes this task.
        if !self.task.will_wake(cx.waker()) {
            self.task.clone_from(cx.waker());
            self.bell.task.lock().unwrap_or_else(PoisonError::into_inner).clone_from(cx.waker());
        }
        if !self.bell.rung.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        self.bell.rung.swap(false, Ordering::AcqRel);
        future.poll(&mut Context::from_waker(&self.rope))
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::time::Duration;

    use tokio::sync::watch;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_asked_once_and_when_it_wakes() {
        let (send, mut receive) = watch::channel(0);
        let mut asked = 0;
        let got = {
            let mut seldom = Seldom::default();
            let mut inner = pin!(receive.wait_for(|n| *n == 2));
            let mut counted = pin!(poll_fn(|cx| {
                asked += 1;
                inner.as_mut().poll(cx).map(|n| *n.unwrap())
            }));
            let mut busy = pin!(async {
                for n in 0..20 {
                    sleep(Duration::from_millis(1)).await;
                    if n == 9 || n == 18 {
                        send.send_modify(|v| *v += 1);
                    }
                }
                std::future::pending::<()>().await;
            });
            poll_fn(|cx| {
                let _ = busy.as_mut().poll(cx);
                seldom.poll(cx, counted.as_mut())
            })
            .await
        };
        assert_eq!((got, asked), (2, 3), "at first, and at each of the two changes");
    }
}
