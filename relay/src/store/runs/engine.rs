//! The engine itself: what readers see, and the two threads behind it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::super::{Batch, Index, StoreError, Visit};
use super::bloom::KeyHash;
use super::list::{self, Listed};
use super::memory::{self, Memory};
use super::merge::{self, Merged, Source};
use super::run::{self, Run, Writer};

/// Bytes of rows in memory before they are written out: some forty thousand events, which a start
/// after a crash reads again in less than a second.
const MEMORY_BYTES: usize = 16 * 1024 * 1024;
/// Lists of rows that wait to be written; beyond that, whoever writes waits too.
const WAITING: usize = 2;
/// How long a thread whose file could not be written waits before it tries again.
const RETRY: Duration = Duration::from_secs(1);

/// An index on disk.
pub struct RunsIndex {
    shared: Arc<Shared>,
    memory_bytes: usize,
    threads: Vec<JoinHandle<()>>,
}

/// What readers see at one moment.
#[derive(Debug, Clone)]
struct View {
    /// Takes the next batch.
    newest: Arc<Memory>,
    /// Being written out, newest first.
    waiting: Vec<Arc<Memory>>,
    /// Newest first.
    runs: Vec<Counted>,
}

/// A run with its place in the list.
type Counted = (Listed, Arc<Run>);

struct Shared {
    folder: PathBuf,
    view: RwLock<Arc<View>>,
    /// Held while the view is replaced, and by the two threads while they look for work.
    work: Mutex<Work>,
    changed: Condvar,
    /// Held while the list of runs is replaced.
    list: Mutex<()>,
    /// Set where a file does not hold what was written to it.
    is_disowned: AtomicBool,
    is_stopping: AtomicBool,
}

#[derive(Debug, Default)]
struct Work {
    next_number: u64,
    /// Whether a file could not be written; cleared by the next that could.
    writing_failed: Option<String>,
    merging_failed: Option<String>,
    /// How many times everything was to become one run, and how many times it did.
    compactions_asked: u64,
    compactions_done: u64,
}

impl RunsIndex {
    /// Opens or makes the index in `folder`, which it alone uses.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::with_memory(folder, MEMORY_BYTES)
    }

    /// The same, with another size at which rows are written out; for tests, which have few.
    pub fn with_memory(folder: &Path, memory_bytes: usize) -> Result<Self, StoreError> {
        let listed = list::read(folder)?.unwrap_or_default();
        list::tidy(folder, &listed)?;
        let runs = listed
            .iter()
            .map(|listed| Ok((*listed, Arc::new(Run::open(folder, listed.number)?))))
            .collect::<Result<Vec<_>, StoreError>>()?;
        let last = listed.iter().map(|listed| listed.number).max();
        let shared = Arc::new(Shared {
            folder: folder.to_owned(),
            view: RwLock::new(Arc::new(View {
                newest: Arc::default(),
                waiting: Vec::new(),
                runs,
            })),
            work: Mutex::new(Work {
                next_number: last.unwrap_or(0).saturating_add(1),
                ..Work::default()
            }),
            changed: Condvar::new(),
            list: Mutex::new(()),
            is_disowned: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
        });
        let mut index = Self {
            shared,
            memory_bytes,
            threads: Vec::new(),
        };
        index.start_thread("index-write", write_out)?;
        index.start_thread("index-merge", merge_runs)?;
        Ok(index)
    }

    fn start_thread(&mut self, name: &str, body: fn(&Shared)) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new().name(name.to_owned());
        self.threads.push(thread.spawn(move || body(&shared))?);
        Ok(())
    }

    /// Hands the newest rows out to be written. Whoever is about to add to them finds them sealed,
    /// and adds to those that follow.
    fn hand_out(&self) {
        let shared = &self.shared;
        let mut work = shared.work();
        // A full disk must not keep deletions waiting: then memory grows, by their few rows.
        while shared.view().waiting.len() >= WAITING && work.writing_failed.is_none() {
            work = shared.wait(work);
        }
        let mut view = View::clone(&shared.view());
        if view.newest.is_empty() {
            return;
        }
        view.newest.seal();
        view.waiting.insert(0, std::mem::take(&mut view.newest));
        shared.show(view);
        shared.changed.notify_all();
    }
}

impl Index for RunsIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let view = self.shared.view();
        for memory in std::iter::once(&view.newest).chain(&view.waiting) {
            if let Some(value) = memory.get(key) {
                return Ok(value);
            }
        }
        let hash = KeyHash::of(key);
        for (_, run) in &view.runs {
            let found = run.get(key, hash);
            if let Some(value) = found.inspect_err(|error| self.shared.note_damage(error))? {
                return Ok(value);
            }
        }
        Ok(None)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        self.shared
            .scan(from, to, visit)
            .inspect_err(|error| self.shared.note_damage(error))
    }

    fn apply(&self, mut batch: Batch) -> Result<(), StoreError> {
        let held = loop {
            match self.shared.view().newest.apply(batch) {
                Ok(held) => break held,
                Err(refused) => batch = refused,
            }
            // They are sealed under this lock, and with it comes what follows them.
            drop(self.shared.work());
        };
        if held >= self.memory_bytes {
            self.hand_out();
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.hand_out();
        let shared = &self.shared;
        let mut work = shared.work();
        while !shared.view().waiting.is_empty() {
            if let Some(error) = &work.writing_failed {
                return Err(StoreError::Index(error.clone()));
            }
            work = shared.wait(work);
        }
        Ok(())
    }

    /// Does nothing: what is not in a run yet is little, and is read from the log.
    fn checkpoint(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn compact(&self) -> Result<(), StoreError> {
        self.sync()?;
        let shared = &self.shared;
        let mut work = shared.work();
        work.compactions_asked += 1;
        let own = work.compactions_asked;
        shared.changed.notify_all();
        while work.compactions_done < own {
            if let Some(error) = &work.merging_failed {
                return Err(StoreError::Index(error.clone()));
            }
            if shared.is_stopping() {
                return Err(StoreError::Index("it is being closed".to_owned()));
            }
            work = shared.wait(work);
        }
        Ok(())
    }

    fn has_met_damage(&self) -> bool {
        self.shared.is_disowned.load(Ordering::Acquire)
    }
}

impl Drop for RunsIndex {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        // Under the lock, so that no thread is between looking and waiting.
        drop(self.shared.work());
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the index failed");
            }
        }
    }
}

impl Shared {
    fn view(&self) -> Arc<View> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        view.clone()
    }

    /// Readers see `view` from now on. The caller holds `work`.
    fn show(&self, view: View) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'w>(&self, work: MutexGuard<'w, Work>) -> MutexGuard<'w, Work> {
        self.changed
            .wait(work)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what a thread's last work ended with, for those who wait for it. After a failure the
    /// thread pauses before it tries again.
    fn report(&self, error: Option<StoreError>, slot: impl Fn(&mut Work) -> &mut Option<String>) {
        let mut work = self.work();
        let slot = slot(&mut work);
        let Some(error) = error else {
            *slot = None;
            return;
        };
        if slot.is_none() {
            tracing::error!(%error, "a file of the index could not be written; trying again");
        }
        *slot = Some(error.to_string());
        self.changed.notify_all();
        let until = Instant::now() + RETRY;
        while let Some(left) = until.checked_duration_since(Instant::now())
            && !self.is_stopping()
        {
            let waited = self.changed.wait_timeout(work, left);
            work = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let view = self.view();
        let mut sources = Vec::with_capacity(1 + view.waiting.len() + view.runs.len());
        for memory in std::iter::once(&view.newest).chain(&view.waiting) {
            let cursor = memory::Cursor::new(memory.clone(), from, Some(to));
            sources.push(Source::Memory(cursor));
        }
        for (_, run) in &view.runs {
            let cursor = run::Cursor::new(run.clone(), from, Some(to))?;
            sources.push(Source::Run(cursor));
        }
        let mut merged = Merged::new(sources);
        while let Some((key, value)) = merged.row() {
            if let Some(value) = value
                && visit(key, value) == ControlFlow::Break(())
            {
                break;
            }
            merged.advance()?;
        }
        Ok(())
    }

    /// A file that does not hold what was written to it: nothing here can mend it, but the log
    /// can. Whoever opens it next finds no list of runs and builds the index anew.
    fn note_damage(&self, error: &StoreError) {
        let is_damage = match error {
            StoreError::Index(_) | StoreError::Damaged(_) => true,
            StoreError::Io(error) => error.kind() == std::io::ErrorKind::UnexpectedEof,
            _ => false,
        };
        if is_damage && !self.is_disowned.swap(true, Ordering::AcqRel) {
            tracing::error!(%error, "the index is damaged");
            let _one_at_a_time = self.list.lock().unwrap_or_else(PoisonError::into_inner);
            list::disown(&self.folder);
        }
    }

    fn new_number(&self) -> u64 {
        let mut work = self.work();
        let number = work.next_number;
        work.next_number = number.saturating_add(1);
        number
    }

    /// Replaces the runs that count, on disk first. `written` is in one of them from now on.
    fn replace(
        &self,
        written: Option<&Arc<Memory>>,
        change: impl FnOnce(&mut Vec<Counted>),
    ) -> Result<(), StoreError> {
        let _one_at_a_time = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let mut runs = self.view().runs.clone();
        change(&mut runs);
        if !self.is_disowned.load(Ordering::Acquire) {
            let listed: Vec<_> = runs.iter().map(|(listed, _)| *listed).collect();
            list::write(&self.folder, &listed)?;
        }
        let _work = self.work();
        let mut view = View::clone(&self.view());
        view.runs = runs;
        view.waiting
            .retain(|memory| !written.is_some_and(|written| Arc::ptr_eq(memory, written)));
        self.show(view);
        self.changed.notify_all();
        Ok(())
    }

    /// Makes a run of rows in memory.
    fn write_memory(&self, memory: &Arc<Memory>) -> Result<(), StoreError> {
        let number = self.new_number();
        let mut writer = Writer::new(&self.folder, number, memory.rows())?;
        let cursor = memory::Cursor::new(memory.clone(), &[], None);
        let merged = Merged::new(vec![Source::Memory(cursor)]);
        let run = match merge::write(merged, &mut writer, false, || true) {
            Ok(_) => writer.finish()?,
            Err(error) => {
                writer.discard();
                return Err(error);
            }
        };
        let listed = Listed { number, level: 0 };
        self.replace(Some(memory), |runs| runs.insert(0, (listed, Arc::new(run))))
    }

    /// Makes one run of several neighbours; false where the index is being closed.
    fn merge(&self, inputs: &[Counted], is_oldest: bool, level: u32) -> Result<bool, StoreError> {
        let number = self.new_number();
        let runs: Vec<_> = inputs.iter().map(|(_, run)| run.clone()).collect();
        let rows = runs.iter().map(|run| run.rows()).sum();
        let mut writer = Writer::new(&self.folder, number, rows)?;
        let written = merge::sources(&runs).and_then(|sources| {
            let merged = Merged::new(sources);
            merge::write(merged, &mut writer, is_oldest, || !self.is_stopping())
        });
        let run = match written {
            Ok(true) => writer.finish()?,
            Ok(false) => {
                writer.discard();
                return Ok(false);
            }
            Err(error) => {
                writer.discard();
                return Err(error);
            }
        };
        let is_input = |run: &Counted| inputs.iter().any(|(input, _)| input.number == run.0.number);
        self.replace(None, |runs| {
            // Newer ones may have come before them meanwhile.
            let at = runs.iter().position(is_input).unwrap_or(runs.len());
            runs.retain(|run| !is_input(run));
            runs.insert(at, (Listed { number, level }, Arc::new(run)));
        })?;
        for (listed, _) in inputs {
            if let Err(error) = run::remove(&self.folder, listed.number) {
                tracing::warn!(kind = ?error.kind(), "an old file of the index stays until the next start");
            }
        }
        Ok(true)
    }
}

/// The thread that makes runs of what was handed out, oldest first.
fn write_out(shared: &Shared) {
    loop {
        let memory = {
            let mut work = shared.work();
            loop {
                if shared.is_stopping() {
                    return;
                }
                match shared.view().waiting.last() {
                    Some(memory) => break memory.clone(),
                    None => work = shared.wait(work),
                }
            }
        };
        let written = shared.write_memory(&memory);
        shared.report(written.err(), |work| &mut work.writing_failed);
    }
}

/// The thread that merges.
fn merge_runs(shared: &Shared) {
    loop {
        let (inputs, is_oldest, level, compaction) = {
            let mut work = shared.work();
            loop {
                if shared.is_stopping() {
                    return;
                }
                let runs = &shared.view().runs;
                if work.compactions_asked > work.compactions_done {
                    let level = runs.iter().map(|(listed, _)| listed.level).max();
                    let asked = work.compactions_asked;
                    break (runs.clone(), true, level.unwrap_or(0), Some(asked));
                }
                let listed: Vec<_> = runs.iter().map(|(listed, _)| *listed).collect();
                if let Some((range, level)) = merge::due(&listed) {
                    let is_oldest = range.end == runs.len();
                    let inputs = runs.get(range).unwrap_or_default().to_vec();
                    break (inputs, is_oldest, level, None);
                }
                work = shared.wait(work);
            }
        };
        let merged = match inputs.is_empty() {
            true => Ok(true),
            false => shared.merge(&inputs, is_oldest, level),
        };
        if let (Ok(true), Some(asked)) = (&merged, compaction) {
            shared.work().compactions_done = asked;
            shared.changed.notify_all();
        }
        let error = merged.err();
        if let Some(error) = &error {
            shared.note_damage(error);
        }
        shared.report(error, |work| &mut work.merging_failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each batch fills the memory by itself.
    const MEMORY: usize = 100;
    const BATCHES: u32 = 12;

    fn batch(n: u32) -> Batch {
        vec![(n.to_be_bytes().to_vec(), Some(vec![7; MEMORY]))]
    }

    fn holds(index: &RunsIndex, n: u32) -> bool {
        index.get(&n.to_be_bytes()).unwrap().is_some()
    }

    #[test]
    fn whoever_writes_waits_for_files_that_come_slower_than_rows() {
        let folder = tempfile::tempdir().unwrap();
        let index = RunsIndex::with_memory(folder.path(), MEMORY).unwrap();
        std::thread::scope(|scope| {
            // No file counts before it is on the list.
            let list = index.shared.list.lock().unwrap();
            let writing = scope.spawn(|| (0..BATCHES).for_each(|n| index.apply(batch(n)).unwrap()));
            let is_on_its_way = || {
                let view = index.shared.view();
                let is_full = view.waiting.len() >= WAITING && !view.newest.is_empty();
                !is_full && !writing.is_finished()
            };
            while is_on_its_way() {
                std::thread::yield_now();
            }
            for _ in 0..100 {
                assert!(!writing.is_finished(), "nothing held it back");
                assert!(index.shared.view().waiting.len() <= WAITING);
                std::thread::sleep(Duration::from_millis(1));
            }
            drop(list);
        });
        assert!((0..BATCHES).all(|n| holds(&index, n)));
    }

    /// The retention's thread asks for them while the writer is between two steps.
    #[test]
    fn rows_that_were_handed_out_take_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let index = RunsIndex::with_memory(folder.path(), usize::MAX).unwrap();
        index.apply(batch(0)).unwrap();
        let newest = index.shared.view().newest.clone();
        index.sync().unwrap();
        assert_eq!(newest.apply(batch(1)), Err(batch(1)));
        index.apply(batch(1)).unwrap();
        index.sync().unwrap();
        assert!(holds(&index, 0) && holds(&index, 1));
    }

    #[test]
    fn whoever_writes_does_not_wait_for_a_disk_that_takes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let index = RunsIndex::with_memory(folder.path(), MEMORY).unwrap();
        std::fs::remove_dir_all(folder.path()).unwrap();
        (0..BATCHES).for_each(|n| index.apply(batch(n)).unwrap());
        assert!(index.sync().is_err());
        assert!((0..BATCHES).all(|n| holds(&index, n)));
        std::fs::create_dir(folder.path()).unwrap();
        // It tries again by itself, and then everything is there.
        let mut work = index.shared.work();
        while !index.shared.view().waiting.is_empty() {
            work = index.shared.wait(work);
        }
        drop(work);
        drop(index);
        let index = RunsIndex::with_memory(folder.path(), MEMORY).unwrap();
        assert!((0..BATCHES).all(|n| holds(&index, n)));
    }
}
