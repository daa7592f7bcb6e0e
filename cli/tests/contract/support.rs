//! Servers, people, and what a process answered.

use std::io::Write;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use sotto_files::FileServer;
use sotto_relay::Relay;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// A relay and a file server on ports of their own, and a folder for homes.
pub struct World {
    runtime: Runtime,
    relay: Option<Relay>,
    files: Option<FileServer>,
    pub relay_url: String,
    pub files_url: String,
    pub dir: TempDir,
}

impl World {
    pub fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let relay = runtime.block_on(start_relay("127.0.0.1:0"));
        let config = sotto_files::Config {
            listen: ([127, 0, 0, 1], 0).into(),
            ..sotto_files::Config::new(dir.path().join("files"))
        };
        let files = runtime.block_on(FileServer::start(config)).unwrap();
        Self {
            relay_url: relay.url(),
            files_url: files.url(),
            relay: Some(relay),
            files: Some(files),
            runtime,
            dir,
        }
    }

    /// Another relay, which lives as long as the world's runtime.
    pub fn another_relay(&self) -> (Relay, String) {
        let relay = self.runtime.block_on(start_relay("127.0.0.1:0"));
        let url = relay.url();
        (relay, url)
    }

    /// The relay is gone, with everything in it.
    pub fn stop_relay(&mut self) {
        let relay = self.relay.take().unwrap();
        self.runtime.block_on(relay.stop()).unwrap();
    }

    /// An empty relay at the same address.
    pub fn start_relay_again(&mut self) {
        let address = self.relay_url.strip_prefix("ws://").unwrap();
        self.relay = Some(self.runtime.block_on(start_relay(address)));
    }

    pub fn stop_files(&mut self) {
        let files = self.files.take().unwrap();
        self.runtime.block_on(files.stop());
    }

    /// Somebody without an account.
    pub fn person(&self, name: &str) -> Person {
        Person {
            home: self.dir.path().join(name),
            key: self.dir.path().join(format!("{name}.key")),
        }
    }

    /// Somebody with an account on both servers.
    pub fn join(&self, name: &str) -> Person {
        let person = self.person(name);
        let init = ["init", "--name", name, "--relay", &self.relay_url];
        person
            .run(init.into_iter().chain(["--file-server", &self.files_url]))
            .succeeds();
        person
    }

    /// Two people who know each other.
    pub fn friends(&self) -> (Person, Person) {
        let (alice, bob) = (self.join("alice"), self.join("bob"));
        alice.knows(&bob, "bob");
        bob.knows(&alice, "alice");
        (alice, bob)
    }

    /// A file of the world's folder.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(relay) = self.relay.take() {
            self.runtime.block_on(relay.stop()).unwrap();
        }
        if let Some(files) = self.files.take() {
            self.runtime.block_on(files.stop());
        }
    }
}

async fn start_relay(address: &str) -> Relay {
    let listener = TcpListener::bind(address).await.unwrap();
    Relay::start(listener, sotto_relay::Config::in_memory())
        .await
        .unwrap()
}

/// A home folder and its key file.
pub struct Person {
    pub home: PathBuf,
    pub key: PathBuf,
}

impl Person {
    /// The command as a script would give it: JSON, the key file, and nobody to ask. What `args`
    /// say comes last and wins.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = sotto(["--json", "--timeout", "15s", "--home"]);
        command
            .arg(&self.home)
            .arg("--key-file")
            .arg(&self.key)
            .args(args);
        command
    }

    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    pub fn run_with_stdin<S: AsRef<std::ffi::OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        stdin: &[u8],
    ) -> Ran {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that refuses may not read it all.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        Ran::of(child.wait_with_output().unwrap())
    }

    pub fn spawn<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Running {
        let child = self
            .command(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Running(Some(child.unwrap()))
    }

    pub fn link(&self) -> String {
        self.run(["invite"]).object()["link"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub fn pubkey(&self) -> String {
        let account = self.run(["account", "show"]).object();
        account["pubkey"].as_str().unwrap().to_owned()
    }

    pub fn knows(&self, other: &Person, alias: &str) {
        self.run(["contact", "add", &other.link(), "--alias", alias])
            .succeeds();
    }

    /// Sends a text that must be accepted; gives its id.
    pub fn sends(&self, to: &str, text: &str) -> String {
        let sent = self.run(["send", to, text]).object();
        // One relay that takes it is all of them.
        assert_eq!(sent["status"], "stored");
        sent["id"].as_str().unwrap().to_owned()
    }

    pub fn syncs(&self) -> Value {
        self.run(["sync"]).object()
    }

    /// The texts of a conversation, oldest first.
    pub fn texts(&self, who: &str) -> Vec<String> {
        let texts = self.run(["message", "list", who]).objects();
        let text = |message: &Value| message["text"].as_str().unwrap().to_owned();
        texts.iter().map(text).collect()
    }
}

/// The program with nothing of this machine's in its environment.
pub fn sotto<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sotto"));
    command
        .arg("--no-input")
        .args(args)
        .env_remove("SOTTO_HOME")
        .env_remove("SOTTO_CIRCLE")
        .env("TZ", "UTC");
    command
}

/// A process that goes when the test does, however that ends.
pub struct Running(Option<Child>);

impl Running {
    /// What it answered once it has ended.
    pub fn ended(mut self) -> Ran {
        Ran::of(self.0.take().unwrap().wait_with_output().unwrap())
    }
}

impl Deref for Running {
    type Target = Child;
    fn deref(&self) -> &Child {
        self.0.as_ref().unwrap()
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a process answered.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    #[track_caller]
    pub fn succeeds(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// The objects on stdout of a command that went well.
    #[track_caller]
    pub fn objects(&self) -> Vec<Value> {
        self.succeeds();
        self.lines()
    }

    /// The one object on stdout of a command that went well.
    #[track_caller]
    pub fn object(&self) -> Value {
        self.succeeds();
        self.only()
    }

    /// The one object on stdout, whatever the exit code.
    #[track_caller]
    pub fn only(&self) -> Value {
        let mut lines = self.lines();
        assert_eq!(lines.len(), 1, "{self:?}");
        lines.remove(0)
    }

    #[track_caller]
    fn lines(&self) -> Vec<Value> {
        self.text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The error object of a command that failed with `code` and `word`.
    #[track_caller]
    pub fn fails(&self, code: i32, word: &str) -> Value {
        assert_eq!(self.code, Some(code), "{self:?}");
        let last = self.stderr.lines().last().unwrap_or_default();
        let error: Value = serde_json::from_str(last).unwrap();
        assert_eq!(error["schema"], "sotto.error/1");
        assert_eq!(error["error"], word, "{error}");
        assert!(!error["detail"].as_str().unwrap().is_empty());
        error
    }

    /// The same, where nothing was stored.
    #[track_caller]
    pub fn refuses(&self, code: i32, word: &str) -> Value {
        assert!(self.stdout.is_empty(), "{self:?}");
        self.fails(code, word)
    }
}

/// Asserts that an object has its schema and these fields.
#[track_caller]
pub fn has(object: &Value, schema: &str, fields: &[&str]) {
    assert_eq!(object["schema"], schema);
    for field in fields {
        assert!(object.get(field).is_some(), "no {field} in {object}");
    }
}

pub fn as_str(path: &Path) -> &str {
    path.to_str().unwrap()
}
