//! The load tool that relays are measured with: a program of its own, outside this repository.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Where `cargo xtask bench` says that it built the tool.
const VARIABLE: &str = "SOTTO_RELAYLOAD";

/// The tool, ready to run.
pub struct Tool(PathBuf);

/// A run that goes on beside others.
pub struct Running(Child);

impl Tool {
    /// The tool that `cargo xtask bench` built; nothing where its folder is not at hand.
    pub fn find() -> Option<Self> {
        let path = PathBuf::from(std::env::var_os(VARIABLE)?);
        path.is_file().then_some(Self(path))
    }

    fn command(&self, mode: &str, options: &[(&str, &str)]) -> Command {
        let mut command = Command::new(&self.0);
        command.arg(mode).stdin(Stdio::null());
        for (name, value) in options {
            command.arg(format!("--{name}"));
            if !value.is_empty() {
                command.arg(value);
            }
        }
        command
    }

    /// Runs a mode to its end; the object that it prints.
    pub fn run(&self, mode: &str, options: &[(&str, &str)]) -> Result<Value> {
        let output = self.command(mode, options).output()?;
        anyhow::ensure!(
            output.status.success(),
            "relayload {mode}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let report: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("relayload {mode} printed no object"))?;
        // A figure of a run that lost something is no figure.
        for (field, what) in [("broken", "connections broke"), ("lost", "were lost")] {
            let count = report.get(field).and_then(Value::as_u64).unwrap_or(0);
            anyhow::ensure!(count == 0, "relayload {mode}: {count} {what}");
        }
        let error = report.get("error").and_then(Value::as_str).unwrap_or("");
        anyhow::ensure!(error.is_empty(), "relayload {mode}: {error}");
        Ok(report)
    }

    /// Starts a mode and leaves it running.
    pub fn start(&self, mode: &str, options: &[(&str, &str)]) -> Result<Running> {
        let child = self.command(mode, options).stdout(Stdio::null()).spawn()?;
        Ok(Running(child))
    }

    /// Makes a file of signed wraps, each by a fresh author, for `recipients` keys in turn.
    pub fn wraps(&self, file: &Path, count: usize, recipients: usize) -> Result<()> {
        let (count, recipients) = (count.to_string(), recipients.to_string());
        let out = file.to_str().context("a path of UTF-8")?;
        let options = [("out", out), ("n", &count), ("recipients", &recipients)];
        self.run("gen", &options)?;
        // Else the kernel writes it out half a minute later, in the middle of some measurement, and the
        // relay's disk has to wait: 0.1 s at a time.
        std::fs::File::open(file)?.sync_all()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A number of a report, by the names that lead to it.
pub fn number(report: &Value, path: &[&str]) -> Result<f64> {
    let found = path
        .iter()
        .try_fold(report, |value, name| value.get(name))
        .and_then(Value::as_f64);
    found.with_context(|| format!("relayload reports no {}", path.join(".")))
}
