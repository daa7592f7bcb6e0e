//! A second circle: another key, another relay, another life.

use client_core::Result;
use client_core::client::{NewCircle, SendRequest};

use super::disk;
use super::stage::{Stage, full};
use super::transcript::Transcript;
use crate::internal;

const WORDS: &str = "The meeting is moved to nine.";

pub async fn play(stage: &mut Stage, show: &mut Transcript<'_>) -> Result<()> {
    show.act("A circle of its own for work");
    let circle = NewCircle {
        name: "work".to_owned(),
        relays: vec![stage.work_relay.clone()],
        invites: Vec::new(),
        file_servers: Vec::new(),
        expire_s: None,
    };
    let work = full(stage.alice.client()?.create_circle(circle).await?)?;
    let personal = stage.alice.account.pubkey.clone();
    show.step(
        "the same seed gives it another key",
        work.pubkey != personal,
        &work.npub,
    );

    let mut at_work = stage.alice.client_of("work")?;
    let link = at_work.invite()?.to_string();
    stage
        .bob
        .client()?
        .add_contact(&link, Some("Alice at work"))?;
    show.says("Bob", "Alice at work", WORDS);
    let request = SendRequest::text("Alice at work", WORDS);
    let sent = full(stage.bob.client()?.send(request).await?)?;
    let id = sent.id;
    full(at_work.sync().await?)?;
    let is_there = at_work
        .message(&id)
        .is_ok_and(|message| message.text == WORDS);
    let is_request = at_work.message(&id).is_ok_and(|message| message.request);
    show.step("it arrives in that circle", is_there, "");
    show.step(
        "where Bob is a stranger until he is accepted",
        is_request,
        "",
    );
    at_work.close().await;

    stage.alice.sync().await?;
    let is_here = stage.alice.shows("Bob", &id)?;
    show.step("the personal circle knows nothing of it", !is_here, "");

    let mut has_crossed = false;
    for (folder, key) in [
        (&stage.work_data, &personal),
        (&stage.relay_data, &work.pubkey),
    ] {
        has_crossed |= disk::holds(folder, key.as_bytes())? || disk::holds(folder, &bytes(key)?)?;
    }
    let stored = disk::events(&stage.work_data)?.len();
    show.step(
        "neither relay's disk holds the other key",
        !has_crossed && stored > 0,
        "as text or bytes",
    );
    Ok(())
}

/// The bytes that a hexadecimal key stands for.
fn bytes(hex: &str) -> Result<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    pairs
        .map(|pair| {
            let pair = std::str::from_utf8(pair).map_err(internal)?;
            u8::from_str_radix(pair, 16).map_err(internal)
        })
        .collect()
}
