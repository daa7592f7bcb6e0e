//! Opening a store on disk: the log is read from where the index stopped ([`super::replay`]), and
//! whatever a crash interrupted is finished.
//!
//! * A record that is not whole at the end was never acknowledged: it is cut off.
//! * An erasure found in what is read is done again: its body may not be zeros yet.
//! * An event that was being moved is erased in the earlier place, whatever is left of it there.
//! * A segment marked for wiping is wiped, and so is one that a wipe has reached and that is back.
//! * A version of an address behind which a newer one lies is erased.
//! * Parts of a batch that a power loss has torn are overwritten: nobody could name them later.
//! * What is found has to last before anybody hears of it: it may be in the kernel's memory alone.
//! * An index that is missing, does not open, or claims to be ahead of the log is built anew.
//! * What the index names and the files of the log cannot hold is told, and is no duplicate of what
//!   is sent again ([`super::damage`]). Bodies are not read for that.

use std::path::Path;
use std::sync::Arc;

use super::damage::Damage;
use super::folder::{
    FolderLock, bind_secret, check_secret, file_system_warning, make_private, refuse_parts, secret,
};
use super::keys::Hasher;
use super::log::SegmentLog;
use super::replay::{self, IndexHome, Replayed, Source};
use super::{EventStore, Opened, StoreError, Writer};
use crate::config::IndexEngine;
use crate::policy::Rules;

/// How to open a store on disk.
#[derive(Debug, Clone)]
pub struct DiskOptions<'a> {
    /// The data folder.
    pub folder: &'a Path,
    /// Which index engine.
    pub index: IndexEngine,
    /// The size at which a segment is closed.
    pub segment_bytes: u64,
    /// Bytes that stay free for deletions.
    pub reserve_bytes: u64,
}

/// Opens the store in a folder, making it where it is absent. Blocks.
pub fn open(options: &DiskOptions<'_>, rules: Rules) -> Result<Opened, StoreError> {
    let folder = options.folder;
    make_private(folder)?;
    let lock = FolderLock::take(folder)?;
    let log_folder = folder.join("log");
    refuse_parts(folder, &log_folder)?;
    make_private(&log_folder)?;
    let hasher = Hasher::new(&secret(folder, &log_folder)?)?;
    let is_bound = check_secret(&log_folder, &hasher)?;
    let log = SegmentLog::open(&log_folder, options.segment_bytes, options.reserve_bytes)?;
    if !is_bound {
        bind_secret(folder, &log_folder, &hasher)?;
    }
    let mut warnings = file_system_warning(folder);
    warnings.extend(no_room_warning(&log, options.reserve_bytes));
    let damage = Damage::default();
    let home = IndexHome {
        engine: options.index,
        folder: folder.to_owned(),
    };
    let behind = replay::open_index(&home, &log, &damage, false, &mut warnings)?;
    let source = Source {
        log: &log,
        hasher: &hasher,
        damage: &damage,
    };
    let Replayed { seq, .. } = behind.catch_up(source, None, &mut warnings)?;
    let store = EventStore::on_disk(log, behind.index, home, hasher, damage, lock);
    let store = Arc::new(store);
    let writer = Writer::new(store.clone(), rules, seq);
    writer.finish_wipes()?;
    Ok(Opened {
        store,
        writer,
        warnings,
    })
}

/// What to tell where nothing new will be taken from the first moment on.
fn no_room_warning(log: &SegmentLog, reserve_bytes: u64) -> Option<String> {
    let free = log.free_bytes().filter(|free| *free < reserve_bytes)?;
    Some(format!(
        "{free} bytes are free where the data is, and store.reserve_bytes is {reserve_bytes}: new \
         events are refused until there is more room or the reserve is smaller"
    ))
}
