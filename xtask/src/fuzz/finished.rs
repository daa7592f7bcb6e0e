//! Which targets of a run have had their time, so that a run which was interrupted can be gone on
//! with: all of them take hours.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

/// The file that remembers them: for each the seconds, its name and its line of the table.
#[derive(Debug)]
pub struct Finished {
    file: PathBuf,
    /// Targets end on several threads.
    writing: Mutex<()>,
}

/// A target that has had its time.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    pub seconds: u64,
    pub name: String,
    pub line: String,
}

impl Finished {
    pub fn in_file(file: PathBuf) -> Self {
        Self {
            file,
            writing: Mutex::new(()),
        }
    }

    /// Those of the last run, in the order in which they ended. What cannot be read has not ended.
    pub fn rows(&self) -> Result<Vec<Row>> {
        let text = match fs::read_to_string(&self.file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            text => text?,
        };
        let row = |row: &str| {
            let mut parts = row.splitn(3, '\t');
            Some(Row {
                seconds: parts.next()?.parse().ok()?,
                name: parts.next()?.to_owned(),
                line: parts.next()?.to_owned(),
            })
        };
        Ok(text.lines().filter_map(row).collect())
    }

    /// A new run begins.
    pub fn forget(&self) -> Result<()> {
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    pub fn add(&self, row: &Row) -> Result<()> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut options = fs::OpenOptions::new();
        let mut file = options.create(true).append(true).open(&self.file)?;
        let Row {
            seconds,
            name,
            line,
        } = row;
        writeln!(file, "{seconds}\t{name}\t{line}")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_is_there_until_a_new_run_begins() {
        let folder = tempfile::tempdir().unwrap();
        let finished = Finished::in_file(folder.path().join("run"));
        assert_eq!(finished.rows().unwrap(), []);
        finished.forget().unwrap();
        let row = |name: &str| Row {
            seconds: 900,
            name: name.to_owned(),
            line: format!("{name}   900 s"),
        };
        finished.add(&row("event")).unwrap();
        finished.add(&row("filter")).unwrap();
        assert_eq!(finished.rows().unwrap(), [row("event"), row("filter")]);
        finished.forget().unwrap();
        assert_eq!(finished.rows().unwrap(), []);
    }
}
