//! Bringing log and index together again while the relay runs, after one of them failed: a disk that
//! was full has room again, or the index's files are damaged and are built anew. Nobody has to
//! restart anything for it.

use wire::Event;

use super::log::free_bytes;
use super::reopenable::Reopenable;
use super::replay::{self, IndexHome, Known, Replayed, Source};
use super::{EventStore, StoreError, Writer};

/// Bytes that have to be free for an engine to be opened: it may write its memory out first.
const ROOM: u64 = 32 * 1024 * 1024;

/// What an attempt at mending came to.
#[derive(Debug)]
pub enum Mended {
    /// There is no room for it. Nothing was touched, and reads go on as far as the engine lets them.
    NoRoom,
    /// Somebody uses the index for long, as its own compaction does. Nothing was touched.
    InUse,
    /// Log and index are one again. The senders of these events were told that they failed, and
    /// nobody else was told of them: they are to be passed on, each with its sequence number.
    Whole(Vec<(Event, u64)>),
}

impl EventStore {
    /// Why nothing can be written although the log could be.
    pub(super) fn why_broken(&self) -> StoreError {
        match self.has_room_to_mend() {
            true => StoreError::Index("it missed an earlier batch".to_owned()),
            false => StoreError::DiskFull,
        }
    }

    fn has_room_to_mend(&self) -> bool {
        let files = self.home.as_ref().map(IndexHome::files);
        let free = files.and_then(|files| free_bytes(&files));
        // What is built anew takes the place of what was there.
        self.index.is_damaged() || free.is_none_or(|free| free >= ROOM)
    }
}

#[cfg(test)]
impl EventStore {
    /// As a failure leaves it that a mending could not end.
    pub(crate) fn lose_index(&self) {
        self.index.note();
        assert!(self.index.take_away());
    }
}

impl Writer {
    /// Whether log and index have to be brought together again.
    pub fn needs_mending(&self) -> bool {
        self.store().untold_from().is_some()
    }

    /// Reads from the log what the index missed, and before that opens it again if it has failed:
    /// then reads fail meanwhile. Blocks, as long as a start takes.
    ///
    /// After an error there may be no index to read from until an attempt succeeds.
    pub fn mend(&mut self) -> Result<Mended, StoreError> {
        let store = self.store().clone();
        let (Some(untold_from), Some(home), Some(log)) =
            (store.untold_from(), &store.home, store.log())
        else {
            return Ok(Mended::Whole(Vec::new()));
        };
        let source = Source {
            log,
            hasher: store.hasher(),
            damage: &store.damage,
        };
        let known = Known {
            seq: self.seq(),
            untold_from,
        };
        let mut warnings = Vec::new();
        let replayed = if store.index.has_failed() {
            if !store.has_room_to_mend() {
                return Ok(Mended::NoRoom);
            }
            if !store.index.take_away() {
                return Ok(Mended::InUse);
            }
            let reopened = reopen(&store.index, home, source, known, &mut warnings);
            reopened.inspect_err(|error| store.index.note_read(error))
        } else {
            source.catch_up_in_use(&store.index, known, &mut warnings)
        };
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let Replayed { seq, mut untold } = replayed?;
        self.go_on_from(seq);
        store.made_whole();
        // Not what the same batch took away again, nor what was banned since.
        untold.retain(|(event, _)| {
            let id = event.id();
            store.contains(&id).unwrap_or_default() && !self.roster().bans_event(&id)
        });
        Ok(Mended::Whole(untold))
    }
}

fn reopen(
    index: &Reopenable,
    home: &IndexHome,
    source: Source<'_>,
    known: Known,
    warnings: &mut Vec<String>,
) -> Result<Replayed, StoreError> {
    let behind = match index.is_damaged() {
        true => {
            warnings.push("the index was damaged and is built anew from the log".to_owned());
            replay::build_anew(home, source.log)?
        }
        false => replay::open_index(home, source.log, source.damage, true, warnings)?,
    };
    let replayed = behind.catch_up(source, Some(known), warnings);
    // One that knows all but the last is better than none; of one that is half built nobody could
    // tell what it misses.
    if replayed.is_ok() || !behind.is_anew {
        index.put_back(behind.index);
    }
    replayed
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;
    use crate::config::IndexEngine;
    use crate::policy::Rules;
    use crate::signed::note;
    use crate::store::recovery::{self, DiskOptions};

    fn put(writer: &mut Writer, content: &str) -> Event {
        let note = note(content);
        let mut transaction = writer.begin(1).unwrap();
        transaction.put(&note).unwrap();
        transaction.commit().unwrap();
        Event::clone(&note)
    }

    /// An attempt that failed behind its last batch leaves an index that knows all, and nobody who
    /// was told.
    #[test]
    fn r_full_6_what_an_attempt_that_failed_had_found_is_told_by_the_next() {
        for engine in IndexEngine::ON_DISK {
            for has_failed in [false, true] {
                let folder = tempfile::tempdir().unwrap();
                let options = DiskOptions {
                    folder: folder.path(),
                    index: engine,
                    segment_bytes: 1 << 20,
                    reserve_bytes: 0,
                };
                let mut opened = recovery::open(&options, Rules::default()).unwrap();
                let writer = &mut opened.writer;
                put(writer, "told");
                let (segment, offset) = opened.store.log().unwrap().end();
                let untold = put(writer, "untold");
                writer.go_on_from(1);
                opened.store.break_off(segment, offset);
                if has_failed {
                    opened.store.index.note();
                }
                assert!(writer.begin(1).is_err() && writer.needs_mending());
                let mended = writer.mend().unwrap();
                let Mended::Whole(told) = mended else {
                    panic!("{engine:?}: {mended:?}");
                };
                assert_eq!(told, [(untold, 2)], "{engine:?}");
                assert_eq!(writer.seq(), 2);
                assert!(!writer.needs_mending());
                put(writer, "later");
                assert_eq!(writer.seq(), 3);
            }
        }
    }

    /// Its threads meet the damage before anybody reads.
    #[test]
    fn r_crash_15_damage_that_merging_meets_is_mended_before_anybody_reads() {
        let folder = tempfile::tempdir().unwrap();
        let options = DiskOptions {
            folder: folder.path(),
            index: IndexEngine::Runs,
            segment_bytes: 1 << 20,
            reserve_bytes: 0,
        };
        let mut opened = recovery::open(&options, Rules::default()).unwrap();
        let writer = &mut opened.writer;
        let stored = put(writer, "stored");
        opened.store.compact_index().unwrap();
        for entry in std::fs::read_dir(folder.path().join("index")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "run") {
                let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
                file.write_all_at(&[0x55; 16], 16).unwrap();
            }
        }
        assert!(!writer.needs_mending());
        assert!(opened.store.compact_index().is_err());
        assert!(writer.needs_mending());
        let mended = writer.mend().unwrap();
        assert!(
            matches!(&mended, Mended::Whole(told) if told.is_empty()),
            "{mended:?}"
        );
        assert!(opened.store.contains(&stored.id()).unwrap());
        assert!(!writer.needs_mending());
        opened.store.compact_index().unwrap();
    }
}
