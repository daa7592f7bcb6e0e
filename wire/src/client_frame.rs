//! What a client says to a relay (NIP-01, NIP-42).

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::error::DecodeError;
use crate::event::Event;
use crate::filter::Filter;
use crate::ids::SubscriptionId;
use crate::{json as gate, limits};

/// One message from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientFrame {
    /// `["EVENT", event]`: please store or pass on.
    Event(Event),
    /// `["REQ", id, filter, ...]`: stored events, then new ones.
    Req(SubscriptionId, Vec<Filter>),
    /// `["CLOSE", id]`: no more of that.
    Close(SubscriptionId),
    /// `["AUTH", event]`: proof of a key (kind 22242).
    Auth(Event),
}

/// The first bytes of a frame whose event did not decode, so that an `OK` false can name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub error: DecodeError,
    /// The `id` field of the event, where one could be read.
    pub event: Option<crate::EventId>,
    /// The subscription, where one could be read.
    pub subscription: Option<SubscriptionId>,
}

impl From<DecodeError> for Refused {
    fn from(error: DecodeError) -> Self {
        Self {
            error,
            event: None,
            subscription: None,
        }
    }
}

impl ClientFrame {
    /// Reads one frame of at most [`limits::FRAME_BYTES`]. An event in it shares the frame's
    /// memory.
    pub fn decode(frame: &Bytes) -> Result<Self, Refused> {
        let text = gate::gate(frame, "frame", limits::FRAME_BYTES)?;
        let parts: Vec<&RawValue> =
            serde_json::from_str(text).map_err(|_| DecodeError::malformed("frame"))?;
        let (verb, rest) = parts.split_first().ok_or(DecodeError::malformed("frame"))?;
        let verb: &str =
            serde_json::from_str(verb.get()).map_err(|_| DecodeError::malformed("frame"))?;
        match (verb, rest) {
            ("EVENT", [event]) => event_of(frame, event).map(Self::Event),
            ("AUTH", [event]) => event_of(frame, event).map(Self::Auth),
            ("REQ", [id, filters @ ..]) => {
                let id = subscription(id)?;
                match filters_of(filters) {
                    Ok(filters) => Ok(Self::Req(id, filters)),
                    Err(error) => Err(Refused {
                        error,
                        event: None,
                        subscription: Some(id),
                    }),
                }
            }
            ("CLOSE", [id]) => Ok(Self::Close(subscription(id)?)),
            ("EVENT" | "AUTH" | "REQ" | "CLOSE", _) => Err(DecodeError::malformed("frame").into()),
            _ => Err(DecodeError::UnknownFrame.into()),
        }
    }

    /// `["EVENT", event]` around the event's own bytes.
    pub fn event(event_json: &[u8]) -> String {
        wrap("EVENT", event_json)
    }

    /// `["AUTH", event]` around the event's own bytes.
    pub fn auth(event_json: &[u8]) -> String {
        wrap("AUTH", event_json)
    }

    /// `["REQ", id, filter, ...]`.
    pub fn req(id: &SubscriptionId, filters: &[Filter]) -> String {
        let mut parts = vec![json!("REQ"), json!(id.as_str())];
        parts.extend(filters.iter().map(Filter::to_value));
        Value::Array(parts).to_string()
    }

    /// `["CLOSE", id]`.
    pub fn close(id: &SubscriptionId) -> String {
        json!(["CLOSE", id.as_str()]).to_string()
    }
}

fn wrap(verb: &str, event_json: &[u8]) -> String {
    format!("[\"{verb}\",{}]", String::from_utf8_lossy(event_json))
}

fn event_of(frame: &Bytes, raw: &RawValue) -> Result<Event, Refused> {
    let bytes = frame.slice_ref(raw.get().as_bytes());
    Event::decode(bytes).map_err(|error| {
        #[derive(serde::Deserialize)]
        struct OnlyId {
            id: crate::EventId,
        }
        let event = serde_json::from_str::<OnlyId>(raw.get())
            .ok()
            .map(|only| only.id);
        Refused {
            error,
            event,
            subscription: None,
        }
    })
}

fn subscription(raw: &RawValue) -> Result<SubscriptionId, DecodeError> {
    let text: String =
        serde_json::from_str(raw.get()).map_err(|_| DecodeError::invalid("subscription id"))?;
    SubscriptionId::new(text)
}

fn filters_of(raw: &[&RawValue]) -> Result<Vec<Filter>, DecodeError> {
    if raw.is_empty() {
        return Err(DecodeError::malformed("REQ"));
    }
    if raw.len() > limits::FILTERS {
        return Err(DecodeError::TooLarge {
            what: "number of filters",
            limit: limits::FILTERS,
        });
    }
    raw.iter()
        .map(|raw| {
            let value: Value =
                serde_json::from_str(raw.get()).map_err(|_| DecodeError::malformed("filter"))?;
            Filter::decode(&value)
        })
        .collect()
}
