//! A client with no manners: says to a relay exactly what a test wants said.

use std::time::Duration;

use bytes::Bytes;
use crypto::{AccountKey, OneTimeKey};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use wire::{
    ClientFrame, Event, EventDraft, Filter, RelayFrame, RelayUrl, Rumor, SubscriptionId, Tag, Tags,
    kinds,
};

/// One connection.
pub struct RawClient {
    socket: WebSocketStream<TcpStream>,
    url: RelayUrl,
    challenge: String,
}

impl RawClient {
    /// Connects and reads the challenge.
    pub async fn connect(url: &RelayUrl) -> Self {
        let stream = TcpStream::connect((url.host(), url.port())).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(url.as_str(), stream)
            .await
            .unwrap();
        let mut client = Self {
            socket,
            url: url.clone(),
            challenge: String::new(),
        };
        let RelayFrame::Auth(challenge) = client.next().await else {
            panic!("no challenge")
        };
        client.challenge = challenge;
        client
    }

    /// Sends a frame.
    pub async fn say(&mut self, frame: String) {
        self.socket.send(Message::text(frame)).await.unwrap();
    }

    /// The next frame that decodes.
    pub async fn next(&mut self) -> RelayFrame {
        loop {
            let waiting = tokio::time::timeout(Duration::from_secs(20), self.socket.next());
            let message = waiting.await.expect("an answer").expect("open").unwrap();
            if let Message::Text(text) = message {
                return RelayFrame::decode(&Bytes::copy_from_slice(text.as_bytes())).unwrap();
            }
        }
    }

    /// Publishes an event; gives the OK's verdict and message.
    pub async fn publish(&mut self, event: &Event) -> (bool, String) {
        self.say(ClientFrame::event(event.json())).await;
        loop {
            if let RelayFrame::Ok(id, accepted, message) = self.next().await
                && id == event.id()
            {
                return (accepted, message.text);
            }
        }
    }

    /// Publishes many, all in flight at once; panics unless all are accepted.
    pub async fn publish_all(&mut self, events: &[Event]) {
        for chunk in events.chunks(100) {
            for event in chunk {
                self.socket
                    .feed(Message::text(ClientFrame::event(event.json())))
                    .await
                    .unwrap();
            }
            self.socket.flush().await.unwrap();
            let mut open = chunk.len();
            while open > 0 {
                if let RelayFrame::Ok(_, accepted, message) = self.next().await {
                    assert!(accepted, "{}", message.text);
                    open -= 1;
                }
            }
        }
    }

    /// Authenticates.
    pub async fn auth(&mut self, account: &AccountKey, now: u64) {
        let draft = EventDraft {
            pubkey: account.public_key(),
            created_at: now,
            kind: kinds::CLIENT_AUTH,
            tags: Tags::from_iter([
                Tag::new(["relay", self.url.as_str()]),
                Tag::new(["challenge", self.challenge.as_str()]),
            ]),
            content: String::new(),
        };
        let event = account.sign(draft, &mut rng());
        self.say(ClientFrame::auth(event.json())).await;
        while !matches!(self.next().await, RelayFrame::Ok(id, true, _) if id == event.id()) {}
    }

    /// Everything stored that matches.
    pub async fn query(&mut self, filter: Filter) -> Vec<Event> {
        let id = SubscriptionId::new("raw").unwrap();
        self.say(ClientFrame::req(&id, &[filter])).await;
        let mut found = Vec::new();
        loop {
            match self.next().await {
                RelayFrame::Event(_, event) => found.push(event),
                RelayFrame::Eose { .. } => return found,
                RelayFrame::Closed(_, message) => panic!("closed: {}", message.text),
                _ => {}
            }
        }
    }
}

/// A text rumor.
pub fn text(from: &AccountKey, to: &wire::PublicKey, content: &str, created_at: u64) -> Rumor {
    Rumor::new(EventDraft {
        pubkey: from.public_key(),
        created_at,
        kind: kinds::TEXT,
        tags: Tags::from_iter([Tag::new(["p".to_owned(), to.to_hex()])]),
        content: content.to_owned(),
    })
}

/// Seals as `from` and wraps for `to`, as any NIP-17 client would.
pub fn sealed(from: &AccountKey, to: &wire::PublicKey, rumor: &Rumor, now: u64) -> Event {
    let mut rng = rng();
    let conversation = from.conversation_with(to).unwrap();
    let seal = crypto::seal(from, &conversation, rumor, None, now, &mut rng).unwrap();
    wrapped(to, seal.json(), now)
}

/// Wraps any bytes that start like a seal or session message.
pub fn wrapped(to: &wire::PublicKey, payload: &[u8], now: u64) -> Event {
    let mut rng = rng();
    let key = OneTimeKey::generate(&mut rng);
    crypto::wrap(
        &key,
        to,
        crypto::WrapKind::Stored,
        payload,
        now,
        None,
        &mut rng,
    )
    .unwrap()
}

/// A wrap whose payload is encrypted but starts with anything, which `crypto::wrap` refuses.
pub fn wrapped_anything(to: &wire::PublicKey, payload: &[u8], now: u64) -> Event {
    let mut rng = rng();
    let key = OneTimeKey::generate(&mut rng);
    let content = key
        .conversation_with(to)
        .unwrap()
        .encrypt(payload, &mut rng)
        .unwrap();
    wrapped_content(&key, to, content, now)
}

/// A wrap with this very content.
pub fn wrapped_content(key: &OneTimeKey, to: &wire::PublicKey, content: String, now: u64) -> Event {
    let draft = EventDraft {
        pubkey: key.public_key(),
        created_at: now,
        kind: kinds::WRAP,
        tags: Tags::from_iter([Tag::new(["p".to_owned(), to.to_hex()])]),
        content,
    };
    key.sign(draft, &mut rng())
}

/// The operating system's randomness.
pub fn rng() -> impl rand::CryptoRng {
    rand::rand_core::UnwrapErr(rand::rngs::SysRng)
}

/// An account that nobody has used.
pub fn account() -> AccountKey {
    use rand::Rng;
    let mut secret = [0; 32];
    rng().fill_bytes(&mut secret);
    AccountKey::from_secret_bytes(&secret).unwrap()
}
