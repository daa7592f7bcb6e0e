//! An index that can be taken away from its readers and put back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use super::{Batch, Index, StoreError, Visit};

/// How often, and how many times, it is tried to take away what somebody still reads.
const TRIES: (Duration, u32) = (Duration::from_millis(10), 100);

/// The index in use, if there is one.
pub(super) struct Reopenable {
    current: RwLock<Option<Arc<dyn Index>>>,
    has_failed: AtomicBool,
    is_damaged: AtomicBool,
}

impl Reopenable {
    pub(super) fn new(index: Box<dyn Index>) -> Self {
        Self {
            current: RwLock::new(Some(Arc::from(index))),
            has_failed: AtomicBool::new(false),
            is_damaged: AtomicBool::new(false),
        }
    }

    /// Whether a read or a batch has failed since it was put here. Engines differ in what they do
    /// after that; none is sure to go on.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire) || self.has_met_damage()
    }

    /// Whether a file does not hold what was written to it. To open such an index again is not
    /// enough.
    pub(super) fn is_damaged(&self) -> bool {
        self.is_damaged.load(Ordering::Acquire) || self.has_met_damage()
    }

    /// Closes it, once nobody uses it. Whoever comes meanwhile gets an error. False where somebody
    /// goes on using it, as a compaction may: then it stays.
    pub(super) fn take_away(&self) -> bool {
        let Some(index) = self.write().take() else {
            return true;
        };
        let (pause, tries) = TRIES;
        for _ in 0..tries {
            if Arc::strong_count(&index) == 1 {
                return true;
            }
            std::thread::sleep(pause);
        }
        *self.write() = Some(index);
        false
    }

    pub(super) fn put_back(&self, index: Box<dyn Index>) {
        let mut current = self.write();
        *current = Some(Arc::from(index));
        self.has_failed.store(false, Ordering::Release);
        self.is_damaged.store(false, Ordering::Release);
    }

    fn write(&self) -> RwLockWriteGuard<'_, Option<Arc<dyn Index>>> {
        self.current.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Result<Arc<dyn Index>, StoreError> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let away = || StoreError::Index("it is being opened again".to_owned());
        current.clone().ok_or_else(away)
    }

    /// It has failed.
    pub(super) fn note(&self) {
        self.has_failed.store(true, Ordering::Release);
    }

    /// The same where it was read.
    pub(super) fn note_read(&self, error: &StoreError) {
        self.is_damaged
            .fetch_or(error.is_damage(), Ordering::AcqRel);
        self.note();
    }
}

impl Index for Reopenable {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let index = self.current()?;
        index.get(key).inspect_err(|error| self.note_read(error))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let index = self.current()?;
        let visited = index.scan(from, to, visit);
        visited.inspect_err(|error| self.note_read(error))
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        let index = self.current()?;
        index.apply(batch).inspect_err(|_| self.note())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.current()?.sync()
    }

    fn checkpoint(&self) -> Result<(), StoreError> {
        self.current()?.checkpoint()
    }

    fn compact(&self) -> Result<(), StoreError> {
        self.current()?.compact()
    }

    fn close(&self) -> Result<(), StoreError> {
        self.current()?.close()
    }

    fn has_met_damage(&self) -> bool {
        self.current().is_ok_and(|index| index.has_met_damage())
    }
}
