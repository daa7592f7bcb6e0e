//! Trying again where the index has failed: soon at first, and then less and less often.

use std::time::{Duration, Instant};

use crate::config::Clock;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::store::Writer;
use crate::store::mending::Mended;

/// The pause between two attempts: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));
/// The same where somebody uses the index for long: each attempt holds others up for a second.
const WHILE_IN_USE: Duration = Duration::from_secs(10);
/// After so long without a failure the next is a new one. Until then an index that opens, and fails
/// again when it is read, is not opened again and again.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3_600);

/// When it is tried next.
#[derive(Debug)]
pub struct Mending {
    last: Option<Instant>,
    pause: Duration,
    is_told: bool,
}

impl Default for Mending {
    fn default() -> Self {
        Self {
            last: None,
            pause: PAUSES.0,
            is_told: false,
        }
    }
}

impl Mending {
    /// Mends the store where that is needed and its time has come, and passes on what subscribers
    /// have missed.
    pub fn step(&mut self, writer: &mut Writer, live: &Live, metrics: &Metrics, clock: &Clock) {
        if !writer.needs_mending() {
            return;
        }
        let since = self.last.map(|last| last.elapsed());
        if since.is_some_and(|since| since < self.pause) {
            return;
        }
        if since.is_some_and(|since| since > FORGOTTEN_AFTER) {
            *self = Self::default();
        }
        // To ask costs nothing until the way is free, and that is what everybody waits for.
        let next = match writer.mend() {
            Ok(Mended::NoRoom) => {
                if !self.is_told {
                    tracing::error!(
                        "the index has failed on a full disk: nothing is stored or deleted until \
                         there is room"
                    );
                }
                self.is_told = true;
                PAUSES.0
            }
            Ok(Mended::InUse) => WHILE_IN_USE,
            Ok(Mended::Whole(untold)) => {
                tracing::warn!(events = untold.len(), "the index works again");
                live.catch_up(&untold, clock, metrics);
                self.is_told = false;
                self.pause.saturating_mul(2)
            }
            Err(error) => {
                tracing::error!(%error, "the index has failed; it is opened again later");
                self.pause.saturating_mul(2)
            }
        };
        self.pause = next.min(PAUSES.1);
        self.last = Some(Instant::now());
    }
}
