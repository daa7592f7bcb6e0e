//! What is said on one connection to one relay (NIP-01, NIP-42, NIP-77). No I/O: commands and
//! frames go in, frames and inputs come out.

mod authentication;
mod reconciliation;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::time::Instant;
use wire::{ClientFrame, EventId, Filter, OkMessage, Reason, RelayFrame, SubscriptionId, kinds};

use self::authentication::Auth;
pub(super) use self::reconciliation::CONNECTION_LOST;
use self::reconciliation::Reconciliations;
use crate::engine::io::{Input, OpId, PublishOutcome, QueryEnd, Role, SocketKey};

/// Events handed on at once.
const BATCH: usize = 64;
/// Or as many bytes: with the queue that waits for the engine, this is what a relay of large
/// events makes us hold.
const BATCH_BYTES: usize = 256 * 1024;
/// Frames that are no answer to anything, per connection, before it is given up.
const GARBAGE: u64 = 1_000;
/// Stored events of one query that set no limit.
const UNLIMITED: usize = 100_000;
/// Events beyond a query's limit that are still taken: new ones may come in between.
const SLACK: usize = 100;

/// What the session wants.
#[derive(Debug)]
pub enum Output {
    /// Write this text frame.
    Send(String),
    /// Tell the engine.
    Input(Input),
}

/// What the relay has been told and asked on this connection, and what is still open.
pub struct Session {
    key: SocketKey,
    rng: StdRng,
    answer: Duration,
    auth: Auth,
    challenge: Option<String>,
    challenges: u32,
    /// How often AUTH succeeded; what was refused before the last time is worth repeating.
    auths: u32,
    publishes: HashMap<EventId, Publish>,
    queries: HashMap<SubscriptionId, Query>,
    reconciliations: Reconciliations,
    garbage: u64,
    out: Vec<Output>,
}

struct Publish {
    ops: Vec<OpId>,
    event: Bytes,
    stage: Stage,
    deadline: Instant,
    auths: u32,
}

struct Query {
    op: OpId,
    filter: Filter,
    live: bool,
    stage: Stage,
    deadline: Instant,
    auths: u32,
    events: Vec<Bytes>,
    /// Of the frames that they share their memory with.
    bytes: usize,
    received: usize,
    bad: u64,
    garbage_before: u64,
}

enum Stage {
    /// Not sent: an AUTH is under way.
    Held,
    /// Sent, no answer yet.
    Sent,
    /// Answered `auth-required:`; repeated after an AUTH.
    Parked(OkMessage),
    /// A live query after its EOSE.
    Live,
}

impl Session {
    /// A session on a fresh connection. `rng` names its subscriptions; `answer` is how long the
    /// relay may be silent about one request.
    pub fn new(key: SocketKey, rng: StdRng, answer: Duration) -> Self {
        Self {
            key,
            rng,
            answer,
            auth: Auth::Idle,
            challenge: None,
            challenges: 0,
            auths: 0,
            publishes: HashMap::new(),
            queries: HashMap::new(),
            reconciliations: Reconciliations::default(),
            garbage: 0,
            out: Vec::new(),
        }
    }

    /// What has become due to be written and told, in order.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    /// Whether nothing is open.
    pub fn is_idle(&self) -> bool {
        self.publishes.is_empty() && self.queries.is_empty() && self.reconciliations.is_empty()
    }

    /// When [`Session::expire`] next has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let auth = match &self.auth {
            Auth::Sent { deadline, .. } => Some(*deadline),
            _ => None,
        };
        let queries = self.queries.values();
        let queries = queries.filter(|query| !matches!(query.stage, Stage::Live));
        let publishes = self.publishes.values().map(|publish| publish.deadline);
        auth.into_iter()
            .chain(publishes)
            .chain(queries.map(|query| query.deadline))
            .chain(self.reconciliations.next_deadline())
            .min()
    }

    // Commands

    /// Sends an EVENT, or holds it back while an AUTH is under way.
    pub fn publish(&mut self, op: OpId, id: EventId, event: Bytes, now: Instant) {
        if let Some(publish) = self.publishes.get_mut(&id) {
            // The same bytes are on their way: their OK answers both.
            publish.ops.push(op);
            return;
        }
        let stage = self.first_stage();
        if matches!(stage, Stage::Sent) {
            self.send(ClientFrame::event(&event));
        }
        let publish = Publish {
            ops: vec![op],
            event,
            stage,
            deadline: now + self.answer,
            auths: self.auths,
        };
        self.publishes.insert(id, publish);
    }

    /// Sends a REQ, or holds it back while an AUTH is under way.
    pub fn query(&mut self, op: OpId, filter: Filter, live: bool, now: Instant) {
        let stage = self.first_stage();
        let query = Query {
            op,
            filter,
            live,
            stage,
            deadline: now + self.answer,
            auths: self.auths,
            events: Vec::new(),
            bytes: 0,
            received: 0,
            bad: 0,
            garbage_before: self.garbage,
        };
        self.open(query);
    }

    // Frames

    /// One text frame of the relay. An error means that the connection is not worth keeping.
    pub fn frame(&mut self, frame: &Bytes, now: Instant) -> Result<(), &'static str> {
        match RelayFrame::decode(frame) {
            Ok(RelayFrame::Event(subscription, event)) => {
                let answer = self.answer;
                let Some(query) = self.queries.get_mut(&subscription) else {
                    // Not asked for, or asked no more.
                    return self.spoiled();
                };
                let limit = query.filter.limit.unwrap_or(UNLIMITED);
                let is_live = matches!(query.stage, Stage::Live);
                let is_excess = !is_live && query.received >= limit.saturating_add(SLACK);
                if is_excess || !query.filter.matches(&event) {
                    query.bad = query.bad.saturating_add(1);
                    return self.spoiled();
                }
                query.received = query.received.saturating_add(1);
                query.deadline = now + answer;
                query.bytes = query.bytes.saturating_add(frame.len());
                query.events.push(event.json().clone());
                if query.events.len() >= BATCH || query.bytes >= BATCH_BYTES {
                    query.bytes = 0;
                    let (op, events) = (query.op, std::mem::take(&mut query.events));
                    self.tell(Input::Events { op, events });
                }
            }
            Ok(RelayFrame::BadEvent(subscription, _)) => {
                if let Some(query) = self.queries.get_mut(&subscription) {
                    query.bad = query.bad.saturating_add(1);
                }
                return self.spoiled();
            }
            Ok(RelayFrame::Ok(id, accepted, message)) => self.ok(id, accepted, message, now),
            Ok(RelayFrame::Eose {
                subscription,
                complete,
            }) => self.eose(subscription, complete),
            Ok(RelayFrame::Closed(name, message) | RelayFrame::NegErr(name, message)) => {
                self.closed(&name, message.clone(), now);
                self.not_compared(&name, message, now);
            }
            Ok(RelayFrame::NegMsg(name, message)) => return self.compared(&name, message),
            Ok(RelayFrame::Auth(challenge)) => return self.challenged(challenge),
            Ok(RelayFrame::Notice(text)) => self.noticed(&text, now),
            Ok(_) | Err(_) => return self.spoiled(),
        }
        Ok(())
    }

    /// A frame that answers nothing: counted, and too many of them end the connection.
    pub fn spoiled(&mut self) -> Result<(), &'static str> {
        self.garbage = self.garbage.saturating_add(1);
        if self.garbage > GARBAGE {
            return Err("the relay sends garbage");
        }
        Ok(())
    }

    /// Hands on the events that wait to be sixty-four. Called when the socket has no more to
    /// read, so that a lone event is not kept waiting.
    pub fn flush_events(&mut self) {
        let mut batches = Vec::new();
        for query in self.queries.values_mut() {
            if !query.events.is_empty() {
                query.bytes = 0;
                batches.push(Input::Events {
                    op: query.op,
                    events: std::mem::take(&mut query.events),
                });
            }
        }
        self.out.extend(batches.into_iter().map(Output::Input));
    }

    /// Gives up what the relay has not answered in time.
    pub fn expire(&mut self, now: Instant) {
        self.expire_auth(now);
        let late: Vec<EventId> = self
            .publishes
            .iter()
            .filter(|(_, publish)| publish.deadline <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            if let Some(publish) = self.publishes.remove(&id) {
                let outcome = match &publish.stage {
                    Stage::Sent | Stage::Live => {
                        PublishOutcome::Unknown("the relay did not answer in time".to_owned())
                    }
                    Stage::Held => PublishOutcome::Unreachable("AUTH took too long".to_owned()),
                    Stage::Parked(message) => PublishOutcome::Refused(message.clone()),
                };
                self.published(publish.ops, &outcome);
            }
        }
        let late: Vec<SubscriptionId> = self
            .queries
            .iter()
            .filter(|(_, query)| query.deadline <= now && !matches!(query.stage, Stage::Live))
            .map(|(subscription, _)| subscription.clone())
            .collect();
        for subscription in late {
            if let Some(query) = self.queries.remove(&subscription) {
                let end = match &query.stage {
                    Stage::Parked(message) => QueryEnd::Closed(message.clone()),
                    _ => QueryEnd::Unreachable("the relay did not answer in time".to_owned()),
                };
                if matches!(query.stage, Stage::Sent) {
                    self.send(ClientFrame::close(&subscription));
                }
                self.ended(query, end);
            }
        }
        self.expire_reconciliations(now);
    }

    /// Answers everything that is open: the connection is gone. What was written and not
    /// answered may have arrived, and is `Unknown`.
    pub fn disconnected(&mut self, why: &str) {
        for (_, publish) in std::mem::take(&mut self.publishes) {
            let outcome = match publish.stage {
                Stage::Sent | Stage::Live => PublishOutcome::Unknown(why.to_owned()),
                Stage::Held | Stage::Parked(_) => PublishOutcome::Unreachable(why.to_owned()),
            };
            self.published(publish.ops, &outcome);
        }
        for (_, query) in std::mem::take(&mut self.queries) {
            self.ended(query, QueryEnd::Unreachable(why.to_owned()));
        }
        self.break_reconciliations(why);
    }

    // Answers

    fn ok(&mut self, id: EventId, accepted: bool, message: OkMessage, now: Instant) {
        if self.answers_auth(id) {
            return self.proved(accepted, message, now);
        }
        // An OK that names nothing of ours is a relay talking to itself.
        let Some(publish) = self.publishes.get(&id) else {
            return;
        };
        if accepted {
            if let Some(publish) = self.publishes.remove(&id) {
                self.published(publish.ops, &PublishOutcome::Accepted(message));
            }
            return;
        }
        // A relay that knows its members may say `restricted:` before anybody has proved anything.
        let asks_auth = match message.reason {
            Reason::AuthRequired => true,
            Reason::Restricted => self.key.role == Role::AsMyself && self.challenge.is_some(),
            _ => false,
        };
        if asks_auth && self.auth_may_help(publish.auths) {
            if let Some(publish) = self.publishes.get_mut(&id) {
                publish.stage = Stage::Parked(message);
                publish.deadline = now + self.answer;
            }
            self.retry_or_ask(now);
            return;
        }
        if let Some(publish) = self.publishes.remove(&id) {
            self.published(publish.ops, &PublishOutcome::Refused(message));
        }
    }

    fn eose(&mut self, subscription: SubscriptionId, complete: Option<bool>) {
        let Some(query) = self.queries.get_mut(&subscription) else {
            return;
        };
        if !matches!(query.stage, Stage::Sent) {
            return;
        }
        let reads_wraps = self.key.role == Role::Inbox && asks_for_wraps(&query.filter);
        if reads_wraps {
            match &self.auth {
                // Many relays answer an unknown client with silence and EOSE: only what comes
                // after the AUTH counts.
                Auth::Told { .. } | Auth::Sent { .. } => {
                    let why = OkMessage::new(Reason::AuthRequired, "AUTH is under way");
                    query.stage = Stage::Parked(why);
                    return self.send(ClientFrame::close(&subscription));
                }
                Auth::Settled(why) => {
                    let end = QueryEnd::Closed(why.clone());
                    return self.finish(&subscription, end);
                }
                Auth::Idle | Auth::Done => {}
            }
        }
        if query.live {
            let (op, events) = (query.op, std::mem::take(&mut query.events));
            query.stage = Stage::Live;
            if !events.is_empty() {
                self.tell(Input::Events { op, events });
            }
            return self.tell(Input::CaughtUp { op });
        }
        self.finish(&subscription, QueryEnd::Eose { complete });
    }

    fn finish(&mut self, subscription: &SubscriptionId, end: QueryEnd) {
        if let Some(query) = self.queries.remove(subscription) {
            self.send(ClientFrame::close(subscription));
            self.ended(query, end);
        }
    }

    fn closed(&mut self, subscription: &SubscriptionId, message: OkMessage, now: Instant) {
        let Some(query) = self.queries.get(subscription) else {
            return;
        };
        // A CLOSED that crosses our own CLOSE of a parked query says nothing new.
        if matches!(query.stage, Stage::Parked(_)) {
            return;
        }
        let auths = query.auths;
        let asks_auth = message.reason == Reason::AuthRequired;
        if asks_auth && self.auth_may_help(auths) {
            if let Some(query) = self.queries.get_mut(subscription) {
                query.stage = Stage::Parked(message);
                query.deadline = now + self.answer;
            }
            self.retry_or_ask(now);
            return;
        }
        if let Some(query) = self.queries.remove(subscription) {
            let end = match &self.auth {
                // The relay's word about the AUTH says more than "auth-required".
                Auth::Settled(why) if asks_auth => QueryEnd::Closed(why.clone()),
                _ => QueryEnd::Closed(message),
            };
            self.ended(query, end);
        }
    }

    // Small parts

    /// A name that was never used. 32 characters of hexadecimal are always a subscription id;
    /// none could only mean that the rule changed, and then what asks for it ends as refused.
    fn new_name(&mut self) -> Option<SubscriptionId> {
        let mut bytes = [0; 16];
        self.rng.fill_bytes(&mut bytes);
        SubscriptionId::new(hex::encode(bytes)).ok()
    }

    fn open(&mut self, query: Query) {
        let Some(subscription) = self.new_name() else {
            let why = OkMessage::new(Reason::Error, "no subscription id");
            return self.ended(query, QueryEnd::Closed(why));
        };
        if matches!(query.stage, Stage::Sent) {
            let filters = [query.filter.clone()];
            self.send(ClientFrame::req(&subscription, &filters));
        }
        self.queries.insert(subscription, query);
    }

    fn published(&mut self, ops: Vec<OpId>, outcome: &PublishOutcome) {
        for op in ops {
            let outcome = outcome.clone();
            self.tell(Input::Published { op, outcome });
        }
    }

    fn ended(&mut self, query: Query, end: QueryEnd) {
        let op = query.op;
        if !query.events.is_empty() {
            let events = query.events;
            self.tell(Input::Events { op, events });
        }
        let garbage = self.garbage.saturating_sub(query.garbage_before);
        let garbage = garbage.max(query.bad);
        self.tell(Input::QueryEnded { op, end, garbage });
    }

    fn send(&mut self, frame: String) {
        self.out.push(Output::Send(frame));
    }

    fn tell(&mut self, input: Input) {
        self.out.push(Output::Input(input));
    }
}

fn asks_for_wraps(filter: &Filter) -> bool {
    let mut kinds = filter.kinds.iter().flatten();
    kinds.any(|kind| kinds::is_wrap(*kind))
}
