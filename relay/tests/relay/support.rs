//! Keys, events and a plain client for tests over real sockets.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use negentropy::{Id, Negentropy, NegentropyStorageVector};
use secp256k1::{Keypair, SECP256K1, SecretKey};
use sotto_relay::config::Clock;
use sotto_relay::{Config, Relay};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use wire::{
    ClientFrame, Event, EventDraft, EventId, Filter, PublicKey, RelayFrame, Signature,
    SubscriptionId, Tag, Tags,
};

/// Awaited conditions give up after this. Less than the time limits that the relay has by itself, so
/// that none of those is taken for the shorter one that a test has set.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Somebody with a key.
#[derive(Clone)]
pub struct Person(Keypair);

/// The person with this number; always the same key.
pub fn person(number: u32) -> Person {
    let mut secret = [7; 32];
    secret[..4].copy_from_slice(&number.to_be_bytes());
    Person(Keypair::from_secret_key(
        SECP256K1,
        &SecretKey::from_slice(&secret).unwrap(),
    ))
}

impl Person {
    pub fn key(&self) -> PublicKey {
        PublicKey::from_bytes(self.0.x_only_public_key().0.serialize())
    }

    pub fn sign(&self, kind: u16, created_at: u64, tags: &[&[&str]], content: &str) -> Event {
        let draft = EventDraft {
            pubkey: self.key(),
            created_at,
            kind,
            tags: tags
                .iter()
                .map(|tag| Tag::new(tag.iter().copied()))
                .collect::<Tags>(),
            content: content.to_owned(),
        };
        let sig = SECP256K1.sign_schnorr_no_aux_rand(draft.id().as_bytes(), &self.0);
        Event::from_signature(draft, Signature::from_bytes(sig.to_byte_array()))
    }

    pub fn note(&self, content: &str) -> Event {
        self.sign(1, now(), &[], content)
    }

    /// A wrap from this (one-time) key.
    pub fn wrap(&self, to: &Person, content: &str) -> Event {
        self.sign(1059, now(), &[&["p", &to.key().to_hex()]], content)
    }

    pub fn wrap_at(&self, to: &Person, created_at: u64) -> Event {
        self.sign(1059, created_at, &[&["p", &to.key().to_hex()]], "dated")
    }

    pub fn deletion(&self, of: &Event) -> Event {
        let kind = of.kind().to_string();
        self.sign(5, now(), &[&["e", &of.id().to_hex()], &["k", &kind]], "")
    }
}

pub fn now() -> u64 {
    Clock::system().now()
}

pub async fn start(config: Config) -> Relay {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Relay::start(listener, config).await.unwrap()
}

/// A connection that decodes what it gets.
pub struct Client {
    pub socket: WebSocketStream<TcpStream>,
    pub challenge: String,
    pub url: String,
    counter: u64,
    /// Events that came between the answers that a call waited for.
    pub aside: Vec<(SubscriptionId, Event)>,
}

impl Client {
    pub async fn connect(url: &str) -> Self {
        let address = url.trim_start_matches("ws://").to_owned();
        let stream = TcpStream::connect(&address).await.unwrap();
        // A small frame would otherwise wait until the one before it is acknowledged.
        stream.set_nodelay(true).unwrap();
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
        Self::over(socket, url).await
    }

    /// Over a socket that was opened otherwise.
    pub async fn over(socket: WebSocketStream<TcpStream>, url: &str) -> Self {
        let mut client = Self {
            socket,
            challenge: String::new(),
            url: url.to_owned(),
            counter: 0,
            aside: Vec::new(),
        };
        match client.receive().await {
            RelayFrame::Auth(challenge) => client.challenge = challenge,
            other => panic!("no challenge but {other:?}"),
        }
        client
    }

    pub async fn connect_as(url: &str, who: &Person) -> Self {
        let mut client = Self::connect(url).await;
        let (accepted, text) = client.auth(who).await;
        assert!(accepted, "{text}");
        client
    }

    pub async fn send(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).await.unwrap();
    }

    /// Sends where the relay may have closed the connection.
    pub async fn try_send(&mut self, text: String) -> Result<(), ()> {
        self.socket.send(Message::text(text)).await.map_err(drop)
    }

    /// The next frame; nothing if the relay closed the connection.
    pub async fn try_receive(&mut self) -> Option<RelayFrame> {
        tokio::time::timeout(PATIENCE, self.receive_some_time())
            .await
            .expect("the relay said nothing for too long")
    }

    /// The next frame, however long it takes; nothing if the relay closed the connection.
    pub async fn receive_some_time(&mut self) -> Option<RelayFrame> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    let bytes = Bytes::from(text.as_bytes().to_vec());
                    return Some(RelayFrame::decode(&bytes).unwrap());
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return None,
            }
        }
    }

    pub async fn receive(&mut self) -> RelayFrame {
        self.try_receive()
            .await
            .expect("the relay closed the connection")
    }

    pub fn auth_event(&self, who: &Person) -> Event {
        who.sign(
            22242,
            now(),
            &[&["relay", &self.url], &["challenge", &self.challenge]],
            "",
        )
    }

    pub async fn auth(&mut self, who: &Person) -> (bool, String) {
        let event = self.auth_event(who);
        self.auth_with(&event).await
    }

    pub async fn auth_with(&mut self, event: &Event) -> (bool, String) {
        self.send(ClientFrame::auth(event.json())).await;
        self.answer(event.id()).await
    }

    /// The relay's OK for an event.
    pub async fn answer(&mut self, id: EventId) -> (bool, String) {
        loop {
            match self.receive().await {
                RelayFrame::Ok(of, accepted, message) if of == id => {
                    return (accepted, message.text);
                }
                RelayFrame::Event(id, event) => self.aside.push((id, event)),
                other => panic!("no OK but {other:?}"),
            }
        }
    }

    pub async fn publish(&mut self, event: &Event) -> (bool, String) {
        self.send(ClientFrame::event(event.json())).await;
        self.answer(event.id()).await
    }

    /// Publishes and expects to be accepted.
    pub async fn put(&mut self, event: &Event) {
        let (accepted, text) = self.publish(event).await;
        assert!(accepted, "{text}");
    }

    /// Opens a subscription; its stored events, or the message of CLOSED.
    pub async fn ask(
        &mut self,
        id: &SubscriptionId,
        filters: &[Filter],
    ) -> Result<Vec<Event>, String> {
        self.send(ClientFrame::req(id, filters)).await;
        let mut events = Vec::new();
        loop {
            match self.receive().await {
                RelayFrame::Event(of, event) if of == *id => events.push(event),
                RelayFrame::Event(of, event) => self.aside.push((of, event)),
                RelayFrame::Eose { subscription, .. } if subscription == *id => return Ok(events),
                RelayFrame::Closed(of, message) if of == *id => return Err(message.text),
                other => panic!("no stored event but {other:?}"),
            }
        }
    }

    pub async fn fetch(&mut self, filter: Filter) -> Result<Vec<Event>, String> {
        self.counter += 1;
        let id = SubscriptionId::new(format!("fetch-{}", self.counter)).unwrap();
        let events = self.ask(&id, &[filter]).await;
        self.send(ClientFrame::close(&id)).await;
        events
    }

    /// How many events the relay says match, or the message of CLOSED.
    pub async fn count(&mut self, filters: &[Filter]) -> Result<u64, String> {
        self.counter += 1;
        let id = SubscriptionId::new(format!("count-{}", self.counter)).unwrap();
        self.send(ClientFrame::count(&id, filters)).await;
        match self.receive().await {
            RelayFrame::Count {
                subscription,
                count,
                approximate: false,
            } if subscription == id => Ok(count),
            RelayFrame::Closed(of, message) if of == id => Err(message.text),
            other => panic!("no count but {other:?}"),
        }
    }

    /// Compares `own` with what the relay shows of `filter`; the message of NEG-ERR where it
    /// refuses.
    pub async fn reconcile(
        &mut self,
        filter: &Filter,
        own: &[Event],
    ) -> Result<Comparison, String> {
        self.counter += 1;
        let id = SubscriptionId::new(format!("compare-{}", self.counter)).unwrap();
        let (mut comparison, first) = Comparison::begin(own);
        self.send(ClientFrame::neg_open(&id, filter, &first)).await;
        loop {
            match self.receive().await {
                RelayFrame::NegMsg(of, message) if of == id => match comparison.next(&message) {
                    Some(next) => self.send(ClientFrame::neg_msg(&id, &next)).await,
                    None => break,
                },
                RelayFrame::NegErr(of, message) if of == id => return Err(message.text),
                other => panic!("no reconciliation but {other:?}"),
            }
        }
        self.send(ClientFrame::neg_close(&id)).await;
        Ok(comparison)
    }

    /// What this person finds in their mailbox.
    pub async fn mailbox(&mut self, of: &Person) -> Vec<Event> {
        self.fetch(mailbox(of)).await.unwrap()
    }
}

/// The client's side of a reconciliation.
pub struct Comparison {
    negentropy: Negentropy<'static, NegentropyStorageVector>,
    /// What the relay lacks.
    pub have: BTreeSet<EventId>,
    /// What the client lacks.
    pub need: BTreeSet<EventId>,
    pub rounds: usize,
}

impl Comparison {
    /// With the first message.
    pub fn begin(own: &[Event]) -> (Self, Vec<u8>) {
        let mut storage = NegentropyStorageVector::new();
        for event in own {
            let id = Id::from_byte_array(*event.id().as_bytes());
            storage.insert(event.created_at(), id).unwrap();
        }
        storage.seal().unwrap();
        let mut negentropy = Negentropy::owned(storage, 60_000).unwrap();
        let first = negentropy.initiate().unwrap();
        let comparison = Self {
            negentropy,
            have: BTreeSet::new(),
            need: BTreeSet::new(),
            rounds: 0,
        };
        (comparison, first)
    }

    /// The next message, unless everything is known.
    pub fn next(&mut self, answer: &[u8]) -> Option<Vec<u8>> {
        self.rounds += 1;
        let (mut have, mut need) = (Vec::new(), Vec::new());
        let next = self
            .negentropy
            .reconcile_with_ids(answer, &mut have, &mut need)
            .unwrap();
        let id = |id: Id| EventId::from_bytes(id.to_bytes());
        self.have.extend(have.into_iter().map(id));
        self.need.extend(need.into_iter().map(id));
        next
    }
}

pub fn mailbox(of: &Person) -> Filter {
    Filter::default()
        .with_kinds([1059, 21059])
        .with_tag('p', [of.key().to_hex()])
}

pub fn subscription(name: &str) -> SubscriptionId {
    SubscriptionId::new(name).unwrap()
}

pub fn ids(events: &[Event]) -> Vec<EventId> {
    events.iter().map(Event::id).collect()
}
