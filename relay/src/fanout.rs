//! New events to open subscriptions.
//!
//! An event that is not for everybody's eyes looks under the keys of its readers, and finds the
//! connections that have proved one: what these have open is tried, and what anybody else has
//! open is not, whatever it names.
//!
//! For the other events, each filter that could match one is filed under the narrowest thing it
//! names: each `#p` value, else each author, else each kind, else "everything". A new event looks
//! under its own `p` tags, author and kind. How many filters stand there is up to those who opened
//! them, so it can be told beforehand ([`Fanout::is_crowd`]) and served a few at a time
//! ([`Fanout::find_some`]).

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use wire::{Event, Filter, PublicKey, SubscriptionId};

use crate::policy::{self, Readers};

/// More subscriptions than this are a crowd. The devices of one person seldom are.
const FEW: usize = 32;

/// A connection, for as long as it lasts.
pub type ClientId = u64;

/// A subscription by its holder and a number that is never given again; [`ALL`]: all of them.
pub type Key = (ClientId, u64);

const ALL: u64 = 0;

/// Open subscriptions and who holds them. `S` is how a client is reached.
#[derive(Debug)]
pub struct Fanout<S> {
    clients: HashMap<ClientId, Client<S>>,
    filed: HashMap<Place, Filed>,
    last_number: u64,
}

#[derive(Debug)]
struct Client<S> {
    sink: S,
    auth: Arc<[PublicKey]>,
    /// Few, so a list is smaller than a map and as quick.
    subscriptions: Vec<Subscription>,
}

#[derive(Debug)]
struct Subscription {
    number: u64,
    id: SubscriptionId,
    filters: Box<[Filter]>,
    /// What was committed up to here comes from history.
    seen: u64,
}

/// Some of those who asked for an event.
#[derive(Debug)]
pub struct Few {
    /// Their subscriptions.
    pub found: Vec<Key>,
    /// Where to go on; none where these were the last.
    pub last: Option<Key>,
}

/// Who may have asked for an event.
#[derive(Debug)]
pub struct Audience {
    readers: Readers,
    places: Vec<Place>,
}

/// What a filter is filed under, or a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place {
    /// A connection, with all it has open, by a key that it has proved.
    Proved(PublicKey),
    Recipient(PublicKey),
    /// A `p` value that is no key.
    Named(String),
    Author(PublicKey),
    Kind(u16),
    Everything,
}

impl Place {
    fn of_recipient(value: &str) -> Self {
        PublicKey::from_hex(value).map_or_else(|_| Self::Named(value.to_owned()), Self::Recipient)
    }
}

/// The subscriptions at a place: nearly always one.
#[derive(Debug)]
enum Filed {
    One(Key),
    Many(BTreeSet<Key>),
}

impl Filed {
    fn insert(&mut self, key: Key) {
        match self {
            Self::One(only) if *only == key => {}
            Self::One(only) => *self = Self::Many(BTreeSet::from([*only, key])),
            Self::Many(keys) => {
                keys.insert(key);
            }
        }
    }

    /// Whether nothing is left.
    fn remove(&mut self, key: Key) -> bool {
        match self {
            Self::One(only) => *only == key,
            Self::Many(keys) => {
                keys.remove(&key);
                keys.is_empty()
            }
        }
    }

    /// Those that come later in the order, or all.
    fn after(&self, last: Option<Key>) -> impl Iterator<Item = Key> {
        let (one, many) = match self {
            Self::One(only) => (Some(*only).filter(|only| last < Some(*only)), None),
            Self::Many(keys) => {
                let from = last.map_or(Bound::Unbounded, Bound::Excluded);
                (None, Some(keys.range((from, Bound::Unbounded))))
            }
        };
        one.into_iter().chain(many.into_iter().flatten().copied())
    }
}

impl<S> Default for Fanout<S> {
    fn default() -> Self {
        Self {
            clients: HashMap::new(),
            filed: HashMap::new(),
            last_number: 0,
        }
    }
}

impl<S> Fanout<S> {
    /// A client is here.
    pub fn connect(&mut self, client: ClientId, sink: S) {
        let entry = Client {
            sink,
            auth: Arc::new([]),
            subscriptions: Vec::new(),
        };
        self.clients.insert(client, entry);
    }

    /// A client is gone, with all it asked for.
    pub fn disconnect(&mut self, client: ClientId) {
        if let Some(gone) = self.clients.remove(&client) {
            for subscription in gone.subscriptions {
                self.unfile(client, &subscription);
            }
            for key in gone.auth.iter() {
                self.take_out(&Place::Proved(*key), (client, ALL));
            }
        }
    }

    /// The client has proved these keys, all that it proved before among them.
    pub fn authenticate(&mut self, client: ClientId, auth: Arc<[PublicKey]>) {
        let Some(entry) = self.clients.get_mut(&client) else {
            return;
        };
        entry.auth = auth.clone();
        for key in auth.iter() {
            self.file(Place::Proved(*key), (client, ALL));
        }
    }

    /// Those who proved one of these keys.
    pub fn who_proved(&self, keys: &[PublicKey]) -> impl Iterator<Item = &S> {
        keys.iter()
            .filter_map(|key| self.filed.get(&Place::Proved(*key)))
            .flat_map(|filed| filed.after(None))
            .filter_map(|(client, _)| Some(&self.clients.get(&client)?.sink))
    }

    /// How many subscriptions the client has, the one called `id` aside.
    pub fn others(&self, client: ClientId, id: &SubscriptionId) -> usize {
        self.clients.get(&client).map_or(0, |client| {
            let others = client.subscriptions.iter().filter(|open| open.id != *id);
            others.count()
        })
    }

    /// Opens a subscription, in place of one with the same id (NIP-01), to what is committed
    /// after the sequence number `seen`. None where the client is not here.
    pub fn subscribe(
        &mut self,
        client: ClientId,
        id: SubscriptionId,
        filters: Box<[Filter]>,
        seen: u64,
    ) -> Option<Key> {
        self.unsubscribe(client, &id);
        if !self.clients.contains_key(&client) {
            return None;
        }
        self.last_number += 1;
        let number = self.last_number;
        for place in filters.iter().flat_map(places) {
            self.file(place, (client, number));
        }
        if let Some(entry) = self.clients.get_mut(&client) {
            entry.subscriptions.reserve_exact(1);
            entry.subscriptions.push(Subscription {
                number,
                id,
                filters,
                seen,
            });
        }
        Some((client, number))
    }

    /// Ends a subscription; whether it was open.
    pub fn unsubscribe(&mut self, client: ClientId, id: &SubscriptionId) -> bool {
        let Some(entry) = self.clients.get_mut(&client) else {
            return false;
        };
        let Some(at) = entry.subscriptions.iter().position(|open| open.id == *id) else {
            return false;
        };
        let ended = entry.subscriptions.swap_remove(at);
        self.unfile(client, &ended);
        true
    }

    /// Ends just this one, if it is still open.
    pub fn end(&mut self, key: Key) {
        if let Some((_, id)) = self.open(key) {
            let id = id.clone();
            self.unsubscribe(key.0, &id);
        }
    }

    fn unfile(&mut self, client: ClientId, ended: &Subscription) {
        for place in ended.filters.iter().flat_map(places) {
            self.take_out(&place, (client, ended.number));
        }
    }

    fn file(&mut self, place: Place, key: Key) {
        self.filed
            .entry(place)
            .or_insert(Filed::One(key))
            .insert(key);
    }

    fn take_out(&mut self, place: &Place, key: Key) {
        if let Some(filed) = self.filed.get_mut(place)
            && filed.remove(key)
        {
            self.filed.remove(place);
        }
    }

    /// Who may have asked for the event so far.
    pub fn audience(&self, event: &Event) -> Audience {
        let readers = Readers::of(event);
        let mut places = match &readers {
            Readers::Only(keys) => keys.iter().copied().map(Place::Proved).collect(),
            Readers::Everybody => public_places(event),
        };
        places.retain(|place| self.filed.contains_key(place));
        Audience { readers, places }
    }

    /// Whether it has more subscriptions than are tried at once.
    pub fn is_crowd(&self, audience: &Audience) -> bool {
        let filed = audience.places.iter().filter_map(|at| self.filed.get(at));
        let mut count = 0;
        for (client, number) in filed.flat_map(|filed| filed.after(None)) {
            count += match number {
                ALL => {
                    let holder = self.clients.get(&client);
                    holder.map_or(1, |holder| holder.subscriptions.len().max(1))
                }
                _ => 1,
            };
            if count > FEW {
                return true;
            }
        }
        false
    }

    /// Calls `send` for each subscription that asked for the event, committed under `seq`, and
    /// whose holder may read it.
    pub fn deliver(
        &self,
        event: &Event,
        seq: u64,
        audience: &Audience,
        now: u64,
        mut send: impl FnMut(ClientId, &S, &SubscriptionId),
    ) {
        let mut last = None;
        loop {
            let some = self.find_some(event, seq, audience, now, last);
            for key in some.found {
                if let Some((sink, id)) = self.open(key) {
                    send(key.0, sink, id);
                }
            }
            last = some.last;
            if last.is_none() {
                return;
            }
        }
    }

    /// The subscription, and where its events go, while it is open.
    pub fn open(&self, (client, number): Key) -> Option<(&S, &SubscriptionId)> {
        let entry = self.clients.get(&client)?;
        let mut all = entry.subscriptions.iter();
        let open = all.find(|open| open.number == number)?;
        Some((&entry.sink, &open.id))
    }

    /// Which subscriptions asked for the event, committed under `seq`, and have holders who may read
    /// it, among a few of the audience: those that come after `last`.
    pub fn find_some(
        &self,
        event: &Event,
        seq: u64,
        audience: &Audience,
        now: u64,
        last: Option<Key>,
    ) -> Few {
        let mut found = Vec::new();
        if policy::is_expired(event, now) {
            return Few { found, last: None };
        }
        let filed = audience.places.iter().filter_map(|at| self.filed.get(at));
        let mut few: Vec<Key> = filed
            .flat_map(|filed| filed.after(last).take(FEW))
            .collect();
        few.sort_unstable();
        few.dedup();
        few.truncate(FEW);
        for (client, number) in &few {
            let Some(entry) = self.clients.get(client) else {
                continue;
            };
            if !audience.readers.include(&entry.auth) {
                continue;
            }
            for open in &entry.subscriptions {
                let is_tried = (*number == ALL || *number == open.number) && open.seen < seq;
                if is_tried && open.filters.iter().any(|filter| filter.matches(event)) {
                    found.push((*client, open.number));
                }
            }
        }
        let last = match few.len() {
            FEW => few.pop(),
            _ => None,
        };
        Few { found, last }
    }
}

/// Where filters for an event that everybody may read are filed.
fn public_places(event: &Event) -> Vec<Place> {
    let mut places = vec![
        Place::Author(event.pubkey()),
        Place::Kind(event.kind()),
        Place::Everything,
    ];
    let mut named: Vec<&str> = event.tags().values("p").collect();
    named.sort_unstable();
    named.dedup();
    places.extend(named.into_iter().map(Place::of_recipient));
    places
}

/// About how many bytes it takes to keep these filters, the places they are filed under included.
pub fn weight(filters: &[Filter]) -> usize {
    /// An entry of a set in a filter, and a place with the one subscription in it.
    const VALUE: usize = 96;
    const PLACE: usize = 352;
    let of_values = |filter: &Filter| {
        let values = |count: Option<usize>| count.unwrap_or_default() * VALUE;
        values(filter.ids.as_ref().map(|set| set.len()))
            + values(filter.authors.as_ref().map(|set| set.len()))
            + values(filter.kinds.as_ref().map(|set| set.len()))
            + filter
                .tags
                .iter()
                .flat_map(|(_, values)| values)
                .map(|value| VALUE + value.len())
                .sum::<usize>()
    };
    let of_filter = |filter| size_of::<Filter>() + of_values(filter) + places(filter).len() * PLACE;
    filters.iter().map(of_filter).sum()
}

/// Where a filter is filed: nowhere where nothing that everybody may read could match.
fn places(filter: &Filter) -> Vec<Place> {
    if let Some(kinds) = &filter.kinds
        && kinds.iter().all(|kind| policy::is_guarded(*kind))
    {
        return Vec::new();
    }
    if let Some(recipients) = filter.tags.get('p') {
        let recipients = recipients.iter();
        return recipients.map(|value| Place::of_recipient(value)).collect();
    }
    if let Some(authors) = &filter.authors {
        return authors.iter().copied().map(Place::Author).collect();
    }
    if let Some(kinds) = &filter.kinds {
        return kinds.iter().copied().map(Place::Kind).collect();
    }
    vec![Place::Everything]
}

#[cfg(test)]
mod tests {
    use wire::{EventDraft, Signature, Tag, Tags, kinds};

    use super::*;

    fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 32])
    }

    fn event(kind: u16, from: u8, to: &[u8]) -> Event {
        let tags = to.iter().map(|to| Tag::new(["p", &key(*to).to_hex()]));
        let draft = EventDraft {
            pubkey: key(from),
            created_at: 1,
            kind,
            tags: tags.collect::<Tags>(),
            content: String::new(),
        };
        Event::from_signature(draft, Signature::from_bytes([1; 64]))
    }

    fn name(text: &str) -> SubscriptionId {
        SubscriptionId::new(text).unwrap()
    }

    /// A client that has proved a key and asked for all that it names no more than so.
    fn open(fanout: &mut Fanout<()>, client: ClientId, proved: u8, filters: &[Filter]) {
        fanout.connect(client, ());
        fanout.authenticate(client, [key(proved)].into());
        for (at, filter) in filters.iter().enumerate() {
            let id = name(&at.to_string());
            fanout.subscribe(client, id, [filter.clone()].into(), 0);
        }
    }

    fn reached(fanout: &Fanout<()>, event: &Event) -> Vec<ClientId> {
        let mut reached = Vec::new();
        let audience = fanout.audience(event);
        fanout.deliver(event, 1, &audience, 0, |client, (), _| reached.push(client));
        reached
    }

    #[test]
    fn r_fair_6_what_strangers_have_open_is_not_tried_for_what_is_not_theirs() {
        let mut fanout = Fanout::default();
        let wide = [
            Filter::default(),
            Filter::default().with_kinds(policy::GUARDED),
            Filter::default().with_authors([key(9)]),
            Filter::default().with_tag('p', [key(2).to_hex()]),
        ];
        for stranger in 0..100 {
            open(&mut fanout, stranger, 3, &wide);
        }
        for kind in policy::GUARDED {
            let audience = fanout.audience(&event(kind, 9, &[2]));
            assert!(audience.places.is_empty(), "{kind}: {audience:?}");
        }
        open(&mut fanout, 200, 2, &wide);
        for kind in policy::GUARDED {
            let event = event(kind, 9, &[2]);
            let audience = fanout.audience(&event);
            assert_eq!(audience.places, [Place::Proved(key(2))], "{kind}");
            assert!(!fanout.is_crowd(&audience));
            assert_eq!(reached(&fanout, &event), [200; 4], "{kind}");
        }
        // Those who wrote to themselves are a crowd of their own.
        assert!(fanout.is_crowd(&fanout.audience(&event(kinds::WRAP, 9, &[3]))));
    }

    #[test]
    fn r_fair_6_a_key_that_is_proved_later_counts_for_what_is_open_and_until_the_end() {
        let mut fanout = Fanout::default();
        let wraps = Filter::default().with_kinds([kinds::WRAP]);
        open(&mut fanout, 1, 2, std::slice::from_ref(&wraps));
        let wrap = event(kinds::WRAP, 9, &[3]);
        assert!(reached(&fanout, &wrap).is_empty());
        fanout.authenticate(1, [key(2), key(3)].into());
        assert_eq!(reached(&fanout, &wrap), [1]);
        assert_eq!(fanout.who_proved(&[key(3)]).count(), 1);
        fanout.disconnect(1);
        assert!(fanout.filed.is_empty() && fanout.clients.is_empty());
    }

    #[test]
    fn r_fair_6_a_crowd_is_served_a_few_at_a_time_and_each_once() {
        let mut fanout = Fanout::default();
        let notes = Filter::default().with_kinds([1]);
        let of_author = Filter::default().with_authors([key(9)]);
        for client in 0..50 {
            open(&mut fanout, client, 2, std::slice::from_ref(&notes));
            // Found under two places.
            let both = Box::new([notes.clone(), of_author.clone()]);
            fanout.subscribe(client, name("both"), both, 0);
            // Has it from history.
            fanout.subscribe(client, name("late"), Box::new([notes.clone()]), 1);
        }
        let note = event(1, 9, &[]);
        let audience = fanout.audience(&note);
        assert!(fanout.is_crowd(&audience));
        let (mut last, mut pages, mut served) = (None, 0, Vec::new());
        loop {
            let before = served.len();
            let few = fanout.find_some(&note, 1, &audience, 0, last);
            last = few.last;
            let found = few.found.into_iter();
            served.extend(found.map(|key| (key.0, fanout.open(key).unwrap().1.clone())));
            pages += 1;
            assert!(served.len() - before <= FEW);
            if last.is_none() {
                break;
            }
        }
        assert!(pages > 100 / FEW, "{pages}");
        let wanted = (0..50).flat_map(|client| [(client, name("0")), (client, name("both"))]);
        assert_eq!(served, wanted.collect::<Vec<_>>());
    }
}
