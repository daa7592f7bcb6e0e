//! `cargo xtask audit`: does anything that we link have a known vulnerability?

use std::path::Path;

use anyhow::{Result, bail};

use crate::step::succeed;
use crate::tools::{cargo, is_in_path};

/// Runs cargo-audit on the workspace's lock file. Exceptions, each with its reason, are in
/// `.cargo/audit.toml`.
///
/// A snapshot of the advisory database beside the repository is used as it is; without one,
/// cargo-audit fetches the current database.
pub fn run(top: &Path) -> Result<()> {
    if !is_in_path("cargo-audit") {
        bail!("cargo-audit is missing; install it with: cargo install cargo-audit --locked");
    }
    let mut command = cargo();
    command
        .current_dir(top)
        .args(["audit", "--deny", "warnings"]);
    let snapshot = top.join("../shared/advisory-db");
    if snapshot.is_dir() {
        println!("using the snapshot of the advisory database in ../shared/advisory-db");
        command
            .arg("--db")
            .arg(snapshot)
            .args(["--no-fetch", "--stale"]);
    }
    succeed(&mut command)
}
