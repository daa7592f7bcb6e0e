//! What all connections together may make the relay hold.

use std::time::Duration;

use sotto_relay::{Config, Relay};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use wire::{ClientFrame, Event, Filter, RelayFrame, limits};

use crate::support::{Client, PATIENCE, ids, mailbox, now, person, start, subscription};

/// Waits until what the relay holds is as wanted.
async fn until_held(relay: &Relay, wanted: impl Fn(usize) -> bool) {
    let poll = async {
        while !wanted(relay.held()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, poll).await;
    assert!(waited.is_ok(), "the relay holds {}", relay.held());
}

/// Goes on sending until the relay closes or resets the connection.
async fn until_cut_off(
    reading: &mut (impl tokio::io::AsyncRead + Unpin),
    sending: impl Future<Output = std::io::Result<()>>,
) {
    let mut rest = Vec::new();
    tokio::select! {
        ended = tokio::time::timeout(PATIENCE, reading.read_to_end(&mut rest)) => {
            let _ = ended.expect("the relay keeps waiting");
        }
        sent = sending => {
            let _: std::io::Result<()> = sent;
        }
    }
}

/// A WebSocket without a library above it.
async fn raw_socket(relay: &Relay) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", relay.port()))
        .await
        .unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    stream
}

/// The head of a masked frame; the mask is zeros, so that the payload stays as it is.
fn frame_head(first: u8, len: u16) -> Vec<u8> {
    let [high, low] = len.to_be_bytes();
    match u8::try_from(len) {
        Ok(short) if short < 126 => vec![first, 0x80 | short, 0, 0, 0, 0],
        _ => vec![first, 0x80 | 126, high, low, 0, 0, 0, 0],
    }
}

const TEXT_TO_BE_CONTINUED: u8 = 0x01;
const PONG: u8 = 0x8a;

#[tokio::test]
async fn r_lim_7_what_slow_readers_hold_together_is_bounded_and_the_others_notice_nothing() {
    let mut config = Config::in_memory();
    config.limits.send_queue_bytes = 4 * 1024 * 1024;
    config.limits.held_bytes = 8 * 1024 * 1024;
    let relay = start(config).await;
    let filter = Filter::default().with_kinds([1]);
    let mut slow = Vec::new();
    for _ in 0..12 {
        let mut client = Client::connect(&relay.url()).await;
        let all = subscription("all");
        client
            .ask(&all, std::slice::from_ref(&filter))
            .await
            .unwrap();
        slow.push(client);
    }
    let mut reader = Client::connect(&relay.url()).await;
    let all = subscription("all");
    reader
        .ask(&all, std::slice::from_ref(&filter))
        .await
        .unwrap();
    let mut writer = Client::connect(&relay.url()).await;
    // Alone each of them could hold 4 MiB beside what the kernel takes off the relay's hands.
    let content = "x".repeat(60_000);
    for n in 0..250 {
        let event = person(1).sign(1, now(), &[], &format!("{n}{content}"));
        writer.put(&event).await;
        match reader.receive().await {
            RelayFrame::Event(_, live) => assert_eq!(live.id(), event.id()),
            other => panic!("no event but {other:?}"),
        }
        assert!(relay.held() <= 8 * 1024 * 1024);
    }
    let mut cut_off = 0;
    for client in &mut slow {
        let mut events = 0;
        while events < 250 {
            match client.try_receive().await {
                Some(RelayFrame::Event(..)) => events += 1,
                Some(other) => panic!("no event but {other:?}"),
                None => break,
            }
        }
        cut_off += usize::from(events < 250);
    }
    assert!(cut_off > 0, "nobody was cut off, so nothing was tested");
    drop((slow, reader, writer));
    until_held(&relay, |held| held == 0).await;
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_lim_7_a_history_that_nobody_reads_holds_one_page_and_gives_it_back() {
    let mut config = Config::in_memory();
    config.limits.send_queue_bytes = 512 * 1024;
    let relay = start(config).await;
    let mut writer = Client::connect(&relay.url()).await;
    let content = "x".repeat(60_000);
    for n in 0..200 {
        let event = person(1).sign(1, now() - n, &[], &format!("{n}{content}"));
        writer.put(&event).await;
    }
    until_held(&relay, |held| held < 256 * 1024).await;
    let before = relay.held();
    let mut slow = Client::connect(&relay.url()).await;
    let filter = Filter::default().with_kinds([1]);
    for n in 0..20 {
        let request =
            ClientFrame::req(&subscription(&n.to_string()), std::slice::from_ref(&filter));
        slow.send(request).await;
    }
    // Four at a time, each with a page, a search, and the frames that fill the queue to a quarter.
    let most = 4 * (1024 * 1024 + 256 * 1024) + 512 * 1024;
    until_held(&relay, |held| held > before + 256 * 1024).await;
    for _ in 0..100 {
        assert!(relay.held() < before + most, "{}", relay.held());
        tokio::task::yield_now().await;
    }
    drop(slow);
    until_held(&relay, |held| held <= before).await;
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_lim_7_events_on_their_way_to_the_disk_are_held_and_given_back() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    let content = "x".repeat(60_000);
    // What the connection keeps beside them: a grown buffer, an unfinished message, answers.
    const BESIDE: usize = 300_000;
    let flood = async {
        for n in 0.. {
            let note = person(1).note(&format!("{n}{content}"));
            client.send(ClientFrame::event(note.json())).await;
        }
    };
    tokio::select! {
        () = flood => {}
        () = until_held(&relay, |held| held > BESIDE) => {}
    }
    drop(client);
    until_held(&relay, |held| held == 0).await;
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_lim_7_signs_of_life_are_given_back_while_the_connection_goes_on() {
    use futures_util::SinkExt as _;
    use tokio_tungstenite::tungstenite::Message;
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    // Between messages, and in the middle of one. What a connection keeps for its few answers is
    // little beside fifty thousand bytes of pings.
    const LITTLE: usize = 1_000;
    for _ in 0..500 {
        let ping = Message::Ping(vec![7; 100].into());
        client.socket.send(ping).await.unwrap();
    }
    client.put(&person(1).note("still here")).await;
    until_held(&relay, |held| held < LITTLE).await;
    let mut stream = raw_socket(&relay).await;
    let part = |first: u8, text: &str| {
        let len = u16::try_from(text.len()).unwrap();
        [frame_head(first, len), text.as_bytes().to_vec()].concat()
    };
    stream
        .write_all(&part(TEXT_TO_BE_CONTINUED, "[\"CLOSE\","))
        .await
        .unwrap();
    for _ in 0..500 {
        stream
            .write_all(&part(PONG, &"x".repeat(100)))
            .await
            .unwrap();
    }
    const THE_REST: u8 = 0x80;
    stream.write_all(&part(THE_REST, "\"x\"]")).await.unwrap();
    until_held(&relay, |held| held < LITTLE).await;
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_lim_7_a_buffer_that_grew_counts_until_the_connection_ends() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    for n in 0..5 {
        let note = person(1).note(&format!("{n}{}", "x".repeat(60_000)));
        client.put(&note).await;
        // What the socket's library keeps for the next one, once and not again.
        until_held(&relay, |held| (60_000..70_000).contains(&held)).await;
    }
    client.put(&person(1).note("small")).await;
    until_held(&relay, |held| (60_000..70_000).contains(&held)).await;
    drop(client);
    until_held(&relay, |held| held == 0).await;
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_lim_8_the_filters_of_one_connection_take_so_much_and_no_more() {
    let relay = start(Config::in_memory()).await;
    let mut client = Client::connect(&relay.url()).await;
    let bomb = |at: u32| {
        let values = (0..limits::FILTER_VALUES).map(|n| format!("{at}{n}"));
        Filter::default().with_kinds([1]).with_tag('p', values)
    };
    let mut opened = 0_u32;
    let refusal = loop {
        match client
            .ask(&subscription(&opened.to_string()), &[bomb(opened)])
            .await
        {
            Ok(_) => opened += 1,
            Err(text) => break text,
        }
    };
    assert!(refusal.starts_with("rate-limited:"), "{refusal}");
    assert!(opened > 1, "an ordinary large filter is fine");
    assert!(relay.held() <= Config::in_memory().limits.filter_bytes + 64 * 1024);
    // Closing gives back what it took, and a small filter was never in question.
    client.send(ClientFrame::close(&subscription("0"))).await;
    client
        .ask(&subscription("again"), &[bomb(0)])
        .await
        .unwrap();
    drop(client);
    until_held(&relay, |held| held == 0).await;
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_lim_9_a_message_that_does_not_end_ends_the_connection() {
    let mut config = Config::in_memory();
    config.limits.idle_ping = Duration::from_millis(200);
    config.limits.message_timeout = Duration::from_secs(1);
    let relay = start(config).await;
    let mut stream = raw_socket(&relay).await;
    let (mut reading, mut writing) = stream.split();
    let send = async {
        let mut frame = frame_head(TEXT_TO_BE_CONTINUED, 50_000);
        frame.resize(frame.len() + 50_000, b' ');
        writing.write_all(&frame).await?;
        until_held(&relay, |held| held >= 45_000).await;
        // It gives every sign of life, in the middle of its message.
        loop {
            writing.write_all(&frame_head(PONG, 0)).await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    until_cut_off(&mut reading, send).await;
    drop(stream);
    until_held(&relay, |held| held == 0).await;
    // Whoever is merely idle, or sends in pieces that arrive, is not meant.
    let mut client = Client::connect(&relay.url()).await;
    let event = person(1).note("fine");
    client.put(&event).await;
    let filter = Filter::default().with_kinds([1]).with_ids([event.id()]);
    assert_eq!(ids(&client.fetch(filter).await.unwrap()), [event.id()]);
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn r_lim_9_a_message_that_dribbles_is_noticed_without_a_ping() {
    let mut config = Config::in_memory();
    config.limits.idle_ping = Duration::from_secs(3_600);
    config.limits.message_timeout = Duration::from_millis(200);
    let relay = start(config).await;
    let mut stream = raw_socket(&relay).await;
    let (mut reading, mut writing) = stream.split();
    let dribble = async {
        writing
            .write_all(&frame_head(TEXT_TO_BE_CONTINUED, 50_000))
            .await?;
        loop {
            writing.write_all(b" ").await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    until_cut_off(&mut reading, dribble).await;
    relay.stop().await.unwrap();
}

/// Nobody reads on for whoever does not want to know any more.
#[tokio::test]
async fn r_sub_6_a_subscription_that_is_closed_is_not_read_for_any_more() {
    let relay = start(Config::in_memory()).await;
    let to = person(2);
    let mut writer = Client::connect(&relay.url()).await;
    let content = "x".repeat(20_000);
    const COUNT: u32 = 800;
    for n in 0..COUNT {
        let event = person(100 + n % 50).wrap(&to, &format!("{n}{content}"));
        writer.send(ClientFrame::event(event.json())).await;
        if n % 50 == 49 {
            for _ in 0..50 {
                assert!(matches!(writer.receive().await, RelayFrame::Ok(_, true, _)));
            }
        }
    }
    let before = relay.metrics().delivered_stored.get();
    let mut reader = Client::connect_as(&relay.url(), &to).await;
    let id = subscription("long");
    reader.send(ClientFrame::req(&id, &[mailbox(&to)])).await;
    let first = reader.receive().await;
    assert!(matches!(first, RelayFrame::Event(..)), "{first:?}");
    reader.send(ClientFrame::close(&id)).await;
    // Whatever was on its way comes before the answer to this, and no end of the other.
    reader
        .send(ClientFrame::count(
            &subscription("c"),
            &[Filter::default().with_kinds([2])],
        ))
        .await;
    let mut events: Vec<Event> = Vec::new();
    loop {
        match reader.receive().await {
            RelayFrame::Event(_, event) => events.push(event),
            RelayFrame::Count { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    // All of it once again: meanwhile the other would have come to its end, which began before it.
    let again = subscription("again");
    reader.send(ClientFrame::req(&again, &[mailbox(&to)])).await;
    loop {
        match reader.receive().await {
            RelayFrame::Event(id, event) if id != again => events.push(event),
            RelayFrame::Event(..) => {}
            RelayFrame::Eose { subscription, .. } if subscription == again => break,
            other => panic!("{other:?}"),
        }
    }
    let read = relay.metrics().delivered_stored.get() - before;
    assert!(
        read < 2 * u64::from(COUNT),
        "all {read} were read, {} sent",
        events.len()
    );
    relay.stop().await.unwrap();
}
