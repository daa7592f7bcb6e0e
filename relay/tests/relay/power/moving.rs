//! `sotto-relay compact`, interrupted after any of its calls: by a kill, which leaves all that was
//! written, or by a power loss. What is deleted afterwards is gone from every file, wherever the
//! compaction had got to, and stays away when the index is built anew.

use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sotto_relay::config::IndexEngine;
use sotto_relay::policy::Rules;
use sotto_relay::store::Opened;
use sotto_relay::store::recovery::{self, DiskOptions};
use wire::{Event, EventId};

use super::check::assert_gone;
use super::disk::{Disk, Luck};
use super::{load, number_of, seeds, start_again, trace};
use crate::crash::{Program, binary, store_section};
use crate::files;
use crate::support::{Client, ids, mailbox, now, person};

/// A segment that is moved in several transactions, and what follows it.
const SEGMENT_BYTES: u64 = 2_500_000;
const FIRST: &str = "00000001.seg";
const WRAPS: usize = 60;
const RECIPIENT: u32 = 2;

struct Run {
    _folder: tempfile::TempDir,
    root: PathBuf,
    trace: Vec<u8>,
    /// How many calls were made before the compaction.
    before: usize,
    kept: Vec<Event>,
    gone: Vec<Event>,
}

async fn run(engine: IndexEngine, shim: &Path) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap().join("root");
    let trace = folder.path().join("trace");
    std::fs::create_dir(&root).unwrap();
    let section = store_section(engine);
    let configuration = format!("{section}segment_bytes = {SEGMENT_BYTES}\nreserve_bytes = 0\n");
    let file = folder.path().join("relay.toml");
    std::fs::write(&file, configuration).unwrap();
    let command = |arguments: &[&str]| {
        let mut command = binary();
        command
            .arg("--json")
            .args(arguments)
            .arg("--data")
            .arg(root.join("data"))
            .arg("--config")
            .arg(&file)
            .env("LD_PRELOAD", shim)
            .env("POWER_ROOT", &root)
            .env("POWER_TRACE", &trace);
        command
    };
    let mut program = Program::spawn(&mut command(&["run", "--listen", "127.0.0.1:0"]));
    let mut client = Client::connect(&program.url).await;
    let to = person(RECIPIENT);
    let (mut kept, mut gone) = (Vec::new(), Vec::new());
    for number in 0..WRAPS {
        let sender = person(100 + number as u32);
        let wrap = sender.wrap(&to, &load::mark(number).repeat(4_000));
        client.put(&wrap).await;
        if number % 5 == 0 {
            client.put(&sender.deletion(&wrap)).await;
            gone.push(wrap);
        } else {
            kept.push(wrap);
        }
    }
    program.signal("-TERM");
    program.child.wait().unwrap();
    let before = trace::calls(&std::fs::read(&trace).unwrap()).count();
    let first = root.join("data/log").join(FIRST);
    assert!(first.exists());
    let done = command(&["compact"]).output().unwrap();
    assert!(done.status.success() && !first.exists(), "{done:?}");
    Run {
        trace: std::fs::read(&trace).unwrap(),
        _folder: folder,
        root,
        before,
        kept,
        gone,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r_gone_7_a_compaction_that_is_interrupted_leaves_nothing_that_a_deletion_misses() {
    let library = tempfile::tempdir().unwrap();
    let shim = trace::shim(library.path());
    for engine in IndexEngine::ON_DISK {
        let run = run(engine, &shim).await;
        tokio::task::block_in_place(|| {
            let is_end = |call: &trace::Call<'_>| matches!(call.what, trace::What::Remove { path } if path.ends_with(FIRST));
            let end = trace::calls(&run.trace)
                .position(|call| is_end(&call))
                .unwrap();
            let count = end + 2 - run.before;
            let (seeds, many) = (seeds(), seeds().end);
            let mut disk = Disk::new(number_of(&run.root));
            let mut calls = trace::calls(&run.trace);
            let mut made = 0;
            // Spread over the time until the segment is gone, in order, so that the trace is gone through once.
            for seed in seeds {
                let mut random = StdRng::seed_from_u64(seed);
                let share = (seed as f64 + random.random_range(0.0..1.0)) / many as f64;
                let moment = run.before + (share * count as f64) as usize;
                for call in calls.by_ref().take(moment - made) {
                    disk.call(&run.root, &call.what);
                }
                made = moment;
                let luck = match seed % 2 {
                    0 => Luck::of_a_kill(),
                    _ => Luck::random(&mut random),
                };
                let after = tempfile::tempdir().unwrap();
                disk.lose_power(luck, &mut random, after.path());
                if !luck.is_of_a_kill() {
                    start_again(&after.path().join("data/index"));
                }
                let what = format!("{engine:?}, seed {seed}, call {moment} with {luck:?}");
                delete_after(&run, engine, &after.path().join("data"), &what);
            }
        });
    }
}

fn open(data: &Path, engine: IndexEngine, what: &str) -> Opened {
    let options = DiskOptions {
        segment_bytes: SEGMENT_BYTES,
        ..files::options(data, engine)
    };
    recovery::open(&options, Rules::default()).unwrap_or_else(|error| panic!("{what}: {error}"))
}

fn assert_served(opened: &Opened, wanted: &[&Event], what: &str) {
    let to = person(RECIPIENT);
    let mut found = ids(&files::find(opened, mailbox(&to), &[to.key()]));
    let mut wanted: Vec<EventId> = wanted.iter().map(|event| event.id()).collect();
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted, "{what}");
}

fn delete_after(run: &Run, engine: IndexEngine, data: &Path, what: &str) {
    let mut opened = open(data, engine, what);
    let kept: Vec<&Event> = run.kept.iter().collect();
    assert_served(&opened, &kept, what);
    let (deleted, kept) = kept.split_at(kept.len() / 2);
    let to = person(RECIPIENT);
    let requests: Vec<Event> = deleted.iter().map(|wrap| to.deletion(wrap)).collect();
    let answers = files::write(&mut opened, &requests);
    assert!(
        answers.iter().all(|answer| answer.accepted),
        "{what}: {answers:?}"
    );
    let gone: Vec<&Event> = deleted.iter().copied().chain(&run.gone).collect();
    assert_gone(&gone, data, what);
    assert_served(&opened, kept, what);
    // So that no record of the deletions is left but that they stay away.
    opened.writer.compact_all(now()).unwrap();
    opened.store.close().unwrap();
    drop(opened);

    let all = IndexEngine::ON_DISK;
    let other = all.into_iter().find(|other| *other != engine).unwrap();
    let what = format!("{what}, then {other:?}");
    let mut opened = open(data, other, &what);
    assert_served(&opened, kept, &what);
    let again: Vec<Event> = gone.iter().copied().cloned().collect();
    let answers = files::write(&mut opened, &again);
    let is_refused = answers
        .iter()
        .all(|answer| answer.message.starts_with("blocked:"));
    assert!(is_refused, "{what}: {answers:?}");
    assert_gone(&gone, data, &what);
}
