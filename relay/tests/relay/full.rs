//! A disk that fills up under the log's next segment and under the index itself.

use sotto_relay::config::IndexEngine;
use sotto_relay::policy::Rules;
use sotto_relay::store::compaction::Compacted;
use sotto_relay::store::recovery::{self, DiskOptions};
use sotto_relay::store::{Opened, StoreError};
use wire::{Event, EventId};

use crate::files;
use crate::program::SmallDisk;
use crate::support::{ids, now, person};

/// An event that takes many rows.
fn note(number: u32) -> Event {
    note_of(number, 40)
}

/// The same with so many tags.
pub fn note_of(number: u32, tags: u32) -> Event {
    let values: Vec<String> = (0..tags).map(|n| format!("{number}-{n}")).collect();
    let tags: Vec<[&str; 2]> = values.iter().map(|value| ["t", value.as_str()]).collect();
    let tags: Vec<&[&str]> = tags.iter().map(<[&str; 2]>::as_slice).collect();
    person(1).sign(1, now(), &tags, &"n".repeat(600))
}

fn found(opened: &Opened) -> Vec<EventId> {
    let filter = wire::Filter::default().with_kinds([1]);
    let mut found = ids(&files::find(opened, filter, &[]));
    found.sort();
    found
}

#[test]
fn r_full_4_an_index_that_meets_a_full_disk_loses_nothing_that_was_acknowledged() {
    for engine in IndexEngine::ON_DISK {
        let Some(disk) = SmallDisk::new() else {
            // Only root can make one.
            return;
        };
        let data = disk.0.path().join("data");
        let options = DiskOptions {
            segment_bytes: 64 * 1024,
            ..files::options(&data, engine)
        };
        let open = || recovery::open(&options, Rules::default()).unwrap();
        let mut opened = open();
        let (mut kept, mut refused) = (Vec::new(), 0);
        for round in 0..300 {
            let notes: Vec<Event> = (0..8).map(|n| note(round * 8 + n)).collect();
            for (note, answer) in notes.iter().zip(files::write(&mut opened, &notes)) {
                match answer.accepted {
                    true => kept.push(note.id()),
                    false => {
                        assert!(
                            answer.message.starts_with("error:"),
                            "{engine:?}: {answer:?}"
                        );
                        refused += 1;
                    }
                }
            }
            // It writes its files in the middle of this, whether they fit or not.
            if round % 10 == 0 {
                let _ = opened.store.compact_index();
            }
            if refused > 50 {
                break;
            }
        }
        assert!(
            refused > 0 && kept.len() > 50,
            "{engine:?}: {} {refused}",
            kept.len()
        );
        kept.sort();
        // Reading goes on. Not with sled, which after a failed write reads no page either until
        // it is opened again (decision 0007); the reserve is there so that it does not come to that.
        if engine != IndexEngine::Sled {
            assert_eq!(found(&opened), kept, "{engine:?}");
        }
        let _ = opened.store.close();
        drop(opened);
        disk.grow();
        let mut opened = open();
        let after = found(&opened);
        assert!(kept.iter().all(|id| after.contains(id)), "{engine:?}");
        let answers = files::write(&mut opened, &[note(100_000)]);
        assert!(answers[0].accepted, "{engine:?}: {answers:?}");
        opened.store.compact_index().unwrap();
        assert_eq!(found(&opened).len(), after.len() + 1, "{engine:?}");
    }
}

/// The first of several transactions that move a segment finds room, and another does not.
#[test]
fn r_gone_7_a_compaction_that_meets_a_full_disk_leaves_nothing_that_a_deletion_misses() {
    for engine in IndexEngine::ON_DISK {
        let Some(disk) = SmallDisk::new() else {
            // Only root can make one.
            return;
        };
        disk.grow();
        let data = disk.0.path().join("data");
        let open = |engine| {
            let options = DiskOptions {
                segment_bytes: 4_000_000,
                ..files::options(&data, engine)
            };
            recovery::open(&options, Rules::default()).unwrap()
        };
        let content = |number: usize| format!("<note-{number:08}>").repeat(4_000);
        let notes: Vec<Event> = (0..80)
            .map(|number| person(1).sign(1, now(), &[], &content(number)))
            .collect();
        let delete = |opened: &mut Opened, notes: &[Event]| {
            let requests: Vec<Event> = notes.iter().map(|note| person(1).deletion(note)).collect();
            files::write(opened, &requests)
        };
        let is_gone = |notes: &[Event], when: &str| {
            for note in notes {
                let holding = files::holding(&data, &note.content().as_bytes()[..15]);
                assert!(holding.is_empty(), "{engine:?}, {when}: {holding:?}");
            }
        };
        let mut opened = open(engine);
        let mut stored = Vec::new();
        for notes in notes.chunks(8) {
            stored.extend(files::write(&mut opened, notes));
        }
        stored.extend(delete(&mut opened, &notes[..5]));
        assert!(stored.iter().all(|answer| answer.accepted), "{engine:?}");
        opened.store.close().unwrap();
        drop(opened);

        let mut opened = open(engine);
        let filler = disk.0.path().join("filler");
        let free = disk.free() - 2_500_000;
        std::fs::write(&filler, vec![1; free as usize]).unwrap();
        let done = opened.writer.compact_all(now());
        assert!(done.is_err(), "{engine:?}: {done:?}");
        // Where the full disk has not hit the index, deletions go on.
        let answers = delete(&mut opened, &notes[5..10]);
        if answers[0].accepted {
            is_gone(&notes[5..10], "on the full disk");
        }
        let _ = opened.store.close();
        drop(opened);
        std::fs::remove_file(&filler).unwrap();

        let mut opened = open(engine);
        let answers = delete(&mut opened, &notes[5..20]);
        assert!(
            answers.iter().all(|answer| answer.accepted),
            "{engine:?}: {answers:?}"
        );
        is_gone(&notes[..20], "with room again");
        opened.writer.compact_all(now()).unwrap();
        opened.store.close().unwrap();
        drop(opened);
        let other = IndexEngine::ON_DISK
            .into_iter()
            .find(|other| *other != engine);
        let mut opened = open(other.unwrap());
        let mut wanted = ids(&notes[20..]);
        wanted.sort();
        assert_eq!(found(&opened), wanted, "{engine:?}");
        let answers = files::write(&mut opened, &notes[..20]);
        assert!(
            answers
                .iter()
                .all(|answer| answer.message.starts_with("blocked:"))
        );
    }
}

/// What does not depend on the engine is asked of one of them.
#[test]
fn r_fair_9_a_compaction_that_meets_a_full_disk_goes_on_where_it_was() {
    let slices_of = |failures: usize| -> Option<usize> {
        // Only root can make one.
        let disk = SmallDisk::new()?;
        disk.grow();
        let data = disk.0.path().join("data");
        let options = DiskOptions {
            segment_bytes: 4_000_000,
            ..files::options(&data, IndexEngine::Runs)
        };
        let mut opened = recovery::open(&options, Rules::default()).unwrap();
        let notes: Vec<Event> = (0..80)
            .map(|number| person(1).note(&format!("<{number:08}>").repeat(6_000)))
            .collect();
        for notes in notes.chunks(8) {
            files::write(&mut opened, notes);
        }
        // Of the first segment every second.
        for note in notes[..60].iter().step_by(2) {
            assert!(files::write(&mut opened, &[person(1).deletion(note)])[0].accepted);
        }
        let filler = disk.0.path().join("filler");
        let (mut slices, mut failed) = (0, 0);
        loop {
            // Once after each of several slices that move something.
            let is_full = failed < failures && slices == 4 + failed;
            if is_full {
                std::fs::write(&filler, vec![1; disk.free() as usize]).unwrap();
            }
            let done = opened.writer.compact_some(now(), true);
            if is_full {
                assert!(matches!(done, Err(StoreError::DiskFull)), "{done:?}");
                std::fs::remove_file(&filler).unwrap();
                failed += 1;
                continue;
            }
            match done.unwrap() {
                Compacted::Slice => slices += 1,
                Compacted::Waits => std::thread::sleep(std::time::Duration::from_millis(1)),
                Compacted::Segment => break,
                Compacted::Nothing => panic!("there was nothing to do"),
            }
        }
        assert_eq!(found(&opened).len(), 50);
        Some(slices)
    };
    let undisturbed = slices_of(0);
    assert!(undisturbed.is_none_or(|slices| slices > 12));
    assert_eq!(slices_of(3), undisturbed);
}
