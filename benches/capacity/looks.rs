//! What it costs to find the session of a request: in the connection's memo, in hand, or opened anew.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use doorward::clock;
use doorward::gateway::conn::{Conn, Known, Open, Worker};
use doorward::gateway::site::Site as Asked;
use doorward::http::cookie::Found;
use doorward::http::origin::{Origin, Scheme};
use doorward::session::lookup::Lookup;
use doorward::session::manager::Sessions;
use doorward::telemetry::access::Sink;
use doorward::telemetry::metrics::Metrics;
use doorward::telemetry::writer::Writer;
use http::header::{COOKIE, HeaderMap, HeaderValue};
use tokio_util::task::TaskTracker;

use super::people::{HOST, Site};

/// Sessions that are looked for: few enough to be held in front of every store.
const SESSIONS: usize = 10_000;
/// Looks for what is in hand: they are quick, and the clock is coarse.
const ROUNDS: u32 = 10;
const MEMO_LOOKS: usize = 10_000_000;

pub(crate) async fn measure(site: &Site) {
    let mut browsers = Vec::with_capacity(SESSIONS);
    for n in 0..SESSIONS {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::try_from(site.sign_in(n).await).unwrap());
        browsers.push(headers);
    }
    let sessions = site.reloaded();
    let (cold, _, waited) = each(&sessions, &browsers).await;
    let mut held = 0.0;
    for _ in 0..ROUNDS {
        let (one, all, _) = each(&sessions, &browsers).await;
        assert!(all, "what was found once is in hand");
        held += one / f64::from(ROUNDS);
    }
    let memo = memo(&sessions, &browsers[0]).await;
    println!("  found in the connection's memo         {memo:>8.2} µs of CPU");
    println!("  found in hand                          {held:>8.2} µs of CPU, {:.0} times", held / memo);
    println!(
        "  opened, or asked of the store          {cold:>8.2} µs of CPU, {:.0} times; {waited:.0} µs of time",
        cold / memo
    );
}

/// Looks for all of them once: CPU time each, whether all were in hand, time each; both in microseconds.
async fn each(sessions: &Arc<Sessions>, browsers: &[HeaderMap]) -> (f64, bool, f64) {
    let (before, began) = (cpu_micros(), Instant::now());
    let mut in_hand = true;
    for headers in browsers {
        let found = Found::scan(headers, sessions.name());
        match sessions.find(&found, HOST, clock::unix_now_ms()).await.unwrap() {
            Lookup::Live(live) => in_hand &= live.cached,
            Lookup::Absent | Lookup::Refused => panic!("a session was not found"),
        }
    }
    let n = browsers.len() as f64;
    ((cpu_micros() - before) as f64 / n, in_hand, began.elapsed().as_micros() as f64 / n)
}

async fn memo(sessions: &Arc<Sessions>, headers: &HeaderMap) -> f64 {
    let found = Found::scan(headers, sessions.name());
    let Lookup::Live(live) = sessions.find(&found, HOST, clock::unix_now_ms()).await.unwrap() else {
        panic!("not found")
    };
    let metrics = Arc::new(Metrics::new(1));
    let sink = Sink::new(true, Writer::start().unwrap());
    let worker = Arc::new(Worker { index: 0, sink, tunnels: TaskTracker::new(), requests: Arc::default() });
    let open = Open::new(&Arc::new(AtomicUsize::new(0)), &metrics);
    let conn = Conn::new(IpAddr::V4(Ipv4Addr::LOCALHOST), None, worker, open);
    let asked = Arc::new(Asked {
        host: HOST.to_owned(),
        authority: HOST.to_owned(),
        origin: Origin::new(Scheme::Https, HOST, 443),
        forwarded_host: HeaderValue::from_static(HOST),
        forwarded_port: HeaderValue::from_static("443"),
        takes_raw: false,
        scheme: Scheme::Https,
    });
    let cookie = headers.get(COOKIE).unwrap();
    let epoch = sessions.state.epoch();
    let session = live.session;
    conn.keep(Known {
        cookie: cookie.clone(),
        session,
        rest: None,
        site: Arc::clone(&asked),
        epoch,
        until_ms: u64::MAX,
    });
    let before = cpu_micros();
    for _ in 0..MEMO_LOOKS {
        assert!(
            std::hint::black_box(conn.known(cookie, &asked, sessions.state.epoch(), clock::unix_now_ms())).is_some()
        );
    }
    (cpu_micros() - before) as f64 / MEMO_LOOKS as f64
}

/// User and system time of all threads of this process (proc(5): fields 14 and 15 of `stat`, in hundredths of a second).
fn cpu_micros() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap() * 10_000).sum()
}
