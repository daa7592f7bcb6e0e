//! An honest client beside two hundred hostile connections of each kind, which share half a core.
//!
//! The attackers are a process of their own ([`attackers`]), so that what they burn is theirs; the
//! honest client ([`honest`]) waits for an OK, for a delivery and for an EOSE in turn.

pub mod attackers;
mod attacks;
mod honest;
mod throttle;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::process::{Peak, Server};
use crate::table::{Bar, Table};
use attacks::Attack;
use honest::{Honest, Latencies};

/// How long the honest client is measured beside each attack.
const SECONDS: u64 = 10;
/// Beyond three times the undisturbed value, this is still fine.
const FLOOR_MS: f64 = 20.0;
/// What the relay may take, everything included. It promises 256 MiB on its ledger.
const RSS_MB: f64 = 400.0;

/// Adds the rows for each kind of attack.
pub fn run(table: &mut Table) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start("sotto-relay", folder.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut honest = Honest::connect(&server.url).await?;
        honest.fill().await?;
        honest.measure(Duration::from_secs(1)).await?;
        let calm = honest.measure(Duration::from_secs(SECONDS)).await?;
        rows(table, "undisturbed", &calm, None, "");
        for attack in chosen()? {
            let mut attackers = Attackers::start(attack, &server.url)?;
            let memory = server.memory();
            let peak = Peak::watch(move || memory.resident_bytes());
            let before = server.cpu_seconds()?;
            tokio::time::sleep(Duration::from_millis(500)).await;
            let began = std::time::Instant::now();
            let measured = honest.measure(Duration::from_secs(SECONDS)).await;
            let relay = (server.cpu_seconds()? - before) / (began.elapsed().as_secs_f64() + 0.5);
            let (report, peak) = (attackers.end()?, megabytes(peak.end()));
            let mut note = format!("({report}; relay {relay:.2} cores)");
            let latencies = match measured {
                Ok(latencies) => latencies,
                Err(error) => {
                    // It was not served at all, which no figure says better than infinity.
                    note = format!("{error:#} {note}");
                    honest = Honest::connect(&server.url).await?;
                    Latencies::of_nobody()
                }
            };
            rows(table, attack.name(), &latencies, Some(&calm), &note);
            table.row(
                &format!("{}: relay memory at its peak", attack.name()),
                peak,
                " MB",
                "",
                Bar::AtMost(RSS_MB),
            );
        }
        Ok(())
    })
}

/// All of them, or those that `SOTTO_ATTACKS` names.
fn chosen() -> Result<Vec<Attack>> {
    match std::env::var("SOTTO_ATTACKS") {
        Ok(names) => names.split(',').map(Attack::named).collect(),
        Err(_) => Ok(Attack::ALL.to_vec()),
    }
}

fn rows(table: &mut Table, name: &str, seen: &Latencies, calm: Option<&Latencies>, note: &str) {
    let empty = Latencies::default();
    let figures = [
        (
            "publish to OK",
            &seen.publish,
            &calm.unwrap_or(&empty).publish,
        ),
        (
            "publish to delivery",
            &seen.delivery,
            &calm.unwrap_or(&empty).delivery,
        ),
        ("REQ to EOSE", &seen.query, &calm.unwrap_or(&empty).query),
    ];
    for (what, seen, calm_values) in figures {
        let p99 = honest::percentile(seen, 99);
        let bar = match calm {
            None => Bar::None,
            Some(_) => Bar::AtMost((honest::percentile(calm_values, 99) * 3.0).max(FLOOR_MS)),
        };
        let p50 = honest::percentile(seen, 50);
        let note = format!("p99 (p50 {p50:.2} ms, {} times) {note}", seen.len());
        table.row(&format!("{name}: {what}"), p99, " ms", &note, bar);
    }
}

/// The attackers' process.
struct Attackers {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Attackers {
    /// Starts them, and waits until they have prepared what they send.
    fn start(attack: Attack, url: &str) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([attackers::VERB, attack.name(), url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("piped")?);
        let mut ready = String::new();
        lines.read_line(&mut ready)?;
        anyhow::ensure!(ready == "ready\n", "the attackers did not start");
        Ok(Self { child, lines })
    }

    /// Ends them; what they did, in words.
    fn end(&mut self) -> Result<String> {
        drop(self.child.stdin.take());
        let mut report = String::new();
        self.lines.read_line(&mut report)?;
        self.child.wait()?;
        Ok(report.trim().to_owned())
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn megabytes(bytes: u64) -> f64 {
    u32::try_from(bytes / 1_000).map_or(f64::INFINITY, f64::from) / 1e3
}
