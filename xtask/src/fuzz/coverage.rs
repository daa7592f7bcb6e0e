//! How many lines of the decoders the inputs reach: `cargo xtask fuzz --coverage`.
//!
//! Edges are what steers the fuzzer, of the whole program and without names. For people, all inputs
//! are run once more through a program that counts lines, and the lines of the files that the
//! manifest names for a decoder are reported.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::targets::Target;
use super::{Folders, build};
use crate::step;
use crate::tools::{cargo, is_in_path};

/// Lines of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lines {
    reached: u64,
    all: u64,
}

/// Replays the inputs of the targets, and prints what they reach of each decoder.
pub fn report(top: &Path, folders: &Folders, targets: &[Target]) -> Result<()> {
    let tools = tools()?;
    let program = program(folders)?;
    let files = files(&folders.source)?;
    println!(
        "\n{:<22} {:>6} {:>6}        files of the decoder",
        "decoder", "lines", ""
    );
    let decoders = targets
        .iter()
        .flat_map(|target| target.decoders.iter().map(|name| (&target.name, name)));
    for (target, name) in decoders {
        let profile = folders.work.join("coverage").join(name);
        let raw = profile.with_extension("profraw");
        let kept = folders.kept(target);
        let mut replay = Command::new("nice");
        replay
            .args(["-n", "19"])
            .arg(&program)
            .arg(name)
            .arg(folders.committed(target))
            .args(kept.is_dir().then_some(kept))
            .env("LLVM_PROFILE_FILE", &raw)
            .stderr(Stdio::null());
        step::succeed(&mut replay).with_context(|| format!("replaying {name} failed"))?;
        let data = profile.with_extension("profdata");
        let mut merge = Command::new(tools.join("llvm-profdata"));
        step::succeed(merge.args(["merge", "--sparse", "-o"]).arg(&data).arg(&raw))?;
        fs::remove_file(&raw)?;
        let files: Vec<PathBuf> = files
            .get(name)
            .and_then(|files| files.as_str())
            .with_context(|| format!("fuzz/Cargo.toml names no file of {name}"))?
            .split(' ')
            .map(|file| top.join(file))
            .collect();
        let mut export = Command::new(tools.join("llvm-cov"));
        export
            .args(["export", "--summary-only", "--instr-profile"])
            .arg(&data)
            .arg(&program)
            .args(&files);
        let summary = step::output(&mut export)?;
        println!("{}", line(name, &lines(&summary, top)?));
    }
    Ok(())
}

fn line(name: &str, files: &[(String, Lines)]) -> String {
    let reached: u64 = files.iter().map(|(_, lines)| lines.reached).sum();
    let all: u64 = files.iter().map(|(_, lines)| lines.all).sum();
    let percent = |lines: Lines| (lines.reached * 100).checked_div(lines.all).unwrap_or(0);
    let whole = percent(Lines { reached, all });
    let each: Vec<String> = files
        .iter()
        .map(|(file, lines)| format!("{file} {} %", percent(*lines)))
        .collect();
    format!(
        "{name:<22} {reached:>6} of {all:>4} {whole:>3} %  {}",
        each.join(", ")
    )
}

/// The lines of each file in what llvm-cov exports.
fn lines(summary: &str, top: &Path) -> Result<Vec<(String, Lines)>> {
    let summary: serde_json::Value = serde_json::from_str(summary)?;
    let files = summary
        .pointer("/data/0/files")
        .and_then(|files| files.as_array());
    let files = files.context("llvm-cov names no files")?;
    let one = |file: &serde_json::Value| {
        let path = Path::new(file.get("filename")?.as_str()?);
        let path = path.strip_prefix(top).unwrap_or(path);
        let lines = Lines {
            reached: file.pointer("/summary/lines/covered")?.as_u64()?,
            all: file.pointer("/summary/lines/count")?.as_u64()?,
        };
        Some((path.display().to_string(), lines))
    };
    let lines: Option<Vec<_>> = files.iter().map(one).collect();
    lines.context("llvm-cov counts no lines")
}

/// Builds the program that replays.
fn program(folders: &Folders) -> Result<PathBuf> {
    let host = build::host()?;
    let target = folders.work.join("coverage");
    let mut command = cargo();
    command
        .args([
            "build",
            "--example",
            "replay",
            "--locked",
            "--target",
            &host,
        ])
        .arg("--manifest-path")
        .arg(folders.source.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", "-Cinstrument-coverage");
    step::succeed(&mut command)?;
    Ok(target.join(host).join("debug/examples/replay"))
}

/// What the manifest says: the files of each decoder.
fn files(source: &Path) -> Result<serde_json::Value> {
    let metadata = step::output(
        cargo()
            .args(["metadata", "--format-version", "1", "--no-deps", "--locked"])
            .arg("--manifest-path")
            .arg(source.join("Cargo.toml")),
    )?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let decoders = metadata.pointer("/packages/0/metadata/decoders");
    Ok(decoders.context("fuzz/Cargo.toml names decoders")?.clone())
}

/// The folder of the compiler's own llvm-cov, whose format no other version reads.
fn tools() -> Result<PathBuf> {
    let folder = || -> Result<PathBuf> {
        let libraries = step::output(build::rustc().args(["--print", "target-libdir"]))?;
        let folder = Path::new(libraries.trim()).parent();
        Ok(folder.context("the compiler has a folder")?.join("bin"))
    };
    let tools = folder()?;
    if !tools.join("llvm-cov").is_file() && is_in_path("rustup") {
        step::succeed(Command::new("rustup").args(["component", "add", "llvm-tools"]))?;
    }
    Ok(tools)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_added_up() {
        let summary = r#"{"data":[{"files":[
            {"filename":"/top/a.rs","summary":{"lines":{"count":10,"covered":9}}},
            {"filename":"/top/b/c.rs","summary":{"lines":{"count":30,"covered":15}}}
        ]}]}"#;
        let lines = lines(summary, Path::new("/top")).unwrap();
        let line = line("event", &lines);
        assert!(line.contains("24 of   40  60 %"), "{line}");
        assert!(line.ends_with("a.rs 90 %, b/c.rs 50 %"), "{line}");
    }
}
