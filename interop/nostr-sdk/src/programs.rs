//! Sotto's programs as processes. They are found in `SOTTO_BIN_DIR`, by default the debug build of
//! the workspace.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

/// A relay and a file server on free ports of the loopback, and a folder for people's homes.
/// Dropping it stops both.
pub struct World {
    relay: Server,
    files: Server,
    folder: TempDir,
}

struct Server {
    process: Child,
    url: String,
}

/// An account of Sotto, used through the command line only.
pub struct Sotto {
    home: PathBuf,
    key_file: PathBuf,
    /// What `init` said: `sotto.account/1`.
    pub account: Value,
}

impl World {
    /// Starts both servers and waits until each says where it listens.
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let relay = Server::start("sotto-relay", &folder.path().join("relay"))?;
        let files = Server::start("sotto-files", &folder.path().join("files"))?;
        Ok(Self {
            relay,
            files,
            folder,
        })
    }

    /// `ws://127.0.0.1:PORT`
    pub fn relay(&self) -> &str {
        &self.relay.url
    }

    /// `http://127.0.0.1:PORT`
    pub fn files(&self) -> &str {
        &self.files.url
    }

    /// A path for a file of a test.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new account, locked with a key file, that uses the two servers.
    pub fn account(&self, name: &str) -> Result<Sotto> {
        let mut sotto = Sotto {
            home: self.path(name),
            key_file: self.path(&format!("{name}.key")),
            account: Value::Null,
        };
        sotto.account = sotto.json(&[
            "init",
            "--name",
            name,
            "--relay",
            self.relay(),
            "--file-server",
            self.files(),
            "--show-words",
        ])?;
        Ok(sotto)
    }
}

impl Server {
    fn start(program: &str, data: &Path) -> Result<Self> {
        let mut process = Command::new(program_path(program)?)
            .args(["run", "--json", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let stdout = process.stdout.take().context("standard output is piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let mut server = Self {
            process,
            url: String::new(),
        };
        let listening: Value = serde_json::from_str(&line)
            .with_context(|| format!("{program} did not say where it listens: {line:?}"))?;
        server.url = text(&listening, "url")?.to_owned();
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The folder goes with the test; what is in flight does not matter.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Sotto {
    /// The public key, hex.
    pub fn pubkey(&self) -> Result<&str> {
        text(&self.account, "pubkey")
    }

    /// The seed words.
    pub fn words(&self) -> Result<String> {
        match self.account.get("words") {
            Some(Value::String(words)) => Ok(words.clone()),
            Some(Value::Array(words)) => {
                let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
                Ok(words.join(" "))
            }
            _ => bail!("init --show-words showed no words"),
        }
    }

    /// Runs a command that must succeed and print one object.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let mut lines = self.json_lines(arguments)?;
        ensure!(lines.len() == 1, "{arguments:?} printed {lines:?}");
        lines.pop().context("one line")
    }

    /// Runs a command that must succeed and print one object a line.
    pub fn json_lines(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let output = self.run(arguments)?;
        ensure!(
            output.status.success(),
            "sotto {arguments:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout)?
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}")))
            .collect()
    }

    /// Runs a command and returns how it ended.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        Command::new(program_path("sotto")?)
            .arg("--home")
            .arg(&self.home)
            .arg("--key-file")
            .arg(&self.key_file)
            .args(["--json", "--no-input", "--timeout", "20s"])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .context("cannot start sotto")
    }

    /// Syncs, and returns the messages with `who`, oldest first.
    pub fn messages(&self, who: &str) -> Result<Vec<Value>> {
        self.json(&["sync"])?;
        self.json_lines(&["message", "list", who])
    }
}

/// A text field of an object.
pub fn text<'a>(object: &'a Value, key: &str) -> Result<&'a str> {
    object
        .get(key)
        .and_then(Value::as_str)
        .with_context(|| format!("no text {key} in {object}"))
}

fn program_path(program: &str) -> Result<PathBuf> {
    let folder = match std::env::var_os("SOTTO_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/debug"),
    };
    let path = folder.join(program);
    ensure!(
        path.is_file(),
        "{} is not built; cargo xtask test builds it",
        path.display()
    );
    Ok(path)
}
