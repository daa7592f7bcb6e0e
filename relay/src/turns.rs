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
//! passes for those who have used little lately, whatever their share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::usage::{Allowance, Usage};

/// What a connection may use and still be modest.
const MODEST: Allowance = Allowance {
    per_second: Duration::from_millis(5),
    burst: Duration::from_millis(10),
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

impl Share {
    fn used(&self) -> MutexGuard<'_, Used> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_modest(&self) -> bool {
        self.used().lately.level() <= MODEST.burst
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
    /// Adds work that takes about `cost` microseconds and is paid from `share`.
    pub fn join(&mut self, share: &Share, cost: u64, work: T) -> Place {
        let mut used = share.used();
        let start = match used.paid {
            // Whoever has just come has saved nothing.
            None => self.now,
            Some(paid) => paid.max(self.now.saturating_sub(CREDIT)),
        };
        used.paid = Some(start.saturating_add(cost));
        let is_modest = used.lately.level() <= MODEST.burst;
        used.lately
            .add(Duration::from_micros(cost), Instant::now(), &MODEST);
        drop(used);
        self.count += 1;
        let place = (start, self.count);
        match is_modest {
            true => self.modest.insert(place, work),
            false => self.greedy.insert(place, work),
        };
        place
    }

    /// Takes work back that nobody wants any more.
    pub fn leave(&mut self, place: &Place) -> Option<T> {
        self.modest
            .remove(place)
            .or_else(|| self.greedy.remove(place))
    }

    /// The next work.
    pub fn take(&mut self) -> Option<T> {
        let first = |waiting: &BTreeMap<Place, T>| waiting.first_key_value().map(|(at, _)| *at);
        match (first(&self.modest), first(&self.greedy)) {
            (Some(modest), Some(greedy)) if greedy < modest => self.take_of(false),
            (Some(_), _) => self.take_of(true),
            (None, _) => self.take_of(false),
        }
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

/// Lets only so many work at the same time, in fair order. Some of the passes are kept for those
/// who use little, so that these need not even wait for a pass to come back.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<GateState>,
}

#[derive(Debug)]
struct GateState {
    line: Line<Waiting>,
    passes: usize,
    kept: usize,
}

#[derive(Debug)]
struct Waiting {
    share: Arc<Share>,
    is_modest: bool,
    reply: oneshot::Sender<Pass>,
}

/// Leave to work. It counts until it is dropped; then its owner has paid for the time.
#[derive(Debug)]
pub struct Pass {
    /// Whether its owner had used little lately, and should not be kept waiting.
    pub is_modest: bool,
    gate: Arc<Gate>,
    share: Arc<Share>,
    /// None while it is on its way to whoever waits.
    began: Option<Instant>,
}

/// What work is taken to cost until it has been done, in microseconds.
const GUESS: u64 = 500;

/// Takes its owner out of the line, should they stop waiting.
struct InLine<'g> {
    gate: &'g Gate,
    place: Place,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        // Dropped outside of the lock.
        let left = self.gate.state().line.leave(&self.place);
        if let Some(waiting) = left {
            waiting.share.settle(GUESS, 0);
        }
    }
}

impl Gate {
    /// At most `passes` at the same time, of which `kept` are for those who use little.
    pub fn new(passes: usize, kept: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(GateState {
                line: Line::default(),
                passes,
                kept,
            }),
        })
    }

    /// Waits for a turn.
    pub async fn enter(self: &Arc<Self>, share: &Arc<Share>) -> Pass {
        loop {
            let (reply, answer) = oneshot::channel();
            let waiting = Waiting {
                share: share.clone(),
                is_modest: share.is_modest(),
                reply,
            };
            let place = self.state().line.join(share, GUESS, waiting);
            let _in_line = InLine { gate: self, place };
            self.let_in();
            // A sender is dropped only by whoever stops waiting.
            if let Ok(mut pass) = answer.await {
                pass.began = Some(Instant::now());
                return pass;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands out the passes that there are.
    fn let_in(self: &Arc<Self>) {
        while let Some(waiting) = self.admit() {
            let pass = Pass {
                is_modest: waiting.is_modest,
                gate: self.clone(),
                share: waiting.share,
                began: None,
            };
            // Whoever left at this moment gives it back by not taking it.
            drop(waiting.reply.send(pass));
        }
    }

    fn admit(&self) -> Option<Waiting> {
        let mut state = self.state();
        let next = match state.passes {
            0 => None,
            passes if passes <= state.kept => state.line.take_modest(),
            _ => state.line.take(),
        };
        state.passes -= usize::from(next.is_some());
        next
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let took = self.began.map_or(Duration::ZERO, |began| began.elapsed());
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.share.settle(GUESS, micros);
        self.gate.state().passes += 1;
        self.gate.let_in();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody who has used more than is modest.
    fn greedy() -> Arc<Share> {
        let share = Share::default();
        let much = Duration::from_secs(100);
        share.used().lately.add(much, Instant::now(), &MODEST);
        Arc::new(share)
    }

    /// Somebody who has been here for a while and used little.
    fn modest() -> Arc<Share> {
        let share = Share::default();
        share.used().lately.take_back(MODEST.burst);
        Arc::new(share)
    }

    fn taken<T>(line: &mut Line<T>, count: usize) -> Vec<T> {
        std::iter::from_fn(|| line.take()).take(count).collect()
    }

    #[test]
    fn r_fair_1_whoever_uses_little_goes_before_a_flood() {
        let mut line = Line::default();
        let (flood, modest) = (greedy(), modest());
        line.join(&modest, 10, "modest");
        assert_eq!(line.take(), Some("modest"));
        for _ in 0..1_000 {
            line.join(&flood, 10, "flood");
        }
        assert_eq!(taken(&mut line, 100), ["flood"; 100]);
        line.join(&modest, 10, "modest");
        line.join(&modest, 10, "modest");
        assert_eq!(taken(&mut line, 3), ["modest", "modest", "flood"]);
        // A flood of its own makes it one of them.
        for _ in 0..1_500 {
            line.join(&modest, 10, "flood too");
        }
        assert!((900..1_100).contains(&line.modest.len()));
        let first = taken(&mut line, 1_000);
        let count = first.iter().filter(|who| **who == "flood").count();
        assert!((450..550).contains(&count), "{count}");
    }

    #[test]
    fn r_fair_1_floods_share_evenly_by_cost_and_each_keeps_its_order() {
        let mut line = Line::default();
        let (cheap, dear) = (greedy(), greedy());
        for at in 0..1_000 {
            line.join(&cheap, 1, ("cheap", at));
            line.join(&dear, 10, ("dear", at));
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
            line.join(&early, 10, ("early", at));
        }
        assert_eq!(taken(&mut line, 500).last(), Some(&("early", 499)));
        line.join(&late, 10, ("late", 0));
        assert!(taken(&mut line, 2).contains(&("late", 0)));
    }

    #[test]
    fn r_fair_1_whoever_has_just_come_or_rested_has_saved_up_little() {
        const COST: u64 = 1_000;
        let mut line = Line::default();
        let (rested, flood, new) = (greedy(), greedy(), greedy());
        line.join(&rested, COST, "rested");
        assert_eq!(line.take(), Some("rested"));
        for _ in 0..400 {
            line.join(&flood, COST, "flood");
        }
        assert_eq!(taken(&mut line, 100), ["flood"; 100]);
        for _ in 0..400 {
            line.join(&rested, COST, "rested");
            line.join(&new, COST, "new");
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

    #[tokio::test]
    async fn r_fair_2_a_pass_is_paid_by_the_time_it_was_held() {
        let gate = Gate::new(2, 1);
        let share = greedy();
        let mut pass = gate.enter(&share).await;
        let before = share.used().paid.unwrap();
        pass.began = Instant::now().checked_sub(Duration::from_millis(50));
        drop(pass);
        let after = share.used().paid.unwrap();
        assert!(after >= before + 50_000 - GUESS, "{before} {after}");
        // Whoever was quicker than was guessed is given the rest back.
        let mut pass = gate.enter(&share).await;
        let before = share.used().paid.unwrap();
        pass.began = None;
        drop(pass);
        assert_eq!(share.used().paid, Some(before - GUESS));
    }

    #[tokio::test]
    async fn r_fair_2_passes_come_back_and_some_are_kept_for_those_who_use_little() {
        let gate = Gate::new(2, 1);
        let (greedy, modest) = (greedy(), modest());
        let pass = gate.enter(&greedy).await;
        assert!(!pass.is_modest);
        let mut second = std::pin::pin!(gate.enter(&greedy));
        assert!(futures_util::poll!(&mut second).is_pending());
        let mut quick = std::pin::pin!(gate.enter(&modest));
        match futures_util::poll!(&mut quick) {
            std::task::Poll::Ready(pass) => assert!(pass.is_modest),
            std::task::Poll::Pending => panic!("a pass was kept"),
        }
        {
            // Whoever stops waiting holds nothing up and pays nothing.
            let paid = greedy.used().paid;
            let mut third = std::pin::pin!(gate.enter(&greedy));
            assert!(futures_util::poll!(&mut third).is_pending());
            assert_eq!(gate.state().line.greedy.len(), 2);
            assert!(greedy.used().paid > paid);
        }
        assert_eq!(gate.state().line.greedy.len(), 1);
        drop(pass);
        drop(second.await);
        drop(gate.enter(&greedy).await);
        assert_eq!(gate.state().passes, 2);
        assert!(gate.state().line.take().is_none());
    }
}
