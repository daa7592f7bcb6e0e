//! The power fails, at any moment.
//!
//! A real `sotto-relay` works under load, is killed and started again a few times, and everything
//! that it does to its files is written down call by call (`power/shim.c`). From that trace follows
//! what a disk might hold if the power had failed after any of the calls (`power/disk.rs`), and a
//! store is opened on it: nothing that had been acknowledged by then may be missing, nothing that
//! had been taken away may be there.
//!
//! # What a power loss may do
//!
//! Promised is this alone:
//!
//! * `fsync` and `fdatasync` of a file make durable what was written to it before the call began,
//!   its length included.
//! * `fsync` of a folder makes durable which names it holds. Not what lies behind them: that takes
//!   a sync of the file. And the other way round: a synced file whose name was not synced is gone.
//! * A rename happens as a whole or not at all. A sector of 512 bytes is never torn.
//!
//! Everything else is open, each by itself and in any order: of what was written since the last
//! sync, every sector ends as it was then, as it is now, or as at any moment between; the length of
//! the file likewise, and what lies within it and never reached the disk is zeros. Every name that
//! was made, moved or removed since the last sync of its folder may have stayed as it was. Nothing
//! is taken from what one file system happens to do (ext4's `data=ordered`, names that come along
//! with a file's sync), and `sync_file_range` promises nothing.
//!
//! Where in the trace the power fails, and what the disk makes of it, follows from a seed, which a
//! failure names. `SOTTO_POWER_SEED` tries one of them alone, on a run like that one: what the program
//! did is the same but for the timing of its threads.

mod check;
mod disk;
mod index;
mod load;
mod moving;
mod roster;
pub mod trace;

use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sotto_relay::config::IndexEngine;

use disk::{Disk, Luck};
use load::Run;

/// Power failures tried on each engine.
fn seeds() -> std::ops::Range<u64> {
    if let Ok(seed) = std::env::var("SOTTO_POWER_SEED") {
        let seed = seed.parse().unwrap();
        return seed..seed + 1;
    }
    match std::env::var_os("SOTTO_SLOW") {
        Some(_) => 0..200,
        None => 0..10,
    }
}

/// Power failures tried on one run of the program.
const SEEDS_PER_RUN: u64 = 25;

#[tokio::test(flavor = "multi_thread")]
async fn r_power_1_nothing_acknowledged_is_lost_and_nothing_erased_is_back() {
    let library = tempfile::tempdir().unwrap();
    let shim = trace::shim(library.path());
    let mut failures = 0;
    for engine in IndexEngine::ON_DISK {
        for first in seeds().step_by(SEEDS_PER_RUN as usize) {
            let run = load::run(engine, &shim, first).await;
            tokio::task::block_in_place(|| {
                the_trace_is_complete(&run);
                for seed in first..seeds().end.min(first + SEEDS_PER_RUN) {
                    let tried = AssertUnwindSafe(|| fail_once(&run, engine, seed));
                    // All of them: one cause shows in several ways.
                    failures += usize::from(catch_unwind(tried).is_err());
                }
            });
        }
    }
    assert_eq!(failures, 0, "power losses that the store did not survive");
}

/// What the shim did not see would be missing.
fn the_trace_is_complete(run: &Run) {
    let mut disk = Disk::new(number_of(run.root()));
    for call in trace::calls(&run.trace) {
        disk.call(run.root(), &call.what);
    }
    disk.assert_is(run.root());
}

fn number_of(folder: &Path) -> u64 {
    std::fs::metadata(folder).unwrap().ino()
}

/// The machine starts again: what an index says of its last start is of an earlier one.
pub fn start_again(index: &Path) {
    let path = index.join("state");
    let Ok(state) = std::fs::read_to_string(&path) else {
        return;
    };
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let other = "5f0c3f9e-2b3a-4d0e-9a53-1f6a0c7f1c11";
    std::fs::write(path, state.replace(boot.trim(), other)).unwrap();
}

/// Where in the trace the power may fail.
fn moments(run: &Run, class: u32) -> Vec<u64> {
    let mut since_start = 0;
    let mut is_wanted = |what: &trace::What<'_>| {
        let is_answer = matches!(what, trace::What::Answer { bytes, .. }
            if bytes.windows(5).any(|part| part == b"[\"OK\""));
        since_start += u32::from(is_answer);
        if matches!(what, trace::What::Start) {
            since_start = 0;
        }
        match class {
            // After any call.
            0 => true,
            // Right after somebody was told something.
            1 => is_answer,
            // Right after a start told what it had found.
            _ => is_answer && since_start <= 3,
        }
    };
    let calls = trace::calls(&run.trace);
    calls
        .filter(|call| is_wanted(&call.what))
        .map(|call| call.end)
        .collect()
}

/// The power fails at a moment that follows from the seed.
fn fail_once(run: &Run, engine: IndexEngine, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let moments = moments(run, random.random_range(0..3));
    let until = moments[random.random_range(0..moments.len())];
    let mut disk = Disk::new(number_of(run.root()));
    for call in trace::calls(&run.trace).take_while(|call| call.end <= until) {
        disk.call(run.root(), &call.what);
    }
    let luck = Luck::random(&mut random);
    let after = tempfile::tempdir().unwrap();
    disk.lose_power(luck, &mut random, after.path());
    start_again(&after.path().join("data/index"));
    let what = format!("{engine:?}, seed {seed}: power lost at {until} with {luck:?}");
    check::check(
        &run.facts_at(until),
        engine,
        &after.path().join("data"),
        &what,
    );
}
