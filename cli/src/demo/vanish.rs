//! A message and its file that vanish at both ends and on both servers.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use client_core::Result;
use client_core::client::SendRequest;

use super::stage::{Stage, full};
use super::transcript::{Transcript, took};
use super::{disk, photo, probe};
use crate::internal;

/// Long enough to be seen, short enough to wait for.
const LIFE_SECONDS: u64 = 6;
const WORDS: &str = "The key is under the third pot. Forget it when you have read it.";

pub async fn play(stage: &mut Stage, show: &mut Transcript<'_>) -> Result<()> {
    show.act("A message that vanishes");
    show.says("Alice", "Bob", WORDS);
    let path = stage.place("map.txt");
    std::fs::write(&path, "third pot from the left\n".repeat(40))?;
    let (events, blobs) = (
        disk::events(&stage.relay_data)?,
        disk::blobs(&stage.files_data)?,
    );
    let request = SendRequest {
        files: vec![photo::file(&path)],
        expire_s: Some(LIFE_SECONDS),
        ..SendRequest::text("Bob", WORDS)
    };
    let sent = full(stage.alice.client()?.send(request).await?)?;
    let end = sent.expires_at.ok_or_else(|| internal("it has no end"))?;
    // What the servers stored for it: all wraps, to Bob and to Alice herself, and the blob.
    let events = &disk::events(&stage.relay_data)? - &events;
    let blobs = &disk::blobs(&stage.files_data)? - &blobs;
    let is_stored = events.len() >= 2 && !blobs.is_empty();
    let detail = format!("{} wraps, {} blob", events.len(), blobs.len());
    show.step("both servers hold their part", is_stored, detail);

    stage.bob.sync().await?;
    let is_shown = stage.alice.shows("Bob", &sent.id)? && stage.bob.shows("Alice", &sent.id)?;
    show.step(
        "both see it",
        is_shown,
        format!("for {LIFE_SECONDS} seconds"),
    );

    while now() < end {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut ids = sent.ids.clone();
    ids.push(sent.id.clone());
    let (mut at_alice, mut at_bob) = (false, false);
    for id in &ids {
        at_alice |= stage.alice.shows("Bob", id)?;
        at_bob |= stage.bob.shows("Alice", id)?;
    }
    show.step(
        "at its second, Alice's side shows it no more",
        !at_alice,
        "",
    );
    show.step("nor does Bob's", !at_bob, "");

    // The next command of Alice's that touches the network erases what the servers hold.
    stage.alice.sync().await?;
    let erasing = Instant::now();
    let is_wiped =
        probe::within_a_minute(async || disk::is_free_of(&stage.relay_data, &events)).await?;
    show.step(
        "the relay's disk holds none of it",
        is_wiped,
        took("read behind the relay's back", erasing),
    );
    let is_gone = probe::within_a_minute(async || {
        let left = disk::blobs(&stage.files_data)?;
        Ok(blobs.is_disjoint(&left))
    })
    .await?;
    let mut statuses = Vec::new();
    for blob in &blobs {
        statuses.push(probe::head(&stage.files, &blob.hash).await?);
    }
    let is_absent = statuses.iter().all(|status| matches!(status, 404 | 410));
    let said: Vec<_> = statuses.iter().map(u16::to_string).collect();
    show.step(
        "nor does the file server's",
        is_gone && is_absent,
        format!("HEAD says {}", said.join(", ")),
    );

    stage.bob.leave().await;
    stage.bob.sync().await?;
    let is_back = stage.bob.shows("Alice", &sent.id)?;
    show.step("and no restart or sync brings it back", !is_back, "");
    Ok(())
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
