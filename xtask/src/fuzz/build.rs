//! Builds the targets with the coverage that libFuzzer steers by.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::Folders;
use super::targets::Target;
use crate::step;
use crate::tools::{cargo, is_in_path};

/// What cargo-fuzz asks of a nightly compiler, as far as the stable one has it: a counter for each
/// edge, and what was compared with what, so that the fuzzer finds the words that a decoder waits
/// for. The address sanitizer is left out: the code forbids `unsafe`, and without it a target
/// makes two to three times as many inputs in the same time.
const FLAGS: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    // A decoder is to be cut into many edges, not folded into few.
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
];

/// Builds the targets; the folder of their programs.
pub fn all(folders: &Folders, targets: &[Target]) -> Result<PathBuf> {
    if !is_in_path("c++") {
        bail!("a C++ compiler is missing (Debian: g++); libFuzzer is written in C++");
    }
    let host = host()?;
    let mut command = cargo();
    command
        .args(["build", "--release", "--locked"])
        // Named, so that the flags are for the targets alone: build scripts could not link.
        .args(["--target", &host])
        .arg("--manifest-path")
        .arg(folders.source.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(folders.work.join("build"))
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"));
    for target in targets {
        command.args(["--bin", &target.name]);
    }
    step::succeed(&mut command)?;
    Ok(Path::new(&folders.work)
        .join("build")
        .join(host)
        .join("release"))
}

/// What the compiler calls this machine.
pub fn host() -> Result<String> {
    let version = step::output(rustc().arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

/// The compiler.
pub fn rustc() -> Command {
    Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}

/// Whether the crate of the targets still compiles: a check with the ordinary flags, which finds
/// most of what it needs compiled by the main workspace.
pub fn check(top: &Path, target: &Path) -> Command {
    let mut command = cargo();
    command
        .current_dir(top.join("fuzz"))
        .args(["check", "--locked", "--bins", "--quiet"])
        .arg("--target-dir")
        .arg(target);
    command
}
