//! Lists of relays: our own and other people's.

use client_core::engine::io::{Effect, Role};
use client_core::engine::{Progress, WaitLevel};
use client_core::{ErrorWord, Origin};
use wire::{Event, EventDraft, RelayUrl, Tag, Tags, kinds};

use crate::network::{Mood, World, key, relay};

fn list(owner: u8, created_at: u64, relays: &[&str]) -> Event {
    let mut rng = rand::SeedableRng::seed_from_u64(7);
    let tags: Tags = relays.iter().map(|url| Tag::new(["relay", url])).collect();
    let draft = EventDraft {
        pubkey: key(owner).public_key(),
        created_at,
        kind: kinds::INBOX_RELAYS,
        tags,
        content: String::new(),
    };
    let rng: &mut rand::rngs::StdRng = &mut rng;
    key(owner).sign(draft, rng)
}

fn relays_of(world: &World, who: &str) -> Vec<RelayUrl> {
    let home = &world.homes[who];
    home.engine.servers(&home.store).unwrap().0
}

#[test]
fn own_lists_are_published_to_own_relays_over_inbox_sockets() {
    let mut world = World::new(50);
    world.add("alice", key(1), &["a", "b"], &["files-a"]);
    let lists: Vec<_> = world.published();
    assert_eq!(lists.len(), 4, "two lists for two relays");
    for (_, socket, event) in &lists {
        assert_eq!(socket.role, Role::Inbox);
        assert_eq!(event.pubkey(), world.key_of("alice"));
    }
    let home = &world.homes["alice"];
    let state = home.engine.lists_state(&home.store).unwrap();
    assert!(matches!(state, Progress::Reached));
}

#[test]
fn a_restored_account_reads_and_merges_before_it_publishes() {
    let mut world = World::new(51);
    world.add("old", key(1), &["a", "b"], &[]);
    world.log.clear();
    world.add("new", key(1), &["a"], &[]);
    assert_eq!(relays_of(&world, "new"), [relay("a"), relay("b")]);
    let is_list =
        |(who, _, event): &(&str, _, Event)| *who == "new" && event.kind() == kinds::INBOX_RELAYS;
    assert!(
        !world.published().iter().any(is_list),
        "what is there is what was wanted"
    );
}

#[test]
fn nothing_is_published_before_something_was_read() {
    let mut world = World::new(52);
    world.relay("a").mood = Mood::Down;
    world.add("alice", key(1), &["a"], &[]);
    assert!(world.published().is_empty());
    let home = &world.homes["alice"];
    match home.engine.lists_state(&home.store).unwrap() {
        Progress::Failed(error) => assert_eq!(error.word, ErrorWord::Unreachable),
        other => panic!("{other:?}"),
    }
    world.relay("a").mood = Mood::Kind;
    world.restart("alice");
    world.run();
    let home = &world.homes["alice"];
    let state = home.engine.lists_state(&home.store).unwrap();
    assert!(matches!(state, Progress::Reached));
}

#[test]
fn two_devices_changes_are_merged() {
    let mut world = World::new(53);
    world.add("phone", key(1), &["a", "b"], &[]);
    world.add("laptop", key(1), &["a", "b"], &[]);
    let set = |world: &mut World, who: &'static str, relays: &[&str]| {
        let relays: Vec<RelayUrl> = relays.iter().map(|name| relay(name)).collect();
        for name in &relays {
            assert!(world.relays.contains_key(name));
        }
        world.now += 10;
        world.wish(who, |engine, store, now, rng| {
            engine
                .set_servers(store, relays, Vec::<Origin>::new(), now, rng)
                .unwrap()
                .effects
        });
    };
    world.relay("c");
    set(&mut world, "phone", &["a", "b", "c"]);
    // The laptop does not know of c and removes b.
    set(&mut world, "laptop", &["a"]);
    assert_eq!(relays_of(&world, "laptop"), [relay("a"), relay("c")]);
    world.sync("phone");
    assert_eq!(relays_of(&world, "phone"), [relay("a"), relay("c")]);
}

#[test]
fn a_relay_that_lost_the_list_gets_it_again_at_sync() {
    let mut world = World::new(54);
    world.add("alice", key(1), &["a"], &[]);
    world.relay("a").events.clear();
    world.sync("alice");
    let kinds: Vec<u16> = world.relay("a").events.iter().map(Event::kind).collect();
    assert_eq!(kinds, [kinds::INBOX_RELAYS]);
}

#[test]
fn an_older_or_forged_list_replaces_nothing() {
    let mut world = World::with_two(55);
    world.send("alice", "bob", "first");
    let start = world.now;
    world.now += 40 * 3_600;
    world.relay("trap");
    let old = list(2, start - 1_000, &["wss://trap.example"]);
    let mut forged = list(9, start + 1_000, &["wss://trap.example"]);
    let text = String::from_utf8(forged.json().to_vec()).unwrap();
    let by_bob = text.replace(&key(9).public_key().to_hex(), &key(2).public_key().to_hex());
    forged = Event::decode(bytes::Bytes::from(by_bob)).unwrap();
    let events = &mut world.relay("b").events;
    events.retain(|event| event.kind() != kinds::INBOX_RELAYS);
    events.push(old);
    events.push(forged);
    world.tick("alice");
    world.send("alice", "bob", "second");
    assert!(world.wraps("trap").is_empty());
    assert_eq!(world.wraps("b").len(), 2);
}

#[test]
fn a_list_is_looked_up_once_and_refreshed_a_day_later() {
    let mut world = World::with_two(56);
    let lookups = |world: &World| {
        let is_lookup = |(who, e): &&(&str, Effect)| {
            *who == "alice"
                && matches!(e, Effect::Query { socket, .. } if socket.role == Role::Lookup)
        };
        world.log.iter().filter(is_lookup).count()
    };
    world.send("alice", "bob", "one");
    let first = lookups(&world);
    assert_eq!(first, 1, "the link's hint knows it");
    world.send("alice", "bob", "two");
    world.sync("alice");
    assert_eq!(lookups(&world), first, "never because of a send");
    world.now += 37 * 3_600;
    world.tick("alice");
    assert_eq!(lookups(&world), first + 1);
}

#[test]
fn a_newer_list_moves_what_is_not_sent_yet() {
    let mut world = World::with_two(57);
    world.send("alice", "bob", "first");
    world.relay("b").mood = Mood::Down;
    let id = world.send("alice", "bob", "on the move");
    world.relay("new-home");
    let moved = list(2, world.now + 1, &["wss://new-home.example"]);
    world.now += 40 * 3_600;
    world.relay("a").events.push(moved);
    world.tick("alice");
    assert_eq!(world.status("alice", id), "stored");
    assert_eq!(world.wraps("new-home").len(), 1);
}

#[test]
fn at_most_five_relays_of_a_list_and_none_at_home() {
    let mut world = World::new(58);
    world.add("alice", key(1), &["a"], &[]);
    let names = ["r1", "r2", "r3", "r4", "r5", "r6", "r7"];
    let mut urls = vec!["ws://127.0.0.1:9".to_owned(), "ws://192.168.0.1".to_owned()];
    for name in names {
        world.relay(name);
        urls.push(relay(name).to_string());
    }
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let bobs = list(2, world.now, &urls);
    world.relay("a").events.push(bobs);
    let compose = world.text_to(key(2).public_key(), "hi");
    let id = world.compose("alice", compose).unwrap();
    world.run();
    let home = &world.homes["alice"];
    let state = home
        .engine
        .send_state(&home.store, id, WaitLevel::Stored)
        .unwrap();
    assert!(matches!(state, Progress::Reached));
    let holds: Vec<usize> = names.iter().map(|name| world.wraps(name).len()).collect();
    assert_eq!(holds, [1, 1, 1, 1, 1, 0, 0]);
}

#[test]
fn circle_definitions_are_staged_read_and_never_sent_alone() {
    let mut world = World::new(59);
    world.add("alice", key(1), &["a"], &[]);
    let seed = crypto::Seed::generate(&mut world.rng, crypto::WordCount::Twelve);
    let circles = crypto::circles::Circles::new();
    let now = world.now;
    let event = circles
        .seal(&key(1), &seed.circles_key(), now, &mut world.rng)
        .unwrap();
    world.log.clear();
    let home = world.homes.get_mut("alice").unwrap();
    home.engine
        .stage_circles(&mut home.store, &event, now, &mut world.rng)
        .unwrap();
    world.run();
    assert!(world.log.is_empty(), "with the next traffic, not before");
    world.sync("alice");
    assert!(world.relay("a").events.contains(&event));
    world.add("restored", key(1), &["a"], &[]);
    let found = world
        .homes
        .get_mut("restored")
        .unwrap()
        .engine
        .take_circles();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].id(), event.id());
}

#[test]
fn who_never_had_a_link_can_answer() {
    let mut world = World::new(60);
    world.add("alice", key(1), &["a"], &[]);
    world.add("bob", key(2), &["b"], &[]);
    world.befriend("alice", "bob");
    world.send("alice", "bob", "found you by your link");
    world.sync("bob");
    let bare = wire::Link::new(world.key_of("alice"));
    world.befriend_link("bob", &bare, Some("alice"));
    let id = world.send("bob", "alice", "and I answer");
    assert_eq!(world.status("bob", id), "stored");
    world.sync("alice");
    assert_eq!(world.texts("alice", "bob").len(), 2);
}

#[test]
fn a_contact_without_a_list_is_looked_up_again_by_the_next_sync() {
    let mut world = World::new(64);
    world.add("alice", key(1), &["a"], &[]);
    let late = key(9).public_key();
    world.befriend_link("alice", &wire::Link::new(late), Some("late"));
    let compose = world.text_to(late, "have you come?");
    world.compose("alice", compose).unwrap();
    world.run();
    world.log.clear();
    world.sync("alice");
    let asks_for_them = |(_, effect): &(&str, Effect)| {
        matches!(effect, Effect::Query { socket, .. }
            if socket.role == Role::Lookup && socket.key == late)
    };
    assert!(world.log.iter().any(asks_for_them));
}
