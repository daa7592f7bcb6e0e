//! The expiry that servers see: later than the message's own, on a grid, with jitter.
//!
//! The exact second, minus a lifetime that is easy to guess, would tell when the message was
//! sent. Draw it anew for every wrap and every server, so that two of one message differ.

use rand::{CryptoRng, RngExt};

const HOUR: u64 = 3_600;
const MINUTE: u64 = 60;

/// The grid for messages that live `ttl` seconds: an eighth of it, between a minute and an hour.
pub fn grid(ttl: u64) -> u64 {
    (ttl / 8).clamp(MINUTE, HOUR)
}

/// The outer expiry for a message that vanishes at `exact` (Unix seconds) after living `ttl`
/// seconds: `g * ceil((exact + r) / g)` with `g` = [`grid`] and `r` random in `(0, g]`.
///
/// Never at or before `exact`, and never more than `2 * g` after it.
pub fn outer_expiry(exact: u64, ttl: u64, rng: &mut dyn CryptoRng) -> u64 {
    let grid = grid(ttl);
    let jitter = rng.random_range(1..=grid);
    exact
        .saturating_add(jitter)
        .div_ceil(grid)
        .saturating_mul(grid)
}
