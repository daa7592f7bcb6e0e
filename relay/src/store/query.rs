//! Answering a filter from the index, newest first, in pages.
//!
//! A filter becomes a set of index ranges that together hold every event it could match; they
//! are merged by time, the candidates are read from the log a handful at a time, and each is asked
//! whether it [`Stored::is_for`] this filter and reader. The ranges only save work: dropping a range
//! check can never show too much, and a property test compares the answers with the plain rule.
//!
//! The rows of one second are in the order of keyed hashes, not of ids, so no event of a second is
//! handed over before all of it was looked at. Of a second with too many bytes to hold, only where
//! the events with the lowest ids lie is kept, and they are read again; of one with too many ids to
//! hold, the rest is looked for in further passes ([`Large`]).

mod merge;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use wire::{EventId, Filter, PublicKey, kinds, limits};

use merge::{Found, Merge, PAGE_ROWS, Range, Work};

use super::keys;
use super::stored::PRELUDE;
use super::{EventStore, StoreError, Stored};
use crate::policy;

/// Bytes of events in one page, about.
const PAGE_BYTES: usize = 256 * 1024;
/// Bytes of the events of one page, at most: a second may end in it that was held before, and what
/// was read together goes over each mark by one event.
pub const MOST_PAGE_BYTES: usize =
    2 * PAGE_BYTES + SECOND_BYTES + 3 * (PRELUDE + limits::EVENT_BYTES);
/// And how many they are, at most.
pub const MOST_PAGE_EVENTS: usize = PAGE_ROWS + READ_TOGETHER;
/// Events read from the log together, at most.
const READ_TOGETHER: usize = 128;
/// Bytes of events of one second that are held to be put in order.
const SECOND_BYTES: usize = 256 * 1024;
/// Events of a larger second of which it is held where they lie, and what that takes of each, about.
const SECOND_IDS: usize = 4_096;
const ID_BYTES: usize = 160;
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
    merge: Merge,
    /// Read, and not yet looked at.
    waiting: VecDeque<(Found, Stored)>,
    /// Matches of one second, not yet in order.
    second: Vec<(Found, Stored)>,
    second_bytes: usize,
    /// The second that is looked at, where it is too large for that.
    large: Option<Large>,
    room: Room,
}

/// How much of one second is held.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Bytes of events.
    pub bytes: usize,
    /// Events beyond that, at least one.
    pub ids: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            bytes: SECOND_BYTES,
            ids: SECOND_IDS,
        }
    }
}

/// What [`Query::page`] found.
#[derive(Debug)]
pub struct Page {
    /// Newest first, ties by id.
    pub events: Vec<Stored>,
    /// Whether there is nothing further.
    pub is_last: bool,
}

/// A second with more matches than are held.
#[derive(Debug)]
struct Large {
    time: u64,
    /// Those with the lowest ids, of those that were not handed over.
    best: BTreeMap<EventId, Found>,
    /// Whether there are others with higher ids.
    is_more: bool,
    /// The last that was handed over.
    last: Option<EventId>,
    /// Looks for more once again.
    pass: Option<Merge>,
    /// Whether all of it was looked at, so that the best are known.
    is_known: bool,
}

impl Large {
    fn note(&mut self, found: Found, stored: &Stored, most: usize) {
        if self.last.is_some_and(|last| stored.id() <= last) {
            return;
        }
        self.best.insert(stored.id(), found);
        if self.best.len() > most {
            self.best.pop_last();
            self.is_more = true;
        }
    }
}

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
            merge: Merge::default(),
            waiting: VecDeque::new(),
            second: Vec::new(),
            second_bytes: 0,
            large: None,
            room: Room::default(),
            filter,
            auth,
            up_to_seq,
        };
        if remaining > 0 {
            let newest = query.filter.until.unwrap_or(u64::MAX);
            let oldest = query.filter.since.unwrap_or(0);
            query.merge = query.plan(store, newest, oldest)?;
        }
        Ok(query)
    }

    /// The same, holding no more of one second than there is room for. What it finds is the same.
    pub fn within(self, room: Room) -> Self {
        Self { room, ..self }
    }

    /// About how many bytes it keeps from one page to the next.
    pub fn kept_bytes(&self) -> usize {
        let waiting = self.waiting.iter();
        let waiting: usize = waiting.map(|(_, stored)| stored.body().len()).sum();
        let ids = self.large.as_ref().map_or(0, |large| large.best.len());
        self.second_bytes + waiting + ids * ID_BYTES
    }

    /// After the last page, whether every event that the filter matches and the reader may see
    /// was in one (NIP-67): false where a limit held some back, none where that would have taken
    /// a long search to say, where nothing was asked for, or where the filter names others too whose
    /// wraps might be here.
    pub fn is_complete(&self) -> Option<bool> {
        self.is_complete
            .filter(|is_complete| !is_complete || !policy::may_hide(&self.filter, &self.auth))
    }

    /// The next events. A page may be empty although more follow: its work is bounded too.
    pub fn page(&mut self, store: &EventStore, now: u64) -> Result<Page, StoreError> {
        let mut page = Page {
            events: Vec::new(),
            is_last: false,
        };
        let mut work = Work {
            rows: 0,
            bytes: 0,
            began: Instant::now(),
            is_patient: false,
        };
        loop {
            // What the hint says depends on no clock. The last page goes on a little, to see whether
            // it was the last event as well.
            work.is_patient = self.remaining == 0;
            let is_full = work.bytes > PAGE_BYTES && self.remaining > 0;
            if self.is_complete.is_some() || is_full || work.is_enough() {
                break;
            }
            match &self.large {
                Some(large) if large.is_known => {
                    self.hand_over(store, now, &mut page, &mut work)?
                }
                Some(large) if large.pass.is_some() => self.look_again(store, now, &mut work)?,
                _ => self.look_on(store, now, &mut page, &mut work)?,
            }
            if self.large.is_none() && self.waiting.is_empty() && self.merge.is_over() {
                self.end_second(&mut page, &mut work);
                // Whoever asked for nothing was shown nothing, and nothing was looked for.
                let has_looked = self.remaining > 0 || !self.merge.ranges.is_empty();
                if has_looked && self.is_complete.is_none() {
                    self.is_complete = Some(true);
                }
                page.is_last = true;
                return Ok(page);
            }
        }
        page.is_last = self.remaining == 0;
        Ok(page)
    }

    /// Looks at the next few events in the order of time.
    fn look_on(
        &mut self,
        store: &EventStore,
        now: u64,
        page: &mut Page,
        work: &mut Work,
    ) -> Result<(), StoreError> {
        if self.waiting.is_empty() {
            if self.merge.is_over() {
                // The end of the last second.
                self.end_second(page, work);
                return Ok(());
            }
            // One more than wanted tells whether there are more.
            let missing = self.remaining.saturating_sub(self.second.len());
            let most = match self.large {
                Some(_) => READ_TOGETHER,
                None => missing.saturating_add(1).min(READ_TOGETHER),
            };
            let found = self
                .merge
                .candidates(store, self.up_to_seq, now, most, work)?;
            let read = store.read_all(&found)?;
            let read = found.into_iter().zip(read);
            self.waiting = read
                .filter_map(|(found, stored)| Some((found, stored?)))
                .collect();
        }
        while let Some((found, stored)) = self.waiting.pop_front() {
            let large = self.large.as_ref().map(|large| large.time);
            let first = || Some(self.second.first()?.1.created_at());
            if large
                .or_else(first)
                .is_some_and(|time| time != stored.created_at())
            {
                self.end_second(page, work);
                if self.large.is_some() {
                    // Handed over first.
                    self.waiting.push_front((found, stored));
                    return Ok(());
                }
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
            self.note(found, stored);
        }
        Ok(())
    }

    /// Adds a match to those of its second.
    fn note(&mut self, found: Found, stored: Stored) {
        let most = self.ids_held();
        if let Some(large) = &mut self.large {
            large.note(found, &stored, most);
            return;
        }
        let time = stored.created_at();
        self.second_bytes += stored.body().len();
        self.second.push((found, stored));
        if self.second_bytes <= self.room.bytes {
            return;
        }
        let mut large = Large {
            time,
            best: BTreeMap::new(),
            is_more: false,
            last: None,
            pass: None,
            is_known: false,
        };
        for (found, stored) in self.second.drain(..) {
            large.note(found, &stored, most);
        }
        self.second_bytes = 0;
        self.large = Some(large);
    }

    /// One more than wanted tells whether there are more.
    fn ids_held(&self) -> usize {
        self.room.ids.min(self.remaining.saturating_add(1))
    }

    /// Looks at the next few events of a large second, once more.
    fn look_again(
        &mut self,
        store: &EventStore,
        now: u64,
        work: &mut Work,
    ) -> Result<(), StoreError> {
        let most = self.ids_held();
        let Some(large) = &mut self.large else {
            return Ok(());
        };
        let Some(pass) = &mut large.pass else {
            return Ok(());
        };
        let found = pass.candidates(store, self.up_to_seq, now, READ_TOGETHER, work)?;
        if pass.is_over() {
            large.pass = None;
            large.is_known = true;
        }
        let read = store.read_all(&found)?;
        for (found, stored) in found.into_iter().zip(read) {
            if let Some(stored) = stored
                && stored.is_for(&self.filter, &self.auth)
            {
                large.note(found, &stored, most);
            }
        }
        Ok(())
    }

    /// Hands over the next few events of a large second.
    fn hand_over(
        &mut self,
        store: &EventStore,
        now: u64,
        page: &mut Page,
        work: &mut Work,
    ) -> Result<(), StoreError> {
        let Some(large) = &mut self.large else {
            return Ok(());
        };
        let mut few = Vec::new();
        let mut bytes = 0;
        while few.len() < READ_TOGETHER.min(self.remaining)
            && bytes < PAGE_BYTES
            && let Some((id, (hash, entry))) = large.best.pop_first()
        {
            work.rows += 1;
            large.last = Some(id);
            if entry.expires_at > now {
                bytes += usize::try_from(entry.place.len).unwrap_or(PAGE_BYTES);
                few.push((hash, entry));
            }
        }
        for stored in store.read_all(&few)?.into_iter().flatten() {
            work.bytes += stored.body().len();
            page.events.push(stored);
            self.remaining -= 1;
        }
        if self.remaining == 0 {
            if large.is_more || !large.best.is_empty() {
                self.is_complete = Some(false);
            }
            self.large = None;
        } else if large.best.is_empty() {
            let time = large.time;
            match large.is_more {
                true => {
                    let pass = self.plan(store, time, time)?;
                    if let Some(large) = &mut self.large {
                        (large.is_more, large.is_known) = (false, false);
                        large.pass = Some(pass);
                    }
                }
                false => self.large = None,
            }
        }
        Ok(())
    }

    /// All of a second was looked at: puts the matches in order and hands them over, or lets
    /// [`Query::hand_over`] do it.
    fn end_second(&mut self, page: &mut Page, work: &mut Work) {
        if let Some(large) = &mut self.large {
            large.is_known = true;
            return;
        }
        self.second.sort_by_key(|(_, stored)| stored.id());
        if self.second.len() > self.remaining {
            self.is_complete = Some(false);
            self.second.truncate(self.remaining);
        }
        self.remaining -= self.second.len();
        work.bytes += self.second_bytes;
        let events = self.second.drain(..);
        page.events.extend(events.map(|(_, stored)| stored));
        self.second_bytes = 0;
    }

    /// The ranges of what may match, from one second to another.
    fn plan(&self, store: &EventStore, newest: u64, oldest: u64) -> Result<Merge, StoreError> {
        let mut merge = Merge::default();
        let hasher = store.hasher();
        let filter = self.filter.clone();
        if let Some(ids) = &filter.ids {
            let mut rows = Vec::new();
            for id in ids {
                let id = hasher.id(id);
                if let Some(entry) = store.entry(&id)?
                    && (oldest..=newest).contains(&entry.created_at)
                {
                    rows.push((u64::MAX - entry.created_at, id, Some(entry)));
                }
            }
            rows.sort_unstable_by_key(|(time, id, _)| (*time, *id));
            merge.ranges.push(Range {
                prefix_len: 0,
                from: Vec::new(),
                to: Vec::new(),
                rows: rows.into(),
                is_read: true,
            });
            return Ok(merge);
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
            let mut from = prefix.clone();
            from.extend((u64::MAX - newest).to_be_bytes());
            let mut to = prefix.clone();
            to.extend((u64::MAX - oldest).to_be_bytes());
            merge.ranges.push(Range {
                prefix_len: prefix.len(),
                from,
                // Inclusive: past every id of that second.
                to: keys::end_of(&to),
                rows: VecDeque::new(),
                is_read: false,
            });
        }
        Ok(merge)
    }
}
