//! A client with a key of its own, for `check`.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use rand::TryRng as _;
use rand::rngs::SysRng;
use rustls::pki_types::ServerName;
use secp256k1::{Keypair, SECP256K1, SecretKey};
use sotto_relay::config::Clock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use wire::{
    ClientFrame, Event, EventDraft, Filter, OkMessage, PublicKey, RelayFrame, RelayUrl, Signature,
    SubscriptionId, Tag, kinds,
};

/// A key for this check alone.
pub struct Key(Keypair);

impl Key {
    pub fn fresh() -> Result<Self, String> {
        loop {
            let mut secret = [0; 32];
            SysRng
                .try_fill_bytes(&mut secret)
                .map_err(|_| "the system gives no random bytes".to_owned())?;
            // All but a few of 2^128 draws are valid.
            if let Ok(secret) = SecretKey::from_slice(&secret) {
                return Ok(Self(Keypair::from_secret_key(SECP256K1, &secret)));
            }
        }
    }

    pub fn public(&self) -> PublicKey {
        PublicKey::from_bytes(self.0.x_only_public_key().0.serialize())
    }

    pub fn sign(&self, kind: u16, created_at: u64, tags: Vec<Tag>, content: &str) -> Event {
        let draft = EventDraft {
            pubkey: self.public(),
            created_at,
            kind,
            tags: tags.into_iter().collect(),
            content: content.to_owned(),
        };
        let sig = SECP256K1.sign_schnorr_no_aux_rand(draft.id().as_bytes(), &self.0);
        Event::from_signature(draft, Signature::from_bytes(sig.to_byte_array()))
    }

    pub fn wrap(&self, to: &Self, created_at: u64, more: &[[&str; 2]]) -> Event {
        let mut tags = vec![Tag::new(["p".to_owned(), to.public().to_hex()])];
        tags.extend(more.iter().map(|tag| Tag::new(*tag)));
        self.sign(kinds::WRAP, created_at, tags, "check")
    }

    pub fn deletion(&self, of: &Event) -> Event {
        let tags = vec![
            Tag::new(["e".to_owned(), of.id().to_hex()]),
            Tag::new(["k".to_owned(), of.kind().to_string()]),
        ];
        self.sign(kinds::DELETION, now(), tags, "")
    }
}

pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub async fn dial(url: &RelayUrl) -> Result<Box<dyn Stream>, String> {
    let host = url.host();
    let bare = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let stream = TcpStream::connect((bare.as_str(), url.port()))
        .await
        .map_err(|error| format!("{url}: {error}"))?;
    if !url.is_secure() {
        return Ok(Box::new(stream));
    }
    let stream = secure(url, bare, stream).await?;
    Ok(Box::new(stream))
}

async fn secure(
    url: &RelayUrl,
    host: String,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, String> {
    let config = sotto_relay::tls::client(None).map_err(|error| error.to_string())?;
    let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
    tokio_rustls::TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|error| format!("{url}: TLS failed: {error}"))
}

/// The certificate that the server shows, in DER.
pub async fn certificate(url: &RelayUrl) -> Result<Vec<u8>, String> {
    let host = url.host();
    let bare = host.trim_matches(['[', ']']).to_owned();
    let stream = TcpStream::connect((bare.as_str(), url.port()))
        .await
        .map_err(|error| format!("{url}: {error}"))?;
    let stream = secure(url, bare, stream).await?;
    let chain = stream.get_ref().1.peer_certificates();
    let first = chain.and_then(|chain| chain.first());
    first
        .map(|certificate| certificate.to_vec())
        .ok_or_else(|| "the server shows no certificate".to_owned())
}

/// A connection to the relay.
pub struct Peer {
    socket: WebSocketStream<Box<dyn Stream>>,
    url: RelayUrl,
    pub challenge: Option<String>,
    timeout: Duration,
}

impl Peer {
    pub async fn connect(url: &RelayUrl, timeout: Duration) -> Result<Self, String> {
        let open = async {
            let stream = dial(url).await?;
            tokio_tungstenite::client_async(url.as_str(), stream)
                .await
                .map_err(|error| format!("{url}: no WebSocket: {error}"))
        };
        let (socket, _) = within(timeout, open).await?;
        let mut peer = Self {
            socket,
            url: url.clone(),
            challenge: None,
            timeout,
        };
        // A challenge comes at once or only when one is needed.
        let wait = timeout.min(Duration::from_secs(2));
        if let Ok(Ok(RelayFrame::Auth(challenge))) =
            tokio::time::timeout(wait, peer.next_frame()).await
        {
            peer.challenge = Some(challenge);
        }
        Ok(peer)
    }

    pub async fn connect_as(url: &RelayUrl, timeout: Duration, key: &Key) -> Result<Self, String> {
        let mut peer = Self::connect(url, timeout).await?;
        let challenge = peer
            .challenge
            .clone()
            .ok_or("no AUTH challenge".to_owned())?;
        let tags = vec![
            Tag::new(["relay", peer.url.as_str()]),
            Tag::new(["challenge", &challenge]),
        ];
        let event = key.sign(kinds::CLIENT_AUTH, now(), tags, "");
        peer.send(ClientFrame::auth(event.json())).await?;
        peer.answer(&event)
            .await?
            .map_err(|message| format!("AUTH is refused: {}", shown(&message)))?;
        Ok(peer)
    }

    async fn send(&mut self, text: String) -> Result<(), String> {
        let lost = |_| "the connection was lost".to_owned();
        self.socket.send(Message::text(text)).await.map_err(lost)
    }

    async fn next_frame(&mut self) -> Result<RelayFrame, String> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    return RelayFrame::decode(&Bytes::from(text.as_bytes().to_vec()))
                        .map_err(|error| format!("the relay sent a bad message: {error}"));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return Err("the relay closed the connection".to_owned()),
            }
        }
    }

    async fn receive(&mut self) -> Result<RelayFrame, String> {
        within(self.timeout, self.next_frame()).await
    }

    async fn answer(&mut self, event: &Event) -> Result<Result<(), OkMessage>, String> {
        loop {
            match self.receive().await? {
                RelayFrame::Ok(id, true, _) if id == event.id() => return Ok(Ok(())),
                RelayFrame::Ok(id, false, message) if id == event.id() => return Ok(Err(message)),
                _ => {}
            }
        }
    }

    /// Publishes; the relay's refusal, if it refuses.
    pub async fn publish(&mut self, event: &Event) -> Result<Result<(), OkMessage>, String> {
        self.send(ClientFrame::event(event.json())).await?;
        self.answer(event).await
    }

    pub async fn must_accept(&mut self, event: &Event, what: &str) -> Result<(), String> {
        let answer = self.publish(event).await?;
        answer.map_err(|message| format!("{what} is refused: {}", shown(&message)))
    }

    /// Stored events, or the message of CLOSED.
    pub async fn fetch(&mut self, filter: Filter) -> Result<Result<Vec<Event>, OkMessage>, String> {
        let id = SubscriptionId::new("check").map_err(|error| error.to_string())?;
        self.send(ClientFrame::req(&id, &[filter])).await?;
        let mut events = Vec::new();
        loop {
            match self.receive().await? {
                RelayFrame::Event(_, event) => events.push(event),
                RelayFrame::Eose { .. } => break,
                RelayFrame::Closed(_, message) => return Ok(Err(message)),
                _ => {}
            }
        }
        self.send(ClientFrame::close(&id)).await?;
        Ok(Ok(events))
    }
}

/// The work, or a failure once it takes too long.
pub async fn within<T>(
    timeout: Duration,
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    tokio::time::timeout(timeout, work)
        .await
        .unwrap_or_else(|_| Err("the relay did not answer in time".to_owned()))
}

/// A relay's own words, without what a terminal would obey.
pub fn shown(message: &OkMessage) -> String {
    message
        .text
        .chars()
        .filter(|c| c.is_ascii_graphic() || *c == ' ')
        .take(200)
        .collect()
}

/// Unix seconds.
pub fn now() -> u64 {
    Clock::system().now()
}
