//! The store in memory: what the contract means, without files. Nothing outlives the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use wire::Sha256;
use wire::ids::PublicKey;

use super::record::Record;
use super::{Blob, Claim, ReadBlob, Spent, Staged, Storage, StorageError, Stored, Swept, Usage};

/// Blobs in a map. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryStorage {
    entries: Arc<Mutex<HashMap<Sha256, Entry>>>,
}

#[derive(Debug)]
struct Entry {
    record: Record,
    body: Option<Bytes>,
}

impl MemoryStorage {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// A thread that panicked inside held no half-made change: each change below is one
    /// assignment after all that can fail.
    fn entries(&self) -> MutexGuard<'_, HashMap<Sha256, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn blob(&self, now: u64) -> Option<Blob> {
        let gone_at = self.record.gone_at();
        let alive = self.body.is_some() && gone_at.is_none_or(|end| end > now);
        alive.then_some(Blob {
            size: self.record.size,
            uploaded_at: self.record.uploaded_at,
            gone_at,
        })
    }
}

impl Storage for MemoryStorage {
    fn stage(&self) -> Result<Box<dyn Staged>, StorageError> {
        Ok(Box::new(StagedBytes {
            storage: self.clone(),
            bytes: BytesMut::new(),
        }))
    }

    fn find(&self, hash: &Sha256, now: u64) -> Option<Blob> {
        self.entries().get(hash)?.blob(now)
    }

    fn open(&self, hash: &Sha256, now: u64) -> Result<Box<dyn ReadBlob>, StorageError> {
        let entries = self.entries();
        let entry = entries.get(hash).ok_or(StorageError::NotFound)?;
        match (&entry.body, entry.blob(now)) {
            (Some(body), Some(_)) => Ok(Box::new(BytesReader(body.clone()))),
            _ => Err(StorageError::NotFound),
        }
    }

    fn is_spent(&self, hash: &Sha256, token: &Spent) -> Result<bool, StorageError> {
        let entries = self.entries();
        Ok(entries
            .get(hash)
            .is_some_and(|entry| entry.record.is_spent(token)))
    }

    fn release(
        &self,
        hash: &Sha256,
        owner: &PublicKey,
        token: Spent,
        now: u64,
    ) -> Result<(), StorageError> {
        let mut entries = self.entries();
        let entry = entries.get_mut(hash).ok_or(StorageError::NotFound)?;
        if entry.record.is_spent(&token) {
            return Err(StorageError::TokenUsed);
        }
        if entry.blob(now).is_none() {
            return Err(StorageError::NotFound);
        }
        let mut record = entry.record.clone();
        record.expire(now);
        record.release(owner)?;
        record.spend(token)?;
        entry.record = record;
        if !entry.record.is_claimed() {
            entry.body = None;
        }
        Ok(())
    }

    fn sweep(&self, now: u64) -> Swept {
        let mut swept = Swept::default();
        self.entries().retain(|_, entry| {
            entry.record.expire(now);
            if !entry.record.is_claimed() && entry.body.take().is_some() {
                swept.erased += 1;
            }
            !entry.record.is_empty()
        });
        swept
    }

    fn usage(&self) -> Usage {
        let entries = self.entries();
        let sizes = entries.values().filter(|entry| entry.body.is_some());
        let mut usage = Usage::default();
        for entry in sizes {
            usage.blobs += 1;
            usage.bytes = usage.bytes.saturating_add(entry.record.size);
        }
        usage
    }
}

struct StagedBytes {
    storage: MemoryStorage,
    bytes: BytesMut,
}

impl Staged for StagedBytes {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn commit(
        self: Box<Self>,
        hash: &Sha256,
        claim: Claim,
        token: Spent,
        now: u64,
    ) -> Result<Stored, StorageError> {
        let mut entries = self.storage.entries();
        let known = entries.get(hash);
        let created = known.is_none_or(|entry| entry.blob(now).is_none());
        let mut record = known.map_or_else(Record::new, |entry| entry.record.clone());
        record.expire(now);
        record.spend(token)?;
        record.claim(claim)?;
        if created {
            record.size = u64::try_from(self.bytes.len()).unwrap_or(u64::MAX);
            record.uploaded_at = now;
        }
        let blob = Blob {
            size: record.size,
            uploaded_at: record.uploaded_at,
            gone_at: record.gone_at(),
        };
        let body = Some(self.bytes.freeze());
        entries.insert(*hash, Entry { record, body });
        Ok(Stored { created, blob })
    }
}

struct BytesReader(Bytes);

impl ReadBlob for BytesReader {
    fn size(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap_or(u64::MAX)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.0.get(offset..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(count)
    }
}
