//! The data folder: who uses it, what belongs together in it, and what its file system promises.
//!
//! ```text
//! lock              held by the one that uses the folder
//! secret            keys the hashes in the log and the index
//! log/              the segments
//! log/secret.check  a hash under the secret that belongs to the log
//! index/            the index engine's
//! ```

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rand::TryRng as _;
use rand::rngs::SysRng;
use rustix::fs::FlockOperation;

use super::StoreError;
use super::keys::Hasher;
use super::log::{self, sync_folder};

/// Keeps other servers out of a data folder.
#[derive(Debug)]
pub(super) struct FolderLock(File);

impl FolderLock {
    pub(super) fn take(folder: &Path) -> Result<Self, StoreError> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(folder.join("lock"))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::InUse),
            Err(error) => Err(StoreError::Io(error.into())),
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Closing alone would leave it locked for as long as a child that was just forked
        // holds a copy of the descriptor. If this fails, closing is what is left.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// Refuses a folder in which a part is missing without which the rest is no store any more, before
/// an empty one is made in its place.
pub(super) fn refuse_parts(folder: &Path, log_folder: &Path) -> Result<(), StoreError> {
    let names = match std::fs::read_dir(log_folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name())).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return match folder.join("secret").exists() || folder.join("index").exists() {
                true => Err(StoreError::Damaged("the log folder is missing")),
                false => Ok(()),
            };
        }
        Err(error) => Err(error),
    };
    let names: Vec<_> = names?;
    // Both are made after the first segment, and the last one never goes.
    let had_some = names.iter().any(|name| name == log::CHECK) || folder.join("index").exists();
    match had_some && !names.iter().any(|name| name != log::CHECK) {
        true => Err(StoreError::Damaged("the segments of the log are missing")),
        false => Ok(()),
    }
}

/// The store's secret; made with the store.
pub(super) fn secret(folder: &Path, log_folder: &Path) -> Result<[u8; 32], StoreError> {
    let path = folder.join("secret");
    let mut secret = [0; 32];
    match File::open(&path) {
        Ok(mut file) => {
            file.read_exact(&mut secret)
                .map_err(|_| StoreError::Damaged("the secret file is too short"))?;
            // A start that was killed may not have got this far.
            sync_folder(folder)?;
            return Ok(secret);
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    if std::fs::read_dir(log_folder)?.next().is_some() {
        // Without it no deletion that is remembered could be recognised.
        return Err(StoreError::Damaged("the secret file is missing"));
    }
    SysRng
        .try_fill_bytes(&mut secret)
        .map_err(|_| StoreError::Damaged("the system gives no random bytes"))?;
    place(&folder.join("secret.new"), &path, &secret)?;
    sync_folder(folder)?;
    Ok(secret)
}

/// Refuses a secret that is not the one that the log was written with: no deletion that is
/// remembered could be recognised. Whether the log says which that is.
pub(super) fn check_secret(log_folder: &Path, hasher: &Hasher) -> Result<bool, StoreError> {
    match std::fs::read(log_folder.join(log::CHECK)) {
        Ok(check) if check == check_of(hasher).as_bytes() => Ok(true),
        Ok(_) => Err(StoreError::Damaged(
            "the secret file is that of another log",
        )),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Binds the log, which has a segment, to the secret. Stores of earlier versions are bound to the
/// secret that they are opened with first. Where there is no room for that, a later start does it:
/// on a full disk this one is needed to delete.
pub(super) fn bind_secret(
    folder: &Path,
    log_folder: &Path,
    hasher: &Hasher,
) -> Result<(), StoreError> {
    let (new, path) = (folder.join("secret.check.new"), log_folder.join(log::CHECK));
    match place(&new, &path, check_of(hasher).as_bytes()) {
        Err(StoreError::DiskFull) => Ok(()),
        placed => {
            placed?;
            sync_folder(log_folder)?;
            Ok(sync_folder(folder)?)
        }
    }
}

fn check_of(hasher: &Hasher) -> String {
    let hash = hasher.check().map(|byte| format!("{byte:02x}"));
    format!("{}\n", hash.concat())
}

/// Renamed into place, so that a crash leaves all of it or nothing. The folders are for the caller
/// to sync.
fn place(new: &Path, path: &Path, content: &[u8]) -> Result<(), StoreError> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(new)
        .map_err(StoreError::of_write)?;
    file.write_all(content).map_err(StoreError::of_write)?;
    file.sync_all().map_err(StoreError::of_write)?;
    std::fs::rename(new, path).map_err(StoreError::of_write)
}

/// Makes a folder, and those above it that are absent, and sees to it that their names last: what
/// is synced in a folder whose own name never reached the disk is gone after a power loss.
pub(super) fn make_private(folder: &Path) -> Result<(), StoreError> {
    let above = |folder: &Path| match folder.parent() {
        Some(above) if above != Path::new("") => above.to_owned(),
        _ => PathBuf::from("."),
    };
    let absent: Vec<_> = folder
        .ancestors()
        .take_while(|folder| *folder != Path::new("") && !folder.exists())
        .map(above)
        .collect();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(StoreError::of_write)?;
    if absent.is_empty() {
        // It may have been made by a start that was killed before this. Who owns the folder above
        // it may not let us read that one, and then made this one before.
        let _ = sync_folder(&above(folder));
    }
    for above in absent {
        sync_folder(&above).map_err(StoreError::of_write)?;
    }
    Ok(())
}

/// What cannot be promised here: overwriting in place does not destroy the old bytes where the
/// file system writes elsewhere.
pub(super) fn file_system_warning(folder: &Path) -> Vec<String> {
    const COPY_ON_WRITE: [(u64, &str); 5] = [
        (0x9123_683e, "btrfs"),
        (0x2fc1_2fc1, "zfs"),
        (0xca45_1a4e, "bcachefs"),
        (0xf2f5_2010, "f2fs"),
        (0x3434, "nilfs2"),
    ];
    let Ok(info) = rustix::fs::statfs(folder) else {
        return Vec::new();
    };
    // The type's width differs between platforms; the numbers above fit 32 bits.
    let magic = u64::try_from(info.f_type).unwrap_or_default() & 0xffff_ffff;
    COPY_ON_WRITE
        .iter()
        .filter(|(number, _)| *number == magic)
        .map(|(_, name)| {
            format!(
                "the data lies on {name}, which writes changed blocks elsewhere: deleted events \
                 are gone from the files, but their old blocks may stay on the disk for a while"
            )
        })
        .collect()
}
