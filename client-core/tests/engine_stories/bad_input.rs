//! Forged, broken and malicious events. Each costs nothing but itself.

use bytes::Bytes;
use client_core::engine::io::{Input, OpId, PublishOutcome};
use client_core::store::Store;
use client_core::{ErrorWord, engine::io::Effect};
use crypto::gift_wrap::past_time;
use crypto::lock::StoreKey;
use crypto::{AccountKey, OneTimeKey, WrapKind, seal, wrap};
use rand::rngs::StdRng;
use wire::{Event, EventDraft, OkMessage, PublicKey, Rumor, Tag, Tags, kinds};

use crate::network::{START, World, key};

/// A wrap as any NIP-17 client makes it.
pub fn wrap_kind(
    rng: &mut StdRng,
    author: &AccountKey,
    rumor: &Rumor,
    to: PublicKey,
    at: u64,
    kind: WrapKind,
) -> Event {
    let conversation = author.conversation_with(&to).unwrap();
    let dated = past_time(at, rng);
    let seal = seal(author, &conversation, rumor, None, dated, rng).unwrap();
    let key = OneTimeKey::generate(rng);
    wrap(&key, &to, kind, seal.json(), at, None, rng).unwrap()
}

pub fn wrap_at(
    rng: &mut StdRng,
    author: &AccountKey,
    rumor: &Rumor,
    to: PublicKey,
    at: u64,
) -> Event {
    wrap_kind(rng, author, rumor, to, at, WrapKind::Stored)
}

/// Puts it on a relay.
pub fn deliver(world: &mut World, author: &AccountKey, rumor: &Rumor, to: PublicKey, name: &str) {
    let now = world.now;
    let wrap = wrap_at(&mut world.rng, author, rumor, to, now);
    world.relay(name).store(&wrap);
}

fn text(author: u8, to: PublicKey, text: &str, at: u64) -> Rumor {
    Rumor::new(EventDraft {
        pubkey: key(author).public_key(),
        created_at: at,
        kind: kinds::TEXT,
        tags: Tags::from_iter([Tag::new(["p".to_owned(), to.to_hex()])]),
        content: text.into(),
    })
}

fn spoil(event: &Event, from: &str, to: &str) -> Event {
    let text = String::from_utf8(event.json().to_vec()).unwrap();
    let spoiled = text.replacen(from, to, 1);
    assert_ne!(spoiled, text);
    Event::decode(Bytes::from(spoiled)).unwrap()
}

#[test]
fn a_poison_event_among_a_thousand_loses_none_of_them() {
    let mut world = World::with_two(90);
    let bob = world.key_of("bob");
    for n in 0..1_000_u64 {
        let rumor = text(1, bob, &n.to_string(), START - 2_000 + n);
        let at = START - 100_000 + n * 50;
        let wrap = wrap_at(&mut world.rng, &key(1), &rumor, bob, at);
        world.relay("b").events.push(wrap);
        if n % 100 == 50 {
            // Sound outside, nonsense inside: a file message without a key.
            let poison = Rumor::new(EventDraft {
                kind: kinds::FILE,
                ..text(1, bob, "https://x.example/none", START).draft_for_test()
            });
            let wrap = wrap_at(&mut world.rng, &key(1), &poison, bob, at + 1);
            world.relay("b").events.push(wrap);
        }
    }
    world.sync("bob");
    assert_eq!(world.texts("bob", "alice").len(), 1_000);
}

/// A rumor's fields, to make another of them.
trait Draft {
    fn draft_for_test(&self) -> EventDraft;
}

impl Draft for Rumor {
    fn draft_for_test(&self) -> EventDraft {
        EventDraft {
            pubkey: self.author(),
            created_at: self.created_at(),
            kind: self.kind(),
            tags: self.tags().clone(),
            content: self.content().to_owned(),
        }
    }
}

#[test]
fn a_forged_wrap_reaches_nothing_and_shuts_nothing_out() {
    let mut world = World::with_two(91);
    let bob = world.key_of("bob");
    let rumor = text(1, bob, "true", START);
    let wrap = wrap_at(&mut world.rng, &key(1), &rumor, bob, START);
    // The same id with another signature, before the true event.
    let sig = wrap.sig().to_hex();
    let forged = spoil(&wrap, &sig, &format!("{}{}", &sig[64..], &sig[..64]));
    assert_eq!(forged.id(), wrap.id());
    world.relay("b").events.push(forged);
    world.sync("bob");
    let alice = world.key_of("alice");
    assert!(world.messages("bob", alice).is_empty());
    assert_eq!(world.homes["bob"].engine.sync_report().received, 0);
    world.relay("b").events.clear();
    world.relay("b").events.push(wrap);
    world.sync("bob");
    assert_eq!(world.texts("bob", "alice"), ["true"]);
}

#[test]
fn nobody_writes_in_anothers_name() {
    let mut world = World::with_two(92);
    let bob = world.key_of("bob");
    let mallory = key(6);
    let hers = text(1, bob, "send money", START);
    // Sealed by Mallory around Alice's rumor; our own `seal` refuses, so by hand.
    let conversation = mallory.conversation_with(&bob).unwrap();
    let content = conversation
        .encrypt(hers.to_json().as_bytes(), &mut world.rng)
        .unwrap();
    let draft = EventDraft {
        pubkey: mallory.public_key(),
        created_at: START,
        kind: kinds::SEAL,
        tags: Tags::new(),
        content,
    };
    let seal = mallory.sign(draft, &mut world.rng);
    let one_time = OneTimeKey::generate(&mut world.rng);
    let forged = wrap(
        &one_time,
        &bob,
        WrapKind::Stored,
        seal.json(),
        START,
        None,
        &mut world.rng,
    )
    .unwrap();
    world.relay("b").store(&forged);
    world.sync("bob");
    for who in [1, 6] {
        assert!(world.messages("bob", key(who).public_key()).is_empty());
    }
    // Known as refused, not opened again, and taken off the relay.
    let left = world.wraps("b");
    assert!(left.iter().all(|wrap| wrap.id() != forged.id()));
}

#[test]
fn unknown_rumor_kinds_are_kept_and_skipped() {
    let mut world = World::with_two(93);
    let bob = world.key_of("bob");
    let odd = Rumor::new(EventDraft {
        kind: 1_234,
        ..text(1, bob, "from a later version", START).draft_for_test()
    });
    deliver(&mut world, &key(1), &odd, bob, "b");
    deliver(&mut world, &key(1), &text(1, bob, "plain", START), bob, "b");
    world.sync("bob");
    assert_eq!(world.texts("bob", "alice"), ["plain"]);
    let left = world.wraps("b");
    assert_eq!(left.len(), 2, "nothing is taken off for being unknown");
}

#[test]
fn a_session_message_is_kept_pending_with_its_bytes() {
    let mut world = World::with_two(94);
    let bob = world.key_of("bob");
    let one_time = OneTimeKey::generate(&mut world.rng);
    let payload = [&[1_u8][..], b"a later version's session"].concat();
    let session = wrap(
        &one_time,
        &bob,
        WrapKind::Stored,
        &payload,
        START,
        None,
        &mut world.rng,
    )
    .unwrap();
    world.relay("b").store(&session);
    world.sync("bob");
    assert_eq!(world.homes["bob"].engine.sync_report().received, 1);
    let left = world.wraps("b");
    assert_eq!(left.len(), 1, "it stays for who can read it");
}

#[test]
fn strangers_fill_their_bound_and_no_more() {
    let mut world = World::with_two(95);
    let bob = world.key_of("bob");
    for n in 0..40 {
        let rumor = text(6, bob, &format!("spam {n}"), START + n);
        deliver(&mut world, &key(6), &rumor, bob, "b");
    }
    deliver(
        &mut world,
        &key(1),
        &text(1, bob, "friend", START),
        bob,
        "b",
    );
    world.sync("bob");
    let spam = world.messages("bob", key(6).public_key());
    assert_eq!(spam.len(), 20);
    assert!(spam.iter().all(|message| message.request));
    assert_eq!(world.texts("bob", "alice"), ["friend"]);
}

#[test]
fn receipts_of_others_about_messages_they_never_got_count_for_nothing() {
    let mut world = World::with_two(96);
    let id = world.send("alice", "bob", "for bob");
    let alice = world.key_of("alice");
    let fake = Rumor::new(EventDraft {
        kind: kinds::RECEIPT,
        tags: Tags::from_iter([
            Tag::new(["p".to_owned(), alice.to_hex()]),
            Tag::new(["e".to_owned(), id.to_hex()]),
            Tag::new(["status", "delivered"]),
        ]),
        ..text(6, alice, "", START).draft_for_test()
    });
    deliver(&mut world, &key(6), &fake, alice, "a");
    world.sync("alice");
    assert_eq!(world.status("alice", id), "stored");
}

#[test]
fn answers_to_nothing_change_nothing() {
    let mut world = World::with_two(97);
    world.send("alice", "bob", "one");
    let before = world.homes["alice"].engine.busy();
    let outcome = PublishOutcome::Accepted(OkMessage::parse(""));
    world.feed(
        "alice",
        Input::Published {
            op: OpId(9_999),
            outcome,
        },
    );
    let events = vec![Bytes::from_static(b"{")];
    world.feed(
        "alice",
        Input::Events {
            op: OpId(9_999),
            events,
        },
    );
    world.run();
    assert_eq!(world.homes["alice"].engine.busy(), before);
}

#[test]
fn garbage_from_a_relay_is_skipped() {
    for nips in [None, Some([77].into())] {
        let mut world = World::with_two(98);
        world.relay("b").nips = nips;
        world.send("alice", "bob", "among garbage");
        world.begin_sync("bob");
        // A page of the inbox, or what a comparison has named.
        let reads = |effect: &Effect| {
            let Effect::Query { op, filter, .. } = effect else {
                return None;
            };
            filter.tags.get('p').is_some().then_some(*op)
        };
        world.run_until(|effect| reads(effect).is_some());
        let op = reads(&world.homes["bob"].effects[0]).unwrap();
        let nested = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
        let events = vec![
            Bytes::from_static(b""),
            Bytes::from_static(b"\xff\xfe"),
            Bytes::from(nested),
            Bytes::from_static(b"{\"id\":\"zz\"}"),
        ];
        world.feed("bob", Input::Events { op, events });
        world.run();
        assert_eq!(world.texts("bob", "alice"), ["among garbage"]);
    }
}

#[test]
fn a_damaged_store_is_said_to_be_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let key = || StoreKey::from_secret_bytes([7; 32]);
    drop(Store::open(&path, &key()).unwrap());
    let other = StoreKey::from_secret_bytes([8; 32]);
    let error = Store::open(&path, &other).unwrap_err();
    assert_eq!((error.word, error.exit), (ErrorWord::StoreDamaged, 11));
    Store::open(&path, &key()).unwrap().verify().unwrap();
    let good = std::fs::read(&path).unwrap();
    for offset in [0, 20, good.len() / 2, good.len() - 100] {
        let mut bad = good.clone();
        bad[offset] ^= 0xff;
        std::fs::write(&path, &bad).unwrap();
        let error = match Store::open(&path, &key()) {
            Err(error) => error,
            Ok(store) => store.verify().unwrap_err(),
        };
        assert_eq!(error.word, ErrorWord::StoreDamaged, "offset {offset}");
    }
    std::fs::write(&path, b"not a database at all").unwrap();
    let error = Store::open(&path, &key()).unwrap_err();
    assert_eq!(error.word, ErrorWord::StoreDamaged);
}
