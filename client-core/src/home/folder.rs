//! One folder whose files are private: no link is followed, nothing is readable by others, and a
//! file is replaced as a whole or not at all.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// Mode of folders: the owner's alone.
const FOLDER: Mode = Mode::RWXU;
/// Mode of files: the owner's alone.
const FILE: Mode = Mode::RUSR.union(Mode::WUSR);

/// An open folder. Every name in it is a plain name, never a path.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens a folder that is there. A link in the last place of the path is followed: the user
    /// chose where the home lies.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::open(&path, flags, Mode::empty())?;
        Ok(Self { fd, path })
    }

    /// Opens a folder, making it and the missing ones above it (each 0700).
    pub fn create(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)?;
        let folder = Self::open(path)?;
        if let Some(parent) = folder.path.parent() {
            // The new entry is in the parent. Where that may not be read, the system is right.
            if let Ok(parent) = File::open(parent) {
                let _ = parent.sync_all();
            }
        }
        Ok(folder)
    }

    /// Where it is, links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens or makes a folder in it.
    pub fn subfolder(&self, name: &str) -> io::Result<Self> {
        match fs::mkdirat(&self.fd, name, FOLDER) {
            Ok(()) => fs::fsync(&self.fd)?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(&self.fd, name, flags, Mode::empty())?;
        Ok(Self {
            fd,
            path: self.path.join(name),
        })
    }

    /// Whether there is anything of this name, a broken link too.
    pub fn has(&self, name: &str) -> bool {
        fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Reads a file of at most `limit` bytes; a larger one is an error.
    pub fn read(&self, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        let file = self.open_file(name, OFlags::RDONLY)?;
        read_at_most(&file, limit)
    }

    /// Opens a file for reading.
    pub fn open_to_read(&self, name: &str) -> io::Result<File> {
        self.open_file(name, OFlags::RDONLY)
    }

    /// Makes a file that must not be there yet.
    pub fn create_new(&self, name: &str) -> io::Result<File> {
        self.open_file(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }

    /// Opens a file for reading and writing, making it where it is missing.
    pub fn open_or_create(&self, name: &str) -> io::Result<File> {
        self.open_file(name, OFlags::RDWR | OFlags::CREATE)
    }

    fn open_file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(fs::openat(&self.fd, name, flags, FILE)?))
    }

    /// Replaces a file as a whole: written beside, synced, renamed, and the folder synced. After
    /// a crash either the old content is there or the new one.
    pub fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let beside = format!(".{name}.new");
        // What a crash left there.
        self.remove(&beside)?;
        let written = self.create_new(&beside).and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        });
        if let Err(error) = written {
            let _ = self.remove(&beside);
            return Err(error);
        }
        self.rename(&beside, name)
    }

    /// Renames within the folder, over what may be there, and syncs the folder.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::renameat(&self.fd, from, &self.fd, to)?;
        self.sync()
    }

    /// Removes a file; one that is not there is no error.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a folder that is empty; one that is not there is no error.
    pub fn remove_subfolder(&self, name: &str) -> io::Result<()> {
        match fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The names in it.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&self.fd)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Makes what was created, renamed or removed in it last through a crash.
    pub fn sync(&self) -> io::Result<()> {
        Ok(fs::fsync(&self.fd)?)
    }

    /// Whether others than the owner may look into the file.
    pub fn is_exposed(&self, name: &str) -> bool {
        fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| Mode::from_raw_mode(stat.st_mode).intersects(Mode::RWXG | Mode::RWXO))
    }

    /// Takes the rights of others away.
    pub fn make_private(&self, name: &str) -> io::Result<()> {
        let file = self.open_to_read(name)?;
        Ok(fs::fchmod(&file, FILE)?)
    }

    /// Opens a file under an exclusive lock that ends with the returned handle; `None` where
    /// another process has it and `wait` is false.
    ///
    /// A file that was replaced while we waited is opened again, so that two processes never
    /// hold locks on two files of one name.
    pub fn lock_file(&self, name: &str, wait: bool) -> io::Result<Option<File>> {
        loop {
            let file = self.open_or_create(name)?;
            let operation = if wait {
                FlockOperation::LockExclusive
            } else {
                FlockOperation::NonBlockingLockExclusive
            };
            match fs::flock(&file, operation) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let held = fs::fstat(&file)?;
            let named = fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW);
            if named.is_ok_and(|named| named.st_ino == held.st_ino && named.st_dev == held.st_dev) {
                return Ok(Some(file));
            }
        }
    }
}

/// The whole content of a file of at most `limit` bytes.
pub fn read_at_most(file: &File, limit: usize) -> io::Result<Vec<u8>> {
    let cap = u64::try_from(limit).unwrap_or(u64::MAX);
    let mut content = Vec::new();
    file.take(cap.saturating_add(1)).read_to_end(&mut content)?;
    if content.len() > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("the file has more than {limit} bytes"),
        ));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn files_and_folders_are_the_owners_alone() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::create(&place.path().join("a/b")).unwrap();
        folder.replace("file", b"x").unwrap();
        folder.subfolder("sub").unwrap();
        let mode = |path: &str| {
            let path = place.path().join(path);
            std::fs::metadata(path).unwrap().permissions().mode() & 0o777
        };
        assert_eq!(mode("a/b"), 0o700);
        assert_eq!(mode("a/b/sub"), 0o700);
        assert_eq!(mode("a/b/file"), 0o600);
        assert!(!folder.is_exposed("file"));
    }

    #[test]
    fn links_are_not_followed() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("target"), b"other's").unwrap();
        let folder = Folder::create(&place.path().join("home")).unwrap();
        symlink("../target", folder.path().join("link")).unwrap();
        symlink("..", folder.path().join("up")).unwrap();
        assert!(folder.read("link", 100).is_err());
        assert!(folder.open_or_create("link").is_err());
        assert!(folder.subfolder("up").is_err());
        // Replacing takes the link's place and leaves its target alone.
        folder.replace("link", b"mine").unwrap();
        assert_eq!(
            std::fs::read(place.path().join("target")).unwrap(),
            b"other's"
        );
        assert_eq!(folder.read("link", 100).unwrap(), b"mine");
    }

    #[test]
    fn a_file_larger_than_allowed_is_not_read() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        folder.replace("file", &[7; 100]).unwrap();
        assert_eq!(folder.read("file", 100).unwrap().len(), 100);
        assert!(folder.read("file", 99).is_err());
    }

    #[test]
    fn a_lock_keeps_the_second_out_until_the_first_lets_go() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let held = folder.lock_file("tries", true).unwrap().unwrap();
        assert!(folder.lock_file("tries", false).unwrap().is_none());
        drop(held);
        assert!(folder.lock_file("tries", false).unwrap().is_some());
    }
}
