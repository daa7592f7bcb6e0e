//! What the servers' disks hold, read behind their backs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use client_core::Result;
use memchr::memmem;
use serde::{Deserialize, Serialize};

/// An event as a relay stores it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct StoredEvent {
    /// Its id, hex.
    pub id: String,
    /// Its kind.
    pub kind: u16,
    /// The time that it claims.
    pub created_at: u64,
    /// Its author, hex.
    pub pubkey: String,
    /// Its tags.
    pub tags: Vec<Vec<String>>,
    /// Its content.
    pub content: String,
    /// Its signature, hex.
    pub sig: String,
}

impl StoredEvent {
    /// Bytes of its JSON.
    pub fn size(&self) -> u64 {
        let json = serde_json::to_string(self).map_or(0, |json| json.len());
        u64::try_from(json).unwrap_or(u64::MAX)
    }

    /// The recipient that it names, if it names one.
    pub fn recipient(&self) -> Option<&str> {
        self.tags.iter().find_map(|tag| match tag.as_slice() {
            [name, value, ..] if name == "p" => Some(value.as_str()),
            _ => None,
        })
    }
}

/// A blob as a file server stores it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct StoredBlob {
    /// SHA-256 of what is stored, hex: its name.
    pub hash: String,
    /// Its size, bytes.
    pub size: u64,
}

/// Every file below `folder` with its bytes. Files come and go while servers run: one that is
/// gone when its turn comes holds nothing.
pub fn files(folder: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                waiting.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                found.push((path, bytes));
            }
        }
    }
    Ok(found)
}

/// Whether any file below `folder` holds `needle`.
pub fn holds(folder: &Path, needle: &[u8]) -> Result<bool> {
    Ok(files(folder)?
        .iter()
        .any(|(_, bytes)| contains(bytes, needle)))
}

/// Whether `bytes` hold `needle`.
pub fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    memmem::find(bytes, needle).is_some()
}

/// Every event in a relay's files, by looking for its JSON: no index is asked, and nothing that
/// is still on the disk is missed.
pub fn events(folder: &Path) -> Result<BTreeSet<StoredEvent>> {
    let mut found = BTreeSet::new();
    for (_, bytes) in files(folder)? {
        let mut rest = bytes.as_slice();
        while let Some(start) = memmem::find(rest, b"{\"") {
            let (_, from) = rest.split_at_checked(start).unwrap_or((&[], &[]));
            let mut reader = serde_json::Deserializer::from_slice(from).into_iter::<StoredEvent>();
            let event = reader.next();
            let read = match event {
                Some(Ok(event)) => {
                    found.insert(event);
                    reader.byte_offset()
                }
                _ => 1,
            };
            rest = from.get(read..).unwrap_or(&[]);
        }
    }
    Ok(found)
}

/// Every blob in a file server's folder: the files that are named by a hash alone.
pub fn blobs(folder: &Path) -> Result<BTreeSet<StoredBlob>> {
    let mut found = BTreeSet::new();
    for (path, bytes) in files(folder)? {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.unwrap_or_default();
        if name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
            found.insert(StoredBlob {
                hash: name.to_owned(),
                size: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            });
        }
    }
    Ok(found)
}

/// Whether nothing of `events` is left below `folder`: no content, no signature, no JSON.
pub fn is_free_of(folder: &Path, events: &BTreeSet<StoredEvent>) -> Result<bool> {
    let files = files(folder)?;
    Ok(events.iter().all(|event| {
        let start = event.content.get(..64).unwrap_or(&event.content);
        let traces = [start.as_bytes(), event.sig.as_bytes()];
        files
            .iter()
            .all(|(_, bytes)| !traces.iter().any(|trace| contains(bytes, trace)))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_between_other_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let event = r#"{"id":"aa","pubkey":"bb","created_at":7,"kind":1059,"tags":[["p","cc"]],"content":"{\"x","sig":"dd"}"#;
        let bytes = [
            b"\x00\xff{\"".as_slice(),
            event.as_bytes(),
            b"{\"broken",
            event.as_bytes(),
        ];
        std::fs::create_dir(folder.path().join("deep")).unwrap();
        std::fs::write(folder.path().join("deep/1.log"), bytes.concat()).unwrap();
        let found = events(folder.path()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found.first().unwrap().recipient(), Some("cc"));
        assert!(!is_free_of(folder.path(), &found).unwrap());
        std::fs::write(folder.path().join("deep/1.log"), b"\0\0\0").unwrap();
        assert!(is_free_of(folder.path(), &found).unwrap());
    }
}
