//! Texts, strangers, receipts, absence.

use client_core::client::{SendRequest, WaitLevel};
use client_core::view::StatusView;
use e2e::world::{World, word};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_goes_both_ways_and_both_see_it_once() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let (anna, ben) = world.friends(&[&relay], &[]).await;

    let sent = anna.text("ben", "Hello Ben").await;
    assert_eq!(
        sent.status, "stored",
        "all of Ben's relays, of which there is one"
    );
    assert_eq!(ben.sync().await, 1);
    assert_eq!(ben.sync().await, 0, "a second look finds nothing new");
    world.clock.pass(1);
    ben.text("anna", "Hello Anna").await;
    anna.sync().await;

    assert_eq!(anna.texts("ben"), ["Hello Ben", "Hello Anna"]);
    assert_eq!(ben.texts("anna"), ["Hello Ben", "Hello Anna"]);
    let received = &ben.messages("anna")[0];
    assert_eq!(received.direction, "in");
    assert_eq!(received.from, anna.key());
    assert_eq!(received.from_alias.as_deref(), Some("anna"));
    assert_eq!(received.id, sent.id);
    assert!(!received.request);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_says_delivered_and_only_contacts_send_one() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let anna = world.person("anna", &[&relay], &[]).await;
    let ben = world.person("ben", &[&relay], &[]).await;
    anna.knows(&ben, "ben");
    let sent = anna.text("ben", "Are you there?").await;

    ben.sync().await;
    let stranger = &ben.messages(anna.key())[0];
    assert!(
        stranger.request,
        "the first message of a stranger is a request"
    );
    anna.sync().await;
    assert_eq!(
        anna.messages("ben")[0].status,
        "stored",
        "a stranger sends no receipt"
    );

    ben.knows(&anna, "anna");
    assert!(
        !ben.messages("anna")[0].request,
        "a contact's message is no request"
    );
    ben.sync().await;
    anna.sync().await;
    assert_eq!(anna.messages("ben")[0].status, "delivered");
    let mut client = anna.client();
    let StatusView::Sent(status) = client.status(&sent.id).await.unwrap() else {
        panic!("a message that is not deleted");
    };
    assert_eq!(status.recipients[0].status, "delivered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_delivered_ends_when_the_peer_confirms() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let (anna, ben) = world.friends(&[&relay], &[]).await;
    let mut request = SendRequest::text("ben", "Say when");
    request.wait = WaitLevel::Delivered;
    let waiting = anna.send(request);
    let answering = async {
        while ben.sync().await == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let (sent, ()) = tokio::join!(waiting, answering);
    assert_eq!(sent.status, "delivered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_inbox_list_nothing_is_sent() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let anna = world.person("anna", &[&relay], &[]).await;
    let nobody = "npub180cvv07tjdrrgpa0j7j7tmnyl2yr6yr7l8j4s3evf6u64th6gkwsyjh6w6";
    let outcome = anna.try_send(SendRequest::text(nobody, "Hello?")).await;
    let error = outcome.map_or_else(|error| error, |outcome| outcome.error.unwrap());
    assert_eq!((word(&error), error.exit), ("no_inbox_relays", 10));
    for seen in relay.tap.seen() {
        assert!(
            seen.published(1059).is_empty(),
            "no wrap for somebody who cannot get it"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_waits_for_somebody_who_is_away() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let (anna, ben) = world.friends(&[&relay], &[]).await;
    for n in 0..5 {
        anna.text("ben", &format!("note {n}")).await;
    }
    world.clock.pass(36 * 3_600);
    assert_eq!(ben.sync().await, 5);
    let expected: Vec<String> = (0..5).map(|n| format!("note {n}")).collect();
    assert_eq!(ben.texts("anna"), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_home_of_the_same_seed_sees_what_the_first_sent() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let (anna, ben) = world.friends(&[&relay], &[]).await;
    anna.text("ben", "from the first home").await;
    world.clock.pass(1);
    ben.text("anna", "an answer").await;
    let options = client_core::client::InitOptions {
        relays: vec![relay.url()],
        restore: Some(client_core::SecretText::new(
            anna.account().words.clone().unwrap(),
        )),
        ..Default::default()
    };
    let again = world.person_with("anna-again", options).await;
    assert_eq!(again.key(), anna.key());
    again.sync().await;
    assert_eq!(again.texts(ben.key()), ["from the first home", "an answer"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_idempotency_key_sends_once() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let (anna, ben) = world.friends(&[&relay], &[]).await;
    let request = || {
        let mut request = SendRequest::text("ben", "once");
        request.idempotency_key = Some("job-17".into());
        request
    };
    let first = anna.send(request()).await;
    let second = anna.send(request()).await;
    assert_eq!(first.id, second.id);
    ben.sync().await;
    assert_eq!(ben.texts("anna"), ["once"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_contact_is_neither_heard_nor_written_to() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let (anna, ben) = world.friends(&[&relay], &[]).await;
    ben.client().block_contact("anna").unwrap();
    anna.text("ben", "listen to me").await;
    assert_eq!(ben.sync().await, 0);
    assert!(ben.texts("anna").is_empty());
    let error = ben
        .try_send(SendRequest::text("anna", "no"))
        .await
        .unwrap_err();
    assert_eq!((word(&error), error.exit), ("blocked", 10));
}
