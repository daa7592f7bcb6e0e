//! Relays with rules of their own, and what the user is told.

use client_core::client::{Client, SendRequest};
use client_core::clock::Clock;
use e2e::world::{World, word};
use sotto_relay::policy::Writers;
use wire::PublicKey;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_members_relay_takes_wraps_for_its_members_from_anybody() {
    let mut world = World::new();
    let open = world.relay("open").await;
    let anna = world.person("anna", &[&open], &[]).await;
    let ben = world.person("ben", &[&open], &[]).await;
    let member = PublicKey::from_hex(ben.key()).unwrap();
    let members = world
        .relay_with("members", move |config| {
            config.rules.writers = Writers::Members([member].into());
        })
        .await;
    let mut client = ben.client();
    assert!(
        client
            .add_relay(members.url())
            .await
            .unwrap()
            .error
            .is_none()
    );
    assert!(
        client
            .remove_relay(&open.url())
            .await
            .unwrap()
            .error
            .is_none()
    );
    client.close().await;
    anna.knows(&ben, "ben");
    ben.knows(&anna, "anna");
    anna.text("ben", "to the house with the doorman").await;
    for seen in members.tap.seen() {
        let is_publishing = !seen.published(1059).is_empty();
        assert!(
            !is_publishing || seen.of("AUTH").is_empty(),
            "nobody asked who sends"
        );
    }
    ben.sync().await;
    assert_eq!(ben.texts("anna"), ["to the house with the doorman"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_refuses_for_good_ends_the_send_with_its_reason() {
    let mut world = World::new();
    let open = world.relay("open").await;
    let anna = world.person("anna", &[&open], &[]).await;
    let sender = PublicKey::from_hex(anna.key()).unwrap();
    let closed = world
        .relay_with("closed", move |config| {
            config.rules.writers = Writers::Members([sender].into());
        })
        .await;
    // Ben's list, at the open relay, names a relay that takes nothing for him from strangers.
    let ben = e2e::raw::account();
    let list = ben.sign(
        wire::EventDraft {
            pubkey: ben.public_key(),
            created_at: world.clock.now(),
            kind: wire::kinds::INBOX_RELAYS,
            tags: wire::Tags::from_iter([wire::Tag::new(["relay", closed.url().as_str()])]),
            content: String::new(),
        },
        &mut e2e::raw::rng(),
    );
    let published = e2e::raw::RawClient::connect(&open.url())
        .await
        .publish(&list)
        .await;
    assert!(published.0, "{}", published.1);
    // Only what a user's own configuration names may lead to this machine.
    let mut client = anna.client();
    assert!(
        client
            .add_relay(closed.url())
            .await
            .unwrap()
            .error
            .is_none()
    );
    client.close().await;
    let mut link = wire::Link::new(ben.public_key());
    link.relays = vec![open.url()];
    anna.client()
        .add_contact(&link.to_string(), Some("ben"))
        .unwrap();
    let refused = anna.try_send(SendRequest::text("ben", "let me in")).await;
    let (error, sent) = match refused {
        Ok(outcome) => (outcome.error.unwrap(), Some(outcome.value)),
        Err(error) => (error, None),
    };
    assert_eq!(
        (word(&error), error.exit),
        ("refused", 10),
        "{error:?} {sent:?}"
    );
    let hint = error.hint.unwrap_or_default();
    assert!(hint.contains("--as-myself"), "{hint}");
    assert!(
        anna.client().outbox().unwrap().is_empty(),
        "refused for good is not kept"
    );

    // As herself she is a member there.
    let mut request = SendRequest::text("ben", "it is me");
    request.as_myself = true;
    let sent = anna.send(request).await;
    assert_eq!(sent.status, "stored");
}

/// How a sync fails.
async fn failed_sync(mut client: Client) -> (&'static str, u8) {
    let failed = match client.sync().await {
        Ok(outcome) => outcome.error.unwrap(),
        Err(error) => error,
    };
    client.close().await;
    (word(&failed), failed.exit)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_own_relay_that_refuses_auth_is_told_apart_from_one_that_is_down() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let anna = world.person("anna", &[&relay], &[]).await;
    // It goes by another name than the one in the list: no AUTH event for this one is right.
    let strange = world
        .relay_with("strange", |config| {
            config.urls = vec![wire::RelayUrl::parse("wss://elsewhere.example").unwrap()];
        })
        .await;
    let mut client = anna.client();
    let _ = client.add_relay(strange.url()).await;
    assert!(client.remove_relay(&relay.url()).await.is_ok());
    assert_eq!(failed_sync(client).await, ("auth_refused", 4));
    strange.tap.set_down(true);
    assert_eq!(failed_sync(anna.client()).await, ("unreachable", 3));
}
