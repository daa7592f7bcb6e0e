//! Circles do not mix, and restore from the words.

use client_core::client::{InitOptions, NewCircle, SendRequest};
use e2e::world::{World, word};

fn work(relay: &e2e::world::RelayPlace) -> NewCircle {
    NewCircle {
        name: "work".into(),
        relays: vec![relay.url()],
        invites: Vec::new(),
        file_servers: Vec::new(),
        expire_s: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_circle_has_its_own_key_and_conversations() {
    let mut world = World::new();
    let home_relay = world.relay("home").await;
    let work_relay = world.relay("work").await;
    let anna = world.person("anna", &[&home_relay], &[]).await;
    let ben = world.person("ben", &[&home_relay], &[]).await;
    let made = anna
        .client()
        .create_circle(work(&work_relay))
        .await
        .unwrap();
    assert!(made.error.is_none(), "{:?}", made.error);
    assert_eq!(made.value.index, 1);
    assert_ne!(made.value.pubkey, anna.key());

    let invite = anna.circle("work").invite().unwrap().to_string();
    ben.client()
        .add_contact(&invite, Some("anna at work"))
        .unwrap();
    ben.knows(&anna, "anna");
    anna.knows(&ben, "ben");
    anna.circle("work")
        .add_contact(&ben.invite(), Some("ben"))
        .unwrap();
    ben.text("anna at work", "about the report").await;
    ben.text("anna", "about dinner").await;
    anna.sync().await;
    let mut client = anna.circle("work");
    assert!(client.sync().await.unwrap().error.is_none());
    let texts: Vec<_> = client
        .messages("ben", 10, None)
        .unwrap()
        .into_iter()
        .map(|m| m.text)
        .collect();
    assert_eq!(texts, ["about the report"]);
    client.close().await;
    assert_eq!(anna.texts("ben"), ["about dinner"]);
    // Contacts of one circle are unknown in the other.
    anna.circle("work").remove_contact("ben").unwrap();
    let error = anna.circle("work").contact("ben").unwrap_err();
    assert_eq!(word(&error), "not_found");
    assert!(anna.client().contact("ben").is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_and_one_relay_bring_the_circles_back() {
    let mut world = World::new();
    let home_relay = world.relay("home").await;
    let work_relay = world.relay("work").await;
    let anna = world.person("anna", &[&home_relay], &[]).await;
    let ben = world.person("ben", &[&home_relay], &[]).await;
    anna.knows(&ben, "ben");
    let made = anna
        .client()
        .create_circle(work(&work_relay))
        .await
        .unwrap();
    // Circle definitions go out with the next traffic of circle 0.
    anna.text("ben", "hello").await;
    let options = InitOptions {
        relays: vec![home_relay.url()],
        restore: Some(client_core::SecretText::new(
            anna.account().words.clone().unwrap(),
        )),
        ..InitOptions::default()
    };
    let again = world.person_with("anna-again", options).await;
    assert_eq!(again.key(), anna.key());
    let circles = again.client().circles().unwrap();
    assert_eq!(circles.len(), 2);
    assert_eq!(circles[1].name, "work");
    assert_eq!(circles[1].pubkey, made.value.pubkey);
    assert_eq!(circles[1].relays, [work_relay.url().as_str()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_does_not_keep_the_circles_is_warned_about_where_another_does() {
    let mut world = World::new();
    let keeps = world.relay("keeps").await;
    let refuses = world
        .relay_with("refuses", |config| {
            let kinds = wire::kinds::SOTTO.into_iter();
            let kinds = kinds.filter(|kind| *kind != wire::kinds::APP_DATA);
            config.rules.kinds = Some(kinds.collect());
        })
        .await;
    let work_relay = world.relay("work").await;
    let anna = world.person("anna", &[&keeps, &refuses], &[]).await;
    let made = anna.client().create_circle(work(&work_relay)).await;
    assert!(made.unwrap().error.is_none());
    let mut client = anna.client();
    let synced = client.sync().await.unwrap();
    assert!(synced.error.is_none(), "{:?}", synced.error);
    let warnings = client.take_warnings();
    let [warning] = warnings.as_slice() else {
        panic!("{warnings:?}");
    };
    assert!(warning.contains("restore from another"), "{warning}");
    assert!(warning.contains(refuses.url().as_str()), "{warning}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_shared_by_two_circles_is_warned_about() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let anna = world.person("anna", &[&relay], &[]).await;
    let mut client = anna.client();
    let made = client.create_circle(work(&relay)).await.unwrap();
    assert!(made.error.is_none());
    let warnings = client.take_warnings();
    assert!(
        warnings.iter().any(|w| w.contains("personal")),
        "{warnings:?}"
    );
    let error = anna.client().create_circle(work(&relay)).await.unwrap_err();
    assert_eq!((word(&error), error.exit), ("conflict", 9));
    let error = anna
        .try_send(SendRequest::text("nobody-i-know", "x"))
        .await
        .unwrap_err();
    assert_eq!(error.exit, 7, "an alias that is not there: {error:?}");
}
