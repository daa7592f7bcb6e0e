//! What is said on an inbox socket about comparing, and what relays say of themselves, against
//! relays that behave, lie, stall and break.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking"
)]

mod scripted_relay;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use client_core::engine::io::{Input, OpId, QueryEnd, ReconcileAnswer, ReconcileStep, Role};
use client_core::runtime::Timeouts;
use client_core::runtime::dialer::Dialer;
use client_core::runtime::file_link::FileLink;
use client_core::runtime::relay_document::{NoDocument, RelayDocument};
use client_core::runtime::relay_link::Command;
use scripted_relay::{Link, Peer, event, patient, relay, wraps};
use serde_json::{Value, json};
use sotto_relay::{Config, Relay};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use wire::{Reason, RelayUrl};

const ONE: OpId = OpId(1);

fn open(link: &Link) {
    link.link.command(Command::Reconcile {
        op: ONE,
        step: ReconcileStep::Open {
            filter: wraps(),
            message: vec![0x61, 0, 0, 2, 0],
        },
    });
}

fn go_on(link: &Link) {
    link.link.command(Command::Reconcile {
        op: ONE,
        step: ReconcileStep::Next {
            message: vec![0x61, 7],
        },
    });
}

fn close(link: &Link) {
    link.link.command(Command::Reconcile {
        op: ONE,
        step: ReconcileStep::Close,
    });
}

async fn answer(link: &mut Link) -> ReconcileAnswer {
    match link.next().await {
        Input::Reconciled { op: ONE, answer } => answer,
        other => panic!("{other:?}"),
    }
}

/// What a relay says to NEG-OPEN; nothing more.
async fn answers(frame: impl Fn(&Value) -> Option<Value> + Send + Sync + 'static) -> RelayUrl {
    let frame = Arc::new(frame);
    relay(move |mut peer| {
        let frame = Arc::clone(&frame);
        async move {
            let opened = peer.hear().await;
            if let Some(frame) = frame(&opened[1]) {
                peer.say(frame).await;
                peer.until_gone().await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_comparison_is_opened_continued_and_closed_under_one_name() {
    let url = relay(|mut peer| async move {
        let opened = peer.hear().await;
        assert_eq!(opened[0], "NEG-OPEN");
        assert_eq!(opened[2], wraps().to_value());
        assert_eq!(opened[3], "6100000200");
        peer.say(json!(["NEG-MSG", opened[1], "61aa"])).await;
        let next = peer.hear().await;
        assert_eq!(next, json!(["NEG-MSG", opened[1], "6107"]));
        peer.say(json!(["NEG-MSG", opened[1], "61bb"])).await;
        assert_eq!(peer.hear().await, json!(["NEG-CLOSE", opened[1]]));
        peer.say(json!(["NOTICE", "all is well"])).await;
        // A word after the end is nobody's.
        peer.say(json!(["NEG-MSG", opened[1], "61cc"])).await;
        let again = peer.hear().await;
        assert_ne!(again[1], opened[1], "a name is used once");
        peer.say(json!(["NEG-MSG", again[1], "61dd"])).await;
        peer.until_gone().await;
    })
    .await;
    let mut link = Link::to(url, Role::Inbox);
    open(&link);
    assert_eq!(
        answer(&mut link).await,
        ReconcileAnswer::Message(vec![0x61, 0xaa])
    );
    go_on(&link);
    assert_eq!(
        answer(&mut link).await,
        ReconcileAnswer::Message(vec![0x61, 0xbb])
    );
    close(&link);
    open(&link);
    assert_eq!(
        answer(&mut link).await,
        ReconcileAnswer::Message(vec![0x61, 0xdd])
    );
}

/// Challenges at once. Compares with nothing, or refuses, until it knows who asks.
async fn auth_wall(mut peer: Peer, before: Value, auth_ok: bool) {
    peer.say(json!(["AUTH", "c1"])).await;
    let mut is_known = false;
    loop {
        let frame = peer.hear().await;
        match frame[0].as_str() {
            Some("AUTH") => {
                is_known = auth_ok;
                let message = if auth_ok { "" } else { "restricted: not you" };
                peer.ok(&frame, auth_ok, message).await;
            }
            Some("NEG-OPEN") if is_known => peer.say(json!(["NEG-MSG", frame[1], "61ee"])).await,
            Some("NEG-OPEN") => {
                let mut answer = before.clone();
                answer[1] = frame[1].clone();
                peer.say(answer).await;
            }
            Some(_) => {}
            None => return,
        }
    }
}

async fn challenged(link: &mut Link) {
    let input = link.next().await;
    assert!(matches!(input, Input::Challenged { .. }), "{input:?}");
    let auth = event(4242);
    link.link.command(Command::Authenticate {
        id: auth.id(),
        event: auth.json().clone(),
    });
}

#[tokio::test]
async fn what_is_compared_before_the_auth_does_not_count() {
    let before = [
        // As a relay compares who may see nothing: both have nothing.
        json!(["NEG-MSG", "", "61"]),
        json!(["NEG-ERR", "", "auth-required: who?"]),
        json!(["CLOSED", "", "auth-required: who?"]),
    ];
    for before in before {
        let said = before.clone();
        let url = relay(move |peer| auth_wall(peer, said.clone(), true)).await;
        let mut link = Link::to(url, Role::Inbox);
        open(&link);
        challenged(&mut link).await;
        assert_eq!(
            answer(&mut link).await,
            ReconcileAnswer::Message(vec![0x61, 0xee]),
            "{before}"
        );
        let said = before.clone();
        let url = relay(move |peer| auth_wall(peer, said.clone(), false)).await;
        let mut link = Link::to(url, Role::Inbox);
        open(&link);
        challenged(&mut link).await;
        match answer(&mut link).await {
            ReconcileAnswer::Refused(message) => assert_eq!(message.reason, Reason::Restricted),
            other => panic!("{other:?} after {before}"),
        }
    }
}

#[tokio::test]
async fn every_way_to_say_no_is_a_refusal_with_its_words() {
    for (verb, text) in [
        ("NEG-ERR", "blocked: more than 50000 events match"),
        ("CLOSED", "unsupported: no negentropy here"),
        ("NOTICE", "ERROR: bad msg: unknown cmd"),
    ] {
        let url = answers(move |name| {
            Some(match verb {
                "NOTICE" => json!([verb, text]),
                _ => json!([verb, name, text]),
            })
        })
        .await;
        let mut link = Link::to(url, Role::Inbox);
        open(&link);
        match answer(&mut link).await {
            ReconcileAnswer::Refused(message) => assert_eq!(message.text, text),
            other => panic!("{verb}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn nonsense_silence_and_hanging_up_all_end_it() {
    let hasty = Timeouts {
        answer: Duration::from_millis(100),
        ..patient()
    };
    // Odd digits, no digits, too many of them: frames that are no message.
    for message in [
        json!("61a"),
        json!("zz"),
        json!(7),
        json!("61".repeat(60_001)),
    ] {
        let url = answers(move |name| Some(json!(["NEG-MSG", name, message]))).await;
        let mut link = Link::with(url, Role::Inbox, hasty);
        open(&link);
        assert_eq!(answer(&mut link).await, ReconcileAnswer::Silent);
    }
    for frame in [json!(["NEG-MSG", "somebody else's", "61"]), json!([])] {
        let url = answers(move |_| Some(frame.clone())).await;
        let mut link = Link::with(url, Role::Inbox, hasty);
        open(&link);
        assert_eq!(answer(&mut link).await, ReconcileAnswer::Silent);
    }
    let url = answers(|_| None).await;
    let mut link = Link::to(url, Role::Inbox);
    open(&link);
    let broken = answer(&mut link).await;
    assert!(matches!(broken, ReconcileAnswer::Broken(_)), "{broken:?}");
    let huge = |name: &Value| Some(json!(["NEG-MSG", name, "61".repeat(70_000)]));
    let mut link = Link::to(answers(huge).await, Role::Inbox);
    open(&link);
    let broken = answer(&mut link).await;
    assert!(matches!(broken, ReconcileAnswer::Broken(_)), "{broken:?}");
}

#[tokio::test]
async fn what_belongs_to_a_lost_connection_dials_no_new_one() {
    let dialled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dialled);
    let url = relay(move |mut peer| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            let opened = peer.hear().await;
            peer.say(json!(["NEG-MSG", opened[1], "61aa"])).await;
            // Gone while it is the client's turn.
        }
    })
    .await;
    let mut link = Link::to(url, Role::Inbox);
    link.query(2, wraps(), true);
    open(&link);
    let mut inputs = Vec::new();
    while inputs.len() < 2 {
        inputs.push(link.next().await);
    }
    // The subscription was heard as the opening; the comparison broke with it, or was not sent.
    assert!(inputs.iter().any(|input| matches!(
        input,
        Input::QueryEnded {
            end: QueryEnd::Unreachable(_),
            ..
        }
    )));
    go_on(&link);
    close(&link);
    let broken = answer(&mut link).await;
    assert!(matches!(broken, ReconcileAnswer::Broken(_)), "{broken:?}");
    assert_eq!(dialled.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_relay_that_ends_it_while_it_is_our_turn_is_heard_when_we_go_on() {
    let url = relay(|mut peer| async move {
        let opened = peer.hear().await;
        peer.say(json!(["NEG-MSG", opened[1], "61aa"])).await;
        peer.say(json!(["NEG-ERR", opened[1], "closed: too slow"]))
            .await;
        peer.say(json!(["AUTH", "so that the test knows it was read"]))
            .await;
        peer.until_gone().await;
    })
    .await;
    let mut link = Link::to(url, Role::Inbox);
    open(&link);
    assert!(matches!(
        answer(&mut link).await,
        ReconcileAnswer::Message(_)
    ));
    let input = link.next().await;
    assert!(matches!(input, Input::Challenged { .. }), "{input:?}");
    go_on(&link);
    match answer(&mut link).await {
        ReconcileAnswer::Refused(message) => assert_eq!(message.reason, Reason::Closed),
        other => panic!("{other:?}"),
    }
}

// What relays say of themselves

fn files() -> FileLink {
    let timeouts = Timeouts {
        transfer: Duration::from_secs(2),
        ..patient()
    };
    FileLink::new(Dialer::new(timeouts.connect).unwrap(), timeouts)
}

#[tokio::test]
async fn our_own_relay_lists_what_it_can_do() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let running = Relay::start(listener, Config::in_memory()).await.unwrap();
    let url = RelayUrl::parse(&url).unwrap();
    let document = RelayDocument::read(&files(), &url, true).await.unwrap();
    assert!(document.nips().contains(&77) && document.nips().contains(&11));
    running.stop().await.unwrap();
}

/// A web server with one answer; gives what it was asked, too.
async fn web(answer: String) -> (RelayUrl, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/path", listener.local_addr().unwrap());
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut head, mut buffer) = (String::new(), [0; 4_096]);
        while !head.contains("\r\n\r\n") {
            let count = stream.read(&mut buffer).await.unwrap();
            head.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
        let _ = stream.write_all(answer.as_bytes()).await;
        head
    });
    (RelayUrl::parse(&url).unwrap(), asked)
}

fn ok(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")
}

#[tokio::test]
async fn a_description_is_asked_for_without_saying_who_asks() {
    let (url, asked) = web(ok("{\"supported_nips\":[1,77,\"x\",-1,70000,null]}")).await;
    let document = RelayDocument::read(&files(), &url, true).await.unwrap();
    assert_eq!(document.nips(), [1, 77].into());
    let head = asked.await.unwrap().to_ascii_lowercase();
    let mut lines: Vec<&str> = head.trim_end().lines().collect();
    assert_eq!(lines.remove(0), "get /path http/1.1");
    let mut names: Vec<&str> = lines
        .iter()
        .map(|line| line.split_once(':').unwrap().0)
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "connection", "host", "user-agent"]);
    assert!(lines.contains(&"accept: application/nostr+json"));
    assert!(lines.contains(&"user-agent: sotto"));
}

#[tokio::test]
async fn whatever_else_a_server_says_is_no_description() {
    let moved = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
    let large = ok(&format!("{{\"name\":\"{}\"}}", "x".repeat(70_000)));
    let answers = [
        (ok("<html>hello</html>"), NoDocument::Malformed),
        (ok(""), NoDocument::Malformed),
        (ok("{\"supported_nips\":7}"), NoDocument::Malformed),
        (ok(&"[".repeat(60_000)), NoDocument::Malformed),
        (moved.to_owned(), NoDocument::Other(String::new())),
        (large, NoDocument::Unreachable(String::new())),
        (String::new(), NoDocument::Unreachable(String::new())),
    ];
    for (answer, expected) in answers {
        let (url, _asked) = web(answer.clone()).await;
        let error = RelayDocument::read(&files(), &url, true).await.unwrap_err();
        assert_eq!(
            std::mem::discriminant(&error),
            std::mem::discriminant(&expected),
            "{error:?} for {:.80}",
            answer
        );
    }
}

#[tokio::test]
async fn a_relay_that_is_not_ours_is_not_asked_at_home() {
    let (url, asked) = web(ok("{}")).await;
    let error = RelayDocument::read(&files(), &url, false)
        .await
        .unwrap_err();
    assert!(matches!(error, NoDocument::Unreachable(_)), "{error:?}");
    assert!(!asked.is_finished(), "nobody knocked");
}
