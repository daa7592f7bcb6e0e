//! A new device that fetches everything: what its connection makes the relay hold meanwhile.

use anyhow::{Context as _, Result};

use super::tool::number;
use super::{Load, the_tool};
use crate::process::{Peak, Server};
use crate::table::{Bar, Table};

/// Wraps that wait.
const WRAPS: usize = 100_000;
/// One REQ is to bring them all.
const CONFIG: &str = "[limits]\nevents_per_filter = 200000\n";

/// Adds the row.
pub fn run(table: &mut Table) -> Result<()> {
    let tool = the_tool()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("wraps.jsonl");
    let path = file.to_str().context("a path of UTF-8")?;
    tool.wraps(&file, WRAPS, 1)?;
    let config = folder.path().join("relay.toml");
    std::fs::write(&config, CONFIG)?;
    let data = folder.path().join("data");
    let server = Server::with_config("sotto-relay", &data, Some(&config))?;
    let load = Load {
        tool: &tool,
        path,
        server,
    };
    load.ingest(0, WRAPS, 8, 64)?;
    // What ingest made it hold is not what the backlog makes it hold.
    drop(load);
    let server = Server::with_config("sotto-relay", &data, Some(&config))?;
    let load = Load {
        tool: &tool,
        path,
        server,
    };
    let ask = |limit: &str| {
        let options = [
            ("conns", "1"),
            ("queries", "1"),
            ("recipients", "1"),
            ("limit", limit),
            ("auth", ""),
        ];
        load.run("query", &options)
    };
    ask("1")?;
    let memory = load.server.memory();
    let before = memory.anonymous_kib()?;
    let peak = Peak::watch(move || memory.anonymous_kib());
    let report = ask(&WRAPS.to_string())?;
    let found = number(&report, &["events"])?;
    let peak = peak.end();
    let wanted = f64::from(u32::try_from(WRAPS)?);
    anyhow::ensure!(found >= wanted, "only {found} of {wanted} wraps came");
    let held = f64::from(u32::try_from(peak.saturating_sub(before))?) / 1024.0;
    let note = format!("({:.0} MB/s)", number(&report, &["mb_per_s"])?);
    table.row(
        "relay, memory that a backlog of 100,000 wraps takes on its way",
        held,
        " MiB",
        &note,
        Bar::AtMost(4.0),
    );
    Ok(())
}
