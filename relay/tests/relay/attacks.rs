//! Crowds that want to hurt, against a real process with an eye on what it takes.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use wire::{Filter, limits};

use crate::cost::Cost;
use crate::crash::Program;
use crate::support::{Client, PATIENCE, person};

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// How long a crowd may be busy that throws two hundred megabytes at a relay built without
/// optimisation, on a machine that has other things to do.
const WORK: Duration = Duration::from_secs(240);

fn address(url: &str) -> String {
    url.trim_start_matches("ws://").to_owned()
}

/// As many sockets as the machine allows: thousands in a test.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// Publishes and reads what it published.
async fn is_served(client: &mut Client, content: &str) {
    let note = person(1).note(content);
    client.put(&note).await;
    let filter = Filter::default().with_kinds([1]).with_ids([note.id()]);
    assert_eq!(client.fetch(filter).await.unwrap(), [note]);
}

/// An upgraded socket without a library above it.
async fn upgraded(address: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(format!("{UPGRADE}\r\n").as_bytes())
        .await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(stream)
}

/// Sends a byte now and then until the other side has closed.
async fn trickle(mut stream: TcpStream, byte: u8) {
    let (mut reading, mut writing) = stream.split();
    let send = async {
        // Ends when the other side has gone.
        while writing.write_all(&[byte]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    let mut rest = Vec::new();
    tokio::select! {
        _ = reading.read_to_end(&mut rest) => {}
        () = send => {}
    }
}

/// Serves somebody honest until the whole crowd has been turned away, within `patience`; how often.
async fn serve_beside(
    mut crowd: tokio::task::JoinSet<()>,
    patience: Duration,
    honest: &mut Client,
    mut look: impl FnMut(),
) -> u32 {
    let ended = tokio::spawn(async move {
        let all = async {
            while let Some(one) = crowd.join_next().await {
                one.unwrap();
            }
        };
        tokio::time::timeout(patience, all).await
    });
    let mut served = 0;
    while !ended.is_finished() {
        look();
        is_served(honest, &format!("beside them {served}")).await;
        served += 1;
    }
    assert!(ended.await.unwrap().is_ok(), "some are still open");
    served
}

/// Half of them never come to the end of their request, the others not to the end of a message.
#[tokio::test(flavor = "multi_thread")]
async fn r_lim_5_two_thousand_that_trickle_are_cut_off_and_cost_little() {
    const EACH: usize = 1_000;
    raise_file_limit();
    let folder = tempfile::tempdir().unwrap();
    let configuration = "[limits]\nheader_timeout_s = 3\nmessage_timeout_s = 3\nidle_ping_s = 1\n";
    let program = Program::configured(&folder.path().join("data"), configuration);
    let address = address(&program.url);
    let mut honest = Client::connect(&program.url).await;
    is_served(&mut honest, "before").await;
    let before = Cost::of(&program.child);

    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..EACH {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
        crowd.spawn(trickle(stream, b'x'));
        let mut stream = upgraded(&address).await.unwrap();
        // The head of a text of 100,000 bytes.
        let head = [0x81, 0xff, 0, 0, 0, 0, 0, 1, 0x86, 0xa0, 0, 0, 0, 0];
        stream.write_all(&head).await.unwrap();
        crowd.spawn(trickle(stream, b' '));
    }
    let mut most_sockets = 0;
    let served = serve_beside(crowd, PATIENCE, &mut honest, || {
        most_sockets = most_sockets.max(Cost::of(&program.child).sockets);
    })
    .await;
    assert!(served > 0, "nobody was served beside them");
    assert!(
        most_sockets > before.sockets + EACH as u64,
        "{most_sockets} were there"
    );
    let after = Cost::until(&program.child, "alone again", |cost| {
        cost.sockets == before.sockets
    })
    .await;
    is_served(&mut honest, "after").await;
    let each = (after.peak - before.resident) / (2 * EACH as u64);
    assert!(each < 40 * 1024, "{each} bytes for each");
}

#[tokio::test]
async fn r_lim_5_a_request_has_so_many_headers_and_bytes_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(&folder.path().join("data"));
    let address = address(&program.url);
    let mut honest = Client::connect(&program.url).await;
    is_served(&mut honest, "before").await;
    let before = Cost::of(&program.child);
    let get = "GET / HTTP/1.1\r\nHost: x\r\n";
    let header = |bytes: usize| format!("X-Long: {}\r\n", "x".repeat(bytes));
    let many = |count: usize| -> String { (0..count).map(|n| format!("X-{n}: {n}\r\n")).collect() };
    let bombs = [
        ("too many headers", format!("{UPGRADE}{}\r\n", many(100))),
        (
            "a header that is too long",
            format!("{UPGRADE}{}\r\n", header(10_000)),
        ),
        (
            "a header without an end",
            format!("{get}{}", header(2_000_000)),
        ),
        ("headers without an end", format!("{get}{}", many(100_000))),
        (
            "a long path",
            format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(100_000)),
        ),
        (
            "a long name",
            format!("{get}{}: x\r\n\r\n", "x".repeat(100_000)),
        ),
        (
            "a long method",
            format!("{} / HTTP/1.1\r\n\r\n", "x".repeat(100_000)),
        ),
        ("an endless line", "x".repeat(1_000_000)),
        // HTTP/2 is not spoken, so none of its empty frames either.
        (
            "another protocol",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        ),
    ];
    for (what, bomb) in &bombs {
        let mut crowd = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (address, bomb) = (address.clone(), bomb.clone());
            crowd.spawn(async move {
                let mut stream = TcpStream::connect(&address).await.unwrap();
                let (mut reading, mut writing) = stream.split();
                let mut answer = Vec::new();
                // It may be refused before all of it is sent, and reset the connection.
                let exchange = async {
                    tokio::join!(
                        writing.write_all(bomb.as_bytes()),
                        reading.read_to_end(&mut answer)
                    )
                };
                let ended = tokio::time::timeout(PATIENCE, exchange).await;
                assert!(ended.is_ok(), "still open");
                String::from_utf8_lossy(&answer).into_owned()
            });
        }
        for answer in crowd.join_all().await {
            let status = answer.split(' ').nth(1).unwrap_or_default();
            let is_refused = answer.is_empty() || status.starts_with('4');
            assert!(is_refused, "{what}: {answer}");
        }
        is_served(&mut honest, what).await;
    }
    let after = Cost::of(&program.child);
    assert!(
        after.peak < before.resident + 8 * 1024 * 1024,
        "{before:?} {after:?}"
    );
}

/// A body that nobody asked for is not read, and what could unfold is not agreed to.
#[tokio::test]
async fn r_lim_5_bodies_are_not_read_and_nothing_is_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(&folder.path().join("data"));
    let mut honest = Client::connect(&program.url).await;
    is_served(&mut honest, "before").await;
    let before = Cost::of(&program.child);
    let mut stream = TcpStream::connect(address(&program.url)).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let send = async { while writing.write_all(&[b'x'; 64 * 1024]).await.is_ok() {} };
    let mut answer = Vec::new();
    let ended = async {
        tokio::select! {
            _ = reading.read_to_end(&mut answer) => {}
            () = send => {}
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, ended).await.is_ok(),
        "it reads on"
    );
    let mut stream = TcpStream::connect(address(&program.url)).await.unwrap();
    let request = format!(
        "{UPGRADE}Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(!head.contains("deflate"), "{head}");
    is_served(&mut honest, "after").await;
    let after = Cost::of(&program.child);
    assert!(
        after.peak < before.resident + 8 * 1024 * 1024,
        "{before:?} {after:?}"
    );
}

/// A masked text frame; the mask is zeros.
fn text_frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81, 0xff];
    frame.extend((text.len() as u64).to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    frame
}

#[tokio::test(flavor = "multi_thread")]
async fn r_lim_10_bombs_of_every_kind_at_once_stay_within_what_is_held() {
    const CROWD: usize = 42;
    /// What the relay was told, and what its allocator may need beside it.
    const HELD: u64 = 16 * 1024 * 1024;
    const BESIDE: u64 = 40 * 1024 * 1024;
    raise_file_limit();
    let folder = tempfile::tempdir().unwrap();
    let configuration = format!("limits.held_bytes = {HELD}\nlimits.message_timeout_s = 2\n");
    let program = Program::configured(&folder.path().join("data"), &configuration);
    let address = address(&program.url);
    let mut honest = Client::connect(&program.url).await;
    is_served(&mut honest, "before").await;
    let before = Cost::of(&program.child);

    let full = limits::FRAME_BYTES - 100;
    let values: Vec<String> = (0..limits::FILTER_VALUES)
        .map(|n| format!("\"{n:0180}\""))
        .collect();
    let values = values.join(",");
    let deep = |open: &str, close: &str| {
        let depth = full / (open.len() + close.len());
        format!("[\"EVENT\",{}{}]", open.repeat(depth), close.repeat(depth))
    };
    let many_tags: String = (0..60_000).map(|_| "[],").collect::<String>()[..full / 2].to_owned();
    let bombs: Vec<(&str, Vec<u8>)> = vec![
        ("a frame that says it is huge", {
            let mut frame = vec![0x81, 0xff];
            frame.extend((1_u64 << 50).to_be_bytes());
            frame.extend([0; 4]);
            frame.extend([b'x'; 200_000]);
            frame
        }),
        (
            "a frame one byte too long",
            text_frame(&"x".repeat(limits::FRAME_BYTES + 1)),
        ),
        ("nested arrays", text_frame(&deep("[", "]"))),
        ("nested objects", text_frame(&deep("{\"a\":", "}"))),
        ("nested and open", text_frame(&"[".repeat(full))),
        (
            "an endless text",
            text_frame(&format!(
                "[\"EVENT\",{{\"content\":\"{}",
                "x".repeat(full - 50)
            )),
        ),
        (
            "escapes",
            text_frame(&format!(
                "[\"REQ\",\"{}\"]",
                "\\u0041".repeat(full / 6 - 10)
            )),
        ),
        (
            "a long number",
            text_frame(&format!(
                "[\"REQ\",\"x\",{{\"since\":{}}}]",
                "9".repeat(full - 50)
            )),
        ),
        (
            "many tags",
            text_frame(&format!("[\"EVENT\",{{\"tags\":[{many_tags}[]]}}]")),
        ),
        (
            "many keys",
            text_frame(&format!(
                "[\"REQ\",\"x\",{{{}\"limit\":1}}]",
                (0..9_000)
                    .map(|n| format!("\"k{n}\":0,"))
                    .collect::<String>()
            )),
        ),
        (
            "a filter of long values",
            text_frame(&format!(
                "[\"REQ\",\"x\",{{\"kinds\":[1],\"#t\":[{values}]}}]"
            )),
        ),
        ("pieces that are too much together", {
            let piece = [&[0x01, 0xfe, 0xff, 0xff, 0, 0, 0, 0][..], &[b' '; 0xffff]].concat();
            let next = [&[0x00, 0xfe, 0xff, 0xff, 0, 0, 0, 0][..], &[b' '; 0xffff]].concat();
            [piece, next.clone(), next].concat()
        }),
        ("a message that is not finished", {
            [&[0x01, 0xfe, 0xff, 0xff, 0, 0, 0, 0][..], &[b' '; 0xffff]].concat()
        }),
        (
            "not text",
            [&[0x81, 0xfe, 0xff, 0xff, 0, 0, 0, 0][..], &[0xff; 0xffff]].concat(),
        ),
    ];
    let mut crowd = tokio::task::JoinSet::new();
    for at in 0..CROWD {
        let (what, bomb) = bombs[at % bombs.len()].clone();
        let address = address.clone();
        crowd.spawn(async move {
            // Whoever is cut off comes again.
            for _ in 0..2 {
                let Ok(mut stream) = upgraded(&address).await else {
                    continue;
                };
                let (mut reading, mut writing) = stream.split();
                let throw = async {
                    for _ in 0..20 {
                        if writing.write_all(&bomb).await.is_err() {
                            return;
                        }
                    }
                    // Everything was taken and refused: that is fine too.
                    let _ = writing.shutdown().await;
                };
                let drain = async {
                    let mut answers = vec![0; 64 * 1024];
                    while reading
                        .read(&mut answers)
                        .await
                        .is_ok_and(|count| count > 0)
                    {}
                };
                let thrown = async { tokio::join!(throw, drain) };
                let thrown = tokio::time::timeout(WORK, thrown).await;
                assert!(thrown.is_ok(), "{what}: still open");
            }
        });
    }
    let served = serve_beside(crowd, WORK, &mut honest, || {}).await;
    assert!(served > 0);
    let after = Cost::until(&program.child, "alone again", |cost| {
        cost.sockets == before.sockets
    })
    .await;
    is_served(&mut honest, "after").await;
    assert!(
        after.peak < before.resident + HELD + BESIDE,
        "{before:?} {after:?}"
    );
}
