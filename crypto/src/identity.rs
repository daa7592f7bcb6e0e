//! The seed words, and the keys that come from them.
//!
//! Three kinds of key sign: the account key of a circle, its list key, and keys used once. They
//! are different types, so a deletion by a one-time key cannot be signed by the account by
//! mistake. See `docs/protocol/keys.md` for every derivation with a vector.

use std::fmt;

use rand::CryptoRng;
use secp256k1::{Keypair, SECP256K1};
use wire::{Event, EventDraft, PublicKey, Signature};
use zeroize::Zeroizing;

use crate::content_key::ConversationKey;
use crate::derivation::{self, HARDENED};
use crate::secret::{SecretText, secret_bytes};

/// How many seed words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WordCount {
    /// 12 words: 128 bits of entropy.
    Twelve,
    /// 24 words: 256 bits. What a new account gets.
    #[default]
    TwentyFour,
}

/// Why seed words were refused. The words themselves are never quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// Neither 12 nor 24 words (or 16 or 32 bytes of entropy).
    #[error("a seed has 12 or 24 words")]
    Count,
    /// A word is not in BIP-39's English list; counted from 1.
    #[error("word {0} is not a seed word")]
    UnknownWord(usize),
    /// All are seed words, but not these in this order (BIP-39 checksum).
    #[error("the seed words do not fit together; one of them is wrong or out of place")]
    Checksum,
    /// A circle index of 2^31 or more, or (once in 2^127) a path without a key.
    #[error("no such circle index")]
    CircleIndex,
}

/// A BIP-39 seed with an empty passphrase: everything else comes from it.
#[derive(Clone)]
pub struct Seed {
    entropy: Zeroizing<Vec<u8>>,
    seed: Zeroizing<[u8; 64]>,
}

impl Seed {
    /// A new seed.
    pub fn generate(rng: &mut dyn CryptoRng, words: WordCount) -> Self {
        let mut entropy = Zeroizing::new(vec![
            0;
            match words {
                WordCount::Twelve => 16,
                WordCount::TwentyFour => 32,
            }
        ]);
        loop {
            rng.fill_bytes(&mut entropy);
            // Both lengths are valid, so this ends at the first turn.
            if let Ok(seed) = Self::from_secret_entropy(&entropy) {
                return seed;
            }
        }
    }

    /// From 12 or 24 words of BIP-39's English list, in any case and spacing.
    pub fn from_words(words: &SecretText) -> Result<Self, SeedError> {
        let mut joined = Zeroizing::new(String::with_capacity(words.expose_secret().len() + 1));
        for word in words.expose_secret().split_whitespace() {
            if !joined.is_empty() {
                joined.push(' ');
            }
            joined.extend(word.chars().map(|c| c.to_ascii_lowercase()));
        }
        let count = joined.split(' ').count();
        if count != 12 && count != 24 {
            return Err(SeedError::Count);
        }
        let mnemonic = bip39::Mnemonic::parse_in_normalized(bip39::Language::English, &joined)
            .map_err(|error| match error {
                bip39::Error::UnknownWord(index) => SeedError::UnknownWord(index + 1),
                bip39::Error::BadWordCount(_) | bip39::Error::BadEntropyBitCount(_) => {
                    SeedError::Count
                }
                _ => SeedError::Checksum,
            })?;
        Ok(Self::from_mnemonic(mnemonic))
    }

    /// From 16 or 32 bytes of entropy, as [`Seed::expose_secret_entropy`] gave them. Costs the
    /// 2,048 rounds of BIP-39, a few milliseconds.
    pub fn from_secret_entropy(entropy: &[u8]) -> Result<Self, SeedError> {
        if entropy.len() != 16 && entropy.len() != 32 {
            return Err(SeedError::Count);
        }
        let mnemonic = bip39::Mnemonic::from_entropy_in(bip39::Language::English, entropy)
            .map_err(|_| SeedError::Count)?;
        Ok(Self::from_mnemonic(mnemonic))
    }

    fn from_mnemonic(mnemonic: bip39::Mnemonic) -> Self {
        let mnemonic = Zeroizing::new(mnemonic);
        Self {
            entropy: Zeroizing::new(mnemonic.to_entropy()),
            seed: Zeroizing::new(mnemonic.to_seed_normalized("")),
        }
    }

    /// The words, separated by single spaces. Whoever reads them has the account.
    pub fn expose_secret_words(&self) -> SecretText {
        let mut text = String::with_capacity(24 * 9);
        // The entropy came through BIP-39's own constructor, so it always has words.
        if let Ok(mnemonic) =
            bip39::Mnemonic::from_entropy_in(bip39::Language::English, &self.entropy)
        {
            let mnemonic = Zeroizing::new(mnemonic);
            for word in mnemonic.words() {
                if !text.is_empty() {
                    text.push(' ');
                }
                text.push_str(word);
            }
        }
        SecretText::new(text)
    }

    /// 16 or 32 bytes for an encrypted store.
    pub fn expose_secret_entropy(&self) -> &[u8] {
        &self.entropy
    }

    /// The account key of circle `circle`: NIP-06, m/44'/1237'/circle'/0/0.
    pub fn account_key(&self, circle: u32) -> Result<AccountKey, SeedError> {
        let secret = self.leaf(circle, [0, 0])?;
        AccountKey::from_secret_bytes(&secret).map_err(|_| SeedError::CircleIndex)
    }

    /// The list key of circle `circle`: m/44'/1237'/circle'/1'/0', hardened so that it and the
    /// account key never give each other away.
    pub fn list_key(&self, circle: u32) -> Result<ListKey, SeedError> {
        let secret = self.leaf(circle, [1 | HARDENED, HARDENED])?;
        ListKey::from_secret_bytes(&secret).map_err(|_| SeedError::CircleIndex)
    }

    /// The key of the circle definitions: HKDF(BIP-39 seed, `circles`).
    pub fn circles_key(&self) -> CirclesKey {
        CirclesKey(derivation::hkdf(self.seed.as_slice(), &[b"circles"]))
    }

    fn leaf(&self, circle: u32, end: [u32; 2]) -> Result<Zeroizing<[u8; 32]>, SeedError> {
        if circle & HARDENED != 0 {
            return Err(SeedError::CircleIndex);
        }
        let [change, index] = end;
        let path = [
            44 | HARDENED,
            1237 | HARDENED,
            circle | HARDENED,
            change,
            index,
        ];
        derivation::leaf(&self.seed, &path).ok_or(SeedError::CircleIndex)
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(secret)")
    }
}

secret_bytes!(
    /// Encrypts the circle definitions; see [`crate::circles`].
    CirclesKey, 32
);

/// 32 bytes that are no secp256k1 secret, or a public key that is no point of the curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid key")]
pub struct BadKey;

/// Something that signs events (BIP-340).
pub trait Signer {
    /// Who signs.
    fn public_key(&self) -> PublicKey;

    /// Signs a draft; its `pubkey` is replaced by the signer's, so no draft is signed in
    /// another's name. `rng` gives the auxiliary randomness of BIP-340.
    fn sign(&self, draft: EventDraft, rng: &mut dyn CryptoRng) -> Event;
}

/// A key pair that wipes itself.
#[derive(Clone)]
struct Pair {
    keypair: Keypair,
    public: PublicKey,
}

impl Pair {
    fn from_secret_bytes(bytes: &[u8; 32]) -> Result<Self, BadKey> {
        let keypair = Keypair::from_seckey_slice(SECP256K1, bytes).map_err(|_| BadKey)?;
        let public = PublicKey::from_bytes(keypair.x_only_public_key().0.serialize());
        Ok(Self { keypair, public })
    }

    fn sign(&self, mut draft: EventDraft, rng: &mut dyn CryptoRng) -> Event {
        draft.pubkey = self.public;
        let mut aux = Zeroizing::new([0; 32]);
        rng.fill_bytes(aux.as_mut_slice());
        Event::sign_with(draft, |id| {
            let signature =
                SECP256K1.sign_schnorr_with_aux_rand(id.as_bytes(), &self.keypair, &aux);
            Signature::from_bytes(signature.to_byte_array())
        })
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.keypair.non_secure_erase();
    }
}

macro_rules! signing_key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(Pair);

        impl $name {
            /// From 32 bytes. Fails where they are zero or not below the order of the curve.
            pub fn from_secret_bytes(bytes: &[u8; 32]) -> Result<Self, BadKey> {
                Pair::from_secret_bytes(bytes).map(Self)
            }

            /// The secret itself, for an encrypted store. Whoever reads it signs in its name.
            pub fn expose_secret_bytes(&self) -> Zeroizing<[u8; 32]> {
                Zeroizing::new(self.0.keypair.secret_bytes())
            }

            /// The public key.
            pub fn public_key(&self) -> PublicKey {
                self.0.public
            }

            /// Signs a draft; its `pubkey` is replaced by this key's own.
            pub fn sign(&self, draft: EventDraft, rng: &mut dyn CryptoRng) -> Event {
                self.0.sign(draft, rng)
            }
        }

        impl Signer for $name {
            fn public_key(&self) -> PublicKey {
                self.0.public
            }

            fn sign(&self, draft: EventDraft, rng: &mut dyn CryptoRng) -> Event {
                self.0.sign(draft, rng)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(secret)"))
            }
        }
    };
}

signing_key!(
    /// The key that a person is known by in one circle: receives wraps, signs seals.
    AccountKey
);
signing_key!(
    /// Signs the lists of one circle's devices. It is not the account key, so that a device may
    /// hold the one without the other.
    ListKey
);
signing_key!(
    /// A key of one wrap, one upload or one socket, and of nothing else.
    OneTimeKey
);

impl AccountKey {
    /// What this key and `peer` share (NIP-44). About one scalar multiplication.
    pub fn conversation_with(&self, peer: &PublicKey) -> Result<ConversationKey, BadKey> {
        ConversationKey::derive(&self.0.keypair, self.0.public, peer)
    }
}

impl OneTimeKey {
    /// A random key, for a socket or a token that no deletion secret covers.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        loop {
            rng.fill_bytes(bytes.as_mut_slice());
            // All but one in 2^127 are valid, so this ends at the first turn.
            if let Ok(key) = Self::from_secret_bytes(&bytes) {
                return key;
            }
        }
    }

    /// What this key and `peer` share (NIP-44).
    pub fn conversation_with(&self, peer: &PublicKey) -> Result<ConversationKey, BadKey> {
        ConversationKey::derive(&self.0.keypair, self.0.public, peer)
    }
}

/// Names one home of one circle to the user's own and their contacts' devices. Not a secret, but
/// shown to nobody else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId([u8; 16]);

impl DeviceId {
    /// A random one.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// From raw bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceId")
    }
}
