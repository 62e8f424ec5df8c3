//! How many connections each client address has. It holds an entry for as long as there is a connection of it, so it is
//! never larger than the number of connections; it does not know what they are for.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shared by all workers. One lock: it is taken twice a connection, and only where there is a limit.
#[derive(Clone, Debug, Default)]
pub struct Crowd(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection's place.
#[derive(Debug)]
pub struct Place {
    crowd: Crowd,
    of: IpAddr,
}

impl Crowd {
    /// A place for one more connection of `address`; `None` = it has `most` already.
    pub fn enter(&self, address: IpAddr, most: usize) -> Option<Place> {
        // Nothing is kept of who has no place.
        if most == 0 {
            return None;
        }
        let of = network(address);
        let mut counts = self.counts();
        let count = counts.entry(of).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place { crowd: self.clone(), of })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.crowd.counts();
        if let Entry::Occupied(mut entry) = counts.entry(self.of) {
            match entry.get().saturating_sub(1) {
                0 => drop(entry.remove()),
                left => drop(entry.insert(left)),
            }
        }
    }
}

/// SECURITY: FX-12. A host has a whole /64 of IPv6 and may come from a new address of it each time.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fx_12_each_address_has_its_own_places_and_nothing_is_kept_of_who_left() {
        let crowd = Crowd::default();
        let [a, b]: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
        let mut places: Vec<Place> = (0..3).map(|_| crowd.enter(a, 3).unwrap()).collect();
        assert!(crowd.enter(a, 3).is_none());
        let other = crowd.enter(b, 3).unwrap();
        places.pop();
        places.push(crowd.enter(a, 3).unwrap());
        assert!(crowd.enter(a, 3).is_none());
        drop((places, other));
        assert!(crowd.enter(a, 0).is_none());
        assert!(crowd.counts().is_empty());
    }

    #[test]
    fn fx_12_the_addresses_of_one_ipv6_network_are_one_client() {
        let crowd = Crowd::default();
        let enter = |text: &str| crowd.enter(text.parse().unwrap(), 1);
        let _first = enter("2001:db8:1:2::1").unwrap();
        assert!(enter("2001:db8:1:2:ffff:ffff:ffff:ffff").is_none());
        assert!(enter("2001:db8:1:3::1").is_some());
    }
}
