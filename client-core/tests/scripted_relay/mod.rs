//! Relays that say what a test scripts, and the link that talks to them.

#![allow(dead_code, reason = "no test uses all of it")]

use std::time::Duration;

use bytes::Bytes;
use client_core::engine::io::{Input, OpId, PublishOutcome, QueryEnd, Role, SocketKey};
use client_core::runtime::Timeouts;
use client_core::runtime::dialer::Dialer;
use client_core::runtime::relay_link::{Command, RelayLink};
use crypto::OneTimeKey;
use futures_util::{SinkExt as _, StreamExt as _};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use wire::{Event, EventDraft, Filter, PublicKey, RelayUrl, Tag, Tags, kinds};

pub type Socket = WebSocketStream<TcpStream>;

pub const LONG: Duration = Duration::from_secs(20);

pub fn patient() -> Timeouts {
    Timeouts {
        connect: LONG,
        answer: LONG,
        transfer: LONG,
        ping: LONG,
        linger: LONG,
    }
}

/// A listener that runs one script per connection.
pub async fn relay<F, R>(script: F) -> RelayUrl
where
    F: Fn(Peer) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(socket) = tokio_tungstenite::accept_async(stream).await else {
                continue;
            };
            tokio::spawn(script(Peer { socket }));
        }
    });
    RelayUrl::parse(&format!("ws://127.0.0.1:{port}")).unwrap()
}

/// The relay's end of a connection.
pub struct Peer {
    pub socket: Socket,
}

impl Peer {
    /// The next JSON frame of the client; `Null` when it is gone.
    pub async fn hear(&mut self) -> Value {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return Value::Null,
            }
        }
    }

    pub async fn say(&mut self, frame: Value) {
        self.say_text(&frame.to_string()).await;
    }

    pub async fn say_text(&mut self, text: &str) {
        let _ = self.socket.send(Message::text(text)).await;
    }

    /// Bytes as they are, in the middle of the WebSocket stream.
    pub async fn say_raw(mut self, bytes: &[u8]) {
        let stream = self.socket.get_mut();
        let _ = stream.write_all(bytes).await;
        // Until the client has gone.
        while self.hear().await != Value::Null {}
    }

    pub async fn ok(&mut self, event: &Value, accepted: bool, message: &str) {
        let frame = json!(["OK", event[1]["id"], accepted, message]);
        self.say(frame).await;
    }

    pub async fn until_gone(&mut self) {
        while self.hear().await != Value::Null {}
    }
}

pub struct Link {
    pub link: RelayLink,
    pub inputs: mpsc::Receiver<Input>,
}

impl Link {
    pub fn to(url: RelayUrl, role: Role) -> Self {
        Self::with(url, role, patient())
    }

    pub fn with(url: RelayUrl, role: Role, timeouts: Timeouts) -> Self {
        let key = SocketKey {
            circle: 0,
            role,
            key: PublicKey::from_bytes([7; 32]),
            relay: url,
            is_own: true,
        };
        let (sender, inputs) = mpsc::channel(64);
        let dialer = Dialer::new(timeouts.connect).unwrap();
        let (link, task) = RelayLink::new(key, dialer, timeouts, [5; 32], sender);
        tokio::spawn(task);
        Self { link, inputs }
    }

    pub async fn next(&mut self) -> Input {
        let input = tokio::time::timeout(LONG, self.inputs.recv()).await;
        input.expect("an input in time").expect("a living link")
    }

    pub fn publish(&self, op: u64, event: &Event) {
        self.link.command(Command::Publish {
            op: OpId(op),
            id: event.id(),
            event: event.json().clone(),
        });
    }

    pub async fn publish_and_wait(&mut self, event: &Event) -> PublishOutcome {
        self.publish(1, event);
        match self.next().await {
            Input::Published {
                op: OpId(1),
                outcome,
            } => outcome,
            other => panic!("{other:?}"),
        }
    }

    pub fn query(&self, op: u64, filter: Filter, live: bool) {
        self.link.command(Command::Query {
            op: OpId(op),
            filter,
            live,
        });
    }

    /// All events of a query and its end.
    pub async fn collect(&mut self, wanted: u64) -> (Vec<Bytes>, QueryEnd, u64) {
        let mut all = Vec::new();
        loop {
            match self.next().await {
                Input::Events { op, events } if op == OpId(wanted) => {
                    assert!(!events.is_empty() && events.len() <= 64);
                    all.extend(events);
                }
                Input::QueryEnded { op, end, garbage } if op == OpId(wanted) => {
                    return (all, end, garbage);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

pub fn event(number: u64) -> Event {
    let mut rng = StdRng::seed_from_u64(number);
    let key = OneTimeKey::generate(&mut rng);
    let draft = EventDraft {
        pubkey: key.public_key(),
        created_at: 1_700_000_000 + number,
        kind: kinds::WRAP,
        tags: Tags::from_iter([Tag::new(["p", &"07".repeat(32)])]),
        content: format!("event {number}"),
    };
    key.sign(draft, &mut rng)
}

pub fn ids(events: &[Bytes]) -> Vec<wire::EventId> {
    let decode = |bytes: &Bytes| Event::decode(bytes.clone()).unwrap().id();
    events.iter().map(decode).collect()
}

pub fn wraps() -> Filter {
    Filter::default()
        .with_kinds([kinds::WRAP, kinds::EPHEMERAL_WRAP])
        .with_tag('p', ["07".repeat(32)])
}
