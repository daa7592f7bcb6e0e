//! A relay that breaks one of the rules that `sotto-relay check` asks about.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use sotto_relay::policy::difficulty;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use wire::{ClientFrame, Event, EventId, PublicKey, RelayFrame, kinds};

use crate::support::now;

/// Which rule the relay breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    NoDocument,
    NoNips,
    NoChallenge,
    RefusesProofs,
    NoWall,
    Loses,
    ShowsToOthers,
    TakesTooLarge,
    TakesOld,
    TakesFromTheFuture,
    RefusesTwoDaysOld,
    TakesExpired,
    ShowsExpired,
    IgnoresSender,
    IgnoresRecipient,
    TakesDeletedAgain,
    NeverEnds,
    DiskIsFull,
    TakesNoWraps,
    AsksWork,
    AsksTooMuchWork,
    HidesItsWork,
    HasRates,
    NeverAnswers,
    HangsUp,
    HangsUpOnLarge,
    SaysNothingOfSize,
    ComplainsOfSizeAloud,
}

/// More than the relay says it takes.
pub const LARGE: usize = 5_000;

/// A relay in memory, for one check.
pub struct Faulty {
    fault: Fault,
    events: Mutex<Vec<Event>>,
    deleted: Mutex<BTreeSet<EventId>>,
}

impl Faulty {
    pub async fn start(fault: Fault) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let relay = Arc::new(Self {
            fault,
            events: Mutex::default(),
            deleted: Mutex::default(),
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(relay.clone().serve(stream));
            }
        });
        url
    }

    pub fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    pub async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let mut head = [0; 2_048];
        let length = stream.peek(&mut head).await.unwrap();
        if !String::from_utf8_lossy(&head[..length])
            .to_lowercase()
            .contains("upgrade: websocket")
        {
            let _ = stream.read(&mut head).await;
            let body = self.document().to_string();
            let length = body.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
            let _ = stream.write_all(head.as_bytes()).await;
            return;
        }
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        if !self.has(Fault::NoChallenge) {
            let frame = RelayFrame::auth("prove it");
            let _ = socket.send(Message::text(frame)).await;
        }
        let mut auth = Vec::new();
        while let Some(Ok(message)) = socket.next().await {
            let Message::Text(text) = message else {
                continue;
            };
            let is_event = text.starts_with("[\"EVENT\"");
            if is_event && self.has(Fault::HangsUp) {
                return;
            }
            if is_event && text.len() > LARGE && self.has(Fault::HangsUpOnLarge) {
                let too_big = CloseFrame {
                    code: CloseCode::Size,
                    reason: "".into(),
                };
                let _ = socket.close(Some(too_big)).await;
                return;
            }
            let bytes = bytes::Bytes::copy_from_slice(text.as_bytes());
            for answer in self.answer(&mut auth, &bytes) {
                let _ = socket.send(Message::text(answer)).await;
            }
        }
    }

    pub fn document(&self) -> Value {
        match self.fault {
            Fault::NoDocument => json!("what would that be?"),
            Fault::NoNips => json!({"limitation": self.limitation()}),
            _ => json!({
                "supported_nips": [1, 9, 40, 42, 59, 62, 70],
                "limitation": self.limitation(),
            }),
        }
    }

    pub fn limitation(&self) -> Value {
        let mut limits = json!({
            "max_content_length": 4_096,
            "max_message_length": 131_072,
            "max_subscriptions": 20,
        });
        match self.fault {
            Fault::AsksWork => limits["anonymous_wrap_pow_difficulty"] = json!(6),
            Fault::AsksTooMuchWork => limits["min_pow_difficulty"] = json!(30),
            _ => {}
        }
        limits
    }

    pub fn answer(&self, auth: &mut Vec<PublicKey>, bytes: &bytes::Bytes) -> Vec<String> {
        match ClientFrame::decode(bytes) {
            Ok(ClientFrame::Event(_)) if self.has(Fault::NeverAnswers) => Vec::new(),
            Ok(ClientFrame::Event(event))
                if self.has(Fault::ComplainsOfSizeAloud) && event.json().len() > LARGE =>
            {
                vec![RelayFrame::notice("max event size exceeded")]
            }
            Ok(ClientFrame::Event(event)) => {
                let refusal = self.take(&event);
                let text = refusal.unwrap_or_default();
                vec![RelayFrame::ok(&event.id(), text.is_empty(), text)]
            }
            Ok(ClientFrame::Auth(event)) if self.has(Fault::RefusesProofs) => {
                let text = "restricted: the relay tag names another relay";
                vec![RelayFrame::ok(&event.id(), false, text)]
            }
            Ok(ClientFrame::Auth(event)) => {
                auth.push(event.pubkey());
                vec![RelayFrame::ok(&event.id(), true, "")]
            }
            Ok(ClientFrame::Req(id, _)) if auth.is_empty() && !self.has(Fault::NoWall) => {
                vec![RelayFrame::closed(&id, "auth-required: prove a key")]
            }
            Ok(ClientFrame::Req(..)) if self.has(Fault::NeverEnds) => {
                vec![RelayFrame::notice("wait for it"); 2_000]
            }
            Ok(ClientFrame::Req(id, filters)) => {
                let events = self.events.lock().unwrap();
                let is_shown = |event: &&Event| {
                    let is_expired = event.expiration().is_some_and(|end| end <= now());
                    let is_theirs = event.tags().people().any(|key| auth.contains(&key));
                    filters.iter().any(|filter| filter.matches(event))
                        && (is_theirs || self.has(Fault::ShowsToOthers))
                        && (!is_expired || self.has(Fault::ShowsExpired))
                        && !self.has(Fault::Loses)
                };
                let found = events.iter().filter(is_shown);
                let mut frames: Vec<String> = found
                    .map(|event| RelayFrame::event(&id, event.json()))
                    .collect();
                frames.push(RelayFrame::eose(&id, None));
                frames
            }
            _ => Vec::new(),
        }
    }

    /// Takes an event, or says why not.
    pub fn take(&self, event: &Event) -> Option<&'static str> {
        if event.kind() == kinds::DELETION {
            self.delete(event);
            return None;
        }
        let at = event.created_at();
        let past = match self.has(Fault::RefusesTwoDaysOld) {
            true => 86_400,
            false => 2 * 86_400 + 900,
        };
        let is_expired = event.expiration().is_some_and(|end| end <= now());
        let is_deleted = self.deleted.lock().unwrap().contains(&event.id());
        let is_large = event.json().len() > LARGE;
        let asked = match self.fault {
            Fault::AsksWork => 6,
            // Nobody does it, and no wrap has it by luck.
            Fault::HidesItsWork => 24,
            Fault::AsksTooMuchWork => 30,
            _ => 0,
        };
        match self.fault {
            Fault::DiskIsFull => return Some("error: the relay's disk is full"),
            Fault::TakesNoWraps => return Some("blocked: this kind belongs elsewhere"),
            Fault::HasRates => return Some("rate-limited: too many; again in 7 s"),
            Fault::SaysNothingOfSize if is_large => return Some("invalid: no such event here"),
            _ if !is_large && difficulty(&event.id()) < asked => {
                return Some("pow: this is not enough");
            }
            _ => {}
        }
        for (is_wrong, fault, why) in [
            (is_large, Fault::TakesTooLarge, "invalid: too large"),
            (at + past < now(), Fault::TakesOld, "invalid: too old"),
            (
                at > now() + 900,
                Fault::TakesFromTheFuture,
                "invalid: too early",
            ),
            (is_expired, Fault::TakesExpired, "invalid: expired"),
            (is_deleted, Fault::TakesDeletedAgain, "blocked: deleted"),
        ] {
            if is_wrong && !self.has(fault) {
                return Some(why);
            }
        }
        self.events.lock().unwrap().push(event.clone());
        None
    }

    pub fn delete(&self, request: &Event) {
        let mut events = self.events.lock().unwrap();
        events.retain(|event| {
            let id = event.id().to_hex();
            let is_named = request.tags().values("e").any(|named| named == id);
            let is_sender = event.pubkey() == request.pubkey();
            let is_recipient = event.tags().people().any(|key| key == request.pubkey());
            let goes = is_named
                && ((is_sender && !self.has(Fault::IgnoresSender))
                    || (is_recipient && !self.has(Fault::IgnoresRecipient)));
            if goes {
                self.deleted.lock().unwrap().insert(event.id());
            }
            !goes
        });
    }
}
