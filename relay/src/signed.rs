//! Signed events for tests of single modules.

use secp256k1::{Keypair, SECP256K1, SecretKey};
use wire::{Event, EventDraft, PublicKey, Signature, Tags, VerifiedEvent};

/// An event by somebody, always the same.
pub fn event(created_at: u64, kind: u16, tags: Tags, content: &str) -> Event {
    let key = Keypair::from_secret_key(SECP256K1, &SecretKey::from_slice(&[5; 32]).unwrap());
    let draft = EventDraft {
        pubkey: PublicKey::from_bytes(key.x_only_public_key().0.serialize()),
        created_at,
        kind,
        tags,
        content: content.to_owned(),
    };
    let signature = SECP256K1.sign_schnorr_no_aux_rand(draft.id().as_bytes(), &key);
    Event::from_signature(draft, Signature::from_bytes(signature.to_byte_array()))
}

/// A note of theirs, from the first second of all.
pub fn note(content: &str) -> VerifiedEvent {
    VerifiedEvent::verify(event(1, 1, Tags::default(), content)).unwrap()
}
