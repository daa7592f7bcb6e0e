//! What is accepted and what is refused, each with its reason.

use std::collections::BTreeSet;

use sotto_relay::Config;
use sotto_relay::policy::Writers;
use wire::{Event, Filter, RelayFrame};

use crate::support::{Client, Person, ids, now, person, start, subscription};

async fn refused(client: &mut Client, event: &Event, prefix: &str) {
    let (accepted, text) = client.publish(event).await;
    assert!(!accepted, "kind {} was accepted", event.kind());
    assert!(text.starts_with(prefix), "{text}");
}

#[tokio::test]
async fn r_kind_1_seals_and_signed_rumors_are_refused() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    for kind in [13, 14, 15] {
        refused(
            &mut client,
            &person(1).sign(kind, now(), &[], ""),
            "invalid:",
        )
        .await;
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_kind_2_an_auth_event_is_never_stored_or_served() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect_as(&relay.url(), &person(1)).await;
    let event = client.auth_event(&person(1));
    refused(&mut client, &event, "invalid:").await;
    let found = client
        .fetch(Filter::default().with_kinds([22242]))
        .await
        .unwrap();
    assert!(found.is_empty());
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_kind_3_any_other_kind_is_taken_from_anybody() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    for kind in [
        0, 1, 3, 4, 7, 1984, 10050, 10450, 30078, 30450, 40_000, 65_535,
    ] {
        client.put(&person(1).sign(kind, now(), &[], "")).await;
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_wrap_1_a_wrap_names_exactly_one_valid_recipient() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    let (a, b) = (person(1).key().to_hex(), person(2).key().to_hex());
    let off_curve = "ff".repeat(32);
    let upper = a.to_uppercase();
    let cases: [&[&[&str]]; 7] = [
        &[],
        &[&["p"]],
        &[&["p", "nobody"]],
        &[&["p", &off_curve]],
        &[&["p", &upper]],
        &[&["p", &a], &["p", &b]],
        &[&["p", &a], &["p", &a]],
    ];
    for kind in [1059, 21059] {
        for tags in cases {
            refused(
                &mut client,
                &person(9).sign(kind, now(), tags, "x"),
                "invalid:",
            )
            .await;
        }
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_wrap_2_wraps_are_taken_from_two_days_and_a_quarter_hour_back() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    let to = person(2).key().to_hex();
    let window = 2 * 86_400 + 15 * 60;
    let at = |time| person(9).sign(1059, time, &[&["p", &to]], "x");
    client.put(&at(now() - window + 30)).await;
    refused(&mut client, &at(now() - window - 30), "invalid:").await;
    // Other events may be as old as they like.
    client.put(&person(1).sign(1, 1_000, &[], "")).await;
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_time_1_nothing_is_taken_from_more_than_a_quarter_hour_ahead() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    let to = person(2).key().to_hex();
    for (kind, tags) in [(1059, vec!["p", to.as_str()]), (1, vec!["t", "x"])] {
        let at = |time| person(9).sign(kind, time, &[&tags], "x");
        client.put(&at(now() + 870)).await;
        refused(&mut client, &at(now() + 930), "invalid:").await;
        refused(&mut client, &at(u64::MAX), "invalid:").await;
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_exp_1_what_has_expired_is_refused_and_hidden_from_the_exact_second() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    let time = Arc::new(AtomicU64::new(now()));
    let mut config = Config::in_memory();
    let clock = time.clone();
    config.clock = sotto_relay::config::Clock::new(move || clock.load(Ordering::Relaxed));
    let relay = start(config).await;
    let to = person(2);
    let mut client = Client::connect_as(&relay.url(), &to).await;
    let start = time.load(Ordering::Relaxed);
    let make = |end: u64| {
        let tags: [&[&str]; 2] = [
            &["p", &to.key().to_hex()],
            &["expiration", &end.to_string()],
        ];
        person(9).sign(1059, start, &tags, "x")
    };
    refused(&mut client, &make(start), "invalid:").await;
    refused(&mut client, &make(start - 1), "invalid:").await;
    client.put(&make(start + 100)).await;
    time.store(start + 99, Ordering::Relaxed);
    assert_eq!(client.mailbox(&to).await.len(), 1);
    time.store(start + 100, Ordering::Relaxed);
    assert!(client.mailbox(&to).await.is_empty());
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_eph_1_ephemeral_events_reach_who_is_there_and_are_never_stored() {
    let relay = start(Config::in_memory()).await;
    let to = person(2);
    let mut reader = Client::connect_as(&relay.url(), &to).await;
    let id = subscription("inbox");
    reader
        .ask(&id, &[crate::support::mailbox(&to)])
        .await
        .unwrap();
    let mut writer = Client::connect(&relay.url()).await;
    let event = person(9).sign(21059, now(), &[&["p", &to.key().to_hex()]], "now or never");
    writer.put(&event).await;
    assert_eq!(reader.receive().await, RelayFrame::Event(id, event));
    assert!(reader.mailbox(&to).await.is_empty());
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_prot_1_a_protected_event_is_taken_from_its_author_alone() {
    let relay = start(Config::in_memory()).await;
    let (alice, bob) = (person(1), person(2));
    let event = alice.sign(1, now(), &[&["-"]], "mine to publish");
    let mut client = Client::connect(&relay.url()).await;
    refused(&mut client, &event, "auth-required:").await;
    assert!(client.auth(&bob).await.0);
    refused(&mut client, &event, "restricted:").await;
    assert!(client.auth(&alice).await.0);
    client.put(&event).await;
    relay.stop().await.unwrap();
}

fn members_only(members: &[&Person]) -> Config {
    let mut config = Config::in_memory();
    let keys: BTreeSet<_> = members.iter().map(|person| person.key()).collect();
    config.rules.writers = Writers::Members(keys);
    config
}

#[tokio::test]
async fn r_memb_1_strangers_may_write_wraps_to_members_and_nothing_else() {
    let (member, stranger) = (person(1), person(2));
    let relay = start(members_only(&[&member])).await;
    let mut client = Client::connect(&relay.url()).await;
    client.put(&person(9).wrap(&member, "hello")).await;
    refused(
        &mut client,
        &person(9).wrap(&stranger, "x"),
        "auth-required:",
    )
    .await;
    refused(&mut client, &stranger.note("x"), "auth-required:").await;
    assert!(client.auth(&stranger).await.0);
    refused(&mut client, &stranger.note("x"), "restricted:").await;
    assert!(client.auth(&member).await.0);
    client.put(&member.note("x")).await;
    client.put(&person(9).wrap(&stranger, "x")).await;
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_del_3_a_stranger_may_delete_what_they_wrote_under_every_policy() {
    let member = person(1);
    let relay = start(members_only(&[&member])).await;
    let once = person(9);
    let mut client = Client::connect(&relay.url()).await;
    let wrap = once.wrap(&member, "oops");
    refused(&mut client, &once.deletion(&wrap), "auth-required:").await;
    client.put(&wrap).await;
    refused(&mut client, &person(8).deletion(&wrap), "auth-required:").await;
    client.put(&once.deletion(&wrap)).await;
    // Sent again, it is still fine.
    client.put(&once.deletion(&wrap)).await;
    let mut reader = Client::connect_as(&relay.url(), &member).await;
    assert!(reader.mailbox(&member).await.is_empty());
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_quota_1_a_full_mailbox_refuses_new_wraps_and_keeps_the_old() {
    let mut config = Config::in_memory();
    config.rules.wraps_per_recipient = Some(2);
    let relay = start(config).await;
    let to = person(2);
    let mut client = Client::connect_as(&relay.url(), &to).await;
    let wraps: Vec<Event> = (0..4)
        .map(|n| person(9).wrap(&to, &format!("{n}")))
        .collect();
    client.put(&wraps[0]).await;
    client.put(&wraps[1]).await;
    refused(&mut client, &wraps[2], "blocked:").await;
    let mut found = ids(&client.mailbox(&to).await);
    let mut wanted = ids(&wraps[..2]);
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
    // A deletion is always taken, and makes room.
    client.put(&to.deletion(&wraps[0])).await;
    client.put(&wraps[3]).await;
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_sig_1_a_forged_event_is_refused_and_does_not_spoil_the_true_one() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    let event = person(1).note("true");
    let json = String::from_utf8(event.json().to_vec()).unwrap();
    let sig = event.sig().to_hex();
    let other_sig = person(1).note("other").sig().to_hex();
    for forged in [
        json.replace("\"true\"", "\"false\""),
        json.replace(&sig, &other_sig),
        json.replace(&person(1).key().to_hex(), &person(2).key().to_hex()),
    ] {
        assert_ne!(forged, json);
        client.send(format!("[\"EVENT\",{forged}]")).await;
        let (accepted, text) = client.answer(event.id()).await;
        assert!(!accepted && text.starts_with("invalid:"), "{text}");
    }
    client.put(&event).await;
    client
        .send(format!("[\"EVENT\",{}]", json.replace(&sig, &other_sig)))
        .await;
    assert!(!client.answer(event.id()).await.0);
    relay.stop().await.unwrap();
}
