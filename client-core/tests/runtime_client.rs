//! The front door against the real relay and the real file server, over real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking"
)]

mod client_world;

use std::ops::ControlFlow;
use std::time::Duration;

use client_core::client::{Argon2Params, InitOptions, NewCircle, SendRequest, Settings, WaitLevel};
use client_core::view::StatusView;
use client_core::{ErrorWord, Origin, RelayUrl, SecretText};
use client_world::{World, bytes, done, relay_on, say, texts};
use tokio::net::TcpListener;

#[tokio::test]
async fn a_text_goes_both_ways_and_is_confirmed() {
    let world = World::new().await;
    let (anna, ben) = world.pair().await;
    let (mut a, mut b) = (anna.open(), ben.open());
    let id = say(&mut a, "ben", "hello").await;
    assert_eq!(done(b.sync().await.unwrap()).new, 1);
    let messages = b.messages("anna", 50, None).unwrap();
    assert_eq!(texts(&messages), ["hello"]);
    assert_eq!(messages[0].id, id);
    assert!(!messages[0].request);
    say(&mut b, "anna", "hello yourself").await;
    done(a.sync().await.unwrap());
    assert_eq!(
        texts(&a.messages("ben", 50, None).unwrap()),
        ["hello", "hello yourself"]
    );
    match a.status(&id[..8]).await.unwrap() {
        StatusView::Sent(sent) => assert_eq!(sent.status, "delivered"),
        StatusView::Deleted(_) => panic!("it was not deleted"),
    }
    assert!(a.outbox().unwrap().is_empty() && b.outbox().unwrap().is_empty());
    a.close().await;
    b.close().await;
}

#[tokio::test]
async fn a_message_waits_for_somebody_who_is_away() {
    let world = World::new().await;
    let (anna, ben) = world.pair().await;
    {
        let mut a = anna.open();
        say(&mut a, "ben", "one").await;
        say(&mut a, "ben", "two").await;
        a.close().await;
    }
    let mut b = ben.open();
    assert_eq!(done(b.sync().await.unwrap()).new, 2);
    assert_eq!(done(b.sync().await.unwrap()).new, 0);
    assert_eq!(b.inbox().unwrap()[0].unread, 2);
}

#[tokio::test]
async fn waiting_for_delivery_ends_when_the_receipt_comes() {
    let world = World::new().await;
    let (anna, ben) = world.pair().await;
    let (mut a, mut b) = (anna.open(), ben.open());
    let request = SendRequest {
        wait: WaitLevel::Delivered,
        ..SendRequest::text("ben", "are you there?")
    };
    let reading = async {
        let mut seen = 0;
        b.watch(Some(0), |event| {
            seen += usize::from(event.kind == "message");
            if seen == 1 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .await
        .unwrap();
        // The receipt is in the outbox by now; flushing waits for it to be out.
        done(b.flush().await.unwrap());
    };
    let (sent, ()) = tokio::join!(a.send(request), reading);
    assert_eq!(done(sent.unwrap()).status, "delivered");
}

#[tokio::test]
async fn the_same_idempotency_key_sends_once() {
    let world = World::new().await;
    let (anna, ben) = world.pair().await;
    let (mut a, mut b) = (anna.open(), ben.open());
    let mut ids = Vec::new();
    for _ in 0..2 {
        let request = SendRequest {
            files: vec![bytes("f", b"content")],
            idempotency_key: Some("order-66".to_owned()),
            ..SendRequest::text("ben", "once")
        };
        ids.push(done(a.send(request).await.unwrap()).ids);
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(done(b.sync().await.unwrap()).new, 2);
}

#[tokio::test]
async fn a_relay_that_is_down_keeps_the_message_in_the_outbox() {
    let mut world = World::new().await;
    let (anna, ben) = world.pair().await;
    let port = world.relay.port();
    let mut a = anna.open();
    // So that the recipient's list is known.
    say(&mut a, "ben", "first").await;
    a.close().await;
    world.relay.stop().await.unwrap();
    let mut a = anna.open();
    let outcome = a.send(SendRequest::text("ben", "second")).await.unwrap();
    let error = outcome.error.unwrap();
    assert_eq!((error.word, error.exit), (ErrorWord::Unreachable, 3));
    assert_eq!(outcome.value.status, "queued");
    assert_eq!(a.sync().await.unwrap().error.unwrap().exit, 3);
    assert_eq!(a.flush().await.unwrap().error.unwrap().exit, 3);
    a.close().await;
    world.relay = relay_on(port).await;
    let mut a = anna.open();
    // The relay came back empty: the lists are published again before anybody can answer.
    done(a.sync().await.unwrap());
    assert!(a.outbox().unwrap().is_empty());
    let mut b = ben.open();
    done(b.sync().await.unwrap());
    assert_eq!(texts(&b.messages("anna", 9, None).unwrap()), ["second"]);
}

#[tokio::test]
async fn init_without_its_relay_makes_the_account_and_says_so() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let anna = world.home("anna");
    let options = InitOptions {
        relays: vec![format!("ws://127.0.0.1:{port}").parse().unwrap()],
        ..world.options()
    };
    let outcome = anna.init(options.clone()).await.unwrap();
    let error = outcome.error.unwrap();
    assert_eq!((error.word, error.exit), (ErrorWord::Unreachable, 3));
    assert_eq!(outcome.value.words.unwrap().split(' ').count(), 24);
    assert_eq!(anna.init(options).await.unwrap_err().exit, 9);
    // As soon as there is one, anybody can write.
    let relay = relay_on(port).await;
    let ben = world.home("ben");
    let options = InitOptions {
        relays: vec![relay.url().parse().unwrap()],
        ..world.options()
    };
    done(ben.init(options).await.unwrap());
    let mut a = anna.open();
    done(a.sync().await.unwrap());
    let mut b = ben.open();
    let link = a.invite().unwrap().to_string();
    say(&mut b, &link, "hello").await;
    done(a.sync().await.unwrap());
    let inbox = a.inbox().unwrap();
    assert!(inbox[0].request, "from a stranger");
}

#[tokio::test]
async fn nothing_is_sent_to_somebody_without_an_inbox_list() {
    let world = World::new().await;
    let anna = world.person("anna").await;
    let mut a = anna.open();
    let nobody = "npub180cvv07tjdrrgpa0j7j7tmnyl2yr6yr7l8j4s3evf6u64th6gkwsyjh6w6";
    let outcome = a.send(SendRequest::text(nobody, "hello")).await.unwrap();
    let error = outcome.error.unwrap();
    assert_eq!((error.word, error.exit), (ErrorWord::NoInboxRelays, 10));
    let error = a.send(SendRequest::text("nobody", "x")).await.unwrap_err();
    assert_eq!(error.exit, 7);
    assert_eq!(
        a.export_words().unwrap().expose_secret().split(' ').count(),
        24
    );
    let weak = SecretText::new("123456789012".to_owned());
    assert_eq!(a.export_ncryptsec(weak).unwrap_err().exit, 2);
}

#[tokio::test]
async fn a_second_circle_stays_apart_and_a_restore_finds_both() {
    let world = World::new().await;
    let second = relay_on(0).await;
    let anna = world.person("anna").await;
    let words = anna.open().export_words().unwrap();
    let mut a = anna.open();
    let work = NewCircle {
        name: "work".to_owned(),
        relays: vec![second.url().parse().unwrap()],
        invites: Vec::new(),
        file_servers: vec![world.files()],
        expire_s: Some(3_600),
    };
    let view = done(a.create_circle(work.clone()).await.unwrap());
    assert_eq!((view.index, view.current), (1, false));
    assert_eq!(view.expire_s, Some(3_600));
    // The file server is personal's too.
    assert_eq!(a.take_warnings().len(), 1);
    assert_eq!(a.create_circle(work).await.unwrap_err().exit, 9);
    let account = a.account().unwrap();
    assert_ne!(account.pubkey, view.pubkey);
    let bare = NewCircle {
        name: "bare".to_owned(),
        relays: Vec::new(),
        invites: Vec::new(),
        file_servers: Vec::new(),
        expire_s: None,
    };
    assert_eq!(a.create_circle(bare).await.unwrap_err().exit, 2);

    let mut at_work = anna.open_circle(Some("work"));
    assert_eq!(at_work.account().unwrap().pubkey, view.pubkey);
    let link = at_work.invite().unwrap().to_string();
    let ben = world.person("ben").await;
    let mut b = ben.open();
    say(&mut b, &link, "to work").await;
    assert_eq!(done(a.sync().await.unwrap()).new, 0);
    assert_eq!(done(at_work.sync().await.unwrap()).new, 1);
    assert!(a.inbox().unwrap().is_empty());
    // Opened again, so that circle 0's next traffic carries the definitions.
    a.close().await;
    let mut a = anna.open();
    done(a.sync().await.unwrap());
    a.close().await;

    let other = world.home("other");
    let options = InitOptions {
        restore: Some(words),
        relays: vec![world.relay()],
        ..InitOptions::default()
    };
    let restored = done(other.init(options).await.unwrap());
    assert_eq!(restored.pubkey, account.pubkey);
    assert_eq!(restored.file_servers, account.file_servers);
    let o = other.open();
    let circles = o.circles().unwrap();
    assert_eq!(circles.len(), 2);
    assert_eq!(circles[1].pubkey, view.pubkey);
    assert_eq!(circles[1].relays, [second.url()]);
    let mut at_work = other.open_circle(Some("work"));
    done(at_work.sync().await.unwrap());
    assert_eq!(at_work.inbox().unwrap().len(), 1);
}

#[tokio::test]
async fn relays_and_file_servers_come_and_go() {
    let world = World::new().await;
    let second = relay_on(0).await;
    let (anna, ben) = world.pair().await;
    let mut a = anna.open();
    let url: RelayUrl = second.url().parse().unwrap();
    done(a.add_relay(url.clone()).await.unwrap());
    assert_eq!(a.add_relay(url.clone()).await.unwrap_err().exit, 9);
    assert_eq!(a.relays().unwrap().len(), 2);
    done(a.remove_relay(&world.relay()).await.unwrap());
    assert_eq!(a.remove_relay(&world.relay()).await.unwrap_err().exit, 7);
    done(a.remove_file_server(&world.files()).await.unwrap());
    assert!(a.file_servers().unwrap().is_empty());
    assert_eq!(a.account().unwrap().relays, [url.to_string()]);
    let request = SendRequest {
        files: vec![bytes("f", b"x")],
        ..SendRequest::text("ben", "no place for it")
    };
    let error = a.send(request).await.unwrap_err();
    assert_eq!(error.exit, 9);
    assert!(
        a.messages("ben", 9, None).unwrap().is_empty(),
        "nothing half sent"
    );
    drop(ben);
}

#[tokio::test]
async fn our_own_servers_pass_every_check() {
    let world = World::new().await;
    let anna = world.person("anna").await;
    let mut a = anna.open();
    let view = a.check_relay(&world.relay()).await.unwrap();
    assert!(view.error.is_none(), "{:?}", view.value.checks);
    let names: Vec<_> = view.value.checks.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "description",
            "connect",
            "takes_wraps",
            "keeps_wraps_private",
            "serves_the_recipient",
            "deletes_wraps"
        ]
    );
    let view = a.check_file_server(&world.files()).await.unwrap();
    assert!(view.error.is_none(), "{:?}", view.value.checks);
    assert_eq!(view.value.checks.len(), 7);
    let nowhere: RelayUrl = "ws://127.0.0.1:1".parse().unwrap();
    let outcome = a.check_relay(&nowhere).await.unwrap();
    assert_eq!(outcome.error.unwrap().exit, 3);
    assert_eq!(outcome.value.ok, Some(false));
    let nowhere: Origin = "http://127.0.0.1:1".parse().unwrap();
    assert_eq!(
        a.check_file_server(&nowhere)
            .await
            .unwrap()
            .error
            .unwrap()
            .exit,
        3
    );
}

#[tokio::test]
async fn a_send_that_is_interrupted_is_finished_by_the_next_command() {
    let world = World::new().await;
    let (anna, ben) = world.pair().await;
    for polls in 0..12 {
        let mut a = anna.open();
        let sending = a.send(SendRequest::text("ben", format!("try {polls}")));
        let mut sending = Box::pin(sending);
        // Polled so many times and then dropped, as by Ctrl-C.
        for _ in 0..polls {
            if futures_util::poll!(&mut sending).is_ready() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        drop(sending);
        a.close().await;
    }
    let mut a = anna.open();
    done(a.sync().await.unwrap());
    assert!(a.outbox().unwrap().is_empty());
    let mut b = ben.open();
    done(b.sync().await.unwrap());
    let messages = b.messages("anna", 99, None).unwrap();
    let mut wanted: Vec<String> = a
        .messages("ben", 99, None)
        .unwrap()
        .iter()
        .map(|message| message.text.clone())
        .collect();
    let mut got: Vec<String> = messages.iter().map(|m| m.text.clone()).collect();
    wanted.sort();
    got.sort();
    assert_eq!(got, wanted);
    assert!(wanted.len() >= 11);
}

#[tokio::test]
async fn watching_goes_on_when_a_relay_comes_back() {
    let world = World::new().await;
    let (anna, ben) = world.pair().await;
    let (mut a, mut b) = (anna.open(), ben.open());
    say(&mut a, "ben", "before").await;
    a.close().await;
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let watching = b.watch(Some(0), |event| {
        if let Some(message) = event.message {
            sender.send(message.text).unwrap();
        }
        ControlFlow::Continue(())
    });
    let story = async {
        assert_eq!(seen.recv().await.unwrap(), "before");
        let port = world.relay.port();
        world.relay.stop().await.unwrap();
        let _relay = relay_on(port).await;
        let mut a = anna.open();
        say(&mut a, "ben", "after").await;
        a.close().await;
        assert_eq!(seen.recv().await.unwrap(), "after");
    };
    tokio::select! {
        result = watching => panic!("watching ended: {result:?}"),
        () = story => {}
    }
}

#[tokio::test]
async fn a_relay_that_says_nothing_is_in_the_report_of_a_sync() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let world = World::new().await;
    let anna = world.home("anna");
    let short = Settings {
        timeout: Duration::from_millis(300),
        ..Settings::default()
    };
    let options = InitOptions {
        relays: vec![url.parse().unwrap()],
        argon2: Argon2Params::LEAST,
        ..InitOptions::default()
    };
    let outcome = anna
        .home
        .init(anna.key.clone(), options, &short)
        .await
        .unwrap();
    assert_eq!(outcome.error.unwrap().exit, 124);
    let mut a = anna.home.open(anna.key.clone(), None, &short).unwrap();
    let outcome = a.sync().await.unwrap();
    assert_eq!(outcome.error.unwrap().exit, 124);
    assert_eq!(outcome.value.relays.len(), 1);
    assert!(!outcome.value.relays[0].ok);
    drop(listener);
}
