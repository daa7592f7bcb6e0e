//! Relays in memory, and how they answer.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use client_core::engine::io::{
    DescribeOutcome, Effect, Input, OpId, PublishOutcome, QueryEnd, ReconcileAnswer, ReconcileStep,
    Role, SocketKey,
};
use wire::{Event, EventId, OkMessage, PublicKey, VerifiedEvent, kinds};

use super::{World, relay};
use crate::compared::{Compared, Comparing};
use crate::joining::Membership;

/// How a relay answers EVENT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mood {
    /// As NIP-01 says.
    Kind,
    /// No connection.
    Down,
    /// Refuses wraps with this text.
    Refusing(&'static str),
    /// Takes events and never answers.
    Silent,
    /// `auth-required:` until some key has proved itself.
    WantsAuth,
    /// `restricted:` for wraps from sockets that did not AUTH as this key.
    Restricted(PublicKey),
}

/// A relay in memory: enough of NIP-01, 09, 42 and 59 for the stories. (The seeded network of
/// the test crate runs the real relay's policy.)
#[derive(Debug)]
pub struct Relay {
    pub mood: Mood,
    pub events: Vec<Event>,
    pub forgotten: BTreeSet<(EventId, PublicKey)>,
    /// Serves wraps after their expiry, too.
    pub ignores_expiry: bool,
    /// At most so many events for one REQ, the newest.
    pub page: usize,
    /// The NIPs that its description lists; nothing where it has none.
    pub nips: Option<BTreeSet<u16>>,
    /// How it compares.
    pub comparing: Comparing,
    pub compared: Compared,
    /// Events that it has handed out.
    pub handed_out: usize,
    /// Where only members may write.
    pub membership: Option<Membership>,
    authed: BTreeMap<(String, SocketKey), PublicKey>,
}

impl Relay {
    pub(super) fn new() -> Self {
        Self {
            mood: Mood::Kind,
            events: Vec::new(),
            forgotten: BTreeSet::new(),
            ignores_expiry: false,
            page: 500,
            nips: Some(BTreeSet::from([1, 77])),
            comparing: Comparing::Honestly,
            compared: Compared::default(),
            handed_out: 0,
            membership: None,
            authed: BTreeMap::new(),
        }
    }

    pub(super) fn describe(&self) -> DescribeOutcome {
        match (&self.mood, &self.nips) {
            (Mood::Down, _) => DescribeOutcome::Unreachable,
            (_, Some(nips)) => DescribeOutcome::Knows(nips.clone()),
            (_, None) => DescribeOutcome::Nothing,
        }
    }

    /// Stores an event as a relay does: deletions are applied, replaceable events replace.
    pub fn store(&mut self, event: &Event) {
        if event.kind() == kinds::DELETION {
            let by = event.pubkey();
            for id in event.tags().values("e") {
                let id = EventId::from_hex(id).unwrap();
                self.forgotten.insert((id, by));
                self.events.retain(|stored| {
                    let is_addressee =
                        kinds::is_wrap(stored.kind()) && stored.tags().people().any(|p| p == by);
                    stored.id() != id || !(stored.pubkey() == by || is_addressee)
                });
            }
        }
        if self.forgotten.contains(&(event.id(), event.pubkey())) {
            return;
        }
        if kinds::is_replaceable(event.kind()) {
            let newer = |stored: &Event| {
                stored.kind() == event.kind()
                    && stored.pubkey() == event.pubkey()
                    && stored.created_at() > event.created_at()
            };
            if self.events.iter().any(newer) {
                return;
            }
            self.events.retain(|stored| {
                stored.kind() != event.kind() || stored.pubkey() != event.pubkey()
            });
        }
        if self.events.iter().all(|stored| stored.id() != event.id()) {
            self.events.push(event.clone());
        }
    }
}

impl World {
    pub fn relay(&mut self, name: &str) -> &mut Relay {
        self.relays.entry(relay(name)).or_insert_with(Relay::new)
    }

    /// The wraps that lie on a relay.
    pub fn wraps(&mut self, name: &str) -> Vec<Event> {
        let is_wrap = |event: &&Event| kinds::is_wrap(event.kind());
        let relay = self.relay(name);
        relay.events.iter().filter(is_wrap).cloned().collect()
    }

    pub(super) fn relay_of(&mut self, socket: &SocketKey) -> &mut Relay {
        self.relays
            .get_mut(&socket.relay)
            .unwrap_or_else(|| panic!("{} was dialled and is on no list", socket.relay))
    }

    /// Challenges a socket and notes which key answered.
    pub(super) fn challenge(&mut self, who: &'static str, socket: &SocketKey) -> Option<PublicKey> {
        let known = (who.to_owned(), socket.clone());
        if let Some(key) = self.relay_of(socket).authed.get(&known) {
            return Some(*key);
        }
        let challenged = Input::Challenged {
            socket: socket.clone(),
            challenge: "prove it".into(),
        };
        self.feed(who, challenged);
        let home = self.homes.get_mut(who).unwrap();
        let is_answer =
            |e: &Effect| matches!(e, Effect::Authenticate { socket: s, .. } if s == socket);
        let index = home.effects.iter().position(is_answer)?;
        let answer = home.effects.remove(index);
        self.log.push((who, answer.clone()));
        let Effect::Authenticate { event, .. } = answer else {
            return None;
        };
        let event = VerifiedEvent::verify(Event::decode(event).unwrap()).unwrap();
        assert_eq!(event.kind(), kinds::CLIENT_AUTH);
        assert_eq!(event.tags().value("relay"), Some(socket.relay.as_str()));
        assert_eq!(event.tags().value("challenge"), Some("prove it"));
        self.relay_of(socket).authed.insert(known, event.pubkey());
        Some(event.pubkey())
    }

    pub(super) fn publish(
        &mut self,
        who: &'static str,
        socket: &SocketKey,
        event: Bytes,
    ) -> PublishOutcome {
        let event = Event::decode(event).unwrap();
        let event = VerifiedEvent::verify(event).expect("we publish sound events");
        let refused = |text: &str| PublishOutcome::Refused(OkMessage::parse(text));
        match self.relay_of(socket).mood.clone() {
            Mood::Down => return PublishOutcome::Unreachable("no connection".into()),
            Mood::Refusing(text) if kinds::is_wrap(event.kind()) => return refused(text),
            Mood::WantsAuth if self.challenge(who, socket).is_none() => {
                return refused("auth-required: prove a key");
            }
            Mood::Restricted(member)
                if kinds::is_wrap(event.kind()) && self.challenge(who, socket) != Some(member) =>
            {
                return refused("restricted: members only");
            }
            _ => {}
        }
        if self.relay_of(socket).membership.is_some() {
            let auth = self.challenge(who, socket);
            let membership = self.relay_of(socket).membership.as_mut().unwrap();
            if let Some(outcome) = membership.answer(&event, auth) {
                return outcome;
            }
        }
        let now = self.now;
        if kinds::is_wrap(event.kind()) {
            let age = now.saturating_sub(event.created_at());
            if age > wire::limits::WRAP_PAST_SECONDS {
                return refused("invalid: the wrap is too old");
            }
        }
        let relay = self.relay_of(socket);
        relay.store(&event);
        if relay.mood == Mood::Silent {
            return PublishOutcome::Unknown("no answer".into());
        }
        PublishOutcome::Accepted(OkMessage::parse(""))
    }

    pub(super) fn query(
        &mut self,
        who: &'static str,
        socket: &SocketKey,
        filter: &wire::Filter,
    ) -> (Vec<Bytes>, QueryEnd) {
        if self.relay_of(socket).mood == Mood::Down {
            return (Vec::new(), QueryEnd::Unreachable("no connection".into()));
        }
        let found = self.visible(who, socket, filter);
        let relay = self.relay_of(socket);
        let limit = filter.limit.unwrap_or(usize::MAX).min(relay.page);
        let events: Vec<Bytes> = found
            .iter()
            .take(limit)
            .map(|event| event.json().clone())
            .collect();
        relay.handed_out += events.len();
        (events, QueryEnd::Eose { complete: None })
    }

    /// What a filter finds for who asks by this socket, newest first.
    pub(super) fn visible(
        &mut self,
        who: &'static str,
        socket: &SocketKey,
        filter: &wire::Filter,
    ) -> Vec<Event> {
        let reader = match socket.role {
            Role::Inbox => self.challenge(who, socket),
            _ => None,
        };
        let now = self.now;
        let relay = self.relay_of(socket);
        let mut found: Vec<Event> = relay
            .events
            .iter()
            .filter(|event| filter.matches(event))
            .filter(|event| relay.ignores_expiry || event.expiration().is_none_or(|at| at > now))
            .filter(|event| {
                !kinds::is_wrap(event.kind()) || event.tags().people().any(|p| Some(p) == reader)
            })
            .cloned()
            .collect();
        found.sort_by(|a, b| (b.created_at(), a.id()).cmp(&(a.created_at(), b.id())));
        found
    }

    pub(super) fn reconcile(
        &mut self,
        who: &'static str,
        socket: &SocketKey,
        op: OpId,
        step: &ReconcileStep,
    ) -> Option<ReconcileAnswer> {
        let visible = match step {
            ReconcileStep::Open { filter, .. } => self.visible(who, socket, filter),
            _ => Vec::new(),
        };
        let relay = self.relay_of(socket);
        if relay.mood == Mood::Down {
            return Some(ReconcileAnswer::Unreachable("no connection".into()));
        }
        let how = relay.comparing.clone();
        relay.compared.answer(who, op, step, &how, &visible)
    }
}
