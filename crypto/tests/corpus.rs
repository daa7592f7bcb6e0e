//! Replays the fuzz corpus in ordinary tests: every input that ever mattered, through the same
//! functions. A fixed set of hostile inputs runs where the corpus is absent too.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests may fail loudly"
)]

use std::path::PathBuf;

use bytes::Bytes;
use crypto::content_key::{decrypt_payload, encrypt_payload};
use crypto::{
    AccountKey, Envelope, FileDecryptor, FileKey, KeyCache, OneTimeKey, WrapKind, open_envelope,
    open_seal, wrap,
};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use wire::{Event, VerifiedEvent};

/// The files of one corpus folder, or nothing (said aloud) where it is absent.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(name);
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("skipped: no corpus in {}", folder.display());
        return Vec::new();
    };
    entries
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect()
}

/// As the fuzz target does: the payload as text, and the bytes as a plaintext.
fn nip44_payload(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = decrypt_payload(&[7; 32], &text);
    if let Ok(payload) = encrypt_payload(&[7; 32], bytes, [9; 32]) {
        let opened = decrypt_payload(&[7; 32], &payload);
        assert!(opened.map_or(payload.len() > wire::limits::EVENT_BYTES, |p| p == bytes));
    }
}

/// As the fuzz target does: the bytes as an event, as the inside of a wrap, and as a seal.
fn wrap_chain(bytes: &[u8]) {
    let inbox = AccountKey::from_secret_bytes(&[2; 32]).unwrap();
    let open = |event: Event| {
        let event = VerifiedEvent::verify(event).ok()?;
        let Envelope::Seal(envelope) = open_envelope(&inbox, &event).ok()? else {
            return None;
        };
        open_seal(&inbox, &envelope, &KeyCache::new(0)).ok()
    };
    if let Ok(event) = Event::decode(Bytes::copy_from_slice(bytes)) {
        let _ = open(event);
    }
    let mut rng = StdRng::seed_from_u64(1);
    let key = OneTimeKey::generate(&mut rng);
    let to = inbox.public_key();
    if let Ok(event) = wrap(&key, &to, WrapKind::Stored, bytes, 0, None, &mut rng) {
        let _ = open(event);
    }
    let author = AccountKey::from_secret_bytes(&[1; 32]).unwrap();
    let conversation = author.conversation_with(&to).unwrap();
    if let Ok(content) = conversation.encrypt(bytes, &mut rng) {
        let draft = wire::EventDraft {
            pubkey: author.public_key(),
            created_at: 0,
            kind: wire::kinds::SEAL,
            tags: wire::Tags::new(),
            content,
        };
        let seal = author.sign(draft, &mut rng);
        if let Ok(event) = wrap(&key, &to, WrapKind::Stored, seal.json(), 0, None, &mut rng)
            && let Some(opened) = open(event)
        {
            assert_eq!(opened.author(), author.public_key());
        }
    }
}

/// As the fuzz target does: a ciphertext that claims its own length.
fn file_cipher(bytes: &[u8]) {
    let key = FileKey::from_secret_bytes([1; 32], [2; 19]);
    let Ok(mut decryptor) = FileDecryptor::new(&key, u64::try_from(bytes.len()).unwrap()) else {
        return;
    };
    let (mut rest, mut out) = (bytes, Vec::new());
    while let Some(wanted) = decryptor.wants() {
        let (chunk, tail) = rest.split_at(wanted);
        if decryptor.next_chunk(chunk, &mut out).is_err() {
            return;
        }
        rest = tail;
    }
    assert!(rest.is_empty());
}

#[test]
fn the_corpus_is_replayed() {
    corpus("nip44_payload")
        .iter()
        .for_each(|b| nip44_payload(b));
    corpus("wrap_chain").iter().for_each(|b| wrap_chain(b));
    corpus("file_cipher").iter().for_each(|b| file_cipher(b));
}

#[test]
fn hostile_inputs_are_refused_quietly() {
    let inputs: [&[u8]; 9] = [
        b"",
        b"{",
        b"#",
        b"AgAA",
        b"\xff\xfe\x00",
        b"{\"pubkey\":\"\",\"tags\":[[[[",
        b"{\"id\":null,\"sotto_d\":\"\\u0000\"}",
        &[b'['; 1_000],
        &[0x01; 90_000],
    ];
    for input in inputs {
        nip44_payload(input);
        wrap_chain(input);
        file_cipher(input);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        nip44_payload(&bytes);
        wrap_chain(&bytes);
        file_cipher(&bytes);
    }

    #[test]
    fn arbitrary_json_like_text_never_panics(text in "\\{[\"a-z0-9:,\\[\\]{} \\\\]{0,300}") {
        wrap_chain(text.as_bytes());
    }

    #[test]
    fn nip44_padding_hides_the_length_and_comes_back(
        plaintext in prop::collection::vec(any::<u8>(), 1..5_000),
    ) {
        let payload = encrypt_payload(&[7; 32], &plaintext, [9; 32]).unwrap();
        prop_assert_eq!(decrypt_payload(&[7; 32], &payload).unwrap(), plaintext.clone());
        let longer = [plaintext.as_slice(), b"x"].concat();
        let other = encrypt_payload(&[7; 32], &longer, [9; 32]).unwrap();
        prop_assert!(other.len() >= payload.len());
    }
}
