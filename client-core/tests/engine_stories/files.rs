//! Files: uploaded before they are spoken of, fetched from where they may be, taken back.

use client_core::ErrorWord;
use client_core::engine::io::Effect;
use client_core::engine::{FileCipher, FileFormat, Progress, SpooledFile, WaitLevel};
use crypto::FileKey;
use rand::rngs::StdRng;
use wire::Sha256;

use crate::network::{START, World, key, server};

fn photo(rng: &mut StdRng, content: &[u8]) -> SpooledFile {
    let cipher = FileCipher::Stream(FileKey::generate(rng));
    SpooledFile {
        blob: Sha256::of(&[content, b"encrypted"].concat()),
        cipher_size: 1_040,
        plain_size: 1_000,
        plain_hash: Sha256::of(content),
        name: "photo.jpg".into(),
        mime: "image/jpeg".into(),
        cipher,
    }
}

fn send_photo(world: &mut World, content: &[u8]) -> wire::EventId {
    let file = photo(&mut world.rng, content);
    let mut compose = world.file_to(world.key_of("bob"), file);
    compose.expire_s = Some(3_600);
    let id = world.compose("alice", compose).unwrap();
    world.run();
    id
}

#[test]
fn a_file_is_uploaded_first_and_arrives_with_its_key() {
    let mut world = World::with_two(40);
    let id = send_photo(&mut world, b"cat");
    assert_eq!(world.status("alice", id), "stored");
    let upload = |(_, e): &(_, Effect)| matches!(e, Effect::Upload { .. });
    let wrap = |(_, e): &(_, Effect)| {
        matches!(e, Effect::Publish { event, .. }
            if wire::Event::decode(event.clone()).unwrap().kind() == 1059)
    };
    let uploaded = world.log.iter().position(upload).unwrap();
    assert!(uploaded < world.log.iter().position(wrap).unwrap());
    assert!(
        world
            .log
            .iter()
            .any(|(_, e)| matches!(e, Effect::Unspool { .. }))
    );
    world.sync("bob");
    let home = &world.homes["bob"];
    let view = home.engine.message(&home.store, id, world.now).unwrap();
    assert_eq!(
        (view.kind, view.files[0].name.as_str()),
        ("file", "photo.jpg")
    );
    assert_eq!(view.files[0].sha256, Some(Sha256::of(b"cat").to_hex()));
    let plan = home.engine.file_plan(&home.store, id, world.now).unwrap();
    assert_eq!(plan[0].urls[0].0.origin, server("files-a"));
    assert_eq!(plan[0].cipher.algorithm(), "xchacha20poly1305-stream");
    let (_, sunset) = world.servers[&server("files-a")].blobs[&plan[0].blob];
    assert!(sunset.unwrap() > START + 3_600);
}

#[test]
fn the_file_server_never_sees_the_account_key_nor_one_key_twice() {
    let mut world = World::with_two(41);
    send_photo(&mut world, b"one");
    send_photo(&mut world, b"two");
    let alice = world.key_of("alice");
    let keys = &world.server("files-a").keys;
    assert_eq!(keys.len(), 2);
    assert_ne!(keys[0], keys[1]);
    assert!(!keys.contains(&alice));
}

#[test]
fn delete_for_both_takes_the_blob_back_and_asks_whether_it_is_gone() {
    let mut world = World::with_two(42);
    let id = send_photo(&mut world, b"cat");
    world.sync("bob");
    world.delete("alice", id, true);
    assert!(world.server("files-a").blobs.is_empty());
    let home = &world.homes["alice"];
    let report = home.engine.deleted(&home.store, id).unwrap();
    assert_eq!(report.file_servers.len(), 1);
    assert!(report.file_servers[0].erased);
    world.sync("bob");
    let home = &world.homes["bob"];
    let error = home
        .engine
        .file_plan(&home.store, id, world.now)
        .unwrap_err();
    assert_eq!(error.word, ErrorWord::NotFound);
}

#[test]
fn a_file_server_that_lies_about_deleting_is_found_out() {
    let mut world = World::with_two(43);
    let id = send_photo(&mut world, b"cat");
    world.server("files-a").lies = true;
    world.delete("alice", id, true);
    let home = &world.homes["alice"];
    let report = home.engine.deleted(&home.store, id).unwrap();
    assert!(!report.file_servers[0].erased);
}

#[test]
fn a_vanished_file_goes_from_the_server_too() {
    let mut world = World::with_two(44);
    send_photo(&mut world, b"cat");
    world.now += 3_601;
    world.restart("alice");
    world.run();
    assert!(world.server("files-a").blobs.is_empty());
}

#[test]
fn a_second_home_takes_the_blob_back() {
    let mut world = World::with_two(45);
    world.add("laptop", key(1), &["a"], &["files-a"]);
    let id = send_photo(&mut world, b"cat");
    world.sync("laptop");
    world.delete("laptop", id, true);
    assert!(world.server("files-a").blobs.is_empty());
    let home = &world.homes["laptop"];
    let report = home.engine.deleted(&home.store, id).unwrap();
    assert!(report.file_servers.iter().all(|server| server.erased));
}

#[test]
fn a_file_waits_for_its_server_and_is_refused_with_it() {
    let mut world = World::with_two(46);
    world.server("files-a").is_down = true;
    let id = send_photo(&mut world, b"cat");
    assert!(
        world.wraps("b").is_empty(),
        "nobody hears of a file that is nowhere"
    );
    let state = |world: &World| {
        let home = &world.homes["alice"];
        match home
            .engine
            .send_state(&home.store, id, WaitLevel::Accepted)
            .unwrap()
        {
            Progress::Failed(error) => (error.word, error.exit),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(state(&world), (ErrorWord::Unreachable, 3));
    world.server("files-a").is_down = false;
    world.server("files-a").refuses = true;
    world.wish("alice", |engine, store, now, rng| {
        engine.flush(store, now, rng).unwrap().effects
    });
    assert_eq!(state(&world), (ErrorWord::Refused, 10));
    world.sync("bob");
    assert!(world.texts("bob", "alice").is_empty());
}

#[test]
fn a_file_needs_a_file_server() {
    let mut world = World::new(47);
    world.add("alice", key(1), &["a"], &[]);
    let file = photo(&mut world.rng, b"cat");
    let compose = world.file_to(key(2).public_key(), file);
    let error = world.compose("alice", compose).unwrap_err();
    assert_eq!(error.word, ErrorWord::Conflict);
}

#[test]
fn a_strangers_file_is_not_fetched_until_accepted() {
    let mut world = World::with_two(48);
    world.add("carol", key(3), &["c"], &["files-c"]);
    let link = {
        let home = &world.homes["bob"];
        home.engine.invite(&home.store, None).unwrap()
    };
    world.befriend_link("carol", &link, None);
    let file = photo(&mut world.rng, b"spam");
    let compose = world.file_to(world.key_of("bob"), file);
    let id = world.compose("carol", compose).unwrap();
    world.run();
    world.sync("bob");
    let plan = |world: &World| {
        let home = &world.homes["bob"];
        home.engine.file_plan(&home.store, id, world.now)
    };
    assert_eq!(plan(&world).unwrap_err().word, ErrorWord::Refused);
    world.befriend("bob", "carol");
    assert_eq!(plan(&world).unwrap().len(), 1);
}

#[test]
fn the_format_follows_what_is_known_of_the_peer() {
    let mut world = World::with_two(49);
    let foreign = key(9).public_key();
    world.befriend_link("alice", &wire::Link::new(foreign), Some("foreign"));
    let home = &world.homes["alice"];
    let format = |who| home.engine.file_format_for(&home.store, &who).unwrap();
    assert_eq!(format(foreign), FileFormat::Foreign);
    assert_eq!(
        format(world.key_of("bob")),
        FileFormat::Stream,
        "by the invite"
    );
}

#[test]
fn a_peer_whose_message_was_sottos_is_sent_files_as_sotto_does() {
    let mut world = World::new(52);
    world.add("alice", key(1), &["a"], &[]);
    world.add("bob", key(2), &["b"], &[]);
    world.befriend("bob", "alice");
    let bob = world.key_of("bob");
    // By their bare key: no invite says what they use.
    world.befriend_link("alice", &wire::Link::new(bob), Some("bob"));
    let format = |world: &World| {
        let home = &world.homes["alice"];
        home.engine.file_format_for(&home.store, &bob).unwrap()
    };
    assert_eq!(format(&world), FileFormat::Foreign);
    world.send("bob", "alice", "hello");
    world.sync("alice");
    assert_eq!(format(&world), FileFormat::Stream);
}
