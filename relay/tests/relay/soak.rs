//! Everything at once, over and over: what the relay takes must not grow with time.
//!
//! Each round brings the same load, and everything in it has an end a few seconds later, so that
//! what is stored stays about the same. Ten minutes with `SOTTO_SLOW=1`, with pauses that keep it
//! at a moderate load; otherwise a few rounds, one after the other.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::SinkExt as _;
use sotto_relay::config::IndexEngine;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use wire::{ClientFrame, Event, Filter, RelayFrame};

use crate::cost::{Cost, on_disk};
use crate::crash::{Program, binary, store_section};
use crate::operator::get;
use crate::support::{Client, Comparison, Person, mailbox, now, person, subscription};

/// How long slow mode goes on, and how often a round begins in it.
const SOAK: Duration = Duration::from_secs(600);
const PACE: Duration = Duration::from_millis(250);
/// Of resident memory that the later part of a soak may have more than the earlier. The index on
/// disk keeps tables in memory for the rows that it has written, removed ones among them until a
/// compaction, and merges them by the tens of thousands; the allocator keeps what that took.
const MORE_MEMORY: u64 = 6 * 1024 * 1024;
/// The same without those: some 300 bytes for each connection that came and went.
const LITTLE_MORE: u64 = 2 * 1024 * 1024;
/// What a data folder may have when hardly anything in it is alive, which is one segment of the log
/// and little more; and how long that may take: the last event expires after ten seconds, and what is
/// remembered of it is forgotten fifteen later.
const LEFT_BYTES: u64 = 3 << 19;
const ALL_EXPIRED: Duration = Duration::from_secs(120);
const RECIPIENTS: u32 = 8;

/// The deletions of wraps are forgotten soon, and segments close, die and are moved all the time.
const CONFIGURATION: &str = "[policy]
wrap_past_s = 10
future_s = 5
[store]
segment_bytes = 1048576
[limits]
reconcile_idle_s = 1
";

/// Whether values in the order of time grow: their median in the last quarter is compared with
/// that in the second. The first is for warming up; single peaks move no median, and what goes up
/// and down within a quarter does not either.
fn grows(values: &[u64], allowance: u64) -> bool {
    let quarter = values.len() / 4;
    let median = |part: &[u64]| {
        let mut part = part.to_vec();
        part.sort_unstable();
        part[part.len() / 2]
    };
    let earlier = median(&values[quarter..quarter * 2]);
    let later = median(&values[values.len() - quarter..]);
    later > earlier + allowance
}

#[test]
fn noise_is_told_from_growth() {
    let noise = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44;
    let around = |level: fn(u64) -> u64| -> Vec<u64> {
        (0..1_000)
            .map(|n| 50_000_000 + level(n) + noise(n))
            .collect()
    };
    assert!(!grows(&around(|_| 0), MORE_MEMORY));
    // Warming up; sixteen megabytes that come and go; single peaks.
    assert!(!grows(&around(|n| n.min(200) * 100_000), MORE_MEMORY));
    assert!(!grows(&around(|n| (n % 90) * 180_000), MORE_MEMORY));
    let peaks = around(|n| if n % 50 == 0 { 100_000_000 } else { 0 });
    assert!(!grows(&peaks, MORE_MEMORY));
    // Fourteen thousand bytes a round are a leak, with or without what comes and goes.
    assert!(grows(&around(|n| n * 14_000), MORE_MEMORY));
    assert!(grows(
        &around(|n| n * 14_000 + (n % 90) * 180_000),
        MORE_MEMORY
    ));
    assert!(!grows(&[7; 12], 0));
    assert!(grows(&[7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 8, 8], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn r_soak_1_what_the_relay_takes_does_not_grow_with_time() {
    match std::env::var_os("SOTTO_SLOW") {
        Some(_) => {
            let begun = Instant::now();
            let goes_on = |_| begun.elapsed() < SOAK;
            soak(IndexEngine::Runs, PACE, goes_on, MORE_MEMORY).await;
        }
        None => soak(IndexEngine::Runs, Duration::ZERO, |n| n < 12, MORE_MEMORY).await,
    }
}

/// With the rows that live and no others, so that what connections leave behind shows.
#[tokio::test(flavor = "multi_thread")]
async fn r_soak_1_connections_that_came_and_went_leave_nothing() {
    match std::env::var_os("SOTTO_SLOW") {
        Some(_) => soak(IndexEngine::Memory, PACE / 2, |n| n < 1_200, LITTLE_MORE).await,
        None => soak(IndexEngine::Memory, Duration::ZERO, |n| n < 8, MORE_MEMORY).await,
    }
}

/// A round at each `pace` as long as it `goes_on`; then a look at everything that could have grown.
#[allow(
    clippy::print_stderr,
    reason = "whoever waits ten minutes wants to see figures"
)]
async fn soak(
    engine: IndexEngine,
    pace: Duration,
    goes_on: impl Fn(u32) -> bool,
    more_memory: u64,
) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let configuration = CONFIGURATION.replace("[store]\n", &store_section(engine));
    let mut program = Program::configured(&data, &configuration);
    let is_slow = !pace.is_zero();
    let mut stays = Stays::connect(&program.url).await;
    // What is there when nobody but them is connected.
    let quiet = Cost::of(&program.child);
    let (mut costs, mut logs) = (Vec::new(), Vec::new());
    let mut number = 0;
    while goes_on(number) {
        let next = tokio::time::Instant::now() + pace;
        number += 1;
        round(&program.url, number, &mut stays).await;
        // Whoever came is gone, whatever it left behind.
        let all_left = |cost: &Cost| cost.sockets == quiet.sockets;
        costs.push(Cost::until(&program.child, "as quiet as before", all_left).await);
        logs.push(on_disk(&data.join("log")));
        if is_slow && number % 200 == 0 {
            eprintln!("round {number}: {:?}, log {:?}", costs.last(), logs.last());
        }
        tokio::time::sleep_until(next).await;
    }

    let no_growth = |what: &str, values: Vec<u64>, allowance: u64| {
        assert!(!grows(&values, allowance), "{what} grows: {values:?}");
    };
    let of = |value: fn(&Cost) -> u64| costs.iter().map(value).collect::<Vec<_>>();
    no_growth("memory", of(|cost| cost.resident), more_memory);
    // Threads for reading come with a crowd of readers, and go when nobody has read for a while.
    no_growth("threads", of(|cost| cost.threads), 4);
    // A file of the log, a few of the index that wait to be merged.
    no_growth("open files", of(|cost| cost.others), 4);
    no_growth(
        "files of the log",
        logs.iter().map(|(_, files)| *files).collect(),
        2,
    );
    no_growth(
        "the log",
        logs.iter().map(|(bytes, _)| *bytes).collect(),
        2 << 20,
    );

    drop(stays);
    let alone = Cost::until(&program.child, "alone", |cost| cost.sockets < quiet.sockets).await;
    program.signal("-TERM");
    assert_eq!(program.child.wait().unwrap().code(), Some(0));
    // Nothing of it is stuck in the files either: once all has expired and the rows of what is gone
    // are left out, a little is left.
    let until = Instant::now() + ALL_EXPIRED;
    let (bytes, files) = loop {
        let mut compact = binary();
        compact.arg("compact").arg("--data").arg(&data);
        assert!(compact.output().unwrap().status.success());
        let (bytes, files) = on_disk(&data);
        if bytes < LEFT_BYTES {
            break (bytes, files);
        }
        assert!(
            Instant::now() < until,
            "{bytes} bytes are left in {files} files"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    if is_slow {
        eprintln!("{number} rounds; in the end {alone:?}, {bytes} bytes in {files} files");
    }
}

/// Those who stay connected all the time.
struct Stays {
    reader: Client,
    /// Opens a comparison now and then, and never closes one.
    forgetful: Client,
}

impl Stays {
    async fn connect(url: &str) -> Self {
        let mut reader = Client::connect_as(url, &person(1)).await;
        let live = Filter {
            limit: Some(0),
            ..mailbox(&person(1))
        };
        reader.ask(&subscription("live"), &[live]).await.unwrap();
        let forgetful = Client::connect_as(url, &person(2)).await;
        Self { reader, forgetful }
    }

    /// Reads until this one has come.
    async fn hear(&mut self, event: &Event) {
        loop {
            match self.reader.receive().await {
                RelayFrame::Event(_, heard) if heard == *event => return,
                RelayFrame::Event(..) => {}
                other => panic!("no event but {other:?}"),
            }
        }
    }

    async fn forget_a_comparison(&mut self) {
        let (_, first) = Comparison::begin(&[]);
        let open = ClientFrame::neg_open(&subscription("old"), &mailbox(&person(2)), &first);
        self.forgetful.send(open).await;
        loop {
            match self.forgetful.receive().await {
                RelayFrame::NegMsg(..) => return,
                // The one before was silent for too long.
                RelayFrame::NegErr(_, message) => {
                    assert!(message.text.starts_with("closed:"), "{}", message.text);
                }
                other => panic!("no comparison but {other:?}"),
            }
        }
    }
}

async fn round(url: &str, number: u32, stays: &mut Stays) {
    let written = write(url, number).await;
    stays.hear(&written.passed_on).await;
    stays.forget_a_comparison().await;
    read(url, number, &written.wraps).await;
    break_off(url, number).await;
    misbehave(url, number).await;
    let address = url.trim_start_matches("ws://");
    let (head, _) = get(address, "/", "Accept: application/nostr+json\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

struct Written {
    wraps: Vec<Event>,
    passed_on: Event,
}

/// Sends everything, and then waits for every answer.
async fn publish_all(client: &mut Client, events: &[Event]) {
    for event in events {
        let frame = ClientFrame::event(event.json());
        client.socket.feed(Message::text(frame)).await.unwrap();
    }
    client.socket.flush().await.unwrap();
    for _ in events {
        match client.receive().await {
            RelayFrame::Ok(_, true, _) => {}
            other => panic!("not accepted but {other:?}"),
        }
    }
}

/// What expires, what is deleted by either side, what is replaced, what is passed on, who vanishes.
async fn write(url: &str, number: u32) -> Written {
    let mut client = Client::connect(url).await;
    let once = |n: u32| person(1_000 + number * 100 + n);
    let to = |n: u32| person(1 + n % RECIPIENTS);
    let end = |n: u32| (now() + 6 + u64::from(n % 4)).to_string();
    let filling = "x".repeat(900);
    let wraps: Vec<Event> = (0..24)
        .map(|n| {
            let (key, end) = (to(n).key().to_hex(), end(n));
            let tags: [&[&str]; 2] = [&["p", &key], &["expiration", &end]];
            once(n).sign(1059, now(), &tags, &filling)
        })
        .collect();
    publish_all(&mut client, &wraps).await;
    // Many rows of the index each, so that it is written out and merged again and again.
    let wide = |n: u32| {
        let values: Vec<String> = (0..250).map(|tag| format!("{number} {n} {tag}")).collect();
        let end = end(n);
        let mut tags: Vec<[&str; 2]> = values.iter().map(|value| ["t", value.as_str()]).collect();
        tags.push(["expiration", &end]);
        let tags: Vec<&[&str]> = tags.iter().map(<[_; 2]>::as_slice).collect();
        person(30).sign(1, now(), &tags, "wide")
    };
    let leaves = person(20 + number % 4);
    let newer = now() - 1_000_000 + u64::from(number);
    let end = end(0);
    let expiring: &[&str] = &["expiration", &end];
    let note = person(31).sign(1, now(), &[expiring], &format!("note {number}"));
    let mut mixed: Vec<Event> = (0..4).map(wide).collect();
    mixed.extend([
        note.clone(),
        person(number % 4).sign(10_050, newer, &[], &number.to_string()),
        person(32).sign(
            30_078,
            newer,
            &[&["d", &(number % 3).to_string()]],
            &number.to_string(),
        ),
        leaves.sign(1, newer, &[expiring], &format!("leaving {number}")),
        once(50).wrap(&leaves, "for somebody who leaves"),
        once(51).sign(20_001, now(), &[], "passed on to nobody"),
    ]);
    publish_all(&mut client, &mixed).await;
    let id = note.id().to_hex();
    let mut gone: Vec<Event> = (0..8)
        .map(|n| once(n).deletion(&wraps[n as usize]))
        .collect();
    gone.extend((8..16).map(|n| to(n).deletion(&wraps[n as usize])));
    gone.push(person(31).sign(5, now(), &[&["e", &id], &["k", "1"], expiring], ""));
    gone.push(leaves.sign(62, newer, &[&["relay", "ALL_RELAYS"]], ""));
    publish_all(&mut client, &gone).await;
    let key = person(1).key().to_hex();
    let passed_on = once(60).sign(21_059, now(), &[&["p", &key]], "now or never");
    client.put(&passed_on).await;
    Written {
        wraps: wraps[16..].to_vec(),
        passed_on,
    }
}

/// What a client asks in the ordinary way, and gets.
async fn read(url: &str, number: u32, wraps: &[Event]) {
    let of = 1 + number % RECIPIENTS;
    let who: Person = person(of);
    let mut client = Client::connect_as(url, &who).await;
    assert!(client.auth(&person(100 + of)).await.0);
    let found = client.mailbox(&who).await;
    let own = wraps
        .iter()
        .filter(|wrap| wrap.tags().people().next() == Some(who.key()));
    for wrap in own {
        assert!(found.contains(wrap), "an acknowledged wrap is not there");
    }
    let counted = client.count(&[mailbox(&who)]).await.unwrap();
    // Some may have expired since.
    assert!(counted <= found.len() as u64);
    let half: Vec<Event> = found.iter().step_by(2).cloned().collect();
    let compared = client.reconcile(&mailbox(&who), &half).await.unwrap();
    assert!(compared.need.len() <= found.len() - half.len());
    let notes = Filter::default().with_kinds([1, 10_050, 30_078]);
    client.fetch(notes).await.unwrap();
    let mut opened = BTreeMap::new();
    for n in 0..12 {
        let id = subscription(&format!("s{n}"));
        let filter = Filter::default()
            .with_kinds([1])
            .with_tag('t', [n.to_string()]);
        client
            .ask(&id, std::slice::from_ref(&filter))
            .await
            .unwrap();
        opened.insert(n, id);
    }
    for (_, id) in opened.iter().filter(|(n, _)| *n % 2 == 0) {
        client.send(ClientFrame::close(id)).await;
    }
    // Closed as it should be, with half of them open.
    client.socket.close(None).await.unwrap();
    while client.try_receive().await.is_some() {}
}

/// What is left in the middle of something.
async fn break_off(url: &str, number: u32) {
    let address = url.trim_start_matches("ws://");
    drop(TcpStream::connect(address).await.unwrap());
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Ha")
        .await
        .unwrap();
    drop(half);
    drop(Client::connect(url).await);
    let who = person(1 + number % RECIPIENTS);
    // Comparisons that wait for an answer.
    let mut client = Client::connect_as(url, &who).await;
    let (_, first) = Comparison::begin(&[]);
    for name in ["a", "b"] {
        let open = ClientFrame::neg_open(&subscription(name), &mailbox(&who), &first);
        client.send(open).await;
        assert!(matches!(client.receive().await, RelayFrame::NegMsg(..)));
    }
    drop(client);
    // Answers that nobody reads, and what is counted for nobody.
    let mut client = Client::connect_as(url, &who).await;
    for n in 0..6 {
        let filters = [mailbox(&who), Filter::default().with_kinds([1])];
        client
            .send(ClientFrame::req(&subscription(&n.to_string()), &filters))
            .await;
        client
            .send(ClientFrame::count(&subscription("c"), &filters))
            .await;
    }
    drop(client);
    // A message that is not finished.
    let mut client = Client::connect(url).await;
    let stream = client.socket.get_mut();
    stream
        .write_all(&[0x01, 0xfe, 0x40, 0, 0, 0, 0, 0])
        .await
        .unwrap();
    stream.write_all(&[b' '; 8_000]).await.unwrap();
    drop(client);
}

/// What is refused.
async fn misbehave(url: &str, number: u32) {
    let mut client = Client::connect(url).await;
    let forged = String::from_utf8(person(40).note(&number.to_string()).json().to_vec()).unwrap();
    for garbage in [
        "garbage".to_owned(),
        "[\"EVENT\",{}]".to_owned(),
        "[\"REQ\",\"x\",{\"search\":\"x\"}]".to_owned(),
        format!("[{}", "[".repeat(2_000)),
        format!("[\"EVENT\",{}]", forged.replace("\"kind\":1", "\"kind\":2")),
    ] {
        client.send(garbage).await;
        client.receive().await;
    }
    let wrong = person(40).sign(22242, now(), &[&["challenge", "another"]], "");
    assert!(!client.auth_with(&wrong).await.0);
    let (_, first) = Comparison::begin(&[]);
    let notes = Filter::default().with_kinds([1]);
    let id = subscription("n");
    client
        .send(ClientFrame::neg_open(&id, &notes, &first))
        .await;
    assert!(matches!(client.receive().await, RelayFrame::NegMsg(..)));
    client.send("[\"NEG-MSG\",\"n\",\"61000007\"]").await;
    assert!(matches!(client.receive().await, RelayFrame::NegErr(..)));
    // The relay may close before all of it is sent.
    let _ = client
        .try_send("x".repeat(wire::limits::FRAME_BYTES + 1))
        .await;
    while client.try_receive().await.is_some() {}
}
