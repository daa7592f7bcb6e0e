//! What goes over one socket: to a relay that follows the real policy, in the weather of the hour.

use bytes::Bytes;
use client_core::engine::io::{
    BlobOutcome, Effect, Input, OpId, PublishOutcome, QueryEnd, ReconcileAnswer, ReconcileStep,
    SocketKey,
};
use rand::seq::SliceRandom;
use sotto_relay::model::ModelRelay;
use wire::{ClientFrame, Event, OkMessage, RelayFrame, SubscriptionId};

use super::{Carried, Sim, Socket, challenge_of};

impl Sim {
    pub(super) fn blob(&mut self, at: usize, op: OpId) {
        let outcome = BlobOutcome::Unreachable("no file server in this world".into());
        self.later(at, Input::BlobDone { op, outcome });
    }

    pub(super) fn key(&self, at: usize, socket: &SocketKey) -> (usize, u32, SocketKey) {
        (at, self.people[at].life, socket.clone())
    }

    pub(super) fn relay(&mut self, socket: &SocketKey) -> &mut ModelRelay {
        self.relays
            .get_mut(&socket.relay)
            .expect("a relay of this world")
    }

    pub(super) fn connect(&mut self, at: usize, socket: &SocketKey) -> (usize, u32, SocketKey) {
        let key = self.key(at, socket);
        if !self.sockets.contains_key(&key) {
            self.next_client += 1;
            let client = self.next_client;
            let greeting = self.relay(socket).connect(client);
            let challenge = challenge_of(&greeting[0].1);
            self.sockets
                .insert(key.clone(), Socket { client, challenge });
        }
        key
    }

    pub(super) fn challenge(&mut self, at: usize, key: &(usize, u32, SocketKey), effect: Effect) {
        let waiting = self.waiting.entry(key.clone()).or_default();
        waiting.push(effect);
        if waiting.len() == 1 {
            let challenge = self.sockets[key].challenge.clone();
            self.later(
                at,
                Input::Challenged {
                    socket: key.2.clone(),
                    challenge,
                },
            );
        }
    }

    pub(super) fn publish(&mut self, at: usize, key: (usize, u32, SocketKey), effect: Effect) {
        let Effect::Publish {
            op,
            socket,
            id,
            event,
        } = &effect
        else {
            return;
        };
        let decoded = Event::decode(event.clone()).expect("an event");
        assert_eq!(decoded.id(), *id, "the effect names another event");
        if decoded.kind() == 1059 {
            self.wraps.insert(*id);
        }
        let carried = Carried::Event(decoded.kind(), decoded.pubkey());
        self.carried.push((at, socket.clone(), carried));
        let (now, client) = (self.now, self.sockets[&key].client);
        let times = if self.chance(self.weather.repeated) {
            2
        } else {
            1
        };
        let mut answer = None;
        for _ in 0..times {
            let frame = ClientFrame::Event(decoded.clone());
            for (to, text) in self.relay(socket).handle(client, frame, now) {
                if to == client
                    && let Ok(RelayFrame::Ok(of, accepted, message)) =
                        RelayFrame::decode(&Bytes::from(text))
                    && of == *id
                {
                    answer = Some((accepted, message));
                }
            }
        }
        let outcome = match answer {
            Some((false, message)) if message.reason == wire::Reason::AuthRequired => {
                return self.challenge(at, &key, effect);
            }
            _ if self.chance(self.weather.answer_lost) => {
                PublishOutcome::Unknown("connection lost".into())
            }
            Some((true, message)) => PublishOutcome::Accepted(message),
            Some((false, message)) => PublishOutcome::Refused(message),
            None => PublishOutcome::Unknown("no answer".into()),
        };
        self.later(at, Input::Published { op: *op, outcome });
    }

    pub(super) fn reconcile(&mut self, at: usize, key: (usize, u32, SocketKey), effect: Effect) {
        let Effect::Reconcile { op, socket, step } = &effect else {
            return;
        };
        let (now, client) = (self.now, self.sockets[&key].client);
        let id = SubscriptionId::new(format!("n{}", op.0)).unwrap();
        let frame = match step {
            ReconcileStep::Open { filter, message } => {
                let carried = Carried::Req(filter.clone());
                self.carried.push((at, socket.clone(), carried));
                if !self.lists[&socket.relay].1 {
                    let text = "ERROR: bad msg: unknown cmd";
                    let answer = ReconcileAnswer::Refused(OkMessage::parse(text));
                    return self.later(at, Input::Reconciled { op: *op, answer });
                }
                ClientFrame::NegOpen(id, filter.clone(), message.clone())
            }
            ReconcileStep::Next { message } => ClientFrame::NegMsg(id, message.clone()),
            ReconcileStep::Close => {
                self.compared += 1;
                self.relay(socket)
                    .handle(client, ClientFrame::NegClose(id), now);
                return;
            }
        };
        let mut answer = ReconcileAnswer::Silent;
        for (to, text) in self.relay(socket).handle(client, frame, now) {
            if to != client {
                continue;
            }
            match RelayFrame::decode(&Bytes::from(text)) {
                Ok(RelayFrame::NegMsg(_, message)) => answer = ReconcileAnswer::Message(message),
                Ok(RelayFrame::NegErr(_, message)) => {
                    if message.reason == wire::Reason::AuthRequired {
                        return self.challenge(at, &key, effect);
                    }
                    answer = ReconcileAnswer::Refused(message);
                }
                _ => {}
            }
        }
        if self.chance(self.weather.cut) {
            answer = ReconcileAnswer::Broken("connection lost".into());
        }
        if !matches!(answer, ReconcileAnswer::Message(_)) {
            let id = SubscriptionId::new(format!("n{}", op.0)).unwrap();
            self.relay(socket)
                .handle(client, ClientFrame::NegClose(id), now);
        }
        self.later(at, Input::Reconciled { op: *op, answer });
    }

    pub(super) fn query(&mut self, at: usize, key: (usize, u32, SocketKey), effect: Effect) {
        let Effect::Query {
            op,
            socket,
            filter,
            live,
        } = &effect
        else {
            return;
        };
        assert!(!live, "nobody watches in this world");
        self.carried
            .push((at, socket.clone(), Carried::Req(filter.clone())));
        let (now, client) = (self.now, self.sockets[&key].client);
        let id = SubscriptionId::new("q").unwrap();
        let frame = ClientFrame::Req(id.clone(), vec![filter.clone()]);
        let mut events = Vec::new();
        let mut end = QueryEnd::Eose { complete: None };
        for (to, text) in self.relay(socket).handle(client, frame, now) {
            if to != client {
                continue;
            }
            match RelayFrame::decode(&Bytes::from(text)) {
                Ok(RelayFrame::Event(_, event)) => events.push(event.json().clone()),
                Ok(RelayFrame::Eose { complete, .. }) => end = QueryEnd::Eose { complete },
                Ok(RelayFrame::Closed(_, message)) => {
                    if message.reason == wire::Reason::AuthRequired {
                        return self.challenge(at, &key, effect);
                    }
                    end = QueryEnd::Closed(message);
                }
                _ => {}
            }
        }
        self.relay(socket)
            .handle(client, ClientFrame::Close(id), now);
        if self.chance(self.weather.cut) {
            events.truncate(events.len() / 2);
            end = QueryEnd::Unreachable("connection lost".into());
        }
        if self.weather.repeated > 0 {
            events.shuffle(&mut self.rng);
            let again: Vec<Bytes> = events.iter().take(events.len() / 8).cloned().collect();
            events.extend(again);
        }
        // All inputs of one operation keep their order, as a connection does.
        let life = self.people[at].life;
        for chunk in events.chunks(64) {
            if self.people[at].life != life {
                return;
            }
            self.input(
                at,
                Input::Events {
                    op: *op,
                    events: chunk.to_vec(),
                },
            );
        }
        if self.people[at].life == life {
            self.later(
                at,
                Input::QueryEnded {
                    op: *op,
                    end,
                    garbage: 0,
                },
            );
        }
    }
}
