//! Giving space back: a closed segment that is mostly dead has its living records copied to the
//! tail, is overwritten with zeros, and only then removed.
//!
//! What was copied is overwritten where it was with the transaction that copies it, not with the
//! segment: a full disk or a kill may come between, and then a deletion must find all of it.

use std::ops::ControlFlow;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::keys::{self, Hash, Place};
use super::record::{self, Record};
use super::{StoreError, Writer};

/// Bytes of a segment that are looked at, or overwritten, at once: everybody's events wait for that.
const SLICE_BYTES: u64 = 512 * 1024;

/// How long it is waited for what a thread beside this one is doing, before looking again.
const PAUSE: Duration = Duration::from_millis(1);

/// How far the compaction of a segment has come.
#[derive(Debug)]
pub(super) enum Compaction {
    /// What lies before this offset was moved.
    Moving(u32, u64),
    /// It is marked for wiping, and the index makes that durable: the mark must not outlive a crash
    /// of which the index forgets the moves.
    Marked(u32, JoinHandle<Result<(), StoreError>>),
    /// What lies before this offset is zeros.
    Wiping(u32, u64),
}

/// What a slice of compaction came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compacted {
    /// There was nothing to do.
    Nothing,
    /// There is more to do.
    Slice,
    /// There is more to do, after what a thread beside this one is doing.
    Waits,
    /// A segment is gone, or found damaged and left.
    Segment,
}

impl Writer {
    /// A slice of moving and wiping the first closed segment of which at least half is dead, or,
    /// with `any_dead`, any part. After an error it goes on where it was; a segment that its disk
    /// does not give or take is left alone until the next start.
    pub fn compact_some(&mut self, now: u64, any_dead: bool) -> Result<Compacted, StoreError> {
        match self.compaction.take() {
            None => self.pick(any_dead),
            Some(Compaction::Moving(segment, from)) => {
                let moved = self.move_some(segment, from, now);
                match &moved {
                    Err(StoreError::Io(_)) => drop(self.unmoved.insert(segment)),
                    // Not from the beginning: what it copies there would be copied each time.
                    Err(_) => self.compaction = Some(Compaction::Moving(segment, from)),
                    Ok(_) => {}
                }
                moved
            }
            Some(Compaction::Marked(segment, syncing)) if !syncing.is_finished() => {
                self.compaction = Some(Compaction::Marked(segment, syncing));
                Ok(Compacted::Waits)
            }
            Some(Compaction::Marked(segment, syncing)) => {
                let failed = |_| StoreError::Index("its sync failed".to_owned());
                syncing.join().map_err(failed).flatten()?;
                self.compaction = Some(Compaction::Wiping(segment, 0));
                Ok(Compacted::Slice)
            }
            Some(Compaction::Wiping(segment, from)) => self.wipe_some(segment, from),
        }
    }

    /// Waits for the thread that it began, which uses the store.
    fn end_compaction(&mut self) {
        if let Some(Compaction::Marked(_, syncing)) = self.compaction.take() {
            let _ = syncing.join();
        }
    }

    /// The same for a whole segment; whether there was one. Blocks.
    pub fn compact_one(&mut self, now: u64, any_dead: bool) -> Result<bool, StoreError> {
        loop {
            match self.compact_some(now, any_dead)? {
                Compacted::Nothing => return Ok(false),
                Compacted::Segment => return Ok(true),
                Compacted::Slice => {}
                Compacted::Waits => thread::sleep(PAUSE),
            }
        }
    }

    fn pick(&mut self, any_dead: bool) -> Result<Compacted, StoreError> {
        let store = self.store().clone();
        let Some(log) = store.log() else {
            return Ok(Compacted::Nothing);
        };
        if let Some(segment) = self.marked()? {
            self.sync_mark(segment)?;
            return Ok(Compacted::Slice);
        }
        for segment in log.numbers() {
            if segment == log.tail_segment() || self.unmoved.contains(&segment) {
                continue;
            }
            let row = store.index().get(&keys::segment(segment))?;
            let (written, alive) = keys::decode_pair(row.as_deref())?;
            let dead = written.saturating_sub(alive);
            let len = log.len_of(segment)?.unwrap_or(0);
            // What is lost of a damaged one stays as it is, for whoever can mend it.
            let is_lost = alive > 0 && store.damage.is_in(segment);
            if dead > 0 && !is_lost && (any_dead || dead.saturating_mul(2) >= len) {
                self.compaction = Some(Compaction::Moving(segment, 0));
                return Ok(Compacted::Slice);
            }
        }
        Ok(Compacted::Nothing)
    }

    fn move_some(&mut self, segment: u32, from: u64, now: u64) -> Result<Compacted, StoreError> {
        let store = self.store().clone();
        let Some(log) = store.log() else {
            return Ok(Compacted::Nothing);
        };
        // Gathered first: the scan must not meet what is being written.
        let mut waiting: Vec<(Place, Record)> = Vec::new();
        let mut next = None;
        log.scan_some(segment, from, |place, record| {
            if !is_carried_out(&record) {
                // Erasures were carried out and synced before the index knew of them.
                waiting.push((place, record));
            }
            let end = place.offset.saturating_add(record::size(place.len));
            Ok(match end.saturating_sub(from) < SLICE_BYTES {
                true => ControlFlow::Continue(()),
                false => {
                    next = Some(end);
                    ControlFlow::Break(())
                }
            })
        })?;
        self.move_records(&waiting, now)?;
        if let Some(next) = next {
            self.compaction = Some(Compaction::Moving(segment, next));
            return Ok(Compacted::Slice);
        }
        let row = store.index().get(&keys::segment(segment))?;
        if keys::decode_pair(row.as_deref())?.1 > 0 {
            // Something that the index names was not found in it: it is damaged, and not wiped.
            store.damage.note_unreadable(segment);
            return Ok(Compacted::Segment);
        }
        let mut transaction = self.begin(now)?;
        transaction.mark_wiped(segment);
        transaction.commit()?;
        self.sync_mark(segment)?;
        Ok(Compacted::Slice)
    }

    fn sync_mark(&mut self, segment: u32) -> Result<(), StoreError> {
        let store = self.store().clone();
        let syncing = thread::Builder::new()
            .name("sync".to_owned())
            .spawn(move || store.index().sync())?;
        self.compaction = Some(Compaction::Marked(segment, syncing));
        Ok(())
    }

    fn wipe_some(&mut self, segment: u32, from: u64) -> Result<Compacted, StoreError> {
        let next = self.wipe_slice(segment, from)?;
        self.compaction = next.map(|next| Compaction::Wiping(segment, next));
        Ok(match next {
            Some(_) => Compacted::Slice,
            None => Compacted::Segment,
        })
    }

    /// Where to go on; nothing once the segment is gone.
    fn wipe_slice(&self, segment: u32, from: u64) -> Result<Option<u64>, StoreError> {
        let Some(log) = self.store().log() else {
            return Ok(None);
        };
        let next = log.wipe_some(segment, from, SLICE_BYTES)?;
        if next.is_none() {
            let rows = [keys::wipe(segment), keys::segment(segment)];
            let index = self.store().index();
            index.apply(rows.map(|row| (row, None)).to_vec())?;
        }
        Ok(next)
    }

    fn move_records(&mut self, records: &[(Place, Record)], now: u64) -> Result<(), StoreError> {
        let hasher = self.store().hasher().clone();
        let mut transaction = self.begin(now)?;
        for (place, record) in records {
            match record {
                Record::Event(stored) => {
                    transaction.move_event(&hasher.id(&stored.id()), *place, record)?;
                }
                Record::Deletion { until, .. } if *until <= now => {}
                Record::Deletion { .. }
                | Record::AddressDeletion { .. }
                | Record::Vanish { .. } => transaction.copy(record)?,
                Record::Erased | Record::Erasure { .. } | Record::Replacement { .. } => {}
            }
        }
        transaction.commit()
    }

    /// A segment that is marked for wiping: where that failed, it is tried again.
    fn marked(&self) -> Result<Option<u32>, StoreError> {
        let mut marked = None;
        let mut visit = |key: &[u8], _: &[u8]| {
            marked = Some(key.get(1..).unwrap_or_default().to_vec());
            ControlFlow::Break(())
        };
        let index = self.store().index();
        index.scan(b"W", &keys::end_of(b"W"), &mut visit)?;
        let Some(number) = marked else {
            return Ok(None);
        };
        Ok(Some(u32::from_be_bytes(keys::take(
            &mut number.as_slice(),
        )?)))
    }

    /// Wipes and removes every segment that is marked for it, and those that a wipe had reached
    /// before the log was opened.
    pub(super) fn finish_wipes(&self) -> Result<(), StoreError> {
        let store = self.store().clone();
        let Some(log) = store.log() else {
            return Ok(());
        };
        for segment in log.numbers() {
            let row = store.index().get(&keys::segment(segment))?;
            let (_, alive) = keys::decode_pair(row.as_deref())?;
            let is_back = log.is_half_wiped(segment) && alive == 0;
            if is_back || store.index().get(&keys::wipe(segment))?.is_some() {
                store.index().sync()?;
                let mut from = Some(0);
                while let Some(at) = from {
                    from = self.wipe_slice(segment, at)?;
                }
            }
        }
        Ok(())
    }

    /// Leaves nothing dead behind: every closed segment with something dead in it is moved, and
    /// the index rewritten. For `sotto-relay compact`.
    pub fn compact_all(&mut self, now: u64) -> Result<usize, StoreError> {
        let mut count = 0;
        let last = self.store().log().map_or(0, |log| log.tail_segment());
        while self.compact_one(now, true)? {
            count += 1;
            // What is copied lies after `last` or in it, and is alive; so this ends.
            if count > usize::try_from(last).unwrap_or(usize::MAX) {
                break;
            }
        }
        self.store().index().compact()?;
        Ok(count)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end_compaction();
    }
}

fn is_carried_out(record: &Record) -> bool {
    matches!(
        record,
        Record::Erased | Record::Erasure { .. } | Record::Replacement { .. }
    )
}

impl super::Transaction<'_> {
    /// Moves an event to the tail, if it is still alive at `from`.
    fn move_event(&mut self, id: &Hash, from: Place, record: &Record) -> Result<(), StoreError> {
        let Some(entry) = self.rows.entry(id)? else {
            return Ok(());
        };
        if entry.place != from {
            return Ok(());
        }
        // It replaces itself: so a start after a crash knows where the rest of it is.
        let (id, by) = (*id, *id);
        self.staged.push(&Record::Replacement {
            place: from,
            id,
            by,
        })?;
        let place = self.staged.push(record)?;
        self.moved.push(from);
        self.rows.move_event(&id, &entry, place)
    }

    fn copy(&mut self, record: &Record) -> Result<(), StoreError> {
        self.staged.push(record).map(|_| ())
    }

    fn mark_wiped(&mut self, segment: u32) {
        self.rows.put(keys::wipe(segment), Vec::new());
        self.rows.remove(keys::segment(segment));
    }
}
