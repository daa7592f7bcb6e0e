//! Disks that are full, and memory that must not grow.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use sotto_files::storage::{Claim, Spent, Staged, StorageError, Stored};
use sotto_files::{Clock, Config, FileServer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wire::Sha256;
use wire::blob::Verb;

use crate::altered::Altered;
use crate::support::{
    TokenDraft, World, all_files, ask, begin_upload, files_with, key, real_now, sample, until,
};

/// A file system of 4 MiB, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Nothing where this process may not mount.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m,nr_inodes=10k", "tmpfs"])
            .arg(folder.path())
            .output();
        mounted
            .is_ok_and(|output| output.status.success())
            .then_some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[tokio::test]
async fn f_up_6_a_disk_that_fills_up_in_the_middle_is_507_and_leaves_nothing() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!(
            "SKIPPED: mounting a small disk needs root; the test beside it injects the error"
        );
        return;
    };
    let world = World::with(|config| config.data = disk.path().join("data")).await;
    let kept = sample(1, 500_000);
    assert_eq!(world.put(&key(1), &kept).await.status, 201);
    let large = sample(2, 6_000_000);
    let refused = world.put(&key(1), &large).await;
    assert_eq!(refused.status, 507);
    assert_eq!(world.get(&Sha256::of(&large)).await.status, 404);
    // Announced small enough, but others fill the disk while it arrives.
    let medium = sample(3, 2_500_000);
    let token = world.token(&key(1), Verb::Upload, &Sha256::of(&medium));
    let address = world.server.address();
    let half = &medium[..1_200_000];
    let mut upload = begin_upload(address, &token, medium.len(), half).await;
    until("half of it has arrived", async || {
        !files_with(disk.path(), &medium[1_000_000..1_000_048]).is_empty()
    })
    .await;
    let _ = std::fs::write(disk.path().join("another program"), vec![1; 4_000_000]);
    let _ = upload.write_all(&medium[1_200_000..]).await;
    let answer = crate::support::read_all(&mut upload).await;
    assert!(answer.starts_with("HTTP/1.1 507"), "{answer}");
    until("nothing of it is left", async || {
        files_with(disk.path(), &medium[..48]).is_empty()
    })
    .await;
    assert_eq!(world.get(&Sha256::of(&kept)).await.body, kept);
    std::fs::remove_file(disk.path().join("another program")).unwrap();
    assert_eq!(world.put_with(&token, &medium, &[]).await.status, 201);
    assert_eq!(world.get(&Sha256::of(&medium)).await.body, medium);
    drop(world);
}

/// A blob whose medium takes `room` bytes of it and then is full.
struct CrampedStaged {
    inner: Box<dyn Staged>,
    room: usize,
}

impl Staged for CrampedStaged {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        self.room = self.room.checked_sub(bytes.len()).ok_or(full)?;
        self.inner.write(bytes)
    }

    fn commit(
        self: Box<Self>,
        hash: &Sha256,
        claim: Claim,
        token: Spent,
        now: u64,
    ) -> Result<Stored, StorageError> {
        self.inner.commit(hash, claim, token, now)
    }
}

#[tokio::test]
async fn f_up_6_a_write_that_finds_no_room_is_507() {
    let mut config = Config::new("unused");
    config.listen.set_port(0);
    let storage = Altered::staging(|inner| {
        let room = 200_000;
        Box::new(CrampedStaged { inner, room })
    });
    let server = FileServer::start_with(config, Arc::new(storage), Clock::system());
    let server = server.await.unwrap();
    for (size, expected) in [(100_000, 201), (500_000, 507), (150_000, 201)] {
        let blob = sample(size as u64, size);
        let hash = Sha256::of(&blob);
        let token = TokenDraft::new(Verb::Upload, &hash, real_now()).sign(&key(1));
        let headers = [("Authorization", token.as_str())];
        let put = ask(server.address(), "PUT", "/upload", &headers, &blob).await;
        let put = put.unwrap();
        assert_eq!(put.status, expected, "{}", put.reason());
        let get = ask(server.address(), "GET", &format!("/{hash}"), &[], b"").await;
        let found = if expected == 201 { 200 } else { 404 };
        assert_eq!(get.unwrap().status, found);
    }
}

/// Peak resident memory of a process, bytes.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn f_dl_5_memory_does_not_grow_with_the_blob() {
    let slow = std::env::var_os("SOTTO_SLOW").is_some();
    let size: usize = if slow { 2 << 30 } else { 160 << 20 };
    let folder = tempfile::tempdir().unwrap();
    let process = crate::program::Process::start(folder.path());
    // The same mebibyte again and again: the server does not look at it.
    let piece = sample(1, 1 << 20);
    let mut hasher = <sha2::Sha256 as sha2::Digest>::new();
    for _ in 0..size / piece.len() {
        sha2::Digest::update(&mut hasher, &piece);
    }
    let hash = Sha256::from_bytes(sha2::Digest::finalize(hasher).into());
    let token = TokenDraft::new(Verb::Upload, &hash, real_now()).sign(&key(1));
    let mut upload = begin_upload(process.address, &token, size, b"").await;
    for _ in 0..size / piece.len() {
        upload.write_all(&piece).await.unwrap();
    }
    let mut status = [0; 12];
    upload.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 201");
    drop(upload);

    let mut download = tokio::net::TcpStream::connect(process.address)
        .await
        .unwrap();
    let request = format!("GET /{hash} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    download.write_all(request.as_bytes()).await.unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut got = 0;
    loop {
        let count = download.read(&mut buffer).await.unwrap();
        if count == 0 {
            break;
        }
        got += count;
    }
    assert!(got > size);
    let peak = peak_memory(process.child.id());
    assert!(peak < 64 << 20, "{peak} bytes");
    let stored: u64 = all_files(&folder.path().join("blobs"))
        .iter()
        .map(|path| path.metadata().unwrap().len())
        .sum();
    assert_eq!(stored, size as u64);
}
