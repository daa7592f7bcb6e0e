//! What is erased is in no byte of the store's files: after the commit its log is emptied as well.

use crate::network::{Mood, START, World, key};

/// Alice's home is on disk, Bob's is not.
struct OnDisk {
    folder: tempfile::TempDir,
    world: World,
}

impl OnDisk {
    fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store_key = crypto::lock::StoreKey::from_secret_bytes([5; 32]);
        let path = folder.path().join("store.db");
        let store = client_core::store::Store::open(&path, &store_key).unwrap();
        let mut world = World::new(seed);
        world.add_with_store("alice", key(1), &["a"], &[], store);
        world.add("bob", key(2), &["b"], &[]);
        world.befriend("alice", "bob");
        world.befriend("bob", "alice");
        Self { folder, world }
    }

    fn has_log(&self) -> bool {
        let log = self.folder.path().join("store.db-wal");
        std::fs::metadata(log).is_ok_and(|about| about.len() > 0)
    }
}

#[test]
fn what_vanished_is_in_no_byte_of_a_store_on_disk() {
    let mut on_disk = OnDisk::new(36);
    let world = &mut on_disk.world;
    world.send_expiring("alice", "bob", "gone soon", 60);
    world.now += 61;
    assert!(on_disk.has_log());
    on_disk.world.wish("alice", |engine, store, now, rng| {
        engine.sweep(store, now, rng).unwrap()
    });
    assert!(!on_disk.has_log());
}

#[test]
fn what_came_and_is_deleted_here_is_in_no_byte_of_a_store_on_disk() {
    let mut on_disk = OnDisk::new(39);
    let world = &mut on_disk.world;
    let id = world.send("bob", "alice", "read and forgotten");
    world.sync("alice");
    assert_eq!(world.texts("alice", "bob"), ["read and forgotten"]);
    assert!(on_disk.has_log());
    on_disk.world.delete("alice", id, false);
    assert!(!on_disk.has_log());
}

#[test]
fn what_was_never_sent_and_is_cancelled_is_in_no_byte_of_a_store_on_disk() {
    let mut on_disk = OnDisk::new(40);
    let world = &mut on_disk.world;
    world.send("alice", "bob", "first");
    world.relay("b").mood = Mood::Down;
    world.send("alice", "bob", "on second thought");
    let home = &world.homes["alice"];
    let item = home.engine.outbox(&home.store).unwrap()[0].id.clone();
    assert!(on_disk.has_log());
    on_disk.world.begin("alice", |engine, store, now, rng| {
        engine.cancel(store, &item, now, rng).unwrap().effects
    });
    assert!(!on_disk.has_log());
}

#[test]
fn the_secrets_of_receipts_are_in_no_byte_of_a_store_on_disk_once_they_are_of_no_use() {
    let mut on_disk = OnDisk::new(41);
    let world = &mut on_disk.world;
    world.send("bob", "alice", "tell me that it came");
    world.sync("alice");
    world.sync("bob");
    world.now = START + 31 * 86_400;
    assert!(on_disk.has_log());
    on_disk.world.begin("alice", |engine, store, now, rng| {
        engine.sweep(store, now, rng).unwrap()
    });
    assert!(!on_disk.has_log());
}
