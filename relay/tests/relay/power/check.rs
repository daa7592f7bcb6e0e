//! What must hold of a store on a disk that lost power.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use sotto_relay::config::IndexEngine;
use sotto_relay::policy::Rules;
use sotto_relay::store::Opened;
use sotto_relay::store::recovery::{self, DiskOptions};
use wire::{Event, EventId, Filter, PublicKey};

use super::load::Fate;
use crate::files;
use crate::support::{mailbox, now, person};

/// Opens the store in `data`, in which the facts must hold. `what` tells the failure.
pub fn check(facts: &[(Event, Fate)], engine: IndexEngine, data: &Path, what: &str) {
    let gone = facts
        .iter()
        .filter(|(_, fate)| matches!(fate, Fate::Gone { .. }));
    let gone: Vec<&Event> = gone.map(|(event, _)| event).collect();
    // A deletion that was acknowledged has reached the disk, whatever the next start does.
    let deleted = facts
        .iter()
        .filter(|(_, fate)| *fate == Fate::Gone { is_deleted: true });
    let deleted: Vec<&Event> = deleted.map(|(event, _)| event).collect();
    assert_gone(&deleted, data, &format!("{what}, before the start"));

    let mut opened = open(data, engine, what);
    while opened.writer.sweep(now()).unwrap() > 0 {}
    opened.writer.compact_one(now(), false).unwrap();
    assert_served(facts, &opened, what);
    assert_gone(&gone, data, what);

    let kept = |wanted: fn(&Fate) -> bool| {
        let kept = facts.iter().filter(|(_, fate)| wanted(fate));
        kept.map(|(event, _)| event.clone()).collect::<Vec<Event>>()
    };
    let present = kept(|fate| *fate == Fate::Present);
    for (event, answer) in present.iter().zip(files::write(&mut opened, &present)) {
        assert!(
            answer.message.starts_with("duplicate:"),
            "{what}: {} {answer:?}",
            event.id()
        );
    }
    let deleted = kept(|fate| *fate == Fate::Gone { is_deleted: true });
    for (event, answer) in deleted.iter().zip(files::write(&mut opened, &deleted)) {
        assert!(
            answer.message.starts_with("blocked:"),
            "{what}: {} {answer:?}",
            event.id()
        );
    }
    let to = person(2);
    let new: Vec<Event> = (0..20)
        .map(|n| person(9_000 + n).wrap(&to, "new"))
        .collect();
    let answers = files::write(&mut opened, &new);
    assert!(
        answers.iter().all(|answer| answer.accepted),
        "{what}: {answers:?}"
    );
    opened.store.close().unwrap();
    drop(opened);

    let mut facts = facts.to_vec();
    facts.extend(new.into_iter().map(|event| (event, Fate::Present)));
    let opened = open(data, engine, what);
    assert_served(&facts, &opened, &format!("{what}, after another start"));
}

fn open(data: &Path, engine: IndexEngine, what: &str) -> Opened {
    let options = DiskOptions {
        segment_bytes: 65_536,
        ..files::options(data, engine)
    };
    recovery::open(&options, Rules::default()).unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// By every way to ask.
fn assert_served(facts: &[(Event, Fate)], opened: &Opened, what: &str) {
    let everybody: Vec<PublicKey> = (0..10).map(|n| person(n).key()).collect();
    let ids = Filter::default().with_ids(facts.iter().map(|(event, _)| event.id()));
    let served = |filter: Filter| -> HashMap<EventId, Event> {
        let found = files::find(opened, filter, &everybody);
        let count = found.len();
        let found: HashMap<_, _> = found.into_iter().map(|event| (event.id(), event)).collect();
        assert_eq!(found.len(), count, "{what}: an event is served twice");
        found
    };
    let found = served(ids);
    let mut addresses: BTreeMap<&str, (bool, usize)> = BTreeMap::new();
    for (event, fate) in facts {
        let served = found.get(&event.id());
        match fate {
            Fate::Present => assert!(served.is_some(), "{what}: {} is lost", event.id()),
            Fate::Gone { .. } => assert!(served.is_none(), "{what}: {} is back", event.id()),
            Fate::Open | Fate::Superseded => {}
        }
        if let Some(served) = served {
            assert_eq!(served.json(), event.json(), "{what}");
        }
        if event.kind() == 30_078 {
            let d = event.tags().values("d").next().unwrap();
            let (must, count) = addresses.entry(d).or_default();
            *must |= matches!(fate, Fate::Present | Fate::Superseded);
            *count += usize::from(served.is_some());
        }
    }
    for (d, (must, count)) in addresses {
        assert!(count <= 1, "{what}: {count} versions of {d}");
        assert!(count == 1 || !must, "{what}: no version of {d} is left");
    }
    // The ways to ask agree.
    let matching = |filter: &Filter| -> HashSet<EventId> {
        let matching = found.values().filter(|event| filter.matches(event));
        matching.map(Event::id).collect()
    };
    let mut filters: Vec<Filter> = (2..6).map(|n| mailbox(&person(n))).collect();
    filters.extend((5..8).map(|n| Filter::default().with_authors([person(n).key()])));
    filters.extend([1, 5, 30_078].map(|kind| Filter::default().with_kinds([kind])));
    filters.push(Filter::default());
    for filter in filters {
        let asked: HashSet<EventId> = served(filter.clone()).into_keys().collect();
        assert_eq!(asked, matching(&filter), "{what}: {filter:?}");
    }
}

/// No file holds a byte of them: every sector of a content would show its mark.
pub fn assert_gone(events: &[&Event], data: &Path, what: &str) {
    let mut needles = Needles::default();
    for event in events {
        needles.add(event.sig().as_bytes().to_vec(), event);
        needles.add(event.sig().to_hex().into_bytes(), event);
        needles.add(
            event
                .content()
                .as_bytes()
                .iter()
                .copied()
                .take(15)
                .collect(),
            event,
        );
        // The request to delete a note is public, and names it.
        if event.kind() != 1 {
            needles.add(event.id().to_hex().into_bytes(), event);
            needles.add(event.id().as_bytes().to_vec(), event);
        }
    }
    // A start that had acknowledged nothing may have left no folder.
    let paths = data.exists().then(|| files::files(data));
    for path in paths.into_iter().flatten() {
        for (start, bytes) in files::extents(&path) {
            if let Some((at, id)) = needles.find(&bytes) {
                let at = start + at as u64;
                panic!("{what}: {id} is still in {} at {at}", path.display());
            }
        }
    }
}

/// Many byte strings looked for at once.
#[derive(Default)]
struct Needles {
    by_start: HashMap<[u8; 8], Vec<(Vec<u8>, EventId)>>,
}

impl Needles {
    fn add(&mut self, needle: Vec<u8>, of: &Event) {
        if let Some(start) = needle.first_chunk() {
            self.by_start
                .entry(*start)
                .or_default()
                .push((needle, of.id()));
        }
    }

    fn find(&self, bytes: &[u8]) -> Option<(usize, EventId)> {
        let mut firsts = vec![false; 1 << 16];
        for [one, other, ..] in self.by_start.keys() {
            firsts[usize::from(*one) << 8 | usize::from(*other)] = true;
        }
        for (at, start) in bytes.windows(8).enumerate() {
            if !firsts[usize::from(start[0]) << 8 | usize::from(start[1])] {
                continue;
            }
            let Some(needles) = self.by_start.get(start) else {
                continue;
            };
            for (needle, id) in needles {
                if bytes[at..].starts_with(needle) {
                    return Some((at, *id));
                }
            }
        }
        None
    }
}
