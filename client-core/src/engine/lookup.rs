//! Where other people read and keep files, by their signed lists (10050, 10063).
//!
//! One author to a socket and to a query. The hints of the person's link are asked first, then
//! our own relays. A list that is known is never asked for because of a send; it is refreshed
//! after 12 to 36 hours, drawn at random, so that a refresh tells nobody who writes to whom.

use std::collections::BTreeSet;

use bytes::Bytes;
use rand::RngExt as _;
use wire::relay_url::Origin;
use wire::{Event, Filter, PublicKey, RelayUrl, VerifiedEvent, kinds, limits};

use crate::engine::io::{Effect, QueryEnd, Role};
use crate::engine::machine::{Engine, Op, Turn};
use crate::engine::reach::{OwnPlaces, Verdict};
use crate::engine::send::NO_INBOX;
use crate::error::Result;
use crate::store::{self, ContactRow, EnvelopeRow, PeerList};

/// A refresh is drawn from this range, seconds.
const REFRESH_SECONDS: std::ops::RangeInclusive<u64> = 12 * 3_600..=36 * 3_600;
/// Events that are looked at in one look-up: two lists from each relay are what is to be expected.
const ANSWERS: usize = 256;
/// Addresses of one list that are remembered.
const LIST_URLS: usize = 50;

/// A look-up under way.
#[derive(Debug, Clone)]
pub(crate) struct Lookup {
    /// Relays that have not answered.
    waiting: BTreeSet<RelayUrl>,
    /// Relays to ask next, where these know nothing.
    later: Vec<(RelayUrl, bool)>,
    /// Some relay answered.
    was_answered: bool,
    /// An inbox list came.
    was_found: bool,
    /// Why relays did not answer.
    failures: Vec<String>,
    /// Whether a hint, the place where the list most likely is, was among them; known once all
    /// hints have been asked. Then silence elsewhere proves nothing, and the message waits.
    was_hint_silent: Option<bool>,
    /// It only refreshes what is known: nothing is refused because of it.
    is_refresh: bool,
    /// How often in a row it was tried without reaching anybody.
    tries: u32,
    /// Events that came for it.
    events: usize,
}

/// What a list names: `relay` or `server` tags, in order, each once.
pub(crate) fn list_urls(event: &VerifiedEvent) -> Vec<String> {
    let name = if event.kind() == kinds::FILE_SERVERS {
        "server"
    } else {
        "relay"
    };
    let mut urls: Vec<String> = Vec::new();
    for text in event.tags().values(name) {
        let url = if event.kind() == kinds::FILE_SERVERS {
            Origin::parse(text).map(|origin| origin.to_string())
        } else {
            RelayUrl::parse(text).map(|relay| relay.to_string())
        };
        if let Ok(url) = url
            && !urls.contains(&url)
            && urls.len() < LIST_URLS
        {
            urls.push(url);
        }
    }
    urls
}

/// A list of `author`, decoded and verified; nothing where it is another's, forged, or dated so
/// far ahead that no honest list could replace it.
pub(crate) fn verified_list(bytes: &Bytes, author: &PublicKey, now: u64) -> Option<VerifiedEvent> {
    let event = Event::decode(bytes.clone()).ok()?;
    let is_list = matches!(event.kind(), kinds::INBOX_RELAYS | kinds::FILE_SERVERS);
    let latest = now.saturating_add(limits::WRAP_FUTURE_SECONDS);
    if event.pubkey() != *author || !is_list || event.created_at() > latest {
        return None;
    }
    VerifiedEvent::verify(event).ok()
}

impl Engine {
    /// When lists of contacts are to be refreshed, in a process that stays.
    pub(crate) fn next_refresh(&self, store: &rusqlite::Connection) -> Result<Option<u64>> {
        let is_at_work = !self.run.lookups.is_empty();
        if self.run.watches.is_empty() || is_at_work {
            return Ok(None);
        }
        store::next_refresh(store)
    }
}

impl Turn<'_> {
    /// Starts looking for somebody's lists, unless that is under way.
    pub fn need_lists(&mut self, author: &PublicKey) -> Result<()> {
        self.look_up(author, false)
    }

    /// Looks again for lists of accepted contacts that have grown old.
    pub fn refresh_lookups(&mut self) -> Result<()> {
        for author in store::lookups_due(self.tx, self.now)? {
            self.look_up(&author, true)?;
        }
        Ok(())
    }

    fn look_up(&mut self, author: &PublicKey, is_refresh: bool) -> Result<()> {
        let failed = self.run.failed_lookups.get(author);
        let waits = failed.is_some_and(|(_, retry_at)| *retry_at > self.now);
        if waits || self.run.lookups.contains_key(author) || *author == self.own() {
            return Ok(());
        }
        let before = self.run.failed_lookups.remove(author);
        let tries = before.map_or(1, |(tries, _)| tries.saturating_add(1));
        let places = OwnPlaces::load(self.tx)?;
        let own: Vec<(RelayUrl, bool)> = store::own_relays(self.tx)?
            .into_iter()
            .map(|relay| (relay, true))
            .collect();
        let contact = ContactRow::of(self.tx, author)?;
        let hints: Vec<(RelayUrl, bool)> = contact
            .hints
            .iter()
            .filter_map(|relay| match places.relay(relay) {
                Verdict::Dial { is_own } => Some((relay.clone(), is_own)),
                Verdict::Never => None,
            })
            .collect();
        let later = own
            .into_iter()
            .filter(|(relay, _)| !hints.iter().any(|(hint, _)| hint == relay))
            .collect();
        self.run.lookups.insert(
            *author,
            Lookup {
                waiting: BTreeSet::new(),
                later,
                was_answered: false,
                was_found: false,
                failures: Vec::new(),
                was_hint_silent: None,
                is_refresh,
                tries,
                events: 0,
            },
        );
        self.ask(author, hints);
        self.conclude(author)
    }

    fn ask(&mut self, author: &PublicKey, relays: Vec<(RelayUrl, bool)>) {
        for (relay, is_own) in relays {
            let op = self.begin(Op::Lookup {
                author: *author,
                relay: relay.clone(),
            });
            let socket = self.socket(Role::Lookup, *author, &relay, is_own);
            let filter = Filter::default()
                .with_kinds([kinds::INBOX_RELAYS, kinds::FILE_SERVERS])
                .with_authors([*author]);
            self.effects.push(Effect::Query {
                op,
                socket,
                filter,
                live: false,
            });
            if let Some(lookup) = self.run.lookups.get_mut(author) {
                lookup.waiting.insert(relay);
            }
        }
    }

    /// Lists came. Only the author's own, newest, count; an older one replaces nothing.
    pub fn looked_up(&mut self, author: &PublicKey, events: &[Bytes]) -> Result<()> {
        let Some(lookup) = self.run.lookups.get_mut(author) else {
            return Ok(());
        };
        // A relay that answers with a flood is not worth the signatures.
        lookup.events = lookup.events.saturating_add(events.len());
        if lookup.events > ANSWERS {
            return Ok(());
        }
        for bytes in events {
            let Some(event) = verified_list(bytes, author, self.now) else {
                continue;
            };
            if event.kind() == kinds::INBOX_RELAYS
                && let Some(lookup) = self.run.lookups.get_mut(author)
            {
                lookup.was_found = true;
            }
            let known = PeerList::find(self.tx, author, event.kind())?;
            let is_newer = known.as_ref().is_none_or(|known| {
                let (old, new) = (known.created_at, event.created_at());
                new > old || (new == old && event.id() < known.event_id)
            });
            if !is_newer {
                continue;
            }
            PeerList {
                event_id: event.id(),
                created_at: event.created_at(),
                urls: list_urls(&event),
            }
            .save(self.tx, author, event.kind())?;
            if known.is_some() && event.kind() == kinds::INBOX_RELAYS {
                self.reroute(author)?;
            }
        }
        Ok(())
    }

    /// One relay has said all that it knows, or nothing.
    pub fn lookup_ended(
        &mut self,
        author: &PublicKey,
        relay: &RelayUrl,
        end: QueryEnd,
    ) -> Result<()> {
        let Some(lookup) = self.run.lookups.get_mut(author) else {
            return Ok(());
        };
        lookup.waiting.remove(relay);
        match end {
            QueryEnd::Eose { .. } => lookup.was_answered = true,
            QueryEnd::Closed(message) => lookup.failures.push(message.text),
            QueryEnd::Unreachable(why) | QueryEnd::Forbidden(why) => lookup.failures.push(why),
        }
        self.conclude(author)
    }

    fn conclude(&mut self, author: &PublicKey) -> Result<()> {
        let Some(lookup) = self.run.lookups.get_mut(author) else {
            return Ok(());
        };
        if lookup.was_found && lookup.waiting.is_empty() {
            self.run.lookups.remove(author);
            let refresh_at = self
                .now
                .saturating_add(self.rng.random_range(REFRESH_SECONDS));
            return store::note_lookup(self.tx, author, self.now, refresh_at, "");
        }
        if !lookup.waiting.is_empty() {
            return Ok(());
        }
        // Hints are asked first, so what failed by the first time here were hints.
        let has_failures = !lookup.failures.is_empty();
        let was_hint_silent = *lookup.was_hint_silent.get_or_insert(has_failures);
        let later = std::mem::take(&mut lookup.later);
        if !later.is_empty() {
            self.ask(author, later);
            return Ok(());
        }
        let Some(lookup) = self.run.lookups.remove(author) else {
            return Ok(());
        };
        if lookup.is_refresh {
            let refresh_at = self
                .now
                .saturating_add(self.rng.random_range(REFRESH_SECONDS));
            return store::note_lookup(self.tx, author, self.now, refresh_at, "");
        }
        let is_certain = lookup.was_answered && !was_hint_silent;
        if is_certain || lookup.failures.is_empty() {
            self.no_list(author, lookup.was_answered)
        } else {
            // Nobody could be asked: the messages wait for the next command.
            let retry_at = self.backoff(lookup.tries, 0);
            self.run
                .failed_lookups
                .insert(*author, (lookup.tries, retry_at));
            let detail = lookup.failures.join("; ");
            store::note_lookup(self.tx, author, self.now, self.now, &detail)
        }
    }

    /// Nobody knows where this person reads. Nothing is sent anywhere else.
    fn no_list(&mut self, author: &PublicKey, was_answered: bool) -> Result<()> {
        let why = if was_answered {
            "the recipient has published no list of inbox relays"
        } else {
            "there is no relay to ask for the recipient's list of inbox relays"
        };
        for envelope in EnvelopeRow::unrouted(self.tx)? {
            if envelope.inbox == *author {
                self.refuse_envelope(&envelope, NO_INBOX, why)?;
            }
        }
        store::note_lookup(self.tx, author, self.now, self.now, why)
    }
}
