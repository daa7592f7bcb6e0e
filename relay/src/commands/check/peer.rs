//! A client with a key of its own, for `check`.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use rand::TryRng as _;
use rand::rngs::SysRng;
use secp256k1::{Keypair, SECP256K1, SecretKey};
use sotto_relay::config::Clock;
use sotto_relay::policy::difficulty;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};
use wire::{
    ClientFrame, Event, EventDraft, Filter, OkMessage, PublicKey, RelayFrame, RelayUrl, Signature,
    SubscriptionId, Tag, kinds,
};

use super::remedy::{refused, refused_to_answer, shown};
use super::target::{Closed, Stream, Target, Trouble};

/// Frames that are read for one answer: a relay that never comes to it is not heard for ever.
const MOST_FRAMES: usize = 1_000;
const FLOOD: &str = "the relay sends much else and does not answer";
const MUTE: &str = "its log says what keeps it; is another server's answer sent by a proxy?";
/// What to do where no challenge comes.
pub const NO_CHALLENGE: &str = "turn NIP-42 on; behind a proxy, pass messages on from the start";
/// What to do where a proof is refused.
const UNPROVEN: &str = "list this very URL in server.public_urls, and set the clock by NTP";

/// A key for this check alone.
#[derive(Clone, Copy)]
pub struct Key(Keypair);

impl Key {
    pub fn fresh() -> Result<Self, Trouble> {
        loop {
            let mut secret = [0; 32];
            SysRng
                .try_fill_bytes(&mut secret)
                .map_err(|_| Trouble::from("the system gives no random bytes"))?;
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
        self.complete(self.draft(kind, created_at, tags, content))
    }

    fn draft(&self, kind: u16, created_at: u64, tags: Vec<Tag>, content: &str) -> EventDraft {
        EventDraft {
            pubkey: self.public(),
            created_at,
            kind,
            tags: tags.into_iter().collect(),
            content: content.to_owned(),
        }
    }

    fn complete(&self, draft: EventDraft) -> Event {
        let sig = SECP256K1.sign_schnorr_no_aux_rand(draft.id().as_bytes(), &self.0);
        Event::from_signature(draft, Signature::from_bytes(sig.to_byte_array()))
    }

    /// A wrap that shows so many bits of work (NIP-13). Takes its time where they are many.
    pub fn wrap(&self, to: &Self, created_at: u64, more: &[[&str; 2]], work: u8) -> Event {
        let mut tags = vec![Tag::new(["p".to_owned(), to.public().to_hex()])];
        tags.extend(more.iter().map(|tag| Tag::new(*tag)));
        if work == 0 {
            return self.sign(kinds::WRAP, created_at, tags, "check");
        }
        let mut draft = self.draft(kinds::WRAP, created_at, Vec::new(), "check");
        for nonce in 0_u64.. {
            let nonce = Tag::new(["nonce".to_owned(), nonce.to_string(), work.to_string()]);
            draft.tags = tags.iter().cloned().chain([nonce]).collect();
            if difficulty(&draft.id()) >= u32::from(work) {
                break;
            }
        }
        self.complete(draft)
    }

    pub fn deletion(&self, of: &Event) -> Event {
        let tags = vec![
            Tag::new(["e".to_owned(), of.id().to_hex()]),
            Tag::new(["k".to_owned(), of.kind().to_string()]),
        ];
        self.sign(kinds::DELETION, now(), tags, "")
    }

    /// A request to join with a code, or to leave (NIP-43).
    pub fn wish(&self, kind: u16, code: Option<&str>) -> Event {
        let mut tags = vec![Tag::new(["-"])];
        tags.extend(code.map(|code| Tag::new(["claim", code])));
        self.sign(kind, now(), tags, "")
    }
}

/// A connection to the relay.
pub struct Peer {
    socket: WebSocketStream<Box<dyn Stream>>,
    url: RelayUrl,
    pub challenge: Option<String>,
    /// What the relay said last that is no answer.
    pub notice: String,
    timeout: Duration,
}

impl Peer {
    pub async fn connect(target: &Target) -> Result<Self, Trouble> {
        let url = &target.url;
        let open = async {
            let stream = target.dial().await?;
            let opened = tokio_tungstenite::client_async(url.as_str(), stream).await;
            opened.map_err(|error| no_websocket(url, &error))
        };
        let (socket, _) = target.within(open).await?;
        let mut peer = Self {
            socket,
            url: url.clone(),
            challenge: None,
            notice: String::new(),
            timeout: target.timeout,
        };
        // A challenge comes at once or only when one is needed.
        let wait = target.timeout.min(Duration::from_secs(2));
        if let Ok(Ok(RelayFrame::Auth(challenge))) =
            tokio::time::timeout(wait, peer.next_frame()).await
        {
            peer.challenge = Some(challenge);
        }
        Ok(peer)
    }

    pub async fn connect_as(target: &Target, key: &Key) -> Result<Self, Trouble> {
        let mut peer = Self::connect(target).await?;
        let challenge = peer.challenge.clone();
        let challenge =
            challenge.ok_or_else(|| Trouble::with_fix("no AUTH challenge", NO_CHALLENGE))?;
        let tags = vec![
            Tag::new(["relay", peer.url.as_str()]),
            Tag::new(["challenge", &challenge]),
        ];
        let event = key.sign(kinds::CLIENT_AUTH, now(), tags, "");
        peer.send(ClientFrame::auth(event.json())).await?;
        let answer = peer.answer(&event).await?;
        answer.map_err(|message| {
            Trouble::with_fix(format!("AUTH is refused: {}", shown(&message)), UNPROVEN)
        })?;
        Ok(peer)
    }

    async fn send(&mut self, text: String) -> Result<(), Trouble> {
        let lost = |_| Trouble::closed(Closed::Otherwise);
        self.socket.send(Message::text(text)).await.map_err(lost)
    }

    async fn next_frame(&mut self) -> Result<RelayFrame, Trouble> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    return RelayFrame::decode(&Bytes::from(text.as_bytes().to_vec()))
                        .map_err(|error| format!("the relay sent a bad message: {error}").into());
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(Some(frame)))) if frame.code == CloseCode::Size => {
                    return Err(Trouble::closed(Closed::TooBig));
                }
                _ => return Err(Trouble::closed(Closed::Otherwise)),
            }
        }
    }

    async fn receive(&mut self) -> Result<RelayFrame, Trouble> {
        tokio::time::timeout(self.timeout, self.next_frame())
            .await
            .unwrap_or_else(|_| Err(Trouble::late()))
    }

    async fn answer(&mut self, event: &Event) -> Result<Result<(), OkMessage>, Trouble> {
        for _ in 0..MOST_FRAMES {
            match self.receive().await? {
                RelayFrame::Ok(id, true, _) if id == event.id() => return Ok(Ok(())),
                RelayFrame::Ok(id, false, message) if id == event.id() => return Ok(Err(message)),
                RelayFrame::Notice(text) => self.notice = text,
                _ => {}
            }
        }
        Err(Trouble::with_fix(FLOOD, MUTE))
    }

    /// Publishes; the relay's refusal, if it refuses.
    pub async fn publish(&mut self, event: &Event) -> Result<Result<(), OkMessage>, Trouble> {
        self.send(ClientFrame::event(event.json())).await?;
        self.answer(event).await
    }

    /// Publishes a wrap that any relay should take.
    pub async fn must_accept(&mut self, event: &Event, what: &str) -> Result<(), Trouble> {
        let answer = self.publish(event).await?;
        answer.map_err(|message| refused(what, &message))
    }

    /// Stored events that have to be shown.
    pub async fn must_show(&mut self, filter: Filter) -> Result<Vec<Event>, Trouble> {
        let found = self.fetch(filter).await?;
        found.map_err(|message| refused_to_answer(&message))
    }

    /// Stored events, or the message of CLOSED.
    pub async fn fetch(
        &mut self,
        filter: Filter,
    ) -> Result<Result<Vec<Event>, OkMessage>, Trouble> {
        let id = SubscriptionId::new("check").map_err(|error| Trouble::from(error.to_string()))?;
        self.send(ClientFrame::req(&id, &[filter])).await?;
        let mut events = Vec::new();
        for _ in 0..MOST_FRAMES {
            match self.receive().await? {
                RelayFrame::Event(_, event) => events.push(event),
                RelayFrame::Eose { .. } => {
                    self.send(ClientFrame::close(&id)).await?;
                    return Ok(Ok(events));
                }
                RelayFrame::Closed(_, message) => return Ok(Err(message)),
                _ => {}
            }
        }
        Err(Trouble::with_fix(FLOOD, MUTE))
    }
}

/// Why something that was reached is no WebSocket server.
fn no_websocket(url: &RelayUrl, error: &tungstenite::Error) -> Trouble {
    let (why, fix) = match error {
        tungstenite::Error::Protocol(ProtocolError::HttparseError(_)) => (
            "what answers there does not speak HTTP".to_owned(),
            "with TLS the address begins with wss://; or is it another port?",
        ),
        tungstenite::Error::Http(response) => (
            format!("the answer is HTTP {}", response.status()),
            "404: the relay is at another path; 403 or 429: this address may not connect, or not so often; else see whether the proxy passes Upgrade on",
        ),
        other => (
            format!("no WebSocket: {other}"),
            "does a relay listen there, and does the proxy pass Upgrade on?",
        ),
    };
    Trouble::with_fix(format!("{url}: {why}"), fix)
}

/// Unix seconds.
pub fn now() -> u64 {
    Clock::system().now()
}
