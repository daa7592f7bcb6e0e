//! A file much larger than memory may be, through whole processes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// 64 MiB: what client and server may hold at most, whatever the file's size.
const MEMORY_KIB: u64 = 64 * 1024;

fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.parent().unwrap().parent().unwrap().join(name);
    assert!(
        path.exists(),
        "{} is not built; `cargo build --workspace`",
        path.display()
    );
    path
}

struct Server(Child, String);

impl Server {
    fn start(name: &str, data: &Path) -> Self {
        use std::io::BufRead;
        let mut child = Command::new(program(name))
            .args(["run", "--json", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        Self(child, value["url"].as_str().unwrap().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The most memory a process has had, KiB; nothing when it is gone.
fn peak_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Runs `sotto` to its end; gives its stdout and the most memory it had.
fn sotto(home: &Path, args: &[&str]) -> (serde_json::Value, u64) {
    let mut child = Command::new(program("sotto"))
        .args(["--json", "--no-input", "--timeout", "1800s", "--home"])
        .arg(home)
        .arg("--key-file")
        .arg(home.with_extension("key"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut peak = 0;
    loop {
        peak = peak.max(peak_kib(child.id()).unwrap_or(0));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{args:?} ended with {}",
        output.status
    );
    let first = output.stdout.split(|byte| *byte == b'\n').next().unwrap();
    (serde_json::from_slice(first).unwrap_or_default(), peak)
}

/// A file of that many bytes that differ from chunk to chunk; gives its hash.
fn write_file(path: &Path, bytes: u64) -> String {
    use sha2::Digest;
    use std::io::Write;
    let mut hasher = sha2::Sha256::new();
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    let mut chunk = vec![0_u8; 1 << 20];
    for at in 0..bytes >> 20 {
        chunk[..8].copy_from_slice(&at.to_be_bytes());
        hasher.update(&chunk);
        file.write_all(&chunk).unwrap();
    }
    file.flush().unwrap();
    hex::encode(hasher.finalize())
}

#[test]
fn a_file_larger_than_memory_goes_through_in_flat_memory() {
    // 2 GiB in slow mode; the same path with 96 MiB otherwise, which would not fit the bound
    // either if any part of it were gathered in memory.
    let is_slow = std::env::var_os("SOTTO_SLOW").is_some();
    let bytes: u64 = if is_slow { 2 << 30 } else { 96 << 20 };
    let folder = tempfile::tempdir().unwrap();
    let relay = Server::start("sotto-relay", &folder.path().join("relay"));
    let files = Server::start("sotto-files", &folder.path().join("files"));
    let servers = ["--relay", &relay.1, "--file-server", &files.1];
    let (anna, ben) = (folder.path().join("anna"), folder.path().join("ben"));
    let init = [&["init"][..], &servers].concat();
    let (anna_account, _) = sotto(&anna, &init);
    let (ben_account, _) = sotto(&ben, &init);
    let ben_key = ben_account["pubkey"].as_str().unwrap();
    sotto(
        &ben,
        &[
            "contact",
            "add",
            anna_account["pubkey"].as_str().unwrap(),
            "--alias",
            "anna",
        ],
    );
    // The invite tells that Ben's client knows the streaming format.
    let (invite, _) = sotto(&ben, &["invite"]);
    sotto(
        &anna,
        &[
            "contact",
            "add",
            invite["link"].as_str().unwrap(),
            "--alias",
            "ben",
        ],
    );
    let path = folder.path().join("large.bin");
    let hash = write_file(&path, bytes);

    let (sent, sending) = sotto(&anna, &["send", ben_key, "--file", path.to_str().unwrap()]);
    sotto(&ben, &["sync"]);
    let out = folder.path().join("out.bin");
    let id = sent["id"].as_str().unwrap();
    let (saved, fetching) = sotto(&ben, &["file", "get", id, "-o", out.to_str().unwrap()]);
    assert_eq!(saved["sha256"], hash);
    assert_eq!(saved["size"], bytes);
    assert_eq!(std::fs::metadata(&out).unwrap().len(), bytes);
    let serving = peak_kib(files.0.id()).unwrap();
    eprintln!(
        "{} MiB: sender {sending} KiB, receiver {fetching} KiB, server {serving} KiB",
        bytes >> 20
    );
    for (who, peak) in [
        ("sender", sending),
        ("receiver", fetching),
        ("server", serving),
    ] {
        assert!(peak < MEMORY_KIB, "the {who} took {peak} KiB");
    }
}
