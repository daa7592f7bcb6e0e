//! Answering a filter from the index, newest first, in pages.
//!
//! A filter becomes a set of index ranges that together hold every event it could match; they
//! are merged by time, the candidates are read from the log a handful at a time, and each is asked
//! whether it [`Stored::is_for`] this filter and reader. The ranges only save work: dropping a range
//! check can never show too much, and a property test compares the answers with the plain rule.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use wire::{Filter, PublicKey, kinds};

use super::keys::{self, Entry, Hash};
use super::{EventStore, StoreError, Stored};

/// Rows fetched from one range at a time, at least and at most: a filter of many ranges holds
/// few rows of each.
const FETCH_ROWS: (usize, usize) = (8, 256);
/// Rows held in memory by all ranges of one filter, about.
const HELD_ROWS: usize = 4_096;
/// Rows looked at in one page, so that a filter that matches little never holds a thread long.
const PAGE_ROWS: usize = 2_000;
/// How long one page is worked on, about: then others have their turn.
const PAGE_TIME: Duration = Duration::from_millis(3);
/// Bytes of events in one page, about.
const PAGE_BYTES: usize = 256 * 1024;
/// Events read from the log together, at most.
const READ_TOGETHER: usize = 128;
/// Bytes of events of one second that are put in the order of their ids. Beyond that the order
/// within the second is kept only piecewise.
const SECOND_BYTES: usize = 1024 * 1024;
/// Author and kind are looked up together up to this many pairs.
const MAX_PAIRS: usize = 64;

/// One filter being answered.
#[derive(Debug)]
pub struct Query {
    filter: Filter,
    auth: Vec<PublicKey>,
    /// Only events committed up to here; later ones reach the subscriber live.
    up_to_seq: u64,
    remaining: usize,
    /// See [`Query::is_complete`].
    is_complete: Option<bool>,
    ranges: Vec<Range>,
    /// How many of them have been looked into.
    begun: usize,
    /// The next row of each range that has one, newest first.
    next: BinaryHeap<Reverse<Next>>,
    last: Option<(u64, Hash)>,
    /// Matches of one second, not yet in order.
    second: Vec<Stored>,
    second_bytes: usize,
}

/// What [`Query::page`] found.
#[derive(Debug)]
pub struct Page {
    /// Newest first, ties by id.
    pub events: Vec<Stored>,
    /// Whether there is nothing further.
    pub is_last: bool,
}

#[derive(Debug)]
struct Range {
    prefix_len: usize,
    from: Vec<u8>,
    to: Vec<u8>,
    rows: VecDeque<Row>,
    is_read: bool,
}

/// A row of a range: an inverted time, an id, and where the event lies, if the row says so.
type Row = (u64, Hash, Option<Entry>);

impl Query {
    /// Prepares a filter for somebody who authenticated `auth`: at most `most` events, of those
    /// committed up to `up_to_seq`.
    pub fn new(
        store: &EventStore,
        filter: Filter,
        auth: Vec<PublicKey>,
        up_to_seq: u64,
        most: usize,
    ) -> Result<Self, StoreError> {
        let remaining = filter.limit.unwrap_or(most).min(most);
        let mut query = Self {
            remaining,
            is_complete: None,
            ranges: Vec::new(),
            begun: 0,
            next: BinaryHeap::new(),
            last: None,
            second: Vec::new(),
            second_bytes: 0,
            filter,
            auth,
            up_to_seq,
        };
        if remaining > 0 {
            query.plan(store)?;
        }
        Ok(query)
    }

    /// After the last page, whether every event that the filter matches and the reader may see
    /// was in one (NIP-67): false where a limit held some back, none where that would have taken
    /// a long search to say, or where nothing was asked for.
    pub fn is_complete(&self) -> Option<bool> {
        self.is_complete
    }

    /// The next events. A page may be empty although more follow: its work is bounded too.
    pub fn page(&mut self, store: &EventStore, now: u64) -> Result<Page, StoreError> {
        let mut events = Vec::new();
        let mut bytes = 0;
        let mut work = Work {
            rows: 0,
            began: Instant::now(),
        };
        // Which event is next is known only when every range has been looked into.
        while self.begun < self.ranges.len() && !self.is_enough(&work) {
            self.refill(store, self.begun)?;
            self.begun += 1;
            work.rows += 1;
        }
        while self.begun == self.ranges.len() && !self.is_enough(&work) {
            let candidates = self.candidates(store, now, &mut work)?;
            for stored in store.read_all(&candidates)?.into_iter().flatten() {
                let is_later = |first: &Stored| first.created_at() != stored.created_at();
                if self.second.first().is_some_and(is_later) || self.second_bytes > SECOND_BYTES {
                    bytes += self.second_bytes;
                    self.end_second(&mut events);
                }
                if self.is_complete.is_some() {
                    break;
                }
                if !stored.is_for(&self.filter, &self.auth) {
                    continue;
                }
                if self.remaining == 0 {
                    self.is_complete = Some(false);
                    break;
                }
                self.second_bytes += stored.body().len();
                self.second.push(stored);
            }
            if self.next.is_empty() {
                self.end_second(&mut events);
                // Whoever asked for nothing was shown nothing, and nothing was looked for.
                let has_looked = self.remaining > 0 || !self.ranges.is_empty();
                if has_looked && self.is_complete.is_none() {
                    self.is_complete = Some(true);
                }
                return Ok(Page {
                    events,
                    is_last: true,
                });
            }
            // The last page goes on a little, to see whether it was the last event as well.
            if self.is_complete.is_some() || (bytes > PAGE_BYTES && self.remaining > 0) {
                break;
            }
        }
        Ok(Page {
            events,
            is_last: self.remaining == 0,
        })
    }

    /// The next few events that are worth reading, newest first: fewer than a page, and hardly more
    /// than are still wanted. `work` counts what was looked at.
    fn candidates(
        &mut self,
        store: &EventStore,
        now: u64,
        work: &mut Work,
    ) -> Result<Vec<(Hash, Entry)>, StoreError> {
        // One more than wanted tells whether there are more.
        let missing = self.remaining.saturating_sub(self.second.len());
        let most = missing.saturating_add(1).min(READ_TOGETHER);
        let mut found = Vec::with_capacity(most);
        let mut bytes = 0;
        while found.len() < most && bytes < PAGE_BYTES && !self.is_enough(work) {
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
                && entry.seq <= self.up_to_seq
                && entry.expires_at > now
            {
                bytes += usize::try_from(entry.place.len).unwrap_or(PAGE_BYTES);
                found.push((id, entry));
            }
        }
        Ok(found)
    }

    /// Whether others have their turn now.
    fn is_enough(&self, work: &Work) -> bool {
        // A look at the clock costs about as much as a row. What the hint says depends on none.
        let is_long = || self.remaining > 0 && work.began.elapsed() > PAGE_TIME;
        work.rows >= PAGE_ROWS || (work.rows % 16 == 15 && is_long())
    }

    /// Puts the matches of one second in order and hands them over.
    fn end_second(&mut self, events: &mut Vec<Stored>) {
        self.second.sort_by_key(Stored::id);
        if self.second.len() > self.remaining {
            self.is_complete = Some(false);
            self.second.truncate(self.remaining);
        }
        self.remaining -= self.second.len();
        events.append(&mut self.second);
        self.second_bytes = 0;
    }

    fn plan(&mut self, store: &EventStore) -> Result<(), StoreError> {
        let hasher = store.hasher();
        let filter = self.filter.clone();
        if let Some(ids) = &filter.ids {
            let mut rows = Vec::new();
            for id in ids {
                let id = hasher.id(id);
                if let Some(entry) = store.entry(&id)? {
                    rows.push((u64::MAX - entry.created_at, id, Some(entry)));
                }
            }
            rows.sort_unstable_by_key(|(time, id, _)| (*time, *id));
            self.ranges.push(Range {
                prefix_len: 0,
                from: Vec::new(),
                to: Vec::new(),
                rows: rows.into(),
                is_read: true,
            });
            return Ok(());
        }
        let wants = |kind: u16| filter.kinds.as_ref().is_none_or(|set| set.contains(&kind));
        let mut prefixes = Vec::new();
        if wants(kinds::WRAP) {
            let named = filter.tags.get('p');
            for key in &self.auth {
                if named.is_none_or(|set| set.contains(&key.to_hex())) {
                    prefixes.push(keys::by_recipient(&hasher.recipient(key)));
                }
            }
        }
        let open_kinds = filter.kinds.as_ref().map(|set| {
            let open = set.iter().copied().filter(|kind| *kind != kinds::WRAP);
            open.collect::<Vec<_>>()
        });
        // The tag with the fewest values narrows most.
        let tag = filter.tags.iter().min_by_key(|(_, values)| values.len());
        match (&filter.authors, &open_kinds, tag) {
            (_, Some(kinds), _) if kinds.is_empty() => {}
            (Some(authors), Some(kinds), _) if authors.len() * kinds.len() <= MAX_PAIRS => {
                for author in authors.iter().map(|key| hasher.author(key)) {
                    let pairs = kinds
                        .iter()
                        .map(|kind| keys::by_author_and_kind(&author, *kind));
                    prefixes.extend(pairs);
                }
            }
            (Some(authors), _, _) => {
                prefixes.extend(
                    authors
                        .iter()
                        .map(|key| keys::by_author(&hasher.author(key))),
                );
            }
            (None, _, Some((letter, values))) => {
                let letter = u8::try_from(*letter).unwrap_or_default();
                let hashes = values.iter().map(|value| hasher.tag(letter, value));
                prefixes.extend(hashes.map(|hash| keys::by_tag(&hash)));
            }
            (None, Some(kinds), None) => {
                prefixes.extend(kinds.iter().map(|kind| keys::by_kind(*kind)));
            }
            (None, None, None) => prefixes.push(keys::by_time()),
        }
        for prefix in prefixes {
            let newest = u64::MAX - filter.until.unwrap_or(u64::MAX);
            let oldest = u64::MAX - filter.since.unwrap_or(0);
            let mut from = prefix.clone();
            from.extend(newest.to_be_bytes());
            let mut to = prefix.clone();
            to.extend(oldest.to_be_bytes());
            self.ranges.push(Range {
                prefix_len: prefix.len(),
                from,
                // Inclusive: past every id of that second.
                to: keys::end_of(&to),
                rows: VecDeque::new(),
                is_read: false,
            });
        }
        Ok(())
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
struct Work {
    rows: usize,
    began: Instant,
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
