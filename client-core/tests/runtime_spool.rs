//! The spool: encrypted once, in flat memory, whole or not at all.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking"
)]

use std::io::{self, Read};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use client_core::engine::FileCipher;
use client_core::home::folder::Folder;
use client_core::runtime::spool::{Spool, Stop};
use client_core::{Error, ErrorWord};
use crypto::foreign_file::ForeignFileKey;
use crypto::{FileDecryptor, FileKey};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use wire::Sha256;

fn spool(path: &Path) -> Spool {
    Spool::new(Folder::create(path).unwrap())
}

fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}

fn never() -> Stop {
    Arc::new(AtomicBool::new(false))
}

/// Bytes that are made as they are read.
struct Pattern {
    left: u64,
    at: u64,
}

impl Pattern {
    fn new(length: u64) -> Self {
        Self {
            left: length,
            at: 0,
        }
    }
}

impl Read for Pattern {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        // Cheap to make: a page has one byte, which its place decides.
        let page_end = (self.at / 4_096 + 1) * 4_096;
        let most = self.left.min(page_end - self.at);
        let count = usize::try_from(most).unwrap().min(out.len());
        out[..count].fill((self.at / 4_096 % 251) as u8);
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

fn decrypt(path: &Path, key: &FileKey) -> Vec<u8> {
    let sealed = std::fs::read(path).unwrap();
    let mut decryptor = FileDecryptor::new(key, sealed.len() as u64).unwrap();
    let (mut at, mut chunk, mut all) = (0, Vec::new(), Vec::new());
    while let Some(wanted) = decryptor.wants() {
        decryptor
            .next_chunk(&sealed[at..at + wanted], &mut chunk)
            .unwrap();
        all.extend_from_slice(&chunk);
        at += wanted;
    }
    all
}

#[test]
fn a_file_is_spooled_under_the_hash_of_its_ciphertext() {
    let place = tempfile::tempdir().unwrap();
    let spool = spool(place.path());
    for length in [0, 1, 65_527, 65_528, 65_529, 1_000_000] {
        let key = FileKey::generate(&mut rng());
        let cipher = FileCipher::Stream(key.clone());
        let spooled = spool
            .encrypt(
                &mut Pattern::new(length),
                length,
                &cipher,
                &mut rng(),
                &never(),
            )
            .unwrap();
        let path = place.path().join(spooled.blob.to_hex());
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(Sha256::of(&bytes), spooled.blob);
        assert_eq!(bytes.len() as u64, spooled.cipher_size);
        let plain = decrypt(&path, &key);
        assert_eq!(plain.len() as u64, length);
        assert_eq!(Sha256::of(&plain), spooled.plain_hash);
        spool.remove(&spooled.blob).unwrap();
    }
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn a_stream_that_is_set_aside_comes_back_whole_and_is_nowhere_in_the_clear() {
    let place = tempfile::tempdir().unwrap();
    let spool = spool(place.path());
    for length in [0, 5, 4 * 1024 * 1024 - 1, 4 * 1024 * 1024, 13_000_001] {
        let (found, mut reader) = spool
            .set_aside(&mut Pattern::new(length), &mut rng(), &never())
            .unwrap();
        assert_eq!(found, length);
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        let mut expected = Vec::new();
        Pattern::new(length).read_to_end(&mut expected).unwrap();
        assert!(all == expected, "{length}");
        // Even while it is set aside no name leads to it.
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_not_spooled() {
    let place = tempfile::tempdir().unwrap();
    let spool = spool(place.path());
    let cipher = FileCipher::Stream(FileKey::generate(&mut rng()));
    for (real, announced) in [(99_999, 100_000), (100_001, 100_000)] {
        let error = spool
            .encrypt(
                &mut Pattern::new(real),
                announced,
                &cipher,
                &mut rng(),
                &never(),
            )
            .unwrap_err();
        assert_eq!(error.word, ErrorWord::Conflict);
    }
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn a_file_for_another_client_is_at_most_sixteen_mebibytes() {
    let place = tempfile::tempdir().unwrap();
    let spool = spool(place.path());
    let cipher = FileCipher::Foreign(ForeignFileKey::generate(&mut rng()));
    let most = 16 * 1024 * 1024;
    let spooled = spool
        .encrypt(&mut Pattern::new(most), most, &cipher, &mut rng(), &never())
        .unwrap();
    assert_eq!(spooled.cipher_size, most + 16);
    let error = spool
        .encrypt(
            &mut Pattern::new(most + 1),
            most + 1,
            &cipher,
            &mut rng(),
            &never(),
        )
        .unwrap_err();
    assert_eq!((error.word, error.exit), (ErrorWord::TooLarge, 10));
}

#[test]
fn nobody_waiting_ends_the_work_and_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let spool = spool(place.path());
    let cipher = FileCipher::Stream(FileKey::generate(&mut rng()));
    let stop = never();
    stop.store(true, Ordering::Relaxed);
    let error = spool
        .encrypt(
            &mut Pattern::new(1 << 40),
            1 << 35,
            &cipher,
            &mut rng(),
            &stop,
        )
        .unwrap_err();
    assert_eq!(error.word, ErrorWord::Interrupted);
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

/// Runs one test of this file again in a process of its own, where its limits hurt nobody else.
fn in_child(test: &str, before: &str) {
    let program = std::env::current_exe().unwrap();
    let script = format!("{before} exec \"$0\" --exact {test} --ignored --nocapture");
    let output = Command::new("sh")
        .args(["-c", &script])
        .arg(program)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}

#[test]
fn a_full_disk_is_said_to_be_one_and_leaves_nothing_half_written() {
    // Files of at most 1 MiB, and a write beyond is an error instead of a signal.
    in_child("child_with_small_files", "trap '' XFSZ; ulimit -f 2048;");
}

#[test]
#[ignore = "run by `a_full_disk_is_said_to_be_one_and_leaves_nothing_half_written`"]
fn child_with_small_files() {
    let place = tempfile::tempdir().unwrap();
    let spool = spool(place.path());
    let cipher = FileCipher::Stream(FileKey::generate(&mut rng()));
    let length = 50_000_000;
    let error: Error = spool
        .encrypt(
            &mut Pattern::new(length),
            length,
            &cipher,
            &mut rng(),
            &never(),
        )
        .unwrap_err();
    assert_eq!((error.word, error.exit), (ErrorWord::DiskFull, 1));
    let (small, _) = (100_000, ());
    let kept = spool.encrypt(
        &mut Pattern::new(small),
        small,
        &cipher,
        &mut rng(),
        &never(),
    );
    assert!(kept.is_ok());
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
}

#[test]
fn memory_stays_flat_however_large_the_file_is() {
    // In a process of its own, whose peak is its own too.
    in_child("child_with_a_large_file", "");
}

#[test]
#[ignore = "run by `memory_stays_flat_however_large_the_file_is`"]
fn child_with_a_large_file() {
    fn peak_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
    let place = tempfile::tempdir().unwrap();
    let spool = spool(place.path());
    let cipher = FileCipher::Stream(FileKey::generate(&mut rng()));
    let length = 128 * 1024 * 1024;
    let (found, mut reader) = spool
        .set_aside(&mut Pattern::new(length), &mut rng(), &never())
        .unwrap();
    spool
        .encrypt(&mut *reader, found, &cipher, &mut rng(), &never())
        .unwrap();
    assert!(peak_kib() < 64 * 1024, "{} KiB", peak_kib());
}
