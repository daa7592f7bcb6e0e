//! Events on their way in: checked on worker threads, written by one thread in batches.
//!
//! ```text
//! connection --Job--> checkers (verify, policy) --> writer (commit) --> fan-out, then OK
//! ```
//!
//! The writer takes everything that has queued while it was busy, so batches grow with the load
//! and a lone event waits for nothing. What has no end (a deletion of very much, a request to
//! vanish, all that expired in one second) it does a slice at a time, between batches.

mod chores;
mod mending;
mod unfinished;
mod weight;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use wire::{Event, EventId, OkMessage, PublicKey, Reason, RelayFrame, VerifiedEvent};

use crate::lanes;
use crate::ledger::Held;
use crate::live::{Crowd, Live};
use crate::metrics::{self, Metrics};
use crate::outbox::Outbox;
use crate::pipeline;
use crate::policy::{self, Refusal, Verdict};
use crate::settings::{InForce, Settings};
use crate::store::transaction::SLICE;
use crate::store::{StoreError, Writer};
use crate::turns::{Line, Share};
use chores::{Chore, Chores};
use mending::Mending;
use unfinished::Unfinished;
use weight::FIRST_SLICE;

/// Events that are being checked or wait for the writer at most, about, each as often as it weighs.
/// Beyond that no more are taken: until then events wait in fair order, and afterwards all in one
/// queue.
const AHEAD: usize = 1_024;
/// Events that a checker takes from the queue at once, by weight.
const CHECK_BATCH: usize = 16;
/// What a signature takes to check, in microseconds, and what each KiB of the event adds.
const CHECK_COST: (u64, u64) = (30, 3);
/// What each further weight adds for the writer, in microseconds.
const WRITE_COST: u64 = 8;
/// What a slice takes, in microseconds.
const SLICE_COST: u64 = SLICE as u64 * 4;

/// One event to check.
#[derive(Debug)]
pub struct Job {
    /// The event as it came.
    pub event: Event,
    /// The keys that its sender has authenticated.
    pub auth: Arc<[PublicKey]>,
    /// What its sender has used of the checkers' time.
    pub share: Arc<Share>,
    /// Where the answer goes.
    pub purpose: Purpose,
}

/// What an event was sent for.
#[derive(Debug)]
pub enum Purpose {
    /// `EVENT`: to be stored or passed on.
    Publish {
        /// Of the sender.
        outbox: Arc<Outbox>,
        /// Its share of what may be in flight; given back once the answer is queued.
        permits: InFlight,
    },
    /// `AUTH`: to prove a key.
    Authenticate {
        /// The connection's own.
        challenge: Arc<str>,
        /// The key, or the text of the refusal.
        reply: oneshot::Sender<Result<PublicKey, String>>,
    },
}

/// An event's share of what its connection, and all connections together, may have in flight.
/// Given back when it is dropped.
#[derive(Debug)]
pub struct InFlight {
    /// Of its connection.
    pub _own: OwnedSemaphorePermit,
    /// Of all connections together; none for the first of its connection.
    pub _all: Option<OwnedSemaphorePermit>,
    /// On its connection's account.
    pub held: Held,
}

impl InFlight {
    /// What is left of it for an event that was answered and is still to be passed on to a crowd.
    fn answered(self) -> Self {
        Self { _all: None, ..self }
    }
}

/// An event that passed the checks.
struct Checked {
    event: VerifiedEvent,
    verdict: Verdict,
    sender: Sender,
}

/// Who waits for the answer.
struct Sender {
    share: Arc<Share>,
    outbox: Arc<Outbox>,
    permits: InFlight,
}

enum Command {
    /// What one checker had at once, and what it weighs.
    Write(Vec<Checked>, usize),
    Do(Chore),
}

/// The threads, and the way to them.
#[derive(Debug)]
pub struct Ingest {
    queue: Arc<Queue>,
    commands: Mutex<Option<mpsc::Sender<Command>>>,
    threads: Mutex<Vec<thread::JoinHandle<bool>>>,
}

impl Ingest {
    /// Starts one checker per core and the writer. `on_death` is called if the writer ends
    /// before [`Ingest::finish`]: then nothing can be stored any more.
    pub fn start(
        writer: Writer,
        live: Arc<Live>,
        settings: Arc<Settings>,
        metrics: Arc<Metrics>,
        on_death: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let (commands, inbox) = mpsc::channel(AHEAD);
        let mut threads = Vec::new();
        let cores = thread::available_parallelism().map_or(2, usize::from);
        for _ in 0..cores {
            let (queue, commands, settings) = (queue.clone(), commands.clone(), settings.clone());
            let metrics = metrics.clone();
            let body = move || {
                lanes::step_between();
                while let Some((jobs, taken)) = queue.take() {
                    let in_force = settings.get();
                    let checked = jobs
                        .into_iter()
                        .filter_map(|job| check(job, &in_force, &metrics))
                        .collect::<Vec<_>>();
                    let weights = checked.iter().map(|checked| weight::of(&checked.event));
                    let weight = weights.sum();
                    queue.give_back(taken - weight);
                    // Together, so that the writer is woken once for them. Fails only while the
                    // relay stops; the events are then not acknowledged.
                    if !checked.is_empty() {
                        let _ = commands.blocking_send(Command::Write(checked, weight));
                    }
                }
                true
            };
            threads.push(
                thread::Builder::new()
                    .name("check".to_owned())
                    .spawn(body)?,
            );
        }
        let (to, store, clock) = (live.clone(), writer.store().clone(), settings.clock());
        let counted = metrics.clone();
        let body = move || {
            lanes::step_between();
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                to.serve_crowds(&store, &clock, &counted);
            }));
            if outcome.is_err() {
                tracing::error!("nothing more is passed on to crowds");
                to.close();
            }
            outcome.is_ok()
        };
        threads.push(
            thread::Builder::new()
                .name("pass on".to_owned())
                .spawn(body)?,
        );
        let writers_queue = queue.clone();
        let body = move || {
            // With the checkers: ahead of them it would be woken for each of their events, and its
            // batches would stay small however much there is to do.
            lanes::step_between();
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                write(writer, &live, &settings, &metrics, inbox, &writers_queue);
            }));
            live.close();
            writers_queue.abandon();
            if outcome.is_err() {
                tracing::error!("the writer failed; the relay stops");
                on_death();
            }
            outcome.is_ok()
        };
        threads.push(
            thread::Builder::new()
                .name("write".to_owned())
                .spawn(body)?,
        );
        Ok(Self {
            queue,
            commands: Mutex::new(Some(commands)),
            threads: Mutex::new(threads),
        })
    }

    /// Hands an event in.
    pub fn submit(&self, job: Job) {
        self.queue.push(job);
    }

    /// Erases what has expired and gives space back; how many events went.
    pub async fn maintain(&self) -> Result<usize, StoreError> {
        self.order(Chore::sweep).await
    }

    /// Erases these events; how many were here.
    pub async fn erase(&self, ids: Vec<EventId>) -> Result<usize, StoreError> {
        self.order(|reply| Chore::erase(ids, reply)).await
    }

    async fn order(&self, chore: impl FnOnce(chores::Reply) -> Chore) -> Result<usize, StoreError> {
        let (reply, answer) = oneshot::channel();
        let gone = || StoreError::Index("the writer has ended".to_owned());
        let commands = lock(&self.commands).clone();
        commands
            .ok_or_else(gone)?
            .send(Command::Do(chore(reply)))
            .await
            .map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Works off what is queued and ends the threads; whether all of them did well. Blocks.
    pub fn finish(&self) -> bool {
        self.queue.close();
        drop(lock(&self.commands).take());
        let threads = std::mem::take(&mut *lock(&self.threads));
        let mut is_whole = true;
        for thread in threads {
            is_whole &= thread.join().is_ok_and(|ended_well| ended_well);
        }
        is_whole
    }
}

/// Why an event was not taken: a name to count it by, and the words for its sender.
struct No(String, OkMessage);

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        Self(metrics::name_of(refusal), refusal.message())
    }
}

/// What is to be written of it; everything else is answered here.
fn check(job: Job, in_force: &InForce, metrics: &Metrics) -> Option<Checked> {
    let Job {
        event,
        auth,
        purpose,
        share,
    } = job;
    let id = event.id();
    let now = in_force.config.clock.now();
    // A bug in a library must cost one event, not the relay.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let event = VerifiedEvent::verify(event).map_err(|error| {
            No(
                "forged".to_owned(),
                OkMessage::new(Reason::Invalid, &error.to_string()),
            )
        })?;
        match &purpose {
            Purpose::Publish { .. } => policy::judge(&event, &auth, now, in_force.law())
                .map_err(No::from)
                .map(|verdict| Ok((event, verdict))),
            Purpose::Authenticate { challenge, .. } => {
                policy::check_auth(&event, challenge, now, in_force.law())
                    .map_err(No::from)
                    .map(Err)
            }
        }
    }));
    let outcome = outcome.unwrap_or_else(|_| {
        tracing::error!("an event could not be checked");
        Err(No(
            "check_failed".to_owned(),
            OkMessage::new(Reason::Error, "the relay failed"),
        ))
    });
    match (purpose, outcome) {
        (Purpose::Publish { outbox, permits }, Ok(Ok((event, verdict)))) => {
            return Some(Checked {
                event,
                verdict,
                sender: Sender {
                    share,
                    outbox,
                    permits,
                },
            });
        }
        (Purpose::Publish { outbox, permits }, Err(No(why, message))) => {
            metrics.refused.add(&why);
            outbox.push(RelayFrame::ok(&id, false, &message.text));
            drop(permits);
        }
        (Purpose::Authenticate { reply, .. }, Ok(Err(key))) => {
            metrics.auth_accepted.add(1);
            let _ = reply.send(Ok(key));
        }
        (Purpose::Authenticate { reply, .. }, Err(No(why, message))) => {
            metrics.auth_refused.add(&why);
            let _ = reply.send(Err(message.text));
        }
        // Each purpose makes its own kind of outcome above.
        (Purpose::Publish { .. }, Ok(Err(_))) | (Purpose::Authenticate { .. }, Ok(Ok(_))) => {}
    }
    None
}

/// The writer thread: all that has queued, one commit, the subscribers, then the answers; and
/// between that a slice of what takes longer.
fn write(
    mut writer: Writer,
    live: &Live,
    settings: &Settings,
    metrics: &Metrics,
    mut inbox: mpsc::Receiver<Command>,
    queue: &Queue,
) {
    let mut in_force = settings.get();
    let clock = settings.clock();
    let mut again = Unfinished::default();
    let mut chores = Chores::default();
    let mut mending = Mending::default();
    loop {
        let mut next = match again.is_empty() && chores.is_empty() {
            true => inbox.blocking_recv(),
            false => inbox.try_recv().ok(),
        };
        if next.is_none() && again.is_empty() && chores.is_empty() {
            return;
        }
        let mut batch = Vec::new();
        let mut weight = 0;
        while let Some(command) = next {
            match command {
                Command::Write(checked, of_these) => {
                    batch.extend(checked);
                    queue.give_back(of_these);
                    weight += of_these;
                }
                Command::Do(chore) => chores.add(chore),
            }
            next = match weight < AHEAD {
                true => inbox.try_recv().ok(),
                false => None,
            };
        }
        let latest = settings.get();
        if !Arc::ptr_eq(&latest, &in_force) {
            writer.follow(latest.config.rules.clone(), latest.roster.clone());
            in_force = latest;
        }
        mending.step(&mut writer, live, metrics, &clock);
        let first = commit(&mut writer, live, metrics, batch, FIRST_SLICE, clock.now());
        if let Some(next) = again.take() {
            // Paid as events are: whoever has much taken away is not modest.
            next.sender.share.charge(SLICE_COST);
            let next = commit(&mut writer, live, metrics, vec![next], SLICE, clock.now());
            next.into_iter().for_each(|next| again.put_back(next));
        }
        first.into_iter().for_each(|first| again.add(first));
        chores.step(&mut writer, metrics, clock.now());
    }
}

/// Writes these, passes on what is stored, and answers. What is not finished comes back.
fn commit(
    writer: &mut Writer,
    live: &Live,
    metrics: &Metrics,
    checked: Vec<Checked>,
    budget: usize,
    now: u64,
) -> Vec<Checked> {
    let mut unfinished = Vec::new();
    if checked.is_empty() {
        return unfinished;
    }
    let mut jobs = Vec::with_capacity(checked.len());
    let mut senders = Vec::with_capacity(checked.len());
    for Checked {
        event,
        verdict,
        sender,
    } in checked
    {
        jobs.push((event, verdict));
        senders.push(sender);
    }
    let begun = Instant::now();
    let answers = pipeline::write_some(writer, &jobs, budget, now);
    metrics.committed(answers.iter().map(Option::as_ref), begun.elapsed());
    let written = jobs.iter().zip(&answers);
    let written = written.map(|((event, _), answer)| {
        let seq = answer.as_ref().and_then(|answer| answer.deliver);
        (&**event, seq)
    });
    let crowds = live.pass_on(written, now, metrics);
    // After that: whoever asks after an OK, here or on another connection, finds the event
    // before EOSE, because a new subscription's history reaches up to it.
    let written = jobs.into_iter().zip(answers).zip(senders).zip(crowds);
    for ((((event, verdict), answer), sender), crowd) in written {
        let Some(answer) = answer else {
            unfinished.push(Checked {
                event,
                verdict,
                sender,
            });
            continue;
        };
        sender.outbox.push(RelayFrame::ok(
            &event.id(),
            answer.accepted,
            &answer.message,
        ));
        if let (Some(audience), Some(seq)) = (crowd, answer.deliver) {
            live.leave(Crowd {
                event,
                seq,
                audience,
                sender: sender.outbox,
                permits: sender.permits.answered(),
            });
        }
    }
    unfinished
}

/// Jobs for the checkers, in fair order. What it holds is bounded by the permits of the
/// connections.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<Waiting>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    /// With what each weighs.
    line: Line<(Job, usize)>,
    /// What was taken and has not reached the writer yet, by weight.
    ahead: usize,
    is_closed: bool,
    /// Nobody writes any more, and nobody is to wait for it.
    is_abandoned: bool,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.state)
    }

    fn push(&self, job: Job) {
        let kib = u64::try_from(job.event.json().len() / 1_024).unwrap_or(u64::MAX);
        let weight = weight::of(&job.event);
        let further = u64::try_from(weight - 1).unwrap_or(u64::MAX);
        let cost = CHECK_COST.0 + CHECK_COST.1 * kib + WRITE_COST.saturating_mul(further);
        let mut state = self.state();
        if !state.is_closed {
            let share = job.share.clone();
            state.line.join(&share, cost, true, (job, weight));
            self.filled.notify_one();
        }
    }

    /// The next jobs and what they weigh, once there is room for them ahead; none once the queue
    /// is closed and empty.
    fn take(&self) -> Option<(Vec<Job>, usize)> {
        let mut state = self.state();
        loop {
            let mut jobs = Vec::new();
            let mut weight = 0;
            while weight < CHECK_BATCH
                && (state.ahead + weight < AHEAD || state.is_abandoned)
                && let Some(((job, of_this), _)) = state.line.take()
            {
                jobs.push(job);
                weight += of_this;
            }
            if !jobs.is_empty() {
                state.ahead += weight;
                return Some((jobs, weight));
            }
            if state.is_closed && state.line.is_empty() {
                return None;
            }
            state = self
                .filled
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// So much has reached the writer, or never will.
    fn give_back(&self, weight: usize) {
        let mut state = self.state();
        let before = state.ahead;
        state.ahead = before.saturating_sub(weight);
        // Checkers that wait for room go on when there is much of it, and not for each few events.
        if before >= AHEAD / 2 && state.ahead < AHEAD / 2 {
            self.filled.notify_all();
        }
    }

    fn abandon(&self) {
        self.state().is_abandoned = true;
        self.filled.notify_all();
    }

    fn close(&self) {
        self.state().is_closed = true;
        self.filled.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
