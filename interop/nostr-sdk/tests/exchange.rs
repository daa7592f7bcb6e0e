//! nostr-sdk and Sotto write to each other through Sotto's relay and file server.

use anyhow::{Context as _, Result};
use interop_nostr_sdk::file::{self, sha256};
use interop_nostr_sdk::foreign::Foreign;
use interop_nostr_sdk::programs::{Sotto, World, text};
use nostr_sdk::prelude::*;
use serde_json::{Value, json};

const TEXT: &str = "Grüße — ¿qué tal? 🌒\nsecond line \"quoted\"";

/// A relay, a file server, Anna with Sotto, and Ben with nostr-sdk, who can be written to.
async fn anna_and_ben() -> Result<(World, Sotto, PublicKey, Foreign)> {
    let world = World::start()?;
    let anna = world.account("anna")?;
    let anna_key = PublicKey::parse(anna.pubkey()?)?;
    let ben = Foreign::join(world.relay()).await?;
    ben.publish_inbox_relays().await?;
    Ok((world, anna, anna_key, ben))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_of_nostr_sdk_arrives_as_a_request_and_acceptance_keeps_it() -> Result<()> {
    let (world, anna, anna_key, ben) = anna_and_ben().await?;
    let relays = ben.inbox_relays_of(anna_key).await?;
    assert_eq!(relays.len(), 1, "Sotto publishes where it can be reached");
    assert_eq!(relays[0].trim_end_matches('/'), world.relay());

    ben.send_text(anna_key, TEXT).await?;
    let messages = anna.messages(&ben.npub()?)?;
    assert_eq!(messages.len(), 1);
    let message = &messages[0];
    assert_eq!(message["text"], TEXT);
    assert_eq!(message["kind"], "text");
    assert_eq!(message["direction"], "in");
    assert_eq!(message["from"], ben.pubkey().to_hex());
    assert_eq!(message["request"], true, "Ben is a stranger so far");

    anna.json(&["contact", "add", &ben.npub()?, "--alias", "ben"])?;
    let messages = anna.messages("ben")?;
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0]["request"], false);
    assert_eq!(messages[0]["from_alias"], "ben");
    ben.leave().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_of_sotto_is_opened_by_nostr_sdk() -> Result<()> {
    let (_world, anna, anna_key, ben) = anna_and_ben().await?;
    anna.json(&["contact", "add", &ben.npub()?, "--alias", "ben"])?;
    let sent = anna.json(&["send", "ben", TEXT])?;

    let inbox = ben.inbox().await?;
    assert_eq!(inbox.len(), 1);
    let UnwrappedGift { sender, rumor } = &inbox[0];
    assert_eq!(*sender, anna_key);
    assert_eq!(rumor.kind, Kind::PrivateDirectMessage);
    assert_eq!(rumor.content, TEXT);
    assert_eq!(file::tag(rumor, "p")?, ben.pubkey().to_hex());
    // The id that Sotto names is the one that everybody computes.
    let mut recomputed = rumor.clone();
    recomputed.id = None;
    recomputed.ensure_id();
    assert_eq!(recomputed.id(), EventId::from_hex(text(&sent, "id")?)?);
    ben.leave().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_nostr_sdk_joins_the_conversation() -> Result<()> {
    let (_world, anna, anna_key, ben) = anna_and_ben().await?;
    anna.json(&["contact", "add", &ben.npub()?, "--alias", "ben"])?;
    anna.json(&["send", "ben", "question"])?;
    ben.send_text(anna_key, "answer").await?;

    let messages = anna.messages("ben")?;
    let mut seen: Vec<(&str, &str)> = messages
        .iter()
        .map(|message| Ok((text(message, "direction")?, text(message, "text")?)))
        .collect::<Result<_>>()?;
    // Both may bear the same second.
    seen.sort_unstable();
    assert_eq!(seen, [("in", "answer"), ("out", "question")]);
    assert_eq!(messages[0]["conversation"], messages[1]["conversation"]);
    ben.leave().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_hands_wraps_only_to_their_recipient() -> Result<()> {
    let (world, anna, _, ben) = anna_and_ben().await?;
    anna.json(&["contact", "add", &ben.npub()?, "--alias", "ben"])?;
    anna.json(&["send", "ben", "for Ben alone"])?;
    assert_eq!(ben.wraps().await?.len(), 1, "nostr-sdk's AUTH is accepted");

    // The same person without AUTH is nobody; an error is as good an answer as an empty one.
    let silent = Foreign::with_keys(ben.keys.clone(), world.relay(), false).await?;
    assert!(silent.wraps().await.unwrap_or_default().is_empty());
    silent.leave().await;
    ben.leave().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_a_nip17_client_is_fetched_and_opened_by_sotto() -> Result<()> {
    let (world, anna, anna_key, ben) = anna_and_ben().await?;
    anna.json(&["contact", "add", &ben.npub()?, "--alias", "ben"])?;
    let plain = bytes(70_001);
    let rumor = file::upload(
        world.files(),
        &ben.keys,
        anna_key,
        &plain,
        "application/pdf",
    )?;
    ben.send_rumor(anna_key, rumor).await?;

    let messages = anna.messages("ben")?;
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0]["kind"], "file");
    assert_eq!(messages[0]["files"][0]["mime"], "application/pdf");
    let to = world.path("received.pdf");
    let saved = anna.json(&[
        "file",
        "get",
        text(&messages[0], "id")?,
        "-o",
        to.to_str().context("a path of UTF-8")?,
    ])?;
    assert_eq!(saved["sha256"], sha256(&plain));
    assert_eq!(saved["size"], plain.len());
    assert_eq!(std::fs::read(to)?, plain);
    ben.leave().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_sotto_comes_as_aes_gcm_to_who_never_showed_a_sotto_tag() -> Result<()> {
    let (world, anna, anna_key, ben) = anna_and_ben().await?;
    anna.json(&["contact", "add", &ben.npub()?, "--alias", "ben"])?;
    let plain = bytes(200_003);
    let from = world.path("figures.bin");
    std::fs::write(&from, &plain)?;
    let from = from.to_str().context("a path of UTF-8")?;
    anna.json(&["send", "ben", "--file", from])?;

    let inbox = ben.inbox().await?;
    assert_eq!(inbox.len(), 1);
    let UnwrappedGift { sender, rumor } = &inbox[0];
    assert_eq!(*sender, anna_key);
    assert_eq!(file::tag(rumor, "ox")?, sha256(&plain));
    assert!(rumor.content.starts_with(world.files()));
    let received = file::download(rumor)?;
    assert!(received == plain, "the file is the same, byte for byte");
    ben.leave().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deletion_secret_in_the_self_copy_is_ignored_by_nostr_sdk() -> Result<()> {
    let (world, anna, anna_key, ben) = anna_and_ben().await?;
    anna.json(&["contact", "add", &ben.npub()?, "--alias", "ben"])?;
    let sent = anna.json(&["send", "ben", "kept for my other devices"])?;

    // Anna's seed words in a foreign client give the same key (NIP-06), hence her self-copy.
    let keys = Keys::from_mnemonic(anna.words()?, None)?;
    assert_eq!(keys.public_key(), anna_key);
    let elsewhere = Foreign::with_keys(keys, world.relay(), true).await?;
    let wraps = elsewhere.wraps().await?;
    assert_eq!(wraps.len(), 1);
    let rumor: Value = serde_json::from_str(&elsewhere.rumor_json(&wraps[0])?)?;
    let secret = rumor["sotto_d"].as_str().context("the secret is there")?;
    assert_eq!(secret.len(), 64);
    assert_eq!(rumor["id"], sent["id"]);

    let opened = elsewhere.inbox().await?;
    assert_eq!(opened[0].sender, anna_key);
    assert_eq!(opened[0].rumor.content, "kept for my other devices");
    let mut recomputed = opened[0].rumor.clone();
    recomputed.id = None;
    recomputed.ensure_id();
    assert_eq!(
        json!(recomputed.id().to_hex()),
        sent["id"],
        "it is no part of the id"
    );

    // And it goes to nobody else.
    for wrap in ben.wraps().await? {
        assert!(!ben.rumor_json(&wrap)?.contains("sotto_d"));
    }
    elsewhere.leave().await;
    ben.leave().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_deleted_for_everyone_is_taken_from_the_relay_and_nostr_sdk_is_told() -> Result<()>
{
    let (_world, anna, anna_key, ben) = anna_and_ben().await?;
    anna.json(&["contact", "add", &ben.npub()?, "--alias", "ben"])?;
    let sent = anna.json(&["send", "ben", "a slip of the tongue"])?;
    let id = text(&sent, "id")?;
    let before = ben.wraps().await?;
    assert_eq!(before.len(), 1);

    let deleted = anna.json(&["message", "delete", id, "--for-everyone"])?;
    assert_eq!(deleted["relays"][0]["erased"], true);
    assert_eq!(deleted["peers"][0]["confirmed"], false);
    let after = ben.wraps().await?;
    assert!(after.iter().all(|wrap| wrap.id != before[0].id));
    let inbox = ben.inbox().await?;
    assert_eq!(inbox.len(), 1);
    assert_eq!(inbox[0].sender, anna_key);
    assert_eq!(inbox[0].rumor.kind, Kind::EventDeletion);
    assert_eq!(file::tag(&inbox[0].rumor, "e")?, id);
    ben.leave().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_by_nostr_sdk_is_honoured_for_its_authors_message_only() -> Result<()> {
    let (_world, anna, anna_key, ben) = anna_and_ben().await?;
    anna.json(&["contact", "add", &ben.npub()?, "--alias", "ben"])?;
    let own = anna.json(&["send", "ben", "Anna's"])?;
    ben.send_text(anna_key, "Ben's").await?;
    let messages = anna.messages("ben")?;
    assert_eq!(messages.len(), 2);
    let of_ben = messages
        .iter()
        .find(|message| message["direction"] == "in")
        .context("Ben's message")?;

    for id in [text(of_ben, "id")?, text(&own, "id")?] {
        let deletion = EventBuilder::new(Kind::EventDeletion, "")
            .tags([Tag::public_key(anna_key), Tag::parse(["e", id])?])
            .build(ben.pubkey());
        ben.send_rumor(anna_key, deletion).await?;
    }
    let messages = anna.messages("ben")?;
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0]["text"], "Anna's");
    ben.leave().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vanishing_message_bears_its_second_inside_and_a_later_one_outside() -> Result<()> {
    let (_world, anna, _, ben) = anna_and_ben().await?;
    anna.json(&["contact", "add", &ben.npub()?, "--alias", "ben"])?;
    let sent = anna.json(&["send", "ben", "for an hour", "--expire", "1h"])?;
    let exact = sent["expires_at"].as_u64().context("a time")?;

    let inbox = ben.inbox().await?;
    let inside: u64 = file::tag(&inbox[0].rumor, "expiration")?.parse()?;
    assert_eq!(inside, exact);
    let wraps = ben.wraps().await?;
    let outside = wraps[0].tags.expiration().context("the wrap expires")?;
    assert!(outside.as_secs() > exact, "never earlier");
    ben.leave().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_with_nostr_sdk_can_use_our_servers_alone() -> Result<()> {
    let world = World::start()?;
    let (ben, cleo) = (
        Foreign::join(world.relay()).await?,
        Foreign::join(world.relay()).await?,
    );
    let plain = bytes(5_000);
    ben.send_text(cleo.pubkey(), TEXT).await?;
    let rumor = file::upload(world.files(), &ben.keys, cleo.pubkey(), &plain, "image/png")?;
    ben.send_rumor(cleo.pubkey(), rumor).await?;

    let mut inbox = cleo.inbox().await?;
    inbox.sort_by_key(|message| message.rumor.kind.as_u16());
    assert_eq!(inbox.len(), 2);
    assert_eq!(inbox[0].rumor.content, TEXT);
    assert!(file::download(&inbox[1].rumor)? == plain);
    assert!(ben.inbox().await?.is_empty());
    ben.leave().await;
    cleo.leave().await;
    Ok(())
}

/// Bytes of no particular kind, different at each place.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i * 31 + i / 251) as u8).collect()
}
