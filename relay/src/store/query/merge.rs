//! The rows of many ranges as one list, newest first; a few at a time, and no longer than is fair.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::super::keys::{self, Entry, Hash};
use super::super::{EventStore, StoreError};
use super::PAGE_BYTES;

/// Rows fetched from one range at a time, at least and at most: a filter of many ranges holds
/// few rows of each.
const FETCH_ROWS: (usize, usize) = (8, 256);
/// Rows held in memory by all ranges of one filter, about.
const HELD_ROWS: usize = 4_096;
/// Rows looked at in one page, so that a filter that matches little never holds a thread long.
pub(super) const PAGE_ROWS: usize = 2_000;
/// How long one page is worked on, about: then others have their turn.
const PAGE_TIME: Duration = Duration::from_millis(3);

/// The ranges of a filter, merged by time.
#[derive(Debug, Default)]
pub(super) struct Merge {
    pub(super) ranges: Vec<Range>,
    /// How many of them have been looked into.
    begun: usize,
    /// The next row of each range that has one, newest first.
    next: BinaryHeap<Reverse<Next>>,
    last: Option<(u64, Hash)>,
}

/// An event that may match: its keyed id, and where it lies.
pub(super) type Found = (Hash, Entry);

#[derive(Debug)]
pub(super) struct Range {
    pub(super) prefix_len: usize,
    pub(super) from: Vec<u8>,
    pub(super) to: Vec<u8>,
    pub(super) rows: VecDeque<Row>,
    pub(super) is_read: bool,
}

/// A row of a range: an inverted time, an id, and where the event lies, if the row says so.
type Row = (u64, Hash, Option<Entry>);

impl Merge {
    /// Whether every row was looked at.
    pub(super) fn is_over(&self) -> bool {
        self.begun == self.ranges.len() && self.next.is_empty()
    }

    /// The next few events that are worth reading, newest first: fewer than a page, and at most
    /// `most`; none where others have their turn before every range was looked into. `work`
    /// counts what was looked at.
    pub(super) fn candidates(
        &mut self,
        store: &EventStore,
        up_to_seq: u64,
        now: u64,
        most: usize,
        work: &mut Work,
    ) -> Result<Vec<Found>, StoreError> {
        let mut found = Vec::with_capacity(most);
        let mut bytes = 0;
        // Which event is next is known only when every range has been looked into.
        while self.begun < self.ranges.len() {
            if work.is_enough() {
                return Ok(found);
            }
            self.refill(store, self.begun)?;
            self.begun += 1;
            work.rows += 1;
        }
        while found.len() < most && bytes < PAGE_BYTES && !work.is_enough() {
            let Some(Reverse(Next {
                time,
                id,
                range,
                entry,
            })) = self.next.pop()
            else {
                break;
            };
            work.rows += 1;
            self.refill(store, range)?;
            // The same event under two values of one list comes twice in a row.
            if self.last == Some((time, id)) {
                continue;
            }
            self.last = Some((time, id));
            let entry = match entry {
                Some(entry) => Some(entry),
                None => store.entry(&id)?,
            };
            if let Some(entry) = entry
                && entry.seq <= up_to_seq
                && entry.expires_at > now
            {
                bytes += usize::try_from(entry.place.len).unwrap_or(PAGE_BYTES);
                found.push((id, entry));
            }
        }
        Ok(found)
    }

    /// Puts the next row of a range among the candidates.
    fn refill(&mut self, store: &EventStore, index: usize) -> Result<(), StoreError> {
        let most = (HELD_ROWS / self.ranges.len().max(1)).clamp(FETCH_ROWS.0, FETCH_ROWS.1);
        let Some(range) = self.ranges.get_mut(index) else {
            return Ok(());
        };
        if range.rows.is_empty() && !range.is_read {
            let mut rows = VecDeque::new();
            let mut last = None;
            store
                .index()
                .scan(&range.from, &range.to, &mut |key, value| {
                    if let Some((time, id)) = keys::split_at(key, range.prefix_len) {
                        // Only a mailbox's rows say where; a value that does not hold says nothing.
                        rows.push_back((time, id, Entry::decode(value).ok()));
                    }
                    match rows.len() < most {
                        true => ControlFlow::Continue(()),
                        false => {
                            last = Some(key.to_vec());
                            ControlFlow::Break(())
                        }
                    }
                })?;
            match last {
                Some(last) => range.from = [last.as_slice(), &[0]].concat(),
                None => range.is_read = true,
            }
            range.rows = rows;
        }
        if let Some((time, id, entry)) = range.rows.pop_front() {
            self.next.push(Reverse(Next {
                time,
                id,
                range: index,
                entry,
            }));
        }
        Ok(())
    }
}

/// What was done for one page.
pub(super) struct Work {
    pub(super) rows: usize,
    /// Of the events that were handed over.
    pub(super) bytes: usize,
    pub(super) began: Instant,
    /// Whether it goes by no clock.
    pub(super) is_patient: bool,
}

impl Work {
    /// Whether others have their turn now.
    pub(super) fn is_enough(&self) -> bool {
        // A look at the clock costs about as much as a row.
        let is_long = || !self.is_patient && self.began.elapsed() > PAGE_TIME;
        self.rows >= PAGE_ROWS || (self.rows % 16 == 15 && is_long())
    }
}

/// The first row of a range that was not looked at yet.
#[derive(Debug)]
struct Next {
    /// Inverted, so that the newest is the smallest.
    time: u64,
    id: Hash,
    range: usize,
    entry: Option<Entry>,
}

impl Next {
    fn order(&self) -> (u64, Hash, usize) {
        (self.time, self.id, self.range)
    }
}

impl Ord for Next {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Next {}
