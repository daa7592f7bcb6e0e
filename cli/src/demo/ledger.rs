//! What the servers saw: everything that is on their disks in the end.

use std::collections::BTreeSet;

use client_core::Result;
use serde::Serialize;

use super::disk::{StoredBlob, StoredEvent};
use super::stage::Stage;
use super::transcript::Transcript;
use super::{disk, probe};
use crate::printer::text::{Line, Look, Text};
use crate::render::{Clock, size};

/// Gift wraps.
const WRAP: u16 = 1059;

#[derive(Serialize)]
struct Seen<'a> {
    events: &'a BTreeSet<StoredEvent>,
    blobs: &'a BTreeSet<StoredBlob>,
}

pub async fn play(stage: &mut Stage, show: &mut Transcript<'_>) -> Result<()> {
    show.act("What the servers saw");
    let events = disk::events(&stage.relay_data)?;
    let blobs = disk::blobs(&stage.files_data)?;
    show.show_table(table(&events, &blobs, stage));

    let people = [&stage.alice.account.pubkey, &stage.bob.account.pubkey];
    let wraps: Vec<_> = events.iter().filter(|event| event.kind == WRAP).collect();
    let authors: BTreeSet<_> = wraps.iter().map(|event| &event.pubkey).collect();
    let is_once = authors.len() == wraps.len() && !wraps.is_empty();
    let detail = format!("{} wraps, {} keys", wraps.len(), authors.len());
    show.step("each wrap has a key of its own", is_once, detail);
    let is_hidden = people.iter().all(|key| !authors.contains(key));
    show.step(
        "and none is Alice's or Bob's",
        is_hidden,
        "the relay sees who receives, not who sends",
    );
    let mut is_unknown = true;
    for key in people {
        is_unknown &= !disk::holds(&stage.files_data, key.as_bytes())?;
    }
    show.step("the file server never saw their keys", is_unknown, "");
    let refusal = probe::ask_for_wraps(&stage.relay, &stage.bob.account.pubkey).await?;
    let is_refused = refusal.is_some();
    let said = refusal.unwrap_or_else(|| "they were served".to_owned());
    show.step(
        "a stranger who asks for Bob's wraps gets none",
        is_refused,
        said,
    );
    show.step_with(
        "that is all",
        true,
        "sealed envelopes, their sizes and rough times, and one recipient each",
        Seen {
            events: &events,
            blobs: &blobs,
        },
    );
    Ok(())
}

fn table(events: &BTreeSet<StoredEvent>, blobs: &BTreeSet<StoredBlob>, stage: &Stage) -> Text {
    let clock = Clock::local();
    let mut by_time: Vec<_> = events.iter().collect();
    by_time.sort_by_key(|event| event.created_at);
    let head = Line::new()
        .to_column(3)
        .add(Look::Strong, "relay")
        .to_column(WHAT)
        .dim("what")
        .to_column(SIZE)
        .dim("bytes")
        .to_column(TIME)
        .dim("time it claims")
        .to_column(AUTHOR)
        .dim("signed by")
        .to_column(FOR)
        .dim("for");
    let mut text = Text::new().line(head);
    for event in by_time {
        let name = |key: &str| match key {
            key if key == stage.alice.account.pubkey => "Alice's key".to_owned(),
            key if key == stage.bob.account.pubkey => "Bob's key".to_owned(),
            key => format!("{}…", key.get(..10).unwrap_or(key)),
        };
        let line = Line::new()
            .to_column(WHAT)
            .plain(kind(event.kind))
            .to_column(SIZE)
            .plain(size(event.size()))
            .to_column(TIME)
            .dim(clock.moment(event.created_at))
            .to_column(AUTHOR)
            .plain(name(&event.pubkey))
            .to_column(FOR)
            .plain(event.recipient().map(name).unwrap_or_default());
        text = text.line(line);
    }
    let head = Line::new()
        .to_column(3)
        .add(Look::Strong, "files")
        .to_column(WHAT)
        .dim("what")
        .to_column(SIZE)
        .dim("bytes")
        .to_column(TIME)
        .dim("SHA-256 of it");
    text = text.line(head);
    for blob in blobs {
        let hash = blob.hash.get(..32).unwrap_or(&blob.hash);
        let line = Line::new()
            .to_column(WHAT)
            .plain("ciphertext")
            .to_column(SIZE)
            .plain(size(blob.size))
            .to_column(TIME)
            .plain(format!("{hash}…"));
        text = text.line(line);
    }
    text
}

// Where the columns begin.
const WHAT: usize = 10;
const SIZE: usize = 33;
const TIME: usize = 42;
const AUTHOR: usize = 58;
const FOR: usize = 72;

fn kind(kind: u16) -> String {
    let name = match kind {
        WRAP => "sealed envelope",
        10050 => "inbox relays",
        10063 => "file servers",
        30078 => "circles, sealed",
        _ => "event",
    };
    format!("{name} {kind}")
}
