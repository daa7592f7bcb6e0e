//! Bringing the index up to date with the log: whatever it missed is read from there. At the start,
//! and where a running relay opens an index again that had failed.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::PathBuf;

use wire::Event;

use super::bodies::Bodies as _;
use super::damage::Damage;
use super::engine;
use super::folder::make_private;
use super::keys::{self, Entry, Hash, Hasher, Place};
use super::log::{FIRST, Scanned, SegmentLog};
use super::record::{self, Record};
use super::rows::{Hashes, Rows, version};
use super::{Index, StoreError, Stored};
use crate::config::IndexEngine;

/// Rows gathered before they are applied.
const CHUNK_ROWS: usize = 20_000;

/// Which index, and in which data folder.
#[derive(Debug, Clone)]
pub(super) struct IndexHome {
    pub(super) engine: IndexEngine,
    pub(super) folder: PathBuf,
}

impl IndexHome {
    /// Where its files are.
    pub(super) fn files(&self) -> PathBuf {
        self.folder.join("index")
    }
}

/// What a running relay knew before its index failed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// The last sequence number that was given.
    pub(super) seq: u64,
    /// Segment and offset in the log from where on nobody was told of anything.
    pub(super) untold_from: (u32, u64),
}

/// An index that was opened and may not know of all that is in the log.
pub(super) struct Behind {
    pub(super) index: Box<dyn Index>,
    position: Position,
    /// Whether it is empty although the log may not be.
    pub(super) is_anew: bool,
}

/// What reading the log came to.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    /// The last sequence number that was given.
    pub(super) seq: u64,
    /// Events that are stored and of which nobody was told, with their sequence numbers.
    pub(super) untold: Vec<(Event, u64)>,
}

/// What an index is brought up to date from, and what is known to be lost of it.
#[derive(Clone, Copy)]
pub(super) struct Source<'s> {
    pub(super) log: &'s SegmentLog,
    pub(super) hasher: &'s Hasher,
    pub(super) damage: &'s Damage,
}

impl Behind {
    /// Reads from the log what the index missed. What had to be mended is added to `warnings`.
    pub(super) fn catch_up(
        &self,
        source: Source<'_>,
        known: Option<Known>,
        warnings: &mut Vec<String>,
    ) -> Result<Replayed, StoreError> {
        let replay = Replay::new(source, &*self.index, self.is_anew);
        replay.finish(self.position, known, warnings)
    }
}

impl Source<'_> {
    /// The same for an index that is in use and did not fail: only the log's side of a batch did.
    pub(super) fn catch_up_in_use(
        self,
        index: &dyn Index,
        known: Known,
        warnings: &mut Vec<String>,
    ) -> Result<Replayed, StoreError> {
        let position = position(index)?.unwrap_or_else(|| start_of(self.log));
        Replay::new(self, index, false).finish(position, Some(known), warnings)
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

fn start_of(log: &SegmentLog) -> Position {
    Position {
        segment: log.numbers().first().copied().unwrap_or(0),
        offset: FIRST,
        seq: 0,
    }
}

/// Opens the index. One that does not open is built anew; in a relay that runs (`is_running`) not
/// where that may pass, as where too many files are open.
pub(super) fn open_index(
    home: &IndexHome,
    log: &SegmentLog,
    damage: &Damage,
    is_running: bool,
    warnings: &mut Vec<String>,
) -> Result<Behind, StoreError> {
    let found = |index, position| Behind {
        index,
        position,
        is_anew: false,
    };
    if home.engine == IndexEngine::Memory {
        // It has no files, and those of another engine stay for whoever switches back.
        return Ok(Behind {
            is_anew: true,
            ..found(engine::open(home.engine, &home.folder)?, start_of(log))
        });
    }
    let folder = home.files();
    let is_new = !folder.exists();
    make_private(&folder)?;
    if let Some(found) = engine::found(&folder).filter(|found| *found != home.engine) {
        warnings.push(format!(
            "the index was one of {found} and store.index says {}: it is built anew from the log",
            home.engine
        ));
        return build_anew(home, log);
    }
    let opened = engine::open(home.engine, &folder)
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
        Ok((Some(position), index)) => return Ok(found(index, position)),
        Ok((None, index)) if is_new => {
            return Ok(Behind {
                is_anew: true,
                ..found(index, start_of(log))
            });
        }
        // Opened, but empty: made by a start that did not get far, or emptied.
        Ok((None, index)) => drop(index),
        Err(error @ (StoreError::DiskFull | StoreError::InUse)) => return Err(error),
        Err(error) if is_running && !error.is_damage() => return Err(error),
        Err(error) => warnings.push(format!("{error}; it is built anew from the log")),
    }
    build_anew(home, log)
}

/// An empty index in place of whatever is there.
pub(super) fn build_anew(home: &IndexHome, log: &SegmentLog) -> Result<Behind, StoreError> {
    let folder = home.files();
    make_private(&folder)?;
    // Emptied and not removed: it may be a disk of its own.
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => std::fs::remove_dir_all(path)?,
            false => std::fs::remove_file(path)?,
        }
    }
    Ok(Behind {
        index: engine::open(home.engine, &folder)?,
        position: start_of(log),
        is_anew: true,
    })
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
    damage: &'s Damage,
    /// Whether what was erased in the log has yet to be counted as written.
    is_anew: bool,
    rows: Rows<'s>,
    erased: Vec<Place>,
    /// By which event, what lies where.
    replaced: HashMap<Hash, (Place, Hash)>,
    seq: u64,
    untold_from: Option<(u32, u64)>,
    untold: Vec<(Event, u64)>,
    /// Segment, from and to.
    damaged: Vec<(u32, u64, u64)>,
    blanked: u64,
}

impl<'s> Replay<'s> {
    fn new(source: Source<'s>, index: &'s dyn Index, is_anew: bool) -> Self {
        let Source {
            log,
            hasher,
            damage,
        } = source;
        Self {
            log,
            index,
            hasher,
            damage,
            is_anew,
            rows: Rows::new(index),
            erased: Vec::new(),
            replaced: HashMap::new(),
            seq: 0,
            untold_from: None,
            untold: Vec::new(),
            damaged: Vec::new(),
            blanked: 0,
        }
    }

    fn finish(
        mut self,
        mut from: Position,
        known: Option<Known>,
        warnings: &mut Vec<String>,
    ) -> Result<Replayed, StoreError> {
        self.seq = from.seq;
        if let Some(Known { seq, untold_from }) = known {
            self.seq = self.seq.max(seq);
            self.untold_from = Some(untold_from);
            // An attempt before this one may have come further, and told nobody.
            (from.segment, from.offset) = (from.segment, from.offset).min(untold_from);
        }
        self.run(from)?;
        if self.blanked > 0 {
            warnings.push(format!(
                "{} bytes in the last segment of the log were damaged and are overwritten: where \
                 the power failed they had not been acknowledged, otherwise what they held is lost",
                self.blanked
            ));
        }
        let damaged = self.damaged_bytes()?;
        if damaged > 0 {
            warnings.push(format!(
                "{damaged} bytes in the middle of the log are damaged; whatever they held is lost"
            ));
        }
        warnings.extend(lost_segments(self.index, self.log, self.damage)?);
        Ok(Replayed {
            seq: self.seq,
            untold: self.untold,
        })
    }
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
    fn damaged_bytes(&self) -> Result<u64, StoreError> {
        let mut bytes = 0_u64;
        for (segment, from, to) in &self.damaged {
            if !self.log.has_erased(*segment, *from)? {
                self.damage.note(*segment);
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
            Record::Erased if self.is_anew => {
                self.rows.count_dead(place.segment, record::size(place.len))
            }
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
        let is_moved = match self.replaced.remove(&id) {
            Some((old, other)) if other == id => {
                self.erased.push(old);
                true
            }
            Some((old, other)) => {
                self.erase(old, &other)?;
                false
            }
            None => false,
        };
        let at = (place.segment, place.offset);
        let is_untold = !is_moved && self.untold_from.is_some_and(|from| at >= from);
        match self.rows.entry(&id)? {
            Some(entry) if entry.place == place => {
                if is_untold {
                    self.untold.push((event, entry.seq));
                }
                Ok(())
            }
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
                let seq = match self.untold_from {
                    // Whatever a reader has asked for meanwhile reaches up to what was told.
                    Some(_) if !is_untold => 0,
                    _ => {
                        self.seq = self.seq.saturating_add(1);
                        self.seq
                    }
                };
                self.rows.insert_event(&hashes, &event, place, seq)?;
                if is_untold {
                    self.untold.push((event, seq));
                }
                Ok(())
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
