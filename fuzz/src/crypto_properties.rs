//! Decoders that hold secrets: payloads, wraps and files.

use bytes::Bytes;
use crypto::content_key::{decrypt_payload, encrypt_payload};
use crypto::{
    AccountKey, Envelope, FileDecryptor, FileKey, KeyCache, OneTimeKey, Opened, WrapKind,
    open_envelope, open_seal, wrap,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use wire::{Event, EventDraft, Tags, VerifiedEvent, kinds, limits};

/// The bytes as a NIP-44 payload: opened or refused. As a plaintext: what comes back is the same.
pub fn nip44_payload(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = decrypt_payload(&[7; 32], &text);
    if let Ok(payload) = encrypt_payload(&[7; 32], data, [9; 32]) {
        match decrypt_payload(&[7; 32], &payload) {
            Ok(plaintext) => assert!(plaintext == data),
            Err(_) => assert!(payload.len() > limits::EVENT_BYTES),
        }
    }
}

/// The bytes as a wrap, as what a wrap holds, and as what a seal of the account `01…` holds. A
/// message that opens is the author's and, if a text or file, addressed to the inbox `02…`.
pub fn wrap_chain(data: &[u8]) {
    let (Ok(author), Ok(inbox), Ok(key)) = (
        AccountKey::from_secret_bytes(&[1; 32]),
        AccountKey::from_secret_bytes(&[2; 32]),
        OneTimeKey::from_secret_bytes(&[3; 32]),
    ) else {
        return;
    };
    let to = inbox.public_key();
    let mut rng = StdRng::seed_from_u64(1);
    if let Ok(event) = Event::decode(Bytes::copy_from_slice(data)) {
        open(&inbox, event);
    }
    if let Ok(event) = wrap(&key, &to, WrapKind::Stored, data, 0, None, &mut rng) {
        open(&inbox, event);
    }
    let content = author
        .conversation_with(&to)
        .ok()
        .and_then(|conversation| conversation.encrypt(data, &mut rng).ok());
    let Some(content) = content else { return };
    let draft = EventDraft {
        pubkey: author.public_key(),
        created_at: 0,
        kind: kinds::SEAL,
        tags: Tags::new(),
        content,
    };
    let seal = author.sign(draft, &mut rng);
    if let Ok(event) = wrap(&key, &to, WrapKind::Stored, seal.json(), 0, None, &mut rng)
        && let Some(opened) = open(&inbox, event)
    {
        assert!(opened.author() == author.public_key());
        assert!(opened.deletion_secret().is_none() && opened.wraps().is_empty());
        if matches!(opened.rumor().kind(), kinds::TEXT | kinds::FILE) {
            assert!(opened.rumor().tags().people().any(|person| person == to));
        }
    }
}

fn open(inbox: &AccountKey, event: Event) -> Option<Opened> {
    let event = VerifiedEvent::verify(event).ok()?;
    let Envelope::Seal(envelope) = open_envelope(inbox, &event).ok()? else {
        return None;
    };
    let opened = open_seal(inbox, &envelope, &KeyCache::new(0)).ok()?;
    assert!(opened.wrap_id() == event.id() && opened.inbox() == inbox.public_key());
    Some(opened)
}

/// The bytes as an encrypted file under the key `01…` and nonce `02…`: whole, or refused.
pub fn file_cipher(data: &[u8]) {
    let key = FileKey::from_secret_bytes([1; 32], [2; 19]);
    let Ok(size) = u64::try_from(data.len()) else {
        return;
    };
    let Ok(mut decryptor) = FileDecryptor::new(&key, size) else {
        return;
    };
    let (mut rest, mut out, mut length) = (data, Vec::new(), 0);
    while let Some(wanted) = decryptor.wants() {
        let (chunk, tail) = rest.split_at(wanted);
        if decryptor.next_chunk(chunk, &mut out).is_err() {
            assert!(out.is_empty());
            return;
        }
        rest = tail;
        length += out.len();
    }
    assert!(rest.is_empty() && decryptor.length() == u64::try_from(length).ok());
}
