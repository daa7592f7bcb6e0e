//! One WebSocket: frames in, frames out. The only file that knows WebSockets.

mod asking;
mod frames;
mod writing;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::SinkExt as _;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use wire::{PublicKey, RelayFrame, SubscriptionId};

use crate::budget::Budget;
use crate::door::READ_BUFFER_BYTES;
use crate::fanout::ClientId;
use crate::ledger::{Account, Held};
use crate::outbox::{Outbox, Taken};
use crate::reconcile::Session;
use crate::server::Shared;
use crate::settings::InForce;
use crate::turns::Share;

/// Bytes handed to the socket before it is flushed.
const FLUSH_BYTES: usize = 64 * 1024;
/// Bytes that are handled before other connections of the same thread have their turn, and what
/// a frame counts beside its own.
const TURN_BYTES: usize = 16 * 1024;
const TURN_FRAME: usize = 512;
/// Bytes of a WebSocket frame's head as clients send it (RFC 6455, 5.2), for short frames.
const FRAME_HEAD_BYTES: usize = 6;
/// Histories of one connection at the same time; others wait.
const HISTORIES_AT_ONCE: usize = 4;

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
    garbage: usize,
    in_flight: Arc<Semaphore>,
    most_in_flight: usize,
    /// Few, so a list is smaller than a map and as quick.
    subscriptions: Vec<Subscription>,
    histories: Arc<Semaphore>,
    /// What it has used of the time of those who check events, and of those who read the store.
    checking: Arc<Share>,
    reading: Arc<Share>,
    /// How many it may begin; none: it never did.
    counts: Option<Arc<Semaphore>>,
    reconciliations: HashMap<SubscriptionId, Session>,
    closed: CancellationToken,
}

/// One that is open.
struct Subscription {
    id: SubscriptionId,
    /// Its end ends its history where that is still being sent.
    _stop: oneshot::Sender<Infallible>,
    /// What its filters take.
    filters: Held,
    /// Whether the store failed it: then it is closed, which the client was told.
    has_failed: Arc<AtomicBool>,
}

/// Why a connection ends from our side.
enum End {
    /// The other side left, or does not read, or does not answer.
    Gone,
    /// The relay stops.
    Stop,
    /// The client broke a rule too often. What waits for it, and says why, is sent before.
    Policy(&'static str),
    /// It proved a key that may read nothing here any more.
    Banned,
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
            counts: None,
            reconciliations: HashMap::new(),
            closed: account.closed().clone(),
            account,
            budget,
        }
    }

    /// Serves it until one side has enough.
    pub async fn serve(&mut self, socket: &mut WebSocket) {
        let end = self.exchange(socket).await;
        if let End::Policy(_) = end {
            // Answers, and nothing new: whoever breaks rules does not keep us.
            while let Some(open) = self.subscriptions.last() {
                let id = open.id.clone();
                self.unsubscribe(&id);
            }
            let grace = self.in_force.config.limits.grace;
            let _ = timeout(grace, Box::pin(self.wind_up(socket))).await;
        }
        self.closed.cancel();
        self.outbox.close();
        let frame = match end {
            End::Gone => None,
            End::Stop => Some((GOING_AWAY, "the relay stops")),
            End::Policy(why) => Some((POLICY, why)),
            End::Banned => Some((POLICY, "this key is banned here")),
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
            let now = Instant::now();
            if patience <= now && is_unfinished {
                return End::Policy("a message took too long");
            }
            // A part of a message wakes nobody here, so it has to be looked for.
            let look = now + limits.message_timeout;
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
                () = tokio::time::sleep_until(silence.min(patience).min(look)) => {
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

    /// Nothing more is read, and what was taken is answered.
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
