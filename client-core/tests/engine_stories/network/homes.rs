//! People in this world: their homes, and what they wish.

use std::collections::BTreeMap;

use client_core::engine::io::{Effect, Input};
use client_core::engine::{Compose, Engine, EngineConfig, SpooledFile};
use client_core::store::Store;
use client_core::view::MessageView;
use crypto::AccountKey;
use rand::rngs::StdRng;
use wire::{EventId, InviteCode, Link, PublicKey};

use super::{World, key, relay, server};

/// Somebody's home of one circle.
pub struct Home {
    pub engine: Engine,
    pub store: Store,
    pub effects: Vec<Effect>,
}

fn config() -> EngineConfig {
    EngineConfig {
        circle: 0,
        circle_name: "personal".into(),
        expire_s: None,
    }
}

impl World {
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
        let mut engine = Engine::new(account, config(), &mut store, &mut self.rng).unwrap();
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
        let mut store = Store::in_memory().unwrap();
        let mut engine = Engine::new(account, config(), &mut store, &mut self.rng).unwrap();
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

    /// A new process over the same store.
    pub fn restart(&mut self, who: &'static str) {
        let mut home = self.homes.remove(who).unwrap();
        let account = self.accounts()[who].clone();
        home.engine = Engine::new(account, config(), &mut home.store, &mut self.rng).unwrap();
        home.effects = home
            .engine
            .resume(&mut home.store, self.now, &mut self.rng)
            .unwrap();
        self.homes.insert(who, home);
    }

    /// A process stops in the middle, with what it had asked for, and another one starts.
    pub fn suspend(&mut self, who: &'static str) -> (Engine, Vec<Effect>) {
        let account = self.accounts()[who].clone();
        let home = self.homes.get_mut(who).unwrap();
        let next = Engine::new(account, config(), &mut home.store, &mut self.rng).unwrap();
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
}
