//! Taking away what has no end: a transaction for each slice, and the caller between them.

use std::ops::Range;

use wire::{EventId, PublicKey, VerifiedEvent, kinds};

use super::{Outcome, SLICE, Transaction, Writer};
use crate::store::StoreError;
use crate::store::keys::{self, Hash};
use crate::store::record::Record;

/// Events that are looked at per transaction where very many go at once.
const ERASE_CHUNK: usize = 1_000;

impl Writer {
    /// Erases the first of these events, whoever wrote them, as far as one slice goes; how many ids
    /// that did away with, and how many of them were here.
    pub fn erase_some(&mut self, ids: &[EventId], now: u64) -> Result<(usize, usize), StoreError> {
        let mut transaction = self.begin(now)?;
        let (mut looked_at, mut count) = (0, 0);
        for id in ids.iter().take(ERASE_CHUNK) {
            let id = transaction.store.hasher().id(id);
            if transaction.rows.entry(&id)?.is_some() {
                count += 1;
                transaction.erase(&id)?;
            }
            looked_at += 1;
            if transaction.rows.len() >= SLICE {
                break;
            }
        }
        transaction.commit()?;
        Ok((looked_at, count))
    }

    /// Carries out a request to vanish (NIP-62), `budget` rows of it: what its author wrote up to
    /// its time goes, and the wraps stored for them. Those stay away by id until their window ends.
    /// From the first slice on nothing that is to go is taken any more.
    ///
    /// Durable when it returns. A crash in the middle leaves some of it done, and the request,
    /// not acknowledged, is sent again.
    pub fn vanish(
        &mut self,
        request: &VerifiedEvent,
        budget: usize,
        now: u64,
    ) -> Result<Outcome, StoreError> {
        let author = request.pubkey();
        let up_to = request.created_at();
        let hash = self.store.hasher().author(&author);
        let row = keys::vanished(&hash);
        let before = self.store.index().get(&row)?;
        let before = before.map(|value| keys::take(&mut value.as_slice()).map(u64::from_be_bytes));
        if before.transpose()?.is_some_and(|before| before >= up_to) {
            return Ok(Outcome::Duplicate);
        }
        let begun = self.vanishing.get(&(hash, up_to)).cloned();
        let is_begun = begun.is_some();
        let left = begun.unwrap_or_else(|| self.reach_of(&author, up_to));
        // While it goes on the author's events are refused, and if it fails they are not.
        let outcome = self.vanish_on(&author, up_to, left, is_begun, budget, now);
        match &outcome {
            Ok(Some(left)) => {
                self.vanishing.insert((hash, up_to), left.clone());
                return Ok(Outcome::Unfinished);
            }
            _ => self.vanishing.remove(&(hash, up_to)),
        };
        outcome.map(|_| Outcome::CarriedOut)
    }

    /// The rows of all that goes with an author.
    fn reach_of(&self, author: &PublicKey, up_to: u64) -> [Range<Vec<u8>>; 2] {
        let hasher = self.store.hasher();
        let wraps = keys::by_recipient(&hasher.recipient(author));
        let written = keys::by_author(&hasher.author(author));
        let ends = [keys::end_of(&wraps), keys::end_of(&written)];
        // Newest first in the index: what is newer than the request stays.
        let begins = [wraps, keys::at(written, up_to, &Hash::default())];
        let [of_wraps, of_written] = begins;
        let [wraps_end, written_end] = ends;
        [of_wraps..wraps_end, of_written..written_end]
    }

    /// The next slice; what is left then, or none where nothing is and the request is remembered.
    fn vanish_on(
        &mut self,
        author: &PublicKey,
        up_to: u64,
        mut left: [Range<Vec<u8>>; 2],
        is_begun: bool,
        budget: usize,
        now: u64,
    ) -> Result<Option<[Range<Vec<u8>>; 2]>, StoreError> {
        let mut transaction = self.begin(now)?;
        let mut had_something = is_begun;
        for range in &mut left {
            let found = transaction
                .rows
                .keys(&range.start, &range.end, ERASE_CHUNK)?;
            had_something |= !found.is_empty();
            for key in &found {
                if transaction.rows.len() >= budget {
                    transaction.commit()?;
                    return Ok(Some(left));
                }
                if let Some((_, id)) = keys::split_at(key, 1 + size_of::<Hash>()) {
                    transaction.vanish_one(&id, author)?;
                }
                range.start = [key.as_slice(), &[0]].concat();
            }
            if found.len() == ERASE_CHUNK {
                transaction.commit()?;
                return Ok(Some(left));
            }
        }
        // The reserve is for taking things away. Keys that have nothing here are without end.
        if !had_something && !transaction.has_room {
            return Err(StoreError::DiskFull);
        }
        let hash = transaction.store.hasher().author(author);
        let record = Record::Vanish {
            author: hash,
            up_to,
        };
        transaction.staged.push(&record)?;
        transaction
            .rows
            .put(keys::vanished(&hash), up_to.to_be_bytes().to_vec());
        transaction.commit()?;
        Ok(None)
    }

    /// Erases what has expired at `now`, and forgets deletions that are no longer needed, as far
    /// as one slice goes. How many events went; none where nothing is left that has expired.
    pub fn sweep(&mut self, now: u64) -> Result<usize, StoreError> {
        let mut transaction = self.begin(now)?;
        let to = keys::expiry(now.saturating_add(1), &Hash::default());
        let mut count = 0;
        for key in transaction.rows.keys(b"X", &to, ERASE_CHUNK)? {
            if let Some((_, id)) = keys::split_at(&key, 1) {
                transaction.erase(&id)?;
            }
            transaction.rows.remove(key);
            count += 1;
            if transaction.rows.len() >= SLICE {
                break;
            }
        }
        let to = keys::deletion_end(now.saturating_add(1), &Hash::default());
        for key in transaction.rows.keys(b"Y", &to, ERASE_CHUNK)? {
            if let Some((_, deletion)) = keys::split_at(&key, 1) {
                let deletion = keys::deletion(&deletion);
                // It may have been asked for again since, for longer.
                let until = transaction.rows.number(&deletion)?;
                if until.is_some_and(|until| until <= now) {
                    transaction.rows.remove(deletion);
                }
            }
            transaction.rows.remove(key);
        }
        transaction.commit()?;
        Ok(count)
    }
}

impl Transaction<'_> {
    /// One event that goes because `author` vanished.
    fn vanish_one(&mut self, id: &Hash, author: &PublicKey) -> Result<(), StoreError> {
        if let Some((_, event)) = self.find(id)?
            && kinds::is_wrap(event.kind())
        {
            let until = self.rules.wrap_window_end(self.now).unwrap_or(u64::MAX);
            self.remember(&event.id(), author, until)?;
        }
        self.erase(id)
    }
}
