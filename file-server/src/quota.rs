//! Who may store how much at once, and for how long. Counts only; nothing here waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wire::ids::PublicKey;

use crate::config::Limits;
use crate::storage::Usage;

/// Counts uploads under way and the bytes they announced.
#[derive(Debug, Default)]
pub struct Quota {
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    by_key: HashMap<PublicKey, u32>,
    uploads: u32,
    /// Announced by uploads under way, so that several at once do not overshoot together.
    reserved: u64,
}

/// Why an upload may not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuotaError {
    /// Larger than one blob may be.
    #[error("the blob is larger than this server takes")]
    BlobTooLarge,
    /// The key has as many uploads under way as it may.
    #[error("too many uploads of this key at once")]
    KeyBusy,
    /// The server has as many uploads under way as it takes.
    #[error("too many uploads at once")]
    ServerBusy,
    /// The blobs together would exceed what the operator gives.
    #[error("the server's space is used up")]
    NoSpace,
    /// The disk would have less left than the operator wants.
    #[error("the server's disk is full")]
    DiskFull,
}

/// The right to one upload; dropping it gives the place back.
#[derive(Debug)]
pub struct Permit {
    quota: Arc<Quota>,
    key: PublicKey,
    bytes: u64,
}

impl Quota {
    /// Admits an upload of `bytes` by `key`, or says which limit is in the way.
    pub fn admit(
        self: &Arc<Self>,
        key: PublicKey,
        bytes: u64,
        usage: Usage,
        limits: &Limits,
    ) -> Result<Permit, QuotaError> {
        if bytes > limits.blob_bytes {
            return Err(QuotaError::BlobTooLarge);
        }
        let mut running = self.running();
        if running.uploads >= limits.uploads {
            return Err(QuotaError::ServerBusy);
        }
        let of_key = running.by_key.get(&key).copied().unwrap_or(0);
        if of_key >= limits.uploads_per_key {
            return Err(QuotaError::KeyBusy);
        }
        let wanted = running.reserved.saturating_add(bytes);
        if usage.bytes.saturating_add(wanted) > limits.total_bytes {
            return Err(QuotaError::NoSpace);
        }
        // What uploads under way have written is counted twice here; erring on the safe side
        // refuses a little early on a disk that is nearly full.
        let needed = wanted.saturating_add(limits.keep_free_bytes);
        if usage.free.is_some_and(|free| free < needed) {
            return Err(QuotaError::DiskFull);
        }
        running.reserved = wanted;
        running.uploads = running.uploads.saturating_add(1);
        running.by_key.insert(key, of_key.saturating_add(1));
        Ok(Permit {
            quota: Arc::clone(self),
            key,
            bytes,
        })
    }

    /// Counts survive a panic elsewhere: each change is complete before the lock is let go.
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut running = self.quota.running();
        running.uploads = running.uploads.saturating_sub(1);
        running.reserved = running.reserved.saturating_sub(self.bytes);
        if let Some(count) = running.by_key.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                running.by_key.remove(&self.key);
            }
        }
    }
}

/// The end of a claim: what was asked for, but no later than the operator allows.
pub fn granted_sunset(asked: Option<u64>, now: u64, limits: &Limits) -> Option<u64> {
    let latest = limits.max_age_seconds.map(|age| now.saturating_add(age));
    match (asked, latest) {
        (Some(asked), Some(latest)) => Some(asked.min(latest)),
        (asked, latest) => asked.or(latest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            blob_bytes: 100,
            total_bytes: 250,
            keep_free_bytes: 10,
            uploads_per_key: 2,
            uploads: 3,
            ..Limits::default()
        }
    }

    fn key(n: u8) -> PublicKey {
        PublicKey::from_bytes([n; 32])
    }

    fn usage(bytes: u64, free: u64) -> Usage {
        Usage {
            blobs: 0,
            bytes,
            free: Some(free),
        }
    }

    #[test]
    fn each_limit_is_named_and_places_come_back() {
        let quota = Arc::new(Quota::default());
        let limits = limits();
        let admit = |n, bytes| quota.admit(key(n), bytes, usage(0, 1_000), &limits);
        assert_eq!(admit(1, 101).unwrap_err(), QuotaError::BlobTooLarge);
        let first = admit(1, 1).unwrap();
        let _second = admit(1, 1).unwrap();
        assert_eq!(admit(1, 1).unwrap_err(), QuotaError::KeyBusy);
        let _third = admit(2, 1).unwrap();
        assert_eq!(admit(3, 1).unwrap_err(), QuotaError::ServerBusy);
        drop(first);
        drop(admit(1, 1).unwrap());
        assert_eq!(quota.running().by_key.len(), 2);
    }

    #[test]
    fn uploads_at_once_do_not_overshoot_together() {
        let quota = Arc::new(Quota::default());
        let limits = limits();
        let admit = |n, used, free| quota.admit(key(n), 100, usage(used, free), &limits);
        assert_eq!(admit(1, 151, 1_000).unwrap_err(), QuotaError::NoSpace);
        assert_eq!(admit(1, 0, 109).unwrap_err(), QuotaError::DiskFull);
        let _first = admit(1, 0, 110).unwrap();
        assert_eq!(admit(2, 0, 209).unwrap_err(), QuotaError::DiskFull);
        assert_eq!(admit(2, 51, 1_000).unwrap_err(), QuotaError::NoSpace);
        assert_eq!(
            admit(2, u64::MAX, u64::MAX).unwrap_err(),
            QuotaError::NoSpace
        );
        let _second = admit(2, 50, 1_000).unwrap();
    }

    #[test]
    fn the_operator_has_the_last_word_on_how_long() {
        let mut limits = limits();
        assert_eq!(granted_sunset(None, 1_000, &limits), None);
        assert_eq!(granted_sunset(Some(5_000), 1_000, &limits), Some(5_000));
        limits.max_age_seconds = Some(60);
        assert_eq!(granted_sunset(None, 1_000, &limits), Some(1_060));
        assert_eq!(granted_sunset(Some(1_030), 1_000, &limits), Some(1_030));
        assert_eq!(granted_sunset(Some(5_000), 1_000, &limits), Some(1_060));
    }
}
