//! Whether five million events slow the relay down. Takes about ten minutes and 25 GB of disk.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::tool::{Tool, number};
use super::{Load, RATE, RATE_SECONDS, delivered, the_tool};
use crate::process::Server;
use crate::rounds::{median, range};
use crate::table::{Bar, Table};

/// Events before the first measurement, and altogether before the last.
const FEW: usize = 100_000;
const MANY: usize = 5_000_000;
/// Events of one file; they are signed, sent and forgotten a file at a time.
const FILE: usize = 500_000;
/// Keys that the wraps are for. Few enough that a mailbox holds more than a query asks for at either
/// size: both give answers of 500, and what grows is what lies behind them.
const RECIPIENTS: usize = 200;
/// Runs of live delivery at each size: one slow write of the disk decides the p99 of a single one.
const LIVE_RUNS: usize = 5;
/// Wraps of each of them.
const LIVE: usize = RATE * RATE_SECONDS;

/// What was measured at one size.
struct Figures {
    ingest: f64,
    query: f64,
    /// The p50 and p99 of delivery, run by run.
    live: [Vec<f64>; 2],
    written: f64,
}

/// Adds the rows.
pub fn run(table: &mut Table) -> Result<()> {
    let tool = the_tool()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("wraps.jsonl");
    let data = folder.path().join("data");
    let many = match std::env::var("SOTTO_GROWTH_EVENTS") {
        Ok(text) => text.parse().context("SOTTO_GROWTH_EVENTS is no number")?,
        Err(_) => MANY,
    };
    let mut server = Server::start("sotto-relay", &data)?;
    let few;
    (server, few) = measure(&tool, &file, server)?;
    let mut stored = FEW + LIVE_RUNS * LIVE;
    while stored + FEW < many {
        let count = FILE.min(many - FEW - stored);
        server = send(&tool, &file, server, count)?.0;
        stored += count;
    }
    let (server, last) = measure(&tool, &file, server)?;
    let resident = f64::from(u32::try_from(server.memory().anonymous_kib()?)?) / 1024.0;
    drop(server);
    let began = Instant::now();
    let server = Server::start("sotto-relay", &data)?;
    let start = began.elapsed().as_secs_f64();
    drop(server);

    let mut ratio = |what: &str, last: f64, few: f64, unit: &str, bar: Bar| {
        let note = format!("({last:.0}{unit} beside {few:.0}{unit} at 100,000)");
        let what = format!("relay with {many} events, {what}, of that with 100,000");
        table.row(&what, last / few, "", &note, bar);
    };
    ratio("ingest", last.ingest, few.ingest, "/s", Bar::AtLeast(0.75));
    ratio("query", last.query, few.query, "/s", Bar::AtLeast(0.75));
    for (name, few, last) in [
        ("p50", &few.live[0], &last.live[0]),
        ("p99", &few.live[1], &last.live[1]),
    ] {
        let note = format!(
            "({:.2} ms {} beside {:.2} ms {} at 100,000, {LIVE_RUNS} runs each)",
            median(last),
            range(last),
            median(few),
            range(few)
        );
        table.row(
            &format!("the same, delivery {name}, of that with 100,000"),
            median(last) / median(few),
            "",
            &note,
            Bar::AtMost(1.25),
        );
    }
    let note = format!("({:.1} kB at 100,000)", few.written);
    table.row(
        "the same, written to disk per event",
        last.written,
        " kB",
        &note,
        Bar::AtMost(10.0),
    );
    table.row(
        "the same, start after a kill",
        start,
        " s",
        "",
        Bar::AtMost(2.0),
    );
    table.row("the same, memory", resident, " MiB", "", Bar::None);
    Ok(())
}

/// Signs and sends `count` wraps; the report of the tool.
fn send(
    tool: &Tool,
    file: &Path,
    server: Server,
    count: usize,
) -> Result<(Server, serde_json::Value)> {
    tool.wraps(file, count, RECIPIENTS)?;
    let path = file.to_str().context("a path of UTF-8")?;
    let load = Load { tool, path, server };
    let report = load.ingest(0, count, 8, 64)?;
    Ok((load.server, report))
}

fn measure(tool: &Tool, file: &Path, server: Server) -> Result<(Server, Figures)> {
    let (server, ingest) = send(tool, file, server, FEW)?;
    let path = file.to_str().context("a path of UTF-8")?;
    let load = Load { tool, path, server };
    let query = load.query(RECIPIENTS)?;
    tool.wraps(file, LIVE_RUNS * LIVE, 200)?;
    let mut live = [Vec::new(), Vec::new()];
    for run in 0..LIVE_RUNS {
        delivered(&load.live(run * LIVE)?, &mut live)?;
    }
    let events = f64::from(u32::try_from(FEW)?);
    let figures = Figures {
        ingest: number(&ingest, &["events_per_s"])?,
        query: number(&query, &["events_per_s"])?,
        live,
        written: number(&ingest, &["use", "server_write_mb"])? * 1e3 / events,
    };
    Ok((load.server, figures))
}
