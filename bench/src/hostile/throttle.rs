//! Keeps this process at a share of one core.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// What may be saved up while there is little to do.
const BURST: Duration = Duration::from_millis(5);

/// A budget of CPU time that fills with the wall clock.
#[derive(Debug)]
pub struct Throttle {
    share: f64,
    began: Instant,
    used_before: Duration,
}

impl Throttle {
    /// `share` of a core from now on.
    pub fn new(share: f64) -> Self {
        Self {
            share,
            began: Instant::now(),
            used_before: process_time(),
        }
    }

    /// CPU time since the beginning.
    pub fn used(&self) -> Duration {
        process_time().saturating_sub(self.used_before)
    }

    /// The same as a share of one core.
    pub fn used_share(&self) -> f64 {
        self.used().as_secs_f64() / self.began.elapsed().as_secs_f64()
    }

    /// Returns when the process may go on.
    pub async fn pace(&self) {
        loop {
            let allowed = self.began.elapsed().mul_f64(self.share) + BURST;
            match self.used().checked_sub(allowed) {
                None => return,
                Some(over) => tokio::time::sleep(over.div_f64(self.share)).await,
            }
        }
    }
}

fn process_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
