//! Gift wraps (NIP-59, kinds 1059 and 21059): a seal or session message under a key used once.
//!
//! A wrap names its recipient and nobody else. What is inside is told by the first byte of the
//! plaintext: `{` is a seal's JSON, 0x01 a message of a forward-secret session.

use rand::{CryptoRng, RngExt};
use wire::{Event, EventDraft, PublicKey, Tag, Tags, kinds, limits};

use crate::identity::OneTimeKey;

/// The first byte of a seal in a wrap.
pub const SEAL_BYTE: u8 = b'{';
/// The first byte of a session message in a wrap.
pub const SESSION_BYTE: u8 = 0x01;

/// How far back the time of a seal or a stored wrap is drawn (NIP-59), seconds.
const PAST_SECONDS: u64 = 2 * 86_400;

/// Whether relays keep the wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WrapKind {
    /// Kind 1059: kept until deleted or expired, dated at random in the past.
    Stored,
    /// Kind 21059: passed on to who listens now, with its true time.
    Ephemeral,
}

impl WrapKind {
    /// The event kind.
    pub fn number(self) -> u16 {
        match self {
            Self::Stored => kinds::WRAP,
            Self::Ephemeral => kinds::EPHEMERAL_WRAP,
        }
    }

    /// The time that a wrap of this kind bears.
    pub fn time(self, now: u64, rng: &mut dyn CryptoRng) -> u64 {
        match self {
            Self::Stored => past_time(now, rng),
            Self::Ephemeral => now,
        }
    }
}

/// Why no wrap was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrapError {
    /// The payload starts with a byte that no reader of ours knows.
    #[error("a wrap holds a seal or a session message")]
    Channel,
    /// The inbox key is no point of the curve.
    #[error("the recipient's key is not valid")]
    Recipient,
    /// The wrap would be larger than [`limits::EVENT_BYTES`].
    #[error("the message is larger than fits into an event")]
    TooLarge,
}

/// A random time up to two days before `now` (NIP-59), uniform to the second.
pub fn past_time(now: u64, rng: &mut dyn CryptoRng) -> u64 {
    now.saturating_sub(rng.random_range(0..=PAST_SECONDS))
}

/// Wraps `payload` (a seal's JSON or a session message) for `inbox` under `key`, which must be
/// used for nothing else; [`crate::DeletionSecret::wrap_key`] gives one.
///
/// `created_at` should be [`WrapKind::time`], and `expiration` [`crate::expiry::outer_expiry`].
pub fn wrap(
    key: &OneTimeKey,
    inbox: &PublicKey,
    kind: WrapKind,
    payload: &[u8],
    created_at: u64,
    expiration: Option<u64>,
    rng: &mut dyn CryptoRng,
) -> Result<Event, WrapError> {
    if !matches!(payload.first(), Some(&(SEAL_BYTE | SESSION_BYTE))) {
        return Err(WrapError::Channel);
    }
    let conversation = key
        .conversation_with(inbox)
        .map_err(|_| WrapError::Recipient)?;
    let content = conversation
        .encrypt(payload, rng)
        .map_err(|_| WrapError::TooLarge)?;
    let mut tags = Tags::from_iter([Tag::new(["p".to_owned(), inbox.to_hex()])]);
    if let Some(expiration) = expiration {
        tags.push(Tag::new(["expiration".to_owned(), expiration.to_string()]));
    }
    let draft = EventDraft {
        pubkey: key.public_key(),
        created_at,
        kind: kind.number(),
        tags,
        content,
    };
    let event = key.sign(draft, rng);
    if event.json().len() > limits::EVENT_BYTES {
        return Err(WrapError::TooLarge);
    }
    Ok(event)
}
