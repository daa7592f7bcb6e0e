//! What the store asks of whatever keeps the bodies: the segment log, or memory.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use super::keys::Place;
use super::record::{self, Record};
use super::{StoreError, Stored};

/// Keeps records. One thread writes; any number read.
pub trait Bodies: Send + Sync {
    /// Where the next record will lie; opens a new segment first where the last one is full.
    fn stage(&self) -> Result<Staged, StoreError>;

    /// Whether there is room for more than deletions.
    fn has_room(&self) -> bool;

    /// Makes all staged records durable, or none as far as any later start can see.
    fn write(&self, staged: &Staged) -> Result<(), StoreError>;

    /// Overwrites the bodies with zeros, durably. Their erasures were written before.
    fn erase(&self, places: &[Place]) -> Result<(), StoreError>;

    /// Whether the body at `place` was erased; where it was not and reads as nothing, it is damaged.
    fn is_erased(&self, place: Place) -> Result<bool, StoreError>;

    /// The event at each of `places`, in their order; nothing where it was erased or does not hold.
    fn read_all(&self, places: &[Place]) -> Result<Vec<Option<Stored>>, StoreError>;

    /// The event at `place`; nothing where it was erased or does not hold.
    fn read(&self, place: Place) -> Result<Option<Stored>, StoreError> {
        Ok(self.read_all(&[place])?.pop().flatten())
    }
}

/// Records that are to be written together, with their places already known.
#[derive(Debug)]
pub struct Staged {
    segment: u32,
    start: u64,
    bytes: Vec<u8>,
    events: Vec<(Place, Stored)>,
}

impl Staged {
    /// Nothing yet, to be written to `segment` from `start` on.
    pub fn at(segment: u32, start: u64) -> Self {
        Self {
            segment,
            start,
            bytes: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Adds a record; where it will lie.
    pub fn push(&mut self, record: &Record) -> Result<Place, StoreError> {
        let offset = self.end();
        let len = record::encode(record, &mut self.bytes)?;
        let place = Place {
            segment: self.segment,
            offset,
            len,
        };
        if let Record::Event(stored) = record {
            self.events.push((place, stored.clone()));
        }
        Ok(place)
    }

    /// The segment that it goes to.
    pub fn segment(&self) -> u32 {
        self.segment
    }

    /// The offset of the first record.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The offset after the last record.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.bytes.len() as u64)
    }

    /// The encoded records.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Bodies in memory. The counterpart of the in-memory index: together they are the model that
/// the store on disk is compared with.
#[derive(Debug, Default)]
pub struct MemoryBodies {
    state: RwLock<MemoryState>,
}

#[derive(Debug, Default)]
struct MemoryState {
    end: u64,
    events: BTreeMap<Place, Stored>,
}

impl Bodies for MemoryBodies {
    fn stage(&self) -> Result<Staged, StoreError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        Ok(Staged::at(0, state.end))
    }

    fn has_room(&self) -> bool {
        true
    }

    fn write(&self, staged: &Staged) -> Result<(), StoreError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.end = staged.end();
        state.events.extend(staged.events.iter().cloned());
        Ok(())
    }

    fn erase(&self, places: &[Place]) -> Result<(), StoreError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for place in places {
            state.events.remove(place);
        }
        Ok(())
    }

    fn is_erased(&self, place: Place) -> Result<bool, StoreError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        Ok(!state.events.contains_key(&place))
    }

    fn read_all(&self, places: &[Place]) -> Result<Vec<Option<Stored>>, StoreError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let found = places.iter().map(|place| state.events.get(place).cloned());
        Ok(found.collect())
    }
}
