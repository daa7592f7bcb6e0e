//! From a send to an OK, through everything that can go wrong on the way.

use client_core::ErrorWord;
use client_core::engine::{Progress, WaitLevel};
use wire::{Event, kinds};

use crate::network::{Mood, World, key, relay};

fn failed(world: &World, who: &str, id: wire::EventId, wait: WaitLevel) -> (ErrorWord, u8) {
    let home = &world.homes[who];
    match home.engine.send_state(&home.store, id, wait).unwrap() {
        Progress::Failed(error) => (error.word, error.exit),
        other => panic!("expected a failure, got {other:?}"),
    }
}

fn reached(world: &World, who: &str, id: wire::EventId, wait: WaitLevel) -> bool {
    let home = &world.homes[who];
    let progress = home.engine.send_state(&home.store, id, wait).unwrap();
    matches!(progress, Progress::Reached)
}

#[test]
fn a_text_reaches_the_other_and_a_receipt_comes_back() {
    let mut world = World::with_two(1);
    let id = world.send("alice", "bob", "hello");
    assert_eq!(world.status("alice", id), "stored");
    assert!(reached(&world, "alice", id, WaitLevel::Stored));
    world.sync("bob");
    let with = world.key_of("alice");
    let messages = world.messages("bob", with);
    assert_eq!(messages.len(), 1);
    let message = &messages[0];
    assert_eq!(
        (message.text.as_str(), message.direction, message.request),
        ("hello", "in", false)
    );
    assert_eq!(message.id, id.to_hex());
    assert_eq!(message.from_alias.as_deref(), Some("alice"));
    world.sync("alice");
    assert_eq!(world.status("alice", id), "delivered");
    assert!(reached(&world, "alice", id, WaitLevel::Delivered));
    // Whoever watches hears of it.
    let home = &world.homes["alice"];
    let events = home.engine.events_after(&home.store, 0, 10, world.now);
    let events = events.unwrap();
    let last = events.last().unwrap();
    assert_eq!(
        (last.kind, last.status.as_deref()),
        ("receipt", Some("delivered"))
    );
    assert_eq!(last.id, Some(id.to_hex()));
}

#[test]
fn a_message_waits_while_every_relay_is_down_and_goes_with_the_next_command() {
    let mut world = World::with_two(2);
    world.send("alice", "bob", "first"); // so that the list is known
    world.relay("b").mood = Mood::Down;
    let id = world.send("alice", "bob", "later");
    assert_eq!(world.status("alice", id), "queued");
    assert_eq!(
        failed(&world, "alice", id, WaitLevel::Accepted),
        (ErrorWord::Unreachable, 3)
    );
    world.relay("b").mood = Mood::Kind;
    world.restart("alice");
    world.wish("alice", |engine, store, now, rng| {
        engine.flush(store, now, rng).unwrap().effects
    });
    assert_eq!(world.status("alice", id), "stored");
    world.sync("bob");
    assert_eq!(world.texts("bob", "alice"), ["first", "later"]);
}

#[test]
fn a_retry_sends_the_same_bytes() {
    let mut world = World::with_two(3);
    world.send("alice", "bob", "first");
    world.relay("b").mood = Mood::Silent;
    world.send("alice", "bob", "again and again");
    world.relay("b").mood = Mood::Kind;
    world.wish("alice", |engine, store, now, rng| {
        engine.flush(store, now, rng).unwrap().effects
    });
    let to_b: Vec<Event> = world
        .published()
        .into_iter()
        .filter(|(who, socket, event)| {
            *who == "alice" && socket.relay == relay("b") && kinds::is_wrap(event.kind())
        })
        .map(|(_, _, event)| event)
        .collect();
    assert_eq!(to_b.len(), 3, "first, then twice the second");
    assert_eq!(to_b[1].json(), to_b[2].json());
    world.sync("bob");
    assert_eq!(world.texts("bob", "alice").len(), 2, "shown once");
}

#[test]
fn back_off_is_kept_unless_the_user_asks() {
    let mut world = World::with_two(4);
    world.send("alice", "bob", "first");
    world.relay("b").mood = Mood::Down;
    world.send("alice", "bob", "later");
    let tries = |world: &World| {
        let is_try = |(_, socket, event): &(&str, _, Event)| {
            let socket: &client_core::engine::io::SocketKey = socket;
            socket.relay == relay("b") && kinds::is_wrap(event.kind())
        };
        world.published().into_iter().filter(is_try).count()
    };
    let before = tries(&world);
    world.tick("alice");
    assert_eq!(tries(&world), before, "not due yet");
    let home = &world.homes["alice"];
    let wake = home.engine.next_wake(&home.store).unwrap().unwrap();
    assert!(wake > world.now && wake < world.now + 10);
    world.now = wake;
    world.tick("alice");
    assert_eq!(tries(&world), before + 1);
}

#[test]
fn nobody_is_written_to_without_an_inbox_list() {
    let mut world = World::with_two(5);
    let stranger = key(9).public_key();
    let compose = world.text_to(stranger, "are you there?");
    let id = world.compose("alice", compose).unwrap();
    world.run();
    assert_eq!(
        failed(&world, "alice", id, WaitLevel::Accepted),
        (ErrorWord::NoInboxRelays, 10)
    );
    let carol = |event: &Event| event.tags().people().any(|p| p == stranger);
    assert!(world.published().iter().all(|(_, _, event)| !carol(event)));
    let own_wraps = world.wraps("a");
    assert!(own_wraps.is_empty(), "no self-copy of what nobody gets");
    let home = &world.homes["alice"];
    assert!(home.engine.outbox(&home.store).unwrap().is_empty());
}

#[test]
fn a_message_waits_while_nobody_can_be_asked_for_the_list() {
    let mut world = World::with_two(6);
    world.relay("a").mood = Mood::Down;
    world.relay("b").mood = Mood::Down;
    let id = world.send("alice", "bob", "patience");
    assert_eq!(
        failed(&world, "alice", id, WaitLevel::Accepted),
        (ErrorWord::Unreachable, 3)
    );
    let home = &world.homes["alice"];
    let state = home.engine.send_state(&home.store, id, WaitLevel::Accepted);
    let Progress::Failed(error) = state.unwrap() else {
        panic!("it was sent");
    };
    // Why nobody could be asked, and not only that.
    assert!(error.detail.contains("no connection"), "{}", error.detail);
    world.relay("a").mood = Mood::Kind;
    world.relay("b").mood = Mood::Kind;
    world.restart("alice");
    world.run();
    assert_eq!(world.status("alice", id), "stored");
}

#[test]
fn a_refusal_is_final_and_says_how_to_go_on() {
    let mut world = World::with_two(7);
    let member = key(15).public_key();
    world.relay("b").mood = Mood::Restricted(member);
    let id = world.send("alice", "bob", "let me in");
    assert_eq!(
        failed(&world, "alice", id, WaitLevel::Accepted),
        (ErrorWord::Refused, 10)
    );
    let home = &world.homes["alice"];
    let Progress::Failed(error) = home
        .engine
        .send_state(&home.store, id, WaitLevel::Accepted)
        .unwrap()
    else {
        panic!("it is refused");
    };
    assert!(error.hint.unwrap().contains("--as-myself"));
    assert!(home.engine.outbox(&home.store).unwrap().is_empty());
}

#[test]
fn as_myself_lets_the_account_prove_itself_on_a_socket_of_its_own() {
    let mut world = World::with_two(8);
    let alice = world.key_of("alice");
    world.relay("b").mood = Mood::Restricted(alice);
    let mut compose = world.text_to(world.key_of("bob"), "it is me");
    compose.as_myself = true;
    let id = world.compose("alice", compose).unwrap();
    world.run();
    assert_eq!(world.status("alice", id), "stored");
    world.sync("bob");
    assert_eq!(world.texts("bob", "alice"), ["it is me"]);
}

#[test]
fn a_relay_that_takes_less_ends_the_send_with_the_way_round() {
    for text in [
        "invalid: the event is larger than this relay takes",
        "blocked: event too big",
        "error: message too large",
        "content too long",
    ] {
        let mut world = World::with_two(10);
        world.relay("b").mood = Mood::Refusing(text);
        let id = world.send("alice", "bob", "a long text");
        let home = &world.homes["alice"];
        let progress = home
            .engine
            .send_state(&home.store, id, WaitLevel::Accepted)
            .unwrap();
        let Progress::Failed(error) = progress else {
            panic!("{text}: it is refused");
        };
        assert_eq!(
            (error.word, error.exit),
            (ErrorWord::TooLarge, 10),
            "{text}"
        );
        assert!(error.hint.unwrap().contains("--as-file"), "{text}");
        assert!(
            home.engine.outbox(&home.store).unwrap().is_empty(),
            "{text}"
        );
    }
}

#[test]
fn transient_refusals_are_tried_again() {
    let mut world = World::with_two(9);
    world.relay("b").mood = Mood::Refusing("rate-limited: slow down");
    let id = world.send("alice", "bob", "soon");
    assert_eq!(world.status("alice", id), "queued");
    assert_eq!(
        failed(&world, "alice", id, WaitLevel::Accepted),
        (ErrorWord::RateLimited, 8)
    );
    world.relay("b").mood = Mood::Kind;
    world.now += 120;
    world.tick("alice");
    assert_eq!(world.status("alice", id), "stored");
}

#[test]
fn stored_means_two_relays_or_all_that_can_be_reached() {
    let mut world = World::new(10);
    world.add("alice", key(1), &["a"], &[]);
    world.add("bob", key(2), &["b", "c", "d"], &[]);
    world.befriend("alice", "bob");
    world.relay("c").mood = Mood::Refusing("blocked: no");
    world.relay("d").mood = Mood::Refusing("blocked: no");
    let id = world.send("alice", "bob", "one of three");
    assert_eq!(world.status("alice", id), "accepted");
    assert!(reached(&world, "alice", id, WaitLevel::Accepted));
    assert_eq!(
        failed(&world, "alice", id, WaitLevel::Stored),
        (ErrorWord::PartlyDone, 5)
    );
    world.relay("c").mood = Mood::Down;
    world.relay("d").mood = Mood::Down;
    let id = world.send("alice", "bob", "all that can be reached");
    assert_eq!(world.status("alice", id), "stored");
    world.relay("c").mood = Mood::Kind;
    world.relay("d").mood = Mood::Refusing("blocked: no");
    let id = world.send("alice", "bob", "two");
    assert_eq!(world.status("alice", id), "stored");
}

#[test]
fn an_old_wrap_that_nobody_took_is_wrapped_again_around_the_same_seal() {
    let mut world = World::with_two(11);
    world.send("alice", "bob", "first");
    world.relay("b").mood = Mood::Down;
    let id = world.send("alice", "bob", "three days late");
    world.now += 3 * 86_400;
    world.relay("b").mood = Mood::Kind;
    world.wish("alice", |engine, store, now, rng| {
        engine.flush(store, now, rng).unwrap().effects
    });
    assert_eq!(world.status("alice", id), "stored");
    let sent: Vec<Event> = world
        .published()
        .into_iter()
        .filter(|(_, socket, event)| socket.relay == relay("b") && kinds::is_wrap(event.kind()))
        .map(|(_, _, event)| event)
        .collect();
    let (old, new) = (&sent[1], sent.last().unwrap());
    assert_ne!(old.id(), new.id());
    assert_ne!(
        old.pubkey(),
        new.pubkey(),
        "a key of its own for each attempt"
    );
    let seal = |wrap: &Event| {
        let bob = key(2);
        let conversation = bob.conversation_with(&wrap.pubkey()).unwrap();
        conversation.decrypt(wrap.content()).unwrap()
    };
    assert_eq!(*seal(old), *seal(new));
    world.sync("bob");
    assert_eq!(world.texts("bob", "alice"), ["first", "three days late"]);
}

#[test]
fn two_processes_never_publish_the_same_row_and_a_dead_ones_lease_runs_out() {
    let mut world = World::with_two(12);
    world.send("alice", "bob", "first");
    let compose = world.text_to(world.key_of("bob"), "leased");
    world.compose("alice", compose).unwrap();
    // The first process dies with its effects in hand; the second one starts at once.
    world.restart("alice");
    let is_wrap = |effect: &client_core::engine::io::Effect| {
        matches!(effect, client_core::engine::io::Effect::Publish { event, .. }
            if kinds::is_wrap(Event::decode(event.clone()).unwrap().kind()))
    };
    assert!(!world.homes["alice"].effects.iter().any(is_wrap));
    world.now += 61;
    world.tick("alice");
    world.sync("bob");
    assert_eq!(world.texts("bob", "alice"), ["first", "leased"]);
}

#[test]
fn an_answer_that_comes_after_the_lease_ran_out_says_nothing_about_the_next_try() {
    let mut world = World::with_two(15);
    world.send("alice", "bob", "first");
    let compose = world.text_to(world.key_of("bob"), "slow");
    let id = world.compose("alice", compose).unwrap();
    // The first process is suspended with its operations open; a second one takes over.
    let suspended = world.suspend("alice");
    world.now += 61;
    world.feed("alice", client_core::engine::io::Input::Tick);
    let effects = world.homes["alice"].effects.clone();
    assert!(
        !effects.is_empty(),
        "the second process tries the same rows"
    );
    // The first one wakes, and its connections are dead.
    let (mut engine, asked) = suspended;
    let now = world.now;
    let home = world.homes.get_mut("alice").unwrap();
    for effect in asked {
        if let client_core::engine::io::Effect::Publish { op, .. } = effect {
            let outcome = client_core::engine::io::PublishOutcome::Unreachable("suspended".into());
            let input = client_core::engine::io::Input::Published { op, outcome };
            engine
                .handle(&mut home.store, input, now, &mut world.rng)
                .unwrap();
        }
    }
    // The second one's try is on its way: deleting must count with its having arrived.
    world.delete("alice", id, true);
    let report = world.homes["alice"]
        .engine
        .deleted(&world.homes["alice"].store, id)
        .unwrap();
    assert!(
        report
            .relays
            .iter()
            .all(|relay| relay.detail == "accepted, not verifiable"),
        "{report:?}"
    );
}

#[test]
fn what_was_never_sent_can_be_taken_back() {
    let mut world = World::with_two(16);
    world.send("alice", "bob", "first");
    let compose = world.text_to(world.key_of("bob"), "kept in");
    let id = world.compose("alice", compose).unwrap();
    let now = world.now;
    let home = world.homes.get_mut("alice").unwrap();
    let effects = std::mem::take(&mut home.effects);
    home.engine
        .put_back(&mut home.store, &effects, now, &mut world.rng)
        .unwrap();
    let outbox = home.engine.outbox(&home.store).unwrap();
    let item = outbox
        .iter()
        .find(|item| item.message == Some(id.to_hex()))
        .unwrap();
    assert_eq!(item.attempts, 0);
    let _ = home
        .engine
        .cancel(&mut home.store, &item.id, now, &mut world.rng)
        .unwrap();
    world.now += 100;
    world.tick("alice");
    world.sync("bob");
    assert_eq!(world.texts("bob", "alice"), ["first"]);
}

#[test]
fn a_process_that_ends_in_order_leaves_no_lease() {
    let mut world = World::with_two(13);
    world.send("alice", "bob", "first");
    let compose = world.text_to(world.key_of("bob"), "handed over");
    let id = world.compose("alice", compose).unwrap();
    let now = world.now;
    let home = world.homes.get_mut("alice").unwrap();
    home.engine
        .release(&mut home.store, now, &mut world.rng)
        .unwrap();
    world.restart("alice");
    world.run();
    assert_eq!(world.status("alice", id), "stored");
}

#[test]
fn the_same_idempotency_key_never_sends_twice() {
    let mut world = World::with_two(14);
    let mut compose = world.text_to(world.key_of("bob"), "once");
    compose.idempotency_key = Some("job 7".into());
    let first = world.compose("alice", compose.clone()).unwrap();
    world.run();
    let second = world.compose("alice", compose).unwrap();
    world.run();
    assert_eq!(first, second);
    world.sync("bob");
    assert_eq!(world.texts("bob", "alice"), ["once"]);
}

#[test]
fn texts_over_the_limit_are_refused_whole() {
    let mut world = World::with_two(15);
    let bob = world.key_of("bob");
    let fits = "a".repeat(32_768);
    let compose = world.text_to(bob, &fits);
    world.compose("alice", compose).unwrap();
    world.run();
    let too_long = "a".repeat(32_769);
    let escapes = "\u{1}".repeat(8_000); // six bytes each as JSON
    for text in [too_long, escapes] {
        let compose = world.text_to(bob, &text);
        let error = world.compose("alice", compose).unwrap_err();
        assert_eq!((error.word, error.exit), (ErrorWord::TooLarge, 2));
        assert!(error.hint.unwrap().contains("--as-file"));
    }
    world.sync("bob");
    assert_eq!(world.texts("bob", "alice"), [fits]);
}

#[test]
fn an_unsent_message_can_be_cancelled_and_leaves_nothing() {
    let mut world = World::with_two(16);
    world.send("alice", "bob", "first");
    world.relay("b").mood = Mood::Down;
    let id = world.send("alice", "bob", "never mind");
    let item = {
        let home = &world.homes["alice"];
        let outbox = home.engine.outbox(&home.store).unwrap();
        let bob = world.key_of("bob").to_hex();
        let item = outbox.iter().find(|i| i.recipient.as_ref() == Some(&bob));
        item.unwrap().id.clone()
    };
    world.wish("alice", |engine, store, now, rng| {
        engine.cancel(store, &item, now, rng).unwrap().effects
    });
    world.relay("b").mood = Mood::Kind;
    world.wish("alice", |engine, store, now, rng| {
        engine.flush(store, now, rng).unwrap().effects
    });
    world.sync("bob");
    assert_eq!(world.texts("bob", "alice"), ["first"]);
    assert_eq!(world.status("alice", id), "cancelled");
}
