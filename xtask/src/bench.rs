//! `cargo xtask bench`: the figures, measured in release mode.

use std::fs;
use std::path::{Path, PathBuf};

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
    let mut bench = cargo();
    bench
        .current_dir(top)
        .args(["run", "--release", "--quiet", "--package", "bench", "--"])
        .args(arguments)
        .env("SOTTO_BIN_DIR", target_dir(top)?.join("release"));
    let wants_tool = |part: &String| part == "relay" || part.starts_with("relay-");
    if arguments.iter().any(wants_tool)
        && let Some(tool) = load_tool(top)?
    {
        bench.env("SOTTO_RELAYLOAD", tool);
    }
    succeed(&mut bench)
}

/// Builds the load tool, where its folder stands beside the repository; the path of the program.
/// It is built from a copy, so that nothing is written to that folder, and outside the repository.
fn load_tool(top: &Path) -> Result<Option<PathBuf>> {
    let source = top.join("../shared/tools/relayload");
    if !source.is_dir() {
        return Ok(None);
    }
    let folder = std::env::temp_dir().join("sotto-relayload");
    let copy = folder.join("source");
    copy_folder(&source, &copy)?;
    let target = folder.join("target");
    succeed(
        cargo()
            .current_dir(&copy)
            .args(["build", "--release", "--quiet", "--target-dir"])
            .arg(&target),
    )?;
    Ok(Some(target.join("release/relayload")))
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let copy = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &copy)?;
        } else if fs::read(entry.path())? != fs::read(&copy).unwrap_or_default() {
            // What did not change keeps its time, so that nothing is built twice.
            fs::write(copy, fs::read(entry.path())?)?;
        }
    }
    Ok(())
}
