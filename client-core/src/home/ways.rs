//! Ways into a home: PINs, passphrases and key files as a face hands them in, and what is said
//! when they do not fit.

use std::fs::File;
use std::io;
use std::path::Path;

use crypto::lock::{KEY_FILE_BYTES, LockError, SECRET_BYTES};
use crypto::{KeyFile, SecretText, Unlock};
use rand::CryptoRng;

use super::folder::read_at_most;
use crate::client::{Protection, UnlockWith};
use crate::error::{Error, ErrorWord, Result};

/// Which kind it is.
pub(super) fn kind_of(unlock: &UnlockWith) -> Protection {
    match unlock {
        UnlockWith::Pin(_) => Protection::Pin,
        UnlockWith::Passphrase(_) => Protection::Passphrase,
        UnlockWith::KeyFile(_) => Protection::KeyFile,
    }
}

/// A new way in: a PIN of four digits or more, a passphrase, or a key file, made where missing.
pub(super) fn way_to_set(unlock: &UnlockWith, rng: &mut dyn CryptoRng) -> Result<Unlock> {
    match unlock {
        UnlockWith::Pin(text) | UnlockWith::Passphrase(text) => {
            let way =
                Unlock::from_text(text.expose_secret()).map_err(|error| lock_error(error, None))?;
            match (unlock, &way) {
                (UnlockWith::Pin(_), Unlock::Passphrase(_)) => {
                    Err(Error::new(ErrorWord::Usage, "a PIN consists of digits")
                        .hint("use --passphrase-file for anything else"))
                }
                _ => Ok(way),
            }
        }
        UnlockWith::KeyFile(path) => read_or_make_key_file(path, rng).map(Unlock::KeyFile),
    }
}

/// What is tried on a home that expects `protection`.
pub(super) fn way_to_open(unlock: &UnlockWith, protection: Protection) -> Result<Unlock> {
    let trimmed = |text: &SecretText| SecretText::new(text.expose_secret().trim().to_owned());
    match unlock {
        UnlockWith::Pin(_) | UnlockWith::Passphrase(_) if protection == Protection::KeyFile => Err(
            Error::new(ErrorWord::Locked, "this account opens with a key file")
                .hint("name it with --key-file"),
        ),
        UnlockWith::Pin(text) | UnlockWith::Passphrase(text) => {
            let text = trimmed(text);
            if text.expose_secret().len() > SECRET_BYTES {
                return Err(lock_error(LockError::TooLong, None));
            }
            Ok(Unlock::Pin(text))
        }
        UnlockWith::KeyFile(path) => {
            let file = File::open(path).map_err(|error| key_file_error(&error))?;
            let bytes = read_at_most(&file, *KEY_FILE_BYTES.end())
                .map_err(|error| key_file_error(&error))?;
            KeyFile::new(bytes)
                .map(Unlock::KeyFile)
                .map_err(|error| lock_error(error, None))
        }
    }
}

fn read_or_make_key_file(path: &Path, rng: &mut dyn CryptoRng) -> Result<KeyFile> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    match File::open(path) {
        Ok(file) => {
            let bytes = read_at_most(&file, *KEY_FILE_BYTES.end())
                .map_err(|error| key_file_error(&error))?;
            KeyFile::new(bytes).map_err(|error| lock_error(error, None))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = KeyFile::generate(rng);
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)?;
            file.write_all(key.expose_secret_bytes())?;
            file.sync_all()?;
            let folder = path.parent().filter(|parent| *parent != Path::new(""));
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
            Ok(key)
        }
        Err(error) => Err(key_file_error(&error)),
    }
}

fn key_file_error(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::new(ErrorWord::NotFound, "the key file is not there"),
        io::ErrorKind::FileTooLarge => lock_error(LockError::KeyFileSize, None),
        io::ErrorKind::IsADirectory => Error::new(ErrorWord::Usage, "the key file is a folder"),
        _ => Error::new(ErrorWord::Internal, format!("the key file: {error}")),
    }
}

/// What a refusal of the lock is to the user. `retry_after_s` is the wait that a wrong try began.
pub(super) fn lock_error(error: LockError, retry_after_s: Option<u64>) -> Error {
    let detail = error.to_string();
    match error {
        LockError::TooShort => Error::new(ErrorWord::Usage, detail).hint("6 digits are advised"),
        LockError::TooLong | LockError::KeyFileSize | LockError::Slots => {
            Error::new(ErrorWord::Usage, detail)
        }
        LockError::Wrong => {
            let error = Error::new(ErrorWord::PinWrong, detail);
            match retry_after_s.filter(|seconds| *seconds > 0) {
                Some(seconds) => error.retry_after(seconds),
                None => error,
            }
        }
        LockError::Damaged => damaged("lock.json is damaged"),
        LockError::Memory => Error::new(ErrorWord::Internal, detail),
    }
}

/// Something of the home is missing or damaged.
pub(super) fn damaged(what: &str) -> Error {
    Error::new(ErrorWord::Integrity, what)
        .hint("restore the home from a backup, or the account from its seed words")
}
