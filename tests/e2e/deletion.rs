//! Delete for both: at both ends, on the relays, on the file servers, with a report.

use client_core::client::SendRequest;
use client_core::view::StatusView;
use e2e::world::{World, file_request, is_in_any_file};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_and_its_file_are_deleted_everywhere() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let files = world.files("a").await;
    let (anna, ben) = world.friends(&[&relay], &[&files]).await;
    let path = world.folder().join("secret.txt");
    std::fs::write(&path, "nobody should read this".repeat(100)).unwrap();
    let mut request = file_request("ben", &path);
    request.text = Some("look at this".into());
    let sent = anna.send(request).await;
    assert_eq!(sent.ids.len(), 2);
    let wraps: Vec<String> = relay
        .tap
        .seen()
        .iter()
        .flat_map(|seen| seen.published(1059))
        .map(|wrap| wrap["sig"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        wraps.len(),
        4,
        "two messages, each for Ben and for Anna herself"
    );
    let stored = |sig: &String| is_in_any_file(&relay.data, sig.as_bytes());
    assert!(
        wraps.iter().all(stored),
        "before, the relay's files have them"
    );
    let uploads: Vec<_> = files
        .tap
        .seen()
        .into_iter()
        .filter(|t| t.head.starts_with("PUT"))
        .collect();
    assert_eq!(uploads.len(), 1);
    let blobs = || files_below(&files.data.join("blobs"));
    assert_eq!(blobs(), 1);
    ben.sync().await;
    assert_eq!(ben.messages("anna").len(), 2);

    let mut client = anna.client();
    for id in &sent.ids {
        let deleted = client.delete(id, true).await.unwrap();
        assert!(deleted.error.is_none(), "{:?}", deleted.error);
        assert!(!deleted.value.relays.is_empty());
        assert!(
            deleted.value.relays.iter().all(|relay| relay.erased),
            "{:?}",
            deleted.value
        );
        assert!(
            deleted
                .value
                .file_servers
                .iter()
                .all(|server| server.erased)
        );
        assert!(
            !deleted.value.peers[0].confirmed,
            "nobody can know that yet"
        );
    }
    assert!(is_deleted(client.status(&sent.ids[1]).await.unwrap()));
    client.close().await;
    assert!(anna.messages("ben").is_empty());

    ben.sync().await;
    assert!(
        ben.messages("anna").is_empty(),
        "the peer's client deleted it too"
    );
    anna.sync().await;
    let mut client = anna.client();
    let StatusView::Deleted(report) = client.status(&sent.ids[0]).await.unwrap() else {
        panic!("a deleted message");
    };
    assert!(report.peers[0].confirmed, "the peer's client said so");
    client.close().await;

    // What the servers had of the two messages is gone from the bytes of their files.
    assert_eq!(blobs(), 0);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while wraps.iter().any(stored) {
        assert!(
            std::time::Instant::now() < deadline,
            "still in the relay's files"
        );
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// How many files lie below a folder.
fn files_below(folder: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .map(|path| if path.is_dir() { files_below(&path) } else { 1 })
        .sum()
}

fn is_deleted(status: StatusView) -> bool {
    matches!(status, StatusView::Deleted(_))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_that_comes_before_the_message_still_counts() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let (anna, ben) = world.friends(&[&relay], &[]).await;
    let sent = anna.text("ben", "a slip").await;
    let mut client = anna.client();
    assert!(client.delete(&sent.id, true).await.unwrap().error.is_none());
    client.close().await;
    assert_eq!(ben.sync().await, 0);
    assert!(ben.messages("anna").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_what_was_never_sent_leaves_nothing_to_publish() {
    let mut world = World::new();
    let mut relay = world.relay("a").await;
    let (anna, ben) = world.friends(&[&relay], &[]).await;
    anna.text("ben", "first").await;
    ben.sync().await;

    relay.tap.set_down(true);
    let outcome = anna
        .try_send(SendRequest::text("ben", "regretted"))
        .await
        .unwrap();
    let error = outcome.error.unwrap();
    assert_eq!(error.exit, 3, "{error:?}");
    let mut client = anna.client();
    let _ = client.delete(&outcome.value.id, true).await;
    client.close().await;
    relay.stop().await;
    relay.start().await;
    relay.tap.set_down(false);

    world.clock.pass(3_600);
    let mut client = anna.client();
    let _ = client.flush().await.unwrap();
    client.close().await;
    anna.sync().await;
    let outbox = anna.client().outbox().unwrap();
    assert!(outbox.is_empty(), "{outbox:?}");
    ben.sync().await;
    assert_eq!(ben.texts("anna"), ["first"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_home_deletes_what_the_first_sent() {
    let mut world = World::new();
    let relay = world.relay("a").await;
    let (anna, ben) = world.friends(&[&relay], &[]).await;
    let sent = anna.text("ben", "from the first home").await;
    ben.sync().await;
    let options = client_core::client::InitOptions {
        relays: vec![relay.url()],
        restore: Some(client_core::SecretText::new(
            anna.account().words.clone().unwrap(),
        )),
        ..Default::default()
    };
    let again = world.person_with("anna-again", options).await;
    again.sync().await;
    let mut client = again.client();
    let deleted = client.delete(&sent.id, true).await.unwrap();
    assert!(deleted.error.is_none(), "{:?}", deleted.error);
    assert!(
        deleted.value.relays.iter().all(|relay| relay.erased),
        "{:?}",
        deleted.value
    );
    client.close().await;
    ben.sync().await;
    assert!(ben.messages("anna").is_empty());
    anna.sync().await;
    assert!(anna.messages("ben").is_empty(), "the first home follows");
}
