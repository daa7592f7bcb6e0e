//! Whatever a relay says, in whatever order: every operation is answered exactly once.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use client_core::engine::io::{Input, OpId, ReconcileAnswer, ReconcileStep, Role, SocketKey};
use client_core::runtime::relay_session::{Output, Session};
use crypto::OneTimeKey;
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tokio::time::Instant;
use wire::{Event, EventDraft, Filter, PublicKey, Tags, kinds};

/// One thing that happens on a connection. Numbers choose among what is there.
#[derive(Debug, Clone)]
enum Happening {
    Publish(usize),
    Query {
        wraps: bool,
        live: bool,
    },
    Reconcile,
    GoOn(usize),
    Stop(usize),
    NegMsg(usize),
    NegErr {
        which: usize,
        message: usize,
    },
    Notice(usize),
    Authenticate(usize),
    StayAnonymous,
    Ok {
        which: usize,
        accepted: bool,
        message: usize,
    },
    Eose(usize),
    Closed {
        which: usize,
        message: usize,
    },
    Event {
        which: usize,
        event: usize,
    },
    Challenge(usize),
    Bytes(Vec<u8>),
    Pause(u64),
    Quiet,
}

const MESSAGES: [&str; 6] = [
    "",
    "auth-required: who?",
    "restricted: no",
    "duplicate: again",
    "rate-limited: slow",
    "nonsense",
];

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        (0..8_usize).prop_map(Happening::Publish),
        any::<(bool, bool)>().prop_map(|(wraps, live)| Happening::Query { wraps, live }),
        Just(Happening::Reconcile),
        (0..8_usize).prop_map(Happening::GoOn),
        (0..8_usize).prop_map(Happening::Stop),
        (0..8_usize).prop_map(Happening::NegMsg),
        (0..8_usize, 0..MESSAGES.len())
            .prop_map(|(which, message)| Happening::NegErr { which, message }),
        (0..MESSAGES.len()).prop_map(Happening::Notice),
        (0..8_usize).prop_map(Happening::Authenticate),
        Just(Happening::StayAnonymous),
        (0..8_usize, any::<bool>(), 0..MESSAGES.len()).prop_map(|(which, accepted, message)| {
            Happening::Ok {
                which,
                accepted,
                message,
            }
        }),
        (0..8_usize).prop_map(Happening::Eose),
        (0..8_usize, 0..MESSAGES.len())
            .prop_map(|(which, message)| Happening::Closed { which, message }),
        (0..8_usize, 0..8_usize).prop_map(|(which, event)| Happening::Event { which, event }),
        (0..30_usize).prop_map(Happening::Challenge),
        prop::collection::vec(any::<u8>(), 0..60).prop_map(Happening::Bytes),
        (0..20_u64).prop_map(Happening::Pause),
        Just(Happening::Quiet),
    ]
}

fn events() -> Vec<Event> {
    let mut rng = StdRng::seed_from_u64(1);
    let key = OneTimeKey::generate(&mut rng);
    (0..8)
        .map(|number| {
            let draft = EventDraft {
                pubkey: key.public_key(),
                created_at: number,
                kind: kinds::WRAP,
                tags: Tags::new(),
                content: String::new(),
            };
            key.sign(draft, &mut rng)
        })
        .collect()
}

/// What the relay has heard, so that its answers can name it.
#[derive(Default)]
struct Heard {
    subscriptions: Vec<String>,
    challenged: usize,
    finals: BTreeMap<OpId, u32>,
    /// Reconciliations in which it is our turn.
    ours: Vec<OpId>,
    live_ended: BTreeMap<OpId, bool>,
}

impl Heard {
    fn take(&mut self, session: &mut Session) {
        for output in session.take_outputs() {
            match output {
                Output::Send(frame) => {
                    let frame: Value = serde_json::from_str(&frame).unwrap();
                    if frame[0] == "REQ" || frame[0] == "NEG-OPEN" {
                        let id = frame[1].as_str().unwrap().to_owned();
                        assert!(!self.subscriptions.contains(&id), "a name is used once");
                        self.subscriptions.push(id);
                    }
                }
                Output::Input(Input::Challenged { .. }) => self.challenged += 1,
                Output::Input(Input::Unwelcome { socket, .. }) => {
                    assert_eq!(socket.role, Role::Inbox);
                }
                Output::Input(Input::Published { op, .. } | Input::QueryEnded { op, .. }) => {
                    *self.finals.entry(op).or_default() += 1;
                    self.live_ended.insert(op, true);
                }
                Output::Input(Input::Reconciled { op, answer }) => {
                    assert!(!self.ours.contains(&op), "an answer to nothing");
                    match answer {
                        ReconcileAnswer::Message(_) => self.ours.push(op),
                        _ => *self.finals.entry(op).or_default() += 1,
                    }
                }
                Output::Input(Input::Events { op, events }) => {
                    assert!(!events.is_empty() && events.len() <= 64);
                    assert!(!self.live_ended.contains_key(&op), "events after the end");
                }
                Output::Input(Input::CaughtUp { op }) => {
                    assert!(
                        !self.live_ended.contains_key(&op),
                        "caught up after the end"
                    );
                }
                Output::Input(other) => panic!("{other:?}"),
            }
        }
    }
}

fn play(role: Role, happenings: &[Happening]) {
    let key = SocketKey {
        circle: 0,
        role,
        key: PublicKey::from_bytes([7; 32]),
        relay: "wss://relay.example".parse().unwrap(),
        is_own: false,
    };
    let answer = Duration::from_secs(15);
    let mut session = Session::new(key, StdRng::seed_from_u64(2), answer);
    let (events, mut heard, mut now) = (events(), Heard::default(), Instant::now());
    let mut begun = 0;
    for happening in happenings {
        let subscription = |which: usize| {
            let all = &heard.subscriptions;
            all.get(which % all.len().max(1))
                .cloned()
                .unwrap_or_default()
        };
        let frame = match happening {
            Happening::Publish(which) => {
                begun += 1;
                let event = &events[*which];
                session.publish(OpId(begun), event.id(), event.json().clone(), now);
                None
            }
            Happening::Query { wraps, live } => {
                begun += 1;
                let kind = if *wraps {
                    kinds::WRAP
                } else {
                    kinds::INBOX_RELAYS
                };
                session.query(
                    OpId(begun),
                    Filter::default().with_kinds([kind]),
                    *live,
                    now,
                );
                None
            }
            Happening::Reconcile => {
                begun += 1;
                let filter = Filter::default().with_kinds([kinds::WRAP]);
                let message = vec![0x61];
                session.reconcile(OpId(begun), ReconcileStep::Open { filter, message }, now);
                None
            }
            Happening::GoOn(which) | Happening::Stop(which) if !heard.ours.is_empty() => {
                let op = heard.ours.remove(which % heard.ours.len());
                if matches!(happening, Happening::GoOn(_)) {
                    let message = vec![0x61, 1];
                    session.reconcile(op, ReconcileStep::Next { message }, now);
                } else {
                    session.reconcile(op, ReconcileStep::Close, now);
                    *heard.finals.entry(op).or_default() += 1;
                }
                None
            }
            Happening::GoOn(_) | Happening::Stop(_) => None,
            Happening::NegMsg(which) => Some(json!(["NEG-MSG", subscription(*which), "61"])),
            Happening::NegErr { which, message } => {
                Some(json!(["NEG-ERR", subscription(*which), MESSAGES[*message]]))
            }
            Happening::Notice(message) => Some(json!(["NOTICE", MESSAGES[*message]])),
            Happening::Authenticate(which) => {
                let event = &events[*which];
                session.authenticate(event.id(), event.json(), now);
                None
            }
            Happening::StayAnonymous => {
                session.stay_anonymous(now);
                None
            }
            Happening::Ok {
                which,
                accepted,
                message,
            } => Some(json!([
                "OK",
                events[*which].id(),
                accepted,
                MESSAGES[*message]
            ])),
            Happening::Eose(which) => Some(json!(["EOSE", subscription(*which)])),
            Happening::Closed { which, message } => {
                Some(json!(["CLOSED", subscription(*which), MESSAGES[*message]]))
            }
            Happening::Event { which, event } => {
                let event: Value = serde_json::from_slice(events[*event].json()).unwrap();
                Some(json!(["EVENT", subscription(*which), event]))
            }
            Happening::Challenge(number) => Some(json!(["AUTH", number.to_string()])),
            Happening::Bytes(bytes) => {
                let _ = session.frame(&Bytes::from(bytes.clone()), now);
                None
            }
            Happening::Pause(seconds) => {
                now += Duration::from_secs(*seconds);
                session.expire(now);
                None
            }
            Happening::Quiet => {
                session.flush_events();
                None
            }
        };
        if let Some(frame) = frame
            && session.frame(&Bytes::from(frame.to_string()), now).is_err()
        {
            break;
        }
        heard.take(&mut session);
        assert_eq!(session.is_idle(), heard.finals.len() as u64 == begun);
    }
    session.disconnected("the end");
    heard.take(&mut session);
    // What was our turn is heard of when we go on, on whatever connection.
    for op in std::mem::take(&mut heard.ours) {
        session.reconcile(
            op,
            ReconcileStep::Next {
                message: vec![0x61],
            },
            now,
        );
    }
    heard.take(&mut session);
    assert!(session.is_idle() && session.next_deadline().is_none_or(|_| heard.challenged > 0));
    assert!(heard.challenged <= 16);
    for op in 1..=begun {
        assert_eq!(heard.finals.get(&OpId(op)), Some(&1), "operation {op}");
    }
}

proptest! {
    #[test]
    fn every_operation_is_answered_exactly_once(
        role in prop_oneof![
            Just(Role::Inbox), Just(Role::Publish), Just(Role::Lookup), Just(Role::AsMyself)
        ],
        happenings in prop::collection::vec(happening(), 0..120),
    ) {
        play(role, &happenings);
    }
}
