//! `demo`, `up`, `version`, `man`, `completions`.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Ran, World, has, sotto};

#[test]
fn every_step_of_the_demo_holds() {
    let ran = Ran::of(sotto(["demo", "--json"]).output().unwrap());
    let steps: Vec<Value> = ran
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for step in &steps {
        has(step, "sotto.demo_step/1", &["step", "ok", "detail"]);
        assert_eq!(step["ok"], true, "{step}");
    }
    assert!(steps.len() > 25, "{}", steps.len());
    ran.succeeds();
}

#[test]
fn up_serves_until_it_is_told_to_stop() {
    let world = World::new();
    let ada = world.person("ada");
    let listen = [
        "--listen-relay",
        "127.0.0.1:0",
        "--listen-files",
        "127.0.0.1:0",
    ];
    let mut child = ada.spawn(["up", "--name", "Ada"].into_iter().chain(listen));
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    lines.read_line(&mut first).unwrap();
    let up: Value = serde_json::from_str(&first).unwrap();
    has(&up, "sotto.up/1", &["relay", "file_server", "npub", "home"]);

    // A second account on the same servers writes to the first.
    let bob = world.person("bob");
    bob.run(["init", "--relay", up["relay"].as_str().unwrap()])
        .succeeds();
    let invite = up["invite"].as_str().unwrap();
    bob.run(["contact", "add", invite, "--alias", "ada"])
        .succeeds();
    bob.sends("ada", "your relay works");
    let mut event = String::new();
    while !event.contains("your relay works") {
        event.clear();
        assert_ne!(lines.read_line(&mut event).unwrap(), 0, "it ended");
    }
    // The same home is open to other commands meanwhile.
    assert_eq!(
        ada.run(["inbox"]).object()["last"]["text"],
        "your relay works"
    );

    assert_eq!(open_to_others(&ada.home), Vec::<PathBuf>::new());
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    child.ended().succeeds();
}

/// What under `folder`, itself included, another user could open.
fn open_to_others(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(path) = waiting.pop() {
        let about = std::fs::symlink_metadata(&path).unwrap();
        if about.is_dir() {
            let entries = std::fs::read_dir(&path).unwrap();
            waiting.extend(entries.map(|entry| entry.unwrap().path()));
        }
        if about.permissions().mode() & 0o077 != 0 {
            found.push(path);
        }
    }
    found
}

#[test]
fn up_starts_nothing_before_it_can_unlock() {
    let world = World::new();
    let home = world.dir.path().join("nobody");
    let mut up = sotto(["up", "--json", "--listen-relay", "127.0.0.1:0"]);
    up.args(["--listen-files", "127.0.0.1:0", "--home"])
        .arg(&home);
    Ran::of(up.output().unwrap()).refuses(4, "locked");
    assert!(!home.exists());
}

#[test]
fn a_busy_port_is_a_conflict() {
    let world = World::new();
    let taken = world.relay_url.strip_prefix("ws://").unwrap();
    let ada = world.person("ada");
    ada.run(["up", "--listen-relay", taken])
        .refuses(9, "conflict");
}

#[test]
fn the_version_names_its_commit() {
    let version = Ran::of(sotto(["version", "--json"]).output().unwrap()).object();
    has(&version, "sotto.version/1", &["version", "commit"]);
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    let text = Ran::of(sotto(["version"]).output().unwrap());
    let commit = version["commit"].as_str().unwrap();
    assert_eq!(
        text.text(),
        format!("sotto {} ({commit})\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn every_command_has_a_manual_page() {
    let page = Ran::of(sotto(["man", "message", "list"]).output().unwrap());
    assert!(page.succeeds().text().contains(".TH sotto-message-list 1"));
    Ran::of(sotto(["man", "nothing", "--json"]).output().unwrap()).refuses(2, "usage");
    let folder = tempfile::tempdir().unwrap();
    let mut command = sotto(["man", "--dir"]);
    Ran::of(command.arg(folder.path()).output().unwrap()).succeeds();
    for name in ["sotto.1", "sotto-send.1", "sotto-message-delete.1"] {
        assert!(folder.path().join(name).exists(), "{name}");
    }
}

#[test]
fn shells_get_completions_that_they_accept() {
    for (shell, word) in [
        ("bash", "_sotto"),
        ("zsh", "#compdef sotto"),
        ("fish", "complete -c sotto"),
    ] {
        let script = Ran::of(sotto(["completions", shell]).output().unwrap());
        assert!(script.succeeds().text().contains(word), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sotto.bash");
    let script = sotto(["completions", "bash"]).output().unwrap();
    std::fs::write(&file, script.stdout).unwrap();
    let check = std::process::Command::new("bash")
        .arg("-n")
        .arg(&file)
        .status();
    assert!(check.unwrap().success());
}
