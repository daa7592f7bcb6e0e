//! What happened lately, in one line of the log a minute: how much came, and how often what was
//! refused and why. Single refusals are not logged: whoever floods the relay must not flood the
//! log, and no line is about anybody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// How often.
const PERIOD: Duration = Duration::from_secs(60);

/// Why connections are turned away that an operator has to do something about.
const TURNED_AWAY: [&str; 3] = ["full", "no_descriptor", "unreadable_forwarded"];

/// Counts at one moment, or between two.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Counts(BTreeMap<String, u64>);

impl Counts {
    fn of(metrics: &Metrics) -> Self {
        let mut counts: BTreeMap<String, u64> = [
            ("connections", metrics.connections.get()),
            ("stored", metrics.stored.get()),
            ("passed_on", metrics.passed.get()),
            ("carried_out", metrics.carried_out.get()),
            ("duplicates", metrics.duplicates.get()),
            ("sent_live", metrics.delivered_live.get()),
            ("sent_stored", metrics.delivered_stored.get()),
            ("expired", metrics.expired.get()),
            ("authenticated", metrics.auth_accepted.get()),
            ("malformed", metrics.malformed.get()),
            ("slow_readers", metrics.slow_readers.get()),
            ("handshakes_failed", metrics.handshakes_failed.get()),
        ]
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect();
        for (kind, tally) in [
            ("refused", &metrics.refused),
            ("connection_refused", &metrics.connections_refused),
            ("request_refused", &metrics.requests_refused),
            ("auth_refused", &metrics.auth_refused),
        ] {
            for (why, count) in tally.get() {
                counts.insert(format!("{kind}.{why}"), count);
            }
        }
        Self(counts)
    }

    /// What came since `before`, without what did not change.
    fn since(&self, before: &Self) -> Self {
        let new = self.0.iter().filter_map(|(name, count)| {
            let old = before.0.get(name).copied().unwrap_or(0);
            let more = count.saturating_sub(old);
            (more > 0).then(|| (name.clone(), more))
        });
        Self(new.collect())
    }

    fn shown(&self) -> String {
        let words: Vec<String> = self
            .0
            .iter()
            .map(|(name, count)| format!("{name}={count}"))
            .collect();
        words.join(" ")
    }

    /// How often something happened that an operator has to do something about.
    fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

/// Writes a line each minute in which something happened, and a last one at the stop.
pub async fn run(metrics: Arc<Metrics>, stop: CancellationToken) {
    let mut before = Counts::default();
    loop {
        let is_over = tokio::select! {
            () = stop.cancelled() => true,
            () = tokio::time::sleep(PERIOD) => false,
        };
        let now = Counts::of(&metrics);
        log(&now.since(&before));
        before = now;
        if is_over {
            return;
        }
    }
}

fn log(lately: &Counts) {
    if !lately.0.is_empty() {
        tracing::info!(counts = lately.shown(), "lately");
    }
    for why in TURNED_AWAY {
        let count = lately.get(&format!("connection_refused.{why}"));
        if count > 0 {
            tracing::warn!(count, why, "connections were turned away");
        }
    }
    let count = lately.get("refused.store_failed");
    if count > 0 {
        tracing::error!(count, "events could not be stored: is the disk full?");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_is_new() {
        let metrics = Metrics::default();
        metrics.stored.add(2);
        metrics.refused.add("forged");
        let first = Counts::of(&metrics);
        assert_eq!(
            first.since(&Counts::default()).shown(),
            "refused.forged=1 stored=2"
        );
        assert_eq!(first.since(&first), Counts::default());
        metrics.stored.add(3);
        metrics.connections_refused.add("full");
        let second = Counts::of(&metrics).since(&first);
        assert_eq!(second.shown(), "connection_refused.full=1 stored=3");
        assert_eq!(second.get("connection_refused.full"), 1);
    }
}
