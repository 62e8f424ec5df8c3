//! The Redis store: every replica of a site that names the same Redis or Valkey (one server, Sentinel or Cluster) shares
//! its sessions. What each part owns:
//!
//! - `connect`: how a connection is made, to whichever kind of servers;
//! - `keep`: one task that makes it, and makes it anew; the only one that waits for the network without a caller;
//! - `events`: what replicas tell each other, and the proof that it arrives;
//! - `scripts`: what must happen in one step on the server, and the names of keys;
//! - `lease`: a lease that is renewed;
//! - `fault`: what the server's errors mean here.
//!
//! DX-05: a call ends within the configured timeout, whatever the server does. Every fault is `Kind::StoreUnavailable`,
//! never an empty answer. Without a connection a call fails at once.

mod connect;
mod events;
mod fault;
mod keep;
mod lease;
mod scripts;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::{RedisError, RedisResult};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use super::{Entry, Event, Key, Listener, MAX_TAGGED, Record, Replaced};
use crate::clock;
use crate::config::settings;
use crate::crypto::random;
use crate::error::{Error, Kind, Result};
use connect::{Connection, Plan};
pub use lease::Lease;
use scripts::{Names, Script};

/// Calls that wait for an answer at one time; a server that stopped answering piles up no more (DX-05).
const MOST_CALLS: usize = 1_024;
/// How long a lease outlives a holder that died.
const LEASE: Duration = Duration::from_secs(5);

/// Cheap to clone. Its connections end with the last clone.
#[derive(Clone)]
pub struct Redis {
    shared: Arc<Shared>,
    _task: Arc<OwnTask>,
}

struct OwnTask(AbortHandle);

impl Drop for OwnTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What calls and the task that keeps the connection share.
struct Shared {
    control: Handle,
    link: watch::Sender<Link>,
    calls: Arc<Semaphore>,
    timeout: Duration,
    lease: Duration,
    names: Names,
    /// Events arrive.
    is_current: AtomicBool,
    /// There was a connection at least once.
    is_ready: AtomicBool,
}

/// The connection that calls use now.
#[derive(Clone)]
enum Link {
    /// The first one is being made: worth waiting for.
    Starting,
    Up {
        connection: Connection,
        number: u64,
    },
    Down(Arc<str>),
}

impl Redis {
    /// Whether `start` would find anything wrong.
    pub fn check(settings: &settings::Redis) -> Result<()> {
        Plan::new(settings).map(drop)
    }

    /// Returns at once and connects on `control`, where all of its work is done. `Kind::Internal` when the settings
    /// cannot be used (an unreadable CA).
    pub fn start(settings: &settings::Redis, control: Handle, listener: Arc<dyn Listener>) -> Result<Self> {
        Self::start_with(settings, control, listener, LEASE)
    }

    fn start_with(
        settings: &settings::Redis,
        control: Handle,
        listener: Arc<dyn Listener>,
        lease: Duration,
    ) -> Result<Self> {
        let plan = Plan::new(settings)?;
        let shared = Arc::new(Shared {
            control: control.clone(),
            link: watch::Sender::new(Link::Starting),
            calls: Arc::new(Semaphore::new(MOST_CALLS)),
            timeout: settings.timeout,
            lease,
            names: Names::new(&settings.key_prefix),
            is_current: AtomicBool::new(false),
            is_ready: AtomicBool::new(false),
        });
        let task = control.spawn(keep::keep(Arc::clone(&shared), plan, listener));
        Ok(Self { shared, _task: Arc::new(OwnTask(task.abort_handle())) })
    }

    pub async fn load(&self, key: &Key) -> Result<Option<Record>> {
        let command = scripts::load(&self.shared.names, key);
        let value = self.run(move |connection| connection.ask(command)).await?;
        scripts::record(&value)
    }

    pub async fn load_all(&self, keys: &[Key]) -> Result<Vec<(Key, Record)>> {
        let commands: Vec<_> = keys.iter().map(|key| scripts::load(&self.shared.names, key)).collect();
        // Sent together, and in a cluster each to its own node.
        let values = self.run(|connection| try_join_all(commands.into_iter().map(move |c| connection.clone().ask(c))));
        let mut found = Vec::new();
        for (key, value) in keys.iter().zip(values.await?) {
            found.extend(scripts::record(&value)?.map(|record| (*key, record)));
        }
        Ok(found)
    }

    pub async fn create(&self, entry: Entry) -> Result<()> {
        let tags = self.tag_commands(&entry);
        let command = scripts::create(&self.shared.names, &entry);
        // The record last: one that no tag leads to could not be ended by whoever looks for it there.
        let written = self.run(|connection| async move {
            try_join_all(tags.into_iter().map(|tag| connection.clone().ask(tag))).await?;
            connection.ask(command).await
        });
        written.await.map(drop)
    }

    pub async fn replace(&self, entry: Entry, known: u64) -> Result<Replaced> {
        let tags = self.tag_commands(&entry);
        let command = scripts::replace(&self.shared.names, &entry, known);
        let answer = self.run(|connection| async move {
            try_join_all(tags.into_iter().map(|tag| connection.clone().ask(tag))).await?;
            connection.ask(command).await
        });
        scripts::replaced(&answer.await?)
    }

    pub async fn touch(&self, key: &Key, seen_ms: u64, expires_ms: u64, keep: Duration) -> Result<bool> {
        let command = scripts::touch(&self.shared.names, key, seen_ms, scripts::ttl_ms(expires_ms, keep));
        self.yes_or_no(command).await
    }

    pub async fn remove(&self, key: &Key) -> Result<bool> {
        self.yes_or_no(scripts::remove(&self.shared.names, key)).await
    }

    pub async fn tagged(&self, tag: &Key) -> Result<Vec<Key>> {
        let command = scripts::tagged(&self.shared.names, tag, clock::unix_now_ms());
        let value = self.run(|connection| connection.ask(command)).await?;
        scripts::keys(&value)
    }

    pub async fn first(&self, mark: &Key, ttl: Duration) -> Result<bool> {
        let command = scripts::claim(&self.shared.names.mark(mark), "", ttl);
        let value = self.run(|connection| connection.ask(command)).await?;
        scripts::is_claimed(&value)
    }

    pub async fn is_marked(&self, mark: &Key) -> Result<bool> {
        self.yes_or_no(scripts::is_there(&self.shared.names.mark(mark))).await
    }

    pub async fn lease(&self, name: &Key) -> Result<Option<Lease>> {
        let key = self.shared.names.lease(name);
        let token = random::token();
        let command = scripts::claim(&key, &token, self.shared.lease);
        let value = self.run(|connection| connection.ask(command)).await?;
        Ok(scripts::is_claimed(&value)?.then(|| Lease::hold(self.clone(), key, token)))
    }

    pub async fn announce(&self, event: Event) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let payload = events::encode(event);
        let sent = self.run(|connection| async move {
            connection.publish(shared.names.events(), shared.names.events(), &payload).await
        });
        sent.await
    }

    pub fn is_current(&self) -> bool {
        self.shared.is_current.load(Ordering::Acquire)
    }

    pub fn is_ready(&self) -> bool {
        self.shared.is_ready.load(Ordering::Acquire)
    }

    /// Whether there is a connection now.
    #[cfg(test)]
    fn is_up(&self) -> bool {
        matches!(&*self.shared.link.borrow(), Link::Up { .. })
    }

    /// Tries what sessions need: reading, writing, a script, events. For `doorward check --connect`.
    pub async fn probe(&self) -> Result<()> {
        let key = random::bytes();
        let entry = Entry {
            key,
            record: Record::default(),
            tags: vec![random::bytes()],
            expires_ms: clock::unix_now_ms().saturating_add(1_000),
            keep: Duration::from_secs(1),
        };
        self.create(entry).await?;
        if self.load(&key).await?.is_none() {
            return Err(Error::new(Kind::StoreUnavailable, "what was written was not there to be read"));
        }
        self.remove(&key).await?;
        self.first(&key, Duration::from_secs(1)).await?;
        self.is_marked(&key).await?;
        if let Some(lease) = self.lease(&key).await? {
            lease.release().await;
        }
        let mut beats = tokio::time::interval(Duration::from_millis(20));
        let deadline = Instant::now() + self.shared.timeout.max(Duration::from_secs(2));
        while !self.is_current() {
            if Instant::now() >= deadline {
                let detail = "no events arrive: the user may need the right to channels (ACL: &doorward:*)";
                return Err(Error::new(Kind::StoreUnavailable, detail));
            }
            beats.tick().await;
        }
        Ok(())
    }

    fn tag_commands(&self, entry: &Entry) -> Vec<redis::Cmd> {
        let now_ms = clock::unix_now_ms();
        entry.tags.iter().map(|tag| scripts::tag(&self.shared.names, tag, entry, now_ms, MAX_TAGGED)).collect()
    }

    async fn yes_or_no(&self, command: redis::Cmd) -> Result<bool> {
        let value = self.run(|connection| connection.ask(command)).await?;
        scripts::is_one(&value)
    }

    async fn script(&self, script: Script, key: &str, arguments: &[&str]) -> Result<bool> {
        self.yes_or_no(script.on(key, arguments)).await
    }

    /// Does `work` on the control runtime: the connection lives there, and a caller who leaves must not cancel a write
    /// halfway.
    async fn run<T, W, F>(&self, work: W) -> Result<T>
    where
        W: FnOnce(Connection) -> F + Send + 'static,
        F: Future<Output = RedisResult<T>> + Send,
        T: Send + 'static,
    {
        let Ok(permit) = Arc::clone(&self.shared.calls).try_acquire_owned() else {
            return Err(Error::new(Kind::StoreUnavailable, "too many calls already wait for redis"));
        };
        let shared = Arc::clone(&self.shared);
        let task = self.shared.control.spawn(async move {
            let _permit = permit;
            shared.call(work).await
        });
        match task.await {
            Ok(result) => result,
            Err(error) => Err(Error::new(Kind::StoreUnavailable, "the call to redis was broken off").because(error)),
        }
    }
}

impl Shared {
    async fn call<T, W, F>(&self, work: W) -> Result<T>
    where
        W: FnOnce(Connection) -> F,
        F: Future<Output = RedisResult<T>>,
    {
        let deadline = Instant::now() + self.timeout;
        let late = |_| Error::new(Kind::StoreUnavailable, "redis did not answer within session.redis.timeout");
        let mut links = self.link.subscribe();
        let link = timeout_at(deadline, links.wait_for(|link| !matches!(link, Link::Starting))).await.map_err(late)?;
        let link = link.map(|link| link.clone()).unwrap_or(Link::Starting);
        match link {
            Link::Up { connection, number } => {
                let done = timeout_at(deadline, work(connection)).await.map_err(late)?;
                done.map_err(|error| self.fault(&error, number))
            }
            Link::Down(why) => Err(Error::new(Kind::StoreUnavailable, format!("redis is not reached: {why}"))),
            Link::Starting => Err(Error::new(Kind::StoreUnavailable, "redis is not reached yet")),
        }
    }

    /// What a fault means, for the caller and for connection `number`.
    fn fault(&self, error: &RedisError, number: u64) -> Error {
        let why = fault::text(error);
        if fault::breaks(error) {
            self.broken(number, &why);
        }
        Error::new(Kind::StoreUnavailable, format!("redis: {why}"))
    }

    /// Takes connection `number` out of use, unless another has taken its place already.
    fn broken(&self, number: u64, why: &str) {
        self.link.send_if_modified(|link| {
            let is_it = matches!(link, Link::Up { number: up, connection } if *up == number && !connection.heals());
            if is_it {
                self.is_current.store(false, Ordering::Release);
                *link = Link::Down(why.into());
            }
            is_it
        });
    }
}
