//! New events to open subscriptions.
//!
//! Each filter is filed under the narrowest thing it names: each `#p` value, else each author,
//! else each kind, else "everything". A new event looks under its own `p` tags, author and kind
//! and tries only the filters found there, so ten thousand subscriptions of others cost nothing.

use std::collections::{HashMap, HashSet};

use wire::{Event, Filter, PublicKey, SubscriptionId};

use crate::policy;

/// A connection, for as long as it lasts.
pub type ClientId = u64;

/// Open subscriptions and who holds them. `S` is how a client is reached.
#[derive(Debug)]
pub struct Fanout<S> {
    clients: HashMap<ClientId, Client<S>>,
    filed: HashMap<Place, HashSet<(ClientId, SubscriptionId)>>,
}

#[derive(Debug)]
struct Client<S> {
    sink: S,
    auth: Vec<PublicKey>,
    subscriptions: HashMap<SubscriptionId, Vec<Filter>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place {
    Recipient(String),
    Author(PublicKey),
    Kind(u16),
    Everything,
}

impl<S> Default for Fanout<S> {
    fn default() -> Self {
        Self {
            clients: HashMap::new(),
            filed: HashMap::new(),
        }
    }
}

impl<S> Fanout<S> {
    /// A client is here.
    pub fn connect(&mut self, client: ClientId, sink: S) {
        let auth = Vec::new();
        let subscriptions = HashMap::new();
        self.clients.insert(
            client,
            Client {
                sink,
                auth,
                subscriptions,
            },
        );
    }

    /// A client is gone, with all it asked for.
    pub fn disconnect(&mut self, client: ClientId) {
        if let Some(gone) = self.clients.remove(&client) {
            for (id, filters) in gone.subscriptions {
                self.unfile(client, &id, &filters);
            }
        }
    }

    /// The client proved a key.
    pub fn authenticate(&mut self, client: ClientId, key: PublicKey) {
        if let Some(client) = self.clients.get_mut(&client)
            && !client.auth.contains(&key)
        {
            client.auth.push(key);
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
            client
                .subscriptions
                .keys()
                .filter(|other| *other != id)
                .count()
        })
    }

    /// Opens a subscription, in place of one with the same id (NIP-01).
    pub fn subscribe(&mut self, client: ClientId, id: SubscriptionId, filters: Vec<Filter>) {
        self.unsubscribe(client, &id);
        let Some(entry) = self.clients.get_mut(&client) else {
            return;
        };
        for place in filters.iter().flat_map(places) {
            self.filed
                .entry(place)
                .or_default()
                .insert((client, id.clone()));
        }
        entry.subscriptions.insert(id, filters);
    }

    /// Ends a subscription; whether it was open.
    pub fn unsubscribe(&mut self, client: ClientId, id: &SubscriptionId) -> bool {
        let Some(entry) = self.clients.get_mut(&client) else {
            return false;
        };
        let Some(filters) = entry.subscriptions.remove(id) else {
            return false;
        };
        self.unfile(client, id, &filters);
        true
    }

    fn unfile(&mut self, client: ClientId, id: &SubscriptionId, filters: &[Filter]) {
        let key = (client, id.clone());
        for place in filters.iter().flat_map(places) {
            if let Some(filed) = self.filed.get_mut(&place) {
                filed.remove(&key);
                if filed.is_empty() {
                    self.filed.remove(&place);
                }
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
        places.extend(
            named
                .into_iter()
                .map(|key| Place::Recipient(key.to_owned())),
        );
        let mut done = HashSet::new();
        for (client, id) in places
            .iter()
            .filter_map(|place| self.filed.get(place))
            .flatten()
        {
            let Some(entry) = self.clients.get(client) else {
                continue;
            };
            let Some(filters) = entry.subscriptions.get(id) else {
                continue;
            };
            if policy::may_read(event, &entry.auth)
                && filters.iter().any(|filter| filter.matches(event))
                && done.insert((*client, id))
            {
                send(*client, &entry.sink, id);
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
                .values()
                .flatten()
                .map(|value| VALUE + value.len())
                .sum::<usize>()
    };
    let of_filter = |filter| size_of::<Filter>() + of_values(filter) + places(filter).len() * PLACE;
    filters.iter().map(of_filter).sum()
}

fn places(filter: &Filter) -> Vec<Place> {
    if let Some(recipients) = filter.tags.get(&'p') {
        return recipients.iter().cloned().map(Place::Recipient).collect();
    }
    if let Some(authors) = &filter.authors {
        return authors.iter().copied().map(Place::Author).collect();
    }
    if let Some(kinds) = &filter.kinds {
        return kinds.iter().copied().map(Place::Kind).collect();
    }
    vec![Place::Everything]
}
