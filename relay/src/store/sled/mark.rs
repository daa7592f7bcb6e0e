//! Whether the machine has gone down while a database was open: sled does not always notice, and
//! may then have rows of late batches without those of earlier ones.
//!
//! `index/state` says `open`, and since which start of the machine, or `closed`. It is one sector,
//! so it is never torn, and is overwritten in place, for which a full disk has room.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::super::StoreError;
use super::super::log::sync_folder;

const NAME: &str = "state";
const LEN: usize = 64;
/// Another one after each start of the machine (Linux). Elsewhere none, and no database counts
/// that was not closed.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The file of an index that is open.
#[derive(Debug)]
pub struct Mark(File);

impl Mark {
    /// Says durably that the index in `folder` is open. Fails with damage where it is not new, and
    /// was open when the machine went down.
    pub fn open(folder: &Path, is_new: bool) -> Result<Self, StoreError> {
        let boot = std::fs::read_to_string(BOOT_ID).ok();
        Self::open_at(folder, is_new, boot.as_deref().map(str::trim))
    }

    fn open_at(folder: &Path, is_new: bool, boot: Option<&str>) -> Result<Self, StoreError> {
        let path = folder.join(NAME);
        let before = match std::fs::read(&path) {
            Ok(before) => before,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let open = line(&format!("open {}", boot.unwrap_or("-")));
        let is_of_this_boot = boot.is_some() && before == open;
        if !is_new && !is_of_this_boot && before != closed() {
            return Err(StoreError::Index(
                "the machine went down while it was open, and sled may have lost some of it"
                    .to_owned(),
            ));
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(StoreError::of_write)?;
        let mark = Self(file);
        mark.write(&open, &before)?;
        sync_folder(folder).map_err(StoreError::of_write)?;
        Ok(mark)
    }

    /// Says that nothing is written any more, and all that was is durable.
    pub fn close(&self) -> Result<(), StoreError> {
        self.write(&closed(), &[])
    }

    fn write(&self, text: &[u8], before: &[u8]) -> Result<(), StoreError> {
        if text != before {
            self.0.write_all_at(text, 0).map_err(StoreError::of_write)?;
        }
        // Also where it is there already: whoever wrote it may have been killed before this.
        self.0.sync_all().map_err(StoreError::of_write)
    }
}

fn closed() -> Vec<u8> {
    line("closed")
}

/// All have one length.
fn line(text: &str) -> Vec<u8> {
    let mut line = text.as_bytes().to_vec();
    line.resize(LEN - 1, b' ');
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: Option<&str> = Some("5f0c3f9e-2b3a-4d0e-9a53-1f6a0c7f1c11");
    const NEXT: Option<&str> = Some("b1d1cf0a-6f0b-4c6e-8a5c-0c8f9a7d2e22");

    #[test]
    fn r_power_3_an_index_counts_if_it_was_closed_or_the_machine_has_not_gone_down() {
        let folder = tempfile::tempdir().unwrap();
        let open = |is_new, boot| Mark::open_at(folder.path(), is_new, boot);
        let is_refused = |boot| open(false, boot).is_err_and(|error| error.is_damage());
        // Of an index that was made before there were marks nothing is known.
        assert!(is_refused(BOOT));
        open(true, BOOT).unwrap();
        // The process was killed.
        open(false, BOOT).unwrap();
        assert!(is_refused(NEXT) && is_refused(None));
        open(false, BOOT).unwrap().close().unwrap();
        open(false, NEXT).unwrap();
        assert!(is_refused(BOOT));
        open(false, NEXT).unwrap().close().unwrap();
        // Where the system tells no start from another, only what was closed counts.
        open(false, None).unwrap();
        assert!(is_refused(None));
        open(true, None).unwrap().close().unwrap();
        open(false, None).unwrap();
        for garbage in [&b""[..], b"closed", b"\xff", &[0; LEN]] {
            std::fs::write(folder.path().join(NAME), garbage).unwrap();
            assert!(is_refused(BOOT), "{garbage:?}");
        }
    }
}
