//! `send`, as far as it can end.

use crate::support::{World, as_str, has};

#[test]
fn a_text_goes_both_ways() {
    let world = World::new();
    let (alice, bob) = world.friends();
    let sent = alice.run(["send", "bob", "hello"]).object();
    has(
        &sent,
        "sotto.sent/1",
        &["id", "conversation", "status", "expires_at", "recipients"],
    );
    assert_eq!(sent["recipients"][0]["pubkey"], bob.pubkey().as_str());
    let relay = &sent["recipients"][0]["relays"][0];
    assert_eq!(
        (&relay["url"], &relay["ok"]),
        (&world.relay_url.as_str().into(), &true.into())
    );

    let synced = bob.syncs();
    has(&synced, "sotto.synced/1", &["received", "new", "relays"]);
    assert_eq!(synced["new"], 1);
    bob.sends("alice", "hello yourself");
    alice.syncs();
    assert_eq!(alice.texts("bob"), ["hello", "hello yourself"]);
    assert_eq!(bob.texts("alice"), ["hello", "hello yourself"]);
    assert_eq!(bob.syncs()["new"], 0);
}

#[test]
fn delivered_is_waited_for_and_said() {
    let world = World::new();
    let (alice, bob) = world.friends();
    let mut child = alice.spawn(["send", "bob", "are you up?", "--wait", "delivered"]);
    // Bob's client comes by until Alice has seen its receipt.
    while child.try_wait().unwrap().is_none() {
        bob.syncs();
    }
    assert_eq!(child.ended().object()["status"], "delivered");
}

#[test]
fn a_wait_in_vain_ends_with_124_and_says_what_was_stored() {
    let world = World::new();
    let (alice, _bob) = world.friends();
    let ran = alice.run([
        "send",
        "bob",
        "anybody?",
        "--wait",
        "delivered",
        "--timeout",
        "1s",
    ]);
    let error = ran.fails(124, "timeout");
    let sent = ran.only();
    assert_eq!(sent["status"], "stored");
    assert_eq!(error["id"], sent["id"]);
    assert_eq!(error["status"], "stored");
}

#[test]
fn an_unreachable_relay_leaves_the_message_in_the_outbox() {
    let mut world = World::new();
    let (alice, bob) = world.friends();
    alice.sends("bob", "one");
    bob.syncs();
    world.stop_relay();
    let ran = alice.run(["send", "bob", "two"]);
    let error = ran.fails(3, "unreachable");
    let sent = ran.only();
    assert_eq!(sent["status"], "queued");
    assert_eq!(error["id"], sent["id"]);
    let waiting = alice.run(["outbox", "list"]).objects();
    assert!(waiting.iter().any(|item| item["message"] == sent["id"]));
    has(
        &waiting[0],
        "sotto.outbox_item/1",
        &[
            "id",
            "message",
            "recipient",
            "relays",
            "attempts",
            "next_at",
        ],
    );

    world.start_relay_again();
    alice.run(["outbox", "flush"]).succeeds();
    assert!(alice.run(["outbox", "list"]).objects().is_empty());
    bob.syncs();
    assert_eq!(bob.texts("alice"), ["one", "two"]);
}

#[test]
fn a_cancelled_message_is_never_sent() {
    let mut world = World::new();
    let (alice, bob) = world.friends();
    alice.sends("bob", "one");
    world.stop_relay();
    alice.run(["send", "bob", "two"]).fails(3, "unreachable");
    let item = alice.run(["outbox", "list"]).objects().remove(0);
    let cancelled = alice.run(["outbox", "cancel", item["id"].as_str().unwrap()]);
    assert_eq!(cancelled.object()["schema"], "sotto.outbox_item/1");
    assert!(alice.run(["outbox", "list"]).objects().is_empty());
    alice
        .run(["outbox", "cancel", "nothing"])
        .refuses(7, "not_found");
    world.start_relay_again();
    alice.run(["outbox", "flush"]).succeeds();
    bob.syncs();
    assert!(!bob.texts("alice").contains(&"two".to_owned()));
}

#[test]
fn who_has_no_inbox_list_cannot_be_written_to() {
    let world = World::new();
    let alice = world.join("alice");
    let bob = world.person("bob");
    bob.run(["init"]).succeeds();
    alice
        .run(["contact", "add", &bob.pubkey(), "--alias", "bob"])
        .succeeds();
    alice
        .run(["send", "bob", "hello"])
        .fails(10, "no_inbox_relays");
    assert!(alice.run(["outbox", "list"]).objects().is_empty());
}

#[test]
fn a_blocked_contact_is_not_written_to() {
    let world = World::new();
    let (alice, _bob) = world.friends();
    alice.run(["contact", "block", "bob"]).succeeds();
    alice.run(["send", "bob", "hello"]).refuses(10, "blocked");
}

#[test]
fn a_text_from_stdin_and_a_file_from_stdin() {
    let world = World::new();
    let (alice, bob) = world.friends();
    alice
        .run_with_stdin(["send", "bob", "-"], b"from a pipe\n")
        .succeeds();
    alice
        .run_with_stdin(["send", "bob", "--file", "-"], b"\xff\x00bytes")
        .succeeds();
    bob.syncs();
    let messages = bob.run(["message", "list", "alice"]).objects();
    assert_eq!(messages[0]["text"], "from a pipe\n");
    assert_eq!(messages[1]["kind"], "file");
    assert_eq!(messages[1]["files"][0]["name"], "stdin");
    let id = messages[1]["id"].as_str().unwrap();
    let got = bob.run(["file", "get", id, "-o", "-"]);
    assert_eq!(got.succeeds().stdout, b"\xff\x00bytes");
}

#[test]
fn what_is_no_text_goes_as_a_file() {
    let world = World::new();
    let (alice, bob) = world.friends();
    let refused = alice
        .run_with_stdin(["send", "bob", "-"], b"\xff\xfe")
        .refuses(2, "usage");
    assert!(refused["hint"].as_str().unwrap().contains("--as-file"));
    let long = vec![b'a'; 32_769];
    let refused = alice
        .run_with_stdin(["send", "bob", "-"], &long)
        .refuses(2, "too_large");
    assert!(refused["hint"].as_str().unwrap().contains("--as-file"));
    alice
        .run_with_stdin(
            ["send", "bob", "-", "--as-file", "--name", "long.txt"],
            &long,
        )
        .succeeds();
    bob.syncs();
    let message = bob.run(["message", "list", "alice"]).object();
    assert_eq!(message["files"][0]["name"], "long.txt");
    let got = bob.run(["file", "get", message["id"].as_str().unwrap(), "-o", "-"]);
    assert_eq!(got.succeeds().stdout, long);
}

#[test]
fn the_same_idempotency_key_sends_once() {
    let world = World::new();
    let (alice, bob) = world.friends();
    let send = [
        "send",
        "bob",
        "pay the rent",
        "--idempotency-key",
        "rent-11",
    ];
    let first = alice.run(send).object();
    let second = alice.run(send).object();
    assert_eq!(first["id"], second["id"]);
    bob.syncs();
    assert_eq!(bob.texts("alice"), ["pay the rent"]);
}

#[test]
fn text_and_files_are_one_send_and_several_messages() {
    let world = World::new();
    let (alice, bob) = world.friends();
    let (one, two) = (world.file("one.txt", "1"), world.file("two.txt", "22"));
    let sent = alice
        .run([
            "send",
            "bob",
            "both",
            "--file",
            as_str(&one),
            "--file",
            as_str(&two),
        ])
        .object();
    assert_eq!(sent["ids"].as_array().unwrap().len(), 3);
    assert_eq!(sent["ids"][0], sent["id"]);
    bob.syncs();
    let messages = bob.run(["message", "list", "alice"]).objects();
    assert_eq!(messages[0]["text"], "both");
    assert_eq!(messages[1]["files"][0]["name"], "one.txt");
    assert_eq!(messages[2]["files"][0]["name"], "two.txt");
}

#[test]
fn an_answer_names_its_question() {
    let world = World::new();
    let (alice, bob) = world.friends();
    let id = alice.sends("bob", "tea?");
    bob.syncs();
    bob.run(["send", "alice", "yes", "--reply-to", &id[..8]])
        .succeeds();
    alice.syncs();
    let messages = alice.run(["message", "list", "bob"]).objects();
    assert_eq!(messages[1]["reply_to"], id.as_str());
    bob.run(["send", "alice", "no", "--reply-to", "0123456789"])
        .refuses(7, "not_found");
}
