//! What attacks on the protocol and on resources cost: memory before, during and after each, while somebody who means well
//! keeps being served. See `benches/README.md` and `docs/capacity.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod attack;
#[path = "../hotpath/child.rs"]
mod child;
mod frames;
#[path = "../hotpath/sign_in.rs"]
mod sign_in;
mod upstream;
mod visitor;

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use attack::{ATTACKS, Attack, Target};
use child::Child;
use visitor::Visitor;

/// Short, so that each attack is seen to end by them.
const LIMITS: &str =
    "header_timeout = \"3s\"\nbody_timeout = \"3s\"\nidle_timeout = \"4s\"\nwebsocket_idle_timeout = \"4s\"\n";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, listen] = arguments.as_slice()
        && role == "--upstream"
    {
        return upstream::run(listen.parse().unwrap());
    }
    let only = arguments.iter().skip_while(|a| *a != "--only").nth(1);
    doorward::net::files::connections();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (doorward, upstream, target) = runtime.block_on(start());
    // What is made once is there before the first look.
    Visitor::start(&target).stop();
    println!("{:<44} {:>26}   {:>26}", "", "MiB before, most, after", "a visitor: served, slowest");
    let mut failed = false;
    for attack in ATTACKS.iter().filter(|attack| only.is_none_or(|only| attack.name.contains(only.as_str()))) {
        failed |= !run(attack, &doorward, &target);
    }
    // Not left behind by the exit.
    drop((doorward, upstream));
    if failed {
        eprintln!("a visitor was not served");
        std::process::exit(1);
    }
}

async fn start() -> (Child, Child, Target) {
    let provider = Box::leak(Box::new(sign_in::Provider::start().await));
    let (upstream, listen, admin) = (free_address(), free_address(), free_address());
    let this = std::env::current_exe().unwrap();
    let behind = Child::start(&this, &["--upstream".into(), upstream.to_string()], upstream, false).await;
    let routes = format!(
        "[[route]]\npath = \"/\"\nupstream = \"http://{upstream}\"\naccess = \"authenticated\"\nidentity = [\"x-forwarded\"]\n\
         [server.limits]\n{LIMITS}[admin]\nlisten = \"{admin}\"\n"
    );
    let config = provider.configuration(listen, &routes, false);
    let program = std::env::var_os("DOORWARD").unwrap_or_else(|| "target/release/doorward".into());
    let arguments = ["serve".into(), "--config".into(), config.path().display().to_string()];
    let child = Child::start(program.as_ref(), &arguments, listen, false).await;
    let cookie = provider.sign_in(listen).await;
    (child, behind, Target { address: listen, admin, cookie })
}

/// Whether the visitor was served all the time.
fn run(attack: &Attack, doorward: &Child, target: &Target) -> bool {
    let before = settled(doorward);
    let visitor = Visitor::start(target);
    let watch = std::sync::atomic::AtomicBool::new(true);
    let most = std::thread::scope(|scope| {
        let most = scope.spawn(|| {
            let mut most = 0;
            while watch.load(std::sync::atomic::Ordering::Relaxed) {
                most = doorward.memory_kib().max(most);
                std::thread::sleep(Duration::from_millis(50));
            }
            most
        });
        let held = (attack.run)(target);
        // Until the limits have ended them all: none is let go from here.
        let patience = Instant::now() + Duration::from_secs(30);
        while target.connections() > 2 && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(100));
        }
        let left = target.connections();
        assert!(left <= 2, "{}: {left} connections are still held", attack.name);
        drop(held);
        watch.store(false, std::sync::atomic::Ordering::Relaxed);
        most.join().unwrap()
    });
    let visit = visitor.stop();
    let after = settled(doorward);
    let mib = |kib: u64| kib as f64 / 1024.0;
    println!(
        "{:<44} {:>8.1} {:>8.1} {:>8.1}   {:>11} {:>11.0} ms{}",
        attack.name,
        mib(before),
        mib(most),
        mib(after),
        visit.served,
        visit.slowest.as_secs_f64() * 1000.0,
        if visit.refused > 0 { format!("  {} refused", visit.refused) } else { String::new() }
    );
    visit.refused == 0 && visit.served > 0
}

/// Once it no longer changes.
fn settled(child: &Child) -> u64 {
    let mut last = child.memory_kib();
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(500));
        let now = child.memory_kib();
        if now.abs_diff(last) * 200 < last {
            return now;
        }
        last = now;
    }
    last
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
