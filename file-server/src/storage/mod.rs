//! Where blobs lie, and who claims them.
//!
//! A blob is stored once, however many people upload it; each of them holds a *claim*, and the
//! blob goes with the last one. [`record`] says what claims and tokens mean, [`memory`] is the
//! readable oracle, [`disk`] is what a server uses, and both pass the same suite in [`contract`].

pub mod contract;
pub mod disk;
pub mod memory;
pub mod record;
pub mod recovery;

use std::io;

pub use disk::DiskStorage;
pub use memory::MemoryStorage;
pub use record::{Claim, Spent};
use wire::Sha256;
use wire::ids::PublicKey;

/// What is known of a blob that may be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// Bytes.
    pub size: u64,
    /// When it came to lie here, Unix seconds.
    pub uploaded_at: u64,
    /// The second from which it is gone, Unix seconds; `None` while a claim has no end.
    pub gone_at: Option<u64>,
}

/// The outcome of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Whether nobody claimed it before.
    pub created: bool,
    /// The blob as it stands now.
    pub blob: Blob,
}

/// What a look through the whole store cost or found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blobs that are claimed, counting those whose end has come but was not swept yet.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that the medium has left, where it says so.
    pub free: Option<u64>,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Blobs whose bytes were erased.
    pub erased: u64,
    /// Erasures that failed and are tried again by the next sweep.
    pub failed: u64,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// No blob of that hash is claimed.
    #[error("no such blob")]
    NotFound,
    /// The key holds no claim on the blob.
    #[error("this key holds no claim on the blob")]
    NotOwner,
    /// The token has done its work already.
    #[error("the token was used before")]
    TokenUsed,
    /// More claims or tokens on one blob than [`record::MAX_CLAIMS`] or [`record::MAX_SPENT`].
    #[error("too many claims on one blob")]
    Crowded,
    /// The medium is full.
    #[error("the disk is full")]
    Full,
    /// Another program uses the same data.
    #[error("another server uses this data folder")]
    Busy,
    /// Anything else the medium said.
    #[error("the disk failed: {0}")]
    Io(io::Error),
}

impl From<io::Error> for StorageError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::Full,
            _ => Self::Io(error),
        }
    }
}

/// A blob store. All calls may block; times are Unix seconds and handed in.
///
/// What every implementation promises, and [`contract`] checks:
/// a blob is readable if and only if its [`Staged::commit`] returned `Ok`, a claim's end lies
/// ahead, and the last claim was not released; what was committed or released is so after a
/// restart; one token does one thing.
pub trait Storage: Send + Sync + 'static {
    /// Begins a blob whose hash is not known yet. Nothing of it can be read before the commit.
    fn stage(&self) -> Result<Box<dyn Staged>, StorageError>;

    /// The blob, if it may be served at `now`.
    fn find(&self, hash: &Sha256, now: u64) -> Option<Blob>;

    /// Opens the blob for reading, if it may be served at `now`.
    fn open(&self, hash: &Sha256, now: u64) -> Result<Box<dyn ReadBlob>, StorageError>;

    /// Whether `token` has done its work on this blob.
    fn is_spent(&self, hash: &Sha256, token: &Spent) -> Result<bool, StorageError>;

    /// Takes back `owner`'s claim and spends `token`, durably and together. With the last claim
    /// the blob can no longer be read, and its bytes are erased at once or, where they are many,
    /// by the next [`Storage::sweep`].
    fn release(
        &self,
        hash: &Sha256,
        owner: &PublicKey,
        token: Spent,
        now: u64,
    ) -> Result<(), StorageError>;

    /// Erases what nobody claims any more and forgets tokens that have expired.
    fn sweep(&self, now: u64) -> Swept;

    /// How much lies here.
    fn usage(&self) -> Usage;
}

/// A blob on its way in. Dropping it erases what was written.
pub trait Staged: Send {
    /// Appends bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError>;

    /// Makes the bytes durable under `hash`, which the caller has computed over exactly what it
    /// wrote, then adds the claim and spends the token, together. On any error nothing of it can
    /// be read, the claim is not there, and the token is not spent.
    fn commit(
        self: Box<Self>,
        hash: &Sha256,
        claim: Claim,
        token: Spent,
        now: u64,
    ) -> Result<Stored, StorageError>;
}

/// A blob that is being read.
pub trait ReadBlob: Send {
    /// Its size in bytes.
    fn size(&self) -> u64;

    /// Reads at `offset` into `buffer` and returns how many bytes, 0 only at the end. Fails once
    /// the blob is erased: a reader never gets the zeros that erasing writes.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError>;
}
