//! Comparing an inbox with what its relay served before, and what happens when that goes wrong.

use std::collections::BTreeSet;

use client_core::engine::io::{Effect, Input, QueryEnd, ReconcileStep, Role};
use client_core::view::RelayOutcome;
use wire::{Event, EventDraft, EventId, Rumor, Tag, Tags, kinds};

use crate::bad_input::wrap_at;
use crate::compared::Comparing;
use crate::network::{Mood, START, World, key, relay};

const DAY: u64 = 86_400;

/// A message of Alice's, and the wrap of it for Bob.
fn wrapped(world: &mut World, n: u64) -> Event {
    let bob = world.key_of("bob");
    let rumor = Rumor::new(EventDraft {
        pubkey: key(1).public_key(),
        created_at: START + n,
        kind: kinds::TEXT,
        tags: Tags::from_iter([Tag::new(["p".to_owned(), bob.to_hex()])]),
        content: n.to_string(),
    });
    wrap_at(&mut world.rng, &key(1), &rumor, bob, START - 100_000 + n)
}

fn deliver(world: &mut World, numbers: std::ops::Range<u64>, relays: &[&str]) -> Vec<EventId> {
    let mut ids = Vec::new();
    for n in numbers {
        let wrap = wrapped(world, n);
        for name in relays {
            world.relay(name).store(&wrap);
        }
        ids.push(wrap.id());
    }
    ids
}

/// Bob has read so many messages of Alice's on `b`.
fn read_world(seed: u64, count: u64) -> World {
    let mut world = World::with_two(seed);
    deliver(&mut world, 0..count, &["b"]);
    sync(&mut world);
    world
}

/// What one sync of Bob's did: events handed out by `b`, and its report.
fn sync(world: &mut World) -> (usize, RelayOutcome) {
    world.relay("b").handed_out = 0;
    world.log.clear();
    world.sync("bob");
    let report = world.homes["bob"].engine.sync_report();
    let outcome = report.relays.into_iter().find(|r| r.url.contains("//b."));
    (world.relay("b").handed_out, outcome.unwrap())
}

fn opened(world: &World) -> usize {
    let is_open = |effect: &Effect| {
        matches!(
            effect,
            Effect::Reconcile {
                step: ReconcileStep::Open { .. },
                ..
            }
        )
    };
    world.log.iter().filter(|(_, e)| is_open(e)).count()
}

fn described(world: &World) -> usize {
    let is_question = |effect: &Effect| matches!(effect, Effect::Describe { .. });
    world.log.iter().filter(|(_, e)| is_question(e)).count()
}

/// Ids that were asked for by id at a relay.
fn asked_by_id(world: &World, name: &str) -> BTreeSet<EventId> {
    let mut asked = BTreeSet::new();
    for (_, effect) in &world.log {
        if let Effect::Query { socket, filter, .. } = effect
            && socket.relay == relay(name)
            && let Some(ids) = &filter.ids
        {
            asked.extend(ids.iter().copied());
        }
    }
    asked
}

fn caught_up(world: &World) -> bool {
    world.homes["bob"].engine.caught_up(&relay("b"))
}

#[test]
fn what_is_known_is_not_fetched_again_and_what_is_new_is() {
    let mut world = read_world(100, 700);
    assert_eq!(world.texts("bob", "alice").len(), 700);
    let (handed_out, outcome) = sync(&mut world);
    assert_eq!(outcome.detail, "caught up");
    // His own lists, at most.
    assert!(handed_out <= 2, "{handed_out} events for nothing new");
    assert_eq!((opened(&world), described(&world)), (1, 0));

    let new = deliver(&mut world, 700..703, &["b"]);
    world.restart("bob");
    let (handed_out, outcome) = sync(&mut world);
    assert!(outcome.ok && caught_up(&world));
    assert_eq!(world.texts("bob", "alice").len(), 703);
    assert!(handed_out <= 5, "{handed_out}");
    assert_eq!(asked_by_id(&world, "b"), new.into_iter().collect());
    let report = world.homes["bob"].engine.sync_report();
    assert_eq!((report.received, report.new), (3, 3));
}

#[test]
fn a_small_inbox_is_compared_by_a_new_device_and_a_large_one_read() {
    let mut world = read_world(101, 450);
    assert_eq!((described(&world), opened(&world)), (1, 1));
    // Three batches of 200 at most.
    assert_eq!(asked_by_id(&world, "b").len(), 450);
    assert_eq!(world.texts("bob", "alice").len(), 450);
    deliver(&mut world, 450..2_100, &["b"]);
    world.add("tablet", key(2), &["b"], &[]);
    world.log.clear();
    world.sync("tablet");
    assert_eq!(opened(&world), 1);
    assert!(asked_by_id(&world, "b").is_empty());
    let report = world.homes["tablet"].engine.sync_report();
    assert_eq!(report.relays[0].detail, "caught up");
    assert_eq!(report.received, 2_100);
    world.sync("tablet");
    let report = world.homes["tablet"].engine.sync_report();
    assert_eq!(
        report.received, 0,
        "what is known of strangers is known, too"
    );
}

#[test]
fn a_relay_that_does_not_list_it_is_paged_and_asked_about_once_a_day() {
    for nips in [Some(BTreeSet::from([1, 11, 42])), None] {
        let mut world = World::with_two(102);
        world.relay("b").nips = nips;
        deliver(&mut world, 0..700, &["b"]);
        sync(&mut world);
        assert_eq!((described(&world), opened(&world)), (1, 0));
        for _ in 0..3 {
            let (handed_out, outcome) = sync(&mut world);
            assert_eq!((described(&world), opened(&world)), (0, 0));
            assert!(handed_out >= 700, "the whole inbox");
            assert_eq!(outcome.detail, "caught up");
        }
        // It has learnt: noticed within a day and a half, and all is compared from then on.
        world.relay("b").nips = Some(BTreeSet::from([77]));
        world.now += DAY / 2 - 10;
        sync(&mut world);
        assert_eq!(described(&world), 0);
        world.now += DAY + 20;
        sync(&mut world);
        assert_eq!((described(&world), opened(&world)), (1, 1));
        let (handed_out, _) = sync(&mut world);
        assert!(handed_out <= 2, "{handed_out}");
        assert_eq!(world.texts("bob", "alice").len(), 700);
    }
}

#[test]
fn a_relay_that_fails_at_comparing_is_read_in_full_and_left_alone_for_a_day() {
    let endless = [&[0x61, 0, 0, 1][..], &[9; 16]].concat();
    let failures = [
        (
            Comparing::Refusing("blocked: more than 50000 events match"),
            "blocked: more",
        ),
        (
            Comparing::Refusing("ERROR: bad msg: unknown cmd"),
            "unknown cmd",
        ),
        (Comparing::Refusing("restricted: not for you"), "restricted"),
        (Comparing::Silently, "did not answer the comparison in time"),
        (Comparing::With(b"nonsense".to_vec()), "not negentropy"),
        (Comparing::With(vec![0x60]), "not negentropy"),
        (Comparing::With(endless), "does not come to an end"),
    ];
    for (comparing, detail) in failures {
        let mut world = read_world(103, 60);
        deliver(&mut world, 60..70, &["b"]);
        world.relay("b").comparing = comparing.clone();
        let (handed_out, outcome) = sync(&mut world);
        assert!(outcome.ok && caught_up(&world), "{outcome:?}");
        assert!(outcome.detail.starts_with("caught up; read in full: "));
        assert!(outcome.detail.contains(detail), "{}", outcome.detail);
        assert!(handed_out >= 70);
        assert_eq!(world.texts("bob", "alice").len(), 70, "{comparing:?}");
        // Not again today; and what was paged in the meantime is known when it is.
        deliver(&mut world, 70..80, &["b"]);
        let (_, outcome) = sync(&mut world);
        assert_eq!((outcome.detail.as_str(), opened(&world)), ("caught up", 0));
        world.relay("b").comparing = Comparing::Honestly;
        world.now += 2 * DAY;
        let (handed_out, _) = sync(&mut world);
        assert_eq!((opened(&world), described(&world)), (1, 0));
        assert!(handed_out <= 2, "{handed_out}");
        assert_eq!(world.texts("bob", "alice").len(), 80);
    }
}

#[test]
fn a_refusal_for_now_and_a_broken_connection_count_for_once() {
    for comparing in [
        Comparing::Refusing("rate-limited: try again later"),
        Comparing::Refusing("error: could not read"),
        Comparing::Refusing("closed: you took too long to respond"),
        Comparing::Breaking,
    ] {
        let mut world = read_world(104, 10);
        world.relay("b").comparing = comparing;
        let (handed_out, outcome) = sync(&mut world);
        assert!(outcome.ok && handed_out >= 10, "{outcome:?}");
        world.relay("b").comparing = Comparing::Honestly;
        let (handed_out, _) = sync(&mut world);
        assert_eq!(opened(&world), 1);
        assert!(handed_out <= 2);
    }
    // One that hangs up each time is left alone from the second time on.
    let mut world = World::with_two(105);
    deliver(&mut world, 0..10, &["b"]);
    world.relay("b").comparing = Comparing::Breaking;
    let tries: Vec<usize> = (0..4)
        .map(|_| {
            sync(&mut world);
            opened(&world)
        })
        .collect();
    assert_eq!(tries, [1, 1, 0, 0]);
    assert_eq!(world.texts("bob", "alice").len(), 10);
}

#[test]
fn ids_that_are_named_and_never_handed_out_end_in_reading_everything() {
    let mut world = read_world(106, 30);
    deliver(&mut world, 30..35, &["b"]);
    let made_up = (0..450_u32)
        .map(|n| {
            let mut bytes = [7; 32];
            bytes[..4].copy_from_slice(&n.to_be_bytes());
            EventId::from_bytes(bytes)
        })
        .collect();
    world.relay("b").comparing = Comparing::Naming(made_up);
    let (_, outcome) = sync(&mut world);
    assert!(outcome.ok && caught_up(&world));
    assert!(
        outcome
            .detail
            .contains("names envelopes that it does not hand out"),
        "{}",
        outcome.detail
    );
    // Two looks, each ended by the first batch that brings nothing.
    assert_eq!(opened(&world), 2);
    let by_id = world.log.iter().filter(
        |(_, effect)| matches!(effect, Effect::Query { filter, .. } if filter.ids.is_some()),
    );
    assert!(by_id.count() <= 6);
    assert_eq!(world.texts("bob", "alice").len(), 35);
}

#[test]
fn a_relay_that_hands_out_little_at_a_time_is_read_to_the_end() {
    let mut world = World::with_two(116);
    world.relay("b").page = 30;
    deliver(&mut world, 0..450, &["b"]);
    let (_, outcome) = sync(&mut world);
    assert!(outcome.ok && caught_up(&world), "{outcome:?}");
    assert_eq!(world.texts("bob", "alice").len(), 450);
}

#[test]
fn what_goes_between_the_naming_and_the_fetching_is_looked_at_again() {
    let mut world = read_world(107, 5);
    let gone = deliver(&mut world, 5..8, &["b"])[1];
    // Compared, but not fetched yet, when the author takes one back.
    world.begin_sync("bob");
    world.log.clear();
    world
        .run_until(|effect| matches!(effect, Effect::Query { filter, .. } if filter.ids.is_some()));
    world.relay("b").events.retain(|event| event.id() != gone);
    world.run();
    let report = world.homes["bob"].engine.sync_report();
    assert_eq!(report.relays[0].detail, "caught up");
    assert_eq!(opened(&world), 2, "a second look found nothing lacking");
    assert_eq!(world.texts("bob", "alice").len(), 7);
}

#[test]
fn a_forged_event_under_a_named_id_does_not_pass_for_it() {
    let mut world = read_world(108, 5);
    let wrap = wrapped(&mut world, 5);
    let sig = wrap.sig().to_hex();
    let text = String::from_utf8(wrap.json().to_vec()).unwrap();
    let forged = text.replacen(&sig, &format!("{}{}", &sig[64..], &sig[..64]), 1);
    world
        .relay("b")
        .events
        .push(Event::decode(forged.into()).unwrap());
    let (_, outcome) = sync(&mut world);
    assert!(outcome.detail.contains("does not hand out"), "{outcome:?}");
    assert_eq!(world.texts("bob", "alice").len(), 5);
    // The true one is not shut out when it comes.
    world.relay("b").events.pop();
    world.relay("b").events.push(wrap);
    world.now += 2 * DAY;
    sync(&mut world);
    assert_eq!(world.texts("bob", "alice").len(), 6);
}

#[test]
fn a_relay_reads_off_a_comparison_what_it_served_and_nothing_else() {
    let mut world = World::new(109);
    world.add("alice", key(1), &["a"], &[]);
    world.add("bob", key(2), &["b", "c"], &[]);
    world.befriend("alice", "bob");
    world.befriend("bob", "alice");
    let both = deliver(&mut world, 0..3, &["b", "c"]);
    // `c` is asked after `b` has shown the same; and again when all is known.
    sync(&mut world);
    assert_eq!(asked_by_id(&world, "c"), both.iter().copied().collect());
    // Bob's self-copies went to both relays by sockets that say nothing of him.
    world.send("bob", "alice", "from bob");
    let copies: Vec<EventId> = world
        .wraps("c")
        .iter()
        .map(Event::id)
        .filter(|id| !both.contains(id))
        .collect();
    assert_eq!(copies.len(), 1);
    for name in ["b", "c"] {
        world.relay(name).compared.heard.clear();
    }
    sync(&mut world);
    for name in ["b", "c"] {
        assert!(
            asked_by_id(&world, name).contains(&copies[0]),
            "{name}: whoever published it would not have to fetch it"
        );
        // A short message carries whole ids: those that this relay served.
        let first = world.relay(name).compared.heard[0].clone();
        let says = |id: &EventId| first.windows(32).any(|part| part == id.as_bytes());
        assert!(both.iter().all(says) && !says(&copies[0]));
    }
}

#[test]
fn what_was_deleted_or_has_vanished_here_is_not_fetched_again() {
    let mut world = World::with_two(110);
    let deleted = world.send("alice", "bob", "deleted here");
    world.send_expiring("alice", "bob", "vanishes", 600);
    sync(&mut world);
    world.delete("bob", deleted, false);
    world.relay("b").ignores_expiry = true;
    let (handed_out, _) = sync(&mut world);
    assert!(handed_out <= 2, "{handed_out}");
    world.now += 2 * DAY;
    world.tick("bob");
    // The relay serves it past its end: seen once, asked to delete it once, and known from then.
    world.relay("b").mood = Mood::Refusing("blocked: nothing is deleted here");
    let mut counts = Vec::new();
    for _ in 0..4 {
        world.log.clear();
        world.sync("bob");
        counts.push((asked_by_id(&world, "b").len(), world.published().len()));
        world.now += 10;
    }
    assert_eq!(counts[0].0, 1);
    assert!(
        counts[1..].iter().all(|(fetched, _)| *fetched == 0),
        "{counts:?}"
    );
    assert!(world.texts("bob", "alice").is_empty());
}

#[test]
fn what_the_relay_no_longer_has_is_forgotten_and_costs_nothing_afterwards() {
    let mut world = read_world(111, 400);
    world
        .relay("b")
        .events
        .retain(|event| event.created_at() % 7 != 0);
    sync(&mut world);
    world.relay("b").compared.heard.clear();
    sync(&mut world);
    assert_eq!(
        world.relay("b").compared.heard.len(),
        1,
        "both have the same"
    );
    assert_eq!(world.texts("bob", "alice").len(), 400, "messages stay");
    // It comes back: fetched once more, shown once.
    let again = deliver(&mut world, 0..1, &["b"]);
    sync(&mut world);
    assert_eq!(asked_by_id(&world, "b"), again.into_iter().collect());
    assert_eq!(world.texts("bob", "alice").len(), 400);
}

#[test]
fn an_expired_wrap_leaves_both_sides_at_the_same_second() {
    let mut world = World::with_two(112);
    deliver(&mut world, 0..40, &["b"]);
    world.send_expiring("alice", "bob", "vanishes", 600);
    sync(&mut world);
    world.now += 2 * DAY;
    world.tick("bob");
    world.relay("b").compared.heard.clear();
    sync(&mut world);
    assert_eq!(world.relay("b").compared.heard.len(), 1);
    assert!(asked_by_id(&world, "b").is_empty());
}

#[test]
fn a_relay_that_is_down_is_said_so_whichever_way_it_would_be_read() {
    let mut world = World::with_two(113);
    deliver(&mut world, 0..5, &["b"]);
    world.relay("b").mood = Mood::Down;
    let (_, outcome) = sync(&mut world);
    assert!(!outcome.ok && !caught_up(&world));
    world.relay("b").mood = Mood::Kind;
    sync(&mut world);
    world.relay("b").mood = Mood::Down;
    let (_, outcome) = sync(&mut world);
    assert_eq!(outcome.detail, "no connection");
    assert!(!outcome.ok);
}

#[test]
fn a_watch_compares_behind_the_open_subscription() {
    let mut world = read_world(114, 40);
    deliver(&mut world, 40..43, &["b"]);
    world.log.clear();
    world.wish("bob", |engine, store, now, rng| {
        engine.watch(store, now, rng).unwrap().effects
    });
    let position = |found: &dyn Fn(&Effect) -> bool| {
        let found = world.log.iter().position(|(_, effect)| found(effect));
        found.unwrap()
    };
    let live = position(&|effect| matches!(effect, Effect::Query { live: true, .. }));
    let compared = position(&|effect| matches!(effect, Effect::Reconcile { .. }));
    assert!(live < compared, "nothing falls between");
    let Effect::Query { op, socket, .. } = world.log[live].1.clone() else {
        panic!("found above");
    };
    assert_eq!(socket.role, Role::Inbox);
    assert_eq!(world.texts("bob", "alice").len(), 43);
    // A live wrap is known to the next comparison.
    let wrap = wrapped(&mut world, 43);
    world.relay("b").store(&wrap);
    let events = vec![wrap.json().clone()];
    world.feed("bob", Input::Events { op, events });
    world.run();
    // The connection breaks, and comes back.
    let end = QueryEnd::Unreachable("gone".into());
    let garbage = 0;
    world.feed("bob", Input::QueryEnded { op, end, garbage });
    world.log.clear();
    world.now += 2;
    world.tick("bob");
    assert!(caught_up(&world));
    assert_eq!(opened(&world), 1);
    assert!(asked_by_id(&world, "b").is_empty());
    assert_eq!(world.texts("bob", "alice").len(), 44);
}

#[test]
fn a_subscription_that_opens_while_the_inbox_is_read_has_it_read_again() {
    let mut world = read_world(115, 5);
    world.log.clear();
    // A sync that has compared already when the watch begins.
    world.begin_sync("bob");
    world.run_until(|effect| matches!(effect, Effect::Reconcile { .. }));
    let late = deliver(&mut world, 5..6, &["b"]);
    // The subscription is open before the sync hears the relay's answer.
    let effects = std::mem::take(&mut world.homes.get_mut("bob").unwrap().effects);
    world.begin("bob", |engine, store, now, rng| {
        engine.watch(store, now, rng).unwrap().effects
    });
    world.begin("bob", |_, _, _, _| effects);
    world.run();
    assert_eq!(world.texts("bob", "alice").len(), 6, "{late:?}");
    assert!(opened(&world) >= 2);
}
