//! Messages that vanish: at the exact second at both ends, then on the servers.

use client_core::client::SendRequest;
use e2e::world::{World, file_request, is_in_any_file, word};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vanishing_message_is_gone_at_the_second_at_both_ends_and_on_the_servers() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let files = world.files("a").await;
    let (anna, ben) = world.friends(&[&relay], &[&files]).await;
    let path = world.folder().join("note.txt");
    std::fs::write(&path, "short-lived".repeat(50)).unwrap();
    let mut request = file_request("ben", &path);
    request.text = Some("this will not stay".into());
    request.expire_s = Some(600);
    let sent = anna.send(request).await;
    let expires_at = sent.expires_at.unwrap();
    let wraps: Vec<serde_json::Value> = relay
        .tap
        .seen()
        .iter()
        .flat_map(|seen| seen.published(1059))
        .collect();
    assert_eq!(
        wraps.len(),
        4,
        "two messages, each for Ben and for Anna herself"
    );
    ben.sync().await;
    assert_eq!(ben.messages("anna").len(), 2);
    assert_eq!(ben.messages("anna")[0].expires_at, Some(expires_at));
    for wrap in &wraps {
        let tag = |name: &str| {
            let tags = wrap["tags"].as_array().unwrap().clone();
            tags.into_iter()
                .find(|tag| tag[0] == name)
                .map(|tag| tag[1].as_str().unwrap().to_owned())
        };
        let outer: u64 = tag("expiration").expect("a coarse expiry").parse().unwrap();
        assert!(outer >= expires_at, "never earlier than inside");
    }

    world.clock.pass(600);
    assert!(anna.messages("ben").is_empty());
    assert!(ben.messages("anna").is_empty());
    assert!(ben.client().message(&sent.id).is_err());
    // The next command that touches the network erases what the servers have.
    relay.tap.forget();
    anna.sync().await;
    let deletions: Vec<_> = relay
        .tap
        .seen()
        .iter()
        .flat_map(|seen| seen.published(5))
        .collect();
    assert!(
        !deletions.is_empty(),
        "the sender's client deletes by one-time keys"
    );
    assert!(deletions.iter().all(|event| event["pubkey"] != anna.key()));
    let sigs = wraps
        .iter()
        .map(|wrap| wrap["sig"].as_str().unwrap().to_owned());
    let sigs: Vec<String> = sigs.collect();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(70);
    while sigs
        .iter()
        .any(|sig| is_in_any_file(&relay.data, sig.as_bytes()))
    {
        assert!(
            std::time::Instant::now() < deadline,
            "still in the relay's files"
        );
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let error = ben.fetch(&sent.ids[1], world.folder()).await.unwrap_err();
    assert!(
        ["not_found", "expired"].contains(&word(&error)),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_who_comes_too_late_never_sees_it() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let (anna, ben) = world.friends(&[&relay], &[]).await;
    let mut request = SendRequest::text("ben", "for the next minute");
    request.expire_s = Some(60);
    anna.send(request).await;
    // The wrap's own expiry is coarser: it is still there, the message inside is over.
    world.clock.pass(61);
    assert_eq!(ben.sync().await, 0);
    assert!(ben.messages("anna").is_empty());
}
