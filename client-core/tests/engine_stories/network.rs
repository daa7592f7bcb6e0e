//! A scripted network: relays and file servers in memory, engines that talk through them, and a
//! log of every effect for the assertions about what was seen by whom.

mod file_servers;
mod homes;
mod relays;

use std::collections::BTreeMap;

use client_core::engine::io::{Effect, Input, SocketKey};
use crypto::AccountKey;
use rand::SeedableRng;
use rand::rngs::StdRng;
use wire::relay_url::Origin;
use wire::{Event, RelayUrl};

pub use file_servers::FileServer;
pub use homes::Home;
pub use relays::{Mood, Relay};

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
/// After so many effects the network counts as restless.
const STEPS: u32 = 100_000;

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

    pub fn server(&mut self, name: &str) -> &mut FileServer {
        self.servers.entry(server(name)).or_default()
    }

    /// Whoever wants something next.
    fn next(&mut self) -> Option<(&'static str, &mut Home)> {
        let mut homes = self.homes.iter_mut();
        let next = homes.find(|(_, home)| !home.effects.is_empty());
        next.map(|(who, home)| (*who, home))
    }

    /// Carries out one thing that somebody wants; false where nobody wants any.
    pub fn step(&mut self) -> bool {
        let Some((who, home)) = self.next() else {
            return false;
        };
        let effect = home.effects.remove(0);
        self.carry_out(who, effect);
        true
    }

    /// Lets the network work until nobody wants anything.
    pub fn run(&mut self) {
        let comes_to_rest = (0..STEPS).any(|_| !self.step());
        assert!(comes_to_rest, "the network does not come to rest");
    }

    /// Lets the network work until somebody wants such a thing next.
    pub fn run_until(&mut self, is_it: impl Fn(&Effect) -> bool) {
        for _ in 0..STEPS {
            let (_, home) = self.next().expect("somebody wants it");
            if is_it(&home.effects[0]) {
                return;
            }
            self.step();
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
                let relay = self.relays.get(&relay).expect("a relay of this world");
                let outcome = relay.describe();
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
                let server = self.servers.get_mut(&origin).unwrap();
                let outcome = server.upload(&origin, blob, &authorization, sunset, self.now);
                self.feed(who, Input::BlobDone { op, outcome });
            }
            Effect::RemoveBlob {
                op,
                url,
                authorization,
                ..
            } => {
                let server = self.servers.get_mut(&url.origin).unwrap();
                let outcome = server.remove(&url, &authorization, self.now);
                self.feed(who, Input::BlobDone { op, outcome });
            }
            Effect::ProbeBlob { op, url, .. } => {
                let outcome = self.servers[&url.origin].probe(&url);
                self.feed(who, Input::BlobDone { op, outcome });
            }
            Effect::Unspool { .. } | Effect::Authenticate { .. } | Effect::StayAnonymous { .. } => {
            }
        }
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
