//! `sotto send` as a whole process, with a key file, to a relay on loopback.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::process::{Server, children_cpu_seconds, program};
use crate::rounds::median;
use crate::table::{Bar, Table};

const RUNS: u32 = 30;

/// Adds the rows for sending.
pub fn run(table: &mut Table) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start("sotto-relay", &folder.path().join("relay"))?;
    let anna = folder.path().join("anna");
    let ben = folder.path().join("ben");
    init(&anna, &server.url)?;
    let ben_account = init(&ben, &server.url)?;
    // The first message looks the recipient's relays up; the figure is about the ones after it.
    send(&anna, &ben_account)?;
    let cpu_before = children_cpu_seconds()?;
    let mut wall = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        send(&anna, &ben_account)?;
        wall.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let cpu = (children_cpu_seconds()? - cpu_before) * 1e3 / f64::from(RUNS);
    table.row(
        "sotto send, CPU of the process",
        cpu,
        " ms",
        &format!("mean of {RUNS}"),
        Bar::AtMost(60.0),
    );
    let note = format!("median of {RUNS}");
    table.row(
        "sotto send, wall clock",
        median(&wall),
        " ms",
        &note,
        Bar::AtMost(150.0),
    );
    Ok(())
}

/// Makes an account with a key file; gives its public key.
fn init(home: &Path, relay: &str) -> Result<String> {
    let output = sotto(home)?.args(["init", "--relay", relay]).output()?;
    anyhow::ensure!(
        output.status.success(),
        "init: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let account: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let key = account
        .get("pubkey")
        .and_then(|key| key.as_str())
        .context("pubkey")?;
    Ok(key.to_owned())
}

fn send(home: &Path, to: &str) -> Result<()> {
    let output = sotto(home)?.args(["send", to, "How are you?"]).output()?;
    anyhow::ensure!(
        output.status.success(),
        "send: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn sotto(home: &Path) -> Result<Command> {
    let mut command = Command::new(program("sotto")?);
    command.arg("--json").arg("--home").arg(home);
    command.arg("--key-file").arg(home.with_extension("key"));
    command.stdin(Stdio::null());
    Ok(command)
}
