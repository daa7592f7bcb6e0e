//! File encryption in chunks against one call of the cipher on one large buffer.

use std::hint::black_box;

use anyhow::Result;
use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use crypto::{FileDecryptor, FileEncryptor, FileKey};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::rounds::{interleaved, median, ratio};
use crate::table::{Bar, Table};

const BYTES: usize = 32 * 1024 * 1024;
const ROUNDS: usize = 9;

/// Adds the rows for files.
pub fn run(table: &mut Table) -> Result<()> {
    let key = FileKey::generate(&mut StdRng::seed_from_u64(3));
    let file: Vec<u8> = (0..BYTES)
        .map(|at| u8::try_from(at % 251).unwrap_or(0))
        .collect();
    let (mut sealed, mut back) = (Vec::new(), Vec::new());
    encrypt(&key, &file, |chunk| sealed.extend_from_slice(chunk))?;
    decrypt(&key, &sealed, |chunk| back.extend_from_slice(chunk))?;
    anyhow::ensure!(back == file, "what was encrypted must come back");

    let cipher = XChaCha20Poly1305::new(&[4; 32].into());
    let mut buffer = file.clone();
    let mut one_call = || {
        black_box(
            cipher
                .encrypt_in_place_detached(&[5; 24].into(), b"", &mut buffer)
                .is_ok(),
        );
    };
    let mut chunked = || {
        black_box(encrypt(&key, &file, discard).is_ok());
    };
    let mut opened = || {
        black_box(decrypt(&key, &sealed, discard).is_ok());
    };
    let seconds = interleaved(ROUNDS, 1, &mut [&mut one_call, &mut chunked, &mut opened]);
    let [one_call, chunked, opened] = seconds.as_slice() else {
        anyhow::bail!("three candidates give three lists");
    };
    let mib = |seconds: &[f64]| format!("{:.0} MiB/s", 32.0 / median(seconds));
    let (value, range) = ratio(one_call, chunked);
    let note = format!("{range}, {}", mib(chunked));
    table.row(
        "file encryption, share of one large buffer's speed",
        value,
        "",
        &note,
        Bar::AtLeast(0.6),
    );
    let (value, range) = ratio(one_call, opened);
    let note = format!("{range}, {}", mib(opened));
    table.row(
        "file decryption, share of one large buffer's speed",
        value,
        "",
        &note,
        Bar::None,
    );
    Ok(())
}

fn discard(chunk: &[u8]) {
    black_box(chunk.first());
}

/// Hands each encrypted chunk to `sink` out of one reused buffer, as the spool does.
fn encrypt(key: &FileKey, file: &[u8], mut sink: impl FnMut(&[u8])) -> Result<()> {
    let mut encryptor = FileEncryptor::new(key, u64::try_from(file.len())?)?;
    let mut chunk = Vec::new();
    let mut rest = file;
    while let Some(wanted) = encryptor.wants() {
        let (part, after) = rest.split_at_checked(wanted).unwrap_or((rest, &[]));
        encryptor.next_chunk(part, &mut chunk)?;
        sink(&chunk);
        rest = after;
    }
    Ok(())
}

/// The inverse, likewise.
fn decrypt(key: &FileKey, sealed: &[u8], mut sink: impl FnMut(&[u8])) -> Result<()> {
    let mut decryptor = FileDecryptor::new(key, u64::try_from(sealed.len())?)?;
    let mut chunk = Vec::new();
    let mut rest = sealed;
    while let Some(wanted) = decryptor.wants() {
        let (part, after) = rest.split_at_checked(wanted).unwrap_or((rest, &[]));
        decryptor.next_chunk(part, &mut chunk)?;
        sink(&chunk);
        rest = after;
    }
    Ok(())
}
