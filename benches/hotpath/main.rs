//! What Doorward costs a request beyond a bare proxy: see `benches/README.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bare_proxy;
mod child;
mod load;
mod routes;
mod sign_in;
mod upstream;

use std::net::{SocketAddr, TcpListener};

use child::Child;
use load::Load;
use routes::Size;
use tempfile::NamedTempFile;

struct Options {
    requests: usize,
    connections: usize,
    rounds: usize,
    max: f64,
    callgrind: bool,
    access_log: bool,
    /// What stands in the first place.
    against: Against,
    /// Of the Doorward in the second place.
    size: Size,
}

enum Against {
    BareProxy,
    /// Doorward with one route and no rules: what their number costs.
    OneRoute,
    /// The bare proxy in both places: measures the measurement.
    Itself,
}

impl Options {
    fn read() -> Self {
        let mut options = Self {
            requests: 100_000,
            connections: 16,
            rounds: 3,
            max: 1.5,
            callgrind: false,
            access_log: true,
            against: Against::BareProxy,
            size: Size::ONE_ROUTE,
        };
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
                "--no-access-log" => options.access_log = false,
                "--self" => options.against = Against::Itself,
                "--against-one-route" => options.against = Against::OneRoute,
                "--routes" => options.size.routes = value().parse().expect("a number"),
                "--rules" => options.size.rules = value().parse().expect("a number"),
                other => panic!("unknown argument {other}: see benches/README.md"),
            }
        }
        options
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, listen, upstream] = arguments.as_slice()
        && role == "--bare-proxy"
    {
        bare_proxy::run(listen.parse().unwrap(), upstream.parse().unwrap());
        return;
    }
    let options = Options::read();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ratio = runtime.block_on(async {
        let upstream = upstream::start().await;
        let sign_in = sign_in::Provider::start().await;
        if options.callgrind {
            instructions(&options, upstream, &sign_in).await
        } else {
            cpu_time(&options, upstream, &sign_in).await
        }
    });
    if ratio > options.max {
        eprintln!("the second costs {ratio:.2} times the first; at most {:.2} is wanted", options.max);
        std::process::exit(1);
    }
}

/// Alternating rounds over both places; the median of the rounds' ratios of CPU time.
async fn cpu_time(options: &Options, upstream: SocketAddr, provider: &sign_in::Provider) -> f64 {
    let first = Subject::first(options, upstream, provider, false).await;
    let second = Subject::second(options, upstream, provider, false).await;
    for subject in [&first, &second] {
        subject.load.run(options.requests / 10, options.connections).await;
    }
    println!("{:>5} {:>12} {:>12} {:>12} {:>12} {:>7}", "round", "first req/s", "µs/req", "second", "µs/req", "ratio");
    let mut ratios = Vec::new();
    for round in 1..=options.rounds {
        let (first_rate, first_cost) = first.measure(options).await;
        let (rate, cost) = second.measure(options).await;
        ratios.push(cost / first_cost);
        let ratio = cost / first_cost;
        println!("{round:>5} {first_rate:>12.0} {first_cost:>12.2} {rate:>12.0} {cost:>12.2} {ratio:>7.3}");
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    println!("median ratio {median:.3}");
    median
}

/// Instructions a request, from the difference of a long and a short run under callgrind: start-up and sign-in cancel out.
async fn instructions(options: &Options, upstream: SocketAddr, provider: &sign_in::Provider) -> f64 {
    // So far apart that the few million by which two starts differ, with a thousand routes to read, are nothing.
    const SHORT: usize = 1_000;
    const LONG: usize = 21_000;
    let mut each = [0.0; 2];
    for (which, cost) in each.iter_mut().enumerate() {
        let mut totals = [0; 2];
        for (total, requests) in totals.iter_mut().zip([SHORT, LONG]) {
            let subject = match which {
                0 => Subject::first(options, upstream, provider, true).await,
                _ => Subject::second(options, upstream, provider, true).await,
            };
            subject.load.run(requests, 1).await;
            *total = subject.child.instructions();
        }
        *cost = totals[1].saturating_sub(totals[0]) as f64 / (LONG - SHORT) as f64;
    }
    let [first, second] = each;
    println!("instructions/request: first {first:.0}, second {second:.0}, ratio {:.3}", second / first);
    second / first
}

/// A proxy under measurement and the requests for it.
struct Subject {
    child: Child,
    load: Load,
    /// What Doorward was started with, and looks at again for reloads.
    _config: Option<NamedTempFile>,
}

impl Subject {
    async fn first(options: &Options, upstream: SocketAddr, provider: &sign_in::Provider, callgrind: bool) -> Self {
        match options.against {
            Against::BareProxy | Against::Itself => Self::bare(upstream, callgrind).await,
            Against::OneRoute => Self::doorward(options, Size::ONE_ROUTE, upstream, provider, callgrind).await,
        }
    }

    async fn second(options: &Options, upstream: SocketAddr, provider: &sign_in::Provider, callgrind: bool) -> Self {
        match options.against {
            Against::Itself => Self::bare(upstream, callgrind).await,
            Against::BareProxy | Against::OneRoute => {
                Self::doorward(options, options.size, upstream, provider, callgrind).await
            }
        }
    }

    async fn bare(upstream: SocketAddr, callgrind: bool) -> Self {
        let listen = free_address();
        let program = std::env::current_exe().unwrap();
        let arguments = ["--bare-proxy".into(), listen.to_string(), upstream.to_string()];
        let child = Child::start(&program, &arguments, listen, callgrind).await;
        Self { child, load: Load::new(listen, "doorward=not-looked-at"), _config: None }
    }

    async fn doorward(
        options: &Options,
        size: Size,
        upstream: SocketAddr,
        provider: &sign_in::Provider,
        callgrind: bool,
    ) -> Self {
        let listen = free_address();
        let routes = size.routes(upstream);
        let config = provider.configuration(listen, &routes, options.access_log);
        let program = std::env::var_os("DOORWARD").unwrap_or_else(|| "target/release/doorward".into());
        let arguments = ["serve".into(), "--config".into(), config.path().display().to_string()];
        let child = Child::start(program.as_ref(), &arguments, listen, callgrind).await;
        let cookie = provider.sign_in(listen).await;
        Self { child, load: Load::new(listen, &cookie), _config: Some(config) }
    }

    /// Requests a second, and microseconds of CPU time a request.
    async fn measure(&self, options: &Options) -> (f64, f64) {
        let before = self.child.cpu_micros();
        let took = self.load.run(options.requests, options.connections).await;
        let spent = self.child.cpu_micros() - before;
        (options.requests as f64 / took.as_secs_f64(), spent as f64 / options.requests as f64)
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
