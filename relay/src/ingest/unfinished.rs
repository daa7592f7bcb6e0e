//! Requests that take more away than goes at once.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::Checked;

/// What is to go on, in turn between those who asked for it. What each of them asked for first is
/// finished first.
#[derive(Default)]
pub struct Unfinished {
    /// By where its sender's share lies, which it keeps alive.
    of: HashMap<usize, VecDeque<Checked>>,
    turns: VecDeque<usize>,
}

impl Unfinished {
    /// Whether there is nothing left.
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Adds a request that has just had its first slice.
    pub fn add(&mut self, checked: Checked) {
        self.of_its_sender(&checked).push_back(checked);
    }

    /// Puts back what [`Unfinished::take`] gave.
    pub fn put_back(&mut self, checked: Checked) {
        self.of_its_sender(&checked).push_front(checked);
    }

    fn of_its_sender(&mut self, checked: &Checked) -> &mut VecDeque<Checked> {
        let sender = Arc::as_ptr(&checked.sender.share).addr();
        let turns = &mut self.turns;
        self.of.entry(sender).or_insert_with(|| {
            turns.push_back(sender);
            VecDeque::new()
        })
    }

    /// The next.
    pub fn take(&mut self) -> Option<Checked> {
        let sender = self.turns.pop_front()?;
        let mut of_it = self.of.remove(&sender)?;
        let next = of_it.pop_front();
        if !of_it.is_empty() {
            self.of.insert(sender, of_it);
            self.turns.push_back(sender);
        }
        next
    }
}
