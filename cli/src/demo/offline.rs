//! Messages to somebody who is not there.

use client_core::Result;
use client_core::client::SendRequest;

use super::stage::{Stage, full};
use super::transcript::Transcript;

const WORDS: [&str; 3] = ["First.", "Second.", "Third, and good night."];

pub async fn play(stage: &mut Stage, show: &mut Transcript<'_>) -> Result<()> {
    show.act("Bob is offline");
    stage.bob.leave().await;
    let mut ids = Vec::new();
    for words in WORDS {
        show.says("Alice", "Bob", words);
        let request = SendRequest::text("Bob", words);
        let sent = full(stage.alice.client()?.send(request).await?)?;
        ids.push(sent.id);
    }
    stage.alice.leave().await;
    show.step("his relay keeps them; Alice leaves too", true, "");

    let new = stage.bob.sync().await?;
    let arrived: Vec<_> = stage
        .bob
        .messages("Alice")?
        .into_iter()
        .filter(|message| ids.contains(&message.id))
        .map(|message| message.text)
        .collect();
    let detail = format!("{new} new, in the order they were written");
    show.step(
        "Bob returns and has them all, once",
        arrived == WORDS,
        detail,
    );
    let again = stage.bob.sync().await?;
    show.step("nothing comes twice", again == 0, "");
    Ok(())
}
