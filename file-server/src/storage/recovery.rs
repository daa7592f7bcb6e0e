//! What a start does with what the last stop left behind, and what `verify` reads.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use sha2::Digest as _;
use wire::Sha256;

use super::StorageError;
use super::disk::{Folders, Index, erase};
use super::record::Record;

/// What `verify` found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// Blobs that are whole.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those that are not, and what is wrong. They are not served.
    pub damaged: Vec<(Sha256, &'static str)>,
}

/// Finishes what a crash interrupted, and reads all records into an index.
///
/// Bytes in `staging/` were never acknowledged, bytes in `erasing/` were deleted, bytes that no
/// record claims are one or the other: all are erased. A record whose bytes are missing or of
/// another length, or which cannot be read, is left alone for `verify` to report, and not served.
pub(super) fn recover(folders: &Folders) -> Result<Index, StorageError> {
    for folder in [&folders.staging, &folders.erasing] {
        for path in files(folder)? {
            erase(&path)?;
        }
    }
    let mut index = Index::default();
    let mut damaged = 0_u64;
    for (hash, path) in named(&folders.claims)? {
        let Some(record) = Record::decode(&std::fs::read(&path)?) else {
            damaged += 1;
            continue;
        };
        let length = std::fs::metadata(folders.blob(&hash)).map(|meta| meta.len());
        let whole = length.is_ok_and(|length| length == record.size);
        if record.is_claimed() && !whole {
            damaged += 1;
        }
        index.put(hash, &record, record.is_claimed() && whole);
    }
    for (hash, path) in named(&folders.blobs)? {
        let claimed = match std::fs::read(folders.record(&hash)) {
            Ok(json) => Record::decode(&json).is_none_or(|record| record.is_claimed()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error.into()),
        };
        if !claimed {
            erase(&path)?;
        }
    }
    if damaged > 0 {
        tracing::warn!(
            damaged,
            "blobs are not served; `sotto-files verify` names them"
        );
    }
    Ok(index)
}

/// Reads every blob and compares it with its name and its record.
pub(super) fn verify(folders: &Folders) -> Result<Verification, StorageError> {
    let mut found = Verification::default();
    for (hash, path) in named(&folders.claims)? {
        let Some(record) = Record::decode(&std::fs::read(&path)?) else {
            found.damaged.push((hash, "its record cannot be read"));
            continue;
        };
        if !record.is_claimed() {
            continue;
        }
        match digest(&folders.blob(&hash)) {
            Ok((actual, size)) if actual == hash && size == record.size => {
                found.blobs += 1;
                found.bytes = found.bytes.saturating_add(size);
            }
            Ok((_, size)) if size != record.size => {
                found
                    .damaged
                    .push((hash, "its length differs from its record"));
            }
            Ok(_) => found.damaged.push((hash, "its bytes do not have its hash")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                found.damaged.push((hash, "its bytes are missing"));
            }
            Err(_) => found.damaged.push((hash, "its bytes cannot be read")),
        }
    }
    Ok(found)
}

fn digest(path: &Path) -> io::Result<(Sha256, u64)> {
    let mut file = File::open(path)?;
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut size = 0_u64;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((Sha256::from_bytes(hasher.finalize().into()), size));
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
        size = size.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
    }
}

/// The files directly in `folder`.
pub(super) fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// The files in the 256 folders of `parent` that are called by a hash. Others are not ours.
fn named(parent: &Path) -> io::Result<Vec<(Sha256, PathBuf)>> {
    let mut found = Vec::new();
    for n in 0..=255_u8 {
        for path in files(&parent.join(format!("{n:02x}")))? {
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            if let Some(hash) = stem.and_then(|stem| Sha256::from_hex(stem).ok()) {
                found.push((hash, path));
            }
        }
    }
    Ok(found)
}
