//! The connections that there are, altogether and from each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::config::Limits;

/// Origins of which something is remembered; some 200 bytes each. Those that are connected always
/// are.
const ORIGINS: usize = 65_536;

/// Whom per-address limits take for one: an IPv4 address, or the /64 of an IPv6 address, since
/// one household has that many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin(IpAddr);

impl Origin {
    /// Of somebody who connects from `ip`; none for this machine itself, which is exempt.
    pub fn of(ip: IpAddr) -> Option<Self> {
        match ip.to_canonical() {
            ip if ip.is_loopback() => None,
            IpAddr::V4(ip) => Some(Self(ip.into())),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                Some(Self(IpAddr::from([a, b, c, d, 0, 0, 0, 0])))
            }
        }
    }

    /// The address, or the first one of the /64.
    pub fn ip(&self) -> IpAddr {
        self.0
    }
}

/// The counts.
#[derive(Debug, Default)]
pub struct Addresses(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_origin: HashMap<Origin, Known>,
    number: u64,
}

/// What is known of an origin.
#[derive(Debug, Default)]
struct Known {
    open: Vec<(u64, CancellationToken)>,
    /// It outlives the connections: coming again gives nobody a new one.
    budget: Arc<Budget>,
    /// The number of the last connection that came.
    last: u64,
}

/// A connection's place among all; given back when it is dropped.
#[derive(Debug)]
pub struct Place(Arc<Addresses>);

/// A connection's place among those of its origin; given back when it is dropped.
#[derive(Debug)]
pub struct OriginPlace(Option<Taken>);

#[derive(Debug)]
struct Taken {
    addresses: Arc<Addresses>,
    origin: Origin,
    number: u64,
    budget: Arc<Budget>,
}

impl OriginPlace {
    /// What its origin may do; none: it is exempt.
    pub fn budget(&self) -> Option<&Arc<Budget>> {
        self.0.as_ref().map(|taken| &taken.budget)
    }
}

impl Addresses {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections there are.
    pub fn open(&self) -> usize {
        self.counts().all
    }

    /// One more connection, unless there are `most` already.
    pub fn take(self: &Arc<Self>, most: usize) -> Option<Place> {
        let mut counts = self.counts();
        if counts.all >= most {
            return None;
        }
        counts.all += 1;
        Some(Place(self.clone()))
    }

    /// One more connection from `origin`, unless it has as many as the limits allow. No origin, no
    /// limit. `closed` ends the connection.
    pub fn take_from(
        self: &Arc<Self>,
        origin: Option<Origin>,
        limits: &Limits,
        now: u64,
        closed: &CancellationToken,
    ) -> Option<OriginPlace> {
        let Some(origin) = origin else {
            return Some(OriginPlace(None));
        };
        let mut counts = self.counts();
        if counts.by_origin.len() >= ORIGINS && !counts.by_origin.contains_key(&origin) {
            counts.forget(limits, now);
        }
        counts.number += 1;
        let number = counts.number;
        let known = counts.by_origin.entry(origin).or_default();
        if known.open.len() >= limits.connections_per_address {
            return None;
        }
        known.open.push((number, closed.clone()));
        known.last = number;
        Some(OriginPlace(Some(Taken {
            addresses: self.clone(),
            origin,
            number,
            budget: known.budget.clone(),
        })))
    }

    /// Ends every connection from `origin`.
    pub fn disconnect(&self, origin: Origin) {
        let counts = self.counts();
        let known = counts.by_origin.get(&origin);
        for (_, closed) in known.iter().flat_map(|known| &known.open) {
            closed.cancel();
        }
    }
}

impl Counts {
    /// Makes room: origins without a connection whose budget is whole again go, and if those are
    /// not enough, of the others without a connection those that were here longest ago.
    fn forget(&mut self, limits: &Limits, now: u64) {
        self.by_origin
            .retain(|_, known| !known.open.is_empty() || !known.budget.is_whole(limits, now));
        let most = ORIGINS - ORIGINS / 8;
        let excess = self.by_origin.len().saturating_sub(most);
        if excess == 0 {
            return;
        }
        let idle = self
            .by_origin
            .values()
            .filter(|known| known.open.is_empty());
        let mut ages: Vec<u64> = idle.map(|known| known.last).collect();
        ages.sort_unstable();
        if let Some(&oldest_kept) = ages.get(excess).or(ages.last()) {
            self.by_origin
                .retain(|_, known| !known.open.is_empty() || known.last >= oldest_kept);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.0.counts();
        counts.all = counts.all.saturating_sub(1);
    }
}

impl Drop for OriginPlace {
    fn drop(&mut self) {
        let Some(taken) = &self.0 else { return };
        let mut counts = taken.addresses.counts();
        if let Some(known) = counts.by_origin.get_mut(&taken.origin) {
            known.open.retain(|(number, _)| *number != taken.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::config::Config;

    fn origin(text: &str) -> Option<Origin> {
        Origin::of(text.parse().unwrap())
    }

    #[test]
    fn a_household_is_one_and_this_machine_is_exempt() {
        assert_eq!(origin("2001:db8:1:2::3"), origin("2001:db8:1:2:ffff::9"));
        assert_ne!(origin("2001:db8:1:2::3"), origin("2001:db8:1:3::3"));
        assert_eq!(origin("::ffff:192.0.2.1"), origin("192.0.2.1"));
        assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
        for loopback in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(origin(loopback), None);
        }
    }

    #[test]
    fn places_are_limited_and_given_back() {
        let addresses = Arc::new(Addresses::default());
        let (a, b) = (origin("192.0.2.1"), origin("192.0.2.2"));
        let closed = CancellationToken::new();
        let limits = &Limits {
            connections_per_address: 1,
            ..Config::in_memory().limits
        };
        let take = |origin| addresses.take_from(origin, limits, 0, &closed);
        let first = take(a).unwrap();
        assert!(take(a).is_none());
        assert!(take(b).is_some());
        assert!(take(None).is_some() && take(None).is_some());
        addresses.disconnect(b.unwrap());
        assert!(!closed.is_cancelled());
        addresses.disconnect(a.unwrap());
        assert!(closed.is_cancelled());
        drop(first);
        assert!(take(a).is_some());

        let place = addresses.take(1).unwrap();
        assert!(addresses.take(1).is_none());
        drop(place);
        assert_eq!(addresses.open(), 0);
    }

    #[test]
    fn r_rate_1_what_is_known_of_addresses_is_bounded_and_survives_a_reconnection() {
        let addresses = Arc::new(Addresses::default());
        let limits = &Config::in_memory().limits;
        let rate = limits.events_per_address.unwrap();
        let closed = CancellationToken::new();
        let take = |number: u32| {
            let origin = Origin::of(Ipv4Addr::from(0x0a00_0000 + number).into());
            addresses.take_from(origin, limits, 100, &closed).unwrap()
        };
        let is_spent = |place: &OriginPlace| {
            let budget = place.budget().unwrap();
            (0..rate.burst).any(|_| budget.event(100, limits, 100).is_err())
        };
        // One who has used up everything comes again at once; one stays.
        assert!(!is_spent(&take(0)));
        assert!(is_spent(&take(0)));
        let stays = take(1);
        assert!(!is_spent(&stays));
        // Many come, use a little, and go.
        for number in 2..u32::try_from(ORIGINS).unwrap() * 2 {
            let place = take(number);
            place.budget().unwrap().event(100, limits, 100).unwrap();
            assert!(addresses.counts().by_origin.len() <= ORIGINS);
        }
        // Who was here longest ago is forgotten, and who is here is not: a second connection of
        // theirs finds what the first has used.
        assert!(!is_spent(&take(0)));
        assert!(is_spent(&take(1)));
        drop(stays);
    }
}
