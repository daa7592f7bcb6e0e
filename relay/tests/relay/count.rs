//! COUNT (NIP-45): the number of events that REQ would show, or a refusal.

use sotto_relay::Config;
use tokio_tungstenite::tungstenite::Message;
use wire::{ClientFrame, Filter, RelayFrame};

use futures_util::SinkExt as _;

use crate::support::{Client, now, person, start, subscription};

fn kind(kind: u16) -> Filter {
    Filter::default().with_kinds([kind])
}

#[tokio::test]
async fn r_count_1_each_match_counts_once_and_limits_play_no_part() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    // One clock for all: a second that passes between two of them would make them the same event.
    let at = now();
    for n in 0..5 {
        client.put(&person(1).sign(1, at - n, &[], "note")).await;
    }
    client.put(&person(2).sign(7, now(), &[], "+")).await;
    let own = Filter::default().with_authors([person(1).key()]);
    let own = Filter {
        kinds: Some([1].into_iter().collect()),
        limit: Some(2),
        ..own
    };
    for (filters, wanted) in [
        (vec![kind(1)], 5),
        (vec![kind(9)], 0),
        (vec![own.clone()], 5),
        (vec![own.clone(), kind(1), kind(7), own], 6),
    ] {
        assert_eq!(client.count(&filters).await, Ok(wanted), "{filters:?}");
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_count_1_what_is_deleted_or_expired_does_not_count() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    let gone = person(1).note("gone");
    let soon = (now() + 2).to_string();
    let brief = person(1).sign(1, now(), &[&["expiration", &soon]], "brief");
    for event in [&gone, &brief, &person(1).note("stays")] {
        client.put(event).await;
    }
    client.put(&person(1).deletion(&gone)).await;
    loop {
        let asked_at = now();
        match client.count(&[kind(1)]).await {
            Ok(1) => break,
            Ok(2) => assert!(
                asked_at < brief.expiration().unwrap(),
                "expired and counted"
            ),
            other => panic!("{other:?}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_count_2_more_than_the_relay_counts_is_refused() {
    let mut config = Config::in_memory();
    config.limits.counted_events = 3;
    let relay = start(config).await;
    let mut client = Client::connect(&relay.url()).await;
    for n in 0..3 {
        client.put(&person(1).sign(1, now() - n, &[], "note")).await;
        client.put(&person(1).sign(7, now() - n, &[], "+")).await;
    }
    assert_eq!(client.count(&[kind(1)]).await, Ok(3));
    let both = [kind(1), kind(7)];
    let text = client.count(&both).await.unwrap_err();
    assert_eq!(text, "blocked: more than 3 events match");
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_count_3_a_flood_of_counts_is_answered_or_refused_one_by_one() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    for n in 0..50 {
        client.put(&person(1).sign(1, now() - n, &[], "note")).await;
    }
    for n in 0..200 {
        let frame = ClientFrame::count(&subscription(&format!("c{n}")), &[kind(1)]);
        client.socket.feed(Message::text(frame)).await.unwrap();
    }
    client.socket.flush().await.unwrap();
    let mut answered = std::collections::BTreeSet::new();
    let mut refused = 0;
    while answered.len() < 200 {
        let id = match client.receive().await {
            RelayFrame::Count {
                subscription,
                count,
                ..
            } => {
                assert_eq!(count, 50);
                subscription
            }
            RelayFrame::Closed(id, message) => {
                assert_eq!(message.reason, wire::Reason::RateLimited);
                refused += 1;
                id
            }
            other => panic!("{other:?}"),
        };
        assert!(answered.insert(id));
    }
    // Four at once, and all of them came at once.
    assert!((1..200).contains(&refused), "{refused}");
    assert_eq!(client.count(&[kind(1)]).await, Ok(50));
    relay.stop().await.unwrap();
}
