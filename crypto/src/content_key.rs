//! What two keys share, and NIP-44 version 2 under it.
//!
//! The cipher is `nostr`'s; ours are the gates before it. NIP-44 payloads may be 4 GiB long since
//! 2026, so a payload is measured before its base64 is touched, and nothing longer than an event
//! is ever decoded.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hkdf::Hkdf;
use nostr::nips::nip44::v2;
use rand::CryptoRng;
use secp256k1::{Keypair, ecdh};
use sha2::Sha256;
use wire::{PublicKey, limits};
use zeroize::{Zeroize, Zeroizing};

use crate::identity::{AccountKey, BadKey};

/// The longest plaintext that NIP-44 encrypts with its two-byte length; no event of ours could
/// carry more.
pub const PLAINTEXT_BYTES: usize = 65_535;

/// Why a NIP-44 payload was not made or not opened. One word for every failure of the cipher,
/// so that an answer teaches nothing about the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// Longer than [`limits::EVENT_BYTES`] encoded or [`PLAINTEXT_BYTES`] plain, or empty.
    #[error("the encrypted payload has a length that NIP-44 or our limits do not allow")]
    Size,
    /// A version other than 2.
    #[error("the payload is encrypted in a version other than NIP-44's 2")]
    Version,
    /// Not base64, a wrong MAC, or wrong padding.
    #[error("the payload does not decrypt with this key")]
    Forged,
}

/// The NIP-44 conversation key of an own key and a peer. The same from either side. Keep it for
/// known contacts: deriving it is most of the cost of opening a message.
#[derive(Clone)]
pub struct ConversationKey {
    own: PublicKey,
    peer: PublicKey,
    key: Zeroizing<[u8; 32]>,
}

impl ConversationKey {
    pub(crate) fn derive(
        keypair: &Keypair,
        own: PublicKey,
        peer: &PublicKey,
    ) -> Result<Self, BadKey> {
        // Lifted as a compressed key with an even y (BIP-340): by way of `XOnlyPublicKey` the
        // library would take the square root twice.
        let mut compressed = [2; 33];
        compressed
            .split_at_mut(1)
            .1
            .copy_from_slice(peer.as_bytes());
        let point = secp256k1::PublicKey::from_slice(&compressed).map_err(|_| BadKey)?;
        let mut secret = keypair.secret_key();
        let shared = Zeroizing::new(ecdh::shared_secret_point(&point, &secret));
        secret.non_secure_erase();
        let (shared_x, _) = shared.split_at(32);
        let (mut extracted, _) = Hkdf::<Sha256>::extract(Some(b"nip44-v2"), shared_x);
        let key = Zeroizing::new(extracted.into());
        extracted.as_mut_slice().zeroize();
        Ok(Self {
            own,
            peer: *peer,
            key,
        })
    }

    /// The own key it was derived from.
    pub fn own(&self) -> PublicKey {
        self.own
    }

    /// The other side.
    pub fn peer(&self) -> PublicKey {
        self.peer
    }

    /// Encrypts 1 to [`PLAINTEXT_BYTES`] bytes with a random nonce; gives base64.
    pub fn encrypt(
        &self,
        plaintext: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<String, PayloadError> {
        let mut nonce = [0; 32];
        rng.fill_bytes(&mut nonce);
        encrypt_payload(&self.key, plaintext, nonce)
    }

    /// Decrypts base64 of at most [`limits::EVENT_BYTES`]. What comes out is the caller's to wipe.
    pub fn decrypt(&self, payload: &str) -> Result<Vec<u8>, PayloadError> {
        decrypt_payload(&self.key, payload)
    }
}

impl std::fmt::Debug for ConversationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConversationKey(secret)")
    }
}

/// NIP-44 version 2 with a raw conversation key and a nonce that must never be used twice with
/// it; [`ConversationKey::encrypt`] draws one. Public for vectors and fuzzing.
pub fn encrypt_payload(
    key: &[u8; 32],
    plaintext: &[u8],
    nonce: [u8; 32],
) -> Result<String, PayloadError> {
    if plaintext.is_empty() || plaintext.len() > PLAINTEXT_BYTES {
        return Err(PayloadError::Size);
    }
    let key = v2::ConversationKey::new(*key);
    let payload =
        v2::encrypt_to_bytes_with_nonce(&key, plaintext, nonce).map_err(|_| PayloadError::Size)?;
    Ok(STANDARD.encode(payload))
}

/// The inverse of [`encrypt_payload`]: any text in, never a panic.
pub fn decrypt_payload(key: &[u8; 32], payload: &str) -> Result<Vec<u8>, PayloadError> {
    if payload.len() > limits::EVENT_BYTES {
        return Err(PayloadError::Size);
    }
    // NIP-44: a leading '#' announces an encoding that is no longer base64.
    if payload.starts_with('#') {
        return Err(PayloadError::Version);
    }
    let bytes = STANDARD.decode(payload).map_err(|_| PayloadError::Forged)?;
    match bytes.first() {
        Some(2) => {}
        Some(_) => return Err(PayloadError::Version),
        None => return Err(PayloadError::Size),
    }
    let key = v2::ConversationKey::new(*key);
    v2::decrypt_to_bytes(&key, &bytes).map_err(|_| PayloadError::Forged)
}

/// Conversation keys of known contacts. Strangers never enter it: only [`KeyCache::remember`]
/// does, which the engine calls for contacts, so a flood of fresh keys evicts nobody.
#[derive(Debug)]
pub struct KeyCache {
    keys: HashMap<(PublicKey, PublicKey), ConversationKey>,
    capacity: usize,
}

impl KeyCache {
    /// An empty cache for at most `capacity` keys of about 200 bytes each.
    pub fn new(capacity: usize) -> Self {
        Self {
            keys: HashMap::new(),
            capacity,
        }
    }

    /// The key of `own` and `peer`, if it is kept.
    pub fn find(&self, own: &PublicKey, peer: &PublicKey) -> Option<&ConversationKey> {
        self.keys.get(&(*own, *peer))
    }

    /// Derives the key of a contact and keeps it; where the cache is full some other one goes.
    pub fn remember(&mut self, own: &AccountKey, peer: &PublicKey) -> Result<(), BadKey> {
        let entry = (own.public_key(), *peer);
        if self.keys.contains_key(&entry) {
            return Ok(());
        }
        let key = own.conversation_with(peer)?;
        if self.keys.len() >= self.capacity {
            let victim = self.keys.keys().next().copied();
            victim.map(|victim| self.keys.remove(&victim));
        }
        if self.capacity > 0 {
            self.keys.insert(entry, key);
        }
        Ok(())
    }

    /// Forgets (and wipes) every key with `peer`, for a contact who was removed.
    pub fn forget(&mut self, peer: &PublicKey) {
        self.keys.retain(|(_, other), _| other != peer);
    }
}
