//! How many connections there are, altogether and from each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
}

/// The counts.
#[derive(Debug, Default)]
pub struct Addresses(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_origin: HashMap<Origin, usize>,
}

/// A connection's place among all; given back when it is dropped.
#[derive(Debug)]
pub struct Place(Arc<Addresses>);

/// A connection's place among those of its origin; given back when it is dropped.
#[derive(Debug)]
pub struct OriginPlace(Option<(Arc<Addresses>, Origin)>);

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

    /// One more connection from `origin`, unless it has `most` already. No origin, no limit.
    pub fn take_from(self: &Arc<Self>, origin: Option<Origin>, most: usize) -> Option<OriginPlace> {
        let Some(origin) = origin else {
            return Some(OriginPlace(None));
        };
        let mut counts = self.counts();
        let count = counts.by_origin.entry(origin).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(OriginPlace(Some((self.clone(), origin))))
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
        let Some((addresses, origin)) = &self.0 else {
            return;
        };
        let mut counts = addresses.counts();
        if let Some(count) = counts.by_origin.get_mut(origin) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.by_origin.remove(origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let first = addresses.take_from(a, 1).unwrap();
        assert!(addresses.take_from(a, 1).is_none());
        assert!(addresses.take_from(b, 1).is_some());
        assert!(addresses.take_from(None, 0).is_some());
        drop(first);
        assert!(addresses.take_from(a, 1).is_some());
        assert!(addresses.counts().by_origin.is_empty());

        let place = addresses.take(1).unwrap();
        assert!(addresses.take(1).is_none());
        drop(place);
        assert_eq!(addresses.open(), 0);
    }
}
