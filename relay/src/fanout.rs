//! New events to open subscriptions.
//!
//! Each filter is filed under the narrowest thing it names: each `#p` value, else each author,
//! else each kind, else "everything". A new event looks under its own `p` tags, author and kind
//! and tries only the filters found there, so ten thousand subscriptions of others cost nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use wire::{Event, Filter, PublicKey, SubscriptionId};

use crate::policy;

/// A connection, for as long as it lasts.
pub type ClientId = u64;

/// A subscription by its holder and a number that is never given again.
type Key = (ClientId, u64);

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
}

/// What a filter is filed under.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place {
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

    fn keys(&self) -> impl Iterator<Item = Key> {
        let (one, many) = match self {
            Self::One(only) => (Some(*only), None),
            Self::Many(keys) => (None, Some(keys)),
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
        }
    }

    /// The client has proved these keys.
    pub fn authenticate(&mut self, client: ClientId, auth: Arc<[PublicKey]>) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.auth = auth;
        }
    }

    /// Those who proved one of these keys.
    pub fn who_proved(&self, keys: &[PublicKey]) -> impl Iterator<Item = &S> {
        self.clients
            .values()
            .filter(|client| client.auth.iter().any(|key| keys.contains(key)))
            .map(|client| &client.sink)
    }

    /// How many subscriptions the client has, the one called `id` aside.
    pub fn others(&self, client: ClientId, id: &SubscriptionId) -> usize {
        self.clients.get(&client).map_or(0, |client| {
            let others = client.subscriptions.iter().filter(|open| open.id != *id);
            others.count()
        })
    }

    /// Opens a subscription, in place of one with the same id (NIP-01).
    pub fn subscribe(&mut self, client: ClientId, id: SubscriptionId, filters: Box<[Filter]>) {
        self.unsubscribe(client, &id);
        let Some(entry) = self.clients.get_mut(&client) else {
            return;
        };
        self.last_number += 1;
        let number = self.last_number;
        for place in filters.iter().flat_map(places) {
            let key = (client, number);
            let filed = self.filed.entry(place).or_insert(Filed::One(key));
            filed.insert(key);
        }
        entry.subscriptions.reserve_exact(1);
        entry.subscriptions.push(Subscription {
            number,
            id,
            filters,
        });
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

    fn unfile(&mut self, client: ClientId, ended: &Subscription) {
        for place in ended.filters.iter().flat_map(places) {
            if let Some(filed) = self.filed.get_mut(&place)
                && filed.remove((client, ended.number))
            {
                self.filed.remove(&place);
            }
        }
    }

    /// Calls `send` for each subscription that asked for the event and whose holder may read it.
    pub fn deliver(
        &self,
        event: &Event,
        now: u64,
        mut send: impl FnMut(ClientId, &S, &SubscriptionId),
    ) {
        if policy::is_expired(event, now) {
            return;
        }
        let mut places = vec![
            Place::Author(event.pubkey()),
            Place::Kind(event.kind()),
            Place::Everything,
        ];
        let mut named: Vec<&str> = event.tags().values("p").collect();
        named.sort_unstable();
        named.dedup();
        places.extend(named.into_iter().map(Place::of_recipient));
        let filed = places.iter().filter_map(|place| self.filed.get(place));
        let mut candidates: Vec<Key> = filed.flat_map(Filed::keys).collect();
        candidates.sort_unstable();
        candidates.dedup();
        for (client, number) in candidates {
            let Some(entry) = self.clients.get(&client) else {
                continue;
            };
            let mut open = entry.subscriptions.iter();
            let Some(subscription) = open.find(|open| open.number == number) else {
                continue;
            };
            if policy::may_read(event, &entry.auth)
                && subscription
                    .filters
                    .iter()
                    .any(|filter| filter.matches(event))
            {
                send(client, &entry.sink, &subscription.id);
            }
        }
    }
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

fn places(filter: &Filter) -> Vec<Place> {
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
