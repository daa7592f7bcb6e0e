//! Servers that stop, die in the middle, and come back.

use client_core::client::SendRequest;
use e2e::world::{World, word};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_relay_still_has_what_it_acknowledged() {
    let mut world = World::new();
    let mut relay = world.relay("a").await;
    let (anna, ben) = world.friends(&[&relay], &[]).await;
    anna.text("ben", "before").await;
    relay.stop().await;
    relay.start().await;
    anna.text("ben", "after").await;
    assert_eq!(ben.sync().await, 2);
    assert_eq!(ben.texts("anna"), ["before", "after"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_dies_before_its_answer_makes_no_double() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let (anna, ben) = world.friends(&[&relay], &[]).await;
    anna.text("ben", "first").await;
    // The relay takes the next event, and the connection dies before its OK comes back.
    relay.tap.cut_after_wrap_for(ben.key());
    let outcome = anna
        .try_send(SendRequest::text("ben", "second"))
        .await
        .unwrap();
    let error = outcome.error.expect("nobody confirmed it");
    assert!([3, 5, 124].contains(&error.exit), "{error:?}");
    assert_eq!(outcome.value.status, "queued");
    relay.tap.set_down(false);

    // Long enough for another try; a wrap that was drawn two days old is not too old yet.
    world.clock.pass(120);
    let mut client = anna.client();
    let flushed = client.flush().await.unwrap();
    assert!(flushed.error.is_none(), "{:?}", flushed.error);
    client.close().await;
    assert_eq!(anna.messages("ben")[1].status, "stored");
    let wraps: std::collections::BTreeSet<String> = relay
        .tap
        .seen()
        .iter()
        .flat_map(|seen| seen.published(1059))
        .map(|wrap| wrap["id"].as_str().unwrap().to_owned())
        .collect();
    // Two messages, each one wrap for the peer and one for the own key: what was sent again had
    // the same bytes.
    assert_eq!(wraps.len(), 4);
    assert_eq!(ben.sync().await, 2);
    assert_eq!(ben.texts("anna"), ["first", "second"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_relay_keeps_the_message_in_the_outbox() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let (anna, ben) = world.friends(&[&relay], &[]).await;
    anna.text("ben", "warm up").await;
    relay.tap.set_down(true);
    let outcome = anna
        .try_send(SendRequest::text("ben", "patience"))
        .await
        .unwrap();
    let error = outcome.error.unwrap();
    assert_eq!((word(&error), error.exit), ("unreachable", 3));
    assert!(!anna.client().outbox().unwrap().is_empty());
    relay.tap.set_down(false);
    world.clock.pass(3_600);
    // Any later command that touches the network takes it along.
    anna.sync().await;
    ben.sync().await;
    assert_eq!(ben.texts("anna"), ["warm up", "patience"]);
    assert!(anna.client().outbox().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_dead_relay_of_two_does_not_stop_the_other() {
    let mut world = World::new();
    let first = world.relay("first").await;
    let second = world.relay("second").await;
    let anna = world.person("anna", &[&first], &[]).await;
    let ben = world.person("ben", &[&first, &second], &[]).await;
    anna.knows(&ben, "ben");
    ben.knows(&anna, "anna");
    first.tap.set_down(true);
    let outcome = anna
        .try_send(SendRequest::text("ben", "by the other way"))
        .await
        .unwrap();
    // The look-up needs a relay that is up: Ben's link names both.
    assert_eq!(
        outcome.value.status, "stored",
        "all that can be reached: {outcome:?}"
    );
    let mut client = ben.client();
    let synced = client.sync().await.unwrap();
    client.close().await;
    assert_eq!(synced.value.new, 1);
    assert_eq!(
        synced.error.map(|error| error.exit),
        Some(5),
        "one relay was down"
    );
    assert_eq!(ben.texts("anna"), ["by the other way"]);
}
