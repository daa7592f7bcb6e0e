//! Bringing log and index together again while the relay runs, after the index failed: a disk that
//! was full has room again, or the index's files are damaged and are built anew. Nobody has to
//! restart anything for it.

use wire::Event;

use super::log::free_bytes;
use super::replay::{self, IndexHome, Known};
use super::{EventStore, StoreError, Writer};

/// Bytes that have to be free for an engine to be opened: it may write its memory out first.
const ROOM: u64 = 32 * 1024 * 1024;

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
        self.has_room() && free.is_none_or(|free| free >= ROOM)
    }
}

impl Writer {
    /// Whether log and index have to be brought together again.
    pub fn needs_mending(&self) -> bool {
        self.store().untold_from().is_some()
    }

    /// Opens the index again and reads from the log what it missed. The senders of that were told
    /// that it failed, and nobody else was told of it: what comes back is to be passed on, each
    /// event with its sequence number. Reads fail meanwhile. Blocks, as long as a start takes.
    ///
    /// Without room for it nothing is touched, and reads go on as far as the engine lets them.
    /// After any other error there may be no index to read from until an attempt succeeds.
    pub fn mend(&mut self) -> Result<Vec<(Event, u64)>, StoreError> {
        let store = self.store().clone();
        let (Some(untold_from), Some(home), Some(log)) =
            (store.untold_from(), &store.home, store.log())
        else {
            return Ok(Vec::new());
        };
        if !store.has_room_to_mend() {
            return Err(StoreError::DiskFull);
        }
        if !store.index.take_away() {
            return Err(StoreError::Index("somebody still reads it".to_owned()));
        }
        let known = Known {
            seq: self.seq(),
            untold_from,
            is_index_damaged: store.index.is_damaged(),
        };
        let mut warnings = Vec::new();
        let (hasher, damage) = (store.hasher(), &store.damage);
        let now_up = replay::bring_up(home, log, hasher, damage, Some(known), &mut warnings)?;
        store.index.put_back(now_up.index);
        self.go_on_from(now_up.seq);
        store.made_whole();
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let mut untold = now_up.untold;
        // Not what the same batch took away again.
        untold.retain(|(event, _)| store.contains(&event.id()).unwrap_or_default());
        Ok(untold)
    }
}
