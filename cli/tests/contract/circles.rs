//! `circle`.

use crate::support::{World, has};

#[test]
fn circles_share_neither_key_nor_conversation() {
    let world = World::new();
    let (alice, bob) = world.friends();
    let (_work_relay, work_url) = world.another_relay();
    let created = alice
        .run([
            "circle", "create", "work", "--relay", &work_url, "--expire", "7d",
        ])
        .object();
    has(
        &created,
        "sotto.circle/1",
        &[
            "name",
            "index",
            "pubkey",
            "npub",
            "relays",
            "file_servers",
            "expire_s",
            "current",
        ],
    );
    assert_eq!(
        (&created["index"], &created["expire_s"]),
        (&1.into(), &604_800.into())
    );
    assert_ne!(created["pubkey"], alice.pubkey().as_str());
    assert_eq!(alice.run(["circle", "list"]).objects().len(), 2);

    // The contacts of one are strangers in the other.
    assert!(
        alice
            .run(["contact", "list", "--circle", "work"])
            .objects()
            .is_empty()
    );
    let link = alice.run(["invite", "--circle", "work"]).object();
    let link = link["link"].as_str().unwrap();
    bob.run(["contact", "add", link, "--alias", "alice-at-work"])
        .succeeds();
    bob.sends("alice-at-work", "minutes attached");
    alice.syncs();
    assert!(alice.run(["inbox"]).objects().is_empty());
    alice.run(["sync", "--circle", "work"]).succeeds();
    let inbox = alice.run(["inbox", "--circle", "work"]).object();
    assert_eq!(inbox["last"]["text"], "minutes attached");
    assert_eq!(inbox["last"]["circle"], "work");
}

#[test]
fn a_circle_is_chosen_by_use_and_by_option() {
    let world = World::new();
    let alice = world.join("alice");
    let (_work_relay, work_url) = world.another_relay();
    alice
        .run(["circle", "create", "work", "--relay", &work_url])
        .succeeds();
    assert_eq!(alice.run(["circle", "show"]).object()["name"], "personal");
    assert_eq!(
        alice.run(["circle", "use", "work"]).object()["current"],
        true
    );
    assert_eq!(alice.run(["circle", "show"]).object()["name"], "work");
    assert_eq!(
        alice.run(["circle", "show", "personal"]).object()["current"],
        false
    );
    let ran = alice
        .command(["account", "show"])
        .env("SOTTO_CIRCLE", "personal")
        .output();
    assert_eq!(
        crate::support::Ran::of(ran.unwrap()).object()["circle"],
        "personal"
    );
    alice
        .run(["sync", "--circle", "nowhere"])
        .refuses(7, "not_found");
    alice
        .run(["circle", "use", "nowhere"])
        .refuses(7, "not_found");
    alice
        .run(["circle", "create", "work", "--relay", &work_url])
        .refuses(9, "conflict");
}

#[test]
fn a_relay_of_another_circle_is_warned_about() {
    let world = World::new();
    let alice = world.join("alice");
    let ran = alice.run(["circle", "create", "work", "--relay", &world.relay_url]);
    ran.succeeds();
    let warning: serde_json::Value =
        serde_json::from_str(ran.stderr.lines().next().unwrap()).unwrap();
    has(&warning, "sotto.warning/1", &["detail"]);
    let quiet = alice.run([
        "circle",
        "create",
        "club",
        "--relay",
        &world.relay_url,
        "-q",
    ]);
    assert_eq!(quiet.succeeds().stderr, "");
}
