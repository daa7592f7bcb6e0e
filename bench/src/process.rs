//! The project's own programs as child processes, and what they cost.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

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
        Self::with_config(name, data, None)
    }

    /// The same with a configuration file.
    pub fn with_config(name: &str, data: &Path, config: Option<&Path>) -> Result<Self> {
        let mut command = Command::new(program(name)?);
        command
            .args(["--json", "run", "--listen", "127.0.0.1:0", "--data"])
            .arg(data);
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        let mut child = command
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

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it holds at least so many connections.
    pub fn wait_for_connections(&self, count: usize) -> Result<()> {
        let folder = format!("/proc/{}/fd", self.child.id());
        for _ in 0..600 {
            if std::fs::read_dir(&folder)?.count() > count {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        anyhow::bail!("{count} connections were not opened in a minute")
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
        Ok(self.kib("VmRSS:")? * 1024)
    }

    /// What is resident and no file's.
    pub fn anonymous_kib(&self) -> Result<u64> {
        self.kib("RssAnon:")
    }

    fn kib(&self, name: &'static str) -> Result<u64> {
        let status = std::fs::read_to_string(&self.0)?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(kib.context(name)?.trim().parse()?)
    }
}

/// The most that a look at memory saw, again and again, until it is asked.
pub struct Peak {
    stop: Arc<AtomicBool>,
    watching: JoinHandle<u64>,
}

impl Peak {
    /// Begins to look.
    pub fn watch(look: impl Fn() -> Result<u64> + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let watching = std::thread::spawn(move || {
            let mut peak = 0;
            while !stopped.load(Ordering::Relaxed) {
                peak = peak.max(look().unwrap_or(0));
                std::thread::sleep(Duration::from_millis(5));
            }
            peak
        });
        Self { stop, watching }
    }

    /// The most so far.
    pub fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.watching.join().unwrap_or(u64::MAX)
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
