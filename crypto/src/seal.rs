//! Seals (NIP-59, kind 13): the author signs the rumor, encrypted for one recipient.

use rand::CryptoRng;
use wire::{Event, EventDraft, EventId, PublicKey, Rumor, Tags, kinds, limits};
use zeroize::Zeroizing;

use crate::content_key::{ConversationKey, PayloadError};
use crate::deletion::DeletionSecret;
use crate::identity::AccountKey;

/// The room kept free beside the rumor's fields for what a self-copy tells the author's other
/// devices: `,"sotto_d":"<64 hex>"` (77 bytes) and `,"sotto_w":{"<64 hex>":"<64 hex>"}` for one
/// recipient (146).
pub const SELF_COPY_BYTES: usize = 223;
/// Wraps that one self-copy names at most.
pub const SELF_COPY_WRAPS: usize = 64;

/// `,"sotto_w":{}` without its entries, one of which is 133 bytes and a comma.
const WRAPS_FIELD_BYTES: usize = 13;
const WRAP_ENTRY_BYTES: usize = 134;

/// Why no seal was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The rumor names another author, or the conversation key is not the author's. Nothing is
    /// signed in another's name.
    #[error("the rumor's author does not seal it")]
    Author,
    /// A deletion secret or wrap ids were to be sent to somebody else than the author.
    #[error("what takes a message back goes to the author's own devices only")]
    DeletionSecretToOther,
    /// The rumor's JSON does not leave room for [`SELF_COPY_BYTES`] within
    /// [`limits::RUMOR_BYTES`]. The same for every recipient, so that a message which can be sent
    /// can be kept.
    #[error("the message is larger than fits into an event")]
    TooLarge,
}

impl From<PayloadError> for SealError {
    fn from(_: PayloadError) -> Self {
        Self::TooLarge
    }
}

/// Whether a rumor fits into a seal, the self-copy's included.
pub fn fits(rumor: &Rumor) -> bool {
    rumor.to_json().len().saturating_add(SELF_COPY_BYTES) <= limits::RUMOR_BYTES
}

/// Seals `rumor` for the peer of `conversation`: kind 13, no tags, signed by `author`.
///
/// `created_at` should be [`crate::gift_wrap::past_time`], drawn apart for each seal. `secret` is
/// for the self-copy, whose conversation is that of the author with themselves: it travels as
/// the field `sotto_d` beside the rumor's own and is not part of the rumor's id.
pub fn seal(
    author: &AccountKey,
    conversation: &ConversationKey,
    rumor: &Rumor,
    secret: Option<&DeletionSecret>,
    created_at: u64,
    rng: &mut dyn CryptoRng,
) -> Result<Event, SealError> {
    seal_with_wraps(author, conversation, rumor, secret, &[], created_at, rng)
}

/// As [`seal()`], for a self-copy that also names the wraps made for others (inbox key, wrap id):
/// a deletion request names ids, and another device of the author has no other way to know them.
/// They travel as the field `sotto_w`, at most [`SELF_COPY_WRAPS`] and as many as fit, one always.
pub fn seal_with_wraps(
    author: &AccountKey,
    conversation: &ConversationKey,
    rumor: &Rumor,
    secret: Option<&DeletionSecret>,
    wraps: &[(PublicKey, EventId)],
    created_at: u64,
    rng: &mut dyn CryptoRng,
) -> Result<Event, SealError> {
    let own = author.public_key();
    if rumor.author() != own || conversation.own() != own {
        return Err(SealError::Author);
    }
    let json = rumor.to_json();
    if json.len().saturating_add(SELF_COPY_BYTES) > limits::RUMOR_BYTES {
        return Err(SealError::TooLarge);
    }
    let content = if secret.is_none() && wraps.is_empty() {
        conversation.encrypt(json.as_bytes(), rng)?
    } else if conversation.peer() == own {
        let json = self_copy(&json, secret, wraps);
        conversation.encrypt(json.as_bytes(), rng)?
    } else {
        return Err(SealError::DeletionSecretToOther);
    };
    let draft = EventDraft {
        pubkey: own,
        created_at,
        kind: kinds::SEAL,
        tags: Tags::new(),
        content,
    };
    Ok(author.sign(draft, rng))
}

/// The rumor's JSON with the fields for the author's own devices behind its own. The buffer never
/// grows, so no copy of the secret stays behind.
fn self_copy(
    rumor: &str,
    secret: Option<&DeletionSecret>,
    wraps: &[(PublicKey, EventId)],
) -> Zeroizing<String> {
    let mut json = Zeroizing::new(String::with_capacity(limits::RUMOR_BYTES));
    json.push_str(rumor.strip_suffix('}').unwrap_or(rumor));
    if let Some(secret) = secret {
        let hex = Zeroizing::new(hex::encode(secret.expose_secret_bytes()));
        json.push_str(",\"sotto_d\":\"");
        json.push_str(&hex);
        json.push('"');
    }
    let room = limits::RUMOR_BYTES.saturating_sub(json.len() + WRAPS_FIELD_BYTES);
    let count = (room / WRAP_ENTRY_BYTES).min(SELF_COPY_WRAPS);
    for (number, (inbox, wrap)) in wraps.iter().take(count).enumerate() {
        json.push_str(if number == 0 {
            ",\"sotto_w\":{\""
        } else {
            ",\""
        });
        json.push_str(&inbox.to_hex());
        json.push_str("\":\"");
        json.push_str(&wrap.to_hex());
        json.push('"');
    }
    if !wraps.is_empty() && count > 0 {
        json.push('}');
    }
    json.push('}');
    json
}
