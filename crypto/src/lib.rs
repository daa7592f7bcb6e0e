//! Where secrets live. Bytes in, bytes out.
//!
//! Read in this order:
//!
//! 1. [`identity`]: the seed words, and the keys that come from them, each a type of its own.
//! 2. [`content_key`]: what two keys share, and NIP-44 encryption under it.
//! 3. A message sent: [`mod@seal`] signs it and hides who wrote it, [`gift_wrap`] hides who sealed it
//!    under a key used once, [`expiry`] hides when exactly it vanishes.
//! 4. A message received: [`open`] is the only door to an [`Opened`] message, in two stages.
//! 5. [`deletion`]: the random secret of each message from which its one-time keys come, so that
//!    the sender can take wraps and blobs back.
//! 6. [`file_cipher`] encrypts files in flat memory; [`foreign_file`] as other clients expect it.
//! 7. [`lock`] and [`tries`]: the home folder's data key under a PIN, passphrase or key file.
//! 8. [`backup`] (NIP-49) and [`circles`] (the definitions that a restore brings back).
//!
//! Nothing here does I/O, waits, reads a clock or asks the operating system for randomness:
//! `now` and `rng` are arguments. Secrets are types that do not print and are wiped when dropped.
//! No primitive is our own: curve, ciphers and hashes are libsecp256k1's and RustCrypto's.

pub mod backup;
pub mod circles;
pub mod content_key;
pub mod deletion;
mod derivation;
pub mod expiry;
pub mod file_cipher;
pub mod foreign_file;
pub mod gift_wrap;
pub mod identity;
pub mod lock;
pub mod open;
pub mod seal;
pub mod secret;
pub mod tries;

pub use content_key::{ConversationKey, KeyCache, PayloadError};
pub use deletion::DeletionSecret;
pub use file_cipher::{FileDecryptor, FileEncryptor, FileKey};
pub use gift_wrap::{WrapError, WrapKind, wrap};
pub use identity::{
    AccountKey, BadKey, DeviceId, ListKey, OneTimeKey, Seed, SeedError, Signer, WordCount,
};
pub use lock::{Argon2Params, DataKey, DeviceSecret, KeyFile, Lock, LockError, Unlock};
pub use open::{Envelope, Opened, Refusal, SealEnvelope, open_envelope, open_seal};
pub use seal::{SealError, seal};
pub use secret::SecretText;
pub use tries::{Attempt, Tries};
