//! Opening a store on disk: the log is read from where the index stopped, and whatever a crash
//! interrupted is finished.
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

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use wire::Event;

use super::bodies::Bodies as _;
use super::damage::Damage;
use super::engine;
use super::folder::{
    FolderLock, bind_secret, check_secret, file_system_warning, make_private, refuse_parts, secret,
};
use super::keys::{self, Entry, Hash, Hasher, Place};
use super::log::{FIRST, Scanned, SegmentLog};
use super::record::Record;
use super::rows::{Hashes, Rows, version};
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
    let (index, position) = open_index(options, &log, &damage, &mut warnings)?;
    let mut replay = Replay {
        log: &log,
        index: &*index,
        hasher: &hasher,
        rows: Rows::new(&*index),
        erased: Vec::new(),
        replaced: HashMap::new(),
        seq: position.seq,
        damaged: Vec::new(),
        blanked: 0,
    };
    replay.run(position)?;
    let seq = replay.seq;
    if replay.blanked > 0 {
        warnings.push(format!(
            "{} bytes in the last segment of the log were damaged and are overwritten: where the \
             power failed they had not been acknowledged, otherwise what they held is lost",
            replay.blanked
        ));
    }
    let damaged = replay.damaged_bytes(&damage)?;
    if damaged > 0 {
        warnings.push(format!(
            "{damaged} bytes in the middle of the log are damaged; whatever they held is lost"
        ));
    }
    warnings.extend(lost_segments(&*index, &log, &damage)?);
    let store = Arc::new(EventStore::on_disk(log, index, hasher, damage, lock));
    let mut writer = Writer::new(store.clone(), rules, seq);
    writer.finish_wipes()?;
    Ok(Opened {
        store,
        writer,
        warnings,
    })
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
    damage: &Damage,
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
    if let Some(found) = engine::found(&folder).filter(|found| *found != options.index) {
        warnings.push(format!(
            "the index was one of {found} and store.index says {}: it is built anew from the log",
            options.index
        ));
        return build_anew(options, &folder, start);
    }
    let opened = engine::open(options.index, &folder)
        .and_then(|index| Ok((position(&*index)?, index)))
        .and_then(|(position, index)| match position {
            Some(at) if log.len_of(at.segment)?.is_none_or(|len| len < at.offset) => {
                damage.note(at.segment);
                let lost = lost_events(&*index, log)?.values().sum();
                damage.lost.add(lost);
                Err(StoreError::Index(format!(
                    "it is ahead of the log, whose end is missing, and with it {lost} events and \
                     what was remembered of others"
                )))
            }
            position => Ok((position, index)),
        });
    match opened {
        Ok((Some(position), index)) => return Ok((index, position)),
        Ok((None, index)) if is_new => return Ok((index, start)),
        // Opened, but empty: made by a start that did not get far, or emptied.
        Ok((None, index)) => drop(index),
        Err(error @ (StoreError::DiskFull | StoreError::InUse)) => return Err(error),
        Err(error) => warnings.push(format!("{error}; it is built anew from the log")),
    }
    build_anew(options, &folder, start)
}

fn build_anew(
    options: &DiskOptions<'_>,
    folder: &Path,
    start: Position,
) -> Result<(Box<dyn Index>, Position), StoreError> {
    std::fs::remove_dir_all(folder)?;
    make_private(folder)?;
    Ok((engine::open(options.index, folder)?, start))
}

/// What to tell where nothing new will be taken from the first moment on.
fn no_room_warning(log: &SegmentLog, reserve_bytes: u64) -> Option<String> {
    let free = log.free_bytes().filter(|free| *free < reserve_bytes)?;
    Some(format!(
        "{free} bytes are free where the data is, and store.reserve_bytes is {reserve_bytes}: new \
         events are refused until there is more room or the reserve is smaller"
    ))
}

/// How many events the index places in each segment that is missing or ends before. Reads every
/// event's row.
fn lost_events(index: &dyn Index, log: &SegmentLog) -> Result<BTreeMap<u32, usize>, StoreError> {
    let mut ends = HashMap::new();
    for segment in log.numbers() {
        ends.insert(segment, log.len_of(segment)?.unwrap_or(0));
    }
    let mut lost = BTreeMap::new();
    index.scan(b"E", &keys::end_of(b"E"), &mut |_, value| {
        if let Ok(Entry { place, .. }) = Entry::decode(value) {
            let end = place.offset.saturating_add(FIRST + u64::from(place.len));
            if ends.get(&place.segment).is_none_or(|len| *len < end) {
                *lost.entry(place.segment).or_default() += 1;
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(lost)
}

/// What to tell of segments that are missing, or shorter than what was written to them, although
/// the index names events in them; they count as damaged. What was written to each is a row of its
/// own, so that this costs nothing where all is well.
fn lost_segments(
    index: &dyn Index,
    log: &SegmentLog,
    damage: &Damage,
) -> Result<Option<String>, StoreError> {
    let mut rows = Vec::new();
    index.scan(b"S", &keys::end_of(b"S"), &mut |key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    })?;
    let mut short = Vec::new();
    for (key, value) in rows {
        let segment = u32::from_be_bytes(keys::take(&mut key.get(1..).unwrap_or_default())?);
        let (written, alive) = keys::decode_pair(Some(&value))?;
        let len = log.len_of(segment)?;
        if alive > 0 && len.is_none_or(|len| len < FIRST.saturating_add(written)) {
            short.push((segment, len, alive));
        }
    }
    if short.is_empty() {
        return Ok(None);
    }
    let lost = lost_events(index, log)?;
    for (segment, len, alive) in short {
        if lost.contains_key(&segment) {
            damage.note(segment);
        } else {
            // Only what was dead is missing, or was stored again since.
            let row = len.map(|len| keys::pair(len.saturating_sub(FIRST), alive));
            index.apply(vec![(keys::segment(segment), row)])?;
        }
    }
    let numbers: Vec<String> = lost.keys().map(u32::to_string).collect();
    let count: usize = lost.values().sum();
    Ok((count > 0).then(|| {
        format!(
            "segments of the log are missing or too short ({}): {count} events that were stored \
             are lost, until somebody sends them again or a backup is imported",
            numbers.join(", ")
        )
    }))
}

/// The index being brought up to date.
struct Replay<'s> {
    log: &'s SegmentLog,
    index: &'s dyn Index,
    hasher: &'s Hasher,
    rows: Rows<'s>,
    erased: Vec<Place>,
    /// By which event, what lies where.
    replaced: HashMap<Hash, (Place, Hash)>,
    seq: u64,
    /// Segment, from and to.
    damaged: Vec<(u32, u64, u64)>,
    blanked: u64,
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
            if segment == log.tail_segment() {
                self.blank(segment, start, &scanned)?;
            } else if !log.is_half_wiped(segment) {
                let damaged = scanned.damaged.iter();
                self.damaged
                    .extend(damaged.map(|(from, to)| (segment, *from, *to)));
            }
            log.sync(segment)?;
            (last, end) = (segment, scanned.end);
        }
        log.set_end(end)?;
        match is_behind || last != from.segment {
            true => self.apply(Some((last, end))),
            false => Ok(()),
        }
    }

    /// Damage in the tail is a batch that a power loss tore, and that was never acknowledged. Its
    /// parts go, before the index is told that it need not look here again.
    fn blank(&mut self, tail: u32, start: u64, scanned: &Scanned) -> Result<(), StoreError> {
        if scanned.damaged.is_empty() {
            return Ok(());
        }
        // Interrupted erasures look like damage too, and have places of their own.
        self.log.erase(&std::mem::take(&mut self.erased))?;
        let damaged = self.log.scan(tail, start, |_, _| Ok(()))?.damaged;
        self.blanked = damaged
            .iter()
            .map(|(from, to)| to.saturating_sub(*from))
            .sum();
        self.log.blank(tail, &damaged)
    }

    /// What was damaged and is not only an erasure that was interrupted, and is finished now.
    fn damaged_bytes(&self, damage: &Damage) -> Result<u64, StoreError> {
        let mut bytes = 0_u64;
        for (segment, from, to) in &self.damaged {
            if !self.log.has_erased(*segment, *from)? {
                damage.note(*segment);
                bytes = bytes.saturating_add(to.saturating_sub(*from));
            }
        }
        Ok(bytes)
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
            Record::Erasure { place, id } => self.erase(place, &id),
            Record::Replacement { place, id, by } => {
                self.replaced.insert(by, (place, id));
                Ok(())
            }
            Record::Deletion { deletion, until } => {
                self.latest(keys::deletion(&deletion), until)?;
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

    fn erase(&mut self, place: Place, id: &Hash) -> Result<(), StoreError> {
        self.erased.push(place);
        let Some(entry) = self.rows.entry(id)? else {
            return Ok(());
        };
        // A copy of it that was being moved goes too.
        self.erased.push(entry.place);
        let event = self.log.read(entry.place)?;
        let event = event.and_then(|stored| stored.event());
        self.rows
            .remove_event(self.hasher, id, &entry, event.as_ref())
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
        match self.replaced.remove(&id) {
            // It was moved.
            Some((old, other)) if other == id => self.erased.push(old),
            Some((old, other)) => self.erase(old, &other)?,
            None => {}
        }
        match self.rows.entry(&id)? {
            Some(entry) if entry.place == place => Ok(()),
            Some(entry) => {
                self.erased.push(entry.place);
                self.rows.move_event(&id, &entry, place)
            }
            None => {
                if let Some(address) = &hashes.address
                    && self.is_superseded(address, &event)?
                {
                    self.erased.push(place);
                    return Ok(());
                }
                self.seq = self.seq.saturating_add(1);
                self.rows.insert_event(&hashes, &event, place, self.seq)
            }
        }
    }
}

impl Replay<'_> {
    /// Whether a newer version of the event's address is known. An older one goes, where the
    /// record that says so was in the part of a batch that a power loss took.
    fn is_superseded(&mut self, address: &Hash, event: &Event) -> Result<bool, StoreError> {
        let Some(other) = self.rows.get(&keys::address(address))? else {
            return Ok(false);
        };
        let other: Hash = keys::take(&mut other.as_slice())?;
        let Some(entry) = self.rows.entry(&other)? else {
            return Ok(false);
        };
        let current = self.log.read(entry.place)?;
        let current = current.and_then(|stored| stored.event());
        if current.is_some_and(|current| version(&current) >= version(event)) {
            return Ok(true);
        }
        self.erase(entry.place, &other)?;
        Ok(false)
    }
}
