//! Ciphertexts on their way to a file server or from it, in a folder of the home.
//!
//! A file is encrypted once, into the spool, and uploaded from there as often as it takes; its
//! name is the SHA-256 of the ciphertext. Nothing in the spool is readable without keys that are
//! elsewhere.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use crypto::file_cipher::{CHUNK_BYTES, FileError};
use crypto::foreign_file::ForeignFileKey;
use crypto::{FileDecryptor, FileEncryptor, FileKey};
use rand::CryptoRng;
use sha2::{Digest as _, Sha256 as Hasher};
use wire::{Sha256, limits};
use zeroize::Zeroizing;

use crate::engine::FileCipher;
use crate::error::{Error, ErrorWord, Result};
use crate::home::folder::Folder;

/// How much of a stream of unknown length is held before it is set aside.
const SEGMENT_BYTES: usize = 4 * 1024 * 1024;
/// What nobody needs and is older than this was left by a crash.
const STALE: Duration = Duration::from_secs(86_400);
/// A download that was not gone on with for so long is given up.
const PARTIAL: Duration = Duration::from_secs(7 * 86_400);

/// The spool of a home. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Spool {
    folder: Arc<Folder>,
}

/// A file in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spooled {
    /// SHA-256 of the ciphertext: its name in the spool and on file servers.
    pub blob: Sha256,
    /// Bytes of the ciphertext.
    pub cipher_size: u64,
    /// Bytes of the plaintext.
    pub plain_size: u64,
    /// SHA-256 of the plaintext.
    pub plain_hash: Sha256,
}

/// Set when nobody waits for the result any more: the work stops at the next chunk.
pub type Stop = Arc<AtomicBool>;

impl Spool {
    /// A spool in this folder.
    pub fn new(folder: Folder) -> Self {
        Self {
            folder: Arc::new(folder),
        }
    }

    /// Removes what a crash left: half-made files, ciphertexts that are not among `needed`, and
    /// downloads that nobody went on with; each only when it is old enough that no other process
    /// can be at work on it.
    pub fn sweep(&self, needed: &[Sha256]) {
        for name in self.folder.names().unwrap_or_default() {
            let is_needed = needed.iter().any(|blob| blob.to_hex() == name);
            let limit = if name.ends_with(".part") {
                PARTIAL
            } else {
                STALE
            };
            let modified = std::fs::symlink_metadata(self.folder.path().join(&name))
                .and_then(|meta| meta.modified());
            let age = modified
                .ok()
                .and_then(|time| SystemTime::now().duration_since(time).ok());
            if !is_needed && age.is_some_and(|age| age > limit) {
                let _ = self.folder.remove(&name);
            }
        }
    }

    /// Encrypts `source` of exactly `length` bytes. Blocking; memory stays flat with
    /// [`FileCipher::Stream`].
    ///
    /// When this returns, the ciphertext is on the disk under its name. Fails with `disk_full`,
    /// with `too_large`, or with `conflict` where the file changed while it was read.
    pub fn encrypt(
        &self,
        source: &mut dyn Read,
        length: u64,
        key: &FileCipher,
        rng: &mut dyn CryptoRng,
        stop: &Stop,
    ) -> Result<Spooled> {
        let mut draft = self.draft(rng)?;
        let plain_hash = match key {
            FileCipher::Stream(key) => encrypt_stream(source, length, key, &mut draft, stop),
            FileCipher::Foreign(key) => encrypt_at_once(source, length, key, &mut draft),
        }?;
        let (blob, cipher_size) = draft.finish()?;
        Ok(Spooled {
            blob,
            cipher_size,
            plain_size: length,
            plain_hash,
        })
    }

    /// Sets a stream of unknown length aside, encrypted under keys that only this process knows,
    /// and returns its length and a reader of it. A short one stays in memory.
    pub fn set_aside(
        &self,
        source: &mut dyn Read,
        rng: &mut dyn CryptoRng,
        stop: &Stop,
    ) -> Result<(u64, Box<dyn Read + Send>)> {
        let first = read_segment(source)?;
        if first.len() < SEGMENT_BYTES {
            let length = u64::try_from(first.len()).unwrap_or_default();
            return Ok((
                length,
                Box::new(Segment {
                    bytes: first,
                    at: 0,
                }),
            ));
        }
        let mut draft = self.draft(rng)?;
        let mut segments = Vec::new();
        let mut length = 0_u64;
        let mut segment = first;
        while !segment.is_empty() {
            check(stop)?;
            length = length.saturating_add(u64::try_from(segment.len()).unwrap_or(u64::MAX));
            if length > limits::FILE_BYTES {
                return Err(file_error(FileError::TooLarge));
            }
            let key = FileKey::generate(rng);
            let size = u64::try_from(segment.len()).unwrap_or_default();
            let before = draft.size;
            encrypt_stream(&mut segment.as_slice(), size, &key, &mut draft, stop)?;
            segments.push((key, draft.size.saturating_sub(before)));
            segment = read_segment(source)?;
        }
        let file = draft.reopen_and_forget()?;
        segments.reverse();
        let reader = SetAside {
            file,
            segments,
            current: Segment {
                bytes: Zeroizing::new(Vec::new()),
                at: 0,
            },
        };
        Ok((length, Box::new(reader)))
    }

    fn draft(&self, rng: &mut dyn CryptoRng) -> Result<Draft<'_>> {
        let mut random = [0; 8];
        rng.fill_bytes(&mut random);
        let name = format!(".new-{}", hex::encode(random));
        let file = self.folder.create_new(&name)?;
        Ok(Draft {
            folder: &self.folder,
            name,
            file,
            hasher: Hasher::new(),
            size: 0,
            is_kept: false,
        })
    }

    /// A file without a name, gone when it is closed, that holds `content`.
    pub fn scratch(&self, content: &[u8], rng: &mut dyn CryptoRng) -> Result<File> {
        use std::io::Seek as _;
        let draft = self.draft(rng)?;
        let mut file = draft.file.try_clone()?;
        drop(draft);
        file.write_all(content)?;
        file.rewind()?;
        Ok(file)
    }

    /// Opens a ciphertext for an upload.
    pub fn open(&self, blob: &Sha256) -> io::Result<File> {
        self.folder.open_to_read(&blob.to_hex())
    }

    /// Whether a ciphertext is there.
    pub fn has(&self, blob: &Sha256) -> bool {
        self.folder.has(&blob.to_hex())
    }

    /// Removes a ciphertext; one that is not there is no error.
    pub fn remove(&self, blob: &Sha256) -> io::Result<()> {
        self.folder.remove(&blob.to_hex())
    }

    /// Opens the place where a download grows; what came before is in it. It is locked as long as
    /// the file or a clone of it is open: `conflict` where another process has it.
    pub fn open_partial(&self, blob: &Sha256) -> Result<File> {
        let file = self.folder.lock_file(&partial(blob), false)?;
        file.ok_or_else(|| Error::new(ErrorWord::Conflict, "another command is fetching this file"))
    }

    /// Removes a download.
    pub fn remove_partial(&self, blob: &Sha256) -> io::Result<()> {
        self.folder.remove(&partial(blob))
    }
}

fn partial(blob: &Sha256) -> String {
    format!("{blob}.part")
}

/// A ciphertext that is being written. Dropped unfinished, it is removed.
struct Draft<'a> {
    folder: &'a Folder,
    name: String,
    file: File,
    hasher: Hasher,
    size: u64,
    is_kept: bool,
}

impl Draft<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.size = self
            .size
            .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    fn finish(mut self) -> Result<(Sha256, u64)> {
        self.file.sync_all()?;
        let blob = Sha256::from_bytes(self.hasher.clone().finalize().into());
        self.folder.rename(&self.name, &blob.to_hex())?;
        self.is_kept = true;
        Ok((blob, self.size))
    }

    /// The file for reading, without a name any more: gone when it is closed, or by a crash.
    fn reopen_and_forget(self) -> Result<File> {
        Ok(self.folder.open_to_read(&self.name)?)
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = self.folder.remove(&self.name);
        }
    }
}

fn encrypt_stream(
    source: &mut dyn Read,
    length: u64,
    key: &FileKey,
    draft: &mut Draft<'_>,
    stop: &Stop,
) -> Result<Sha256> {
    let mut encryptor = FileEncryptor::new(key, length).map_err(file_error)?;
    let mut plain_hash = Hasher::new();
    let mut plain = Zeroizing::new(vec![0; CHUNK_BYTES]);
    let mut sealed = Vec::new();
    while let Some(wanted) = encryptor.wants() {
        check(stop)?;
        let chunk = plain
            .get_mut(..wanted)
            .ok_or_else(|| file_error(FileError::Length))?;
        source
            .read_exact(chunk)
            .map_err(|error| read_error(&error))?;
        plain_hash.update(&*chunk);
        encryptor
            .next_chunk(chunk, &mut sealed)
            .map_err(file_error)?;
        draft.write(&sealed)?;
    }
    at_end(source)?;
    Ok(Sha256::from_bytes(plain_hash.finalize().into()))
}

fn encrypt_at_once(
    source: &mut dyn Read,
    length: u64,
    key: &ForeignFileKey,
    draft: &mut Draft<'_>,
) -> Result<Sha256> {
    if length > limits::FOREIGN_FILE_BYTES {
        return Err(Error::new(
            ErrorWord::TooLarge,
            "the recipient's client takes files of at most 16 MiB",
        ));
    }
    let length = usize::try_from(length).map_err(|_| file_error(FileError::TooLarge))?;
    // Room for the tag, so that it is encrypted where it stands and leaves no copy behind.
    let mut file = Zeroizing::new(Vec::with_capacity(length.saturating_add(16)));
    file.resize(length, 0);
    source
        .read_exact(&mut file)
        .map_err(|error| read_error(&error))?;
    at_end(source)?;
    let plain_hash = Sha256::of(&file);
    key.encrypt(&mut file).map_err(file_error)?;
    draft.write(&file)?;
    Ok(plain_hash)
}

fn check(stop: &Stop) -> Result<()> {
    if stop.load(Ordering::Relaxed) {
        return Err(Error::new(ErrorWord::Interrupted, "interrupted"));
    }
    Ok(())
}

fn at_end(source: &mut dyn Read) -> Result<()> {
    match source.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(changed()),
        Err(error) => Err(error.into()),
    }
}

fn read_error(error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        changed()
    } else {
        Error::new(ErrorWord::Internal, format!("the file: {error}"))
    }
}

fn changed() -> Error {
    Error::new(ErrorWord::Conflict, "the file changed while it was read")
        .hint("send it again when nothing writes to it")
}

fn file_error(error: FileError) -> Error {
    let word = match error {
        FileError::TooLarge => ErrorWord::TooLarge,
        FileError::Length => ErrorWord::Conflict,
        FileError::Size | FileError::Forged | FileError::Padding | FileError::Key => {
            ErrorWord::Integrity
        }
    };
    Error::new(word, error.to_string())
}

fn read_segment(source: &mut dyn Read) -> Result<Zeroizing<Vec<u8>>> {
    // Taken at once, so that growing leaves no copies.
    let mut segment = Zeroizing::new(Vec::with_capacity(SEGMENT_BYTES + 1));
    let cap = u64::try_from(SEGMENT_BYTES).unwrap_or(u64::MAX);
    source.take(cap).read_to_end(&mut segment)?;
    Ok(segment)
}

struct Segment {
    bytes: Zeroizing<Vec<u8>>,
    at: usize,
}

impl Read for Segment {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let count = (&mut &*rest).read(out)?;
        self.at = self.at.saturating_add(count);
        Ok(count)
    }
}

/// Reads back what [`Spool::set_aside`] wrote.
struct SetAside {
    file: File,
    /// The last one first.
    segments: Vec<(FileKey, u64)>,
    current: Segment,
}

impl Read for SetAside {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.current.read(out)?;
            if count > 0 || out.is_empty() {
                return Ok(count);
            }
            let Some((key, size)) = self.segments.pop() else {
                return Ok(0);
            };
            let mut decryptor = FileDecryptor::new(&key, size).map_err(io::Error::other)?;
            let mut plain = Zeroizing::new(Vec::with_capacity(SEGMENT_BYTES + CHUNK_BYTES));
            let mut sealed = Vec::new();
            let mut chunk = Zeroizing::new(Vec::new());
            while let Some(wanted) = decryptor.wants() {
                sealed.resize(wanted, 0);
                self.file.read_exact(&mut sealed)?;
                decryptor
                    .next_chunk(&sealed, &mut chunk)
                    .map_err(io::Error::other)?;
                plain.extend_from_slice(&chunk);
            }
            self.current = Segment {
                bytes: plain,
                at: 0,
            };
        }
    }
}
