//! How much one address may do in a while: token buckets, counted in whole numbers.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::Limits;
use crate::policy::Refusal;

/// So many in so many seconds, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u64,
    /// In how many seconds.
    pub seconds: u64,
    /// How many at once, by somebody who did nothing for long enough.
    pub burst: u64,
}

/// What was used of a rate. Nothing at first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Bucket {
    /// In parts of one: as many make one as the rate has seconds.
    used: u64,
    /// When that was so, Unix seconds.
    at: u64,
}

impl Bucket {
    fn flow(&mut self, rate: Rate, now: u64) {
        let elapsed = now.saturating_sub(self.at);
        self.used = self.used.saturating_sub(elapsed.saturating_mul(rate.count));
        // A clock that is set back gives nothing, and takes nothing.
        self.at = self.at.max(now);
    }

    /// Uses `amount`; or the seconds until that is possible.
    fn take(&mut self, amount: u64, rate: Rate, now: u64) -> Result<(), u64> {
        self.flow(rate, now);
        let after = self
            .used
            .saturating_add(amount.saturating_mul(rate.seconds));
        let most = rate.burst.saturating_mul(rate.seconds);
        if after > most {
            return Err((after - most).div_ceil(rate.count.max(1)).max(1));
        }
        self.used = after;
        Ok(())
    }
}

/// What one address has used of each rate.
#[derive(Debug, Default)]
pub struct Budget(Mutex<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    events: Bucket,
    bytes: Bucket,
    proofs: Bucket,
    guesses: Bucket,
}

impl Budget {
    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One event of so many bytes.
    pub fn event(&self, bytes: usize, limits: &Limits, now: u64) -> Result<(), Refusal> {
        let mut buckets = self.buckets();
        if let Some(rate) = limits.events_per_address {
            let taken = buckets.events.take(1, rate, now);
            taken.map_err(|wait| Refusal::EventRate { wait })?;
        }
        if let Some(rate) = limits.bytes_per_address {
            let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
            let taken = buckets.bytes.take(bytes, rate, now);
            taken.map_err(|wait| Refusal::ByteRate { wait })?;
        }
        Ok(())
    }

    /// One proof of a key, right or wrong: AUTH, or a request to manage the relay.
    pub fn proof(&self, limits: &Limits, now: u64) -> Result<(), Refusal> {
        let Some(rate) = limits.auth_per_address else {
            return Ok(());
        };
        let taken = self.buckets().proofs.take(1, rate, now);
        taken.map_err(|wait| Refusal::AuthRate { wait })
    }

    /// Whether an invite code may be tried; only wrong ones are used up, by
    /// [`Budget::guessed`].
    pub fn may_guess(&self, limits: &Limits, now: u64) -> Result<(), Refusal> {
        let Some(rate) = limits.wrong_codes_per_address else {
            return Ok(());
        };
        let taken = { self.buckets().guesses }.take(1, rate, now);
        taken.map_err(|_| Refusal::JoinTries)
    }

    /// An invite code was wrong.
    pub fn guessed(&self, limits: &Limits, now: u64) {
        if let Some(rate) = limits.wrong_codes_per_address {
            // Two connections may have been let through for the last one.
            let _ = self.buckets().guesses.take(1, rate, now);
        }
    }

    /// Whether nothing of it is used any more: then a new one is as good.
    pub fn is_whole(&self, limits: &Limits, now: u64) -> bool {
        let mut buckets = self.buckets();
        let Buckets {
            events,
            bytes,
            proofs,
            guesses,
        } = &mut *buckets;
        [
            (events, limits.events_per_address),
            (bytes, limits.bytes_per_address),
            (proofs, limits.auth_per_address),
            (guesses, limits.wrong_codes_per_address),
        ]
        .into_iter()
        .all(|(bucket, rate)| {
            let Some(rate) = rate else { return true };
            bucket.flow(rate, now);
            bucket.used == 0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        count: 60,
        seconds: 60,
        burst: 3,
    };

    #[test]
    fn a_burst_is_followed_by_the_rate() {
        let mut bucket = Bucket::default();
        for _ in 0..3 {
            assert_eq!(bucket.take(1, RATE, 1_000), Ok(()));
        }
        assert_eq!(bucket.take(1, RATE, 1_000), Err(1));
        assert_eq!(bucket.take(2, RATE, 1_000), Err(2));
        for now in 1_001..1_010 {
            assert_eq!(bucket.take(1, RATE, now), Ok(()));
            assert_eq!(bucket.take(1, RATE, now), Err(1));
        }
        // After a long rest there is one burst, no more.
        for wanted in [Ok(()), Ok(()), Ok(()), Err(1)] {
            assert_eq!(bucket.take(1, RATE, 1_000_000), wanted);
        }
    }

    #[test]
    fn a_slow_rate_counts_parts_of_one() {
        let daily = Rate {
            count: 100,
            seconds: 86_400,
            burst: 100,
        };
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(100, daily, 0), Ok(()));
        assert_eq!(bucket.take(1, daily, 863), Err(1));
        assert_eq!(bucket.take(1, daily, 864), Ok(()));
        assert_eq!(bucket.take(50, daily, 864), Err(50 * 864));
        assert_eq!(bucket.take(101, daily, 1_000_000), Err(864));
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_away() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(3, RATE, 1_000), Ok(()));
        assert_eq!(bucket.take(1, RATE, 10), Err(1));
        assert_eq!(bucket.take(1, RATE, 1_000), Err(1));
        assert_eq!(bucket.take(1, RATE, 1_001), Ok(()));
    }

    #[test]
    fn a_budget_is_whole_while_nothing_of_it_is_used() {
        let limits = &crate::config::Config::in_memory().limits;
        let uses: [fn(&Budget, &Limits); 4] = [
            |budget, limits| budget.event(0, limits, 1_000).unwrap(),
            |budget, limits| budget.event(50_000, limits, 1_000).unwrap(),
            |budget, limits| budget.proof(limits, 1_000).unwrap(),
            |budget, limits| budget.guessed(limits, 1_000),
        ];
        for usage in uses {
            let budget = Budget::default();
            assert!(budget.is_whole(limits, 1_000));
            usage(&budget, limits);
            assert!(!budget.is_whole(limits, 1_000));
            assert!(budget.is_whole(limits, 1_000 + 86_400));
        }
    }
}
