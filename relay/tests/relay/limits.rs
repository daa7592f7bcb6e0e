//! What one connection may cost, and that a bad one costs nobody else.

use std::time::Duration;

use futures_util::SinkExt as _;
use sotto_relay::Config;
use sotto_relay::config::Raw;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use wire::{Filter, RelayFrame, limits};

use crate::support::{Client, PATIENCE, now, person, start, subscription};

#[tokio::test]
async fn r_lim_1_subscriptions_are_limited_and_one_id_counts_once() {
    let mut config = Config::in_memory();
    config.limits.subscriptions = 3;
    let relay = start(config).await;
    let mut client = Client::connect(&relay.url()).await;
    let filter = Filter::default().with_kinds([1]);
    for _ in 0..2 {
        for name in ["a", "b", "c"] {
            client
                .ask(&subscription(name), std::slice::from_ref(&filter))
                .await
                .unwrap();
        }
    }
    let text = client.ask(&subscription("d"), &[filter]).await.unwrap_err();
    assert!(text.starts_with("rate-limited:"), "{text}");
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_lim_2_malformed_messages_get_an_answer_that_names_the_rule() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    let deep = format!("[\"EVENT\",{}{}]", "[".repeat(40), "]".repeat(40));
    let many = format!("[\"REQ\",\"x\"{}]", ",{}".repeat(limits::FILTERS + 1));
    for bad in [
        "",
        "hello",
        "[]",
        "[1]",
        "{}",
        "[\"NOPE\"]",
        "[\"EVENT\",{}]",
        &deep,
    ] {
        client.send(bad).await;
        assert!(
            matches!(client.receive().await, RelayFrame::Notice(_)),
            "{bad}"
        );
    }
    for bad in [
        "[\"REQ\",\"x\"]",
        "[\"REQ\",\"x\",{\"kinds\":[\"1\"]}]",
        &many,
    ] {
        client.send(bad).await;
        match client.receive().await {
            RelayFrame::Closed(_, message) => assert!(message.text.starts_with("invalid:")),
            other => panic!("{bad}: {other:?}"),
        }
    }
    let event = person(1).note("fine");
    let twice = String::from_utf8(event.json().to_vec()).unwrap();
    let twice = twice.replace("\"kind\":1,", "\"kind\":1,\"kind\":1,");
    client.send(format!("[\"EVENT\",{twice}]")).await;
    assert!(!client.answer(event.id()).await.0);
    client.put(&event).await;
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_lim_2_whoever_sends_only_garbage_is_disconnected() {
    let mut few = Config::in_memory();
    few.limits.malformed_messages = 3;
    for (config, most) in [(Config::in_memory(), 50), (few, 3)] {
        let relay = start(config).await;
        let mut client = Client::connect(&relay.url()).await;
        for _ in 0..most {
            client.send("garbage").await;
            let answer = client.receive().await;
            assert!(matches!(answer, RelayFrame::Notice(_)), "{answer:?}");
        }
        // The last one is told as well before the end, and so is whoever was waiting.
        let note = person(1).note("on its way");
        client
            .socket
            .feed(Message::text(wire::ClientFrame::event(note.json())))
            .await
            .unwrap();
        client.send("garbage").await;
        let mut last = Vec::new();
        while let Some(frame) = client.try_receive().await {
            last.push(frame);
        }
        last.sort_by_key(|frame| matches!(frame, RelayFrame::Notice(_)));
        assert!(
            matches!(
                &last[..],
                [RelayFrame::Ok(_, true, _), RelayFrame::Notice(_)]
            ),
            "{last:?}"
        );
        relay.stop().await.unwrap();
    }
}

#[tokio::test]
async fn r_lim_3_a_frame_that_is_too_large_ends_the_connection_before_it_is_read() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    let huge = "x".repeat(limits::FRAME_BYTES + 1);
    // The relay may close before all of it is sent.
    let _ = client.try_send(huge).await;
    assert!(client.try_receive().await.is_none());
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_size_1_the_largest_event_fits_and_a_larger_one_does_not() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect_as(&relay.url(), &person(2)).await;
    let empty = person(9).wrap(&person(2), "").json().len();
    let fits = person(9).wrap(&person(2), &"x".repeat(limits::EVENT_BYTES - empty));
    assert_eq!(fits.json().len(), limits::EVENT_BYTES);
    client.put(&fits).await;
    assert_eq!(client.mailbox(&person(2)).await, [fits]);
    let over = person(9).wrap(&person(2), &"x".repeat(limits::EVENT_BYTES - empty + 1));
    let (accepted, text) = client.publish(&over).await;
    assert!(!accepted && text.starts_with("invalid:"), "{text}");
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_size_1_a_smaller_limit_of_the_configuration_is_kept() {
    let (largest, larger) = (
        person(1).note(&"x".repeat(500)),
        person(1).note(&"x".repeat(501)),
    );
    let mut config = Config::in_memory();
    config.rules.event_bytes = largest.json().len();
    let relay = start(config).await;
    let mut client = Client::connect(&relay.url()).await;
    client.put(&largest).await;
    let (accepted, text) = client.publish(&larger).await;
    assert!(!accepted && text.starts_with("invalid:"), "{text}");
    relay.stop().await.unwrap();
}

/// The socket is closed before anything is said on it.
#[tokio::test]
async fn r_lim_11_connections_are_limited_altogether() {
    let mut config = Config::in_memory();
    config.limits.connections = 2;
    let relay = start(config).await;
    let first = Client::connect(&relay.url()).await;
    let mut second = Client::connect(&relay.url()).await;
    let refused = tokio_tungstenite::connect_async(relay.url()).await;
    assert!(refused.is_err());
    // Those who are here go on, and whoever leaves makes room.
    second.put(&person(1).note("here")).await;
    drop(first);
    let begun = tokio::time::Instant::now();
    while tokio_tungstenite::connect_async(relay.url()).await.is_err() {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    relay.stop().await.unwrap();
}

/// What is asked too much of is no garbage: a client that searches where nobody can be searched for
/// is told so as often as it asks.
#[tokio::test]
async fn r_lim_2_requests_for_more_than_is_here_are_refused_one_by_one_without_end() {
    let mut config = Config::in_memory();
    config.limits.malformed_messages = 3;
    let relay = start(config).await;
    let mut client = Client::connect(&relay.url()).await;
    let author = person(1).key().to_hex();
    let many = (0..11).map(|_| "{}").collect::<Vec<_>>().join(",");
    let authors = vec![format!("{author:?}"); limits::FILTER_VALUES + 1].join(",");
    for (filters, prefix) in [
        ("{\"search\":\"x\"}".to_owned(), "unsupported:"),
        (many, "invalid:"),
        (format!("{{\"authors\":[{authors}]}}"), "invalid:"),
    ] {
        for _ in 0..10 {
            client.send(format!("[\"REQ\",\"s\",{filters}]")).await;
            match client.receive().await {
                RelayFrame::Closed(_, message) => {
                    assert!(message.text.starts_with(prefix), "{message:?}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
    client.put(&person(1).note("still here")).await;
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_lim_4_a_slow_reader_is_cut_off_and_others_are_served() {
    let mut config = Config::in_memory();
    config.limits.send_queue_bytes = 512 * 1024;
    config.limits.write_timeout = Duration::from_secs(1);
    let relay = start(config).await;
    let filter = Filter::default().with_kinds([1]);
    let mut slow = Client::connect(&relay.url()).await;
    slow.send(wire::ClientFrame::req(
        &subscription("all"),
        std::slice::from_ref(&filter),
    ))
    .await;
    let mut writer = Client::connect(&relay.url()).await;
    let mut reader = Client::connect(&relay.url()).await;
    reader.ask(&subscription("all"), &[filter]).await.unwrap();
    // More than the queue and the kernel's buffers hold; the slow one never reads.
    let content = "x".repeat(60_000);
    for n in 0..200 {
        writer
            .put(&person(1).sign(1, now(), &[], &format!("{n}{content}")))
            .await;
        assert!(matches!(reader.receive().await, RelayFrame::Event(..)));
    }
    let ended = async { while slow.try_receive().await.is_some() {} };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
    relay.stop().await.unwrap();
}

/// Stored events wait, so the queue never overflows: only the time of a write runs out.
#[tokio::test]
async fn r_lim_4_a_reader_who_takes_nothing_of_what_is_stored_is_cut_off() {
    let mut config = Config::in_memory();
    config.limits.write_timeout = Duration::from_secs(1);
    let relay = start(config).await;
    let mut writer = Client::connect(&relay.url()).await;
    // More than the queue and the kernel's buffers hold.
    let content = "x".repeat(60_000);
    for n in 0..300 {
        writer.put(&person(1).note(&format!("{n}{content}"))).await;
    }
    let mut slow = Client::connect(&relay.url()).await;
    let notes = Filter::default().with_kinds([1]);
    let request = wire::ClientFrame::req(&subscription("all"), &[notes]);
    slow.send(request).await;
    let cut_off = async {
        while relay.metrics().slow_readers.get() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, cut_off).await.unwrap();
    relay.stop().await.unwrap();
}

/// With the least that the configuration takes, nobody who reads is cut off.
#[tokio::test]
async fn r_lim_4_a_page_of_stored_events_fits_into_the_smallest_queue() {
    let with = |bytes: usize| {
        let raw = Raw::parse(&format!("[limits]\nsend_queue_bytes = {bytes}"));
        raw.and_then(|raw| raw.check("/nowhere".into()))
    };
    // The least that is taken, to the byte.
    let (mut refused, mut taken) = (0, 4 * 1024 * 1024);
    while taken - refused > 1 {
        let middle = (refused + taken) / 2;
        match with(middle) {
            Ok(_) => taken = middle,
            Err(_) => refused = middle,
        }
    }
    let mut config = Config::in_memory();
    config.limits.send_queue_bytes = with(taken).unwrap().limits.send_queue_bytes;
    let relay = start(config).await;
    let mut writer = Client::connect(&relay.url()).await;
    // Some large and all of one second, some small; a page ends where they meet.
    let at = now();
    let large = "x".repeat(80_000);
    let mut count = 0;
    for n in 0..8 {
        let of_one_second =
            (0..4).map(|k| person(1).sign(1, at - n, &[], &format!("{n} {k} {large}")));
        for event in of_one_second {
            writer.put(&event).await;
            count += 1;
        }
    }
    for n in 0..1_500 {
        let event = person(1).sign(1, at - 10, &[], &n.to_string());
        writer.send(wire::ClientFrame::event(event.json())).await;
        count += 1;
    }
    for _ in 0..1_500 {
        assert!(matches!(writer.receive().await, RelayFrame::Ok(_, true, _)));
    }
    let mut reader = Client::connect(&relay.url()).await;
    let notes = Filter::default().with_kinds([1]);
    for limit in [5, 30, 2_000] {
        let notes = Filter {
            limit: Some(limit),
            ..notes.clone()
        };
        let found = reader.ask(&subscription("notes"), &[notes]).await.unwrap();
        assert_eq!(found.len(), limit.min(count));
    }
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_lim_5_a_request_that_trickles_is_cut_off() {
    let mut config = Config::in_memory();
    config.limits.header_timeout = Duration::from_millis(300);
    let relay = start(config).await;
    let mut trickle = TcpStream::connect(("127.0.0.1", relay.port()))
        .await
        .unwrap();
    trickle
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        .await
        .unwrap();
    let mut rest = Vec::new();
    let ended = trickle.read_to_end(&mut rest);
    // Closed by the relay, with or without a word.
    let _ = tokio::time::timeout(PATIENCE, ended).await.unwrap();
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_lim_6_a_silent_peer_is_pinged_and_then_closed() {
    let mut config = Config::in_memory();
    config.limits.idle_ping = Duration::from_millis(200);
    let relay = start(config).await;
    let mut alive = Client::connect(&relay.url()).await;
    let mut dead = TcpStream::connect(("127.0.0.1", relay.port()))
        .await
        .unwrap();
    dead.write_all(
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )
    .await
    .unwrap();
    let mut rest = Vec::new();
    // Reading the socket answers pings for the one that is alive.
    let dead_ends = dead.read_to_end(&mut rest);
    tokio::select! {
        ended = tokio::time::timeout(PATIENCE, dead_ends) => { let _ = ended.unwrap(); }
        frame = alive.try_receive() => panic!("the live connection got {frame:?}"),
    }
    alive.put(&person(1).note("still here")).await;
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_info_1_the_document_tells_the_limits_that_hold() {
    let relay = start(Config::in_memory()).await;
    let get = |accept: &'static str| async move {
        let mut stream = TcpStream::connect(("127.0.0.1", relay.port()))
            .await
            .unwrap();
        let request =
            format!("GET / HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        relay.stop().await.unwrap();
        answer
    };
    let answer = get("application/nostr+json").await;
    assert!(
        answer
            .to_lowercase()
            .contains("access-control-allow-origin: *")
    );
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let document: serde_json::Value = serde_json::from_str(body).unwrap();
    let nips = [1, 4, 9, 11, 17, 40, 42, 43, 45, 59, 62, 65, 67, 70, 77];
    assert_eq!(document["supported_nips"], serde_json::json!(nips));
    // Where it is given it is the URL of a home page (NIP-11).
    assert_eq!(document["software"], serde_json::Value::Null);
    assert_eq!(
        document["limitation"]["max_message_length"],
        limits::FRAME_BYTES
    );
    assert_eq!(document["limitation"]["max_subscriptions"], 20);
    assert_eq!(document["limitation"]["max_count"], 100_000);
    assert_eq!(document["limitation"]["max_reconciled"], 50_000);
    assert_eq!(document["limitation"]["max_reconciliations"], 2);
    assert_eq!(document["limitation"]["auth_required"], false);
    assert_eq!(document["limitation"]["min_pow_difficulty"], 0);
    assert_eq!(document["limitation"]["restricted_writes"], false);
}

#[test]
fn r_info_2_the_document_tells_the_policy_that_holds() {
    use sotto_relay::nip11;
    use sotto_relay::policy::{Work, WorkOf, Writers};
    use sotto_relay::settings::Settings;
    let document = |config: &Config| {
        let settings = Settings::new(config.clone(), 7447, std::sync::Arc::default());
        nip11::document(&settings.get())
    };
    let of = |config: &Config| document(config)["limitation"].clone();
    let mut config = Config::in_memory();
    config.rules.writers = Writers::Recipients([person(1).key()].into());
    assert_eq!(of(&config)["restricted_writes"], true);
    config = Config::in_memory();
    config.rules.writers = Writers::Members([person(1).key()].into());
    assert_eq!(of(&config)["restricted_writes"], true);
    // A wrap to a member needs no AUTH, so AUTH is not required of every connection.
    assert_eq!(of(&config)["auth_required"], false);
    config = Config::in_memory();
    config.rules.kinds = Some([1059].into());
    assert_eq!(of(&config)["restricted_writes"], true);
    config = Config::in_memory();
    config.rules.work = Some(Work {
        bits: 20,
        of: WorkOf::AnonymousWraps,
    });
    // NIP-11 speaks of every event; this is less.
    assert_eq!(of(&config)["min_pow_difficulty"], 0);
    assert_eq!(of(&config)["anonymous_wrap_pow_difficulty"], 20);
    let nips = &document(&config)["supported_nips"];
    assert!(nips.as_array().unwrap().contains(&13.into()));
    let policy = |config: &Config| document(config)["policy"].clone();
    assert_eq!(
        policy(&config),
        serde_json::json!({"write": "open", "pow_bits": 20, "pow_of": "wraps"})
    );
    config.rules.work = Some(Work {
        bits: 20,
        of: WorkOf::Everything,
    });
    assert_eq!(of(&config)["min_pow_difficulty"], 20);
    assert!(of(&config).get("anonymous_wrap_pow_difficulty").is_none());
    assert_eq!(policy(&config)["pow_of"], "everything");
    config = Config::in_memory();
    config.rules.writers = Writers::Recipients([person(1).key()].into());
    config.rules.kinds = Some([1059, 7].into());
    // What was decided at run time is told with it.
    let mut roster = sotto_relay::roster::Roster::default();
    roster.allow_kind(10_050);
    roster.disallow_kind(7);
    let settings = Settings::new(config, 7447, std::sync::Arc::new(roster.clone()));
    let told = nip11::document(&settings.get())["policy"].clone();
    let wanted = serde_json::json!({"write": "recipients", "kinds": [1059, 10_050]});
    assert_eq!(told, wanted);
    let settings = Settings::new(Config::in_memory(), 7447, std::sync::Arc::new(roster));
    let told = nip11::document(&settings.get())["policy"].clone();
    let wanted = serde_json::json!({"write": "open", "kinds_refused": [7]});
    assert_eq!(told, wanted);
}

#[tokio::test]
async fn r_stop_1_what_was_sent_before_the_stop_is_answered() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    let events: Vec<_> = (0..300).map(|n| person(1).note(&format!("{n}"))).collect();
    let mut sent = 0;
    for event in &events {
        let frame = wire::ClientFrame::event(event.json());
        sent += frame.len() as u64;
        client.socket.feed(Message::text(frame)).await.unwrap();
    }
    client.socket.flush().await.unwrap();
    let taken = async {
        while relay.metrics().bytes_received.get() < sent {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.unwrap();
    relay.stop().await.unwrap();
    let mut answered = 0;
    while let Some(frame) = client.try_receive().await {
        assert!(matches!(frame, RelayFrame::Ok(_, true, _)), "{frame:?}");
        answered += 1;
    }
    assert_eq!(answered, events.len());
}

/// This machine's own address, where it has one besides the loopback: what is sent there comes from
/// there.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: the system only says which way it would go.
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

#[tokio::test]
async fn r_lim_11_a_direct_client_is_one_of_its_address() {
    let Some(ip) = own_address() else {
        eprintln!("skipped: this machine has the loopback alone");
        return;
    };
    let mut config = Config::in_memory();
    config.limits.connections_per_address = 1;
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let relay = sotto_relay::Relay::start(listener, config).await.unwrap();
    let loopback = relay.url();
    let url = format!("ws://{ip}:{}", relay.port());
    let (first, _) = tokio_tungstenite::connect_async(&url).await.unwrap();
    assert!(tokio_tungstenite::connect_async(&url).await.is_err());
    // This machine itself is exempt.
    for _ in 0..3 {
        assert!(tokio_tungstenite::connect_async(&loopback).await.is_ok());
    }
    drop(first);
    let begun = tokio::time::Instant::now();
    while tokio_tungstenite::connect_async(&url).await.is_err() {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    relay.stop().await.unwrap();
}
