//! Whose turn it is, where all connections want the same few threads.
//!
//! A queue that takes whoever comes first serves whoever comes most: behind a flood, an honest
//! event waits for all of it. So the order is start-time fair queueing: each connection has a
//! [`Share`], which says until when, on a clock that runs with the work done, what it asked for so
//! far is paid, and the work that begins earliest on that clock is next. However much the others ask
//! for, each connection gets an even share, and whoever asks for less waits for nobody; where nobody
//! else wants anything, one gets everything.
//!
//! An even share is little where hundreds ask for all they can get. So a [`Gate`] keeps some of its
//! passes for short work of those who have used little lately, whatever their share.

mod gate;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use gate::{Errand, Gate};

use crate::usage::{Allowance, Usage};

/// What a connection may use and still be modest.
const MODEST: Allowance = Allowance {
    per_second: Duration::from_millis(10),
    burst: Duration::from_millis(20),
    at_first: Duration::ZERO,
};
/// How far somebody may be ahead on the clock for having asked for nothing, in microseconds of
/// work: room for a few requests at once, not for a flood that was saved up.
const CREDIT: u64 = 20_000;

/// What one connection has used of the threads that it shares with all others.
#[derive(Debug)]
pub struct Share(Mutex<Used>);

#[derive(Debug)]
struct Used {
    /// Until when all it asked for is paid, in microseconds of the line's clock; none at first.
    paid: Option<u64>,
    lately: Usage,
}

impl Default for Share {
    fn default() -> Self {
        Self(Mutex::new(Used {
            paid: None,
            lately: MODEST.begin(),
        }))
    }
}

impl Used {
    fn is_modest(&mut self) -> bool {
        // It sank while nothing was asked for.
        self.lately.add(Duration::ZERO, Instant::now(), &MODEST);
        self.lately.level() <= MODEST.burst
    }
}

impl Share {
    fn used(&self) -> MutexGuard<'_, Used> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has its owner pay for work that nobody reckoned with, in microseconds.
    pub fn charge(&self, cost: u64) {
        self.settle(0, cost);
    }

    /// What was reckoned with `cost` microseconds took `actual` ones.
    fn settle(&self, cost: u64, actual: u64) {
        let mut used = self.used();
        let difference = Duration::from_micros(actual.abs_diff(cost));
        match actual > cost {
            true => used.lately.add(difference, Instant::now(), &MODEST),
            false => used.lately.take_back(difference),
        }
        let settled = |paid: u64| paid.saturating_add(actual).saturating_sub(cost);
        used.paid = used.paid.map(settled);
    }
}

/// A place in a [`Line`]: when the work begins on the clock, then who came first.
pub type Place = (u64, u64);

/// Work that waits, in fair order.
#[derive(Debug)]
pub struct Line<T> {
    /// Of those who used little lately.
    modest: BTreeMap<Place, T>,
    /// Of the others.
    greedy: BTreeMap<Place, T>,
    /// Where the clock stands: when the work taken last began on it.
    now: u64,
    count: u64,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self {
            modest: BTreeMap::new(),
            greedy: BTreeMap::new(),
            now: 0,
            count: 0,
        }
    }
}

impl<T> Line<T> {
    /// Adds work that takes about `cost` microseconds and is paid from `share`. Only work that
    /// `is_short` may count as modest ([`Line::take_modest`]).
    pub fn join(&mut self, share: &Share, cost: u64, is_short: bool, work: T) -> Place {
        let mut used = share.used();
        let start = match used.paid {
            // Whoever has just come has saved nothing.
            None => self.now,
            Some(paid) => paid.max(self.now.saturating_sub(CREDIT)),
        };
        used.paid = Some(start.saturating_add(cost));
        let is_modest = used.is_modest();
        used.lately
            .add(Duration::from_micros(cost), Instant::now(), &MODEST);
        drop(used);
        self.count += 1;
        let place = (start, self.count);
        match is_short && is_modest {
            true => self.modest.insert(place, work),
            false => self.greedy.insert(place, work),
        };
        place
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.modest.is_empty() && self.greedy.is_empty()
    }

    /// Takes work back that nobody wants any more.
    pub fn leave(&mut self, place: &Place) -> Option<T> {
        self.modest
            .remove(place)
            .or_else(|| self.greedy.remove(place))
    }

    /// The next work, and whether it is short and of somebody who used little lately.
    pub fn take(&mut self) -> Option<(T, bool)> {
        let first = |waiting: &BTreeMap<Place, T>| waiting.first_key_value().map(|(at, _)| *at);
        let is_modest = match (first(&self.modest), first(&self.greedy)) {
            (Some(modest), Some(greedy)) => modest < greedy,
            (modest, _) => modest.is_some(),
        };
        Some((self.take_of(is_modest)?, is_modest))
    }

    /// The next work of those who used little lately.
    pub fn take_modest(&mut self) -> Option<T> {
        self.take_of(true)
    }

    fn take_of(&mut self, is_modest: bool) -> Option<T> {
        let waiting = match is_modest {
            true => &mut self.modest,
            false => &mut self.greedy,
        };
        let ((start, _), work) = waiting.pop_first()?;
        self.now = self.now.max(start);
        Some(work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// Somebody who has used more than is modest.
    pub(super) fn greedy() -> Arc<Share> {
        let share = Share::default();
        let much = Duration::from_secs(100);
        share.used().lately.add(much, Instant::now(), &MODEST);
        Arc::new(share)
    }

    /// Somebody who has been here for a while and used little.
    pub(super) fn modest() -> Arc<Share> {
        let share = Share::default();
        share.used().lately.take_back(MODEST.burst);
        Arc::new(share)
    }

    fn taken<T>(line: &mut Line<T>, count: usize) -> Vec<T> {
        std::iter::from_fn(|| Some(line.take()?.0))
            .take(count)
            .collect()
    }

    #[test]
    fn r_fair_1_whoever_uses_little_goes_before_a_flood() {
        let mut line = Line::default();
        let (flood, modest) = (greedy(), modest());
        line.join(&modest, 10, true, "modest");
        assert_eq!(line.take().map(|(who, _)| who), Some("modest"));
        for _ in 0..1_000 {
            line.join(&flood, 10, true, "flood");
        }
        assert_eq!(taken(&mut line, 100), ["flood"; 100]);
        line.join(&modest, 10, true, "modest");
        line.join(&modest, 10, true, "modest");
        assert_eq!(taken(&mut line, 3), ["modest", "modest", "flood"]);
        // A flood of its own makes it one of them.
        for _ in 0..3_000 {
            line.join(&modest, 10, true, "flood too");
        }
        assert!((1_900..2_100).contains(&line.modest.len()));
        let first = taken(&mut line, 1_000);
        let count = first.iter().filter(|who| **who == "flood").count();
        assert!((450..550).contains(&count), "{count}");
    }

    #[test]
    fn r_fair_1_floods_share_evenly_by_cost_and_each_keeps_its_order() {
        let mut line = Line::default();
        let (cheap, dear) = (greedy(), greedy());
        for at in 0..1_000 {
            line.join(&cheap, 1, true, ("cheap", at));
            line.join(&dear, 10, true, ("dear", at));
        }
        let taken = taken(&mut line, 550);
        let of = |name: &str| -> Vec<i32> {
            let of_that = taken.iter().filter(|(whose, _)| *whose == name);
            of_that.map(|(_, at)| *at).collect()
        };
        let cheap = of("cheap").len();
        assert!((495..=505).contains(&cheap), "{cheap}");
        assert!(of("cheap").is_sorted() && of("dear").is_sorted());
    }

    #[test]
    fn r_fair_1_whoever_comes_late_to_a_flood_waits_for_none_of_it() {
        let mut line = Line::default();
        let (early, late) = (greedy(), greedy());
        for at in 0..1_000 {
            line.join(&early, 10, true, ("early", at));
        }
        assert_eq!(taken(&mut line, 500).last(), Some(&("early", 499)));
        line.join(&late, 10, true, ("late", 0));
        assert!(taken(&mut line, 2).contains(&("late", 0)));
    }

    #[test]
    fn r_fair_1_whoever_has_just_come_or_rested_has_saved_up_little() {
        const COST: u64 = 1_000;
        let mut line = Line::default();
        let (rested, flood, new) = (greedy(), greedy(), greedy());
        line.join(&rested, COST, true, "rested");
        assert_eq!(line.take().map(|(who, _)| who), Some("rested"));
        for _ in 0..400 {
            line.join(&flood, COST, true, "flood");
        }
        assert_eq!(taken(&mut line, 100), ["flood"; 100]);
        for _ in 0..400 {
            line.join(&rested, COST, true, "rested");
            line.join(&new, COST, true, "new");
        }
        let first = taken(&mut line, 80);
        let count = |name: &str| first.iter().filter(|who| **who == name).count();
        // What the credit pays for, and then all three in turn.
        let credit = usize::try_from(CREDIT / COST).unwrap();
        assert!(
            (credit + 15..credit + 25).contains(&count("rested")),
            "{first:?}"
        );
        assert!((15..25).contains(&count("new")), "{first:?}");
        assert!((15..25).contains(&count("flood")), "{first:?}");
    }
}
