//! What a start finds after a crash, cut by cut.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use sotto_relay::config::IndexEngine;
use sotto_relay::store::recovery::{self, DiskOptions};
use sotto_relay::store::stored::PRELUDE;
use sotto_relay::store::{Opened, StoreError};
use wire::{Event, Filter};

use crate::files::{self, copy, find, open, options, write};
use crate::power::start_again;
use crate::support::{Person, ids, mailbox, now, person};

fn log(folder: &Path) -> PathBuf {
    folder.join("log/00000001.seg")
}

fn mail(opened: &Opened, of: &Person) -> Vec<wire::EventId> {
    let mut found = ids(&find(opened, mailbox(of), &[of.key()]));
    found.sort();
    found
}

fn sorted(events: &[Event]) -> Vec<wire::EventId> {
    let mut found = ids(events);
    found.sort();
    found
}

fn wraps(to: &Person, count: u32) -> Vec<Event> {
    wraps_of(to, count, "")
}

/// The same with more in each.
fn wraps_of(to: &Person, count: u32, content: &str) -> Vec<Event> {
    (0..count)
        .map(|n| person(100 + n).wrap(to, &format!("message {n} {content}")))
        .collect()
}

/// All but the one in the middle.
fn outer(wraps: &[Event]) -> Vec<wire::EventId> {
    sorted(&[wraps[0].clone(), wraps[2].clone()])
}

/// What one run of a relay writes, in these batches.
fn run(folder: &Path, engine: IndexEngine, batches: &[&[Event]]) {
    let mut opened = open(folder, engine);
    for batch in batches {
        write(&mut opened, batch);
    }
    end(opened);
}

fn end(opened: Opened) {
    opened.store.close().unwrap();
}

fn log_bytes(folder: &Path) -> Vec<u8> {
    std::fs::read(log(folder)).unwrap()
}

/// Writes over a part of the log.
fn spoil(folder: &Path, at: usize, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(log(folder)).unwrap();
    file.write_all_at(bytes, at as u64).unwrap();
}

/// Where the log holds an event.
fn place_of(folder: &Path, event: &Event) -> usize {
    let (bytes, needle) = (log_bytes(folder), event.sig().to_hex().into_bytes());
    let mut windows = bytes.windows(needle.len());
    windows.position(|window| window == needle).unwrap()
}

fn lose_index(folder: &Path) {
    std::fs::remove_dir_all(folder.join("index")).unwrap();
}

/// The index as it is now, for later.
struct KeptIndex(tempfile::TempDir);

impl KeptIndex {
    fn of(folder: &Path) -> Self {
        let kept = tempfile::tempdir().unwrap();
        copy(&folder.join("index"), &kept.path().join("index"));
        Self(kept)
    }

    fn put_back(&self, folder: &Path) {
        lose_index(folder);
        copy(&self.0.path().join("index"), &folder.join("index"));
    }
}

fn assert_no_trace(folder: &Path, event: &Event, when: &str) {
    for (what, needle) in files::traces(event) {
        let holding = files::holding(folder, &needle);
        assert!(holding.is_empty(), "{what} in {holding:?}: {when}");
    }
}

/// With `index` both kept and lost, the start after a cut anywhere in the last records finds all
/// of the others and none of the cut ones.
#[test]
fn r_crash_1_a_log_cut_at_any_byte_of_its_last_records_keeps_all_before() {
    for engine in IndexEngine::ALL {
        let folder = tempfile::tempdir().unwrap();
        let to = person(2);
        let wraps = wraps(&to, 6);
        let mut opened = open(folder.path(), engine);
        assert!(
            write(&mut opened, &wraps[..4])
                .iter()
                .all(|answer| answer.accepted)
        );
        end(opened);
        let before = tempfile::tempdir().unwrap();
        copy(&folder.path().join("."), before.path());
        let start = std::fs::metadata(log(folder.path())).unwrap().len();
        let mut opened = open(folder.path(), engine);
        write(&mut opened, &wraps[4..5]);
        let middle = std::fs::metadata(log(folder.path())).unwrap().len();
        write(&mut opened, &wraps[5..]);
        drop(opened);
        let bytes = log_bytes(folder.path());
        let mut cuts: Vec<usize> = (start as usize..=bytes.len()).collect();
        if std::env::var_os("SOTTO_SLOW").is_none() {
            // Every byte of the headers, every seventh of the bodies; fewer where each takes files.
            let step = if engine == IndexEngine::Memory { 7 } else { 97 };
            cuts.retain(|cut| {
                let cut = *cut as u64;
                let is_header = cut - start < 20 || cut.abs_diff(middle) < 20;
                (is_header && step == 7) || cut.is_multiple_of(step)
            });
        }
        let scratch = tempfile::tempdir().unwrap();
        for cut in cuts {
            let path = scratch.path().join(format!("{cut}"));
            std::fs::create_dir_all(path.join("log")).unwrap();
            std::fs::copy(before.path().join("secret"), path.join("secret")).unwrap();
            std::fs::write(log(&path), &bytes[..cut]).unwrap();
            let mut opened = open(&path, engine);
            // The zeros behind a body may be missing.
            let ends = [start, middle].into_iter().zip(&wraps[4..]);
            let whole = 4 + ends
                .filter(|(start, wrap)| cut >= *start as usize + 16 + PRELUDE + wrap.json().len())
                .count();
            assert_eq!(mail(&opened, &to), sorted(&wraps[..whole]), "cut at {cut}");
            // It goes on from there.
            assert!(
                write(&mut opened, &wraps[4..])
                    .iter()
                    .all(|answer| answer.accepted)
            );
            drop(opened);
            let opened = open(&path, engine);
            assert_eq!(mail(&opened, &to), sorted(&wraps), "after a cut at {cut}");
            drop(opened);
            std::fs::remove_dir_all(&path).unwrap();
        }
    }
}

#[test]
fn r_crash_2_an_index_that_missed_the_last_batches_catches_up() {
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let to = person(2);
        let wraps = wraps(&to, 5);
        run(folder.path(), engine, &[&wraps[..3]]);
        let old = KeptIndex::of(folder.path());
        let deletions = [to.deletion(&wraps[0]), to.deletion(&wraps[4])];
        run(folder.path(), engine, &[&wraps[3..], &deletions]);
        old.put_back(folder.path());
        let mut opened = open(folder.path(), engine);
        assert_eq!(opened.warnings, Vec::<String>::new());
        assert_eq!(mail(&opened, &to), sorted(&wraps[1..4]));
        let answers = write(
            &mut opened,
            &[wraps[0].clone(), wraps[4].clone(), wraps[1].clone()],
        );
        assert!(answers[0].message.starts_with("blocked:"));
        assert!(answers[1].message.starts_with("blocked:"));
        assert!(answers[2].message.starts_with("duplicate:"));
    }
}

#[test]
fn r_crash_3_a_lost_or_broken_index_is_built_anew_from_the_log() {
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let to = person(2);
        let alice = person(1);
        let wraps = wraps(&to, 4);
        let version = |ago, content| alice.sign(30078, now() - ago, &[&["d", "x"]], content);
        let (old, new, again) = (version(5, "old"), version(4, "new"), version(3, "again"));
        let vanish = alice.sign(62, now() - 4, &[&["relay", "ALL_RELAYS"]], "");
        let changes = [old, new.clone(), to.deletion(&wraps[0])];
        let batches = [
            &wraps[..],
            &changes,
            &[vanish],
            std::slice::from_ref(&again),
        ];
        run(folder.path(), engine, &batches);
        let check = |mut opened: Opened| {
            assert_eq!(mail(&opened, &to), sorted(&wraps[1..]));
            let defined = find(&opened, Filter::default().with_kinds([30078]), &[]);
            assert_eq!(ids(&defined), [again.id()]);
            let answers = write(&mut opened, &[wraps[0].clone(), new.clone()]);
            assert!(
                answers
                    .iter()
                    .all(|answer| answer.message.starts_with("blocked:"))
            );
            opened.store.close().unwrap();
        };
        check(open(folder.path(), engine));
        lose_index(folder.path());
        check(open(folder.path(), engine));
        for path in files::files(&folder.path().join("index")) {
            if !path.ends_with("lock") {
                std::fs::write(path, b"not what it was").unwrap();
            }
        }
        let opened = open(folder.path(), engine);
        assert!(
            opened
                .warnings
                .iter()
                .any(|text| text.contains("built anew"))
        );
        check(opened);
    }
}

/// A crash after the erasure was synced and before, or in the middle of, the zeros.
#[test]
fn r_crash_4_an_interrupted_erasure_is_finished_by_the_next_start() {
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let to = person(2);
        let wraps = wraps(&to, 3);
        run(folder.path(), engine, &[&wraps]);
        let whole = log_bytes(folder.path());
        let old = KeptIndex::of(folder.path());
        run(folder.path(), engine, &[&[to.deletion(&wraps[1])]]);
        let erased = log_bytes(folder.path());
        let changed: Vec<usize> = (0..whole.len())
            .filter(|at| whole[*at] != erased[*at])
            .collect();
        let (first, last) = (changed[0], changed[changed.len() - 1]);
        let points = [
            first,
            first + 7,
            first + 16,
            first + 300,
            (first + last) / 2,
            last,
        ];
        for index_knows in [false, true] {
            for cut in points {
                let scratch = tempfile::tempdir().unwrap();
                copy(&folder.path().join("."), scratch.path());
                match index_knows {
                    true => old.put_back(scratch.path()),
                    false => lose_index(scratch.path()),
                }
                // The zeros got as far as `cut`; behind it lies what was there before.
                spoil(scratch.path(), cut, &whole[cut..=last]);
                if cut + 20 < last {
                    assert!(!files::holding(scratch.path(), &whole[last - 20..=last]).is_empty());
                }
                let opened = open(scratch.path(), engine);
                assert_eq!(mail(&opened, &to), outer(&wraps), "{cut}");
                assert_no_trace(scratch.path(), &wraps[1], &format!("cut at {cut}"));
            }
        }
    }
}

fn open_small(folder: &Path, engine: IndexEngine) -> Opened {
    let options = DiskOptions {
        segment_bytes: 64 * 1024,
        ..options(folder, engine)
    };
    recovery::open(&options, Default::default()).unwrap()
}

/// Wraps in several segments, of which the first was deleted.
fn of_small_segments(mut opened: Opened, to: &Person) -> (Vec<Event>, Opened) {
    let wraps = wraps_of(to, 40, &"y".repeat(4_000));
    for batch in wraps.chunks(4) {
        write(&mut opened, batch);
    }
    write(&mut opened, &[to.deletion(&wraps[0])]);
    (wraps, opened)
}

/// A crash between the copies of a segment's living records and its removal.
#[test]
fn r_crash_5_an_event_found_twice_counts_once_and_is_erased_in_both_places() {
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let open = || open_small(folder.path(), engine);
        let to = person(2);
        let (wraps, opened) = of_small_segments(open(), &to);
        end(opened);
        // The first segment as it was before it was moved away.
        let first = log_bytes(folder.path());
        let mut opened = open();
        opened.writer.compact_all(now()).unwrap();
        assert!(!log(folder.path()).exists());
        end(opened);
        std::fs::write(log(folder.path()), &first).unwrap();
        lose_index(folder.path());
        let mut opened = open();
        assert_eq!(mail(&opened, &to), sorted(&wraps[1..]));
        write(&mut opened, &[to.deletion(&wraps[1])]);
        assert_no_trace(folder.path(), &wraps[1], "deleted in both places");
    }
}

#[test]
fn r_crash_6_damage_in_the_middle_costs_only_what_it_hit() {
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let to = person(2);
        let wraps = wraps(&to, 3);
        run(folder.path(), engine, &[&wraps]);
        spoil(folder.path(), place_of(folder.path(), &wraps[1]), b"!");
        let rest = outer(&wraps);
        assert_eq!(mail(&open(folder.path(), engine), &to), rest);
        lose_index(folder.path());
        let opened = open(folder.path(), engine);
        assert_eq!(mail(&opened, &to), rest);
        assert!(opened.warnings.iter().any(|text| text.contains("damaged")));
    }
}

#[test]
fn r_lock_1_a_folder_has_one_server_at_a_time() {
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let opened = open(folder.path(), engine);
        let second = recovery::open(&options(folder.path(), engine), Default::default());
        assert!(matches!(second, Err(StoreError::InUse)));
        end(opened);
        drop(open(folder.path(), engine));
    }
}

#[test]
fn r_lock_2_a_folder_without_its_secret_is_not_touched() {
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let mut opened = open(folder.path(), engine);
        write(&mut opened, &wraps(&person(2), 1));
        drop(opened);
        std::fs::remove_file(folder.path().join("secret")).unwrap();
        let again = recovery::open(&options(folder.path(), engine), Default::default());
        assert!(matches!(again, Err(StoreError::Damaged(_))));
        assert!(!folder.path().join("secret").exists());
    }
}

/// The two versions of an event, the log before and after the second, and the index before.
struct Replaced {
    versions: [Event; 2],
    folder: tempfile::TempDir,
    before: Vec<u8>,
}

impl Replaced {
    fn new(engine: IndexEngine) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let version = |at: u64| {
            let content = format!("what counts at {at}");
            person(1).sign(30078, now() - 10 + at, &[&["d", "x"]], &content)
        };
        let versions = [version(1), version(2)];
        run(folder.path(), engine, &[&versions[..1]]);
        let before = log_bytes(folder.path());
        let old = KeptIndex::of(folder.path());
        run(folder.path(), engine, &[&versions[1..]]);
        old.put_back(folder.path());
        Self {
            versions,
            folder,
            before,
        }
    }

    /// The log as if the power had failed before the zeros, and with this byte of the batch spoiled.
    fn spoil(&self, at: usize) {
        spoil(self.folder.path(), 0, &self.before);
        spoil(self.folder.path(), self.before.len() + at, b"!");
    }

    fn assert_is_there(&self, engine: IndexEngine, there: usize) {
        for loses_index in [false, true] {
            if loses_index {
                lose_index(self.folder.path());
            }
            let opened = open(self.folder.path(), engine);
            let found = find(&opened, Filter::default().with_kinds([30078]), &[]);
            assert_eq!(ids(&found), [self.versions[there].id()], "{engine:?}");
            for (what, needle) in files::traces(&self.versions[1 - there]) {
                // Both have the same author.
                if !what.starts_with("author") {
                    let holding = files::holding(self.folder.path(), &needle);
                    assert!(holding.is_empty(), "{engine:?}: {what}");
                }
            }
            end(opened);
        }
    }
}

/// A power loss may take any part of the last batch: the record that an older version goes, or
/// the newer one itself.
#[test]
fn r_crash_8_a_version_goes_only_where_its_successor_is_found() {
    for engine in IndexEngine::ON_DISK {
        // In the record that says so, and in the event.
        for (at, there) in [(20, 1), (300, 0)] {
            let replaced = Replaced::new(engine);
            replaced.spoil(at);
            replaced.assert_is_there(engine, there);
        }
    }
}

#[test]
fn r_crash_9_parts_of_a_torn_batch_do_not_stay_in_the_log() {
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let to = person(2);
        let wraps = wraps(&to, 3);
        drop(open(folder.path(), engine));
        let old = KeptIndex::of(folder.path());
        run(folder.path(), engine, &[&wraps]);
        // Its last sector did not arrive.
        let at = place_of(folder.path(), &wraps[1]);
        spoil(folder.path(), at, &[0; 64]);
        old.put_back(folder.path());
        let opened = open(folder.path(), engine);
        assert_eq!(mail(&opened, &to), outer(&wraps));
        assert_no_trace(folder.path(), &wraps[1], &format!("{engine:?}"));
    }
}

/// The removal of a segment was undone, or its wiping had just begun.
#[test]
fn r_crash_10_a_wiped_segment_that_is_back_is_removed() {
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let open = || open_small(folder.path(), engine);
        let to = person(2);
        let (wraps, mut opened) = of_small_segments(open(), &to);
        let first = log_bytes(folder.path());
        opened.writer.compact_all(now()).unwrap();
        end(opened);
        for wiped in [512, first.len() / 2, first.len()] {
            for loses_index in [false, true] {
                let mut bytes = first.clone();
                bytes[..wiped].fill(0);
                std::fs::write(log(folder.path()), bytes).unwrap();
                if loses_index {
                    lose_index(folder.path());
                }
                let opened = open();
                assert_eq!(mail(&opened, &to), sorted(&wraps[1..]), "{engine:?}");
                assert!(!log(folder.path()).exists(), "{engine:?}, {wiped}");
                assert_eq!(opened.warnings, Vec::<String>::new());
                opened.store.close().unwrap();
            }
        }
    }
}

/// What sled leaves when the machine goes down is not to be believed, and what it closed is.
#[test]
fn r_power_3_an_index_of_sled_that_was_open_when_the_machine_went_down_is_built_anew() {
    let to = person(1);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let stored = wraps(&to, 3);
    let start = |how: &str, warnings: usize| {
        let opened = open(&data, IndexEngine::Sled);
        assert_eq!(mail(&opened, &to), sorted(&stored), "{how}");
        let is_told = |text: &&String| text.contains("the machine went down");
        let told = opened.warnings.iter().filter(is_told).count();
        assert_eq!((told, opened.warnings.len()), (warnings, warnings), "{how}");
        opened
    };
    run(&data, IndexEngine::Sled, &[&stored]);
    start_again(&data.join("index"));
    // It was closed; whoever opens it now does not get to close it.
    drop(start("closed", 0));
    drop(start("killed", 0));
    start_again(&data.join("index"));
    end(start("the machine went down", 1));
    start_again(&data.join("index"));
    end(start("built anew, and closed", 0));
}
