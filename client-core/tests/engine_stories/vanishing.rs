//! Messages that vanish: hidden at the second, then gone everywhere.

use wire::kinds;

use crate::network::{Mood, START, World};

#[test]
fn a_message_vanishes_at_its_exact_second_at_both_ends_and_on_the_relays() {
    let mut world = World::with_two(30);
    let id = world.send_expiring("alice", "bob", "gone soon", 60);
    world.sync("bob");
    world.sync("alice");
    world.now = START + 59;
    assert_eq!(world.texts("bob", "alice"), ["gone soon"]);
    world.now = START + 60;
    for (who, other) in [("alice", "bob"), ("bob", "alice")] {
        assert!(world.texts(who, other).is_empty(), "{who} before any tick");
    }
    let of_bob = world.key_of("bob").to_hex();
    let at = |event: &wire::Event| event.tags().value("p") == Some(of_bob.as_str());
    world.tick("alice");
    world.tick("bob");
    let left = world.wraps("b");
    assert!(
        left.iter()
            .all(|wrap| !at(wrap) || wrap.expiration().is_none_or(|e| e > START + 86_400))
    );
    for (who, kind) in [("alice", "expire"), ("bob", "expire")] {
        let home = &world.homes[who];
        let events = home
            .engine
            .events_after(&home.store, 0, 100, world.now)
            .unwrap();
        let one = events.iter().find(|event| event.kind == kind).unwrap();
        assert_eq!(one.id.as_deref(), Some(id.to_hex().as_str()));
        let shown = events.iter().filter_map(|event| event.message.as_ref());
        assert!(shown.into_iter().all(|message| message.text != "gone soon"));
    }
}

#[test]
fn the_recipients_account_signs_nothing_for_a_message_that_vanished_in_time() {
    let mut world = World::with_two(31);
    world.send_expiring("alice", "bob", "gone soon", 60);
    world.sync("bob");
    world.log.clear();
    world.now += 61;
    world.tick("bob");
    world.sync("bob");
    let bob = world.key_of("bob");
    let by_bob = |(_, _, event): &(_, _, wire::Event)| {
        event.kind() == kinds::DELETION && event.pubkey() == bob
    };
    assert!(!world.published().iter().any(by_bob));
}

#[test]
fn a_relay_that_ignores_the_outer_expiry_is_asked_by_the_recipient() {
    let mut world = World::with_two(32);
    world.relay("b").ignores_expiry = true;
    world.send_expiring("alice", "bob", "gone soon", 60);
    world.sync("bob");
    // Alice never comes back to take it away.
    world.now += 3 * 3_600;
    world.sync("bob");
    assert!(world.texts("bob", "alice").is_empty());
    let bob = world.key_of("bob");
    let by_bob = |(_, _, event): &(_, _, wire::Event)| {
        event.kind() == kinds::DELETION && event.pubkey() == bob
    };
    assert!(world.published().iter().any(by_bob));
    let expired = |wrap: &wire::Event| wrap.expiration().is_some_and(|at| at <= world.now);
    assert!(
        !world.relays[&crate::network::relay("b")]
            .events
            .iter()
            .any(expired)
    );
}

#[test]
fn outer_expiries_are_later_coarse_and_drawn_apart() {
    let mut world = World::with_two(33);
    world.now += 100;
    let mut outer = Vec::new();
    for _ in 0..8 {
        world.send_expiring("alice", "bob", "tick", 3_600);
    }
    for name in ["a", "b"] {
        for wrap in world.wraps(name) {
            let at = wrap.expiration().unwrap();
            assert!(at > START + 3_700, "never earlier");
            assert!(at <= START + 3_700 + 2 * 450);
            assert_eq!(at % 450, 0, "on a grid of an eighth");
            outer.push(at);
        }
    }
    outer.dedup();
    assert!(outer.len() > 1, "each drawn for itself");
}

#[test]
fn what_vanishes_before_it_was_sent_is_never_sent() {
    let mut world = World::with_two(34);
    world.send("alice", "bob", "first");
    world.relay("a").mood = Mood::Down;
    world.relay("b").mood = Mood::Down;
    let id = world.send_expiring("alice", "bob", "too late", 60);
    world.now += 61;
    world.relay("a").mood = Mood::Kind;
    world.relay("b").mood = Mood::Kind;
    world.restart("alice");
    world.log.clear();
    world.run();
    world.wish("alice", |engine, store, now, rng| {
        engine.flush(store, now, rng).unwrap().effects
    });
    let wraps = world
        .published()
        .into_iter()
        .filter(|(_, _, event)| kinds::is_wrap(event.kind()));
    assert_eq!(wraps.count(), 0);
    assert_eq!(world.status("alice", id), "expired");
    let home = &world.homes["alice"];
    assert!(home.engine.outbox(&home.store).unwrap().is_empty());
}

#[test]
fn a_message_that_comes_after_its_second_is_never_shown() {
    let mut world = World::with_two(35);
    world.send_expiring("alice", "bob", "unseen", 60);
    world.now += 61;
    world.sync("bob");
    assert!(world.texts("bob", "alice").is_empty());
    let home = &world.homes["bob"];
    let events = home
        .engine
        .events_after(&home.store, 0, 100, world.now)
        .unwrap();
    assert!(events.is_empty(), "{events:?}");
}

#[test]
fn a_restarted_client_erases_before_it_shows_anything() {
    let mut world = World::with_two(37);
    world.send_expiring("alice", "bob", "gone soon", 60);
    world.sync("bob");
    world.now += 3_600;
    world.restart("bob");
    let home = world.homes.get_mut("bob").unwrap();
    home.effects.clear();
    // Even with the clock set back, it is not there any more.
    world.now -= 3_600;
    assert!(world.texts("bob", "alice").is_empty());
}

#[test]
fn the_circles_lifetime_holds_unless_the_message_says_otherwise() {
    let mut world = World::with_two(38);
    let mut store = client_core::store::Store::in_memory().unwrap();
    let config = client_core::engine::EngineConfig {
        circle: 3,
        circle_name: "brief".into(),
        expire_s: Some(100),
    };
    let account = crate::network::key(9);
    let rng = &mut world.rng;
    let mut engine = client_core::engine::Engine::new(account, config, &mut store, rng).unwrap();
    let bob = crate::network::key(2).public_key();
    for (expire_s, expected) in [(None, 100), (Some(7), 7)] {
        let mut compose = world.text_to(bob, "short");
        compose.expire_s = expire_s;
        let step = engine
            .send(&mut store, compose, START, &mut world.rng)
            .unwrap();
        let view = engine.message(&store, step.value, START).unwrap();
        assert_eq!(view.expires_at, Some(START + expected));
        assert_eq!(view.circle, "brief");
    }
}
