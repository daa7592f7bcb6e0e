//! A run: a file of sorted rows that never changes.
//!
//! ```text
//! MAGIC
//! blocks    rows of about 8 KiB (length of the key, length of the value, both), and their CRC-32
//! tail      the first key and place of each block, the first bytes of keys, their number, the
//!           Bloom filter
//! footer    place, length and CRC-32 of the tail
//! ```
//!
//! Numbers are little-endian. The tail is read once and kept; a block is read and checked each time
//! that it is needed, and the kernel remembers it.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::StoreError;
use super::super::keys::take;
use super::RowRef;
use super::bloom::{Bloom, KeyHash};

const MAGIC: [u8; 16] = *b"sotto/run/1\0\0\0\0\n";
/// Rows go into one block until it has this many bytes.
const BLOCK_BYTES: usize = 8 * 1024;
const CRC_BYTES: usize = 4;
const FOOTER_BYTES: usize = 20;
/// What a file may claim for its tail: a thousand million rows would not reach it.
const MAX_TAIL: u64 = 4 * 1024 * 1024 * 1024;
/// In place of a value's length: the row was removed.
const REMOVED: u16 = u16::MAX;
/// Bytes after which a growing file is synced, so that the log never waits for gigabytes.
const SYNC_BYTES: u64 = 4 * 1024 * 1024;

/// Rows on disk.
#[derive(Debug)]
pub struct Run {
    file: File,
    blocks: Vec<Block>,
    bloom: Bloom,
    rows: u64,
    /// Bit `n` of it: whether a key begins with byte `n`.
    first_bytes: [u64; 4],
}

#[derive(Debug, Clone)]
struct Block {
    first: Box<[u8]>,
    offset: u64,
    /// Without its checksum.
    len: u32,
}

impl Run {
    /// Opens a run that was finished. Fails where any of it but the blocks is damaged.
    pub fn open(folder: &Path, number: u64) -> Result<Self, StoreError> {
        let file = File::open(path_of(folder, number))?;
        let len = file.metadata()?.len();
        let mut magic = [0; MAGIC.len()];
        file.read_exact_at(&mut magic, 0)?;
        if magic != MAGIC {
            return Err(damaged("the beginning of a run"));
        }
        let mut footer = [0; FOOTER_BYTES];
        let at = len
            .checked_sub(FOOTER_BYTES as u64)
            .ok_or_else(|| damaged("a run is too short"))?;
        file.read_exact_at(&mut footer, at)?;
        let mut input = footer.as_slice();
        let offset = u64::from_le_bytes(take(&mut input)?);
        let tail_len = u64::from_le_bytes(take(&mut input)?);
        let crc = u32::from_le_bytes(take(&mut input)?);
        if tail_len > MAX_TAIL || offset.checked_add(tail_len) != Some(at) {
            return Err(damaged("a run does not end as it should"));
        }
        let size = usize::try_from(tail_len).map_err(|_| damaged("a run is too large"))?;
        let mut tail = vec![0; size];
        file.read_exact_at(&mut tail, offset)?;
        if crc32fast::hash(&tail) != crc {
            return Err(damaged("the tail of a run"));
        }
        let input = &mut tail.as_slice();
        let count = u32::from_le_bytes(take(input)?);
        let mut blocks = Vec::new();
        for _ in 0..count {
            let [key_len] = take(input)?;
            let (first, rest) = input
                .split_at_checked(usize::from(key_len))
                .ok_or_else(|| damaged("a key in a tail"))?;
            *input = rest;
            blocks.push(Block {
                first: first.into(),
                offset: u64::from_le_bytes(take(input)?),
                len: u32::from_le_bytes(take(input)?),
            });
        }
        let mut first_bytes = [0; 4];
        for word in &mut first_bytes {
            *word = u64::from_le_bytes(take(input)?);
        }
        let rows = u64::from_le_bytes(take(input)?);
        let bloom = Bloom::decode(input).ok_or_else(|| damaged("the filter of a run"))?;
        Ok(Self {
            file,
            blocks,
            bloom,
            rows,
            first_bytes,
        })
    }

    /// How many rows it has, removals among them.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// What it says about a key; nothing where it says nothing.
    pub fn get(&self, key: &[u8], hash: KeyHash) -> Result<Option<Option<Vec<u8>>>, StoreError> {
        if !self.has_first_byte(key) || !self.bloom.may_hold(hash) {
            return Ok(None);
        }
        let Some(block) = self.block_of(key).and_then(|at| self.blocks.get(at)) else {
            return Ok(None);
        };
        let rows = self.read(block)?;
        let mut input = rows.as_slice();
        while let Some((found, value)) = next_row(&mut input)? {
            if found == key {
                return Ok(Some(value.map(<[u8]>::to_vec)));
            }
            if found > key {
                break;
            }
        }
        Ok(None)
    }

    fn has_first_byte(&self, key: &[u8]) -> bool {
        let byte = key.first().copied().unwrap_or(0);
        let word = self.first_bytes.get(usize::from(byte / 64));
        word.is_some_and(|word| word & (1 << (byte % 64)) != 0)
    }

    /// The last block that begins at or before `key`.
    fn block_of(&self, key: &[u8]) -> Option<usize> {
        self.blocks
            .partition_point(|block| &*block.first <= key)
            .checked_sub(1)
    }

    fn read(&self, block: &Block) -> Result<Vec<u8>, StoreError> {
        let len = usize::try_from(block.len).map_err(|_| damaged("a block is too large"))?;
        if len > 2 * BLOCK_BYTES {
            return Err(damaged("a block is too large"));
        }
        let mut bytes = vec![0; len + CRC_BYTES];
        self.file.read_exact_at(&mut bytes, block.offset)?;
        let crc = bytes.split_off(len);
        if crc32fast::hash(&bytes).to_le_bytes() != *crc {
            return Err(damaged("a block of a run"));
        }
        Ok(bytes)
    }
}

/// Removes the file of a run. Whoever still reads it keeps it until they are done.
pub fn remove(folder: &Path, number: u64) -> std::io::Result<()> {
    std::fs::remove_file(path_of(folder, number))
}

/// The path of a run's file.
pub fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number}.run"))
}

/// The next row of a block; nothing at its end.
fn next_row<'b>(input: &mut &'b [u8]) -> Result<Option<RowRef<'b>>, StoreError> {
    let garbled = || damaged("a row of a run");
    if input.is_empty() {
        return Ok(None);
    }
    let [key_len] = take(input)?;
    let value_len = u16::from_le_bytes(take(input)?);
    let (key, rest) = input
        .split_at_checked(usize::from(key_len))
        .ok_or_else(garbled)?;
    *input = rest;
    if value_len == REMOVED {
        return Ok(Some((key, None)));
    }
    let (value, rest) = input
        .split_at_checked(usize::from(value_len))
        .ok_or_else(garbled)?;
    *input = rest;
    Ok(Some((key, Some(value))))
}

fn damaged(what: &str) -> StoreError {
    StoreError::Index(format!("{what} is damaged"))
}

/// Goes through the rows of a run in order.
#[derive(Debug)]
pub struct Cursor {
    run: Arc<Run>,
    to: Option<Vec<u8>>,
    next_block: usize,
    rows: Vec<u8>,
    /// Where the current row's key lies in `rows`, and its value, if it has one.
    key: std::ops::Range<usize>,
    value: Option<std::ops::Range<usize>>,
    end: usize,
    is_done: bool,
}

impl Cursor {
    /// From `from` on, to before `to` or to the end.
    pub fn new(run: Arc<Run>, from: &[u8], to: Option<&[u8]>) -> Result<Self, StoreError> {
        let mut cursor = Self {
            next_block: run.block_of(from).unwrap_or(0),
            to: to.map(<[u8]>::to_vec),
            rows: Vec::new(),
            key: 0..0,
            value: None,
            end: 0,
            is_done: false,
            run,
        };
        cursor.advance()?;
        while cursor.row().is_some_and(|(key, _)| key < from) {
            cursor.advance()?;
        }
        Ok(cursor)
    }

    /// The row it stands at.
    pub fn row(&self) -> Option<RowRef<'_>> {
        if self.is_done {
            return None;
        }
        let key = self.rows.get(self.key.clone())?;
        let value = match &self.value {
            Some(range) => Some(self.rows.get(range.clone())?),
            None => None,
        };
        Some((key, value))
    }

    /// Goes to the next.
    pub fn advance(&mut self) -> Result<(), StoreError> {
        while self.end >= self.rows.len() {
            let Some(block) = self.run.blocks.get(self.next_block) else {
                self.is_done = true;
                return Ok(());
            };
            self.rows = self.run.read(block)?;
            self.next_block += 1;
            self.end = 0;
        }
        let mut input = self.rows.get(self.end..).unwrap_or_default();
        let before = input.len();
        let Some((key, value)) = next_row(&mut input)? else {
            self.is_done = true;
            return Ok(());
        };
        let used = before - input.len();
        let value_len = value.map_or(0, <[u8]>::len);
        let key_at = self.end + used - value_len - key.len();
        let value_at = self.end + used - value_len;
        if self.to.as_deref().is_some_and(|to| key >= to) {
            self.is_done = true;
        }
        self.key = key_at..value_at;
        self.value = value.map(|_| value_at..value_at + value_len);
        self.end += used;
        Ok(())
    }
}

/// A run being written. Nobody knows of it before [`Writer::finish`].
pub struct Writer {
    folder: PathBuf,
    number: u64,
    file: File,
    offset: u64,
    synced: u64,
    block: Vec<u8>,
    first: Vec<u8>,
    blocks: Vec<Block>,
    bloom: Bloom,
    rows: u64,
    first_bytes: [u64; 4],
}

impl Writer {
    /// Begins a file for about `rows` rows, in place of one that a crash left half-written.
    pub fn new(folder: &Path, number: u64, rows: u64) -> Result<Self, StoreError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path_of(folder, number))
            .map_err(StoreError::of_write)?;
        file.write_all(&MAGIC).map_err(StoreError::of_write)?;
        Ok(Self {
            folder: folder.to_owned(),
            number,
            file,
            offset: MAGIC.len() as u64,
            synced: 0,
            block: Vec::with_capacity(BLOCK_BYTES + 2 * 1024),
            first: Vec::new(),
            blocks: Vec::new(),
            bloom: Bloom::with_capacity(usize::try_from(rows).unwrap_or(usize::MAX)),
            rows: 0,
            first_bytes: [0; 4],
        })
    }

    /// Adds a row; keys must ascend. None removes the key from all older runs.
    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
        let too_long = |_| StoreError::Index("a row is too long".to_owned());
        let key_len = u8::try_from(key.len()).map_err(too_long)?;
        let value_len = match value {
            Some(value) => u16::try_from(value.len()).map_err(too_long)?,
            None => REMOVED,
        };
        if self.block.is_empty() {
            self.first = key.to_vec();
        }
        self.block.push(key_len);
        self.block.extend(value_len.to_le_bytes());
        self.block.extend_from_slice(key);
        self.block.extend_from_slice(value.unwrap_or_default());
        self.bloom.insert(KeyHash::of(key));
        self.rows = self.rows.saturating_add(1);
        let byte = key.first().copied().unwrap_or(0);
        if let Some(word) = self.first_bytes.get_mut(usize::from(byte / 64)) {
            *word |= 1 << (byte % 64);
        }
        match self.block.len() >= BLOCK_BYTES {
            true => self.end_block(),
            false => Ok(()),
        }
    }

    fn end_block(&mut self) -> Result<(), StoreError> {
        let len = u32::try_from(self.block.len())
            .map_err(|_| StoreError::Index("a block is too large".to_owned()))?;
        let crc = crc32fast::hash(&self.block);
        self.block.extend(crc.to_le_bytes());
        self.write(true)?;
        let size = u64::from(len) + CRC_BYTES as u64;
        self.blocks.push(Block {
            first: std::mem::take(&mut self.first).into(),
            offset: self.offset - size,
            len,
        });
        if self.offset - self.synced >= SYNC_BYTES {
            self.file.sync_data()?;
            self.synced = self.offset;
        }
        Ok(())
    }

    /// Writes what `block` holds.
    fn write(&mut self, is_more: bool) -> Result<(), StoreError> {
        self.file
            .write_all(&self.block)
            .map_err(StoreError::of_write)?;
        self.offset = self.offset.saturating_add(self.block.len() as u64);
        self.block.clear();
        if !is_more {
            self.file.sync_all()?;
        }
        Ok(())
    }

    /// Ends the file and makes it durable, but for its name: the caller syncs the folder.
    pub fn finish(mut self) -> Result<Run, StoreError> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        let mut tail = Vec::new();
        let count = u32::try_from(self.blocks.len())
            .map_err(|_| StoreError::Index("a run has too many blocks".to_owned()))?;
        tail.extend(count.to_le_bytes());
        for block in &self.blocks {
            // Keys were checked when they came.
            tail.push(u8::try_from(block.first.len()).unwrap_or(u8::MAX));
            tail.extend_from_slice(&block.first);
            tail.extend(block.offset.to_le_bytes());
            tail.extend(block.len.to_le_bytes());
        }
        for word in self.first_bytes {
            tail.extend(word.to_le_bytes());
        }
        tail.extend(self.rows.to_le_bytes());
        self.bloom.encode(&mut tail);
        let mut footer = Vec::with_capacity(FOOTER_BYTES);
        footer.extend(self.offset.to_le_bytes());
        footer.extend((tail.len() as u64).to_le_bytes());
        footer.extend(crc32fast::hash(&tail).to_le_bytes());
        self.block = tail;
        self.block.extend(footer);
        self.write(false)?;
        Ok(Run {
            file: self.file,
            blocks: self.blocks,
            bloom: self.bloom,
            rows: self.rows,
            first_bytes: self.first_bytes,
        })
    }

    /// Gives up; the file goes.
    pub fn discard(self) {
        // A start removes what is left of it.
        let _ = remove(&self.folder, self.number);
    }
}
