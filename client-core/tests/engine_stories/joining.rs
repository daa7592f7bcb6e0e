//! Joining a relay with an invite code.

use std::collections::{BTreeMap, BTreeSet};

use client_core::ErrorWord;
use client_core::engine::Progress;
use client_core::engine::io::{Effect, Input, PublishOutcome, Role, SocketKey};
use wire::{Event, OkMessage, PublicKey, kinds};

use crate::network::{Mood, World, key, relay};

/// A relay that takes events of its members only.
#[derive(Debug, Default)]
pub struct Membership {
    codes: BTreeMap<String, u32>,
    members: BTreeSet<PublicKey>,
    /// What it says to a request to join, instead of looking at it.
    mood: Option<&'static str>,
    /// Whether it forgets to answer, once.
    is_lost: bool,
}

impl Membership {
    fn with(code: &str, uses: u32) -> Self {
        Self {
            codes: BTreeMap::from([(code.to_owned(), uses)]),
            ..Self::default()
        }
    }

    /// What it says to an event of somebody who has proved `auth`; nothing where it takes it.
    pub fn answer(&mut self, event: &Event, auth: Option<PublicKey>) -> Option<PublishOutcome> {
        let refused = |text: &str| Some(PublishOutcome::Refused(OkMessage::parse(text)));
        let accepted = |text: &str| Some(PublishOutcome::Accepted(OkMessage::parse(text)));
        if event.kind() != kinds::JOIN {
            return match auth.is_some_and(|key| self.members.contains(&key)) {
                true => None,
                false => refused("restricted: only members may write here"),
            };
        }
        assert_eq!(auth, Some(event.pubkey()), "the key itself asks");
        assert!(event.tags().find("-").is_some());
        if let Some(text) = self.mood {
            return refused(text);
        }
        if self.members.contains(&event.pubkey()) {
            return accepted("duplicate: you are a member");
        }
        match self.codes.get_mut(event.tags().value("claim").unwrap()) {
            Some(uses) if *uses > 0 => {
                *uses -= 1;
                self.members.insert(event.pubkey());
            }
            Some(_) => return refused("restricted: that invite code was used up"),
            None => return refused("restricted: that invite code is not known here"),
        }
        match std::mem::take(&mut self.is_lost) {
            true => Some(PublishOutcome::Unknown("no answer".into())),
            false => accepted("info: welcome"),
        }
    }
}

const CODE: &str = "join-us";

fn world(seed: u64, membership: Membership) -> World {
    let mut world = World::new(seed);
    let place = world.relay("a");
    place.nips = Some(BTreeSet::from([1, 43]));
    place.membership = Some(membership);
    world
}

/// Alice makes an account with relays, and the code for the first.
fn init(world: &mut World, relays: &[&str]) {
    world.add_invited("alice", key(1), relays, &[("a", CODE)]);
}

fn state(world: &World) -> Progress {
    let home = &world.homes["alice"];
    home.engine.lists_state(&home.store).unwrap()
}

fn failure(world: &World) -> client_core::Error {
    match state(world) {
        Progress::Failed(error) => error,
        other => panic!("{other:?}"),
    }
}

/// The kinds that were published to a relay, in order.
fn sent(world: &World, name: &str) -> Vec<u16> {
    let published = world.published().into_iter();
    published
        .filter(|(_, socket, _)| socket.relay == relay(name))
        .map(|(_, _, event)| event.kind())
        .collect()
}

fn joins(world: &World) -> usize {
    let published = world.published();
    let is_join = |(_, _, event): &&(_, _, Event)| event.kind() == kinds::JOIN;
    published.iter().filter(is_join).count()
}

#[test]
fn who_is_invited_joins_before_anything_else_is_asked() {
    let mut world = world(70, Membership::with(CODE, 1));
    init(&mut world, &["a"]);
    assert!(matches!(state(&world), Progress::Reached));
    assert_eq!(
        sent(&world, "a"),
        [kinds::JOIN, kinds::INBOX_RELAYS],
        "the list was taken, so the account is a member"
    );
    let (_, socket, _) = &world.published()[0];
    assert_eq!(socket.role, Role::Inbox);
    let first = world.log.iter().map(|(_, effect)| effect).next().unwrap();
    assert!(matches!(first, Effect::Describe { .. }), "{first:?}");
    // What the account has there is asked once it is a member.
    let position = |found: &dyn Fn(&Effect) -> bool| {
        let mut log = world.log.iter().map(|(_, effect)| effect);
        log.position(found).unwrap()
    };
    let asked = position(&|effect| matches!(effect, Effect::Query { .. }));
    assert!(position(&|effect| matches!(effect, Effect::Publish { .. })) < asked);
    // The code is used, and forgotten.
    world.restart("alice");
    world.run();
    assert_eq!(joins(&world), 1);
}

#[test]
fn a_relay_that_does_not_know_invites_is_sent_no_code() {
    for nips in [Some(BTreeSet::from([1, 42])), None] {
        let is_told = nips.is_some();
        let mut world = World::new(71);
        world.relay("a").nips = nips;
        init(&mut world, &["a"]);
        assert_eq!(joins(&world), 0);
        let error = failure(&world);
        if is_told {
            assert_eq!(error.word, ErrorWord::Refused);
            // It works without, so the account is there.
            assert_eq!(sent(&world, "a"), [kinds::INBOX_RELAYS]);
        } else {
            assert_eq!(error.word, ErrorWord::Unreachable);
        }
    }
}

#[test]
fn a_code_that_is_refused_is_said_so_and_not_sent_again() {
    let mut world = world(72, Membership::with(CODE, 0));
    world.relay("b");
    init(&mut world, &["a", "b"]);
    let error = failure(&world);
    assert_eq!(error.word, ErrorWord::Refused);
    assert!(error.to_string().contains("used up"), "{error}");
    assert!(error.hint.unwrap().contains("relay add"));
    // The other relay is not to suffer for it.
    assert_eq!(sent(&world, "b"), [kinds::INBOX_RELAYS]);
    world.restart("alice");
    world.run();
    assert_eq!(joins(&world), 1);
}

#[test]
fn a_relay_that_is_down_is_joined_by_the_next_command() {
    let mut world = world(73, Membership::with(CODE, 1));
    world.relay("a").mood = Mood::Down;
    init(&mut world, &["a"]);
    assert_eq!(failure(&world).word, ErrorWord::Unreachable);
    world.relay("a").mood = Mood::Kind;
    world.restart("alice");
    world.run();
    assert!(matches!(state(&world), Progress::Reached));
    assert_eq!(sent(&world, "a"), [kinds::JOIN, kinds::INBOX_RELAYS]);
}

#[test]
fn a_kept_code_is_redeemed_though_the_list_is_out_by_another_relay() {
    let mut world = world(78, Membership::with(CODE, 1));
    world.relay("a").mood = Mood::Down;
    init(&mut world, &["a", "b"]);
    assert_eq!(failure(&world).word, ErrorWord::Unreachable);
    assert_eq!(sent(&world, "b"), [kinds::INBOX_RELAYS]);
    world.relay("a").mood = Mood::Kind;
    world.restart("alice");
    world.run();
    assert_eq!(joins(&world), 1);
    assert!(matches!(state(&world), Progress::Reached));
}

#[test]
fn an_answer_that_was_lost_costs_nothing() {
    let membership = Membership {
        is_lost: true,
        ..Membership::with(CODE, 1)
    };
    let mut world = world(74, membership);
    init(&mut world, &["a"]);
    assert_eq!(failure(&world).word, ErrorWord::Unreachable);
    world.restart("alice");
    world.run();
    assert!(matches!(state(&world), Progress::Reached));
    assert_eq!(joins(&world), 2);
    assert!(sent(&world, "a").contains(&kinds::INBOX_RELAYS));
}

#[test]
fn a_relay_that_is_pressed_for_time_gets_the_code_later() {
    for (mood, word) in [
        ("rate-limited: slow down", ErrorWord::RateLimited),
        ("error: try again later", ErrorWord::Unreachable),
    ] {
        let membership = Membership {
            mood: Some(mood),
            ..Membership::with(CODE, 1)
        };
        let mut world = world(75, membership);
        init(&mut world, &["a"]);
        assert_eq!(failure(&world).word, word);
        world.relay("a").membership.as_mut().unwrap().mood = None;
        world.restart("alice");
        world.run();
        assert!(matches!(state(&world), Progress::Reached), "{mood}");
    }
}

#[test]
fn a_relay_whose_members_are_others_is_told_of_until_it_takes_the_account() {
    let mut world = World::new(77);
    world.add("alice", key(1), &["a", "b"], &[]);
    let own = world.key_of("alice");
    let unwelcome = |world: &World, role, name| Input::Unwelcome {
        socket: SocketKey {
            circle: 0,
            role,
            key: world.key_of("alice"),
            relay: relay(name),
            is_own: true,
        },
        why: "restricted: members only".into(),
    };
    // Nothing follows from what only the account's own inbox may hear.
    let said = unwelcome(&world, Role::Publish, "a");
    world.feed("alice", said);
    assert!(matches!(state(&world), Progress::Reached));

    let said = unwelcome(&world, Role::Inbox, "a");
    world.feed("alice", said);
    let error = failure(&world);
    assert_eq!(error.word, ErrorWord::AuthRefused);
    assert!(error.detail.contains("a.example") && error.detail.contains("members only"));
    assert!(error.hint.unwrap().contains("relay add"));
    world.sync("alice");
    let home = &world.homes["alice"];
    let report = home.engine.sync_report();
    let of = |name: &str| report.relays.iter().find(|r| r.url.contains(name)).unwrap();
    assert!(!of("a.example").ok && of("a.example").detail.contains("members only"));
    assert!(of("b.example").ok);
    // What waited was read all the same.
    assert!(home.engine.caught_up_for(&own, &relay("a")));

    // The next proof may be answered otherwise.
    let challenged = Input::Challenged {
        socket: SocketKey {
            circle: 0,
            role: Role::Inbox,
            key: own,
            relay: relay("a"),
            is_own: true,
        },
        challenge: "again".into(),
    };
    world.feed("alice", challenged);
    assert!(matches!(state(&world), Progress::Reached));
}

#[test]
fn a_crash_at_any_moment_loses_no_code() {
    // After so many effects were carried out.
    for steps in 0..6 {
        let mut world = world(76, Membership::with(CODE, 1));
        world.invite_without_running("alice", key(1), &["a"], &[("a", CODE)]);
        for _ in 0..steps {
            world.step();
        }
        world.restart("alice");
        world.run();
        // What the first process was sending is its own for a while.
        world.now += 20;
        world.tick("alice");
        assert!(matches!(state(&world), Progress::Reached), "{steps}");
        let place = world.relay("a");
        assert_eq!(place.membership.as_ref().unwrap().members.len(), 1);
        let has_list = |event: &Event| event.kind() == kinds::INBOX_RELAYS;
        assert!(place.events.iter().any(has_list), "{steps}");
    }
}
