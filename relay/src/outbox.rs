//! What waits to be sent to one connection, bounded in bytes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use wire::limits;

use crate::ledger::Account;

/// What a queued frame costs beside its text.
const FRAME_OVERHEAD: usize = 64;

/// Stored events wait until no more than this part of the capacity is taken: more would wait in
/// vain behind what the reader has not taken, and less would leave the socket idle meanwhile.
const DRAINED: usize = 16;

/// The least capacity with which a reader who reads is never cut off: a page of so many stored
/// events, of so many bytes, fits beside what may wait already, and answers fit beside that.
pub const fn least_capacity(events: usize, bytes: usize) -> usize {
    /// What a frame adds to an event, its subscription's name included.
    const AROUND: usize = FRAME_OVERHEAD + 512;
    let page = events * AROUND + bytes;
    page + page / (DRAINED - 1) + 1 + 2 * limits::FRAME_BYTES
}

/// A queue of frames. Answers and live events are pushed and never wait: a reader too slow for
/// them is cut off. Stored events wait until there is room.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    capacity: usize,
    account: Arc<Account>,
    filled: Notify,
    drained: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<String>,
    /// Of the frames, and of those taken but not yet with the kernel.
    bytes: usize,
    is_closed: bool,
}

/// Frames on their way to the socket.
#[derive(Debug, Default)]
pub struct Taken {
    /// In order.
    pub frames: Vec<String>,
    /// What they count.
    pub bytes: usize,
}

impl Outbox {
    /// Holds up to `capacity` bytes, which count on `account`.
    pub fn new(capacity: usize, account: Arc<Account>) -> Self {
        Self {
            state: Mutex::default(),
            capacity,
            account,
            filled: Notify::new(),
            drained: Notify::new(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a frame; where that is too much, the outbox closes and the connection ends.
    pub fn push(&self, frame: String) {
        let mut state = self.state();
        if state.is_closed {
            return;
        }
        let cost = frame.len() + FRAME_OVERHEAD;
        if state.bytes + cost > self.capacity {
            drop(state);
            self.close();
            return;
        }
        // Before the frame can be taken and given back.
        self.account.add(cost);
        state.bytes += cost;
        state.frames.push_back(frame);
        drop(state);
        self.filled.notify_one();
    }

    /// Queues a page of stored events, once the queue is nearly empty; whether the outbox is
    /// still open.
    pub async fn push_stored(&self, frames: Vec<String>) -> bool {
        let push = |state: &mut State| {
            let cost = frames
                .iter()
                .map(|frame| frame.len() + FRAME_OVERHEAD)
                .sum::<usize>();
            self.account.add(cost);
            state.bytes += cost;
            state.frames.extend(frames);
        };
        let is_open = self.when_drained(push).await;
        self.filled.notify_one();
        is_open
    }

    /// Waits until the queue is nearly empty; whether it is still open.
    pub async fn room(&self) -> bool {
        self.when_drained(|_| {}).await
    }

    /// Does something to the queue as soon as it is nearly empty, before anybody else adds
    /// to it; whether it was still open.
    async fn when_drained(&self, then: impl FnOnce(&mut State)) -> bool {
        loop {
            let drained = self.drained.notified();
            {
                let mut state = self.state();
                if state.is_closed {
                    return false;
                }
                if state.bytes <= self.capacity / DRAINED {
                    then(&mut state);
                    return true;
                }
            }
            drained.await;
        }
    }

    /// Waits until there may be something to send, or the outbox was closed.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Takes frames of about `bytes`; none where the outbox was closed. They count until
    /// [`Outbox::sent`] is told.
    pub fn take(&self, bytes: usize) -> Option<Taken> {
        let mut state = self.state();
        if state.is_closed {
            return None;
        }
        let mut taken = Taken::default();
        while taken.bytes < bytes
            && let Some(frame) = state.frames.pop_front()
        {
            taken.bytes += frame.len() + FRAME_OVERHEAD;
            taken.frames.push(frame);
        }
        if state.frames.is_empty() && state.frames.capacity() > 64 {
            // An idle connection keeps no room for the burst it once had.
            state.frames = VecDeque::new();
        }
        Some(taken)
    }

    /// Frames that were taken, of so many bytes, are with the kernel.
    pub fn sent(&self, bytes: usize) {
        let mut state = self.state();
        let bytes = bytes.min(state.bytes);
        state.bytes -= bytes;
        drop(state);
        self.account.release(bytes);
        self.drained.notify_waiters();
    }

    /// Nothing more is sent or accepted.
    pub fn close(&self) {
        let mut state = self.state();
        let left = std::mem::replace(
            &mut *state,
            State {
                is_closed: true,
                ..State::default()
            },
        );
        drop(state);
        self.account.release(left.bytes);
        self.drained.notify_waiters();
        self.filled.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;

    fn outbox() -> (Outbox, Arc<Ledger>) {
        let ledger = Ledger::new(1_000_000);
        (Outbox::new(1_000, ledger.open(Default::default())), ledger)
    }

    #[tokio::test]
    async fn a_reader_that_is_too_slow_is_cut_off() {
        let (outbox, ledger) = outbox();
        outbox.push("x".repeat(500));
        assert!(outbox.take(0).is_some());
        outbox.push("x".repeat(500));
        assert!(outbox.take(10_000).is_none());
        assert!(!outbox.room().await);
        assert_eq!(ledger.held(), 0);
    }

    #[tokio::test]
    async fn what_is_being_written_counts_until_it_is_sent() {
        let (outbox, ledger) = outbox();
        outbox.push("x".repeat(500));
        let taken = outbox.take(10_000).unwrap();
        assert_eq!(ledger.held(), taken.bytes);
        outbox.sent(taken.bytes);
        assert_eq!(ledger.held(), 0);
        outbox.push("x".repeat(500));
        outbox.push("x".repeat(500));
        assert!(outbox.take(10_000).is_none());
        assert_eq!(ledger.held(), 0);
    }

    #[tokio::test]
    async fn stored_events_wait_for_room() {
        let (outbox, _ledger) = outbox();
        outbox.push("x".repeat(500));
        let room = outbox.room();
        let mut room = std::pin::pin!(room);
        assert!(futures_util::poll!(&mut room).is_pending());
        let taken = outbox.take(10_000).unwrap();
        assert_eq!(taken.frames.len(), 1);
        outbox.sent(taken.bytes);
        assert!(room.await);
    }
}
