//! Every state that a crash can leave on disk, and disks that fail.

use std::path::{Path, PathBuf};

use wire::Sha256;
use wire::ids::{EventId, PublicKey};

use super::*;

const BLOB: &[u8] = b"ciphertext that must come back whole or not at all";

fn hash() -> Sha256 {
    Sha256::of(BLOB)
}

fn token(n: u8) -> Spent {
    Spent {
        token: EventId::from_bytes([n; 32]),
        until: 1_000,
    }
}

fn owner() -> PublicKey {
    PublicKey::from_bytes([7; 32])
}

fn put(store: &DiskStorage, sunset: Option<u64>) -> Result<Stored, StorageError> {
    let mut staged = store.stage()?;
    staged.write(BLOB)?;
    let owner = owner();
    staged.commit(&hash(), Claim { owner, sunset }, token(1), 1)
}

/// A store with the blob in it, closed again.
fn filled() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = DiskStorage::open(folder.path()).unwrap();
    put(&store, None).unwrap();
    folder
}

fn body(root: &Path) -> PathBuf {
    root.join("blobs")
        .join(shard(&hash()))
        .join(hash().to_hex())
}

fn record(root: &Path) -> PathBuf {
    let name = format!("{}.json", hash());
    root.join("claims").join(shard(&hash())).join(name)
}

fn serves(root: &Path) -> bool {
    let store = DiskStorage::open(root).unwrap();
    let Ok(mut reader) = store.open(&hash(), 2) else {
        return false;
    };
    let mut buffer = [0; 100];
    let count = reader.read_at(0, &mut buffer).unwrap();
    assert_eq!(&buffer[..count], BLOB, "a wrong blob is served");
    true
}

fn is_on_disk(root: &Path) -> bool {
    fn any(folder: &Path) -> bool {
        std::fs::read_dir(folder).unwrap().any(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() {
                any(&path)
            } else {
                let bytes = std::fs::read(path).unwrap();
                bytes.windows(16).any(|window| window == &BLOB[..16])
            }
        })
    }
    any(root)
}

#[test]
fn f_st_3_a_crash_at_each_step_of_storing_leaves_all_or_nothing() {
    // In staging, half or whole.
    for part in [&BLOB[..10], BLOB] {
        let folder = filled();
        let root = folder.path();
        std::fs::remove_file(record(root)).unwrap();
        std::fs::remove_file(body(root)).unwrap();
        std::fs::write(root.join("staging/7"), part).unwrap();
        assert!(!serves(root));
        assert!(!is_on_disk(root), "bytes that nobody claims are erased");
    }
    // Renamed, no record yet.
    let folder = filled();
    std::fs::remove_file(record(folder.path())).unwrap();
    assert!(!serves(folder.path()) && !is_on_disk(folder.path()));
    // Renamed, record written but not renamed.
    let folder = filled();
    let root = folder.path();
    std::fs::rename(record(root), root.join("staging/8")).unwrap();
    assert!(!serves(root) && !is_on_disk(root));
    // All of it.
    let folder = filled();
    assert!(serves(folder.path()));
}

#[test]
fn f_st_4_a_crash_at_each_step_of_deleting_leaves_the_blob_deleted() {
    let deleted_record = {
        let folder = filled();
        let store = DiskStorage::open(folder.path()).unwrap();
        store.release(&hash(), &owner(), token(2), 2).unwrap();
        std::fs::read(record(folder.path())).unwrap()
    };
    // The record is changed, the bytes are where they were.
    let folder = filled();
    let root = folder.path();
    std::fs::write(record(root), &deleted_record).unwrap();
    assert!(!serves(root) && !is_on_disk(root));
    // The bytes are moved, whole or partly overwritten.
    for erased in [0, 20, BLOB.len()] {
        let folder = filled();
        let root = folder.path();
        std::fs::write(record(root), &deleted_record).unwrap();
        let mut bytes = BLOB.to_vec();
        bytes[..erased].fill(0);
        std::fs::remove_file(body(root)).unwrap();
        std::fs::write(root.join("erasing/3"), bytes).unwrap();
        assert!(!serves(root) && !is_on_disk(root));
        assert!(!root.join("erasing/3").exists());
    }
    // The used tokens are remembered all the same.
    let store = DiskStorage::open(folder.path()).unwrap();
    assert!(store.is_spent(&hash(), &token(1)).unwrap());
    assert!(store.is_spent(&hash(), &token(2)).unwrap());
}

#[test]
fn f_st_5_bytes_that_differ_from_their_record_are_not_served() {
    let folder = filled();
    std::fs::write(body(folder.path()), &BLOB[..BLOB.len() - 1]).unwrap();
    assert!(!serves(folder.path()));
    let folder = filled();
    std::fs::write(record(folder.path()), b"{}").unwrap();
    assert!(!serves(folder.path()));
    // What an operator could still repair is not thrown away.
    assert!(is_on_disk(folder.path()));
}

#[test]
fn one_folder_has_one_store_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = DiskStorage::open(folder.path()).unwrap();
    let second = DiskStorage::open(folder.path());
    assert!(matches!(second, Err(StorageError::Busy)));
    drop(store);
    DiskStorage::open(folder.path()).unwrap();
}

#[test]
fn f_st_7_a_copy_of_the_locks_descriptor_in_a_child_keeps_nobody_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = DiskStorage::open(folder.path()).unwrap();
    // What a fork leaves in the child until it runs another program.
    let copy = store.0._lock.0.try_clone().unwrap();
    drop(store);
    DiskStorage::open(folder.path()).unwrap();
    drop(copy);
}

#[test]
fn files_and_folders_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = filled();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for path in [
        body(folder.path()),
        record(folder.path()),
        folder.path().join("lock"),
    ] {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    for path in ["blobs", "claims", "staging", "erasing", "blobs/00"] {
        assert_eq!(mode(&folder.path().join(path)), 0o700, "{path}");
    }
}

#[test]
fn f_st_6_a_commit_that_fails_leaves_nothing_and_can_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let store = DiskStorage::open(folder.path()).unwrap();
    // The record cannot be written: something lies where it belongs.
    std::fs::create_dir(record(folder.path())).unwrap();
    assert!(put(&store, None).is_err());
    assert!(store.find(&hash(), 1).is_none());
    assert!(!is_on_disk(folder.path()));
    std::fs::remove_dir(record(folder.path())).unwrap();
    assert!(put(&store, None).unwrap().created);
    drop(store);
    assert!(serves(folder.path()));
}

#[test]
fn erasing_overwrites_before_it_unlinks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let second_name = folder.path().join("second name");
    let bytes = vec![0xa5; 200_001];
    std::fs::write(&path, &bytes).unwrap();
    // A second link shows what became of the bytes themselves.
    std::fs::hard_link(&path, &second_name).unwrap();
    erase(&path).unwrap();
    assert!(!path.exists());
    assert_eq!(std::fs::read(&second_name).unwrap(), vec![0; 200_001]);
}
