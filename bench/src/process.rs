//! The project's own programs as child processes, and what they cost.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// A program that was built beside this one (`cargo xtask bench` builds them all).
pub fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own
        .parent()
        .context("a program lies in a folder")?
        .join(name);
    anyhow::ensure!(
        path.exists(),
        "{name} is not built; run `cargo xtask bench`"
    );
    Ok(path)
}

/// A server that ends with this value.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub url: String,
}

impl Server {
    /// Starts `name run` on a free loopback port with its data in `data`.
    pub fn start(name: &str, data: &Path) -> Result<Self> {
        let mut child = Command::new(program(name)?)
            .args(["--json", "run", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdout = child.stdout.take().context("piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let listening: serde_json::Value = serde_json::from_str(&line)?;
        let url = listening
            .get("url")
            .and_then(|url| url.as_str())
            .context("a URL")?
            .to_owned();
        Ok(Self { child, url })
    }

    /// CPU seconds so far, user and system.
    pub fn cpu_seconds(&self) -> Result<f64> {
        cpu(
            &std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?,
            [11, 12],
        )
    }

    /// A look at its memory, from any thread.
    pub fn memory(&self) -> Memory {
        Memory(format!("/proc/{}/status", self.child.id()))
    }

    /// Bytes that the kernel counted as written to disk so far.
    pub fn written_bytes(&self) -> Result<u64> {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.child.id()))?;
        let line = io
            .lines()
            .find_map(|line| line.strip_prefix("write_bytes: "));
        Ok(line.context("write_bytes")?.parse()?)
    }
}

/// The memory of a process.
pub struct Memory(String);

impl Memory {
    /// What is resident, file-backed pages included.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(&self.0)?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(kib.context("VmRSS")?.trim().parse::<u64>()? * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU seconds of all children that ended and were waited for.
pub fn children_cpu_seconds() -> Result<f64> {
    cpu(&std::fs::read_to_string("/proc/self/stat")?, [13, 14])
}

/// Sums two fields of a stat file, counted after the program's name, in clock ticks.
fn cpu(stat: &str, fields: [usize; 2]) -> Result<f64> {
    let (_, after) = stat.rsplit_once(") ").context("a stat file")?;
    let values: Vec<&str> = after.split_ascii_whitespace().collect();
    let mut ticks = 0.0;
    for field in fields {
        ticks += values.get(field).context("a stat file")?.parse::<f64>()?;
    }
    // Linux reports in USER_HZ, which is 100 on every platform that Debian builds for.
    Ok(ticks / 100.0)
}
