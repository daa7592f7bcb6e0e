//! The store on disk: plain files, and an order of writes that a crash cannot spoil.
//!
//! ```text
//! lock                   held while a server runs
//! staging/N              blobs on their way in
//! blobs/ab/<hash>        the bytes of a blob
//! claims/ab/<hash>.json  who claims it and which tokens did their work (`Record`)
//! erasing/N              bytes on their way out
//! ```
//!
//! A blob is served if and only if its record names a claim and its bytes have the record's
//! length. So storing makes the bytes durable first (fsync of the file, rename, fsync of the
//! folder) and the record last; erasing changes the record first, then moves the bytes to
//! `erasing/`, overwrites them with zeros, syncs, and unlinks. A crash between two steps leaves
//! bytes without a claim, which the next start erases; see [`super::recovery`].
//!
//! Records are replaced by writing a new file beside them and renaming it, so a reader sees the
//! old one or the new one. Overwriting in place reaches the medium only where the file system
//! does not copy on write and the drive does not remap; `docs/behaviour/file-server.md` says so.

use std::collections::{BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::FlockOperation;
use wire::Sha256;
use wire::ids::PublicKey;

use super::record::Record;
use super::{
    Blob, Claim, ReadBlob, Spent, Staged, Storage, StorageError, Stored, Swept, Usage, recovery,
};

/// A blob of up to this many bytes is erased before its DELETE is answered; a larger one is moved
/// away, so that it cannot be read, and erased by the sweep that the server starts at once.
const ERASE_INLINE_BYTES: u64 = 64 * 1024 * 1024;

/// Blobs under one folder. Clones share it; the folder is locked until the last one is dropped.
#[derive(Clone)]
pub struct DiskStorage(Arc<Disk>);

pub(super) struct Disk {
    pub(super) folders: Folders,
    _lock: Lock,
    index: Mutex<Index>,
    /// Changes to one blob's record and bytes happen one after the other. Blobs share a lock by
    /// their first byte; fsyncs of blobs under different locks run side by side.
    stripes: [Mutex<()>; 256],
    next: AtomicU64,
}

/// Keeps other servers out of a data folder. The kernel lets go of it when the process dies.
struct Lock(File);

impl Lock {
    fn take(root: &Path) -> Result<Self, StorageError> {
        let file = private_file()
            .create(true)
            .truncate(false)
            .open(root.join("lock"))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StorageError::Busy),
            Err(error) => Err(io::Error::from(error).into()),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would leave it locked for as long as a child that was just forked
        // holds a copy of the descriptor. If this fails, closing is what is left.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// What is kept in memory about every blob, so that a look-up touches no disk.
#[derive(Default)]
pub(super) struct Index {
    entries: HashMap<Sha256, Entry>,
    /// When each record next changes by itself.
    due: BTreeSet<(u64, Sha256)>,
    blobs: u64,
    bytes: u64,
}

struct Entry {
    blob: Blob,
    /// Whether the bytes are there; a record may outlive them for its used tokens.
    has_body: bool,
    due_at: Option<u64>,
    /// Set before the bytes are overwritten, and read by readers after each read.
    erased: Arc<AtomicBool>,
}

impl DiskStorage {
    /// Opens or creates the store under `root`, finishing what a crash interrupted.
    ///
    /// Fails with [`StorageError::Busy`] while another process or handle has it open.
    pub fn open(root: &Path) -> Result<Self, StorageError> {
        let folders = Folders::create(root)?;
        let lock = Lock::take(root)?;
        let index = recovery::recover(&folders)?;
        Ok(Self(Arc::new(Disk {
            folders,
            _lock: lock,
            index: Mutex::new(index),
            stripes: [const { Mutex::new(()) }; 256],
            next: AtomicU64::new(0),
        })))
    }

    /// Reads every blob and compares it with its name and record.
    pub fn verify(&self) -> Result<recovery::Verification, StorageError> {
        recovery::verify(&self.0.folders)
    }
}

impl Storage for DiskStorage {
    fn stage(&self) -> Result<Box<dyn Staged>, StorageError> {
        Ok(Box::new(StagedFile {
            disk: Arc::clone(&self.0),
            path: self.0.fresh(&self.0.folders.staging),
            file: None,
            size: 0,
        }))
    }

    fn find(&self, hash: &Sha256, now: u64) -> Option<Blob> {
        self.0.index().alive(hash, now).map(|entry| entry.blob)
    }

    fn open(&self, hash: &Sha256, now: u64) -> Result<Box<dyn ReadBlob>, StorageError> {
        let (size, erased) = {
            let index = self.0.index();
            let entry = index.alive(hash, now).ok_or(StorageError::NotFound)?;
            (entry.blob.size, Arc::clone(&entry.erased))
        };
        match File::open(self.0.folders.blob(hash)) {
            Ok(file) => Ok(Box::new(FileReader { file, size, erased })),
            // It was deleted since the look-up, or somebody took the file away by hand.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StorageError::NotFound),
            Err(error) => Err(error.into()),
        }
    }

    fn is_spent(&self, hash: &Sha256, token: &Spent) -> Result<bool, StorageError> {
        if !self.0.index().entries.contains_key(hash) {
            return Ok(false);
        }
        Ok(self.0.record(hash)?.is_spent(token))
    }

    fn release(
        &self,
        hash: &Sha256,
        owner: &PublicKey,
        token: Spent,
        now: u64,
    ) -> Result<(), StorageError> {
        let _stripe = self.0.stripe(hash);
        let mut record = self.0.record(hash)?;
        if record.is_spent(&token) {
            return Err(StorageError::TokenUsed);
        }
        if self.0.index().alive(hash, now).is_none() {
            return Err(StorageError::NotFound);
        }
        record.expire(now);
        record.release(owner)?;
        record.spend(token)?;
        self.0.write_record(hash, &record)?;
        let claimed = record.is_claimed();
        self.0.index().put(*hash, &record, claimed);
        if !claimed {
            let moved = self.0.take_away(hash)?;
            if record.size <= ERASE_INLINE_BYTES {
                // A sweep may have been faster. On any other failure the blob is deleted all the
                // same; the next sweep tries again and reports it.
                let _ = erase(&moved);
            }
        }
        Ok(())
    }

    fn sweep(&self, now: u64) -> Swept {
        let mut swept = Swept::default();
        let due = self.0.index().due_until(now);
        for hash in due {
            if self.0.expire(&hash, now).is_err() {
                swept.failed += 1;
            }
        }
        let leftovers = recovery::files(&self.0.folders.erasing).unwrap_or_default();
        for path in leftovers {
            match erase(&path) {
                Ok(()) => swept.erased += 1,
                // A DELETE that erases inline was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => swept.failed += 1,
            }
        }
        swept
    }

    fn usage(&self) -> Usage {
        let free = rustix::fs::statvfs(&self.0.folders.root)
            .ok()
            .map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
        let index = self.0.index();
        Usage {
            blobs: index.blobs,
            bytes: index.bytes,
            free,
        }
    }
}

impl Disk {
    /// A panic elsewhere leaves the index whole: it is changed in one call without early returns.
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stripe(&self, hash: &Sha256) -> MutexGuard<'_, ()> {
        let first = usize::from(hash.as_bytes()[0]);
        #[allow(
            clippy::indexing_slicing,
            reason = "one byte counts from 0 to 255 and there are 256 stripes"
        )]
        let stripe = &self.stripes[first];
        stripe.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A path in `folder` that this process has not used; both folders are empty at the start.
    fn fresh(&self, folder: &Path) -> PathBuf {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        folder.join(n.to_string())
    }

    /// The record as it lies on disk; an empty one where there is none or it is damaged. The
    /// bytes of a damaged one are never served, and `verify` reports it.
    fn record(&self, hash: &Sha256) -> Result<Record, StorageError> {
        match std::fs::read(self.folders.record(hash)) {
            Ok(json) => Ok(Record::decode(&json).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Record::new()),
            Err(error) => Err(error.into()),
        }
    }

    fn write_record(&self, hash: &Sha256, record: &Record) -> Result<(), StorageError> {
        let staged = self.fresh(&self.folders.staging);
        let path = self.folders.record(hash);
        let write = || -> io::Result<()> {
            let mut file = private_file().create_new(true).open(&staged)?;
            file.write_all(&record.encode()?)?;
            file.sync_all()?;
            std::fs::rename(&staged, &path)?;
            sync_folder_of(&path)
        };
        write().map_err(|error| {
            // Best effort: the next start empties the folder anyway.
            let _ = std::fs::remove_file(&staged);
            error.into()
        })
    }

    /// Moves a blob's bytes where nobody reads them, durably, and stops those who do.
    fn take_away(&self, hash: &Sha256) -> io::Result<PathBuf> {
        let path = self.folders.blob(hash);
        let moved = self.fresh(&self.folders.erasing);
        std::fs::rename(&path, &moved)?;
        sync_folder_of(&path)?;
        sync_folder_of(&moved)?;
        Ok(moved)
    }

    /// Brings one record up to `now`.
    fn expire(&self, hash: &Sha256, now: u64) -> Result<(), StorageError> {
        let _stripe = self.stripe(hash);
        let mut record = self.record(hash)?;
        record.expire(now);
        let had_body = self.index().has_body(hash);
        if record.is_empty() {
            std::fs::remove_file(self.folders.record(hash))?;
            sync_folder_of(&self.folders.record(hash))?;
        } else {
            self.write_record(hash, &record)?;
        }
        let claimed = record.is_claimed();
        self.index().put(*hash, &record, had_body && claimed);
        if had_body && !claimed {
            self.take_away(hash)?;
        }
        Ok(())
    }
}

impl Index {
    fn alive(&self, hash: &Sha256, now: u64) -> Option<&Entry> {
        self.entries
            .get(hash)
            .filter(|entry| entry.has_body && entry.blob.gone_at.is_none_or(|end| end > now))
    }

    fn has_body(&self, hash: &Sha256) -> bool {
        self.entries.get(hash).is_some_and(|entry| entry.has_body)
    }

    fn due_until(&self, now: u64) -> Vec<Sha256> {
        self.due
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, hash)| *hash)
            .collect()
    }

    /// Replaces what is known of a blob; an empty record without bytes is forgotten.
    pub(super) fn put(&mut self, hash: Sha256, record: &Record, has_body: bool) {
        let old = self.entries.remove(&hash);
        if let Some(old) = &old {
            if let Some(at) = old.due_at {
                self.due.remove(&(at, hash));
            }
            if old.has_body {
                self.blobs = self.blobs.saturating_sub(1);
                self.bytes = self.bytes.saturating_sub(old.blob.size);
            }
        }
        // Readers of bytes that go now are stopped; readers of bytes that stay are left alone.
        let erased = match old {
            Some(old) if old.has_body && has_body => old.erased,
            Some(old) => {
                old.erased.store(true, Ordering::SeqCst);
                Arc::default()
            }
            None => Arc::default(),
        };
        if record.is_empty() && !has_body {
            return;
        }
        let due_at = record.due_at();
        if let Some(at) = due_at {
            self.due.insert((at, hash));
        }
        if has_body {
            self.blobs = self.blobs.saturating_add(1);
            self.bytes = self.bytes.saturating_add(record.size);
        }
        let blob = Blob {
            size: record.size,
            uploaded_at: record.uploaded_at,
            gone_at: record.gone_at(),
        };
        self.entries.insert(
            hash,
            Entry {
                blob,
                has_body,
                due_at,
                erased,
            },
        );
    }
}

struct StagedFile {
    disk: Arc<Disk>,
    path: PathBuf,
    /// Made with the first byte, so that a client which sends none costs no file.
    file: Option<File>,
    size: u64,
}

impl StagedFile {
    fn file(&mut self) -> io::Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => private_file().create_new(true).open(&self.path)?,
        };
        Ok(self.file.insert(file))
    }
}

impl Staged for StagedFile {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.file()?.write_all(bytes)?;
        self.size = self
            .size
            .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    fn commit(
        mut self: Box<Self>,
        hash: &Sha256,
        claim: Claim,
        token: Spent,
        now: u64,
    ) -> Result<Stored, StorageError> {
        // The long part, and it needs no lock.
        self.file()?.sync_all()?;
        let disk = Arc::clone(&self.disk);
        let _stripe = disk.stripe(hash);
        let mut record = disk.record(hash)?;
        record.expire(now);
        record.spend(token)?;
        record.claim(claim)?;
        let created = disk.index().alive(hash, now).is_none();
        if created {
            record.size = self.size;
            record.uploaded_at = now;
        }
        let path = disk.folders.blob(hash);
        let is_new = !disk.index().has_body(hash);
        if is_new {
            std::fs::rename(&self.path, &path)?;
            self.file = None;
        }
        // Up to here nothing points at the bytes; a crash leaves an orphan for the next start.
        let written = sync_folder_of(&path)
            .map_err(StorageError::from)
            .and_then(|()| disk.write_record(hash, &record));
        if let Err(error) = written {
            if is_new {
                // Best effort, for the same reason.
                let _ = erase(&path);
            }
            return Err(error);
        }
        disk.index().put(*hash, &record, true);
        let blob = Blob {
            size: record.size,
            uploaded_at: record.uploaded_at,
            gone_at: record.gone_at(),
        };
        Ok(Stored { created, blob })
    }
}

impl Drop for StagedFile {
    /// Erases what was not committed: a copy of a known blob, or a broken upload.
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // Best effort: the next start empties the folder anyway.
            let _ = erase(&self.path);
        }
    }
}

struct FileReader {
    file: File,
    size: u64,
    erased: Arc<AtomicBool>,
}

impl ReadBlob for FileReader {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
        let count = self.file.read_at(buffer, offset)?;
        // Asked after the read: the flag is set before the first zero is written, so what was
        // read while it was unset is the blob.
        if self.erased.load(Ordering::SeqCst) {
            return Err(StorageError::NotFound);
        }
        Ok(count)
    }
}

/// The folders of a store.
pub(super) struct Folders {
    pub(super) root: PathBuf,
    pub(super) staging: PathBuf,
    pub(super) erasing: PathBuf,
    pub(super) blobs: PathBuf,
    pub(super) claims: PathBuf,
}

impl Folders {
    /// Makes what is missing, readable by its owner only, and durable before it is used.
    fn create(root: &Path) -> io::Result<Self> {
        let folders = Self {
            root: root.to_owned(),
            staging: root.join("staging"),
            erasing: root.join("erasing"),
            blobs: root.join("blobs"),
            claims: root.join("claims"),
        };
        create_private(root)?;
        create_private(&folders.staging)?;
        create_private(&folders.erasing)?;
        for parent in [&folders.blobs, &folders.claims] {
            create_private(parent)?;
            for n in 0..=255_u8 {
                create_private(&parent.join(format!("{n:02x}")))?;
            }
            sync_folder(parent)?;
        }
        sync_folder(root)?;
        Ok(folders)
    }

    /// Where the bytes of a blob lie. The path is made of the hash alone.
    pub(super) fn blob(&self, hash: &Sha256) -> PathBuf {
        let hex = hash.to_hex();
        self.blobs.join(shard(hash)).join(hex)
    }

    /// Where the record of a blob lies.
    pub(super) fn record(&self, hash: &Sha256) -> PathBuf {
        let name = format!("{hash}.json");
        self.claims.join(shard(hash)).join(name)
    }
}

fn shard(hash: &Sha256) -> String {
    format!("{:02x}", hash.as_bytes()[0])
}

fn create_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), sync_folder)
}

/// Overwrites a file with zeros, syncs, and unlinks it.
pub(super) fn erase(path: &Path) -> io::Result<()> {
    static ZEROS: [u8; 65_536] = [0; 65_536];
    let mut file = OpenOptions::new().write(true).open(path)?;
    let mut left = file.metadata()?.len();
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
        file.write_all(ZEROS.get(..count).unwrap_or(&ZEROS))?;
        left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
    }
    file.sync_data()?;
    std::fs::remove_file(path)?;
    sync_folder_of(path)
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
