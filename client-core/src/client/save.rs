//! A fetched ciphertext becomes a file: decrypted beside its place, checked, then renamed.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crypto::FileDecryptor;
use crypto::file_cipher::FileError;
use rand::CryptoRng;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, linkat, renameat_with};
use sha2::{Digest as _, Sha256 as Hasher};
use wire::{Sha256, limits};
use zeroize::Zeroizing;

use super::file_name::{numbered, safe_name};
use super::request::FileTarget;
use crate::engine::{FileCipher, FilePlan};
use crate::error::{Error, ErrorWord, Result};
use crate::view::SavedFileView;

/// Names that are tried in a folder before giving up.
const NAMES: u32 = 10_000;

/// Decrypts `ciphertext` (whose hash was checked) to `target`. Nothing is at the target until the
/// whole file was found to be what the message names.
pub(super) fn save(
    plan: &FilePlan,
    mut ciphertext: File,
    target: &mut FileTarget,
    rng: &mut dyn CryptoRng,
) -> Result<SavedFileView> {
    let (path, size, hash) = match target {
        FileTarget::Folder(folder) => {
            let name = safe_name(&plan.name);
            let beside = Beside::new(folder, rng)?;
            let (size, hash) = beside.fill(plan, &mut ciphertext)?;
            (beside.keep_as_free_name(&name)?, size, hash)
        }
        FileTarget::Path { path, force } => {
            check_path(path, *force)?;
            let folder = path.parent().filter(|parent| *parent != Path::new(""));
            let beside = Beside::new(folder.unwrap_or(Path::new(".")), rng)?;
            let (size, hash) = beside.fill(plan, &mut ciphertext)?;
            (beside.keep_as(path, *force)?, size, hash)
        }
        FileTarget::Writer(writer) => {
            // All of it is checked before the first byte goes out.
            let checked = decrypt(plan, &mut ciphertext, &mut io::sink())?;
            decrypt(plan, &mut ciphertext, writer)?;
            writer.flush()?;
            (PathBuf::from("-"), checked.0, checked.1)
        }
    };
    Ok(SavedFileView {
        path: path.to_string_lossy().into_owned(),
        size,
        sha256: hash.to_hex(),
        mime: plan.mime.clone(),
    })
}

/// Whether a file may be written to `path`: asked before anything is fetched, too.
pub(super) fn check_path(path: &Path, force: bool) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(Error::new(
            ErrorWord::Usage,
            format!("{} is a folder", path.display()),
        )),
        Ok(_) if !force => Err(taken(path)),
        _ => Ok(()),
    }
}

fn taken(path: &Path) -> Error {
    Error::new(
        ErrorWord::Conflict,
        format!("{} is there already", path.display()),
    )
    .hint("--force replaces it")
}

/// A file on its way into a folder. It has no name until it is kept, so an interruption at any
/// moment leaves nothing behind; on file systems that cannot do that it has a hidden one, which
/// goes when this is dropped.
struct Beside {
    folder: PathBuf,
    name: PathBuf,
    is_named: bool,
    file: File,
}

impl Beside {
    fn new(folder: &Path, rng: &mut dyn CryptoRng) -> Result<Self> {
        let mut random = [0; 8];
        rng.fill_bytes(&mut random);
        let name = folder.join(format!(".sotto-{}.part", hex::encode(random)));
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let (file, is_named) = match rustix::fs::open(folder, flags, mode) {
            Ok(fd) => (Ok(File::from(fd)), false),
            Err(_) => {
                let file = std::fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&name);
                (file, true)
            }
        };
        let file = file.map_err(|error| {
            let cause = Error::from(error);
            let detail = format!("{}: {}", folder.display(), cause.detail);
            Error::new(cause.word, detail)
        })?;
        Ok(Self {
            folder: folder.to_owned(),
            name,
            is_named,
            file,
        })
    }

    fn fill(&self, plan: &FilePlan, ciphertext: &mut File) -> Result<(u64, Sha256)> {
        let filled = decrypt(plan, ciphertext, &mut &self.file)?;
        self.file.sync_all()?;
        Ok(filled)
    }

    /// Gives it `name`, or the first `name (1)`, `name (2)` that nothing has.
    fn keep_as_free_name(mut self, name: &str) -> Result<PathBuf> {
        for number in 0..NAMES {
            let candidate = match number {
                0 => self.folder.join(name),
                number => self.folder.join(numbered(name, number)),
            };
            match self.keep_if_free(&candidate) {
                Ok(()) => return self.synced(candidate),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::new(
            ErrorWord::Conflict,
            "too many files of this name",
        ))
    }

    fn keep_as(mut self, path: &Path, force: bool) -> Result<PathBuf> {
        match self.keep_if_free(path) {
            Ok(()) => self.synced(path.to_owned()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && force => {
                if !self.is_named {
                    let name = self.name.clone();
                    self.link(&name)?;
                    self.is_named = true;
                }
                // A link in its place is replaced, not followed.
                std::fs::rename(&self.name, path)?;
                self.synced(path.to_owned())
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(taken(path)),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives it a name where nothing, not even a broken link, has that name.
    fn keep_if_free(&mut self, path: &Path) -> io::Result<()> {
        if self.is_named {
            rename_to_free(&self.name, path)
        } else {
            self.link(path)
        }
    }

    /// The first name of a file that has none (`open(2)`, `O_TMPFILE`).
    fn link(&self, path: &Path) -> io::Result<()> {
        use std::os::fd::AsRawFd as _;
        let open = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        Ok(linkat(CWD, open, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
    }

    fn synced(&self, path: PathBuf) -> Result<PathBuf> {
        File::open(&self.folder)?.sync_all()?;
        Ok(path)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if self.is_named {
            // After a rename nothing has this name any more.
            let _ = std::fs::remove_file(&self.name);
        }
    }
}

/// Renames where nothing, not even a broken link, has the new name.
fn rename_to_free(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // A file system that knows no such rename: a hard link fails on a taken name too.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            std::fs::hard_link(from, to)?;
            std::fs::remove_file(from)
        }
        Err(error) => Err(error.into()),
    }
}

/// Writes the plaintext; gives its size and hash. Fails with `integrity` where it is not what the
/// message names.
fn decrypt(plan: &FilePlan, ciphertext: &mut File, out: &mut dyn Write) -> Result<(u64, Sha256)> {
    let cipher_size = ciphertext.metadata()?.len();
    ciphertext.rewind()?;
    let mut hasher = Hasher::new();
    let mut size = 0_u64;
    match &plan.cipher {
        FileCipher::Stream(key) => {
            let mut decryptor = FileDecryptor::new(key, cipher_size).map_err(damaged)?;
            let mut sealed = Vec::new();
            let mut plain = Zeroizing::new(Vec::new());
            while let Some(wanted) = decryptor.wants() {
                sealed.resize(wanted, 0);
                ciphertext.read_exact(&mut sealed)?;
                decryptor.next_chunk(&sealed, &mut plain).map_err(damaged)?;
                hasher.update(plain.as_slice());
                size = size.saturating_add(u64::try_from(plain.len()).unwrap_or_default());
                out.write_all(&plain)?;
            }
        }
        FileCipher::Foreign(key) => {
            const TAG_BYTES: u64 = 16;
            if cipher_size > limits::FOREIGN_FILE_BYTES.saturating_add(TAG_BYTES) {
                return Err(damaged(FileError::TooLarge));
            }
            let mut file = Zeroizing::new(Vec::new());
            ciphertext.read_to_end(&mut file)?;
            key.decrypt(&mut file).map_err(damaged)?;
            hasher.update(file.as_slice());
            size = u64::try_from(file.len()).unwrap_or_default();
            out.write_all(&file)?;
        }
    }
    let hash = Sha256::from_bytes(hasher.finalize().into());
    if plan.plain_hash.is_some_and(|named| named != hash) {
        return Err(Error::new(
            ErrorWord::Integrity,
            "the decrypted file is not the one that the message names",
        ));
    }
    Ok((size, hash))
}

fn damaged(error: FileError) -> Error {
    Error::new(ErrorWord::Integrity, error.to_string())
}
