//! Proof of who makes an HTTP request (NIP-98).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::Digest;

use crate::authorization::{self, HeaderError};
use crate::event::{Event, EventDraft, Tag, Tags};
use crate::ids::{EventId, PublicKey, Sha256};
use crate::kinds;
use crate::verify::VerifiedEvent;

/// How far the proof's time may be off, seconds.
pub const WINDOW_SECONDS: u64 = 60;

/// A proof whose form was read and whose signature was checked. Whether it fits the request is
/// for [`HttpAuth::check`] to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAuth {
    event: VerifiedEvent,
}

/// Why a proof does not stand for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpAuthError {
    /// Larger than [`crate::limits::AUTHORIZATION_BYTES`], not `Nostr <base64>`, or no event in it.
    #[error("the Authorization header holds no NIP-98 event")]
    Malformed,
    /// Id or signature do not hold.
    #[error("the signature does not hold")]
    Forged,
    /// Not kind 27235.
    #[error("the event is not of kind 27235")]
    Kind,
    /// Too old or too new.
    #[error("the event is dated more than 60 seconds from now")]
    Time,
    /// Another address in `u`, or several.
    #[error("the u tag names another address")]
    Url,
    /// Another method.
    #[error("the method tag names another method")]
    Method,
    /// No `payload`, or another one's.
    #[error("the payload tag is not the SHA-256 of the body")]
    Payload,
}

impl HttpAuth {
    /// A draft for one request; the key of whoever makes it signs it.
    pub fn draft(
        pubkey: PublicKey,
        url: &str,
        method: &str,
        body: &[u8],
        created_at: u64,
    ) -> EventDraft {
        EventDraft {
            pubkey,
            created_at,
            kind: kinds::HTTP_AUTH,
            tags: Tags::from_iter([
                Tag::new(["u", url]),
                Tag::new(["method", method]),
                Tag::new(["payload".to_owned(), payload(body)]),
            ]),
            content: String::new(),
        }
    }

    /// The value of the `Authorization` header for a signed event.
    pub fn header(event: &Event) -> String {
        format!("Nostr {}", STANDARD.encode(event.json()))
    }

    /// Reads a header.
    pub fn from_header(value: &str) -> Result<Self, HttpAuthError> {
        match authorization::read(value) {
            Ok(event) => Ok(Self { event }),
            Err(HeaderError::Malformed) => Err(HttpAuthError::Malformed),
            Err(HeaderError::Forged) => Err(HttpAuthError::Forged),
        }
    }

    /// Whether it stands for a request of `method` with `body` at the time `now`, to an address
    /// that `is_here` knows. The body's hash is required, as NIP-86 asks.
    pub fn check(
        &self,
        method: &str,
        is_here: impl FnOnce(&str) -> bool,
        body: &[u8],
        now: u64,
    ) -> Result<(), HttpAuthError> {
        let event = &self.event;
        if event.kind() != kinds::HTTP_AUTH {
            return Err(HttpAuthError::Kind);
        }
        if event.created_at().abs_diff(now) > WINDOW_SECONDS {
            return Err(HttpAuthError::Time);
        }
        // Of a tag that comes twice nobody knows which one was meant.
        let only = |name: &'static str| {
            let mut values = event.tags().values(name);
            values.next().filter(|_| values.next().is_none())
        };
        if !only("u").is_some_and(is_here) {
            return Err(HttpAuthError::Url);
        }
        if !only("method").is_some_and(|named| named.eq_ignore_ascii_case(method)) {
            return Err(HttpAuthError::Method);
        }
        if only("payload") != Some(payload(body).as_str()) {
            return Err(HttpAuthError::Payload);
        }
        Ok(())
    }

    /// Who signed it.
    pub fn pubkey(&self) -> PublicKey {
        self.event.pubkey()
    }

    /// What a server remembers until [`HttpAuth::until`], so that a proof stands for one request.
    pub fn id(&self) -> EventId {
        self.event.id()
    }

    /// The last second at which [`HttpAuth::check`] can succeed.
    pub fn until(&self) -> u64 {
        self.event.created_at().saturating_add(WINDOW_SECONDS)
    }
}

fn payload(body: &[u8]) -> String {
    Sha256::from_bytes(sha2::Sha256::digest(body).into()).to_hex()
}
