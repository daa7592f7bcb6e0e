//! One task per [`SocketKey`]: it dials, reads and writes. What is said is decided by
//! [`Session`](super::relay_session::Session).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, Sink as _, Stream as _};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::error::Error as SocketError;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};
use wire::{EventId, Filter, limits};

use super::Timeouts;
use super::dialer::{Connection, DialError, Dialer, Target, plain_words};
use super::relay_session::{CONNECTION_LOST, Output, Session};
use crate::engine::io::{
    Input, OpId, PublishOutcome, QueryEnd, ReconcileAnswer, ReconcileStep, Role, SocketKey,
};

/// Said to every server alike, so that it tells no two clients apart.
pub const USER_AGENT: &str = "Sotto";

/// What to do on one socket; see [`Effect`](crate::engine::io::Effect).
#[derive(Debug)]
pub enum Command {
    /// Send an EVENT.
    Publish {
        /// The operation.
        op: OpId,
        /// The event's id.
        id: EventId,
        /// Its JSON.
        event: Bytes,
    },
    /// Send a REQ.
    Query {
        /// The operation.
        op: OpId,
        /// What to ask.
        filter: Filter,
        /// Whether to stay subscribed after EOSE.
        live: bool,
    },
    /// Go on with a reconciliation.
    Reconcile {
        /// The operation.
        op: OpId,
        /// What to say.
        step: ReconcileStep,
    },
    /// Send an AUTH.
    Authenticate {
        /// The event's id.
        id: EventId,
        /// Its JSON.
        event: Bytes,
    },
    /// Do not AUTH.
    StayAnonymous,
}

impl Command {
    /// Whether it means something on the connection alone that it answers to.
    fn needs_its_connection(&self) -> bool {
        match self {
            Self::Publish { .. } | Self::Query { .. } => false,
            Self::Reconcile { step, .. } => !matches!(step, ReconcileStep::Open { .. }),
            Self::Authenticate { .. } | Self::StayAnonymous => true,
        }
    }

    /// What the engine must hear where that connection is gone.
    fn broken(&self) -> Option<Input> {
        match self {
            Self::Reconcile {
                op,
                step: ReconcileStep::Next { .. },
            } => Some(Input::Reconciled {
                op: *op,
                answer: ReconcileAnswer::Broken(CONNECTION_LOST.to_owned()),
            }),
            _ => None,
        }
    }
}

/// The handle of a socket's task. Dropping it closes the connection politely.
#[derive(Debug)]
pub struct RelayLink {
    commands: mpsc::UnboundedSender<Command>,
}

impl RelayLink {
    /// A link that is not connected yet, and the future that runs it. `seed` feeds the names of
    /// subscriptions; `inputs` gets what the engine must hear.
    pub fn new(
        key: SocketKey,
        dialer: Dialer,
        timeouts: Timeouts,
        seed: [u8; 32],
        inputs: mpsc::Sender<Input>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, commands) = mpsc::unbounded_channel();
        let task = Task {
            key,
            dialer,
            timeouts,
            rng: StdRng::from_seed(seed),
            commands,
            inputs,
        };
        (Self { commands: sender }, task.run())
    }

    /// Hands over a command. It waits its turn without bound: the engine bounds what it asks.
    pub fn command(&self, command: Command) {
        // The task ends only when this handle is dropped.
        let _ = self.commands.send(command);
    }
}

struct Task {
    key: SocketKey,
    dialer: Dialer,
    timeouts: Timeouts,
    rng: StdRng,
    commands: mpsc::UnboundedReceiver<Command>,
    inputs: mpsc::Sender<Input>,
}

/// How a connection ended.
enum End {
    /// Nothing was left to do; the next command dials again.
    Idle,
    /// The relay or the network ended it.
    Broken(String),
    /// The handle or the engine is gone.
    Dropped,
}

impl Task {
    async fn run(mut self) {
        while let Some(command) = self.commands.recv().await {
            if command.needs_its_connection() {
                // What it belongs to is gone, and so nothing is dialled for it.
                if let Some(input) = command.broken()
                    && self.inputs.send(input).await.is_err()
                {
                    return;
                }
                continue;
            }
            let connected = tokio::select! {
                connected = self.connect() => connected,
                // Nobody waits for it any more.
                () = self.inputs.closed() => return,
            };
            let socket = match connected {
                Ok(socket) => socket,
                Err(error) => {
                    if self.refuse(command, &error).await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            let rng = StdRng::from_rng(&mut self.rng);
            let mut session = Session::new(self.key.clone(), rng, self.timeouts.answer);
            apply(&mut session, command);
            match self.serve(socket, &mut session).await {
                End::Idle => {}
                End::Dropped => return,
                End::Broken(why) => {
                    tracing::debug!(role = ?self.key.role, "socket lost");
                    session.disconnected(&why);
                    if self.tell(&mut session, &mut VecDeque::new()).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn connect(&self) -> Result<WebSocketStream<Connection>, DialError> {
        let target = Target::relay(&self.key.relay, self.key.is_own);
        let connection = self.dialer.dial(&target).await?;
        let mut request = self
            .key
            .relay
            .as_str()
            .into_client_request()
            .map_err(|_| DialError::Unreachable("not a WebSocket URL".to_owned()))?;
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        let config = WebSocketConfig::default()
            .read_buffer_size(16 * 1024)
            .write_buffer_size(0)
            .max_message_size(Some(limits::FRAME_BYTES))
            .max_frame_size(Some(limits::FRAME_BYTES));
        let handshake =
            tokio_tungstenite::client_async_with_config(request, connection, Some(config));
        match tokio::time::timeout(self.timeouts.connect, handshake).await {
            Ok(Ok((socket, _response))) => Ok(socket),
            Ok(Err(error)) => Err(DialError::Unreachable(socket_words(&error))),
            Err(_) => Err(DialError::Unreachable(
                "no WebSocket handshake in time".to_owned(),
            )),
        }
    }

    /// Speaks until the connection ends.
    async fn serve(
        &mut self,
        mut socket: WebSocketStream<Connection>,
        session: &mut Session,
    ) -> End {
        let mut queue = VecDeque::new();
        let mut heard = Instant::now();
        let mut pinged = false;
        let mut idle_since = Instant::now();
        loop {
            if self.tell(session, &mut queue).await.is_err() {
                return End::Dropped;
            }
            if !session.is_idle() {
                idle_since = Instant::now();
            }
            let linger = (self.key.role != Role::Inbox && session.is_idle())
                .then(|| idle_since + self.timeouts.linger);
            let alive = heard + self.timeouts.ping * if pinged { 2 } else { 1 };
            let wake = session
                .next_deadline()
                .into_iter()
                .chain(linger)
                .fold(alive, Instant::min);
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => apply(session, command),
                    None => {
                        polite_close(&mut socket).await;
                        return End::Dropped;
                    }
                },
                frame = next_frame(&mut socket, &mut queue) => {
                    heard = Instant::now();
                    pinged = false;
                    if let Err(why) = read(&mut socket, &mut queue, session, frame) {
                        return End::Broken(why);
                    }
                }
                () = tokio::time::sleep_until(wake) => {
                    let now = Instant::now();
                    session.expire(now);
                    if linger.is_some_and(|linger| linger <= now) {
                        polite_close(&mut socket).await;
                        return End::Idle;
                    }
                    if alive <= now {
                        if pinged {
                            return End::Broken("the relay fell silent".to_owned());
                        }
                        pinged = true;
                        queue.push_back(Message::Ping(Bytes::new()));
                    }
                }
            }
        }
    }

    /// Hands on what the session wants: frames to the write queue, inputs to the engine.
    async fn tell(
        &self,
        session: &mut Session,
        queue: &mut VecDeque<Message>,
    ) -> Result<(), Dropped> {
        for output in session.take_outputs() {
            match output {
                Output::Send(text) => queue.push_back(Message::text(text)),
                // Waits while the engine is busy, so that a relay cannot fill our memory.
                Output::Input(input) => self.inputs.send(input).await.map_err(|_| Dropped)?,
            }
        }
        Ok(())
    }

    /// Answers a command, and those behind it, that no connection was found for.
    async fn refuse(&mut self, first: Command, error: &DialError) -> Result<(), Dropped> {
        let mut next = Some(first);
        while let Some(command) = next {
            let input = match (command, error) {
                (Command::Publish { op, .. }, DialError::Forbidden(why)) => Input::Published {
                    op,
                    outcome: PublishOutcome::Forbidden((*why).to_owned()),
                },
                (Command::Publish { op, .. }, DialError::Unreachable(why)) => Input::Published {
                    op,
                    outcome: PublishOutcome::Unreachable(why.clone()),
                },
                (Command::Query { op, .. }, DialError::Forbidden(why)) => Input::QueryEnded {
                    op,
                    end: QueryEnd::Forbidden((*why).to_owned()),
                    garbage: 0,
                },
                (Command::Query { op, .. }, DialError::Unreachable(why)) => Input::QueryEnded {
                    op,
                    end: QueryEnd::Unreachable(why.clone()),
                    garbage: 0,
                },
                (
                    Command::Reconcile {
                        op,
                        step: ReconcileStep::Open { .. },
                    },
                    error,
                ) => Input::Reconciled {
                    op,
                    answer: match error {
                        DialError::Forbidden(why) => ReconcileAnswer::Forbidden((*why).to_owned()),
                        DialError::Unreachable(why) => ReconcileAnswer::Unreachable(why.clone()),
                    },
                },
                (command, _) => match command.broken() {
                    Some(input) => input,
                    None => {
                        next = self.commands.try_recv().ok();
                        continue;
                    }
                },
            };
            self.inputs.send(input).await.map_err(|_| Dropped)?;
            next = self.commands.try_recv().ok();
        }
        Ok(())
    }
}

/// The other end of the inputs is gone.
struct Dropped;

fn apply(session: &mut Session, command: Command) {
    let now = Instant::now();
    match command {
        Command::Publish { op, id, event } => session.publish(op, id, event, now),
        Command::Query { op, filter, live } => session.query(op, filter, live, now),
        Command::Reconcile { op, step } => session.reconcile(op, step, now),
        Command::Authenticate { id, event } => session.authenticate(id, &event, now),
        Command::StayAnonymous => session.stay_anonymous(now),
    }
}

type Frame = Option<Result<Message, SocketError>>;

/// Writes what is queued as far as the relay takes it, and waits for its next frame. Both at
/// once, so that a relay which reads nothing until we read does not stop us; and nothing is lost
/// if the future is dropped, because the queue is the caller's.
async fn next_frame(
    socket: &mut WebSocketStream<Connection>,
    queue: &mut VecDeque<Message>,
) -> Frame {
    poll_fn(|cx| {
        let mut socket = Pin::new(&mut *socket);
        loop {
            if queue.is_empty() {
                break;
            }
            match socket.as_mut().poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Pending => break,
            }
            if let Some(message) = queue.pop_front()
                && let Err(error) = socket.as_mut().start_send(message)
            {
                return Poll::Ready(Some(Err(error)));
            }
        }
        if let Poll::Ready(Err(error)) = socket.as_mut().poll_flush(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        socket.as_mut().poll_next(cx)
    })
    .await
}

/// Takes one frame and all that are there already, at most four batches of them, so that events
/// reach the engine in batches and a flood does not starve the commands.
fn read(
    socket: &mut WebSocketStream<Connection>,
    queue: &mut VecDeque<Message>,
    session: &mut Session,
    first: Frame,
) -> Result<(), String> {
    const AT_ONCE: usize = 256;
    let now = Instant::now();
    let mut frame = Some(first);
    let mut count = 0;
    while let Some(current) = frame.take() {
        let message = match current {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(socket_words(&error)),
            None => return Err("the relay closed the connection".to_owned()),
        };
        match message {
            Message::Text(text) => session.frame(&Bytes::from(text), now)?,
            Message::Binary(_) => session.spoiled()?,
            // Pings are answered by the WebSocket itself at the next flush.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            Message::Close(_) => return Err("the relay closed the connection".to_owned()),
        }
        count += 1;
        if count < AT_ONCE {
            frame = next_frame(socket, queue).now_or_never();
        }
    }
    session.flush_events();
    Ok(())
}

/// Says goodbye and does not wait for the answer.
async fn polite_close(socket: &mut WebSocketStream<Connection>) {
    let _ = tokio::time::timeout(Duration::from_millis(200), socket.close(None)).await;
}

fn socket_words(error: &SocketError) -> String {
    match error {
        SocketError::Io(error) => plain_words(error),
        SocketError::ConnectionClosed | SocketError::AlreadyClosed => {
            "the relay closed the connection".to_owned()
        }
        SocketError::Capacity(_) => format!(
            "the relay sent a frame of more than {} bytes",
            limits::FRAME_BYTES
        ),
        SocketError::Utf8(_) => "the relay sent text that is not UTF-8".to_owned(),
        SocketError::Http(response) => {
            format!("the relay answered HTTP {}", response.status().as_u16())
        }
        SocketError::Protocol(_) => "the relay does not speak WebSocket".to_owned(),
        _ => "the connection broke".to_owned(),
    }
}
