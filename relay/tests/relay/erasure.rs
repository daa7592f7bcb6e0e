//! Gone means gone from the bytes of every file.

use std::path::Path;
use std::time::Instant;

use sotto_relay::config::IndexEngine;
use sotto_relay::store::compaction::Compacted;
use sotto_relay::store::keys::Hasher;
use wire::Event;

use crate::files::{self, holding, traces};
use crate::support::{Client, PATIENCE, now, person, start};

fn is_there(folder: &Path, event: &Event) {
    for (what, needle) in traces(event) {
        // A signature lies there as text alone.
        let is_kept = what != "signature";
        assert_eq!(
            !holding(folder, &needle).is_empty(),
            is_kept,
            "{what} before"
        );
    }
}

fn is_gone(folder: &Path, event: &Event) {
    for (what, needle) in traces(event) {
        let holding = holding(folder, &needle);
        assert!(holding.is_empty(), "{what} is still in {holding:?}");
    }
}

#[tokio::test]
async fn r_gone_1_a_deleted_wrap_is_in_no_byte_of_any_file() {
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let relay = start(files::config(folder.path(), engine)).await;
        let to = person(2);
        let mut client = Client::connect_as(&relay.url(), &to).await;
        let by_sender = person(9).wrap(&to, "the content that its sender takes back");
        let by_recipient = person(10).wrap(&to, "the content that its recipient deletes");
        let kept = person(11).wrap(&to, "the content that stays");
        let note = person(12).note("the content of a note that its author deletes");
        for event in [&by_sender, &by_recipient, &kept, &note] {
            client.put(event).await;
            is_there(folder.path(), event);
        }
        client.put(&person(9).deletion(&by_sender)).await;
        client.put(&to.deletion(&by_recipient)).await;
        client.put(&person(12).deletion(&note)).await;
        // The request that is shown to others names its id, and nothing else of it.
        let content_is_gone = |when: &str| {
            let is_content = |what: &str| what == "content" || what.starts_with("signature");
            for (what, needle) in traces(&note)
                .into_iter()
                .filter(|(what, _)| is_content(what))
            {
                let holding = holding(folder.path(), &needle);
                assert!(holding.is_empty(), "{what} of a note, {when}: {holding:?}");
            }
        };
        content_is_gone("at once");
        // The OK of the deletion comes after the zeros were synced.
        is_gone(folder.path(), &by_sender);
        is_gone(folder.path(), &by_recipient);
        is_there(folder.path(), &kept);
        relay.stop().await.unwrap();
        is_gone(folder.path(), &by_sender);
        let opened = files::open(folder.path(), engine);
        is_gone(folder.path(), &by_sender);
        is_gone(folder.path(), &by_recipient);
        content_is_gone("after a restart");
        is_there(folder.path(), &kept);
        drop(opened);
    }
}

#[tokio::test]
async fn r_gone_2_an_expired_event_leaves_the_files_by_itself() {
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let relay = start(files::config(folder.path(), engine)).await;
        let to = person(2);
        let mut client = Client::connect_as(&relay.url(), &to).await;
        let end = (now() + 2).to_string();
        let tags: [&[&str]; 2] = [&["p", &to.key().to_hex()], &["expiration", &end]];
        let wrap = person(9).sign(1059, now(), &tags, "the content that vanishes by itself");
        client.put(&wrap).await;
        is_there(folder.path(), &wrap);
        let begun = Instant::now();
        while !holding(folder.path(), wrap.content().as_bytes()).is_empty() {
            assert!(begun.elapsed() < PATIENCE, "not erased in time");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert!(client.mailbox(&to).await.is_empty());
        is_gone(folder.path(), &wrap);
        relay.stop().await.unwrap();
        is_gone(folder.path(), &wrap);
    }
}

#[tokio::test]
async fn r_gone_3_a_replaced_or_vanished_event_leaves_the_files() {
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let relay = start(files::config(folder.path(), engine)).await;
        let (alice, bob) = (person(1), person(2));
        let mut client = Client::connect_as(&relay.url(), &alice).await;
        let old = alice.sign(
            30078,
            now() - 5,
            &[&["d", "x"]],
            "the definition of yesterday",
        );
        let new = alice.sign(30078, now() - 4, &[&["d", "x"]], "the definition of today");
        let wrap = person(9).wrap(&alice, "the wrap that waits for somebody who leaves");
        let bobs = person(10).wrap(&bob, "the wrap that waits for somebody who stays");
        client.put(&old).await;
        assert!(!holding(folder.path(), old.content().as_bytes()).is_empty());
        client.put(&new).await;
        assert!(holding(folder.path(), old.content().as_bytes()).is_empty());
        assert!(holding(folder.path(), old.id().to_hex().as_bytes()).is_empty());
        client.put(&wrap).await;
        client.put(&bobs).await;
        client
            .put(&alice.sign(62, now(), &[&["relay", "ALL_RELAYS"]], ""))
            .await;
        is_gone(folder.path(), &wrap);
        is_gone(folder.path(), &new);
        is_there(folder.path(), &bobs);
        relay.stop().await.unwrap();
    }
}

#[test]
fn r_gone_4_a_segment_that_is_mostly_dead_is_moved_wiped_and_removed() {
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let options = || sotto_relay::store::recovery::DiskOptions {
            segment_bytes: 64 * 1024,
            ..files::options(folder.path(), engine)
        };
        let open = || sotto_relay::store::recovery::open(&options(), Default::default()).unwrap();
        let mut opened = open();
        let to = person(2);
        let content = "x".repeat(2_000);
        let wraps: Vec<Event> = (0..200)
            .map(|n| person(100 + n).wrap(&to, &format!("{n} {content}")))
            .collect();
        for batch in wraps.chunks(10) {
            assert!(
                files::write(&mut opened, batch)
                    .iter()
                    .all(|answer| answer.accepted)
            );
        }
        let segments = |path: &Path| files::files(&path.join("log")).len();
        let before = segments(folder.path());
        assert!(before > 5);
        // Nine in ten go; one in ten stays.
        let requests: Vec<Event> = (0..200)
            .filter(|n| n % 10 != 0)
            .map(|n| person(100 + n).deletion(&wraps[n as usize]))
            .collect();
        for batch in requests.chunks(50) {
            assert!(
                files::write(&mut opened, batch)
                    .iter()
                    .all(|answer| answer.accepted)
            );
        }
        while opened.writer.compact_one(now(), false).unwrap() {}
        assert!(segments(folder.path()) < before / 2);
        let check = |opened: &sotto_relay::store::Opened| {
            let found = files::find(opened, crate::support::mailbox(&to), &[to.key()]);
            let mut found: Vec<_> = found.iter().map(Event::id).collect();
            let mut wanted: Vec<_> = wraps.iter().step_by(10).map(Event::id).collect();
            found.sort();
            wanted.sort();
            assert_eq!(found, wanted);
        };
        check(&opened);
        for n in [1, 55, 199] {
            is_gone(folder.path(), &wraps[n]);
        }
        opened.store.close().unwrap();
        drop(opened);
        let opened = open();
        check(&opened);
        drop(opened);
        // What is remembered of the deletions moved along, even for an index built anew.
        std::fs::remove_dir_all(folder.path().join("index")).unwrap();
        let mut opened = open();
        check(&opened);
        let answers = files::write(&mut opened, &[wraps[1].clone(), wraps[199].clone()]);
        assert!(
            answers
                .iter()
                .all(|answer| answer.message.starts_with("blocked:"))
        );
    }
}

/// An index that is built anew knows how much of each segment is dead.
#[test]
fn r_gone_4_what_died_before_the_index_was_lost_is_given_back_as_well() {
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let options = sotto_relay::store::recovery::DiskOptions {
            segment_bytes: 64 * 1024,
            ..files::options(folder.path(), engine)
        };
        let open = || sotto_relay::store::recovery::open(&options, Default::default()).unwrap();
        let to = person(2);
        let content = "x".repeat(2_000);
        let wraps: Vec<Event> = (0..60)
            .map(|n| person(100 + n).wrap(&to, &content))
            .collect();
        let mut opened = open();
        for batch in wraps.chunks(10) {
            files::write(&mut opened, batch);
        }
        for wrap in wraps.iter().take(50) {
            assert!(files::write(&mut opened, &[to.deletion(wrap)])[0].accepted);
        }
        opened.store.close().unwrap();
        drop(opened);
        std::fs::remove_dir_all(folder.path().join("index")).unwrap();
        let mut opened = open();
        let first = folder.path().join("log/00000001.seg");
        assert!(first.exists());
        while opened.writer.compact_one(now(), false).unwrap() {}
        assert!(!first.exists(), "{engine:?}");
        let found = files::find(&opened, crate::support::mailbox(&to), &[to.key()]);
        assert_eq!(found.len(), 10, "{engine:?}");
    }
}

/// Between two slices anything may come: also the deletion of what was moved, and of what was not.
#[test]
fn r_fair_9_space_is_given_back_slice_by_slice() {
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let options = sotto_relay::store::recovery::DiskOptions {
            segment_bytes: 4_000_000,
            ..files::options(folder.path(), engine)
        };
        let open = || sotto_relay::store::recovery::open(&options, Default::default()).unwrap();
        let content = |n: usize| format!("<{n:08}>").repeat(3_000);
        let notes: Vec<Event> = (0..160).map(|n| person(1).note(&content(n))).collect();
        let mut opened = open();
        for batch in notes.chunks(8) {
            files::write(&mut opened, batch);
        }
        let assert_gone = |number: usize| {
            let left = holding(folder.path(), format!("<{number:08}>").as_bytes());
            assert!(left.is_empty(), "{engine:?}: {left:?}");
        };
        let mut deleted = 0;
        let delete = |opened: &mut sotto_relay::store::Opened, number: usize| {
            let answers = files::write(opened, &[person(1).deletion(&notes[number])]);
            assert!(answers[0].accepted, "{engine:?}: {answers:?}");
            assert_gone(number);
        };
        // Of what lies in the first segment every second.
        for number in (0..120).step_by(2) {
            delete(&mut opened, number);
            deleted += 1;
        }
        let first = folder.path().join("log/00000001.seg");
        assert!(first.exists());
        let mut slices = 0;
        let mut waits = 0;
        loop {
            match opened.writer.compact_some(now(), true).unwrap() {
                Compacted::Slice => slices += 1,
                Compacted::Waits => waits += 1,
                Compacted::Segment => break,
                Compacted::Nothing => panic!("{engine:?}: there was nothing to do"),
            }
            if slices == 4 && deleted == 60 {
                // The first has been moved by now, and the last has not.
                for number in [1, 119] {
                    delete(&mut opened, number);
                    deleted += 1;
                }
            }
            assert!(waits < 10_000);
            std::thread::sleep(std::time::Duration::from_millis(u64::from(waits > 0)));
        }
        // It takes as many to move it as to wipe it.
        assert!(slices > 12 && deleted == 62, "{engine:?}: {slices}");
        assert!(!first.exists(), "{engine:?}");
        let check = |opened: &sotto_relay::store::Opened| {
            let found = files::find(opened, wire::Filter::default().with_kinds([1]), &[]);
            assert_eq!(found.len(), notes.len() - deleted, "{engine:?}");
        };
        check(&opened);
        opened.store.close().unwrap();
        drop(opened);
        std::fs::remove_dir_all(folder.path().join("index")).unwrap();
        check(&open());
        [1, 2, 119].into_iter().for_each(assert_gone);
    }
}

/// The files of the index that hold what stands in it for an event.
fn rows_of(folder: &Path, event: &Event) -> Vec<std::path::PathBuf> {
    let secret = std::fs::read(folder.join("secret")).unwrap();
    let hasher = Hasher::new(secret.as_slice().try_into().unwrap()).unwrap();
    // Engines leave out what neighbouring keys have in common.
    let needle = &hasher.id(&event.id())[4..];
    holding(&folder.join("index"), needle)
}

/// They are keyed hashes and times, and go with the next compaction of the index.
#[test]
fn r_gone_5_the_index_rows_of_what_is_gone_leave_with_a_compaction() {
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let (alice, to) = (person(1), person(2));
        let version = |at: u64| alice.sign(30078, now() - 10 + at, &[&["d", "x"]], "a version");
        let end = (now() + 1).to_string();
        let tags: [&[&str]; 2] = [&["p", &to.key().to_hex()], &["expiration", &end]];
        let vanishing = person(3);
        let gone = [
            person(100).wrap(&to, "to be deleted"),
            person(101).sign(1059, now(), &tags, "to expire"),
            version(1),
            vanishing.note("of somebody who vanishes"),
            person(102).wrap(&vanishing, "for somebody who vanishes"),
        ];
        let kept: Vec<Event> = (0..20).map(|n| person(200 + n).wrap(&to, "kept")).collect();
        let mut opened = files::open(folder.path(), engine);
        for events in [&gone[..], &kept] {
            let answers = files::write(&mut opened, events);
            assert!(answers.iter().all(|answer| answer.accepted), "{answers:?}");
        }
        opened.store.close().unwrap();
        drop(opened);
        let mut opened = files::open(folder.path(), engine);
        for event in gone.iter().chain(&kept) {
            assert!(!rows_of(folder.path(), event).is_empty(), "{engine:?}");
        }
        let vanish = vanishing.sign(62, now(), &[&["relay", "ALL_RELAYS"]], "");
        let takers = [to.deletion(&gone[0]), version(2), vanish];
        let answers = files::write(&mut opened, &takers);
        assert!(answers.iter().all(|answer| answer.accepted), "{answers:?}");
        opened.writer.sweep(now() + 2).unwrap();
        opened.store.compact_index().unwrap();
        for event in &gone {
            let mut holding = rows_of(folder.path(), event);
            if engine == IndexEngine::Fjall {
                // It closes its journal when that has 64 MiB, and nothing can ask it to before.
                holding.retain(|path| path.extension().is_none_or(|end| end != "jnl"));
            }
            assert!(
                holding.is_empty(),
                "{engine:?}: kind {} in {holding:?}",
                event.kind()
            );
        }
        for event in &kept {
            assert!(!rows_of(folder.path(), event).is_empty(), "{engine:?}");
        }
    }
}
