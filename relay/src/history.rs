//! Stored events for a new subscription: read in pages off the socket tasks, sent as fast as the
//! reader takes them, and stopped as soon as nobody wants them.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wire::{Filter, OkMessage, PublicKey, Reason, RelayFrame, SubscriptionId};

use crate::config::Clock;
use crate::outbox::Outbox;
use crate::store::query::Page;
use crate::store::{EventStore, Query, StoreError};

/// What reading needs.
#[derive(Debug, Clone)]
pub struct History {
    /// Where events are.
    pub store: Arc<EventStore>,
    /// What time it is.
    pub clock: Clock,
    /// The most events that one filter returns.
    pub most: usize,
    /// How many pages are read at the same time.
    pub readers: Arc<Semaphore>,
}

/// A new subscription.
#[derive(Debug)]
pub struct Request {
    /// Its name.
    pub id: SubscriptionId,
    /// What it asks for.
    pub filters: Vec<Filter>,
    /// The keys that its holder has authenticated.
    pub auth: Arc<[PublicKey]>,
    /// Later events come live.
    pub up_to_seq: u64,
    /// Where the events go.
    pub outbox: Arc<Outbox>,
    /// Ends it early: the subscription was closed, or the connection.
    pub stop: CancellationToken,
}

impl History {
    /// Sends what is stored, then EOSE; or CLOSED where the store fails.
    pub async fn send(self, request: Request) {
        let outbox = request.outbox.clone();
        let id = request.id.clone();
        let stop = request.stop.clone();
        let finished = tokio::select! {
            finished = self.pages(request) => finished,
            () = stop.cancelled() => return,
        };
        match finished {
            Ok(complete) => outbox.push(RelayFrame::eose(&id, complete)),
            Err(error) => {
                tracing::error!(%error, "a query failed");
                let text = OkMessage::new(Reason::Error, error.for_client()).text;
                outbox.push(RelayFrame::closed(&id, &text));
            }
        }
    }

    /// Sends the events; whether they were all (NIP-67).
    async fn pages(&self, request: Request) -> Result<Option<bool>, StoreError> {
        // An event that several filters match is sent once.
        let mut sent = HashSet::new();
        let is_single = request.filters.len() == 1;
        let mut complete = Some(true);
        for filter in request.filters {
            let mut query = None;
            loop {
                let start = match query {
                    Some(query) => Start::Further(query),
                    None => Start::New(filter.clone(), request.auth.to_vec(), request.up_to_seq),
                };
                let (page, further) = self.page(start).await?;
                for event in page.events {
                    if is_single || sent.insert(event.id()) {
                        if !request.outbox.room().await {
                            return Ok(None);
                        }
                        let frame = RelayFrame::event(&request.id, event.json());
                        request.outbox.push(frame);
                    }
                }
                if page.is_last {
                    complete = all_complete(complete, further.is_complete());
                    break;
                }
                query = Some(further);
            }
        }
        Ok(complete)
    }

    /// One page, read on a thread that may block.
    async fn page(&self, start: Start) -> Result<(Page, Query), StoreError> {
        let failed = || StoreError::Index("a reader thread failed".to_owned());
        let permit = self.readers.clone().acquire_owned().await;
        let permit = permit.map_err(|_| failed())?;
        let Self {
            store, clock, most, ..
        } = self.clone();
        let read = move || {
            let _permit = permit;
            let mut query = match start {
                Start::New(filter, auth, seq) => Query::new(&store, filter, auth, seq, most)?,
                Start::Further(query) => query,
            };
            let page = query.page(&store, clock.now())?;
            Ok((page, query))
        };
        tokio::task::spawn_blocking(read)
            .await
            .unwrap_or_else(|_| Err(failed()))
    }
}

/// Of several filters: one that was cut makes the answer incomplete, and one that cannot be
/// told makes it unknown.
pub(crate) fn all_complete(one: Option<bool>, other: Option<bool>) -> Option<bool> {
    match (one, other) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

enum Start {
    New(Filter, Vec<PublicKey>, u64),
    Further(Query),
}
