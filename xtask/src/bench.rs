//! `cargo xtask bench`: the figures, measured in release mode.

use std::path::Path;

use anyhow::Result;

use crate::step::succeed;
use crate::tools::{cargo, target_dir};

/// Builds the programs and the bench crate in release mode and runs the latter; it finds the
/// programs, which it starts as whole processes, in `SOTTO_BIN_DIR`.
pub fn run(top: &Path, arguments: &[String]) -> Result<()> {
    succeed(cargo().current_dir(top).args([
        "build",
        "--release",
        "--package",
        "sotto",
        "--package",
        "sotto-relay",
        "--package",
        "sotto-files",
        "--package",
        "bench",
    ]))?;
    succeed(
        cargo()
            .current_dir(top)
            .args(["run", "--release", "--quiet", "--package", "bench", "--"])
            .args(arguments)
            .env("SOTTO_BIN_DIR", target_dir(top)?.join("release")),
    )
}
