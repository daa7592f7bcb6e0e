//! What is accepted and what is refused, each with its reason.

use std::collections::BTreeSet;

use sotto_relay::Config;
use sotto_relay::policy::{Work, WorkOf, Writers};
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
async fn r_rcpt_1_only_wraps_to_listed_keys_and_what_those_sign_are_taken() {
    let (listed, stranger) = (person(1), person(2));
    let mut config = Config::in_memory();
    config.rules.writers = Writers::Recipients(BTreeSet::from([listed.key()]));
    let relay = start(config).await;
    let mut client = Client::connect(&relay.url()).await;
    // Nobody need say who they are.
    client.put(&person(9).wrap(&listed, "hello")).await;
    client.put(&listed.note("mine")).await;
    for _ in 0..2 {
        refused(&mut client, &person(9).wrap(&stranger, "x"), "blocked:").await;
        refused(&mut client, &stranger.note("x"), "blocked:").await;
        // A listed sender changes nothing: the relay is for what is addressed to its users.
        assert!(client.auth(&listed).await.0);
    }
    // Whoever wrote a wrap that is here may take it back.
    let wrap = person(8).wrap(&listed, "oops");
    client.put(&wrap).await;
    client.put(&person(8).deletion(&wrap)).await;
    refused(
        &mut client,
        &stranger.deletion(&stranger.note("x")),
        "blocked:",
    )
    .await;
    assert_eq!(client.mailbox(&listed).await.len(), 1);
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_kind_4_other_kinds_than_the_configured_are_refused_and_deletions_are_not() {
    let mut config = Config::in_memory();
    config.rules.kinds = Some(BTreeSet::from([1059]));
    let relay = start(config).await;
    let to = person(2);
    let mut client = Client::connect(&relay.url()).await;
    refused(&mut client, &person(1).note("x"), "blocked:").await;
    let ephemeral = person(9).sign(21059, now(), &[&["p", &to.key().to_hex()]], "");
    refused(&mut client, &ephemeral, "blocked:").await;
    let wrap = person(9).wrap(&to, "hello");
    client.put(&wrap).await;
    client.put(&person(9).deletion(&wrap)).await;
    let vanish = person(9).sign(62, now(), &[&["relay", "ALL_RELAYS"]], "");
    client.put(&vanish).await;
    // What they name need not be here.
    let late = person(8).wrap(&to, "late");
    client.put(&person(8).deletion(&late)).await;
    refused(&mut client, &late, "blocked: the event was deleted").await;
    client
        .put(&person(8).deletion(&person(8).note("of a kind that was taken once")))
        .await;
    relay.stop().await.unwrap();

    // Who may not write here hears that, and nothing of kinds.
    let mut config = members_only(&[&to]);
    config.rules.kinds = Some(BTreeSet::from([1059]));
    let relay = start(config).await;
    let mut client = Client::connect(&relay.url()).await;
    let early = person(8).deletion(&late);
    refused(&mut client, &early, "auth-required:").await;
    relay.stop().await.unwrap();
}

/// An event whose id begins with `bits` zeros and whose nonce tag aims at `aim`.
fn mined(author: &Person, kind: u16, tags: &[&[&str]], bits: u32, aim: &str) -> Event {
    let at = now();
    for nonce in 0_u32.. {
        let nonce = nonce.to_string();
        let tag: &[&str] = &["nonce", &nonce, aim];
        let tags: Vec<&[&str]> = tags.iter().copied().chain([tag]).collect();
        let event = author.sign(kind, at, &tags, "");
        let zeros = event.id().as_bytes()[0].leading_zeros();
        if zeros == bits {
            return event;
        }
    }
    unreachable!()
}

#[tokio::test]
async fn r_pow_1_work_is_asked_of_anonymous_wraps_or_of_everything() {
    for of in [WorkOf::AnonymousWraps, WorkOf::Everything] {
        let mut config = Config::in_memory();
        config.rules.work = Some(Work { bits: 6, of });
        let relay = start(config).await;
        let (sender, to) = (person(9), person(2));
        let tag = to.key().to_hex();
        let tags: &[&[&str]] = &[&["p", &tag]];
        let mut client = Client::connect(&relay.url()).await;
        // No work, too little, and enough by luck alone.
        let lazy = mined(&sender, 1059, tags, 0, "6");
        let (accepted, text) = client.publish(&lazy).await;
        assert!(!accepted);
        assert_eq!(text, "pow: difficulty 0 is less than 6");
        for (bits, aim) in [(5, "6"), (6, "5"), (7, ""), (6, "six")] {
            refused(&mut client, &mined(&sender, 1059, tags, bits, aim), "pow:").await;
        }
        client.put(&mined(&sender, 1059, tags, 6, "6")).await;
        let busy = mined(&sender, 1059, tags, 7, "7");
        client.put(&busy).await;
        // Taking back costs nothing.
        client.put(&sender.deletion(&busy)).await;
        let late = mined(&person(8), 1059, tags, 6, "6");
        client.put(&person(8).deletion(&late)).await;
        refused(&mut client, &late, "blocked: the event was deleted").await;
        // Other kinds. A key that anybody could draw changes nothing.
        let is_all = of == WorkOf::Everything;
        let note = mined(&sender, 1, &[], 0, "0");
        assert_eq!(client.publish(&note).await.0, !is_all);
        assert!(client.auth(&person(5)).await.0);
        refused(&mut client, &lazy, "pow:").await;
        relay.stop().await.unwrap();

        // A member's does.
        let mut config = members_only(&[&to]);
        config.rules.work = Some(Work { bits: 6, of });
        let relay = start(config).await;
        let mut client = Client::connect(&relay.url()).await;
        refused(&mut client, &lazy, "pow:").await;
        assert!(client.auth(&to).await.0);
        assert_eq!(client.publish(&lazy).await.0, !is_all);
        relay.stop().await.unwrap();
    }
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
async fn r_quota_1_a_mailbox_is_full_by_its_bytes_too() {
    let to = person(2);
    let wraps: Vec<Event> = (0..3)
        .map(|n| person(9).wrap(&to, &format!("{n}")))
        .collect();
    let bytes = wraps[0].json().len();
    assert!(wraps.iter().all(|wrap| wrap.json().len() == bytes));
    let mut config = Config::in_memory();
    // What is stored is its JSON and a few bytes more.
    config.rules.bytes_per_recipient = Some(bytes as u64 * 5 / 2);
    let relay = start(config).await;
    let mut client = Client::connect_as(&relay.url(), &to).await;
    client.put(&wraps[0]).await;
    client.put(&wraps[1]).await;
    refused(&mut client, &wraps[2], "blocked:").await;
    // Others have mailboxes of their own.
    client.put(&person(9).wrap(&person(3), "for another")).await;
    client.put(&to.deletion(&wraps[0])).await;
    client.put(&wraps[2]).await;
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

/// Every digit of what is signed, and of the signature.
#[tokio::test]
async fn r_sig_1_an_event_with_any_digit_changed_is_refused() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    let event = person(1).sign(1, now(), &[&["t", "abc"]], "words");
    let json = String::from_utf8(event.json().to_vec()).unwrap();
    let mut count = 0;
    for (at, byte) in json.bytes().enumerate() {
        // What stays JSON of the same shape: digits and letters, not the names of fields.
        let is_name = [
            "\"id\"",
            "\"pubkey\"",
            "\"created_at\"",
            "\"kind\"",
            "\"tags\"",
            "\"content\"",
            "\"sig\"",
        ]
        .iter()
        .any(|name| {
            let from = json.find(name).unwrap();
            (from..from + name.len()).contains(&at)
        });
        let changed = match byte {
            _ if is_name => continue,
            b'0'..=b'8' | b'a'..=b'e' => byte + 1,
            b'9' | b'f'..=b'z' => b'1',
            _ => continue,
        };
        let mut forged = json.clone().into_bytes();
        forged[at] = changed;
        let forged = String::from_utf8(forged).unwrap();
        client.send(format!("[\"EVENT\",{forged}]")).await;
        match client.receive().await {
            RelayFrame::Ok(_, false, message) => {
                assert!(
                    message.text.starts_with("invalid:"),
                    "{forged}: {}",
                    message.text
                );
            }
            other => panic!("{forged}: {other:?}"),
        }
        count += 1;
    }
    // Id, key and signature alone are 256 digits.
    assert!(count > 256, "{count}");
    client.put(&event).await;
    relay.stop().await.unwrap();
}
