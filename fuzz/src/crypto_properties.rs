//! Decoders that hold secrets: payloads, wraps and files.

use std::sync::OnceLock;

use bytes::Bytes;
use crypto::circles::Circles;
use crypto::content_key::{decrypt_payload, encrypt_payload};
use crypto::foreign_file::ForeignFileKey;
use crypto::identity::CirclesKey;
use crypto::lock::LOCK_FILE_BYTES;
use crypto::tries::TRIES_BYTES;
use crypto::{
    AccountKey, Attempt, DeviceSecret, Envelope, FileDecryptor, FileKey, KeyCache, KeyFile, Lock,
    OneTimeKey, Opened, SecretText, Seed, Tries, Unlock, WrapKind, open_envelope, open_seal, wrap,
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

/// The bytes as an encrypted file under the key `01…` and nonce `02…`, and as one of another
/// client: whole, or refused. As a file for another client they come back.
pub fn file_cipher(data: &[u8]) {
    if let Ok(key) = ForeignFileKey::from_tags(&"01".repeat(32), &"02".repeat(12)) {
        let mut file = data.to_vec();
        if key.decrypt(&mut file).is_err() {
            assert!(file.is_empty());
        }
        file = data.to_vec();
        assert!(key.encrypt(&mut file).is_ok() && key.decrypt(&mut file).is_ok());
        assert_eq!(file, data);
    }
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

/// The files of a home that are read before anything is unlocked: the bytes as `lock.json`, as
/// the file of tries, and as what that file says under its MAC.
pub fn home_files(data: &[u8]) {
    if let Ok(lock) = Lock::decode(data) {
        let params = lock.params();
        assert!((8_192..=1_048_576).contains(&params.m));
        assert!((1..=10).contains(&params.t) && (1..=4).contains(&params.p));
        let written = lock.to_json();
        assert!(written.len() <= LOCK_FILE_BYTES);
        assert_eq!(Lock::decode(written.as_bytes()).as_ref(), Ok(&lock));
        assert!(lock.clone().with_tries(7).tries() >= lock.tries().max(7));
    }
    let device = DeviceSecret::from_secret_bytes([5; 32]);
    // What is no record of this device counts as the third wrong try.
    let (now, twin) = (1_700_000_000, 3);
    let record = Tries::decode(Some(data), &device, twin, now);
    let missing = Tries::decode(None, &device, twin, now);
    assert!(record == missing || record.encode(&device) == data);
    assert!(missing.count() == 3 && missing.retry_after_s(now) == 60);
    tries(record, &device, now);
    if let Some((times, _)) = data.split_first_chunk::<24>() {
        let (body, _) = times.as_chunks::<8>();
        let numbers: Vec<u64> = body
            .iter()
            .map(|chunk| u64::from_le_bytes(*chunk))
            .collect();
        let [count, at, later] = numbers.as_slice() else {
            return;
        };
        // A home in which somebody tries and tries.
        let mut record = Tries::fresh(*count);
        for time in [*at, *later, at.saturating_add(*later), *at] {
            let before = record;
            match record.begin(time) {
                Attempt::Allowed(next) => {
                    assert!(next.count() >= before.count() && next.counter() >= before.counter());
                    record = next;
                }
                Attempt::Wait {
                    retry_after_s,
                    record: next,
                } => {
                    assert!((1..=6 * 3_600).contains(&retry_after_s));
                    assert_eq!(next.count(), before.count());
                    record = next;
                }
            }
            tries(record, &device, time);
        }
    }
}

/// A record of tries comes back as it was written, and a flipped bit is noticed.
fn tries(record: Tries, device: &DeviceSecret, now: u64) {
    let written = record.encode(device);
    assert_eq!(written.len(), TRIES_BYTES);
    assert_eq!(Tries::decode(Some(&written), device, 0, now), record);
    let mut spoiled = written;
    if let Some(last) = spoiled.last_mut() {
        *last ^= 1;
    }
    let missing = Tries::decode(None, device, 0, now);
    assert_eq!(Tries::decode(Some(&spoiled), device, 0, now), missing);
}

/// The bytes as the plaintext of this seed's circle definitions: what is read can be merged, and
/// what can be written again comes back.
pub fn circles(data: &[u8]) {
    use chacha20poly1305::aead::Aead as _;
    use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
    // Stretching the seed takes longer than all that follows, so it is done once.
    static KEYS: OnceLock<(AccountKey, CirclesKey)> = OnceLock::new();
    let (account, key) = KEYS.get_or_init(|| {
        let seed = Seed::from_secret_entropy(&[7; 16]).expect("a seed");
        (seed.account_key(0).expect("a key"), seed.circles_key())
    });
    let mut rng = StdRng::seed_from_u64(3);
    let nonce = [9; 24];
    let sealed = XChaCha20Poly1305::new(key.expose_secret_bytes().into())
        .encrypt(&nonce.into(), data)
        .unwrap_or_default();
    let draft = EventDraft {
        pubkey: account.public_key(),
        created_at: 1,
        kind: kinds::APP_DATA,
        tags: Tags::from_iter([wire::Tag::new([
            "d".to_owned(),
            crypto::circles::tag_value(account),
        ])]),
        content: base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            [nonce.as_slice(), &sealed].concat(),
        ),
    };
    let Ok(event) = VerifiedEvent::verify(account.sign(draft, &mut rng)) else {
        return;
    };
    let Ok(circles) = Circles::open(&event, account, key) else {
        return;
    };
    let mut merged = circles.clone();
    merged.merge(circles.clone());
    assert_eq!(merged, circles);
    let _ = circles.next_index();
    if let Ok(event) = circles.seal(account, key, 2, &mut rng) {
        let event = VerifiedEvent::verify(event).ok();
        let again = event.and_then(|event| Circles::open(&event, account, key).ok());
        assert_eq!(again.as_ref(), Some(&circles));
    }
}

/// What a person types to come back to an account: seed words, or an export and its passphrase.
/// Seed words that are taken come back in one spelling; a weak passphrase never protects an
/// export; an export costs no more memory than is allowed.
pub fn typed_secret(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(seed) = Seed::from_words(&SecretText::new(text.to_owned())) {
        let words = seed.expose_secret_words();
        let again = Seed::from_words(&words);
        assert!(
            again.is_ok_and(|again| {
                again.expose_secret_entropy() == seed.expose_secret_entropy()
            })
        );
    }
    let (export, passphrase) = text
        .split_once('\n')
        .unwrap_or((text, "passphrase of mine"));
    let passphrase = SecretText::new(passphrase.to_owned());
    if crypto::backup::check_passphrase(&passphrase).is_ok() {
        assert!(
            passphrase
                .expose_secret()
                .chars()
                .any(|c| !c.is_ascii_digit())
        );
    }
    match crypto::backup::cost(export) {
        // The passphrase is stretched for as long as the export says; here there is no time.
        Ok(cost) if cost > 4 => assert!(cost <= 22),
        Ok(_) => drop(crypto::backup::import(export, &passphrase)),
        Err(_) => assert!(crypto::backup::import(export, &passphrase).is_err()),
    }
    if let Ok(way) = Unlock::from_text(text) {
        let _ = way.is_guessable();
    }
    if let Ok(file) = KeyFile::new(data.to_vec()) {
        assert!(crypto::lock::KEY_FILE_BYTES.contains(&file.expose_secret_bytes().len()));
    }
}
