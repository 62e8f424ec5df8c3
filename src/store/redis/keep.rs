//! Keeps the connection: makes it, listens, and makes both anew when either is lost. Says so once, not once a retry.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::connect::Plan;
use super::{Link, Listener, Shared, events, fault};

/// For making a connection: longer than for a call, since nobody waits for it.
const CONNECT: Duration = Duration::from_secs(3);
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A connection that lived this long was a good one: the next is tried soon.
const GOOD: Duration = Duration::from_secs(2);

pub(super) async fn keep(shared: Arc<Shared>, plan: Plan, listener: Arc<dyn Listener>) {
    let mut pause = SHORTEST_PAUSE;
    let mut report = Report::default();
    for number in 0.. {
        let began = Instant::now();
        let why = match timeout(CONNECT, plan.connect()).await {
            Ok(Ok(connection)) => {
                shared.is_ready.store(true, Ordering::Release);
                shared.link.send_replace(Link::Up { connection, number });
                events::follow(&shared, &plan, &*listener, number, &mut report).await
            }
            Ok(Err(error)) => shared.down(fault::text(&error)),
            Err(_) => shared.down("no answer to the connection".to_owned()),
        };
        report.lost(&why, matches!(&*shared.link.borrow(), Link::Up { .. }));
        if began.elapsed() > GOOD + CONNECT {
            pause = SHORTEST_PAUSE;
        }
        // Replicas that lost the same server do not come back in step.
        sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

impl Shared {
    fn down(&self, why: String) -> String {
        self.link.send_replace(Link::Down(why.as_str().into()));
        why
    }
}

/// What was said last.
#[derive(Default)]
pub(super) struct Report {
    is_well: Option<bool>,
}

impl Report {
    fn lost(&mut self, why: &str, is_up: bool) {
        if self.is_well.replace(false) == Some(false) {
            tracing::debug!(why, "redis is still not well");
        } else if is_up {
            tracing::warn!(why, "the events of redis do not arrive: every request reads its session from redis");
        } else {
            tracing::warn!(why, "redis is not reached: requests with a session get 503 until it is");
        }
    }

    pub(super) fn well(&mut self) {
        if self.is_well.replace(true) != Some(true) {
            tracing::info!("redis is reached, and its events arrive");
        }
    }
}
