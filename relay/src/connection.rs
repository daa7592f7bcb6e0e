//! One WebSocket: frames in, frames out. The only file that knows WebSockets.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::SinkExt as _;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use wire::client_frame::Refused;
use wire::{
    ClientFrame, DecodeError, Event, EventId, Filter, OkMessage, PublicKey, Reason, RelayFrame,
    SubscriptionId,
};

use crate::admission::{self, Answer};
use crate::budget::Budget;
use crate::config::Limits;
use crate::count::Count;
use crate::door::READ_BUFFER_BYTES;
use crate::fanout::{self, ClientId};
use crate::history::Request;
use crate::ingest::{InFlight, Job, Purpose};
use crate::ledger::{Account, Held};
use crate::metrics;
use crate::outbox::{Outbox, Taken};
use crate::policy::{self, Refusal, Wish};
use crate::reconcile::{Opening, Session};
use crate::server::Shared;
use crate::settings::InForce;
use crate::turns::Share;

/// Bytes handed to the socket before it is flushed.
const FLUSH_BYTES: usize = 64 * 1024;
/// Malformed frames after which a connection is closed.
const MAX_GARBAGE: u32 = 50;
/// A frame above this is decoded where searches run, in fair order with them.
const LARGE_FRAME: usize = 16 * 1024;
/// Bytes that are handled before other connections of the same thread have their turn, and what
/// a frame counts beside its own.
const TURN_BYTES: usize = 16 * 1024;
const TURN_FRAME: usize = 512;
/// Bytes of a WebSocket frame's head as clients send it (RFC 6455, 5.2), for short frames.
const FRAME_HEAD_BYTES: usize = 6;
/// Histories of one connection at the same time; others wait.
const HISTORIES_AT_ONCE: usize = 4;
/// Counts of one connection at the same time.
const COUNTS_AT_ONCE: usize = 4;

const GOING_AWAY: u16 = 1001;
const POLICY: u16 = 1008;

/// A connected client.
pub struct Connection {
    shared: Arc<Shared>,
    /// As it was when the client connected.
    in_force: Arc<InForce>,
    client: ClientId,
    account: Arc<Account>,
    /// What its address may do; none: it is exempt.
    budget: Option<Arc<Budget>>,
    outbox: Arc<Outbox>,
    challenge: Arc<str>,
    auth: Arc<[PublicKey]>,
    auth_tries: usize,
    join_tries: usize,
    garbage: u32,
    in_flight: Arc<Semaphore>,
    most_in_flight: usize,
    /// Few, so a list is smaller than a map and as quick.
    subscriptions: Vec<Subscription>,
    histories: Arc<Semaphore>,
    /// What it has used of the time of those who check events, and of those who read the store.
    checking: Arc<Share>,
    reading: Arc<Share>,
    counts: Arc<Semaphore>,
    reconciliations: HashMap<SubscriptionId, Session>,
    closed: CancellationToken,
}

/// One that is open.
struct Subscription {
    id: SubscriptionId,
    /// Ends its history where that is still being sent.
    stop: CancellationToken,
    /// What its filters take.
    filters: Held,
}

/// Why a connection ends from our side.
enum End {
    /// The other side left, or does not read, or does not answer.
    Gone,
    /// The relay stops.
    Stop,
    /// The client broke a rule too often.
    Policy(&'static str),
}

impl Connection {
    /// A client that just connected; `challenge` is fresh. What it makes the relay hold goes to
    /// `account`, what it does is taken from its address's `budget`.
    pub fn new(
        shared: Arc<Shared>,
        client: ClientId,
        challenge: String,
        account: Arc<Account>,
        budget: Option<Arc<Budget>>,
    ) -> Self {
        let in_force = shared.settings.get();
        let limits = &in_force.config.limits;
        // The request that brought it here.
        account.message_is_whole();
        let outbox = Arc::new(Outbox::new(limits.send_queue_bytes, account.clone()));
        shared
            .live
            .change(|fanout, _| fanout.connect(client, outbox.clone()));
        outbox.push(RelayFrame::auth(&challenge));
        shared.metrics.sockets.add(1);
        Self {
            in_flight: Arc::new(Semaphore::new(limits.events_in_flight)),
            most_in_flight: limits.events_in_flight,
            shared,
            in_force,
            client,
            outbox,
            challenge: challenge.into(),
            auth: Arc::new([]),
            auth_tries: 0,
            join_tries: 0,
            garbage: 0,
            subscriptions: Vec::new(),
            histories: Arc::new(Semaphore::new(HISTORIES_AT_ONCE)),
            checking: Arc::default(),
            reading: Arc::default(),
            counts: Arc::new(Semaphore::new(COUNTS_AT_ONCE)),
            reconciliations: HashMap::new(),
            closed: account.closed().clone(),
            account,
            budget,
        }
    }

    /// Serves it until one side has enough.
    pub async fn serve(&mut self, socket: &mut WebSocket) {
        let end = self.exchange(socket).await;
        self.closed.cancel();
        self.outbox.close();
        let frame = match end {
            End::Gone => None,
            End::Stop => Some((GOING_AWAY, "the relay stops")),
            End::Policy(why) => Some((POLICY, why)),
        };
        if let Some((code, reason)) = frame {
            let close = Message::Close(Some(CloseFrame {
                code,
                reason: reason.into(),
            }));
            // The other side may be gone by now, which is what this asks for.
            let _ = timeout(self.in_force.config.limits.grace, socket.send(close)).await;
        }
    }

    async fn exchange(&mut self, socket: &mut WebSocket) -> End {
        let in_force = self.in_force.clone();
        let limits = &in_force.config.limits;
        let stop = self.shared.stop.clone();
        let in_flight = self.in_flight.clone();
        let mut heard = Instant::now();
        let mut pinged = false;
        let mut unfinished_since = None;
        let mut turn = 0;
        loop {
            if turn > TURN_BYTES {
                turn = 0;
                tokio::task::yield_now().await;
            }
            // Whoever has too many events in flight is not read from until answers went out.
            let may_read = in_flight.available_permits() > 0;
            let silence = match pinged {
                false => heard + limits.idle_ping,
                true => heard + limits.idle_ping * 2,
            };
            let is_unfinished = may_read && self.account.has_unfinished();
            unfinished_since = is_unfinished.then(|| unfinished_since.unwrap_or_else(Instant::now));
            let patience = unfinished_since.map_or(silence, |since| since + limits.message_timeout);
            if patience <= Instant::now() && is_unfinished {
                return End::Policy("a message took too long");
            }
            tokio::select! {
                () = stop.cancelled() => return Box::pin(self.wind_up(socket)).await,
                // It held more than anybody else, and all together held too much.
                () = self.closed.cancelled() => return End::Gone,
                () = self.outbox.filled() => {
                    if Box::pin(self.flush(socket)).await.is_err() {
                        return End::Gone;
                    }
                }
                // Only to look again; the permit goes back at once.
                _ = in_flight.acquire(), if !may_read => {}
                message = socket.recv(), if may_read => {
                    heard = Instant::now();
                    pinged = false;
                    turn += TURN_FRAME;
                    let bytes = match message {
                        Some(Ok(Message::Text(text))) => text.into(),
                        Some(Ok(Message::Binary(bytes))) => bytes,
                        Some(Ok(Message::Ping(bytes) | Message::Pong(bytes))) => {
                            self.account.control_is_whole(FRAME_HEAD_BYTES + bytes.len());
                            continue;
                        }
                        Some(Ok(Message::Close(_))) => {
                            // The answer to it was queued by the library.
                            let _ = timeout(limits.grace, socket.flush()).await;
                            return End::Gone;
                        }
                        Some(Err(_)) | None => return End::Gone,
                    };
                    self.account.message_is_whole();
                    if bytes.len() > READ_BUFFER_BYTES {
                        self.account.keep_buffer(bytes.len());
                    }
                    self.shared.metrics.bytes_received.add(bytes.len());
                    turn += bytes.len();
                    // Boxed, like the other steps of a busy connection, so that an idle one is small.
                    if let Err(end) = Box::pin(self.frame(&bytes)).await {
                        return end;
                    }
                }
                () = tokio::time::sleep_until(silence.min(patience)) => {
                    if Instant::now() < silence {
                        continue;
                    }
                    let ping = Message::Ping(bytes::Bytes::new());
                    if pinged || timeout(limits.write_timeout, socket.send(ping)).await.is_err() {
                        return End::Gone;
                    }
                    pinged = true;
                }
            }
        }
    }

    /// The relay stops: nothing more is read, and what was taken is answered.
    async fn wind_up(&mut self, socket: &mut WebSocket) -> End {
        let limits = &self.in_force.config.limits;
        let all = u32::try_from(limits.events_in_flight).unwrap_or(u32::MAX);
        // Every answer is queued before its permit comes back.
        let _ = timeout(limits.grace, self.in_flight.acquire_many(all)).await;
        match self.flush(socket).await {
            Ok(()) => End::Stop,
            Err(()) => End::Gone,
        }
    }

    /// Sends what waits.
    async fn flush(&self, socket: &mut WebSocket) -> Result<(), ()> {
        let limit = self.in_force.config.limits.write_timeout;
        let metrics = &self.shared.metrics;
        loop {
            let Some(Taken { frames, bytes }) = self.outbox.take(FLUSH_BYTES) else {
                metrics.slow_readers.add(1);
                return Err(());
            };
            if frames.is_empty() {
                return Ok(());
            }
            metrics.bytes_sent.add(bytes);
            self.account.keep_buffer(bytes);
            let write = async {
                for frame in frames {
                    socket.feed(Message::Text(frame.into())).await?;
                }
                socket.flush().await
            };
            let written = tokio::select! {
                written = timeout(limit, write) => written,
                () = self.closed.cancelled() => return Err(()),
            };
            match written {
                Ok(Ok(())) => self.outbox.sent(bytes),
                Ok(Err(_)) => return Err(()),
                Err(_) => {
                    metrics.slow_readers.add(1);
                    return Err(());
                }
            }
        }
    }

    async fn frame(&mut self, bytes: &bytes::Bytes) -> Result<(), End> {
        let decoded = match bytes.len() > LARGE_FRAME {
            false => ClientFrame::decode(bytes),
            true => {
                let bytes = bytes.clone();
                let readers = self.shared.history.clone().paid_by(self.reading.clone());
                let decode = move || ClientFrame::decode(&bytes);
                readers.aside(decode).await.map_err(|_| End::Gone)?
            }
        };
        match decoded {
            Ok(ClientFrame::Event(event)) => self.publish(event).await,
            Ok(ClientFrame::Req(id, filters)) => {
                self.subscribe(id, filters);
                Ok(())
            }
            Ok(ClientFrame::Close(id)) => {
                self.unsubscribe(&id);
                Ok(())
            }
            Ok(ClientFrame::Auth(event)) => self.authenticate(event).await,
            Ok(ClientFrame::Count(id, filters)) => {
                self.count(id, filters);
                Ok(())
            }
            Ok(ClientFrame::NegOpen(id, filter, message)) => {
                self.reconcile(id, filter, message);
                Ok(())
            }
            Ok(ClientFrame::NegMsg(id, message)) => {
                self.go_on_reconciling(&id, message);
                Ok(())
            }
            Ok(ClientFrame::NegClose(id)) => {
                self.reconciliations.remove(&id);
                Ok(())
            }
            Ok(_) => self.refuse_frame(DecodeRefusal::Unknown),
            Err(refused) => self.refuse_frame(DecodeRefusal::Frame(refused)),
        }
    }

    fn refuse_frame(&mut self, refusal: DecodeRefusal) -> Result<(), End> {
        self.garbage += 1;
        self.shared.metrics.malformed.add(1);
        if self.garbage > MAX_GARBAGE {
            return Err(End::Policy("too many malformed messages"));
        }
        let frame = match refusal {
            DecodeRefusal::Unknown => RelayFrame::notice("unsupported: unknown message type"),
            DecodeRefusal::Frame(refused) => {
                let reason = match refused.error {
                    DecodeError::UnknownFilter => Reason::Unsupported,
                    _ => Reason::Invalid,
                };
                let text = OkMessage::new(reason, &refused.error.to_string()).text;
                match (refused.event, refused.subscription, refused.reconciliation) {
                    (Some(event), ..) => RelayFrame::ok(&event, false, &text),
                    (None, Some(id), _) => {
                        // After CLOSED nothing more comes of it (NIP-01).
                        self.unsubscribe(&id);
                        RelayFrame::closed(&id, &text)
                    }
                    (None, None, Some(id)) => {
                        // After NEG-ERR it counts as closed (NIP-77).
                        self.reconciliations.remove(&id);
                        RelayFrame::neg_err(&id, &text)
                    }
                    (None, None, None) => RelayFrame::notice(&text),
                }
            }
        };
        self.outbox.push(frame);
        Ok(())
    }

    async fn publish(&mut self, event: Event) -> Result<(), End> {
        let bytes = event.json().len();
        if let Err(refusal) = self.budget(|budget, limits, now| budget.event(bytes, limits, now)) {
            self.refuse(event.id(), refusal);
            return Ok(());
        }
        if Wish::is_one(&event) {
            return self.wish(event).await;
        }
        let is_first = self.in_flight.available_permits() == self.most_in_flight;
        let Ok(own) = self.in_flight.clone().acquire_owned().await else {
            return Err(End::Stop);
        };
        // Weighed in KiB; the relay as a whole checks and writes only so much at a time. Whoever
        // has nothing else in flight does not wait behind those who have.
        let weight = u32::try_from(event.json().len() / 1024 + 1).unwrap_or(u32::MAX);
        let all = match is_first {
            true => None,
            false => match self
                .shared
                .in_flight
                .clone()
                .acquire_many_owned(weight)
                .await
            {
                Ok(all) => Some(all),
                Err(_) => return Err(End::Stop),
            },
        };
        let permits = InFlight {
            // Its JSON, and its parts.
            _held: self.account.hold(event.json().len() * 2),
            _own: own,
            _all: all,
        };
        self.shared.ingest.submit(Job {
            event,
            auth: self.auth.clone(),
            share: self.checking.clone(),
            purpose: Purpose::Publish {
                outbox: self.outbox.clone(),
                permits,
            },
        });
        Ok(())
    }

    /// Takes something from the address's budget, where it has one.
    fn budget(
        &self,
        take: impl FnOnce(&Budget, &Limits, u64) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let Some(budget) = &self.budget else {
            return Ok(());
        };
        let in_force = self.shared.settings.get();
        take(budget, &in_force.config.limits, in_force.config.clock.now())
    }

    /// Answers an event that no thread need look at.
    fn refuse(&self, id: EventId, refusal: Refusal) {
        self.shared.metrics.refused.add(&metrics::name_of(refusal));
        let frame = RelayFrame::ok(&id, false, &refusal.message().text);
        self.outbox.push(frame);
    }

    /// To join or to leave (NIP-43). What follows on this connection may depend on it, so nothing
    /// is read meanwhile.
    async fn wish(&mut self, event: Event) -> Result<(), End> {
        let id = event.id();
        let has_tries = self.join_tries < self.in_force.config.limits.join_tries;
        let may_try = match has_tries {
            true => self.budget(Budget::may_guess),
            false => Err(Refusal::JoinTries),
        };
        let answer = match may_try {
            Ok(()) => admission::answer(&self.shared, event, &self.auth).await,
            Err(refusal) => Answer::no(refusal),
        };
        if answer.is_wrong_code {
            self.join_tries += 1;
            // There is nothing to refuse any more.
            let _ = self.budget(|budget, limits, now| {
                budget.guessed(limits, now);
                Ok(())
            });
        }
        let frame = RelayFrame::ok(&id, answer.accepted, &answer.message.text);
        self.outbox.push(frame);
        Ok(())
    }

    async fn authenticate(&mut self, event: Event) -> Result<(), End> {
        let id = event.id();
        self.auth_tries += 1;
        if self.auth_tries > self.in_force.config.limits.auth_tries {
            self.shared.metrics.auth_refused.add("auth_tries");
            let text = Refusal::AuthTries.message().text;
            self.outbox.push(RelayFrame::ok(&id, false, &text));
            return match self.auth_tries > self.in_force.config.limits.auth_tries * 2 {
                true => Err(End::Policy("too many AUTH attempts")),
                false => Ok(()),
            };
        }
        if let Err(refusal) = self.budget(Budget::proof) {
            self.refuse(id, refusal);
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        self.shared.ingest.submit(Job {
            event,
            auth: self.auth.clone(),
            share: self.checking.clone(),
            purpose: Purpose::Authenticate {
                challenge: self.challenge.clone(),
                reply,
            },
        });
        // What follows on this connection may depend on it, so nothing is read meanwhile.
        let (accepted, text) = match answer.await {
            Ok(Ok(key)) => {
                self.auth = self
                    .auth
                    .iter()
                    .copied()
                    .filter(|k| *k != key)
                    .chain([key])
                    .collect();
                self.shared
                    .live
                    .change(|fanout, _| fanout.authenticate(self.client, self.auth.clone()));
                // A ban that came between the check and this found nobody to disconnect.
                if self.shared.settings.get().roster.is_banned(&key) {
                    return Err(End::Policy("this key is banned here"));
                }
                (true, String::new())
            }
            Ok(Err(text)) => (false, text),
            Err(_) => return Err(End::Stop),
        };
        self.outbox.push(RelayFrame::ok(&id, accepted, &text));
        Ok(())
    }

    fn subscribe(&mut self, id: SubscriptionId, filters: Vec<Filter>) {
        self.unsubscribe(&id);
        self.shared.metrics.reqs.add(1);
        if let Err(refusal) = policy::may_ask(&filters, &self.auth) {
            self.shared.metrics.refused_to_answer(refusal);
            self.outbox
                .push(RelayFrame::closed(&id, &refusal.message().text));
            return;
        }
        let limits = &self.in_force.config.limits;
        let weight = fanout::weight(&filters);
        let held: usize = self
            .subscriptions
            .iter()
            .map(|open| open.filters.bytes())
            .sum();
        if held + weight > limits.filter_bytes {
            let text = OkMessage::new(Reason::RateLimited, "too much in all filters together").text;
            self.outbox.push(RelayFrame::closed(&id, &text));
            return;
        }
        let most = limits.subscriptions;
        let opened = self.shared.live.change(|fanout, delivered| {
            let is_allowed = fanout.others(self.client, &id) < most;
            if is_allowed {
                fanout.subscribe(self.client, id.clone(), filters.clone().into());
            }
            is_allowed.then_some(delivered)
        });
        let Some(up_to_seq) = opened else {
            let metrics = &self.shared.metrics;
            metrics.requests_refused.add("too_many_subscriptions");
            let text = OkMessage::new(Reason::RateLimited, "too many subscriptions").text;
            self.outbox.push(RelayFrame::closed(&id, &text));
            return;
        };
        let stop = self.closed.child_token();
        self.subscriptions.reserve_exact(1);
        self.subscriptions.push(Subscription {
            id: id.clone(),
            stop: stop.clone(),
            filters: self.account.hold(weight),
        });
        self.shared.metrics.subscriptions.add(1);
        let request = Request {
            id,
            filters,
            auth: self.auth.clone(),
            up_to_seq,
            outbox: self.outbox.clone(),
            account: self.account.clone(),
            turns: self.histories.clone(),
            stop,
        };
        let most = self.in_force.config.limits.events_per_filter;
        let history = self.shared.history.clone().at_most(most);
        let history = history.paid_by(self.reading.clone());
        tokio::spawn(history.send(request));
    }

    fn count(&self, id: SubscriptionId, filters: Vec<Filter>) {
        self.shared.metrics.counts.add(1);
        if let Err(refusal) = policy::may_ask(&filters, &self.auth) {
            self.shared.metrics.refused_to_answer(refusal);
            let text = refusal.message().text;
            self.outbox.push(RelayFrame::closed(&id, &text));
            return;
        }
        let Ok(permit) = self.counts.clone().try_acquire_owned() else {
            self.shared.metrics.requests_refused.add("too_many_counts");
            let text = OkMessage::new(Reason::RateLimited, "too many counts at once").text;
            self.outbox.push(RelayFrame::closed(&id, &text));
            return;
        };
        let count = Count {
            id,
            filters,
            auth: self.auth.clone(),
            outbox: self.outbox.clone(),
            stop: self.closed.child_token(),
        };
        let most = self.in_force.config.limits.counted_events;
        let history = self.shared.history.clone().paid_by(self.reading.clone());
        tokio::spawn(async move {
            let _permit = permit;
            count.answer(history, most).await;
        });
    }

    fn reconcile(&mut self, id: SubscriptionId, filter: Filter, message: Vec<u8>) {
        self.reconciliations
            .retain(|other, session| *other != id && session.is_open());
        self.shared.metrics.reconciliations.add(1);
        if let Err(refusal) = policy::may_ask(std::slice::from_ref(&filter), &self.auth) {
            self.shared.metrics.refused_to_answer(refusal);
            let text = refusal.message().text;
            self.outbox.push(RelayFrame::neg_err(&id, &text));
            return;
        }
        if self.reconciliations.len() >= self.in_force.config.limits.reconciliations {
            let metrics = &self.shared.metrics;
            metrics.requests_refused.add("too_many_reconciliations");
            let text = OkMessage::new(Reason::RateLimited, "too many reconciliations").text;
            self.outbox.push(RelayFrame::neg_err(&id, &text));
            return;
        }
        let session = self.shared.reconciliations.open(Opening {
            id: id.clone(),
            filter,
            message,
            auth: self.auth.clone(),
            most: self.in_force.config.limits.reconciled_events,
            idle: self.in_force.config.limits.reconcile_idle,
            outbox: self.outbox.clone(),
            share: self.reading.clone(),
            stop: self.closed.child_token(),
        });
        self.reconciliations.insert(id, session);
    }

    fn go_on_reconciling(&mut self, id: &SubscriptionId, message: Vec<u8>) {
        let (reason, text) = match self.reconciliations.get(id) {
            Some(session) if session.pass_on(message) => return,
            Some(session) if session.is_open() => (
                Reason::RateLimited,
                "a message came before the last was answered",
            ),
            _ => (Reason::Closed, "no such reconciliation is open"),
        };
        self.reconciliations.remove(id);
        let text = OkMessage::new(reason, text).text;
        self.outbox.push(RelayFrame::neg_err(id, &text));
    }

    fn unsubscribe(&mut self, id: &SubscriptionId) {
        let open = self.subscriptions.iter().position(|open| open.id == *id);
        if let Some(open) = open.map(|at| self.subscriptions.swap_remove(at)) {
            self.shared.metrics.subscriptions.sub(1);
            open.stop.cancel();
            self.shared
                .live
                .change(|fanout, _| fanout.unsubscribe(self.client, id));
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.metrics.sockets.sub(1);
        self.shared
            .metrics
            .subscriptions
            .sub(self.subscriptions.len());
        self.closed.cancel();
        self.outbox.close();
        self.shared
            .live
            .change(|fanout, _| fanout.disconnect(self.client));
    }
}

enum DecodeRefusal {
    Unknown,
    Frame(Refused),
}
