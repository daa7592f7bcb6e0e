//! Damaged homes are recognised and left as they are.

use std::path::PathBuf;

use crate::support::World;

fn stores(home: &std::path::Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![home.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.file_name().is_some_and(|name| name == "store.db") {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn a_damaged_store_is_said_to_be_damaged() {
    let world = World::new();
    let (alice, _bob) = world.friends();
    let store = stores(&alice.home).remove(0);
    let noise: Vec<u8> = (0..20_000_u32).map(|i| (i * 7 % 251) as u8).collect();
    std::fs::write(&store, &noise).unwrap();
    for extra in ["db-wal", "db-shm"] {
        let _ = std::fs::remove_file(store.with_extension(extra));
    }
    alice.run(["inbox"]).refuses(11, "store_damaged");
    assert_eq!(
        std::fs::read(&store).unwrap(),
        noise,
        "it was left for a rescue"
    );
}

#[test]
fn a_store_that_is_gone_or_empty_is_damage_and_not_a_new_circle() {
    let world = World::new();
    let (alice, _bob) = world.friends();
    let store = stores(&alice.home).remove(0);
    for extra in ["db-wal", "db-shm"] {
        let _ = std::fs::remove_file(store.with_extension(extra));
    }
    std::fs::write(&store, "").unwrap();
    alice.run(["inbox"]).refuses(11, "store_damaged");
    std::fs::remove_file(&store).unwrap();
    alice.run(["inbox"]).refuses(11, "store_damaged");
    assert!(!store.exists(), "nothing was made in its place");
}

#[test]
fn a_damaged_lock_is_said_to_be_damaged() {
    let world = World::new();
    let alice = world.join("alice");
    std::fs::write(alice.home.join("lock.json"), "{\"version\":").unwrap();
    let ran = alice.run(["inbox"]);
    assert_eq!(ran.code, Some(11), "{ran:?}");
}

#[test]
fn an_empty_root_is_damage_and_not_a_new_account() {
    let world = World::new();
    let alice = world.join("alice");
    for extra in ["root.db-wal", "root.db-shm"] {
        let _ = std::fs::remove_file(alice.home.join(extra));
    }
    std::fs::write(alice.home.join("root.db"), "").unwrap();
    alice.run(["account", "show"]).refuses(11, "integrity");
    let left = std::fs::metadata(alice.home.join("root.db")).unwrap();
    assert_eq!(left.len(), 0, "nothing was made in its place");
}
