//! Where events are kept.
//!
//! Two layers, and one rule between them:
//!
//! * [`log`]: the **bodies**. Segment files, append-only, the JSON as it came, one `fdatasync`
//!   per batch. The log is the truth; everything else can be rebuilt from it.
//! * [`Index`]: ordered keys that say where a body lies. It holds keyed hashes ([`keys`]), times
//!   and places, never a byte of an event's id, author, tags or content, so that erasing a body
//!   in the log is all it takes to forget it.
//! * **The rule**: an index batch is applied after the log was synced, and carries the place in
//!   the log that it has reached. At the start the log's tail from that place is replayed, so an
//!   engine may lose its last batches, or everything.
//!
//! Above them: [`events`] opens both and reads, [`transaction`] writes, [`query`] answers
//! filters, [`compaction`] gives space back. [`recovery`] opens a store on disk, [`mending`] an index that
//! has failed in a running relay, both by [`replay`]; [`damage`] is what is known to be lost. [`contract`] is the suite that every index passes.

pub mod bodies;
pub mod compaction;
pub mod contract;
pub mod damage;
pub mod engine;
pub mod events;
pub mod fjall;
mod folder;
pub mod keys;
pub mod log;
pub mod memory;
pub mod mending;
pub mod query;
pub mod record;
pub mod recovery;
mod reopenable;
mod replay;
mod rows;
pub mod runs;
pub mod sled;
pub mod stored;
pub mod transaction;

use std::ops::ControlFlow;

pub use events::{EventStore, Opened, Sizes};
pub use query::Query;
pub use stored::Stored;
pub use transaction::{Outcome, Transaction, Writer};

/// An ordered map of byte strings with atomic batches.
///
/// What every engine promises, and [`contract`] tests:
///
/// 1. `apply` is atomic: a start after a crash sees all rows of a batch or none. A reader beside
///    it may see some of them before it has returned.
/// 2. Batches become durable in the order they were applied; the last ones may be lost.
/// 3. `scan` visits `from <= key < to` in ascending order of bytes, over a state that contains
///    every batch applied before the call; it may or may not see batches applied during it.
/// 4. Keys are at most 64 bytes, values at most 1 KiB.
/// 5. One thread applies at a time; any number read, sync or compact beside it.
pub trait Index: Send + Sync {
    /// The value of `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Calls `visit` for each row of the range until it breaks.
    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError>;

    /// Writes a batch.
    fn apply(&self, batch: Batch) -> Result<(), StoreError>;

    /// Makes everything applied so far durable. Not needed for correctness; the less there is to
    /// replay, the faster the next start.
    fn sync(&self) -> Result<(), StoreError>;

    /// Asked for every few seconds, so that a start after a crash has little to replay. An engine
    /// that keeps that little by itself may do nothing.
    fn checkpoint(&self) -> Result<(), StoreError> {
        self.sync()
    }

    /// Rewrites what is needed so that removed rows leave the disk.
    fn compact(&self) -> Result<(), StoreError>;

    /// Makes everything durable. Nothing is asked of it afterwards.
    fn close(&self) -> Result<(), StoreError> {
        self.sync()
    }

    /// Whether it has met, in work of its own that nobody waits for, a file that does not hold what
    /// was written to it. An engine that says so to whoever reads next need not.
    fn has_met_damage(&self) -> bool {
        false
    }
}

/// Takes the key and value of a row, and says whether to go on.
pub type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;

/// Rows to write (`Some`) or to remove (`None`). Of several for one key the last counts.
pub type Batch = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk is full, or has less room than the reserve: nothing was written; reading and
    /// deleting go on.
    #[error("the disk is full")]
    DiskFull,
    /// Another server uses the folder.
    #[error("another server uses this data folder")]
    InUse,
    /// What lies in the folder is not, or no longer, a store: nothing was changed.
    #[error("the store is damaged: {0}")]
    Damaged(&'static str),
    /// The file system failed.
    #[error("the disk failed: {0}")]
    Io(#[from] std::io::Error),
    /// The index engine failed. The log is whole; what the index missed is replayed from it.
    #[error("the index failed: {0}")]
    Index(String),
}

impl StoreError {
    /// The text of `OK` false for it: says what a client can do, nothing of the machine.
    pub fn for_client(&self) -> &'static str {
        match self {
            Self::DiskFull => "the relay's disk is full, nothing was stored",
            _ => "the relay could not store the event, try again later",
        }
    }

    /// Whether files do not hold what was written to them: to try again is of no use.
    pub(crate) fn is_damage(&self) -> bool {
        use std::io::ErrorKind;
        match self {
            Self::Index(_) | Self::Damaged(_) => true,
            Self::Io(error) => matches!(
                error.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::NotFound
            ),
            Self::DiskFull | Self::InUse => false,
        }
    }

    /// A failed write: a full disk is told apart.
    pub(crate) fn of_write(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io(error),
        }
    }
}
