//! The conversation of NIP-01 over real sockets.

use crate::support::{Client, ids, mailbox, now, person, start, subscription};
use std::collections::HashMap;

use futures_util::SinkExt as _;
use sotto_relay::Config;
use sotto_relay::model::ModelRelay;
use tokio_tungstenite::tungstenite::Message;
use wire::{ClientFrame, Filter, RelayFrame};

#[tokio::test]
async fn r_pub_1_an_event_is_acknowledged_stored_and_served_as_it_came() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    let event = person(1).note("hello");
    let spaced = String::from_utf8(event.json().to_vec())
        .unwrap()
        .replace("\"tags\"", " \"tags\" ");
    client.send(format!("[\"EVENT\",{spaced}]")).await;
    assert_eq!(client.answer(event.id()).await, (true, String::new()));
    let filter = Filter::default().with_kinds([1]);
    let found = client.fetch(filter).await.unwrap();
    assert_eq!(ids(&found), [event.id()]);
    assert_eq!(found[0].json(), spaced.as_bytes());
    assert!(client.publish(&event).await.1.starts_with("duplicate:"));
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_sub_1_stored_events_come_before_eose_and_new_ones_after() {
    let relay = start(Config::in_memory()).await;
    let mut writer = Client::connect(&relay.url()).await;
    let mut reader = Client::connect(&relay.url()).await;
    let (old, new) = (person(1).note("old"), person(1).note("new"));
    writer.put(&old).await;
    let id = subscription("notes");
    let filter = Filter::default().with_kinds([1]);
    let stored = reader.ask(&id, &[filter.clone(), filter]).await.unwrap();
    assert_eq!(ids(&stored), [old.id()]);
    writer.put(&new).await;
    assert_eq!(reader.receive().await, RelayFrame::Event(id.clone(), new));
    reader.send(ClientFrame::close(&id)).await;
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_eose_1_the_hint_says_whether_a_limit_held_something_back() {
    let mut config = Config::in_memory();
    config.limits.events_per_filter = 3;
    let relay = start(config).await;
    let mut client = Client::connect(&relay.url()).await;
    for n in 0..4 {
        client.put(&person(1).sign(1, now() - n, &[], "note")).await;
    }
    client.put(&person(1).sign(7, now(), &[], "+")).await;
    let kind = |kind| Filter::default().with_kinds([kind]);
    let limited = |kind_of, limit| Filter {
        limit: Some(limit),
        ..kind(kind_of)
    };
    for (filters, wanted) in [
        (vec![kind(1)], Some(false)),
        (vec![kind(7)], Some(true)),
        (vec![kind(9)], Some(true)),
        (vec![limited(1, 2)], Some(false)),
        (vec![limited(7, 1)], Some(true)),
        (vec![limited(1, 0)], None),
        (vec![kind(7), kind(1)], Some(false)),
        (vec![kind(7), limited(1, 0)], None),
    ] {
        client
            .send(ClientFrame::req(&subscription("hint"), &filters))
            .await;
        let complete = loop {
            match client.receive().await {
                RelayFrame::Eose { complete, .. } => break complete,
                RelayFrame::Event(..) => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(complete, wanted, "{filters:?}");
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_auth_1_wraps_reach_their_recipient_alone() {
    let relay = start(Config::in_memory()).await;
    let (alice, bob) = (person(1), person(2));
    let mut sender = Client::connect(&relay.url()).await;
    let mut recipient = Client::connect_as(&relay.url(), &bob).await;
    let mut other = Client::connect_as(&relay.url(), &alice).await;
    let wrap = person(100).wrap(&bob, "sealed");
    sender.put(&wrap).await;
    assert_eq!(ids(&recipient.mailbox(&bob).await), [wrap.id()]);
    let refused = other.fetch(mailbox(&bob)).await.unwrap_err();
    assert!(refused.starts_with("auth-required:"), "{refused}");
    let refused = sender.fetch(mailbox(&bob)).await.unwrap_err();
    assert!(refused.starts_with("auth-required:"), "{refused}");
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_pub_2_a_duplicate_in_flight_is_told_so_after_the_first_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let relay = start(Config::on_disk(folder.path())).await;
    let mut client = Client::connect(&relay.url()).await;
    for n in 0..20 {
        let event = person(1).note(&format!("{n}"));
        for _ in 0..4 {
            let frame = ClientFrame::event(event.json());
            client.socket.feed(Message::text(frame)).await.unwrap();
        }
        client.socket.flush().await.unwrap();
        // Whoever is told "duplicate" finds it stored.
        let mut texts = Vec::new();
        for _ in 0..4 {
            let (accepted, text) = client.answer(event.id()).await;
            assert!(accepted, "{text}");
            texts.push(text);
        }
        assert_eq!(texts[0], "");
        assert!(texts[1..].iter().all(|text| text.starts_with("duplicate:")));
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_pub_3_whoever_asks_after_the_ok_finds_the_event() {
    let relay = start(Config::in_memory()).await;
    let mut writer = Client::connect(&relay.url()).await;
    let mut reader = Client::connect(&relay.url()).await;
    for n in 0..300 {
        let event = person(1).note(&format!("{n}"));
        writer.put(&event).await;
        let mut filter = Filter::default().with_ids([event.id()]);
        filter = filter.with_kinds([1]);
        let asked = if n % 2 == 0 { &mut writer } else { &mut reader };
        assert_eq!(asked.fetch(filter).await.unwrap(), [event]);
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_sub_2_each_event_comes_once_whether_stored_or_live() {
    let relay = start(Config::in_memory()).await;
    let url = relay.url();
    let events: Vec<_> = (0..400).map(|n| person(1).note(&format!("{n}"))).collect();
    let publishing = events.clone();
    let writer = tokio::spawn(async move {
        let mut writer = Client::connect(&url).await;
        for event in &publishing {
            writer.put(event).await;
        }
    });
    // Subscriptions opened all through it, each at another moment of some event's way.
    let mut reader = Client::connect(&relay.url()).await;
    let mut seen: HashMap<_, Vec<_>> = HashMap::new();
    let request = |n: usize| {
        let filter = Filter::default().with_kinds([1]);
        ClientFrame::req(&subscription(&format!("s{n}")), &[filter])
    };
    reader.send(request(0)).await;
    let (mut opened, mut frames) = (1, 0);
    while frames < opened * events.len() {
        if let RelayFrame::Event(id, event) = reader.receive().await {
            frames += 1;
            seen.entry(id).or_default().push(event.id());
            if opened < 20 && frames % 40 == 0 {
                reader.send(request(opened)).await;
                opened += 1;
            }
        }
    }
    writer.await.unwrap();
    let mut wanted = ids(&events);
    wanted.sort();
    assert_eq!(seen.len(), 20);
    for (id, mut got) in seen {
        got.sort();
        assert_eq!(got, wanted, "{id}");
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_sub_3_closing_ends_delivery_and_the_same_id_replaces() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    let id = subscription("one");
    let kinds = |kind| Filter::default().with_kinds([kind]);
    client.ask(&id, &[kinds(1)]).await.unwrap();
    client.ask(&id, &[kinds(7)]).await.unwrap();
    client
        .put(&person(1).sign(1, now(), &[], "no longer asked for"))
        .await;
    client.put(&person(1).sign(7, now(), &[], "+")).await;
    client.send(ClientFrame::close(&id)).await;
    client.put(&person(1).sign(7, now(), &[], "-")).await;
    client.fetch(kinds(2)).await.unwrap();
    let contents: Vec<_> = client
        .aside
        .iter()
        .map(|(_, event)| event.content())
        .collect();
    assert_eq!(contents, ["+"]);
    relay.stop().await.unwrap();
}

#[test]
fn r_model_1_a_seed_replays_the_model_and_it_follows_the_same_rules() {
    let run = |seed| {
        let mut relay = ModelRelay::new(&Config::in_memory(), 7447, seed).unwrap();
        let to = person(2);
        let mut out = relay.connect(1);
        out.extend(relay.connect(2));
        let at = 1_800_000_000;
        let challenge = out[1]
            .1
            .trim_start_matches("[\"AUTH\",\"")
            .trim_end_matches("\"]");
        let tags: [&[&str]; 2] = [&["relay", "ws://127.0.0.1:7447"], &["challenge", challenge]];
        let auth = to.sign(22242, at, &tags, "");
        let inbox = ClientFrame::Req(subscription("inbox"), vec![mailbox(&to)]);
        let wrap = person(9).sign(1059, at, &[&["p", &to.key().to_hex()]], "sealed");
        let id = wrap.id();
        let deletion = to.sign(5, at, &[&["e", &id.to_hex()], &["k", "1059"]], "");
        out.extend(relay.handle(2, inbox.clone(), at));
        out.extend(relay.handle(2, ClientFrame::Auth(auth), at));
        out.extend(relay.handle(2, inbox, at));
        out.extend(relay.handle(1, ClientFrame::Event(wrap.clone()), at));
        assert!(relay.contains(&id).unwrap());
        out.extend(relay.handle(2, ClientFrame::Event(deletion), at));
        assert!(!relay.contains(&id).unwrap());
        out.extend(relay.handle(1, ClientFrame::Event(wrap), at));
        relay.disconnect(1);
        out
    };
    let out = run(1);
    let verbs: Vec<(u64, &str)> = out
        .iter()
        .map(|(client, frame)| (*client, frame.split('"').nth(1).unwrap()))
        .collect();
    let wanted = [
        (1, "AUTH"),
        (2, "AUTH"),
        (2, "CLOSED"),
        (2, "OK"),
        (2, "EOSE"),
        (1, "OK"),
        (2, "EVENT"),
        (2, "OK"),
        (1, "OK"),
    ];
    assert_eq!(verbs, wanted);
    assert!(out[8].1.contains("blocked:"));
    assert_eq!(out, run(1));
    assert_ne!(out, run(2));
}

#[tokio::test]
async fn r_fair_6_each_of_a_crowd_gets_each_event_once() {
    const CROWD: usize = 60;
    let relay = start(Config::in_memory()).await;
    let mut writer = Client::connect_as(&relay.url(), &person(1)).await;
    let mut crowd = Vec::new();
    let notes = Filter::default().with_kinds([1]);
    let events: Vec<_> = (0..6)
        .map(|n| person(1).note(&format!("note {n}")))
        .collect();
    // Some come while it is going on.
    for event in &events {
        for _ in 0..CROWD / events.len() {
            let mut client = Client::connect(&relay.url()).await;
            let request = ClientFrame::req(&subscription("notes"), std::slice::from_ref(&notes));
            client.send(request).await;
            crowd.push(client);
        }
        writer.put(event).await;
    }
    for mut client in crowd {
        let (mut seen, mut has_all_stored) = (Vec::new(), false);
        while seen.len() < events.len() || !has_all_stored {
            match client.receive().await {
                RelayFrame::Event(_, event) => seen.push(event.id()),
                RelayFrame::Eose { .. } => has_all_stored = true,
                other => panic!("{other:?}"),
            }
        }
        // Nothing comes twice before the answer to something else.
        client
            .fetch(Filter::default().with_kinds([2]))
            .await
            .unwrap();
        assert!(client.aside.is_empty(), "{:?}", client.aside);
        seen.sort();
        let mut wanted = ids(&events);
        wanted.sort();
        assert_eq!(seen, wanted);
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_fair_6_a_key_that_is_proved_later_counts_for_what_is_open() {
    let relay = start(Config::in_memory()).await;
    let (first, later) = (person(2), person(3));
    let mut reader = Client::connect_as(&relay.url(), &first).await;
    let wraps = Filter::default().with_kinds([1059, 4]);
    reader.ask(&subscription("wraps"), &[wraps]).await.unwrap();
    let mut writer = Client::connect(&relay.url()).await;
    writer.put(&person(9).wrap(&later, "too early")).await;
    assert!(reader.auth(&later).await.0);
    let sent = [
        person(9).wrap(&first, "to the first"),
        person(9).wrap(&later, "to the other"),
        later.sign(
            4,
            now(),
            &[&["p", &person(8).key().to_hex()]],
            "written by it",
        ),
    ];
    for event in &sent {
        writer.put(event).await;
        match reader.receive().await {
            RelayFrame::Event(_, got) => assert_eq!(got, *event),
            other => panic!("{other:?}"),
        }
    }
    relay.stop().await.unwrap();
}
