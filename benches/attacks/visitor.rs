//! Somebody who means well: one request after another, over one connection for as long as it is kept.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::attack::Target;

/// Requests of a visit that an attack was too short for.
const LEAST: u64 = 50;

pub(crate) struct Visitor {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Visit>,
}

#[derive(Default)]
pub(crate) struct Visit {
    pub(crate) served: u64,
    /// Answers other than 200, and none at all.
    pub(crate) refused: u64,
    pub(crate) slowest: Duration,
}

impl Visitor {
    pub(crate) fn start(target: &Target) -> Self {
        let (stop, target) = (Arc::new(AtomicBool::new(false)), target.clone());
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut visit, mut stream) = (Visit::default(), None);
            while !stopped.load(Ordering::Relaxed) || visit.served + visit.refused < LEAST {
                let begun = Instant::now();
                let served = ask(&target, &mut stream).unwrap_or(false);
                visit.slowest = visit.slowest.max(begun.elapsed());
                if served {
                    visit.served += 1;
                } else {
                    visit.refused += 1;
                    stream = None;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            visit
        });
        Self { stop, thread }
    }

    pub(crate) fn stop(self) -> Visit {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn ask(target: &Target, stream: &mut Option<TcpStream>) -> std::io::Result<bool> {
    let mut open = match stream.take() {
        Some(stream) => stream,
        None => target.connect()?,
    };
    write!(open, "GET / HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\n\r\n", target.address, target.cookie)?;
    let mut reader = BufReader::new(open.try_clone()?);
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line)?;
    let fine = line.starts_with("HTTP/1.1 200");
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        length = line.strip_prefix("content-length: ").map_or(length, |l| l.parse().unwrap_or(0));
    }
    reader.read_exact(&mut vec![0; length])?;
    *stream = Some(open);
    Ok(fine)
}
