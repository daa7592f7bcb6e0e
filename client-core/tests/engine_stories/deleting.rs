//! Delete for both, and what its report may say.

use client_core::ErrorWord;
use client_core::engine::io::{Effect, Role};
use client_core::view::{DeletedView, StatusView};
use wire::{Event, EventId, Tag, Tags, kinds};

use crate::network::{Mood, World, key, relay};

fn deleted(world: &World, who: &str, id: EventId) -> DeletedView {
    let home = &world.homes[who];
    home.engine.deleted(&home.store, id).unwrap()
}

fn flush(world: &mut World, who: &'static str) {
    world.wish(who, |engine, store, now, rng| {
        engine.flush(store, now, rng).unwrap().effects
    });
}

#[test]
fn a_deletion_reaches_the_other_the_relays_and_the_report() {
    let mut world = World::with_two(20);
    let id = world.send("alice", "bob", "regret");
    world.sync("bob");
    assert_eq!(world.texts("bob", "alice"), ["regret"]);
    let before: Vec<EventId> = world.wraps("b").iter().map(Event::id).collect();
    world.delete("alice", id, true);
    assert!(world.texts("alice", "bob").is_empty());
    let after: Vec<EventId> = world.wraps("b").iter().map(Event::id).collect();
    assert!(
        before.iter().any(|wrap| !after.contains(wrap)),
        "taken back"
    );
    let report = deleted(&world, "alice", id);
    assert_eq!(report.relays.len(), 2, "bob's relay and the own one");
    for relay in &report.relays {
        assert!(relay.erased, "{relay:?}");
        assert_eq!(relay.detail, "accepted, not verifiable");
    }
    assert_eq!(report.peers.len(), 1);
    assert!(!report.peers[0].confirmed, "bob has not said so yet");
    world.sync("bob");
    assert!(world.texts("bob", "alice").is_empty());
    world.sync("alice");
    assert!(deleted(&world, "alice", id).peers[0].confirmed);
    let home = &world.homes["alice"];
    let status = home.engine.status(&home.store, id).unwrap();
    assert!(matches!(status, StatusView::Deleted(_)));
    assert!(home.engine.deletion_settled(&home.store, id).unwrap());
}

#[test]
fn wraps_are_taken_back_by_their_own_keys_over_publish_sockets() {
    let mut world = World::with_two(21);
    let id = world.send("alice", "bob", "regret");
    world.log.clear();
    world.delete("alice", id, true);
    let alice = world.key_of("alice");
    let deletions: Vec<_> = world
        .published()
        .into_iter()
        .filter(|(_, _, event)| event.kind() == kinds::DELETION)
        .collect();
    assert_eq!(deletions.len(), 2, "one for each wrap");
    for (_, socket, event) in &deletions {
        assert_eq!(socket.role, Role::Publish);
        assert_ne!(event.pubkey(), alice);
        assert_eq!(event.tags().value("k"), Some("1059"));
    }
    assert_ne!(deletions[0].2.pubkey(), deletions[1].2.pubkey());
}

#[test]
fn a_deletion_is_settled_when_the_others_were_told_as_well() {
    let mut world = World::with_two(31);
    let id = world.send("alice", "bob", "regret");
    world.begin("alice", |engine, store, now, rng| {
        engine.delete(store, id, true, now, rng).unwrap().effects
    });
    let is_settled = |world: &World| {
        let home = &world.homes["alice"];
        home.engine.deletion_settled(&home.store, id).unwrap()
    };
    // What takes the wraps back goes first; what tells Bob is a wrap of its own.
    let effects = std::mem::take(&mut world.homes.get_mut("alice").unwrap().effects);
    let (told, taken_back): (Vec<_>, Vec<_>) = effects.into_iter().partition(|effect| {
        let Effect::Publish { event, .. } = effect else {
            return false;
        };
        Event::decode(event.clone()).unwrap().kind() == kinds::WRAP
    });
    assert!(!told.is_empty() && !taken_back.is_empty());
    world.homes.get_mut("alice").unwrap().effects = taken_back;
    world.run();
    assert!(deleted(&world, "alice", id).relays.iter().all(|r| r.erased));
    assert!(!is_settled(&world));
    world.homes.get_mut("alice").unwrap().effects = told;
    world.run();
    assert!(is_settled(&world));
}

#[test]
fn the_account_signs_no_deletion_for_what_it_took_back_itself() {
    let mut world = World::with_two(32);
    let id = world.send("alice", "bob", "regret");
    // Their own copies come back to them.
    world.sync("alice");
    world.delete("alice", id, true);
    world.log.clear();
    world.sync("alice");
    world.sync("alice");
    let alice = world.key_of("alice");
    let by_account = |(_, _, event): &(&str, _, Event)| event.pubkey() == alice;
    let signed: Vec<_> = world.published().into_iter().filter(by_account).collect();
    assert!(signed.is_empty(), "{signed:?}");
}

#[test]
fn what_was_never_sent_is_cancelled_and_nothing_is_left_to_publish() {
    let mut world = World::with_two(22);
    world.send("alice", "bob", "first");
    world.sync("bob");
    world.relay("b").mood = Mood::Down;
    world.relay("a").mood = Mood::Down;
    let id = world.send("alice", "bob", "unsent");
    world.delete("alice", id, true);
    world.relay("b").mood = Mood::Kind;
    world.relay("a").mood = Mood::Kind;
    world.log.clear();
    flush(&mut world, "alice");
    let about = world.published();
    assert!(about.is_empty(), "{about:?}");
    world.sync("bob");
    assert_eq!(world.texts("bob", "alice"), ["first"]);
    let report = deleted(&world, "alice", id);
    assert!(
        report
            .relays
            .iter()
            .all(|r| r.erased && r.detail == "it never had it")
    );
}

#[test]
fn an_unanswered_wrap_is_deleted_where_it_may_be() {
    let mut world = World::with_two(23);
    world.send("alice", "bob", "first");
    world.relay("b").mood = Mood::Silent;
    let id = world.send("alice", "bob", "maybe there");
    assert_eq!(world.wraps("b").len(), 2);
    world.relay("b").mood = Mood::Kind;
    world.delete("alice", id, true);
    world.sync("bob");
    assert_eq!(world.texts("bob", "alice"), ["first"]);
    let to_b = deleted(&world, "alice", id);
    assert!(to_b.relays.iter().all(|relay| relay.erased));
}

#[test]
fn a_deletion_waits_for_a_relay_that_is_down_and_says_so() {
    let mut world = World::with_two(24);
    let id = world.send("alice", "bob", "regret");
    world.relay("b").mood = Mood::Down;
    world.delete("alice", id, true);
    let report = deleted(&world, "alice", id);
    let b = report
        .relays
        .iter()
        .find(|r| r.url == relay("b").to_string());
    assert!(!b.unwrap().erased);
    world.relay("b").mood = Mood::Kind;
    world.restart("alice");
    flush(&mut world, "alice");
    let report = deleted(&world, "alice", id);
    assert!(report.relays.iter().all(|relay| relay.erased));
    world.sync("bob");
    assert!(world.texts("bob", "alice").is_empty());
}

#[test]
fn a_second_home_of_the_same_seed_can_take_a_message_back() {
    let mut world = World::with_two(25);
    world.add("laptop", key(1), &["a"], &[]);
    let id = world.send("alice", "bob", "from the phone");
    world.sync("bob");
    world.sync("laptop");
    assert_eq!(world.texts("laptop", "bob"), ["from the phone"]);
    let of_message = |world: &mut World| world.wraps("b").len();
    let before = of_message(&mut world);
    world.delete("laptop", id, true);
    // The wrap is gone and the notice has come: as many as before.
    assert_eq!(of_message(&mut world), before);
    world.sync("bob");
    assert!(world.texts("bob", "alice").is_empty());
    let report = deleted(&world, "laptop", id);
    let b = report
        .relays
        .iter()
        .find(|r| r.url == relay("b").to_string());
    assert!(b.unwrap().erased, "{report:?}");
    world.sync("alice");
    assert!(
        world.texts("alice", "bob").is_empty(),
        "gone from the phone too"
    );
    world.sync("laptop");
    assert!(deleted(&world, "laptop", id).peers[0].confirmed);
}

#[test]
fn a_deletion_that_comes_first_wins() {
    let mut world = World::with_two(26);
    let id = world.send("alice", "bob", "fast regret");
    let kept = world.wraps("b");
    world.delete("alice", id, true);
    world.sync("bob");
    // Some relay brings the wrap after all.
    world.relay("b").forgotten.clear();
    for wrap in &kept {
        world.relay("b").store(wrap);
    }
    world.sync("bob");
    assert!(world.texts("bob", "alice").is_empty());
    world.sync("bob");
    let left: Vec<EventId> = world.wraps("b").iter().map(Event::id).collect();
    for wrap in kept {
        assert!(!left.contains(&wrap.id()), "bob's client cleans up");
    }
}

#[test]
fn a_strangers_deletion_before_the_message_changes_nothing() {
    let mut world = World::with_two(27);
    world.add("mallory", key(6), &["m"], &[]);
    let bob = world.key_of("bob");
    let id = world.send("alice", "bob", "stays");
    let draft = |pubkey| wire::EventDraft {
        pubkey,
        created_at: world.now,
        kind: kinds::DELETION,
        tags: Tags::from_iter([
            Tag::new(["e".to_owned(), id.to_hex()]),
            Tag::new(["p".to_owned(), bob.to_hex()]),
        ]),
        content: String::new(),
    };
    let rumor = wire::Rumor::new(draft(key(6).public_key()));
    crate::bad_input::deliver(&mut world, &key(6), &rumor, bob, "b");
    world.sync("bob");
    assert_eq!(world.texts("bob", "alice"), ["stays"]);
}

#[test]
fn a_deletion_acts_only_in_its_own_conversation() {
    let mut world = World::with_two(28);
    let bob = world.key_of("bob");
    let id = world.send("alice", "bob", "stays");
    world.sync("bob");
    let draft = wire::EventDraft {
        pubkey: key(1).public_key(),
        created_at: world.now,
        kind: kinds::DELETION,
        tags: Tags::from_iter([
            Tag::new(["e".to_owned(), id.to_hex()]),
            Tag::new(["p".to_owned(), bob.to_hex()]),
            Tag::new(["p".to_owned(), key(7).public_key().to_hex()]),
        ]),
        content: String::new(),
    };
    let rumor = wire::Rumor::new(draft);
    crate::bad_input::deliver(&mut world, &key(1), &rumor, bob, "b");
    world.sync("bob");
    assert_eq!(world.texts("bob", "alice"), ["stays"]);
}

#[test]
fn only_the_author_deletes_for_everyone_and_anybody_deletes_here() {
    let mut world = World::with_two(29);
    let id = world.send("alice", "bob", "hers");
    world.sync("bob");
    let now = world.now;
    let home = world.homes.get_mut("bob").unwrap();
    let error = home
        .engine
        .delete(&mut home.store, id, true, now, &mut world.rng)
        .unwrap_err();
    assert_eq!(error.word, ErrorWord::Refused);
    world.delete("bob", id, false);
    assert!(world.texts("bob", "alice").is_empty());
    world.sync("bob");
    assert!(
        world.texts("bob", "alice").is_empty(),
        "it does not come back"
    );
    assert_eq!(world.texts("alice", "bob"), ["hers"]);
}

#[test]
fn a_copy_that_is_seen_after_the_deletion_is_asked_back_as_well() {
    let mut world = World::new(30);
    world.add("alice", key(1), &["a"], &[]);
    world.add("bob", key(2), &["b", "c"], &[]);
    world.befriend("alice", "bob");
    world.befriend("bob", "alice");
    let id = world.send("alice", "bob", "regret");
    let copy = world.wraps("c");
    // `c` is out of reach for Bob while he reads and while the message is taken back.
    world.relay("c").mood = Mood::Down;
    world.sync("bob");
    assert_eq!(world.texts("bob", "alice"), ["regret"]);
    world.delete("alice", id, true);
    world.sync("bob");
    assert!(world.texts("bob", "alice").is_empty());
    assert!(copy.iter().all(|wrap| world.wraps("c").contains(wrap)));
    world.relay("c").mood = Mood::Kind;
    world.log.clear();
    world.sync("bob");
    assert!(
        !copy.iter().any(|wrap| world.wraps("c").contains(wrap)),
        "the recipient's client has it dropped there too"
    );
    world.log.clear();
    world.sync("bob");
    assert!(world.published().is_empty(), "once is enough");
}
