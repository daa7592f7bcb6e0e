//! Proving a key to a relay (NIP-42): when, to whom, and what is made of the answer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod scripted_relay;

use client_core::engine::io::{Input, PublishOutcome, QueryEnd, Role};
use client_core::runtime::relay_link::Command;
use scripted_relay::{Link, Peer, event, ids, relay, wraps};
use serde_json::{Value, json};
use wire::{Event, Reason, RelayUrl};

fn auth_event() -> Event {
    event(4242)
}

fn authenticate(link: &Link) {
    let auth = auth_event();
    link.link.command(Command::Authenticate {
        id: auth.id(),
        event: auth.json().clone(),
    });
}

async fn expect_challenge(link: &mut Link) {
    match link.next().await {
        Input::Challenged { challenge, .. } => assert_eq!(challenge, "c1"),
        other => panic!("{other:?}"),
    }
}

/// A relay that challenges at once, and what it says then. Each answer is that of an OK.
#[derive(Clone, Copy)]
struct Wall {
    proof: (bool, &'static str),
    event_before: &'static str,
    event_after: (bool, &'static str),
}

/// Wants an AUTH before each EVENT.
const FOR_ANYBODY: Wall = Wall {
    proof: (true, ""),
    event_before: "auth-required: who?",
    event_after: (true, ""),
};
/// Takes no AUTH.
const FOR_NOBODY: Wall = Wall {
    proof: (false, "restricted: not you"),
    ..FOR_ANYBODY
};
/// Takes any AUTH, and says that it takes nothing else.
const FOR_MEMBERS: Wall = Wall {
    proof: (true, "restricted: no member"),
    event_after: (false, "restricted: no"),
    ..FOR_ANYBODY
};
/// Says that it knows its members, to whoever has proved nothing.
const BEFORE_ANY_PROOF: Wall = Wall {
    event_before: "restricted: members",
    ..FOR_ANYBODY
};

impl Wall {
    async fn stand(self, mut peer: Peer) {
        peer.say(json!(["AUTH", "c1"])).await;
        let mut is_known = false;
        loop {
            let frame = peer.hear().await;
            match frame[0].as_str() {
                Some("AUTH") => {
                    let (accepted, text) = self.proof;
                    is_known = accepted;
                    peer.ok(&frame, accepted, text).await;
                }
                Some("EVENT") => {
                    let (accepted, text) = match is_known {
                        true => self.event_after,
                        false => (false, self.event_before),
                    };
                    peer.ok(&frame, accepted, text).await;
                }
                Some("REQ") => {
                    // Before that as some relays do: no refusal, just nothing.
                    if is_known {
                        let event: Value = serde_json::from_slice(event(1).json()).unwrap();
                        peer.say(json!(["EVENT", frame[1], event])).await;
                    }
                    peer.say(json!(["EOSE", frame[1]])).await;
                }
                Some(_) => {}
                None => return,
            }
        }
    }
}

async fn wall(wall: Wall) -> RelayUrl {
    relay(move |peer| wall.stand(peer)).await
}

#[tokio::test]
async fn a_publish_socket_ignores_challenges_until_it_must_not() {
    let url = wall(FOR_ANYBODY).await;
    let mut link = Link::to(url, Role::Publish);
    link.publish(1, &event(1));
    link.publish(2, &event(2));
    expect_challenge(&mut link).await;
    authenticate(&link);
    for _ in 0..2 {
        assert!(matches!(
            link.next().await,
            Input::Published {
                outcome: PublishOutcome::Accepted(_),
                ..
            }
        ));
    }
}

#[tokio::test]
async fn who_sends_as_themselves_proves_it_where_strangers_are_restricted() {
    let url = wall(BEFORE_ANY_PROOF).await;
    let mut link = Link::to(url.clone(), Role::AsMyself);
    link.publish(1, &event(1));
    expect_challenge(&mut link).await;
    authenticate(&link);
    assert!(matches!(
        link.next().await,
        Input::Published {
            outcome: PublishOutcome::Accepted(_),
            ..
        }
    ));
    // A one-time key would change nothing there.
    let outcome = Link::to(url, Role::Publish)
        .publish_and_wait(&event(2))
        .await;
    assert!(matches!(outcome, PublishOutcome::Refused(_)));
}

#[tokio::test]
async fn a_relay_that_never_requires_auth_is_never_given_one() {
    let url = relay(|mut peer| async move {
        peer.say(json!(["AUTH", "c1"])).await;
        let event = peer.hear().await;
        assert_eq!(event[0], "EVENT");
        peer.ok(&event, true, "").await;
        assert_eq!(peer.hear().await, Value::Null);
    })
    .await;
    for role in [Role::Publish, Role::Lookup] {
        let mut link = Link::to(url.clone(), role);
        let outcome = link.publish_and_wait(&event(1)).await;
        assert!(matches!(outcome, PublishOutcome::Accepted(_)));
    }
}

#[tokio::test]
async fn auth_refused_or_declined_is_a_refusal() {
    let url = wall(FOR_NOBODY).await;
    let mut link = Link::to(url.clone(), Role::Publish);
    link.publish(1, &event(1));
    expect_challenge(&mut link).await;
    authenticate(&link);
    match link.next().await {
        Input::Published {
            outcome: PublishOutcome::Refused(message),
            ..
        } => assert_eq!(message.reason, Reason::Restricted),
        other => panic!("{other:?}"),
    }
    let mut link = Link::to(url, Role::Publish);
    link.publish(1, &event(1));
    expect_challenge(&mut link).await;
    link.link.command(Command::StayAnonymous);
    match link.next().await {
        Input::Published {
            outcome: PublishOutcome::Refused(message),
            ..
        } => assert_eq!(message.reason, Reason::AuthRequired),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_inbox_is_read_after_the_auth_even_if_the_relay_feigned_emptiness_before() {
    let url = wall(FOR_ANYBODY).await;
    let mut link = Link::to(url, Role::Inbox);
    link.query(1, wraps(), false);
    expect_challenge(&mut link).await;
    authenticate(&link);
    let (events, end, _) = link.collect(1).await;
    assert_eq!(ids(&events), [event(1).id()]);
    assert!(matches!(end, QueryEnd::Eose { .. }));
}

#[tokio::test]
async fn an_inbox_whose_relay_refuses_the_auth_is_not_called_empty() {
    let url = wall(FOR_NOBODY).await;
    let mut link = Link::to(url, Role::Inbox);
    link.query(1, wraps(), false);
    expect_challenge(&mut link).await;
    authenticate(&link);
    let (_, end, _) = link.collect(1).await;
    match end {
        QueryEnd::Closed(message) => assert_eq!(message.reason, Reason::Restricted),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_relay_that_takes_the_proof_and_nothing_else_is_told_of_before_it_is_read() {
    let url = wall(FOR_MEMBERS).await;
    let mut link = Link::to(url.clone(), Role::Inbox);
    link.query(1, wraps(), false);
    expect_challenge(&mut link).await;
    authenticate(&link);
    match link.next().await {
        Input::Unwelcome { socket, why } => {
            assert_eq!(socket.role, Role::Inbox);
            assert_eq!(why, "restricted: no member");
        }
        other => panic!("{other:?}"),
    }
    let (_, end, _) = link.collect(1).await;
    assert!(matches!(end, QueryEnd::Eose { .. }));

    // It says nothing about the account where somebody else proved a key.
    let mut link = Link::to(url, Role::Publish);
    link.publish(1, &event(1));
    expect_challenge(&mut link).await;
    authenticate(&link);
    assert!(matches!(link.next().await, Input::Published { .. }));
}

#[tokio::test]
async fn a_relay_cannot_make_the_account_sign_without_end() {
    let url = relay(|mut peer| async move {
        for number in 0.. {
            peer.say(json!(["AUTH", format!("c{number}")])).await;
            if number > 100 {
                return peer.until_gone().await;
            }
        }
    })
    .await;
    let mut link = Link::to(url, Role::Inbox);
    link.query(1, wraps(), false);
    let mut challenges = 0;
    loop {
        match link.next().await {
            Input::Challenged { .. } => challenges += 1,
            Input::QueryEnded { end, .. } => {
                assert!(matches!(end, QueryEnd::Unreachable(_)));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(challenges <= 16, "{challenges}");
}
