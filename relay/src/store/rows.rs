//! Changes to the index that are not applied yet, seen as if they were.

use std::collections::HashMap;
use std::ops::ControlFlow;

use wire::{Event, kinds};

use super::keys::{self, Entry, Hash, Hasher, Place};
use super::record;
use super::{Batch, Index, StoreError};
use crate::policy;

/// An overlay over an index.
pub(super) struct Rows<'i> {
    index: &'i dyn Index,
    /// By key alone: an event looks a handful up and writes a handful, and no order is needed.
    changed: HashMap<Vec<u8>, Option<Vec<u8>>>,
}

/// Orders the versions of an address: the newest counts, and of two of one second the lower id.
pub(super) fn version(event: &Event) -> (u64, std::cmp::Reverse<wire::EventId>) {
    (event.created_at(), std::cmp::Reverse(event.id()))
}

impl<'i> Rows<'i> {
    pub(super) fn new(index: &'i dyn Index) -> Self {
        Self {
            index,
            changed: HashMap::new(),
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.changed.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.index.get(key),
        }
    }

    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changed.insert(key, Some(value));
    }

    pub(super) fn remove(&mut self, key: Vec<u8>) {
        self.changed.insert(key, None);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changed.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.changed.len()
    }

    /// The first `max` keys of the range, in order.
    pub(super) fn keys(
        &self,
        from: &[u8],
        to: &[u8],
        max: usize,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let mut found: Vec<Vec<u8>> = self
            .changed
            .iter()
            .filter(|(key, value)| value.is_some() && (from..to).contains(&key.as_slice()))
            .map(|(key, _)| key.clone())
            .collect();
        let mut taken = 0;
        self.index.scan(from, to, &mut |key, _| {
            if !self.changed.contains_key(key) {
                found.push(key.to_vec());
                taken += 1;
            }
            match taken < max {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        found.sort();
        found.truncate(max);
        Ok(found)
    }

    pub(super) fn into_batch(self) -> Batch {
        self.changed.into_iter().collect()
    }

    pub(super) fn entry(&self, id: &Hash) -> Result<Option<Entry>, StoreError> {
        self.get(&keys::event(id))?
            .map(|value| Entry::decode(&value))
            .transpose()
    }

    pub(super) fn number(&self, key: &[u8]) -> Result<Option<u64>, StoreError> {
        let Some(value) = self.get(key)? else {
            return Ok(None);
        };
        Ok(Some(u64::from_be_bytes(keys::take(&mut value.as_slice())?)))
    }

    /// Adds every row of an event that lies at `place`.
    pub(super) fn insert_event(
        &mut self,
        hashes: &Hashes,
        event: &Event,
        place: Place,
        seq: u64,
    ) -> Result<(), StoreError> {
        let id = &hashes.id;
        let entry = Entry {
            place,
            created_at: event.created_at(),
            expires_at: event.expiration().unwrap_or(u64::MAX),
            seq,
            kind: event.kind(),
            recipient: hashes.recipient.unwrap_or_default(),
        };
        self.place_event(id, &entry);
        for key in secondary(hashes, event) {
            self.put(key, Vec::new());
        }
        if let Some(address) = &hashes.address {
            self.put(keys::address(address), id.to_vec());
        }
        self.count(&entry, true)
    }

    /// Removes every row of an event. Where its JSON is gone already (`event` is none), the
    /// secondary rows stay behind; readers skip rows that lead nowhere.
    pub(super) fn remove_event(
        &mut self,
        hasher: &Hasher,
        id: &Hash,
        entry: &Entry,
        event: Option<&Event>,
    ) -> Result<(), StoreError> {
        if let Some(event) = event {
            let hashes = Hashes::of(hasher, event);
            for key in secondary(&hashes, event) {
                self.remove(key);
            }
            if let Some(address) = &hashes.address {
                let key = keys::address(address);
                if self.get(&key)?.as_deref() == Some(id.as_slice()) {
                    self.remove(key);
                }
            }
        } else if entry.expires_at != u64::MAX {
            self.remove(keys::expiry(entry.expires_at, id));
        }
        self.remove(keys::event(id));
        if let Some(mailbox) = mailbox_row(id, entry) {
            self.remove(mailbox);
        }
        self.count(entry, false)
    }

    /// Writes the rows that say where an event lies.
    fn place_event(&mut self, id: &Hash, entry: &Entry) {
        let value = entry.encode();
        if let Some(mailbox) = mailbox_row(id, entry) {
            self.put(mailbox, value.clone());
        }
        self.put(keys::event(id), value);
    }

    /// Keeps the counts of the mailbox and the segment in step with one event.
    fn count(&mut self, entry: &Entry, is_new: bool) -> Result<(), StoreError> {
        let step = |value: u64, by: u64| match is_new {
            true => value.saturating_add(by),
            false => value.saturating_sub(by),
        };
        if entry.recipient != Hash::default() {
            let key = keys::mailbox(&entry.recipient);
            let (count, bytes) = keys::decode_pair(self.get(&key)?.as_deref())?;
            let (count, bytes) = (step(count, 1), step(bytes, u64::from(entry.place.len)));
            match count {
                0 => self.remove(key),
                _ => self.put(key, keys::pair(count, bytes)),
            }
        }
        let key = keys::segment(entry.place.segment);
        let (written, alive) = keys::decode_pair(self.get(&key)?.as_deref())?;
        let size = record::size(entry.place.len);
        let written = if is_new {
            written.saturating_add(size)
        } else {
            written
        };
        self.put(key, keys::pair(written, step(alive, size)));
        Ok(())
    }

    /// Counts bytes of a segment that hold an event no more.
    pub(super) fn count_dead(&mut self, segment: u32, size: u64) -> Result<(), StoreError> {
        let key = keys::segment(segment);
        let (written, alive) = keys::decode_pair(self.get(&key)?.as_deref())?;
        self.put(key, keys::pair(written.saturating_add(size), alive));
        Ok(())
    }

    /// Points an event's row to another place.
    pub(super) fn move_event(
        &mut self,
        id: &Hash,
        entry: &Entry,
        place: Place,
    ) -> Result<(), StoreError> {
        let moved = Entry { place, ..*entry };
        let uncounted = Entry {
            recipient: Hash::default(),
            ..*entry
        };
        self.count(&uncounted, false)?;
        self.count(&Entry { place, ..uncounted }, true)?;
        self.place_event(id, &moved);
        Ok(())
    }
}

/// The row of a wrap in its recipient's mailbox.
fn mailbox_row(id: &Hash, entry: &Entry) -> Option<Vec<u8>> {
    let is_in_one = entry.recipient != Hash::default();
    is_in_one.then(|| keys::at(keys::by_recipient(&entry.recipient), entry.created_at, id))
}

/// The keyed hashes of an event that its rows are made of, each computed once.
#[derive(Debug, Clone)]
pub(super) struct Hashes {
    hasher: Hasher,
    pub(super) id: Hash,
    author: Hash,
    /// Whose mailbox it counts in, for stored wraps.
    pub(super) recipient: Option<Hash>,
    /// Of a replaceable or addressable event.
    pub(super) address: Option<Hash>,
}

impl Hashes {
    pub(super) fn of(hasher: &Hasher, event: &Event) -> Self {
        Self {
            id: hasher.id(&event.id()),
            author: hasher.author(&event.pubkey()),
            recipient: recipient_of(hasher, event),
            address: address_of(hasher, event),
            hasher: hasher.clone(),
        }
    }
}

/// The hash of whose mailbox the event counts in, for stored wraps.
fn recipient_of(hasher: &Hasher, event: &Event) -> Option<Hash> {
    match event.kind() {
        kinds::WRAP => policy::sole_recipient(event.tags()).map(|key| hasher.recipient(&key)),
        _ => None,
    }
}

/// The hash of the address of a replaceable or addressable event.
fn address_of(hasher: &Hasher, event: &Event) -> Option<Hash> {
    let d = match event.kind() {
        kind if kinds::is_replaceable(kind) => "",
        kind if kinds::is_addressable(kind) => event.tags().value("d").unwrap_or_default(),
        _ => return None,
    };
    Some(hasher.address(event.kind(), &event.pubkey(), d))
}

/// The keys that lead to an event, besides its id and its mailbox. Wraps are reached through their
/// recipient only (nobody else may read them), and through their author for NIP-62.
fn secondary(hashes: &Hashes, event: &Event) -> Vec<Vec<u8>> {
    let Hashes { id, author, .. } = hashes;
    let at = |prefix| keys::at(prefix, event.created_at(), id);
    let mut found = vec![at(keys::by_author(author))];
    if let Some(expires_at) = event.expiration() {
        found.push(keys::expiry(expires_at, id));
    }
    if hashes.recipient.is_some() {
        return found;
    }
    found.push(at(keys::by_time()));
    found.push(at(keys::by_kind(event.kind())));
    found.push(at(keys::by_author_and_kind(author, event.kind())));
    for tag in event.tags().iter() {
        if let ([letter], Some(value)) = (tag.name().as_bytes(), tag.value())
            && letter.is_ascii_alphabetic()
        {
            found.push(at(keys::by_tag(&hashes.hasher.tag(*letter, value))));
        }
    }
    found
}
