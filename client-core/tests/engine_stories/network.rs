//! A scripted network: relays and file servers in memory, engines that talk through them, and a
//! log of every effect for the assertions about what was seen by whom.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use client_core::engine::io::{
    BlobOutcome, DescribeOutcome, Effect, Input, OpId, PublishOutcome, QueryEnd, ReconcileAnswer,
    ReconcileStep, Role, SocketKey,
};
use client_core::engine::{Compose, Engine, EngineConfig, SpooledFile};
use client_core::store::Store;
use client_core::view::MessageView;
use crypto::AccountKey;
use rand::SeedableRng;
use rand::rngs::StdRng;
use wire::blob::{Token, Verb};
use wire::relay_url::Origin;
use wire::{
    Event, EventId, InviteCode, Link, OkMessage, PublicKey, RelayUrl, Sha256, VerifiedEvent, kinds,
};

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

/// A file server in memory.
#[derive(Debug, Default)]
pub struct FileServer {
    pub is_down: bool,
    pub refuses: bool,
    /// Says it deleted and keeps the blob.
    pub lies: bool,
    pub blobs: BTreeMap<Sha256, (PublicKey, Option<u64>)>,
    pub keys: Vec<PublicKey>,
}

/// Somebody's home of one circle.
pub struct Home {
    pub engine: Engine,
    pub store: Store,
    pub effects: Vec<Effect>,
}

/// Everything.
pub struct World {
    pub now: u64,
    pub rng: StdRng,
    pub relays: BTreeMap<RelayUrl, Relay>,
    pub servers: BTreeMap<Origin, FileServer>,
    pub homes: BTreeMap<&'static str, Home>,
    /// Every effect by whom, in order.
    pub log: Vec<(&'static str, Effect)>,
}

pub const START: u64 = 1_800_000_000;

pub fn relay(name: &str) -> RelayUrl {
    RelayUrl::parse(&format!("wss://{name}.example")).unwrap()
}

pub fn server(name: &str) -> Origin {
    Origin::parse(&format!("https://{name}.example")).unwrap()
}

pub fn key(number: u8) -> AccountKey {
    AccountKey::from_secret_bytes(&[number; 32]).unwrap()
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self {
            now: START,
            rng: StdRng::seed_from_u64(seed),
            relays: BTreeMap::new(),
            servers: BTreeMap::new(),
            homes: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    /// Alice on relay `a`, Bob on relay `b`, both with a file server, acquainted with each
    /// other's links.
    pub fn with_two(seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.add("alice", key(1), &["a"], &["files-a"]);
        world.add("bob", key(2), &["b"], &["files-b"]);
        world.befriend("alice", "bob");
        world.befriend("bob", "alice");
        world
    }

    pub fn relay(&mut self, name: &str) -> &mut Relay {
        self.relays.entry(relay(name)).or_insert_with(|| Relay {
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
        })
    }

    pub fn server(&mut self, name: &str) -> &mut FileServer {
        self.servers.entry(server(name)).or_default()
    }

    /// A home with its own store; the same key twice makes two devices.
    pub fn add(
        &mut self,
        who: &'static str,
        account: AccountKey,
        relays: &[&str],
        servers: &[&str],
    ) {
        self.add_with_store(who, account, relays, servers, Store::in_memory().unwrap());
    }

    pub fn add_with_store(
        &mut self,
        who: &'static str,
        account: AccountKey,
        relays: &[&str],
        servers: &[&str],
        mut store: Store,
    ) {
        for name in relays {
            self.relay(name);
        }
        for name in servers {
            self.server(name);
        }
        let config = EngineConfig {
            circle: 0,
            circle_name: "personal".into(),
            expire_s: None,
        };
        let mut engine = Engine::new(account, config, &mut store, &mut self.rng).unwrap();
        let relays = relays.iter().map(|name| relay(name)).collect();
        let servers = servers.iter().map(|name| server(name)).collect();
        let step = engine
            .set_servers(&mut store, relays, servers, self.now, &mut self.rng)
            .unwrap();
        self.homes.insert(
            who,
            Home {
                engine,
                store,
                effects: step.effects,
            },
        );
        self.run();
    }

    /// An account with relays, and with codes for some of them.
    pub fn add_invited(
        &mut self,
        who: &'static str,
        account: AccountKey,
        relays: &[&str],
        invites: &[(&str, &str)],
    ) {
        self.invite_without_running(who, account, relays, invites);
        self.run();
    }

    /// The same, before anything was carried out.
    pub fn invite_without_running(
        &mut self,
        who: &'static str,
        account: AccountKey,
        relays: &[&str],
        invites: &[(&str, &str)],
    ) {
        for name in relays {
            self.relay(name);
        }
        let config = EngineConfig {
            circle: 0,
            circle_name: "personal".into(),
            expire_s: None,
        };
        let mut store = Store::in_memory().unwrap();
        let mut engine = Engine::new(account, config, &mut store, &mut self.rng).unwrap();
        let invites: Vec<_> = invites
            .iter()
            .map(|(name, code)| (relay(name), InviteCode::parse(code).unwrap()))
            .collect();
        engine
            .keep_invites(&mut store, &invites, self.now, &mut self.rng)
            .unwrap();
        let relays = relays.iter().map(|name| relay(name)).collect();
        let step = engine
            .set_servers(&mut store, relays, Vec::new(), self.now, &mut self.rng)
            .unwrap();
        let effects = step.effects;
        let home = Home {
            engine,
            store,
            effects,
        };
        self.homes.insert(who, home);
    }

    /// Carries out one thing that somebody wants, if anybody wants any.
    pub fn step(&mut self) {
        let mut homes = self.homes.iter_mut();
        let next = homes.find(|(_, home)| !home.effects.is_empty());
        if let Some((who, home)) = next {
            let who = *who;
            let effect = home.effects.remove(0);
            self.carry_out(who, effect);
        }
    }

    pub fn key_of(&self, who: &str) -> PublicKey {
        self.homes[who].engine.public_key()
    }

    /// `who` adds `friend` by invite link.
    pub fn befriend(&mut self, who: &'static str, friend: &'static str) {
        let link = {
            let home = &self.homes[friend];
            home.engine.invite(&home.store, None).unwrap()
        };
        self.befriend_link(who, &link, Some(friend));
    }

    pub fn befriend_link(&mut self, who: &'static str, link: &Link, alias: Option<&str>) {
        let now = self.now;
        let home = self.homes.get_mut(who).unwrap();
        let step = home
            .engine
            .add_contact(&mut home.store, link, alias, now, &mut self.rng)
            .unwrap();
        assert!(step.effects.is_empty(), "adding a contact sends nothing");
    }

    pub fn text_to(&self, to: PublicKey, text: &str) -> Compose {
        Compose {
            to,
            text: Some(text.into()),
            file: None,
            reply_to: None,
            expire_s: None,
            as_myself: false,
            idempotency_key: None,
        }
    }

    pub fn file_to(&self, to: PublicKey, file: SpooledFile) -> Compose {
        Compose {
            file: Some(file),
            text: None,
            ..self.text_to(to, "")
        }
    }

    /// Stores the intent; the network does nothing yet.
    pub fn compose(
        &mut self,
        who: &'static str,
        compose: Compose,
    ) -> Result<EventId, client_core::Error> {
        let now = self.now;
        let home = self.homes.get_mut(who).unwrap();
        let step = home
            .engine
            .send(&mut home.store, compose, now, &mut self.rng)?;
        home.effects.extend(step.effects);
        Ok(step.value)
    }

    /// Sends a text and lets the network work.
    pub fn send(&mut self, who: &'static str, to: &str, text: &str) -> EventId {
        let compose = self.text_to(self.key_of(to), text);
        let id = self.compose(who, compose).unwrap();
        self.run();
        id
    }

    pub fn send_expiring(
        &mut self,
        who: &'static str,
        to: &str,
        text: &str,
        seconds: u64,
    ) -> EventId {
        let mut compose = self.text_to(self.key_of(to), text);
        compose.expire_s = Some(seconds);
        let id = self.compose(who, compose).unwrap();
        self.run();
        id
    }

    /// Somebody wishes something, and the network works.
    pub fn wish(
        &mut self,
        who: &'static str,
        wish: impl FnOnce(&mut Engine, &mut Store, u64, &mut StdRng) -> Vec<Effect>,
    ) {
        self.begin(who, wish);
        self.run();
    }

    /// Somebody wishes something; the network does nothing yet.
    pub fn begin(
        &mut self,
        who: &'static str,
        wish: impl FnOnce(&mut Engine, &mut Store, u64, &mut StdRng) -> Vec<Effect>,
    ) {
        let now = self.now;
        let home = self.homes.get_mut(who).unwrap();
        let effects = wish(&mut home.engine, &mut home.store, now, &mut self.rng);
        home.effects.extend(effects);
    }

    /// A sync of which the network has done nothing yet.
    pub fn begin_sync(&mut self, who: &'static str) {
        self.begin(who, |engine, store, now, rng| {
            engine.sync(store, now, rng).unwrap().effects
        });
    }

    pub fn sync(&mut self, who: &'static str) {
        self.wish(who, |engine, store, now, rng| {
            engine.sync(store, now, rng).unwrap().effects
        });
    }

    pub fn delete(&mut self, who: &'static str, id: EventId, for_everyone: bool) {
        self.wish(who, |engine, store, now, rng| {
            engine
                .delete(store, id, for_everyone, now, rng)
                .unwrap()
                .effects
        });
    }

    pub fn tick(&mut self, who: &'static str) {
        self.wish(who, |engine, store, now, rng| {
            engine.handle(store, Input::Tick, now, rng).unwrap()
        });
    }

    /// A new process over the same store.
    pub fn restart(&mut self, who: &'static str) {
        let mut home = self.homes.remove(who).unwrap();
        let account = self.accounts()[who].clone();
        let config = EngineConfig {
            circle: 0,
            circle_name: "personal".into(),
            expire_s: None,
        };
        home.engine = Engine::new(account, config, &mut home.store, &mut self.rng).unwrap();
        home.effects = home
            .engine
            .resume(&mut home.store, self.now, &mut self.rng)
            .unwrap();
        self.homes.insert(who, home);
    }

    /// A process stops in the middle, with what it had asked for, and another one starts.
    pub fn suspend(&mut self, who: &'static str) -> (Engine, Vec<Effect>) {
        let account = self.accounts()[who].clone();
        let config = EngineConfig {
            circle: 0,
            circle_name: "personal".into(),
            expire_s: None,
        };
        let home = self.homes.get_mut(who).unwrap();
        let next = Engine::new(account, config, &mut home.store, &mut self.rng).unwrap();
        let engine = std::mem::replace(&mut home.engine, next);
        (engine, std::mem::take(&mut home.effects))
    }

    fn accounts(&self) -> BTreeMap<&'static str, AccountKey> {
        let by_key: BTreeMap<PublicKey, AccountKey> = (1..=20)
            .map(|number| (key(number).public_key(), key(number)))
            .collect();
        self.homes
            .iter()
            .map(|(who, home)| (*who, by_key[&home.engine.public_key()].clone()))
            .chain([("alice", key(1)), ("bob", key(2))])
            .collect()
    }

    pub fn messages(&self, who: &str, with: PublicKey) -> Vec<MessageView> {
        let home = &self.homes[who];
        home.engine
            .messages(&home.store, &with, 1_000, None, self.now)
            .unwrap()
    }

    pub fn texts(&self, who: &str, with: &str) -> Vec<String> {
        let with = self.key_of(with);
        let views = self.messages(who, with);
        views.into_iter().map(|view| view.text).collect()
    }

    pub fn status(&self, who: &str, id: EventId) -> &'static str {
        let home = &self.homes[who];
        home.engine.sent(&home.store, id).unwrap().status
    }

    /// Lets the network work until nobody wants anything.
    pub fn run(&mut self) {
        for _ in 0..100_000 {
            let next = self
                .homes
                .iter_mut()
                .find(|(_, home)| !home.effects.is_empty());
            let Some((who, home)) = next else { return };
            let who = *who;
            let effect = home.effects.remove(0);
            self.carry_out(who, effect);
        }
        panic!("the network does not come to rest");
    }

    /// Lets the network work until somebody wants such a thing next.
    pub fn run_until(&mut self, is_it: impl Fn(&Effect) -> bool) {
        for _ in 0..100_000 {
            let next = self
                .homes
                .iter_mut()
                .find(|(_, home)| !home.effects.is_empty());
            let Some((who, home)) = next else {
                panic!("nobody wants it");
            };
            if is_it(&home.effects[0]) {
                return;
            }
            let who = *who;
            let effect = home.effects.remove(0);
            self.carry_out(who, effect);
        }
        panic!("the network does not come to rest");
    }

    /// Gives an input to an engine and queues what it wants.
    pub fn feed(&mut self, who: &str, input: Input) {
        let now = self.now;
        let home = self.homes.get_mut(who).unwrap();
        let effects = home
            .engine
            .handle(&mut home.store, input, now, &mut self.rng)
            .unwrap();
        home.effects.extend(effects);
    }

    fn carry_out(&mut self, who: &'static str, effect: Effect) {
        self.log.push((who, effect.clone()));
        match effect {
            Effect::Publish {
                op, socket, event, ..
            } => {
                let outcome = self.publish(who, &socket, event);
                self.feed(who, Input::Published { op, outcome });
            }
            Effect::Query {
                op,
                socket,
                filter,
                live,
            } => {
                if live && self.relay_of(&socket).mood != Mood::Down {
                    self.feed(who, Input::CaughtUp { op });
                    return;
                }
                let (events, end) = self.query(who, &socket, &filter);
                for some in events.chunks(64) {
                    let events = some.to_vec();
                    self.feed(who, Input::Events { op, events });
                }
                let garbage = 0;
                self.feed(who, Input::QueryEnded { op, end, garbage });
            }
            Effect::Reconcile { op, socket, step } => {
                if let Some(answer) = self.reconcile(who, &socket, op, &step) {
                    self.feed(who, Input::Reconciled { op, answer });
                }
            }
            Effect::Describe { op, relay } => {
                let relay = self.relays.get_mut(&relay).expect("a relay of this world");
                let outcome = match (&relay.mood, &relay.nips) {
                    (Mood::Down, _) => DescribeOutcome::Unreachable,
                    (_, Some(nips)) => DescribeOutcome::Knows(nips.clone()),
                    (_, None) => DescribeOutcome::Nothing,
                };
                self.feed(who, Input::Described { op, outcome });
            }
            Effect::Upload {
                op,
                origin,
                blob,
                authorization,
                sunset,
                ..
            } => {
                let now = self.now;
                let host = origin.host();
                let server = self.servers.get_mut(&origin).unwrap();
                let outcome = if server.is_down {
                    BlobOutcome::Unreachable("no connection".into())
                } else if server.refuses {
                    BlobOutcome::Refused {
                        status: 403,
                        reason: "no".into(),
                    }
                } else {
                    let token = Token::from_header(&authorization).unwrap();
                    token.check(Verb::Upload, &blob, &[host], now).unwrap();
                    server.keys.push(token.pubkey());
                    server.blobs.insert(blob, (token.pubkey(), sunset));
                    BlobOutcome::Done { sunset }
                };
                self.feed(who, Input::BlobDone { op, outcome });
            }
            Effect::RemoveBlob {
                op,
                url,
                authorization,
                ..
            } => {
                let now = self.now;
                let host = url.origin.host();
                let server = self.servers.get_mut(&url.origin).unwrap();
                let outcome = if server.is_down {
                    BlobOutcome::Unreachable("no connection".into())
                } else {
                    let token = Token::from_header(&authorization).unwrap();
                    token.check(Verb::Delete, &url.hash, &[host], now).unwrap();
                    match server.blobs.get(&url.hash) {
                        None => BlobOutcome::Absent,
                        Some((owner, _)) if *owner != token.pubkey() => BlobOutcome::Refused {
                            status: 403,
                            reason: "not yours".into(),
                        },
                        Some(_) => {
                            if !server.lies {
                                server.blobs.remove(&url.hash);
                            }
                            BlobOutcome::Done { sunset: None }
                        }
                    }
                };
                self.feed(who, Input::BlobDone { op, outcome });
            }
            Effect::ProbeBlob { op, url, .. } => {
                let server = self.servers.get_mut(&url.origin).unwrap();
                let outcome = if server.is_down {
                    BlobOutcome::Unreachable("no connection".into())
                } else if server.blobs.contains_key(&url.hash) {
                    BlobOutcome::Done { sunset: None }
                } else {
                    BlobOutcome::Absent
                };
                self.feed(who, Input::BlobDone { op, outcome });
            }
            Effect::Unspool { .. } | Effect::Authenticate { .. } | Effect::StayAnonymous { .. } => {
            }
        }
    }

    fn relay_of(&mut self, socket: &SocketKey) -> &mut Relay {
        self.relays
            .get_mut(&socket.relay)
            .unwrap_or_else(|| panic!("{} was dialled and is on no list", socket.relay))
    }

    /// Challenges a socket and notes which key answered.
    fn challenge(&mut self, who: &'static str, socket: &SocketKey) -> Option<PublicKey> {
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

    fn publish(&mut self, who: &'static str, socket: &SocketKey, event: Bytes) -> PublishOutcome {
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

    fn query(
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
    fn visible(
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

    fn reconcile(
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

    /// The wraps that lie on a relay.
    pub fn wraps(&mut self, name: &str) -> Vec<Event> {
        let is_wrap = |event: &&Event| kinds::is_wrap(event.kind());
        let relay = self.relay(name);
        relay.events.iter().filter(is_wrap).cloned().collect()
    }

    /// Every published event, by whom and by which socket.
    pub fn published(&self) -> Vec<(&'static str, SocketKey, Event)> {
        self.log
            .iter()
            .filter_map(|(who, effect)| match effect {
                Effect::Publish { socket, event, .. } => {
                    Some((*who, socket.clone(), Event::decode(event.clone()).unwrap()))
                }
                _ => None,
            })
            .collect()
    }
}

impl Relay {
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
