//! What the build needs from the system, and how it gets there on a fresh Debian machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::step;

/// A program, the Debian packages that bring it, and what needs it.
struct Tool {
    program: &'static str,
    packages: &'static [&'static str],
    needed_for: &'static str,
}

const TOOLS: [Tool; 7] = [
    Tool {
        program: "cc",
        packages: &["gcc", "libc6-dev"],
        needed_for: "SQLCipher, libsecp256k1 and linking",
    },
    Tool {
        program: "c++",
        packages: &["g++"],
        needed_for: "libFuzzer",
    },
    Tool {
        program: "make",
        packages: &["make"],
        needed_for: "SQLCipher's OpenSSL",
    },
    Tool {
        program: "perl",
        packages: &["perl"],
        needed_for: "SQLCipher's OpenSSL",
    },
    Tool {
        program: "node",
        packages: &["nodejs"],
        needed_for: "the tests with nostr-tools",
    },
    Tool {
        program: "npm",
        packages: &["npm"],
        needed_for: "the tests with nostr-tools",
    },
    Tool {
        program: "pebble",
        packages: &["pebble"],
        needed_for: "the test of fetched certificates",
    },
];

/// Rust's own components, by the cargo subcommand that shows them.
const COMPONENTS: [(&str, &str); 2] = [("fmt", "rustfmt"), ("clippy", "clippy")];

/// Makes sure that every program is there: installs what is missing with apt-get as root,
/// otherwise fails with the exact command to type.
pub fn ensure() -> Result<()> {
    for (subcommand, component) in COMPONENTS {
        let there = cargo()
            .args([subcommand, "--version"])
            .output()
            .is_ok_and(|output| output.status.success());
        if !there {
            bail!(
                "cargo {subcommand} is missing; install it with: rustup component add {component}"
            );
        }
    }
    let missing: Vec<&Tool> = TOOLS
        .iter()
        .filter(|tool| !is_in_path(tool.program))
        .collect();
    if missing.is_empty() {
        println!("cc, c++, make, perl, node, npm, pebble, rustfmt and clippy are there");
        return Ok(());
    }
    for tool in &missing {
        println!("missing: {} (for {})", tool.program, tool.needed_for);
    }
    let packages: Vec<&str> = missing
        .iter()
        .flat_map(|tool| tool.packages.iter().copied())
        .collect();
    if !is_in_path("apt-get") {
        bail!("install what Debian calls: {}", packages.join(" "));
    }
    if !is_root() {
        bail!(
            "install it with: sudo apt-get update && sudo apt-get install {}",
            packages.join(" ")
        );
    }
    step::succeed(apt().arg("update"))?;
    step::succeed(
        apt()
            .args(["install", "-y", "--no-install-recommends"])
            .args(&packages),
    )?;
    match TOOLS.iter().find(|tool| !is_in_path(tool.program)) {
        Some(tool) => bail!("{} is still missing after the install", tool.program),
        None => Ok(()),
    }
}

/// The cargo that started this program.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The folder that cargo builds into, wherever the environment or a configuration puts it.
pub fn target_dir(top: &Path) -> Result<PathBuf> {
    let metadata = step::output(cargo().current_dir(top).args([
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
    ]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let folder = metadata
        .get("target_directory")
        .and_then(|folder| folder.as_str());
    Ok(folder
        .context("cargo metadata names a target directory")?
        .into())
}

/// Whether a file of that name lies in a folder of `PATH`.
pub fn is_in_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| is_file(&dir.join(program))))
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file())
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.arg("-q").env("DEBIAN_FRONTEND", "noninteractive");
    command
}
