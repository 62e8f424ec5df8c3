//! What only a real server shows: faults and recovery, leases that outlive their time, what is written in one step, TLS,
//! users. `several` has Sentinel and Cluster.

mod several;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::testing::settings;
use super::{LEASE, Redis};
use crate::clock;
use crate::config::settings::{self, RedisServers};
use crate::error::{Kind, Result};
use crate::secret::Secret;
use crate::store::testing::{Ear, Server, eventually};
use crate::store::{Entry, Event, Key, Record, Replaced};

const HOUR: Duration = Duration::from_secs(3600);
const KEY: Key = [1; 32];

fn entry(version: u64) -> Entry {
    let record = Record { value: "value".into(), card: "card".into(), version, seen_ms: 1 };
    Entry { key: KEY, record, tags: vec![[2; 32]], expires_ms: clock::unix_now_ms() + 3_600_000, keep: HOUR }
}

fn at(port: u16) -> settings::Redis {
    settings(RedisServers::One("127.0.0.1".to_owned(), port))
}

fn start(settings: &settings::Redis) -> (Redis, Arc<Ear>) {
    let ear = Arc::new(Ear::default());
    (Redis::start(settings, Handle::current(), ear.clone()).unwrap(), ear)
}

/// The call ends, and as what it should: an error that says the store is away.
async fn is_refused<T>(call: impl Future<Output = Result<T>>) -> String {
    let result = timeout(Duration::from_secs(10), call).await.expect("a call that does not end");
    let error = result.err().expect("an answer where there is none");
    assert_eq!(error.kind(), Kind::StoreUnavailable);
    error.to_string()
}

async fn current(redis: &Redis) {
    eventually("events arrive", async || redis.is_current()).await;
}

#[tokio::test]
async fn dx_05_a_server_that_dies_is_noticed_and_comes_back_without_us() {
    let Some(mut server) = Server::start(&[]) else { return };
    let (redis, ear) = start(&at(server.port));
    redis.create(entry(1)).await.unwrap();
    current(&redis).await;
    assert_eq!(ear.missed(), 1);
    server.kill();
    is_refused(redis.load(&KEY)).await;
    is_refused(redis.load_all(&[KEY])).await;
    is_refused(redis.create(entry(1))).await;
    is_refused(redis.replace(entry(2), 1)).await;
    is_refused(redis.touch(&KEY, 2, entry(1).expires_ms, HOUR)).await;
    is_refused(redis.remove(&KEY)).await;
    is_refused(redis.tagged(&[2; 32])).await;
    is_refused(redis.first(&KEY, HOUR)).await;
    is_refused(redis.lease(&KEY)).await;
    is_refused(redis.announce(Event::Ended(KEY))).await;
    assert!(!redis.is_current() && !redis.is_up() && redis.is_ready());
    eventually("the loss is told", async || ear.missed() == 2).await;
    server.restart();
    eventually("it works again", async || redis.create(entry(1)).await.is_ok()).await;
    current(&redis).await;
    assert_eq!(ear.missed(), 3);
    assert!(redis.load(&KEY).await.unwrap().is_some());
}

#[tokio::test]
async fn dx_05_a_server_that_hangs_costs_its_timeout_and_then_nothing() {
    let Some(server) = Server::start(&[]) else { return };
    let (redis, ear) = start(&settings::Redis { timeout: Duration::from_millis(200), ..at(server.port) });
    current(&redis).await;
    server.signal("-STOP");
    assert!(is_refused(redis.load(&KEY)).await.contains("did not answer"));
    eventually("the silence is noticed", async || !redis.is_current()).await;
    eventually("the connection is given up", async || !redis.is_up()).await;
    assert!(is_refused(redis.load(&KEY)).await.contains("not reached"));
    assert_eq!(ear.missed(), 2);
    server.signal("-CONT");
    eventually("it works again", async || redis.load(&KEY).await.is_ok()).await;
    current(&redis).await;
}

#[tokio::test]
async fn dx_05_calls_do_not_pile_up() {
    let Some(server) = Server::start(&[]) else { return };
    let (redis, _ear) = start(&at(server.port));
    current(&redis).await;
    server.signal("-STOP");
    let mut calls = JoinSet::new();
    for _ in 0..super::MOST_CALLS + 50 {
        let redis = redis.clone();
        calls.spawn(async move { is_refused(redis.load(&KEY)).await });
    }
    let refused = calls.join_all().await;
    assert_eq!(refused.iter().filter(|why| why.contains("too many")).count(), 50);
    server.signal("-CONT");
}

#[tokio::test]
async fn dx_05_a_server_that_accepts_and_never_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = at(listener.local_addr().unwrap().port());
    let (redis, _ear) = start(&settings::Redis { timeout: Duration::from_millis(100), ..settings });
    is_refused(redis.load(&KEY)).await;
    assert!(!redis.is_ready() && !redis.is_current());
}

#[tokio::test]
async fn dx_05_nobody_there() {
    let (redis, ear) = start(&at(crate::store::testing::free_port()));
    is_refused(redis.load(&KEY)).await;
    assert!(!redis.is_ready());
    assert_eq!(ear.missed(), 0);
}

#[tokio::test]
async fn dx_05_a_replica_and_a_full_server_refuse_writes() {
    let Some(server) = Server::start(&[]) else { return };
    let (redis, _ear) = start(&at(server.port));
    redis.create(entry(1)).await.unwrap();
    server.ask(&["config", "set", "maxmemory", "1"]);
    assert!(is_refused(redis.create(entry(1))).await.contains("OOM"));
    assert!(is_refused(redis.replace(entry(2), 1)).await.contains("OOM"));
    is_refused(redis.first(&KEY, HOUR)).await;
    server.ask(&["config", "set", "maxmemory", "0"]);
    // What was refused changed nothing.
    assert_eq!(redis.load(&KEY).await.unwrap(), Some(entry(1).record));

    server.ask(&["replicaof", "127.0.0.1", "1"]);
    assert!(is_refused(redis.create(entry(1))).await.contains("READONLY"));
    // It may be the master that another has replaced: the connection is made anew.
    eventually("it writes again", async || {
        server.ask(&["replicaof", "no", "one"]);
        redis.create(entry(1)).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn dx_05_what_is_no_record_is_an_error_and_not_an_absence() {
    let Some(server) = Server::start(&[]) else { return };
    let (redis, _ear) = start(&at(server.port));
    let name = redis.shared.names.record(&KEY);
    server.ask(&["set", &name, "x"]);
    is_refused(redis.load(&KEY)).await;
    is_refused(redis.load_all(&[KEY])).await;
    is_refused(redis.replace(entry(2), 1)).await;
    is_refused(redis.touch(&KEY, 2, entry(1).expires_ms, HOUR)).await;
    server.ask(&["del", &name]);
    server.ask(&["hset", &name, "v", "x", "c", "x", "n", "many", "t", "1"]);
    is_refused(redis.load(&KEY)).await;
    server.ask(&["hdel", &name, "n"]);
    is_refused(redis.load(&KEY)).await;
    server.ask(&["zadd", &redis.shared.names.tag(&KEY), "9999999999999", "short"]);
    is_refused(redis.tagged(&KEY)).await;
    // The connection is as good as before.
    assert!(redis.is_up());
    assert_eq!(redis.load(&[9; 32]).await.unwrap(), None);
}

#[tokio::test]
async fn dx_05_passwords_and_users() {
    let Some(server) = Server::start(&["--requirepass", "correct"]) else { return };
    let with = |user: Option<&str>, password: Option<&str>| {
        let user = user.map(str::to_owned);
        start(&settings::Redis { user, password: password.map(Secret::new), ..at(server.port) }).0
    };
    assert!(is_refused(with(None, None).load(&KEY)).await.contains("NOAUTH"));
    let why = is_refused(with(None, Some("hunter2")).load(&KEY)).await;
    assert!(why.contains("uthentication") && !why.contains("hunter2"), "{why}");
    with(None, Some("correct")).probe().await.unwrap();

    // What the operator is told to give the user, and no more.
    let document = include_str!("../../../docs/operating.md");
    let (_, rights) = document.split_once("&doorward:* -@all ").unwrap();
    let (rights, _) = rights.split_once("```").unwrap();
    let mut rule = vec!["-a", "correct", "acl", "setuser", "door", "on", ">pw", "~doorward:*", "-@all"];
    rule.extend(rights.split_whitespace());
    assert!(server.ask(&rule).contains("OK"));
    // Without the right to channels sessions work, and nothing of them is kept outside of the store.
    let redis = with(Some("door"), Some("pw"));
    redis.create(entry(1)).await.unwrap();
    assert!(redis.load(&KEY).await.unwrap().is_some());
    assert!(is_refused(redis.probe()).await.contains("channels"));
    assert!(!redis.is_current());
    rule.push("&doorward:*");
    server.ask(&rule);
    let redis = with(Some("door"), Some("pw"));
    redis.probe().await.unwrap();
    redis.lease(&KEY).await.unwrap().unwrap().release().await;
    assert_eq!(redis.replace(entry(2), 1).await.unwrap(), Replaced::Done);
    assert!(redis.touch(&KEY, 5, entry(1).expires_ms, HOUR).await.unwrap());
    assert_eq!(redis.tagged(&[2; 32]).await.unwrap(), [KEY]);
    assert_eq!(redis.load_all(&[KEY]).await.unwrap().len(), 1);
    assert!(redis.first(&KEY, HOUR).await.unwrap() && redis.is_marked(&KEY).await.unwrap());
    redis.announce(Event::Ended(KEY)).await.unwrap();
    assert!(redis.remove(&KEY).await.unwrap());
}

#[tokio::test]
async fn rf_01_a_lease_is_renewed_for_as_long_as_it_is_held() {
    let Some(server) = Server::start(&[]) else { return };
    let ear = Arc::new(Ear::default());
    let short = Duration::from_millis(150);
    let redis = Redis::start_with(&at(server.port), Handle::current(), ear, short).unwrap();
    let lease = redis.lease(&KEY).await.unwrap().unwrap();
    let name = redis.shared.names.lease(&KEY);
    // Several times its own length.
    let end = tokio::time::Instant::now() + short * 4;
    while tokio::time::Instant::now() < end {
        assert!(redis.lease(&KEY).await.unwrap().is_none());
        tokio::task::yield_now().await;
    }
    // Somebody else's is not renewed, and not released.
    server.ask(&["set", &name, "another", "px", "60000"]);
    lease.release().await;
    assert_eq!(server.ask(&["get", &name]), "another");
    server.ask(&["del", &name]);
    // A holder that dies does not renew: without us it ends by itself.
    let lost = redis.lease(&KEY).await.unwrap().unwrap();
    let milliseconds: u64 = server.ask(&["pttl", &name]).parse().unwrap();
    assert!(milliseconds <= 150);
    drop(lost);
    eventually("a dropped lease is free", async || redis.lease(&KEY).await.unwrap().is_some()).await;
    assert!(LEASE <= Duration::from_secs(10));
}

#[tokio::test]
async fn rf_17_a_record_is_written_in_one_step() {
    let Some(mut server) = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]) else { return };
    let (redis, _ear) = start(&at(server.port));
    redis.create(entry(1)).await.unwrap();
    // Writers are at it while the server is killed; every value says which version it belongs to.
    let writer = tokio::spawn({
        let redis = redis.clone();
        async move {
            let mut version = 1;
            loop {
                let record =
                    Record { value: format!("value {}", version + 1).into(), version: version + 1, ..entry(1).record };
                match redis.replace(Entry { record, ..entry(1) }, version).await {
                    Ok(Replaced::Done) => version += 1,
                    _ => return version,
                }
            }
        }
    });
    eventually("some are written", async || redis.load(&KEY).await.unwrap().is_some_and(|r| r.version > 20)).await;
    server.kill();
    let last = writer.await.unwrap();
    server.restart();
    eventually("it works again", async || redis.load(&KEY).await.is_ok()).await;
    let found = redis.load(&KEY).await.unwrap().unwrap();
    assert_eq!(found.value, format!("value {}", found.version));
    // The last answer may have been lost with the server, never what was answered.
    assert!(found.version == last || found.version == last + 1, "{} {last}", found.version);
    // It kept its end with it.
    let milliseconds: i64 = server.ask(&["pttl", &redis.shared.names.record(&KEY)]).parse().unwrap();
    assert!(milliseconds > 0);
}

#[tokio::test]
async fn what_is_kept_ends_by_itself() {
    let Some(server) = Server::start(&[]) else { return };
    let (redis, _ear) = start(&at(server.port));
    redis.create(entry(1)).await.unwrap();
    redis.create(Entry { key: [5; 32], expires_ms: clock::unix_now_ms() + 1_000, ..entry(1) }).await.unwrap();
    redis.first(&KEY, HOUR).await.unwrap();
    let _lease = redis.lease(&KEY).await.unwrap();
    for name in server.ask(&["keys", "*"]).lines() {
        assert!(name.starts_with("doorward:"), "{name}");
        assert!(server.ask(&["pttl", name]).parse::<i64>().unwrap() > 0, "{name} stays");
    }
    // A tag lives as long as its longest member, whoever came last.
    let left: i64 = server.ask(&["pttl", &redis.shared.names.tag(&[2; 32])]).parse().unwrap();
    assert!(left > 3_000_000, "{left}");
}

#[tokio::test]
async fn bl_04_events_reach_every_replica_and_garbage_none() {
    let Some(server) = Server::start(&[]) else { return };
    let ((one, own), (other, ear)) = (start(&at(server.port)), start(&at(server.port)));
    let stranger = start(&settings::Redis { key_prefix: "other:".to_owned(), ..at(server.port) });
    current(&one).await;
    current(&other).await;
    current(&stranger.0).await;
    let events = [Event::Changed(KEY), Event::Ended(KEY), Event::EndedBefore { tag: KEY, at_ms: u64::MAX }];
    server.ask(&["publish", "doorward:events", "garbage"]);
    for event in events {
        one.announce(event).await.unwrap();
    }
    eventually("events arrive", async || ear.heard() == events && own.heard() == events).await;
    assert!(stranger.1.heard().is_empty());
}

#[tokio::test]
async fn bl_04_a_subscription_that_is_lost_alone_is_noticed() {
    let Some(server) = Server::start(&[]) else { return };
    let (redis, ear) = start(&at(server.port));
    current(&redis).await;
    server.ask(&["client", "kill", "type", "pubsub"]);
    eventually("it is told twice more: at the loss and at the return", async || ear.missed() == 3).await;
    current(&redis).await;
    // Commands go on meanwhile.
    assert!(redis.is_up());
}

#[tokio::test]
async fn the_last_clone_ends_the_connections() {
    let Some(server) = Server::start(&[]) else { return };
    let (redis, _ear) = start(&at(server.port));
    current(&redis).await;
    let clone = redis.clone();
    drop(redis);
    assert!(clone.load(&KEY).await.unwrap().is_none());
    let clients = || server.ask(&["client", "list"]).lines().count();
    assert_eq!(clients(), 3);
    drop(clone);
    // Who asks is one.
    eventually("the connections end", async || clients() == 1).await;
}

#[tokio::test]
async fn tls_with_an_authority_of_ones_own() {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params.clone(), KeyPair::generate().unwrap()).unwrap();
    let other = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    std::fs::write(path("ca.pem"), ca.pem()).unwrap();
    std::fs::write(path("other.pem"), other.pem()).unwrap();
    std::fs::write(path("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
    let (cert, key, ca) = (path("cert.pem"), path("key.pem"), path("ca.pem"));
    let files = ["--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
    let Some(server) = Server::start(&[&["--tls-port", "{port}", "--tls-auth-clients", "no"][..], &files].concat())
    else {
        return;
    };
    let with = |host: &str, ca: &str| {
        let servers = RedisServers::One(host.to_owned(), server.port);
        settings::Redis { tls: true, ca: Some(path(ca).into()), ..settings(servers) }
    };
    start(&with("localhost", "ca.pem")).0.probe().await.unwrap();
    is_refused(start(&with("localhost", "other.pem")).0.load(&KEY)).await;
    // The certificate is not one for the address.
    is_refused(start(&with("127.0.0.1", "ca.pem")).0.load(&KEY)).await;
    for unusable in ["key.pem", "missing.pem"] {
        let error =
            Redis::start(&with("localhost", unusable), Handle::current(), Arc::new(Ear::default())).err().unwrap();
        assert_eq!(error.kind(), Kind::Internal);
    }
}

#[tokio::test]
async fn a_unix_socket_and_another_database() {
    let Some(server) = Server::start(&["--unixsocket", "{dir}/redis.sock"]) else { return };
    let servers = RedisServers::Unix(server.path("redis.sock"));
    start(&settings(servers)).0.probe().await.unwrap();
    let (redis, _ear) = start(&settings::Redis { database: 3, ..at(server.port) });
    redis.create(entry(1)).await.unwrap();
    assert_eq!(server.ask(&["-n", "3", "dbsize"]), "2");
}
