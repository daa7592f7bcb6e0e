//! The list of the runs that count. It is replaced as a whole, so a crash leaves the old or the new.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::super::StoreError;
use super::super::log::sync_folder;

const NAME: &str = "runs";
const TITLE: &str = "sotto/runs/1";

/// A run by its number, and how many merges are behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// See [`super::run::path_of`].
    pub number: u64,
    /// Runs that memory handed out have level 0.
    pub level: u32,
}

/// Reads the list, newest run first; nothing where there is none yet.
pub fn read(folder: &Path) -> Result<Option<Vec<Listed>>, StoreError> {
    let text = match std::fs::read_to_string(folder.join(NAME)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => return Err(garbled()),
        Err(error) => return Err(error.into()),
    };
    parse(&text).ok_or_else(garbled).map(Some)
}

fn garbled() -> StoreError {
    StoreError::Index("its list of runs is garbled".to_owned())
}

fn parse(text: &str) -> Option<Vec<Listed>> {
    let (body, crc) = text.strip_suffix('\n')?.rsplit_once("\ncrc ")?;
    if crc != checksum(body) {
        return None;
    }
    let mut lines = body.lines();
    if lines.next()? != TITLE {
        return None;
    }
    lines
        .map(|line| {
            let (number, level) = line.split_once(' ')?;
            Some(Listed {
                number: number.parse().ok()?,
                level: level.parse().ok()?,
            })
        })
        .collect()
}

fn checksum(body: &str) -> String {
    format!("{:08x}", crc32fast::hash(body.as_bytes()))
}

/// Makes `runs` the list, durably, and with it the names of all files in the folder.
pub fn write(folder: &Path, runs: &[Listed]) -> Result<(), StoreError> {
    let mut body = TITLE.to_owned();
    for Listed { number, level } in runs {
        body.push_str(&format!("\n{number} {level}"));
    }
    let text = format!("{body}\ncrc {}\n", checksum(&body));
    let new = folder.join("runs.new");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&new)
        .map_err(StoreError::of_write)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        // The runs' own names must not come after the list that names them.
        .and_then(|()| sync_folder(folder))
        .and_then(|()| std::fs::rename(&new, folder.join(NAME)))
        .and_then(|()| sync_folder(folder))
        .map_err(StoreError::of_write)
}

/// From now on the index counts as lost, and whoever opens it next builds it anew.
pub fn disown(folder: &Path) {
    // Where even this fails, they find the same damage again.
    let _ = std::fs::remove_file(folder.join(NAME)).and_then(|()| sync_folder(folder));
}

/// Removes every file of the folder that is neither the list nor in it.
pub fn tidy(folder: &Path, runs: &[Listed]) -> Result<(), StoreError> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".run"));
        let number = number.and_then(|number| number.parse::<u64>().ok());
        let is_listed = number.is_some_and(|number| runs.iter().any(|run| run.number == number));
        if name != NAME && !is_listed && entry.file_type()?.is_file() {
            std::fs::remove_file(entry.path())?;
        }
    }
    File::open(folder)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_back_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), None);
        let runs = [(12, 0), (11, 0), (7, 2)].map(|(number, level)| Listed { number, level });
        write(folder.path(), &runs).unwrap();
        assert_eq!(read(folder.path()).unwrap(), Some(runs.to_vec()));
        write(folder.path(), &[]).unwrap();
        assert_eq!(read(folder.path()).unwrap(), Some(Vec::new()));
        write(folder.path(), &runs).unwrap();
        let path = folder.path().join(NAME);
        let text = std::fs::read_to_string(&path).unwrap();
        for at in 0..text.len() {
            std::fs::write(&path, text.get(..at).unwrap()).unwrap();
            assert!(read(folder.path()).is_err(), "cut at {at}");
        }
        std::fs::write(&path, text.replace("11", "10")).unwrap();
        assert!(read(folder.path()).is_err());
    }
}
