//! How much of something one connection has used lately: it rises with each use and sinks with the
//! time.

use std::time::{Duration, Instant};

/// What may be used without standing out.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// In the long run, of each second.
    pub per_second: Duration,
    /// Saved up for a burst, at most.
    pub burst: Duration,
    /// What somebody new has saved up: connecting anew gains nobody much.
    pub at_first: Duration,
}

/// What somebody has used of their allowance.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    level: Duration,
    at: Instant,
}

impl Allowance {
    /// Of somebody who has just come.
    pub fn begin(&self) -> Usage {
        Usage {
            level: self.burst.saturating_sub(self.at_first),
            at: Instant::now(),
        }
    }
}

impl Usage {
    /// So much was used, up to `now`.
    pub fn add(&mut self, used: Duration, now: Instant, allowance: &Allowance) {
        let passed = now.saturating_duration_since(self.at);
        let sunk = passed.mul_f64(allowance.per_second.as_secs_f64());
        self.level = self.level.saturating_sub(sunk) + used;
        self.at = now;
    }

    /// So much was not used after all.
    pub fn take_back(&mut self, unused: Duration) {
        self.level = self.level.saturating_sub(unused);
    }

    /// Where it stands; above [`Allowance::burst`] it stands out.
    pub fn level(&self) -> Duration {
        self.level
    }
}
