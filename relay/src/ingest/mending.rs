//! Trying again where the index has failed: soon at first, and then less and less often.

use crate::live::Live;
use crate::metrics::Metrics;
use crate::store::{StoreError, Writer};

/// Seconds between two attempts: at first, and at most.
const PAUSES: (u64, u64) = (2, 300);
/// Seconds without a failure after which the next is a new one. Until then an index that opens, and
/// fails again when it is read, is not opened again and again.
const FORGOTTEN_AFTER: u64 = 3_600;

/// When it is tried next.
#[derive(Debug)]
pub struct Mending {
    not_before: u64,
    pause: u64,
    is_told: bool,
}

impl Default for Mending {
    fn default() -> Self {
        Self {
            not_before: 0,
            pause: PAUSES.0,
            is_told: false,
        }
    }
}

impl Mending {
    /// Mends the store where that is needed and its time has come, and passes on what subscribers
    /// have missed.
    pub fn step(&mut self, writer: &mut Writer, live: &Live, metrics: &Metrics, now: u64) {
        if now < self.not_before || !writer.needs_mending() {
            return;
        }
        if now > self.not_before.saturating_add(FORGOTTEN_AFTER) {
            *self = Self::default();
        }
        self.not_before = now.saturating_add(self.pause);
        match writer.mend() {
            Ok(untold) => {
                tracing::warn!(events = untold.len(), "the index works again");
                live.catch_up(&untold, now, metrics);
                self.is_told = false;
            }
            // To ask for room costs nothing, and it is what everybody waits for.
            Err(StoreError::DiskFull) => {
                if !self.is_told {
                    tracing::error!(
                        "the index has failed on a full disk: nothing is stored or deleted until \
                         there is room"
                    );
                }
                self.is_told = true;
                return;
            }
            Err(error) => {
                tracing::error!(%error, "the index has failed; it is opened again later");
            }
        }
        self.pause = self.pause.saturating_mul(2).min(PAUSES.1);
    }
}
