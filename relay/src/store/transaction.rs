//! Writing: the rules that need to know what is stored, and the one order of doing things.
//!
//! A [`Transaction`] gathers many events and commits them together:
//!
//! 1. append all records to the log, one `fdatasync`;
//! 2. overwrite the bodies that were erased, one `fdatasync` per touched segment;
//! 3. apply the index batch, which carries the place in the log that it has reached.
//!
//! Only then may anybody be told. Where bodies were moved, what they leave behind is overwritten
//! before the index carries that place: whatever interrupts it, the next start reads of the move in
//! the log and overwrites it, before anything that was moved can be deleted.

mod deletion;
mod slices;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use wire::{Event, VerifiedEvent, kinds};

use super::bodies::Staged;
use super::compaction::Compaction;
use super::keys::{self, Entry, Hash, Place};
use super::record::Record;
use super::rows::{self, Hashes, Rows};
use super::{EventStore, StoreError, Stored};
use crate::policy::{self, Refusal, Rules};
use crate::roster::Roster;

/// Rows that one transaction changes, about, where there is no end to what is to go: an event may
/// have thousands, and everybody else's events wait meanwhile.
pub const SLICE: usize = 2_048;

/// The one writer of a store.
#[derive(Debug)]
pub struct Writer {
    store: Arc<EventStore>,
    rules: Rules,
    roster: Arc<Roster>,
    seq: u64,
    checks_duplicates: bool,
    /// How far the requests to vanish have come that are being carried out, by author and time.
    vanishing: Vanishing,
    /// How far the compaction has come that is being carried out.
    pub(super) compaction: Option<Compaction>,
    /// Segments that could not be read or moved, and stay as they are until the next start.
    pub(super) unmoved: BTreeSet<u32>,
}

/// For each request the two ranges of rows that are left, of wraps and of what its author wrote.
type Vanishing = BTreeMap<(Hash, u64), [Range<Vec<u8>>; 2]>;

/// What became of an event. It holds once the transaction is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Kept; to be passed on to subscribers under this sequence number.
    Stored {
        /// Its place in the order of commits.
        seq: u64,
    },
    /// A deletion or vanish request that was carried out and is shown to nobody.
    CarriedOut,
    /// It is here already.
    Duplicate,
    /// A newer event of the same address is here.
    Superseded,
    /// A rule says no.
    Refused(Refusal),
    /// Some of what is to go has gone, which is no less than a part of the answer. The request is
    /// to be handed in again.
    Unfinished,
}

impl Writer {
    /// The writer of `store`; there must be only one at a time.
    pub(super) fn new(store: Arc<EventStore>, rules: Rules, seq: u64) -> Self {
        Self {
            store,
            rules,
            roster: Arc::default(),
            seq,
            checks_duplicates: false,
            vanishing: BTreeMap::new(),
            compaction: None,
            unmoved: BTreeSet::new(),
        }
    }

    /// From now on the body of each duplicate is read back, and where it does not hold, the event
    /// is stored anew. Otherwise that is done in segments that are known to be damaged: whoever
    /// floods a relay with what it has must not have it read its disk for that.
    pub fn check_duplicates(&mut self) {
        self.checks_duplicates = true;
    }

    /// The store that it writes to.
    pub fn store(&self) -> &Arc<EventStore> {
        &self.store
    }

    /// The last sequence number given.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    pub(super) fn go_on_from(&mut self, seq: u64) {
        self.seq = seq;
    }

    pub(super) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// From the next transaction on these rules hold, and events that the roster bans are kept
    /// away, whenever their verdict was made.
    pub fn follow(&mut self, rules: Rules, roster: Arc<Roster>) {
        self.rules = rules;
        self.roster = roster;
    }

    /// Starts gathering. `now` is in Unix seconds.
    pub fn begin(&mut self, now: u64) -> Result<Transaction<'_>, StoreError> {
        let store = &*self.store;
        if store.is_broken() {
            return Err(store.why_broken());
        }
        Ok(Transaction {
            staged: store.bodies().stage()?,
            rows: Rows::new(store.index()),
            erased: Vec::new(),
            moved: Vec::new(),
            fresh: HashMap::new(),
            has_room: store.bodies().has_room(),
            store,
            rules: &self.rules,
            roster: &self.roster,
            seq: &mut self.seq,
            checks_duplicates: self.checks_duplicates,
            vanishing: &self.vanishing,
            next_seq: 0,
            now,
        }
        .numbered())
    }
}

/// Changes that become durable together. Dropped without [`Transaction::commit`], it leaves
/// nothing.
pub struct Transaction<'w> {
    store: &'w EventStore,
    rules: &'w Rules,
    roster: &'w Roster,
    seq: &'w mut u64,
    checks_duplicates: bool,
    vanishing: &'w Vanishing,
    next_seq: u64,
    now: u64,
    has_room: bool,
    pub(super) staged: Staged,
    pub(super) rows: Rows<'w>,
    erased: Vec<Place>,
    /// Where bodies lay that were copied.
    pub(super) moved: Vec<Place>,
    /// Events of this transaction, which nobody can read from the log yet.
    fresh: HashMap<Hash, VerifiedEvent>,
}

impl Transaction<'_> {
    fn numbered(mut self) -> Self {
        self.next_seq = *self.seq;
        self
    }

    /// Keeps an event, unless it is here already, was deleted, or finds its mailbox full.
    pub fn put(&mut self, event: &VerifiedEvent) -> Result<Outcome, StoreError> {
        if self.roster.bans_event(&event.id()) {
            return Ok(Outcome::Refused(Refusal::BannedEvent));
        }
        let hasher = self.store.hasher();
        let hashes = Hashes::of(hasher, event);
        let id = hashes.id;
        if self.is_here(&id, event)? {
            return Ok(Outcome::Duplicate);
        }
        if let Some(refusal) = self.memory_forbids(event)? {
            return Ok(Outcome::Refused(refusal));
        }
        let mut replaced = None;
        if let Some(address) = &hashes.address {
            let deleted = self.rows.number(&keys::address_deletion(address))?;
            if deleted.is_some_and(|up_to| event.created_at() <= up_to) {
                return Ok(Outcome::Refused(Refusal::Deleted));
            }
            if let Some(other) = self.rows.get(&keys::address(address))? {
                let other: Hash = keys::take(&mut other.as_slice())?;
                match (self.find(&other)?, self.rows.entry(&other)?) {
                    (Some((_, current)), _) if rows::version(&current) >= rows::version(event) => {
                        return Ok(Outcome::Superseded);
                    }
                    (Some(_), _) => replaced = Some(other),
                    // It does not read back. An older version is better than none.
                    (None, Some(lost)) if lost.created_at < event.created_at() => {
                        replaced = Some(other);
                    }
                    (None, _) => {}
                }
            }
        }
        let stored = Stored::of(event);
        if let Some(recipient) = &hashes.recipient {
            let row = self.rows.get(&keys::mailbox(recipient))?;
            let (count, bytes) = keys::decode_pair(row.as_deref())?;
            let bytes = bytes.saturating_add(stored.body().len() as u64);
            if self
                .rules
                .wraps_per_recipient
                .is_some_and(|most| count >= most)
                || self
                    .rules
                    .bytes_per_recipient
                    .is_some_and(|most| bytes > most)
            {
                return Ok(Outcome::Refused(Refusal::MailboxFull));
            }
        }
        if !self.has_room {
            return Err(StoreError::DiskFull);
        }
        if let Some(replaced) = replaced
            && let Some(place) = self.take_out(&replaced)?
        {
            let (id, by) = (replaced, id);
            self.staged.push(&Record::Replacement { place, id, by })?;
        }
        let place = self.staged.push(&Record::Event(stored))?;
        self.next_seq = self.next_seq.saturating_add(1);
        self.rows
            .insert_event(&hashes, event, place, self.next_seq)?;
        self.fresh.insert(id, event.clone());
        Ok(Outcome::Stored { seq: self.next_seq })
    }

    /// Whether an event that is passed on without being kept was deleted or its author vanished.
    pub fn memory_forbids(&self, event: &Event) -> Result<Option<Refusal>, StoreError> {
        let hasher = self.store.hasher();
        let recipient = match kinds::is_wrap(event.kind()) {
            true => policy::sole_recipient(event.tags()),
            false => None,
        };
        // A deletion cannot be deleted (NIP-09), whichever of the two comes first.
        let deleters = match event.kind() {
            kinds::DELETION => [None, None],
            _ => [Some(event.pubkey()), recipient],
        };
        for deleter in deleters.into_iter().flatten() {
            let row = keys::deletion(&hasher.deletion(&event.id(), &deleter));
            if self
                .rows
                .number(&row)?
                .is_some_and(|until| until > self.now)
            {
                return Ok(Some(Refusal::Deleted));
            }
        }
        // The random times of wraps say nothing about when they were written.
        if !kinds::is_wrap(event.kind()) {
            let vanished = self
                .rows
                .number(&keys::vanished(&hasher.author(&event.pubkey())))?;
            let from = (hasher.author(&event.pubkey()), event.created_at());
            let is_vanishing = self.vanishing.range(from..=(from.0, u64::MAX)).next();
            if vanished.is_some_and(|up_to| event.created_at() <= up_to) || is_vanishing.is_some() {
                return Ok(Some(Refusal::Vanished));
            }
        }
        Ok(None)
    }

    /// Erases one event, if it is here.
    pub(super) fn erase(&mut self, id: &Hash) -> Result<(), StoreError> {
        if let Some(place) = self.take_out(id)? {
            self.staged.push(&Record::Erasure { place, id: *id })?;
        }
        Ok(())
    }

    /// Removes what the index knows of an event, and has its body overwritten at the commit; where
    /// that lies, if it is here.
    fn take_out(&mut self, id: &Hash) -> Result<Option<Place>, StoreError> {
        let Some(entry) = self.rows.entry(id)? else {
            return Ok(None);
        };
        let event = self.find(id)?.map(|(_, event)| event);
        self.erased.push(entry.place);
        self.fresh.remove(id);
        self.rows
            .remove_event(self.store.hasher(), id, &entry, event.as_ref())?;
        Ok(Some(entry.place))
    }

    /// An event of the store or of this transaction.
    fn find(&self, id: &Hash) -> Result<Option<(Entry, Event)>, StoreError> {
        let Some(entry) = self.rows.entry(id)? else {
            return Ok(None);
        };
        if let Some(event) = self.fresh.get(id) {
            return Ok(Some((entry, Event::clone(event))));
        }
        let stored = self.store.bodies().read(entry.place)?;
        if stored.is_none() {
            self.store.damage.note_unreadable(entry.place.segment);
        }
        Ok(stored
            .and_then(|stored| stored.event())
            .map(|event| (entry, event)))
    }

    /// Whether the event is here. One that the index names and that is found to be lost is not, and
    /// from now on the index does not name it: it may be stored anew.
    fn is_here(&mut self, id: &Hash, event: &VerifiedEvent) -> Result<bool, StoreError> {
        let Some(entry) = self.rows.entry(id)? else {
            return Ok(false);
        };
        let segment = entry.place.segment;
        let is_suspect = self.checks_duplicates || self.store.damage.is_in(segment);
        if !is_suspect || self.fresh.contains_key(id) {
            return Ok(true);
        }
        let stored = self.store.bodies().read(entry.place)?;
        if stored.is_some_and(|stored| stored.id() == event.id()) {
            return Ok(true);
        }
        self.store.damage.note_unreadable(segment);
        if !self.has_room {
            return Err(StoreError::DiskFull);
        }
        // What is left of it could not be found any more by whoever deletes it.
        self.erased.push(entry.place);
        self.rows
            .remove_event(self.store.hasher(), id, &entry, Some(event))?;
        Ok(false)
    }

    /// Makes everything durable. After an error nothing of it counts, except where the index
    /// failed behind a synced log: then [`Writer::mend`] or the next start replays it.
    pub fn commit(self) -> Result<(), StoreError> {
        if self.staged.is_empty() && self.rows.is_empty() {
            return Ok(());
        }
        let bodies = self.store.bodies();
        bodies.write(&self.staged)?;
        // The log now knows more than the index. If the rest fails, no later batch may move the
        // index past this one: it has to be replayed first.
        let (store, segment, start) = (self.store, self.staged.segment(), self.staged.start());
        self.apply()
            .inspect_err(|_| store.break_off(segment, start))
    }

    fn apply(mut self) -> Result<(), StoreError> {
        self.store.bodies().erase(&self.erased)?;
        self.store.erased.add(self.erased.len());
        let position = [
            self.staged.segment().to_be_bytes().as_slice(),
            &self.staged.end().to_be_bytes(),
            &self.next_seq.to_be_bytes(),
        ]
        .concat();
        let index = self.store.index();
        if !self.moved.is_empty() {
            // Readers look at the old place until the index names the new one.
            index.apply(std::mem::replace(&mut self.rows, Rows::new(index)).into_batch())?;
            self.store.bodies().erase(&self.moved)?;
        }
        self.rows.put(keys::position(), position);
        index.apply(self.rows.into_batch())?;
        *self.seq = self.next_seq;
        Ok(())
    }
}
