//! A bar while files travel, for somebody who looks on.

use std::sync::Arc;
use std::time::Duration;

use client_core::client::{Transfer, TransferObserver};
use indicatif::{ProgressBar, ProgressStyle};

/// Smaller transfers are over before a bar could be read.
const WORTH_A_BAR: u64 = 1_000_000;

/// Shows one bar at a time on stderr, and removes it when the transfer is complete.
pub fn bar() -> TransferObserver {
    let bar = ProgressBar::no_length();
    let style = ProgressStyle::with_template(
        "  {prefix} {bar:28} {decimal_bytes:>9} of {decimal_total_bytes}  {decimal_bytes_per_sec}  {eta}",
    );
    if let Ok(style) = style {
        bar.set_style(style);
    }
    Arc::new(move |transfer: Transfer| {
        if transfer.total < WORTH_A_BAR {
            return;
        }
        if transfer.done >= transfer.total {
            bar.finish_and_clear();
            return;
        }
        if bar.is_finished() || bar.length() != Some(transfer.total) {
            bar.reset();
            bar.set_length(transfer.total);
            bar.set_prefix(if transfer.is_upload { "↑" } else { "↓" });
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        bar.set_position(transfer.done);
    })
}
