//! Files for and from other NIP-17 clients: aes-gcm in one shot, at most 16 MiB (kind 15).
//!
//! NIP-17 does not say how key and nonce are written. We send hexadecimal and 12-byte nonces, and
//! read hexadecimal or base64 and 12 or 16 bytes, since both are in use.

use aes_gcm::AesGcm;
use aes_gcm::aead::consts::{U12, U16};
use aes_gcm::aead::generic_array::{ArrayLength, GenericArray};
use aes_gcm::aead::{AeadInPlace, KeyInit};
use aes_gcm::aes::Aes256;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use rand::CryptoRng;
use wire::limits;
use zeroize::Zeroizing;

use crate::file_cipher::FileError;

/// A key and nonce for one file.
#[derive(Clone)]
pub struct ForeignFileKey {
    key: Zeroizing<[u8; 32]>,
    nonce: Nonce,
}

#[derive(Clone, Copy)]
enum Nonce {
    Twelve([u8; 12]),
    Sixteen([u8; 16]),
}

impl ForeignFileKey {
    /// What the `encryption-algorithm` tag says.
    pub const ALGORITHM: &'static str = "aes-gcm";

    /// A random one, for one file.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        let mut nonce = [0; 12];
        rng.fill_bytes(key.as_mut_slice());
        rng.fill_bytes(&mut nonce);
        Self {
            key,
            nonce: Nonce::Twelve(nonce),
        }
    }

    /// From the tags `decryption-key` (32 bytes) and `decryption-nonce` (12 or 16 bytes), each
    /// hexadecimal or base64 of either alphabet.
    pub fn from_tags(key: &str, nonce: &str) -> Result<Self, FileError> {
        let key_bytes = decode::<32>(key).ok_or(FileError::Key)?;
        let nonce = match (decode::<12>(nonce), decode::<16>(nonce)) {
            (Some(nonce), _) => Nonce::Twelve(*nonce),
            (None, Some(nonce)) => Nonce::Sixteen(*nonce),
            (None, None) => return Err(FileError::Key),
        };
        Ok(Self {
            key: key_bytes,
            nonce,
        })
    }

    /// For the tag `decryption-key`, which travels in the message only.
    pub fn expose_secret_key_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.key.as_slice()))
    }

    /// For the tag `decryption-nonce`.
    pub fn nonce_hex(&self) -> String {
        match &self.nonce {
            Nonce::Twelve(nonce) => hex::encode(nonce),
            Nonce::Sixteen(nonce) => hex::encode(nonce),
        }
    }

    /// Encrypts a whole file in place; it grows by 16 bytes. At most
    /// [`limits::FOREIGN_FILE_BYTES`].
    pub fn encrypt(&self, file: &mut Vec<u8>) -> Result<(), FileError> {
        check_size(file.len(), 0)?;
        match &self.nonce {
            Nonce::Twelve(nonce) => self
                .cipher::<U12>()
                .encrypt_in_place(nonce.into(), &[], file),
            Nonce::Sixteen(nonce) => self
                .cipher::<U16>()
                .encrypt_in_place(nonce.into(), &[], file),
        }
        .map_err(|_| FileError::TooLarge)
    }

    /// Decrypts a whole file in place. On failure nothing of it is left in `file`.
    pub fn decrypt(&self, file: &mut Vec<u8>) -> Result<(), FileError> {
        check_size(file.len(), crate::file_cipher::TAG_BYTES).inspect_err(|_| file.clear())?;
        let opened = match &self.nonce {
            Nonce::Twelve(nonce) => self
                .cipher::<U12>()
                .decrypt_in_place(nonce.into(), &[], file),
            Nonce::Sixteen(nonce) => self
                .cipher::<U16>()
                .decrypt_in_place(nonce.into(), &[], file),
        };
        opened.map_err(|_| {
            file.clear();
            FileError::Forged
        })
    }

    fn cipher<N: ArrayLength<u8>>(&self) -> AesGcm<Aes256, N> {
        AesGcm::new(GenericArray::from_slice(self.key.as_slice()))
    }
}

impl std::fmt::Debug for ForeignFileKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ForeignFileKey(secret)")
    }
}

fn check_size(length: usize, overhead: usize) -> Result<(), FileError> {
    let plain = length.checked_sub(overhead).ok_or(FileError::Size)?;
    match u64::try_from(plain) {
        Ok(plain) if plain <= limits::FOREIGN_FILE_BYTES => Ok(()),
        _ => Err(FileError::TooLarge),
    }
}

/// `N` bytes from hexadecimal or any base64. Hexadecimal of `N` bytes is never base64 of `N`
/// bytes, the lengths differ, so no text has two readings.
fn decode<const N: usize>(text: &str) -> Option<Zeroizing<[u8; N]>> {
    let text = text.trim();
    if text.len() > N.saturating_mul(2) {
        return None;
    }
    let mut bytes = Zeroizing::new([0; N]);
    if hex::decode_to_slice(text, bytes.as_mut_slice()).is_ok() {
        return Some(bytes);
    }
    let decoded = [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD]
        .into_iter()
        .find_map(|engine| engine.decode(text).ok())
        .map(Zeroizing::new)?;
    if decoded.len() != N {
        return None;
    }
    bytes.copy_from_slice(&decoded);
    Some(bytes)
}
