//! What must happen in one step on the server (RF-17), and the names of keys. Each script touches one key, so that a
//! cluster can run it, and is sent whole: no cache of scripts has to survive a failover.
//!
//! A record is a hash: `v` value, `c` card, `n` version, `t` when it was last used. A tag is a sorted set of record keys
//! by their absolute end.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use redis::{Cmd, FromRedisValue, Value, cmd, from_redis_value_ref};

use super::super::{Entry, Key, Record, Replaced};
use crate::clock;
use crate::error::{Error, Kind, Result};

/// The names of keys and channels.
pub(super) struct Names {
    prefix: String,
    events: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), events: format!("{prefix}events") }
    }

    fn of(&self, kind: char, key: &Key) -> String {
        format!("{}{kind}:{}", self.prefix, URL_SAFE_NO_PAD.encode(key))
    }

    pub(super) fn record(&self, key: &Key) -> String {
        self.of('s', key)
    }

    pub(super) fn tag(&self, tag: &Key) -> String {
        self.of('t', tag)
    }

    pub(super) fn mark(&self, mark: &Key) -> String {
        self.of('m', mark)
    }

    pub(super) fn lease(&self, name: &Key) -> String {
        self.of('l', name)
    }

    /// The channel that all replicas listen to.
    pub(super) fn events(&self) -> &str {
        &self.events
    }

    /// The channel that one replica hears itself on.
    pub(super) fn beat(&self, instance: &str) -> String {
        format!("{}beat:{instance}", self.prefix)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Script(&'static str);

impl Script {
    pub(super) fn on(self, key: &str, arguments: &[&str]) -> Cmd {
        let mut command = self.start(key);
        command.arg(arguments);
        command
    }

    fn start(self, key: &str) -> Cmd {
        let mut command = cmd("EVAL");
        command.arg(self.0).arg(1).arg(key);
        command
    }
}

// The first command of each is one that a full server refuses: it refuses all of the script, or nothing.
const CREATE: Script = Script(
    "redis.call('HSET', KEYS[1], 'v', ARGV[1], 'c', ARGV[2], 'n', ARGV[3], 't', ARGV[4])
     redis.call('PEXPIRE', KEYS[1], ARGV[5])
     return 1",
);

const REPLACE: Script = Script(
    "local there = redis.call('HMGET', KEYS[1], 'n', 't')
     if not there[1] then return 0 end
     if there[1] ~= ARGV[6] then return 2 end
     local seen = ARGV[4]
     if there[2] and tonumber(there[2]) > tonumber(seen) then seen = there[2] end
     redis.call('HSET', KEYS[1], 'v', ARGV[1], 'c', ARGV[2], 'n', ARGV[3], 't', seen)
     redis.call('PEXPIRE', KEYS[1], ARGV[5])
     return 1",
);

const TOUCH: Script = Script(
    "local seen = redis.call('HGET', KEYS[1], 't')
     if not seen then return 0 end
     if tonumber(ARGV[1]) > tonumber(seen) then redis.call('HSET', KEYS[1], 't', ARGV[1]) end
     redis.call('PEXPIRE', KEYS[1], ARGV[2])
     return 1",
);

/// Adds a key to a tag, lets go of what has ended and of the oldest beyond the limit, and keeps the tag as long as its
/// longest key.
const TAG: Script = Script(
    "redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
     redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[3])
     redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - ARGV[4])
     local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
     if last then redis.call('PEXPIRE', KEYS[1], string.format('%.0f', last - ARGV[3])) end
     return 1",
);

pub(super) const RENEW: Script = Script(
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
     return redis.call('PEXPIRE', KEYS[1], ARGV[2])",
);

pub(super) const RELEASE: Script = Script(
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
     return redis.call('DEL', KEYS[1])",
);

pub(super) fn load(names: &Names, key: &Key) -> Cmd {
    let mut command = cmd("HMGET");
    command.arg(names.record(key)).arg(&["v", "c", "n", "t"]);
    command
}

pub(super) fn create(names: &Names, entry: &Entry) -> Cmd {
    write(CREATE, names, entry)
}

pub(super) fn replace(names: &Names, entry: &Entry, known: u64) -> Cmd {
    let mut command = write(REPLACE, names, entry);
    command.arg(known);
    command
}

fn write(script: Script, names: &Names, entry: &Entry) -> Cmd {
    let record = &entry.record;
    let mut command = script.start(&names.record(&entry.key));
    command.arg(&*record.value).arg(&*record.card).arg(record.version).arg(record.seen_ms);
    command.arg(ttl_ms(entry.expires_ms, entry.keep));
    command
}

pub(super) fn touch(names: &Names, key: &Key, seen_ms: u64, ttl_ms: u64) -> Cmd {
    let mut command = TOUCH.start(&names.record(key));
    command.arg(seen_ms).arg(ttl_ms);
    command
}

pub(super) fn remove(names: &Names, key: &Key) -> Cmd {
    let mut command = cmd("DEL");
    command.arg(names.record(key));
    command
}

pub(super) fn tag(names: &Names, tag: &Key, entry: &Entry, now_ms: u64, most: usize) -> Cmd {
    let mut command = TAG.start(&names.tag(tag));
    command.arg(entry.expires_ms).arg(&entry.key).arg(now_ms).arg(most);
    command
}

pub(super) fn tagged(names: &Names, tag: &Key, now_ms: u64) -> Cmd {
    let mut command = cmd("ZREVRANGEBYSCORE");
    command.arg(names.tag(tag)).arg("+inf").arg(format!("({now_ms}"));
    command
}

/// Sets `key` unless it is there.
pub(super) fn claim(key: &str, value: &str, ttl: Duration) -> Cmd {
    let mut command = cmd("SET");
    command.arg(key).arg(value).arg("NX").arg("PX").arg(millis(ttl));
    command
}

pub(super) fn is_there(key: &str) -> Cmd {
    let mut command = cmd("EXISTS");
    command.arg(key);
    command
}

/// How long a record stays from now; the server knows no zero.
pub(super) fn ttl_ms(expires_ms: u64, keep: Duration) -> u64 {
    millis(keep.min(Duration::from_millis(expires_ms.saturating_sub(clock::unix_now_ms()))))
}

pub(super) fn millis(time: Duration) -> u64 {
    // A century: the server's own arithmetic must not overflow.
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).clamp(1, 3_155_760_000_000)
}

pub(super) fn record(value: &Value) -> Result<Option<Record>> {
    type Fields = (Option<Vec<u8>>, Option<Vec<u8>>, Option<u64>, Option<u64>);
    match read::<Fields>(value)? {
        (None, None, None, None) => Ok(None),
        (Some(value), Some(card), Some(version), Some(seen_ms)) => {
            Ok(Some(Record { value: Bytes::from(value), card: Bytes::from(card), version, seen_ms }))
        }
        _ => Err(strange()),
    }
}

pub(super) fn replaced(value: &Value) -> Result<Replaced> {
    match value {
        Value::Int(0) => Ok(Replaced::Gone),
        Value::Int(1) => Ok(Replaced::Done),
        Value::Int(2) => Ok(Replaced::Changed),
        _ => Err(strange()),
    }
}

pub(super) fn is_one(value: &Value) -> Result<bool> {
    match value {
        Value::Int(number) => Ok(*number == 1),
        _ => Err(strange()),
    }
}

pub(super) fn is_claimed(value: &Value) -> Result<bool> {
    match value {
        Value::Okay => Ok(true),
        Value::Nil => Ok(false),
        _ => Err(strange()),
    }
}

pub(super) fn keys(value: &Value) -> Result<Vec<Key>> {
    let members: Vec<Vec<u8>> = read(value)?;
    members.into_iter().map(|member| Key::try_from(member).map_err(|_| strange())).collect()
}

fn read<T: FromRedisValue>(value: &Value) -> Result<T> {
    from_redis_value_ref(value).map_err(|_| strange())
}

/// Somebody else's data under our names, or no Redis at all.
fn strange() -> Error {
    Error::new(
        Kind::StoreUnavailable,
        "redis answered what no record of Doorward is: is session.redis.key_prefix shared?",
    )
}
