//! Blobs that end by themselves.

use wire::Sha256;
use wire::blob::Verb;

use crate::support::{World, key, sample, until};

fn date(seconds: u64) -> String {
    httpdate::fmt_http_date(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
}

#[tokio::test]
async fn f_ttl_1_a_blob_is_gone_at_its_second_and_erased_soon_after() {
    let world = World::start().await;
    let blob = sample(1, 200_000);
    let hash = Sha256::of(&blob);
    let end = world.clock.now() + 3_600;
    let stored = world.put_until(&key(1), &blob, end).await;
    assert_eq!(stored.status, 201);
    assert_eq!(
        stored.header("sunset"),
        date(end),
        "the server says what it grants"
    );
    assert_eq!(world.head(&hash).await.header("sunset"), date(end));
    assert_eq!(world.get(&hash).await.header("sunset"), date(end));

    world.clock.advance(3_599);
    assert_eq!(world.get(&hash).await.body, blob);
    world.clock.advance(1);
    assert_eq!(world.get(&hash).await.status, 404);
    assert_eq!(world.head(&hash).await.status, 404);
    until("the bytes are in no file", async || {
        world.files_with(&blob[100_000..100_048]).is_empty()
    })
    .await;
}

#[tokio::test]
async fn f_ttl_1_what_ended_while_the_server_was_down_is_never_served() {
    let world = World::start().await;
    let blob = sample(1, 20_000);
    let hash = Sha256::of(&blob);
    let end = world.clock.now() + 100;
    world.put_until(&key(1), &blob, end).await;
    world.clock.advance(100);
    let world = world.restart().await;
    assert_eq!(world.get(&hash).await.status, 404);
    until("the bytes are in no file", async || {
        world.files_with(&blob[..48]).is_empty()
    })
    .await;
}

#[tokio::test]
async fn f_ttl_2_of_several_claims_the_one_that_ends_last_counts() {
    let world = World::start().await;
    let blob = sample(1, 2_000);
    let hash = Sha256::of(&blob);
    let start = world.clock.now();
    world.put_until(&key(1), &blob, start + 100).await;
    let second = world.put_until(&key(2), &blob, start + 200).await;
    assert_eq!(second.header("sunset"), date(start + 200));
    world.clock.advance(100);
    assert_eq!(world.get(&hash).await.body, blob);
    assert_eq!(
        world.delete(&key(1), &hash).await.status,
        403,
        "its claim has ended"
    );
    world.clock.advance(100);
    assert_eq!(world.get(&hash).await.status, 404);
}

#[tokio::test]
async fn f_ttl_2_a_claim_without_end_keeps_the_blob() {
    let world = World::start().await;
    let blob = sample(1, 2_000);
    let hash = Sha256::of(&blob);
    world
        .put_until(&key(1), &blob, world.clock.now() + 100)
        .await;
    let second = world.put(&key(2), &blob).await;
    assert_eq!(second.header("sunset"), "");
    world.clock.advance(1_000_000);
    assert_eq!(world.get(&hash).await.body, blob);
    assert_eq!(world.head(&hash).await.header("sunset"), "");
}

#[tokio::test]
async fn f_ttl_3_the_operator_limits_how_long() {
    let world = World::with(|config| config.limits.max_age_seconds = Some(60)).await;
    for (n, asked, granted) in [(1, Some(30), 30), (2, Some(90), 60), (3, None, 60)] {
        let start = world.clock.now();
        let blob = sample(n, 100);
        let stored = match asked {
            Some(asked) => world.put_until(&key(1), &blob, start + asked).await,
            None => world.put(&key(1), &blob).await,
        };
        assert_eq!(stored.header("sunset"), date(start + granted));
        world.clock.advance(granted - 1);
        assert_eq!(world.get(&Sha256::of(&blob)).await.body, blob);
        world.clock.advance(1);
        assert_eq!(world.get(&Sha256::of(&blob)).await.status, 404);
    }
}

#[tokio::test]
async fn f_ttl_4_a_sunset_in_the_past_or_in_no_date_is_refused() {
    let world = World::start().await;
    let blob = sample(1, 100);
    let token = world.token(&key(1), Verb::Upload, &Sha256::of(&blob));
    let past = date(world.clock.now());
    for value in [
        past.as_str(),
        "tomorrow",
        "1700000000",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "",
    ] {
        let refused = world.put_with(&token, &blob, &[("Sunset", value)]).await;
        assert_eq!(refused.status, 400, "{value}");
        assert!(refused.reason().contains("Sunset"), "{}", refused.reason());
    }
    let far = "Fri, 31 Dec 9999 23:59:59 GMT";
    let stored = world.put_with(&token, &blob, &[("Sunset", far)]).await;
    assert_eq!(
        (stored.status.as_u16(), stored.header("sunset")),
        (201, far)
    );
}
