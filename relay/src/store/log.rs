//! The segment log: files that are only appended to, and overwritten where something is erased.
//!
//! `log/<8 hex digits>.seg`, numbered upwards and never again. Each begins with [`MAGIC`]; then
//! follow records ([`super::record`]). The last segment is the tail; a segment is closed when it
//! has reached its size. A record never spans two segments. [`CHECK`] lies beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use bytes::Bytes;

use super::bodies::{Bodies, Staged};
use super::keys::Place;
use super::record::{self, ALIGN, Header, Record};
use super::{StoreError, Stored};
use crate::metrics::Histogram;

/// The first bytes of a segment.
pub const MAGIC: [u8; ALIGN] = *b"sotto/log/2\0\0\0\0\n";
/// The file beside the segments that says which secret they were written with.
pub(super) const CHECK: &str = "secret.check";
/// Where the first record of a segment begins.
pub const FIRST: u64 = ALIGN as u64;
/// Bytes read at a time while scanning.
const WINDOW: usize = 1 << 20;

/// The log of one store.
#[derive(Debug)]
pub struct SegmentLog {
    folder: PathBuf,
    segment_bytes: u64,
    reserve_bytes: u64,
    segments: RwLock<BTreeMap<u32, Arc<File>>>,
    /// Segments that a wipe has reached.
    half_wiped: RwLock<BTreeSet<u32>>,
    tail: Mutex<Tail>,
    /// How long each sync of the tail took.
    pub sync_times: Histogram,
}

#[derive(Debug, Clone, Copy)]
struct Tail {
    segment: u32,
    end: u64,
}

/// What a scan of a segment saw.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// The offset after the last whole record.
    pub end: u64,
    /// What lies between records and is none: from, to.
    pub damaged: Vec<(u64, u64)>,
}

impl SegmentLog {
    /// Opens the log in `folder`, which exists. Nothing is read yet but the first bytes of each
    /// segment; the caller scans and then calls [`SegmentLog::set_end`].
    pub fn open(folder: &Path, segment_bytes: u64, reserve_bytes: u64) -> Result<Self, StoreError> {
        let mut segments = BTreeMap::new();
        for entry in std::fs::read_dir(folder)? {
            let name = entry?.file_name();
            if name == CHECK {
                continue;
            }
            let number = name.to_str().and_then(|name| name.strip_suffix(".seg"));
            let number = number.filter(|digits| digits.len() == 8);
            let number = number.and_then(|digits| u32::from_str_radix(digits, 16).ok());
            let Some(number) = number else {
                return Err(StoreError::Damaged(
                    "a file in the log folder is no segment",
                ));
            };
            let file = open_segment(folder, number, false)?;
            segments.insert(number, Arc::new(file));
        }
        // A start that was killed may have left names that are not durable yet, and this one will
        // build on them.
        sync_folder(folder)?;
        let last = segments.last_key_value().map(|(number, _)| *number);
        let mut half_wiped = BTreeSet::new();
        for (number, file) in &segments {
            let mut magic = [0; ALIGN];
            let is_whole = file.read_exact_at(&mut magic, 0).is_ok() && magic == MAGIC;
            if !is_whole && magic == [0; ALIGN] && Some(*number) != last {
                // A power loss may undo the removal of a wiped file.
                half_wiped.insert(*number);
            } else if !is_whole {
                // A crash while the segment was being made: nothing was ever written to it.
                if Some(*number) != last || file.metadata()?.len() > FIRST {
                    return Err(StoreError::Damaged("a segment does not begin as it should"));
                }
                file.write_all_at(&MAGIC, 0).map_err(StoreError::of_write)?;
                file.sync_all()?;
            }
        }
        let log = Self {
            folder: folder.to_owned(),
            segment_bytes,
            reserve_bytes,
            segments: RwLock::new(segments),
            half_wiped: RwLock::new(half_wiped),
            tail: Mutex::new(Tail {
                segment: last.unwrap_or(0),
                end: FIRST,
            }),
            sync_times: Histogram::of_times(),
        };
        if last.is_none() {
            log.roll(1)?;
        }
        Ok(log)
    }

    /// The segments' numbers, ascending. There is always one.
    pub fn numbers(&self) -> Vec<u32> {
        self.segments().keys().copied().collect()
    }

    /// How long a segment's file is; none where there is no such segment.
    pub fn len_of(&self, segment: u32) -> Result<Option<u64>, StoreError> {
        match self.segments().get(&segment) {
            Some(file) => Ok(Some(file.metadata()?.len())),
            None => Ok(None),
        }
    }

    /// Whether the segment begins with zeros, as one does that is being wiped; everything in it
    /// was moved away before that began.
    pub fn is_half_wiped(&self, segment: u32) -> bool {
        let half_wiped = self.half_wiped.read();
        half_wiped
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&segment)
    }

    /// The segment that is written to.
    pub fn tail_segment(&self) -> u32 {
        self.tail().segment
    }

    /// Whatever lies after `end` in the tail was never acknowledged: it is cut off, and the next
    /// record goes there.
    pub fn set_end(&self, end: u64) -> Result<(), StoreError> {
        let mut tail = self.tail();
        if let Some(file) = self.file(tail.segment)
            && file.metadata()?.len() > end
        {
            file.set_len(end)?;
            file.sync_all()?;
        }
        // Where a sync had failed nothing more goes into that segment.
        if tail.end != u64::MAX {
            tail.end = end;
        }
        Ok(())
    }

    /// The segment that is written to, and the offset of what is written next.
    pub fn end(&self) -> (u32, u64) {
        let tail = self.tail();
        (tail.segment, tail.end)
    }

    /// Makes durable what was found in a segment. After a kill it may be in the kernel's memory
    /// alone, and is about to be served and called a duplicate.
    pub fn sync(&self, segment: u32) -> Result<(), StoreError> {
        if let Some(file) = self.file(segment) {
            file.sync_all()?;
        }
        Ok(())
    }

    /// Overwrites what lies between records with one that says so, durably: parts of events that
    /// nobody could find there to erase them.
    pub fn blank(&self, segment: u32, gaps: &[(u64, u64)]) -> Result<(), StoreError> {
        let Some(file) = self.file(segment).filter(|_| !gaps.is_empty()) else {
            return Ok(());
        };
        for (mut from, to) in gaps.iter().copied() {
            while from < to {
                let room = (to - from).saturating_sub(FIRST);
                let room = room.min(record::MAX_BODY as u64);
                let blank = record::erased(u32::try_from(room).unwrap_or(0));
                file.write_all_at(&blank, from)
                    .map_err(StoreError::of_write)?;
                from = from.saturating_add(blank.len() as u64);
            }
        }
        file.sync_data()?;
        Ok(())
    }

    /// Whether an erased record begins there; where the file ends before, none does.
    pub fn has_erased(&self, segment: u32, offset: u64) -> Result<bool, StoreError> {
        let Some(file) = self.file(segment) else {
            return Ok(false);
        };
        let mut header = [0; ALIGN];
        match file.read_exact_at(&mut header, offset) {
            Ok(()) => Ok(Header::decode(&header).is_some_and(Header::is_erased)),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Calls `visit` for every whole record of a segment from `from` on, in order. What is
    /// damaged is stepped over, 16 bytes at a time.
    pub fn scan(
        &self,
        segment: u32,
        from: u64,
        mut visit: impl FnMut(Place, Record) -> Result<(), StoreError>,
    ) -> Result<Scanned, StoreError> {
        self.scan_some(segment, from, |place, record| {
            visit(place, record).map(ControlFlow::Continue)
        })
    }

    /// The same until `visit` breaks.
    pub fn scan_some(
        &self,
        segment: u32,
        from: u64,
        mut visit: impl FnMut(Place, Record) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<Scanned, StoreError> {
        let Some(file) = self.file(segment) else {
            return Ok(Scanned::default());
        };
        let mut window = Window {
            len: file.metadata()?.len(),
            file,
            start: 0,
            bytes: Vec::new(),
        };
        let mut offset = from.max(FIRST);
        let mut scanned = Scanned {
            end: offset,
            damaged: Vec::new(),
        };
        while let Some(header) = window.read(offset, ALIGN)? {
            let found = header
                .first_chunk()
                .and_then(Header::decode)
                .map(|header| (header, usize::try_from(header.len()).unwrap_or(usize::MAX)));
            let mut record = None;
            if let Some((header, len)) = found {
                let body = window.read(offset.saturating_add(FIRST), len)?;
                record = body
                    .and_then(|body| Some((header, header.record(Bytes::copy_from_slice(body))?)));
            }
            match record {
                Some((header, record)) => {
                    if offset > scanned.end {
                        scanned.damaged.push((scanned.end, offset));
                    }
                    let len = header.len();
                    let place = Place {
                        segment,
                        offset,
                        len,
                    };
                    let flow = visit(place, record)?;
                    offset = offset.saturating_add(record::size(len));
                    scanned.end = offset;
                    if flow.is_break() {
                        break;
                    }
                }
                None => offset = offset.saturating_add(FIRST),
            }
        }
        Ok(scanned)
    }

    /// Bytes that are free on its disk; none where the system does not tell.
    pub fn free_bytes(&self) -> Option<u64> {
        free_bytes(&self.folder)
    }

    /// Overwrites so much of a segment with zeros, durably, from an offset on; where to go on, or
    /// nothing once it has come to the end and the file is removed.
    pub fn wipe_some(&self, segment: u32, from: u64, most: u64) -> Result<Option<u64>, StoreError> {
        let Some(file) = self.file(segment) else {
            return Ok(None);
        };
        self.half_wiped
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(segment);
        let len = file.metadata()?.len();
        let count = len.saturating_sub(from).min(most);
        let zeros = vec![0; usize::try_from(count).unwrap_or(0)];
        file.write_all_at(&zeros, from)
            .map_err(StoreError::of_write)?;
        file.sync_data()?;
        let next = from.saturating_add(count);
        if next < len {
            return Ok(Some(next));
        }
        std::fs::remove_file(path_of(&self.folder, segment))?;
        sync_folder(&self.folder)?;
        self.segments
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&segment);
        Ok(None)
    }

    /// Closes the tail and begins segment `number`.
    fn roll(&self, number: u32) -> Result<(), StoreError> {
        let file = open_segment(&self.folder, number, true).map_err(StoreError::of_write)?;
        let made = file
            .write_all_at(&MAGIC, 0)
            .and_then(|()| file.sync_all())
            .and_then(|()| sync_folder(&self.folder));
        if let Err(error) = made {
            // So that the next attempt finds the name free.
            let _ = std::fs::remove_file(path_of(&self.folder, number));
            return Err(StoreError::of_write(error));
        }
        self.segments
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(number, Arc::new(file));
        *self.tail() = Tail {
            segment: number,
            end: FIRST,
        };
        Ok(())
    }

    fn segments(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<u32, Arc<File>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, segment: u32) -> Option<Arc<File>> {
        self.segments().get(&segment).cloned()
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bodies for SegmentLog {
    fn stage(&self) -> Result<Staged, StoreError> {
        let Tail { segment, end } = *self.tail();
        if end >= self.segment_bytes {
            let next = segment
                .checked_add(1)
                .ok_or(StoreError::Damaged("segment numbers have run out"))?;
            self.roll(next)?;
            return Ok(Staged::at(next, FIRST));
        }
        Ok(Staged::at(segment, end))
    }

    fn has_room(&self) -> bool {
        // Where the question cannot be answered, the write itself will say.
        self.free_bytes()
            .is_none_or(|free| free >= self.reserve_bytes)
    }

    fn write(&self, staged: &Staged) -> Result<(), StoreError> {
        let Some(file) = self.file(staged.segment()) else {
            return Err(StoreError::Damaged("the tail segment is gone"));
        };
        if staged.is_empty() {
            return Ok(());
        }
        let mut tail = self.tail();
        if let Err(error) = file.write_all_at(staged.bytes(), staged.start()) {
            // What was written of it is not acknowledged; the next batch overwrites it.
            let _ = file.set_len(staged.start());
            return Err(StoreError::of_write(error));
        }
        let begun = Instant::now();
        let synced = file.sync_data();
        self.sync_times.observe_time(begun.elapsed());
        if let Err(error) = synced {
            // After a failed sync nobody knows what of this batch is on the disk, and the kernel
            // will not say again. Nothing more goes into this segment; what was synced before
            // is safe.
            let _ = file.set_len(staged.start());
            tail.end = u64::MAX;
            return Err(StoreError::of_write(error));
        }
        tail.end = staged.end();
        Ok(())
    }

    fn erase(&self, places: &[Place]) -> Result<(), StoreError> {
        let mut places = places.to_vec();
        places.sort_unstable();
        for group in places.chunk_by(|a, b| a.segment == b.segment) {
            let Some(file) = group.first().and_then(|place| self.file(place.segment)) else {
                continue;
            };
            // A file that has lost its end does not get it back as a hole.
            let len = file.metadata()?.len();
            for place in group {
                let mut bytes = record::erased(place.len);
                let left = usize::try_from(len.saturating_sub(place.offset));
                bytes.truncate(left.unwrap_or(usize::MAX));
                file.write_all_at(&bytes, place.offset)?;
            }
            file.sync_data()?;
        }
        Ok(())
    }

    fn is_erased(&self, place: Place) -> Result<bool, StoreError> {
        self.has_erased(place.segment, place.offset)
    }

    fn read_all(&self, places: &[Place]) -> Result<Vec<Option<Stored>>, StoreError> {
        let mut order: Vec<(usize, Place)> = places.iter().copied().enumerate().collect();
        order.sort_unstable_by_key(|(_, place)| *place);
        let mut found = vec![None; places.len()];
        for group in order.chunk_by(|(_, a), (_, b)| lie_together(a, b)) {
            for group in group.chunks(TOGETHER) {
                self.read_group(group, &mut found)?;
            }
        }
        Ok(found)
    }
}

/// Records read with one call, at most.
const TOGETHER: usize = 64;
/// Bytes between two records that are read along rather than left out with a call of their own.
const GAP: u64 = 2 * 1024;

/// Whether two places, in order, are near enough to be read with one call.
fn lie_together(a: &Place, b: &Place) -> bool {
    let end = a.offset.saturating_add(record::size(a.len));
    a.segment == b.segment && b.offset.saturating_sub(end) <= GAP
}

impl SegmentLog {
    /// Reads neighbouring records, and puts each where its number says.
    fn read_group(
        &self,
        group: &[(usize, Place)],
        found: &mut [Option<Stored>],
    ) -> Result<(), StoreError> {
        let (Some((_, first)), Some((_, last))) = (group.first(), group.last()) else {
            return Ok(());
        };
        let Some(file) = self.file(first.segment) else {
            return Ok(());
        };
        if group.iter().any(|(_, place)| !is_plausible(place)) {
            return Ok(());
        }
        let end = last
            .offset
            .saturating_add(ALIGN as u64 + u64::from(last.len));
        let count = usize::try_from(end.saturating_sub(first.offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; count];
        match file.read_exact_at(&mut bytes, first.offset) {
            Ok(()) => {}
            // The last may have been cut off; the others have not.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return match group.split_last() {
                    Some((_, [])) | None => Ok(()),
                    Some((last, others)) => {
                        self.read_group(others, found)?;
                        self.read_group(std::slice::from_ref(last), found)
                    }
                };
            }
            Err(error) => return Err(error.into()),
        }
        let bytes = Bytes::from(bytes);
        for (number, place) in group {
            let from = usize::try_from(place.offset.saturating_sub(first.offset));
            if let Some(slot) = found.get_mut(*number) {
                *slot = from.ok().and_then(|from| event_at(&bytes, from, place.len));
            }
        }
        Ok(())
    }
}

/// Whether a record of an event could lie there: an index that was damaged asks for no gigabytes.
fn is_plausible(place: &Place) -> bool {
    usize::try_from(place.len).is_ok_and(|len| len <= record::MAX_BODY)
}

/// The event whose record of `len` bytes begins at `from`.
fn event_at(bytes: &Bytes, from: usize, len: u32) -> Option<Stored> {
    let header = bytes.get(from..)?.first_chunk().and_then(Header::decode)?;
    let from = from.checked_add(ALIGN)?;
    let end = from.checked_add(usize::try_from(len).ok()?)?;
    if header.len() != len || end > bytes.len() {
        return None;
    }
    match header.record(bytes.slice(from..end)) {
        Some(Record::Event(stored)) => Some(stored),
        _ => None,
    }
}

/// A part of a file that was read ahead.
struct Window {
    file: Arc<File>,
    len: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// The bytes at `offset`; none where the file ends before.
    fn read(&mut self, offset: u64, count: usize) -> Result<Option<&[u8]>, StoreError> {
        if offset.saturating_add(count as u64) > self.len {
            return Ok(None);
        }
        let end = self.start.saturating_add(self.bytes.len() as u64);
        if offset < self.start || offset.saturating_add(count as u64) > end {
            let left = usize::try_from(self.len - offset).unwrap_or(usize::MAX);
            self.bytes.resize(left.min(WINDOW.max(count)), 0);
            self.start = offset;
            self.file.read_exact_at(&mut self.bytes, offset)?;
        }
        let from = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        Ok(self.bytes.get(from..from.saturating_add(count)))
    }
}

fn path_of(folder: &Path, segment: u32) -> PathBuf {
    folder.join(format!("{segment:08x}.seg"))
}

fn open_segment(folder: &Path, segment: u32, is_new: bool) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(is_new)
        .mode(0o600)
        .open(path_of(folder, segment))
}

/// Bytes that are free on the disk of a folder; none where the system does not tell.
pub(super) fn free_bytes(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Makes names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes a folder durable, with all that is in it.
pub(super) fn sync_files(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let synced = match path.is_dir() {
            true => sync_files(&path),
            false => File::open(&path).and_then(|file| file.sync_all()),
        };
        // An engine may be tidying up.
        match synced {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            synced => synced?,
        }
    }
    sync_folder(folder)
}
