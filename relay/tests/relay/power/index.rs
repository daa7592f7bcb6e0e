//! An index engine by itself: after a power loss it is as it was after one of the batches, or it
//! says that it is damaged. The store relies on it (`store::Index`, 1 and 2): with rows of a later
//! batch and without those of an earlier one, what the log tells is read from the wrong place on.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::Command;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sotto_relay::config::IndexEngine;
use sotto_relay::store::{Batch, Index, StoreError, engine};

use super::disk::{Disk, Luck};
use super::trace;
use super::{number_of, seeds, start_again};

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// The row that tells the last batch.
const LAST: &[u8] = b"~";

/// Batches of the program. In slow mode enough for engines to close journals and merge files.
fn batches() -> u64 {
    match std::env::var_os("SOTTO_SLOW") {
        Some(_) => 2_500,
        None => 300,
    }
}

/// Rows that change all the time, so that an engine moves and drops what it wrote before.
fn batch(number: u64) -> Batch {
    let mut random = StdRng::seed_from_u64(number);
    let mut batch: Batch = (0..random.random_range(20..150))
        .map(|_| {
            let key = random.random_range(0..20_000_u32).to_be_bytes();
            let len = random.random_range(20..90);
            let value = random.random_bool(0.7).then(|| {
                let mut value = number.to_be_bytes().to_vec();
                value.resize(len, 7);
                value
            });
            (key.to_vec(), value)
        })
        .collect();
    batch.push((LAST.to_vec(), Some(number.to_be_bytes().to_vec())));
    batch
}

fn rows_after(last: Option<u64>) -> Rows {
    let mut rows = Rows::new();
    for number in last.map_or(0..0, |last| 0..last + 1) {
        for (key, value) in batch(number) {
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
    }
    rows
}

fn rows_of(index: &dyn Index) -> Result<Rows, StoreError> {
    let mut rows = Rows::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        rows.insert(key.to_vec(), value.to_vec());
        ControlFlow::Continue(())
    };
    index.scan(&[], &[0xff], &mut visit)?;
    Ok(rows)
}

/// The program of the test below: it fills an index while another thread syncs and compacts.
#[test]
#[ignore = "a program of its own, started by the test below"]
fn r_power_2_the_program() {
    let (engine, folder) = (
        std::env::var("POWER_ENGINE").unwrap(),
        PathBuf::from(std::env::var_os("POWER_ROOT").unwrap()).join("index"),
    );
    let engine: IndexEngine = toml::Value::String(engine).try_into().unwrap();
    std::fs::create_dir(&folder).unwrap();
    let parent = std::fs::File::open(folder.parent().unwrap()).unwrap();
    parent.sync_all().unwrap();
    let index = engine::open(engine, &folder).unwrap();
    let is_done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for round in 1.. {
                if is_done.load(std::sync::atomic::Ordering::Acquire) {
                    break;
                }
                match round % 8 {
                    0 => index.compact().unwrap(),
                    2 | 4 => index.sync().unwrap(),
                    _ => index.checkpoint().unwrap(),
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        for number in 0..batches() {
            index.apply(batch(number)).unwrap();
        }
        is_done.store(true, std::sync::atomic::Ordering::Release);
    });
    index.close().unwrap();
}

#[test]
fn r_power_2_an_index_is_as_it_was_after_some_batch_or_says_that_it_is_damaged() {
    let library = tempfile::tempdir().unwrap();
    let shim = trace::shim(library.path());
    let mut failures = Vec::new();
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap().join("root");
        std::fs::create_dir(&root).unwrap();
        let file = folder.path().join("trace");
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "power::index::r_power_2_the_program",
                "--ignored",
            ])
            .env("LD_PRELOAD", &shim)
            .env("POWER_ROOT", &root)
            .env("POWER_TRACE", &file)
            .env(
                "POWER_ENGINE",
                toml::Value::try_from(engine).unwrap().as_str().unwrap(),
            )
            .output()
            .unwrap();
        assert!(output.status.success(), "{engine:?}: {output:?}");
        let trace = std::fs::read(&file).unwrap();
        let count = trace::calls(&trace).count();
        // In the order of their moments, so that the trace is gone through once.
        let mut losses: Vec<(usize, u64, StdRng)> = seeds()
            .map(|seed| {
                let mut random = StdRng::seed_from_u64(seed);
                (random.random_range(0..count), seed, random)
            })
            .collect();
        losses.sort_by_key(|(moment, ..)| *moment);
        let mut losses = losses.into_iter().peekable();
        let mut disk = Disk::new(number_of(&root));
        for (number, call) in trace::calls(&trace).enumerate() {
            disk.call(&root, &call.what);
            while let Some((_, seed, random)) = losses.next_if(|loss| loss.0 == number) {
                let found = lose_power_once(engine, &disk, random);
                failures.extend(
                    found
                        .err()
                        .map(|why| format!("{engine:?}, seed {seed}: {why}")),
                );
            }
        }
        disk.assert_is(&root);
        // It was closed: whatever else is lost, all of it is there.
        for seed in seeds() {
            let random = StdRng::seed_from_u64(seed);
            let found = lose_power_once(engine, &disk, random);
            let last = batches() - 1;
            if found.as_ref() != Ok(&Some(last)) {
                failures.push(format!("{engine:?}, closed, seed {seed}: {found:?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// The number of the last batch that is there; none: it does not open, or counts as a new one.
fn lose_power_once(
    engine: IndexEngine,
    disk: &Disk,
    mut random: StdRng,
) -> Result<Option<u64>, String> {
    let luck = Luck::random(&mut random);
    let after = tempfile::tempdir().unwrap();
    disk.lose_power(luck, &mut random, after.path());
    let folder = after.path().join("index");
    std::fs::create_dir_all(&folder).unwrap();
    if !luck.is_of_a_kill() {
        start_again(&folder);
    }
    let Ok(index) = engine::open(engine, &folder) else {
        return Ok(None);
    };
    let read = index
        .get(LAST)
        .and_then(|last| Ok((last, rows_of(&*index)?)));
    let Ok((last, found)) = read else {
        drop(index);
        return match engine::open(engine, &folder) {
            Ok(index) if index.get(LAST).is_ok_and(|last| last.is_some()) => {
                Err("damaged, and opened again as if it were not".to_owned())
            }
            _ => Ok(None),
        };
    };
    let last = last.map(|last| u64::from_be_bytes(last.try_into().unwrap()));
    let wanted = rows_after(last);
    if last.is_none() || found == wanted {
        // Without that row the store takes the index for a new one, and builds it anew.
        return Ok(last);
    }
    let lost = wanted.iter().filter(|(key, _)| !found.contains_key(*key));
    let back = found.keys().filter(|key| !wanted.contains_key(*key));
    let stale = wanted
        .iter()
        .filter(|(key, value)| found.get(*key).is_some_and(|found| found != *value));
    Err(format!(
        "after batch {last:?}, {luck:?}: {} rows lost, {} back, {} stale",
        lost.count(),
        back.count(),
        stale.count()
    ))
}
