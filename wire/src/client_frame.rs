//! What a client says to a relay (NIP-01, NIP-42, NIP-45, NIP-77).

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::error::DecodeError;
use crate::event::Event;
use crate::filter::Filter;
use crate::ids::SubscriptionId;
use crate::{json as gate, limits, negentropy};

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
    /// `["COUNT", id, filter, ...]`: how many stored events match any of them (NIP-45).
    Count(SubscriptionId, Vec<Filter>),
    /// `["NEG-OPEN", id, filter, hex]`: compare what both have of a filter's events; the first
    /// message of negentropy, at most [`limits::NEGENTROPY_BYTES`] before hexadecimal (NIP-77).
    NegOpen(SubscriptionId, Filter, Vec<u8>),
    /// `["NEG-MSG", id, hex]`: the next one.
    NegMsg(SubscriptionId, Vec<u8>),
    /// `["NEG-CLOSE", id]`: enough of that.
    NegClose(SubscriptionId),
}

/// Why a frame did not decode, and what an answer can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub error: DecodeError,
    /// The `id` field of the event, where one could be read.
    pub event: Option<crate::EventId>,
    /// The subscription or count, where one could be read.
    pub subscription: Option<SubscriptionId>,
    /// The reconciliation, where one could be read: its errors go into `NEG-ERR`.
    pub reconciliation: Option<SubscriptionId>,
}

impl From<DecodeError> for Refused {
    fn from(error: DecodeError) -> Self {
        Self {
            error,
            event: None,
            subscription: None,
            reconciliation: None,
        }
    }
}

impl Refused {
    fn subscription(error: DecodeError, id: SubscriptionId) -> Self {
        Self {
            subscription: Some(id),
            ..error.into()
        }
    }

    fn reconciliation(error: DecodeError, id: SubscriptionId) -> Self {
        Self {
            reconciliation: Some(id),
            ..error.into()
        }
    }
}

impl ClientFrame {
    /// Reads one frame of at most [`limits::FRAME_BYTES`]. An event in it shares the frame's
    /// memory.
    pub fn decode(frame: &Bytes) -> Result<Self, Refused> {
        let text = gate::gate(frame, "frame", limits::FRAME_BYTES)?;
        if let Some(event) = plain_event(frame, text) {
            return Ok(Self::Event(event));
        }
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
                match filters_of(filters, "REQ") {
                    Ok(filters) => Ok(Self::Req(id, filters)),
                    Err(error) => Err(Refused::subscription(error, id)),
                }
            }
            ("COUNT", [id, filters @ ..]) => {
                let id = subscription(id)?;
                match filters_of(filters, "COUNT") {
                    Ok(filters) => Ok(Self::Count(id, filters)),
                    Err(error) => Err(Refused::subscription(error, id)),
                }
            }
            ("CLOSE", [id]) => Ok(Self::Close(subscription(id)?)),
            ("NEG-OPEN", [id, filter, message]) => {
                let id = subscription(id)?;
                match filter_of(filter).and_then(|filter| Ok((filter, negentropy::read(message)?)))
                {
                    Ok((filter, message)) => Ok(Self::NegOpen(id, filter, message)),
                    Err(error) => Err(Refused::reconciliation(error, id)),
                }
            }
            ("NEG-MSG", [id, message]) => {
                let id = subscription(id)?;
                match negentropy::read(message) {
                    Ok(message) => Ok(Self::NegMsg(id, message)),
                    Err(error) => Err(Refused::reconciliation(error, id)),
                }
            }
            ("NEG-CLOSE", [id]) => Ok(Self::NegClose(subscription(id)?)),
            (
                "EVENT" | "AUTH" | "REQ" | "CLOSE" | "COUNT" | "NEG-OPEN" | "NEG-MSG" | "NEG-CLOSE",
                _,
            ) => Err(DecodeError::malformed("frame").into()),
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
        with_filters("REQ", id, filters)
    }

    /// `["COUNT", id, filter, ...]`.
    pub fn count(id: &SubscriptionId, filters: &[Filter]) -> String {
        with_filters("COUNT", id, filters)
    }

    /// `["CLOSE", id]`.
    pub fn close(id: &SubscriptionId) -> String {
        json!(["CLOSE", id.as_str()]).to_string()
    }

    /// `["NEG-OPEN", id, filter, hex]`.
    pub fn neg_open(id: &SubscriptionId, filter: &Filter, message: &[u8]) -> String {
        json!([
            "NEG-OPEN",
            id.as_str(),
            filter.to_value(),
            hex::encode(message)
        ])
        .to_string()
    }

    /// `["NEG-MSG", id, hex]`.
    pub fn neg_msg(id: &SubscriptionId, message: &[u8]) -> String {
        negentropy::message(id, message)
    }

    /// `["NEG-CLOSE", id]`.
    pub fn neg_close(id: &SubscriptionId) -> String {
        json!(["NEG-CLOSE", id.as_str()]).to_string()
    }
}

fn with_filters(verb: &str, id: &SubscriptionId, filters: &[Filter]) -> String {
    let mut parts = vec![json!(verb), json!(id.as_str())];
    parts.extend(filters.iter().map(Filter::to_value));
    Value::Array(parts).to_string()
}

fn wrap(verb: &str, event_json: &[u8]) -> String {
    format!("[\"{verb}\",{}]", String::from_utf8_lossy(event_json))
}

/// The event of `["EVENT",{...}]` as nearly everybody spells it, read in one pass. Whatever does not
/// fit, or does not decode, goes the long way, which says what is wrong.
fn plain_event(frame: &Bytes, text: &str) -> Option<Event> {
    let inner = text.strip_prefix("[\"EVENT\",")?.strip_suffix(']')?;
    let inner = inner.trim_matches([' ', '\t', '\n', '\r']);
    Event::decode_gated(inner, frame.slice_ref(inner.as_bytes())).ok()
}

fn event_of(frame: &Bytes, raw: &RawValue) -> Result<Event, Refused> {
    let bytes = frame.slice_ref(raw.get().as_bytes());
    Event::decode_gated(raw.get(), bytes).map_err(|error| {
        #[derive(serde::Deserialize)]
        struct OnlyId {
            id: crate::EventId,
        }
        let event = serde_json::from_str::<OnlyId>(raw.get())
            .ok()
            .map(|only| only.id);
        Refused {
            event,
            ..error.into()
        }
    })
}

fn subscription(raw: &RawValue) -> Result<SubscriptionId, DecodeError> {
    let text: String =
        serde_json::from_str(raw.get()).map_err(|_| DecodeError::invalid("subscription id"))?;
    SubscriptionId::new(text)
}

fn filters_of(raw: &[&RawValue], what: &'static str) -> Result<Vec<Filter>, DecodeError> {
    if raw.is_empty() {
        return Err(DecodeError::malformed(what));
    }
    if raw.len() > limits::FILTERS {
        return Err(DecodeError::TooLarge {
            what: "number of filters",
            limit: limits::FILTERS,
        });
    }
    raw.iter().copied().map(filter_of).collect()
}

/// The fields of a JSON object that has each of them once: of a filter with a key twice, two readers
/// could understand two things.
struct Fields(Map<String, Value>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Fields;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Fields, A::Error> {
                let mut fields = Map::new();
                while let Some((key, value)) = map.next_entry()? {
                    if fields.insert(key, value).is_some() {
                        return Err(serde::de::Error::custom("a key twice"));
                    }
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

fn filter_of(raw: &RawValue) -> Result<Filter, DecodeError> {
    let Fields(fields) =
        serde_json::from_str(raw.get()).map_err(|_| DecodeError::malformed("filter"))?;
    Filter::decode(&Value::Object(fields))
}
