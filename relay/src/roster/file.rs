//! The roster on disk: one JSON file in the data folder, which the relay and the command line both
//! write.
//!
//! Whoever changes it holds the lock file, reads what is there, and puts a whole new file in its
//! place: written aside, synced, renamed, the folder synced. So a change is there in full or not
//! at all, whatever crashes, and no writer ever loses another's. A running relay looks every
//! second whether the file is another one, and before it changes it itself.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::Roster;

const NAME: &str = "roster.json";
const ASIDE: &str = "roster.new";
const LOCK: &str = "roster.lock";
/// The largest file that is read. The lists have limits of their own.
const FILE_BYTES: u64 = 256 * 1024 * 1024;
/// How long another writer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is asked whether it is done.
const PAUSE: Duration = Duration::from_millis(5);

/// Why the roster could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RosterError {
    /// The file system failed.
    #[error("the roster could not be read or written: {0}")]
    Io(#[from] std::io::Error),
    /// What is there is no roster. Nothing was changed.
    #[error(
        "roster.json is damaged: restore it from a backup, or remove it to start without members"
    )]
    Damaged,
    /// A newer program wrote it. Nothing was changed.
    #[error("roster.json was written by a newer version of this program")]
    Newer,
    /// Another program holds the lock for too long.
    #[error("the roster is being changed by another program; try again")]
    Busy,
}

/// The roster, and where it is kept.
#[derive(Debug)]
pub struct RosterFile {
    /// None: in memory, gone with the process.
    folder: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    roster: Arc<Roster>,
    seen: Option<Seen>,
}

/// What tells one file from the next. Each is made while the one before is still there, so two in
/// a row never share an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    inode: u64,
    modified: (i64, i64),
    len: u64,
}

impl RosterFile {
    /// An empty roster that is gone with the process. For tests and models.
    pub fn in_memory() -> Self {
        Self {
            folder: None,
            state: Mutex::default(),
        }
    }

    /// The roster of a data folder; an empty one where there is no file yet. Blocks.
    pub fn open(folder: &Path) -> Result<Self, RosterError> {
        let this = Self {
            folder: Some(folder.to_owned()),
            state: Mutex::default(),
        };
        this.refresh()?;
        Ok(this)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As it was last read or written here.
    pub fn get(&self) -> Arc<Roster> {
        self.state().roster.clone()
    }

    /// Reads the file again where it is another one than last time. Blocks.
    pub fn refresh(&self) -> Result<Arc<Roster>, RosterError> {
        let mut state = self.state();
        if let Some(folder) = &self.folder {
            let path = folder.join(NAME);
            match File::open(&path) {
                Ok(file) => {
                    let seen = Seen::of(&file)?;
                    if state.seen != Some(seen) {
                        // A writer wipes the file that it has replaced.
                        let _lock = Lock::take(folder)?;
                        (state.roster, state.seen) = read(&path)?;
                    }
                }
                Err(error) if error.kind() == ErrorKind::NotFound => *state = State::default(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(state.roster.clone())
    }

    /// Changes the roster. `work` gets it as it is on disk now; where it fails, or changes
    /// nothing, nothing is written. What it returned holds, durably, once this returns. Blocks.
    pub fn change<T, E>(
        &self,
        work: impl FnOnce(&mut Roster) -> Result<T, E>,
    ) -> Result<Result<T, E>, RosterError> {
        let mut state = self.state();
        let Some(folder) = &self.folder else {
            let mut next = Roster::clone(&state.roster);
            let done = work(&mut next);
            if done.is_ok() {
                state.roster = Arc::new(next);
            }
            return Ok(done);
        };
        let _lock = Lock::take(folder)?;
        let path = folder.join(NAME);
        (state.roster, state.seen) = read(&path)?;
        let mut next = Roster::clone(&state.roster);
        let done = match work(&mut next) {
            Ok(done) => done,
            Err(refused) => return Ok(Err(refused)),
        };
        if next != *state.roster {
            next.version = Roster::VERSION;
            let file = write(folder, &next)?;
            state.seen = Some(Seen::of(&file)?);
            state.roster = Arc::new(next);
        }
        Ok(Ok(done))
    }
}

impl Seen {
    fn of(file: &File) -> std::io::Result<Self> {
        let about = file.metadata()?;
        Ok(Self {
            inode: about.ino(),
            modified: (about.mtime(), about.mtime_nsec()),
            len: about.len(),
        })
    }
}

/// Held while somebody reads or writes; given back when dropped.
struct Lock(File);

impl Lock {
    fn take(folder: &Path) -> Result<Self, RosterError> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(folder.join(LOCK))?;
        give_to_owner(&file, folder)?;
        let until = Instant::now() + PATIENCE;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self(file)),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => {
                    std::thread::sleep(PAUSE);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(RosterError::Busy),
                Err(error) => return Err(RosterError::Io(error.into())),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would leave it locked for as long as a child that was just forked holds a
        // copy. If this fails, closing is what is left.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// The roster in a file, and which file it was; an empty one where there is none.
fn read(path: &Path) -> Result<(Arc<Roster>, Option<Seen>), RosterError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Arc::default(), None)),
        Err(error) => return Err(error.into()),
    };
    let seen = Seen::of(&file)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES).read_to_end(&mut bytes)?;
    let roster = Roster::decode(&bytes)?;
    Ok((Arc::new(roster), Some(seen)))
}

/// Puts a new file in the place of the old one. Afterwards the old one's bytes are wiped: whoever
/// left is on no list any more, and in no file either.
fn write(folder: &Path, roster: &Roster) -> Result<File, RosterError> {
    let (path, aside) = (folder.join(NAME), folder.join(ASIDE));
    let bytes = roster.encode()?;
    let old = OpenOptions::new().write(true).open(&path);
    // One that a crash left behind.
    match std::fs::remove_file(&aside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&aside)?;
    file.write_all(&bytes)?;
    give_to_owner(&file, folder)?;
    file.sync_all()?;
    std::fs::rename(&aside, &path)?;
    File::open(folder)?.sync_all()?;
    if let Ok(old) = old {
        wipe(&old)?;
    }
    Ok(file)
}

/// What root writes beside a relay belongs to the folder's owner, or the relay's own user could
/// not read it any more.
fn give_to_owner(file: &File, folder: &Path) -> std::io::Result<()> {
    let (folder, about) = (folder.metadata()?, file.metadata()?);
    if about.uid() == folder.uid() || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    std::os::unix::fs::fchown(file, Some(folder.uid()), Some(folder.gid()))
}

fn wipe(mut file: &File) -> std::io::Result<()> {
    let zeros = [0; 4096];
    let mut left = file.metadata()?.len();
    while left > 0 {
        let part = zeros.get(..usize::try_from(left).map_or(4096, |left| left.min(4096)));
        let part = part.unwrap_or(&zeros);
        file.write_all(part)?;
        left = left.saturating_sub(part.len() as u64);
    }
    file.sync_data()
}
