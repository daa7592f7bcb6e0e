//! The relay under the load tool that other relays were measured with, as ratios to what the same
//! machine can do in the same run.
//!
//! Each round begins with the machine's limits and an empty store. Rates stand beside the rate at
//! which two threads parse, hash and verify whole events; the load tool shares the two cores.

pub mod backlog;
pub mod growth;
mod tool;

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::process::Server;
use crate::rounds::{median, range};
use crate::table::{Bar, Table};
use tool::{Tool, number};

const ROUNDS: usize = 3;
/// Wraps of each ingest.
const INGEST: usize = 50_000;
/// Wraps of the publisher that waits for each OK.
const LONE: usize = 2_000;
/// Wraps a second, and seconds, of the live delivery.
const RATE: usize = 2_000;
const RATE_SECONDS: usize = 10;
/// Subscriptions that nothing is for, while others are delivered to.
const IDLE: usize = 10_000;

/// The figures of all rounds, one list a row.
#[derive(Default)]
struct Figures {
    limit: Vec<f64>,
    ingest: Vec<f64>,
    deep: Vec<f64>,
    written: Vec<f64>,
    lone: Vec<f64>,
    live: [Vec<f64>; 2],
    crowded: [Vec<f64>; 2],
    query: Vec<f64>,
    idle: Vec<f64>,
    others: Vec<f64>,
}

/// Adds the rows for the relay.
pub fn run(table: &mut Table) -> Result<()> {
    let tool = the_tool()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("wraps.jsonl");
    let count = 2 * INGEST + LONE + 2 * RATE * RATE_SECONDS;
    tool.wraps(&file, count, 200)?;
    let mut figures = Figures::default();
    for round in 0..ROUNDS {
        let data = folder.path().join(format!("round-{round}"));
        measure(&tool, &file, &data, &mut figures)?;
        std::fs::remove_dir_all(&data)?;
    }
    rows(table, &figures);
    Ok(())
}

/// The tool, or what to do to have it.
fn the_tool() -> Result<Tool> {
    Tool::find().context(
        "the load tool is not there: `cargo xtask bench` builds it from ../shared/tools/relayload",
    )
}

/// One round.
fn measure(tool: &Tool, file: &Path, data: &Path, figures: &mut Figures) -> Result<()> {
    let path = file.to_str().context("a path of UTF-8")?;
    let limits = tool.run("limits", &[("file", path), ("n", "2000")])?;
    let limit = number(&limits, &["parse_hash_verify_2"])?;
    figures.limit.push(limit);
    let server = Server::start("sotto-relay", data)?;
    let load = Load { tool, path, server };
    let ingest = load.ingest(0, INGEST, 8, 64)?;
    figures
        .ingest
        .push(number(&ingest, &["events_per_s"])? / limit);
    let events = f64::from(u32::try_from(INGEST)?);
    figures
        .written
        .push(number(&ingest, &["use", "server_write_mb"])? * 1e3 / events);
    figures
        .others
        .push(number(&ingest, &["use", "others_cpu"])?);
    let deep = load.ingest(INGEST, INGEST, 8, 512)?;
    figures.deep.push(number(&deep, &["events_per_s"])? / limit);
    let lone = load.ingest(2 * INGEST, LONE, 1, 1)?;
    figures.lone.push(number(&lone, &["ok_ms", "p50"])?);
    let query = load.query(200)?;
    figures
        .query
        .push(number(&query, &["events_per_s"])? / limit);
    let live = load.live(2 * INGEST + LONE)?;
    delivered(&live, &mut figures.live)?;
    drop(load);

    let beside = data.join("beside");
    let server = Server::start("sotto-relay", &beside)?;
    let load = Load { tool, path, server };
    let pid = load.server.pid().to_string();
    let conns = IDLE.to_string();
    let common = [
        ("url", load.server.url.as_str()),
        ("pid", &pid),
        ("conns", &conns),
        ("first", "1000"),
        ("auth", ""),
    ];
    let idle = tool.run("idle", &common)?;
    figures.idle.push(number(&idle, &["anon_kib_per_conn"])?);
    let held = [common.as_slice(), &[("hold", "90")]].concat();
    let _crowd = tool.start("idle", &held)?;
    load.server.wait_for_connections(IDLE)?;
    let crowded = load.live(2 * INGEST + LONE + RATE * RATE_SECONDS)?;
    delivered(&crowded, &mut figures.crowded)
}

fn delivered(report: &Value, into: &mut [Vec<f64>; 2]) -> Result<()> {
    for (list, name) in into.iter_mut().zip(["p50", "p99"]) {
        list.push(number(report, &["delivery_ms", name])?);
    }
    Ok(())
}

/// A server and what it is loaded with.
struct Load<'t> {
    tool: &'t Tool,
    path: &'t str,
    server: Server,
}

impl Load<'_> {
    fn run(&self, mode: &str, options: &[(&str, &str)]) -> Result<Value> {
        let pid = self.server.pid().to_string();
        let common = [("url", self.server.url.as_str()), ("pid", &pid)];
        self.tool.run(mode, &[common.as_slice(), options].concat())
    }

    fn ingest(&self, skip: usize, count: usize, conns: usize, window: usize) -> Result<Value> {
        let [skip, n, conns, window] = [skip, count, conns, window].map(|n| n.to_string());
        let report = self.run(
            "ingest",
            &[
                ("file", self.path),
                ("skip", &skip),
                ("n", &n),
                ("conns", &conns),
                ("window", &window),
                ("secs", "900"),
            ],
        )?;
        let refused = number(&report, &["refused"])?;
        anyhow::ensure!(refused == 0.0, "{refused} wraps were refused: {report}");
        Ok(report)
    }

    fn query(&self, recipients: usize) -> Result<Value> {
        let recipients = recipients.to_string();
        self.run(
            "query",
            &[
                ("conns", "4"),
                ("queries", "2000"),
                ("recipients", &recipients),
                ("auth", ""),
            ],
        )
    }

    fn live(&self, skip: usize) -> Result<Value> {
        let [skip, rate, seconds] = [skip, RATE, RATE_SECONDS].map(|n| n.to_string());
        self.run(
            "fanout",
            &[
                ("file", self.path),
                ("skip", &skip),
                ("rate", &rate),
                ("run-secs", &seconds),
                ("subs", "200"),
                ("auth", ""),
            ],
        )
    }
}

fn rows(table: &mut Table, figures: &Figures) {
    let limit = median(&figures.limit);
    let others = figures.others.iter().copied().fold(0.0, f64::max);
    let note = format!("{} in {ROUNDS} rounds", range(&figures.limit));
    table.row(
        "this machine: whole events parsed, hashed and verified a second, two threads",
        limit,
        "/s",
        &note,
        Bar::None,
    );
    table.row(
        "CPU that others used during ingest, cores at most",
        others,
        "",
        "(above 0.2 the rates say little)",
        Bar::None,
    );
    let mut row = |what: &str, values: &[f64], unit: &str, more: &str, bar: Bar| {
        let note = format!("{}{more}", range(values));
        table.row(what, median(values), unit, &note, bar);
    };
    let rate = |values: &[f64]| format!(", {:.0}/s", median(values) * limit);
    row(
        "relay ingest, 8 x 64 in flight, of that limit",
        &figures.ingest,
        "",
        &rate(&figures.ingest),
        Bar::AtLeast(0.42),
    );
    row(
        "relay ingest, 8 x 512 in flight, of that limit",
        &figures.deep,
        "",
        &rate(&figures.deep),
        Bar::AtLeast(0.55),
    );
    row(
        "relay, written to disk per event",
        &figures.written,
        " kB",
        "",
        Bar::AtMost(10.0),
    );
    row(
        "relay, one publisher that waits for each OK, p50",
        &figures.lone,
        " ms",
        "",
        Bar::AtMost(2.0),
    );
    row(
        "relay query, events of that limit",
        &figures.query,
        "",
        &rate(&figures.query),
        Bar::AtLeast(4.4),
    );
    for (what, [p50, p99]) in [
        ("relay delivery, 2,000/s to 200", &figures.live),
        ("the same with 10,000 more subscriptions", &figures.crowded),
    ] {
        row(&format!("{what}, p50"), p50, " ms", "", Bar::AtMost(2.0));
        row(&format!("{what}, p99"), p99, " ms", "", Bar::AtMost(10.0));
    }
    row(
        "relay, memory per idle connection, 10,000 of them",
        &figures.idle,
        " KiB",
        "",
        Bar::AtMost(8.0),
    );
}
