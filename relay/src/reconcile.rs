//! Set reconciliation (NIP-77): a client learns which of a filter's events it lacks, without being
//! sent the ids of those it has.
//!
//! The set is what REQ would show to the same client at that moment, by the same query and so the
//! same read predicate. The index holds keyed hashes, and negentropy compares true ids, so every
//! event is read once when a reconciliation opens: a page at a time, of which 40 bytes an event
//! stay. Each is a task of its own; the work is done on threads that may block.

use std::sync::Arc;
use std::time::Duration;

use negentropy::{Id, Negentropy, NegentropyStorageVector};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};
use wire::{EventId, Filter, OkMessage, PublicKey, Reason, RelayFrame, SubscriptionId, limits};

use crate::config::Limits;
use crate::history::History;
use crate::outbox::Outbox;
use crate::store::{StoreError, Stored};
use crate::turns::Share;

/// What every reconciliation shares.
#[derive(Debug)]
pub struct Reconciliations {
    history: History,
    /// One permit for each event in a set.
    held: Arc<Semaphore>,
}

/// A reconciliation that somebody opens.
#[derive(Debug)]
pub struct Opening {
    /// Its name.
    pub id: SubscriptionId,
    /// Which events; `limit` counts as in REQ.
    pub filter: Filter,
    /// The client's first message.
    pub message: Vec<u8>,
    /// The keys that the client has authenticated.
    pub auth: Arc<[PublicKey]>,
    /// The most events that it may compare.
    pub most: usize,
    /// How long it waits for the client's next message.
    pub idle: Duration,
    /// Where the answers go.
    pub outbox: Arc<Outbox>,
    /// What the client has used of the readers' time.
    pub share: Arc<Share>,
    /// Ends it early.
    pub stop: CancellationToken,
}

/// A reconciliation under way; it ends when this is dropped.
#[derive(Debug)]
pub struct Session {
    messages: mpsc::Sender<Vec<u8>>,
    _end: DropGuard,
}

impl Session {
    /// Whether it still waits for messages.
    pub fn is_open(&self) -> bool {
        !self.messages.is_closed()
    }

    /// Hands on the client's next message; whether there was room, as there always is for a
    /// client that waits for its answers.
    pub fn pass_on(&self, message: Vec<u8>) -> bool {
        self.messages.try_send(message).is_ok()
    }
}

impl Reconciliations {
    /// Reads through `history`; all sets together have at most as many events as `limits` allows.
    pub fn new(history: &History, limits: &Limits) -> Self {
        Self {
            history: history.clone(),
            // A semaphore counts no further, on any machine by far enough.
            held: Arc::new(Semaphore::new(
                limits.reconciled_altogether.min(Semaphore::MAX_PERMITS),
            )),
        }
    }

    /// Begins one. It answers each message with NEG-MSG, and ends with NEG-ERR where the client
    /// is silent for too long, breaks the protocol, or asks for too much.
    pub fn open(self: &Arc<Self>, opening: Opening) -> Session {
        let (sender, receiver) = mpsc::channel(1);
        let end = opening.stop.clone().drop_guard();
        tokio::spawn(self.clone().run(opening, receiver));
        Session {
            messages: sender,
            _end: end,
        }
    }

    async fn run(self: Arc<Self>, opening: Opening, mut messages: mpsc::Receiver<Vec<u8>>) {
        let (id, outbox) = (opening.id.clone(), opening.outbox.clone());
        let stop = opening.stop.clone();
        let ended = tokio::select! {
            ended = self.exchange(opening, &mut messages) => ended,
            () = stop.cancelled() => return,
        };
        // Before the client is told, so that it may open another in its place.
        messages.close();
        if let Err(refusal) = ended {
            outbox.push(RelayFrame::neg_err(&id, &refusal.text));
        }
    }

    /// Answers until nobody asks any more.
    async fn exchange(
        &self,
        opening: Opening,
        messages: &mut mpsc::Receiver<Vec<u8>>,
    ) -> Result<(), OkMessage> {
        let Opening {
            id,
            filter,
            mut message,
            auth,
            outbox,
            most,
            idle,
            share,
            ..
        } = opening;
        let history = self.history.clone().paid_by(share);
        // Read against an empty set first: garbage costs no search.
        EventSet::default().seal()?.answer(&message)?;
        let (set, _held) = self.collect(&history, filter, &auth, most).await?;
        let sealed = history.aside(move || set.seal()).await;
        let mut reconciler = sealed.map_err(|error| failed(&error))??;
        loop {
            let work = move || {
                let answer = reconciler.answer(&message);
                (reconciler, answer)
            };
            let worked = history.aside(work).await;
            let (back, answer) = worked.map_err(|error| failed(&error))?;
            reconciler = back;
            let answer = answer?;
            if !outbox.room().await {
                return Ok(());
            }
            outbox.push(RelayFrame::neg_msg(&id, &answer));
            message = match tokio::time::timeout(idle, messages.recv()).await {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(()),
                Err(_) => {
                    let text = "you took too long to respond";
                    return Err(OkMessage::new(Reason::Closed, text));
                }
            };
        }
    }

    /// The set, and its place among those of all connections.
    async fn collect(
        &self,
        history: &History,
        filter: Filter,
        auth: &[PublicKey],
        most: usize,
    ) -> Result<(EventSet, Option<OwnedSemaphorePermit>), OkMessage> {
        let mut set = EventSet::default();
        let mut held: Option<OwnedSemaphorePermit> = None;
        // One more than allowed, to see that it is too many.
        let history = history.clone().at_most(most.saturating_add(1));
        let mut reading = history.read(filter, auth, u64::MAX);
        let items = |events: Vec<Stored>| events.iter().map(Stored::item).collect::<Vec<_>>();
        while let Some(page) = reading.page(items).await.map_err(|error| failed(&error))? {
            let more = u32::try_from(page.len()).unwrap_or(u32::MAX);
            set.extend(page);
            if set.len() > most {
                return Err(too_many(most));
            }
            let Ok(permit) = self.held.clone().try_acquire_many_owned(more) else {
                let text = "too much is being reconciled, try again later";
                return Err(OkMessage::new(Reason::RateLimited, text));
            };
            match &mut held {
                Some(held) => held.merge(permit),
                None => held = Some(permit),
            }
        }
        Ok((set, held))
    }
}

/// The ids and times of events.
#[derive(Default)]
pub struct EventSet(Vec<(u64, Id)>);

impl EventSet {
    /// Adds events by their times and ids.
    pub fn extend(&mut self, events: impl IntoIterator<Item = (u64, EventId)>) {
        let items = events.into_iter();
        self.0
            .extend(items.map(|(at, id)| (at, Id::from_byte_array(*id.as_bytes()))));
    }

    /// How many were added.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sorts them, ready to be compared. Fails only where the library does.
    pub fn seal(self) -> Result<Reconciler, OkMessage> {
        let mut storage = NegentropyStorageVector::with_capacity(self.0.len());
        for (created_at, id) in self.0 {
            storage.insert(created_at, id).map_err(|_| broken())?;
        }
        storage.seal().map_err(|_| broken())?;
        Negentropy::owned(storage, limits::NEGENTROPY_BYTES as u64)
            .map(Reconciler)
            .map_err(|_| broken())
    }
}

/// The relay's side of one reconciliation. It keeps the set as it was at the beginning.
pub struct Reconciler(Negentropy<'static, NegentropyStorageVector>);

impl std::fmt::Debug for Reconciler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reconciler(..)")
    }
}

impl Reconciler {
    /// The answer to a message, at most [`limits::NEGENTROPY_BYTES`]; the refusal of one that is
    /// not negentropy. A message of a newer version is answered with ours, as its specification
    /// asks. Takes time in proportion to the set.
    pub fn answer(&mut self, message: &[u8]) -> Result<Vec<u8>, OkMessage> {
        let answer = self.0.reconcile(message);
        answer.map_err(|_| OkMessage::new(Reason::Invalid, "not a message of negentropy v1"))
    }
}

/// More events match than are reconciled.
pub(crate) fn too_many(most: usize) -> OkMessage {
    let text = format!("more than {most} events match");
    OkMessage::new(Reason::Blocked, &text)
}

fn failed(error: &StoreError) -> OkMessage {
    tracing::error!(%error, "a reconciliation failed");
    OkMessage::new(Reason::Error, error.for_client())
}

fn broken() -> OkMessage {
    OkMessage::new(Reason::Error, "the relay could not prepare the comparison")
}
