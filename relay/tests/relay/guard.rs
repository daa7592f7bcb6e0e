//! Who may read what: every path out of the relay, every kind that is not for everybody.

use sotto_relay::Config;
use wire::{ClientFrame, Event, Filter, RelayFrame};

use crate::support::{Client, Person, ids, mailbox, now, person, start, subscription};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Auth {
    None,
    Wrong,
    Right,
}

const AUTHS: [Auth; 3] = [Auth::None, Auth::Wrong, Auth::Right];

async fn reader(url: &str, auth: Auth, recipient: &Person) -> Client {
    match auth {
        Auth::None => Client::connect(url).await,
        Auth::Wrong => Client::connect_as(url, &person(66)).await,
        Auth::Right => Client::connect_as(url, recipient).await,
    }
}

fn guarded(kind: u16, sender: &Person, to: &Person) -> Event {
    sender.sign(
        kind,
        now(),
        &[&["p", &to.key().to_hex()]],
        "for one pair of eyes",
    )
}

fn filters(event: &Event, to: &Person) -> Vec<Filter> {
    vec![
        Filter::default().with_kinds([event.kind()]),
        Filter::default().with_ids([event.id()]),
        Filter::default().with_authors([event.pubkey()]),
        Filter::default().with_tag('p', [to.key().to_hex()]),
        mailbox(to),
        Filter::default(),
    ]
}

#[tokio::test]
async fn r_auth_1_history_shows_guarded_kinds_to_the_right_key_alone() {
    let relay = start(Config::in_memory()).await;
    let (sender, to) = (person(1), person(2));
    let mut writer = Client::connect(&relay.url()).await;
    for kind in [4, 1059] {
        let event = guarded(kind, &sender, &to);
        writer.put(&event).await;
        for auth in AUTHS {
            let mut reader = reader(&relay.url(), auth, &to).await;
            for filter in filters(&event, &to) {
                let found = reader.fetch(filter.clone()).await;
                match auth {
                    Auth::None => {
                        let text = found.unwrap_err();
                        assert!(
                            text.starts_with("auth-required:"),
                            "{kind} {filter:?}: {text}"
                        );
                    }
                    // Who asks for the wraps of others alone does not take silence for their inbox.
                    Auth::Wrong if filter == mailbox(&to) => {
                        assert!(found.unwrap_err().starts_with("auth-required:"));
                    }
                    Auth::Wrong => assert!(found.unwrap().is_empty(), "{kind} {filter:?}"),
                    Auth::Right if filter == mailbox(&to) && kind == 4 => {}
                    Auth::Right => {
                        assert!(
                            ids(&found.unwrap()).contains(&event.id()),
                            "{kind} {filter:?}"
                        );
                    }
                }
            }
        }
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_auth_1_counts_and_reconciliations_tell_of_guarded_kinds_to_the_right_key_alone() {
    let relay = start(Config::in_memory()).await;
    let (sender, to) = (person(1), person(2));
    let mut writer = Client::connect(&relay.url()).await;
    let events = [4, 1059].map(|kind| guarded(kind, &sender, &to));
    for event in &events {
        writer.put(event).await;
    }
    let is_closed = |auth, filter: &Filter| match auth {
        Auth::None => true,
        Auth::Wrong => *filter == mailbox(&to),
        Auth::Right => false,
    };
    for event in &events {
        for auth in AUTHS {
            let mut reader = reader(&relay.url(), auth, &to).await;
            for filter in filters(event, &to) {
                let found = reader.fetch(filter.clone()).await;
                let counted = reader.count(std::slice::from_ref(&filter)).await;
                // Whoever guesses an event's id and time learns nothing either.
                for own in [&[][..], &events] {
                    match reader.reconcile(&filter, own).await {
                        Ok(compared) => {
                            let shown = ids(found.as_ref().unwrap());
                            let held = ids(own);
                            let missing = shown.iter().filter(|id| !held.contains(id));
                            assert!(compared.need.iter().eq(missing), "{auth:?} {filter:?}");
                            let extra = compared.have.len();
                            assert_eq!(extra, held.len().saturating_sub(shown.len()));
                        }
                        Err(text) => {
                            assert!(is_closed(auth, &filter), "{auth:?} {filter:?}");
                            assert!(text.starts_with("auth-required:"), "{filter:?}: {text}");
                        }
                    }
                }
                match (found, counted) {
                    (Ok(found), Ok(counted)) => {
                        assert_eq!(counted, found.len() as u64, "{auth:?} {filter:?}");
                        assert_eq!(counted > 0, auth == Auth::Right && !found.is_empty());
                    }
                    (Err(_), Err(text)) => {
                        assert!(is_closed(auth, &filter), "{auth:?} {filter:?}");
                        assert!(text.starts_with("auth-required:"), "{filter:?}: {text}");
                    }
                    other => panic!("{auth:?} {filter:?}: {other:?}"),
                }
            }
        }
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_auth_1_live_delivery_shows_guarded_kinds_to_the_right_key_alone() {
    let relay = start(Config::in_memory()).await;
    let (sender, to) = (person(1), person(2));
    let mut writer = Client::connect(&relay.url()).await;
    for kind in [4, 1059, 21059] {
        for auth in AUTHS {
            let event = guarded(kind, &sender, &to);
            // Another event each time, so that each round is live.
            let event = sender.sign(
                kind,
                event.created_at(),
                &[&["p", &to.key().to_hex()]],
                &format!("{auth:?}"),
            );
            let mut reader = reader(&relay.url(), auth, &to).await;
            let filters = filters(&event, &to);
            let mut open = Vec::new();
            for (index, filter) in filters.iter().enumerate() {
                let id = subscription(&format!("s{index}"));
                match reader
                    .ask(
                        &id,
                        &[Filter {
                            limit: Some(0),
                            ..filter.clone()
                        }],
                    )
                    .await
                {
                    Ok(_) => open.push((id, filter.matches(&event))),
                    Err(text) => assert!(text.starts_with("auth-required:"), "{text}"),
                }
            }
            assert_eq!(open.is_empty(), auth == Auth::None);
            writer.put(&event).await;
            // A public event after it shows that everything before has been delivered.
            let marker = sender.sign(1, now(), &[], &format!("{kind} {auth:?}"));
            let marks = subscription("marks");
            let only_marks = Filter {
                limit: Some(0),
                ..Filter::default().with_kinds([1])
            };
            reader.ask(&marks, &[only_marks]).await.unwrap();
            writer.put(&marker).await;
            let mut seen = Vec::new();
            loop {
                match reader.receive().await {
                    RelayFrame::Event(id, _) if id == marks => break,
                    RelayFrame::Event(id, got) if got == event => seen.push(id),
                    RelayFrame::Event(_, got) => assert_eq!(got, marker),
                    other => panic!("{other:?}"),
                }
            }
            seen.extend(
                reader
                    .aside
                    .iter()
                    .filter(|(_, got)| *got == event)
                    .map(|(id, _)| id.clone()),
            );
            seen.sort();
            let wanted: Vec<_> = match auth {
                Auth::Right => {
                    let asked = open.iter().filter(|(_, asked)| *asked);
                    asked.map(|(id, _)| id.clone()).collect()
                }
                Auth::None | Auth::Wrong => Vec::new(),
            };
            assert_eq!(seen, wanted, "{kind} {auth:?}");
        }
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_auth_1_a_legacy_message_is_shown_to_its_author_and_a_wrap_is_not() {
    let relay = start(Config::in_memory()).await;
    let (sender, to) = (person(1), person(2));
    let mut author = Client::connect_as(&relay.url(), &sender).await;
    let (old, wrap) = (guarded(4, &sender, &to), guarded(1059, &sender, &to));
    author.put(&old).await;
    author.put(&wrap).await;
    let filter = Filter::default().with_kinds([4, 1059]);
    assert_eq!(ids(&author.fetch(filter).await.unwrap()), [old.id()]);
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_auth_2_public_kinds_need_no_auth() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    let list = person(1).sign(10050, now(), &[&["relay", "wss://relay.example"]], "");
    client.put(&list).await;
    let filter = Filter::default()
        .with_kinds([10050])
        .with_authors([person(1).key()]);
    assert_eq!(client.fetch(filter).await.unwrap(), [list]);
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_auth_3_a_proof_for_another_connection_relay_kind_or_hour_is_refused() {
    let relay = start(Config::in_memory()).await;
    let who = person(1);
    let mut client = Client::connect(&relay.url()).await;
    let other = Client::connect(&relay.url()).await;
    assert_eq!(client.challenge.len(), 64);
    assert_ne!(client.challenge, other.challenge);
    let url = relay.url();
    let tags = |url: &str, challenge: &str| {
        vec![
            vec!["relay".to_owned(), url.to_owned()],
            vec!["challenge".to_owned(), challenge.to_owned()],
        ]
    };
    let make = |kind, at, tags: Vec<Vec<String>>| {
        let tags: Vec<Vec<&str>> = tags
            .iter()
            .map(|tag| tag.iter().map(String::as_str).collect())
            .collect();
        let tags: Vec<&[&str]> = tags.iter().map(Vec::as_slice).collect();
        who.sign(kind, at, &tags, "")
    };
    let own = client.challenge.clone();
    for (what, event) in [
        ("replayed", make(22242, now(), tags(&url, &other.challenge))),
        (
            "other relay",
            make(22242, now(), tags("ws://relay.example", &own)),
        ),
        (
            "other port",
            make(22242, now(), tags("ws://127.0.0.1:1", &own)),
        ),
        ("other kind", make(22243, now(), tags(&url, &own))),
        ("old", make(22242, now() - 700, tags(&url, &own))),
        ("ahead", make(22242, now() + 700, tags(&url, &own))),
        ("no tags", make(22242, now(), Vec::new())),
    ] {
        let (accepted, text) = client.auth_with(&event).await;
        assert!(!accepted, "{what}");
        assert!(text.starts_with("restricted:"), "{what}: {text}");
    }
    for name in ["127.0.0.1", "localhost", "[::1]", "LOCALHOST"] {
        let url = format!("ws://{name}:{}/", relay.port());
        let event = make(22242, now(), tags(&url, &own));
        assert_eq!(
            client.auth_with(&event).await,
            (true, String::new()),
            "{name}"
        );
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_auth_3_a_forged_proof_proves_nothing() {
    let relay = start(Config::in_memory()).await;
    let (alice, bob) = (person(1), person(2));
    let mut client = Client::connect(&relay.url()).await;
    let event = client.auth_event(&alice);
    let forged = String::from_utf8(event.json().to_vec())
        .unwrap()
        .replace(&alice.key().to_hex(), &bob.key().to_hex());
    client.send(format!("[\"AUTH\",{forged}]")).await;
    let (accepted, text) = client.answer(event.id()).await;
    assert!(!accepted && text.starts_with("invalid:"), "{text}");
    assert!(client.fetch(mailbox(&bob)).await.is_err());
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_auth_4_tries_are_limited_per_connection() {
    let mut config = Config::in_memory();
    config.limits.auth_tries = 3;
    let relay = start(config).await;
    let mut client = Client::connect(&relay.url()).await;
    let wrong = person(1).sign(22242, now(), &[], "");
    for _ in 0..3 {
        assert!(client.auth_with(&wrong).await.1.starts_with("restricted:"));
    }
    let right = client.auth_event(&person(1));
    for _ in 0..3 {
        let (accepted, text) = client.auth_with(&right).await;
        assert!(!accepted && text.starts_with("rate-limited:"), "{text}");
    }
    // Whoever goes on is disconnected.
    client.send(ClientFrame::auth(right.json())).await;
    while let Some(frame) = client.try_receive().await {
        assert!(matches!(frame, RelayFrame::Ok(_, false, _)), "{frame:?}");
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_auth_5_one_connection_may_prove_several_keys() {
    let relay = start(Config::in_memory()).await;
    let (a, b) = (person(1), person(2));
    let mut client = Client::connect_as(&relay.url(), &a).await;
    assert!(client.auth(&b).await.0);
    let mut writer = Client::connect(&relay.url()).await;
    let (to_a, to_b) = (person(10).wrap(&a, "a"), person(11).wrap(&b, "b"));
    writer.put(&to_a).await;
    writer.put(&to_b).await;
    assert_eq!(ids(&client.mailbox(&a).await), [to_a.id()]);
    assert_eq!(ids(&client.mailbox(&b).await), [to_b.id()]);
    relay.stop().await.unwrap();
}
