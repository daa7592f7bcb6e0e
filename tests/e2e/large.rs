//! A file much larger than memory may be, through whole processes.

use std::path::Path;

use e2e::process::{Server, sotto};

/// 64 MiB: what client and server may hold at most, whatever the file's size.
const MEMORY_KIB: u64 = 64 * 1024;

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
    let servers = ["--relay", &relay.url, "--file-server", &files.url];
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
    let serving = files.peak_kib();
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
