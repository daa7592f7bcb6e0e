//! The repository's tasks: `cargo xtask <task>`.
//!
//! - [`mod@test`]: everything that must hold before a change lands. Continuous integration runs the
//!   same command, so what passes here passes there.
//! - [`layers`] and [`docs`]: what the compiler cannot check: who may import whom, and whether
//!   the documents still name files and tests that exist.
//! - [`mod@bench`]: the figures, in one table.
//! - [`mod@fuzz`]: hostile bytes for every decoder, and what they reached.
//! - [`audit`]: known vulnerabilities of what we link.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a task runner talks to the person at the terminal and to the log of the build"
)]

mod audit;
mod bench;
mod docs;
mod fuzz;
mod layers;
mod step;
mod test;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

const USAGE: &str = "\
Usage: cargo xtask <task>

Tasks:
  test [--slow]   formatting, lints, structure, all tests, doc tests, foreign clients
                  --slow adds the long runs (more seeds, kill loops, a 2 GiB file, fuzzing)
  bench [PART]... measure in release mode; all short parts where none is named
  fuzz [--seconds N] [--go-on] [TARGET]...
                  fuzz the targets, or all, for N seconds of processor time each (900: all
                  take some two hours on two cores);
                  --go-on leaves out those that had it before the last run was interrupted
  fuzz --coverage [TARGET]...
                  how many lines of the decoders the inputs reach that there are
  audit           known vulnerabilities in Cargo.lock
  check-layers    who imports whom
  check-docs      paths, links and test names in the documents
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let top = top()?;
    let mut arguments = std::env::args().skip(1);
    let task = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    match (task.as_str(), rest.as_slice()) {
        ("test", []) => test::run(&top, test::Depth::Ordinary),
        ("test", [flag]) if flag == "--slow" => test::run(&top, test::Depth::Slow),
        ("bench", arguments) => bench::run(&top, arguments),
        ("fuzz", arguments) => fuzz::run(&top, arguments),
        ("audit", []) => audit::run(&top),
        ("check-layers", []) => layers::check(&top),
        ("check-docs", []) => docs::check(&top),
        ("" | "help" | "-h" | "--help", []) => {
            print!("{USAGE}");
            Ok(())
        }
        _ => bail!("no such task or option\n\n{USAGE}"),
    }
}

/// The top folder of the repository. The manifest's folder is known at compile time, so the task
/// does the same from every subfolder.
fn top() -> Result<PathBuf> {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(PathBuf::from)
        .context("xtask lies in a folder of the repository")
}
