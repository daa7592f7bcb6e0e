//! What relays, file servers and peers send to a client, and the pictures that it sends.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use client_core::engine::io::{
    BlobOutcome, Input, OpId, ReconcileAnswer, ReconcileStep, Role, SocketKey,
};
use client_core::fuzzing;
use client_core::media::{self, Kind};
use client_core::runtime::http_date;
use client_core::runtime::relay_document::RelayDocument;
use client_core::runtime::relay_session::{Output, Session};
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::time::Instant;
use wire::blob::BlobUrl;
use wire::{EventId, Filter, PublicKey, Rumor, SubscriptionId, kinds, limits};

use super::header_lines;

/// A relay's messages of negentropy, each behind two bytes of length, to a client that holds as
/// many wraps as the first byte says: it ends, and what it says fits any relay.
pub fn negentropy_answer(data: &[u8]) {
    let Some((size, mut rest)) = data.split_first() else {
        return;
    };
    let count = [0, 1, 40, 700][usize::from(*size % 4)];
    let held = (0..count).map(|n| (1_700_000_000 + n / 3, id(n))).collect();
    let mut answers = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(tail.len());
        let (answer, tail) = tail.split_at(length);
        rest = tail;
        answers.push(answer);
    }
    match fuzzing::compare(held, answers.iter().copied()) {
        Ok((said, [missing, gone])) => {
            assert!(
                said.iter()
                    .all(|message| (2..=30_000).contains(&message.len()))
            );
            assert!(said.len() <= 257);
            assert!(missing <= data.len() / 32 && gone <= usize::try_from(count).unwrap_or(0));
        }
        Err(why) => assert!(!why.is_empty()),
    }
}

fn id(number: u64) -> EventId {
    let mut bytes = [0; 32];
    for (at, byte) in (0_u8..).zip(&mut bytes) {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::from(at) % 8 * 8);
        *byte = u8::try_from(mixed & 0xff).unwrap_or(0).wrapping_add(at);
    }
    EventId::from_bytes(bytes)
}

/// What a relay says of itself (NIP-11): read, or not believed.
pub fn relay_document(data: &[u8]) {
    if let Ok(document) = RelayDocument::decode(data) {
        assert!(document.nips().len() <= data.len());
        let _ = document.limitation.max_message_length;
    }
}

/// The answer of a file server: a line with the status, lines of headers, an empty line, the
/// body. What it says about time can be said back, and its reasons are short.
pub fn blob_answer(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let status = lines.next().unwrap_or_default();
    let Ok(status) = StatusCode::from_bytes(status) else {
        return;
    };
    let head = lines.by_ref().take_while(|line| !line.is_empty());
    let headers: HeaderMap = header_lines::read::<HeaderName, HeaderValue>(head).collect();
    let body: Vec<u8> = lines.flatten().copied().collect();
    match fuzzing::blob_answer(status, &headers) {
        BlobOutcome::Done { sunset } => {
            assert!(status.is_success());
            if let Some(at) = sunset {
                assert_eq!(http_date::parse(&http_date::format(at)), Some(at));
            }
        }
        BlobOutcome::Absent => assert!(matches!(status.as_u16(), 404 | 410)),
        BlobOutcome::Refused {
            status: said,
            reason,
        } => {
            assert_eq!(said, status.as_u16());
            assert!(reason.chars().count() <= 512);
        }
        other => panic!("{other:?}"),
    }
    for have in [1, 65_536] {
        let goes_on = fuzzing::continues_at(&headers, have);
        assert!(!goes_on || headers.contains_key("content-range"));
    }
    let _ = fuzzing::described(&body);
}

/// The bytes as a file message of a peer: refused, or within every bound, with addresses that
/// lead to the blob and nowhere else.
pub fn file_message(data: &[u8]) {
    let Ok(rumor) = Rumor::decode(data) else {
        return;
    };
    let Ok(file) = fuzzing::file_message(&rumor) else {
        return;
    };
    assert!(file.name.len() <= limits::FILE_NAME_BYTES && file.mime.len() <= 127);
    assert!(file.urls.len() <= 5);
    for url in &file.urls {
        let parsed = BlobUrl::parse(url).expect("an address that is kept");
        assert!(parsed.hash == file.blob && parsed.to_string() == *url);
    }
    assert!(
        file.cipher_size
            .is_none_or(|size| size <= 2 * limits::FILE_BYTES)
    );
    assert!(
        file.plain_size
            .is_none_or(|size| size <= limits::FILE_BYTES)
    );
}

/// A picture on its way out: refused, or without what tells place and camera; a second pass finds
/// nothing more.
pub fn picture(data: &[u8]) {
    let head = data.get(..media::HEAD_BYTES).unwrap_or(data);
    let kind = Kind::of(head);
    let Ok(clean) = media::strip(kind, data.to_vec()) else {
        return;
    };
    if !kind.is_rewritten() {
        assert_eq!(clean, data);
        return;
    }
    assert_eq!(Kind::of(&clean), kind);
    // The orientation is written anew where it counts.
    assert!(clean.len() <= data.len() + 64);
    let again = media::strip(kind, clean.clone()).expect("what we write is read");
    assert!(again == clean, "a second pass changes it");
}

/// What happens on one connection to a relay, one thing on each line: `p`, `q`, `w`, `r` begin
/// something, `g` and `x` go on with it or end it, `a` and `n` answer a challenge, `t` lets time
/// pass, `f` is quiet; any other line is a frame of the relay, in which `%0` to `%9` stand for the
/// names of our subscriptions. Whatever the relay says, every operation is answered once.
pub fn relay_session(data: &[u8]) {
    let role = match data.first() {
        Some(first) if first % 2 == 0 => Role::Inbox,
        _ => Role::Publish,
    };
    let key = SocketKey {
        circle: 0,
        role,
        key: PublicKey::from_bytes([7; 32]),
        relay: "wss://relay.example".parse().expect("a URL"),
        is_own: false,
    };
    let mut session = Session::new(key, StdRng::seed_from_u64(2), Duration::from_secs(15));
    let mut heard = Heard::default();
    let mut now = Instant::now();
    let (mut begun, event) = (0, id(7));
    let json = Bytes::from_static(b"{}");
    let wraps = || Filter::default().with_kinds([kinds::WRAP]);
    for line in data.split(|byte| *byte == b'\n').take(200) {
        let mut begin = || {
            begun += 1;
            OpId(begun)
        };
        match line {
            b"p" => session.publish(begin(), event, json.clone(), now),
            b"q" => session.query(begin(), wraps(), false, now),
            b"w" => session.query(begin(), wraps(), true, now),
            b"r" => {
                let step = ReconcileStep::Open {
                    filter: wraps(),
                    message: vec![0x61],
                };
                session.reconcile(begin(), step, now);
            }
            b"g" | b"x" => {
                if let Some(op) = heard.ours.pop() {
                    let step = match line {
                        b"g" => ReconcileStep::Next {
                            message: vec![0x61, 1],
                        },
                        _ => ReconcileStep::Close,
                    };
                    session.reconcile(op, step, now);
                    if line == b"x" {
                        *heard.finals.entry(op).or_default() += 1;
                    }
                }
            }
            b"a" => session.authenticate(event, b"{}", now),
            b"n" => session.stay_anonymous(now),
            b"t" => {
                now += Duration::from_secs(9);
                session.expire(now);
            }
            b"f" => session.flush_events(),
            frame => {
                if session.frame(&heard.named(frame), now).is_err() {
                    break;
                }
            }
        }
        heard.take(&mut session);
        assert_eq!(session.is_idle(), heard.finals.len() as u64 == begun);
    }
    session.disconnected("the end");
    heard.take(&mut session);
    for op in std::mem::take(&mut heard.ours) {
        let step = ReconcileStep::Next {
            message: vec![0x61],
        };
        session.reconcile(op, step, now);
    }
    heard.take(&mut session);
    assert!(session.is_idle() && heard.challenged <= 16);
    for op in 1..=begun {
        assert_eq!(heard.finals.get(&OpId(op)), Some(&1), "operation {op}");
    }
}

/// What came out of a session.
#[derive(Default)]
struct Heard {
    subscriptions: Vec<String>,
    challenged: usize,
    finals: BTreeMap<OpId, u32>,
    /// Reconciliations in which it is our turn.
    ours: Vec<OpId>,
}

impl Heard {
    fn take(&mut self, session: &mut Session) {
        for output in session.take_outputs() {
            match output {
                Output::Send(frame) => {
                    let frame: serde_json::Value = serde_json::from_str(&frame).expect("JSON");
                    if matches!(frame[0].as_str(), Some("REQ" | "NEG-OPEN")) {
                        let name = frame[1].as_str().unwrap_or_default();
                        assert!(SubscriptionId::new(name).is_ok());
                        self.subscriptions.push(name.to_owned());
                    }
                }
                Output::Input(Input::Challenged { challenge, .. }) => {
                    assert!(challenge.len() <= limits::CHALLENGE_BYTES);
                    self.challenged += 1;
                }
                Output::Input(Input::Published { op, .. } | Input::QueryEnded { op, .. }) => {
                    *self.finals.entry(op).or_default() += 1;
                }
                Output::Input(Input::Reconciled { op, answer }) => match answer {
                    ReconcileAnswer::Message(_) => self.ours.push(op),
                    _ => *self.finals.entry(op).or_default() += 1,
                },
                Output::Input(Input::Events { op, events }) => {
                    assert!(!events.is_empty() && events.len() <= 64);
                    assert!(!self.finals.contains_key(&op), "events after the end");
                }
                Output::Input(Input::CaughtUp { op }) => {
                    assert!(!self.finals.contains_key(&op), "caught up after the end");
                }
                Output::Input(other) => panic!("{other:?}"),
            }
        }
    }

    /// A frame with the names of our subscriptions in the place of their numbers.
    fn named(&self, frame: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(frame.len());
        let mut rest = frame;
        while let Some((first, tail)) = rest.split_first() {
            let digit = tail
                .first()
                .filter(|digit| *first == b'%' && digit.is_ascii_digit());
            match digit.and_then(|digit| self.subscriptions.get(usize::from(digit - b'0'))) {
                Some(name) => {
                    out.extend_from_slice(name.as_bytes());
                    rest = &tail[1..];
                }
                None => {
                    out.push(*first);
                    rest = tail;
                }
            }
        }
        out.into()
    }
}
