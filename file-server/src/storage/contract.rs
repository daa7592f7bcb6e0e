//! What every store promises, as one suite that each of them runs.
//!
//! It is part of the library so that a store written elsewhere can be held to it as well.

use wire::Sha256;
use wire::ids::{EventId, PublicKey};

use super::{Claim, Spent, Storage, StorageError, Stored};

/// Runs the whole suite. `make` returns a fresh, empty store each time it is called.
///
/// # Panics
/// Where a promise does not hold; the message names it.
#[allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test suite reports by panicking; nothing but tests calls it"
)]
pub fn check<S: Storage>(mut make: impl FnMut() -> S) {
    committed_bytes_come_back(&make());
    nothing_is_readable_before_the_commit(&make());
    the_blob_goes_with_the_last_claim(&make());
    only_an_owner_releases(&make());
    a_token_does_one_thing(&make());
    a_blob_is_gone_at_its_second(&make());
    a_claim_without_end_outlives_the_others(&make());
    usage_counts_each_blob_once(&make());
}

/// Stores `bytes` for the key `owner`, using a token that nobody used yet.
#[allow(clippy::unwrap_used, reason = "see `check`")]
fn put<S: Storage>(
    store: &S,
    bytes: &[u8],
    owner: u8,
    sunset: Option<u64>,
    token: u8,
    now: u64,
) -> Result<Stored, StorageError> {
    let mut staged = store.stage().unwrap();
    for piece in bytes.chunks(1_000) {
        staged.write(piece).unwrap();
    }
    let owner = key(owner);
    staged.commit(
        &Sha256::of(bytes),
        Claim { owner, sunset },
        spent(token),
        now,
    )
}

#[allow(clippy::unwrap_used, reason = "see `check`")]
fn read<S: Storage>(store: &S, bytes: &[u8], now: u64) -> Option<Vec<u8>> {
    let mut blob = store.open(&Sha256::of(bytes), now).ok()?;
    let mut out = Vec::new();
    let mut buffer = [0; 700];
    loop {
        let offset = u64::try_from(out.len()).unwrap();
        let count = blob.read_at(offset, &mut buffer).unwrap();
        if count == 0 {
            assert_eq!(offset, blob.size(), "a reader knows the size");
            return Some(out);
        }
        out.extend(buffer.iter().take(count));
    }
}

fn key(n: u8) -> PublicKey {
    PublicKey::from_bytes([n; 32])
}

/// Tokens of the suite live until 1,000.
fn spent(n: u8) -> Spent {
    Spent {
        token: EventId::from_bytes([n; 32]),
        until: 1_000,
    }
}

fn sample(seed: u8) -> Vec<u8> {
    (0..5_000_u32)
        .map(|n| n.to_le_bytes()[0].wrapping_mul(7) ^ seed)
        .collect()
}

#[allow(clippy::unwrap_used, reason = "see `check`")]
fn committed_bytes_come_back<S: Storage>(store: &S) {
    for bytes in [sample(1), Vec::new()] {
        let stored = put(store, &bytes, 1, None, 1, 10).unwrap();
        assert!(stored.created, "the first upload creates");
        assert_eq!(stored.blob.uploaded_at, 10, "the upload's time is kept");
        assert_eq!(store.find(&Sha256::of(&bytes), 11), Some(stored.blob));
        assert_eq!(read(store, &bytes, 11), Some(bytes), "bytes come back");
    }
    let again = put(store, &sample(1), 2, None, 2, 20).unwrap();
    assert!(
        !again.created,
        "the second upload of one blob creates nothing"
    );
    assert_eq!(again.blob.uploaded_at, 10, "the first upload's time stays");
    assert_eq!(store.find(&Sha256::of(b"other"), 1), None);
}

#[allow(clippy::unwrap_used, reason = "see `check`")]
fn nothing_is_readable_before_the_commit<S: Storage>(store: &S) {
    let bytes = sample(1);
    let mut staged = store.stage().unwrap();
    staged.write(&bytes).unwrap();
    assert_eq!(read(store, &bytes, 1), None);
    drop(staged);
    assert_eq!(read(store, &bytes, 1), None);
    assert_eq!(
        store.usage().bytes,
        0,
        "what was not committed is not counted"
    );
}

#[allow(clippy::unwrap_used, reason = "see `check`")]
fn the_blob_goes_with_the_last_claim<S: Storage>(store: &S) {
    let bytes = sample(1);
    let hash = Sha256::of(&bytes);
    put(store, &bytes, 1, None, 1, 1).unwrap();
    put(store, &bytes, 2, None, 2, 1).unwrap();
    store.release(&hash, &key(1), spent(3), 2).unwrap();
    assert_eq!(read(store, &bytes, 2).as_ref(), Some(&bytes));
    store.release(&hash, &key(2), spent(4), 2).unwrap();
    assert_eq!(read(store, &bytes, 2), None);
    let again = store.release(&hash, &key(2), spent(5), 2);
    assert!(matches!(again, Err(StorageError::NotFound)));
    let back = put(store, &bytes, 3, None, 6, 3).unwrap();
    assert!(back.created, "a blob that went can come again");
    assert_eq!(read(store, &bytes, 3), Some(bytes));
}

#[allow(clippy::unwrap_used, reason = "see `check`")]
fn only_an_owner_releases<S: Storage>(store: &S) {
    let bytes = sample(1);
    let hash = Sha256::of(&bytes);
    put(store, &bytes, 1, None, 1, 1).unwrap();
    let stranger = store.release(&hash, &key(2), spent(2), 1);
    assert!(matches!(stranger, Err(StorageError::NotOwner)));
    let unknown = store.release(&Sha256::of(b"other"), &key(1), spent(3), 1);
    assert!(matches!(unknown, Err(StorageError::NotFound)));
    assert!(!store.is_spent(&hash, &spent(2)).unwrap());
    assert_eq!(read(store, &bytes, 1), Some(bytes));
}

#[allow(clippy::unwrap_used, reason = "see `check`")]
fn a_token_does_one_thing<S: Storage>(store: &S) {
    let bytes = sample(1);
    let hash = Sha256::of(&bytes);
    put(store, &bytes, 1, None, 1, 1).unwrap();
    assert!(store.is_spent(&hash, &spent(1)).unwrap());
    let twice = put(store, &bytes, 1, None, 1, 1);
    assert!(matches!(twice, Err(StorageError::TokenUsed)));
    store.release(&hash, &key(1), spent(2), 1).unwrap();
    let resurrected = put(store, &bytes, 1, None, 1, 2);
    assert!(
        matches!(resurrected, Err(StorageError::TokenUsed)),
        "an upload token does not bring a deleted blob back"
    );
    put(store, &bytes, 1, None, 3, 2).unwrap();
    let replayed = store.release(&hash, &key(1), spent(2), 3);
    assert!(matches!(replayed, Err(StorageError::TokenUsed)));
    store.sweep(999);
    assert!(store.is_spent(&hash, &spent(2)).unwrap());
    store.sweep(1_000);
    assert!(
        !store.is_spent(&hash, &spent(2)).unwrap(),
        "a token that has expired is forgotten"
    );
    assert_eq!(read(store, &bytes, 1_000), Some(bytes));
}

#[allow(clippy::unwrap_used, reason = "see `check`")]
fn a_blob_is_gone_at_its_second<S: Storage>(store: &S) {
    let bytes = sample(1);
    let hash = Sha256::of(&bytes);
    put(store, &bytes, 1, Some(50), 1, 1).unwrap();
    put(store, &bytes, 2, Some(100), 2, 1).unwrap();
    assert_eq!(store.find(&hash, 1).unwrap().gone_at, Some(100));
    store.sweep(60);
    let ended = store.release(&hash, &key(1), spent(3), 60);
    assert!(
        matches!(ended, Err(StorageError::NotOwner)),
        "a claim that has ended is none"
    );
    assert_eq!(read(store, &bytes, 99).as_ref(), Some(&bytes));
    assert_eq!(store.find(&hash, 100), None);
    assert_eq!(read(store, &bytes, 100), None);
    let late = store.release(&hash, &key(2), spent(4), 100);
    assert!(matches!(late, Err(StorageError::NotFound)));
    assert_eq!(store.sweep(100).erased, 1);
    assert_eq!(store.sweep(100).erased, 0);
    assert_eq!(store.usage().blobs, 0);
}

#[allow(clippy::unwrap_used, reason = "see `check`")]
fn a_claim_without_end_outlives_the_others<S: Storage>(store: &S) {
    let bytes = sample(1);
    let hash = Sha256::of(&bytes);
    put(store, &bytes, 1, Some(50), 1, 1).unwrap();
    put(store, &bytes, 2, None, 2, 1).unwrap();
    assert_eq!(store.sweep(u64::MAX).erased, 0);
    assert_eq!(read(store, &bytes, u64::MAX), Some(bytes));
    assert_eq!(store.find(&hash, 60).unwrap().gone_at, None);
}

#[allow(clippy::unwrap_used, reason = "see `check`")]
fn usage_counts_each_blob_once<S: Storage>(store: &S) {
    put(store, &sample(1), 1, None, 1, 1).unwrap();
    put(store, &sample(1), 2, None, 2, 1).unwrap();
    put(store, &sample(2), 1, None, 3, 1).unwrap();
    let usage = store.usage();
    assert_eq!((usage.blobs, usage.bytes), (2, 10_000));
    store
        .release(&Sha256::of(&sample(2)), &key(1), spent(4), 1)
        .unwrap();
    let usage = store.usage();
    assert_eq!((usage.blobs, usage.bytes), (1, 5_000));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{DiskStorage, MemoryStorage};

    #[test]
    fn memory_keeps_the_contract() {
        check(MemoryStorage::new);
    }

    #[test]
    fn disk_keeps_the_contract() {
        let mut folders = Vec::new();
        check(|| {
            let folder = tempfile::tempdir().unwrap();
            let store = DiskStorage::open(folder.path()).unwrap();
            folders.push(folder);
            store
        });
    }
}
