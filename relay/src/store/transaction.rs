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

mod slices;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use wire::{Event, EventId, PublicKey, VerifiedEvent, kinds};

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
    /// Deletions that are being carried out and took wraps away already.
    of_wraps: BTreeSet<Hash>,
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
            of_wraps: BTreeSet::new(),
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
            of_wraps: &mut self.of_wraps,
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
    of_wraps: &'w mut BTreeSet<Hash>,
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

    /// Carries out a deletion request (NIP-09): its author's own events go, and wraps addressed
    /// to its author. What is not here yet is remembered. A request that concerns wraps is kept
    /// as tombstones only; any other is kept and passed on. With `unless_own` the sender may
    /// otherwise not write here: the request counts only where it names something stored that is
    /// theirs, or that they deleted before. After about `budget` rows it is left
    /// [`Outcome::Unfinished`].
    pub fn delete(
        &mut self,
        request: &VerifiedEvent,
        unless_own: Option<Refusal>,
        budget: usize,
    ) -> Result<Outcome, StoreError> {
        let most_rows = self.rows.len().saturating_add(budget);
        let hasher = self.store.hasher();
        if self.is_here(&hasher.id(&request.id()), request)? {
            return Ok(Outcome::Duplicate);
        }
        if let Some(refusal) = self.memory_forbids(request)? {
            return Ok(Outcome::Refused(refusal));
        }
        let deleter = request.pubkey();
        let mut unknown = Vec::new();
        let wrap_kinds = [kinds::WRAP.to_string(), kinds::EPHEMERAL_WRAP.to_string()];
        let is_of_wraps = |kind: &str| wrap_kinds.iter().any(|wrap| wrap == kind);
        let mut concerns_wraps = request.tags().values("k").any(is_of_wraps);
        // A wrap cannot come back after its window; anything else could.
        let window_end = self.rules.wrap_window_end(self.now).unwrap_or(u64::MAX);
        let until_of = |is_wrap: bool| match is_wrap {
            true => window_end,
            false => u64::MAX,
        };
        let until_of_absent =
            until_of(concerns_wraps && request.tags().values("k").all(is_of_wraps));
        // Which of its targets were wraps cannot be told any more once they went.
        let request_id = hasher.id(&request.id());
        concerns_wraps |= self.of_wraps.contains(&request_id);
        let mut has_own = false;
        let mut names_others = false;
        for id in request
            .tags()
            .values("e")
            .filter_map(|id| EventId::from_hex(id).ok())
        {
            let hash = hasher.id(&id);
            let own_kind = match self.find(&hash)? {
                Some((_, target)) if may_delete(&deleter, &target) => Some(target.kind()),
                Some((_, target)) if !policy::is_guarded(target.kind()) => {
                    names_others |= target.pubkey() != deleter;
                    None
                }
                // Of wraps and the like nobody learns whether they are here, on a full disk
                // neither: to whom they are not, they are absent.
                Some(_) => {
                    unknown.push(self.as_absent(&id, &deleter)?);
                    None
                }
                None => {
                    let lost = self.lost_of(&deleter, &hash)?;
                    if lost.is_none() {
                        unknown.push(self.as_absent(&id, &deleter)?);
                    }
                    lost
                }
            };
            // With something of theirs in it the request counts, whatever else it names.
            if let Some(kind) = own_kind {
                has_own = true;
                let is_wrap = kinds::is_wrap(kind);
                concerns_wraps |= is_wrap;
                self.remember(&id, &deleter, until_of(is_wrap))?;
                self.erase(&hash)?;
                if self.rows.len() >= most_rows {
                    return Ok(self.leave_unfinished(request_id, concerns_wraps));
                }
            }
        }
        let mut addresses = Vec::new();
        for address in request.tags().values("a") {
            let Some((kind, author, d)) = address_parts(address) else {
                continue;
            };
            if author == deleter {
                let address = hasher.address(kind, &author, d);
                let current = self.rows.get(&keys::address(&address))?;
                let deleted = self.rows.get(&keys::address_deletion(&address))?;
                has_own |= current.is_some() || deleted.is_some();
                addresses.push((address, current));
            } else {
                names_others = true;
            }
        }
        has_own |= unknown.iter().any(|(_, is_remembered)| *is_remembered);
        if let (Some(refusal), false) = (unless_own, has_own) {
            return Ok(Outcome::Refused(refusal));
        }
        let names_own = has_own || !unknown.is_empty() || !addresses.is_empty();
        if names_others && !names_own {
            return Ok(Outcome::Refused(Refusal::NotTheirs));
        }
        // The reserve is for taking things away. Anybody can ask for what is not here, without end.
        let mut is_left_out = false;
        for (id, is_remembered) in unknown {
            if self.has_room {
                self.remember(&id, &deleter, until_of_absent)?;
            } else {
                is_left_out |= !is_remembered;
            }
        }
        for (address, current) in addresses {
            if self.has_room || current.is_some() {
                self.delete_address(&address, current, request.created_at())?;
                if self.rows.len() >= most_rows {
                    return Ok(self.leave_unfinished(request_id, concerns_wraps));
                }
            } else {
                is_left_out = true;
            }
        }
        self.of_wraps.remove(&request_id);
        if is_left_out {
            // What was here is erased all the same; the sender tries again for the rest.
            return Err(StoreError::DiskFull);
        }
        match concerns_wraps {
            true => Ok(Outcome::CarriedOut),
            false => match self.put(request) {
                // The deletion itself holds; there is only no room to show it to others.
                Err(StoreError::DiskFull) => Ok(Outcome::CarriedOut),
                other => other,
            },
        }
    }

    fn leave_unfinished(&mut self, request: Hash, concerns_wraps: bool) -> Outcome {
        if concerns_wraps {
            self.of_wraps.insert(request);
        }
        Outcome::Unfinished
    }

    /// What there is to know of an event that is not here: whether `deleter` deleted it before.
    fn as_absent(&self, id: &EventId, deleter: &PublicKey) -> Result<(EventId, bool), StoreError> {
        let row = keys::deletion(&self.store.hasher().deletion(id, deleter));
        Ok((*id, self.rows.get(&row)?.is_some()))
    }

    fn delete_address(
        &mut self,
        address: &Hash,
        current: Option<Vec<u8>>,
        up_to: u64,
    ) -> Result<(), StoreError> {
        let key = keys::address_deletion(address);
        if self.rows.number(&key)?.is_some_and(|known| known >= up_to) {
            return Ok(());
        }
        let address = *address;
        self.staged
            .push(&Record::AddressDeletion { address, up_to })?;
        self.rows.put(key, up_to.to_be_bytes().to_vec());
        if let Some(current) = current {
            let id: Hash = keys::take(&mut current.as_slice())?;
            if self
                .rows
                .entry(&id)?
                .is_some_and(|entry| entry.created_at <= up_to)
            {
                self.erase(&id)?;
            }
        }
        Ok(())
    }

    /// Remembers that `deleter` wants `id` gone, until a time.
    fn remember(
        &mut self,
        id: &EventId,
        deleter: &PublicKey,
        until: u64,
    ) -> Result<(), StoreError> {
        let deletion = self.store.hasher().deletion(id, deleter);
        let key = keys::deletion(&deletion);
        if self.rows.number(&key)?.is_some_and(|known| known >= until) {
            return Ok(());
        }
        self.staged.push(&Record::Deletion { deletion, until })?;
        self.rows.put(key, until.to_be_bytes().to_vec());
        if until != u64::MAX {
            self.rows
                .put(keys::deletion_end(until, &deletion), Vec::new());
        }
        Ok(())
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

    /// The kind of an event that does not read back and that `deleter` may delete: the index knows
    /// enough of it to tell.
    fn lost_of(&self, deleter: &PublicKey, id: &Hash) -> Result<Option<u16>, StoreError> {
        let Some(Entry {
            kind,
            created_at,
            recipient,
            ..
        }) = self.rows.entry(id)?
        else {
            return Ok(None);
        };
        let hasher = self.store.hasher();
        let written = keys::at(keys::by_author(&hasher.author(deleter)), created_at, id);
        let is_own = kind != kinds::DELETION && self.rows.get(&written)?.is_some();
        let is_for_them = kind == kinds::WRAP && recipient == hasher.recipient(deleter);
        Ok((is_own || is_for_them).then_some(kind))
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

/// Whether `deleter` may delete the event: their own (never a deletion, NIP-09), or a wrap
/// addressed to them (NIP-59).
fn may_delete(deleter: &PublicKey, target: &Event) -> bool {
    let is_own = target.pubkey() == *deleter && target.kind() != kinds::DELETION;
    let is_for_them = target.kind() == kinds::WRAP
        && policy::sole_recipient(target.tags()).is_some_and(|key| key == *deleter);
    is_own || is_for_them
}

/// The parts of an `a` tag's value, `kind:pubkey:d`.
fn address_parts(text: &str) -> Option<(u16, PublicKey, &str)> {
    let mut parts = text.splitn(3, ':');
    let kind = parts.next()?.parse().ok()?;
    let author = PublicKey::from_hex(parts.next()?).ok()?;
    Some((kind, author, parts.next().unwrap_or_default()))
}
