//! What the files of a store hold.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use sotto_relay::Config;
use sotto_relay::config::{IndexEngine, Storage};
use sotto_relay::pipeline::{self, Answer};
use sotto_relay::policy::{Rules, Verdict};
use sotto_relay::store::query::{Page, Room};
use sotto_relay::store::recovery::{self, DiskOptions};
use sotto_relay::store::{Opened, Query};
use wire::{Event, Filter, PublicKey, VerifiedEvent};

use crate::support::now;

/// All files below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

/// The files that hold these bytes.
pub fn holding(folder: &Path, needle: &[u8]) -> Vec<PathBuf> {
    let mut found = files(folder);
    found.retain(|path| {
        extents(path)
            .iter()
            .any(|(_, bytes)| contains(bytes, needle))
    });
    found
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    // One comparison for most positions: the index's files are large.
    let (first, rest) = needle.split_first().unwrap();
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| byte == first) {
        from += at + 1;
        if bytes[from..].starts_with(rest) {
            return true;
        }
    }
    false
}

/// What was written to a file and where, without the holes: an index journal is 64 MiB of nothing.
pub fn extents(path: &Path) -> Vec<(u64, Vec<u8>)> {
    use rustix::fs::SeekFrom::{Data, Hole};
    let file = match std::fs::File::open(path) {
        // A running relay removes segments and tables.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        file => file.unwrap(),
    };
    let mut found = Vec::new();
    let mut at = 0;
    while let Ok(start) = rustix::fs::seek(&file, Data(at)) {
        at = rustix::fs::seek(&file, Hole(start)).unwrap();
        let mut bytes = vec![0; (at - start) as usize];
        file.read_exact_at(&mut bytes, start).unwrap();
        found.push((start, bytes));
    }
    found
}

/// Every form in which an event could be recognised: id, signature and author as text and as raw
/// bytes, the content, the JSON.
pub fn traces(event: &Event) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("id as text", event.id().to_hex().into_bytes()),
        ("id", event.id().as_bytes().to_vec()),
        ("signature as text", event.sig().to_hex().into_bytes()),
        ("signature", event.sig().as_bytes().to_vec()),
        ("author as text", event.pubkey().to_hex().into_bytes()),
        ("author", event.pubkey().as_bytes().to_vec()),
        ("content", event.content().as_bytes().to_vec()),
        ("start of the JSON", event.json()[..60].to_vec()),
    ]
}

pub fn options(folder: &Path, index: IndexEngine) -> DiskOptions<'_> {
    DiskOptions {
        folder,
        index,
        segment_bytes: 64 * 1024 * 1024,
        reserve_bytes: 0,
    }
}

pub fn open(folder: &Path, index: IndexEngine) -> Opened {
    recovery::open(&options(folder, index), Rules::default()).unwrap()
}

/// The defaults of a relay with its data in `folder`, but for the engine.
pub fn config(folder: &Path, engine: IndexEngine) -> Config {
    let mut config = Config::on_disk(folder);
    if let Storage::Disk { index, .. } = &mut config.storage {
        *index = engine;
    }
    config
}

/// Writes events in one batch.
pub fn write(opened: &mut Opened, events: &[Event]) -> Vec<Answer> {
    let verdicts: Vec<_> = events
        .iter()
        .map(|event| {
            let verdict = match event.kind() {
                5 => Verdict::Delete { unless_own: None },
                62 => Verdict::Vanish,
                _ => Verdict::Store,
            };
            (VerifiedEvent::verify(event.clone()).unwrap(), verdict)
        })
        .collect();
    pipeline::write_all(&mut opened.writer, &verdicts, now())
}

/// What a filter finds for somebody who proved `auth`.
pub fn find(opened: &Opened, filter: Filter, auth: &[PublicKey]) -> Vec<Event> {
    find_at_most(opened, filter, auth, 1_000_000).0
}

/// The same from a relay that gives at most so many, and whether it says that these were all.
pub fn find_at_most(
    opened: &Opened,
    filter: Filter,
    auth: &[PublicKey],
    most: usize,
) -> (Vec<Event>, Option<bool>) {
    find_at(opened, filter, auth, most, now())
}

/// The same at another second.
pub fn find_at(
    opened: &Opened,
    filter: Filter,
    auth: &[PublicKey],
    most: usize,
    now: u64,
) -> (Vec<Event>, Option<bool>) {
    find_within(opened, filter, auth, most, now, Room::default())
}

/// The same where so much of one second is held.
pub fn find_within(
    opened: &Opened,
    filter: Filter,
    auth: &[PublicKey],
    most: usize,
    now: u64,
    room: Room,
) -> (Vec<Event>, Option<bool>) {
    let store = &opened.store;
    let query = Query::new(store, filter, auth.to_vec(), u64::MAX, most).unwrap();
    let mut query = query.within(room);
    let mut found = Vec::new();
    loop {
        let Page { events, is_last } = query.page(store, now).unwrap();
        found.extend(events.iter().map(|stored| stored.event().unwrap()));
        if is_last {
            return (found, query.is_complete());
        }
    }
}

/// Copies a data folder as a crash would leave it. Holes stay holes.
pub fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp")
        .args(["-r", "--sparse=always"])
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(status.success());
}
