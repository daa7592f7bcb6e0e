//! Stored events for a new subscription: read in pages off the socket tasks, sent as fast as the
//! reader takes them, and stopped as soon as nobody wants them.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};
use wire::{EventId, Filter, OkMessage, PublicKey, Reason, RelayFrame, SubscriptionId};

use crate::config::Clock;
use crate::lanes::Lanes;
use crate::ledger::Account;
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::store::query::Page;
use crate::store::{EventStore, Query, StoreError, Stored};
use crate::turns::{Errand, Gate, Share};

/// What a search that is under way takes beside its events, about.
const SEARCH_BYTES: usize = 128 * 1024;
/// What it takes to know that an event was sent.
const SENT_BYTES: usize = 64;

/// What reading needs.
#[derive(Debug, Clone)]
pub struct History {
    /// Where events are.
    pub store: Arc<EventStore>,
    /// What time it is.
    pub clock: Clock,
    /// The most events that one filter returns.
    pub most: usize,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who reads a page next.
    pub readers: Arc<Gate>,
    /// Where.
    pub lanes: Arc<Lanes>,
    /// What the request has used of their time.
    pub errand: Arc<Errand>,
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
    /// Whose memory it takes.
    pub account: Arc<Account>,
    /// How many of one connection are answered at the same time.
    pub turns: Arc<Semaphore>,
}

impl History {
    /// The same, where one filter returns at most this many events.
    pub fn at_most(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// The same for a new request, at the expense of `share`.
    pub fn paid_by(self, share: Arc<Share>) -> Self {
        let errand = Errand::new(share);
        Self { errand, ..self }
    }

    /// Sends what is stored, then EOSE; or, where the store fails, CLOSED, after `end` has ended the
    /// subscription. It ends early when the other end of `stop` is dropped: the subscription was
    /// closed, or the connection.
    pub async fn send(
        self,
        request: Request,
        stop: oneshot::Receiver<Infallible>,
        end: impl FnOnce() + Send,
    ) {
        let outbox = request.outbox.clone();
        let id = request.id.clone();
        let finished = tokio::select! {
            finished = self.pages(request) => finished,
            _ = stop => return,
        };
        match finished {
            Ok(complete) => outbox.push(RelayFrame::eose(&id, complete)),
            Err(error) => {
                tracing::error!(%error, "a query failed");
                end();
                let text = OkMessage::new(Reason::Error, error.for_client()).text;
                outbox.push(RelayFrame::closed(&id, &text));
            }
        }
    }

    /// Sends the events; whether they were all (NIP-67).
    async fn pages(&self, request: Request) -> Result<Option<bool>, StoreError> {
        // Never closed.
        let _turn = request.turns.acquire().await;
        let mut held = request.account.hold(SEARCH_BYTES);
        // An event that several filters match is sent once.
        let mut sent = HashSet::new();
        let prefix: Arc<str> = RelayFrame::event_prefix(&request.id).into();
        let is_single = request.filters.len() == 1;
        let mut complete = Some(true);
        for filter in request.filters {
            let mut reading = self.read(filter, &request.auth, request.up_to_seq);
            let mut kept = request.account.hold(0);
            while let Some(page) = reading.page(framing(&prefix)).await? {
                let bytes = page.iter().map(|(_, frame)| frame.len()).sum();
                kept.resize(reading.kept_bytes());
                // Until the last of them is in the outbox, which counts by itself.
                let _page = request.account.hold(bytes);
                if !is_single {
                    held.grow(page.len() * SENT_BYTES);
                }
                self.metrics.delivered_stored.add(page.len());
                let fresh = page
                    .into_iter()
                    .filter(|(id, _)| is_single || sent.insert(*id));
                let frames = fresh.map(|(_, frame)| frame).collect();
                if !request.outbox.push_stored(frames).await {
                    return Ok(None);
                }
            }
            complete = all_complete(complete, reading.is_complete());
        }
        Ok(complete)
    }

    /// Begins to read what a filter finds for somebody who authenticated `auth`, of what was
    /// committed up to `up_to_seq`.
    pub(crate) fn read(&self, filter: Filter, auth: &[PublicKey], up_to_seq: u64) -> Reading<'_> {
        Reading {
            history: self,
            state: State::New(filter, auth.to_vec(), up_to_seq),
        }
    }

    /// Work for a thread that may block; only so many at a time.
    pub(crate) async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let failed = || StoreError::Index("a reader thread failed".to_owned());
        let pass = self.readers.enter(&self.errand).await;
        let is_urgent = pass.is_urgent;
        let work = move || pass.work(work);
        self.lanes
            .aside(is_urgent, work)
            .await
            .map_err(|_| failed())
    }
}

/// A filter's events being read.
pub(crate) struct Reading<'h> {
    history: &'h History,
    state: State,
}

enum State {
    New(Filter, Vec<PublicKey>, u64),
    /// In a box, so that the others are small.
    Further(Box<Query>),
    Ended(Option<bool>),
}

impl Reading<'_> {
    /// What `make` makes of the next events, newest first, on a thread that may block; none after
    /// the last.
    pub(crate) async fn page<T: Send + 'static>(
        &mut self,
        make: impl FnOnce(Vec<Stored>) -> T + Send + 'static,
    ) -> Result<Option<T>, StoreError> {
        // What fails has ended.
        let state = std::mem::replace(&mut self.state, State::Ended(None));
        if let State::Ended(complete) = state {
            self.state = State::Ended(complete);
            return Ok(None);
        }
        let History {
            store, clock, most, ..
        } = self.history.clone();
        let read = move || -> Result<(T, State), StoreError> {
            let mut query = match state {
                State::New(filter, auth, seq) => {
                    Box::new(Query::new(&store, filter, auth, seq, most)?)
                }
                State::Further(query) => query,
                State::Ended(complete) => return Ok((make(Vec::new()), State::Ended(complete))),
            };
            let Page { events, is_last } = query.page(&store, clock.now())?;
            let state = match is_last {
                true => State::Ended(query.is_complete()),
                false => State::Further(query),
            };
            Ok((make(events), state))
        };
        let (made, state) = self.history.aside(read).await??;
        self.state = state;
        Ok(Some(made))
    }

    /// See [`Query::kept_bytes`].
    fn kept_bytes(&self) -> usize {
        match &self.state {
            State::Further(query) => query.kept_bytes(),
            _ => 0,
        }
    }

    /// See [`Query::is_complete`].
    pub(crate) fn is_complete(&self) -> Option<bool> {
        match self.state {
            State::Ended(complete) => complete,
            _ => None,
        }
    }
}

/// Makes each event a frame where it was read, and drops it there: what an allocator keeps for
/// later then stays with the few threads that read.
fn framing(prefix: &Arc<str>) -> impl FnOnce(Vec<Stored>) -> Vec<(EventId, String)> + use<> {
    let prefix = prefix.clone();
    move |events| {
        let frame = |event: Stored| (event.id(), RelayFrame::event_after(&prefix, &event.json()));
        events.into_iter().map(frame).collect()
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
