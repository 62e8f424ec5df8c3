//! Single flight: however many ask at once, the work is done once, in a task of its own, and all of them get its outcome.
//! A caller that goes away neither stops the work nor holds up the others.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::watch;

pub(crate) struct Flight<T> {
    running: Mutex<Option<watch::Receiver<Option<T>>>>,
}

impl<T> Default for Flight<T> {
    fn default() -> Self {
        Self { running: Mutex::new(None) }
    }
}

impl<T: Clone + Send + Sync + 'static> Flight<T> {
    /// Joins the flight that is under way, else asks `start` for one and runs it on `runtime`. `start` decides with the
    /// lock held, so that of many callers exactly one starts; it must be quick.
    ///
    /// None where nothing was under way and `start` declined, or where the work ended without an outcome.
    pub(crate) async fn join<F>(&self, runtime: &Handle, start: impl FnOnce() -> Option<F>) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut outcome = self.receiver(runtime, start)?;
        let value = outcome.wait_for(Option::is_some).await.ok()?;
        value.clone()
    }

    fn receiver<F>(&self, runtime: &Handle, start: impl FnOnce() -> Option<F>) -> Option<watch::Receiver<Option<T>>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // A sender that is gone, with or without an outcome, has landed: the next caller starts anew.
        if let Some(flight) =
            running.as_ref().filter(|flight| flight.has_changed().is_ok() && flight.borrow().is_none())
        {
            return Some(flight.clone());
        }
        let work = start()?;
        let (sender, receiver) = watch::channel(None);
        *running = Some(receiver.clone());
        runtime.spawn(async move {
            let outcome = work.await;
            sender.send_replace(Some(outcome));
        });
        Some(receiver)
    }
}

/// One flight for each key, for as long as somebody waits for it.
pub(crate) struct Flights<K, T> {
    running: Mutex<HashMap<K, Arc<Flight<T>>>>,
}

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self { running: Mutex::default() }
    }
}

impl<K: Copy + Eq + Hash, T: Clone + Send + Sync + 'static> Flights<K, T> {
    /// See `Flight::join`. There are no more at once than requests that wait.
    pub(crate) async fn join<F>(&self, key: K, runtime: &Handle, start: impl FnOnce() -> Option<F>) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let flight = Arc::clone(self.running.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
        // A caller may go away while it waits: what it holds is let go of all the same.
        let seat = Seat { flights: self, key, flight };
        seat.flight.join(runtime, start).await
    }
}

struct Seat<'a, K: Eq + Hash, T> {
    flights: &'a Flights<K, T>,
    key: K,
    flight: Arc<Flight<T>>,
}

impl<K: Eq + Hash, T> Drop for Seat<'_, K, T> {
    fn drop(&mut self) {
        let mut running = self.flights.running.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's own, and this: with the lock held nobody can come to it.
        if Arc::strong_count(&self.flight) <= 2 {
            running.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn many_callers_one_run_and_a_dropped_caller_stops_nothing() {
        let flight: Arc<Flight<usize>> = Arc::default();
        let (runs, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let start = || {
            let (flight, runs, gate) = (flight.clone(), runs.clone(), gate.clone());
            tokio::spawn(async move {
                let work = || {
                    Some(async move {
                        let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
                        gate.acquire().await.unwrap().forget();
                        run
                    })
                };
                flight.join(&Handle::current(), work).await
            })
        };
        let first = start();
        while runs.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let others: Vec<_> = (0..50).map(|_| start()).collect();
        first.abort();
        tokio::task::yield_now().await;
        gate.add_permits(1);
        for other in others {
            assert_eq!(other.await.unwrap(), Some(1));
        }
        gate.add_permits(1);
        assert_eq!(start().await.unwrap(), Some(2), "the next one starts anew");
    }

    #[tokio::test]
    async fn work_that_panics_leaves_the_flight_usable() {
        let flight: Flight<usize> = Flight::default();
        let runtime = Handle::current();
        assert_eq!(flight.join(&runtime, || Some(async { panic!("broken") })).await, None);
        assert_eq!(flight.join(&runtime, || None::<std::future::Ready<usize>>).await, None);
        assert_eq!(flight.join(&runtime, || Some(async { 7 })).await, Some(7));
    }

    #[tokio::test]
    async fn one_flight_a_key_and_nothing_is_left_behind() {
        let flights: Arc<Flights<u8, u8>> = Arc::default();
        let gate = Arc::new(Semaphore::new(0));
        let ask = |key: u8| {
            let (flights, gate) = (flights.clone(), gate.clone());
            tokio::spawn(async move {
                let work = || {
                    Some(async move {
                        gate.acquire().await.unwrap().forget();
                        key
                    })
                };
                flights.join(key, &Handle::current(), work).await
            })
        };
        let all: Vec<_> = [1, 1, 1, 2].map(ask).into();
        let gone = ask(3);
        while flights.running.lock().unwrap().len() < 3 {
            tokio::task::yield_now().await;
        }
        gone.abort();
        let _ = gone.await;
        gate.add_permits(3);
        for (one, key) in all.into_iter().zip([1, 1, 1, 2]) {
            assert_eq!(one.await.unwrap(), Some(key));
        }
        assert!(flights.running.lock().unwrap().is_empty());
    }
}
