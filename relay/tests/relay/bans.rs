//! What an operator keeps away, and what they let in: keys, events, kinds.

use std::collections::BTreeSet;
use std::time::Instant;

use sotto_relay::Config;
use sotto_relay::policy::{self, Law, OwnUrls, Refusal, Rules, Verdict};
use sotto_relay::roster::{Roster, RosterFile};
use wire::{Event, Filter};

use crate::files::{holding, traces};
use crate::members::{change, members_only, refused};
use crate::support::{Client, PATIENCE, Person, ids, now, person, start};

#[tokio::test]
async fn r_ban_1_a_banned_key_writes_nothing_reads_nothing_guarded_and_takes_its_own_away() {
    let folder = tempfile::tempdir().unwrap();
    let relay = start(Config::on_disk(folder.path())).await;
    let (mallory, alice) = (person(1), person(2));
    let mut here = Client::connect_as(&relay.url(), &mallory).await;
    let mut other = Client::connect_as(&relay.url(), &alice).await;
    let note = mallory.note("before the ban");
    let wrap = person(9).wrap(&mallory, "waits");
    here.put(&note).await;
    here.put(&wrap).await;

    change(&relay, folder.path(), |roster| {
        roster.ban(mallory.key(), "spam", now())
    })
    .await
    .unwrap();
    // Whoever has proved the key is disconnected, and others are not.
    while here.try_receive().await.is_some() {}
    refused(&mut other, &mallory.note("after"), "blocked:").await;
    refused(&mut other, &person(8).wrap(&mallory, "x"), "blocked:").await;
    let mut client = Client::connect(&relay.url()).await;
    let (accepted, text) = client.auth(&mallory).await;
    assert!(!accepted && text.starts_with("restricted:"), "{text}");
    // What is their own to take away goes, now as ever.
    client.put(&mallory.deletion(&note)).await;
    client.put(&mallory.deletion(&wrap)).await;
    refused(&mut client, &mallory.deletion(&alice.note("x")), "blocked:").await;
    client
        .put(&mallory.sign(62, now(), &[&["relay", "ALL_RELAYS"]], ""))
        .await;

    let was = change(&relay, folder.path(), |roster| roster.unban(&mallory.key())).await;
    assert!(was);
    let mut client = Client::connect_as(&relay.url(), &mallory).await;
    client
        .put(&mallory.sign(1, now() + 1, &[], "and back"))
        .await;
    relay.stop().await.unwrap();
}

/// Its connections end with the ban; what is on its way by then is not taken either.
#[test]
fn r_ban_1_nothing_is_taken_from_whoever_has_proved_a_banned_key() {
    let (banned, other) = (person(1), person(2));
    let mut roster = Roster::default();
    roster.ban(banned.key(), "", 1).unwrap();
    let law = Law {
        rules: &Rules::default(),
        roster: &roster,
        own: &OwnUrls::default(),
    };
    let note = other.note("passed on");
    let judged = |auth: &[&Person]| {
        let auth: Vec<_> = auth.iter().map(|who| who.key()).collect();
        policy::judge(&note, &auth, now(), law)
    };
    assert_eq!(judged(&[]), Ok(Verdict::Store));
    assert_eq!(judged(&[&other]), Ok(Verdict::Store));
    assert_eq!(judged(&[&other, &banned]), Err(Refusal::Banned));
}

#[tokio::test]
async fn r_ban_2_a_banned_event_is_erased_and_stays_away() {
    let folder = tempfile::tempdir().unwrap();
    let relay = start(Config::on_disk(folder.path())).await;
    let to = person(2);
    let mut client = Client::connect_as(&relay.url(), &to).await;
    let note = person(1).note("the words that the operator does not want here");
    let wrap = person(9).wrap(&to, "nor those");
    let kept = person(1).note("but these");
    let later = person(3).note("and what is banned while the relay is away");
    for event in [&note, &wrap, &kept, &later] {
        client.put(event).await;
    }
    for event in [&note, &wrap] {
        change(&relay, folder.path(), |roster| {
            roster.ban_event(event.id(), "", now())
        })
        .await
        .unwrap();
        refused(&mut client, event, "blocked:").await;
    }
    let is_gone = |event: &Event| {
        for (what, needle) in traces(event) {
            // Its id is on the operator's list.
            let found = holding(folder.path(), &needle);
            let is_listed = what == "id as text";
            assert!(
                found
                    .iter()
                    .all(|p| is_listed && p.ends_with("roster.json")),
                "{what}"
            );
        }
    };
    let until = Instant::now() + PATIENCE;
    for event in [&note, &wrap] {
        while !holding(folder.path(), event.content().as_bytes()).is_empty() {
            assert!(Instant::now() < until);
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
    assert!(client.mailbox(&to).await.is_empty());
    // The note's author has written what stays.
    is_gone(&wrap);
    // Even an ephemeral one, which no store would stop.
    let passing = person(1).sign(20_001, now(), &[], "passing");
    change(&relay, folder.path(), |roster| {
        roster.ban_event(passing.id(), "", now())
    })
    .await
    .unwrap();
    refused(&mut client, &passing, "blocked:").await;
    relay.stop().await.unwrap();

    let file = RosterFile::open(folder.path()).unwrap();
    file.change(|roster| roster.ban_event(later.id(), "", now()))
        .unwrap()
        .unwrap();
    let relay = start(Config::on_disk(folder.path())).await;
    is_gone(&later);
    let mut client = Client::connect_as(&relay.url(), &to).await;
    for event in [&note, &wrap, &later] {
        refused(&mut client, event, "blocked:").await;
    }
    let notes = Filter::default().with_kinds([1]);
    assert_eq!(ids(&client.fetch(notes).await.unwrap()), [kept.id()]);
    // And back, if the operator changes their mind.
    change(&relay, folder.path(), |roster| {
        roster.unban_event(&note.id())
    })
    .await;
    client.put(&note).await;
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_ban_3_an_allowed_event_is_taken_whoever_wrote_it() {
    let folder = tempfile::tempdir().unwrap();
    let relay = start(members_only(folder.path(), &[])).await;
    let note = person(1).note("a stranger's, and welcome");
    let mut client = Client::connect(&relay.url()).await;
    refused(&mut client, &note, "auth-required:").await;
    change(&relay, folder.path(), |roster| {
        roster.allow_event(note.id(), "", now())
    })
    .await
    .unwrap();
    client.put(&note).await;
    refused(&mut client, &person(1).note("another"), "auth-required:").await;
    // Forged it is still not taken.
    let forged = String::from_utf8(note.json().to_vec())
        .unwrap()
        .replace("welcome", "spoiled");
    client.send(format!("[\"EVENT\",{forged}]")).await;
    assert!(!client.answer(note.id()).await.0);
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_ban_4_kinds_are_allowed_and_disallowed_beside_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::on_disk(folder.path());
    config.rules.kinds = Some(BTreeSet::from([1]));
    let relay = start(config).await;
    let mut client = Client::connect(&relay.url()).await;
    let of = |kind: u16| person(1).sign(kind, now(), &[], &kind.to_string());
    refused(&mut client, &of(7), "blocked:").await;
    change(&relay, folder.path(), |roster| {
        roster.allow_kind(7);
        roster.disallow_kind(1);
        roster.disallow_kind(5);
    })
    .await;
    client.put(&of(7)).await;
    refused(&mut client, &of(1), "blocked:").await;
    // Nor does it keep anybody from taking back what they wrote, be it here or not.
    client.put(&person(1).deletion(&of(7))).await;
    client.put(&person(1).deletion(&of(1))).await;
    relay.stop().await.unwrap();

    // To allow a kind never makes an open relay take less.
    let folder = tempfile::tempdir().unwrap();
    let relay = start(Config::on_disk(folder.path())).await;
    let mut client = Client::connect(&relay.url()).await;
    change(&relay, folder.path(), |roster| roster.allow_kind(7)).await;
    client.put(&of(1)).await;
    relay.stop().await.unwrap();
}
