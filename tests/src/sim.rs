//! A network that loses, delays, repeats and reorders, replayed from a seed: engines without
//! sockets on one side, the relay's own policy and in-memory store on the other.
//!
//! What is modelled: connections that are refused, that die before the relay has the event, or
//! after it has it and before the OK; answers that take seconds; events that are sent twice;
//! pages that come shuffled, with repetitions, or that break off in the middle; comparisons that
//! are refused, break off, or find what is gone when it is fetched; relays that cannot compare, do
//! not say so, or say so and cannot; processes that are killed between any two inputs and start
//! again on the same store.

mod sockets;
mod weather;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};

use bytes::Bytes;
use client_core::engine::io::{
    DescribeOutcome, Effect, Input, PublishOutcome, QueryEnd, ReconcileAnswer, ReconcileStep,
    SocketKey,
};
use client_core::engine::{Engine, EngineConfig, Step};
use client_core::store::Store;
use crypto::AccountKey;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sotto_relay::Config;
use sotto_relay::model::ModelRelay;
use wire::{ClientFrame, Event, EventId, Filter, OkMessage, RelayFrame, RelayUrl, SubscriptionId};

pub use weather::Weather;

/// One person: an engine that may be killed, and a store that survives.
pub struct Person {
    /// Who.
    pub account: AccountKey,
    /// What they remember.
    pub store: Store,
    engine: Option<Engine>,
    rng: StdRng,
    secret: [u8; 32],
    /// Counts restarts, so that an answer to a dead process is not given to the next one.
    life: u32,
}

/// The world of one seed.
pub struct Sim {
    /// Everyone, by index.
    pub people: Vec<Person>,
    relays: BTreeMap<RelayUrl, ModelRelay>,
    /// Which relays list that they compare, and which of those do.
    lists: BTreeMap<RelayUrl, (bool, bool)>,
    /// Comparisons that came to an end with their connections open.
    pub compared: u32,
    rng: StdRng,
    /// What goes wrong from now on.
    pub weather: Weather,
    /// Unix seconds.
    pub now: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    inputs: HashMap<u64, (usize, u32, Input)>,
    serial: u64,
    sockets: HashMap<(usize, u32, SocketKey), Socket>,
    waiting: HashMap<(usize, u32, SocketKey), Vec<Effect>>,
    next_client: u64,
    /// Every wrap that any relay was ever sent.
    pub wraps: HashSet<EventId>,
    /// What socket keys carried, to be checked against the rules.
    pub carried: Vec<(usize, SocketKey, Carried)>,
}

/// Something a socket carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carried {
    /// AUTH by this key.
    Auth(wire::PublicKey),
    /// An event of this kind by this key.
    Event(u16, wire::PublicKey),
    /// A REQ, or what a comparison is about.
    Req(Filter),
}

struct Socket {
    client: u64,
    challenge: String,
}

impl Sim {
    /// A world with `people` people, each with one inbox relay out of `relays` and their lists
    /// published. It starts calm.
    pub fn new(seed: u64, people: usize, relays: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let urls: Vec<RelayUrl> = (0..relays)
            .map(|at| RelayUrl::parse(&format!("wss://relay{at}.example")).unwrap())
            .collect();
        let models = urls.iter().map(|url| {
            let mut config = Config::in_memory();
            config.urls = vec![url.clone()];
            (
                url.clone(),
                ModelRelay::new(&config, 443, rng.random()).unwrap(),
            )
        });
        let relays: BTreeMap<RelayUrl, ModelRelay> = models.collect();
        let lists = relays.keys().map(|url| {
            let lists = rng.random_range(0..4) > 0;
            (url.clone(), (lists, rng.random_range(0..5) > 0))
        });
        let lists = lists.collect();
        let mut sim = Self {
            people: Vec::new(),
            relays,
            lists,
            compared: 0,
            rng,
            weather: Weather::CALM,
            now: 1_800_000_000,
            queue: BinaryHeap::new(),
            inputs: HashMap::new(),
            serial: 0,
            sockets: HashMap::new(),
            waiting: HashMap::new(),
            next_client: 0,
            wraps: HashSet::new(),
            carried: Vec::new(),
        };
        for at in 0..people {
            let secret: [u8; 32] = sim.rng.random();
            let account = AccountKey::from_secret_bytes(&secret).unwrap();
            let rng = StdRng::seed_from_u64(sim.rng.random());
            let store = Store::in_memory().unwrap();
            sim.people.push(Person {
                account,
                store,
                engine: None,
                rng,
                secret,
                life: 0,
            });
            sim.start(at);
            let own = vec![sim.relay_of(at)];
            sim.wish(at, |engine, store, now, rng| {
                engine.set_servers(store, own, Vec::new(), now, rng)
            });
        }
        sim.run();
        sim
    }

    /// The inbox relay of a person.
    pub fn relay_of(&self, at: usize) -> RelayUrl {
        self.relays
            .keys()
            .nth(at % self.relays.len())
            .unwrap()
            .clone()
    }

    /// Starts a (new) process of a person on the store they have.
    pub fn start(&mut self, at: usize) {
        let person = &mut self.people[at];
        person.life += 1;
        let account = AccountKey::from_secret_bytes(&person.secret).unwrap();
        let config = EngineConfig {
            circle: 0,
            circle_name: "personal".to_owned(),
            expire_s: None,
        };
        let mut engine = Engine::new(account, config, &mut person.store, &mut person.rng).unwrap();
        let effects = engine
            .resume(&mut person.store, self.now, &mut person.rng)
            .unwrap();
        person.engine = Some(engine);
        self.carry_out(at, effects);
    }

    /// One wish of a person; its effects go to the network.
    pub fn wish<T>(
        &mut self,
        at: usize,
        wish: impl FnOnce(&mut Engine, &mut Store, u64, &mut StdRng) -> client_core::Result<Step<T>>,
    ) -> T {
        let person = &mut self.people[at];
        let engine = person.engine.as_mut().expect("running");
        let step = wish(engine, &mut person.store, self.now, &mut person.rng).expect("a wish");
        self.carry_out(at, step.effects);
        step.value
    }

    /// Asks a person's engine something.
    pub fn ask<T>(&mut self, at: usize, ask: impl FnOnce(&Engine, &mut Store, u64) -> T) -> T {
        let person = &mut self.people[at];
        ask(
            person.engine.as_ref().expect("running"),
            &mut person.store,
            self.now,
        )
    }

    /// Lets everything happen that is under way, at most `600` seconds of it.
    pub fn run(&mut self) {
        let end = (self.now + 600) * 1_000;
        while let Some(Reverse((at_ms, _))) = self.queue.peek().copied() {
            if at_ms > end {
                break;
            }
            let Some(Reverse((at_ms, serial))) = self.queue.pop() else {
                break;
            };
            self.now = self.now.max(at_ms / 1_000);
            let Some((at, life, input)) = self.inputs.remove(&serial) else {
                continue;
            };
            if self.people[at].life != life {
                continue;
            }
            self.input(at, input);
        }
    }

    /// Time passes for everybody: relays sweep, engines get a tick and what is due goes out.
    pub fn pass(&mut self, seconds: u64) {
        self.now += seconds;
        for relay in self.relays.values_mut() {
            relay.sweep(self.now).unwrap();
        }
        for at in 0..self.people.len() {
            self.input(at, Input::Tick);
        }
        self.run();
    }

    /// The wraps that a relay still has.
    pub fn wraps_left(&self) -> HashSet<EventId> {
        let has = |id: &EventId| {
            self.relays
                .values()
                .any(|relay| relay.contains(id).unwrap())
        };
        self.wraps.iter().copied().filter(has).collect()
    }

    /// Everything stored on all relays for one person, opened or not.
    pub fn stored_for(&mut self, at: usize) -> Vec<Event> {
        let account = &self.people[at].account;
        let filter = Filter::default()
            .with_kinds([1059])
            .with_tag('p', [account.public_key().to_hex()]);
        let account = AccountKey::from_secret_bytes(&self.people[at].secret).unwrap();
        let mut found = Vec::new();
        let now = self.now;
        for (url, relay) in &mut self.relays {
            self.next_client += 1;
            let client = self.next_client;
            let greeting = relay.connect(client);
            let challenge = challenge_of(&greeting[0].1);
            let draft = wire::EventDraft {
                pubkey: account.public_key(),
                created_at: now,
                kind: 22242,
                tags: [
                    wire::Tag::new(["relay", url.as_str()]),
                    wire::Tag::new(["challenge", challenge.as_str()]),
                ]
                .into_iter()
                .collect(),
                content: String::new(),
            };
            let auth = account.sign(draft, &mut self.rng);
            relay.handle(client, ClientFrame::Auth(auth), now);
            let id = SubscriptionId::new("look").unwrap();
            for (_, text) in relay.handle(client, ClientFrame::Req(id, vec![filter.clone()]), now) {
                if let Ok(RelayFrame::Event(_, event)) = RelayFrame::decode(&Bytes::from(text)) {
                    found.push(event);
                }
            }
            relay.disconnect(client);
        }
        found
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn later(&mut self, at: usize, input: Input) {
        let delay = self.rng.random_range(5..4_000);
        self.serial += 1;
        self.queue
            .push(Reverse((self.now * 1_000 + delay, self.serial)));
        self.inputs
            .insert(self.serial, (at, self.people[at].life, input));
    }

    fn input(&mut self, at: usize, input: Input) {
        let person = &mut self.people[at];
        let Some(engine) = person.engine.as_mut() else {
            return;
        };
        let effects = engine
            .handle(&mut person.store, input, self.now, &mut person.rng)
            .expect("an input");
        if self.chance(self.weather.killed) {
            // Killed after the transaction, before any effect: the worst moment there is.
            self.start(at);
            return;
        }
        self.carry_out(at, effects);
    }

    fn carry_out(&mut self, at: usize, effects: Vec<Effect>) {
        for effect in effects {
            self.effect(at, effect);
        }
    }

    fn effect(&mut self, at: usize, effect: Effect) {
        match &effect {
            Effect::Publish { op, socket, .. } => {
                if self.chance(self.weather.refused) {
                    let outcome = PublishOutcome::Unreachable("no route".into());
                    return self.later(at, Input::Published { op: *op, outcome });
                }
                let key = self.connect(at, socket);
                self.publish(at, key, effect);
            }
            Effect::Query { op, socket, .. } => {
                if self.chance(self.weather.refused) {
                    let end = QueryEnd::Unreachable("no route".into());
                    return self.later(
                        at,
                        Input::QueryEnded {
                            op: *op,
                            end,
                            garbage: 0,
                        },
                    );
                }
                let key = self.connect(at, socket);
                self.query(at, key, effect);
            }
            Effect::Reconcile { op, socket, step } => {
                if self.chance(self.weather.refused) && !matches!(step, ReconcileStep::Close) {
                    let answer = ReconcileAnswer::Unreachable("no route".into());
                    return self.later(at, Input::Reconciled { op: *op, answer });
                }
                let key = self.connect(at, socket);
                self.reconcile(at, key, effect);
            }
            Effect::Describe { op, relay } => {
                let outcome = if self.chance(self.weather.refused) {
                    DescribeOutcome::Unreachable
                } else if self.lists[relay].0 {
                    DescribeOutcome::Knows([1, 42, 77].into())
                } else {
                    DescribeOutcome::Knows([1, 42].into())
                };
                self.later(at, Input::Described { op: *op, outcome });
            }
            Effect::Authenticate { socket, event, .. } => {
                let key = self.key(at, socket);
                let event = Event::decode(event.clone()).expect("an event");
                self.carried
                    .push((at, socket.clone(), Carried::Auth(event.pubkey())));
                let now = self.now;
                if let Some(client) = self.sockets.get(&key).map(|socket| socket.client) {
                    self.relay(socket)
                        .handle(client, ClientFrame::Auth(event), now);
                }
                for effect in self.waiting.remove(&key).unwrap_or_default() {
                    match &effect {
                        Effect::Publish { .. } => self.publish(at, key.clone(), effect),
                        Effect::Reconcile { .. } => self.reconcile(at, key.clone(), effect),
                        _ => self.query(at, key.clone(), effect),
                    }
                }
            }
            Effect::StayAnonymous { socket } => {
                let key = self.key(at, socket);
                for effect in self.waiting.remove(&key).unwrap_or_default() {
                    let message = OkMessage::parse("auth-required: not authenticated");
                    match effect {
                        Effect::Publish { op, .. } => {
                            let outcome = PublishOutcome::Refused(message);
                            self.later(at, Input::Published { op, outcome });
                        }
                        Effect::Reconcile { op, .. } => {
                            let answer = ReconcileAnswer::Refused(message);
                            self.later(at, Input::Reconciled { op, answer });
                        }
                        Effect::Query { op, .. } => {
                            let end = QueryEnd::Closed(message);
                            self.later(
                                at,
                                Input::QueryEnded {
                                    op,
                                    end,
                                    garbage: 0,
                                },
                            );
                        }
                        _ => {}
                    }
                }
            }
            Effect::Upload { op, .. }
            | Effect::RemoveBlob { op, .. }
            | Effect::ProbeBlob { op, .. } => {
                self.blob(at, *op);
            }
            Effect::Unspool { .. } => {}
        }
    }
}

/// The challenge of a relay's greeting.
fn challenge_of(frame: &str) -> String {
    match RelayFrame::decode(&Bytes::copy_from_slice(frame.as_bytes())) {
        Ok(RelayFrame::Auth(challenge)) => challenge,
        other => panic!("a relay greets with a challenge, not {other:?}"),
    }
}
