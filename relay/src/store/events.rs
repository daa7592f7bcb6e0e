//! The store as the rest of the relay sees it: opened once, read by many, written by one.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::bodies::{Bodies, MemoryBodies};
use super::damage::Damage;
use super::folder::FolderLock;
use super::keys::{self, Entry, Hash, Hasher};
use super::log::SegmentLog;
use super::memory::MemoryIndex;
use super::reopenable::Reopenable;
use super::replay::IndexHome;
use super::{Index, StoreError, Stored, Writer};
use crate::metrics::{Counter, Histogram};
use crate::policy::Rules;

/// Bodies and index together.
pub struct EventStore {
    bodies: Kept,
    pub(super) index: Reopenable,
    /// Where the index is opened again; none where it cannot be.
    pub(super) home: Option<IndexHome>,
    hasher: Hasher,
    /// Held as long as the folder is used.
    lock: Mutex<Option<FolderLock>>,
    /// Events that were overwritten.
    pub erased: Counter,
    /// What is known to be lost.
    pub damage: Damage,
    agreement: Mutex<Agreement>,
}

/// Whether log and index agree.
#[derive(Debug, Clone, Copy)]
enum Agreement {
    Whole,
    /// From this segment and offset on the log holds a batch that the index missed.
    Missed(u32, u64),
    Closed,
}

/// Where the bodies are.
enum Kept {
    Memory(MemoryBodies),
    Disk(SegmentLog),
}

impl std::fmt::Debug for EventStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EventStore(..)")
    }
}

/// How much of the log is in use.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Segment files.
    pub segments: u64,
    /// Bytes of records of living events.
    pub alive: u64,
    /// Bytes of records of events that were erased, and whose space was not given back yet.
    pub dead: u64,
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
            Kept::Memory(MemoryBodies::default()),
            Box::new(MemoryIndex::default()),
            None,
            Hasher::new(secret)?,
            Damage::default(),
            None,
        ));
        Ok(Opened {
            writer: Writer::new(store.clone(), rules, 0),
            store,
            warnings: Vec::new(),
        })
    }

    /// A store on disk, in a folder that `lock` holds.
    pub(super) fn on_disk(
        log: SegmentLog,
        index: Box<dyn Index>,
        home: IndexHome,
        hasher: Hasher,
        damage: Damage,
        lock: FolderLock,
    ) -> Self {
        let kept = Kept::Disk(log);
        Self::new(kept, index, Some(home), hasher, damage, Some(lock))
    }

    fn new(
        bodies: Kept,
        index: Box<dyn Index>,
        home: Option<IndexHome>,
        hasher: Hasher,
        damage: Damage,
        lock: Option<FolderLock>,
    ) -> Self {
        Self {
            bodies,
            index: Reopenable::new(index),
            home,
            hasher,
            lock: Mutex::new(lock),
            erased: Counter::default(),
            damage,
            agreement: Mutex::new(Agreement::Whole),
        }
    }

    pub(super) fn bodies(&self) -> &dyn Bodies {
        match &self.bodies {
            Kept::Memory(bodies) => bodies,
            Kept::Disk(log) => log,
        }
    }

    /// The segments, where there are any.
    pub(super) fn log(&self) -> Option<&SegmentLog> {
        match &self.bodies {
            Kept::Memory(_) => None,
            Kept::Disk(log) => Some(log),
        }
    }

    /// Sees to it that the next start has little to replay. Blocks.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        self.index.checkpoint()
    }

    /// Rewrites the index without the rows of what is gone. Blocks, beside reads and writes.
    pub fn compact_index(&self) -> Result<(), StoreError> {
        self.index.compact()
    }

    /// Makes the index durable and lets go of the folder. Nothing may be written afterwards.
    pub fn close(&self) -> Result<(), StoreError> {
        let closed = self.index.close();
        *self.agreement() = Agreement::Closed;
        drop(
            self.lock
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        closed
    }

    pub(super) fn index(&self) -> &dyn Index {
        &self.index
    }

    pub(super) fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    fn agreement(&self) -> MutexGuard<'_, Agreement> {
        self.agreement
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Until this is mended nothing is written: from there on the log holds something that the
    /// index does not know.
    pub(super) fn break_off(&self, segment: u32, offset: u64) {
        let mut agreement = self.agreement();
        if let Agreement::Whole = *agreement {
            *agreement = Agreement::Missed(segment, offset);
        }
    }

    /// Log and index are one again.
    pub(super) fn made_whole(&self) {
        let mut agreement = self.agreement();
        if let Agreement::Missed(..) = *agreement {
            *agreement = Agreement::Whole;
        }
    }

    /// Whether nothing can be written until the store is mended or, once it is closed, at all.
    pub(super) fn is_broken(&self) -> bool {
        !matches!(*self.agreement(), Agreement::Whole)
    }

    /// Whether what is sent can be stored, as far as is known.
    pub(crate) fn is_whole(&self) -> bool {
        !self.is_broken() && !self.index.has_failed()
    }

    /// From which segment and offset on nobody was told of what the log holds; none where nothing
    /// is to be mended, or can be.
    pub(super) fn untold_from(&self) -> Option<(u32, u64)> {
        let agreement = *self.agreement();
        match agreement {
            Agreement::Missed(segment, offset) => Some((segment, offset)),
            Agreement::Whole if self.index.has_failed() => self.log().map(SegmentLog::end),
            Agreement::Whole | Agreement::Closed => None,
        }
    }

    /// Whether there is room for more than deletions.
    pub fn has_room(&self) -> bool {
        self.bodies().has_room()
    }

    /// How long each sync of the log took, in microseconds; none where nothing is on disk.
    pub fn sync_times(&self) -> Option<&Histogram> {
        self.log().map(|log| &log.sync_times)
    }

    /// How much of the log is in use; none where nothing is on disk. Blocks.
    pub fn sizes(&self) -> Result<Option<Sizes>, StoreError> {
        let Some(log) = self.log() else {
            return Ok(None);
        };
        let mut sizes = Sizes::default();
        for segment in log.numbers() {
            let row = self.index.get(&keys::segment(segment))?;
            let (written, alive) = keys::decode_pair(row.as_deref())?;
            sizes.segments = sizes.segments.saturating_add(1);
            sizes.alive = sizes.alive.saturating_add(alive);
            sizes.dead = sizes.dead.saturating_add(written.saturating_sub(alive));
        }
        Ok(Some(sizes))
    }

    /// What the index knows about an event.
    pub(super) fn entry(&self, id: &Hash) -> Result<Option<Entry>, StoreError> {
        self.index
            .get(&keys::event(id))?
            .map(|value| Entry::decode(&value))
            .transpose()
    }

    /// An event, unless it is gone.
    pub(super) fn read(&self, id: &Hash) -> Result<Option<(Entry, Stored)>, StoreError> {
        let Some(mut entry) = self.entry(id)? else {
            return Ok(None);
        };
        loop {
            if let Some(stored) = self.bodies().read(entry.place)? {
                return Ok(Some((entry, stored)));
            }
            // It was erased, or moved to another segment between the two reads; or the index
            // names it still, and it is damaged. A body is erased before its row goes, and moved
            // after its row was.
            let is_erased = self.bodies().is_erased(entry.place)?;
            match self.entry(id)? {
                Some(again) if again.place != entry.place => entry = again,
                Some(_) if !is_erased => {
                    self.damage.note_unreadable(entry.place.segment);
                    return Ok(None);
                }
                _ => return Ok(None),
            }
        }
    }

    /// The events with these ids that lie where `entries` say, in their order; nothing for those
    /// that are gone. Reads neighbours together.
    pub(super) fn read_all(
        &self,
        entries: &[(Hash, Entry)],
    ) -> Result<Vec<Option<Stored>>, StoreError> {
        let places: Vec<_> = entries.iter().map(|(_, entry)| entry.place).collect();
        let mut found = self.bodies().read_all(&places)?;
        for (slot, (id, _)) in found.iter_mut().zip(entries) {
            if slot.is_none() {
                // Erased, or moved meanwhile.
                *slot = self.read(id)?.map(|(_, stored)| stored);
            }
        }
        Ok(found)
    }

    /// Calls `visit` with the JSON of every event, in no particular order, for export. Events
    /// that are past their expiration at `now` are left out. How many could not be read: nobody
    /// may write meanwhile.
    pub fn for_each(
        &self,
        now: u64,
        mut visit: impl FnMut(Bytes) -> Result<(), StoreError>,
    ) -> Result<u64, StoreError> {
        let mut unreadable = 0_u64;
        let mut from = b"E".to_vec();
        loop {
            let mut ids = Vec::new();
            self.index.scan(&from, &keys::end_of(b"E"), &mut |key, _| {
                ids.extend(key.get(1..).and_then(|id| Hash::try_from(id).ok()));
                match ids.len() < 1_000 {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            })?;
            let Some(last) = ids.last() else {
                return Ok(unreadable);
            };
            from = [keys::event(last).as_slice(), &[0]].concat();
            for id in &ids {
                match self.read(id)? {
                    Some((entry, stored)) if entry.expires_at > now => visit(stored.json())?,
                    Some(_) => {}
                    None => {
                        let entry = self.entry(id)?;
                        let is_missed = entry.is_some_and(|entry| entry.expires_at > now);
                        unreadable = unreadable.saturating_add(u64::from(is_missed));
                    }
                }
            }
        }
    }

    /// Whether an event with this id is stored.
    pub fn contains(&self, id: &wire::EventId) -> Result<bool, StoreError> {
        Ok(self.entry(&self.hasher.id(id))?.is_some())
    }
}
