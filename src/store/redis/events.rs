//! What replicas tell each other, and the proof that it arrives: twice a second this replica publishes a beat by the
//! connection that commands use and waits for it on the one that listens. Only while beats arrive, and arrive in time, may
//! anything of a record be kept outside of the store (BL-04): a failover, a half-open connection or a server that lags
//! cannot hide an event for longer than that.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt as _;
use redis::Msg;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::connect::Plan;
use super::keep::Report;
use super::{Event, Key, Link, Listener, Shared, fault};
use crate::crypto::random;

const BEAT: Duration = Duration::from_millis(500);
/// Events may be late by as much before it counts as a loss.
const SILENCE: Duration = Duration::from_secs(2);
/// For the answer to a beat: a connection without one is dead.
const ANSWER: Duration = Duration::from_secs(2);
/// For subscribing; in a cluster by each node.
const SUBSCRIBE: Duration = Duration::from_secs(3);
const SUBSCRIBE_EACH: Duration = Duration::from_secs(1);
/// Beats in a row before the log says that all is well: a server that comes and goes does not fill it.
const STEADY: u32 = 3;

const VERSION: u8 = 1;
const CHANGED: u8 = 1;
const ENDED: u8 = 2;
const ENDED_BEFORE: u8 = 3;

/// Version, kind, key, and for `EndedBefore` the time, big-endian.
pub(super) fn encode(event: Event) -> Vec<u8> {
    let (kind, key, at_ms) = match event {
        Event::Changed(key) => (CHANGED, key, None),
        Event::Ended(key) => (ENDED, key, None),
        Event::EndedBefore { tag, at_ms } => (ENDED_BEFORE, tag, Some(at_ms)),
    };
    let mut out = vec![VERSION, kind];
    out.extend(key);
    out.extend(at_ms.into_iter().flat_map(u64::to_be_bytes));
    out
}

/// None: of another version, or not from Doorward.
fn decode(payload: &[u8]) -> Option<Event> {
    let (head, rest) = payload.split_first_chunk::<2>()?;
    let (key, rest) = rest.split_first_chunk::<{ size_of::<Key>() }>()?;
    match (head, rest) {
        ([VERSION, CHANGED], []) => Some(Event::Changed(*key)),
        ([VERSION, ENDED], []) => Some(Event::Ended(*key)),
        ([VERSION, ENDED_BEFORE], at_ms) => {
            Some(Event::EndedBefore { tag: *key, at_ms: u64::from_be_bytes(at_ms.try_into().ok()?) })
        }
        _ => None,
    }
}

/// Listens for as long as events arrive on connection `number`; returns why they no longer do.
pub(super) async fn follow(
    shared: &Arc<Shared>,
    plan: &Plan,
    listener: &dyn Listener,
    number: u64,
    report: &mut Report,
) -> String {
    let mut links = shared.link.subscribe();
    let mut ear = Ear { shared, listener, was_current: false };
    let is_gone = |link: &Link| !matches!(link, Link::Up { number: up, .. } if *up == number);
    let why = tokio::select! {
        link = links.wait_for(is_gone) => match link.as_deref() {
            Ok(Link::Down(why)) => why.to_string(),
            _ => "the connection is gone".to_owned(),
        },
        why = ear.listen(plan, number, report) => why,
    };
    ear.lost();
    why
}

struct Ear<'a> {
    shared: &'a Arc<Shared>,
    listener: &'a dyn Listener,
    was_current: bool,
}

impl Ear<'_> {
    async fn listen(&mut self, plan: &Plan, number: u64, report: &mut Report) -> String {
        let names = &self.shared.names;
        let own = names.beat(&URL_SAFE_NO_PAD.encode(random::bytes::<16>()));
        let subscribed = timeout(SUBSCRIBE, plan.subscribe(&[names.events(), &own], SUBSCRIBE_EACH)).await;
        let mut messages = match subscribed {
            Ok(Ok(heard)) => heard.into_on_message(),
            Ok(Err(error)) => return fault::text(&error),
            Err(_) => return "no answer to the subscription".to_owned(),
        };
        let began = Instant::now();
        // When the latest beat that has arrived was sent.
        let mut heard = began;
        let mut steady = 0;
        let failure = Arc::new(Mutex::new(None));
        let mut ticks = interval(BEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = messages.next() => {
                    let Some(message) = message else { return "the subscription ended".to_owned() };
                    if message.get_channel_name() != own {
                        self.hear(&message);
                    } else if let Some(sent) = time_of(&message, began) {
                        heard = heard.max(sent);
                        if heard.elapsed() < SILENCE {
                            self.current();
                            steady += 1;
                        }
                        if steady == STEADY {
                            report.well();
                        }
                    }
                }
                _ = ticks.tick() => self.beat(number, own.clone(), began, &failure),
                () = sleep_until(heard + SILENCE) => {
                    let failure = failure.lock().unwrap_or_else(PoisonError::into_inner).take();
                    return failure.unwrap_or_else(|| "events do not arrive".to_owned());
                }
            }
        }
    }

    fn hear(&self, message: &Msg) {
        match decode(message.get_payload_bytes()) {
            Some(event) => self.listener.heard(event),
            None => {
                // A newer replica may say what we do not understand: then nothing that is held here counts any more.
                tracing::debug!("redis brought an event that is none of this version");
                self.listener.missed();
            }
        }
    }

    fn current(&mut self) {
        if !self.was_current {
            self.was_current = true;
            // What was kept before the first beat may have missed events.
            self.listener.missed();
            self.shared.is_current.store(true, Ordering::Release);
        }
    }

    fn lost(&mut self) {
        self.shared.is_current.store(false, Ordering::Release);
        if self.was_current {
            self.was_current = false;
            self.listener.missed();
        }
    }

    /// In its own task: a beat that is not answered must not stop the listening, and outlives it to say that the
    /// connection is dead.
    fn beat(&self, number: u64, channel: String, began: Instant, failure: &Arc<Mutex<Option<String>>>) {
        let link = self.shared.link.borrow().clone();
        let Link::Up { connection, number: up } = link else { return };
        if up != number {
            return;
        }
        let shared = Arc::clone(self.shared);
        let failure = Arc::clone(failure);
        tokio::spawn(async move {
            let sent = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX).to_be_bytes();
            let why = match timeout(ANSWER, connection.publish(shared.names.events(), &channel, &sent)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => shared.fault(&error, number).detail().to_owned(),
                Err(_) => {
                    shared.broken(number, "no answer");
                    "no answer".to_owned()
                }
            };
            failure.lock().unwrap_or_else(PoisonError::into_inner).replace(why);
        });
    }
}

/// When a beat was sent.
fn time_of(message: &Msg, began: Instant) -> Option<Instant> {
    let sent = u64::from_be_bytes(message.get_payload_bytes().try_into().ok()?);
    began.checked_add(Duration::from_millis(sent)).filter(|sent| *sent <= Instant::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_as_they_cross_the_wire() {
        for (event, length) in [
            (Event::Changed([1; 32]), 34),
            (Event::Ended([2; 32]), 34),
            (Event::EndedBefore { tag: [3; 32], at_ms: 1_700_000_000_123 }, 42),
        ] {
            let payload = encode(event);
            assert_eq!((payload.len(), decode(&payload)), (length, Some(event)));
            for cut in 0..length {
                assert_eq!(decode(&payload[..cut]), None);
            }
            assert_eq!(decode(&[&payload[..], b"x"].concat()), None);
            assert_eq!(decode(&[&[VERSION + 1], &payload[1..]].concat()), None);
            assert_eq!(decode(&[&[VERSION, 9], &payload[2..]].concat()), None);
        }
    }
}
