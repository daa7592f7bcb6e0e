//! What a comparison found missing is fetched by id.
//!
//! The filter is that of every other reading of the inbox, with the ids besides: the relay named
//! them itself a moment ago, so it learns nothing by being asked for them. All of them are asked
//! for, also those that another relay has served in the meantime: else this relay could tell.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use wire::{EventId, RelayUrl};

use crate::engine::io::QueryEnd;
use crate::engine::machine::{Op, Turn};
use crate::engine::reconcile::Look;
use crate::error::Result;
use crate::store::Source;

/// Ids of one request: 13 KiB of filter, which fits the 16 KiB that the most careful relays take,
/// and fewer events than any known relay's limit.
const BATCH: usize = 200;

/// What one relay has that it has not served yet.
#[derive(Debug, Clone)]
pub(crate) struct Fetch {
    relay: RelayUrl,
    wanted: Arc<Vec<EventId>>,
    /// Where the batch that is being fetched ends.
    until: usize,
    /// Ids of earlier batches that did not come.
    lacking: usize,
    look: Look,
}

impl Fetch {
    pub fn relay(&self) -> &RelayUrl {
        &self.relay
    }

    fn batch(&self) -> &[EventId] {
        let from = self.until.saturating_sub(1) / BATCH * BATCH;
        self.wanted.get(from..self.until).unwrap_or_default()
    }
}

impl Turn<'_> {
    /// Fetches what a comparison found; nothing is the end.
    pub fn fetch(&mut self, relay: &RelayUrl, wanted: Vec<EventId>, look: Look) -> Result<()> {
        if wanted.is_empty() {
            return self.caught_up_with(relay, "caught up".to_owned());
        }
        self.ask_batch(Fetch {
            relay: relay.clone(),
            wanted: Arc::new(wanted),
            until: 0,
            lacking: 0,
            look,
        });
        Ok(())
    }

    fn ask_batch(&mut self, mut fetch: Fetch) {
        fetch.until = fetch.until.saturating_add(BATCH).min(fetch.wanted.len());
        let mut filter = self.inbox_filter().with_ids(fetch.batch().iter().copied());
        filter.limit = Some(fetch.batch().len());
        let relay = fetch.relay.clone();
        self.query_inbox(Op::Fetch(fetch), &relay, filter, false);
    }

    /// Some of them came.
    pub fn fetched(&mut self, fetch: &Fetch, events: &[Bytes]) -> Result<()> {
        self.receive(&fetch.relay, events, &BTreeSet::new())?;
        Ok(())
    }

    /// A batch has ended.
    pub fn fetch_ended(&mut self, mut fetch: Fetch, end: QueryEnd) -> Result<()> {
        match end {
            QueryEnd::Eose { .. } => {}
            // It shows its inbox by pages, perhaps.
            QueryEnd::Closed(message) => {
                return self.give_up_comparing(&fetch.relay, &message.text);
            }
            QueryEnd::Unreachable(why) | QueryEnd::Forbidden(why) => {
                self.report(&fetch.relay, false, why);
                return self.reading_over(&fetch.relay);
            }
        }
        let source = Source::of(self.tx, &self.own(), &fetch.relay)?;
        let mut lacking = 0_usize;
        for id in fetch.batch() {
            // A forged event is none: it was ignored, and is lacking still.
            lacking = lacking.saturating_add(usize::from(!source.has(self.tx, id)?));
        }
        fetch.lacking = fetch.lacking.saturating_add(lacking);
        let brings_nothing = lacking == fetch.batch().len();
        if fetch.until < fetch.wanted.len() && !brings_nothing {
            self.ask_batch(fetch);
            return Ok(());
        }
        match (fetch.lacking, fetch.look) {
            (0, _) => self.caught_up_with(&fetch.relay, "caught up".to_owned()),
            // Deleted or expired in between, perhaps.
            (_, Look::First) => self.reconcile(&fetch.relay, Look::Second),
            (_, Look::Second) => {
                let why = "it names envelopes that it does not hand out";
                self.give_up_comparing(&fetch.relay, why)
            }
        }
    }
}
