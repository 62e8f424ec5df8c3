//! What every backend promises (see the room's head), asked of each.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::memory::Memory;
use super::redis::Redis;
use super::testing::{Ear, Server, eventually};
use super::{Entry, Event, Key, MAX_TAGGED, Record, Replaced, Store};
use crate::clock;
use crate::config::settings;

const HOUR: Duration = Duration::from_secs(3600);

fn key(n: usize) -> Key {
    let mut key = [0xff; 32];
    key[..8].copy_from_slice(&n.to_be_bytes());
    key
}

fn entry(n: usize, version: u64) -> Entry {
    let value = Bytes::from(format!("value\0\r\n{n}.{version}"));
    Entry {
        key: key(n),
        record: Record { value, card: Bytes::from_static(b"\xffcard"), version, seen_ms: 1_000 },
        tags: Vec::new(),
        expires_ms: clock::unix_now_ms() + 3_600_000,
        keep: HOUR,
    }
}

fn memory() -> Store {
    Store::Memory(Memory::new(64 << 20))
}

fn redis(server: &Server) -> Store {
    let address = settings::RedisServers::One("127.0.0.1".to_owned(), server.port);
    let settings = super::redis::testing::settings(address);
    Store::Redis(Redis::start(&settings, Handle::current(), Arc::new(Ear::default())).unwrap())
}

/// Each promise as two tests, one a backend.
macro_rules! promises {
    ($($name:ident),+ $(,)?) => {
        mod of_memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::memory()).await;
            })+
        }
        mod of_redis {
            $(#[tokio::test]
            async fn $name() {
                if let Some(server) = super::Server::start(&[]) {
                    super::$name(super::redis(&server)).await;
                }
            })+
        }
    };
}

promises! {
    a_record_comes_back_whole,
    a_replace_wants_the_version_it_knew,
    of_many_replaces_at_once_one_is_done,
    what_was_removed_stays_removed,
    a_touch_moves_forward_and_keeps_longer,
    a_record_ends_by_keeping_and_by_its_absolute_end,
    many_records_come_in_their_order,
    tags_lead_to_the_newest_first,
    a_tag_is_bounded_and_the_newest_stay,
    a_mark_is_had_once,
    a_lease_has_one_holder,
    events_can_be_announced,
}

async fn a_record_comes_back_whole(store: Store) {
    assert_eq!(store.load(&key(1)).await.unwrap(), None);
    let first = entry(1, 1);
    store.create(first.clone()).await.unwrap();
    assert_eq!(store.load(&key(1)).await.unwrap(), Some(first.record));

    let large = Record { value: vec![7; 1 << 20].into(), version: u64::MAX, seen_ms: 5, ..Record::default() };
    store.create(Entry { record: large.clone(), ..entry(1, 1) }).await.unwrap();
    assert_eq!(store.load(&key(1)).await.unwrap(), Some(large));
    assert_eq!(store.load(&key(2)).await.unwrap(), None);
    assert!(store.is_ready());
}

async fn a_replace_wants_the_version_it_knew(store: Store) {
    assert_eq!(store.replace(entry(1, 2), 1).await.unwrap(), Replaced::Gone);
    assert_eq!(store.load(&key(1)).await.unwrap(), None);
    store.create(entry(1, 1)).await.unwrap();
    store.touch(&key(1), 9_000, entry(1, 1).expires_ms, HOUR).await.unwrap();
    assert_eq!(store.replace(entry(1, 2), 1).await.unwrap(), Replaced::Done);
    assert_eq!(store.replace(entry(1, 3), 1).await.unwrap(), Replaced::Changed);
    let found = store.load(&key(1)).await.unwrap().unwrap();
    // The later use is kept.
    assert_eq!(found, Record { seen_ms: 9_000, ..entry(1, 2).record });
}

async fn of_many_replaces_at_once_one_is_done(store: Store) {
    store.create(entry(1, 1)).await.unwrap();
    let mut tasks = JoinSet::new();
    for n in 0..50 {
        let store = store.clone();
        let record = Record { seen_ms: n, ..entry(1, 2).record };
        tasks.spawn(async move { store.replace(Entry { record, ..entry(1, 2) }, 1).await.unwrap() });
    }
    let outcomes = tasks.join_all().await;
    assert_eq!(outcomes.iter().filter(|o| **o == Replaced::Done).count(), 1);
    assert_eq!(outcomes.iter().filter(|o| **o == Replaced::Changed).count(), 49);
}

async fn what_was_removed_stays_removed(store: Store) {
    store.create(entry(1, 1)).await.unwrap();
    assert!(store.remove(&key(1)).await.unwrap());
    assert!(!store.remove(&key(1)).await.unwrap());
    assert!(!store.touch(&key(1), 2_000, entry(1, 1).expires_ms, HOUR).await.unwrap());
    assert_eq!(store.replace(entry(1, 2), 1).await.unwrap(), Replaced::Gone);
    assert_eq!(store.load(&key(1)).await.unwrap(), None);
}

async fn a_touch_moves_forward_and_keeps_longer(store: Store) {
    store.create(Entry { keep: Duration::from_secs(5), ..entry(1, 1) }).await.unwrap();
    let seen = async || store.load(&key(1)).await.unwrap().map(|record| record.seen_ms);
    assert!(store.touch(&key(1), 3_000, entry(1, 1).expires_ms, HOUR).await.unwrap());
    assert_eq!(seen().await, Some(3_000));
    assert!(store.touch(&key(1), 2_000, entry(1, 1).expires_ms, HOUR).await.unwrap());
    assert_eq!(seen().await, Some(3_000));
    // Its absolute end holds for a touch too.
    assert!(store.touch(&key(1), 4_000, clock::unix_now_ms() + 30, HOUR).await.unwrap());
    eventually("the record ends", async || seen().await.is_none()).await;
}

async fn a_record_ends_by_keeping_and_by_its_absolute_end(store: Store) {
    let now = clock::unix_now_ms();
    store.create(Entry { keep: Duration::from_millis(50), ..entry(1, 1) }).await.unwrap();
    store.create(Entry { expires_ms: now + 50, ..entry(2, 1) }).await.unwrap();
    store.create(Entry { expires_ms: now - 1, ..entry(3, 1) }).await.unwrap();
    store.create(entry(4, 1)).await.unwrap();
    for n in 1..=3 {
        eventually("the record ends", async || store.load(&key(n)).await.unwrap().is_none()).await;
    }
    assert!(store.load(&key(4)).await.unwrap().is_some());
}

async fn many_records_come_in_their_order(store: Store) {
    for n in [1, 2, 4] {
        store.create(entry(n, n as u64)).await.unwrap();
    }
    let found = store.load_all(&[key(4), key(3), key(1), key(2)]).await.unwrap();
    let order: Vec<(Key, u64)> = found.into_iter().map(|(key, record)| (key, record.version)).collect();
    assert_eq!(order, [(key(4), 4), (key(1), 1), (key(2), 2)]);
    assert!(store.load_all(&[]).await.unwrap().is_empty());
}

async fn tags_lead_to_the_newest_first(store: Store) {
    let (one, other) = (key(100), key(101));
    let now = clock::unix_now_ms();
    for n in 1..=3 {
        let tags = if n == 2 { vec![one, other] } else { vec![one] };
        store.create(Entry { tags, expires_ms: now + 60_000 + n as u64, ..entry(n, 1) }).await.unwrap();
    }
    assert_eq!(store.tagged(&one).await.unwrap(), [key(3), key(2), key(1)]);
    assert_eq!(store.tagged(&other).await.unwrap(), [key(2)]);
    assert!(store.tagged(&key(102)).await.unwrap().is_empty());
    // A replace adds, and takes nothing away.
    let renewed = Entry { tags: vec![other], expires_ms: now + 60_001, ..entry(1, 2) };
    assert_eq!(store.replace(renewed, 1).await.unwrap(), Replaced::Done);
    let mut both = store.tagged(&other).await.unwrap();
    both.sort_unstable();
    assert_eq!(both, [key(1), key(2)]);
    assert_eq!(store.tagged(&one).await.unwrap().len(), 3);
    // What a tag leads to and what is there are two things; a record that is gone is not loaded.
    store.remove(&key(3)).await.unwrap();
    let keys = store.tagged(&one).await.unwrap();
    assert_eq!(store.load_all(&keys).await.unwrap().len(), 2);
}

async fn a_tag_is_bounded_and_the_newest_stay(store: Store) {
    let tag = key(9_999);
    let now = clock::unix_now_ms();
    let last = MAX_TAGGED + 20;
    for n in 1..=last {
        store.create(Entry { tags: vec![tag], expires_ms: now + 60_000 + n as u64, ..entry(n, 1) }).await.unwrap();
    }
    let keys = store.tagged(&tag).await.unwrap();
    assert_eq!(keys.len(), MAX_TAGGED);
    assert_eq!((keys[0], keys[MAX_TAGGED - 1]), (key(last), key(last + 1 - MAX_TAGGED)));
    assert_eq!(store.load_all(&keys).await.unwrap().len(), MAX_TAGGED);
}

async fn a_mark_is_had_once(store: Store) {
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let store = store.clone();
        tasks.spawn(async move { store.first(&key(1), HOUR).await.unwrap() });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|first| *first).count(), 1);
    assert!(store.first(&key(2), Duration::from_millis(40)).await.unwrap());
    eventually("the mark ends", async || store.first(&key(2), HOUR).await.unwrap()).await;
    assert!(!store.first(&key(2), HOUR).await.unwrap());
    assert!(store.is_marked(&key(2)).await.unwrap() && !store.is_marked(&key(3)).await.unwrap());
    assert!(store.first(&key(3), HOUR).await.unwrap(), "asking marks nothing");
}

async fn a_lease_has_one_holder(store: Store) {
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let store = store.clone();
        tasks.spawn(async move { store.lease(&key(1)).await.unwrap() });
    }
    let mut held: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(held.len(), 1);
    held.remove(0).release().await;
    let again = store.lease(&key(1)).await.unwrap().expect("it was released");
    assert!(store.lease(&key(1)).await.unwrap().is_none());
    assert!(store.lease(&key(2)).await.unwrap().is_some());
    drop(again);
    eventually("a dropped lease is free", async || store.lease(&key(1)).await.unwrap().is_some()).await;
}

async fn events_can_be_announced(store: Store) {
    store.announce(Event::Ended(key(1))).await.unwrap();
    eventually("events arrive", async || store.is_current()).await;
}
