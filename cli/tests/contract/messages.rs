//! `message list`, `show`, `status`, `delete`, `watch`, and what vanishes.

use std::time::{Duration, Instant};

use crate::support::{World, has};

#[test]
fn a_conversation_is_listed_in_pages() {
    let world = World::new();
    let (alice, bob) = world.friends();
    let ids: Vec<_> = (1..=4)
        .map(|n| alice.sends("bob", &n.to_string()))
        .collect();
    bob.syncs();
    let messages = bob
        .run(["message", "list", "alice", "--limit", "2"])
        .objects();
    has(
        &messages[0],
        "sotto.message/1",
        &[
            "seq",
            "id",
            "circle",
            "conversation",
            "direction",
            "from",
            "from_alias",
            "kind",
            "text",
            "files",
            "sent_at",
            "received_at",
            "expires_at",
            "reply_to",
            "reactions",
            "edited",
            "status",
            "request",
            "forward_secret",
        ],
    );
    let texts: Vec<_> = messages.iter().map(|message| &message["text"]).collect();
    assert_eq!(texts, ["3", "4"]);
    let before = bob
        .run(["message", "list", "alice", "--before", &ids[2]])
        .objects();
    let texts: Vec<_> = before.iter().map(|message| &message["text"]).collect();
    assert_eq!(texts, ["1", "2"]);
    let shown = bob.run(["message", "show", &ids[0][..12]]).object();
    assert_eq!(shown["id"], ids[0].as_str());
    assert_eq!(
        (&shown["direction"], &shown["from_alias"]),
        (&"in".into(), &"alice".into())
    );
}

#[test]
fn what_is_not_there_is_not_found_and_an_empty_list_is_empty() {
    let world = World::new();
    let (alice, _bob) = world.friends();
    let empty = alice.run(["message", "list", "bob"]);
    assert!(empty.objects().is_empty());
    for line in [
        "message list nobody",
        "message show 0123456789",
        "message status 0123456789",
        "message delete 0123456789",
        "file get 0123456789",
        "send nobody hello",
    ] {
        alice.run(line.split(' ')).refuses(7, "not_found");
    }
}

#[test]
fn unread_messages_are_counted_until_they_are_listed() {
    let world = World::new();
    let (alice, bob) = world.friends();
    alice.sends("bob", "one");
    alice.sends("bob", "two");
    bob.syncs();
    let inbox = bob.run(["inbox"]).object();
    assert_eq!(
        (&inbox["unread"], &inbox["alias"]),
        (&2.into(), &"alice".into())
    );
    assert_eq!(inbox["last"]["text"], "two");
    bob.texts("alice");
    assert_eq!(bob.run(["inbox"]).object()["unread"], 0);
}

#[test]
fn deleting_for_everyone_reports_place_by_place() {
    let world = World::new();
    let (alice, bob) = world.friends();
    let id = alice.sends("bob", "never mind");
    bob.syncs();
    let deleted = alice
        .run(["message", "delete", &id, "--for-everyone"])
        .object();
    has(
        &deleted,
        "sotto.deleted/1",
        &["id", "relays", "file_servers", "peers"],
    );
    assert_eq!(deleted["id"], id.as_str());
    assert_eq!(deleted["relays"][0]["erased"], true);
    assert_eq!(deleted["peers"][0]["confirmed"], false);
    assert!(alice.texts("bob").is_empty());
    bob.syncs();
    assert!(bob.texts("alice").is_empty());
    alice.syncs();
    let status = alice.run(["message", "status", &id]).object();
    assert_eq!(status["schema"], "sotto.deleted/1");
    assert_eq!(status["peers"][0]["confirmed"], true);
}

#[test]
fn deleting_for_oneself_leaves_the_other_side_alone() {
    let world = World::new();
    let (alice, bob) = world.friends();
    let id = alice.sends("bob", "stays with you");
    bob.syncs();
    alice.run(["message", "delete", &id]).succeeds();
    assert!(alice.texts("bob").is_empty());
    bob.syncs();
    assert_eq!(bob.texts("alice"), ["stays with you"]);
}

#[test]
fn the_status_of_a_message_is_as_it_stands() {
    let world = World::new();
    let (alice, bob) = world.friends();
    let id = alice.sends("bob", "got it?");
    bob.syncs();
    let status = alice.run(["message", "status", &id]).object();
    assert_eq!(status["schema"], "sotto.sent/1");
    assert_eq!(status["status"], "delivered");
}

#[test]
fn a_vanishing_message_vanishes_on_both_sides() {
    let world = World::new();
    let (alice, bob) = world.friends();
    let sent = alice
        .run(["send", "bob", "quick", "--expire", "4s"])
        .object();
    let end = sent["expires_at"].as_u64().unwrap();
    bob.syncs();
    assert_eq!(bob.texts("alice"), ["quick"]);
    let id = sent["id"].as_str().unwrap();
    let started = Instant::now();
    while bob.run(["message", "show", id]).code == Some(0) {
        assert!(started.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(100));
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    assert!(now.unwrap().as_secs() >= end, "it went too early");
    assert!(bob.texts("alice").is_empty());
    assert!(alice.texts("bob").is_empty());
}

#[test]
fn watching_tells_what_happened_since_a_number() {
    let world = World::new();
    let (alice, bob) = world.friends();
    alice.sends("bob", "one");
    alice.sends("bob", "two");
    bob.syncs();
    let ran = bob.run(["message", "watch", "--from-seq", "0", "--timeout", "2s"]);
    ran.fails(124, "timeout");
    let events: Vec<serde_json::Value> = ran
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let messages: Vec<_> = events
        .iter()
        .filter(|event| event["type"] == "message")
        .collect();
    has(messages[0], "sotto.event/1", &["seq", "type", "message"]);
    // Events come in the order in which this home saw them, and a relay serves as it likes.
    let mut texts: Vec<_> = messages
        .iter()
        .map(|event| event["message"]["text"].as_str().unwrap())
        .collect();
    texts.sort_unstable();
    assert_eq!(texts, ["one", "two"]);
    let seqs: Vec<_> = events
        .iter()
        .map(|event| event["seq"].as_i64().unwrap())
        .collect();
    assert!(seqs.is_sorted(), "{seqs:?}");
    let last = seqs.last().unwrap().to_string();
    let later = bob.run(["message", "watch", "--from-seq", &last, "--timeout", "1s"]);
    assert_eq!(later.text(), "");
}
