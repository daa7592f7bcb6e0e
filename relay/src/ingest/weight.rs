//! How much the writer has to do for an event, and how much of that may wait for it.

use std::sync::{Condvar, Mutex, PoisonError};

use wire::{Event, kinds};

/// Rows of the index that weigh as much as an ordinary event does with all of its own.
const ROWS: usize = 2;
/// Rows for what a deletion may take away at once, beside those that say so.
pub const FIRST_SLICE: usize = 128;
/// Rows for each id or address that a deletion names.
const ROWS_OF_A_NAME: usize = 3;

/// What the writer has to do for the event, where 1 is what a wrap takes.
pub fn of(event: &Event) -> usize {
    let tags = event.tags().iter().map(|tag| tag.name());
    let rows = match event.kind() {
        kind if kinds::is_wrap(kind) => 0,
        kinds::DELETION => {
            let names = tags.filter(|name| matches!(*name, "e" | "a")).count();
            FIRST_SLICE + ROWS_OF_A_NAME * names
        }
        // Each value of a one-letter tag is looked up by, when it is stored and when it goes.
        _ => tags.filter(|name| name.len() == 1).count(),
    };
    1 + rows / ROWS
}

/// Lets only so much wait for the writer.
#[derive(Debug)]
pub struct Ahead {
    most: usize,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    weight: usize,
    is_over: bool,
}

impl Ahead {
    /// At most `most` at a time, or one thing that is heavier.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            state: Mutex::default(),
            freed: Condvar::new(),
        }
    }

    /// Waits until there is room for `weight`, and takes it. Does not wait after the end.
    pub fn take(&self, weight: usize) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |state: &mut State| {
            state.weight > 0 && state.weight.saturating_add(weight) > self.most && !state.is_over
        };
        let mut state = self
            .freed
            .wait_while(state, is_full)
            .unwrap_or_else(PoisonError::into_inner);
        state.weight = state.weight.saturating_add(weight);
    }

    /// Gives it back.
    pub fn give_back(&self, weight: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.weight = state.weight.saturating_sub(weight);
        drop(state);
        self.freed.notify_all();
    }

    /// Nobody takes anything off any more, and nobody is to wait for it.
    pub fn end(&self) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_over = true;
        self.freed.notify_all();
    }
}
