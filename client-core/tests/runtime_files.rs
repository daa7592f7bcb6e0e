//! Transfers to and from a file server, against servers that behave, lie, stall and break.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking"
)]

use std::io::{Read as _, Seek as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client_core::engine::io::BlobOutcome;
use client_core::runtime::Timeouts;
use client_core::runtime::dialer::Dialer;
use client_core::runtime::file_link::{DownloadError, FileLink, Upload};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use wire::Sha256;
use wire::blob::BlobUrl;
use wire::relay_url::Origin;

const LONG: Duration = Duration::from_secs(20);

/// What a client said, head and body.
#[derive(Debug, Clone, Default)]
struct Said {
    head: String,
    body: Vec<u8>,
}

/// A server that answers each connection with the next of `answers`, after it has read the whole
/// request. It says what it heard.
async fn server(answers: Vec<Vec<u8>>) -> (Origin, Arc<Mutex<Vec<Said>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&heard);
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut said = Said::default();
            let mut bytes = Vec::new();
            loop {
                let mut buffer = [0; 4096];
                let count = stream.read(&mut buffer).await.unwrap();
                bytes.extend_from_slice(&buffer[..count]);
                let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
                    continue;
                };
                said.head = String::from_utf8(bytes[..end].to_vec()).unwrap();
                said.body = bytes[end + 4..].to_vec();
                let length = said
                    .head
                    .lines()
                    .find_map(|line| {
                        line.to_lowercase()
                            .strip_prefix("content-length: ")?
                            .parse()
                            .ok()
                    })
                    .unwrap_or(0);
                if said.body.len() >= length || count == 0 {
                    break;
                }
            }
            log.lock().unwrap().push(said);
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    });
    let origin = Origin::parse(&format!("http://127.0.0.1:{port}")).unwrap();
    (origin, heard)
}

fn link() -> FileLink {
    let timeouts = Timeouts {
        transfer: LONG,
        ..Timeouts::default()
    };
    FileLink::new(Dialer::new(LONG).unwrap(), timeouts)
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn file_of(content: &[u8]) -> std::fs::File {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, content).unwrap();
    file.rewind().unwrap();
    file
}

fn content_of(file: &mut std::fs::File) -> Vec<u8> {
    let mut content = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut content).unwrap();
    content
}

async fn upload(origin: Origin, content: &[u8]) -> BlobOutcome {
    let upload = Upload {
        origin,
        is_own: true,
        blob: Sha256::of(content),
        size: u64::try_from(content.len()).unwrap(),
        authorization: "Nostr abc".to_owned(),
        sunset: Some(784_111_777),
    };
    link().upload(&upload, file_of(content), None).await
}

#[tokio::test]
async fn an_upload_says_what_it_must_and_nothing_else() {
    let content = vec![7; 200_000];
    let descriptor = format!(r#"{{"sha256":"{}","size":1}}"#, Sha256::of(&content));
    let headers = "Sunset: Sun, 06 Nov 1994 09:00:00 GMT\r\n";
    let (origin, heard) = server(vec![answer("201 Created", headers, descriptor.as_bytes())]).await;
    let outcome = upload(origin.clone(), &content).await;
    assert_eq!(
        outcome,
        BlobOutcome::Done {
            sunset: Some(784_112_400)
        }
    );
    let heard = heard.lock().unwrap();
    assert_eq!(heard[0].body, content);
    let mut lines: Vec<_> = heard[0]
        .head
        .to_lowercase()
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    let mut expected = vec![
        "put /upload http/1.1".to_owned(),
        format!("host: {}", origin.as_str().trim_start_matches("http://")),
        "user-agent: sotto".to_owned(),
        "connection: close".to_owned(),
        "content-length: 200000".to_owned(),
        "content-type: application/octet-stream".to_owned(),
        format!("x-sha-256: {}", Sha256::of(&content)),
        "authorization: nostr abc".to_owned(),
        "sunset: sun, 06 nov 1994 08:49:37 gmt".to_owned(),
    ];
    expected.sort();
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn refusals_carry_status_and_reason_and_redirects_are_not_followed() {
    let reason = format!("X-Reason: {}\r\n", "no ".repeat(1_000));
    let (origin, heard) = server(vec![
        answer("413 Payload Too Large", &reason, b""),
        answer("302 Found", "Location: http://127.0.0.1:1/upload\r\n", b""),
        answer("404 Not Found", "", b""),
        answer(
            "200 OK",
            "",
            format!(r#"{{"sha256":"{}"}}"#, Sha256::of(b"other")).as_bytes(),
        ),
        Vec::new(),
    ])
    .await;
    let mut outcomes = Vec::new();
    for _ in 0..5 {
        outcomes.push(upload(origin.clone(), b"content").await);
    }
    let status = |index: usize| match &outcomes[index] {
        BlobOutcome::Refused { status, reason } => (*status, reason.len()),
        other => panic!("{other:?}"),
    };
    assert_eq!(status(0), (413, 512));
    assert_eq!(status(1).0, 302);
    assert_eq!(status(2).0, 404);
    assert_eq!(status(3).0, 200, "it stored something else");
    assert!(matches!(outcomes[4], BlobOutcome::Unreachable(_)));
    assert_eq!(heard.lock().unwrap().len(), 5);
}

#[tokio::test]
async fn deleting_and_probing_tell_gone_from_there() {
    let (origin, heard) = server(vec![
        answer("200 OK", "", b""),
        answer("404 Not Found", "", b""),
        answer("410 Gone", "", b""),
        answer("403 Forbidden", "X-Reason: not your blob\r\n", b""),
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_vec(),
    ])
    .await;
    let url = BlobUrl {
        origin,
        hash: Sha256::of(b"x"),
    };
    let link = link();
    let done = BlobOutcome::Done { sunset: None };
    assert_eq!(link.remove(&url, true, "Nostr t").await, done);
    assert_eq!(
        link.remove(&url, true, "Nostr t").await,
        BlobOutcome::Absent
    );
    assert_eq!(link.probe(&url, true).await, BlobOutcome::Absent);
    assert_eq!(
        link.probe(&url, true).await,
        BlobOutcome::Refused {
            status: 403,
            reason: "not your blob".to_owned()
        }
    );
    assert_eq!(link.probe(&url, true).await, done);
    let heard = heard.lock().unwrap();
    assert!(heard[0].head.starts_with(&format!("DELETE /{} ", url.hash)));
    assert!(heard[2].head.starts_with(&format!("HEAD /{} ", url.hash)));
    assert!(!heard[2].head.to_lowercase().contains("authorization"));
}

#[tokio::test]
async fn a_download_goes_on_where_it_stopped_and_is_checked_as_a_whole() {
    let content: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    let hash = Sha256::of(&content);
    let whole = u64::try_from(content.len()).unwrap();
    let cut = 40_000;
    let first = format!("HTTP/1.1 200 OK\r\nContent-Length: {whole}\r\n\r\n");
    let first = [first.as_bytes(), &content[..cut]].concat();
    let range = format!("Content-Range: bytes {cut}-99999/100000\r\n");
    let (origin, heard) = server(vec![
        first,
        answer("206 Partial Content", &range, &content[cut..]),
    ])
    .await;
    let url = BlobUrl { origin, hash };
    let mut file = tempfile::tempfile().unwrap();
    let copy = || file.try_clone().unwrap();
    let link = link();
    let broken = link
        .download(&url, true, Some(whole), u64::MAX, copy(), None)
        .await;
    assert!(
        matches!(broken, Err(DownloadError::Unreachable(_))),
        "{broken:?}"
    );
    let done = link
        .download(&url, true, Some(whole), u64::MAX, copy(), None)
        .await;
    assert_eq!(done, Ok(whole));
    // What is whole already is not fetched again: the server answers no third time.
    let again = link
        .download(&url, true, Some(whole), u64::MAX, copy(), None)
        .await;
    assert_eq!(again, Ok(whole));
    assert_eq!(content_of(&mut file), content);
    let heard = heard.lock().unwrap();
    let head = heard[1].head.to_lowercase();
    assert!(head.contains("range: bytes=40000-"), "{head}");
    assert!(!head.contains("authorization"));
}

#[tokio::test]
async fn other_bytes_than_the_message_names_are_thrown_away() {
    let content = b"the real ciphertext";
    let size = u64::try_from(content.len()).unwrap();
    let other = answer("200 OK", "", b"the fake ciphertext");
    let longer = answer("200 OK", "", &[0; 1_000]);
    // No length, and it never ends of itself.
    let endless = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &[1; 5_000]].concat();
    let short = answer("200 OK", "", b"the real");
    // No length, and it ends early: that may have been the connection.
    let broken = b"HTTP/1.1 200 OK\r\n\r\nthe real".to_vec();
    let (origin, _) = server(vec![other, longer, endless, short, broken]).await;
    let url = BlobUrl {
        origin,
        hash: Sha256::of(content),
    };
    let link = link();
    for _ in 0..4 {
        let mut file = tempfile::tempfile().unwrap();
        let result = link
            .download(
                &url,
                true,
                Some(size),
                u64::MAX,
                file.try_clone().unwrap(),
                None,
            )
            .await;
        assert_eq!(result, Err(DownloadError::Integrity));
        assert!(content_of(&mut file).is_empty());
    }
    let file = tempfile::tempfile().unwrap();
    let result = link
        .download(&url, true, Some(size), u64::MAX, file, None)
        .await;
    assert!(matches!(result, Err(DownloadError::Unreachable(_))));
}

#[tokio::test]
async fn a_file_that_is_gone_or_elsewhere_is_told_apart() {
    let (origin, _) = server(vec![
        answer("404 Not Found", "", b""),
        answer("302 Found", "Location: http://127.0.0.1:1/\r\n", b""),
    ])
    .await;
    let url = BlobUrl {
        origin,
        hash: Sha256::of(b"x"),
    };
    let fetch = async || {
        let file = tempfile::tempfile().unwrap();
        link().download(&url, true, None, 100, file, None).await
    };
    assert_eq!(fetch().await, Err(DownloadError::Absent));
    assert!(matches!(
        fetch().await,
        Err(DownloadError::Refused { status: 302, .. })
    ));
    let file = tempfile::tempfile().unwrap();
    let not_own = link().download(&url, false, None, 100, file, None).await;
    assert!(matches!(not_own, Err(DownloadError::Forbidden(_))));
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(listener.accept().await.unwrap());
        }
    });
    let timeouts = Timeouts {
        transfer: Duration::from_millis(50),
        ..Timeouts::default()
    };
    let link = FileLink::new(Dialer::new(LONG).unwrap(), timeouts);
    let origin = Origin::parse(&format!("http://127.0.0.1:{port}")).unwrap();
    let url = BlobUrl {
        origin,
        hash: Sha256::of(b"x"),
    };
    assert!(matches!(
        link.probe(&url, true).await,
        BlobOutcome::Unreachable(_)
    ));
}
