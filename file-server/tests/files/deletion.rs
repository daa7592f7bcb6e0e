//! Taking back, and what is left of it.

use wire::Sha256;
use wire::blob::Verb;

use crate::support::{World, all_files, key, pubkey, sample, until};

#[tokio::test]
async fn f_del_1_a_deleted_blob_is_404_and_its_bytes_are_in_no_file() {
    let world = World::start().await;
    let blob = sample(1, 700_000);
    let hash = Sha256::of(&blob);
    world.put(&key(1), &blob).await;
    // Windows from the beginning, the middle and the end are there before, and nowhere after.
    let windows = [&blob[..48], &blob[333_333..333_381], &blob[699_950..]];
    for window in windows {
        assert_eq!(world.files_with(window).len(), 1);
    }
    let owner = pubkey(&key(1)).to_hex();
    assert_eq!(world.files_with(owner.as_bytes()).len(), 1);

    assert_eq!(world.delete(&key(1), &hash).await.status, 204);
    assert_eq!(world.head(&hash).await.status, 404);
    assert_eq!(world.get(&hash).await.status, 404);
    for window in windows {
        assert_eq!(world.files_with(window), Vec::<String>::new());
    }
    assert_eq!(world.files_with(owner.as_bytes()), Vec::<String>::new());
}

#[tokio::test]
async fn f_del_2_only_a_key_that_claims_the_blob_takes_its_claim_back() {
    let world = World::start().await;
    let blob = sample(1, 5_000);
    let hash = Sha256::of(&blob);
    world.put(&key(1), &blob).await;
    let refused = world.delete(&key(2), &hash).await;
    assert_eq!(refused.status, 403);
    assert!(refused.reason().contains("claim"), "{}", refused.reason());
    assert_eq!(world.get(&hash).await.body, blob);
    assert_eq!(
        world.delete(&key(1), &Sha256::of(b"other")).await.status,
        404
    );
}

#[tokio::test]
async fn f_del_3_with_two_owners_the_blob_goes_with_the_second() {
    let world = World::start().await;
    let blob = sample(1, 5_000);
    let hash = Sha256::of(&blob);
    world.put(&key(1), &blob).await;
    world.put(&key(2), &blob).await;
    assert_eq!(world.delete(&key(1), &hash).await.status, 204);
    assert_eq!(world.get(&hash).await.body, blob);
    assert_eq!(world.delete(&key(1), &hash).await.status, 403);
    assert_eq!(world.delete(&key(2), &hash).await.status, 204);
    assert_eq!(world.get(&hash).await.status, 404);
}

#[tokio::test]
async fn f_del_4_a_deleted_blob_leaves_no_record_once_its_tokens_have_expired() {
    let world = World::start().await;
    let blob = sample(1, 5_000);
    let hash = Sha256::of(&blob);
    world.put(&key(1), &blob).await;
    world.delete(&key(1), &hash).await;
    world.clock.advance(660);
    let name = hash.to_hex();
    until("no file is called by the hash", async || {
        let files = all_files(world.data());
        !files
            .iter()
            .any(|path| path.to_str().unwrap().contains(&name))
    })
    .await;
}

#[tokio::test]
async fn f_del_5_a_reader_of_a_blob_that_is_deleted_gets_no_zeros() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let world = World::start().await;
    // More than the buffers between us hold, so that the server is still reading.
    let blob = sample(1, 40_000_000);
    let hash = Sha256::of(&blob);
    world.put(&key(1), &blob).await;
    let mut stream = tokio::net::TcpStream::connect(world.server.address())
        .await
        .unwrap();
    let head = format!("GET /{hash} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut got = vec![0; 100_000];
    stream.read_exact(&mut got).await.unwrap();
    assert_eq!(world.delete(&key(1), &hash).await.status, 204);
    let _ = stream.read_to_end(&mut got).await;
    let start = got.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let body = &got[start..];
    assert!(body.len() < blob.len(), "the answer breaks off");
    assert!(body == &blob[..body.len()], "what was sent is the blob");
}

#[tokio::test]
async fn f_del_6_a_blob_that_was_deleted_can_be_stored_again() {
    let world = World::start().await;
    let blob = sample(1, 5_000);
    let hash = Sha256::of(&blob);
    for round in 1..4 {
        assert_eq!(world.put(&key(round), &blob).await.status, 201);
        assert_eq!(world.get(&hash).await.body, blob);
        assert_eq!(world.delete(&key(round), &hash).await.status, 204);
        assert_eq!(world.get(&hash).await.status, 404);
    }
}

#[tokio::test]
async fn f_tk_1_a_token_works_once_also_after_a_restart() {
    let world = World::start().await;
    let blob = sample(1, 5_000);
    let hash = Sha256::of(&blob);
    let upload = world.token(&key(1), Verb::Upload, &hash);
    let delete = world.token(&key(1), Verb::Delete, &hash);
    assert_eq!(world.put_with(&upload, &blob, &[]).await.status, 201);
    assert_eq!(world.put_with(&upload, &blob, &[]).await.status, 401);
    assert_eq!(world.delete_with(&delete, &hash).await.status, 204);
    let replayed = world.put_with(&upload, &blob, &[]).await;
    assert_eq!(
        replayed.status, 401,
        "a replay does not bring the blob back"
    );
    assert!(replayed.reason().contains("used"), "{}", replayed.reason());

    let world = world.restart().await;
    assert_eq!(world.put_with(&upload, &blob, &[]).await.status, 401);
    assert_eq!(world.put(&key(1), &blob).await.status, 201);
    assert_eq!(world.delete_with(&delete, &hash).await.status, 401);
    let world = world.restart().await;
    assert_eq!(world.delete_with(&delete, &hash).await.status, 401);
    assert_eq!(world.get(&hash).await.body, blob);
}

#[tokio::test]
async fn f_tk_2_one_token_sent_twice_at_once_works_once() {
    let world = World::start().await;
    let blob = sample(1, 400_000);
    let token = world.token(&key(1), Verb::Upload, &Sha256::of(&blob));
    let send = || world.put_with(&token, &blob, &[]);
    let (a, b, c) = tokio::join!(send(), send(), send());
    let mut statuses = [a.status.as_u16(), b.status.as_u16(), c.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 401, 401]);
}

#[tokio::test]
async fn f_tk_3_only_a_completed_request_uses_a_token_up() {
    let world = World::start().await;
    let blob = sample(1, 5_000);
    let hash = Sha256::of(&blob);
    let delete = world.token(&key(1), Verb::Delete, &hash);
    assert_eq!(world.delete_with(&delete, &hash).await.status, 404);
    world.put(&key(2), &blob).await;
    assert_eq!(world.delete_with(&delete, &hash).await.status, 403);
    world.put(&key(1), &blob).await;
    assert_eq!(world.delete_with(&delete, &hash).await.status, 204);
    assert_eq!(world.delete_with(&delete, &hash).await.status, 401);
}
