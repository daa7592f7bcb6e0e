//! The second index engine: sled, a lock-free tree over a log of its own.
//!
//! Four things that [`Index`] asks for and sled does not give are added here:
//!
//! * Its `flush` hands pages to the kernel and does not wait for the disk: [`Index::sync`] syncs
//!   the file as well.
//! * It never rewrites what removed rows leave behind: [`Index::compact`] copies the living rows
//!   into a new database beside the old one, chunk by chunk between batches, and removes the old.
//! * It uses space again before the disk has what lay there elsewhere, so a power loss may leave rows
//!   of late batches without those of earlier ones: a database that was open when the machine went
//!   down counts as damaged ([`mark`]).
//! * It panics where others return an error, and after a power loss it may open and panic only
//!   when it reads: each call is guarded, and a database that does not read its files is disowned,
//!   so that whoever opens it next builds the index anew.
//!
//! ```text
//! index/current   the number of the database in use
//! index/<number>  a folder that is sled's
//! index/state     whether it is open
//! ```

mod mark;

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use rustix::fs::FlockOperation;

use mark::Mark;

use super::log::{sync_files, sync_folder};
use super::{Batch, Index, StoreError, Visit};

/// Memory for cached pages.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;
/// Rows copied between two batches while compacting: a few milliseconds.
const COPY_ROWS: usize = 1_000;
/// How often, and how many times, a database is tried that its last user has not let go of.
const LOCK_TRIES: (Duration, u32) = (Duration::from_millis(10), 500);

/// An index on disk.
pub struct SledIndex {
    folder: PathBuf,
    current: RwLock<Arc<Database>>,
    mark: Mark,
    /// Held while a batch or a chunk of a compaction is written.
    next: Mutex<Option<Arc<Database>>>,
    /// One compaction at a time.
    compacting: Mutex<()>,
    /// Set where a database does not hold what was written to it.
    is_disowned: AtomicBool,
}

impl SledIndex {
    /// Opens or makes the index in `folder`, which it alone uses.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let name = entry?.file_name();
            numbers.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        let garbled = || StoreError::Index("the name of its database is garbled".to_owned());
        let (number, mark) = match std::fs::read_to_string(folder.join("current")) {
            Ok(text) => {
                let number = text.trim().parse().map_err(|_| garbled())?;
                (number, Mark::open(folder, false)?)
            }
            // Not UTF-8.
            Err(error) if error.kind() == ErrorKind::InvalidData => return Err(garbled()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let number = numbers
                    .iter()
                    .max()
                    .map_or(1, |last| last.saturating_add(1));
                let mark = Mark::open(folder, true)?;
                set_current(folder, number)?;
                (number, mark)
            }
            Err(error) => return Err(error.into()),
        };
        // A compaction that was interrupted before or after its end.
        for other in numbers.into_iter().filter(|other| *other != number) {
            std::fs::remove_dir_all(folder.join(other.to_string()))?;
        }
        Ok(Self {
            folder: folder.to_owned(),
            current: RwLock::new(Arc::new(Database::open(folder, number)?)),
            mark,
            next: Mutex::new(None),
            compacting: Mutex::new(()),
            is_disowned: AtomicBool::new(false),
        })
    }

    /// The database does not read its files: nothing here can mend it, but the log can. Whoever
    /// opens it next finds no database in use, and makes one.
    fn note_damage(&self, error: &StoreError) {
        let is_damage = matches!(error, StoreError::Index(_));
        if is_damage && !self.is_disowned.swap(true, Ordering::AcqRel) {
            tracing::error!(%error, "the index is damaged");
            // Not while a compaction names another. Where even this fails, the next start finds
            // the same damage again.
            let _writing = self.next();
            let current = self.folder.join("current");
            let _ = std::fs::remove_file(current).and_then(|()| sync_folder(&self.folder));
        }
    }

    fn current(&self) -> Arc<Database> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    fn next(&self) -> MutexGuard<'_, Option<Arc<Database>>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies every row to `next`. Batches that are applied meanwhile go to both, so a row that
    /// was copied before it changed has changed there as well.
    fn copy(&self, next: &Arc<Database>) -> Result<(), StoreError> {
        let current = self.current();
        let mut from = Vec::new();
        loop {
            let writing = self.next();
            if writing.is_none() {
                return Err(gave_up());
            }
            let mut chunk = Batch::with_capacity(COPY_ROWS);
            current.visit(&from, None, &mut |key, value| {
                chunk.push((key.to_vec(), Some(value.to_vec())));
                match chunk.len() < COPY_ROWS {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            })?;
            let Some((last, _)) = chunk.last() else {
                return Ok(());
            };
            from = [last.as_slice(), &[0]].concat();
            next.apply(&chunk)?;
            drop(writing);
        }
    }

    /// Makes `next` the database in use.
    fn switch_to(&self, next: &Arc<Database>) -> Result<(), StoreError> {
        // Most of it before batches have to wait.
        next.sync()?;
        let mut writing = self.next();
        if writing.is_none() {
            return Err(gave_up());
        }
        next.sync()?;
        if self.is_disowned.load(Ordering::Acquire) {
            return Err(gave_up());
        }
        set_current(&self.folder, next.number)?;
        *writing = None;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, next.clone());
        drop(current);
        // Its files go with the last reader.
        old.is_retired.store(true, Ordering::Release);
        Ok(())
    }
}

impl Index for SledIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.current().get(key);
        found.inspect_err(|error| self.note_damage(error))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        match from < to {
            true => {
                let visited = self.current().visit(from, Some(to), visit);
                visited.inspect_err(|error| self.note_damage(error))
            }
            false => Ok(()),
        }
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        let mut next = self.next();
        self.current().apply(&batch)?;
        if let Some(database) = &*next
            && database.apply(&batch).is_err()
        {
            // The batch itself is written; only the compaction has to begin again another time.
            *next = None;
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.current().sync()
    }

    fn compact(&self) -> Result<(), StoreError> {
        let _one = self
            .compacting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let number = self.current().number.saturating_add(1);
        // What an attempt that failed could not remove must not come back as rows.
        match std::fs::remove_dir_all(self.folder.join(number.to_string())) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let next = Arc::new(Database::open(&self.folder, number)?);
        *self.next() = Some(next.clone());
        let done = self.copy(&next).and_then(|()| self.switch_to(&next));
        if done.is_err() {
            *self.next() = None;
            next.is_retired.store(true, Ordering::Release);
        }
        done
    }

    /// Afterwards every call fails.
    fn close(&self) -> Result<(), StoreError> {
        let mut next = self.next();
        *next = None;
        let current = self.current();
        current.sync()?;
        let folder = current.folder.clone();
        let closed = Arc::new(Database {
            folder: folder.clone(),
            number: current.number,
            rows: None,
            is_retired: AtomicBool::new(false),
        });
        drop(current);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = closed;
        match wait_for_lock(&folder.join("db")) {
            // Somebody still reads: it is whole, and counts unless the machine goes down as well.
            Err(StoreError::InUse) => return Ok(()),
            waited => waited?,
        }
        // Also what it has written while it was let go of.
        sync_files(&self.folder).map_err(StoreError::of_write)?;
        self.mark.close()
    }
}

/// One database of sled's, removed with its last user once it is retired.
struct Database {
    folder: PathBuf,
    number: u64,
    rows: Option<sled::Db>,
    is_retired: AtomicBool,
}

impl Database {
    fn open(index: &Path, number: u64) -> Result<Self, StoreError> {
        let folder = index.join(number.to_string());
        wait_for_lock(&folder.join("db"))?;
        let config = sled::Config::new()
            .path(&folder)
            .cache_capacity(CACHE_BYTES);
        Ok(Self {
            rows: Some(guarded(|| config.open())?),
            folder,
            number,
            is_retired: AtomicBool::new(false),
        })
    }

    fn rows(&self) -> Result<&sled::Db, StoreError> {
        let closed = || StoreError::Index("it is closed".to_owned());
        self.rows.as_ref().ok_or_else(closed)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let rows = self.rows()?;
        Ok(guarded(|| rows.get(key))?.map(|value| value.to_vec()))
    }

    /// Visits the rows from `from` to the end, or before `to`.
    fn visit(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        let rows = self.rows()?;
        let mut found = guarded(|| {
            Ok(match to {
                Some(to) => rows.range(from..to),
                None => rows.range(from..),
            })
        })?;
        while let Some((key, value)) = guarded(|| found.next().transpose())? {
            if visit(&key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut rows = sled::Batch::default();
        for (key, value) in batch {
            match value {
                Some(value) => rows.insert(key.as_slice(), value.as_slice()),
                None => rows.remove(key.as_slice()),
            }
        }
        let database = self.rows()?;
        guarded(|| database.apply_batch(rows))
    }

    fn sync(&self) -> Result<(), StoreError> {
        let rows = self.rows()?;
        guarded(|| rows.flush())?;
        File::open(self.folder.join("db"))?
            .sync_all()
            .map_err(StoreError::of_write)?;
        sync_folder(&self.folder).map_err(StoreError::of_write)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // It writes what it has in memory, and panics where the disk does not take it.
        let rows = self.rows.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(rows)));
        if self.is_retired.load(Ordering::Acquire) {
            // What is left is removed by the next start.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// sled holds a lock on its file until its last thread has let go of it, which may be a moment
/// after the index was dropped. Nobody else can hold it: the data folder is locked.
fn wait_for_lock(path: &Path) -> Result<(), StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let (pause, tries) = LOCK_TRIES;
    for _ in 0..tries {
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = rustix::fs::flock(&file, FlockOperation::Unlock);
            return Ok(());
        }
        std::thread::sleep(pause);
    }
    Err(StoreError::InUse)
}

/// Durable when it returns; a crash leaves the old number or the new one.
fn set_current(folder: &Path, number: u64) -> Result<(), StoreError> {
    let new = folder.join("current.new");
    let written = File::create(&new)
        .and_then(|mut file| {
            file.write_all(format!("{number}\n").as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&new, folder.join("current")))
        .and_then(|()| sync_folder(folder));
    written.map_err(StoreError::of_write)
}

fn guarded<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    // A panic may leave a batch half done; the store applies none after one that failed.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(failed),
        Err(_) => Err(StoreError::Index("the engine panicked".to_owned())),
    }
}

fn failed(error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(error) => StoreError::of_write(error),
        // Their texts may quote rows; the kind of failure is enough to act on.
        sled::Error::Corruption { .. } => StoreError::Index("it is corrupt".to_owned()),
        _ => StoreError::Index("the engine does not read its files".to_owned()),
    }
}

fn gave_up() -> StoreError {
    StoreError::Index("its compaction was given up, and is tried again later".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_crash_15_a_number_that_is_garbled_is_damage_and_no_failing_disk() {
        for garbage in [&b"\xff\xfe"[..], b"", b"1 2", b"-1"] {
            let folder = tempfile::tempdir().unwrap();
            drop(SledIndex::open(folder.path()).unwrap());
            std::fs::write(folder.path().join("current"), garbage).unwrap();
            let error = SledIndex::open(folder.path()).err().unwrap();
            assert!(error.is_damage(), "{garbage:?}: {error}");
        }
    }
}
