//! The addresses of one host name: looked up when the first connection is made and then by whoever keeps them fresh, tried
//! in turn. A resolver that fails takes nothing away.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::Instant;

/// For how long an address that did not answer is tried after the others.
const AVOID: Duration = Duration::from_secs(10);
/// A resolver is not asked again sooner by requests, however many fail meanwhile.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Addresses {
    host: String,
    port: u16,
    /// The host is an address: there is nothing to look up.
    fixed: bool,
    known: Mutex<Known>,
    /// Counts the changes of `known`.
    generation: AtomicU32,
}

#[derive(Default)]
struct Known {
    /// In the resolver's order, and when each last failed. Empty = not looked up yet.
    all: Vec<(SocketAddr, Option<Instant>)>,
    turn: usize,
    /// When a look-up that somebody waited for last began, or failed.
    asked: Option<Instant>,
}

/// What a connection was made to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin {
    /// `None` = one that does not change.
    address: Option<SocketAddr>,
    generation: u32,
}

impl Addresses {
    pub(super) fn new(host: String, port: u16) -> Self {
        let fixed: Option<IpAddr> = host.parse().ok();
        let all = fixed.map(|ip| (SocketAddr::new(ip, port), None)).into_iter().collect();
        let known = Mutex::new(Known { all, turn: fastrand::usize(..), asked: None });
        Self { host, port, fixed: fixed.is_some(), known, generation: AtomicU32::new(0) }
    }

    pub(super) fn is_fixed(&self) -> bool {
        self.fixed
    }

    /// All of them, in the order in which to try them.
    pub(super) async fn in_turn(&self) -> io::Result<Vec<SocketAddr>> {
        if self.known().all.is_empty() {
            if self.was_asked() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the name was looked up in vain a moment ago"));
            }
            if let Err(error) = self.refresh().await {
                self.known().asked = Some(Instant::now());
                return Err(error);
            }
        }
        Ok(self.known().in_turn(Instant::now()))
    }

    /// The same as `refresh`, for a request that found nobody at the addresses that are known: not more often than `PAUSE`.
    pub(super) async fn refresh_seldom(&self) -> io::Result<bool> {
        if self.fixed || self.was_asked() {
            return Ok(false);
        }
        self.known().asked = Some(Instant::now());
        self.refresh().await
    }

    fn was_asked(&self) -> bool {
        self.known().asked.is_some_and(|asked| asked.elapsed() < PAUSE)
    }

    /// Looks the name up anew; true where its addresses are others now.
    pub(super) async fn refresh(&self) -> io::Result<bool> {
        if self.fixed {
            return Ok(false);
        }
        let found = lookup_host((self.host.as_str(), self.port)).await?.collect();
        Ok(self.found(found))
    }

    pub(super) fn found(&self, mut found: Vec<SocketAddr>) -> bool {
        let mut seen = Vec::with_capacity(found.len());
        found.retain(|address| {
            !seen.contains(address) && {
                seen.push(*address);
                true
            }
        });
        // A name that has lost its addresses is a resolver's mistake more often than an end.
        if found.is_empty() {
            return false;
        }
        let mut known = self.known();
        let failed = |address| known.all.iter().find(|(a, _)| a == address).and_then(|(_, failed)| *failed);
        let all: Vec<_> = found.iter().map(|address| (*address, failed(address))).collect();
        let is_known = |address| known.all.iter().any(|(a, _)| a == address);
        let changed = all.len() != known.all.len() || !found.iter().all(is_known);
        known.all = all;
        if changed {
            self.generation.fetch_add(1, Ordering::Release);
        }
        changed
    }

    pub(super) fn failed(&self, address: &SocketAddr) {
        if let Some((_, failed)) = self.known().all.iter_mut().find(|(a, _)| a == address) {
            *failed = Some(Instant::now());
        }
    }

    pub(super) fn origin(&self, address: Option<SocketAddr>) -> Origin {
        let address = address.filter(|_| !self.fixed);
        // One that went while the connection was made is found out at the next look.
        Origin { address, generation: self.generation.load(Ordering::Acquire).wrapping_sub(1) }
    }

    /// Whether the name still has the address that a connection was made to.
    pub(super) fn has(&self, origin: &mut Origin) -> bool {
        let Some(address) = origin.address else { return true };
        let generation = self.generation.load(Ordering::Acquire);
        if origin.generation != generation {
            if !self.known().all.iter().any(|(a, _)| *a == address) {
                return false;
            }
            origin.generation = generation;
        }
        true
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Of the family that the resolver puts first, each is first in turn; the other family keeps its place behind. Those
    /// that failed a moment ago come last.
    fn in_turn(&mut self, now: Instant) -> Vec<SocketAddr> {
        let Some((first, _)) = self.all.first() else { return Vec::new() };
        let v4 = first.is_ipv4();
        let (mut preferred, others): (Vec<_>, Vec<_>) = self.all.iter().partition(|(a, _)| a.is_ipv4() == v4);
        self.turn = self.turn.wrapping_add(1);
        let turn = self.turn % preferred.len().max(1);
        preferred.rotate_left(turn);
        let recently = |failed: &Option<Instant>| failed.is_some_and(|at| now.saturating_duration_since(at) < AVOID);
        let (late, soon): (Vec<_>, Vec<_>) =
            preferred.into_iter().chain(others).partition(|(_, failed)| recently(failed));
        soon.into_iter().chain(late).map(|(address, _)| address).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|a| a.parse().unwrap()).collect()
    }

    fn named(list: &[&str]) -> Addresses {
        let named = Addresses::new("app.test".into(), 80);
        assert!(named.found(addresses(list)));
        named
    }

    #[test]
    fn each_is_first_in_turn_within_its_family() {
        let named = named(&["[::1]:80", "[::2]:80", "10.0.0.1:80", "[::1]:80"]);
        let mut firsts = Vec::new();
        for _ in 0..4 {
            let order = named.known().in_turn(Instant::now());
            assert_eq!((order.len(), order[2]), (3, "10.0.0.1:80".parse().unwrap()));
            firsts.push(order[0]);
        }
        assert!(firsts[0] != firsts[1] && firsts[0] == firsts[2] && firsts[1] == firsts[3]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_failed_comes_last_for_a_while() {
        let named = named(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]);
        let bad = "10.0.0.2:80".parse().unwrap();
        named.failed(&bad);
        let last = || *named.known().in_turn(Instant::now()).last().unwrap();
        assert!((0..6).all(|_| last() == bad));
        // What is looked up again is not forgotten.
        assert!(!named.found(addresses(&["10.0.0.3:80", "10.0.0.2:80", "10.0.0.1:80"])));
        assert_eq!(last(), bad);
        tokio::time::advance(AVOID).await;
        assert!((0..6).any(|_| last() != bad));
    }

    #[test]
    fn a_connection_knows_whether_its_address_is_still_there() {
        let named = named(&["10.0.0.1:80", "10.0.0.2:80"]);
        let mut one = named.origin(Some("10.0.0.1:80".parse().unwrap()));
        let mut two = named.origin(Some("10.0.0.2:80".parse().unwrap()));
        assert!(named.has(&mut one) && named.has(&mut two));
        assert!(named.found(addresses(&["10.0.0.2:80", "10.0.0.3:80"])));
        assert!(!named.has(&mut one) && named.has(&mut two) && named.has(&mut two));
        assert!(!named.found(Vec::new()), "a name without addresses changes nothing");
        assert!(named.has(&mut two));
        let fixed = Addresses::new("::1".into(), 80);
        assert!(fixed.is_fixed() && fixed.has(&mut fixed.origin(Some("[::1]:80".parse().unwrap()))));
    }

    #[tokio::test]
    async fn a_resolver_that_fails_takes_nothing_away() {
        // A label that is too long for DNS, so that nobody has to be asked.
        let none = Addresses::new(format!("{}.test", "x".repeat(64)), 80);
        let text = |error: io::Error| error.to_string();
        let first = none.in_turn().await.map_err(text).unwrap_err();
        assert_ne!(none.in_turn().await.map_err(text).unwrap_err(), first, "nobody is asked again so soon");
        none.found(addresses(&["10.0.0.1:80"]));
        assert!(none.refresh().await.is_err());
        assert!(!none.refresh_seldom().await.unwrap());
        assert_eq!(none.in_turn().await.unwrap(), addresses(&["10.0.0.1:80"]));
    }
}
