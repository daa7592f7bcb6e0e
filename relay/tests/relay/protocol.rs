//! The conversation of NIP-01 over real sockets.

use crate::support::{Client, ids, mailbox, person, start, subscription};
use sotto_relay::Config;
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
async fn r_auth_1_wraps_reach_their_recipient_alone() {
    let relay = start(Config::in_memory()).await;
    let (alice, bob) = (person(1), person(2));
    let mut sender = Client::connect(&relay.url()).await;
    let mut recipient = Client::connect_as(&relay.url(), &bob).await;
    let mut other = Client::connect_as(&relay.url(), &alice).await;
    let wrap = person(100).wrap(&bob, "sealed");
    sender.put(&wrap).await;
    assert_eq!(ids(&recipient.mailbox(&bob).await), [wrap.id()]);
    assert!(other.mailbox(&bob).await.is_empty());
    let refused = sender.fetch(mailbox(&bob)).await.unwrap_err();
    assert!(refused.starts_with("auth-required:"), "{refused}");
    relay.stop().await.unwrap();
}
