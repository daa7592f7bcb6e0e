//! `contact` and `invite`.

use crate::support::{World, has};

#[test]
fn a_contact_goes_through_its_life() {
    let world = World::new();
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let invite = alice.run(["invite"]).object();
    has(&invite, "sotto.invite/1", &["link"]);
    let link = invite["link"].as_str().unwrap();
    assert!(link.starts_with("nostr:nprofile1"));

    let added = bob
        .run(["contact", "add", link, "--alias", "alice"])
        .object();
    has(
        &added,
        "sotto.contact/1",
        &["alias", "pubkey", "npub", "verified", "blocked"],
    );
    assert_eq!(added["pubkey"], alice.pubkey().as_str());
    assert_eq!(added["verified"], false);
    assert_eq!(
        bob.run(["contact", "verify", "alice"]).object()["verified"],
        true
    );
    assert_eq!(
        bob.run(["contact", "block", "alice"]).object()["blocked"],
        true
    );
    assert_eq!(
        bob.run(["contact", "unblock", "alice"]).object()["blocked"],
        false
    );
    // By alias, npub and hex it is the same person.
    for name in [
        "alice",
        added["npub"].as_str().unwrap(),
        added["pubkey"].as_str().unwrap(),
    ] {
        assert_eq!(
            bob.run(["contact", "show", name]).object()["alias"],
            "alice"
        );
    }
    assert_eq!(bob.run(["contact", "list"]).objects().len(), 1);
    bob.run(["contact", "remove", "alice"]).refuses(4, "locked");
    bob.run(["contact", "remove", "alice", "--yes"]).succeeds();
    assert!(bob.run(["contact", "list"]).objects().is_empty());
    bob.run(["contact", "show", "alice"])
        .refuses(7, "not_found");
}

#[test]
fn an_alias_names_one_person() {
    let world = World::new();
    let (alice, bob) = world.friends();
    let carol = world.join("carol");
    bob.run(["contact", "add", &carol.link(), "--alias", "alice"])
        .refuses(9, "conflict");
    drop(alice);
}

#[test]
fn a_message_of_a_stranger_waits_to_be_accepted() {
    let world = World::new();
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    alice.knows(&bob, "bob");
    alice.sends("bob", "do you remember me?");
    bob.syncs();
    let inbox = bob.run(["inbox"]).object();
    has(
        &inbox,
        "sotto.conversation/1",
        &["conversation", "alias", "unread", "last", "request"],
    );
    assert_eq!(inbox["request"], true);
    assert_eq!(inbox["last"]["request"], true);
    let key = alice.pubkey();
    bob.run(["contact", "add", &key, "--alias", "alice"])
        .succeeds();
    let message = bob.run(["message", "list", "alice"]).object();
    assert_eq!(message["request"], false);
    assert_eq!(message["text"], "do you remember me?");
}
