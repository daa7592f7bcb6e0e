//! A text both ways.

use std::time::Instant;

use client_core::Result;
use client_core::client::SendRequest;
use client_core::view::StatusView;

use super::disk;
use super::stage::{Person, Stage, full};
use super::transcript::{Transcript, took};

const QUESTION: &str = "Are you there? The swallows are back. \u{1f426}";
const ANSWER: &str = "Here. I counted eleven.";

pub async fn play(stage: &mut Stage, show: &mut Transcript<'_>) -> Result<()> {
    show.act("A text, both ways");
    let id = carry(show, &mut stage.alice, &mut stage.bob, QUESTION).await?;
    carry(show, &mut stage.bob, &mut stage.alice, ANSWER).await?;

    let StatusView::Sent(sent) = stage.alice.client()?.status(&id).await? else {
        show.step(
            "Alice has Bob's receipt",
            false,
            "a deletion's report instead",
        );
        return Ok(());
    };
    let is_delivered = matches!(sent.status, "delivered" | "read");
    show.step("Alice has Bob's receipt", is_delivered, sent.status);

    let mut is_found = false;
    for folder in [&stage.relay_data, &stage.files_data] {
        for words in [QUESTION, ANSWER] {
            is_found |= disk::holds(folder, words.as_bytes())?;
        }
    }
    let stored = disk::events(&stage.relay_data)?.len();
    show.step(
        "no server's disk holds the words",
        !is_found && stored > 0,
        format!("{stored} sealed events looked through"),
    );
    Ok(())
}

/// Sends a text and looks whether it comes out as it went in; gives its id.
pub async fn carry(
    show: &mut Transcript<'_>,
    from: &mut Person,
    to: &mut Person,
    words: &str,
) -> Result<String> {
    show.says(from.name, to.name, words);
    let started = Instant::now();
    let request = SendRequest::text(to.name, words);
    let sent = full(from.client()?.send(request).await?)?;
    to.sync().await?;
    let arrived = to.messages(from.name)?;
    let is_there = arrived.iter().any(|message| {
        message.id == sent.id
            && message.text == words
            && message.direction == "in"
            && message.from == from.account.pubkey
    });
    let relays: usize = sent.recipients.iter().map(|one| one.relays.len()).sum();
    let detail = took(format!("{} by {relays} relay", sent.status), started);
    show.step("it arrives as it was written", is_there, detail);
    Ok(sent.id)
}
