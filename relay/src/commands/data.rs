//! The data folder, for commands that make none: a wrong `--data` is an error, and nothing is
//! begun in it.

use std::ffi::OsString;
use std::path::Path;

use sotto_relay::Config;
use sotto_relay::config::Storage;
use sotto_relay::roster::RosterError;
use sotto_relay::server::ServerError;
use sotto_relay::store::StoreError;

use super::{Failure, Word, on_file};

/// What a store has, whatever else of it is missing.
const OF_A_STORE: [&str; 3] = ["log", "secret", "index"];

/// The folder of a store that is there.
pub fn of_store(config: &Config) -> Result<&Path, Failure> {
    let (folder, names) = look(config)?;
    match names.iter().any(is_of_a_store) {
        true => Ok(folder),
        false => Err(no_data_in(folder)),
    }
}

/// The folder of a relay, or an empty one in which it will have its data.
pub fn of_relay(config: &Config) -> Result<&Path, Failure> {
    let (folder, names) = look(config)?;
    let is_own = |name: &OsString| name == "roster.json" || is_of_a_store(name);
    match names.is_empty() || names.iter().any(is_own) {
        true => Ok(folder),
        false => Err(no_data_in(folder)),
    }
}

fn is_of_a_store(name: &OsString) -> bool {
    OF_A_STORE.iter().any(|part| name == part)
}

fn look(config: &Config) -> Result<(&Path, Vec<OsString>), Failure> {
    let Storage::Disk { folder, .. } = &config.storage else {
        return Err(Failure::new(Word::Internal, "the data is kept on no disk"));
    };
    let names = std::fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
    match names {
        Ok(names) => Ok((folder, names)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let detail = format!("there is no folder {}", folder.display());
            Err(Failure::new(Word::NotFound, detail).with_hint(WHICH))
        }
        Err(error) => Err(on_file(folder, &error)),
    }
}

fn no_data_in(folder: &Path) -> Failure {
    let detail = format!("{} holds no relay's data", folder.display());
    Failure::new(Word::NotFound, detail).with_hint(WHICH)
}

const WHICH: &str = "name the relay's own folder with --data or server.data; run makes it";

/// A failure to open what lies in the data folder. Where the system said no, it says where.
pub fn not_opened(config: &Config, error: impl Into<ServerError>) -> Failure {
    let error = error.into();
    match (&config.storage, &error) {
        (
            Storage::Disk { folder, .. },
            ServerError::Store(StoreError::Io(cause)) | ServerError::Roster(RosterError::Io(cause)),
        ) => on_file(folder, cause),
        _ => error.into(),
    }
}
