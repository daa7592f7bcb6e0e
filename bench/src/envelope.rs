//! Seal and gift wrap against the sum of their primitives, and against `nostr`'s own.

use std::hint::black_box;

use anyhow::{Context, Result};
use bytes::Bytes;
use crypto::{
    AccountKey, DeletionSecret, Envelope, KeyCache, WrapKind, open_envelope, open_seal, seal, wrap,
};
use hmac::{Hmac, KeyInit, Mac};
use rand::SeedableRng;
use rand::rngs::StdRng;
use secp256k1::{Keypair, Parity, SECP256K1, XOnlyPublicKey};
use sha2::{Digest, Sha256};
use wire::{Event, EventDraft, Rumor, Tag, Tags, VerifiedEvent, kinds};

use crate::rounds::{interleaved, median, ratio};
use crate::table::{Bar, Table};

/// A message of ordinary length.
const TEXT: &str = "Shall we meet at the station at seven? The train was late yesterday, so take a book. \
    I will bring the tickets, and something to eat for the way; it takes two hours.";
const ROUNDS: usize = 15;
const CALLS: u32 = 400;

/// Adds the rows for sealing and opening.
pub fn run(table: &mut Table) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(1);
    let (anna, ben) = (account([1; 32])?, account([2; 32])?);
    let rumor = Rumor::new(EventDraft {
        pubkey: anna.public_key(),
        created_at: 1_760_000_000,
        kind: kinds::TEXT,
        tags: Tags::from_iter([Tag::new(["p".to_owned(), ben.public_key().to_hex()])]),
        content: TEXT.to_owned(),
    });
    let conversation = anna.conversation_with(&ben.public_key())?;
    let secret = DeletionSecret::generate(&mut rng);
    let mut keys = KeyCache::new(16);
    keys.remember(&ben, &anna.public_key())?;

    let seal_json = seal(&anna, &conversation, &rumor, None, 1_760_000_000, &mut rng)?
        .json()
        .clone();
    let one_time = secret.wrap_key(&rumor.id(), &ben.public_key(), 0);
    let wrapped = wrap(
        &one_time,
        &ben.public_key(),
        WrapKind::Stored,
        &seal_json,
        1_760_000_000,
        None,
        &mut rng,
    )?
    .json()
    .clone();

    let mut make_rng = StdRng::seed_from_u64(2);
    let mut make = || {
        let sealed = seal(
            &anna,
            &conversation,
            &rumor,
            None,
            1_760_000_000,
            &mut make_rng,
        );
        let key = secret.wrap_key(&rumor.id(), &ben.public_key(), 0);
        let event = sealed.ok().and_then(|sealed| {
            wrap(
                &key,
                &ben.public_key(),
                WrapKind::Stored,
                sealed.json(),
                1_760_000_000,
                None,
                &mut make_rng,
            )
            .ok()
        });
        black_box(event);
    };
    let mut open = || {
        black_box(open_ours(&wrapped, &ben, &keys).is_ok());
    };
    open_ours(&wrapped, &ben, &keys).context("our own wrap must open")?;

    let parts = Parts::new(&seal_json, &wrapped, &rumor)?;
    let mut make_parts = || parts.make();
    let mut open_parts = || parts.open();
    let theirs = Foreign::new(&wrapped)?;
    theirs.open().context("nostr must open our wrap")?;
    let mut open_theirs = || {
        black_box(theirs.open().is_ok());
    };
    let mut make_theirs = || {
        black_box(theirs.make().is_ok());
    };
    let seconds = interleaved(
        ROUNDS,
        CALLS,
        &mut [
            &mut make,
            &mut make_parts,
            &mut open,
            &mut open_parts,
            &mut open_theirs,
            &mut make_theirs,
        ],
    );
    let [make, make_parts, open, open_parts, open_theirs, make_theirs] = seconds.as_slice() else {
        anyhow::bail!("six candidates give six lists");
    };
    let per_second = |seconds: &[f64]| format!("{:.0}/s", 1.0 / median(seconds));
    let mut row = |what: &str, above: &[f64], below: &[f64], rate: &[f64], bar: f64| {
        let (value, range) = ratio(above, below);
        table.row(
            what,
            value,
            "",
            &format!("{range}, {}", per_second(rate)),
            Bar::AtLeast(bar),
        );
    };
    row(
        "seal + wrap, share of its primitives' speed",
        make_parts,
        make,
        make,
        0.75,
    );
    row(
        "open, share of its primitives' speed",
        open_parts,
        open,
        open,
        0.75,
    );
    row(
        "open (known contact), times nostr 0.45's unwrap",
        open_theirs,
        open,
        open,
        1.2,
    );
    let (value, range) = ratio(make_theirs, make);
    table.row(
        "seal + wrap, times nostr 0.45's",
        value,
        "",
        &range,
        Bar::None,
    );
    Ok(())
}

fn account(secret: [u8; 32]) -> Result<AccountKey> {
    Ok(AccountKey::from_secret_bytes(&secret)?)
}

fn open_ours(wrapped: &Bytes, ben: &AccountKey, keys: &KeyCache) -> Result<()> {
    let verified = VerifiedEvent::verify(Event::decode(wrapped.clone())?)?;
    let Envelope::Seal(envelope) = open_envelope(ben, &verified)? else {
        anyhow::bail!("not a seal");
    };
    let opened = open_seal(ben, &envelope, keys)?;
    anyhow::ensure!(opened.rumor().content() == TEXT);
    Ok(())
}

/// The primitives alone, on inputs of the same sizes: nothing is parsed, encoded or allocated
/// beyond what the primitive itself needs.
struct Parts {
    keypair: Keypair,
    peer: [u8; 32],
    signature: secp256k1::schnorr::Signature,
    message: [u8; 32],
    rumor: Vec<u8>,
    seal: Vec<u8>,
    wrap: Vec<u8>,
}

impl Parts {
    fn new(seal: &Bytes, wrap: &Bytes, rumor: &Rumor) -> Result<Self> {
        let keypair = Keypair::from_seckey_slice(SECP256K1, &[5; 32])?;
        let message = [9; 32];
        let signature = SECP256K1.sign_schnorr_with_aux_rand(&message, &keypair, &[0; 32]);
        let peer = keypair.x_only_public_key().0.serialize();
        Ok(Self {
            keypair,
            peer,
            signature,
            message,
            rumor: rumor.to_json().into_bytes(),
            seal: seal.to_vec(),
            wrap: wrap.to_vec(),
        })
    }

    fn make(&self) {
        // Two signatures, a fresh key pair, one key agreement (the seal's key is kept), two
        // encryptions, and the ids of seal and wrap.
        self.sign();
        self.sign();
        black_box(Keypair::from_seckey_slice(SECP256K1, &[6; 32]).is_ok());
        self.agree();
        encrypt(&self.rumor);
        encrypt(&self.seal);
        black_box(Sha256::digest(&self.seal));
        black_box(Sha256::digest(&self.wrap));
    }

    fn open(&self) {
        // Two signatures checked, one key agreement, two decryptions, three ids.
        self.check();
        self.check();
        self.agree();
        encrypt(&self.rumor);
        encrypt(&self.seal);
        black_box(Sha256::digest(&self.rumor));
        black_box(Sha256::digest(&self.seal));
        black_box(Sha256::digest(&self.wrap));
    }

    fn sign(&self) {
        black_box(SECP256K1.sign_schnorr_with_aux_rand(&self.message, &self.keypair, &[1; 32]));
    }

    fn check(&self) {
        let key = XOnlyPublicKey::from_slice(&self.peer);
        black_box(
            key.map(|key| {
                SECP256K1
                    .verify_schnorr(&self.signature, &self.message, &key)
                    .is_ok()
            })
            .is_ok(),
        );
    }

    fn agree(&self) {
        if let Ok(x) = XOnlyPublicKey::from_slice(&self.peer) {
            let point = secp256k1::PublicKey::from_x_only_public_key(x, Parity::Even);
            black_box(secp256k1::ecdh::shared_secret_point(
                &point,
                &self.keypair.secret_key(),
            ));
        }
    }
}

/// ChaCha20 and HMAC-SHA256 over the padded size, as NIP-44 does; both directions cost the same.
fn encrypt(plaintext: &[u8]) {
    use chacha20::cipher::{KeyIvInit, StreamCipher};
    let mut buffer = vec![0_u8; nip44_padded(plaintext.len()) + 2];
    if let Some(start) = buffer.get_mut(2..plaintext.len() + 2) {
        start.copy_from_slice(plaintext);
    }
    chacha20::ChaCha20::new(&[7; 32].into(), &[8; 12].into()).apply_keystream(&mut buffer);
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&[9; 32]) {
        mac.update(&buffer);
        black_box(mac.finalize().into_bytes());
    }
    black_box(buffer);
}

/// NIP-44's padded length of a plaintext.
fn nip44_padded(length: usize) -> usize {
    if length <= 32 {
        return 32;
    }
    let next_power = length.next_power_of_two();
    let chunk = if next_power <= 256 {
        32
    } else {
        next_power / 8
    };
    chunk * length.div_ceil(chunk)
}

/// `nostr` 0.45 with the same keys; both sides start from the wrap's bytes.
struct Foreign {
    anna: nostr::prelude::Keys,
    ben: nostr::prelude::Keys,
    wrapped: Bytes,
}

impl Foreign {
    fn new(wrapped: &Bytes) -> Result<Self> {
        Ok(Self {
            anna: nostr::prelude::Keys::new(nostr::prelude::SecretKey::from_slice(&[1; 32])?),
            ben: nostr::prelude::Keys::new(nostr::prelude::SecretKey::from_slice(&[2; 32])?),
            wrapped: wrapped.clone(),
        })
    }

    fn open(&self) -> Result<()> {
        let event = nostr::prelude::Event::from_json(&self.wrapped)?;
        let opened = nostr::nips::nip59::UnwrappedGift::from_gift_wrap(&self.ben, &event)?;
        anyhow::ensure!(opened.rumor.content == TEXT);
        Ok(())
    }

    fn make(&self) -> Result<()> {
        use nostr::prelude::*;
        let rumor = EventBuilder::new(Kind::PrivateDirectMessage, TEXT)
            .tag(Tag::public_key(self.ben.public_key()))
            .finalize_unsigned(self.anna.public_key());
        let event = GiftWrapBuilder::new(self.ben.public_key(), rumor).finalize(&self.anna)?;
        black_box(event.as_json());
        Ok(())
    }
}
