//! What every index engine must do: one suite of plain functions, run for each engine.
//!
//! `open` makes an index, or opens again what it made before; for an engine that keeps nothing
//! it makes an empty one, and `is_durable` is false.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{Batch, Index, StoreError};

/// Batches applied while others read, sync and compact.
const BATCHES: usize = 400;

/// A rule that an engine broke.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The engine failed.
    #[error(transparent)]
    Failed(#[from] StoreError),
    /// It answered wrongly.
    #[error("{0}")]
    Rule(&'static str),
}

/// Runs the whole suite; each call of `open` follows the drop of what it gave before.
pub fn run(
    mut open: impl FnMut() -> Result<Box<dyn Index>, StoreError>,
    is_durable: bool,
) -> Result<(), Broken> {
    {
        let index = &*open()?;
        values_are_read_back(index)?;
        ranges_are_half_open_and_ordered(index)?;
        scans_stop_when_told(index)?;
        of_several_rows_for_one_key_the_last_counts(index)?;
        long_keys_and_values_fit(index)?;
        large_batches_fit(index)?;
        others_work_beside_the_writer(index)?;
        index.apply(vec![(b"kept".to_vec(), Some(b"1".to_vec()))])?;
        index.apply(vec![(b"gone".to_vec(), Some(b"1".to_vec()))])?;
        index.apply(vec![(b"gone".to_vec(), None)])?;
        index.sync()?;
        index.compact()?;
        holds(
            get(index, "kept")? == Some(b"1".to_vec()),
            "compaction lost a row",
        )?;
    }
    if is_durable {
        let index = &*open()?;
        holds(
            get(index, "kept")? == Some(b"1".to_vec()),
            "a synced row was lost",
        )?;
        holds(get(index, "gone")?.is_none(), "a removed row came back")?;
        holds(
            scan(index, "w", "x", usize::MAX)?.len() == BATCHES,
            "a reopened index has other rows",
        )?;
        index.apply(vec![(b"last".to_vec(), Some(b"1".to_vec()))])?;
        index.close()?;
    }
    if is_durable {
        let index = &*open()?;
        holds(
            get(index, "last")? == Some(b"1".to_vec()),
            "a row of before it was closed was lost",
        )?;
    }
    Ok(())
}

fn values_are_read_back(index: &dyn Index) -> Result<(), Broken> {
    holds(get(index, "a")?.is_none(), "an empty index has a value")?;
    index.apply(batch(&[("a", Some("1")), ("b", Some(""))]))?;
    holds(
        get(index, "a")? == Some(b"1".to_vec()),
        "a value was not read back",
    )?;
    holds(
        get(index, "b")? == Some(Vec::new()),
        "an empty value was not read back",
    )?;
    index.apply(batch(&[("a", Some("2")), ("b", None)]))?;
    holds(
        get(index, "a")? == Some(b"2".to_vec()),
        "a value was not replaced",
    )?;
    holds(get(index, "b")?.is_none(), "a row was not removed")?;
    index.apply(batch(&[("never", None)]))?;
    index.apply(Batch::new())?;
    Ok(())
}

fn ranges_are_half_open_and_ordered(index: &dyn Index) -> Result<(), Broken> {
    let keys = ["r", "r\u{1}", "r0", "r1", "r10", "r2", "s"];
    let rows: Vec<_> = keys.iter().rev().map(|key| (*key, Some("x"))).collect();
    index.apply(batch(&rows))?;
    let found = scan(index, "r", "s", usize::MAX)?;
    let wanted: Vec<_> = keys
        .iter()
        .take(6)
        .map(|key| key.as_bytes().to_vec())
        .collect();
    holds(found == wanted, "a range is not half-open or not in order")?;
    holds(
        scan(index, "r1", "r1", 9)?.is_empty(),
        "an empty range has rows",
    )?;
    holds(
        scan(index, "s", "r", 9)?.is_empty(),
        "a range backwards has rows",
    )
}

fn scans_stop_when_told(index: &dyn Index) -> Result<(), Broken> {
    holds(
        scan(index, "r", "s", 2)?.len() == 2,
        "a scan went on after a break",
    )
}

fn of_several_rows_for_one_key_the_last_counts(index: &dyn Index) -> Result<(), Broken> {
    index.apply(batch(&[("k", Some("1")), ("k", None), ("k", Some("3"))]))?;
    holds(
        get(index, "k")? == Some(b"3".to_vec()),
        "an earlier row of a batch won",
    )?;
    index.apply(batch(&[("k", Some("4")), ("k", None)]))?;
    holds(
        get(index, "k")?.is_none(),
        "a removal at the end of a batch lost",
    )
}

fn long_keys_and_values_fit(index: &dyn Index) -> Result<(), Broken> {
    let (key, value) = (vec![0xff; 64], vec![7; 1024]);
    index.apply(vec![(key.clone(), Some(value.clone()))])?;
    holds(
        index.get(&key)? == Some(value),
        "the largest row was not read back",
    )
}

/// As many rows as a start gathers before it applies them.
fn large_batches_fit(index: &dyn Index) -> Result<(), Broken> {
    let key = |n: u32| [b"large".as_slice(), &n.to_be_bytes()].concat();
    let rows = |value: Option<Vec<u8>>| (0..30_000).map(|n| (key(n), value.clone())).collect();
    index.apply(rows(Some(vec![1; 60])))?;
    holds(
        scan(index, "large", "largf", usize::MAX)?.len() == 30_000,
        "a large batch was not kept whole",
    )?;
    index.apply(rows(None))?;
    holds(
        scan(index, "large", "largf", 1)?.is_empty(),
        "a large batch was not removed whole",
    )
}

/// Whoever reads after a batch was applied finds all of it, whatever else goes on.
fn others_work_beside_the_writer(index: &dyn Index) -> Result<(), Broken> {
    let number = |n: usize| n.to_be_bytes().to_vec();
    let apply = |n: usize| {
        index.apply(vec![
            (b"v".to_vec(), Some(number(n))),
            ([b"w".as_slice(), &number(n)].concat(), Some(Vec::new())),
            ([b"x".as_slice(), &number(n)].concat(), Some(Vec::new())),
            ([b"x".as_slice(), &number(n.wrapping_sub(1))].concat(), None),
        ])
    };
    apply(0)?;
    let (is_done, last) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        let compacts = threads.spawn(|| {
            while !is_done.load(Ordering::Acquire) {
                index.sync()?;
                index.compact()?;
            }
            Ok::<_, StoreError>(())
        });
        let reads = threads.spawn(|| {
            while !is_done.load(Ordering::Acquire) {
                let before = last.load(Ordering::Acquire);
                let value = get(index, "v")?.unwrap_or_default();
                holds(value >= number(before), "a value is older than its batch")?;
                let found = scan(index, "w", "x", usize::MAX)?.len();
                holds(found > before, "a scan missed a row of an earlier batch")?;
            }
            Ok::<_, Broken>(())
        });
        let applied = (1..BATCHES).try_for_each(|n| {
            apply(n)?;
            last.store(n, Ordering::Release);
            Ok::<_, StoreError>(())
        });
        is_done.store(true, Ordering::Release);
        let ended = (compacts.join(), reads.join());
        applied?;
        match ended {
            (Ok(compacted), Ok(read)) => compacted.map_err(Broken::from).and(read),
            _ => Err(Broken::Rule("the engine panicked")),
        }
    })?;
    holds(
        scan(index, "w", "x", usize::MAX)?.len() == BATCHES,
        "a row was lost beside a compaction",
    )?;
    holds(
        scan(index, "x", "y", usize::MAX)?.len() == 1,
        "a removed row came back beside a compaction",
    )
}

fn holds(condition: bool, rule: &'static str) -> Result<(), Broken> {
    match condition {
        true => Ok(()),
        false => Err(Broken::Rule(rule)),
    }
}

fn get(index: &dyn Index, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
    index.get(key.as_bytes())
}

fn batch(rows: &[(&str, Option<&str>)]) -> Batch {
    rows.iter()
        .map(|(key, value)| {
            let value = value.map(|value| value.as_bytes().to_vec());
            (key.as_bytes().to_vec(), value)
        })
        .collect()
}

fn scan(index: &dyn Index, from: &str, to: &str, most: usize) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut found = Vec::new();
    index.scan(from.as_bytes(), to.as_bytes(), &mut |key, _| {
        found.push(key.to_vec());
        match found.len() < most {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::engine;
    use crate::config::IndexEngine;

    #[test]
    fn r_store_1_every_index_engine_keeps_the_contract() {
        for engine in IndexEngine::ALL {
            let folder = tempfile::tempdir().unwrap();
            let is_durable = IndexEngine::ON_DISK.contains(&engine);
            super::run(|| engine::open(engine, folder.path()), is_durable)
                .unwrap_or_else(|broken| panic!("{engine:?}: {broken}"));
        }
    }
}
