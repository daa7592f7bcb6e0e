//! The rows that are in no run yet.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use super::super::Batch;
use super::RowRef;

/// What a row takes beside its bytes, about.
const ROW_OVERHEAD: usize = 64;
/// Rows that a cursor copies at a time, so that it holds the lock for microseconds.
const CHUNK: usize = 128;

/// A key and its value; none: the row was removed.
pub type Row = (Vec<u8>, Option<Vec<u8>>);

/// Rows in order. Batches are added until it is handed out to be written; then it stays as it is.
#[derive(Debug, Default)]
pub struct Memory(RwLock<Rows>);

#[derive(Debug, Default)]
struct Rows {
    rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
    /// Whether it was handed out.
    is_sealed: bool,
}

impl Memory {
    /// Adds a batch: a reader sees all of it or none. The bytes held now; or the batch, where the
    /// rows were handed out before.
    pub fn apply(&self, batch: Batch) -> Result<usize, Batch> {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if state.is_sealed {
            return Err(batch);
        }
        for (key, value) in batch {
            let size = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
            let added = size(&value);
            let new_row = key.len() + ROW_OVERHEAD;
            let (grown, freed) = match state.rows.insert(key, value) {
                Some(before) => (added, size(&before)),
                None => (added + new_row, 0),
            };
            state.bytes = (state.bytes + grown).saturating_sub(freed);
        }
        Ok(state.bytes)
    }

    /// From now on it stays as it is.
    pub fn seal(&self) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        state.is_sealed = true;
    }

    /// What it says about a key; nothing where it says nothing.
    pub fn get(&self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        state.rows.get(key).cloned()
    }

    /// How many rows it has, removals among them.
    pub fn rows(&self) -> u64 {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        state.rows.len() as u64
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        state.rows.is_empty()
    }

    /// Up to `CHUNK` rows of a range.
    fn chunk(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Vec<Row> {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let rows = state.rows.range::<[u8], _>((from, to));
        rows.take(CHUNK)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }
}

/// Goes through the rows of a range in order.
#[derive(Debug)]
pub struct Cursor {
    memory: Arc<Memory>,
    to: Option<Vec<u8>>,
    rows: std::vec::IntoIter<Row>,
    current: Option<Row>,
    is_last: bool,
}

impl Cursor {
    /// From `from` on, to before `to` or to the end. The range must not be empty.
    pub fn new(memory: Arc<Memory>, from: &[u8], to: Option<&[u8]>) -> Self {
        let end = to.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = memory.chunk(Bound::Included(from), end);
        let mut cursor = Self {
            is_last: rows.len() < CHUNK,
            rows: rows.into_iter(),
            to: to.map(<[u8]>::to_vec),
            current: None,
            memory,
        };
        cursor.current = cursor.rows.next();
        cursor
    }

    /// The row it stands at.
    pub fn row(&self) -> Option<RowRef<'_>> {
        self.current
            .as_ref()
            .map(|(key, value)| (key.as_slice(), value.as_deref()))
    }

    /// Goes to the next.
    pub fn advance(&mut self) {
        let Some((last, _)) = self.current.take() else {
            return;
        };
        self.current = self.rows.next();
        if self.current.is_none() && !self.is_last {
            let end = self.to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let rows = self.memory.chunk(Bound::Excluded(&last), end);
            self.is_last = rows.len() < CHUNK;
            self.rows = rows.into_iter();
            self.current = self.rows.next();
        }
    }
}
