//! Making, opening, re-locking and removing a home.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crypto::lock::LOCK_FILE_BYTES;
use crypto::tries::TRIES_BYTES;
use crypto::{Argon2Params, Attempt, DataKey, DeviceSecret, Lock, Tries};
use rand::CryptoRng;

use super::folder::{Folder, read_at_most};
use super::root_store::RootStore;
use super::ways::{damaged, kind_of, lock_error, way_to_open, way_to_set};
use crate::client::{Protection, UnlockWith};
use crate::error::{Error, ErrorWord, Result};

const LOCK: &str = "lock.json";
const PROTECTION: &str = "protection";
const DEVICE: &str = "device-secret";
const TRIES: &str = "tries";
const ROOT: &str = "root.db";
const CIRCLES: &str = "circles";
const SPOOL: &str = "spool";
const UNFINISHED: &str = "unfinished";
/// SQLite's companions of `root.db`.
const ROOT_FILES: [&str; 3] = [ROOT, "root.db-wal", "root.db-shm"];

/// A home folder by its path; it may not be there.
#[derive(Debug, Clone)]
pub struct HomeFolder {
    path: PathBuf,
}

/// A circle's database.
const STORE: &str = "store.db";
/// Beside it once it was made.
const MADE: &str = "made";

fn lost(what: &str) -> Error {
    Error::new(ErrorWord::StoreDamaged, what)
        .hint("put it back from a copy, or restore the account from its words in another folder")
}

/// A home that was opened.
#[derive(Debug)]
pub struct Unlocked {
    /// The folder.
    pub folder: Folder,
    /// What the databases' keys come from.
    pub data_key: DataKey,
    /// Seed and circles.
    pub root: RootStore,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Unlocked {
    /// Where a circle's database is; its folder is made where it is missing.
    ///
    /// Fails with `store_damaged` where the database was there once and is not any more: it would
    /// be made anew, empty, and hide the loss.
    pub fn circle_store(&self, folder: &str) -> Result<PathBuf> {
        let circle = self.folder.subfolder(CIRCLES)?.subfolder(folder)?;
        if circle.has(MADE) {
            if !circle.has(STORE) {
                return Err(lost("a circle's store.db is missing"));
            }
            if circle.open_to_read(STORE)?.metadata()?.len() == 0 {
                return Err(lost("a circle's store.db is empty"));
            }
        }
        Ok(circle.path().join(STORE))
    }

    /// Remembers that a circle's database is there.
    pub fn circle_store_is_made(&self, folder: &str) -> Result<()> {
        let circle = self.folder.subfolder(CIRCLES)?.subfolder(folder)?;
        if !circle.has(MADE) {
            circle.replace(MADE, b"")?;
        }
        Ok(())
    }

    /// The spool of a circle, apart from those of others.
    pub fn spool(&self, folder: &str) -> Result<Folder> {
        Ok(self.folder.subfolder(SPOOL)?.subfolder(folder)?)
    }

    /// The same home once more, for another circle.
    pub fn again(&self) -> Result<Self> {
        let folder = Folder::open(self.folder.path())?;
        let root = RootStore::open(&folder.path().join(ROOT), &self.data_key.root_store())?;
        Ok(Self {
            folder,
            data_key: self.data_key.clone(),
            root,
            warnings: Vec::new(),
        })
    }
}

/// A home that `init` is making. Dropped before [`Making::finish`], it stays unfinished and the
/// next `init` starts over.
#[derive(Debug)]
pub struct Making {
    /// The home so far: everything but the lock is in place.
    pub unlocked: Unlocked,
    lock: Lock,
    protection: Protection,
    marker: File,
}

impl HomeFolder {
    /// Names a folder; nothing is read or made.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether an account is in it, ready.
    pub fn exists(&self) -> bool {
        Folder::open(&self.path).is_ok_and(|folder| folder.has(LOCK) && !folder.has(UNFINISHED))
    }

    /// Which unlock is expected.
    pub fn protection(&self) -> Result<Protection> {
        protection_of(&self.open_ready()?)
    }

    fn open_ready(&self) -> Result<Folder> {
        let none = || {
            Error::new(ErrorWord::NotFound, "there is no account in this home")
                .hint("make one with `sotto init`, or name another home with --home")
        };
        let folder = match Folder::open(&self.path) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(none()),
            Err(error) => return Err(error.into()),
        };
        if folder.has(UNFINISHED) {
            return Err(
                Error::new(ErrorWord::NotFound, "making this account was interrupted")
                    .hint("run `sotto init` again; nothing was lost"),
            );
        }
        if folder.has(LOCK) {
            return Ok(folder);
        }
        if folder.has(ROOT) || folder.has(DEVICE) {
            return Err(damaged("lock.json is missing"));
        }
        Err(none())
    }

    /// Starts a home: everything but the lock, which [`Making::finish`] puts in place. `conflict`
    /// where there is an account, or another `init` is at work.
    pub fn make(
        &self,
        unlock: &UnlockWith,
        params: Argon2Params,
        rng: &mut dyn CryptoRng,
    ) -> Result<Making> {
        let folder = Folder::create(&self.path)?;
        let taken = || {
            Error::new(
                ErrorWord::Conflict,
                "there is an account in this home already",
            )
            .hint("use it, or name another home with --home")
        };
        if folder.has(LOCK) && !folder.has(UNFINISHED) {
            return Err(taken());
        }
        if !folder.has(UNFINISHED) && (folder.has(ROOT) || folder.has(DEVICE)) {
            return Err(damaged("lock.json is missing"));
        }
        let Some(marker) = folder.lock_file(UNFINISHED, false)? else {
            return Err(Error::new(
                ErrorWord::Conflict,
                "another `sotto init` is making this home",
            ));
        };
        // Another process may have finished between our look and our lock.
        // It removes its marker before it lets go of the lock, so this empty one is ours.
        if folder.has(LOCK) && marker.metadata()?.len() == 0 {
            folder.remove(UNFINISHED)?;
            return Err(taken());
        }
        clear(&folder)?;
        marker.write_all_at(b"init\n", 0)?;
        marker.sync_all()?;
        folder.sync()?;
        let way = way_to_set(unlock, rng)?;
        let device = DeviceSecret::generate(rng);
        let (lock, data_key) =
            Lock::create(params, &[way], &device, rng).map_err(|error| lock_error(error, None))?;
        folder.replace(DEVICE, device.expose_secret_bytes())?;
        let tries = Tries::fresh(lock.tries());
        folder.replace(TRIES, &tries.encode(&device))?;
        folder.create_new(ROOT)?.sync_all()?;
        let root = RootStore::open(&folder.path().join(ROOT), &data_key.root_store())?;
        folder.subfolder(CIRCLES)?;
        folder.subfolder(SPOOL)?;
        Ok(Making {
            unlocked: Unlocked {
                folder,
                data_key,
                root,
                warnings: Vec::new(),
            },
            lock: lock.with_tries(tries.counter()),
            protection: kind_of(unlock),
            marker,
        })
    }

    /// Opens a home at `now` (Unix seconds).
    ///
    /// A PIN's or passphrase's try is counted on disk before it is made. Wrong: `pin_wrong` (4,
    /// with `retry_after_s` where a wait begins). During a wait: `pin_locked` (8), not counted.
    pub fn unlock(&self, unlock: &UnlockWith, now: u64) -> Result<Unlocked> {
        let folder = self.open_ready()?;
        let mut warnings = Vec::new();
        for name in [DEVICE, LOCK, TRIES, ROOT] {
            if folder.is_exposed(name) {
                folder.make_private(name)?;
                warnings.push(format!(
                    "other users of this machine could read {name}; that is corrected now"
                ));
            }
        }
        let data_key = self.open_lock(&folder, unlock, now)?;
        // It must be there and hold something: a missing or empty one would be made anew, without
        // seed and circles, and hide the loss.
        if !folder.has(ROOT) {
            return Err(damaged("root.db is missing"));
        }
        // Opened once without following links; SQLite then opens the same name.
        if folder.open_to_read(ROOT)?.metadata()?.len() == 0 {
            return Err(damaged("root.db is empty"));
        }
        let root = RootStore::open(&folder.path().join(ROOT), &data_key.root_store())?;
        Ok(Unlocked {
            folder,
            data_key,
            root,
            warnings,
        })
    }

    /// Whether `unlock` opens the lock, without opening anything behind it.
    pub fn check(&self, unlock: &UnlockWith, now: u64) -> Result<()> {
        let folder = self.open_ready()?;
        self.open_lock(&folder, unlock, now).map(drop)
    }

    fn open_lock(&self, folder: &Folder, unlock: &UnlockWith, now: u64) -> Result<DataKey> {
        let protection = protection_of(folder)?;
        let way = way_to_open(unlock, protection)?;
        if !way.is_guessable() {
            return read_lock(folder)?
                .open(&way, &read_device(folder)?)
                .map_err(|error| lock_error(error, None));
        }
        let mut file = lock_tries(folder)?;
        // Read under the lock: another process may have moved the counters on, or changed the PIN,
        // or died while it did.
        finish_change(folder)?;
        let device = read_device(folder)?;
        let lock = read_lock(folder)?;
        let stored = read_at_most(&file, TRIES_BYTES + 1).unwrap_or_default();
        let known = (!stored.is_empty()).then_some(stored.as_slice());
        let tries = Tries::decode(known, &device, lock.tries(), now);
        let attempt = match tries.begin(now) {
            Attempt::Allowed(attempt) => attempt,
            Attempt::Wait {
                retry_after_s,
                record,
            } => {
                if record.encode(&device) != stored {
                    store_tries(folder, &mut file, &lock, &record, &device)?;
                }
                return Err(Error::new(
                    ErrorWord::PinLocked,
                    "too many wrong tries; the account is locked for a while",
                )
                .retry_after(retry_after_s));
            }
        };
        let lock = store_tries(folder, &mut file, &lock, &attempt, &device)?;
        match lock.open(&way, &device) {
            Ok(data_key) => {
                store_tries(folder, &mut file, &lock, &attempt.succeed(), &device)?;
                Ok(data_key)
            }
            Err(error) => Err(lock_error(error, Some(attempt.retry_after_s(now)))),
        }
    }

    /// Replaces the way in: new salt, new device secret, and none of the old ways opens any more.
    pub fn change(
        &self,
        old: &UnlockWith,
        new: &UnlockWith,
        now: u64,
        rng: &mut dyn CryptoRng,
    ) -> Result<()> {
        let folder = self.open_ready()?;
        let way = way_to_set(new, rng)?;
        let data_key = self.open_lock(&folder, old, now)?;
        let mut file = lock_tries(&folder)?;
        let lock = read_lock(&folder)?;
        let device = DeviceSecret::generate(rng);
        let changed = lock
            .change(&data_key, lock.params(), &[way], &device, rng)
            .map_err(|error| lock_error(error, None))?;
        let tries = Tries::fresh(changed.tries());
        let changed = changed.with_tries(tries.counter());
        // Three files cannot change in one step. The new ones are written beside first; if a
        // crash comes between the renames, the next opening ends it.
        folder.replace(&next(DEVICE), device.expose_secret_bytes())?;
        folder.replace(&next(PROTECTION), kind_of(new).as_str().as_bytes())?;
        folder.replace(&next(LOCK), changed.to_json().as_bytes())?;
        finish_change(&folder)?;
        write_tries(&folder, &mut file, &tries, &device)
    }

    /// Removes the account: everything in the folder that is Sotto's, the lock first, so that
    /// what a crash leaves behind can never be opened again. `unlock` must open it.
    pub fn remove(&self, unlock: &UnlockWith, now: u64) -> Result<()> {
        let folder = self.open_ready()?;
        self.open_lock(&folder, unlock, now)?;
        let marker = folder.lock_file(UNFINISHED, false)?;
        folder.sync()?;
        clear(&folder)?;
        folder.remove(UNFINISHED)?;
        folder.sync()?;
        drop(marker);
        // Only where nothing else is in it.
        let _ = std::fs::remove_dir(folder.path());
        Ok(())
    }
}

impl Making {
    /// Puts the lock in place and ends the making: from here on the account is there.
    pub fn finish(self) -> Result<Unlocked> {
        let Self {
            unlocked,
            lock,
            protection,
            marker,
        } = self;
        let folder = &unlocked.folder;
        folder.replace(PROTECTION, protection.as_str().as_bytes())?;
        folder.replace(LOCK, lock.to_json().as_bytes())?;
        folder.remove(UNFINISHED)?;
        folder.sync()?;
        drop(marker);
        Ok(unlocked)
    }
}

/// Removes what `init` makes, the lock and its secret first.
fn clear(folder: &Folder) -> Result<()> {
    for name in [LOCK, DEVICE, PROTECTION] {
        folder.remove(name)?;
        folder.remove(&next(name))?;
        folder.remove(&format!(".{name}.new"))?;
    }
    folder.sync()?;
    folder.remove(TRIES)?;
    for name in ROOT_FILES {
        folder.remove(name)?;
    }
    for name in [CIRCLES, SPOOL] {
        if folder.has(name) {
            empty(&folder.subfolder(name)?, 1)?;
            folder.remove_subfolder(name)?;
        }
    }
    folder.sync()?;
    Ok(())
}

/// Removes files, and folders `depth` levels down, without following links.
fn empty(folder: &Folder, depth: u32) -> Result<()> {
    for name in folder.names()? {
        if folder.remove(&name).is_ok() {
            continue;
        }
        if depth > 0 {
            empty(&folder.subfolder(&name)?, depth - 1)?;
        }
        folder.remove_subfolder(&name)?;
    }
    Ok(())
}

fn next(name: &str) -> String {
    format!("{name}.next")
}

/// Ends a change of the lock that was begun: `lock.json.next` is written last, so if it is there
/// the others are whole; the lock itself is renamed last, so until then this runs again.
fn finish_change(folder: &Folder) -> Result<()> {
    if !folder.has(&next(LOCK)) {
        return Ok(());
    }
    for name in [DEVICE, PROTECTION, LOCK] {
        match folder.rename(&next(name), name) {
            // Another process that found the change unfinished was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    Ok(())
}

fn protection_of(folder: &Folder) -> Result<Protection> {
    if folder.has(&next(LOCK)) {
        // Whoever changes the PIN holds this lock: what is found under it is a change that a crash
        // cut off, and not one that is being written at this moment.
        let _tries = lock_tries(folder)?;
        finish_change(folder)?;
    }
    let word = folder.read(PROTECTION, 64).unwrap_or_default();
    let word = String::from_utf8_lossy(&word);
    Protection::from_name(word.trim()).ok_or_else(|| damaged("the file `protection` is damaged"))
}

fn read_device(folder: &Folder) -> Result<DeviceSecret> {
    let bytes = folder
        .read(DEVICE, DeviceSecret::LEN)
        .map_err(|_| damaged("the device secret is missing or damaged"))?;
    let bytes: [u8; DeviceSecret::LEN] = bytes
        .try_into()
        .map_err(|_| damaged("the device secret is damaged"))?;
    Ok(DeviceSecret::from_secret_bytes(bytes))
}

fn read_lock(folder: &Folder) -> Result<Lock> {
    let json = folder
        .read(LOCK, LOCK_FILE_BYTES)
        .map_err(|_| damaged("lock.json is missing or damaged"))?;
    Lock::decode(&json).map_err(|error| lock_error(error, None))
}

fn lock_tries(folder: &Folder) -> Result<File> {
    let file = folder.lock_file(TRIES, true)?;
    file.ok_or_else(|| Error::new(ErrorWord::Internal, "the tries cannot be locked"))
}

/// Writes the record and then its twin; both last before this returns.
fn store_tries(
    folder: &Folder,
    file: &mut File,
    lock: &Lock,
    tries: &Tries,
    device: &DeviceSecret,
) -> Result<Lock> {
    write_tries(folder, file, tries, device)?;
    let lock = lock.clone().with_tries(tries.counter());
    folder.replace(LOCK, lock.to_json().as_bytes())?;
    Ok(lock)
}

/// In place, because the lock is on this very file; a write that is cut short leaves a record
/// whose MAC fails, which counts as the third wrong try.
fn write_tries(
    folder: &Folder,
    file: &mut File,
    tries: &Tries,
    device: &DeviceSecret,
) -> Result<()> {
    let record = tries.encode(device);
    file.write_all_at(&record, 0)?;
    file.set_len(u64::try_from(record.len()).unwrap_or_default())?;
    file.sync_all()?;
    folder.sync()?;
    Ok(())
}
