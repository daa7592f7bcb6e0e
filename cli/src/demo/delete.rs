//! A message and its file, deleted for both, with the erasure report.

use client_core::Result;
use client_core::client::SendRequest;
use client_core::view::{DeletedView, StatusView};

use super::stage::{Stage, full};
use super::transcript::Transcript;
use super::{disk, photo, probe};
use crate::render::{Clock, Render};

const WORDS: &str = "I take the offer. Here is the signed page.";

pub async fn play(stage: &mut Stage, show: &mut Transcript<'_>) -> Result<()> {
    show.act("Second thoughts: deleted for both");
    show.says("Alice", "Bob", WORDS);
    let path = stage.place("signed.pdf");
    std::fs::write(&path, b"%PDF-1.4 signed by Alice\n".repeat(100))?;
    let (events, blobs) = (
        disk::events(&stage.relay_data)?,
        disk::blobs(&stage.files_data)?,
    );
    let request = SendRequest {
        files: vec![photo::file(&path)],
        ..SendRequest::text("Bob", WORDS)
    };
    let sent = full(stage.alice.client()?.send(request).await?)?;
    let events = &disk::events(&stage.relay_data)? - &events;
    let blobs = &disk::blobs(&stage.files_data)? - &blobs;
    stage.bob.sync().await?;
    let has_arrived = stage.bob.shows("Alice", &sent.id)?;
    show.step("it is at Bob's already", has_arrived, "");

    let mut ids = vec![sent.id.clone()];
    ids.extend(sent.ids.iter().filter(|id| **id != sent.id).cloned());
    let mut reports = Vec::new();
    for id in &ids {
        let outcome = stage.alice.client()?.delete(id, true).await?;
        if let Some(error) = outcome.error {
            show.step("Alice deletes it for everyone", false, error.detail);
        }
        reports.push(outcome.value);
    }
    show.step(
        "the relay took the deletions",
        says_erased(&reports, Place::Relays),
        "",
    );
    show.step(
        "the file server erased the file",
        says_erased(&reports, Place::Files),
        "",
    );
    let is_wiped =
        probe::within_a_minute(async || disk::is_free_of(&stage.relay_data, &events)).await?;
    show.step(
        "its words left the relay's disk",
        is_wiped && !events.is_empty(),
        "",
    );
    let mut is_absent = !blobs.is_empty();
    for blob in &blobs {
        is_absent &= matches!(probe::head(&stage.files, &blob.hash).await?, 404 | 410);
    }
    show.step("its file left the file server", is_absent, "HEAD says 404");

    stage.bob.sync().await?;
    let mut is_shown = false;
    for id in &ids {
        is_shown |= stage.bob.shows("Alice", id)? || stage.alice.shows("Bob", id)?;
    }
    show.step("neither side shows it", !is_shown, "");

    stage.alice.sync().await?;
    let mut is_confirmed = true;
    for id in &ids {
        if let StatusView::Deleted(report) = stage.alice.client()?.status(id).await? {
            is_confirmed &=
                !report.peers.is_empty() && report.peers.iter().all(|peer| peer.confirmed);
            show.show(report.text(&Clock::local()));
        } else {
            is_confirmed = false;
        }
    }
    show.step(
        "Bob's client confirmed it",
        is_confirmed,
        "the reports above are Alice's",
    );
    Ok(())
}

#[derive(Clone, Copy)]
enum Place {
    Relays,
    Files,
}

/// Whether the reports name places of that sort, and every one as erased.
fn says_erased(reports: &[DeletedView], place: Place) -> bool {
    let places: Vec<_> = reports
        .iter()
        .flat_map(|report| match place {
            Place::Relays => &report.relays,
            Place::Files => &report.file_servers,
        })
        .collect();
    !places.is_empty() && places.iter().all(|place| place.erased)
}
