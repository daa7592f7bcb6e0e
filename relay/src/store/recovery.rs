//! Opening a store on disk: the log is read from where the index stopped, and whatever a crash
//! interrupted is finished.
//!
//! * A record that is not whole at the end was never acknowledged: it is cut off.
//! * An erasure found in what is read is done again: its body may not be zeros yet.
//! * An event found twice was being moved: the later place counts, the earlier one is erased.
//! * A segment marked for wiping is wiped.
//! * An index that is missing, does not open, or claims to be ahead of the log is built anew.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use rand::TryRng as _;
use rand::rngs::SysRng;
use rustix::fs::FlockOperation;

use super::bodies::Bodies as _;
use super::engine;
use super::keys::{self, Hasher, Place};
use super::log::{FIRST, SegmentLog, sync_folder};
use super::record::Record;
use super::rows::{Hashes, Rows};
use super::{EventStore, Index, Opened, StoreError, Stored, Writer};
use crate::config::IndexEngine;
use crate::policy::Rules;

/// Rows gathered before they are applied.
const CHUNK_ROWS: usize = 20_000;

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
    make_private(&log_folder)?;
    let hasher = Hasher::new(&secret(folder, &log_folder)?)?;
    let log = SegmentLog::open(&log_folder, options.segment_bytes, options.reserve_bytes)?;
    let mut warnings = file_system_warning(folder);
    let (index, position) = open_index(options, &log, &mut warnings)?;
    let mut replay = Replay {
        log: &log,
        index: &*index,
        hasher: &hasher,
        rows: Rows::new(&*index),
        erased: Vec::new(),
        seq: position.seq,
        damaged: 0,
    };
    replay.run(position)?;
    let seq = replay.seq;
    if replay.damaged > 0 {
        warnings.push(format!(
            "{} bytes in the middle of the log are damaged; whatever they held is lost",
            replay.damaged
        ));
    }
    let store = Arc::new(EventStore::on_disk(log, index, hasher, lock));
    let mut writer = Writer::new(store.clone(), rules, seq);
    writer.finish_wipes()?;
    Ok(Opened {
        store,
        writer,
        warnings,
    })
}

/// Keeps other servers out of a data folder.
#[derive(Debug)]
pub(super) struct FolderLock(File);

impl FolderLock {
    fn take(folder: &Path) -> Result<Self, StoreError> {
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

/// How far in the log the index is.
#[derive(Debug, Clone, Copy)]
struct Position {
    segment: u32,
    offset: u64,
    seq: u64,
}

fn position(index: &dyn Index) -> Result<Option<Position>, StoreError> {
    let Some(value) = index.get(&keys::position())? else {
        return Ok(None);
    };
    let mut bytes = value.as_slice();
    let input = &mut bytes;
    Ok(Some(Position {
        segment: u32::from_be_bytes(keys::take(input)?),
        offset: u64::from_be_bytes(keys::take(input)?),
        seq: u64::from_be_bytes(keys::take(input)?),
    }))
}

/// The index, and the place in the log from which it has to be brought up to date.
fn open_index(
    options: &DiskOptions<'_>,
    log: &SegmentLog,
    warnings: &mut Vec<String>,
) -> Result<(Box<dyn Index>, Position), StoreError> {
    let start = Position {
        segment: log.numbers().first().copied().unwrap_or(0),
        offset: FIRST,
        seq: 0,
    };
    if options.index == IndexEngine::Memory {
        // It has no files, and those of another engine stay for whoever switches back.
        return Ok((engine::open(options.index, options.folder)?, start));
    }
    let folder = options.folder.join("index");
    let is_new = !folder.exists();
    make_private(&folder)?;
    let opened = engine::open(options.index, &folder)
        .and_then(|index| Ok((position(&*index)?, index)))
        .and_then(|(position, index)| match position {
            Some(at) if log.len_of(at.segment)?.is_none_or(|len| len < at.offset) => {
                Err(StoreError::Index("it is ahead of the log".to_owned()))
            }
            position => Ok((position, index)),
        });
    match opened {
        Ok((Some(position), index)) => return Ok((index, position)),
        Ok((None, index)) if is_new => return Ok((index, start)),
        // Opened, but empty: made by a start that did not get far, or emptied, or another
        // engine's.
        Ok((None, index)) => drop(index),
        Err(error @ (StoreError::DiskFull | StoreError::InUse)) => return Err(error),
        Err(error) => warnings.push(format!("{error}; it is built anew from the log")),
    }
    std::fs::remove_dir_all(&folder)?;
    make_private(&folder)?;
    Ok((engine::open(options.index, &folder)?, start))
}

/// The index being brought up to date.
struct Replay<'s> {
    log: &'s SegmentLog,
    index: &'s dyn Index,
    hasher: &'s Hasher,
    rows: Rows<'s>,
    erased: Vec<Place>,
    seq: u64,
    damaged: u64,
}

impl Replay<'_> {
    fn run(&mut self, from: Position) -> Result<(), StoreError> {
        let log = self.log;
        let mut end = from.offset;
        let mut last = from.segment;
        let mut is_behind = false;
        for segment in log.numbers() {
            if segment < from.segment {
                continue;
            }
            let start = if segment == from.segment {
                from.offset
            } else {
                FIRST
            };
            let scanned = log.scan(segment, start, |place, record| {
                is_behind = true;
                self.record(place, record)?;
                match self.rows.len() >= CHUNK_ROWS {
                    true => self.apply(None),
                    false => Ok(()),
                }
            })?;
            self.damaged = self.damaged.saturating_add(scanned.damaged);
            (last, end) = (segment, scanned.end);
        }
        log.set_end(end)?;
        match is_behind || last != from.segment {
            true => self.apply(Some((last, end))),
            false => Ok(()),
        }
    }

    /// Does erasures first, so that the index never knows of one that may not have happened. The
    /// position is written with the last rows alone: an interrupted replay begins again, and
    /// finds what it did already.
    fn apply(&mut self, position: Option<(u32, u64)>) -> Result<(), StoreError> {
        self.log.erase(&std::mem::take(&mut self.erased))?;
        let mut rows = std::mem::replace(&mut self.rows, Rows::new(self.index));
        if let Some((segment, offset)) = position {
            let value = [
                segment.to_be_bytes().as_slice(),
                &offset.to_be_bytes(),
                &self.seq.to_be_bytes(),
            ]
            .concat();
            rows.put(keys::position(), value);
        }
        self.index.apply(rows.into_batch())
    }

    fn record(&mut self, place: Place, record: Record) -> Result<(), StoreError> {
        match record {
            Record::Erased => Ok(()),
            Record::Event(stored) => self.event(place, &stored),
            Record::Erasure { place: erased, id } => {
                self.erased.push(erased);
                let Some(entry) = self.rows.entry(&id)? else {
                    return Ok(());
                };
                // A copy of it that was being moved goes too.
                self.erased.push(entry.place);
                let event = self.log.read(entry.place)?;
                let event = event.and_then(|stored| stored.event());
                self.rows
                    .remove_event(self.hasher, &id, &entry, event.as_ref())
            }
            Record::Deletion { deletion, until } => {
                self.rows
                    .put(keys::deletion(&deletion), until.to_be_bytes().to_vec());
                if until != u64::MAX {
                    self.rows
                        .put(keys::deletion_end(until, &deletion), Vec::new());
                }
                Ok(())
            }
            Record::AddressDeletion { address, up_to } => {
                self.latest(keys::address_deletion(&address), up_to)
            }
            Record::Vanish { author, up_to } => self.latest(keys::vanished(&author), up_to),
        }
    }

    /// Moving may change the order of such records; the latest time counts.
    fn latest(&mut self, key: Vec<u8>, up_to: u64) -> Result<(), StoreError> {
        let known = self.rows.number(&key)?.unwrap_or(0);
        self.rows.put(key, known.max(up_to).to_be_bytes().to_vec());
        Ok(())
    }

    fn event(&mut self, place: Place, stored: &Stored) -> Result<(), StoreError> {
        let Some(event) = stored.event() else {
            return Ok(());
        };
        let hashes = Hashes::of(self.hasher, &event);
        let id = hashes.id;
        match self.rows.entry(&id)? {
            Some(entry) if entry.place == place => Ok(()),
            Some(entry) => {
                self.erased.push(entry.place);
                self.rows.move_event(&id, &entry, place)
            }
            None => {
                self.seq = self.seq.saturating_add(1);
                self.rows.insert_event(&hashes, &event, place, self.seq)
            }
        }
    }
}

/// The store's secret; made with the store.
fn secret(folder: &Path, log_folder: &Path) -> Result<[u8; 32], StoreError> {
    let path = folder.join("secret");
    let mut secret = [0; 32];
    match File::open(&path) {
        Ok(mut file) => {
            file.read_exact(&mut secret)
                .map_err(|_| StoreError::Damaged("the secret file is too short"))?;
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
    // Renamed into place, so that a crash leaves all of it or nothing.
    let new = folder.join("secret.new");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&secret).map_err(StoreError::of_write)?;
    file.sync_all()?;
    std::fs::rename(&new, &path)?;
    sync_folder(folder)?;
    Ok(secret)
}

fn make_private(folder: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(StoreError::of_write)
}

/// What cannot be promised here: overwriting in place does not destroy the old bytes where the
/// file system writes elsewhere.
pub fn file_system_warning(folder: &Path) -> Vec<String> {
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
