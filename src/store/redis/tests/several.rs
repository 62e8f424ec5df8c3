//! Sentinel and Cluster: a failover, a node that comes and goes.

use std::time::Duration;

use super::{HOUR, KEY, current, entry, start};
use crate::config::settings::{self, RedisServers};
use crate::store::redis::testing::settings;
use crate::store::testing::{Server, eventually, free_port};
use crate::store::{Entry, Event, Key, Record, Replaced};

fn here(server: &Server) -> (String, u16) {
    ("127.0.0.1".to_owned(), server.port)
}

#[tokio::test]
async fn dx_05_sentinel_names_the_new_master_after_a_failover() {
    let Some(mut master) = Server::start(&["--repl-diskless-sync-delay", "0"]) else { return };
    let port = master.port.to_string();
    let replica = Server::start(&["--replicaof", "127.0.0.1", &port]).unwrap();
    eventually("the replica follows", async || replica.ask(&["info", "replication"]).contains("link_status:up")).await;
    let sentinels = [Server::sentinel(master.port), Server::sentinel(master.port)];
    for sentinel in &sentinels {
        let knows = || sentinel.ask(&["sentinel", "replicas", "main"]).contains(&replica.port.to_string());
        eventually("the sentinel knows the replica", async || knows()).await;
    }
    let servers = RedisServers::Sentinel { sentinels: sentinels.iter().map(here).collect(), master: "main".to_owned() };
    let (redis, ear) = start(&settings(servers));
    redis.create(entry(1)).await.unwrap();
    current(&redis).await;
    eventually("it is replicated", async || replica.ask(&["dbsize"]) == "2").await;

    master.kill();
    eventually("the loss is told", async || ear.missed() >= 2).await;
    eventually("the replica is written to", async || redis.replace(entry(2), 1).await.is_ok()).await;
    assert_eq!(redis.load(&KEY).await.unwrap().map(|r| r.version), Some(2));
    assert!(replica.ask(&["role"]).starts_with("master"));
    current(&redis).await;
    redis.announce(Event::Ended(KEY)).await.unwrap();
    eventually("events arrive", async || ear.heard() == [Event::Ended(KEY)]).await;
}

#[tokio::test]
async fn dx_05_a_cluster_loses_a_node_and_gets_it_back() {
    let bus: Vec<String> = (0..3).map(|_| free_port().to_string()).collect();
    let node = |bus: &String| {
        let cluster =
            ["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "500"];
        Server::start(&[&cluster[..], &["--cluster-port", bus, "--appendonly", "yes"]].concat())
    };
    let Some(mut nodes) = bus.iter().map(node).collect::<Option<Vec<_>>>() else { return };
    for (node, slots) in nodes.iter().zip([["0", "5460"], ["5461", "10922"], ["10923", "16383"]]) {
        assert_eq!(node.ask(&["cluster", "addslotsrange", slots[0], slots[1]]), "OK");
    }
    for node in nodes.iter().skip(1) {
        assert_eq!(node.ask(&["cluster", "meet", "127.0.0.1", &nodes[0].port.to_string(), &bus[0]]), "OK");
    }
    let is_well = |node: &Server| {
        let known = node.ask(&["cluster", "nodes"]);
        let all_linked = known.lines().count() == 3 && known.lines().all(|line| line.contains(" connected "));
        all_linked && node.ask(&["cluster", "info"]).contains("cluster_state:ok")
    };
    eventually("the cluster is made", async || nodes.iter().all(is_well)).await;

    let (redis, ear) = start(&settings(RedisServers::Cluster(nodes.iter().take(2).map(here).collect())));
    let keys: Vec<Key> = (0..60).map(|n| [n; 32]).collect();
    for key in &keys {
        redis.create(Entry { key: *key, ..entry(1) }).await.unwrap();
    }
    assert!(nodes.iter().all(|node| node.ask(&["dbsize"]).parse::<u32>().unwrap() > 5), "one node has all");
    assert_eq!(redis.load_all(&keys).await.unwrap().len(), 60);
    assert_eq!(redis.tagged(&[2; 32]).await.unwrap().len(), 60);
    assert_eq!(redis.replace(entry(2), 1).await.unwrap(), Replaced::Done);
    assert!(redis.touch(&KEY, 5, entry(1).expires_ms, HOUR).await.unwrap());
    assert!(redis.first(&KEY, HOUR).await.unwrap());
    redis.lease(&KEY).await.unwrap().unwrap().release().await;
    current(&redis).await;
    redis.announce(Event::Ended(KEY)).await.unwrap();
    eventually("its own event arrives", async || ear.heard() == [Event::Ended(KEY)]).await;
    // Another replica that listens at another node hears the same.
    let (other, other_ear) = start(&settings::Redis {
        timeout: Duration::from_secs(1),
        ..settings(RedisServers::Cluster(vec![here(&nodes[2])]))
    });
    current(&other).await;
    redis.announce(Event::Changed(KEY)).await.unwrap();
    // The event before may still have been on its way between the nodes.
    eventually("the other hears it", async || other_ear.heard().ends_with(&[Event::Changed(KEY)])).await;

    for node in &mut nodes {
        node.kill();
        // One of its keys, asked for alone: the others are answered.
        let mut asked = keys.iter().cycle();
        eventually("the missing third is an error", async || redis.load(asked.next().unwrap()).await.is_err()).await;
        node.restart();
        eventually("every key is there again", async || redis.load_all(&keys).await.is_ok_and(|all| all.len() == 60))
            .await;
        eventually("every key is written", async || {
            redis.create(Entry { record: Record { version: 9, ..entry(1).record }, ..entry(1) }).await.is_ok()
        })
        .await;
        current(&redis).await;
        current(&other).await;
    }
}
