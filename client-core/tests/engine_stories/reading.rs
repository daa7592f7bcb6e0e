//! What is read, in which order, and what comes through whatever the relays do.

use client_core::ErrorWord;
use client_core::engine::io::{Effect, Input, QueryEnd};
use crypto::WrapKind;
use wire::rumor::SottoTag;
use wire::{EventDraft, Link, Rumor, Tag, Tags, kinds};

use crate::bad_input::{deliver, wrap_at};
use crate::network::{Mood, START, World, key, relay};

fn rumor(author: u8, to: wire::PublicKey, text: &str, at: u64, counter: u64) -> Rumor {
    Rumor::new(EventDraft {
        pubkey: key(author).public_key(),
        created_at: at,
        kind: kinds::TEXT,
        tags: Tags::from_iter([
            Tag::new(["p".to_owned(), to.to_hex()]),
            SottoTag {
                device: [author; 16],
                counter,
            }
            .to_tag(),
        ]),
        content: text.into(),
    })
}

#[test]
fn the_order_is_by_claimed_time_then_counter() {
    let mut world = World::with_two(70);
    let bob = world.key_of("bob");
    for (text, at, counter) in [("3", START, 9), ("1", START - 60, 7), ("2", START, 8)] {
        deliver(
            &mut world,
            &key(1),
            &rumor(1, bob, text, at, counter),
            bob,
            "b",
        );
        world.sync("bob");
    }
    assert_eq!(world.texts("bob", "alice"), ["1", "2", "3"]);
    let alice = world.key_of("alice");
    let home = &world.homes["bob"];
    let newest = home
        .engine
        .messages(&home.store, &alice, 1, None, world.now);
    let newest = newest.unwrap().pop().unwrap();
    assert_eq!(newest.text, "3");
    let id = home
        .engine
        .message_id(&home.store, &newest.id[..10])
        .unwrap();
    let before = home
        .engine
        .messages(&home.store, &alice, 1, Some(id), world.now)
        .unwrap();
    assert_eq!(before[0].text, "2");
}

#[test]
fn a_rumor_from_the_future_stands_near_now() {
    let mut world = World::with_two(71);
    let bob = world.key_of("bob");
    let far = rumor(1, bob, "from the future", START + 86_400, 1);
    deliver(&mut world, &key(1), &far, bob, "b");
    world.sync("bob");
    world.now += 600;
    let now = world.now;
    deliver(
        &mut world,
        &key(1),
        &rumor(1, bob, "later", now, 2),
        bob,
        "b",
    );
    world.sync("bob");
    assert_eq!(world.texts("bob", "alice"), ["from the future", "later"]);
}

#[test]
fn many_wraps_in_one_second_are_all_read() {
    let mut world = World::with_two(72);
    world.relay("b").nips = None;
    let bob = world.key_of("bob");
    world.relay("b").page = 2_000;
    for n in 0..700 {
        let text = format!("{n}");
        let rumor = rumor(1, bob, &text, START - 1_000 + n, n);
        // 600 of them bear the same second on the outside.
        let at = if n < 600 {
            START - 5_000
        } else {
            START - 9_000 + n
        };
        let wrap = wrap_at(&mut world.rng, &key(1), &rumor, bob, at);
        world.relay("b").store(&wrap);
    }
    world.sync("bob");
    assert_eq!(world.texts("bob", "alice").len(), 700);
    assert!(world.homes["bob"].engine.caught_up(&relay("b")));
    let report = world.homes["bob"].engine.sync_report();
    assert_eq!(report.new, 700);
    world.sync("bob");
    assert_eq!(world.homes["bob"].engine.sync_report().new, 0);
}

#[test]
fn a_relay_with_small_pages_is_read_to_the_end() {
    let mut world = World::with_two(73);
    world.relay("b").page = 10;
    world.relay("b").nips = None;
    let bob = world.key_of("bob");
    for n in 0..95 {
        let rumor = rumor(1, bob, &n.to_string(), START - 1_000 + n, n);
        let at = START - 100_000 + n * 100;
        let wrap = wrap_at(&mut world.rng, &key(1), &rumor, bob, at);
        world.relay("b").store(&wrap);
    }
    world.sync("bob");
    assert_eq!(world.texts("bob", "alice").len(), 95);
}

#[test]
fn one_relay_that_is_down_stops_no_other() {
    let mut world = World::new(74);
    world.add("alice", key(1), &["a"], &[]);
    world.add("bob", key(2), &["b", "c"], &[]);
    world.befriend("alice", "bob");
    world.send("alice", "bob", "twice stored");
    world.relay("b").mood = Mood::Down;
    world.sync("bob");
    assert_eq!(world.texts("bob", "alice"), ["twice stored"]);
    let report = world.homes["bob"].engine.sync_report();
    let ok: Vec<bool> = report.relays.iter().map(|relay| relay.ok).collect();
    assert_eq!(ok, [false, true]);
}

#[test]
fn the_same_rumor_in_other_wraps_is_shown_once_after_a_restart_too() {
    let mut world = World::with_two(75);
    let bob = world.key_of("bob");
    let one = rumor(1, bob, "once", START, 1);
    deliver(&mut world, &key(1), &one, bob, "b");
    world.sync("bob");
    world.restart("bob");
    deliver(&mut world, &key(1), &one, bob, "b");
    world.sync("bob");
    assert_eq!(world.texts("bob", "alice"), ["once"]);
}

#[test]
fn a_watch_opens_before_it_pages_and_comes_back_after_a_break() {
    let mut world = World::with_two(76);
    world.send("alice", "bob", "before");
    world.log.clear();
    world.wish("bob", |engine, store, now, rng| {
        engine.watch(store, now, rng).unwrap().effects
    });
    assert_eq!(world.texts("bob", "alice"), ["before"]);
    let lives: Vec<_> = world
        .log
        .iter()
        .filter_map(|(_, effect)| match effect {
            Effect::Query { op, live: true, .. } => Some(*op),
            _ => None,
        })
        .collect();
    assert_eq!(lives.len(), 1);
    let bob = world.key_of("bob");
    let wrap = {
        let now = world.now;
        wrap_at(
            &mut world.rng,
            &key(1),
            &rumor(1, bob, "live", now, 5),
            bob,
            now,
        )
    };
    let events = vec![wrap.json().clone()];
    world.feed(
        "bob",
        Input::Events {
            op: lives[0],
            events,
        },
    );
    world.run();
    assert_eq!(world.texts("bob", "alice"), ["before", "live"]);
    let end = QueryEnd::Unreachable("gone".into());
    world.feed(
        "bob",
        Input::QueryEnded {
            op: lives[0],
            end,
            garbage: 0,
        },
    );
    world.run();
    assert!(!world.homes["bob"].engine.caught_up(&relay("b")));
    world.send("alice", "bob", "meanwhile");
    world.now += 2;
    world.tick("bob");
    assert!(
        world
            .texts("bob", "alice")
            .contains(&"meanwhile".to_owned())
    );
    assert!(world.homes["bob"].engine.caught_up(&relay("b")));
}

#[test]
fn an_ephemeral_wrap_is_read_like_any_other() {
    let mut world = World::with_two(77);
    let bob = world.key_of("bob");
    let rumor = rumor(1, bob, "now", START, 1);
    let wrap = crate::bad_input::wrap_kind(
        &mut world.rng,
        &key(1),
        &rumor,
        bob,
        START,
        WrapKind::Ephemeral,
    );
    world.relay("b").events.push(wrap);
    world.sync("bob");
    assert_eq!(world.texts("bob", "alice"), ["now"]);
}

#[test]
fn blocked_contacts_are_neither_read_nor_written_to() {
    let mut world = World::with_two(78);
    let alice = world.key_of("alice");
    let now = world.now;
    let home = world.homes.get_mut("bob").unwrap();
    let view = home
        .engine
        .block(&mut home.store, &alice, now, &mut world.rng)
        .unwrap();
    assert!(view.blocked);
    world.send("alice", "bob", "hello?");
    world.sync("bob");
    assert!(world.texts("bob", "alice").is_empty());
    let compose = world.text_to(alice, "no");
    let error = world.compose("bob", compose).unwrap_err();
    assert_eq!((error.word, error.exit), (ErrorWord::Blocked, 10));
}

#[test]
fn a_note_to_oneself_is_a_conversation_of_one() {
    let mut world = World::with_two(79);
    let id = world.send("alice", "alice", "remember the milk");
    assert_eq!(world.status("alice", id), "stored");
    world.add("laptop", key(1), &["a"], &[]);
    world.sync("laptop");
    assert_eq!(world.texts("laptop", "alice"), ["remember the milk"]);
}

#[test]
fn people_are_found_by_alias_key_and_link() {
    let mut world = World::with_two(80);
    let bob = world.key_of("bob");
    let home = &world.homes["alice"];
    let resolve = |who: &str| home.engine.resolve(&home.store, who, START);
    assert_eq!(resolve("bob").unwrap(), bob);
    assert_eq!(resolve(&bob.to_hex()).unwrap(), bob);
    assert_eq!(resolve(&wire::link::npub(&bob)).unwrap(), bob);
    assert_eq!(
        resolve("npub1nonsense").unwrap_err().word,
        ErrorWord::BadKey
    );
    assert_eq!(resolve("nobody").unwrap_err().word, ErrorWord::NotFound);
    let now = world.now;
    let home = world.homes.get_mut("alice").unwrap();
    let link = Link::new(key(9).public_key());
    let taken = home
        .engine
        .add_contact(&mut home.store, &link, Some("bob"), now, &mut world.rng)
        .unwrap_err();
    assert_eq!((taken.word, taken.exit), (ErrorWord::Conflict, 9));
}

#[test]
fn conversations_count_unread_and_reading_clears_it() {
    let mut world = World::with_two(81);
    world.send("alice", "bob", "one");
    world.send("alice", "bob", "two");
    world.sync("bob");
    let list = |world: &World| {
        let home = &world.homes["bob"];
        home.engine.conversations(&home.store, world.now).unwrap()
    };
    let views = list(&world);
    assert_eq!((views.len(), views[0].unread), (1, 2));
    assert_eq!(views[0].alias.as_deref(), Some("alice"));
    assert_eq!(views[0].last.as_ref().unwrap().text, "two");
    world.texts("bob", "alice");
    assert_eq!(list(&world)[0].unread, 0);
}

#[test]
fn a_message_without_our_tag_gets_no_receipt_and_one_with_it_gets_one() {
    let mut world = World::with_two(82);
    let bob = world.key_of("bob");
    let foreign = Rumor::new(EventDraft {
        pubkey: key(1).public_key(),
        created_at: START,
        kind: kinds::TEXT,
        tags: Tags::from_iter([Tag::new(["p".to_owned(), bob.to_hex()])]),
        content: "from another client".into(),
    });
    deliver(&mut world, &key(1), &foreign, bob, "b");
    world.log.clear();
    world.sync("bob");
    assert!(world.published().is_empty());
    let ours = rumor(1, bob, "from ours", START, 1);
    for _ in 0..3 {
        deliver(&mut world, &key(1), &ours, bob, "b");
        world.sync("bob");
    }
    assert_eq!(world.published().len(), 1);
}

#[test]
fn receipts_of_one_batch_travel_together() {
    let mut world = World::with_two(83);
    let ids: Vec<_> = (0..30)
        .map(|n| world.send("alice", "bob", &n.to_string()))
        .collect();
    world.log.clear();
    world.sync("bob");
    assert_eq!(world.published().len(), 1);
    world.sync("alice");
    for id in ids {
        assert_eq!(world.status("alice", id), "delivered");
    }
}

#[test]
fn a_removed_contact_leaves_no_message_and_does_not_come_back() {
    let mut world = World::with_two(84);
    world.send("alice", "bob", "old times");
    world.sync("bob");
    let alice = world.key_of("alice");
    let now = world.now;
    let home = world.homes.get_mut("bob").unwrap();
    home.engine
        .remove_contact(&mut home.store, &alice, now, &mut world.rng)
        .unwrap();
    world.restart("bob");
    world.sync("bob");
    assert!(world.messages("bob", alice).is_empty());
    let home = &world.homes["bob"];
    let error = home.engine.contact(&home.store, &alice).unwrap_err();
    assert_eq!(error.word, ErrorWord::NotFound);
}

#[test]
fn a_room_of_three_is_a_conversation_of_its_own() {
    let mut world = World::with_two(85);
    let bob = world.key_of("bob");
    let group = Rumor::new(EventDraft {
        pubkey: key(1).public_key(),
        created_at: START,
        kind: kinds::TEXT,
        tags: Tags::from_iter([
            Tag::new(["p".to_owned(), bob.to_hex()]),
            Tag::new(["p".to_owned(), key(3).public_key().to_hex()]),
        ]),
        content: "to both of you".into(),
    });
    deliver(&mut world, &key(1), &group, bob, "b");
    world.sync("bob");
    assert!(world.texts("bob", "alice").is_empty());
    let home = &world.homes["bob"];
    let rooms = home.engine.conversations(&home.store, world.now).unwrap();
    assert_eq!((rooms.len(), rooms[0].members.len()), (1, 2));
    assert_eq!(rooms[0].last.as_ref().unwrap().text, "to both of you");
}

#[test]
fn every_relay_tells_the_same_wrap_once() {
    let mut world = World::new(86);
    world.add("alice", key(1), &["a"], &[]);
    world.add("bob", key(2), &["b", "c"], &[]);
    world.befriend("alice", "bob");
    world.send("alice", "bob", "on two relays");
    world.sync("bob");
    assert_eq!(world.homes["bob"].engine.sync_report().new, 1);
    let home = &world.homes["bob"];
    let events = home.engine.events_after(&home.store, 0, 10, world.now);
    assert_eq!(events.unwrap().len(), 1);
}
