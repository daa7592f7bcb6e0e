//! What a relay says to a client (NIP-01, NIP-42, NIP-45, NIP-67, NIP-77).

use bytes::Bytes;
use serde_json::json;
use serde_json::value::RawValue;

use crate::error::DecodeError;
use crate::event::Event;
use crate::ids::{EventId, SubscriptionId};
use crate::{json as gate, limits, negentropy};

/// One message from a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RelayFrame {
    /// `["EVENT", id, event]`.
    Event(SubscriptionId, Event),
    /// `["EVENT", id, ...]` whose event did not decode: one bad event ends nothing.
    BadEvent(SubscriptionId, DecodeError),
    /// `["OK", event id, accepted, message]`.
    Ok(EventId, bool, OkMessage),
    /// `["EOSE", id, [hint, ...]]`: what was stored has been sent. `complete` is NIP-67's hint,
    /// where given: true for `finish`, false for `more`.
    Eose {
        /// Which subscription.
        subscription: SubscriptionId,
        /// Whether the relay says that nothing matching is left.
        complete: Option<bool>,
    },
    /// `["CLOSED", id, message]`: the relay ended the subscription.
    Closed(SubscriptionId, OkMessage),
    /// `["NOTICE", message]`, for people.
    Notice(String),
    /// `["AUTH", challenge]`.
    Auth(String),
    /// `["COUNT", id, {"count": n, "approximate": bool}]` (NIP-45).
    Count {
        /// Which count.
        subscription: SubscriptionId,
        /// How many events match.
        count: u64,
        /// Whether the relay only guesses.
        approximate: bool,
    },
    /// `["NEG-MSG", id, hex]`: the relay's part of a reconciliation, at most
    /// [`limits::NEGENTROPY_BYTES`] before hexadecimal (NIP-77).
    NegMsg(SubscriptionId, Vec<u8>),
    /// `["NEG-ERR", id, message]`: the relay ended the reconciliation.
    NegErr(SubscriptionId, OkMessage),
}

/// The message of OK, CLOSED and NEG-ERR: a standard prefix, and the text for people, cut to
/// [`limits::RELAY_MESSAGE_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OkMessage {
    /// The machine-readable prefix.
    pub reason: Reason,
    /// The whole message as sent. It comes from a stranger: print it only through the printer.
    pub text: String,
}

/// The standard prefixes (NIP-01, NIP-42, NIP-77).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No prefix, or one that is not standard.
    None,
    /// The relay has it already.
    Duplicate,
    /// Proof of work is missing.
    Pow,
    /// This key or address may not.
    Blocked,
    /// Too fast.
    RateLimited,
    /// The event breaks a rule.
    Invalid,
    /// Not for this key, even authenticated.
    Restricted,
    /// Not before NIP-42 authentication.
    AuthRequired,
    /// Passed on to nobody.
    Mute,
    /// The relay failed.
    Error,
    /// The relay does not do that.
    Unsupported,
    /// The relay no longer keeps what the request speaks of (NIP-77).
    Closed,
}

impl Reason {
    /// The prefix without its colon; empty for [`Reason::None`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Duplicate => "duplicate",
            Self::Pow => "pow",
            Self::Blocked => "blocked",
            Self::RateLimited => "rate-limited",
            Self::Invalid => "invalid",
            Self::Restricted => "restricted",
            Self::AuthRequired => "auth-required",
            Self::Mute => "mute",
            Self::Error => "error",
            Self::Unsupported => "unsupported",
            Self::Closed => "closed",
        }
    }

    const ALL: [Self; 11] = [
        Self::Duplicate,
        Self::Pow,
        Self::Blocked,
        Self::RateLimited,
        Self::Invalid,
        Self::Restricted,
        Self::AuthRequired,
        Self::Mute,
        Self::Error,
        Self::Unsupported,
        Self::Closed,
    ];
}

impl OkMessage {
    /// A message of our own: `prefix: text`.
    pub fn new(reason: Reason, text: &str) -> Self {
        let text = match reason {
            Reason::None => text.to_owned(),
            _ => format!("{}: {text}", reason.as_str()),
        };
        Self { reason, text }
    }

    /// Reads the prefix of a message.
    pub fn parse(text: &str) -> Self {
        let reason = text
            .split_once(':')
            .and_then(|(prefix, _)| Reason::ALL.into_iter().find(|r| r.as_str() == prefix))
            .unwrap_or(Reason::None);
        Self {
            reason,
            text: cut(text),
        }
    }
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(limits::RELAY_MESSAGE_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

impl RelayFrame {
    /// Reads one frame. The frame may be larger than ours would be: an event of
    /// [`limits::EVENT_BYTES`] and its envelope must fit in [`limits::FRAME_BYTES`].
    pub fn decode(frame: &Bytes) -> Result<Self, DecodeError> {
        let text = gate::gate(frame, "frame", limits::FRAME_BYTES)?;
        let parts: Vec<&RawValue> =
            serde_json::from_str(text).map_err(|_| DecodeError::malformed("frame"))?;
        let (verb, rest) = parts.split_first().ok_or(DecodeError::malformed("frame"))?;
        let verb = string(verb, "frame")?;
        match (verb.as_str(), rest) {
            ("EVENT", [id, event, ..]) => {
                let id = subscription(id)?;
                let bytes = frame.slice_ref(event.get().as_bytes());
                Ok(match Event::decode_gated(event.get(), bytes) {
                    Ok(event) => Self::Event(id, event),
                    Err(error) => Self::BadEvent(id, error),
                })
            }
            ("OK", [id, accepted, rest @ ..]) => {
                let id = EventId::from_hex(&string(id, "OK")?)?;
                let accepted = serde_json::from_str(accepted.get())
                    .map_err(|_| DecodeError::malformed("OK"))?;
                Ok(Self::Ok(id, accepted, OkMessage::parse(&message(rest)?)))
            }
            ("EOSE", [id, rest @ ..]) => {
                // Hints that we do not know, or that contradict each other, say nothing.
                let hints: Vec<serde_json::Value> = rest
                    .first()
                    .and_then(|raw| serde_json::from_str(raw.get()).ok())
                    .unwrap_or_default();
                let says = |hint: &str| hints.iter().any(|known| known == hint);
                let complete = match (says("finish"), says("more")) {
                    (true, false) => Some(true),
                    (false, true) => Some(false),
                    _ => None,
                };
                Ok(Self::Eose {
                    subscription: subscription(id)?,
                    complete,
                })
            }
            ("CLOSED", [id, rest @ ..]) => Ok(Self::Closed(
                subscription(id)?,
                OkMessage::parse(&message(rest)?),
            )),
            ("NOTICE", [text, ..]) => Ok(Self::Notice(cut(&string(text, "NOTICE")?))),
            ("AUTH", [challenge, ..]) => {
                let challenge = string(challenge, "AUTH")?;
                if challenge.len() > limits::CHALLENGE_BYTES {
                    return Err(DecodeError::TooLarge {
                        what: "challenge",
                        limit: limits::CHALLENGE_BYTES,
                    });
                }
                Ok(Self::Auth(challenge))
            }
            ("COUNT", [id, answer, ..]) => {
                #[derive(serde::Deserialize)]
                struct Answer {
                    count: u64,
                    #[serde(default)]
                    approximate: bool,
                }
                let answer: Answer = serde_json::from_str(answer.get())
                    .map_err(|_| DecodeError::malformed("COUNT"))?;
                Ok(Self::Count {
                    subscription: subscription(id)?,
                    count: answer.count,
                    approximate: answer.approximate,
                })
            }
            ("NEG-MSG", [id, message, ..]) => {
                Ok(Self::NegMsg(subscription(id)?, negentropy::read(message)?))
            }
            ("NEG-ERR", [id, rest @ ..]) => Ok(Self::NegErr(
                subscription(id)?,
                OkMessage::parse(&message(rest)?),
            )),
            (
                "EVENT" | "OK" | "EOSE" | "CLOSED" | "NOTICE" | "AUTH" | "COUNT" | "NEG-MSG"
                | "NEG-ERR",
                _,
            ) => Err(DecodeError::malformed("frame")),
            _ => Err(DecodeError::UnknownFrame),
        }
    }

    /// `["EVENT", id, event]` around the event's own bytes.
    pub fn event(id: &SubscriptionId, event_json: &[u8]) -> String {
        Self::event_after(&Self::event_prefix(id), event_json)
    }

    /// What every `EVENT` of one subscription begins with, for [`RelayFrame::event_after`].
    pub fn event_prefix(id: &SubscriptionId) -> String {
        format!("[\"EVENT\",{},", json!(id.as_str()))
    }

    /// `["EVENT", id, event]` from its beginning and the event's own bytes.
    pub fn event_after(prefix: &str, event_json: &[u8]) -> String {
        let event = String::from_utf8_lossy(event_json);
        let mut frame = String::with_capacity(prefix.len() + event.len() + 1);
        frame.push_str(prefix);
        frame.push_str(&event);
        frame.push(']');
        frame
    }

    /// `["OK", event id, accepted, message]`.
    pub fn ok(id: &EventId, accepted: bool, message: &str) -> String {
        json!(["OK", id.to_hex(), accepted, message]).to_string()
    }

    /// `["EOSE", id]`, with NIP-67's hint where `complete` is known.
    pub fn eose(id: &SubscriptionId, complete: Option<bool>) -> String {
        match complete {
            Some(true) => json!(["EOSE", id.as_str(), ["finish"]]),
            Some(false) => json!(["EOSE", id.as_str(), ["more"]]),
            None => json!(["EOSE", id.as_str()]),
        }
        .to_string()
    }

    /// `["CLOSED", id, message]`.
    pub fn closed(id: &SubscriptionId, message: &str) -> String {
        json!(["CLOSED", id.as_str(), message]).to_string()
    }

    /// `["NOTICE", message]`.
    pub fn notice(message: &str) -> String {
        json!(["NOTICE", message]).to_string()
    }

    /// `["COUNT", id, {"count": n}]`; `approximate` is left out where false, as the NIP does.
    pub fn count(id: &SubscriptionId, count: u64, approximate: bool) -> String {
        match approximate {
            true => json!(["COUNT", id.as_str(), { "count": count, "approximate": true }]),
            false => json!(["COUNT", id.as_str(), { "count": count }]),
        }
        .to_string()
    }

    /// `["NEG-MSG", id, hex]`.
    pub fn neg_msg(id: &SubscriptionId, message: &[u8]) -> String {
        negentropy::message(id, message)
    }

    /// `["NEG-ERR", id, message]`.
    pub fn neg_err(id: &SubscriptionId, message: &str) -> String {
        json!(["NEG-ERR", id.as_str(), message]).to_string()
    }

    /// `["AUTH", challenge]`.
    pub fn auth(challenge: &str) -> String {
        json!(["AUTH", challenge]).to_string()
    }
}

fn string(raw: &RawValue, what: &'static str) -> Result<String, DecodeError> {
    serde_json::from_str(raw.get()).map_err(|_| DecodeError::malformed(what))
}

fn message(rest: &[&RawValue]) -> Result<String, DecodeError> {
    rest.first()
        .map_or_else(|| Ok(String::new()), |raw| string(raw, "message"))
}

fn subscription(raw: &RawValue) -> Result<SubscriptionId, DecodeError> {
    SubscriptionId::new(string(raw, "subscription id")?)
}
