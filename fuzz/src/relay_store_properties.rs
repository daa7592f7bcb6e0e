//! What the relay reads from its own disk: after a crash, a power loss or damage, anything may lie
//! there. Checksums are put right before it is read, so that what lies behind them is reached.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::OnceLock;

use bytes::Bytes;
use secp256k1::{Keypair, SECP256K1, SecretKey};
use sotto_relay::config::IndexEngine;
use sotto_relay::policy::{self, Rules};
use sotto_relay::store::keys::{self, Entry, Hasher, Place};
use sotto_relay::store::log::MAGIC;
use sotto_relay::store::record::{self, ALIGN, Header, Record};
use sotto_relay::store::recovery::{self, DiskOptions};
use sotto_relay::store::runs::RunsIndex;
use sotto_relay::store::{Index as _, StoreError, Stored};
use wire::{Event, EventDraft, Filter, PublicKey, Signature, Tag, Tags, kinds};

/// Header and body of one record of the log, with the checksums as they are and put right. A
/// record that is read is written the same. The same bytes as rows of the index.
pub fn log_record(data: &[u8]) {
    if let Some((head, body)) = data.split_first_chunk::<ALIGN>() {
        if let Some(header) = Header::decode(head) {
            let _ = header.record(Bytes::copy_from_slice(body));
        }
        let [l0, l1, l2, l3, kind, ..] = *head;
        // As long as the header says, where there is as much: behind it lies padding.
        let len = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        let body = body.get(..len).unwrap_or(body);
        let head = header(kind, body);
        if let Some(header) = Header::decode(&head) {
            assert_eq!(usize::try_from(header.len()).ok(), Some(body.len()));
            if let Some(record) = header.record(Bytes::copy_from_slice(body)) {
                written_again(&record, &head, body);
            }
        }
    }
    if let Ok(entry) = Entry::decode(data) {
        assert!(data.starts_with(&entry.encode()));
    }
    if let Ok((a, b)) = keys::decode_pair(Some(data)) {
        assert!(data.starts_with(&keys::pair(a, b)));
    }
    for prefix in [keys::by_time(), keys::by_kind(7)] {
        if let Some((time, id)) = keys::split_at(data, prefix.len()) {
            let key = keys::at(prefix.clone(), u64::MAX - time, &id);
            assert_eq!(key.get(prefix.len()..), data.get(prefix.len()..));
        }
    }
    let end = keys::end_of(data);
    assert!(end.is_empty() || (end.as_slice() > data && !end.starts_with(data)));
}

/// A header with both checksums right.
fn header(kind: u8, body: &[u8]) -> [u8; ALIGN] {
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
    let crc = match kind {
        1 => 0,
        _ => crc32fast::hash(body),
    };
    let mut head = [0; ALIGN];
    head[..4].copy_from_slice(&len);
    head[4] = kind;
    head[8..12].copy_from_slice(&crc.to_le_bytes());
    let own = crc32fast::hash(&head[..12]);
    head[12..].copy_from_slice(&own.to_le_bytes());
    head
}

fn written_again(record: &Record, head: &[u8; ALIGN], body: &[u8]) {
    let mut out = Vec::new();
    let len = record::encode(record, &mut out);
    let len = len.expect("what was read can be written");
    assert_eq!(out.len() as u64, record::size(len));
    match record {
        Record::Erased => {}
        Record::Event(stored) => {
            assert_eq!(&out[..ALIGN], head);
            assert_eq!(&out[ALIGN..][..body.len()], body);
            stored_event(stored);
        }
        // Bytes behind what such a record says are left aside.
        _ => assert!(body.starts_with(&out[ALIGN..][..usize::try_from(len).unwrap_or(0)])),
    }
}

/// What is told of an event without its JSON is what its JSON says, where it was written by us.
fn stored_event(stored: &Stored) {
    assert!(stored.body().ends_with(&stored.json()));
    assert_eq!(stored.item(), (stored.created_at(), stored.id()));
    let Some(event) = stored.event() else {
        return;
    };
    let keys: Vec<PublicKey> = event
        .tags()
        .people()
        .take(2)
        .chain([event.pubkey()])
        .collect();
    let filters = [
        Filter::default(),
        Filter::default().with_kinds([event.kind()]),
        Filter::default().with_tag('p', keys.iter().map(PublicKey::to_hex)),
        Filter::default().with_ids([stored.id()]),
    ];
    let own = Stored::of(&event);
    assert_eq!(Stored::from_body(own.body().clone()).as_ref(), Some(&own));
    for filter in &filters {
        for auth in [&[][..], &keys[..1], &keys] {
            let seen = own.is_for(filter, auth);
            assert_eq!(
                seen,
                filter.matches(&event) && policy::may_read(&event, auth)
            );
            let _ = stored.is_for(filter, auth);
        }
    }
}

/// A log as a script writes it: whole records, torn ones, damage, and records about other
/// records. Opening it serves events that were written and not taken back, leaves of the others
/// no byte, and finds the same again afterwards.
pub fn log_segment(data: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    std::fs::create_dir(&log).expect("a folder");
    std::fs::write(folder.path().join("secret"), [7; 32]).expect("a file");
    let hasher = Hasher::new(&[7; 32]).expect("a secret");
    let mut script = Script::new(data);
    let mut segment = MAGIC.to_vec();
    let mut number = 1_u32;
    let mut places: Vec<(Place, Option<usize>)> = Vec::new();
    let mut replaced = BTreeSet::new();
    while let Some(step) = script.byte() {
        let event = usize::from(script.byte().unwrap_or(0)) % events().len();
        let target = places.get(usize::from(script.byte().unwrap_or(0)) % places.len().max(1));
        let id = |event: Option<usize>| hasher.id(&events()[event.unwrap_or(0)].id());
        let record = match (step % 12, target) {
            // What was replaced is refused when it comes again.
            (0..=2, _) if replaced.contains(&event) => continue,
            (0..=2, _) => Some(Record::Event(Stored::of(&events()[event]))),
            (3, Some((place, of))) => Some(Record::Erasure {
                place: *place,
                id: id(*of),
            }),
            // A newer version of an address, and in the same batch what it replaces.
            (4, Some((place, Some(of)))) if is_newer(event, *of) && !replaced.contains(&event) => {
                replaced.insert(*of);
                let replacement = Record::Replacement {
                    place: *place,
                    id: id(Some(*of)),
                    by: id(Some(event)),
                };
                record::encode(&replacement, &mut segment).expect("a record");
                Some(Record::Event(Stored::of(&events()[event])))
            }
            (5, _) => Some(Record::Deletion {
                deletion: hasher.deletion(&events()[event].id(), &events()[0].pubkey()),
                until: u64::from(step) << 40,
            }),
            (6, _) => Some(Record::AddressDeletion {
                address: hasher.address(10_050, &events()[0].pubkey(), ""),
                up_to: u64::from(step),
            }),
            (7, _) => Some(Record::Vanish {
                author: hasher.author(&events()[0].pubkey()),
                up_to: u64::from(step),
            }),
            // A record of any form, but for those that name a place: only we write them.
            (8, _) => {
                let kind = [0, 1, 2, 4, 5, 6, 8, 9][event];
                let most = usize::from(script.byte().unwrap_or(0));
                let body = script.bytes(most);
                segment.extend(header(kind, body));
                segment.extend_from_slice(body);
                None
            }
            // Damage.
            (9, _) => {
                let most = usize::from(script.byte().unwrap_or(0));
                segment.extend_from_slice(script.bytes(most));
                None
            }
            (10, _) => {
                segment.extend(record::erased(u32::try_from(event).unwrap_or(0)));
                None
            }
            (11, _) => {
                std::fs::write(log.join(format!("{number:08x}.seg")), &segment).expect("a file");
                number += 1;
                segment = MAGIC.to_vec();
                continue;
            }
            _ => None,
        };
        if let Some(record) = record {
            let offset = segment.len() as u64;
            let len = record::encode(&record, &mut segment).expect("a record");
            let place = Place {
                segment: number,
                offset,
                len,
            };
            let of = matches!(record, Record::Event(_)).then_some(event);
            places.push((place, of));
        } else {
            let aligned = segment.len().next_multiple_of(ALIGN);
            segment.resize(aligned, 0);
        }
    }
    // The last batch is torn at any byte.
    let torn = usize::from(script.torn) * 3;
    segment.truncate(segment.len().saturating_sub(torn).max(MAGIC.len()));
    std::fs::write(log.join(format!("{number:08x}.seg")), &segment).expect("a file");

    let served = open(folder.path()).expect("the store opens");
    let bytes = bytes_of(&log);
    for event in events() {
        let is_served = served.contains(event.json());
        let trace = event.sig().to_hex();
        let is_there = memchr::memmem::find(&bytes, trace.as_bytes()).is_some();
        assert_eq!(is_served, is_there, "kind {}", event.kind());
    }
    let again = open(folder.path()).expect("the store opens again");
    assert!(again == served && bytes_of(&log) == bytes);
}

/// Whether one event is a newer version of the other's address.
fn is_newer(event: usize, of: usize) -> bool {
    let (event, of) = (&events()[event], &events()[of]);
    let address = |event: &Event| (event.kind(), event.pubkey());
    let version = |event: &Event| (event.created_at(), std::cmp::Reverse(event.id()));
    event.kind() >= 10_000 && address(event) == address(of) && version(event) > version(of)
}

/// What the store in a folder serves.
fn open(folder: &Path) -> Result<BTreeSet<Bytes>, StoreError> {
    let options = DiskOptions {
        folder,
        index: IndexEngine::Memory,
        segment_bytes: 1 << 20,
        reserve_bytes: 0,
    };
    let opened = recovery::open(&options, Rules::default())?;
    let mut served = BTreeSet::new();
    opened.store.for_each(0, |json| {
        assert!(served.insert(json), "served twice");
        Ok(())
    })?;
    opened.store.close()?;
    Ok(served)
}

fn bytes_of(log: &Path) -> Vec<u8> {
    let mut names: Vec<_> = std::fs::read_dir(log)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    names.sort();
    names
        .iter()
        .flat_map(|path| std::fs::read(path).expect("a file"))
        .collect()
}

/// Bytes that are taken from the front; the last one is kept for the tear.
struct Script<'d> {
    rest: &'d [u8],
    torn: u8,
}

impl<'d> Script<'d> {
    fn new(data: &'d [u8]) -> Self {
        // What a store of half a megabyte would add is time.
        let data = data.get(..600).unwrap_or(data);
        match data.split_last() {
            Some((torn, rest)) => Self { rest, torn: *torn },
            None => Self { rest: &[], torn: 0 },
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn bytes(&mut self, most: usize) -> &'d [u8] {
        let (bytes, rest) = self.rest.split_at(most.min(self.rest.len()));
        self.rest = rest;
        bytes
    }
}

/// Events that a log may hold: wraps, notes, versions of one address, with one author each way.
fn events() -> &'static [Event] {
    static EVENTS: OnceLock<Vec<Event>> = OnceLock::new();
    EVENTS.get_or_init(|| {
        let key = |number: u8| {
            let secret = SecretKey::from_slice(&[number; 32]).expect("a key");
            Keypair::from_secret_key(SECP256K1, &secret)
        };
        let public = |key: &Keypair| PublicKey::from_bytes(key.x_only_public_key().0.serialize());
        let (author, other) = (key(1), key(2));
        let sign = |by: &Keypair, kind, created_at, tags: &[&[&str]], content: &str| {
            let draft = EventDraft {
                pubkey: public(by),
                created_at,
                kind,
                tags: tags
                    .iter()
                    .map(|tag| Tag::new(tag.iter().copied()))
                    .collect::<Tags>(),
                content: content.to_owned(),
            };
            let signature = SECP256K1.sign_schnorr_no_aux_rand(draft.id().as_bytes(), by);
            Event::from_signature(draft, Signature::from_bytes(signature.to_byte_array()))
        };
        let to = public(&other).to_hex();
        vec![
            sign(&author, kinds::WRAP, 5, &[&["p", &to]], "first"),
            sign(&other, kinds::WRAP, 6, &[&["p", &to]], &"long".repeat(60)),
            sign(&author, 1, 7, &[], "note"),
            sign(
                &author,
                kinds::INBOX_RELAYS,
                8,
                &[&["relay", "wss://a.example"]],
                "",
            ),
            sign(
                &author,
                kinds::INBOX_RELAYS,
                9,
                &[&["relay", "wss://b.example"]],
                "",
            ),
            sign(&author, kinds::INBOX_RELAYS, 9, &[], "same second"),
            sign(&author, kinds::APP_DATA, 10, &[&["d", "x"]], "old"),
            sign(&author, kinds::APP_DATA, 11, &[&["d", "x"]], "new"),
        ]
    })
}

/// The first byte says which: a run of the index whose checksums are put right, or the list of
/// runs with its own put right. Reading it neither panics nor takes more memory than there is in
/// the file, and what a scan shows is in order where the file was.
pub fn runs_index(data: &[u8]) {
    let Some((which, rest)) = data.split_first() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let list = match which % 2 {
        0 => {
            std::fs::write(folder.path().join("1.run"), healed(rest)).expect("a file");
            b"sotto/runs/1\n1 0".to_vec()
        }
        _ => rest.to_vec(),
    };
    let crc = crc32fast::hash(&list);
    let text = [&list[..], format!("\ncrc {crc:08x}\n").as_bytes()].concat();
    std::fs::write(folder.path().join("runs"), text).expect("a file");
    let Ok(index) = RunsIndex::open(folder.path()) else {
        return;
    };
    let mut rows: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut bytes = 0;
    let scanned = index.scan(&[], &[0xff; 65], &mut |key, value| {
        bytes += key.len() + value.len();
        rows.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    });
    // A block may be listed many times, but each time it is listed costs bytes of the tail.
    assert!(bytes <= rest.len().saturating_mul(rest.len()).saturating_add(64));
    let is_sorted = rows.is_sorted_by(|(a, _), (b, _)| a < b);
    for (key, value) in rows.iter().take(8) {
        let found = index.get(key);
        if scanned.is_ok() && is_sorted {
            // The filter of a run and its blocks may contradict each other.
            assert!(
                found.is_err()
                    || found.is_ok_and(|found| found.is_none_or(|found| found == *value))
            );
        }
    }
    let _ = index.get(b"absent");
}

/// A run in which lengths and checksums are as a reader wants them.
fn healed(run: &[u8]) -> Vec<u8> {
    const RUN_MAGIC: &[u8; 16] = b"sotto/run/1\0\0\0\0\n";
    const FOOTER: usize = 20;
    let mut run = run.to_vec();
    if run.len() < RUN_MAGIC.len() + FOOTER {
        return run;
    }
    run[..RUN_MAGIC.len()].copy_from_slice(RUN_MAGIC);
    let footer = run.len() - FOOTER;
    let claimed = u64::from_le_bytes(run[footer..][..8].try_into().expect("eight bytes"));
    let tail = usize::try_from(claimed).map_or(footer, |at| at.clamp(RUN_MAGIC.len(), footer));
    let tail_len = footer - tail;
    run[footer..][..8].copy_from_slice(&(tail as u64).to_le_bytes());
    run[footer + 8..][..8].copy_from_slice(&(tail_len as u64).to_le_bytes());
    let mut at = tail + 4;
    for _ in 0..64 {
        let Some(key_len) = run[..footer].get(at).map(|len| usize::from(*len)) else {
            break;
        };
        let Some(place) = run[..footer].get(at + 1 + key_len..at + 1 + key_len + 12) else {
            break;
        };
        let offset = u64::from_le_bytes(place[..8].try_into().expect("eight bytes"));
        let len = u32::from_le_bytes(place[8..].try_into().expect("four bytes"));
        at += 1 + key_len + 12;
        let (Ok(offset), Ok(len)) = (usize::try_from(offset), usize::try_from(len)) else {
            continue;
        };
        if let Some(end) = offset.checked_add(len)
            && end.saturating_add(4) <= tail
            && offset >= RUN_MAGIC.len()
        {
            let crc = crc32fast::hash(&run[offset..end]).to_le_bytes();
            run[end..end + 4].copy_from_slice(&crc);
        }
    }
    let crc = crc32fast::hash(&run[tail..footer]).to_le_bytes();
    run[footer + 16..].copy_from_slice(&crc);
    run
}
