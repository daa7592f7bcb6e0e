//! Files between Sotto's clients: XChaCha20-Poly1305 in STREAM, padded, in flat memory.
//!
//! The plaintext is the true length (u64be), the file, and zeros up to the Padmé size; it is cut
//! into chunks of 65,536 bytes, each with its own tag and place. See `docs/protocol/files.md`.
//!
//! Both structs are driven by the caller, so the same code serves blocking and async I/O:
//!
//! ```
//! # use crypto::{FileEncryptor, FileDecryptor, FileKey, file_cipher::FileError};
//! # fn demo(key: &FileKey, file: &[u8]) -> Result<(), FileError> {
//! let mut encryptor = FileEncryptor::new(key, file.len() as u64)?;
//! let (mut at, mut chunk, mut ciphertext) = (0, Vec::new(), Vec::new());
//! while let Some(wanted) = encryptor.wants() {
//!     encryptor.next_chunk(&file[at..at + wanted], &mut chunk)?; // read exactly that much
//!     at += wanted;
//!     ciphertext.extend_from_slice(&chunk); // write it out
//! }
//! # assert_eq!(ciphertext.len() as u64, encryptor.layout().ciphertext_bytes());
//! # Ok(()) }
//! # demo(&FileKey::from_secret_bytes([1; 32], [2; 19]), b"a file").unwrap();
//! ```

use chacha20poly1305::aead::stream::{NewStream, StreamBE32, StreamPrimitive};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use rand::CryptoRng;
use wire::limits;
use zeroize::Zeroizing;

/// Bytes of plaintext in each chunk but the last.
pub const CHUNK_BYTES: usize = 65_536;
/// Bytes of the tag that each chunk's ciphertext ends with.
pub const TAG_BYTES: usize = 16;
/// Bytes of ciphertext in each chunk but the last.
pub const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

const LENGTH_BYTES: usize = 8;
const CHUNK: u64 = CHUNK_BYTES as u64;
const SEALED_CHUNK: u64 = SEALED_CHUNK_BYTES as u64;
const TAG: u64 = TAG_BYTES as u64;
const LENGTH: u64 = LENGTH_BYTES as u64;

/// Why a file was not encrypted or decrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Longer than [`limits::FILE_BYTES`].
    #[error("the file is too large")]
    TooLarge,
    /// A call handed in more or fewer bytes than the next chunk takes: the file changed while it
    /// was read, or the ciphertext is cut off.
    #[error("the file does not have the length that was announced")]
    Length,
    /// The ciphertext's length is none that an encryptor makes.
    #[error("the encrypted file is cut off or has bytes added")]
    Size,
    /// A chunk was changed, moved, cut off, or belongs to another key.
    #[error("the encrypted file is damaged")]
    Forged,
    /// All tags hold, but the length does not fit or the padding is not zero: its sender did not
    /// follow the format.
    #[error("the encrypted file is not padded as it should be")]
    Padding,
    /// The key or nonce is not of the right length or not hexadecimal.
    #[error("the file's key is malformed")]
    Key,
}

/// The key and nonce prefix of one file. Never use it for two files.
#[derive(Clone)]
pub struct FileKey {
    key: Zeroizing<[u8; 32]>,
    nonce: [u8; 19],
}

impl FileKey {
    /// What the `encryption-algorithm` tag says.
    pub const ALGORITHM: &'static str = "xchacha20poly1305-stream";

    /// A random one.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        let mut nonce = [0; 19];
        rng.fill_bytes(key.as_mut_slice());
        rng.fill_bytes(&mut nonce);
        Self { key, nonce }
    }

    /// From raw bytes.
    pub fn from_secret_bytes(key: [u8; 32], nonce: [u8; 19]) -> Self {
        Self {
            key: Zeroizing::new(key),
            nonce,
        }
    }

    /// From the tags `decryption-key` and `decryption-nonce`, both hexadecimal.
    pub fn from_hex(key: &str, nonce: &str) -> Result<Self, FileError> {
        let mut file_key = Self::from_secret_bytes([0; 32], [0; 19]);
        hex::decode_to_slice(key, file_key.key.as_mut_slice()).map_err(|_| FileError::Key)?;
        hex::decode_to_slice(nonce, &mut file_key.nonce).map_err(|_| FileError::Key)?;
        Ok(file_key)
    }

    /// For the tag `decryption-key`, which travels in the message only.
    pub fn expose_secret_key_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.key.as_slice()))
    }

    /// For the tag `decryption-nonce`.
    pub fn nonce_hex(&self) -> String {
        hex::encode(self.nonce)
    }

    fn stream(&self) -> StreamBE32<XChaCha20Poly1305> {
        let cipher = XChaCha20Poly1305::new(self.key.as_slice().into());
        StreamBE32::from_aead(cipher, self.nonce.as_slice().into())
    }
}

impl std::fmt::Debug for FileKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FileKey(secret)")
    }
}

/// How a plaintext is cut into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    padded: u64,
    chunks: u64,
}

impl Layout {
    /// For a file of `length` bytes, at most [`limits::FILE_BYTES`].
    pub fn of_file(length: u64) -> Result<Self, FileError> {
        if length > limits::FILE_BYTES {
            return Err(FileError::TooLarge);
        }
        Ok(Self::of_padded(padme(length.saturating_add(LENGTH))))
    }

    /// For a ciphertext of `size` bytes. Fails where no file has that size.
    pub fn of_ciphertext(size: u64) -> Result<Self, FileError> {
        let chunks = size.div_ceil(SEALED_CHUNK);
        let padded = size
            .checked_sub(chunks.saturating_mul(TAG))
            .ok_or(FileError::Size)?;
        let layout = Self::of_padded(padded);
        let largest = padme(limits::FILE_BYTES.saturating_add(LENGTH));
        let fits = padded >= LENGTH && layout.chunks == chunks && padme(padded) == padded;
        if padded > largest {
            Err(FileError::TooLarge)
        } else if fits {
            Ok(layout)
        } else {
            Err(FileError::Size)
        }
    }

    fn of_padded(padded: u64) -> Self {
        Self {
            padded,
            chunks: padded.div_ceil(CHUNK),
        }
    }

    /// Chunks.
    pub fn chunks(&self) -> u64 {
        self.chunks
    }

    /// Bytes of ciphertext, for the `size` tag and the upload.
    pub fn ciphertext_bytes(&self) -> u64 {
        self.padded.saturating_add(self.chunks.saturating_mul(TAG))
    }

    /// Bytes of padded plaintext in chunk `index`.
    fn chunk_bytes(&self, index: u64) -> u64 {
        self.padded
            .saturating_sub(index.saturating_mul(CHUNK))
            .min(CHUNK)
    }

    fn is_last(&self, index: u64) -> bool {
        index.saturating_add(1) >= self.chunks
    }
}

/// The Padmé size of `length` (PURBs, PoPETs 2019/4): at most 12 % more, and less the larger the
/// file, so that only about log log of the length shows.
pub fn padme(length: u64) -> u64 {
    let Some(exponent) = length.checked_ilog2() else {
        return 0;
    };
    let Some(bits) = exponent.checked_ilog2() else {
        return length;
    };
    let low = exponent.saturating_sub(bits.saturating_add(1));
    let mask = (1_u64 << low) - 1;
    length.saturating_add(mask) & !mask
}

/// Encrypts one file, front to back, once. It cannot be resumed in the middle: a file that
/// changed meanwhile would be encrypted under the same nonces. Encrypt into a spool and resume
/// the upload from there.
pub struct FileEncryptor {
    stream: StreamBE32<XChaCha20Poly1305>,
    layout: Layout,
    length: u64,
    index: u64,
}

impl FileEncryptor {
    /// For a file of exactly `length` bytes. The key must be new.
    pub fn new(key: &FileKey, length: u64) -> Result<Self, FileError> {
        Ok(Self {
            stream: key.stream(),
            layout: Layout::of_file(length)?,
            length,
            index: 0,
        })
    }

    /// The sizes.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// How many bytes of the file the next chunk takes (0 where it is all padding), or nothing
    /// when the file is complete.
    pub fn wants(&self) -> Option<usize> {
        (self.index < self.layout.chunks).then(|| file_part(&self.layout, self.length, self.index))
    }

    /// Encrypts the next chunk of exactly [`FileEncryptor::wants`] bytes into `out`, replacing
    /// what is there; `out` keeps its memory between calls.
    pub fn next_chunk(&mut self, file: &[u8], out: &mut Vec<u8>) -> Result<(), FileError> {
        if self.wants() != Some(file.len()) {
            return Err(FileError::Length);
        }
        let position = u32::try_from(self.index).map_err(|_| FileError::TooLarge)?;
        out.clear();
        out.reserve(SEALED_CHUNK_BYTES);
        if self.index == 0 {
            out.extend_from_slice(&self.length.to_be_bytes());
        }
        out.extend_from_slice(file);
        let padded = usize::try_from(self.layout.chunk_bytes(self.index)).unwrap_or(CHUNK_BYTES);
        out.resize(padded, 0);
        self.stream
            .encrypt_in_place(position, self.layout.is_last(self.index), &[], out)
            .map_err(|_| FileError::TooLarge)?;
        self.index = self.index.saturating_add(1);
        Ok(())
    }
}

/// Decrypts one file, front to back, chunk by chunk. What it gave so far is authentic but may be
/// incomplete until [`FileDecryptor::wants`] says nothing: keep it apart until then.
pub struct FileDecryptor {
    stream: StreamBE32<XChaCha20Poly1305>,
    layout: Layout,
    length: Option<u64>,
    index: u64,
}

impl FileDecryptor {
    /// For a ciphertext of exactly `size` bytes. Fails with [`FileError::Size`] where bytes are
    /// missing or added so that no file has this size.
    pub fn new(key: &FileKey, size: u64) -> Result<Self, FileError> {
        Ok(Self {
            stream: key.stream(),
            layout: Layout::of_ciphertext(size)?,
            length: None,
            index: 0,
        })
    }

    /// How many bytes of ciphertext the next chunk has, or nothing when all were given.
    pub fn wants(&self) -> Option<usize> {
        (self.index < self.layout.chunks).then(|| {
            let plain = usize::try_from(self.layout.chunk_bytes(self.index));
            plain.unwrap_or(CHUNK_BYTES).saturating_add(TAG_BYTES)
        })
    }

    /// Decrypts the next chunk of exactly [`FileDecryptor::wants`] bytes into `out`, replacing
    /// what is there: bytes of the file only, without length and padding. After a failure `out` is
    /// empty.
    pub fn next_chunk(&mut self, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), FileError> {
        out.clear();
        if self.wants() != Some(sealed.len()) {
            return Err(FileError::Length);
        }
        self.open_chunk(self.index, sealed, out)?;
        self.index = self.index.saturating_add(1);
        Ok(())
    }

    /// Goes on at chunk `index`, after chunk 0 was read: for a decryption that was interrupted.
    pub fn skip_to(&mut self, index: u64) -> Result<(), FileError> {
        if self.length.is_none() || index > self.layout.chunks {
            return Err(FileError::Length);
        }
        self.index = index;
        Ok(())
    }

    /// The length of the file, known once the first chunk was read.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// The sizes.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    fn open_chunk(
        &mut self,
        index: u64,
        sealed: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), FileError> {
        let position = u32::try_from(index).map_err(|_| FileError::TooLarge)?;
        out.extend_from_slice(sealed);
        let opened = self
            .stream
            .decrypt_in_place(position, self.layout.is_last(index), &[], out)
            .map_err(|_| FileError::Forged)
            .and_then(|()| self.unpad(index, out));
        if opened.is_err() {
            out.clear();
        }
        opened
    }

    fn unpad(&mut self, index: u64, out: &mut Vec<u8>) -> Result<(), FileError> {
        if index == 0 {
            let (head, _) = out.split_first_chunk().ok_or(FileError::Padding)?;
            let length = u64::from_be_bytes(*head);
            if length > limits::FILE_BYTES
                || padme(length.saturating_add(LENGTH)) != self.layout.padded
            {
                return Err(FileError::Padding);
            }
            self.length = Some(length);
            out.drain(..LENGTH_BYTES);
        }
        let length = self.length.ok_or(FileError::Length)?;
        let part = file_part(&self.layout, length, index);
        let padding = out.get(part..).ok_or(FileError::Padding)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(FileError::Padding);
        }
        out.truncate(part);
        Ok(())
    }
}

/// Bytes of a file of `length` bytes in chunk `index`, which may be all padding.
fn file_part(layout: &Layout, length: u64, index: u64) -> usize {
    let end = length.saturating_add(LENGTH);
    let chunk_start = index.saturating_mul(CHUNK);
    let start = chunk_start.max(LENGTH);
    let stop = chunk_start
        .saturating_add(layout.chunk_bytes(index))
        .min(end);
    usize::try_from(stop.saturating_sub(start)).unwrap_or(0)
}
