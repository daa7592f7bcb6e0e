//! Commands that need no network work without one; those that do say what is missing.

use crate::support::World;

#[test]
fn reading_needs_no_relay() {
    let mut world = World::new();
    let (alice, bob) = world.friends();
    let id = alice.sends("bob", "before the storm");
    bob.syncs();
    world.stop_relay();
    assert_eq!(bob.texts("alice"), ["before the storm"]);
    bob.run(["message", "show", &id]).succeeds();
    bob.run(["inbox"]).succeeds();
    bob.run(["contact", "list"]).succeeds();
    bob.run(["invite"]).succeeds();
    let ran = bob.run(["sync"]);
    ran.fails(3, "unreachable");
    assert_eq!(ran.only()["relays"][0]["ok"], false);
}

#[test]
fn a_message_waits_for_who_is_away() {
    let world = World::new();
    let (alice, bob) = world.friends();
    for text in ["first", "second", "third"] {
        alice.sends("bob", text);
    }
    assert_eq!(bob.syncs()["new"], 3);
    assert_eq!(bob.texts("alice"), ["first", "second", "third"]);
}
