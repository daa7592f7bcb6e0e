//! What waits to be sent to one connection, bounded in bytes.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// What a queued frame costs beside its text.
const FRAME_OVERHEAD: usize = 64;

/// A queue of frames. Answers and live events are pushed and never wait: a reader too slow for
/// them is cut off. Stored events wait until there is room.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    capacity: usize,
    filled: Notify,
    drained: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<String>,
    bytes: usize,
    is_closed: bool,
}

impl Outbox {
    /// Holds up to `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::default(),
            capacity,
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
        state.bytes += frame.len() + FRAME_OVERHEAD;
        if state.bytes > self.capacity {
            *state = State {
                is_closed: true,
                ..State::default()
            };
            self.drained.notify_waiters();
        } else {
            state.frames.push_back(frame);
        }
        drop(state);
        self.filled.notify_one();
    }

    /// Waits until the queue is down to a quarter; whether it is still open.
    pub async fn room(&self) -> bool {
        loop {
            let drained = self.drained.notified();
            {
                let state = self.state();
                if state.is_closed || state.bytes <= self.capacity / 4 {
                    return !state.is_closed;
                }
            }
            drained.await;
        }
    }

    /// Waits until there may be something to send, or the outbox was closed.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Takes frames of about `bytes`; none where the outbox was closed.
    pub fn take(&self, bytes: usize) -> Option<Vec<String>> {
        let mut state = self.state();
        if state.is_closed {
            return None;
        }
        let mut taken = Vec::new();
        let mut total = 0;
        while total < bytes
            && let Some(frame) = state.frames.pop_front()
        {
            let cost = frame.len() + FRAME_OVERHEAD;
            total += cost;
            state.bytes = state.bytes.saturating_sub(cost);
            taken.push(frame);
        }
        if state.frames.is_empty() && state.frames.capacity() > 64 {
            // An idle connection keeps no room for the burst it once had.
            state.frames = VecDeque::new();
        }
        drop(state);
        self.drained.notify_waiters();
        Some(taken)
    }

    /// Nothing more is sent or accepted.
    pub fn close(&self) {
        *self.state() = State {
            is_closed: true,
            ..State::default()
        };
        self.drained.notify_waiters();
        self.filled.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_that_is_too_slow_is_cut_off() {
        let outbox = Outbox::new(1_000);
        outbox.push("x".repeat(500));
        assert!(outbox.take(0).is_some());
        outbox.push("x".repeat(500));
        assert!(outbox.take(10_000).is_none());
        assert!(!outbox.room().await);
    }

    #[tokio::test]
    async fn stored_events_wait_for_room() {
        let outbox = Outbox::new(1_000);
        outbox.push("x".repeat(500));
        let room = outbox.room();
        let mut room = std::pin::pin!(room);
        assert!(futures_util::poll!(&mut room).is_pending());
        assert_eq!(outbox.take(10_000).unwrap().len(), 1);
        assert!(room.await);
    }
}
