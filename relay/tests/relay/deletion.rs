//! NIP-09, with NIP-59's wraps, and NIP-62.

use sotto_relay::Config;
use sotto_relay::config::{IndexEngine, Storage};
use wire::{Event, Filter};

use crate::crash::{Program, store_section};
use crate::files;
use crate::support::{Client, PATIENCE, ids, now, person, start};

fn by_id(event: &Event) -> Filter {
    Filter::default().with_ids([event.id()])
}

#[tokio::test]
async fn r_del_1_an_author_deletes_their_own_event_and_nobody_elses() {
    let relay = start(Config::in_memory()).await;
    let (alice, mallory) = (person(1), person(2));
    let mut client = Client::connect_as(&relay.url(), &alice).await;
    let note = alice.note("mine");
    client.put(&note).await;
    assert!(!client.publish(&mallory.deletion(&note)).await.0);
    assert_eq!(client.fetch(by_id(&note)).await.unwrap().len(), 1);
    let request = alice.deletion(&note);
    client.put(&request).await;
    assert!(client.fetch(by_id(&note)).await.unwrap().is_empty());
    let (accepted, text) = client.publish(&note).await;
    assert!(!accepted && text.starts_with("blocked:"), "{text}");
    // The request itself is kept and shown, so that others learn of it.
    assert_eq!(
        ids(&client.fetch(by_id(&request)).await.unwrap()),
        [request.id()]
    );
    // And a request to delete the request changes nothing.
    client.put(&alice.deletion(&request)).await;
    assert_eq!(client.fetch(by_id(&request)).await.unwrap().len(), 1);
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_del_2_a_deletion_that_comes_before_its_target_keeps_it_away() {
    let relay = start(Config::in_memory()).await;
    let (sender, to, stranger) = (person(1), person(2), person(3));
    let mut client = Client::connect(&relay.url()).await;
    let wraps: Vec<Event> = (0..3).map(|n| sender.wrap(&to, &format!("{n}"))).collect();
    client.put(&sender.deletion(&wraps[0])).await;
    client.put(&to.deletion(&wraps[1])).await;
    client.put(&stranger.deletion(&wraps[2])).await;
    for (wrap, is_taken) in wraps.iter().zip([false, false, true]) {
        let (accepted, text) = client.publish(wrap).await;
        assert_eq!(accepted, is_taken, "{text}");
    }
    let mut reader = Client::connect_as(&relay.url(), &to).await;
    assert_eq!(ids(&reader.mailbox(&to).await), [wraps[2].id()]);
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_full_3_on_a_full_disk_the_reserve_is_kept_for_what_is_stored() {
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let (sender, to) = (person(1), person(2));
        let (stored, absent) = (sender.wrap(&to, "stored"), sender.wrap(&to, "absent"));
        let config = files::config(folder.path(), engine);
        let relay = start(config.clone()).await;
        let mut client = Client::connect(&relay.url()).await;
        let note = person(4).note("of somebody who vanishes");
        client.put(&stored).await;
        client.put(&note).await;
        relay.stop().await.unwrap();

        let mut full = config.clone();
        let Storage::Disk { reserve_bytes, .. } = &mut full.storage else {
            unreachable!()
        };
        *reserve_bytes = u64::MAX;
        let relay = start(full).await;
        let mut client = Client::connect(&relay.url()).await;
        // Whoever names what is not here can do so without end, so it is not remembered now.
        let (accepted, text) = client.publish(&sender.deletion(&absent)).await;
        assert!(!accepted && text.starts_with("error:"), "{text}");
        // What is here goes, and saying so twice is fine.
        for _ in 0..2 {
            client.put(&sender.deletion(&stored)).await;
        }
        // The same with requests to vanish.
        let vanish = |number| person(number).sign(62, now(), &[&["relay", "ALL_RELAYS"]], "");
        let (accepted, text) = client.publish(&vanish(3)).await;
        assert!(!accepted && text.starts_with("error:"), "{text}");
        client.put(&vanish(4)).await;
        relay.stop().await.unwrap();

        let relay = start(config).await;
        let mut client = Client::connect(&relay.url()).await;
        let (accepted, text) = client.publish(&stored).await;
        assert!(!accepted && text.starts_with("blocked:"), "{text}");
        client.put(&absent).await;
        client.put(&person(3).note("of somebody who is here")).await;
        let (accepted, text) = client.publish(&note).await;
        assert!(!accepted && text.starts_with("blocked:"), "{text}");
        relay.stop().await.unwrap();
    }
}

/// Here, not here, and with room before: a stranger is told the same.
#[tokio::test]
async fn r_del_6_a_full_disk_tells_strangers_of_no_wrap_either() {
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let (sender, to, stranger) = (person(1), person(2), person(3));
        let wrap = |content: &str| sender.wrap(&to, content);
        let (here, absent) = (wrap("here"), wrap("absent"));
        let (here_before, absent_before) = (wrap("here before"), wrap("absent before"));
        let config = files::config(folder.path(), engine);
        let relay = start(config.clone()).await;
        let mut client = Client::connect(&relay.url()).await;
        client.put(&here).await;
        client.put(&here_before).await;
        for wrap in [&here_before, &absent_before] {
            client.put(&stranger.deletion(wrap)).await;
        }
        relay.stop().await.unwrap();

        let mut full = config;
        let Storage::Disk { reserve_bytes, .. } = &mut full.storage else {
            unreachable!()
        };
        *reserve_bytes = u64::MAX;
        let relay = start(full).await;
        let mut client = Client::connect(&relay.url()).await;
        let note = stranger.note("that is not here either");
        let mut answers = Vec::new();
        for wrap in [&here, &absent, &here_before, &absent_before] {
            let alone = client.publish(&stranger.deletion(wrap)).await;
            let id = |event: &wire::Event| event.id().to_hex();
            let both: [&[&str]; 2] = [&["e", &id(wrap)], &["e", &id(&note)]];
            let beside = client.publish(&stranger.sign(5, now(), &both, "")).await;
            answers.push((alone, beside));
        }
        assert_eq!(answers[0], answers[1], "{engine:?}");
        assert_eq!(answers[2], answers[3], "{engine:?}");
        assert!(answers[0].0.1.starts_with("error:"), "{answers:?}");
        let mut reader = Client::connect_as(&relay.url(), &to).await;
        assert_eq!(reader.mailbox(&to).await.len(), 2);
        relay.stop().await.unwrap();
    }
}

#[tokio::test]
async fn r_del_4_wraps_are_deleted_by_sender_or_recipient_and_the_request_is_shown_to_nobody() {
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let relay = start(files::config(folder.path(), engine)).await;
        let (sender, to, stranger) = (person(1), person(2), person(3));
        let mut client = Client::connect_as(&relay.url(), &to).await;
        let wraps: Vec<Event> = (0..3).map(|n| sender.wrap(&to, &format!("{n}"))).collect();
        for wrap in &wraps {
            client.put(wrap).await;
        }
        let requests = [
            sender.deletion(&wraps[0]),
            to.deletion(&wraps[1]),
            stranger.deletion(&wraps[2]),
        ];
        for request in &requests {
            client.put(request).await;
        }
        let shown = client
            .fetch(Filter::default().with_kinds([5]))
            .await
            .unwrap();
        assert!(shown.is_empty());
        assert_eq!(ids(&client.mailbox(&to).await), [wraps[2].id()]);
        // A request without the k tag is recognised by its target.
        let bare = to.sign(5, now(), &[&["e", &wraps[2].id().to_hex()]], "");
        // And where that is gone, by what is remembered of it.
        for _ in 0..2 {
            client.put(&bare).await;
            let kind_5 = Filter::default().with_kinds([5]);
            assert!(client.fetch(kind_5).await.unwrap().is_empty(), "{engine:?}");
        }
        relay.stop().await.unwrap();

        let relay = start(files::config(folder.path(), engine)).await;
        let mut client = Client::connect_as(&relay.url(), &to).await;
        assert!(client.mailbox(&to).await.is_empty());
        for wrap in &wraps {
            assert!(client.publish(wrap).await.1.starts_with("blocked:"));
        }
        relay.stop().await.unwrap();
    }
}

#[tokio::test]
async fn r_del_5_an_address_is_deleted_up_to_the_time_of_the_request() {
    let relay = start(Config::in_memory()).await;
    let alice = person(1);
    let mut client = Client::connect_as(&relay.url(), &alice).await;
    let at = now() - 100;
    let make = |at, content: &str| alice.sign(30078, at, &[&["d", "x"]], content);
    client.put(&make(at, "old")).await;
    let address = format!("30078:{}:x", alice.key().to_hex());
    client
        .put(&alice.sign(5, at + 10, &[&["a", &address]], ""))
        .await;
    let filter = Filter::default().with_kinds([30078]);
    assert!(client.fetch(filter.clone()).await.unwrap().is_empty());
    assert!(
        client
            .publish(&make(at + 10, "late"))
            .await
            .1
            .starts_with("blocked:")
    );
    let new = make(at + 11, "new");
    client.put(&new).await;
    assert_eq!(
        ids(&client.fetch(filter.clone()).await.unwrap()),
        [new.id()]
    );
    // Somebody else's request for this address is nothing.
    let others = person(2).sign(5, now(), &[&["a", &address]], "");
    assert!(!client.publish(&others).await.0);
    assert_eq!(client.fetch(filter).await.unwrap().len(), 1);
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_rep_1_the_newest_of_an_address_counts_and_ties_go_to_the_lower_id() {
    let relay = start(Config::in_memory()).await;
    let alice = person(1);
    let mut client = Client::connect_as(&relay.url(), &alice).await;
    let at = now();
    let make = |at, d: &str, content: &str| alice.sign(30078, at, &[&["d", d]], content);
    let (old, new) = (make(at - 5, "x", "old"), make(at - 4, "x", "new"));
    client.put(&new).await;
    assert!(client.publish(&old).await.1.starts_with("duplicate:"));
    let other = make(at - 9, "y", "another address");
    client.put(&other).await;
    let mut tied = [make(at, "x", "1"), make(at, "x", "2")];
    tied.sort_by_key(Event::id);
    client.put(&tied[1]).await;
    client.put(&tied[0]).await;
    assert!(client.publish(&tied[1]).await.1.starts_with("duplicate:"));
    let found = client
        .fetch(Filter::default().with_kinds([30078]))
        .await
        .unwrap();
    assert_eq!(ids(&found), [tied[0].id(), other.id()]);
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_van_1_vanishing_takes_what_its_author_wrote_and_the_wraps_that_wait() {
    for engine in IndexEngine::ON_DISK {
        let folder = tempfile::tempdir().unwrap();
        let mut config = files::config(folder.path(), engine);
        let url = "wss://relay.example";
        config.urls = vec![url.parse().unwrap()];
        let relay = start(config.clone()).await;
        let (alice, bob) = (person(1), person(2));
        let mut client = Client::connect_as(&relay.url(), &alice).await;
        assert!(client.auth(&bob).await.0);
        let mine = alice.sign(1, now() - 10, &[], "mine");
        let wrap = person(9).wrap(&alice, "for alice");
        let (others, for_bob) = (bob.note("bob's"), person(8).wrap(&bob, "for bob"));
        for event in [&mine, &wrap, &others, &for_bob] {
            client.put(event).await;
        }
        let elsewhere = alice.sign(62, now(), &[&["relay", "wss://other.example"]], "");
        assert!(!client.publish(&elsewhere).await.0);
        assert_eq!(client.mailbox(&alice).await.len(), 1);
        let request = alice.sign(62, now(), &[&["relay", url]], "bye");
        client.put(&request).await;
        let everything = client.fetch(Filter::default()).await.unwrap();
        assert_eq!(everything.len(), 2, "only bob's two are left");
        relay.stop().await.unwrap();

        let relay = start(config).await;
        let mut client = Client::connect_as(&relay.url(), &alice).await;
        for event in [&mine, &wrap] {
            let (accepted, text) = client.publish(event).await;
            assert!(!accepted && text.starts_with("blocked:"), "{text}");
        }
        // Other wraps are not blocked, however old their random time makes them look.
        let again = person(7).sign(
            1059,
            now() - 86_400,
            &[&["p", &alice.key().to_hex()]],
            "new",
        );
        client.put(&again).await;
        // Nor does the request, sent again, take what came after it.
        assert!(client.publish(&request).await.1.starts_with("duplicate:"));
        assert_eq!(ids(&client.mailbox(&alice).await), [again.id()]);
        let later = alice.sign(1, request.created_at() + 1, &[], "I am back");
        client.put(&later).await;
        relay.stop().await.unwrap();
    }
}

#[tokio::test]
async fn r_van_1_all_relays_includes_this_one() {
    let relay = start(Config::in_memory()).await;
    let alice = person(1);
    let mut client = Client::connect_as(&relay.url(), &alice).await;
    client.put(&alice.sign(1, now() - 1, &[], "mine")).await;
    client
        .put(&alice.sign(62, now(), &[&["relay", "ALL_RELAYS"]], ""))
        .await;
    assert!(client.fetch(Filter::default()).await.unwrap().is_empty());
    relay.stop().await.unwrap();
}

/// Deleted by either side, by address, vanished, replaced, expired: sent again after a kill, and
/// after the index was lost, it is refused, and nobody is shown it.
#[tokio::test(flavor = "multi_thread")]
async fn r_del_7_what_was_taken_away_is_refused_after_a_kill_and_without_the_index() {
    // Beside each other: each waits for an expiry.
    let engines = IndexEngine::ON_DISK.map(taken_away);
    let all: tokio::task::JoinSet<()> = engines.into_iter().collect();
    all.join_all().await;
}

async fn taken_away(engine: IndexEngine) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let start = || Program::configured(&data, &store_section(engine));
    let mut program = start();
    let (alice, bob, leaves) = (person(1), person(2), person(3));
    let mut client = Client::connect(&program.url).await;
    let at = now() - 100;
    let note = alice.note("deleted");
    let by_sender = person(9).wrap(&bob, "by its sender");
    let by_recipient = person(10).wrap(&bob, "by its recipient");
    let address = alice.sign(30_078, at, &[&["d", "x"]], "by its address");
    let old = alice.sign(10_050, at, &[], "old");
    let new = alice.sign(10_050, at + 1, &[], "new");
    let written = leaves.sign(1, at, &[], "of somebody who vanishes");
    let waiting = person(11).wrap(&leaves, "for somebody who vanishes");
    let end = (now() + 2).to_string();
    let tags: [&[&str]; 2] = [&["p", &bob.key().to_hex()], &["expiration", &end]];
    let expiring = person(12).sign(1059, now(), &tags, "expires");
    let kept = person(13).wrap(&bob, "kept");
    let before_its_target = person(14).wrap(&bob, "deleted before it came");
    let named = format!("30078:{}:x", alice.key().to_hex());
    for event in [
        &note,
        &by_sender,
        &by_recipient,
        &address,
        &old,
        &new,
        &written,
        &waiting,
        &expiring,
        &kept,
    ] {
        client.put(event).await;
    }
    for request in [
        alice.deletion(&note),
        person(9).deletion(&by_sender),
        bob.deletion(&by_recipient),
        alice.sign(5, at + 1, &[&["a", &named]], ""),
        leaves.sign(62, now(), &[&["relay", "ALL_RELAYS"]], ""),
        bob.deletion(&before_its_target),
    ] {
        client.put(&request).await;
    }
    let mut reader = Client::connect_as(&program.url, &bob).await;
    let poll = async { while reader.mailbox(&bob).await.contains(&expiring) {} };
    tokio::time::timeout(PATIENCE, poll).await.unwrap();

    for loses_index in [false, true] {
        program.signal("-KILL");
        program.child.wait().unwrap();
        if loses_index {
            std::fs::remove_dir_all(data.join("index")).unwrap();
        }
        program = start();
        let mut client = Client::connect_as(&program.url, &bob).await;
        assert!(client.auth(&leaves).await.0);
        for (event, prefix) in [
            (&note, "blocked:"),
            (&by_sender, "blocked:"),
            (&by_recipient, "blocked:"),
            (&address, "blocked:"),
            (&old, "duplicate:"),
            (&written, "blocked:"),
            (&waiting, "blocked:"),
            (&expiring, "invalid:"),
            (&before_its_target, "blocked:"),
        ] {
            let (accepted, text) = client.publish(event).await;
            assert!(
                !accepted && text.starts_with(prefix),
                "{engine:?}: {text} {event:?}"
            );
        }
        let kinds = Filter::default().with_kinds([1, 10_050, 30_078]);
        assert_eq!(
            client.fetch(kinds).await.unwrap(),
            std::slice::from_ref(&new),
            "{engine:?}"
        );
        assert_eq!(ids(&client.mailbox(&bob).await), [kept.id()], "{engine:?}");
        assert!(client.mailbox(&leaves).await.is_empty());
    }
}
