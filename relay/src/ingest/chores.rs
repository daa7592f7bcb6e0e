//! What the writer does beside events: a slice at a time, in turn, so that no event waits for all
//! of it.

use std::collections::VecDeque;

use tokio::sync::oneshot;
use wire::EventId;

use crate::metrics::Metrics;
use crate::store::compaction::Compacted;
use crate::store::{StoreError, Writer};

/// Slices of one sweep at most: then space is given back, whatever still expires.
const SWEEPS: usize = 200;

/// Where the number of events that went is told. Nobody waits any more where the relay is stopping.
pub type Reply = oneshot::Sender<Result<usize, StoreError>>;

/// One piece of work, and how far it has come.
pub struct Chore {
    what: What,
    /// Events that went so far.
    count: usize,
    reply: Reply,
}

enum What {
    /// What has expired, and then space is given back; so many slices were done.
    Sweep(usize),
    /// These, of which so many are done.
    Erase(Vec<EventId>, usize),
}

impl Chore {
    /// Erases what has expired, and gives space back.
    pub fn sweep(reply: Reply) -> Self {
        let what = What::Sweep(0);
        Self {
            what,
            count: 0,
            reply,
        }
    }

    /// Erases these events.
    pub fn erase(ids: Vec<EventId>, reply: Reply) -> Self {
        let what = What::Erase(ids, 0);
        Self {
            what,
            count: 0,
            reply,
        }
    }

    /// Does a slice; whether that was all.
    fn step(
        &mut self,
        writer: &mut Writer,
        metrics: &Metrics,
        now: u64,
    ) -> Result<bool, StoreError> {
        match &mut self.what {
            What::Sweep(slices) => {
                if *slices < SWEEPS {
                    *slices += 1;
                    let erased = writer.sweep(now)?;
                    metrics.expired.add(erased);
                    self.count += erased;
                    if erased > 0 {
                        return Ok(false);
                    }
                }
                // One segment a round, and what expires meanwhile goes before it.
                Ok(writer.compact_some(now, false)? != Compacted::Slice)
            }
            What::Erase(ids, done) => {
                let left = ids.get(*done..).unwrap_or_default();
                let (looked_at, erased) = writer.erase_some(left, now)?;
                *done += looked_at;
                self.count += erased;
                Ok(*done >= ids.len())
            }
        }
    }
}

/// What is to be done.
#[derive(Default)]
pub struct Chores(VecDeque<Chore>);

impl Chores {
    /// Adds one.
    pub fn add(&mut self, chore: Chore) {
        self.0.push_back(chore);
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Does a slice of the first, whose turn then comes last.
    pub fn step(&mut self, writer: &mut Writer, metrics: &Metrics, now: u64) {
        let Some(mut chore) = self.0.pop_front() else {
            return;
        };
        let outcome = match chore.step(writer, metrics, now) {
            Ok(false) => {
                self.0.push_back(chore);
                return;
            }
            Ok(true) => Ok(chore.count),
            Err(error) => Err(error),
        };
        let _ = chore.reply.send(outcome);
    }
}
