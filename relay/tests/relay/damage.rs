//! Files of the log that were lost or changed by other hands, or by the disk.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use sotto_relay::config::IndexEngine;
use sotto_relay::store::recovery::{self, DiskOptions};
use sotto_relay::store::{Opened, StoreError};
use wire::{Event, EventId, Filter};

use crate::crash::binary;
use crate::files::{self, find, options, write};
use crate::operator::{Operated, get};
use crate::support::{Client, Person, ids, mailbox, now, person};

/// What is written in these tests lies in three segments.
const SEGMENT: u64 = 64 * 1024;

fn open(folder: &Path, engine: IndexEngine) -> Opened {
    let options = DiskOptions {
        segment_bytes: SEGMENT,
        ..options(folder, engine)
    };
    recovery::open(&options, Default::default()).unwrap()
}

fn end(opened: Opened) {
    opened.store.close().unwrap();
}

fn segment(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("log/{number:08x}.seg"))
}

/// Wraps that fill three segments; each says something of its own.
fn wraps(to: &Person) -> Vec<Event> {
    let content = |n| format!("message {n:02} {}", "y".repeat(4_000));
    (0..40)
        .map(|n| person(100 + n).wrap(to, &content(n)))
        .collect()
}

/// A store that was written and closed.
fn filled(folder: &Path, engine: IndexEngine, events: &[Event]) {
    let mut opened = open(folder, engine);
    for batch in events.chunks(4) {
        let answers = write(&mut opened, batch);
        assert!(answers.iter().all(|answer| answer.accepted), "{answers:?}");
    }
    end(opened);
}

/// Those of the events that lie whole in a file.
fn whole_in(path: &Path, events: &[Event]) -> Vec<Event> {
    let bytes = std::fs::read(path).unwrap();
    let lies_in = |event: &&Event| {
        let json = event.json();
        bytes.windows(json.len()).any(|window| window == json)
    };
    events.iter().filter(lies_in).cloned().collect()
}

/// Changes a byte of an event's signature in the log.
fn spoil(folder: &Path, event: &Event) {
    let needle = event.sig().to_hex().into_bytes();
    let [path] = &files::holding(&folder.join("log"), &needle)[..] else {
        panic!("it lies in another number of files than one");
    };
    let bytes = std::fs::read(path).unwrap();
    let mut windows = bytes.windows(needle.len());
    let at = windows.position(|window| window == needle).unwrap();
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(b"!", at as u64).unwrap();
}

fn mail(opened: &Opened, of: &Person) -> Vec<EventId> {
    sorted(&find(opened, mailbox(of), &[of.key()]))
}

fn sorted(events: &[Event]) -> Vec<EventId> {
    let mut found = ids(events);
    found.sort();
    found
}

fn without(events: &[Event], lost: &[Event]) -> Vec<EventId> {
    let kept = events.iter().filter(|event| !lost.contains(event));
    sorted(&kept.cloned().collect::<Vec<_>>())
}

/// The signature was changed, but for the events that were stored again.
fn assert_no_trace(folder: &Path, event: &Event) {
    for (what, needle) in files::traces(event) {
        let holding = files::holding(folder, &needle);
        assert!(holding.is_empty(), "{what} in {holding:?}");
    }
}

#[test]
fn r_crash_11_what_a_lost_segment_held_is_told_and_taken_again() {
    let to = person(2);
    for engine in IndexEngine::ON_DISK {
        for is_cut in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path();
            let wraps = wraps(&to);
            filled(folder, engine, &wraps);
            let path = segment(folder, 2);
            let mut lost = whole_in(&path, &wraps);
            if is_cut {
                let file = OpenOptions::new().write(true).open(&path).unwrap();
                file.set_len(file.metadata().unwrap().len() / 2).unwrap();
                let kept = whole_in(&path, &wraps);
                lost.retain(|event| !kept.contains(event));
            } else {
                std::fs::remove_file(&path).unwrap();
            }
            assert!(lost.len() > 3, "{}", lost.len());

            // However often it is opened, until they are back.
            for (missing, sent) in [(lost.len(), None), (lost.len(), lost.pop())] {
                let mut opened = open(folder, engine);
                let [warning] = &opened.warnings[..] else {
                    panic!("{engine:?}: {:?}", opened.warnings);
                };
                let told = format!("{missing} events that were stored are lost");
                assert!(warning.contains(&told), "{warning}");
                assert_eq!(opened.store.damage.count(), 1);
                if let Some(sent) = sent {
                    assert!(write(&mut opened, &[sent])[0].message.is_empty());
                }
                end(opened);
            }
            let mut opened = open(folder, engine);
            let told = format!("{} events that", lost.len());
            assert!(opened.warnings[0].contains(&told), "{:?}", opened.warnings);
            assert_eq!(mail(&opened, &to), without(&wraps, &lost));
            let answers = write(&mut opened, &wraps);
            for (wrap, answer) in wraps.iter().zip(&answers) {
                let is_new = !answer.message.starts_with("duplicate:");
                assert_eq!(is_new, lost.contains(wrap), "{engine:?}: {answer:?}");
                assert!(answer.accepted);
            }
            assert_eq!(mail(&opened, &to), sorted(&wraps));
            // Nothing of what was cut off stays behind the one that is deleted.
            write(&mut opened, &[to.deletion(&lost[0])]);
            assert_no_trace(folder, &lost[0]);
            end(opened);

            let opened = open(folder, engine);
            assert_eq!(opened.warnings, Vec::<String>::new(), "{engine:?}");
            assert_eq!(mail(&opened, &to), without(&wraps, &lost[..1]));
            end(opened);
            std::fs::remove_dir_all(folder.join("index")).unwrap();
            let opened = open(folder, engine);
            assert_eq!(mail(&opened, &to), without(&wraps, &lost[..1]));
        }
    }
}

#[test]
fn r_crash_11_a_log_that_has_lost_its_end_is_told_and_goes_on() {
    let to = person(2);
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let wraps = wraps(&to);
        filled(folder, engine, &wraps);
        let lost = whole_in(&segment(folder, 3), &wraps);
        std::fs::remove_file(segment(folder, 3)).unwrap();
        let mut opened = open(folder, engine);
        let count = lost.len();
        let told = opened.warnings.iter();
        let told = told.filter(|text| text.contains(&format!("with it {count} events")));
        assert_eq!(told.count(), 1, "{engine:?}: {:?}", opened.warnings);
        let damage = &opened.store.damage;
        assert_eq!((damage.count(), damage.lost.get()), (1, count as u64));
        assert_eq!(mail(&opened, &to), without(&wraps, &lost));
        write(&mut opened, &wraps);
        assert_eq!(mail(&opened, &to), sorted(&wraps));
        end(opened);
        let opened = open(folder, engine);
        assert_eq!(opened.warnings, Vec::<String>::new(), "{engine:?}");
        assert_eq!(mail(&opened, &to), sorted(&wraps));
    }
}

#[test]
fn r_crash_12_what_does_not_read_back_is_noticed_by_a_reader_and_then_taken_again() {
    let to = person(2);
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let wraps = wraps(&to);
        filled(folder, engine, &wraps);
        spoil(folder, &wraps[1]);
        let lost = &wraps[1..2];

        // Nobody has read it yet.
        let mut opened = open(folder, engine);
        assert_eq!(opened.warnings, Vec::<String>::new());
        assert!(
            write(&mut opened, lost)[0]
                .message
                .starts_with("duplicate:")
        );
        assert_eq!(opened.store.damage.count(), 0);
        for times in 1..3 {
            assert_eq!(mail(&opened, &to), without(&wraps, lost), "{engine:?}");
            let damage = &opened.store.damage;
            assert_eq!((damage.count(), damage.unreadable.get()), (1, times));
        }
        let answers = write(&mut opened, &wraps);
        for (wrap, answer) in wraps.iter().zip(&answers) {
            let is_new = !answer.message.starts_with("duplicate:");
            assert_eq!(is_new, lost.contains(wrap), "{engine:?}: {answer:?}");
        }
        assert_eq!(mail(&opened, &to), sorted(&wraps));
        // The spoilt one went when the whole one came.
        write(&mut opened, &[to.deletion(&wraps[1])]);
        assert_no_trace(folder, &wraps[1]);
        end(opened);
        let opened = open(folder, engine);
        assert_eq!(opened.warnings, Vec::<String>::new());
        assert_eq!(mail(&opened, &to), without(&wraps, lost));
    }
}

/// While it runs.
#[tokio::test]
async fn r_crash_12_damage_is_counted_and_logged_once_for_each_segment() {
    let mut program = Operated::start("metrics.listen = \"127.0.0.1:0\"");
    let url = program.listening["metrics"].as_str().unwrap().to_owned();
    let address = url.trim_start_matches("http://").replace("/metrics", "");
    let to = person(2);
    let wraps: Vec<Event> = (3..6).map(|n| person(n).wrap(&to, "sealed")).collect();
    let mut client = Client::connect_as(&program.url(), &to).await;
    for wrap in &wraps {
        client.put(wrap).await;
    }
    spoil(&program.data(), &wraps[0]);
    spoil(&program.data(), &wraps[1]);
    for _ in 0..2 {
        assert_eq!(client.mailbox(&to).await, wraps[2..]);
    }
    let (_, text) = get(&address, "/metrics", "").await;
    for line in [
        "sotto_relay_log_damaged_segments 1",
        "sotto_relay_events_unreadable_total 4",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    // From whoever sends it, and to whoever is there.
    client.put(&wraps[0]).await;
    assert_eq!(
        client.publish(&wraps[2]).await.1,
        "duplicate: already have this event"
    );
    let both = sorted(&[wraps[0].clone(), wraps[2].clone()]);
    assert_eq!(sorted(&client.mailbox(&to).await), both);
    program.stop();
    let said = program.log.iter();
    let said: Vec<_> = said
        .filter(|line| line.contains("does not read back"))
        .collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(!said[0].contains(&wraps[0].id().to_hex()) && !said[0].contains("log/"));
}

#[test]
fn r_crash_13_what_does_not_read_back_goes_all_the_same() {
    let (alice, to) = (person(1), person(2));
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let version = |ago, content: &str| {
            let content = format!("{content} {engine:?}");
            alice.sign(30078, now() - ago, &[&["d", "x"]], &content)
        };
        let wraps = &wraps(&to)[..4];
        let note = alice.note("a note of hers");
        let old = version(9, "the old version");
        let events = [wraps, &[note.clone(), old.clone()]].concat();
        filled(folder, engine, &events);
        for event in events.iter().filter(|event| **event != wraps[3]) {
            spoil(folder, event);
        }
        let mut opened = open(folder, engine);
        let strangers = write(&mut opened, &[person(50).deletion(&wraps[0])]);
        assert!(strangers[0].accepted);
        let requests = [
            // The one-time key, its recipient, the author; and a newer version.
            person(100).deletion(&wraps[0]),
            to.deletion(&wraps[1]),
            alice.deletion(&note),
            version(1, "the new version"),
        ];
        let answers = write(&mut opened, &requests);
        assert!(answers.iter().all(|answer| answer.accepted), "{answers:?}");
        for gone in [&wraps[0], &wraps[1], &note, &old] {
            let content = gone.content().as_bytes();
            assert_eq!(files::holding(folder, content), Vec::<PathBuf>::new());
        }
        // Nobody asked for this one.
        let content = wraps[2].content().as_bytes();
        assert_eq!(files::holding(folder, content).len(), 1);
        let again = write(&mut opened, &[wraps[0].clone(), note.clone(), old.clone()]);
        assert!(again[0].message.starts_with("blocked:"), "{again:?}");
        assert!(again[1].message.starts_with("blocked:"), "{again:?}");
        assert!(!again[2].accepted, "{again:?}");
        let found = find(&opened, Filter::default().with_kinds([30078]), &[]);
        assert_eq!(found, requests[3..]);
        end(opened);
    }
}

#[test]
fn r_crash_14_a_damaged_segment_is_not_wiped_while_something_in_it_is_missed() {
    let to = person(2);
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let wraps = wraps(&to);
        filled(folder, engine, &wraps);
        let first = segment(folder, 1);
        let count = whole_in(&first, &wraps).len();
        assert!((10..20).contains(&count), "{count}");
        spoil(folder, &wraps[1]);
        let mut opened = open(folder, engine);
        let gone = [&wraps[..1], &wraps[4..count]].concat();
        let deletions: Vec<Event> = gone.iter().map(|wrap| to.deletion(wrap)).collect();
        write(&mut opened, &deletions);
        let lost = [&gone, &wraps[1..2]].concat();
        for _ in 0..2 {
            opened.writer.compact_all(now()).unwrap();
            assert!(first.exists(), "{engine:?}");
            assert_eq!(mail(&opened, &to), without(&wraps, &lost));
        }
        let content = wraps[1].content().as_bytes();
        assert_eq!(
            files::holding(folder, content),
            std::slice::from_ref(&first)
        );
        // What was moved out of it lies in one place.
        write(&mut opened, &[to.deletion(&wraps[2])]);
        assert_no_trace(folder, &wraps[2]);
        // With the missing one it is done.
        assert!(write(&mut opened, &wraps[1..2])[0].message.is_empty());
        opened.writer.compact_all(now()).unwrap();
        assert!(!first.exists(), "{engine:?}");
        let lost = [&gone, &wraps[2..3]].concat();
        assert_eq!(mail(&opened, &to), without(&wraps, &lost));
        end(opened);
        let opened = open(folder, engine);
        assert_eq!(opened.warnings, Vec::<String>::new());
        assert_eq!(mail(&opened, &to), without(&wraps, &lost));
    }
}

#[test]
fn r_lock_3_a_folder_whose_log_is_missing_is_not_touched() {
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        filled(folder, engine, &wraps(&person(2)));
        let log = folder.join("log");
        std::fs::remove_dir_all(&log).unwrap();
        let refused = || {
            let opened = recovery::open(&options(folder, engine), Default::default());
            assert!(matches!(opened, Err(StoreError::Damaged(_))), "{engine:?}");
        };
        refused();
        assert!(!log.exists());
        std::fs::create_dir(&log).unwrap();
        refused();
        assert_eq!(files::files(&log), Vec::<PathBuf>::new());
    }
}

#[test]
fn r_lock_4_a_secret_of_another_log_is_refused_and_nothing_is_touched() {
    let to = person(2);
    for engine in IndexEngine::ALL {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (folder, other) = (folder.path(), other.path());
        let wraps = &wraps(&to)[..4];
        filled(folder, engine, wraps);
        filled(other, engine, wraps);
        let secret = folder.join("secret");
        let own = std::fs::read(&secret).unwrap();
        let content = || -> Vec<_> {
            let files = files::files(folder).into_iter();
            let mut content: Vec<_> = files
                .map(|path| (path.clone(), std::fs::read(path).unwrap()))
                .collect();
            content.sort();
            content
        };
        std::fs::copy(other.join("secret"), &secret).unwrap();
        for _ in 0..2 {
            let before = content();
            let opened = recovery::open(&options(folder, engine), Default::default());
            assert!(matches!(opened, Err(StoreError::Damaged(_))), "{engine:?}");
            assert_eq!(content(), before, "{engine:?}");
            // Neither does it matter what the index thinks.
            let _ = std::fs::remove_dir_all(folder.join("index"));
        }
        std::fs::write(&secret, &own).unwrap();
        let opened = open(folder, engine);
        assert_eq!(mail(&opened, &to), sorted(wraps));
        end(opened);
        // As an earlier version left it.
        let check = folder.join("log/secret.check");
        std::fs::remove_file(&check).unwrap();
        end(open(folder, engine));
        assert!(check.exists());
        std::fs::copy(other.join("secret"), &secret).unwrap();
        let opened = recovery::open(&options(folder, engine), Default::default());
        assert!(matches!(opened, Err(StoreError::Damaged(_))), "{engine:?}");
    }
}

/// Through the program, as an operator does it.
#[test]
fn r_prog_16_export_tells_what_it_could_not_read_and_import_brings_it_back() {
    let to = person(2);
    for engine in IndexEngine::ON_DISK {
        let place = tempfile::tempdir().unwrap();
        let (data, config) = (place.path().join("data"), place.path().join("relay.toml"));
        let text = format!("store.index = \"{engine:?}\"\nstore.segment_bytes = {SEGMENT}");
        std::fs::write(&config, text.to_lowercase()).unwrap();
        let run = |verb: &str, more: &[&str]| -> Output {
            let mut command = binary();
            command.args(["--json", verb]).args(more);
            command
                .arg("--data")
                .arg(&data)
                .arg("--config")
                .arg(&config);
            command.output().unwrap()
        };
        let wraps = wraps(&to);
        filled(&data, engine, &wraps);
        let backup = run("export", &[]).stdout;
        let held = whole_in(&segment(&data, 2), &wraps).len();
        std::fs::remove_file(segment(&data, 2)).unwrap();
        spoil(&data, &wraps[1]);

        let file = place.path().join("part.jsonl");
        let output = run("export", &["-o", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        let rest = wraps.len() - held - 1;
        assert_eq!(
            (&told["events"], &told["unreadable"]),
            (&rest.into(), &(held + 1).into())
        );
        assert_eq!(
            std::fs::read_to_string(&file).unwrap().lines().count(),
            rest
        );
        let said = String::from_utf8(output.stderr).unwrap();
        let last: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!(last["error"], "partly_done");
        assert!(said.contains("sotto.warning/1"), "{said}");
        assert_eq!(run("export", &[]).status.code(), Some(5));

        let file = place.path().join("backup.jsonl");
        std::fs::write(&file, &backup).unwrap();
        let output = run("import", &[file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (&told["stored"], &told["known"]),
            (&(held + 1).into(), &rest.into())
        );
        let output = run("export", &[]);
        assert_eq!((output.status.code(), output.stdout), (Some(0), backup));
        assert!(output.stderr.is_empty(), "{:?}", output.stderr);
    }
}
