//! The program killed in the middle of its work.

use std::collections::HashMap;
use std::io::BufRead as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use futures_util::SinkExt as _;
use sotto_relay::config::IndexEngine;
use tokio_tungstenite::tungstenite::Message;
use wire::{ClientFrame, Event, EventId, RelayFrame};

use crate::files::holding;
use crate::power::trace;
use crate::support::{Client, PATIENCE, ids, now, person};

/// A running program and where it listens.
pub struct Program {
    pub child: Child,
    pub url: String,
}

pub fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sotto-relay"))
}

impl Program {
    pub fn start(data: &Path) -> Self {
        let mut command = binary();
        command
            .args(["--json", "run", "--listen", "127.0.0.1:0", "--data"])
            .arg(data);
        Self::spawn(&mut command)
    }

    /// With these lines of a configuration, which is written beside the data.
    pub fn configured(data: &Path, configuration: &str) -> Self {
        let file = data.with_extension("toml");
        std::fs::write(&file, configuration).unwrap();
        let mut command = binary();
        command
            .args(["--json", "run", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .arg("--config")
            .arg(&file);
        Self::spawn(&mut command)
    }

    pub fn spawn(command: &mut Command) -> Self {
        Self::try_spawn(command).unwrap()
    }

    /// What it said where it ended before it listened.
    pub fn try_spawn(command: &mut Command) -> Result<Self, Output> {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        std::io::BufReader::new(stdout)
            .read_line(&mut line)
            .unwrap();
        if line.is_empty() {
            return Err(child.wait_with_output().unwrap());
        }
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["schema"], "sotto.listening/1");
        assert_eq!(object["pid"], child.id());
        let url = object["url"].as_str().unwrap().to_owned();
        Ok(Self { child, url })
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `sotto-relay compact`, killed at its so many-th sync, unless it ends before.
fn compact_and_kill(data: &Path, shim: &Path, sync: u64) {
    use std::os::unix::process::ExitStatusExt as _;
    let output = binary()
        .args(["--json", "compact", "--data"])
        .arg(data)
        .arg("--config")
        .arg(data.with_extension("toml"))
        .env("LD_PRELOAD", shim)
        .env("POWER_ROOT", data)
        .env("POWER_TRACE", data.with_extension("trace"))
        .env("POWER_KILL", sync.to_string())
        .output()
        .unwrap();
    let status = output.status;
    assert!(status.success() || status.signal() == Some(9), "{output:?}");
}

/// Publishes, deletes, and is killed; whatever was acknowledged holds after the restart. The log is
/// of small segments of which most dies, so that kills meet their end too; and in every second round
/// a compaction of log and index is killed as well.
#[tokio::test]
async fn r_crash_7_what_was_acknowledged_survives_kill_9() {
    let rounds = if std::env::var_os("SOTTO_SLOW").is_some() {
        200
    } else {
        4
    };
    let library = tempfile::tempdir().unwrap();
    let shim = trace::shim(library.path());
    for engine in IndexEngine::ON_DISK {
        let section = format!("{}segment_bytes = 65536\n", store_section(engine));
        let start =
            |folder: &tempfile::TempDir| Program::configured(&folder.path().join("data"), &section);
        let mut folder = tempfile::tempdir().unwrap();
        let to = person(2);
        let mut kept: Vec<EventId> = Vec::new();
        let mut gone: Vec<EventId> = Vec::new();
        // When each of them ends, and how many were acknowledged.
        let (mut brief, mut expiring) = (HashMap::new(), 0);
        let mut program = start(&folder);
        for round in 0..rounds {
            let mut client = Client::connect(&program.url).await;
            let sender = person(1_000 + round);
            // Some of them expire while all this goes on.
            let end = now() + 2;
            let wraps: Vec<Event> = (0..300)
                .map(|n| match n % 25 {
                    0 => {
                        let (to, end) = (to.key().to_hex(), end.to_string());
                        let tags: [&[&str]; 2] = [&["p", &to], &["expiration", &end]];
                        sender.sign(1059, now(), &tags, &format!("{round} {n}, briefly"))
                    }
                    _ => sender.wrap(&to, &format!("{round} {n}")),
                })
                .collect();
            brief.extend(wraps.iter().step_by(25).map(|wrap| (wrap.id(), end)));
            let mut requests = Vec::new();
            for (n, wrap) in wraps.iter().enumerate() {
                let frame = ClientFrame::event(wrap.json());
                client.socket.feed(Message::text(frame)).await.unwrap();
                if n % 5 >= 2 {
                    // Pipelined behind its target, before or after it is stored: gone either way.
                    let request = sender.deletion(wrap);
                    let frame = ClientFrame::event(request.json());
                    client.socket.feed(Message::text(frame)).await.unwrap();
                    requests.push((request.id(), wrap.id()));
                }
            }
            client.socket.flush().await.unwrap();
            // Killed after a different number of answers each time.
            let count = 1 + (round as usize * 97) % 460;
            for _ in 0..count {
                if let RelayFrame::Ok(id, true, _) = client.receive().await {
                    match requests.iter().find(|(request, _)| *request == id) {
                        Some((_, target)) => gone.push(*target),
                        None if brief.contains_key(&id) => expiring += 1,
                        None => kept.push(id),
                    }
                }
            }
            program.signal("-KILL");
            program.child.wait().unwrap();
            if round % 2 == 1 {
                let sync = 1 + u64::from(round) * 5 % 40;
                compact_and_kill(&folder.path().join("data"), &shim, sync);
            }
            program = start(&folder);
            let mut reader = Client::connect_as(&program.url, &to).await;
            let asked_at = now();
            let found = reader.mailbox(&to).await;
            let found: std::collections::HashSet<_> = ids(&found).into_iter().collect();
            for id in &gone {
                assert!(
                    !found.contains(id),
                    "a deleted event is back in round {round}"
                );
            }
            for (id, _) in brief.iter().filter(|(_, end)| **end <= asked_at) {
                assert!(
                    !found.contains(id),
                    "an expired event is back in round {round}"
                );
            }
            for id in kept.iter().filter(|id| !requested(&requests, id)) {
                if !gone.contains(id) {
                    assert!(
                        found.contains(id),
                        "an acknowledged event is lost in round {round}"
                    );
                }
            }
            // Whether an unanswered deletion was carried out is open; forget those targets.
            kept.retain(|id| !requested(&requests, id));
            if round % 15 == 14 {
                // The answer to one filter is limited, so begin with an empty folder.
                folder = tempfile::tempdir().unwrap();
                program = start(&folder);
                kept.clear();
                gone.clear();
            }
        }
        assert!(expiring > 0);
        // However many kills came between: none is there, and none of their bytes either.
        let last = brief.values().max().copied().unwrap_or(0);
        while now() <= last {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        let mut reader = Client::connect_as(&program.url, &to).await;
        let found = ids(&reader.mailbox(&to).await);
        assert!(!found.iter().any(|id| brief.contains_key(id)), "{engine:?}");
        let begun = std::time::Instant::now();
        while !holding(&folder.path().join("data"), b", briefly").is_empty() {
            assert!(begun.elapsed() < PATIENCE, "{engine:?}: not erased in time");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
}

/// The part of a configuration file that chooses an engine.
pub fn store_section(engine: IndexEngine) -> String {
    format!(
        "[store]\nindex = {}\n",
        toml::Value::try_from(engine).unwrap()
    )
}

fn requested(requests: &[(EventId, EventId)], id: &EventId) -> bool {
    requests.iter().any(|(_, target)| target == id)
}
