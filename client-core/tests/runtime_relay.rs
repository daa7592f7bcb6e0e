//! The socket to a relay, against relays that behave, lie, stall and break.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::result_large_err,
    reason = "a test fails by panicking, and one error type is another crate's"
)]

mod scripted_relay;

use std::time::Duration;

use bytes::Bytes;
use client_core::engine::io::{Input, OpId, PublishOutcome, QueryEnd, Role, SocketKey};
use client_core::runtime::Timeouts;
use client_core::runtime::dialer::Dialer;
use client_core::runtime::relay_link::{Command, RelayLink};
use crypto::OneTimeKey;
use futures_util::{SinkExt as _, StreamExt as _};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use scripted_relay::{LONG, Link, Peer, event, ids, patient, relay, wraps};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use wire::{EventDraft, Filter, PublicKey, Reason, RelayUrl};

fn is_unknown(outcome: &PublishOutcome) -> bool {
    matches!(outcome, PublishOutcome::Unknown(_))
}

/// What becomes of an event on a connection of its own.
async fn published(url: RelayUrl) -> PublishOutcome {
    Link::to(url, Role::Publish)
        .publish_and_wait(&event(1))
        .await
}

// Publishing

#[tokio::test]
async fn every_refusal_reaches_the_engine_with_its_reason() {
    const REASONS: [(&str, Reason); 8] = [
        ("duplicate: have it", Reason::Duplicate),
        ("pow: 20 bits", Reason::Pow),
        ("blocked: no", Reason::Blocked),
        ("rate-limited: slow down", Reason::RateLimited),
        ("invalid: bad", Reason::Invalid),
        ("restricted: members only", Reason::Restricted),
        ("error: disk", Reason::Error),
        ("whatever", Reason::None),
    ];
    let url = relay(|mut peer| async move {
        for (text, _) in REASONS {
            let event = peer.hear().await;
            peer.ok(&event, false, text).await;
        }
        let event = peer.hear().await;
        peer.ok(&event, true, "").await;
        peer.until_gone().await;
    })
    .await;
    let mut link = Link::to(url, Role::Publish);
    for (number, (text, reason)) in (0..).zip(REASONS) {
        match link.publish_and_wait(&event(number)).await {
            PublishOutcome::Refused(message) => {
                assert_eq!(message.reason, reason);
                assert_eq!(message.text, text);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(
        link.publish_and_wait(&event(99)).await,
        PublishOutcome::Accepted(_)
    ));
}

#[tokio::test]
async fn events_are_pipelined_and_oks_matched_by_id_in_any_order() {
    let url = relay(|mut peer| async move {
        let mut events = Vec::new();
        for _ in 0..50 {
            events.push(peer.hear().await);
        }
        for (index, event) in events.iter().enumerate().rev() {
            peer.ok(event, index % 2 == 0, "").await;
        }
        peer.until_gone().await;
    })
    .await;
    let mut link = Link::to(url, Role::Publish);
    for number in 0..50 {
        link.publish(number, &event(number));
    }
    for number in (0..50).rev() {
        let Input::Published { op, outcome } = link.next().await else {
            panic!("not an answer to a publish");
        };
        assert_eq!(op, OpId(number));
        assert_eq!(
            matches!(outcome, PublishOutcome::Accepted(_)),
            number % 2 == 0
        );
    }
}

#[tokio::test]
async fn a_relay_that_talks_nonsense_first_is_still_heard() {
    let url = relay(|mut peer| async move {
        let event = peer.hear().await;
        for nonsense in [
            "",
            "hello",
            "{}",
            "[]",
            "[1]",
            "[\"OK\"]",
            "[\"WHAT\",1]",
            "\u{0}",
        ] {
            peer.say_text(nonsense).await;
        }
        peer.say_text(&"[".repeat(100_000)).await;
        peer.say(json!(["OK", "ab".repeat(32), false, "not yours"]))
            .await;
        peer.say(json!(["EVENT", "nobody-asked", {"id": 1}])).await;
        peer.say(json!(["NOTICE", "\u{1b}[2J you are hacked"]))
            .await;
        let _ = peer.socket.send(Message::binary(vec![1, 2, 3])).await;
        let _ = peer
            .socket
            .send(Message::Ping(Bytes::from_static(b"x")))
            .await;
        peer.ok(&event, true, "").await;
        peer.until_gone().await;
    })
    .await;
    let outcome = published(url).await;
    assert!(
        matches!(outcome, PublishOutcome::Accepted(_)),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn endless_nonsense_ends_the_connection() {
    let url = relay(|mut peer| async move {
        peer.hear().await;
        loop {
            if peer.socket.send(Message::text("[0]")).await.is_err() {
                return;
            }
        }
    })
    .await;
    let outcome = published(url).await;
    assert!(is_unknown(&outcome), "{outcome:?}");
}

#[tokio::test]
async fn an_oversized_frame_ends_the_connection_before_it_is_parsed() {
    let url = relay(|mut peer| async move {
        peer.hear().await;
        let frame = json!(["NOTICE", "x".repeat(wire::limits::FRAME_BYTES)]);
        peer.say(frame).await;
        peer.until_gone().await;
    })
    .await;
    let outcome = published(url).await;
    assert!(is_unknown(&outcome), "{outcome:?}");
    let PublishOutcome::Unknown(why) = outcome else {
        unreachable!()
    };
    assert!(why.contains("131072"), "{why}");
}

#[tokio::test]
async fn text_that_is_not_utf8_ends_the_connection() {
    let url = relay(|mut peer| async move {
        peer.hear().await;
        // A final text frame of four bytes, the third of which starts no character.
        peer.say_raw(&[0x81, 0x04, b'[', b'"', 0xff, b'"']).await;
    })
    .await;
    let outcome = published(url).await;
    assert!(is_unknown(&outcome), "{outcome:?}");
}

#[tokio::test]
async fn a_relay_that_dies_before_its_ok_leaves_the_outcome_unknown() {
    let url = relay(|mut peer| async move {
        peer.hear().await;
    })
    .await;
    let mut link = Link::to(url, Role::Publish);
    let outcome = link.publish_and_wait(&event(1)).await;
    assert!(is_unknown(&outcome), "{outcome:?}");
    // The next command dials again.
    let outcome = link.publish_and_wait(&event(2)).await;
    assert!(is_unknown(&outcome), "{outcome:?}");
}

#[tokio::test]
async fn a_silent_relay_is_given_up_in_time() {
    let url = relay(|mut peer| async move { peer.until_gone().await }).await;
    let timeouts = Timeouts {
        answer: Duration::from_millis(50),
        ..patient()
    };
    let mut link = Link::with(url, Role::Publish, timeouts);
    assert!(is_unknown(&link.publish_and_wait(&event(1)).await));
    link.query(2, wraps(), false);
    let (events, end, _) = link.collect(2).await;
    assert!(events.is_empty());
    assert!(matches!(end, QueryEnd::Unreachable(_)));
}

#[tokio::test]
async fn nobody_there_is_unreachable_for_all_that_waits() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = RelayUrl::parse(&format!("ws://127.0.0.1:{port}")).unwrap();
    let mut link = Link::to(url, Role::Publish);
    link.publish(1, &event(1));
    link.publish(2, &event(2));
    link.query(3, wraps(), false);
    for _ in 0..2 {
        assert!(matches!(
            link.next().await,
            Input::Published {
                outcome: PublishOutcome::Unreachable(_),
                ..
            }
        ));
    }
    assert!(matches!(
        link.next().await,
        Input::QueryEnded {
            end: QueryEnd::Unreachable(_),
            ..
        }
    ));
}

#[tokio::test]
async fn something_that_is_no_relay_is_unreachable() {
    for answer in [
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        "SSH-2.0-OpenSSH_9\r\n\r\n",
        "",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        });
        let url = RelayUrl::parse(&format!("ws://127.0.0.1:{port}")).unwrap();
        let outcome = published(url).await;
        assert!(
            matches!(outcome, PublishOutcome::Unreachable(_)),
            "{answer}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_relay_that_is_not_ours_may_not_lead_to_loopback() {
    let url = relay(|mut peer| async move { peer.until_gone().await }).await;
    let key = SocketKey {
        circle: 0,
        role: Role::Publish,
        key: PublicKey::from_bytes([7; 32]),
        relay: url,
        is_own: false,
    };
    let (sender, inputs) = mpsc::channel(64);
    let dialer = Dialer::new(LONG).unwrap();
    let (link, task) = RelayLink::new(key, dialer, patient(), [5; 32], sender);
    tokio::spawn(task);
    let mut link = Link { link, inputs };
    assert!(matches!(
        link.publish_and_wait(&event(1)).await,
        PublishOutcome::Forbidden(_)
    ));
}

// Reading

#[tokio::test]
async fn one_bad_event_among_a_thousand_loses_none_of_the_others() {
    let url = relay(|mut peer| async move {
        let req = peer.hear().await;
        let good = |number| -> Value { serde_json::from_slice(event(number).json()).unwrap() };
        for number in 0..1_000 {
            if number == 500 {
                peer.say(json!(["EVENT", req[1], {"id": "poison"}])).await;
                peer.say(json!(["EVENT", "another", good(0)])).await;
                let mut other = good(1);
                other["tags"] = json!([]);
                // Not what was asked for.
                peer.say(json!(["EVENT", req[1], other])).await;
            }
            peer.say(json!(["EVENT", req[1], good(number)])).await;
        }
        peer.say(json!(["EOSE", req[1], ["finish"]])).await;
        assert_eq!(peer.hear().await, json!(["CLOSE", req[1]]));
        peer.until_gone().await;
    })
    .await;
    let mut link = Link::to(url, Role::Lookup);
    link.query(1, wraps(), false);
    let (events, end, garbage) = link.collect(1).await;
    assert_eq!(events.len(), 1_000);
    assert_eq!(ids(&events)[500], event(500).id());
    assert_eq!(
        end,
        QueryEnd::Eose {
            complete: Some(true)
        }
    );
    assert_eq!(garbage, 3);
}

#[tokio::test]
async fn large_events_are_handed_on_before_they_are_many() {
    const LARGE: usize = 60_000;
    let url = relay(|mut peer| async move {
        let request = peer.hear().await;
        for number in 0..40 {
            let large = json!(["EVENT", request[1], large_event(number, LARGE)]);
            peer.say(large).await;
        }
        peer.say(json!(["EOSE", request[1]])).await;
        peer.until_gone().await;
    })
    .await;
    let mut link = Link::to(url, Role::Inbox);
    link.query(1, wraps(), false);
    let mut count = 0;
    loop {
        match link.next().await {
            Input::Events { events, .. } => {
                count += events.len();
                let bytes: usize = events.iter().map(Bytes::len).sum();
                assert!(bytes <= 256 * 1024 + 2 * LARGE, "{bytes} bytes at once");
            }
            Input::QueryEnded { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(count, 40);
}

/// A wrap of about so many bytes.
fn large_event(number: u64, bytes: usize) -> Value {
    let mut rng = StdRng::seed_from_u64(number);
    let key = OneTimeKey::generate(&mut rng);
    let draft = EventDraft {
        content: "x".repeat(bytes),
        pubkey: key.public_key(),
        ..event(number).draft().clone()
    };
    serde_json::from_slice(key.sign(draft, &mut rng).json()).unwrap()
}

#[tokio::test]
async fn far_more_than_was_asked_for_is_dropped() {
    let url = relay(|mut peer| async move {
        let req = peer.hear().await;
        assert_eq!(req[2]["limit"], 2);
        for number in 0..110 {
            let event: Value = serde_json::from_slice(event(number).json()).unwrap();
            peer.say(json!(["EVENT", req[1], event])).await;
        }
        peer.say(json!(["EOSE", req[1]])).await;
        peer.until_gone().await;
    })
    .await;
    let mut link = Link::to(url, Role::Lookup);
    let filter = Filter {
        limit: Some(2),
        ..wraps()
    };
    link.query(1, filter, false);
    let (events, _, garbage) = link.collect(1).await;
    assert_eq!((events.len(), garbage), (102, 8));
}

#[tokio::test]
async fn a_live_query_catches_up_and_goes_on_until_the_relay_dies() {
    let url = relay(|mut peer| async move {
        let req = peer.hear().await;
        let event = |number| -> Value { serde_json::from_slice(event(number).json()).unwrap() };
        peer.say(json!(["EVENT", req[1], event(1)])).await;
        peer.say(json!(["EOSE", req[1]])).await;
        peer.say(json!(["EVENT", req[1], event(2)])).await;
    })
    .await;
    let mut link = Link::to(url, Role::Inbox);
    link.query(1, wraps(), true);
    assert!(matches!(link.next().await, Input::Events { events, .. } if events.len() == 1));
    assert!(matches!(link.next().await, Input::CaughtUp { op } if op == OpId(1)));
    assert!(matches!(link.next().await, Input::Events { events, .. } if events.len() == 1));
    assert!(matches!(
        link.next().await,
        Input::QueryEnded {
            end: QueryEnd::Unreachable(_),
            ..
        }
    ));
}

#[tokio::test]
async fn a_closed_subscription_ends_with_the_relays_reason() {
    let url = relay(|mut peer| async move {
        let req = peer.hear().await;
        peer.say(json!(["CLOSED", req[1], "rate-limited: too many"]))
            .await;
        peer.until_gone().await;
    })
    .await;
    let mut link = Link::to(url, Role::Lookup);
    link.query(1, wraps(), false);
    let (_, end, _) = link.collect(1).await;
    assert!(matches!(end, QueryEnd::Closed(message) if message.reason == Reason::RateLimited));
}

// The connection itself

#[tokio::test]
async fn a_publish_socket_closes_when_nothing_is_left_to_do() {
    let (sender, mut gone) = mpsc::channel(1);
    let url = relay(move |mut peer| {
        let sender = sender.clone();
        async move {
            let event = peer.hear().await;
            peer.ok(&event, true, "").await;
            assert_eq!(peer.hear().await, Value::Null);
            let _ = sender.send(()).await;
        }
    })
    .await;
    let timeouts = Timeouts {
        linger: Duration::from_millis(20),
        ..patient()
    };
    let mut link = Link::with(url, Role::Publish, timeouts);
    link.publish_and_wait(&event(1)).await;
    tokio::time::timeout(LONG, gone.recv()).await.unwrap();
    // And it opens again when there is.
    let outcome = link.publish_and_wait(&event(2)).await;
    assert!(matches!(outcome, PublishOutcome::Accepted(_)));
}

#[tokio::test]
async fn a_peer_that_is_dead_is_noticed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        let req: Value = match socket.next().await {
            Some(Ok(Message::Text(text))) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        };
        let eose = json!(["EOSE", req[1]]).to_string();
        socket.send(Message::text(eose)).await.unwrap();
        // From now on nothing is read, so no ping is answered.
        std::future::pending::<()>().await;
    });
    let url = RelayUrl::parse(&format!("ws://127.0.0.1:{port}")).unwrap();
    let timeouts = Timeouts {
        ping: Duration::from_millis(50),
        ..patient()
    };
    let mut link = Link::with(url, Role::Inbox, timeouts);
    link.query(1, wraps(), true);
    assert!(matches!(link.next().await, Input::CaughtUp { .. }));
    assert!(matches!(
        link.next().await,
        Input::QueryEnded {
            end: QueryEnd::Unreachable(_),
            ..
        }
    ));
}

#[tokio::test]
async fn the_handshake_says_the_same_for_everybody() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, mut seen) = mpsc::channel(4);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut headers = Vec::new();
            let callback = |request: &Request, response: Response| {
                for (name, value) in request.headers() {
                    headers.push((name.to_string(), value.to_str().unwrap().to_owned()));
                }
                Ok(response)
            };
            let socket = tokio_tungstenite::accept_hdr_async(stream, callback).await;
            let mut peer = Peer {
                socket: socket.unwrap(),
            };
            let req = peer.hear().await;
            sender.send((headers, req)).await.unwrap();
            tokio::spawn(async move { peer.until_gone().await });
        }
    });
    let url = RelayUrl::parse(&format!("ws://127.0.0.1:{port}")).unwrap();
    let mut subscriptions = Vec::new();
    for seed in [1, 2] {
        let key = SocketKey {
            circle: 0,
            role: Role::Lookup,
            key: PublicKey::from_bytes([7; 32]),
            relay: url.clone(),
            is_own: true,
        };
        let (sender, _inputs) = mpsc::channel(64);
        let dialer = Dialer::new(LONG).unwrap();
        let (link, task) = RelayLink::new(key, dialer, patient(), [seed; 32], sender);
        tokio::spawn(task);
        link.command(Command::Query {
            op: OpId(1),
            filter: wraps(),
            live: false,
        });
        let (headers, req) = seen.recv().await.unwrap();
        let mut names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "connection",
                "host",
                "sec-websocket-key",
                "sec-websocket-version",
                "upgrade",
                "user-agent"
            ]
        );
        assert!(headers.contains(&("user-agent".to_owned(), "Sotto".to_owned())));
        subscriptions.push(req[1].as_str().unwrap().to_owned());
    }
    assert_eq!(subscriptions[0].len(), 32);
    assert_ne!(subscriptions[0], subscriptions[1]);
}
