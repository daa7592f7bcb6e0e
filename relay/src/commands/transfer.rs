//! `export`, `import` and `compact`: work on the data of a stopped relay.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use bytes::Bytes;
use serde_json::json;
use sotto_relay::config::Storage;
use sotto_relay::pipeline;
use sotto_relay::policy::{self, Law, OwnUrls, Rules, Verdict, Writers};
use sotto_relay::server;
use sotto_relay::store::{Opened, StoreError};
use wire::{Event, VerifiedEvent, limits};

use super::{Failure, Say, Word, configuration, on_file};
use crate::Place;

/// Events committed together.
const BATCH: usize = 500;

/// Every event that is stored and not expired, one per line.
pub fn export(say: &Say, place: Place, output: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let config = configuration(place, None, Vec::new())?;
    let opened = open_existing(say, &config)?;
    let is_file = output.is_some();
    let sink: Box<dyn Write> = match &output {
        Some(path) => Box::new(File::create_new(path).map_err(|error| on_file(path, &error))?),
        None => Box::new(std::io::stdout()),
    };
    let mut sink = BufWriter::new(sink);
    let mut count = 0_u64;
    let written = opened.store.for_each(config.clock.now(), |json| {
        count += 1;
        // An event may hold line breaks between its fields; a line of JSON Lines may not.
        let line: Vec<u8> = json
            .iter()
            .map(|byte| {
                if matches!(byte, b'\n' | b'\r') {
                    b' '
                } else {
                    *byte
                }
            })
            .collect();
        sink.write_all(&line).map_err(StoreError::Io)?;
        sink.write_all(b"\n").map_err(StoreError::Io)
    });
    let written = written.and_then(|()| Ok(sink.flush()?));
    match written {
        // Whoever reads has seen enough.
        Err(StoreError::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        other => other?,
    }
    opened.store.close()?;
    if is_file {
        let object = json!({"schema": "sotto.exported/1", "events": count});
        say.out(&object, &format!("{count} events"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Verifies and stores events. The operator vouches for their age and senders; signatures,
/// kinds, deletions and expiry count as ever. Ends with 5 where some were refused.
pub fn import(say: &Say, place: Place, file: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let mut config = configuration(place, None, Vec::new())?;
    config.rules = Rules {
        writers: Writers::Anybody,
        wrap_past: None,
        ..config.rules
    };
    let mut source: Box<dyn BufRead> = match file.filter(|path| path.as_os_str() != "-") {
        Some(path) => {
            let file = File::open(&path).map_err(|error| on_file(&path, &error))?;
            Box::new(BufReader::new(file))
        }
        None => Box::new(std::io::stdin().lock()),
    };
    let own = OwnUrls::new(&config.urls, config.listen.port());
    let mut opened = open(say, &config)?;
    let roster = server::open_roster(&config)?.get();
    let law = Law {
        rules: &config.rules,
        roster: &roster,
        own: &own,
    };
    let (mut stored, mut known, mut refused) = (0_u64, 0_u64, 0_u64);
    let mut batch: Vec<(VerifiedEvent, Verdict)> = Vec::new();
    loop {
        let line = next_line(&mut source)?;
        let now = config.clock.now();
        let is_last = line.is_none();
        match line {
            Some(Line::Text(line)) if line.is_empty() => {}
            Some(Line::Text(line)) => {
                let verdict = Event::decode(Bytes::from(line))
                    .ok()
                    .and_then(|event| VerifiedEvent::verify(event).ok())
                    .and_then(|event| {
                        let author = [event.pubkey()];
                        let verdict = policy::judge(&event, &author, now, law);
                        Some((event, verdict.ok()?))
                    });
                match verdict {
                    Some((event, verdict)) => batch.push((event, verdict)),
                    None => refused += 1,
                }
            }
            Some(Line::TooLong) => refused += 1,
            None => {}
        }
        if batch.len() < BATCH && !is_last {
            continue;
        }
        for answer in pipeline::write_all(&mut opened.writer, &batch, now) {
            match (answer.accepted, answer.message.starts_with("duplicate:")) {
                (true, false) => stored += 1,
                // It, or a newer version of it.
                (_, true) => known += 1,
                (false, _) if answer.message.starts_with("error:") => {
                    return Err(StoreError::DiskFull.into());
                }
                (false, _) => refused += 1,
            }
        }
        batch.clear();
        if is_last {
            break;
        }
    }
    opened.store.close()?;
    let object = json!({
        "schema": "sotto.imported/1",
        "stored": stored,
        "known": known,
        "refused": refused,
    });
    let text = format!("{stored} stored, {known} known already, {refused} refused");
    say.out(&object, &text);
    match refused {
        0 => Ok(ExitCode::SUCCESS),
        _ => Err(Failure::new(
            Word::PartlyDone,
            format!("{refused} lines were refused"),
        )),
    }
}

/// Gives back the space of what is gone.
pub fn compact(say: &Say, place: Place) -> Result<ExitCode, Failure> {
    let config = configuration(place, None, Vec::new())?;
    let mut opened = open_existing(say, &config)?;
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

/// Opens data that must be there: a wrong `--data` is an error, and no empty store is made of it.
fn open_existing(say: &Say, config: &sotto_relay::Config) -> Result<Opened, Failure> {
    match &config.storage {
        Storage::Disk { folder, .. } if !folder.is_dir() => Err(Failure::new(
            Word::NotFound,
            format!("{} is no folder", folder.display()),
        )),
        _ => open(say, config),
    }
}

fn open(say: &Say, config: &sotto_relay::Config) -> Result<Opened, Failure> {
    let opened = server::open(config)?;
    for warning in &opened.warnings {
        say.warn(warning);
    }
    Ok(opened)
}

enum Line {
    Text(Vec<u8>),
    TooLong,
}

/// The next line, of which no more than an event's size is ever held.
fn next_line(source: &mut dyn BufRead) -> std::io::Result<Option<Line>> {
    let most = limits::EVENT_BYTES as u64 + 2;
    let mut line = Vec::new();
    if source.take(most).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') && line.len() as u64 == most {
        source.skip_until(b'\n')?;
        return Ok(Some(Line::TooLong));
    }
    while matches!(line.last(), Some(b'\n' | b'\r')) {
        line.pop();
    }
    Ok(Some(Line::Text(line)))
}
