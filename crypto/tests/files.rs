//! File encryption: sizes, damage, resuming, and the one-shot form for other clients.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests may fail loudly"
)]

use chacha20poly1305::aead::stream::{NewStream, StreamBE32, StreamPrimitive};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use crypto::file_cipher::{CHUNK_BYTES, FileError, Layout, SEALED_CHUNK_BYTES, padme};
use crypto::foreign_file::ForeignFileKey;
use crypto::{FileDecryptor, FileEncryptor, FileKey};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn key() -> FileKey {
    FileKey::from_secret_bytes([1; 32], [2; 19])
}

fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

fn encrypt(key: &FileKey, file: &[u8]) -> Vec<u8> {
    let mut encryptor = FileEncryptor::new(key, file.len() as u64).unwrap();
    let (mut at, mut chunk, mut out) = (0, Vec::new(), Vec::new());
    while let Some(wanted) = encryptor.wants() {
        encryptor
            .next_chunk(&file[at..at + wanted], &mut chunk)
            .unwrap();
        at += wanted;
        out.extend_from_slice(&chunk);
    }
    assert_eq!(at, file.len());
    assert_eq!(out.len() as u64, encryptor.layout().ciphertext_bytes());
    out
}

fn decrypt(key: &FileKey, sealed: &[u8]) -> Result<Vec<u8>, FileError> {
    let mut decryptor = FileDecryptor::new(key, sealed.len() as u64)?;
    let (mut at, mut chunk, mut out) = (0, Vec::new(), Vec::new());
    while let Some(wanted) = decryptor.wants() {
        decryptor.next_chunk(&sealed[at..at + wanted], &mut chunk)?;
        at += wanted;
        out.extend_from_slice(&chunk);
    }
    assert_eq!(at, sealed.len());
    assert_eq!(decryptor.length(), Some(out.len() as u64));
    Ok(out)
}

/// The plaintext of the format, padded, sealed chunk by chunk with the library alone.
fn seal_plaintext(plaintext: &[u8]) -> Vec<u8> {
    let cipher = XChaCha20Poly1305::new(&[1; 32].into());
    let stream = StreamBE32::from_aead(cipher, &[2; 19].into());
    let count = plaintext.len().div_ceil(CHUNK_BYTES);
    let chunks = plaintext.chunks(CHUNK_BYTES).enumerate();
    chunks
        .flat_map(|(index, chunk)| {
            stream
                .encrypt(index as u32, index + 1 == count, chunk)
                .unwrap()
        })
        .collect()
}

#[test]
fn padme_follows_its_table() {
    // Lengths and their Padmé sizes by hand: L = 9 has E = 3, S = 2, so one bit is cleared.
    let table = [
        (8, 8),
        (9, 10),
        (10, 10),
        (100, 104),
        (1_000, 1_024),
        (10_000, 10_240),
        (65_536, 65_536),
        (65_537, 67_584),
        (1_000_000, 1_015_808),
    ];
    for (length, padded) in table {
        assert_eq!(padme(length), padded, "{length}");
    }
}

#[test]
fn the_stream_is_that_of_the_format() {
    let file = bytes(100_000, 1);
    let mut plaintext = (file.len() as u64).to_be_bytes().to_vec();
    plaintext.extend_from_slice(&file);
    plaintext.resize(padme(100_008) as usize, 0);
    assert_eq!(encrypt(&key(), &file), seal_plaintext(&plaintext));
}

#[test]
fn sizes_and_bytes_are_those_of_the_document() {
    let document = include_str!("../../docs/protocol/files.md");
    let vector = hex::encode(encrypt(&key(), b"Sotto"));
    assert!(document.contains(&format!("`{vector}`")), "{vector}");
    for (length, text) in [
        (0, "0"),
        (1_000, "1,000"),
        (65_528, "65,528"),
        (65_529, "65,529"),
        (1_000_000, "1,000,000"),
    ] {
        let size = Layout::of_file(length).unwrap().ciphertext_bytes();
        let row = document
            .lines()
            .find(|line| line.starts_with(&format!("| {text} |")))
            .unwrap();
        let last = row.trim_end_matches(" |").rsplit("| ").next().unwrap();
        assert_eq!(last.replace(',', ""), size.to_string(), "{row}");
    }
}

#[test]
fn files_around_the_chunk_borders_come_back() {
    let borders = [
        0,
        1,
        7,
        8,
        CHUNK_BYTES - 9,
        CHUNK_BYTES - 8,
        CHUNK_BYTES - 7,
        CHUNK_BYTES,
        CHUNK_BYTES + 1,
        2 * CHUNK_BYTES - 8,
        3 * CHUNK_BYTES + 5,
    ];
    for length in borders {
        let file = bytes(length, length as u64);
        assert_eq!(decrypt(&key(), &encrypt(&key(), &file)).unwrap(), file);
    }
}

#[test]
fn a_truncated_file_is_refused() {
    let sealed = encrypt(&key(), &bytes(3 * CHUNK_BYTES, 1));
    for length in [0, 1, 15, 16, 23, 24, SEALED_CHUNK_BYTES, sealed.len() - 1] {
        assert!(decrypt(&key(), &sealed[..length]).is_err(), "{length}");
    }
    // Cut at a chunk's end, where the size alone is a possible one.
    let cut = &sealed[..2 * SEALED_CHUNK_BYTES];
    assert!(Layout::of_ciphertext(cut.len() as u64).is_ok());
    assert_eq!(decrypt(&key(), cut).unwrap_err(), FileError::Padding);
}

#[test]
fn trailing_bytes_are_refused() {
    let sealed = encrypt(&key(), &bytes(3 * CHUNK_BYTES, 1));
    for extra in [1, 16, 17, 4_096, SEALED_CHUNK_BYTES] {
        let longer = [sealed.as_slice(), &vec![0; extra]].concat();
        assert!(decrypt(&key(), &longer).is_err(), "{extra}");
    }
}

#[test]
fn chunks_do_not_change_places_or_files() {
    let sealed = encrypt(&key(), &bytes(4 * CHUNK_BYTES, 1));
    let mut swapped = sealed.clone();
    let (left, right) = swapped.split_at_mut(2 * SEALED_CHUNK_BYTES);
    left[SEALED_CHUNK_BYTES..].swap_with_slice(&mut right[..SEALED_CHUNK_BYTES]);
    assert_eq!(decrypt(&key(), &swapped).unwrap_err(), FileError::Forged);
    let other = FileKey::from_secret_bytes([1; 32], [3; 19]);
    assert_eq!(decrypt(&other, &sealed).unwrap_err(), FileError::Forged);
}

#[test]
fn a_wrong_length_and_padding_that_hides_something_are_refused() {
    let fine = |length: u64| {
        let mut plaintext = length.to_be_bytes().to_vec();
        plaintext.resize(padme(1_008) as usize, 0);
        plaintext
    };
    assert_eq!(
        decrypt(&key(), &seal_plaintext(&fine(1_000)))
            .unwrap()
            .len(),
        1_000
    );
    for length in [0, 900, 1_100, u64::MAX, u64::MAX - 7, 1 << 40] {
        let sealed = seal_plaintext(&fine(length));
        assert_eq!(
            decrypt(&key(), &sealed).unwrap_err(),
            FileError::Padding,
            "{length}"
        );
    }
    let mut hidden = fine(1_000);
    *hidden.last_mut().unwrap() = 1;
    let sealed = seal_plaintext(&hidden);
    assert_eq!(decrypt(&key(), &sealed).unwrap_err(), FileError::Padding);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_noticed() {
    let mut encryptor = FileEncryptor::new(&key(), 100).unwrap();
    let result = encryptor.next_chunk(&[0; 99], &mut Vec::new());
    assert_eq!(result.unwrap_err(), FileError::Length);
}

#[test]
fn a_decryption_goes_on_where_it_was_interrupted() {
    let file = bytes(3 * CHUNK_BYTES, 1);
    let sealed = encrypt(&key(), &file);
    let mut decryptor = FileDecryptor::new(&key(), sealed.len() as u64).unwrap();
    assert_eq!(decryptor.skip_to(2).unwrap_err(), FileError::Length);
    let mut out = Vec::new();
    let wanted = decryptor.wants().unwrap();
    decryptor.next_chunk(&sealed[..wanted], &mut out).unwrap();
    decryptor.skip_to(2).unwrap();
    let start = 2 * SEALED_CHUNK_BYTES;
    let wanted = decryptor.wants().unwrap();
    decryptor
        .next_chunk(&sealed[start..start + wanted], &mut out)
        .unwrap();
    let at = 2 * CHUNK_BYTES - 8;
    assert_eq!(out, file[at..at + out.len()]);
    assert!(!out.is_empty());
}

#[test]
fn sizes_beyond_the_largest_file_are_refused_before_any_work() {
    assert_eq!(
        FileEncryptor::new(&key(), u64::MAX).err(),
        Some(FileError::TooLarge)
    );
    assert!(FileDecryptor::new(&key(), u64::MAX).is_err());
    assert!(FileEncryptor::new(&key(), wire::limits::FILE_BYTES).is_ok());
}

#[test]
fn a_foreign_file_is_aes_gcm_as_others_write_it() {
    // AES-256-GCM, test case 14 of the GCM specification: zero key, nonce and block.
    let key = ForeignFileKey::from_tags(&"00".repeat(32), &"00".repeat(12)).unwrap();
    let mut file = vec![0; 16];
    key.encrypt(&mut file).unwrap();
    assert_eq!(
        hex::encode(&file),
        "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"
    );
    key.decrypt(&mut file).unwrap();
    assert_eq!(file, [0; 16]);
}

#[test]
fn foreign_keys_are_read_in_every_spelling_in_use() {
    let (key, nonce) = ([7_u8; 32], [9_u8; 16]);
    let engine = base64::engine::general_purpose::STANDARD;
    let base64 = |bytes: &[u8]| base64::Engine::encode(&engine, bytes);
    let mut file = b"a photo".to_vec();
    ForeignFileKey::from_tags(&hex::encode(key), &hex::encode(nonce))
        .unwrap()
        .encrypt(&mut file)
        .unwrap();
    ForeignFileKey::from_tags(&base64(&key), &base64(&nonce))
        .unwrap()
        .decrypt(&mut file)
        .unwrap();
    assert_eq!(file, b"a photo");
    for (key, nonce) in [("", ""), ("00", "00"), (&*"0".repeat(64), &*"0".repeat(30))] {
        let result = ForeignFileKey::from_tags(key, nonce);
        assert_eq!(result.err(), Some(FileError::Key));
    }
}

#[test]
fn a_damaged_or_oversized_foreign_file_is_refused_and_wiped() {
    let key = ForeignFileKey::generate(&mut StdRng::seed_from_u64(1));
    let mut file = bytes(1_000, 1);
    key.encrypt(&mut file).unwrap();
    file[5] ^= 1;
    assert_eq!(key.decrypt(&mut file).unwrap_err(), FileError::Forged);
    assert!(file.is_empty());
    let limit = wire::limits::FOREIGN_FILE_BYTES as usize;
    let mut large = vec![0; limit + 1];
    assert_eq!(key.encrypt(&mut large).unwrap_err(), FileError::TooLarge);
    large.truncate(limit);
    key.encrypt(&mut large).unwrap();
    key.decrypt(&mut large).unwrap();
    assert_eq!(large.len(), limit);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn padme_is_small_and_stable(length in 8_u64..wire::limits::FILE_BYTES) {
        let padded = padme(length);
        prop_assert!(padded >= length);
        prop_assert!(padded - length <= length / 8);
        prop_assert_eq!(padme(padded), padded);
    }

    #[test]
    fn a_layout_is_known_from_its_ciphertext(length in 0_u64..wire::limits::FILE_BYTES) {
        let layout = Layout::of_file(length).unwrap();
        prop_assert_eq!(Layout::of_ciphertext(layout.ciphertext_bytes()), Ok(layout));
    }

    #[test]
    fn any_file_comes_back_and_any_flipped_bit_is_noticed(
        length in 0_usize..150_000, seed: u64, flip: prop::sample::Index, bit in 0_u8..8,
    ) {
        let file = bytes(length, seed);
        let mut sealed = encrypt(&key(), &file);
        prop_assert_eq!(decrypt(&key(), &sealed).unwrap(), file);
        let place = flip.index(sealed.len());
        sealed[place] ^= 1 << bit;
        prop_assert_eq!(decrypt(&key(), &sealed), Err(FileError::Forged));
    }

    #[test]
    fn arbitrary_ciphertext_is_refused(sealed in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(decrypt(&key(), &sealed).is_err());
    }
}
