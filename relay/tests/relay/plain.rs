//! The relay's rules read plainly: every event in one list, every question a walk through it.
//!
//! Written from NIP-01, 09, 40, 59 and 62 and `docs/behaviour/relay.md`, and without the code that
//! it is compared with: no index, no hashes, no transaction.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use wire::filter::Values;
use wire::{Event, EventId, Filter, PublicKey};

/// A relay that keeps everything in a list.
#[derive(Debug, Default)]
pub struct PlainRelay {
    events: Vec<Event>,
    /// Who wants which id gone, and until when that is remembered.
    deletions: Vec<(EventId, PublicKey, u64)>,
    /// Requests to delete that did not say that they were about wraps, and took one away.
    took_wraps: Vec<(EventId, u64)>,
    /// Kind, author and `d`, and up to which time.
    deleted_addresses: Vec<(Address, u64)>,
    vanished: Vec<(PublicKey, u64)>,
    window: Window,
}

type Address = (u16, PublicKey, String);

/// How far the time of a wrap may lie back, and that of anything ahead.
#[derive(Debug, Default, Clone, Copy)]
pub struct Window {
    pub past: u64,
    pub future: u64,
}

impl PlainRelay {
    pub fn new(window: Window) -> Self {
        Self {
            window,
            ..Self::default()
        }
    }

    /// An event arrives at `now`; whether it is accepted.
    pub fn publish(&mut self, event: &Event, now: u64) -> bool {
        let kind = event.kind();
        let at = event.created_at();
        if at > now + self.window.future || expiration(event).is_some_and(|end| end <= now) {
            return false;
        }
        if is_wrap(kind) && at + self.window.past < now {
            return false;
        }
        match kind {
            62 => {
                self.vanish(event.pubkey(), at, now);
                true
            }
            5 => self.delete(event, now),
            20_000..30_000 => !self.is_kept_away(event, now),
            _ => self.store(event, now),
        }
    }

    /// What has expired goes.
    pub fn sweep(&mut self, now: u64) {
        self.events
            .retain(|event| expiration(event).is_none_or(|end| end > now));
    }

    /// What REQ answers, several filters one after the other, each event once.
    pub fn ask(&self, filters: &[Filter], auth: &[PublicKey], now: u64) -> Vec<Event> {
        let visible = self.visible(now);
        let mut found: Vec<Event> = Vec::new();
        for event in filters
            .iter()
            .flat_map(|filter| plainly(&visible, filter, auth))
        {
            if !found.contains(&event) {
                found.push(event);
            }
        }
        found
    }

    /// What COUNT answers.
    pub fn count(&self, filters: &[Filter], auth: &[PublicKey], now: u64) -> u64 {
        let unlimited: Vec<Filter> = filters
            .iter()
            .map(|filter| Filter {
                limit: None,
                ..filter.clone()
            })
            .collect();
        self.ask(&unlimited, auth, now).len() as u64
    }

    /// What has not expired.
    pub fn visible(&self, now: u64) -> Vec<Event> {
        let mut events = self.events.clone();
        events.retain(|event| expiration(event).is_none_or(|end| end > now));
        events
    }

    fn store(&mut self, event: &Event, now: u64) -> bool {
        if self.events.iter().any(|other| other.id() == event.id()) {
            return true;
        }
        if self.is_kept_away(event, now) {
            return false;
        }
        if let Some(address) = address(event) {
            let is_deleted =
                |(of, up_to): &(Address, u64)| *of == address && event.created_at() <= *up_to;
            if self.deleted_addresses.iter().any(is_deleted) {
                return false;
            }
            let is_version = |other: &Event| self::address(other).as_ref() == Some(&address);
            if let Some(other) = self.events.iter().find(|other| is_version(other))
                && version(other) >= version(event)
            {
                return false;
            }
            self.events.retain(|other| !is_version(other));
        }
        self.events.push(event.clone());
        true
    }

    /// Deleted, or of somebody who vanished. A deletion is not deleted (NIP-09), and the times of
    /// wraps are random (NIP-59).
    fn is_kept_away(&self, event: &Event, now: u64) -> bool {
        let may_delete = |key: &PublicKey| {
            *key == event.pubkey() || (is_wrap(event.kind()) && recipient(event) == Some(*key))
        };
        let is_deleted = self
            .deletions
            .iter()
            .any(|(id, key, until)| *id == event.id() && may_delete(key) && *until > now);
        let has_vanished = self
            .vanished
            .iter()
            .any(|(key, up_to)| *key == event.pubkey() && event.created_at() <= *up_to);
        (is_deleted && event.kind() != 5) || (has_vanished && !is_wrap(event.kind()))
    }

    fn delete(&mut self, request: &Event, now: u64) -> bool {
        if self.events.iter().any(|other| other.id() == request.id()) {
            return true;
        }
        if self.is_kept_away(request, now) {
            return false;
        }
        let deleter = request.pubkey();
        let values = |name: &str| -> Vec<String> {
            let named = request.tags().iter().filter(|tag| tag.name() == name);
            named
                .filter_map(|tag| tag.value().map(str::to_owned))
                .collect()
        };
        let kinds = values("k");
        let is_of_wraps = |kind: &String| kind == "1059" || kind == "21059";
        let says_wraps = kinds.iter().any(is_of_wraps);
        // The same request may have taken away a wrap before.
        let is_marked = self
            .took_wraps
            .iter()
            .any(|(id, until)| *id == request.id() && *until > now);
        let mut concerns_wraps = says_wraps || is_marked;
        let window_end = now + self.window.past + self.window.future;
        // Where something else is named too, what is not here may be that.
        let of_absent = match !kinds.is_empty() && kinds.iter().all(is_of_wraps) {
            true => window_end,
            false => u64::MAX,
        };
        let (mut remembered, mut own, mut names_others) = (Vec::new(), Vec::new(), false);
        let mut has_known = false;
        for id in values("e").iter().map(|id| EventId::from_hex(id).unwrap()) {
            let is_known = self
                .deletions
                .iter()
                .any(|(other, key, until)| *other == id && *key == deleter && *until > now);
            let Some(target) = self.events.iter().find(|event| event.id() == id) else {
                match is_marked && is_known {
                    true => has_known = true,
                    false => remembered.push((id, deleter, of_absent)),
                }
                continue;
            };
            let is_wrap_for_them = target.kind() == 1059 && recipient(target) == Some(deleter);
            if is_wrap_for_them || (target.pubkey() == deleter && target.kind() != 5) {
                concerns_wraps |= target.kind() == 1059;
                if target.kind() == 1059 && !says_wraps {
                    self.took_wraps.push((request.id(), window_end));
                }
                let until = match target.kind() {
                    1059 => window_end,
                    _ => u64::MAX,
                };
                remembered.push((id, deleter, until));
                own.push(id);
            } else if [4, 1059].contains(&target.kind()) {
                // Of guarded kinds nobody learns whether they are here: as if they were not.
                remembered.push((id, deleter, of_absent));
            } else {
                names_others |= target.pubkey() != deleter;
            }
        }
        let mut addresses = Vec::new();
        for value in values("a") {
            let mut parts = value.splitn(3, ':');
            let kind = parts.next().unwrap().parse().unwrap();
            let author = PublicKey::from_hex(parts.next().unwrap()).unwrap();
            match author == deleter {
                true => addresses.push((kind, author, parts.next().unwrap().to_owned())),
                false => names_others = true,
            }
        }
        if names_others && remembered.is_empty() && addresses.is_empty() && !has_known {
            return false;
        }
        self.deletions.extend(remembered);
        self.events.retain(|event| !own.contains(&event.id()));
        for of in addresses {
            let up_to = request.created_at();
            self.events
                .retain(|event| address(event).as_ref() != Some(&of) || event.created_at() > up_to);
            self.deleted_addresses.push((of, up_to));
        }
        if !concerns_wraps {
            self.events.push(request.clone());
        }
        true
    }

    fn vanish(&mut self, key: PublicKey, up_to: u64, now: u64) {
        if self
            .vanished
            .iter()
            .any(|(of, to)| *of == key && *to >= up_to)
        {
            return;
        }
        let until = now + self.window.past + self.window.future;
        let deletions = &mut self.deletions;
        self.events.retain(|event| {
            let is_wrap = event.kind() == 1059;
            let goes = (is_wrap && recipient(event) == Some(key))
                || (event.pubkey() == key && event.created_at() <= up_to);
            if goes && is_wrap {
                deletions.push((event.id(), key, until));
            }
            !goes
        });
        self.vanished.push((key, up_to));
    }
}

/// Whether somebody who proved `auth` gets an answer at all (R-AUTH-2).
pub fn may_ask(filters: &[Filter], auth: &[PublicKey]) -> bool {
    let is_open = |filter: &Filter| {
        let kinds = filter.kinds.as_ref();
        kinds.is_some_and(|kinds| [4, 1059, 21059].iter().all(|kind| !kinds.contains(kind)))
    };
    // Of wraps alone, of people alone who are somebody else.
    let is_of_others = |filter: &Filter| {
        let wraps = |kinds: &Values<u16>| {
            !kinds.is_empty() && kinds.iter().all(|kind| [1059, 21059].contains(kind))
        };
        let others = |people: &Values<String>| {
            !people.is_empty() && auth.iter().all(|own| !people.contains(&own.to_hex()))
        };
        filter.kinds.as_ref().is_some_and(wraps) && filter.tags.get('p').is_some_and(others)
    };
    match auth {
        [] => filters.iter().all(is_open),
        _ => !filters.iter().any(is_of_others),
    }
}

/// Of `events` those that the filter asks for and that somebody who proved `auth` may see: newest
/// first, of one second the lowest id, at most `limit`.
pub fn plainly(events: &[Event], filter: &Filter, auth: &[PublicKey]) -> Vec<Event> {
    let mut found: Vec<Event> = events
        .iter()
        .filter(|event| matches(filter, event) && may_read(event, auth))
        .cloned()
        .collect();
    found.sort_by_key(|event| (Reverse(event.created_at()), event.id()));
    found.dedup();
    found.truncate(filter.limit.unwrap_or(usize::MAX));
    found
}

/// NIP-01: lists are alternatives, fields are conditions, and of a tag the first value counts.
fn matches(filter: &Filter, event: &Event) -> bool {
    if let Some(ids) = &filter.ids
        && !ids.iter().any(|id| *id == event.id())
    {
        return false;
    }
    if let Some(authors) = &filter.authors
        && !authors.iter().any(|author| *author == event.pubkey())
    {
        return false;
    }
    if let Some(kinds) = &filter.kinds
        && !kinds.iter().any(|kind| *kind == event.kind())
    {
        return false;
    }
    for (letter, wanted) in &filter.tags {
        let values: BTreeSet<&str> = event
            .tags()
            .iter()
            .map(wire::Tag::elements)
            .filter(|tag| tag.len() > 1 && tag[0] == letter.to_string())
            .map(|tag| tag[1].as_str())
            .collect();
        if !wanted.iter().any(|value| values.contains(value.as_str())) {
            return false;
        }
    }
    let from = filter.since.unwrap_or(0);
    let to = filter.until.unwrap_or(u64::MAX);
    from <= event.created_at() && event.created_at() <= to
}

/// R-AUTH-1.
fn may_read(event: &Event, auth: &[PublicKey]) -> bool {
    let named = || named(event).into_iter();
    match event.kind() {
        1059 | 21059 => recipient(event).is_some_and(|key| auth.contains(&key)),
        4 => named()
            .chain([event.pubkey()])
            .any(|key| auth.contains(&key)),
        _ => true,
    }
}

fn is_wrap(kind: u16) -> bool {
    kind == 1059 || kind == 21059
}

/// The keys in `p` tags.
fn named(event: &Event) -> Vec<PublicKey> {
    let tags = event.tags().iter().filter(|tag| tag.name() == "p");
    tags.filter_map(|tag| PublicKey::from_hex(tag.value()?).ok())
        .collect()
}

/// For whom a wrap is.
fn recipient(event: &Event) -> Option<PublicKey> {
    match named(event)[..] {
        [only] => Some(only),
        _ => None,
    }
}

fn expiration(event: &Event) -> Option<u64> {
    let tag = event.tags().iter().find(|tag| tag.name() == "expiration")?;
    tag.value()?.parse().ok()
}

fn address(event: &Event) -> Option<Address> {
    let d = match event.kind() {
        0 | 3 | 10_000..20_000 => String::new(),
        30_000..40_000 => {
            let tag = event.tags().iter().find(|tag| tag.name() == "d");
            tag.and_then(wire::Tag::value)
                .unwrap_or_default()
                .to_owned()
        }
        _ => return None,
    };
    Some((event.kind(), event.pubkey(), d))
}

/// Of two versions the newer counts, and of two of one second the lower id.
fn version(event: &Event) -> (u64, Reverse<EventId>) {
    (event.created_at(), Reverse(event.id()))
}
