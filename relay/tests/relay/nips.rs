//! Sentences of the NIPs that no other file holds, one test each.

use sotto_relay::Config;
use wire::{ClientFrame, Event, Filter, RelayFrame, SubscriptionId};

use crate::files::{holding, traces};
use crate::support::{Client, ids, mailbox, now, person, start, subscription};

type TagList = &'static [&'static [&'static str]];

fn kinds(kind: u16) -> Filter {
    Filter::default().with_kinds([kind])
}

/// The text of CLOSED for a request, as the client wrote it.
async fn closed(client: &mut Client, id: &SubscriptionId, rest: &str) -> String {
    client.send(format!("[\"REQ\",\"{id}\",{rest}]")).await;
    match client.receive().await {
        RelayFrame::Closed(of, message) if of == *id => message.text,
        other => panic!("{rest}: {other:?}"),
    }
}

#[tokio::test]
async fn r_sub_4_a_filter_with_unknown_elements_is_unsupported_and_a_wrong_one_invalid() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    let id = subscription("odd");
    for rest in [
        "{\"search\":\"x\"}",
        "{\"#emoji\":[\"x\"]}",
        "{\"kinds\":[1]},{\"before\":1}",
    ] {
        let text = closed(&mut client, &id, rest).await;
        assert_eq!(text, "unsupported: filter contains unknown elements");
    }
    let capitals = person(1).key().to_hex().to_uppercase();
    for rest in [
        "{\"kinds\":\"1\"}",
        "{\"kinds\":[65536]}",
        "{\"ids\":[\"00ff\"]}",
        &format!("{{\"authors\":[\"{capitals}\"]}}"),
        "{\"since\":-1}",
        "{\"limit\":1.5}",
        // Which of the two would hold?
        "{\"kinds\":[7],\"kinds\":[1]}",
        "{\"#p\":[\"x\"],\"#\\u0070\":[\"x\"]}",
        "{\"kinds\":[1]},{\"limit\":1,\"limit\":1}",
    ] {
        let text = closed(&mut client, &id, rest).await;
        assert!(text.starts_with("invalid:"), "{rest}: {text}");
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_sub_5_after_closed_nothing_more_comes_of_a_subscription() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    let id = subscription("notes");
    client.ask(&id, &[kinds(1)]).await.unwrap();
    // The same id asks for something that is refused: the old subscription is over too.
    closed(&mut client, &id, "{\"search\":\"x\"}").await;
    client.put(&person(1).note("unheard")).await;
    assert!(client.fetch(kinds(2)).await.unwrap().is_empty());
    assert!(client.aside.is_empty(), "{:?}", client.aside);
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_query_3_since_and_until_include_their_second_and_limit_gives_the_newest() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    let start_at = now() - 100;
    let at = |offset: u64, text: &str| person(1).sign(1, start_at + offset, &[], text);
    let mut tied = [at(5, "a"), at(5, "b"), at(5, "c")];
    tied.sort_by_key(Event::id);
    let (old, new) = (at(4, "old"), at(6, "new"));
    for event in [&tied[2], &new, &tied[0], &old, &tied[1]] {
        client.put(event).await;
    }
    let in_order = [&new, &tied[0], &tied[1], &tied[2], &old].map(Event::id);
    let limited = |limit| Filter {
        limit: Some(limit),
        ..kinds(1)
    };
    for (limit, wanted) in [(0, 0), (1, 1), (2, 2), (3, 3), (5, 5), (9, 5)] {
        let found = client.fetch(limited(limit)).await.unwrap();
        assert_eq!(ids(&found), in_order[..wanted], "{limit}");
    }
    let between = |since, until| Filter {
        since: Some(start_at + since),
        until: Some(start_at + until),
        ..kinds(1)
    };
    for ((since, until), wanted) in [
        ((5, 5), 1..4),
        ((4, 5), 1..5),
        ((6, 9), 0..1),
        ((5, 4), 0..0),
    ] {
        let found = client.fetch(between(since, until)).await.unwrap();
        assert_eq!(ids(&found), in_order[wanted], "{since} to {until}");
    }
    // Afterwards the limit counts no more, and the times still do.
    let live = subscription("live");
    client.ask(&live, &[limited(0)]).await.unwrap();
    let past = subscription("past");
    client.ask(&past, &[between(0, 50)]).await.unwrap();
    let later = [at(60, "1"), at(61, "2")];
    for event in &later {
        client.put(event).await;
    }
    client.fetch(kinds(2)).await.unwrap();
    let wanted: Vec<_> = later.iter().map(|e| (live.clone(), e.clone())).collect();
    assert_eq!(client.aside, wanted);
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_rep_2_each_range_of_kinds_replaces_as_nip_01_says() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    let at = now() - 100;
    // Kind, the tags of two events, and whether the second takes the place of the first.
    let cases: [(u16, [TagList; 2], bool); 12] = [
        (0, [&[], &[]], true),
        (3, [&[], &[]], true),
        (10_002, [&[], &[]], true),
        (10_050, [&[&["d", "a"]], &[&["d", "b"]]], true),
        (19_999, [&[], &[]], true),
        (30_000, [&[&["d", "a"]], &[&["d", "a"]]], true),
        (30_001, [&[&["d", "a"]], &[&["d", "b"]]], false),
        (30_002, [&[], &[&["d", ""]]], true),
        (30_003, [&[&["d"]], &[&["d", "", "x"]]], true),
        (39_999, [&[&["d", "a"], &["d", "b"]], &[&["d", "a"]]], true),
        (1, [&[], &[]], false),
        (40_000, [&[&["d", "a"]], &[&["d", "a"]]], false),
    ];
    for (kind, [first, second], replaces) in cases {
        let old = person(1).sign(kind, at, first, "old");
        let new = person(1).sign(kind, at + 1, second, "new");
        let of_another = person(2).sign(kind, at, first, "another's");
        for event in [&old, &of_another, &new] {
            client.put(event).await;
        }
        let found = ids(&client.fetch(kinds(kind)).await.unwrap());
        assert_eq!(found.contains(&old.id()), !replaces, "{kind} {first:?}");
        assert!(found.contains(&new.id()) && found.contains(&of_another.id()));
        if replaces {
            // Not accepted, and said so.
            let (accepted, text) = client.publish(&old).await;
            assert!(
                !accepted && text.starts_with("duplicate:"),
                "{kind}: {text}"
            );
            let older = person(1).sign(kind, at - 1, first, "older");
            let (accepted, text) = client.publish(&older).await;
            assert!(
                !accepted && text.starts_with("duplicate:"),
                "{kind}: {text}"
            );
        }
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_pub_4_every_text_that_nip_01_allows_is_taken_and_served_as_it_came() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    let content = "line\nquote\"back\\slash\rtab\tback\u{8}form\u{c} nul\u{0} \u{1}\u{b}\u{7f} / \u{fdd1}\u{10fff2} é";
    let event = person(1).sign(1, now(), &[&[], &["t", content], &["x"]], content);
    let compact = String::from_utf8(event.json().to_vec()).unwrap();
    // The same text with escapes that nobody needs: another spelling of the same event.
    let spelled = compact.replace(" / ", " \\/ ").replace('é', "\\u00e9");
    assert_ne!(compact, spelled);
    client.send(format!("[\"EVENT\",{spelled}]")).await;
    assert_eq!(client.answer(event.id()).await, (true, String::new()));
    let found = client.fetch(Filter::default().with_ids([event.id()]));
    assert_eq!(
        found.await.unwrap_err().split(':').next(),
        Some("auth-required")
    );
    let found = client.fetch(Filter::default().with_ids([event.id()]).with_kinds([1]));
    let found = found.await.unwrap();
    assert_eq!(found[0].json(), spelled.as_bytes());
    assert_eq!(found[0].content(), content);
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_query_4_the_first_value_of_every_letter_is_indexed() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    let tags: [&[&str]; 4] = [
        &["a", "first", "second"],
        &["Z", "upper"],
        &["z", "lower"],
        &["ab", "two letters"],
    ];
    let event = person(1).sign(1, now(), &tags, "");
    client.put(&event).await;
    for (letter, value, is_found) in [
        ('a', "first", true),
        ('a', "second", false),
        ('Z', "upper", true),
        ('Z', "lower", false),
        ('z', "lower", true),
    ] {
        let filter = kinds(1).with_tag(letter, [value]);
        let found = client.fetch(filter.clone()).await.unwrap();
        assert_eq!(!found.is_empty(), is_found, "{letter} {value}");
        // Several values are alternatives, several letters are conditions.
        let any = kinds(1).with_tag(letter, [value, "something else"]);
        assert_eq!(client.fetch(any).await.unwrap().len(), found.len());
        let both = filter.with_tag('t', ["absent"]);
        assert!(client.fetch(both).await.unwrap().is_empty());
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_prot_2_a_repost_may_not_carry_a_protected_event() {
    let relay = start(Config::in_memory()).await;
    let (alice, bob) = (person(1), person(2));
    let mut client = Client::connect_as(&relay.url(), &alice).await;
    let protected = alice.sign(1, now(), &[&["-"]], "for this relay");
    client.put(&protected).await;
    let json = |event: &Event| String::from_utf8(event.json().to_vec()).unwrap();
    for kind in [6, 16] {
        let repost = bob.sign(kind, now(), &[], &json(&protected));
        let (accepted, text) = client.publish(&repost).await;
        assert!(!accepted && text.starts_with("invalid:"), "{text}");
        client.put(&bob.sign(kind, now(), &[], "")).await;
        let free = json(&alice.note("for everybody"));
        client.put(&bob.sign(kind, now(), &[], &free)).await;
    }
    // Another kind may quote what it likes.
    client.put(&bob.note(&json(&protected))).await;
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_del_6_a_deletion_of_what_others_wrote_is_refused_unless_that_would_tell_a_secret() {
    let relay = start(Config::in_memory()).await;
    let (alice, mallory, to) = (person(1), person(2), person(3));
    let mut client = Client::connect_as(&relay.url(), &to).await;
    let (note, own) = (alice.note("hers"), mallory.note("his"));
    let list = alice.sign(10_050, now(), &[], "");
    let wrap = person(9).wrap(&to, "sealed");
    for event in [&note, &own, &list, &wrap] {
        client.put(event).await;
    }
    let address = format!("10050:{}:", alice.key().to_hex());
    let note_id = note.id().to_hex();
    for tags in [vec!["e", note_id.as_str()], vec!["a", address.as_str()]] {
        let (accepted, text) = client.publish(&mallory.sign(5, now(), &[&tags], "")).await;
        assert!(!accepted && text.starts_with("invalid:"), "{text}");
    }
    // Where it names something of its author's as well, that goes.
    let own_id = own.id().to_hex();
    let both = mallory.sign(5, now(), &[&["e", &note_id], &["e", &own_id]], "");
    client.put(&both).await;
    let left = ids(&client.fetch(kinds(1)).await.unwrap());
    assert_eq!(left, [note.id()]);
    // Whether a wrap is here is nobody's business: the answer is as for one that is not.
    let absent = person(9).wrap(&to, "never sent");
    for target in [&wrap, &absent] {
        client.put(&mallory.deletion(target)).await;
    }
    assert_eq!(ids(&client.mailbox(&to).await), [wrap.id()]);
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_eph_2_an_ephemeral_wrap_goes_to_its_recipient_alone_and_into_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let relay = start(Config::on_disk(folder.path())).await;
    let (to, other) = (person(2), person(3));
    let id = subscription("inbox");
    let mut reader = Client::connect_as(&relay.url(), &to).await;
    reader.ask(&id, &[mailbox(&to)]).await.unwrap();
    let mut curious = Client::connect_as(&relay.url(), &other).await;
    let refused = curious.ask(&id, &[mailbox(&to)]).await.unwrap_err();
    assert!(refused.starts_with("auth-required:"), "{refused}");
    curious
        .ask(&subscription("all"), &[kinds(21059)])
        .await
        .unwrap();

    let mut writer = Client::connect(&relay.url()).await;
    let tags: [&[&str]; 1] = [&["p", &to.key().to_hex()]];
    let event = person(9).sign(21059, now(), &tags, "the words that must not wait");
    writer.put(&event).await;
    assert_eq!(reader.receive().await, RelayFrame::Event(id, event.clone()));
    // Whoever comes later, or is somebody else, gets nothing; nobody can even count it.
    let mut late = Client::connect_as(&relay.url(), &to).await;
    assert!(late.mailbox(&to).await.is_empty());
    assert_eq!(late.count(&[mailbox(&to)]).await, Ok(0));
    assert!(curious.fetch(kinds(1)).await.unwrap().is_empty());
    assert!(curious.aside.is_empty());
    // Sent again it is passed on again: the relay does not even remember it.
    writer.put(&event).await;
    assert!(matches!(reader.receive().await, RelayFrame::Event(..)));
    relay.stop().await.unwrap();
    for (what, needle) in traces(&event) {
        assert!(holding(folder.path(), &needle).is_empty(), "{what}");
    }
}

#[tokio::test]
async fn r_count_4_a_count_is_of_any_of_its_filters_and_is_refused_with_closed() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    for n in 0..3 {
        client.put(&person(1).note(&format!("{n}"))).await;
    }
    client.put(&person(1).sign(7, now(), &[], "+")).await;
    assert_eq!(client.count(&[kinds(1), kinds(7), kinds(1)]).await, Ok(4));
    client.send("[\"COUNT\",\"c\",{\"search\":\"x\"}]").await;
    assert!(matches!(
        client.receive().await,
        RelayFrame::Closed(_, message) if message.text.starts_with("unsupported:")
    ));
    client
        .send(ClientFrame::count(&subscription("c"), &[]))
        .await;
    assert!(matches!(client.receive().await, RelayFrame::Closed(..)));
    relay.stop().await.unwrap();
}
