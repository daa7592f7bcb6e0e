//! Who may work now, where only so many may at the same time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::oneshot;

use super::{Line, Place, Share};

/// What each piece of work costs beside the work itself, in microseconds: a thread that is woken for
/// it, an answer that is passed on. A flood of the smallest requests costs mostly that, and one of
/// requests that are taken back at once nothing else.
const AROUND: u64 = 250;
/// What work is taken to cost until it has been done, in microseconds.
const GUESS: u64 = 500;
/// A request is short until so much has been worked for it, in microseconds. What takes longer, as a
/// search through everything does, cannot expect to be answered at once.
const SHORT: u64 = 2_000;

/// One request, for which a connection pays with its share.
#[derive(Debug, Default)]
pub struct Errand {
    share: Arc<Share>,
    /// What was worked for it, in microseconds.
    spent: AtomicU64,
}

impl Errand {
    /// A request at the expense of `share`.
    pub fn new(share: Arc<Share>) -> Arc<Self> {
        Arc::new(Self {
            share,
            spent: AtomicU64::new(0),
        })
    }

    fn is_short(&self) -> bool {
        self.spent.load(Ordering::Relaxed) < SHORT
    }
}

/// Lets only so many work at the same time, in fair order. Some of the passes are kept for short
/// requests of those who use little, so that these need not even wait for a pass to come back.
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
    errand: Arc<Errand>,
    reply: oneshot::Sender<Pass>,
}

/// Leave to work. It counts until it is dropped; then its owner has paid for the work.
#[derive(Debug)]
pub struct Pass {
    /// Whether the request has been short so far and its owner had used little lately, so that it
    /// should not be kept waiting.
    pub is_urgent: bool,
    gate: Arc<Gate>,
    errand: Arc<Errand>,
    /// What the work took of a processor.
    took: Duration,
}

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
            waiting.errand.share.settle(GUESS, AROUND);
        }
    }
}

impl Gate {
    /// At most `passes` at the same time, of which `kept` are for short requests of those who use
    /// little.
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
    pub async fn enter(self: &Arc<Self>, errand: &Arc<Errand>) -> Pass {
        loop {
            let (reply, answer) = oneshot::channel();
            let waiting = Waiting {
                errand: errand.clone(),
                reply,
            };
            let place = {
                let line = &mut self.state().line;
                line.join(&errand.share, GUESS, errand.is_short(), waiting)
            };
            let _in_line = InLine { gate: self, place };
            self.let_in();
            // A sender is dropped only by whoever stops waiting.
            if let Ok(pass) = answer.await {
                return pass;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands out the passes that there are.
    fn let_in(self: &Arc<Self>) {
        while let Some((waiting, is_urgent)) = self.admit() {
            let pass = Pass {
                is_urgent,
                gate: self.clone(),
                errand: waiting.errand,
                took: Duration::ZERO,
            };
            // Whoever left at this moment gives it back by not taking it.
            drop(waiting.reply.send(pass));
        }
    }

    /// The next that may work, and whether they are urgent.
    fn admit(&self) -> Option<(Waiting, bool)> {
        let mut state = self.state();
        let next = match state.passes {
            0 => None,
            passes if passes <= state.kept => state.line.take_modest().map(|next| (next, true)),
            _ => state.line.take(),
        };
        state.passes -= usize::from(next.is_some());
        next
    }
}

impl Pass {
    /// Does the work on this thread, and gives the pass back. It is paid with the time that the
    /// thread had a processor for it: on a busy machine it waits in between, and for that nobody is
    /// to be taken for greedy.
    pub fn work<T>(mut self, work: impl FnOnce() -> T) -> T {
        let before = processor_time();
        let done = work();
        self.took = processor_time().saturating_sub(before);
        done
    }
}

/// How long the calling thread has had a processor.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

impl Drop for Pass {
    fn drop(&mut self) {
        let micros = u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX);
        self.errand.spent.fetch_add(micros, Ordering::Relaxed);
        let cost = micros.saturating_add(AROUND);
        self.errand.share.settle(GUESS, cost);
        self.gate.state().passes += 1;
        self.gate.let_in();
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{greedy, modest};
    use super::*;

    /// Has the thread work so long by its own clock, however long that takes on the wall.
    fn toil(time: Duration) {
        let began = processor_time();
        while processor_time().saturating_sub(began) < time {
            std::hint::spin_loop();
        }
    }

    fn paid(errand: &Errand) -> u64 {
        errand.share.used().paid.unwrap_or_default()
    }

    async fn passes(gate: &Arc<Gate>, errand: &Arc<Errand>) -> Option<Pass> {
        let mut entering = std::pin::pin!(gate.enter(errand));
        match futures_util::poll!(&mut entering) {
            std::task::Poll::Ready(pass) => Some(pass),
            std::task::Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn r_fair_2_a_pass_is_paid_by_what_the_work_took_of_a_processor() {
        let gate = Gate::new(2, 1);
        let errand = Errand::new(greedy());
        gate.enter(&errand)
            .await
            .work(|| toil(Duration::from_millis(50)));
        let after_toil = paid(&errand);
        assert!(after_toil >= 50_000, "{after_toil}");
        // Whoever only waited for a processor is charged what every request costs, and hardly more.
        gate.enter(&errand)
            .await
            .work(|| std::thread::sleep(Duration::from_millis(50)));
        let waited = paid(&errand) - after_toil;
        assert!((AROUND..25_000).contains(&waited), "{waited}");
    }

    #[tokio::test]
    async fn r_fair_2_passes_come_back_and_some_are_kept_for_those_who_use_little() {
        let gate = Gate::new(2, 1);
        let (greedy, modest) = (Errand::new(greedy()), Errand::new(modest()));
        let pass = gate.enter(&greedy).await;
        assert!(!pass.is_urgent);
        let mut second = std::pin::pin!(gate.enter(&greedy));
        assert!(futures_util::poll!(&mut second).is_pending());
        let kept = passes(&gate, &modest).await.expect("a pass was kept");
        assert!(kept.is_urgent);
        drop(kept);
        drop(pass);
        drop(second.await);
        drop(gate.enter(&greedy).await);
        assert_eq!(gate.state().passes, 2);
        assert!(gate.state().line.take().is_none());
    }

    #[tokio::test]
    async fn r_fair_2_whoever_stops_waiting_holds_nothing_up_and_pays_for_having_asked() {
        let gate = Gate::new(1, 0);
        let errand = Errand::new(greedy());
        let pass = gate.enter(&errand).await;
        let before = paid(&errand);
        {
            let mut waiting = std::pin::pin!(gate.enter(&errand));
            assert!(futures_util::poll!(&mut waiting).is_pending());
            assert_eq!(gate.state().line.greedy.len(), 1);
        }
        assert_eq!(gate.state().line.greedy.len(), 0);
        assert_eq!(paid(&errand), before + AROUND);
        drop(pass);
        assert_eq!(gate.state().passes, 1);
    }

    #[tokio::test]
    async fn r_fair_4_a_long_request_is_not_urgent_whoever_asks_and_the_next_one_is() {
        let gate = Gate::new(2, 1);
        let share = modest();
        let long = Errand::new(share.clone());
        let pass = gate.enter(&long).await;
        assert!(pass.is_urgent);
        pass.work(|| toil(Duration::from_micros(SHORT)));
        let pass = gate.enter(&long).await;
        assert!(!pass.is_urgent);
        // What is kept is not for it.
        assert!(passes(&gate, &long).await.is_none());
        let next = passes(&gate, &Errand::new(share)).await;
        assert!(next.is_some_and(|pass| pass.is_urgent));
    }

    #[tokio::test]
    async fn r_fair_4_a_flood_of_requests_that_are_taken_back_makes_its_owner_greedy() {
        let gate = Gate::new(1, 0);
        let share = modest();
        let pass = gate.enter(&Errand::new(greedy())).await;
        for _ in 0..200 {
            assert!(passes(&gate, &Errand::new(share.clone())).await.is_none());
        }
        drop(pass);
        assert!(!gate.enter(&Errand::new(share)).await.is_urgent);
    }
}
