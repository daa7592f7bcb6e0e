//! Storing and fetching.

use tokio::io::AsyncWriteExt as _;
use wire::Sha256;
use wire::blob::Verb;

use crate::support::{TokenDraft, World, begin_upload, key, read_all, sample, until};

#[tokio::test]
async fn f_up_1_an_upload_comes_back_byte_for_byte() {
    let world = World::start().await;
    for size in [0, 1, 4_095, 128 * 1024, 3_000_001] {
        let blob = sample(size as u64, size);
        let hash = Sha256::of(&blob);
        let stored = world.put(&key(1), &blob).await;
        assert_eq!(stored.status, 201, "{}", stored.reason());
        let descriptor = stored.json();
        assert_eq!(descriptor["sha256"], hash.to_hex());
        assert_eq!(descriptor["size"], size);
        assert_eq!(descriptor["type"], "application/octet-stream");
        assert_eq!(descriptor["uploaded"], world.clock.now());
        let url = format!("http://{}/{hash}.bin", world.host());
        assert_eq!(descriptor["url"], url);

        for path in [
            format!("/{hash}"),
            format!("/{hash}.bin"),
            format!("/{hash}.html"),
        ] {
            let fetched = world.ask("GET", &path, &[], b"").await;
            assert_eq!(fetched.status, 200);
            assert_eq!(fetched.body, blob);
            let head = world.ask("HEAD", &path, &[], b"").await;
            assert_eq!(head.status, 200);
            assert_eq!(head.header("content-length"), size.to_string());
            assert_eq!(head.header("accept-ranges"), "bytes");
        }
    }
}

#[tokio::test]
async fn f_up_2_a_known_blob_is_200_and_gets_a_second_claim() {
    let world = World::start().await;
    let blob = sample(1, 10_000);
    assert_eq!(world.put(&key(1), &blob).await.status, 201);
    assert_eq!(world.put(&key(2), &blob).await.status, 200);
    assert_eq!(world.put(&key(1), &blob).await.status, 200);
    assert_eq!(world.files_with(&blob[..64]).len(), 1, "stored once");
}

#[tokio::test]
async fn f_up_3_bytes_that_do_not_have_the_tokens_hash_are_refused() {
    let world = World::start().await;
    let promised = Sha256::of(b"promised");
    let token = world.token(&key(1), Verb::Upload, &promised);
    let blob = sample(1, 300_000);
    let refused = world.put_with(&token, &blob, &[]).await;
    assert_eq!(refused.status, 409);
    assert!(refused.reason().contains("hash"), "{}", refused.reason());
    for hash in [promised, Sha256::of(&blob)] {
        assert_eq!(world.get(&hash).await.status, 404);
    }
    until("nothing of it stays", async || {
        world.files_with(&blob[..64]).is_empty()
    })
    .await;
    // The refused attempt used nothing up.
    assert_eq!(world.put_with(&token, b"promised", &[]).await.status, 201);
}

#[tokio::test]
async fn f_up_3_a_stated_hash_must_be_the_tokens() {
    let world = World::start().await;
    let blob = sample(1, 100);
    let hash = Sha256::of(&blob).to_hex();
    let token = world.token(&key(1), Verb::Upload, &Sha256::of(&blob));
    let other = "0".repeat(64);
    let refused = world
        .put_with(&token, &blob, &[("X-SHA-256", &other)])
        .await;
    assert_eq!(refused.status, 409);
    let stored = world.put_with(&token, &blob, &[("X-SHA-256", &hash)]).await;
    assert_eq!(stored.status, 201);
}

#[tokio::test]
async fn f_up_4_length_must_be_announced_and_within_the_limit() {
    let world = World::with(|config| config.limits.blob_bytes = 1_000).await;
    let blob = sample(1, 1_001);
    let refused = world.put(&key(1), &blob).await;
    assert_eq!(refused.status, 413);
    assert!(refused.reason().contains("larger"), "{}", refused.reason());
    assert_eq!(world.put(&key(1), &blob[..1_000]).await.status, 201);

    let token = world.token(&key(1), Verb::Upload, &Sha256::of(b"abc"));
    let chunked = format!(
        "PUT /upload HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: {token}\r\n\
         Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    );
    let answer = crate::support::raw(world.server.address(), chunked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 411"), "{answer}");
}

#[tokio::test]
async fn f_up_4_a_refusal_reaches_a_client_that_is_busy_sending() {
    let world = World::with(|config| config.limits.blob_bytes = 1_000).await;
    let blob = sample(1, 3_000_000);
    let token = world.token(&key(1), Verb::Upload, &Sha256::of(&blob));
    let address = world.server.address();
    let mut stream = begin_upload(address, &token, blob.len(), &blob[..10]).await;
    // The refusal is there, and the client, not looking yet, sends on: a server that had closed
    // would answer with a reset, which fails the write after it.
    stream.readable().await.unwrap();
    for piece in blob[10..].chunks(100_000) {
        stream.write_all(piece).await.unwrap();
    }
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn f_up_5_an_upload_that_breaks_off_leaves_nothing() {
    let world = World::start().await;
    let blob = sample(1, 1_000_000);
    let hash = Sha256::of(&blob);
    let token = world.token(&key(1), Verb::Upload, &hash);
    let address = world.server.address();
    let stream = begin_upload(address, &token, blob.len(), &blob[..600_000]).await;
    until("some of it is on disk", async || {
        !world.files_with(&blob[..64]).is_empty()
    })
    .await;
    assert_eq!(world.get(&hash).await.status, 404);
    drop(stream);
    until("nothing of it is left", async || {
        world.files_with(&blob[..64]).is_empty()
    })
    .await;
    assert_eq!(world.get(&hash).await.status, 404);
    // Nor was the token used up.
    assert_eq!(world.put_with(&token, &blob, &[]).await.status, 201);
    assert_eq!(world.get(&hash).await.body, blob);
}

#[tokio::test]
async fn f_dl_2_ranges_are_served_and_described() {
    let world = World::start().await;
    let blob = sample(1, 500_000);
    let hash = Sha256::of(&blob);
    world.put(&key(1), &blob).await;
    let table = [
        ("bytes=0-0", 0..1),
        ("bytes=100-199999", 100..200_000),
        ("bytes=499999-", 499_999..500_000),
        ("bytes=-7", 499_993..500_000),
        ("bytes=250000-9999999", 250_000..500_000),
    ];
    for (range, expected) in table {
        let part = world.range(&hash, range).await;
        assert_eq!(part.status, 206, "{range}");
        let described = format!("bytes {}-{}/500000", expected.start, expected.end - 1);
        assert_eq!(part.header("content-range"), described);
        assert_eq!(part.header("content-length"), expected.len().to_string());
        assert_eq!(part.body, &blob[expected]);
    }
}

#[tokio::test]
async fn f_dl_3_a_range_outside_the_blob_or_several_are_416() {
    let world = World::start().await;
    let blob = sample(1, 1_000);
    let hash = Sha256::of(&blob);
    world.put(&key(1), &blob).await;
    let many = format!("bytes={}", "0-,".repeat(500));
    for range in [
        "bytes=1000-",
        "bytes=5-4",
        "bytes=-0",
        "bytes=0-1,5-6",
        "bytes=18446744073709551615-18446744073709551616",
        "bytes=nonsense",
        &many,
    ] {
        let refused = world.range(&hash, range).await;
        assert_eq!(refused.status, 416, "{range}");
        assert_eq!(refused.header("content-range"), "bytes */1000");
        assert!(!refused.reason().is_empty());
    }
    let path = format!("/{hash}");
    let twice = [("Range", "bytes=0-1"), ("Range", "bytes=2-3")];
    assert_eq!(world.ask("GET", &path, &twice, b"").await.status, 416);
}

#[tokio::test]
async fn f_dl_4_if_range_with_another_validator_means_the_whole() {
    let world = World::start().await;
    let blob = sample(1, 1_000);
    let hash = Sha256::of(&blob);
    world.put(&key(1), &blob).await;
    let path = format!("/{hash}");
    let etag = world.head(&hash).await.header("etag").to_owned();
    for (validator, status) in [(etag.as_str(), 206), ("\"other\"", 200)] {
        let headers = [("Range", "bytes=0-9"), ("If-Range", validator)];
        assert_eq!(world.ask("GET", &path, &headers, b"").await.status, status);
    }
}

#[tokio::test]
async fn f_st_1_blobs_and_claims_outlive_a_restart() {
    let world = World::start().await;
    let blob = sample(1, 200_000);
    let hash = Sha256::of(&blob);
    world.put(&key(1), &blob).await;
    world.put(&key(2), &blob).await;
    let world = world.restart().await;
    assert_eq!(world.get(&hash).await.body, blob);
    assert_eq!(world.delete(&key(3), &hash).await.status, 403);
    assert_eq!(world.delete(&key(1), &hash).await.status, 204);
    let world = world.restart().await;
    assert_eq!(world.delete(&key(1), &hash).await.status, 403);
    assert_eq!(world.get(&hash).await.body, blob);
    assert_eq!(world.delete(&key(2), &hash).await.status, 204);
    let world = world.restart().await;
    assert_eq!(world.get(&hash).await.status, 404);
}

#[tokio::test]
async fn f_up_6_a_full_server_refuses_and_keeps_what_it_has() {
    let world = World::with(|config| config.limits.total_bytes = 10_000).await;
    let first = sample(1, 9_000);
    assert_eq!(world.put(&key(1), &first).await.status, 201);
    let second = sample(2, 1_001);
    let refused = world.put(&key(1), &second).await;
    assert_eq!(refused.status, 507);
    assert!(refused.reason().contains("space"), "{}", refused.reason());
    assert_eq!(world.get(&Sha256::of(&second)).await.status, 404);
    assert_eq!(world.get(&Sha256::of(&first)).await.body, first);
    world.delete(&key(1), &Sha256::of(&first)).await;
    assert_eq!(world.put(&key(1), &second).await.status, 201);
}

#[tokio::test]
async fn f_up_6_a_disk_that_is_nearly_full_refuses() {
    let world = World::with(|config| config.limits.keep_free_bytes = u64::MAX / 2).await;
    let refused = world.put(&key(1), b"blob").await;
    assert_eq!(refused.status, 507);
    assert!(refused.reason().contains("disk"), "{}", refused.reason());
}

#[tokio::test]
async fn f_up_7_one_key_has_at_most_four_uploads_at_once() {
    let world = World::start().await;
    let address = world.server.address();
    let mut open = Vec::new();
    for n in 0..4 {
        let blob = sample(n, 200_000);
        let token = world.token(&key(1), Verb::Upload, &Sha256::of(&blob));
        open.push(begin_upload(address, &token, blob.len(), &blob[..150_000]).await);
        until("the upload is under way", async || {
            !world.files_with(&blob[..64]).is_empty()
        })
        .await;
    }
    let refused = world.put(&key(1), b"fifth").await;
    assert_eq!(refused.status, 429);
    assert!(refused.reason().contains("key"), "{}", refused.reason());
    assert_eq!(world.put(&key(2), b"another key").await.status, 201);
    drop(open);
    until("places come back", async || {
        world.put(&key(1), b"fifth").await.status.is_success()
    })
    .await;
}

#[tokio::test]
async fn f_up_8_the_public_url_begins_the_blobs_url_and_names_the_server() {
    let world = World::with(|config| {
        config.public_url = Some(wire::relay_url::Origin::parse("https://files.example").unwrap());
    })
    .await;
    let blob = sample(1, 10);
    let hash = Sha256::of(&blob);
    let draft = TokenDraft::new(Verb::Upload, &hash, world.clock.now());
    let token = draft.instead("server", "files.example").sign(&key(1));
    let stored = world.put_with(&token, &blob, &[]).await;
    assert_eq!(stored.status, 201);
    let url = format!("https://files.example/{hash}.bin");
    assert_eq!(stored.json()["url"], url);
}
