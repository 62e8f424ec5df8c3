//! Which of several peers a request goes to. Knows numbers only: what makes a peer eligible is the caller's to say.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::settings::Balance;

pub(super) struct Balancer {
    balance: Balance,
    /// Whose turn it is.
    turn: AtomicUsize,
}

impl Balancer {
    pub(super) fn new(balance: Balance) -> Self {
        // Instances that start together do not all begin with the first.
        Self { balance, turn: AtomicUsize::new(fastrand::usize(..)) }
    }

    /// One of the `eligible` among `n`; `load` is what a peer has to do now.
    pub(super) fn pick(
        &self,
        n: usize,
        eligible: impl Fn(usize) -> bool,
        load: impl Fn(usize) -> usize,
    ) -> Option<usize> {
        match self.balance {
            Balance::LeastRequest => least(n, eligible, load),
            Balance::RoundRobin => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                (0..n).map(|step| turn.wrapping_add(step) % n).find(|peer| eligible(*peer))
            }
        }
    }
}

/// The less loaded of two that are drawn. That is nearly as even as the least loaded of all, and does not send everything
/// to one that has just come back.
fn least(n: usize, eligible: impl Fn(usize) -> bool, load: impl Fn(usize) -> usize) -> Option<usize> {
    let less = |one, other| if load(other) < load(one) { other } else { one };
    // PERF: nearly always all are eligible, and two looks are enough.
    if n > 1 {
        let (one, other) = two_of(n);
        if eligible(one) && eligible(other) {
            return Some(less(one, other));
        }
    }
    let among = || (0..n).filter(|peer| eligible(*peer));
    match among().count() {
        0 => None,
        1 => among().next(),
        count => {
            let (one, other) = two_of(count);
            // Another worker may have taken the place of one meanwhile.
            let first = among().nth(one)?;
            Some(among().nth(other).map_or(first, |second| less(first, second)))
        }
    }
}

/// Two different numbers below `n`, which is at least 2, in no order.
fn two_of(n: usize) -> (usize, usize) {
    let one = fastrand::usize(..n);
    let other = fastrand::usize(..n - 1);
    (one, if other >= one { other + 1 } else { other })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn in_turn_and_past_those_that_are_out() {
        let balancer = Balancer { balance: Balance::RoundRobin, turn: AtomicUsize::new(usize::MAX) };
        let picks = || balancer.pick(4, |peer| peer != 2, |_| 0).unwrap();
        let picked: Vec<usize> = (0..6).map(|_| picks()).collect();
        // The turn of the one that is out goes to the next.
        assert_eq!(picked, [3, 0, 1, 3, 3, 0]);
    }

    #[test]
    fn of_two_the_one_with_less_to_do() {
        let balancer = Balancer::new(Balance::LeastRequest);
        for _ in 0..50 {
            assert_eq!(balancer.pick(2, |_| true, |peer| peer), Some(0));
            assert_eq!(balancer.pick(3, |peer| peer != 0, |peer| 9 - peer), Some(2));
        }
    }

    #[test]
    fn equal_ones_share() {
        let balancer = Balancer::new(Balance::LeastRequest);
        let mut seen = [0; 5];
        for _ in 0..5_000 {
            seen[balancer.pick(5, |peer| peer != 4, |_| 7).unwrap()] += 1;
        }
        assert!(seen[4] == 0 && seen[..4].iter().all(|n| (900..1_600).contains(n)), "{seen:?}");
    }

    #[test]
    fn the_load_stays_even() {
        let balancer = Balancer::new(Balance::LeastRequest);
        let mut load = [0_usize; 8];
        for _ in 0..8_000 {
            let peer = balancer.pick(8, |_| true, |peer| load[peer]).unwrap();
            load[peer] += 1;
        }
        assert!(load.iter().all(|n| n.abs_diff(1_000) < 50), "{load:?}");
    }

    proptest! {
        #[test]
        fn only_eligible_ones_and_one_if_there_is_one(out in prop::collection::vec(any::<bool>(), 0..9), turns: bool) {
            let balance = if turns { Balance::RoundRobin } else { Balance::LeastRequest };
            let picked = Balancer::new(balance).pick(out.len(), |peer| !out[peer], |peer| peer);
            match picked {
                Some(peer) => prop_assert!(!out[peer]),
                None => prop_assert!(out.iter().all(|out| *out)),
            }
        }
    }
}
