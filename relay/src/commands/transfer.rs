//! `export`, `import` and `compact`: work on the data of a stopped relay.

mod import;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;
use sotto_relay::config::{Config, IndexEngine, Storage};
use sotto_relay::server;
use sotto_relay::store::{Opened, StoreError, engine};

pub use self::import::import;
use super::{Failure, Say, Word, configuration, data, on_file};
use crate::Place;

/// Every event that is stored and not expired, one per line.
pub fn export(say: &Say, place: Place, output: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let config = configuration(place, None, Vec::new())?;
    let config = as_it_is(say, config)?;
    let opened = open(say, &config)?;
    let now = config.clock.now();
    let Exported { unreadable, .. } = match output {
        Some(path) => {
            let exported = to_file(&opened, now, &path)?;
            let Exported { events, unreadable } = exported;
            let object = json!({
                "schema": "sotto.exported/1",
                "events": events,
                "unreadable": unreadable,
            });
            say.out(&object, &format!("{events} events"));
            exported
        }
        None => match lines(&opened, now, &mut BufWriter::new(std::io::stdout())) {
            // Whoever reads has seen enough.
            Err(StoreError::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                Exported::default()
            }
            written => written?,
        },
    };
    opened.store.close()?;
    match unreadable {
        0 => Ok(ExitCode::SUCCESS),
        // What could be read is out: with an earlier export it makes up most of the whole.
        count => Err(Failure::new(
            Word::PartlyDone,
            format!("the log is damaged: {count} stored events could not be read"),
        )
        .with_hint("import an earlier export into this folder, and export again")),
    }
}

/// How many events were written, and how many could not be read.
#[derive(Debug, Clone, Copy, Default)]
struct Exported {
    events: u64,
    unreadable: u64,
}

/// To a new file, synced; no file where it could not be written.
fn to_file(opened: &Opened, now: u64, path: &Path) -> Result<Exported, Failure> {
    let file = File::create_new(path).map_err(|error| on_file(path, &error))?;
    let mut sink = BufWriter::new(file);
    let written = lines(opened, now, &mut sink).and_then(|exported| {
        sink.get_ref().sync_all()?;
        Ok(exported)
    });
    written.map_err(|error| {
        // Half an export looks like a whole one.
        let _ = std::fs::remove_file(path);
        match error {
            StoreError::Io(error) => on_file(path, &error),
            other => other.into(),
        }
    })
}

fn lines(opened: &Opened, now: u64, sink: &mut impl Write) -> Result<Exported, StoreError> {
    let mut events = 0_u64;
    let unreadable = opened.store.for_each(now, |json| {
        events += 1;
        // An event may hold line breaks between its fields; a line of JSON Lines may not.
        let is_break = |byte: &u8| matches!(byte, b'\n' | b'\r');
        let line: Vec<u8> = json
            .iter()
            .map(|byte| if is_break(byte) { b' ' } else { *byte })
            .collect();
        sink.write_all(&line)?;
        sink.write_all(b"\n")?;
        Ok(())
    })?;
    sink.flush()?;
    let lost = opened.store.damage.lost.get();
    Ok(Exported {
        events,
        unreadable: unreadable.saturating_add(lost),
    })
}

/// Gives back the space of what is gone.
pub fn compact(say: &Say, place: Place) -> Result<ExitCode, Failure> {
    let config = configuration(place, None, Vec::new())?;
    let config = as_it_is(say, config)?;
    let mut opened = open(say, &config)?;
    let now = config.clock.now();
    let mut erased = 0;
    loop {
        match opened.writer.sweep(now)? {
            0 => break,
            count => erased += count,
        }
    }
    let segments = opened.writer.compact_all(now)?;
    opened.store.close()?;
    let object = json!({
        "schema": "sotto.compacted/1",
        "expired": erased,
        "segments": segments,
    });
    let text = format!("{erased} expired events erased, {segments} segments rewritten");
    say.out(&object, &text);
    Ok(ExitCode::SUCCESS)
}

/// For a store that must be there, with the index that it has: another engine would build its own
/// anew, and take the other's away.
fn as_it_is(say: &Say, mut config: Config) -> Result<Config, Failure> {
    let found = engine::found(&data::of_store(&config)?.join("index"));
    if let (Storage::Disk { index, .. }, Some(found)) = (&mut config.storage, found)
        && *index != IndexEngine::Memory
        && *index != found
    {
        say.warn(&format!(
            "the index is one of {found} and store.index says {index}: it is used as it is. Is this \
             the relay's configuration?"
        ));
        *index = found;
    }
    Ok(config)
}

fn open(say: &Say, config: &Config) -> Result<Opened, Failure> {
    if let Storage::Disk { folder, .. } = &config.storage
        && let Ok(about) = folder.metadata()
        && about.uid() != rustix::process::geteuid().as_raw()
    {
        say.warn(&format!(
            "{} belongs to another user (uid {}): run this as that user, or the relay may not be \
             able to read what is written now",
            folder.display(),
            about.uid()
        ));
    }
    let opened = server::open(config).map_err(|error| data::not_opened(config, error))?;
    for warning in &opened.warnings {
        say.warn(warning);
    }
    Ok(opened)
}
