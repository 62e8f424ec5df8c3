use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::*;

/// As many places as `free` says; whoever drops one frees it for the next.
struct Room {
    free: Mutex<usize>,
    queue: Queue<(), Place>,
}

struct Place(Arc<Room>);

impl Room {
    fn new(free: usize, limit: usize) -> Arc<Self> {
        Arc::new(Self { free: Mutex::new(free), queue: Queue::new(limit, Duration::from_secs(1)) })
    }

    fn take(self: &Arc<Self>) -> Option<Place> {
        let mut free = self.free.lock().unwrap();
        *free = free.checked_sub(1)?;
        Some(Place(Arc::clone(self)))
    }

    fn serve(self: &Arc<Self>) {
        if !self.queue.is_empty() {
            self.queue.serve(|()| self.take());
        }
    }

    async fn enter(self: Arc<Self>) -> Result<Place, NoPlace> {
        if self.queue.is_empty()
            && let Some(place) = self.take()
        {
            return Ok(place);
        }
        self.queue.wait((), || self.serve()).await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap() += 1;
        self.0.serve();
    }
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test(start_paused = true)]
async fn first_come_first_served() {
    let room = Room::new(1, 2);
    let place = Arc::clone(&room).enter().await.ok().unwrap();
    let (mut first, mut second) = (pin!(Arc::clone(&room).enter()), pin!(Arc::clone(&room).enter()));
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    assert_eq!(Arc::clone(&room).enter().await.err(), Some(NoPlace::Full));
    drop(place);
    assert!(poll(second.as_mut()).is_pending());
    let Poll::Ready(Ok(place)) = poll(first.as_mut()) else { panic!("the first is served") };
    // Whoever comes now does not overtake.
    let mut third = pin!(Arc::clone(&room).enter());
    assert!(poll(third.as_mut()).is_pending());
    drop(place);
    assert!(poll(third.as_mut()).is_pending() && poll(second.as_mut()).is_ready());
    assert!(poll(third.as_mut()).is_ready());
    assert_eq!((*room.free.lock().unwrap(), room.queue.len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_leaves_no_gap() {
    let room = Room::new(1, 2);
    let place = Arc::clone(&room).enter().await.ok().unwrap();
    let mut first = Box::pin(Arc::clone(&room).enter());
    let mut second = pin!(Arc::clone(&room).enter());
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    drop(first);
    assert_eq!(room.queue.len(), 1);
    let mut third = Box::pin(Arc::clone(&room).enter());
    assert!(poll(third.as_mut()).is_pending());
    drop(place);
    // Served, and gone before it knew: its place goes on to the next.
    let Poll::Ready(Ok(place)) = poll(second.as_mut()) else { panic!("the next is served") };
    drop(place);
    drop(third);
    assert_eq!((*room.free.lock().unwrap(), room.queue.len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_allowed() {
    let room = Room::new(1, 2);
    let _place = Arc::clone(&room).enter().await.ok().unwrap();
    let start = tokio::time::Instant::now();
    assert_eq!(Arc::clone(&room).enter().await.err(), Some(NoPlace::TooLate));
    assert_eq!((start.elapsed(), room.queue.len()), (Duration::from_secs(1), 0));
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_served_does_not_hold_up_the_rest() {
    let queue: Queue<u8, u8> = Queue::new(9, Duration::from_secs(1));
    let (mut one, mut two) = (pin!(queue.wait(1, || ())), pin!(queue.wait(2, || ())));
    assert!(poll(one.as_mut()).is_pending() && poll(two.as_mut()).is_pending());
    queue.serve(|wants| (*wants == 2).then_some(7));
    assert!(poll(one.as_mut()).is_pending());
    assert!(matches!(poll(two.as_mut()), Poll::Ready(Ok(7))));
}

/// Every place is used by one at a time, none is lost, and nobody waits for one that is free: over threads, with some
/// that go away at any moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_place_is_lost_between_threads() {
    let room = Arc::new(Room { free: Mutex::new(3), queue: Queue::new(usize::MAX, Duration::from_secs(60)) });
    let tasks: Vec<_> = (0..400)
        .map(|n| {
            let room = Arc::clone(&room);
            tokio::spawn(async move {
                for round in 0..20 {
                    let entering = Arc::clone(&room).enter();
                    if (n + round) % 3 == 0 {
                        // Away after one look.
                        tokio::select! {
                            biased;
                            place = entering => drop(place),
                            () = tokio::task::yield_now() => {}
                        }
                    } else {
                        let place = entering.await.unwrap_or_else(|why| panic!("no place within a minute: {why:?}"));
                        tokio::task::yield_now().await;
                        drop(place);
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!((*room.free.lock().unwrap(), room.queue.len()), (3, 0));
}
