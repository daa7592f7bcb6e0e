//! What the network must not see, asserted on every effect of a busy day.

use std::collections::{BTreeMap, BTreeSet};

use client_core::engine::io::{Effect, ReconcileStep, Role, SocketKey};
use wire::{Event, EventId, PublicKey, kinds};

use crate::network::{Mood, World, key};

/// A day with texts both ways, relays that want AUTH, a deletion, a vanishing, a restart.
fn busy_day(seed: u64) -> World {
    let mut world = World::with_two(seed);
    world.relay("a").mood = Mood::WantsAuth;
    world.relay("b").mood = Mood::WantsAuth;
    let id = world.send("alice", "bob", "hello");
    world.sync("bob");
    world.send("bob", "alice", "hi");
    world.sync("alice");
    world.send_expiring("bob", "alice", "soon gone", 30);
    world.delete("alice", id, true);
    world.sync("bob");
    world.now += 100;
    world.tick("bob");
    world.sync("alice");
    world.restart("alice");
    world.sync("alice");
    world.wish("alice", |engine, store, now, rng| {
        engine.watch(store, now, rng).unwrap().effects
    });
    world
}

#[derive(Default)]
struct Carried {
    account_auth: bool,
    other_auth: BTreeSet<PublicKey>,
    queries: usize,
    wraps: usize,
    one_time_deletions: usize,
}

fn carried(world: &World) -> BTreeMap<(&'static str, SocketKey), Carried> {
    let mut sockets: BTreeMap<_, Carried> = BTreeMap::new();
    for (who, effect) in &world.log {
        let own = world.homes[who].engine.public_key();
        match effect {
            Effect::Publish { socket, event, .. } => {
                let event = Event::decode(event.clone()).unwrap();
                let carried = sockets.entry((*who, socket.clone())).or_default();
                carried.wraps += usize::from(kinds::is_wrap(event.kind()));
                let one_time = event.kind() == kinds::DELETION && event.pubkey() != own;
                carried.one_time_deletions += usize::from(one_time);
            }
            Effect::Query { socket, .. } => {
                sockets.entry((*who, socket.clone())).or_default().queries += 1;
            }
            Effect::Authenticate { socket, event, .. } => {
                let event = Event::decode(event.clone()).unwrap();
                let carried = sockets.entry((*who, socket.clone())).or_default();
                if event.pubkey() == own {
                    carried.account_auth = true;
                } else {
                    carried.other_auth.insert(event.pubkey());
                }
            }
            _ => {}
        }
    }
    sockets
}

#[test]
fn no_socket_carries_both_the_account_and_a_wrap() {
    let world = busy_day(60);
    let sockets = carried(&world);
    let mut wraps = 0;
    let mut strangers = BTreeSet::new();
    for ((who, socket), carried) in &sockets {
        wraps += carried.wraps;
        if carried.account_auth || carried.queries > 0 {
            assert_eq!(carried.wraps, 0, "{who} {socket:?}");
            assert_eq!(carried.one_time_deletions, 0, "{who} {socket:?}");
        }
        if socket.role != Role::Inbox {
            assert!(!carried.account_auth, "{who} {socket:?}");
        }
        for key in &carried.other_auth {
            assert!(strangers.insert(*key), "a fresh key for every socket");
        }
    }
    assert!(wraps > 8 && strangers.len() > 2, "the day was busy");
}

#[test]
fn no_two_wraps_share_a_public_key() {
    let world = busy_day(61);
    let mut seen: BTreeMap<PublicKey, EventId> = BTreeMap::new();
    for (_, _, event) in world.published() {
        if kinds::is_wrap(event.kind()) {
            let other = seen.insert(event.pubkey(), event.id());
            assert!(other.is_none_or(|id| id == event.id()));
        }
    }
}

#[test]
fn inbox_filters_are_exact_and_never_ask_since() {
    let world = busy_day(62);
    let mut compared = 0;
    for (who, effect) in &world.log {
        let (socket, filter, is_query) = match effect {
            Effect::Query { socket, filter, .. } => (socket, filter, true),
            Effect::Reconcile {
                socket,
                step: ReconcileStep::Open { filter, .. },
                ..
            } => {
                compared += 1;
                (socket, filter, false)
            }
            _ => continue,
        };
        let own = world.homes[who].engine.public_key();
        assert_eq!(filter.since, None);
        if !is_query {
            assert_eq!(socket.role, Role::Inbox);
            assert_eq!((filter.until, filter.limit), (None, None));
        }
        if let Some(ids) = &filter.ids {
            // What a comparison has named: in the inbox, and nothing besides.
            assert!(is_query && filter.tags.get('p').is_some());
            assert_eq!((filter.until, filter.limit), (None, Some(ids.len())));
        }
        match socket.role {
            Role::Inbox if filter.tags.get('p').is_some() => {
                let value = filter.to_value();
                assert_eq!(value["kinds"], serde_json::json!([1059, 21059]));
                assert_eq!(value["#p"], serde_json::json!([own.to_hex()]));
                assert_eq!(filter.authors, None);
            }
            Role::Inbox => assert_eq!(filter.authors, Some([own].into_iter().collect())),
            Role::Lookup => {
                assert_eq!(filter.authors, Some([socket.key].into_iter().collect()));
                assert_ne!(socket.key, own);
            }
            role => panic!("{role:?} asks nothing"),
        }
    }
    assert!(compared > 2, "the day was busy");
}

#[test]
fn one_look_up_names_one_author_on_a_socket_of_its_own() {
    let mut world = World::with_two(63);
    world.add("carol", key(3), &["c"], &[]);
    world.befriend("alice", "carol");
    world.send("alice", "bob", "one");
    world.send("alice", "carol", "two");
    let mut keys: BTreeMap<SocketKey, BTreeSet<PublicKey>> = BTreeMap::new();
    for (_, effect) in &world.log {
        if let Effect::Query { socket, filter, .. } = effect
            && socket.role == Role::Lookup
        {
            let authors = filter.authors.iter().flatten().copied();
            keys.entry(socket.clone()).or_default().extend(authors);
        }
    }
    assert!(keys.len() >= 2);
    assert!(keys.values().all(|authors| authors.len() == 1));
}

#[test]
fn a_self_copy_may_fall_back_to_the_inbox_socket_and_nothing_else_may() {
    let mut world = World::with_two(64);
    let alice = world.key_of("alice");
    world.relay("a").mood = Mood::Restricted(alice);
    let id = world.send("alice", "bob", "keep a copy");
    assert_eq!(world.status("alice", id), "stored");
    let of_alice = |event: &Event| event.tags().people().any(|p| p == alice);
    let copies = world.wraps("a");
    assert!(copies.iter().any(of_alice), "the copy is kept");
    for (_, socket, event) in world.published() {
        if kinds::is_wrap(event.kind()) && socket.role == Role::Inbox {
            assert!(of_alice(&event));
        }
    }
}

#[test]
fn a_stranger_gets_no_receipt_and_nothing_is_fetched_for_them() {
    let mut world = World::with_two(65);
    world.add("carol", key(3), &["c"], &[]);
    world.befriend("carol", "bob");
    let id = world.send("carol", "bob", "do you know me?");
    world.log.clear();
    world.sync("bob");
    let carol = world.key_of("carol");
    let views = world.messages("bob", carol);
    assert!(views[0].request);
    for (_, effect) in &world.log {
        match effect {
            Effect::Publish { socket, .. } | Effect::Query { socket, .. } => {
                assert_ne!(socket.key, carol);
            }
            _ => {}
        }
    }
    // Accepted, and only then answered.
    world.befriend("bob", "carol");
    world.sync("bob");
    world.sync("carol");
    assert_eq!(world.status("carol", id), "delivered");
    assert!(!world.messages("bob", carol)[0].request);
}
