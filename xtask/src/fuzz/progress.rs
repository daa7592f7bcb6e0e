//! What libFuzzer says, read, and the table that is made of it.

use std::time::Duration;

use super::corpus::Size;
use super::hunt::Outcome;

/// Above the table.
pub const HEADER: &str =
    "target                 processor      inputs   /s  edges  features   kept          committed";

/// The last figures in a log.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Inputs that were run.
    pub executions: u64,
    /// Edges that some input passed.
    pub edges: u64,
    /// Edges, and how often each was passed.
    pub features: u64,
}

impl Figures {
    /// Of everything that libFuzzer wrote.
    pub fn read(log: &str) -> Self {
        let mut figures = Self::default();
        for line in log.lines() {
            if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
                figures.executions = count.trim().parse().unwrap_or(figures.executions);
            } else if line.starts_with('#') {
                // "#4096\tpulse  cov: 312 ft: 801 corp: 97/12Kb lim: 4096 exec/s: 2048 rss: 66Mb"
                let mut words = line.split_whitespace();
                while let Some(word) = words.next() {
                    let into = match word {
                        "cov:" => &mut figures.edges,
                        "ft:" => &mut figures.features,
                        _ => continue,
                    };
                    if let Some(number) = words.next().and_then(|word| word.parse().ok()) {
                        *into = number;
                    }
                }
            }
        }
        figures
    }
}

impl Outcome {
    /// A line of the table.
    pub fn line(&self, name: &str) -> String {
        let seconds = self.processor.as_secs_f64();
        let rate = self.executions.checked_div(self.processor.as_secs().max(1));
        let size = |size: Size| format!("{} ({} KiB)", size.files, size.bytes.div_ceil(1_024));
        let end = match (&self.finding, self.corpus) {
            (Some(file), _) => format!("BROKEN: {}", file.display()),
            (None, Some((kept, committed))) => format!("{:<13} {}", size(kept), size(committed)),
            (None, None) => String::new(),
        };
        format!(
            "{name:<22} {seconds:>7.0} s  {:>10} {:>4}  {:>5}  {:>8}   {end}",
            self.executions,
            short(rate.unwrap_or(0)),
            self.edges,
            self.features,
        )
    }
}

/// A number in at most four characters.
fn short(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        _ => format!("{}k", number / 1_000),
    }
}

/// Clock ticks of a process as `/proc/PID/stat` counts them, in user and system mode together.
pub fn ticks(stat: &str) -> Option<u64> {
    // The program's name, in brackets, may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user.saturating_add(system))
}

/// Whether a process waits for something to happen, as `/proc/PID/stat` says: it neither has the
/// processor, nor waits for it or the disk, nor was stopped.
pub fn is_asleep(stat: &str) -> bool {
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| rest.trim_start().starts_with('S'))
}

/// So many ticks as time.
pub fn time(ticks: u64, per_second: u64) -> Duration {
    Duration::from_millis(ticks.saturating_mul(1_000) / per_second.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_figures_of_a_log_count() {
        let log = "INFO: Loaded 1 modules   (9 inline 8-bit counters)\n\
            #2\tINITED cov: 10 ft: 11 corp: 1/1b exec/s: 0 rss: 40Mb\n\
            #512\tNEW    cov: 31 ft: 80 corp: 9/12Kb lim: 4096 exec/s: 20 rss: 66Mb L: 3/9 MS: 1\n\
            cov: 999\n\
            #1024\tREDUCE cov: 32 ft: 81 corp: 9/12Kb lim: 4096 exec/s: 20 rss: 66Mb\n\
            stat::number_of_executed_units: 1500\n\
            stat::average_exec_per_sec:     15\n";
        let expected = Figures {
            executions: 1_500,
            edges: 32,
            features: 81,
        };
        assert_eq!(Figures::read(log), expected);
    }

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "17 (a) b (c) S 1 17 17 0 -1 4194304 100 0 0 0 250 50 7 7 20 0 1 0 5";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(time(300, 100), Duration::from_secs(3));
        assert_eq!(ticks("17 (x) S 1"), None);
        assert!(is_asleep(stat) && !is_asleep("17 (S) T 1"));
    }
}
