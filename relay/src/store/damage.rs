//! What is known of damage to the log: segments that are missing, too short, or of which something
//! does not read back.
//!
//! What the index names and the log does not hold is lost, and is not called a duplicate where that
//! is known: whoever sends it again brings it back. Nobody looks for damage: it is told where the
//! start or a reader comes upon it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::metrics::Counter;

/// Of one store, since it was opened.
#[derive(Debug, Default)]
pub struct Damage {
    /// So that a store without damage, as nearly all are, asks for no lock.
    is_any: AtomicBool,
    segments: Mutex<BTreeSet<u32>>,
    /// How often an event was to be read and could not be.
    pub unreadable: Counter,
    /// Events that an index knew of which had to be built anew from a log that had lost its end.
    pub lost: Counter,
}

impl Damage {
    /// A segment is damaged; whether that is news.
    pub(super) fn note(&self, segment: u32) -> bool {
        let is_news = self.segments().insert(segment);
        self.is_any.store(true, Ordering::Release);
        is_news
    }

    /// An event of a segment could not be read. The log says so once for each segment.
    pub(super) fn note_unreadable(&self, segment: u32) {
        self.unreadable.add(1);
        if self.note(segment) {
            tracing::error!(
                segment,
                "something in a segment of the log does not read back: it is damaged"
            );
        }
    }

    /// Whether a segment is known to be damaged.
    pub(super) fn is_in(&self, segment: u32) -> bool {
        self.is_any.load(Ordering::Acquire) && self.segments().contains(&segment)
    }

    /// How many segments are known to be damaged.
    pub fn count(&self) -> u64 {
        self.segments().len() as u64
    }

    fn segments(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
