//! One socket of a check: asks a relay something with a key made for this check alone.

use bytes::Bytes;
use crypto::OneTimeKey;
use rand::CryptoRng;
use tokio::sync::mpsc;
use wire::{Event, Filter, RelayUrl};

use crate::clock::Clock;
use crate::engine::auth;
use crate::engine::io::{Input, OpId, PublishOutcome, QueryEnd, Role, SocketKey};
use crate::runtime::Timeouts;
use crate::runtime::dialer::Dialer;
use crate::runtime::relay_link::{Command, RelayLink};

/// A connection of its own to a relay, under a throw-away key.
pub(super) struct Probe<'a> {
    link: RelayLink,
    inputs: mpsc::Receiver<Input>,
    task: tokio::task::JoinHandle<()>,
    key: Option<&'a OneTimeKey>,
    relay: RelayUrl,
    clock: &'a dyn Clock,
    next_op: u64,
    /// Whether the relay asked for an AUTH.
    pub was_challenged: bool,
}

/// How a probe's sockets are made.
pub(super) struct Probing<'a> {
    pub relay: RelayUrl,
    pub circle: u32,
    pub dialer: Dialer,
    pub timeouts: Timeouts,
    pub clock: &'a dyn Clock,
}

impl<'a> Probing<'a> {
    /// A socket of this role. Challenges are answered with `key`, or not at all.
    pub fn socket(
        &self,
        role: Role,
        key: Option<&'a OneTimeKey>,
        rng: &mut dyn CryptoRng,
    ) -> Probe<'a> {
        let (sender, inputs) = mpsc::channel(64);
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let of = key.map_or_else(
            || OneTimeKey::generate(rng).public_key(),
            OneTimeKey::public_key,
        );
        let socket = SocketKey {
            circle: self.circle,
            role,
            key: of,
            relay: self.relay.clone(),
            is_own: true,
        };
        let (link, task) = RelayLink::new(socket, self.dialer.clone(), self.timeouts, seed, sender);
        Probe {
            link,
            inputs,
            task: tokio::spawn(task),
            key,
            relay: self.relay.clone(),
            clock: self.clock,
            next_op: 0,
            was_challenged: false,
        }
    }
}

impl Probe<'_> {
    /// Sends an event and gives the relay's answer.
    pub async fn publish(&mut self, event: &Event, rng: &mut dyn CryptoRng) -> PublishOutcome {
        let op = self.op();
        self.link.command(Command::Publish {
            op,
            id: event.id(),
            event: event.json().clone(),
        });
        loop {
            match self.next(rng).await {
                Some(Input::Published { outcome, .. }) => return outcome,
                Some(_) => {}
                None => return PublishOutcome::Unreachable("the connection broke".to_owned()),
            }
        }
    }

    /// Asks, and gives the events and how it ended.
    pub async fn query(
        &mut self,
        filter: Filter,
        rng: &mut dyn CryptoRng,
    ) -> (Vec<Bytes>, QueryEnd) {
        let op = self.op();
        self.link.command(Command::Query {
            op,
            filter,
            live: false,
        });
        let mut all = Vec::new();
        loop {
            match self.next(rng).await {
                Some(Input::Events { events, .. }) => all.extend(events),
                Some(Input::QueryEnded { end, .. }) => return (all, end),
                Some(_) => {}
                None => {
                    let why = "the connection broke".to_owned();
                    return (all, QueryEnd::Unreachable(why));
                }
            }
        }
    }

    fn op(&mut self) -> OpId {
        self.next_op = self.next_op.saturating_add(1);
        OpId(self.next_op)
    }

    /// The next answer; challenges are dealt with on the way.
    async fn next(&mut self, rng: &mut dyn CryptoRng) -> Option<Input> {
        loop {
            let input = self.inputs.recv().await?;
            let Input::Challenged { challenge, .. } = input else {
                return Some(input);
            };
            self.was_challenged = true;
            match self.key {
                Some(key) => {
                    let draft = auth::draft(&self.relay, &challenge, self.clock.now());
                    let event = key.sign(draft, rng);
                    self.link.command(Command::Authenticate {
                        id: event.id(),
                        event: event.json().clone(),
                    });
                }
                None => self.link.command(Command::StayAnonymous),
            }
        }
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
