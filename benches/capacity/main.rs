//! What a session costs in each store, in memory and at each look: see `benches/README.md` and `docs/capacity.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod looks;
mod people;
mod redis_server;

use std::process::Command;

use doorward::config::settings::Store;
use people::Site;
use redis_server::RedisServer;

/// As the program has it: what memory a session takes depends on it.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Enough to fill what is held in front of the stores, whose size is fixed.
const FIRST: usize = 40_000;
/// What is measured: so many more.
const MORE: usize = 40_000;
const GIB: f64 = (1_u64 << 30) as f64;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(store) = arguments.iter().skip_while(|a| *a != "--store").nth(1) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(measure(store));
    }
    println!(
        "sessions with two JWTs of 900 bytes, a refresh token of 43 and five groups; {MORE} after {FIRST} others\n"
    );
    for store in ["cookie", "memory", "redis"] {
        // Each in a process of its own: what one leaves behind is not the other's.
        let status = Command::new(std::env::current_exe().unwrap()).args(["--store", store]).status().unwrap();
        assert!(status.success(), "{store} could not be measured");
    }
}

async fn measure(store: &str) {
    let server = (store == "redis").then(RedisServer::start);
    let site = Site::new(store, server.as_ref()).await;
    for n in 0..FIRST {
        site.sign_in(n).await;
    }
    let (before, kept) = (resident(), server.as_ref().map(RedisServer::used_memory));
    let mut wire = 0;
    for n in FIRST..FIRST + MORE {
        wire += site.sign_in(n).await.len();
    }
    let each = |bytes: u64| bytes as f64 / MORE as f64;
    let here = each(resident().saturating_sub(before));
    println!("{store}");
    println!("  in the Cookie header of each request   {:>8.0} bytes", wire as f64 / MORE as f64);
    println!("  memory of the process, each session    {here:>8.0} bytes");
    if site.store != Store::Redis {
        println!("  sessions a GiB                         {:>8.0}", GIB / here.max(1.0));
    }
    if let (Some(server), Some(kept)) = (&server, kept) {
        let there = each(server.used_memory().saturating_sub(kept));
        println!("  memory of redis, each session          {there:>8.0} bytes");
        println!("    of which the record                  {:>8.0} bytes", server.usage("doorward:s:*"));
        println!("      its value and card alone           {:>8.0} bytes", server.sealed());
        println!("    and each of its three indexes        {:>8.0} bytes", server.usage("doorward:t:*"));
        println!("  sessions a GiB of redis                {:>8.0}", GIB / there);
    }
    looks::measure(&site).await;
    println!();
}

/// The memory that this process holds, in bytes (proc(5): the second field of `statm`, in pages).
fn resident() -> u64 {
    const PAGE: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * PAGE
}
