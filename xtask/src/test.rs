//! `cargo xtask test`: everything that must hold before a change lands, cheapest first.

use std::path::Path;

use anyhow::Result;

use crate::step::Steps;
use crate::tools::{self, cargo};
use crate::{docs, fuzz, layers};

/// How much to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What every change must pass.
    Ordinary,
    /// Also the long runs: tests that read `SOTTO_SLOW` take more seeds, more kills, larger files.
    Slow,
}

/// Runs every step and stops at the first that fails.
pub fn run(top: &Path, depth: Depth) -> Result<()> {
    let target = tools::target_dir(top)?;
    let programs = target.join("debug");
    let slow = match depth {
        Depth::Ordinary => None,
        Depth::Slow => Some(("SOTTO_SLOW", "1")),
    };
    let mut steps = Steps::new();

    steps.run("tools", tools::ensure)?;
    steps.command(
        "formatting",
        cargo().current_dir(top).args(["fmt", "--all", "--check"]),
    )?;
    steps.command(
        "formatting of fuzz",
        cargo()
            .current_dir(top.join("fuzz"))
            .args(["fmt", "--check"]),
    )?;
    steps.run("layers: who imports whom", || layers::check(top))?;
    steps.run("fuzz targets: inputs and replaying tests", || {
        fuzz::check(top)
    })?;
    steps.run("documents: paths, links, test names", || docs::check(top))?;
    steps.command(
        "clippy",
        cargo().current_dir(top).args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]),
    )?;
    // Links between items are how the code is read; private ones count as much.
    steps.command(
        "documentation of the code",
        cargo()
            .current_dir(top)
            .args([
                "doc",
                "--workspace",
                "--no-deps",
                "--document-private-items",
                "--quiet",
            ])
            .env(
                "RUSTDOCFLAGS",
                "-D warnings -A rustdoc::private_intra_doc_links \
                 -A rustdoc::redundant_explicit_links",
            ),
    )?;
    // Stories start the real programs, and so do the foreign clients.
    steps.command(
        "programs",
        cargo()
            .current_dir(top)
            .args(["build", "--workspace", "--bins"]),
    )?;
    steps.tests(
        "tests and doc tests of the workspace",
        cargo()
            .current_dir(top)
            // One run names every test that fails, not only those of the first crate.
            .args(["test", "--workspace", "--no-fail-fast"])
            .env("SOTTO_BIN_DIR", &programs)
            .envs(slow),
    )?;

    steps.command("fuzz targets compile", &mut fuzz::compile(top, &target))?;

    let sdk = top.join("interop/nostr-sdk");
    steps.command(
        "formatting of interop/nostr-sdk",
        cargo().current_dir(&sdk).args(["fmt", "--check"]),
    )?;
    steps.tests(
        "foreign client: nostr-sdk",
        cargo()
            .current_dir(&sdk)
            .args(["test", "--locked"])
            // Its old dependencies stay out of our build as well as out of our lock file.
            .env("CARGO_TARGET_DIR", target.join("interop"))
            .env("SOTTO_BIN_DIR", &programs)
            .envs(slow),
    )?;

    let node = top.join("interop/nostr-tools");
    steps.command(
        "packages of interop/nostr-tools",
        std::process::Command::new("npm").current_dir(&node).args([
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
        ]),
    )?;
    steps.tests(
        "foreign client: nostr-tools",
        std::process::Command::new("node")
            .current_dir(&node)
            .args(["--test", "--test-reporter=tap"])
            .env("SOTTO_BIN_DIR", &programs)
            .envs(slow),
    )?;

    // Last, since it takes hours; each target keeps what it found as soon as it has had its time.
    if depth == Depth::Slow {
        steps.run("fuzzing", || fuzz::run(top, &[]))?;
        steps.run("lines that fuzzing reaches", || {
            fuzz::run(top, &["--coverage".to_owned()])
        })?;
    }

    steps.finish();
    Ok(())
}
