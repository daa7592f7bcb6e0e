//! The store as the rest of the relay sees it: opened once, read by many, written by one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::bodies::{Bodies, MemoryBodies};
use super::keys::{self, Entry, Hash, Hasher};
use super::memory::MemoryIndex;
use super::{Index, StoreError, Writer};
use crate::policy::Rules;

/// Bodies and index together.
pub struct EventStore {
    bodies: Box<dyn Bodies>,
    index: Box<dyn Index>,
    hasher: Hasher,
    /// Set where log and index no longer agree; only a restart brings them together again.
    is_broken: AtomicBool,
}

impl std::fmt::Debug for EventStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EventStore(..)")
    }
}

/// A store that was opened.
#[derive(Debug)]
pub struct Opened {
    /// For reading, shared.
    pub store: Arc<EventStore>,
    /// For writing, owned by one thread.
    pub writer: Writer,
    /// What cannot be promised on this file system, and what had to be mended; for the operator.
    pub warnings: Vec<String>,
}

impl EventStore {
    /// A store that is gone when it is dropped. `secret` keys the index's hashes.
    pub fn in_memory(rules: Rules, secret: &[u8; 32]) -> Result<Opened, StoreError> {
        let store = Arc::new(Self::new(
            Box::new(MemoryBodies::default()),
            Box::new(MemoryIndex::default()),
            Hasher::new(secret)?,
        ));
        Ok(Opened {
            writer: Writer::new(store.clone(), rules, 0),
            store,
            warnings: Vec::new(),
        })
    }

    pub(super) fn new(bodies: Box<dyn Bodies>, index: Box<dyn Index>, hasher: Hasher) -> Self {
        Self {
            bodies,
            index,
            hasher,
            is_broken: AtomicBool::new(false),
        }
    }

    pub(super) fn bodies(&self) -> &dyn Bodies {
        &*self.bodies
    }

    pub(super) fn index(&self) -> &dyn Index {
        &*self.index
    }

    pub(super) fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    /// From now on nothing is written: the log holds something that the index does not know.
    pub(super) fn break_off(&self) {
        self.is_broken.store(true, Ordering::Release);
    }

    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Acquire)
    }

    /// What the index knows about an event.
    pub(super) fn entry(&self, id: &Hash) -> Result<Option<Entry>, StoreError> {
        self.index
            .get(&keys::event(id))?
            .map(|value| Entry::decode(&value))
            .transpose()
    }

    /// An event and its JSON, unless it is gone.
    pub(super) fn read(&self, id: &Hash) -> Result<Option<(Entry, Bytes)>, StoreError> {
        let Some(mut entry) = self.entry(id)? else {
            return Ok(None);
        };
        loop {
            if let Some(json) = self.bodies.read(entry.place)? {
                return Ok(Some((entry, json)));
            }
            // It was erased, or moved to another segment between the two reads.
            match self.entry(id)? {
                Some(again) if again.place != entry.place => entry = again,
                _ => return Ok(None),
            }
        }
    }

    /// Whether an event with this id is stored.
    pub fn contains(&self, id: &wire::EventId) -> Result<bool, StoreError> {
        Ok(self.entry(&self.hasher.id(id))?.is_some())
    }
}
