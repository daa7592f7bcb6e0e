//! An inbox that is compared with what its relay served before, over real sockets.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Duration;

use client_core::clock::Clock;
use client_core::view::SyncView;
use crypto::AccountKey;
use e2e::raw::{RawClient, account, sealed, text};
use e2e::tap::Disguise;
use e2e::world::{Person, RelayPlace, World};
use wire::{Event, PublicKey};

/// Ben on `relay`, and Cleo, whom he has added.
async fn ben_and_cleo(world: &mut World, relay: &RelayPlace) -> (Person, AccountKey) {
    let mut ben = world.person("ben", &[relay], &[]).await;
    ben.settings.timeout = Duration::from_secs(600);
    let cleo = account();
    let key = cleo.public_key().to_hex();
    ben.client().add_contact(&key, Some("cleo")).unwrap();
    (ben, cleo)
}

/// Messages of Cleo's for Ben, wrapped as any client would.
fn messages(
    cleo: &AccountKey,
    ben: &Person,
    numbers: std::ops::Range<u64>,
    now: u64,
) -> Vec<Event> {
    let to = PublicKey::from_hex(ben.key()).unwrap();
    let one = |n| {
        let at = now - 100_000 + n;
        sealed(cleo, &to, &text(cleo, &to, &format!("message {n}"), at), at)
    };
    numbers.map(one).collect()
}

async fn publish(relay: &RelayPlace, events: &[Event]) {
    RawClient::connect(&relay.url())
        .await
        .publish_all(events)
        .await;
}

async fn sync(person: &Person) -> SyncView {
    let mut client = person.client();
    let synced = client.sync().await.unwrap();
    assert!(synced.error.is_none(), "{:?}", synced.error);
    client.close().await;
    synced.value
}

/// Names of the frames that clients have sent through a proxy.
fn verbs(relay: &RelayPlace) -> BTreeSet<String> {
    let seen = relay.tap.seen();
    let frames = seen.iter().flat_map(|seen| seen.frames());
    frames
        .map(|frame| frame[0].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_envelopes_are_not_sent_twice() {
    const MANY: u64 = 10_000;
    let mut world = World::new();
    let relay = world.relay("a").await;
    let (ben, cleo) = ben_and_cleo(&mut world, &relay).await;
    let now = world.clock.now();
    publish(&relay, &messages(&cleo, &ben, 0..MANY, now)).await;
    relay.tap.forget();
    assert_eq!(sync(&ben).await.new, MANY);
    let first = relay.tap.bytes();

    relay.tap.forget();
    let again = sync(&ben).await;
    let second = relay.tap.bytes();
    assert_eq!((again.received, again.new), (0, 0));
    assert_eq!(again.relays[0].detail, "caught up");

    publish(&relay, &messages(&cleo, &ben, MANY..MANY + 20, now)).await;
    relay.tap.forget();
    let more = sync(&ben).await;
    let third = relay.tap.bytes();
    assert_eq!((more.received, more.new), (20, 20));
    eprintln!("bytes up and down: first {first:?}, again {second:?}, twenty more {third:?}");
    assert!(first.1 > 10_000_000, "the first reads everything");
    assert!(second.0 + second.1 < 8_000, "{second:?}");
    // Twenty events of some 1.5 kB, and where they lie among the ten thousand.
    assert!(third.0 + third.1 < 100_000, "{third:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_without_negentropy_is_read_to_the_last_envelope() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    relay.tap.disguise(Disguise {
        nips: vec![1, 11, 42],
        compares: Some("[\"NOTICE\",\"ERROR: bad msg: unknown cmd\"]".to_owned()),
    });
    let (ben, cleo) = ben_and_cleo(&mut world, &relay).await;
    let now = world.clock.now();
    publish(&relay, &messages(&cleo, &ben, 0..1_200, now)).await;
    assert_eq!(sync(&ben).await.new, 1_200);
    publish(&relay, &messages(&cleo, &ben, 1_200..1_210, now)).await;
    let synced = sync(&ben).await;
    assert_eq!((synced.received, synced.new), (1_210, 10));
    assert_eq!(synced.relays[0].detail, "caught up");
    assert!(!verbs(&relay).contains("NEG-OPEN"), "it never said it can");
    // And it was asked once what it can do.
    let seen = relay.tap.seen();
    let is_question = |head: &str| head.contains("application/nostr+json");
    assert_eq!(seen.iter().filter(|s| is_question(&s.head)).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_compares_nonsense_hides_nothing() {
    // Nothing at all is left out: that takes the client's whole patience, as in the runtime's tests.
    let endless = format!("61000001{}", "09".repeat(16));
    let everything_made_up = format!("61000002{}", "02".to_owned() + &"ab".repeat(64));
    let answers = [
        "[\"NEG-MSG\",\"{}\",\"6\"]".to_owned(),
        "[\"NEG-ERR\",\"{}\",\"error: database is on fire\"]".to_owned(),
        "[\"NEG-ERR\",\"{}\",\"blocked: query too big\"]".to_owned(),
        "[\"NEG-MSG\",\"{}\",\"62\"]".to_owned(),
        format!("[\"NEG-MSG\",\"{{}}\",\"{endless}\"]"),
        format!("[\"NEG-MSG\",\"{{}}\",\"{everything_made_up}\"]"),
    ];
    let mut world = World::new();
    for (number, answer) in answers.iter().enumerate() {
        let relay = world.relay(&format!("r{number}")).await;
        let (mut ben, cleo) = ben_and_cleo(&mut world, &relay).await;
        ben.settings.timeouts.answer = Duration::from_secs(3);
        let now = world.clock.now();
        publish(&relay, &messages(&cleo, &ben, 0..10, now)).await;
        assert_eq!(sync(&ben).await.new, 10);
        relay.tap.disguise(Disguise {
            nips: vec![1, 77],
            compares: Some(answer.clone()),
        });
        publish(&relay, &messages(&cleo, &ben, 10..15, now)).await;
        let synced = sync(&ben).await;
        assert_eq!(synced.new, 5, "{answer}");
        let outcome = &synced.relays[0];
        assert!(outcome.ok, "{outcome:?}");
        assert!(
            outcome.detail.starts_with("caught up; read in full: "),
            "{} after {answer}",
            outcome.detail
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_falls_between_the_subscription_and_the_comparison() {
    const EACH: u64 = 30;
    let mut world = World::new();
    let relay = world.relay("a").await;
    let (ben, cleo) = ben_and_cleo(&mut world, &relay).await;
    let now = world.clock.now();
    publish(&relay, &messages(&cleo, &ben, 0..300, now)).await;
    assert_eq!(sync(&ben).await.new, 300);
    let later = messages(&cleo, &ben, 300..300 + 4 * EACH, now);
    // Everything of one round comes while a step of the watch is on its way: the subscription, the
    // comparison, a later word of it or the fetching. Whichever it is, the others bring it.
    let steps = [
        ("REQ", "\"limit\":1}"),
        ("NEG-OPEN", ""),
        ("NEG-CLOSE", ""),
        ("REQ", "\"ids\""),
    ];
    for ((verb, part), events) in steps.into_iter().zip(later.chunks(30)) {
        let mut client = ben.client();
        let (early, late) = events.split_at(10);
        publish(&relay, early).await;
        relay.tap.hold(verb, part);
        let publishing = async {
            relay.tap.holding().await;
            publish(&relay, late).await;
            relay.tap.let_go();
        };
        let mut seen = 0;
        let watching = async {
            let watch = client.watch(None, |_| {
                seen += 1;
                match seen == EACH {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            });
            tokio::time::timeout(Duration::from_secs(30), watch).await
        };
        let ((), watched) = tokio::join!(publishing, watching);
        client.close().await;
        assert!(watched.is_ok(), "{verb} {part}: {seen} of {EACH} came");
    }
    // And nothing came twice.
    let all = ben.client().messages("cleo", 10_000, None).unwrap();
    assert_eq!(all.len() as u64, 300 + 4 * EACH);
}
