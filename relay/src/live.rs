//! New events on their way to those who are subscribed.
//!
//! The writer passes on what concerns a few subscriptions itself, in microseconds. What may concern
//! a crowd is left to a thread of its own: how many stand in the way of an event there is up to
//! strangers, and the writer, on whom everybody waits, would stand still for them. That thread
//! serves a few of a crowd, then a few of the next sender's, so nobody's events wait behind all
//! that somebody else has sent. It steps back behind the sockets, as the writer does.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use wire::{Event, RelayFrame, SubscriptionId, VerifiedEvent};

use crate::config::Clock;
use crate::fanout::{Audience, ClientId, Fanout, Key};
use crate::ingest::InFlight;
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::store::EventStore;

/// The sequence number of what is not stored.
const NOT_STORED: u64 = u64::MAX;

/// How long it is waited before asking again whether an event is stored.
const UNKNOWN: Duration = Duration::from_millis(100);

/// Who is connected, what they asked for, and how far live delivery has come. Both change under
/// one lock, so that each event reaches a new subscription either live or from history.
#[derive(Debug, Default)]
pub struct Live {
    fanout: RwLock<Fanout<Arc<Outbox>>>,
    delivered: AtomicU64,
    crowds: Crowds,
}

/// An event that is still to be passed on to many.
#[derive(Debug)]
pub struct Crowd {
    /// The event.
    pub event: VerifiedEvent,
    /// Its sequence number.
    pub seq: u64,
    /// Who may have asked for it.
    pub audience: Audience,
    /// Whose event it is.
    pub sender: Arc<Outbox>,
    /// What it takes of its sender's share; it counts until the event was passed on.
    pub permits: InFlight,
}

impl Live {
    /// Nobody connected; everything up to `seq` is stored.
    pub fn starting_at(seq: u64) -> Self {
        Self {
            delivered: AtomicU64::new(seq),
            ..Self::default()
        }
    }

    /// Changes subscriptions; the second argument is the last sequence number that history has
    /// to reach up to.
    pub fn change<T>(&self, change: impl FnOnce(&mut Fanout<Arc<Outbox>>, u64) -> T) -> T {
        let mut fanout = self.fanout.write().unwrap_or_else(PoisonError::into_inner);
        let delivered = self.delivered.load(Ordering::Acquire);
        change(&mut fanout, delivered)
    }

    /// Passes on what was just committed, each event with its sequence number (none: to nobody).
    /// What comes back for each is the crowd that it was not passed on to: to be [left](Self::leave).
    pub fn pass_on<'e>(
        &self,
        events: impl Iterator<Item = (&'e Event, Option<u64>)>,
        now: u64,
        metrics: &Metrics,
    ) -> Vec<Option<Audience>> {
        let fanout = self.fanout();
        let pass_on = |(event, seq): (&Event, Option<u64>)| {
            let seq = seq?;
            let audience = fanout.audience(event);
            let is_crowd = fanout.is_crowd(&audience);
            if !is_crowd {
                fanout.deliver(event, seq, &audience, now, send(event, metrics));
            }
            if seq != NOT_STORED {
                self.delivered.store(seq, Ordering::Release);
            }
            is_crowd.then_some(audience)
        };
        events.map(pass_on).collect()
    }

    /// Passes on what was committed without anybody being told, to crowds as well: it happens
    /// where the store was mended, and nobody can make it happen.
    pub fn catch_up(&self, events: &[(Event, u64)], clock: &Clock, metrics: &Metrics) {
        for (event, seq) in events {
            let fanout = self.fanout();
            let audience = fanout.audience(event);
            fanout.deliver(event, *seq, &audience, clock.now(), send(event, metrics));
            self.delivered.store(*seq, Ordering::Release);
        }
    }

    /// Leaves an event to [`Live::serve_crowds`].
    pub fn leave(&self, crowd: Crowd) {
        self.crowds.push(crowd);
    }

    /// Passes on what was left, until [`Live::close`]. What has expired or was taken away meanwhile
    /// is not passed on, nor what its sender was cut off for holding.
    pub fn serve_crowds(&self, store: &EventStore, clock: &Clock, metrics: &Metrics) {
        while let Some((crowd, last)) = self.crowds.next() {
            let is_wanted = !crowd.permits.held.is_cut_off()
                && (crowd.seq == NOT_STORED || self.is_stored(store, &crowd.event));
            let last = match is_wanted {
                true => self.serve_some(&crowd, clock, metrics, last),
                false => None,
            };
            self.crowds.done(crowd, last);
        }
    }

    /// Serves a few of a crowd; where to go on. Whoever subscribes waits for the lock, and this
    /// thread for others: it is held for one of them at a time.
    fn serve_some(
        &self,
        crowd: &Crowd,
        clock: &Clock,
        metrics: &Metrics,
        last: Option<Key>,
    ) -> Option<Key> {
        let Crowd {
            event,
            seq,
            audience,
            ..
        } = crowd;
        let few = self
            .fanout()
            .find_some(event, *seq, audience, clock.now(), last);
        for key in few.found {
            let fanout = self.fanout();
            // Only what is still open: nothing comes after CLOSED.
            if let Some((outbox, subscription)) = fanout.open(key) {
                send(event, metrics)(key.0, outbox, subscription);
            }
        }
        few.last
    }

    /// Whether it was not taken away meanwhile. While the index is being mended nobody knows.
    fn is_stored(&self, store: &EventStore, event: &VerifiedEvent) -> bool {
        loop {
            match store.contains(&event.id()) {
                Ok(is_stored) => return is_stored,
                Err(_) if self.crowds.state().is_closed => return false,
                Err(_) => std::thread::sleep(UNKNOWN),
            }
        }
    }

    /// Nothing more is passed on to crowds.
    pub fn close(&self) {
        self.crowds.close();
    }

    fn fanout(&self) -> RwLockReadGuard<'_, Fanout<Arc<Outbox>>> {
        self.fanout.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn send(event: &Event, metrics: &Metrics) -> impl FnMut(ClientId, &Arc<Outbox>, &SubscriptionId) {
    move |_, outbox, subscription| {
        metrics.delivered_live.add(1);
        outbox.push(RelayFrame::event(subscription, event.json()));
    }
}

/// Crowds that wait, those of each sender in their order, and the senders in turn. Bounded by what
/// their senders may have in flight, and by what all together may hold.
#[derive(Debug, Default)]
struct Crowds {
    state: Mutex<Waiting>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By the address of the sender's outbox, which lives as long as its crowds. The one whose turn
    /// it is has an entry too.
    senders: HashMap<usize, VecDeque<(Crowd, Option<Key>)>>,
    turns: VecDeque<usize>,
    is_closed: bool,
}

impl Crowds {
    fn state(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, crowd: Crowd) {
        let sender = address(&crowd);
        let mut state = self.state();
        if state.is_closed {
            return;
        }
        match state.senders.get_mut(&sender) {
            Some(crowds) => crowds.push_back((crowd, None)),
            None => {
                state.senders.insert(sender, [(crowd, None)].into());
                state.turns.push_back(sender);
                self.filled.notify_one();
            }
        }
    }

    /// The first crowd of the next sender, and how far it was served; none once it is closed.
    fn next(&self) -> Option<(Crowd, Option<Key>)> {
        let mut state = self.state();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(sender) = state.turns.pop_front() {
                let crowds = state.senders.get_mut(&sender);
                if let Some(first) = crowds.and_then(VecDeque::pop_front) {
                    return Some(first);
                }
                continue;
            }
            state = self
                .filled
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Some of the crowd that was [next](Self::next) were served; `last` where it goes on.
    fn done(&self, crowd: Crowd, last: Option<Key>) {
        let sender = address(&crowd);
        let mut state = self.state();
        if state.is_closed {
            return;
        }
        let Some(crowds) = state.senders.get_mut(&sender) else {
            return;
        };
        if last.is_some() {
            crowds.push_front((crowd, last));
        }
        match crowds.is_empty() {
            true => drop(state.senders.remove(&sender)),
            false => state.turns.push_back(sender),
        }
    }

    fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        // What it holds of the connections goes with it.
        let left = (
            std::mem::take(&mut state.senders),
            std::mem::take(&mut state.turns),
        );
        drop(state);
        drop(left);
        self.filled.notify_all();
    }
}

fn address(crowd: &Crowd) -> usize {
    Arc::as_ptr(&crowd.sender).addr()
}

#[cfg(test)]
mod tests;
