//! Interleaved rounds: every candidate runs in every round, so a neighbour's load hits all alike.

use std::time::Instant;

/// Seconds per call of each candidate, one list per candidate, one entry per round.
pub fn interleaved(
    rounds: usize,
    calls: u32,
    candidates: &mut [&mut dyn FnMut()],
) -> Vec<Vec<f64>> {
    let mut seconds = vec![Vec::with_capacity(rounds); candidates.len()];
    for _ in 0..rounds {
        for (candidate, seconds) in candidates.iter_mut().zip(&mut seconds) {
            let start = Instant::now();
            for _ in 0..calls {
                candidate();
            }
            seconds.push(start.elapsed().as_secs_f64() / f64::from(calls));
        }
    }
    seconds
}

/// The middle value.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The least and the greatest value, as text.
pub fn range(values: &[f64]) -> String {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(0.0, f64::max);
    format!("({low:.2} to {high:.2})")
}

/// The median of the per-round ratios `above / below`, and their range as text.
pub fn ratio(above: &[f64], below: &[f64]) -> (f64, String) {
    let ratios: Vec<f64> = above.iter().zip(below).map(|(a, b)| a / b).collect();
    (median(&ratios), range(&ratios))
}
