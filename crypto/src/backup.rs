//! Exporting one account key under a passphrase (NIP-49, `ncryptsec1…`).
//!
//! Whoever finds an export can try passphrases for ever, so a PIN never protects one.

use nostr::key::SecretKey;
use nostr::nips::nip19::{FromBech32, ToBech32};
use nostr::nips::nip49::{EncryptedSecretKey, KeySecurity};
use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::identity::AccountKey;
use crate::secret::SecretText;

/// The fewest characters of a passphrase for an export.
pub const PASSPHRASE_CHARS: usize = 12;
/// log2 of scrypt's rounds for our exports: 64 MiB, as NIP-49 suggests for a key of this worth.
pub const LOG_N: u8 = 16;

/// `ncryptsec1` and 91 bytes in bech32 are 162 characters.
const EXPORT_CHARS: usize = 256;
const PASSPHRASE_BYTES: usize = 1_024;

/// Why an export was not made or not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// Fewer than [`PASSPHRASE_CHARS`], or digits only. A usage error.
    #[error("an export needs a passphrase of at least 12 characters that are not all digits")]
    WeakPassphrase,
    /// Longer than a kilobyte. A usage error.
    #[error("the passphrase is too long")]
    TooLong,
    /// Not an `ncryptsec1…`, or one that asks for more memory than 256 MiB.
    #[error("not an encrypted key of NIP-49")]
    Malformed,
    /// The passphrase is another one.
    #[error("wrong passphrase")]
    Wrong,
}

/// Exports `key` under `passphrase`. `log_n` is [`LOG_N`] save in tests.
pub fn export(
    key: &AccountKey,
    passphrase: &SecretText,
    log_n: u8,
    rng: &mut dyn CryptoRng,
) -> Result<String, BackupError> {
    check_passphrase(passphrase)?;
    let secret = SecretKey::from_slice(key.expose_secret_bytes().as_slice())
        .map_err(|_| BackupError::Malformed)?;
    let mut rng = rng;
    EncryptedSecretKey::new_with_rng(
        &secret,
        passphrase.expose_secret(),
        log_n,
        KeySecurity::Medium,
        &mut rng,
    )
    .and_then(|encrypted| encrypted.to_bech32())
    .map_err(|_| BackupError::Malformed)
}

/// Reads an export of ours or of any client. The passphrase rule is not asked of what others made.
pub fn import(text: &str, passphrase: &SecretText) -> Result<AccountKey, BackupError> {
    if passphrase.expose_secret().len() > PASSPHRASE_BYTES {
        return Err(BackupError::TooLong);
    }
    let encrypted = read(text)?;
    let secret = encrypted
        .decrypt(passphrase.expose_secret())
        .map_err(|_| BackupError::Wrong)?;
    let mut bytes = Zeroizing::new([0; 32]);
    if secret.as_secret_bytes().len() != bytes.len() {
        return Err(BackupError::Wrong);
    }
    bytes.copy_from_slice(secret.as_secret_bytes());
    AccountKey::from_secret_bytes(&bytes).map_err(|_| BackupError::Wrong)
}

/// log2 of the rounds of scrypt that reading an export takes; more than are allowed are refused.
pub fn cost(text: &str) -> Result<u8, BackupError> {
    Ok(read(text)?.log_n())
}

fn read(text: &str) -> Result<EncryptedSecretKey, BackupError> {
    let text = text.trim();
    if text.len() > EXPORT_CHARS {
        return Err(BackupError::Malformed);
    }
    let encrypted = EncryptedSecretKey::from_bech32(text).map_err(|_| BackupError::Malformed)?;
    if !(1..=EncryptedSecretKey::MAX_LOG_N).contains(&encrypted.log_n()) {
        return Err(BackupError::Malformed);
    }
    Ok(encrypted)
}

/// The rule for passphrases that protect an export.
pub fn check_passphrase(passphrase: &SecretText) -> Result<(), BackupError> {
    if passphrase.expose_secret().len() > PASSPHRASE_BYTES {
        return Err(BackupError::TooLong);
    }
    let normal = passphrase.nfkc();
    let is_weak = normal.chars().count() < PASSPHRASE_CHARS || normal.chars().all(char::is_numeric);
    if is_weak {
        return Err(BackupError::WeakPassphrase);
    }
    Ok(())
}
