//! The program itself: its exit codes, its first line, and what survives its death.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use wire::Sha256;
use wire::blob::Verb;

use crate::support::{
    Answer, PATIENCE, TokenDraft, World, all_files, ask, begin_upload, files_with, key, real_now,
    sample,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sotto-files");

/// A server process, killed when the test ends.
pub struct Process {
    pub child: Child,
    pub address: SocketAddr,
    first_line: Value,
}

impl Process {
    pub fn start(data: &Path) -> Self {
        let mut child = Command::new(PROGRAM)
            .args(["run", "--json", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let first_line: Value = serde_json::from_str(&line).unwrap();
        let url = first_line["url"].as_str().unwrap();
        let address = url.strip_prefix("http://").unwrap().parse().unwrap();
        Self {
            child,
            address,
            first_line,
        }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    async fn put(&self, seed: u64, blob: &[u8]) -> Option<u16> {
        let hash = Sha256::of(blob);
        let token = TokenDraft::new(Verb::Upload, &hash, real_now()).sign(&key(seed_key(seed)));
        let headers = [("Authorization", token.as_str())];
        let answer = ask(self.address, "PUT", "/upload", &headers, blob).await;
        answer.ok().map(|answer| answer.status.as_u16())
    }

    async fn get(&self, hash: &Sha256) -> Answer {
        ask(self.address, "GET", &format!("/{hash}"), &[], b"")
            .await
            .unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn seed_key(seed: u64) -> u8 {
    u8::try_from(seed % 200 + 1).unwrap()
}

/// Runs the program to its end.
fn program(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

async fn program_async(arguments: &[&str]) -> Output {
    let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
    tokio::task::spawn_blocking(move || Command::new(PROGRAM).args(arguments).output().unwrap())
        .await
        .unwrap()
}

fn object(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn f_cli_1_the_first_line_says_where_it_listens() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path());
    assert_eq!(process.first_line["schema"], "sotto.listening/1");
    assert_eq!(process.first_line["pid"], process.child.id());
    assert_ne!(process.address.port(), 0);
}

#[test]
fn f_cli_1_the_default_folder_is_no_part_of_an_account() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(PROGRAM)
        .args(["run", "--json", "--listen", "127.0.0.1:0"])
        .env("XDG_DATA_HOME", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(folder.path().join("sotto-files").join("blobs").is_dir());
    assert!(!folder.path().join("sotto").exists());
}

#[test]
fn f_cli_2_a_second_server_on_the_same_data_or_port_is_9() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path());
    let data = folder.path().to_str().unwrap();
    let second = program(&["run", "--json", "--listen", "127.0.0.1:0", "--data", data]);
    assert_eq!(second.status.code(), Some(9));
    let error = object(&second.stderr);
    assert_eq!(error["schema"], "sotto.error/1");
    assert_eq!(error["error"], "conflict");
    assert!(second.stdout.is_empty());
    for command in ["verify", "gc"] {
        let refused = program(&[command, "--data", data]);
        assert_eq!(refused.status.code(), Some(9), "{command}");
    }

    let other = tempfile::tempdir().unwrap();
    let listen = process.address.to_string();
    let other = other.path().to_str().unwrap();
    let busy = program(&["run", "--listen", &listen, "--data", other]);
    assert_eq!(busy.status.code(), Some(9));
}

#[test]
fn f_cli_3_nonsense_is_2_and_names_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.toml");
    let path = config.to_str().unwrap();
    std::fs::write(&config, "max_blob_bites = 3\n").unwrap();
    let refused = program(&["run", "--json", "--config", path]);
    assert_eq!(refused.status.code(), Some(2));
    let error = object(&refused.stderr);
    assert_eq!(error["error"], "usage");
    assert!(error["detail"].as_str().unwrap().contains("max_blob_bites"));

    let data = folder.path().to_str().unwrap();
    for arguments in [
        vec!["run", "--listen", "everywhere", "--data", data],
        vec!["run", "--public-url", "files.example/x", "--data", data],
        vec!["run", "--frobnicate"],
        vec!["run", "--listen", "127.0.0.1:0", "--data", path],
        vec!["check", "ftp://h"],
        vec!["nonsense"],
        vec![],
    ] {
        assert_eq!(program(&arguments).status.code(), Some(2), "{arguments:?}");
        let refused = program(&[&arguments[..], &["--json"]].concat());
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        let error = object(&refused.stderr);
        assert_eq!(error["schema"], "sotto.error/1", "{arguments:?}");
        assert_eq!(error["error"], "usage", "{arguments:?}");
        assert!(refused.stdout.is_empty());
    }
    let missing = program(&["run", "--config", "/nonexistent/c.toml"]);
    assert_eq!(missing.status.code(), Some(7));
}

#[test]
fn f_cli_4_init_writes_the_example_that_run_takes() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.toml");
    let path = config.to_str().unwrap();
    assert_eq!(program(&["init", "--config", path]).status.code(), Some(0));
    let written = std::fs::read_to_string(&config).unwrap();
    assert_eq!(
        written.trim_end().as_bytes(),
        program(&["init"]).stdout.trim_ascii_end()
    );
    assert_eq!(program(&["init", "--config", path]).status.code(), Some(9));
    assert_eq!(std::fs::read_to_string(&config).unwrap(), written);
    let data = folder.path().join("data");
    let mut child = Command::new(PROGRAM)
        .args([
            "run",
            "--json",
            "--config",
            path,
            "--listen",
            "127.0.0.1:0",
            "--data",
        ])
        .arg(data)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.contains("sotto.listening/1"), "{line}");
}

#[test]
fn f_cli_5_version_is_one_object() {
    let version = object(&program(&["version", "--json"]).stdout);
    assert_eq!(version["schema"], "sotto.version/1");
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn f_cli_6_check_tries_every_promise_and_leaves_nothing() {
    let world = World::start().await;
    let url = world.server.url();
    let checked = program_async(&["check", "--json", &url]).await;
    let report = object(&checked.stdout);
    assert_eq!(checked.status.code(), Some(0), "{report:#}");
    assert_eq!(report["schema"], "sotto.fileserver/1");
    assert_eq!(report["url"], url);
    assert_eq!(report["ok"], true);
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.len() >= 14);
    assert!(checks.iter().all(|check| check["ok"] == true));
    let blobs = all_files(&world.data().join("blobs"));
    assert!(blobs.is_empty(), "{blobs:?}");

    let text = program_async(&["check", &url]).await;
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.lines().all(|line| line.starts_with("ok   ")), "{text}");
}

#[tokio::test]
async fn f_cli_6_check_is_3_where_nobody_listens_and_5_where_a_promise_fails() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let checked = program_async(&["check", "--json", &closed]).await;
    assert_eq!(checked.status.code(), Some(3));
    assert_eq!(object(&checked.stderr)["error"], "unreachable");

    let full = World::with(|config| config.limits.total_bytes = 0).await;
    let checked = program_async(&["check", "--json", &full.server.url()]).await;
    assert_eq!(checked.status.code(), Some(5));
    assert_eq!(object(&checked.stderr)["error"], "partly_done");
    let report = object(&checked.stdout);
    assert_eq!(report["ok"], false);
    let checks = report["checks"].as_array().unwrap();
    let upload = checks.iter().find(|check| check["name"] == "upload");
    let detail = upload.unwrap()["detail"].as_str().unwrap();
    assert!(
        detail.contains("507") && detail.contains("space"),
        "{detail}"
    );
}

#[tokio::test]
async fn f_cli_7_verify_names_what_is_damaged() {
    let world = World::start().await;
    let blobs: Vec<_> = (0..5).map(|seed| sample(seed, 50_000)).collect();
    for blob in &blobs {
        world.put(&key(1), blob).await;
    }
    let World {
        server,
        folder: _folder,
        config,
        ..
    } = world;
    server.stop().await;
    let data = config.data.to_str().unwrap();
    let whole = program_async(&["verify", "--json", "--data", data]).await;
    assert_eq!(whole.status.code(), Some(0));
    assert_eq!(object(&whole.stdout)["blobs"], 5);
    assert_eq!(object(&whole.stdout)["bytes"], 250_000);

    let body = |blob: &[u8]| {
        let hash = Sha256::of(blob).to_hex();
        config.data.join("blobs").join(&hash[..2]).join(hash)
    };
    let mut flipped = blobs[0].clone();
    flipped[25_000] ^= 1;
    std::fs::write(body(&blobs[0]), flipped).unwrap();
    std::fs::write(body(&blobs[1]), &blobs[1][..49_999]).unwrap();
    std::fs::remove_file(body(&blobs[2])).unwrap();
    let hash = Sha256::of(&blobs[3]).to_hex();
    let record = config.data.join("claims").join(&hash[..2]);
    std::fs::write(record.join(format!("{hash}.json")), [0; 40]).unwrap();
    let damaged = program_async(&["verify", "--json", "--data", data]).await;
    assert_eq!(damaged.status.code(), Some(11));
    // Behind what the log has to say.
    let last = damaged
        .stderr
        .trim_ascii_end()
        .rsplit(|&byte| byte == b'\n');
    assert_eq!(
        object(last.into_iter().next().unwrap())["error"],
        "integrity"
    );
    let report = object(&damaged.stdout);
    assert_eq!(report["blobs"], 1);
    assert_eq!(report["damaged"].as_array().unwrap().len(), 4);

    // Of the damage that a start can see, nothing is served.
    let process = Process::start(&config.data);
    for blob in &blobs[1..4] {
        assert_eq!(process.get(&Sha256::of(blob)).await.status, 404);
    }
    assert_eq!(process.get(&Sha256::of(&blobs[4])).await.body, blobs[4]);
    // A whole copy heals it.
    assert_eq!(process.put(1, &blobs[1]).await, Some(201));
    assert_eq!(process.get(&Sha256::of(&blobs[1])).await.body, blobs[1]);
}

#[tokio::test]
async fn f_cli_8_gc_erases_what_has_expired_while_the_server_was_down() {
    let world = World::start().await;
    let blob = sample(1, 50_000);
    world.put_until(&key(1), &blob, world.clock.now() + 1).await;
    world.put(&key(1), b"stays").await;
    let World {
        server,
        folder: _folder,
        config,
        clock,
    } = world;
    server.stop().await;
    // The program goes by the real time.
    let end = clock.now() + 1;
    while real_now() < end {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let data = config.data.to_str().unwrap();
    let report = object(
        &program_async(&["gc", "--json", "--data", data])
            .await
            .stdout,
    );
    assert_eq!(report["erased"], 1, "{report}");
    assert_eq!(report["blobs"], 1);
    assert!(files_with(&config.data, &blob[..48]).is_empty());
    let nowhere = program_async(&["gc", "--data", "/nonexistent"]).await;
    assert_eq!(nowhere.status.code(), Some(7));
}

#[tokio::test]
async fn f_cli_9_sigterm_finishes_what_is_in_flight_and_is_0() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(folder.path());
    let blob = sample(1, 500_000);
    let hash = Sha256::of(&blob);
    let token = TokenDraft::new(Verb::Upload, &hash, real_now()).sign(&key(1));
    let half = blob.len() / 2;
    let mut upload = begin_upload(process.address, &token, blob.len(), &blob[..half]).await;
    crate::support::until("the upload is under way", async || {
        !files_with(folder.path(), &blob[..48]).is_empty()
    })
    .await;
    process.signal(rustix::process::Signal::TERM);
    // New connections are refused from now on, the old one is served to its end.
    let address = process.address;
    crate::support::until("nobody listens any more", async || {
        tokio::net::TcpStream::connect(address).await.is_err()
    })
    .await;
    upload.write_all(&blob[half..]).await.unwrap();
    let answer = crate::support::read_all(&mut upload).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let status = tokio::task::spawn_blocking(move || process.child.wait().unwrap());
    let status = tokio::time::timeout(PATIENCE, status).await.unwrap();
    assert_eq!(status.unwrap().code(), Some(0));
    let again = Process::start(folder.path());
    assert_eq!(again.get(&hash).await.body, blob);
}

/// Kills the program at arbitrary moments of uploads and deletions. Whatever was answered holds
/// afterwards; whatever was not is there whole or not at all; nothing half is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_st_2_a_killed_server_keeps_what_it_acknowledged_and_serves_nothing_half() {
    let rounds = if std::env::var_os("SOTTO_SLOW").is_some() {
        120
    } else {
        6
    };
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut seed = 0_u64;
    for round in 0..rounds {
        let process = std::sync::Arc::new(Process::start(folder.path()));
        let mut uploads = Vec::new();
        for _ in 0..6 {
            seed += 1;
            let (seed, process) = (seed, std::sync::Arc::clone(&process));
            uploads.push(tokio::spawn(async move {
                let blob = sample(seed, 200_000);
                let status = process.put(seed, &blob).await;
                (seed, blob, status)
            }));
        }
        // A different moment each round, reproducible enough to be meaningful: early, in the
        // middle of the bodies, around the fsyncs, after some answers.
        let moment = Duration::from_micros(round * 7_919 % 40_000);
        tokio::time::sleep(moment).await;
        process.signal(rustix::process::Signal::KILL);
        let mut unknown = Vec::new();
        for upload in uploads {
            let (seed, blob, status) = upload.await.unwrap();
            match status {
                Some(201) => acknowledged.push((seed, blob)),
                Some(other) => panic!("upload {seed}: {other}"),
                None => unknown.push((seed, blob)),
            }
        }
        drop(process);

        let process = Process::start(folder.path());
        for (seed, blob) in &acknowledged {
            let answer = process.get(&Sha256::of(blob)).await;
            assert_eq!(answer.status, 200, "round {round}: blob {seed} is lost");
            assert!(answer.body == *blob, "round {round}: blob {seed} is wrong");
        }
        for (seed, blob) in unknown {
            let answer = process.get(&Sha256::of(&blob)).await;
            match answer.status.as_u16() {
                200 => {
                    assert!(answer.body == blob, "round {round}: blob {seed} is wrong");
                    acknowledged.push((seed, blob));
                }
                404 => assert!(
                    files_with(folder.path(), &blob[..48]).is_empty(),
                    "round {round}: half of blob {seed} is left"
                ),
                other => panic!("round {round}: {other}"),
            }
        }
        // Keep the run's cost flat: take back all but a few, which exercises deletion, too.
        while acknowledged.len() > 4 {
            let (seed, blob) = acknowledged.remove(0);
            let hash = Sha256::of(&blob);
            let draft = TokenDraft::new(Verb::Delete, &hash, real_now());
            let token = draft.sign(&key(seed_key(seed)));
            let headers = [("Authorization", token.as_str())];
            let path = format!("/{hash}");
            let answer = ask(process.address, "DELETE", &path, &headers, b"")
                .await
                .unwrap();
            assert_eq!(answer.status, 204);
        }
    }
    let data = folder.path().to_str().unwrap();
    let verified = program_async(&["verify", "--json", "--data", data]).await;
    assert_eq!(
        verified.status.code(),
        Some(0),
        "{:?}",
        object(&verified.stdout)
    );
}
