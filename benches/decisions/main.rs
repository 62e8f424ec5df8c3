//! What a decision for another proxy costs, next to a request that is proxied: see `benches/README.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod check;
#[path = "../hotpath/child.rs"]
mod child;
#[path = "../hotpath/load.rs"]
mod load;
#[path = "../hotpath/sign_in.rs"]
mod sign_in;
#[path = "../hotpath/upstream.rs"]
mod upstream;

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use check::Check;
use child::Child;
use load::{Load, TARGET, browser};
use tempfile::NamedTempFile;

struct Options {
    requests: usize,
    connections: usize,
    rounds: usize,
    /// The most that a decision may cost, in proxied requests.
    max: f64,
    callgrind: bool,
}

impl Options {
    fn read() -> Self {
        let mut options = Self { requests: 50_000, connections: 16, rounds: 5, max: 1.5, callgrind: false };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
            match argument.as_str() {
                // `cargo bench` adds this one.
                "--bench" => {}
                "--requests" => options.requests = value().parse().expect("a number"),
                "--connections" => options.connections = value().parse().expect("a number"),
                "--rounds" => options.rounds = value().parse().expect("a number"),
                "--max" => options.max = value().parse().expect("a number"),
                "--callgrind" => options.callgrind = true,
                other => panic!("unknown argument {other}: see benches/README.md"),
            }
        }
        options
    }
}

fn main() {
    let options = Options::read();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ratios = runtime.block_on(async {
        let upstream = upstream::start().await;
        let provider = sign_in::Provider::start().await;
        if options.callgrind {
            instructions(upstream, &provider).await
        } else {
            cpu_time(&options, upstream, &provider).await
        }
    });
    let dear: Vec<_> = Way::ALL.iter().zip(ratios).filter(|(_, ratio)| *ratio > options.max).collect();
    for (way, ratio) in &dear {
        eprintln!("{} costs {ratio:.2} proxied requests; at most {:.2} is wanted", way.name(), options.max);
    }
    if !dear.is_empty() {
        std::process::exit(1);
    }
}

/// How the decision about the browser's request is asked for. The first is no question, but the request itself.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Proxied,
    Auth,
    ExtAuthz,
    Check,
}

impl Way {
    const ALL: [Self; 4] = [Self::Proxied, Self::Auth, Self::ExtAuthz, Self::Check];

    fn name(self) -> &'static str {
        match self {
            Self::Proxied => "proxied",
            Self::Auth => "auth",
            Self::ExtAuthz => "ext_authz",
            Self::Check => "Check",
        }
    }
}

/// Rounds of each way in turn, over one Doorward; the medians of the rounds' ratios to the proxied requests.
async fn cpu_time(options: &Options, upstream: SocketAddr, provider: &sign_in::Provider) -> [f64; 4] {
    let subject = Subject::start(upstream, provider, false).await;
    for way in Way::ALL {
        subject.run(way, options.requests / 10, options.connections).await;
    }
    println!("µs of CPU time each, and the ratio to a proxied request");
    println!("{:>5}{}", "round", Way::ALL.map(|way| format!(" {:>12} {:>7}", way.name(), "ratio")).concat());
    let mut ratios: [Vec<f64>; 4] = Default::default();
    for round in 1..=options.rounds {
        let mut line = format!("{round:>5}");
        let mut proxied = f64::NAN;
        for (way, ratios) in Way::ALL.into_iter().zip(&mut ratios) {
            let before = subject.child.cpu_micros();
            subject.run(way, options.requests, options.connections).await;
            let cost = (subject.child.cpu_micros() - before) as f64 / options.requests as f64;
            if way == Way::Proxied {
                proxied = cost;
            }
            ratios.push(cost / proxied);
            line += &format!(" {cost:>12.2} {:>7.3}", cost / proxied);
        }
        println!("{line}");
    }
    let medians = ratios.map(|mut ratios| {
        ratios.sort_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    });
    println!("{:>5}{}", "", medians.map(|median| format!(" {:>12} {median:>7.3}", "median")).concat());
    medians
}

/// Instructions each, from the difference of a long and a short run under callgrind: start-up and sign-in cancel out.
async fn instructions(upstream: SocketAddr, provider: &sign_in::Provider) -> [f64; 4] {
    const SHORT: usize = 1_000;
    const LONG: usize = 11_000;
    let mut each = [0.0; 4];
    for (way, cost) in Way::ALL.into_iter().zip(&mut each) {
        let mut totals = [0; 2];
        for (total, requests) in totals.iter_mut().zip([SHORT, LONG]) {
            let subject = Subject::start(upstream, provider, true).await;
            // One at a time: how many Envoy sends at once is the load's doing.
            subject.run(way, requests, 1).await;
            *total = subject.child.instructions();
        }
        *cost = totals[1].saturating_sub(totals[0]) as f64 / (LONG - SHORT) as f64;
        println!("{:>10} {cost:>10.0} instructions each", way.name());
    }
    let ratios = each.map(|cost| cost / each[0]);
    let said = Way::ALL.iter().zip(ratios).map(|(way, ratio)| format!("{} {ratio:.3}", way.name()));
    println!("ratio to a proxied request: {}", said.collect::<Vec<_>>().join(", "));
    ratios
}

struct Subject {
    child: Child,
    /// Looked at now and then.
    _config: NamedTempFile,
    proxied: Load,
    auth: Load,
    ext_authz: Load,
    check: Check,
}

impl Subject {
    async fn start(upstream: SocketAddr, provider: &sign_in::Provider, callgrind: bool) -> Self {
        let (listen, grpc) = (free_address(), free_address());
        let config = configuration(provider, listen, grpc, upstream);
        let program = std::env::var_os("DOORWARD").unwrap_or_else(|| "target/release/doorward".into());
        let arguments = ["serve".into(), "--config".into(), config.path().display().to_string()];
        let child = Child::start(program.as_ref(), &arguments, listen, callgrind).await;
        let cookie = provider.sign_in(listen).await;
        let mut told = browser(listen, &cookie);
        told.push(("X-Forwarded-For", "203.0.113.7".into()));
        let mut ext_authz = told.clone();
        ext_authz.push(("X-Forwarded-Proto", "http".into()));
        told.push(("X-Original-URL", format!("http://{listen}{TARGET}")));
        told.push(("X-Original-Method", "GET".into()));
        Self {
            child,
            _config: config,
            proxied: Load::new(listen, &cookie),
            auth: Load::of(listen, "/oauth2/auth", &told, b"HTTP/1.1 202 "),
            ext_authz: Load::of(listen, &format!("/oauth2/ext_authz{TARGET}"), &ext_authz, b"HTTP/1.1 200 "),
            check: Check::new(grpc, listen, TARGET, &browser(listen, &cookie)),
        }
    }

    async fn run(&self, way: Way, requests: usize, connections: usize) -> Duration {
        match way {
            Way::Proxied => self.proxied.run(requests, connections).await,
            Way::Auth => self.auth.run(requests, connections).await,
            Way::ExtAuthz => self.ext_authz.run(requests, connections).await,
            Way::Check => self.check.run(requests, connections).await,
        }
    }
}

/// That of `hotpath` with one route, and proxies on this machine that may ask.
fn configuration(
    provider: &sign_in::Provider,
    listen: SocketAddr,
    grpc: SocketAddr,
    upstream: SocketAddr,
) -> NamedTempFile {
    let route = format!(
        "[[route]]\npath = \"/\"\nupstream = \"http://{upstream}\"\naccess = \"authenticated\"\nidentity = [\"x-forwarded\"]\n"
    );
    let routes = format!("[forward_auth]\ngrpc_listen = \"{grpc}\"\n{route}");
    let config = provider.configuration(listen, &routes, true);
    let text = std::fs::read_to_string(config.path()).unwrap();
    let text = text.replacen("[server]\n", "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n", 1);
    let mut trusting = NamedTempFile::with_suffix(".toml").unwrap();
    trusting.write_all(text.as_bytes()).unwrap();
    trusting
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
