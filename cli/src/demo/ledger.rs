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
    show.show(table(&events, &blobs, stage));

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
        .to_column(12)
        .dim("kind   bytes    time it claims  author         for");
    let mut text = Text::new().line(head);
    for event in by_time {
        let name = |key: &str| match key {
            key if key == stage.alice.account.pubkey => "Alice's key".to_owned(),
            key if key == stage.bob.account.pubkey => "Bob's key".to_owned(),
            key => format!("{}…", key.get(..10).unwrap_or(key)),
        };
        let bytes = u64::try_from(event.content.len()).unwrap_or(u64::MAX);
        let line = Line::new()
            .to_column(12)
            .plain(event.kind.to_string())
            .to_column(19)
            .plain(size(bytes))
            .to_column(28)
            .dim(clock.moment(event.created_at))
            .to_column(44)
            .plain(name(&event.pubkey))
            .to_column(59)
            .plain(event.recipient().map(name).unwrap_or_default());
        text = text.line(line);
    }
    let head = Line::new()
        .to_column(3)
        .add(Look::Strong, "files")
        .to_column(12)
        .dim("bytes    SHA-256 of the ciphertext");
    text = text.line(head);
    for blob in blobs {
        let hash = blob.hash.get(..32).unwrap_or(&blob.hash);
        let line = Line::new().to_column(12).plain(size(blob.size));
        text = text.line(line.to_column(21).plain(format!("{hash}…")));
    }
    text
}
