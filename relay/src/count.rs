//! How many stored events match (NIP-45). Counted is what REQ would show to the same client, by
//! the same query and so the same read predicate; nothing is estimated.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use wire::{Filter, OkMessage, PublicKey, Reason, RelayFrame, SubscriptionId};

use crate::history::History;
use crate::outbox::Outbox;
use crate::store::{StoreError, Stored};

/// A count that somebody asked for.
#[derive(Debug)]
pub struct Count {
    /// Its name.
    pub id: SubscriptionId,
    /// An event counts once, however many of these it matches; their `limit` plays no part.
    pub filters: Vec<Filter>,
    /// The keys that the client has authenticated.
    pub auth: Arc<[PublicKey]>,
    /// Where the answer goes.
    pub outbox: Arc<Outbox>,
    /// Ends it early.
    pub stop: CancellationToken,
}

impl Count {
    /// Counts, at most up to `most`, and answers with COUNT or, where more match, CLOSED. Holds
    /// one page of events at a time. Its `place` among the counts at work is free before anybody
    /// hears the answer, so that the next one finds it.
    pub async fn answer(self, history: History, most: usize, place: OwnedSemaphorePermit) {
        let counted = tokio::select! {
            counted = self.count(&history, most) => counted,
            () = self.stop.cancelled() => return,
        };
        drop(place);
        self.outbox.push(match counted {
            Ok(count) => answer(&self.id, count, most),
            Err(error) => {
                tracing::error!(%error, "a count failed");
                let text = OkMessage::new(Reason::Error, error.for_client()).text;
                RelayFrame::closed(&self.id, &text)
            }
        });
    }

    async fn count(&self, history: &History, most: usize) -> Result<usize, StoreError> {
        // One more than counts, to see that it is too many.
        let history = history.clone().at_most(most.saturating_add(1));
        let mut count = 0_usize;
        for (earlier, filter) in unlimited(&self.filters) {
            let mut reading = history.read(filter, &self.auth, u64::MAX);
            let earlier: Arc<[Filter]> = earlier.into();
            // Where they were read, and at the same expense: to look at them again takes longer.
            let found = || {
                let earlier = earlier.clone();
                move |events: Vec<Stored>| first_found(&events, &earlier)
            };
            while let Some(found) = reading.page(found()).await? {
                count = count.saturating_add(found);
                if count > most {
                    return Ok(count);
                }
            }
        }
        Ok(count)
    }
}

/// Each filter without its `limit`, with those before it.
pub(crate) fn unlimited(filters: &[Filter]) -> impl Iterator<Item = (&[Filter], Filter)> {
    filters.iter().enumerate().map(|(index, filter)| {
        let earlier = filters.get(..index).unwrap_or_default();
        let filter = Filter {
            limit: None,
            ..filter.clone()
        };
        (earlier, filter)
    })
}

/// How many of the events no earlier filter found.
pub(crate) fn first_found(events: &[Stored], earlier: &[Filter]) -> usize {
    let is_new = |stored: &&Stored| {
        earlier.is_empty()
            || stored
                .event()
                .is_none_or(|event| !earlier.iter().any(|filter| filter.matches(&event)))
    };
    events.iter().filter(is_new).count()
}

/// COUNT, or CLOSED where `count` is beyond `most`.
pub(crate) fn answer(id: &SubscriptionId, count: usize, most: usize) -> String {
    match u64::try_from(count) {
        Ok(exact) if count <= most => RelayFrame::count(id, exact, false),
        _ => {
            let text = format!("more than {most} events match");
            RelayFrame::closed(id, &OkMessage::new(Reason::Blocked, &text).text)
        }
    }
}
