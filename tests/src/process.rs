//! The programs themselves, as a script runs them.

use std::io::{BufRead as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// Where a program of this build lies.
fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a test has a path");
    let folder = own.parent().and_then(Path::parent).expect("target/debug");
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is not built; `cargo build --workspace`",
        path.display()
    );
    path
}

/// A server that runs until this is dropped.
pub struct Server {
    child: Child,
    /// What it said it listens on.
    pub url: String,
    name: String,
    data: PathBuf,
    config: Option<PathBuf>,
}

impl Server {
    /// Starts one on a free port.
    pub fn start(name: &str, data: &Path) -> Self {
        Self::start_with(name, data, None)
    }

    /// The same, with a configuration file.
    pub fn start_with(name: &str, data: &Path, config: Option<&Path>) -> Self {
        let mut command = Command::new(program(name));
        command
            .args(["run", "--json", "--listen", "127.0.0.1:0", "--data"])
            .arg(data);
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        std::io::BufReader::new(stdout)
            .read_line(&mut line)
            .expect("it speaks");
        let value: Value = serde_json::from_str(&line).expect("one object");
        let url = value["url"].as_str().expect("a URL").to_owned();
        Self {
            child,
            url,
            name: name.to_owned(),
            data: data.to_owned(),
            config: config.map(Path::to_owned),
        }
    }

    /// Runs another verb of its program on its data and configuration, as its operator does
    /// beside it.
    pub fn operate(&self, verb: &[&str]) -> Ended {
        let mut command = Command::new(program(&self.name));
        command.arg("--json").args(verb);
        command.arg("--data").arg(&self.data);
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        to_its_end(command)
    }

    /// Sends it a signal, such as `-HUP`.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.expect("kill is there").success());
    }

    /// The most memory it has had, KiB.
    pub fn peak_kib(&self) -> u64 {
        peak_kib(self.child.id()).expect("it runs")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The most memory a process has had, KiB; nothing when it is gone.
fn peak_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code.
    pub code: i32,
    /// The first object on stdout, or nothing.
    pub object: Value,
    /// Every object on stdout.
    pub objects: Vec<Value>,
    /// The error object on stderr, or nothing.
    pub error: Value,
    /// The most memory it had, KiB.
    pub peak_kib: u64,
}

impl Ended {
    /// The same, where it did well.
    #[track_caller]
    pub fn done(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// The error object, where it failed with this code and word.
    #[track_caller]
    pub fn failed(&self, code: i32, word: &str) -> &Value {
        assert_eq!(
            (self.code, &self.error["error"]),
            (code, &word.into()),
            "{self:?}"
        );
        &self.error
    }
}

/// Runs `sotto` on a home to its end, under the key file beside the home.
pub fn run(home: &Path, args: &[&str]) -> Ended {
    let mut command = Command::new(program("sotto"));
    command
        .args(["--json", "--no-input", "--timeout", "1800s", "--home"])
        .arg(home)
        .arg("--key-file")
        .arg(home.with_extension("key"))
        .args(args);
    to_its_end(command)
}

/// Runs a program to its end.
fn to_its_end(mut command: Command) -> Ended {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut errors = child.stderr.take().expect("piped");
    let errors = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = errors.read_to_string(&mut text);
        text
    });
    let mut peak = 0;
    while child.try_wait().expect("it ends").is_none() {
        peak = peak.max(peak_kib(child.id()).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().expect("it ended");
    let errors = errors.join().expect("read to the end");
    let objects = |text: &str| -> Vec<Value> {
        let objects = text.lines().map(serde_json::from_str);
        objects.filter_map(Result::ok).collect()
    };
    let told = objects(&String::from_utf8_lossy(&output.stdout));
    let mut errors = objects(&errors).into_iter();
    Ended {
        code: output.status.code().unwrap_or(-1),
        object: told.first().cloned().unwrap_or_default(),
        objects: told,
        error: errors
            .find(|value| value["schema"] == "sotto.error/1")
            .unwrap_or_default(),
        peak_kib: peak,
    }
}

/// The same for a command that must do well; gives its object and the most memory it had.
pub fn sotto(home: &Path, args: &[&str]) -> (Value, u64) {
    let ended = run(home, args);
    assert_eq!(ended.code, 0, "{args:?}: {} {}", ended.error, ended.object);
    (ended.object, ended.peak_kib)
}
