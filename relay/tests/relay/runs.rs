//! The index engine of our own: sorted runs against a sorted map, and what it says of damage.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use proptest::prelude::*;
use sotto_relay::store::runs::RunsIndex;
use sotto_relay::store::{Batch, Index, StoreError};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Small enough that a few batches become a run, and a few runs a merge.
const MEMORY: usize = 2_000;

fn open(folder: &Path) -> Result<RunsIndex, StoreError> {
    RunsIndex::with_memory(folder, MEMORY)
}

fn everything(index: &dyn Index) -> Result<Map, StoreError> {
    between(index, &[], &[0xff; 9])
}

fn between(index: &dyn Index, from: &[u8], to: &[u8]) -> Result<Map, StoreError> {
    let mut found = Map::new();
    let mut last: Option<Vec<u8>> = None;
    index.scan(from, to, &mut |key, value| {
        assert!(
            last.as_deref().is_none_or(|last| last < key),
            "out of order"
        );
        last = Some(key.to_vec());
        found.insert(key.to_vec(), value.to_vec());
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

#[derive(Debug, Clone)]
enum Step {
    Apply(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    Sync,
    Compact,
    /// Closed in good order, and opened again.
    Reopen,
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    // Few different ones, so that they are replaced and removed; some a prefix of another.
    (prop::sample::select(b"EPQ".to_vec()), 0_u8..60, 0_usize..3)
        .prop_map(|(family, n, more)| [vec![family, n], vec![n; more]].concat())
}

fn step() -> impl Strategy<Value = Step> {
    let value = prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..40));
    let batch = prop::collection::vec((key(), value), 0..30);
    prop_oneof![
        20 => batch.prop_map(Step::Apply),
        2 => Just(Step::Sync),
        1 => Just(Step::Compact),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(
            if std::env::var_os("SOTTO_SLOW").is_some() { 2_000 } else { 60 }
        )
    })]

    #[test]
    fn r_store_2_runs_hold_what_a_sorted_map_holds(
        steps in prop::collection::vec(step(), 1..60),
        ranges in prop::collection::vec((key(), key()), 4),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut index = open(folder.path()).unwrap();
        let mut map = Map::new();
        for step in steps {
            match step {
                Step::Apply(batch) => {
                    for (key, value) in batch.clone() {
                        match value {
                            Some(value) => map.insert(key, value),
                            None => map.remove(&key),
                        };
                    }
                    index.apply(batch).unwrap();
                }
                Step::Sync => index.sync().unwrap(),
                Step::Compact => index.compact().unwrap(),
                Step::Reopen => {
                    index.sync().unwrap();
                    drop(index);
                    index = open(folder.path()).unwrap();
                }
            }
            prop_assert_eq!(&everything(&index).unwrap(), &map);
        }
        for (key, value) in &map {
            prop_assert_eq!(index.get(key).unwrap(), Some(value.clone()));
        }
        for (from, to) in ranges {
            prop_assert_eq!(index.get(&from).unwrap(), map.get(&from).cloned());
            let wanted: Map = match from < to {
                true => map.range(from.clone()..to.clone()).map(|(k, v)| (k.clone(), v.clone())).collect(),
                false => Map::new(),
            };
            prop_assert_eq!(between(&index, &from, &to).unwrap(), wanted);
        }
    }
}

/// What a start finds when the program was killed: some whole batches from the beginning on.
#[test]
fn r_store_2_without_a_close_the_first_batches_are_there_and_none_by_half() {
    for count in [1_u32, 5, 17, 60, 200] {
        let folder = tempfile::tempdir().unwrap();
        let index = open(folder.path()).unwrap();
        for n in 0..count {
            let name = n.to_be_bytes();
            let rows: Batch = [b"a", b"b"]
                .iter()
                .map(|half| ([half.as_slice(), &name].concat(), Some(vec![7; 50])))
                .collect();
            index.apply(rows).unwrap();
        }
        drop(index);
        let found = everything(&open(folder.path()).unwrap()).unwrap();
        let kept = u32::try_from(found.len() / 2).unwrap();
        assert_eq!(found.len() % 2, 0);
        for n in 0..kept {
            for half in [b"a", b"b"] {
                assert!(found.contains_key(&[half.as_slice(), &n.to_be_bytes()].concat()));
            }
        }
    }
}

/// Merges that a crash broke off, or whose inputs it left behind.
#[test]
fn r_store_2_files_that_no_list_names_are_removed_by_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let index = open(folder.path()).unwrap();
    index.apply(vec![(vec![1], Some(vec![2]))]).unwrap();
    index.compact().unwrap();
    let kept = everything(&index).unwrap();
    drop(index);
    let files = || BTreeSet::from_iter(crate::files::files(folder.path()));
    let listed = files();
    let run = listed
        .iter()
        .find(|path| path.extension().is_some())
        .unwrap();
    for left in ["7000.run", "7001.run", "runs.new"] {
        std::fs::copy(run, folder.path().join(left)).unwrap();
    }
    let index = open(folder.path()).unwrap();
    assert_eq!(files(), listed);
    assert_eq!(everything(&index).unwrap(), kept);
    drop(index);
    // Without a list no run counts.
    std::fs::remove_file(folder.path().join("runs")).unwrap();
    assert!(
        everything(&open(folder.path()).unwrap())
            .unwrap()
            .is_empty()
    );
    assert!(files().is_empty());
}

#[test]
fn r_store_3_a_changed_byte_is_noticed_and_the_next_start_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let index = open(folder.path()).unwrap();
    let mut map = Map::new();
    for n in 0..300_u32 {
        let row = (n.to_be_bytes().to_vec(), vec![9; 100]);
        map.insert(row.0.clone(), row.1.clone());
        index.apply(vec![(row.0, Some(row.1))]).unwrap();
    }
    index.compact().unwrap();
    drop(index);
    let files = crate::files::files(folder.path());
    assert!(files.len() >= 2, "{files:?}");
    for path in files {
        let whole = std::fs::read(&path).unwrap();
        // Every part of it: blocks, tail, footer, the list.
        let step = (whole.len() / 150).max(1);
        for at in (0..whole.len()).step_by(step) {
            let mut spoiled = whole.clone();
            spoiled[at] ^= 0x20;
            std::fs::write(&path, &spoiled).unwrap();
            let list = std::fs::read(folder.path().join("runs")).unwrap();
            let read = open(folder.path()).and_then(|index| {
                let all = everything(&index)?;
                let each = map.keys().map(|key| index.get(key));
                each.collect::<Result<Vec<_>, _>>()?;
                Ok(all)
            });
            match read {
                Ok(_) => panic!("byte {at} of {path:?} went unnoticed"),
                Err(_) if folder.path().join("runs").exists() => {
                    assert!(open(folder.path()).is_err(), "byte {at} of {path:?}");
                }
                Err(_) => {
                    assert!(
                        everything(&open(folder.path()).unwrap())
                            .unwrap()
                            .is_empty()
                    );
                    std::fs::write(folder.path().join("runs"), list).unwrap();
                }
            }
            std::fs::write(&path, &whole).unwrap();
        }
    }
}
