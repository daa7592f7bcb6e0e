//! Reconciliation (NIP-77): exactly what REQ would show, and bombs that do not go off.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt as _;
use proptest::prelude::*;
use sotto_relay::Config;
use sotto_relay::model::{Frames, ModelRelay};
use sotto_relay::reconcile::EventSet;
use tokio_tungstenite::tungstenite::Message;
use wire::{ClientFrame, Event, EventId, Filter, PublicKey, RelayFrame, SubscriptionId, limits};

use crate::plain::{may_ask, plainly};
use crate::strategies::{event, filter};
use crate::support::{Client, Comparison, Person, ids, mailbox, person, start, subscription};

/// A relay that takes wraps of any age, as the events of the property tests are.
fn ageless() -> Config {
    let mut config = Config::in_memory();
    config.rules.wrap_past = None;
    config
}

fn set(events: &[Event]) -> BTreeSet<EventId> {
    events.iter().map(Event::id).collect()
}

/// What both sides should find out.
fn difference(own: &[Event], shown: &[Event]) -> (BTreeSet<EventId>, BTreeSet<EventId>) {
    let (own, shown) = (set(own), set(shown));
    (&own - &shown, &shown - &own)
}

/// Events that no filter asks twice about, without limits: what COUNT counts.
fn matching(events: &[Event], filters: &[Filter], auth: &[PublicKey]) -> u64 {
    let all = filters.iter().flat_map(|filter| {
        let filter = Filter {
            limit: None,
            ..filter.clone()
        };
        plainly(events, &filter, auth)
    });
    all.map(|event| event.id()).collect::<BTreeSet<_>>().len() as u64
}

/// The model with a client who proved `who`.
fn model(events: &[Event], who: &[Person]) -> ModelRelay {
    let mut relay = ModelRelay::new(&ageless(), 7447, 1).unwrap();
    let challenge = match one(relay.connect(1)) {
        RelayFrame::Auth(challenge) => challenge,
        other => panic!("{other:?}"),
    };
    let tags: [&[&str]; 2] = [
        &["relay", "ws://127.0.0.1:7447"],
        &["challenge", &challenge],
    ];
    for person in who {
        let auth = ClientFrame::Auth(person.sign(22242, 2_000, &tags, ""));
        assert!(matches!(
            one(relay.handle(1, auth, 2_000)),
            RelayFrame::Ok(_, true, _)
        ));
    }
    for event in events {
        relay.handle(1, ClientFrame::Event(event.clone()), 2_000);
    }
    relay
}

fn one(frames: Frames) -> RelayFrame {
    let [(1, text)] = &frames[..] else {
        panic!("{frames:?}");
    };
    RelayFrame::decode(&Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn compare_with_model(
    relay: &mut ModelRelay,
    filter: &Filter,
    own: &[Event],
) -> Result<Comparison, String> {
    let id = subscription("compare");
    let (mut comparison, first) = Comparison::begin(own);
    let mut frame = ClientFrame::NegOpen(id.clone(), filter.clone(), first);
    loop {
        match one(relay.handle(1, frame, 2_000)) {
            RelayFrame::NegMsg(_, message) => match comparison.next(&message) {
                Some(next) => frame = ClientFrame::NegMsg(id.clone(), next),
                None => break,
            },
            RelayFrame::NegErr(_, message) => return Err(message.text),
            other => panic!("{other:?}"),
        }
    }
    assert!(relay.handle(1, ClientFrame::NegClose(id), 2_000).is_empty());
    Ok(comparison)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        if std::env::var_os("SOTTO_SLOW").is_some() { 200 } else { 8 }
    ))]

    #[test]
    fn r_neg_1_both_sides_learn_exactly_what_the_reader_may_see(
        (events, filters) in prop::collection::vec(event(), 1..120).prop_flat_map(|events| {
            let filters = prop::collection::vec(filter(events.clone()), 10);
            (Just(events), filters)
        }),
        own in prop::collection::vec(any::<bool>(), 120),
        auth in prop::sample::subsequence(vec![1_u32, 2, 3], 0..=2),
    ) {
        let who: Vec<_> = auth.into_iter().map(person).collect();
        let keys: Vec<_> = who.iter().map(Person::key).collect();
        let own = events.iter().zip(own).filter(|(_, own)| *own);
        let own: Vec<_> = own.map(|(event, _)| event.clone()).collect();
        let mut model = model(&events, &who);
        let asked = async {
            let relay = start(ageless()).await;
            let mut client = Client::connect(&relay.url()).await;
            for person in &who {
                assert!(client.auth(person).await.0);
            }
            for event in &events {
                client.put(event).await;
            }
            let mut answers = Vec::new();
            for pair in filters.chunks(2) {
                let compared = client.reconcile(&pair[0], &own).await;
                let counted = client.count(pair).await;
                answers.push((compared, counted));
            }
            relay.stop().await.unwrap();
            answers
        };
        let answers = tokio::runtime::Runtime::new().unwrap().block_on(asked);
        for (pair, (compared, counted)) in filters.chunks(2).zip(answers) {
            let modelled = compare_with_model(&mut model, &pair[0], &own);
            let count = ClientFrame::Count(subscription("c"), pair.to_vec());
            let model_counted = match one(model.handle(1, count, 2_000)) {
                RelayFrame::Count { count, .. } => Ok(count),
                RelayFrame::Closed(_, message) => Err(message.text),
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(&counted, &model_counted);
            match counted {
                Ok(counted) => {
                    prop_assert!(may_ask(pair, &keys));
                    prop_assert_eq!(counted, matching(&events, pair, &keys));
                }
                Err(text) => {
                    prop_assert!(!may_ask(pair, &keys) && text.starts_with("auth-required:"));
                }
            }
            let wanted = difference(&own, &plainly(&events, &pair[0], &keys));
            for compared in [compared, modelled] {
                match compared {
                    Ok(compared) => prop_assert_eq!(&(compared.have, compared.need), &wanted),
                    Err(text) => {
                        prop_assert!(!may_ask(&pair[..1], &keys));
                        prop_assert!(text.starts_with("auth-required:"));
                    }
                }
            }
        }
    }

    #[test]
    fn r_neg_4_whatever_message_arrives_the_answer_is_short_and_nothing_panics(
        (at, bytes) in (any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..200)),
    ) {
        let events: Vec<_> = (0..300_u32)
            .map(|n| unsigned(1_000 + u64::from(n) % 7, &n.to_string()))
            .collect();
        let mut set = EventSet::default();
        set.extend(events.iter().map(|event| (event.created_at(), event.id())));
        let mut reconciler = set.seal().unwrap();
        let (_, mut spoiled) = Comparison::begin(&events[..250]);
        let at = at.index(spoiled.len());
        let end = (at + bytes.len()).min(spoiled.len());
        spoiled.splice(at..end, bytes.clone());
        let mut prefixed = vec![0x61];
        prefixed.extend(&bytes);
        for message in [bytes, prefixed, spoiled] {
            if let Ok(answer) = reconciler.answer(&message) {
                prop_assert!(answer.len() <= limits::NEGENTROPY_BYTES);
            }
        }
    }
}

/// An event whose signature nobody asks for.
fn unsigned(created_at: u64, content: &str) -> Event {
    let draft = wire::EventDraft {
        pubkey: person(1).key(),
        created_at,
        kind: 1059,
        tags: wire::Tags::default(),
        content: content.to_owned(),
    };
    Event::from_signature(draft, wire::Signature::from_bytes([0; 64]))
}

#[test]
fn r_neg_4_a_large_difference_comes_in_messages_that_fit_their_frames() {
    let events: Vec<_> = (0..20_000_u32)
        .map(|n| unsigned(u64::from(n), &n.to_string()))
        .collect();
    let mut own = events.clone();
    own.retain(|event| event.created_at() % 3 != 0);
    own.push(unsigned(7, "only here"));
    let mut set = EventSet::default();
    set.extend(events.iter().map(|event| (event.created_at(), event.id())));
    let mut reconciler = set.seal().unwrap();
    let (mut comparison, mut message) = Comparison::begin(&own);
    loop {
        let answer = reconciler.answer(&message).unwrap();
        assert!(answer.len() <= limits::NEGENTROPY_BYTES);
        match comparison.next(&answer) {
            Some(next) => message = next,
            None => break,
        }
    }
    assert!(comparison.rounds > 3);
    assert_eq!(
        (comparison.have, comparison.need),
        difference(&own, &events)
    );
}

async fn mailbox_of(relay: &sotto_relay::Relay, to: &Person, count: u32) -> Vec<Event> {
    let mut writer = Client::connect(&relay.url()).await;
    let mut events = Vec::new();
    for n in 0..count {
        let wrap = person(100 + n).wrap(to, "sealed");
        let frame = ClientFrame::event(wrap.json());
        writer.socket.feed(Message::text(frame)).await.unwrap();
        events.push(wrap);
    }
    writer.socket.flush().await.unwrap();
    let mut accepted = 0;
    while accepted < count {
        assert!(matches!(writer.receive().await, RelayFrame::Ok(_, true, _)));
        accepted += 1;
    }
    events
}

#[tokio::test]
async fn r_neg_1_a_mailbox_on_disk_is_reconciled_in_several_rounds() {
    let folder = tempfile::tempdir().unwrap();
    let relay = start(Config::on_disk(folder.path())).await;
    let to = person(2);
    let events = mailbox_of(&relay, &to, 1_500).await;
    mailbox_of(&relay, &person(3), 50).await;
    let mut reader = Client::connect_as(&relay.url(), &to).await;
    let missing: Vec<_> = events.iter().step_by(5).cloned().collect();
    let own = events.iter().filter(|event| !missing.contains(event));
    let own: Vec<_> = own.cloned().collect();
    let compared = reader.reconcile(&mailbox(&to), &own).await.unwrap();
    assert!(compared.rounds > 1);
    assert_eq!(
        (compared.have, compared.need),
        (BTreeSet::new(), set(&missing))
    );
    let compared = reader.reconcile(&mailbox(&to), &events).await.unwrap();
    assert_eq!((compared.have.len(), compared.need.len()), (0, 0));
    // Once deleted, it is no longer among them.
    reader.put(&to.deletion(&events[7])).await;
    let compared = reader.reconcile(&mailbox(&to), &events).await.unwrap();
    assert_eq!(compared.have, set(&events[7..8]));
    relay.stop().await.unwrap();
}

async fn open(client: &mut Client, id: &SubscriptionId, filter: &Filter) -> RelayFrame {
    let (_, first) = Comparison::begin(&[]);
    client.send(ClientFrame::neg_open(id, filter, &first)).await;
    client.receive().await
}

/// Opens it as soon as the relay has room again.
async fn open_at_last(client: &mut Client, id: &SubscriptionId, filter: &Filter) {
    while let RelayFrame::NegErr(_, message) = open(client, id, filter).await {
        assert!(
            message.text.starts_with("rate-limited:"),
            "{}",
            message.text
        );
    }
}

fn refusal(frame: RelayFrame) -> String {
    match frame {
        RelayFrame::NegErr(_, message) => message.text,
        other => panic!("no NEG-ERR but {other:?}"),
    }
}

#[tokio::test]
async fn r_neg_2_two_at_a_time_and_one_id_counts_once() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    let filter = Filter::default().with_kinds([1]);
    let [a, b, c] = ["a", "b", "c"].map(subscription);
    for id in [&a, &b, &a, &b] {
        let answer = open(&mut client, id, &filter).await;
        assert!(matches!(answer, RelayFrame::NegMsg(of, _) if of == *id));
    }
    let text = refusal(open(&mut client, &c, &filter).await);
    assert!(text.starts_with("rate-limited:"), "{text}");
    client.send(ClientFrame::neg_close(&a)).await;
    let answer = open(&mut client, &c, &filter).await;
    assert!(matches!(answer, RelayFrame::NegMsg(..)));
    // The one that was closed is gone.
    client.send(ClientFrame::neg_msg(&a, &[0x61])).await;
    let text = refusal(client.receive().await);
    assert!(text.starts_with("closed:"), "{text}");
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_neg_2_too_many_events_are_refused_and_a_narrower_filter_is_not() {
    let mut config = Config::in_memory();
    config.limits.reconciled_events = 20;
    let relay = start(config).await;
    let to = person(2);
    let events = mailbox_of(&relay, &to, 21).await;
    let mut reader = Client::connect_as(&relay.url(), &to).await;
    let refused = reader.reconcile(&mailbox(&to), &[]).await;
    assert_eq!(refused.err().unwrap(), "blocked: more than 20 events match");
    let newest = Filter {
        limit: Some(20),
        ..mailbox(&to)
    };
    let compared = reader.reconcile(&newest, &[]).await.unwrap();
    assert_eq!(compared.need.len(), 20);
    assert!(compared.need.is_subset(&ids(&events).into_iter().collect()));
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_neg_2_what_all_connections_hold_is_bounded_and_given_back() {
    let mut config = Config::in_memory();
    config.limits.reconciled_altogether = 20;
    config.limits.reconciled_events = 20;
    let relay = start(config).await;
    let to = person(2);
    mailbox_of(&relay, &to, 15).await;
    let mut first = Client::connect_as(&relay.url(), &to).await;
    let mut second = Client::connect_as(&relay.url(), &to).await;
    let id = subscription("n");
    for _ in 0..3 {
        open_at_last(&mut first, &id, &mailbox(&to)).await;
        let text = refusal(open(&mut second, &id, &mailbox(&to)).await);
        assert!(text.starts_with("rate-limited:"), "{text}");
        first.send(ClientFrame::neg_close(&id)).await;
        open_at_last(&mut second, &id, &mailbox(&to)).await;
        second.send(ClientFrame::neg_close(&id)).await;
    }
    // A connection that is gone holds nothing.
    open_at_last(&mut first, &id, &mailbox(&to)).await;
    drop(first);
    open_at_last(&mut second, &id, &mailbox(&to)).await;
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_neg_3_whoever_is_silent_for_too_long_is_forgotten() {
    let mut config = Config::in_memory();
    config.limits.reconcile_idle = Duration::from_millis(200);
    config.limits.reconciliations = 1;
    let relay = start(config).await;
    let mut client = Client::connect(&relay.url()).await;
    let filter = Filter::default().with_kinds([1]);
    for name in ["a", "b"] {
        let id = subscription(name);
        let answer = open(&mut client, &id, &filter).await;
        assert!(matches!(answer, RelayFrame::NegMsg(..)), "{answer:?}");
        let text = refusal(client.receive().await);
        assert!(text.starts_with("closed:"), "{text}");
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_neg_4_nonsense_gets_an_error_that_names_the_rule_and_ends_it() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    client.put(&person(1).note("here")).await;
    let long = "61".repeat(limits::NEGENTROPY_BYTES + 1);
    for bad in [
        "",
        "6",
        "zz",
        "00",
        "61000007",
        "610001",
        "61000002ff",
        "6100000207",
        &long,
    ] {
        client
            .send(format!("[\"NEG-OPEN\",\"n\",{{\"kinds\":[1]}},\"{bad}\"]"))
            .await;
        let text = refusal(client.receive().await);
        assert!(
            text.starts_with("invalid:"),
            "{}: {text}",
            &bad[..bad.len().min(20)]
        );
    }
    // A version that is not ours is answered with ours.
    client
        .send("[\"NEG-OPEN\",\"n\",{\"kinds\":[1]},\"62\"]")
        .await;
    let answer = RelayFrame::NegMsg(subscription("n"), vec![0x61]);
    assert_eq!(client.receive().await, answer);
    // A bad message ends what was open.
    for bad in ["zz", "61000007"] {
        let id = subscription("n");
        let filter = Filter::default().with_kinds([1]);
        open(&mut client, &id, &filter).await;
        client.send(format!("[\"NEG-MSG\",\"n\",\"{bad}\"]")).await;
        let text = refusal(client.receive().await);
        assert!(text.starts_with("invalid:"), "{text}");
        client.send(ClientFrame::neg_msg(&id, &[0x61])).await;
        let text = refusal(client.receive().await);
        assert!(text.starts_with("closed:"), "{text}");
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_neg_4_a_flood_of_messages_ends_the_reconciliation_and_not_the_connection() {
    let relay = start(Config::in_memory()).await;
    let to = person(2);
    mailbox_of(&relay, &to, 500).await;
    let mut client = Client::connect_as(&relay.url(), &to).await;
    let id = subscription("flood");
    let (_, first) = Comparison::begin(&[]);
    let opening = ClientFrame::neg_open(&id, &mailbox(&to), &first);
    client.socket.feed(Message::text(opening)).await.unwrap();
    for _ in 0..300 {
        let frame = ClientFrame::neg_msg(&id, &first);
        client.socket.feed(Message::text(frame)).await.unwrap();
    }
    client.socket.flush().await.unwrap();
    let mut refused = Vec::new();
    let count = ClientFrame::count(&subscription("end"), &[mailbox(&to)]);
    client.send(count).await;
    loop {
        match client.receive().await {
            RelayFrame::NegMsg(..) => {}
            RelayFrame::NegErr(_, message) => {
                refused.push(message.text);
            }
            RelayFrame::Count { count, .. } => break assert_eq!(count, 500),
            other => panic!("{other:?}"),
        }
    }
    // The first that came too early ended it, so for all others there is none.
    assert!(refused[0].starts_with("rate-limited:"), "{refused:?}");
    assert!(refused.len() > 1);
    let is_over = |text: &String| text.starts_with("closed:");
    assert!(refused[1..].iter().all(is_over), "{refused:?}");
    relay.stop().await.unwrap();
}

/// Every way in which a reconciliation can end.
#[derive(Debug, Clone, Copy)]
enum End {
    Closed,
    Replaced,
    Finished,
    Dropped,
    ConnectionClosed,
    Nonsense,
    NotNegentropy,
    Flood,
    Silence,
    RefusedInItsPlace,
}

const ENDS: [End; 10] = [
    End::Closed,
    End::Replaced,
    End::Finished,
    End::Dropped,
    End::ConnectionClosed,
    End::Nonsense,
    End::NotNegentropy,
    End::Flood,
    End::Silence,
    End::RefusedInItsPlace,
];

/// The next answer about a reconciliation that is no message of it.
async fn ended(client: &mut Client) -> String {
    loop {
        match client.receive().await {
            RelayFrame::NegMsg(..) => {}
            frame => return refusal(frame),
        }
    }
}

#[tokio::test]
async fn r_neg_5_however_a_reconciliation_ends_what_it_held_is_given_back() {
    let mut config = Config::in_memory();
    // Room for one of them, and not for two.
    config.limits.reconciled_altogether = 100;
    config.limits.reconcile_idle = Duration::from_millis(300);
    let relay = start(config).await;
    let to = person(2);
    mailbox_of(&relay, &to, 60).await;
    let id = subscription("n");
    let opens = || async {
        let mut client = Client::connect_as(&relay.url(), &to).await;
        let all = mailbox(&to);
        let opened = open_at_last(&mut client, &id, &all);
        let opened = tokio::time::timeout(crate::support::PATIENCE, opened).await;
        (client, opened.is_ok())
    };
    for round in 0..5 {
        for end in ENDS {
            let (mut client, is_open) = opens().await;
            assert!(
                is_open,
                "round {round}: nothing was given back before {end:?}"
            );
            match end {
                End::Closed => client.send(ClientFrame::neg_close(&id)).await,
                End::Replaced => {
                    let nothing = Filter::default().with_kinds([2]);
                    open(&mut client, &id, &nothing).await;
                }
                End::Finished => {
                    client.send(ClientFrame::neg_close(&id)).await;
                    let reconciled = async {
                        while let Err(text) = client.reconcile(&mailbox(&to), &[]).await {
                            assert!(text.starts_with("rate-limited:"), "{text}");
                        }
                    };
                    tokio::time::timeout(crate::support::PATIENCE, reconciled)
                        .await
                        .unwrap();
                }
                End::Dropped => {}
                End::ConnectionClosed => {
                    client.socket.close(None).await.unwrap();
                    while client.try_receive().await.is_some() {}
                }
                End::Nonsense => {
                    client.send("[\"NEG-MSG\",\"n\",\"zz\"]").await;
                    assert!(ended(&mut client).await.starts_with("invalid:"));
                }
                End::NotNegentropy => {
                    client.send("[\"NEG-MSG\",\"n\",\"61000007\"]").await;
                    assert!(ended(&mut client).await.starts_with("invalid:"));
                }
                End::Flood => {
                    let (_, first) = Comparison::begin(&[]);
                    for _ in 0..50 {
                        let frame = Message::text(ClientFrame::neg_msg(&id, &first));
                        client.socket.feed(frame).await.unwrap();
                    }
                    client.socket.flush().await.unwrap();
                    ended(&mut client).await;
                }
                End::Silence => assert!(ended(&mut client).await.starts_with("closed:")),
                End::RefusedInItsPlace => {
                    client
                        .send("[\"NEG-OPEN\",\"n\",{\"search\":\"x\"},\"61\"]")
                        .await;
                    assert!(ended(&mut client).await.starts_with("unsupported:"));
                }
            }
            if !matches!(end, End::Dropped | End::ConnectionClosed) {
                // It is over though its connection goes on.
                let (_, is_open) = opens().await;
                assert!(is_open, "round {round}: {end:?} gave nothing back");
            }
        }
    }
    until_nobody(&relay).await;
    relay.stop().await.unwrap();
}

async fn until_nobody(relay: &sotto_relay::Relay) {
    let poll = async {
        while relay.metrics().sockets.get() > 0 || relay.held() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(crate::support::PATIENCE, poll).await;
    assert!(waited.is_ok(), "somebody is still there");
}
