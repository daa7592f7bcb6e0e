//! What an operator may count, as Prometheus reads it. Nothing here names a key, an event or an
//! address: only what happened, how often, and how long it took.
//!
//! Counting is a few relaxed additions; everything else happens when somebody asks.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::pipeline::Answer;
use crate::policy::Refusal;

/// Microseconds that a commit or a sync may take.
const TIMES: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000,
];
/// Events of one commit.
const BATCHES: [u64; 12] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 4_096];

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// So many more.
    pub fn add(&self, more: usize) {
        // A count has room for every length that fits into memory.
        self.0.fetch_add(more as u64, Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that grows and shrinks.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// So many more.
    pub fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Relaxed);
    }

    /// So many fewer; never more than were added.
    pub fn sub(&self, fewer: usize) {
        self.0.fetch_sub(fewer as u64, Relaxed);
    }

    /// How many there are.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How values are spread.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// Values up to each bound and above the one before.
    buckets: Box<[AtomicU64]>,
    count: AtomicU64,
    sum: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            buckets: bounds.iter().map(|_| AtomicU64::new(0)).collect(),
            count: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    /// For durations, in microseconds.
    pub fn of_times() -> Self {
        Self::new(&TIMES)
    }

    /// For events that are committed together.
    pub fn of_batches() -> Self {
        Self::new(&BATCHES)
    }

    /// One more value.
    pub fn observe(&self, value: u64) {
        let mut places = self.bounds.iter().zip(&self.buckets);
        if let Some((_, bucket)) = places.find(|(bound, _)| value <= **bound) {
            bucket.fetch_add(1, Relaxed);
        }
        self.sum.fetch_add(value, Relaxed);
        self.count.fetch_add(1, Relaxed);
    }

    /// One more duration.
    pub fn observe_time(&self, took: Duration) {
        self.observe(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
}

/// How often each of several things happened, by name. For what is rare, or costs its cause far
/// more than a lock costs us.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<String, u64>>);

impl Tally {
    /// `what` happened once more.
    pub fn add(&self, what: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(what) {
            Some(count) => *count += 1,
            None => {
                counts.insert(what.to_owned(), 1);
            }
        }
    }

    /// All of them.
    pub fn get(&self) -> BTreeMap<String, u64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// What one relay counts.
#[derive(Debug)]
pub struct Metrics {
    /// Connections that were let in.
    pub connections: Counter,
    /// Connections that were not, by reason.
    pub connections_refused: Tally,
    /// WebSockets that are open.
    pub sockets: Gauge,
    /// Subscriptions that are open.
    pub subscriptions: Gauge,
    /// Bytes of messages that came.
    pub bytes_received: Counter,
    /// Bytes of messages that were sent.
    pub bytes_sent: Counter,
    /// Messages that were none of the protocol's.
    pub malformed: Counter,
    /// Connections that were ended because they did not read.
    pub slow_readers: Counter,
    /// How often REQ came.
    pub reqs: Counter,
    /// How often COUNT came.
    pub counts: Counter,
    /// How often NEG-OPEN came.
    pub reconciliations: Counter,
    /// What was asked for and not answered, by reason.
    pub requests_refused: Tally,
    /// Keys that were proven.
    pub auth_accepted: Counter,
    /// AUTH messages that prove nothing, by reason.
    pub auth_refused: Tally,
    /// Events that were kept.
    pub stored: Counter,
    /// Events that were passed on and not kept.
    pub passed: Counter,
    /// Requests to delete or vanish that were carried out and are shown to nobody.
    pub carried_out: Counter,
    /// Events that were here already.
    pub duplicates: Counter,
    /// Events that were not taken, by reason.
    pub refused: Tally,
    /// Events that went to open subscriptions as they came.
    pub delivered_live: Counter,
    /// Stored events that went to new subscriptions.
    pub delivered_stored: Counter,
    /// Events that were erased because they had expired.
    pub expired: Counter,
    /// Events of one commit.
    pub batches: Histogram,
    /// How long a commit took, the sync included.
    pub commits: Histogram,
    /// TLS handshakes that failed or took too long.
    pub handshakes_failed: Counter,
    /// Attempts to fetch a certificate, by outcome.
    pub certificates: Tally,
    /// Reloads of the configuration, by outcome.
    pub reloads: Tally,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            connections: Counter::default(),
            connections_refused: Tally::default(),
            sockets: Gauge::default(),
            subscriptions: Gauge::default(),
            bytes_received: Counter::default(),
            bytes_sent: Counter::default(),
            malformed: Counter::default(),
            slow_readers: Counter::default(),
            reqs: Counter::default(),
            counts: Counter::default(),
            reconciliations: Counter::default(),
            requests_refused: Tally::default(),
            auth_accepted: Counter::default(),
            auth_refused: Tally::default(),
            stored: Counter::default(),
            passed: Counter::default(),
            carried_out: Counter::default(),
            duplicates: Counter::default(),
            refused: Tally::default(),
            delivered_live: Counter::default(),
            delivered_stored: Counter::default(),
            expired: Counter::default(),
            batches: Histogram::of_batches(),
            commits: Histogram::of_times(),
            handshakes_failed: Counter::default(),
            certificates: Tally::default(),
            reloads: Tally::default(),
        }
    }
}

impl Metrics {
    /// A commit that took so long and had these answers.
    pub fn committed<'a>(
        &self,
        answers: impl ExactSizeIterator<Item = Option<&'a Answer>>,
        took: Duration,
    ) {
        self.commits.observe_time(took);
        self.batches.observe(answers.len() as u64);
        let (mut stored, mut passed, mut carried_out, mut duplicates) = (0, 0, 0, 0);
        for answer in answers.flatten() {
            match (answer.accepted, answer.deliver, answer.refusal) {
                (true, Some(u64::MAX), _) => passed += 1,
                (true, Some(_), _) => stored += 1,
                (true, None, _) if answer.message.is_empty() => carried_out += 1,
                (true, None, _) => duplicates += 1,
                (false, _, Some(refusal)) => self.refused.add(&name_of(refusal)),
                (false, _, None) if answer.message.starts_with("duplicate:") => {
                    self.refused.add("superseded");
                }
                (false, _, None) => self.refused.add("store_failed"),
            }
        }
        self.stored.add(stored);
        self.passed.add(passed);
        self.carried_out.add(carried_out);
        self.duplicates.add(duplicates);
    }

    /// A subscription, count or reconciliation that may not be opened.
    pub fn refused_to_answer(&self, refusal: Refusal) {
        self.requests_refused.add(&name_of(refusal));
    }
}

/// A refusal's name as a label: `MailboxFull` is `mailbox_full`.
pub fn name_of(refusal: Refusal) -> String {
    let mut name = String::new();
    let whole = format!("{refusal:?}");
    // Without the numbers that some carry: a label each would have no end.
    let letters = whole.chars().take_while(char::is_ascii_alphanumeric);
    for (index, letter) in letters.enumerate() {
        if letter.is_ascii_uppercase() && index > 0 {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

/// Metrics as text, in version 0.0.4 of Prometheus's format.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            self.0,
            "# HELP sotto_relay_{name} {help}\n# TYPE sotto_relay_{name} {kind}"
        );
    }

    /// A value of this moment.
    pub fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "gauge", help);
        let _ = writeln!(self.0, "sotto_relay_{name} {value}");
    }

    /// A counter.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "counter", help);
        let _ = writeln!(self.0, "sotto_relay_{name} {value}");
    }

    /// Counters that a label tells apart. The labels' values are our own words.
    pub fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'a str, u64)>,
    ) {
        self.head(name, "counter", help);
        for (word, value) in values {
            let _ = writeln!(self.0, "sotto_relay_{name}{{{label}=\"{word}\"}} {value}");
        }
    }

    fn tally(&mut self, name: &str, help: &str, label: &str, tally: &Tally) {
        let counts = tally.get();
        let values = counts.iter().map(|(word, count)| (word.as_str(), *count));
        self.counters(name, help, label, values);
    }

    /// A histogram; its values are divided by `unit`.
    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram, unit: u32) {
        self.head(name, "histogram", help);
        let count = histogram.count.load(Relaxed);
        let mut below = 0_u64;
        for (bound, bucket) in histogram.bounds.iter().zip(&histogram.buckets) {
            below = below.saturating_add(bucket.load(Relaxed));
            let bound = shown(*bound, unit);
            // One that is being counted may be in its bucket and not yet in the sum of all.
            let below = below.min(count);
            let _ = writeln!(
                self.0,
                "sotto_relay_{name}_bucket{{le=\"{bound}\"}} {below}"
            );
        }
        let sum = shown(histogram.sum.load(Relaxed), unit);
        let _ = writeln!(
            self.0,
            "sotto_relay_{name}_bucket{{le=\"+Inf\"}} {count}\n\
             sotto_relay_{name}_sum {sum}\nsotto_relay_{name}_count {count}"
        );
    }

    /// Everything that a relay counts by itself.
    pub fn metrics(&mut self, metrics: &Metrics) {
        let Metrics {
            stored,
            passed,
            carried_out,
            duplicates,
            ..
        } = metrics;
        self.counter(
            "connections_total",
            "Connections that were let in.",
            metrics.connections.get(),
        );
        self.tally(
            "connections_refused_total",
            "Connections that were not let in.",
            "reason",
            &metrics.connections_refused,
        );
        self.gauge("websockets_open", "Open WebSockets.", metrics.sockets.get());
        self.gauge(
            "subscriptions_open",
            "Open subscriptions.",
            metrics.subscriptions.get(),
        );
        self.counter(
            "received_bytes_total",
            "Bytes of messages that came.",
            metrics.bytes_received.get(),
        );
        self.counter(
            "sent_bytes_total",
            "Bytes of messages that were sent.",
            metrics.bytes_sent.get(),
        );
        self.counter(
            "malformed_messages_total",
            "Messages that are none of the protocol's.",
            metrics.malformed.get(),
        );
        self.counter(
            "slow_readers_total",
            "Connections ended because they did not read.",
            metrics.slow_readers.get(),
        );
        self.counters(
            "requests_total",
            "Subscriptions, counts and reconciliations asked for.",
            "type",
            [
                ("req", metrics.reqs.get()),
                ("count", metrics.counts.get()),
                ("neg_open", metrics.reconciliations.get()),
            ],
        );
        self.tally(
            "requests_refused_total",
            "Subscriptions, counts and reconciliations refused.",
            "reason",
            &metrics.requests_refused,
        );
        self.counter(
            "auth_accepted_total",
            "Keys that were proven.",
            metrics.auth_accepted.get(),
        );
        self.tally(
            "auth_refused_total",
            "AUTH messages that prove nothing.",
            "reason",
            &metrics.auth_refused,
        );
        self.counters(
            "events_accepted_total",
            "Events that were taken.",
            "result",
            [
                ("stored", stored.get()),
                ("passed_on", passed.get()),
                ("carried_out", carried_out.get()),
                ("duplicate", duplicates.get()),
            ],
        );
        self.tally(
            "events_refused_total",
            "Events that were not taken.",
            "reason",
            &metrics.refused,
        );
        self.counters(
            "events_sent_total",
            "Events that were sent to subscriptions.",
            "from",
            [
                ("live", metrics.delivered_live.get()),
                ("store", metrics.delivered_stored.get()),
            ],
        );
        self.counter(
            "events_expired_total",
            "Events erased because they had expired.",
            metrics.expired.get(),
        );
        self.histogram(
            "commit_events",
            "Events committed together.",
            &metrics.batches,
            1,
        );
        self.histogram(
            "commit_seconds",
            "How long a commit took, its sync included.",
            &metrics.commits,
            1_000_000,
        );
        self.counter(
            "tls_handshakes_failed_total",
            "TLS handshakes that failed or took too long.",
            metrics.handshakes_failed.get(),
        );
        self.tally(
            "certificates_total",
            "Attempts to fetch a certificate.",
            "result",
            &metrics.certificates,
        );
        self.tally(
            "reloads_total",
            "Reloads of the configuration.",
            "result",
            &metrics.reloads,
        );
    }

    /// All of it.
    pub fn finish(self) -> String {
        self.0
    }
}

/// A value in its unit, exactly: 2500 microseconds are 0.0025.
fn shown(value: u64, unit: u32) -> String {
    let unit = u64::from(unit.max(1));
    let (whole, rest) = (value / unit, value % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = unit.ilog10() as usize;
    let rest = format!("{rest:0digits$}");
    format!("{whole}.{}", rest.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_up_to_each_bound() {
        let histogram = Histogram::of_times();
        for micros in [1, 100, 101, 2_500, 9_000_000] {
            histogram.observe_time(Duration::from_micros(micros));
        }
        let mut text = Text::default();
        text.histogram("x_seconds", "Help.", &histogram, 1_000_000);
        let text = text.finish();
        for line in [
            "# HELP sotto_relay_x_seconds Help.",
            "# TYPE sotto_relay_x_seconds histogram",
            "sotto_relay_x_seconds_bucket{le=\"0.0001\"} 2",
            "sotto_relay_x_seconds_bucket{le=\"0.00025\"} 3",
            "sotto_relay_x_seconds_bucket{le=\"0.0025\"} 4",
            "sotto_relay_x_seconds_bucket{le=\"5\"} 4",
            "sotto_relay_x_seconds_bucket{le=\"+Inf\"} 5",
            "sotto_relay_x_seconds_sum 9.002702",
            "sotto_relay_x_seconds_count 5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_refusal_is_a_label_by_its_name() {
        assert_eq!(name_of(Refusal::MailboxFull), "mailbox_full");
        assert_eq!(name_of(Refusal::Expired), "expired");
    }
}
