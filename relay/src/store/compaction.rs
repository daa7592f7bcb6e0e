//! Giving space back: a closed segment that is mostly dead has its living records copied to the
//! tail, is overwritten with zeros, and only then removed.
//!
//! What was copied is overwritten where it was with the transaction that copies it, not with the
//! segment: a full disk or a kill may come between, and then a deletion must find all of it.

use std::ops::ControlFlow;

use super::keys::{self, Hash, Place};
use super::record::{self, Record};
use super::{StoreError, Writer};

/// Bytes copied per transaction.
const CHUNK_BYTES: u64 = 1024 * 1024;

impl Writer {
    /// Moves and wipes the first closed segment of which at least half is dead, or, with
    /// `any_dead`, any part; whether there was one.
    pub fn compact_one(&mut self, now: u64, any_dead: bool) -> Result<bool, StoreError> {
        let store = self.store().clone();
        let Some(log) = store.log() else {
            return Ok(false);
        };
        if self.has_unfinished_wipes()? {
            self.finish_wipes()?;
            return Ok(true);
        }
        for segment in log.numbers() {
            if segment == log.tail_segment() {
                continue;
            }
            let row = store.index().get(&keys::segment(segment))?;
            let (written, alive) = keys::decode_pair(row.as_deref())?;
            let dead = written.saturating_sub(alive);
            let len = log.len_of(segment)?.unwrap_or(0);
            // What is lost of a damaged one stays as it is, for whoever can mend it.
            let is_lost = alive > 0 && store.damage.is_in(segment);
            if dead > 0 && !is_lost && (any_dead || dead.saturating_mul(2) >= len) {
                self.move_segment(segment, now)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn move_segment(&mut self, segment: u32, now: u64) -> Result<(), StoreError> {
        let store = self.store().clone();
        let Some(log) = store.log() else {
            return Ok(());
        };
        // Gathered first: the scan must not meet what is being written.
        let mut waiting: Vec<(Place, Record)> = Vec::new();
        let mut bytes = 0_u64;
        log.scan(segment, 0, |place, record| {
            if is_carried_out(&record) {
                // Erasures were carried out and synced before the index knew of them.
                return Ok(());
            }
            bytes = bytes.saturating_add(record::size(place.len));
            waiting.push((place, record));
            if bytes < CHUNK_BYTES {
                return Ok(());
            }
            bytes = 0;
            self.move_records(&std::mem::take(&mut waiting), now)
        })?;
        self.move_records(&waiting, now)?;
        let row = store.index().get(&keys::segment(segment))?;
        if keys::decode_pair(row.as_deref())?.1 > 0 {
            // Something that the index names was not found in it: it is damaged, and not wiped.
            store.damage.note_unreadable(segment);
            return Ok(());
        }
        let mut transaction = self.begin(now)?;
        transaction.mark_wiped(segment);
        transaction.commit()?;
        self.finish_wipes()
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

    /// Whether a segment is marked for wiping: where that failed, it is tried again.
    fn has_unfinished_wipes(&self) -> Result<bool, StoreError> {
        let mut is_any = false;
        let mut visit = |_: &[u8], _: &[u8]| {
            is_any = true;
            ControlFlow::Break(())
        };
        let index = self.store().index();
        index.scan(b"W", &keys::end_of(b"W"), &mut visit)?;
        Ok(is_any)
    }

    /// Wipes and removes every segment that is marked for it.
    pub(super) fn finish_wipes(&mut self) -> Result<(), StoreError> {
        let store = self.store().clone();
        let Some(log) = store.log() else {
            return Ok(());
        };
        for segment in log.numbers() {
            let mark = keys::wipe(segment);
            let row = store.index().get(&keys::segment(segment))?;
            let (_, alive) = keys::decode_pair(row.as_deref())?;
            let is_back = log.is_half_wiped(segment) && alive == 0;
            if is_back || store.index().get(&mark)?.is_some() {
                // The mark must not outlive a crash of which the index forgets the moves.
                store.index().sync()?;
                log.wipe(segment)?;
                let row = keys::segment(segment);
                store.index().apply(vec![(mark, None), (row, None)])?;
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
