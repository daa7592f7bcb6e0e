//! The deletion secret of a message: 32 random bytes from which the keys of its wraps and blobs
//! come, so that its sender can delete them and nobody can link them.
//!
//! See `docs/protocol/keys.md` for the derivations with a vector, and
//! `docs/decisions/0004-deletion-secrets.md` for why it is random and per message.

use rand::CryptoRng;
use wire::relay_url::Origin;
use wire::{EventId, PublicKey, Sha256};

use crate::derivation;
use crate::identity::OneTimeKey;
use crate::secret::secret_bytes;

secret_bytes!(
    /// The deletion secret of one message. Erase it with the message: with it gone, nobody can
    /// show which wraps were the sender's.
    DeletionSecret, 32
);

impl DeletionSecret {
    /// A random one.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut secret = Self::from_secret_bytes([0; 32]);
        rng.fill_bytes(secret.0.as_mut_slice());
        secret
    }

    /// The key that signs the wrap of `rumor` for `inbox`. `attempt` counts from 0 and rises
    /// where a wrap grew too old for the relays and is made again around the same seal.
    pub fn wrap_key(&self, rumor: &EventId, inbox: &PublicKey, attempt: u32) -> OneTimeKey {
        self.key(&[
            b"wrap",
            rumor.as_bytes(),
            inbox.as_bytes(),
            &attempt.to_be_bytes(),
        ])
    }

    /// The key of the claim on a blob of this message at one file server: signs its upload and
    /// its deletion.
    pub fn upload_key(&self, ciphertext: &Sha256, server: &Origin) -> OneTimeKey {
        self.key(&[
            b"blob",
            ciphertext.as_bytes(),
            server.with_port().as_bytes(),
        ])
    }

    fn key(&self, info: &[&[u8]]) -> OneTimeKey {
        let mut counter = 0_u8;
        loop {
            let end = [counter];
            let info: Vec<&[u8]> = info.iter().copied().chain([end.as_slice()]).collect();
            let secret = derivation::hkdf(self.0.as_slice(), &info);
            // All but one in 2^127 are valid, so this ends at the first turn.
            if let Ok(key) = OneTimeKey::from_secret_bytes(&secret) {
                return key;
            }
            counter = counter.wrapping_add(1);
        }
    }
}
