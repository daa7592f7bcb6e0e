//! What a stranger may try.

use std::time::Duration;

use secp256k1::Keypair;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use wire::Sha256;
use wire::blob::Verb;

use crate::support::{
    PATIENCE, TokenDraft, World, begin_upload, key, pubkey, raw, read_all, sample, until,
};

#[tokio::test]
async fn f_sec_1_no_spelling_of_a_path_leaves_the_store() {
    let world = World::start().await;
    let blob = sample(1, 1_000);
    let hash = Sha256::of(&blob).to_hex();
    world.put(&key(1), &blob).await;
    std::fs::write(world.folder.path().join("secret"), "SECRET").unwrap();
    let up = &hash[..2];
    for path in [
        "/../secret".to_owned(),
        "/../../../../etc/passwd".to_owned(),
        "/..%2fsecret".to_owned(),
        "/%2e%2e/secret".to_owned(),
        "/%2e%2e%2fsecret".to_owned(),
        "/..%252fsecret".to_owned(),
        "/..%c0%afsecret".to_owned(),
        "/..\\secret".to_owned(),
        "/%00".to_owned(),
        "//etc/passwd".to_owned(),
        "/lock".to_owned(),
        "/data/lock".to_owned(),
        format!("/blobs/{up}/{hash}"),
        format!("/claims/{up}/{hash}.json"),
        format!("/{hash}/../../secret"),
        format!("/{hash}/"),
        format!("/{hash}."),
        format!("/{hash}.bin/../../lock"),
        format!("/{hash}.%2e%2e"),
        format!("/{hash}%00"),
        format!("/{}", hash.to_uppercase()),
        format!("/%{:02x}{}", hash.as_bytes()[0], &hash[1..]),
        format!("/{}", &hash[..63]),
        format!("/{hash}0"),
        format!("http://127.0.0.1/{hash}/x"),
        "*".to_owned(),
    ] {
        for method in ["GET", "HEAD", "DELETE"] {
            let request =
                format!("{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
            let answer = raw(world.server.address(), request.as_bytes()).await;
            assert!(
                answer.starts_with("HTTP/1.1 40"),
                "{method} {path}: {answer}"
            );
            assert!(
                !answer.contains("SECRET") && !answer.contains("root:"),
                "{path}"
            );
        }
    }
    assert_eq!(world.get(&Sha256::of(&blob)).await.body, blob);
}

#[tokio::test]
async fn f_sec_2_no_browser_runs_or_guesses_a_blob() {
    let world = World::start().await;
    let page = b"<html><script>alert(1)</script></html>";
    let hash = Sha256::of(page);
    let token = world.token(&key(1), Verb::Upload, &hash);
    let html = [("Content-Type", "text/html")];
    assert_eq!(world.put_with(&token, page, &html).await.status, 201);
    for path in [
        format!("/{hash}.html"),
        format!("/{hash}.svg"),
        format!("/{hash}"),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = world.ask(method, &path, &[], b"").await;
            assert_eq!(answer.header("content-type"), "application/octet-stream");
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            assert_eq!(answer.header("content-disposition"), "attachment");
            let policy = answer.header("content-security-policy");
            assert!(policy.contains("sandbox") && policy.contains("default-src 'none'"));
            assert_eq!(answer.header("cache-control"), "no-store");
        }
    }
}

#[tokio::test]
async fn f_sec_3_any_page_may_talk_to_the_server() {
    let world = World::start().await;
    let hash = Sha256::of(b"none");
    for path in ["/upload".to_owned(), format!("/{hash}")] {
        let answer = world
            .ask("OPTIONS", &path, &[("Origin", "https://page.example")], b"")
            .await;
        assert_eq!(answer.status, 204);
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        assert!(
            answer
                .header("access-control-allow-headers")
                .contains("Authorization")
        );
        for verb in ["GET", "HEAD", "PUT", "DELETE"] {
            assert!(answer.header("access-control-allow-methods").contains(verb));
        }
    }
    // Errors, too: a page must be able to read why.
    let missing = world.get(&hash).await;
    assert_eq!(missing.header("access-control-allow-origin"), "*");
    assert_eq!(missing.reason(), "no such blob");
    assert_eq!(missing.json()["message"], "no such blob");
}

#[tokio::test]
async fn f_sec_4_nobody_learns_who_uploaded_or_what_there_is() {
    let world = World::start().await;
    let blob = sample(1, 1_000);
    let hash = Sha256::of(&blob);
    let uploader = pubkey(&key(1)).to_hex();
    let stored = world.put(&key(1), &blob).await;
    assert!(!String::from_utf8_lossy(&stored.body).contains(&uploader));
    for path in [
        "/".to_owned(),
        "/list".to_owned(),
        format!("/list/{uploader}"),
        format!("/{uploader}"),
    ] {
        let answer = world.ask("GET", &path, &[], b"").await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(!String::from_utf8_lossy(&answer.body).contains(&hash.to_hex()));
    }
    for answer in [world.get(&hash).await, world.head(&hash).await] {
        assert!(!format!("{:?}", answer.headers).contains(&uploader));
    }
}

#[tokio::test]
async fn f_tk_4_a_token_must_fit_verb_blob_server_and_hour() {
    let world = World::start().await;
    let blob = sample(1, 1_000);
    let hash = Sha256::of(&blob);
    let other = Sha256::of(b"other").to_hex();
    let now = world.clock.now();
    let draft = || TokenDraft::new(Verb::Upload, &hash, now);
    let wrong: [(&str, TokenDraft); 13] = [
        ("another verb", TokenDraft::new(Verb::Delete, &hash, now)),
        ("no verb", draft().without("t")),
        ("no blob", draft().without("x")),
        ("two blobs", draft().and("x", &other)),
        ("no server", draft().without("server")),
        ("another server", draft().instead("server", "files.example")),
        (
            "a URL as server",
            draft().instead("server", "http://127.0.0.1"),
        ),
        ("another port", draft().instead("server", "127.0.0.1:1")),
        ("no end", draft().without("expiration")),
        ("ended", draft().instead("expiration", &now.to_string())),
        (
            "too long",
            draft().instead("expiration", &(now + 661).to_string()),
        ),
        (
            "from the future",
            TokenDraft {
                created_at: now + 61,
                ..draft()
            },
        ),
        (
            "another kind",
            TokenDraft {
                kind: 27_235,
                ..draft()
            },
        ),
    ];
    for (what, draft) in wrong {
        let refused = world.put_with(&draft.sign(&key(1)), &blob, &[]).await;
        assert_eq!(refused.status, 401, "{what}: {}", refused.reason());
        assert_eq!(refused.header("www-authenticate"), "Nostr");
        assert!(!refused.reason().is_empty());
    }
    for server in [
        "localhost",
        &world.host(),
        &format!("LOCALHOST:{}", world.server.address().port()),
    ] {
        let blob = server.as_bytes();
        let draft = TokenDraft::new(Verb::Upload, &Sha256::of(blob), now);
        let token = draft.instead("server", server).sign(&key(1));
        assert_eq!(
            world.put_with(&token, blob, &[]).await.status,
            201,
            "{server}"
        );
    }
    assert_eq!(world.get(&hash).await.status, 404);
}

#[tokio::test]
async fn f_tk_5_a_token_for_one_server_is_refused_by_another() {
    let files = |name: &'static str| {
        move |config: &mut sotto_files::Config| {
            let url = format!("https://{name}");
            config.public_url = Some(wire::relay_url::Origin::parse(&url).unwrap());
        }
    };
    let a = World::with(files("a.example")).await;
    let b = World::with(files("b.example")).await;
    let blob = sample(1, 1_000);
    let hash = Sha256::of(&blob);
    for world in [&a, &b] {
        world.put(&key(1), &blob).await;
    }
    let draft = TokenDraft::new(Verb::Delete, &hash, a.clock.now());
    let token = draft.instead("server", "a.example").sign(&key(1));
    assert_eq!(b.delete_with(&token, &hash).await.status, 401);
    assert_eq!(b.get(&hash).await.body, blob);
    assert_eq!(a.delete_with(&token, &hash).await.status, 204);
}

#[tokio::test]
async fn f_tk_6_forged_and_malformed_tokens_are_refused() {
    let world = World::start().await;
    let blob = sample(1, 1_000);
    let hash = Sha256::of(&blob);
    let good = world.token(&key(1), Verb::Upload, &hash);
    let event = TokenDraft::new(Verb::Upload, &hash, world.clock.now()).event(&key(1));
    let text = String::from_utf8(event.json().to_vec()).unwrap();
    let as_header = |text: &str| {
        let event = wire::Event::decode(text.to_owned().into()).unwrap();
        wire::blob::Token::header(&event)
    };
    let another_author = text.replace(&pubkey(&key(1)).to_hex(), &pubkey(&key(2)).to_hex());
    let another_content = text.replace("\"Blob\"", "\"blob\"");
    let forged = [as_header(&another_author), as_header(&another_content)];
    let malformed = [
        String::new(),
        "Nostr".to_owned(),
        "Nostr ".to_owned(),
        "Nostr !!!".to_owned(),
        "Nostr e30".to_owned(),
        good.replace("Nostr", "Bearer"),
        good[..good.len() / 2].to_owned(),
        format!("Nostr {}", "A".repeat(7_000)),
    ];
    for token in forged.iter().chain(&malformed) {
        let refused = world.put_with(token, &blob, &[]).await;
        assert_eq!(refused.status, 401, "{token}");
    }
    let two = [("Authorization", good.as_str())];
    assert_eq!(
        world.put_with(&good, &blob, &two).await.status,
        401,
        "two headers"
    );
    let none = world.ask("PUT", "/upload", &[], &blob).await;
    assert_eq!(none.status, 401);
    assert_eq!(world.put_with(&good, &blob, &[]).await.status, 201);
}

#[tokio::test]
async fn f_sec_5_a_head_larger_than_8_kib_is_refused() {
    let world = World::start().await;
    let hash = Sha256::of(b"x");
    for bomb in [
        format!("Authorization: Nostr {}\r\n", "A".repeat(9_000)),
        "X: y\r\n".repeat(65),
        format!("X: {}\r\n", "y".repeat(200_000)),
    ] {
        let request = format!("PUT /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n{bomb}\r\n");
        let mut stream = TcpStream::connect(world.server.address()).await.unwrap();
        // The server may close before it has read all of it.
        let _ = stream.write_all(request.as_bytes()).await;
        let answer = read_all(&mut stream).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
            "{answer}"
        );
    }
    assert_eq!(world.get(&hash).await.status, 404, "the server is well");
}

#[tokio::test]
async fn f_sec_6_a_head_that_trickles_in_is_cut_off() {
    let world = World::with(|config| {
        config.limits.header_timeout = Duration::from_millis(200);
    })
    .await;
    let mut stream = TcpStream::connect(world.server.address()).await.unwrap();
    stream.write_all(b"GET / HT").await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(!answer.contains("200"), "{answer}");
}

#[tokio::test]
async fn f_sec_7_uploads_that_stand_still_or_trickle_are_cut_off() {
    let world = World::with(|config| {
        config.limits.upload_bytes_per_second = 1_000_000;
        config.limits.upload_grace = Duration::from_millis(300);
    })
    .await;
    let blob = sample(1, 1_000_000);
    let token = world.token(&key(1), Verb::Upload, &Sha256::of(&blob));
    let address = world.server.address();
    let mut still = begin_upload(address, &token, blob.len(), &blob[..10]).await;
    let answer = read_all(&mut still).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(
        answer.contains("x-reason: the upload is too slow"),
        "{answer}"
    );

    // Single bytes keep an idle timer happy, but not the rate.
    let stream = begin_upload(address, &token, blob.len(), &blob[..10]).await;
    let (mut reader, mut writer) = stream.into_split();
    let trickle = tokio::spawn(async move {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, reader.read_to_end(&mut answer))
        .await
        .unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 408"));
    trickle.abort();
    assert_eq!(
        world.put(&key(1), &blob).await.status,
        201,
        "an honest upload passes"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_sec_7_500_slow_uploads_do_not_keep_an_honest_one_out() {
    raise_file_limit();
    let world = World::with(|config| {
        config.limits.upload_grace = Duration::from_secs(3);
        config.limits.upload_bytes_per_second = 1_000_000;
        config.limits.uploads = 600;
    })
    .await;
    let blob = sample(1, 400_000);
    let address = world.server.address();
    let mut slow = Vec::new();
    for n in 0..500_u32 {
        let mut secret = [1; 32];
        secret[..4].copy_from_slice(&n.to_be_bytes());
        let secret = secp256k1::SecretKey::from_slice(&secret).unwrap();
        let key = Keypair::from_secret_key(secp256k1::SECP256K1, &secret);
        let token = world.token(&key, Verb::Upload, &Sha256::of(&n.to_be_bytes()));
        slow.push(begin_upload(address, &token, 1_000_000, b"slow").await);
    }
    assert_eq!(world.put(&key(1), &blob).await.status, 201);
    assert_eq!(world.get(&Sha256::of(&blob)).await.body, blob);
    for mut stream in slow {
        let answer = read_all(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
}

#[tokio::test]
async fn f_sec_8_a_reader_that_never_reads_is_cut_off() {
    let world = World::with(|config| {
        config.limits.idle_timeout = Duration::from_millis(300);
        config.limits.connections = 1;
    })
    .await;
    let blob = sample(1, 20_000_000);
    let hash = Sha256::of(&blob);
    world.put(&key(1), &blob).await;
    let mut lazy = TcpStream::connect(world.server.address()).await.unwrap();
    let request = format!("GET /{hash} HTTP/1.1\r\nHost: h\r\n\r\n");
    lazy.write_all(request.as_bytes()).await.unwrap();
    // Its place is the only one, so another request succeeds only once it is free again.
    until("the place comes back", async || {
        let asked = world.head(&hash);
        let asked = tokio::time::timeout(Duration::from_secs(5), asked).await;
        asked.is_ok_and(|answer| answer.status == 200)
    })
    .await;
}

#[tokio::test]
async fn f_sec_9_methods_and_protocols_that_are_not_served() {
    let world = World::start().await;
    let hash = Sha256::of(b"x");
    for (method, path) in [
        ("POST", format!("/{hash}")),
        ("PATCH", format!("/{hash}")),
        ("PUT", format!("/{hash}")),
        ("POST", "/upload".to_owned()),
        ("GET", "/upload".to_owned()),
    ] {
        let refused = world.ask(method, &path, &[], b"").await;
        assert_eq!(refused.status, 405, "{method} {path}");
        assert!(refused.header("allow").contains("GET"));
    }
    let http2 = raw(world.server.address(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(!http2.contains("200"), "{http2}");
    let two_lengths =
        b"PUT /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab";
    let smuggled = raw(world.server.address(), two_lengths).await;
    assert!(smuggled.starts_with("HTTP/1.1 400"), "{smuggled}");
}

fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(8_192).min(8_192);
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit {
            current: Some(wanted),
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, raised).unwrap();
    }
}
