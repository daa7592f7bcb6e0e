//! An index engine: fjall, a log-structured merge tree.
//!
//! Batches go to its journal without a sync of their own; after a power loss it comes back as it
//! was some batches ago, and the store replays the rest from the log.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::log::sync_files;
use super::{Batch, Index, StoreError, Visit};

/// Memory for cached blocks.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;
/// Rows in memory before they are written out as a table.
const MEMTABLE_BYTES: u64 = 16 * 1024 * 1024;
/// Journals on disk before rows are written out early.
const JOURNAL_BYTES: u64 = 128 * 1024 * 1024;

/// How often, and how many times, it is looked whether memory is on the disk.
const WRITE_TRIES: (Duration, u32) = (Duration::from_millis(10), 6_000);

/// Below the keys of all rows.
const NO_ROW: &[u8] = &[0];

/// An index on disk.
pub struct FjallIndex {
    folder: PathBuf,
    database: Database,
    rows: Keyspace,
}

impl FjallIndex {
    /// Opens or makes the index in `folder`, which fjall alone uses.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let database = Database::builder(folder)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(1)
            .open()
            .map_err(failed)?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let rows = database.keyspace("index", options).map_err(failed)?;
        Ok(Self {
            folder: folder.to_owned(),
            database,
            rows,
        })
    }
}

impl Index for FjallIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.rows.get(key).map_err(failed)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        for row in self.rows.range(from..to) {
            let (key, value) = row.into_inner().map_err(failed)?;
            if visit(&key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        let mut rows = self.database.batch();
        for (key, value) in batch {
            match value {
                Some(value) => rows.insert(&self.rows, key, value),
                None => rows.remove(&self.rows, key),
            }
        }
        rows.commit().map_err(failed)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.database.persist(PersistMode::SyncAll).map_err(failed)
    }

    fn compact(&self) -> Result<(), StoreError> {
        self.write_out()?;
        self.rows.major_compact().map_err(failed)?;
        // The tables of before are removed when memory is written out the next time, for which
        // there has to be something in it. Its journal stays until it has 64 MiB: nothing can ask
        // for its end, and it holds keyed hashes and times.
        self.rows.insert(NO_ROW, []).map_err(failed)?;
        self.rows.remove(NO_ROW).map_err(failed)?;
        self.write_out()
    }

    /// It does not sync the names of all its files.
    fn close(&self) -> Result<(), StoreError> {
        self.sync()?;
        sync_files(&self.folder).map_err(StoreError::of_write)
    }
}

impl FjallIndex {
    /// Writes what is in memory to tables. fjall's own way to wait for that has no end where its
    /// thread has met a full disk.
    fn write_out(&self) -> Result<(), StoreError> {
        if !self.rows.rotate_memtable().map_err(failed)? {
            return Ok(());
        }
        let (pause, tries) = WRITE_TRIES;
        for _ in 0..tries {
            if self.rows.sealed_memtable_count() == 0 {
                return Ok(());
            }
            std::thread::sleep(pause);
        }
        let slow = "it does not get its memory onto the disk";
        Err(std::io::Error::new(std::io::ErrorKind::TimedOut, slow).into())
    }
}

fn failed(error: fjall::Error) -> StoreError {
    match error {
        fjall::Error::Io(error) => StoreError::of_write(error),
        fjall::Error::Poisoned => std::io::Error::other("an earlier write failed").into(),
        // Its text may quote rows; the kind of failure is enough to act on.
        other => StoreError::Index(kind_of(&other).to_owned()),
    }
}

fn kind_of(error: &fjall::Error) -> &'static str {
    match error {
        fjall::Error::Locked => "it is in use",
        _ => "the engine reported a damaged or unreadable file",
    }
}
